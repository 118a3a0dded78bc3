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
    disk::sync_all(&file, &aside.0)?;
    publish(&aside.0, path)
}

/// Makes `path` a symbolic link to `target`, whether or not it was one before.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let aside = Aside(aside_of(path)?);
    disk::link(target, &aside.0)?;
    publish(&aside.0, path)
}

/// Renames a synced file into place within one directory, and makes the new name durable.
pub fn publish(from: &Path, to: &Path) -> io::Result<()> {
    disk::rename(from, to)?;
    sync_dir(directory_of(to)?)
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
    match sync_dir(directory_of(path)?) {
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
    let aside = Aside(aside_of(&dir.join("writable"))?);
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
        let _ = disk::remove_file(&self.0);
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

    /// Writes down what it is told.
    #[derive(Default)]
    struct Listener(std::cell::RefCell<Vec<String>>);

    impl disk::Tape for Listener {
        fn before(&self, op: &disk::Op<'_>) -> io::Result<()> {
            self.0.borrow_mut().push(format!("{op:?}"));
            Ok(())
        }
    }

    /// The operations of some work under a directory, without the directory's name.
    fn heard(dir: &Path, work: impl FnOnce() -> io::Result<()>) -> Vec<String> {
        let listener = std::rc::Rc::new(Listener::default());
        disk::listen(Some(listener.clone()));
        let done = work();
        disk::listen(None);
        done.expect("it works");
        let dir = dir.display().to_string();
        let told = listener.0.borrow();
        told.iter().map(|op| op.replace(&dir, "")).collect()
    }

    #[test]
    fn a_directory_that_is_made_is_there_after_a_loss_of_power() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = dir.path().join("a/b");
        let told = heard(dir.path(), || make_dirs(&made, 0o700));
        let expected = [
            "MakeDir(\"/a\")",
            "SyncDir(\"\")",
            "MakeDir(\"/a/b\")",
            "SyncDir(\"/a\")",
        ];
        assert_eq!(told, expected);
        assert_eq!(heard(dir.path(), || make_dirs(&made, 0o700)), [""; 0]);
    }

    #[test]
    fn what_is_removed_is_gone_after_a_loss_of_power() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        fs::write(&path, "x").expect("written");
        let told = heard(dir.path(), || remove(&path));
        assert_eq!(told, ["Remove(\"/x\")", "SyncDir(\"\")"]);
        fs::create_dir(&path).expect("made");
        let told = heard(dir.path(), || remove_tree(&path));
        assert_eq!(told, ["RemoveTree(\"/x\")", "SyncDir(\"\")"]);
        let told = heard(dir.path(), || remove_tree(&path));
        assert_eq!(
            told,
            ["RemoveTree(\"/x\")", "SyncDir(\"\")"],
            "gone already"
        );
        remove(&path.join("y")).expect("not even a directory for it");
        fs::create_dir(&path).expect("made");
        let told = heard(dir.path(), || remove_dir(&path));
        assert_eq!(told, ["RemoveDir(\"/x\")", "SyncDir(\"\")"]);
    }

    #[test]
    fn a_sweep_removes_what_a_crash_left_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let aside = aside_of(&dir.path().join("state")).expect("a name");
        for path in [&aside, &dir.path().join("state"), &dir.path().join(".env")] {
            fs::write(path, "x").expect("written");
        }
        sweep(dir.path()).expect("swept");
        assert_eq!(names(dir.path()), [".env", "state"]);
        sweep(&dir.path().join("nowhere")).expect("nothing to do");
        try_out(dir.path()).expect("it can be written");
        assert_eq!(names(dir.path()), [".env", "state"]);
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
