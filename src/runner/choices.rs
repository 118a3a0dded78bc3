//! What a host can be rolled back to, for people to choose from. Pure, though it lives with the runner.

use belay_report::words;
use belay_wire::HostFacts;

/// What can be rolled back to, newest first, versions before backups, each with a few words, for a person to choose from.
#[must_use]
pub fn rollback_choices(facts: &HostFacts) -> Vec<(String, String)> {
    let current = facts.current.as_ref().map(|c| c.release.as_str());
    let releases = facts.releases.iter().rev();
    let others = releases.filter(|r| Some(r.name.as_str()) != current);
    let versions = others
        .filter(|r| r.missing_images.is_empty())
        .map(|r| (r.tag.clone(), format!("deployed {}", words::utc(r.created))));
    let is_kept = |release: &str| facts.releases.iter().any(|r| r.name == release);
    let backups = facts.backups.iter().rev().filter_map(|b| {
        // A backup from before the first deployment leads nowhere, and one of a version that is gone neither.
        let tag = b.tag.as_deref()?;
        b.release.as_deref().filter(|release| is_kept(release))?;
        let about = format!("taken {} of {tag}", words::utc(b.created));
        Some((b.name.clone(), about))
    });
    versions.chain(backups).collect()
}
