//! Reads backups back: verifies them whole, and gives configuration files out of verified ones.
//!
//! Runs on the host. Nothing of an archive is believed: it is read by
//! [`CheckedReader`] and compared with the manifest entry by entry, in order, and its
//! hash as a file with the manifest's. Files are given out, or written, only after all of that, from the same open
//! file, and are compared once more on the way.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use super::TOP;
use super::archive::mode_text;
use super::checked::{Budget, CheckedReader};
use super::manifest::{BackupManifest, EntryKind, EntryRecord, FileRecord, ManifestError};
use super::names::file_name;
use super::names::{BackupFiles, BackupName, NotABackupName, readable};
use super::tar_in::{TarEntry, TarError};
use super::tar_out::{Kind, write_end, write_header, write_padding};
use crate::sizes::{first, wide};
use belay_model::composition::data::RestoredSource;
use belay_model::digest::hex;

/// The most configuration that is given out in memory, in bytes.
pub(super) const MOST_IN_MEMORY: u64 = 64 * 1024 * 1024;

/// A backup that cannot be relied on, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// No backup can have this name.
    #[error(transparent)]
    Name(#[from] NotABackupName),
    /// Without a manifest there is none.
    #[error("there is no backup {0}")]
    Missing(String),
    /// The manifest names it.
    #[error("{file} is missing")]
    Lost {
        /// Its name.
        file: String,
    },
    /// What the system does not let be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Without it nothing else can be judged.
    #[error("the manifest of {name} cannot be used")]
    Manifest {
        /// The backup's.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// Not what the manifest says.
    #[error("{file} is damaged: {why}")]
    Damaged {
        /// Its name.
        file: String,
        /// The first difference.
        why: String,
    },
    /// Where a configuration is given out to.
    #[error("could not write {}", path.display())]
    Write {
        /// What could not be made.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that was asked for.
    #[error("{path} is not in backup {name}")]
    NoSuchFile {
        /// The backup's.
        name: String,
        /// Its path in the archive.
        path: String,
    },
    /// More than the memory that is allowed for it.
    #[error("the configuration in backup {name} is too large to be read into memory")]
    TooLarge {
        /// The backup's.
        name: String,
    },
    /// Whoever takes the data could not go on.
    #[error("could not give out what backup {name} holds")]
    GivenOut {
        /// The backup's.
        name: String,
        /// What stood in the way.
        #[source]
        source: io::Error,
    },
}

/// Reads a backup back whole and compares it with its manifest.
pub fn verify(root: &Path, name: &str) -> Result<BackupManifest, VerifyError> {
    Opened::verified(root, name).map(|opened| opened.manifest)
}

/// Gives out one file of a verified backup, by its path in the archive, like `config/.env`.
pub fn extract_file(root: &Path, name: &str, path: &str) -> Result<Vec<u8>, VerifyError> {
    let opened = Opened::verified(root, name)?;
    let mut found = None;
    opened.visit(&mut |entry, content| {
        if entry.path == path.as_bytes() && entry.kind == Kind::File {
            found = Some(opened.in_memory(content, MOST_IN_MEMORY)?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| VerifyError::NoSuchFile {
        name: name.to_owned(),
        path: path.to_owned(),
    })
}

/// A verified backup, to put data back from.
pub struct SavedData(Opened);

impl SavedData {
    /// Opens a backup, and verifies all of it.
    pub fn open(root: &Path, name: &str) -> Result<SavedData, VerifyError> {
        Opened::verified(root, name).map(SavedData)
    }

    /// What the backup says that it holds; verified by now.
    #[must_use]
    pub fn manifest(&self) -> &BackupManifest {
        &self.0.manifest
    }

    /// What the backup holds of a source; paths begin below its place in the archive.
    #[must_use]
    pub fn entries(&self, source: &RestoredSource) -> Vec<EntryRecord> {
        let below = |entry: &EntryRecord| {
            let path = below(entry.path.as_bytes(), &source.path)?;
            let path = String::from_utf8_lossy(path).into_owned();
            let path = match source.is_file {
                true => file_name(Path::new(&source.path)),
                false => path,
            };
            Some(EntryRecord {
                path,
                ..entry.clone()
            })
        };
        self.0.manifest.entries.iter().filter_map(below).collect()
    }

    /// Writes a source as a tar of its own, compared with the manifest on the way once more.
    pub fn write(&self, source: &RestoredSource, out: &mut dyn Write) -> Result<(), VerifyError> {
        let mut out = out;
        let moved = |path: &[u8]| moved(path, source);
        self.0.visit(&mut |entry, content| {
            let Some(path) = moved(&entry.path) else {
                return Ok(());
            };
            let kind = match &entry.kind {
                Kind::HardLink(target) => match moved(target) {
                    Some(target) => Kind::HardLink(target),
                    None => return Ok(()),
                },
                kind => kind.clone(),
            };
            let written = write_header(&mut out, &path, &kind, &entry.meta, entry.size)
                .and_then(|()| io::copy(content, &mut out).map(drop))
                .and_then(|()| write_padding(&mut out, entry.size));
            written.map_err(|source| self.given_out(source))
        })?;
        write_end(&mut out).map_err(|source| self.given_out(source))
    }

    fn given_out(&self, source: io::Error) -> VerifyError {
        VerifyError::GivenOut {
            name: self.0.name.to_string(),
            source,
        }
    }
}

/// What a path of the archive is called below a source's place.
fn below<'p>(path: &'p [u8], place: &str) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(place.as_bytes())?;
    match rest.is_empty() {
        true => Some(rest),
        false => rest.strip_prefix(b"/"),
    }
}

/// A path of the archive as a path of a source's own tar.
fn moved(path: &[u8], source: &RestoredSource) -> Option<Vec<u8>> {
    let rest = below(path, &source.path)?;
    let mut moved = TOP.as_bytes().to_vec();
    let name = file_name(Path::new(&source.path));
    let rest = match source.is_file {
        true => name.as_bytes(),
        false => rest,
    };
    if !rest.is_empty() {
        moved.push(b'/');
        moved.extend_from_slice(rest);
    }
    Some(moved)
}

/// A backup whose archive is open.
pub(super) struct Opened {
    name: BackupName,
    manifest: BackupManifest,
    archive: PathBuf,
    file: File,
}

impl Opened {
    /// Opens a backup and verifies all of it.
    pub(super) fn verified(root: &Path, name: &str) -> Result<Opened, VerifyError> {
        let name: BackupName = name.parse()?;
        let files = name.files(root);
        let manifest = read_manifest(&name, &files)?;
        check_file(&files.images, &manifest.images_file)?;
        let file = open(&files.archive)?;
        let opened = Opened {
            name,
            manifest,
            archive: files.archive,
            file,
        };
        opened.visit(&mut |_, _| Ok(()))?;
        Ok(opened)
    }

    pub(super) fn visit(&self, visitor: Visitor<'_>) -> Result<(), VerifyError> {
        check_archive(&self.file, &self.archive, &self.manifest, visitor)
    }

    /// The content of an entry, unless it is longer than `most`.
    pub(super) fn in_memory(
        &self,
        content: &mut dyn Read,
        most: u64,
    ) -> Result<Vec<u8>, VerifyError> {
        let mut bytes = vec![];
        content
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| VerifyError::Read {
                path: self.archive.clone(),
                source,
            })?;
        match wide(bytes.len()) > most {
            true => Err(VerifyError::TooLarge {
                name: self.name.to_string(),
            }),
            false => Ok(bytes),
        }
    }
}

/// Sees each entry with its content. What it leaves of the content is read for it.
pub(super) type Visitor<'a> =
    &'a mut dyn FnMut(&TarEntry, &mut dyn Read) -> Result<(), VerifyError>;

/// Reads a backup's manifest and checks that it is whole and the right one.
pub(super) fn read_manifest(
    name: &BackupName,
    files: &BackupFiles,
) -> Result<BackupManifest, VerifyError> {
    let bytes = match fs::read(&files.manifest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VerifyError::Missing(name.to_string()));
        }
        Err(source) => {
            return Err(VerifyError::Read {
                path: files.manifest.clone(),
                source,
            });
        }
        Ok(bytes) => bytes,
    };
    let manifest = BackupManifest::parse(&bytes).map_err(|source| VerifyError::Manifest {
        name: name.to_string(),
        source,
    })?;
    match manifest.name == name.as_str() {
        true => Ok(manifest),
        false => Err(damaged(
            &files.manifest,
            format!("it is the manifest of {}", manifest.name),
        )),
    }
}

pub(super) fn check_file(path: &Path, record: &FileRecord) -> Result<(), VerifyError> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    let size = io::copy(&mut file, &mut hash).map_err(read)?;
    if size != record.size || hex(&hash.finalize()) != record.sha256 {
        return Err(damaged(path, "its hash is not the manifest's"));
    }
    Ok(())
}

/// Reads an archive whole, from its beginning, and compares it with its manifest.
pub(super) fn check_archive(
    file: &File,
    path: &Path,
    manifest: &BackupManifest,
    visitor: Visitor<'_>,
) -> Result<(), VerifyError> {
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    let size = file.metadata().map_err(read)?.len();
    if size != manifest.archive.size {
        let why = format!("it has {size} bytes instead of {}", manifest.archive.size);
        return Err(damaged(path, why));
    }
    let mut start = file;
    start.rewind().map_err(read)?;
    let input = Hashing::new(file);
    let budget = Budget {
        entries: manifest.entries.len(),
        bytes: manifest.content_bytes(),
    };
    let mut tar = CheckedReader::new(MultiGzDecoder::new(BufReader::new(input)), budget);
    compare_entries(&mut tar, path, &manifest.entries, visitor)?;
    let gzip = tar.finish().map_err(|error| tar_error(path, &error))?;
    let mut input = gzip.into_inner();
    io::copy(&mut input, &mut io::sink()).map_err(read)?;
    match hex(&input.into_inner().hash.finalize()) == manifest.archive.sha256 {
        true => Ok(()),
        false => Err(damaged(path, "its hash is not the manifest's")),
    }
}

fn compare_entries(
    tar: &mut CheckedReader<impl Read>,
    path: &Path,
    records: &[EntryRecord],
    visitor: Visitor<'_>,
) -> Result<(), VerifyError> {
    let mut records = records.iter();
    while let Some(entry) = tar.next_entry().map_err(|error| tar_error(path, &error))? {
        let mut content = Hashing::new(tar.content());
        visitor(&entry, &mut content)?;
        io::copy(&mut content, &mut io::sink())
            .map_err(|error| damaged(path, format!("{}: {error}", readable(&entry.path))))?;
        let found = record_of(&entry, &content.hash.finalize());
        if records.next() != Some(&found) {
            return Err(damaged(
                path,
                format!("{} is not as in the manifest", found.path),
            ));
        }
    }
    match records.next() {
        None => Ok(()),
        Some(missing) => Err(damaged(path, format!("{} is missing", missing.path))),
    }
}

pub(super) fn record_of(entry: &TarEntry, hash: &[u8]) -> EntryRecord {
    let kind = match &entry.kind {
        Kind::File => EntryKind::File {
            size: entry.size,
            sha256: hex(hash),
        },
        Kind::Dir | Kind::Special => EntryKind::Dir,
        Kind::Symlink(target) => EntryKind::Symlink {
            link: readable(target),
        },
        Kind::HardLink(target) => EntryKind::HardLink {
            link: readable(target),
        },
    };
    EntryRecord {
        path: readable(&entry.path),
        mode: mode_text(entry.meta.mode),
        kind,
    }
}

pub(super) fn tar_error(path: &Path, error: &TarError) -> VerifyError {
    // What gzip cannot decode comes as an error of reading, too; the sentence fits both.
    let why = match error {
        TarError::Read(source) => format!("{error}: {source}"),
        TarError::Torn(_) | TarError::Refused { .. } | TarError::TooMuch(_) => error.to_string(),
    };
    damaged(path, why)
}

pub(super) fn damaged(path: &Path, why: impl Into<String>) -> VerifyError {
    VerifyError::Damaged {
        file: file_name(path),
        why: why.into(),
    }
}

pub(super) fn open(path: &Path) -> Result<File, VerifyError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => VerifyError::Lost {
            file: file_name(path),
        },
        _ => VerifyError::Read {
            path: path.to_owned(),
            source,
        },
    })
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    input: R,
    pub(super) hash: Sha256,
}

impl<R> Hashing<R> {
    pub(super) fn new(input: R) -> Self {
        Hashing {
            input,
            hash: Sha256::new(),
        }
    }

    /// The hash of what was read.
    pub(super) fn finish(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hash.update(first(buffer, count));
        Ok(count)
    }
}
