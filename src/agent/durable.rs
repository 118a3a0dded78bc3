//! Files and names that survive a crash whole: a reader, or the next boot, sees the old content or the new one.
//!
//! Runs on the host. Everything is written aside in the same directory, synced, renamed into place, and the directory
//! is synced. A failed sync is final: the kernel may have marked the page clean, so trying again would prove nothing.
//! The file aside is removed when anything fails; [`is_leftover`] recognises what a crash leaves.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk;
pub use super::disk::{create_new, sync_dir};

/// What a file that is not finished yet is called, after its own name.
const ASIDE: &str = ".belay-new";

/// Keeps the names aside apart that this process makes.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Puts `bytes` at `path` with exactly `mode`.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(bytes))
}

/// Puts at `path`, with exactly `mode`, what `write` writes.
pub fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let aside = Unfinished(aside_of(path)?);
    let mut file = create_new(&aside.0)?;
    write(&mut file)?;
    // The process's umask has no say in what the file may become.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    disk::sync_all(&file, &aside.0)?;
    publish(&aside.0, path)
}

/// Makes `path` a symbolic link to `target`, whether or not it was one before.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let aside = Unfinished(aside_of(path)?);
    disk::link(target, &aside.0)?;
    publish(&aside.0, path)
}

/// Renames a synced file into place within one directory, and makes the new name durable.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    disk::rename(from, to)?;
    sync_dir(directory_of(to)?)
}

/// Moves a file or a directory to another directory of the same file system, and makes both names durable.
pub fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    disk::rename(from, to)?;
    sync_dir(directory_of(to)?)?;
    sync_dir(directory_of(from)?)
}

/// Removes a file, and makes its absence durable; a file that is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    absent(path, disk::remove_file(path))
}

/// Removes a directory with all that is in it, and makes its absence durable; one that is not there is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    absent(path, disk::remove_tree(path))
}

/// Makes it durable that a name is gone. Also when it was gone already: who removed it may have been killed before it
/// could do this.
fn absent(path: &Path, removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    settle(directory_of(path)?)
}

/// Makes durable which names a directory has now, if it is there: who removed one may have been killed before it could, and
/// what looks for things to remove does not see the name any more.
pub fn settle(dir: &Path) -> io::Result<()> {
    match sync_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// Removes a directory that is empty, and makes its absence durable.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    disk::remove_dir(path)?;
    sync_dir(directory_of(path)?)
}

/// Checks that a directory can be written. What a crash leaves of the attempt is a leftover like any other.
pub fn try_out(dir: &Path) -> io::Result<()> {
    let aside = Unfinished(aside_of(&dir.join("writable"))?);
    create_new(&aside.0).map(drop)
}

/// Makes a directory, and those above it, where they are not there yet, and their names durable: whatever is written in
/// them is reached by no other way.
pub fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    for dir in disk::missing_dirs(path) {
        match disk::make_dir(&dir, mode) {
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => {
                made?;
                sync_dir(directory_of(&dir)?)?;
            }
        }
    }
    Ok(())
}

/// Removes what a crash in this module left in a directory, which may not be there.
pub fn sweep(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if is_leftover(&name) {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Whether a file's name is one that a crash in this module left behind.
#[must_use]
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        && name.rsplit_once('.').is_some_and(|(rest, number)| {
            !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && rest
                    .rsplit_once('.')
                    .is_some_and(|(rest, _pid)| rest.ends_with(ASIDE))
        })
}

fn directory_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::other("a file needs a directory")),
    }
}

/// Whether there is anything at a path, be it a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn aside_of(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("a file needs a name"))?;
    let mut aside = OsString::from(".");
    aside.push(name);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    aside.push(format!("{ASIDE}.{}.{number}", std::process::id()));
    Ok(directory_of(path)?.join(aside))
}

/// A file aside: gone when it was not renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After a success there is nothing under this name; after a failure, the failure is what counts.
        let _ = disk::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
