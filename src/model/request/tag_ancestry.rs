//! Where a tag stands: in the history of its repository, and against what an environment serves.

use std::collections::{BTreeMap, BTreeSet};

use super::tag::{Tag, TagClass, TagKind, TagRefusal};
use super::tag_grammar::NUMBERS_END;

/// What the repository knows that bears on one tag. Gathered by `runner::git`, judged here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// Whether all of the history is here.
    pub history: History,
    /// Every tag of the repository that Belay would deploy, and the commit that it points to.
    pub tags: BTreeMap<String, String>,
    /// The commit that the tag in question stands for.
    pub place: TagPlace,
    /// The tags whose commits are this commit or ancestors of it.
    pub contained: BTreeSet<String>,
}

/// How much of the history a clone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All of it.
    Complete,
    /// `git clone --depth`: ancestors and tags may be missing, so their absence proves nothing.
    Shallow,
}

/// Where a tag is, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagPlace {
    /// The tag exists and points to this commit.
    Tagged(String),
    /// The tag does not exist; made now, it would point here.
    Head(String),
    /// The tag does not exist and the repository has no commit yet.
    Nowhere,
}

/// What became of the question where a tag stands in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ancestry {
    /// Every rule for this kind of tag holds.
    Holds,
    /// It could not be told, for this reason; nothing speaks against the tag.
    Unknown(String),
}

impl RepositoryFacts {
    /// The commit that a tag of this repository points to.
    pub fn commit_of(&self, tag: &Tag) -> Option<&str> {
        self.tags.get(tag.as_str()).map(String::as_str)
    }

    fn contained_tags(&self) -> impl Iterator<Item = Tag> {
        self.contained
            .iter()
            .filter_map(|name| Tag::parse(name).ok())
    }
}

/// Judges a tag by the repository's tags: a hotfix needs its release and descends from it, and no release or hotfix may
/// stand on top of a newer one.
pub fn check_ancestry(tag: &Tag, facts: &RepositoryFacts) -> Result<Ancestry, TagRefusal> {
    check_order(tag, facts)?;
    match tag.repaired_release() {
        Some(release) => check_descent(tag, &release, facts),
        None => Ok(Ancestry::Holds),
    }
}

fn check_descent(
    tag: &Tag,
    release: &Tag,
    facts: &RepositoryFacts,
) -> Result<Ancestry, TagRefusal> {
    if facts.contained.contains(release.as_str()) {
        return Ok(Ancestry::Holds);
    }
    if facts.history == History::Shallow {
        return Ok(Ancestry::Unknown(format!(
            "this is a shallow clone, so whether {tag} descends from {release} could not be checked (fetch-depth: 0)"
        )));
    }
    if facts.commit_of(release).is_none() {
        return Err(TagRefusal {
            reason: format!("a hotfix needs its release, and the repository has no tag {release}"),
            nearest: Some(release.to_string()),
        });
    }
    let place = match facts.place {
        TagPlace::Tagged(_) => tag.as_str(),
        TagPlace::Head(_) | TagPlace::Nowhere => "HEAD",
    };
    Err(TagRefusal {
        reason: format!(
            "a hotfix descends from its release, and {place} does not descend from {release}"
        ),
        nearest: Some(next_release(facts).to_string()),
    })
}

/// A version that contains a newer one would undo it: `v1.0.1` made on top of `v1.1.0`, say. Two tags on one commit are
/// left alone when both exist, since git does not tell which came first.
fn check_order(tag: &Tag, facts: &RepositoryFacts) -> Result<(), TagRefusal> {
    let Some(version) = tag
        .version()
        .filter(|_| tag.kind().class() == TagClass::Production)
    else {
        return Ok(());
    };
    let own_commit = match &facts.place {
        TagPlace::Tagged(commit) => Some(commit.as_str()),
        TagPlace::Head(_) | TagPlace::Nowhere => None,
    };
    let newer = facts
        .contained_tags()
        .filter(|other| other.kind().class() == TagClass::Production)
        .filter(|other| facts.commit_of(other) != own_commit || own_commit.is_none())
        .filter(|other| other.version().is_some_and(|other| other > version))
        .max_by(|a, b| a.version().cmp(&b.version()));
    match newer {
        None => Ok(()),
        Some(newer) => Err(TagRefusal {
            reason: format!("{tag} is older than {newer}, which its commit already contains"),
            nearest: Some(successor(tag.kind(), &newer).to_string()),
        }),
    }
}

/// The next name after `newest` for a tag of this kind.
fn successor(kind: TagKind, newest: &Tag) -> Tag {
    match newest.version() {
        None => Tag::of_version(1, 0, 0),
        Some(version) if kind == TagKind::Hotfix => {
            bounded(version.major, version.minor, version.patch + 1)
        }
        Some(version) => bounded(version.major, version.minor + 1, 0),
    }
}

fn next_release(facts: &RepositoryFacts) -> Tag {
    match newest_version(facts.tags.keys().map(String::as_str)) {
        None => Tag::of_version(1, 0, 0),
        Some(newest) => successor(TagKind::Release, &newest),
    }
}

/// The tags that could come next: a release, and a hotfix of the newest one when there is one.
pub fn next_tags<'a>(existing: impl IntoIterator<Item = &'a str>) -> Vec<Tag> {
    match newest_version(existing) {
        None => vec![Tag::of_version(1, 0, 0)],
        Some(newest) => vec![
            successor(TagKind::Release, &newest),
            successor(TagKind::Hotfix, &newest),
        ],
    }
}

fn newest_version<'a>(existing: impl IntoIterator<Item = &'a str>) -> Option<Tag> {
    let names = existing.into_iter();
    names
        .filter_map(|name| Tag::parse(name).ok())
        .filter(|tag| tag.kind().class() == TagClass::Production)
        .max_by(|a, b| a.version().cmp(&b.version()))
}

/// The version with its overflow carried upwards, so that a suggestion always stays inside the grammar.
fn bounded(major: u64, minor: u64, patch: u64) -> Tag {
    const END: u64 = NUMBERS_END;
    match (major, minor, patch) {
        (major, minor, patch) if patch < END && minor < END => Tag::of_version(major, minor, patch),
        (major, minor, _) if minor + 1 < END => Tag::of_version(major, minor + 1, 0),
        (major, _, _) => Tag::of_version((major + 1).min(END - 1), 0, 0),
    }
}

/// A release or hotfix must be newer than what the environment serves. The tag that is already served passes (deploying
/// it again changes nothing), and so does anything after a tag without a version.
pub fn check_newer(tag: &Tag, serving: Option<&Tag>) -> Result<(), TagRefusal> {
    let (TagClass::Production, Some(serving)) = (tag.kind().class(), serving) else {
        return Ok(());
    };
    let (Some(version), Some(served)) = (tag.version(), serving.version()) else {
        return Ok(());
    };
    if version >= served {
        return Ok(());
    }
    Err(TagRefusal {
        reason: format!(
            "{tag} is older than {serving}, which is serving; going back is a rollback: belay rollback {tag}"
        ),
        nearest: Some(successor(tag.kind(), serving).to_string()),
    })
}
