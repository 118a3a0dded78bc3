//! Gives out the configuration that a verified backup holds: in memory, or into a new directory.
//!
//! Runs on the host. Nothing is written outside of that directory, whatever the archive says.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::config_copy::CONFIG;
use super::manifest::LeftOut;
use super::names::{Leads, leads, readable};
use super::read::{MOST_IN_MEMORY, Opened, VerifyError};
use super::tar_in::TarEntry;
use super::tar_out::Kind;
use crate::durable;
use crate::sizes::wide;

/// A file of a saved configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Relative to the root that was saved.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What it is.
    pub kind: ConfigKind,
}

/// What a [`ConfigEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// With its content.
    File(Vec<u8>),
    /// Files in it are entries of their own.
    Dir,
    /// Not followed.
    Symlink {
        /// As it was written.
        target: PathBuf,
        /// Whether it is safe to write again.
        leads: Leads,
    },
    /// Another name of an earlier file, by that one's path.
    HardLink(PathBuf),
}

/// Gives out the configuration of a verified backup: everything that was under the root.
pub fn open_config(root: &Path, name: &str) -> Result<Vec<ConfigEntry>, VerifyError> {
    let opened = Opened::verified(root, name)?;
    let mut found = vec![];
    let mut left = MOST_IN_MEMORY;
    opened.visit(&mut |entry, content| {
        let Some(path) = config_path(&entry.path) else {
            return Ok(());
        };
        let kind = match &entry.kind {
            Kind::File => {
                let bytes = opened.in_memory(content, left)?;
                left -= wide(bytes.len());
                ConfigKind::File(bytes)
            }
            Kind::Dir => ConfigKind::Dir,
            Kind::Symlink(target) => ConfigKind::Symlink {
                target: path_of(target),
                leads: leads_of(&path, target),
            },
            Kind::HardLink(target) => ConfigKind::HardLink(config_path(target).unwrap_or_default()),
            Kind::Special => return Ok(()),
        };
        found.push(ConfigEntry {
            path,
            mode: entry.meta.mode,
            kind,
        });
        Ok(())
    })?;
    Ok(found)
}

/// Writes the configuration of a verified backup into `dest`, which must not exist yet.
///
/// Files get their modes but for setuid, setgid and sticky; who owns them is whoever writes them. Links that lead out
/// of the configuration are not made, and returned instead.
pub fn extract_config(root: &Path, name: &str, dest: &Path) -> Result<Vec<LeftOut>, VerifyError> {
    let opened = Opened::verified(root, name)?;
    let mut writer = ConfigWriter::new(dest)?;
    opened.visit(&mut |entry, content| match config_path(&entry.path) {
        Some(path) => writer.write(&path, entry, content),
        None => Ok(()),
    })?;
    writer.finish()
}

/// The path under the root of an entry; nothing for what is not configuration, and for the root itself.
pub(super) fn config_path(path: &[u8]) -> Option<PathBuf> {
    let rest = path.strip_prefix(CONFIG.as_bytes())?.strip_prefix(b"/")?;
    Some(path_of(rest))
}

fn leads_of(path: &Path, target: &[u8]) -> Leads {
    leads(target, path.components().count().saturating_sub(1))
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Writes a configuration into a new directory: directories and files first, links last, modes of directories at the
/// end.
pub(super) struct ConfigWriter {
    dest: PathBuf,
    dirs: Vec<(PathBuf, u32)>,
    links: Vec<(PathBuf, PathBuf)>,
    left_out: Vec<LeftOut>,
}

impl ConfigWriter {
    pub(super) fn new(dest: &Path) -> Result<ConfigWriter, VerifyError> {
        // Not even an empty directory of someone else's will do: it could get a link under our hands.
        make_dir(dest)?;
        Ok(ConfigWriter {
            dest: dest.to_owned(),
            dirs: vec![],
            links: vec![],
            left_out: vec![],
        })
    }

    pub(super) fn write(
        &mut self,
        path: &Path,
        entry: &TarEntry,
        content: &mut dyn Read,
    ) -> Result<(), VerifyError> {
        let to = self.dest.join(path);
        let failed = |source| VerifyError::Write {
            path: to.clone(),
            source,
        };
        match &entry.kind {
            Kind::Dir => {
                make_dir(&to)?;
                self.dirs.push((to, entry.meta.mode & 0o777));
            }
            Kind::File => write_file(&to, entry.meta.mode & 0o777, content).map_err(failed)?,
            Kind::HardLink(target) => match config_path(target) {
                Some(first) => fs::hard_link(self.dest.join(first), &to).map_err(failed)?,
                None => self.leave_out(
                    path,
                    "it is another name of a file outside the configuration",
                ),
            },
            Kind::Symlink(target) => match leads_of(path, target) {
                Leads::Inside => self.links.push((to, path_of(target))),
                Leads::Outside => {
                    self.leave_out(path, &format!("it is a link to {}", readable(target)));
                }
            },
            Kind::Special => self.leave_out(path, "it is a device or a pipe"),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<LeftOut>, VerifyError> {
        for (path, target) in &self.links {
            symlink(target, path).map_err(|source| VerifyError::Write {
                path: path.clone(),
                source,
            })?;
        }
        // The innermost first: a directory may forbid its owner to reach into it.
        for (path, mode) in self.dirs.iter().rev() {
            let set = fs::set_permissions(path, Permissions::from_mode(*mode));
            set.map_err(|source| VerifyError::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(self.left_out)
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        let path = readable(path.as_os_str().as_bytes());
        self.left_out.push(LeftOut {
            path,
            why: why.to_owned(),
        });
    }
}

fn make_dir(path: &Path) -> Result<(), VerifyError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(|source| VerifyError::Write {
        path: path.to_owned(),
        source,
    })
}

fn write_file(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    let mut file = durable::create_new(path)?;
    io::copy(content, &mut file)?;
    file.flush()?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}
