//! Prune: removes what is beyond the numbers to keep: backups, releases, and names of images that are Belay's own.
//!
//! Comes last, after everything that matters; a failure here is a warning. What to remove is decided in
//! [`belay_model::versions::retention`]; this file gathers the facts and carries the decision out.

use std::time::Duration;

use super::StepContext;
use crate::error::AgentError;
use crate::layout::Layout;
use crate::records;
use crate::{backup, state};
use belay_model::composition::project::repository_prefix;
use belay_model::transaction::journal::Output;
use belay_model::versions::release::{Current, Release};
use belay_model::versions::retention::{
    Hold, ImageFacts, ReleaseFacts, Removal, ShelvedBackup, Soundness, Standing, backups_to_remove,
    images_to_remove, releases_to_prune,
};
use belay_wire::Staged;

/// How long images of a transaction that never began are spared.
const STAGED_FOR: Duration = Duration::from_hours(24);

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    super::restore::forget(work)?;
    let current = state::current(work.layout)?;
    let current = current.ok_or_else(|| AgentError::new("nothing is recorded as serving"))?;
    let releases = state::releases(work.layout)?;
    let facts: Vec<ReleaseFacts> = releases
        .iter()
        .map(|r| release_facts(r, &current))
        .collect();
    let keep = work.plan.keep_releases;
    // Images first: the records of the releases that are about to go say which ones are theirs.
    let mut removed = prune_images(work, &current.project, &facts, keep)?;
    work.may_act()?;
    removed.extend(prune_releases(work.layout, &facts, keep)?);
    work.may_act()?;
    removed.extend(prune_backups(work.layout, work.plan.backup.keep)?);
    Ok(Output::Pruned { removed })
}

fn release_facts(release: &Release, current: &Current) -> ReleaseFacts {
    let standing = if release.name == current.release {
        Standing::Serving
    } else if current.previous.as_ref() == Some(&release.name) {
        Standing::Previous
    } else {
        // A release that never served is removed by the unwind of its own transaction.
        Standing::Confirmed
    };
    ReleaseFacts {
        name: release.name.clone(),
        seq: release.seq,
        standing,
        hold: Hold::Free,
        // By their pins as well: what the engine called an image when it was fetched may be of another store.
        images: release
            .services
            .iter()
            .flat_map(|s| [s.engine_id().to_owned(), s.pin.clone()])
            .collect(),
    }
}

fn prune_images(
    work: &StepContext<'_>,
    project: &str,
    facts: &[ReleaseFacts],
    keep: usize,
) -> Result<Vec<Removal>, AgentError> {
    let spared = staged_references(work, None)?;
    let prefix = repository_prefix(project);
    let images: Vec<ImageFacts> = work
        .host
        .image_names(&prefix)?
        .into_iter()
        .filter(|name| !spared.contains(&name.reference))
        .map(|name| ImageFacts {
            reference: name.reference,
            id: name.id,
        })
        .collect();
    let in_use = work.host.images_in_use()?;
    let removals = images_to_remove(&images, project, facts, keep, &in_use);
    for removal in &removals {
        work.host.forget_image(&removal.name)?;
    }
    Ok(removals)
}

/// Names that another runner's images arrived under, for a transaction that has yet to begin. `but_of`: a transaction whose
/// own do not count.
pub(super) fn staged_references(
    work: &StepContext<'_>,
    but_of: Option<&str>,
) -> Result<Vec<String>, AgentError> {
    let mut references = vec![];
    for name in records::names(&work.layout.incoming())? {
        let path = work.layout.incoming().join(&name);
        let tx = name.strip_suffix(".images");
        if tx.is_none() || tx == but_of {
            continue;
        }
        let text = records::read_optional(&path)?.unwrap_or_default();
        let fresh = serde_json::from_slice::<Staged>(&text)
            .ok()
            .filter(|staged| {
                work.host.now().duration_since(staged.since).unsigned_abs() < STAGED_FOR
            });
        match fresh {
            Some(staged) => references.extend(staged.references),
            None => records::remove(&path)?,
        }
    }
    Ok(references)
}

fn prune_releases(
    layout: &Layout,
    facts: &[ReleaseFacts],
    keep: usize,
) -> Result<Vec<Removal>, AgentError> {
    state::empty_trash(layout)?;
    let removals = releases_to_prune(facts, keep);
    for removal in &removals {
        state::remove_release(layout, &removal.name)?;
    }
    Ok(removals)
}

/// Removes backups beyond the number to keep.
pub(crate) fn prune_backups(layout: &Layout, keep: usize) -> Result<Vec<Removal>, AgentError> {
    let current = state::current(layout)?;
    let needed: Vec<&str> = match &current {
        Some(current) => [Some(&current.release), current.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect(),
        None => vec![],
    };
    // What a crash left of a removal.
    backup::sweep(layout.root(), &[])?;
    let facts: Vec<ShelvedBackup> = backup::list(layout.root())
        .into_iter()
        .map(|entry| ShelvedBackup {
            name: entry.name,
            seq: entry.manifest.seq,
            // It was read back whole before it was published; a quick look finds what has happened to it since.
            soundness: if entry.problem.is_none() {
                Soundness::Verified
            } else {
                Soundness::Unverified
            },
            // Of a damaged one the archive may be whole, or the only one: a person decides.
            hold: if entry.problem.is_none() {
                Hold::Free
            } else {
                Hold::Pinned
            },
            release: entry.manifest.release,
        })
        .collect();
    let removals = backups_to_remove(&facts, keep, &needed);
    for removal in &removals {
        super::remove_backup(layout, &removal.name)?;
    }
    Ok(removals)
}
