//! Brings the files under the root into the archive: the application's configuration.
//!
//! Runs on the host. A file that changes while it is read is read again, up to three times; one that the user may not read
//! comes through the [`DataReader`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::archive::ArchiveWriter;
use super::data_copy::{bind_path, copy_data, judged};
use super::manifest::{Consistency, LeftOut, SourceKind, SourceRecord, SourceState};
use super::names::{NEVER_INSIDE, readable};
use super::steady::{ATTEMPTS, SMALL, Stable, compared, meta_of, open, read_small};
use super::stream::Noticed;
use super::tar_out::{Kind, Meta};
use super::{BackupError, BackupRequest, DataKind, DataReader};
use crate::sizes::wide;

/// Where configuration is in the archive.
pub(super) const CONFIG: &str = "config";

/// The files under the root.
pub(super) struct ConfigWalk {
    pub(super) root: PathBuf,
    /// What is not configuration.
    skipped: Vec<PathBuf>,
}

/// A file or directory under the root.
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) place: Vec<u8>,
    pub(super) metadata: Metadata,
}

impl ConfigWalk {
    pub(super) fn new(request: &BackupRequest<'_>) -> ConfigWalk {
        let binds = request
            .data
            .iter()
            .filter_map(|source| bind_path(&source.kind));
        let named = NEVER_INSIDE
            .iter()
            .map(Path::new)
            .chain(request.exclude.iter().map(PathBuf::as_path));
        let lexical: Vec<PathBuf> = named
            .chain(binds)
            .map(|path| request.root.join(path))
            .collect();
        // The same place may be named through a link, by the root or by the mount.
        let real = lexical
            .iter()
            .filter_map(|path| path.canonicalize().ok())
            .collect::<Vec<_>>();
        ConfigWalk {
            root: request.root.to_owned(),
            skipped: [lexical, real].concat(),
        }
    }

    /// The root itself.
    pub(super) fn top(&self) -> io::Result<Member> {
        let metadata = fs::metadata(&self.root)?;
        Ok(Member {
            path: self.root.clone(),
            place: CONFIG.into(),
            metadata,
        })
    }

    /// What a directory holds, in the order of names, without what is skipped.
    pub(super) fn members(&self, dir: &Member) -> io::Result<Vec<Member>> {
        let mut names = vec![];
        for entry in fs::read_dir(&dir.path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        let mut members = vec![];
        for name in names {
            match self.member(dir, &name) {
                Ok(Some(member)) => members.push(member),
                // Gone since it was listed.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(members)
    }

    fn member(&self, dir: &Member, name: &OsStr) -> io::Result<Option<Member>> {
        let path = dir.path.join(name);
        let metadata = fs::symlink_metadata(&path)?;
        let real = || {
            path.canonicalize()
                .is_ok_and(|real| self.skipped.contains(&real))
        };
        if self.skipped.contains(&path) || (metadata.is_dir() && real()) {
            return Ok(None);
        }
        let place = [dir.place.as_slice(), b"/", name.as_bytes()].concat();
        Ok(Some(Member {
            path,
            place,
            metadata,
        }))
    }
}

/// Copies what is under the root.
pub(super) fn copy_config(
    archive: &mut ArchiveWriter,
    request: &BackupRequest<'_>,
    reader: &dyn DataReader,
    left_out: &mut Vec<LeftOut>,
) -> Result<SourceRecord, BackupError> {
    let walk = ConfigWalk::new(request);
    let mut copy = ConfigCopy {
        archive,
        reader,
        noticed: Noticed::default(),
        seen: BTreeMap::new(),
    };
    let top = walk.top().map_err(|source| BackupError::Config {
        path: walk.root.clone(),
        source,
    })?;
    let mut waiting = vec![top];
    while let Some(member) = waiting.pop() {
        let mut members = copy.member(&walk, &member)?;
        // The first name is taken off the end first.
        members.reverse();
        waiting.append(&mut members);
    }
    // Nothing of the configuration is a database's; only what changed while it was read counts.
    let state = judged(copy.noticed, Consistency::Stopped, left_out);
    Ok(SourceRecord {
        source: SourceKind::Config,
        path: CONFIG.to_owned(),
        services: vec![],
        consistency: Consistency::Live,
        state,
    })
}

/// The copying of the root's files.
struct ConfigCopy<'a> {
    archive: &'a mut ArchiveWriter,
    reader: &'a dyn DataReader,
    noticed: Noticed,
    /// Files with several names, by device and inode, with the first name that was seen.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
}

impl ConfigCopy<'_> {
    /// Copies one file or directory, and returns what a directory holds.
    fn member(&mut self, walk: &ConfigWalk, member: &Member) -> Result<Vec<Member>, BackupError> {
        let failed = |source| BackupError::Config {
            path: member.path.clone(),
            source,
        };
        let meta = meta_of(&member.metadata);
        let kind = member.metadata.file_type();
        if kind.is_dir() {
            return match walk.members(member) {
                Ok(members) => {
                    self.archive.add(&member.place, &Kind::Dir, &meta)?;
                    Ok(members)
                }
                Err(error) => self.through_reader(member, error).map(|()| vec![]),
            };
        }
        if kind.is_symlink() {
            let target = fs::read_link(&member.path).map_err(failed)?;
            let kind = Kind::Symlink(target.into_os_string().into_encoded_bytes());
            self.archive.add(&member.place, &kind, &meta)?;
        } else if kind.is_file() {
            self.file(member, &meta)?;
        } else {
            let why = if kind.is_socket() {
                "it is a socket"
            } else {
                "it is a device or a pipe"
            };
            self.leave_out(member, why);
        }
        Ok(vec![])
    }

    fn file(&mut self, member: &Member, meta: &Meta) -> Result<(), BackupError> {
        let identity = (member.metadata.dev(), member.metadata.ino());
        if let Some(first) = self.seen.get(&identity) {
            let link = Kind::HardLink(first.clone());
            return self.archive.add(&member.place, &link, meta);
        }
        if self.content(member, meta)? && member.metadata.nlink() > 1 {
            self.seen.insert(identity, member.place.clone());
        }
        Ok(())
    }

    /// Copies a file's content; false when there was none to copy.
    fn content(&mut self, member: &Member, meta: &Meta) -> Result<bool, BackupError> {
        let file = match open(&member.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.leave_out(member, "it went away during the copy");
                return Ok(false);
            }
            Err(error) => return self.through_reader(member, error).map(|()| true),
        };
        let failed = |source| BackupError::Config {
            path: member.path.clone(),
            source,
        };
        let stable = if file.metadata().map_err(failed)?.len() <= SMALL {
            self.small(member, meta)?
        } else {
            self.large(member, meta)?
        };
        if let Stable::Changing = stable {
            self.noticed.saw_change(readable(&member.place));
        }
        Ok(true)
    }

    fn small(&mut self, member: &Member, meta: &Meta) -> Result<Stable, BackupError> {
        let failed = |source| BackupError::Config {
            path: member.path.clone(),
            source,
        };
        let (bytes, stable) = read_small(&member.path).map_err(failed)?;
        let size = wide(bytes.len());
        self.archive
            .add_file(&member.place, meta, size, &mut bytes.as_slice())?;
        Ok(stable)
    }

    fn large(&mut self, member: &Member, meta: &Meta) -> Result<Stable, BackupError> {
        let failed = |source| BackupError::Config {
            path: member.path.clone(),
            source,
        };
        let start = self.archive.place()?;
        let mut attempt = 1;
        loop {
            let mut file = open(&member.path).map_err(failed)?;
            let before = file.metadata().map_err(failed)?;
            let given = self
                .archive
                .add_file(&member.place, meta, before.len(), &mut file)?;
            if let Some(error) = given.error {
                return Err(failed(error));
            }
            let stable = compared(&before, &file.metadata().map_err(failed)?, given.bytes);
            if let (Stable::Changing, true) = (stable, attempt < ATTEMPTS) {
                self.archive.back_to(&start)?;
                attempt += 1;
                continue;
            }
            return Ok(stable);
        }
    }

    /// Copies, as root does, what this user may not read.
    fn through_reader(&mut self, member: &Member, error: io::Error) -> Result<(), BackupError> {
        let failed = |source| BackupError::Config {
            path: member.path.clone(),
            source,
        };
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(failed(error));
        }
        let place = std::str::from_utf8(&member.place).map_err(|_| failed(error))?;
        let kind = DataKind::Bind {
            path: member.path.clone(),
        };
        let left_out = &mut self.noticed.left_out;
        match copy_data(
            self.archive,
            &kind,
            place,
            Consistency::Live,
            self.reader,
            left_out,
        )? {
            SourceState::Inconsistent { reasons } => {
                for reason in reasons {
                    self.noticed.saw_change(format!("{place} ({reason})"));
                }
            }
            SourceState::Absent => self.leave_out(member, "it went away during the copy"),
            SourceState::Saved | SourceState::Within { .. } => {}
        }
        Ok(())
    }

    fn leave_out(&mut self, member: &Member, why: &str) {
        let path = readable(&member.place);
        self.noticed.left_out.push(LeftOut {
            path,
            why: why.to_owned(),
        });
    }
}
