//! Files and names that survive a crash whole: a reader, or the next boot, sees the old content or the new one.
//!
//! Runs on the host. Everything is written aside in the same directory, synced, renamed into place, and the directory
//! is synced. A failed sync is final: the kernel may have marked the page clean, so trying again would prove nothing.
//! The file aside is removed when anything fails; [`is_leftover`] recognises what a crash leaves.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file that is not finished yet is called, after its own name.
const ASIDE: &str = ".belay-new";

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
    let aside = Aside(aside_of(path)?);
    let mut file = create_new(&aside.0)?;
    write(&mut file)?;
    // The process's umask has no say in what the file may become.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    publish(&aside.0, path)
}

/// Makes `path` a symbolic link to `target`, whether or not it was one before.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let aside = Aside(aside_of(path)?);
    std::os::unix::fs::symlink(target, &aside.0)?;
    publish(&aside.0, path)
}

/// Renames a synced file into place within one directory, and makes the new name durable.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(directory_of(to)?)
}

/// Removes a file, and makes its absence durable; a file that is not there is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_dir(directory_of(path)?),
    }
}

/// Creates a file for its owner alone that must not be there yet, be it as a link to somewhere else.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes the names in a directory durable.
///
/// Some file systems cannot sync a directory and say `EINVAL`: they keep names in their own way. Any other error
/// counts.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    sync_result(File::open(dir)?.sync_all())
}

/// Whether a file's name is one that a crash in this module left behind.
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

fn sync_result(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            Ok(())
        }
        other => other,
    }
}

fn directory_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::other("a file needs a directory")),
    }
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
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // After a success there is nothing under this name; after a failure, the failure is what counts.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("the directory is there")
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_exactly_the_mode_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        for (text, mode) in [("one", 0o600), ("two", 0o644), ("three", 0o777)] {
            replace(&path, text.as_bytes(), mode).expect("replaced");
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
            let found = fs::metadata(&path).expect("metadata").permissions().mode();
            assert_eq!(found & 0o7777, mode);
        }
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        replace(&path, b"old", 0o600).expect("replaced");
        let failed = replace_with(&path, 0o600, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).expect("text"), b"old");
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn a_link_in_the_way_is_replaced_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = dir.path().join("outside");
        fs::write(&outside, "untouched").expect("written");
        let path = dir.path().join("current");
        replace_link(&path, &outside).expect("linked");
        replace(&path, b"mine", 0o600).expect("replaced");
        assert_eq!(fs::read(&outside).expect("text"), b"untouched");
        replace_link(&path, Path::new("releases/2-v1.1.0")).expect("linked");
        assert_eq!(
            fs::read_link(&path).expect("a link"),
            Path::new("releases/2-v1.1.0")
        );
    }

    #[test]
    fn a_new_file_is_never_opened_through_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("linked");
        assert!(create_new(&path).is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_file_system_without_directory_sync_is_tolerated_and_a_broken_disk_is_not() {
        let with = |errno: rustix::io::Errno| {
            sync_result(Err(io::Error::from_raw_os_error(errno.raw_os_error())))
        };
        assert!(with(rustix::io::Errno::INVAL).is_ok());
        assert!(with(rustix::io::Errno::IO).is_err());
        assert!(with(rustix::io::Errno::NOSPC).is_err());
    }

    #[test]
    fn what_a_crash_leaves_is_recognised_and_nothing_else_is() {
        let aside = aside_of(Path::new("/srv/state")).expect("a name");
        assert!(is_leftover(aside.file_name().expect("a name")));
        for innocent in [
            "state",
            ".env",
            ".state.belay-new",
            "state.belay-new.1.2",
            ".belay-new.x.y",
        ] {
            assert!(!is_leftover(OsStr::new(innocent)), "{innocent}");
        }
    }

    #[test]
    fn removing_what_is_gone_is_fine() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        replace(&path, b"x", 0o600).expect("replaced");
        remove(&path).expect("removed");
        remove(&path).expect("removed again");
    }
}
