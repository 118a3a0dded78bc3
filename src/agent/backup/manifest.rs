//! The manifest of a backup: what was saved, from where, in which state, with the hash of every file.
//!
//! Runs on the host. The manifest is the commit pointer: a backup without one does not exist. It seals itself (its
//! last field is the SHA-256 of the rest) and is accepted only in exactly the bytes that Belay writes, so that no
//! flipped bit passes unnoticed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use belay_model::composition::data::DataKind;
use belay_model::digest::hex;

/// The version of the manifest's form.
pub(super) const SCHEMA: u32 = 1;

/// Why a backup was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Before the deployment of this tag.
    BeforeDeploy {
        /// The tag that was to be deployed.
        tag: String,
    },
    /// A person asked for it.
    Manual,
    /// A rollback that leaves data alone, or before it stops anything.
    BeforeRollback,
    /// Before data is put back from another backup: what is there then, with everything stopped.
    BeforeRestore {
        /// The one whose data was to be put back.
        backup: String,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::BeforeDeploy { tag } => write!(f, "before the deployment of {tag}"),
            Reason::Manual => f.write_str("asked for"),
            Reason::BeforeRollback => f.write_str("before a rollback"),
            Reason::BeforeRestore { backup } => {
                write!(f, "before the data of {backup} was put back")
            }
        }
    }
}

/// An image that a service ran from when the backup was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// As the Compose file calls it.
    pub service: String,
    /// What the Compose file calls it.
    pub reference: String,
    /// The image's identity: the digest of its config.
    pub id: String,
    /// What the host's engine called it; empty in manifests of older versions.
    #[serde(default)]
    pub engine_id: String,
    /// Digests in registries.
    pub digests: Vec<String>,
    /// All names that the engine had for it.
    pub tags: Vec<String>,
    /// In bytes.
    pub size: u64,
}

/// What keeps data from changing while it is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Nothing: its services run.
    Live,
    /// Every service that writes to it is paused.
    Paused,
    /// Every service that writes to it is stopped.
    Stopped,
    /// It is a dump that a hook has just finished.
    Dumped,
}

/// What a source of the backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The files under the root.
    Config,
    /// A volume or a bind mount.
    #[serde(untagged)]
    Data(DataKind),
}

impl std::fmt::Display for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceKind::Config => f.write_str("configuration"),
            SourceKind::Data(kind) => kind.fmt(f),
        }
    }
}

/// What became of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// Copied, and nothing speaks against the copy.
    Saved,
    /// Copied, but the copy may not be what any moment looked like.
    /// What was seen while it was copied.
    Inconsistent {
        /// What was seen, each in words.
        reasons: Vec<String>,
    },
    /// There was nothing to copy: the volume or path did not exist.
    Absent,
    /// It lies inside another source, and is saved there.
    /// Another source holds it, so it is saved once.
    Within {
        /// Where, in the archive.
        path: String,
    },
}

impl SourceState {
    /// Whether there is a copy under the source's own place.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        match self {
            SourceState::Saved | SourceState::Inconsistent { .. } => true,
            SourceState::Absent | SourceState::Within { .. } => false,
        }
    }
}

/// One source of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// What was saved.
    pub source: SourceKind,
    /// Where it is in the archive.
    pub path: String,
    /// Which of the application's services use it.
    pub services: Vec<String>,
    /// Whether something may have written to it meanwhile.
    pub consistency: Consistency,
    /// What came of it.
    pub state: SourceState,
}

impl SourceRecord {
    /// What it is, for people: nobody knows a volume by a name of Docker's own.
    fn in_words(&self) -> String {
        match &self.source {
            SourceKind::Data(kind) if kind.is_unnamed() => {
                format!("{kind}, without a name, of {}", self.services.join(" and "))
            }
            SourceKind::Data(_) | SourceKind::Config => self.source.to_string(),
        }
    }
}

/// What was seen but not saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Where it is, or would be, in the archive.
    pub path: String,
    /// In words.
    pub why: String,
}

/// A file, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Without its directory.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// What an entry of the archive is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EntryKind {
    /// With its content's size in bytes and hash.
    File {
        /// In bytes.
        size: u64,
        /// In hexadecimal.
        sha256: String,
    },
    /// With whatever is in it as entries of their own.
    Dir,
    /// Kept as it is, wherever it leads.
    Symlink {
        /// Its target.
        link: String,
    },
    /// Another name of a file that came before.
    HardLink {
        /// That file's path in the archive.
        link: String,
    },
}

/// One entry of the archive, in its order. Bytes that are not printable text stand as `\xNN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// In the archive.
    pub path: String,
    /// In octal, like `0600`.
    pub mode: String,
    /// What it is, and how its content is known again.
    #[serde(flatten)]
    pub kind: EntryKind,
}

impl EntryRecord {
    /// Whether it is a file's own entry, not another name of one.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind, EntryKind::File { .. })
    }

    /// The size of its content, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File { size, .. } => *size,
            EntryKind::Dir | EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => 0,
        }
    }
}

/// Everything that is known about a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The version of this format.
    pub schema: u32,
    /// The version of Belay that wrote it.
    pub belay: String,
    /// The backup's name, without the ending of a file.
    pub name: String,
    /// The application's name.
    pub app: String,
    /// The transaction that it belongs to; orders backups.
    pub seq: u64,
    /// By the host's clock.
    pub created: Timestamp,
    /// Why it was made.
    pub reason: Reason,
    /// The release that was serving, by its directory's name.
    pub release: Option<String>,
    /// That release's tag.
    pub tag: Option<String>,
    /// The commit of that release, where there is one.
    pub revision: Option<String>,
    /// The archive itself.
    pub archive: FileRecord,
    /// The text with the names of images.
    pub images_file: FileRecord,
    /// What each service ran from.
    pub images: Vec<ImageRecord>,
    /// Configuration, data and logs, with what came of each.
    pub sources: Vec<SourceRecord>,
    /// What could not be saved, and why.
    pub left_out: Vec<LeftOut>,
    /// Every entry of the archive, in its order.
    pub entries: Vec<EntryRecord>,
    /// SHA-256 of this manifest with this field empty.
    pub seal: String,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Of a format that this version does not know.
    #[error("the manifest is of version {0}, which a newer Belay wrote")]
    Newer(u32),
    /// Not JSON, or not that of a manifest.
    #[error("the manifest cannot be read as one")]
    Form(#[source] serde_json::Error),
    /// It was changed after it was written.
    #[error("the manifest is damaged: its seal does not fit it")]
    Seal,
}

impl BackupManifest {
    /// The manifest's bytes, sealed.
    pub(super) fn seal(&mut self) -> Result<Vec<u8>, ManifestError> {
        self.seal.clear();
        let open = self.bytes()?;
        self.seal = hex(&Sha256::digest(&open));
        self.bytes()
    }

    /// Reads a manifest and checks its seal.
    pub fn parse(bytes: &[u8]) -> Result<BackupManifest, ManifestError> {
        let mut manifest = BackupManifest::parse_unsealed(bytes)?;
        // Written again from what was understood, it must be the same to the last byte, the seal included.
        match manifest.seal()? == bytes {
            true => Ok(manifest),
            false => Err(ManifestError::Seal),
        }
    }

    /// Reads a manifest without its seal, to list it.
    pub(super) fn parse_unsealed(bytes: &[u8]) -> Result<BackupManifest, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        // A manifest of a later version may have any form but for this field.
        let version: Version = serde_json::from_slice(bytes).map_err(ManifestError::Form)?;
        if version.schema > SCHEMA {
            return Err(ManifestError::Newer(version.schema));
        }
        serde_json::from_slice(bytes).map_err(ManifestError::Form)
    }

    fn bytes(&self) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(ManifestError::Form)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The data that was saved, for people.
    #[must_use]
    pub fn data(&self) -> Vec<String> {
        let saved =
            |source: &&SourceRecord| source.source != SourceKind::Config && source.state.is_saved();
        let sources = self.sources.iter().filter(saved);
        sources.map(SourceRecord::in_words).collect()
    }

    /// Sources whose copy may not be consistent, each with the reason, for people.
    #[must_use]
    pub fn inconsistent(&self) -> Vec<String> {
        let words = |source: &SourceRecord| match &source.state {
            SourceState::Inconsistent { reasons } => {
                Some(format!("{}: {}", source.source, reasons.join("; ")))
            }
            SourceState::Saved | SourceState::Absent | SourceState::Within { .. } => None,
        };
        self.sources.iter().filter_map(words).collect()
    }

    /// What the archive holds, uncompressed.
    pub(super) fn content_bytes(&self) -> u64 {
        let sizes = self.entries.iter().map(EntryRecord::size);
        sizes.fold(0, u64::saturating_add)
    }
}

/// The tag in the name of a release's directory, `<seq>-<tag>`.
pub(super) fn tag_of(release: &str) -> Option<String> {
    let (seq, tag) = release.split_once('-')?;
    let is_seq = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
    (is_seq && !tag.is_empty()).then(|| tag.to_owned())
}

/// The list of images as people read it: one line for each service, in columns.
pub(super) fn images_text(app: &str, name: &str, images: &[ImageRecord]) -> String {
    let list = |items: &[String]| match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(","),
    };
    let mut rows = vec![
        [
            "# SERVICE",
            "REFERENCE",
            "TAGS",
            "IMAGE ID",
            "ID ON THIS HOST",
            "DIGESTS",
            "BYTES",
        ]
        .map(str::to_owned),
    ];
    rows.extend(images.iter().map(|image| {
        [
            image.service.clone(),
            image.reference.clone(),
            list(&image.tags),
            image.id.clone(),
            image.engine_id.clone(),
            list(&image.digests),
            image.size.to_string(),
        ]
    }));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = format!(
        "# Images of {app} in {name}: what each service ran from when the backup was taken.\n"
    );
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_images_has_one_line_for_each() {
        let image = |service: &str, digests: &[&str]| ImageRecord {
            service: service.to_owned(),
            reference: format!("example.com/{service}:1"),
            id: "sha256:0123".to_owned(),
            engine_id: "sha256:4567".to_owned(),
            digests: digests.iter().map(|d| (*d).to_owned()).collect(),
            tags: vec![],
            size: 42,
        };
        let text = images_text(
            "shop",
            "backup_x",
            &[image("web", &[]), image("database", &["a@1", "a@2"])],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with('#') && lines[1].starts_with('#'));
        let cells: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "database",
                "example.com/database:1",
                "-",
                "sha256:0123",
                "sha256:4567",
                "a@1,a@2",
                "42"
            ]
        );
        assert_eq!(lines[1].find("TAGS"), lines[2].find(" - ").map(|at| at + 1));
    }

    #[test]
    fn a_tag_is_read_off_its_release() {
        assert_eq!(tag_of("3-v1.1.0").as_deref(), Some("v1.1.0"));
        assert_eq!(tag_of("12-feature-x-y").as_deref(), Some("feature-x-y"));
        assert_eq!(tag_of("v1.1.0"), None);
        assert_eq!(tag_of("3-"), None);
    }

    #[test]
    fn a_manifest_of_the_future_is_named_as_such() {
        let error =
            BackupManifest::parse(br#"{"schema": 2, "anything": []}"#).expect_err("refused");
        assert!(matches!(error, ManifestError::Newer(2)), "{error}");
    }
}
