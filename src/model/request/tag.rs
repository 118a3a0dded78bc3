//! Which git tags may be deployed, of which kind each is, and where its kind goes.
//!
//! Pure; used on both machines. A [`Tag`] can only be made by parsing, so whoever holds one holds short, harmless ASCII
//! that is safe in a path, a label, an image reference or a message. Everything else is a [`TagRefusal`]: the reason in
//! words that repeat nothing unprintable, and the nearest name that would have been accepted.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tag_grammar::{Name, read};
use super::tag_suggestion::nearest;

/// A git tag that Belay deploys. It exists only after [`Tag::parse`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    text: String,
    name: Name,
}

/// What a tag is for; it decides the environment that the tag goes to.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum TagKind {
    /// `v1.2.0`
    Release,
    /// `v1.2.3`: a repair of the release `v1.2.0`, and a descendant of it.
    Hotfix,
    /// `v1.3.0-rc.1`
    Prerelease,
    /// `dev-20241215`
    Dev,
    /// `feature-login`
    Feature,
}

/// The two audiences that a tag can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagClass {
    /// Releases and their hotfixes.
    Production,
    /// Everything that is still being worked on.
    Development,
}

/// Why a name is not deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{reason}")]
pub struct TagRefusal {
    /// What is wrong, in words; never the refused text itself.
    pub reason: String,
    /// The closest name that is accepted by the grammar, if one can be guessed.
    pub nearest: Option<String>,
}

impl TagKind {
    /// Every kind, in the order in which they are documented.
    pub const ALL: [TagKind; 5] = [
        TagKind::Release,
        TagKind::Hotfix,
        TagKind::Prerelease,
        TagKind::Dev,
        TagKind::Feature,
    ];

    /// The audience of this kind.
    #[must_use]
    pub fn class(self) -> TagClass {
        match self {
            TagKind::Release | TagKind::Hotfix => TagClass::Production,
            TagKind::Prerelease | TagKind::Dev | TagKind::Feature => TagClass::Development,
        }
    }

    /// The word used in `belay.yml` and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TagKind::Release => "release",
            TagKind::Hotfix => "hotfix",
            TagKind::Prerelease => "prerelease",
            TagKind::Dev => "dev",
            TagKind::Feature => "feature",
        }
    }
}

impl TagClass {
    /// The environment that this class goes to unless `belay.yml` says otherwise.
    #[must_use]
    pub fn default_environment(self) -> &'static str {
        match self {
            TagClass::Production => "production",
            TagClass::Development => "development",
        }
    }
}

impl fmt::Display for TagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Tag {
    /// Reads a tag as git names it (`v1.2.0`, without `refs/tags/`).
    pub fn parse(text: &str) -> Result<Tag, TagRefusal> {
        match read(text) {
            Ok(name) => Ok(Tag {
                text: text.to_owned(),
                name,
            }),
            Err(error) => Err(TagRefusal {
                reason: error.to_string(),
                nearest: nearest(text),
            }),
        }
    }

    /// The name, exactly as in git.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the tag is for.
    #[must_use]
    pub fn kind(&self) -> TagKind {
        match &self.name {
            Name::Version(version) if !version.pre.is_empty() => TagKind::Prerelease,
            Name::Version(version) if version.patch > 0 => TagKind::Hotfix,
            Name::Version(_) => TagKind::Release,
            Name::Dev(_) => TagKind::Dev,
            Name::Feature => TagKind::Feature,
        }
    }

    /// The version of a release, hotfix or pre-release; dates and features have no order.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        match &self.name {
            Name::Version(version) => Some(version),
            Name::Dev(_) | Name::Feature => None,
        }
    }

    /// The release that this hotfix repairs; nothing for the other kinds.
    #[must_use]
    pub fn repaired_release(&self) -> Option<Tag> {
        match (&self.name, self.kind()) {
            (Name::Version(version), TagKind::Hotfix) => {
                Some(Tag::of_version(version.major, version.minor, 0))
            }
            _ => None,
        }
    }

    pub(super) fn of_version(major: u64, minor: u64, patch: u64) -> Tag {
        Tag {
            text: format!("v{major}.{minor}.{patch}"),
            name: Name::Version(Version::new(major, minor, patch)),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Tag {
    type Err = TagRefusal;

    fn from_str(text: &str) -> Result<Tag, TagRefusal> {
        Tag::parse(text)
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Tag {
    /// Checks again: a tag that comes from a file or the other machine is as foreign as one from a command line.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tag, D::Error> {
        Tag::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
