//! What may be removed from a host: backups, releases and images, each with the reason.
//!
//! Pure: it decides from what it is told, and removes nothing. The order is always that of sequence numbers, never of
//! clocks or names. Whatever the settings say, the last backup that can be relied on stays, and so does everything
//! that the serving release, or the way back from it, needs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::composition::project::repository_prefix;

/// Something that is to be removed, or was, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// A backup's or release's name, or an image's reference.
    pub name: String,
    /// Why it may go, as a clause: `older than the last 5 versions`.
    pub reason: String,
}

/// Whether a backup can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// It was read back whole when it was taken, and its files look unharmed now.
    Verified,
    /// Not verified, or found to be damaged.
    Unverified,
}

/// Whether somebody holds on to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Neither pinned nor in use: the rules alone decide.
    Free,
    /// A person wants it kept.
    Pinned,
    /// A transaction that is not over uses it.
    InFlight,
}

/// A backup, as far as its removal depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelvedBackup {
    /// Unique on the host. Of one transaction's backups, later ones have a higher suffix.
    pub name: String,
    /// The number of the transaction that took it; the order of backups.
    pub seq: u64,
    /// Only a verified backup counts among those to keep.
    pub soundness: Soundness,
    /// Only a free backup is removed.
    pub hold: Hold,
    /// The release that it was taken of.
    pub release: Option<String>,
}

/// Decides which backups to remove so that the newest `keep` verified ones stay.
///
/// `needed` are releases, by name, that must remain restorable: the serving one and the last good one. Of each, the
/// newest verified backup stays. Backups that are not verified take no place of those that are, and go when they
/// would have to go if they were.
#[must_use]
pub fn backups_to_remove(backups: &[ShelvedBackup], keep: usize, needed: &[&str]) -> Vec<Removal> {
    let mut order: Vec<&ShelvedBackup> = backups.iter().collect();
    // Of one transaction's backups, the later has the higher suffix: `_10` comes after `_9`.
    order.sort_by(|a, b| {
        let key = |facts: &ShelvedBackup| (facts.seq, facts.name.len());
        key(b).cmp(&key(a)).then_with(|| b.name.cmp(&a.name))
    });
    let keep = keep.max(1);
    let mut newer_verified = 0;
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    let mut removals = vec![];
    for backup in order {
        let needs_it =
            needed_release(backup, needed).is_some_and(|release| covered.insert(release));
        let has_place = newer_verified < keep;
        newer_verified += usize::from(backup.soundness == Soundness::Verified);
        if !has_place && !needs_it && backup.hold == Hold::Free {
            removals.push(Removal {
                name: backup.name.clone(),
                reason: why_no_place(backup, keep),
            });
        }
    }
    removals
}

/// The needed release that a backup can bring back.
fn needed_release<'a>(backup: &'a ShelvedBackup, needed: &[&str]) -> Option<&'a str> {
    let release = backup.release.as_deref()?;
    match backup.soundness {
        Soundness::Verified => needed.contains(&release).then_some(release),
        Soundness::Unverified => None,
    }
}

fn why_no_place(backup: &ShelvedBackup, keep: usize) -> String {
    match backup.soundness {
        Soundness::Verified => format!("older than the last {keep} verified backups"),
        Soundness::Unverified => format!("not verified, and older than the last {keep} that are"),
    }
}

/// How a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It serves now.
    Serving,
    /// It served before, and is where a rollback goes.
    Previous,
    /// It served once.
    Confirmed,
    /// It never served: its transaction was undone.
    Failed,
}

impl Standing {
    /// Whether it ever served as it should.
    #[must_use]
    pub fn is_good(self) -> bool {
        match self {
            Standing::Serving | Standing::Previous | Standing::Confirmed => true,
            Standing::Failed => false,
        }
    }
}

/// A release, as far as its removal depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// Its directory's name, `<seq>-<tag>`.
    pub name: String,
    /// The number of the transaction that made it; the order of releases.
    pub seq: u64,
    /// Decides whether it counts as good, and whether it must stay.
    pub standing: Standing,
    /// Only a free release is removed.
    pub hold: Hold,
    /// What the engine calls the images that it needs, and the names that it has for them.
    pub images: Vec<String>,
}

/// Decides which releases to remove so that the newest `keep` good ones stay.
///
/// The serving and the previous release stay in any case. Of failed ones only the newest stays, to be looked at, and
/// only until something newer has been confirmed.
#[must_use]
pub fn releases_to_prune(releases: &[ReleaseFacts], keep: usize) -> Vec<Removal> {
    let newest_good = releases
        .iter()
        .filter(|r| r.standing.is_good())
        .map(|r| r.seq)
        .max();
    let newest_failed = releases
        .iter()
        .filter(|r| !r.standing.is_good())
        .map(|r| r.seq)
        .max();
    let mut removals = vec![];
    for release in newest_first(releases) {
        let reason = match release.standing {
            Standing::Serving | Standing::Previous => None,
            Standing::Confirmed if has_place(release, releases, keep) => None,
            Standing::Confirmed => Some(format!("older than the last {keep} versions")),
            Standing::Failed
                if Some(release.seq) == newest_failed && newest_good < newest_failed =>
            {
                None
            }
            Standing::Failed => Some("it failed, and something newer came after it".to_owned()),
        };
        if let (Some(reason), Hold::Free) = (reason, release.hold) {
            removals.push(Removal {
                name: release.name.clone(),
                reason,
            });
        }
    }
    removals
}

fn newest_first(releases: &[ReleaseFacts]) -> Vec<&ReleaseFacts> {
    let mut order: Vec<&ReleaseFacts> = releases.iter().collect();
    order.sort_by(|a, b| b.seq.cmp(&a.seq).then_with(|| b.name.cmp(&a.name)));
    order
}

/// Whether a good release is among the newest `keep` good ones.
fn has_place(release: &ReleaseFacts, releases: &[ReleaseFacts], keep: usize) -> bool {
    let newer = releases
        .iter()
        .filter(|r| r.standing.is_good() && r.seq > release.seq);
    newer.count() < keep
}

/// A name of an image on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Repository and tag, as the host's engine lists it.
    pub reference: String,
    /// What the host's engine calls the image.
    pub id: String,
}

/// Decides which names of images to remove so that the images of the newest `keep` versions stay.
///
/// Only names that Belay itself gave (`belay/<project>/…`). Never an image that a container has, in whatever
/// state, nor one that a release needs that serves, served before, is held, or is among the last `keep` good ones.
/// `releases` must include those that are about to be pruned.
pub fn images_to_remove(
    images: &[ImageFacts],
    project: &str,
    releases: &[ReleaseFacts],
    keep: usize,
    in_use: &[String],
) -> Vec<Removal> {
    let prefix = repository_prefix(project);
    let needed: BTreeSet<&str> = releases
        .iter()
        .filter(|r| needs_images(r, releases, keep))
        .flat_map(|r| &r.images)
        .map(String::as_str)
        .collect();
    let removable = |image: &&ImageFacts| {
        image.reference.starts_with(&prefix)
            && !needed.contains(image.id.as_str())
            && !needed.contains(image.reference.as_str())
            && !in_use.contains(&image.id)
    };
    let reason = format!("not an image of the last {keep} versions");
    images
        .iter()
        .filter(removable)
        .map(|image| Removal {
            name: image.reference.clone(),
            reason: reason.clone(),
        })
        .collect()
}

fn needs_images(release: &ReleaseFacts, releases: &[ReleaseFacts], keep: usize) -> bool {
    let stands = match release.standing {
        Standing::Serving | Standing::Previous => true,
        Standing::Confirmed => has_place(release, releases, keep),
        Standing::Failed => false,
    };
    stands || release.hold != Hold::Free
}
