//! The archive that is being written: its entries, and the record of each for the manifest.
//!
//! Runs on the host. Every content that was announced is written in full length: what its source does not give is
//! zeros, so that the archive stays whole, and the caller is told and can go back to before it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::BackupError;
use super::gzip::{GzipMark, ParallelGzip, Written};
use super::manifest::{EntryKind, EntryRecord};
use super::names::{checked_path, readable};
use super::tar_out::{Kind, Meta, write_end, write_header, write_padding};
use crate::sizes::{at_most, first, first_mut, wide};
use belay_model::digest::hex;

/// How much is read at once.
const CHUNK: usize = 128 * 1024;
/// How much of a content's beginning is kept, to tell what it is.
pub(super) const HEAD: usize = 16;

/// Writes an archive.
pub(super) struct ArchiveWriter {
    gzip: ParallelGzip,
    entries: Vec<EntryRecord>,
    /// Directories above sources, which several may share.
    parents: BTreeSet<Vec<u8>>,
    most: usize,
    path: PathBuf,
    buffer: Vec<u8>,
}

/// A place in the archive to go back to.
pub(super) struct ArchiveMark {
    mark: GzipMark,
    entries: usize,
}

/// What a source gave for a content.
pub(super) struct Given {
    pub(super) bytes: u64,
    /// The first bytes of it.
    pub(super) head: Vec<u8>,
    /// Why it gave less than was announced; nothing when it just ended.
    pub(super) error: Option<io::Error>,
}

impl ArchiveWriter {
    /// Writes to an empty file, whose path is for messages, at most `most` entries.
    pub(super) fn new(file: File, path: PathBuf, most: usize) -> ArchiveWriter {
        ArchiveWriter {
            gzip: ParallelGzip::new(file),
            entries: vec![],
            parents: BTreeSet::new(),
            most,
            path,
            buffer: vec![0; CHUNK],
        }
    }

    /// Adds an entry that has no content.
    pub(super) fn add(&mut self, path: &[u8], kind: &Kind, meta: &Meta) -> Result<(), BackupError> {
        let recorded = match kind {
            Kind::Dir => EntryKind::Dir,
            Kind::Symlink(target) => EntryKind::Symlink {
                link: readable(target),
            },
            Kind::HardLink(target) => EntryKind::HardLink {
                link: readable(target),
            },
            Kind::File => return self.add_file(path, meta, 0, &mut io::empty()).map(drop),
            Kind::Special => return Ok(()),
        };
        self.begin(path)?;
        self.put(|gzip| write_header(gzip, path, kind, meta, 0))?;
        self.record(path, meta, recorded);
        Ok(())
    }

    /// Adds a file of `size` bytes from a source, which may give less.
    pub(super) fn add_file(
        &mut self,
        path: &[u8],
        meta: &Meta,
        size: u64,
        source: &mut dyn Read,
    ) -> Result<Given, BackupError> {
        self.begin(path)?;
        self.put(|gzip| write_header(gzip, path, &Kind::File, meta, size))?;
        let (given, sha256) = self.copy(size, source)?;
        self.put(|gzip| write_padding(gzip, size))?;
        self.record(path, meta, EntryKind::File { size, sha256 });
        Ok(given)
    }

    /// Adds a file of Belay's own.
    pub(super) fn add_text(
        &mut self,
        path: &str,
        bytes: &[u8],
        mtime: u64,
    ) -> Result<(), BackupError> {
        let meta = Meta {
            mode: 0o600,
            mtime,
            ..Meta::default()
        };
        let mut source = bytes;
        self.add_file(path.as_bytes(), &meta, wide(bytes.len()), &mut source)
            .map(drop)
    }

    /// Adds every directory above a source's place that is not in the archive yet. Not to be undone by going back.
    pub(super) fn add_parents(&mut self, path: &str, mtime: u64) -> Result<(), BackupError> {
        for (end, _) in path.match_indices('/') {
            let parent = first(path.as_bytes(), end);
            if self.parents.insert(parent.to_vec()) {
                let meta = Meta {
                    mode: 0o700,
                    mtime,
                    ..Meta::default()
                };
                self.add(parent, &Kind::Dir, &meta)?;
            }
        }
        Ok(())
    }

    /// A place to go back to.
    pub(super) fn place(&mut self) -> Result<ArchiveMark, BackupError> {
        let mark = self.put(ParallelGzip::mark)?;
        Ok(ArchiveMark {
            mark,
            entries: self.entries.len(),
        })
    }

    /// Forgets everything since a place.
    pub(super) fn back_to(&mut self, place: &ArchiveMark) -> Result<(), BackupError> {
        self.put(|gzip| gzip.back_to(&place.mark))?;
        self.entries.truncate(place.entries);
        Ok(())
    }

    /// Ends the archive, syncs it, and returns what was written.
    pub(super) fn finish(mut self) -> Result<(Written, Vec<EntryRecord>), BackupError> {
        self.put(write_end)?;
        let written = self
            .gzip
            .finish(&self.path)
            .map_err(|error| BackupError::writing(&self.path, error))?;
        Ok((written, self.entries))
    }

    /// Checks that an entry may be added.
    fn begin(&self, path: &[u8]) -> Result<(), BackupError> {
        if self.entries.len() >= self.most {
            return Err(BackupError::TooMany(self.most));
        }
        checked_path(path)
            .map(drop)
            .map_err(|why| BackupError::Refused {
                source_name: readable(path),
                why: why.to_owned(),
            })
    }

    /// Copies a content of `size` bytes and hashes it; what the source does not give becomes zeros.
    fn copy(&mut self, size: u64, source: &mut dyn Read) -> Result<(Given, String), BackupError> {
        let mut given = Given {
            bytes: 0,
            head: vec![],
            error: None,
        };
        let mut hash = Sha256::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        let mut ended = false;
        while left > 0 {
            let most = at_most(left, CHUNK);
            let count = match ended {
                true => 0,
                false => read_some(source, first_mut(&mut buffer, most), &mut given),
            };
            ended |= count == 0;
            let piece = match count {
                0 => {
                    let zeros = first_mut(&mut buffer, most);
                    zeros.fill(0);
                    zeros
                }
                count => first(&buffer, count),
            };
            hash.update(piece);
            self.put(|gzip| gzip.write_all(piece))?;
            left -= wide(piece.len());
        }
        self.buffer = buffer;
        Ok((given, hex(&hash.finalize())))
    }

    fn record(&mut self, path: &[u8], meta: &Meta, kind: EntryKind) {
        self.entries.push(EntryRecord {
            path: readable(path),
            mode: mode_text(meta.mode),
            kind,
        });
    }

    fn put<T>(
        &mut self,
        write: impl FnOnce(&mut ParallelGzip) -> io::Result<T>,
    ) -> Result<T, BackupError> {
        write(&mut self.gzip).map_err(|error| BackupError::writing(&self.path, error))
    }
}

/// A mode as a manifest shows it.
pub(super) fn mode_text(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

fn read_some(source: &mut dyn Read, buffer: &mut [u8], given: &mut Given) -> usize {
    let count = loop {
        match source.read(buffer) {
            Ok(count) => break count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                given.error = Some(error);
                break 0;
            }
        }
    };
    if given.head.len() < HEAD {
        let missing = (HEAD - given.head.len()).min(count);
        given.head.extend_from_slice(first(buffer, missing));
    }
    given.bytes += wide(count);
    count
}
