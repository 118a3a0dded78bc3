//! Every change of a name or of a durable content that the agent makes on the disk, one function each.
//!
//! Runs on the host. Each does exactly what it is called after; in which order they come, and what is synced when, is
//! decided by their callers, mostly [`super::durable`]. A test may hand its thread a [`Tape`], which is told of each
//! operation before it happens and may refuse it, so that a simulated host can end the process, fill the disk or lose
//! what was not synced at any of them. Without one, asking costs a look at one thread-local value.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// An operation that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A new, empty file.
    Create(&'a Path),
    /// A symbolic link.
    Link {
        /// Where the link leads.
        target: &'a Path,
        /// Where it is.
        path: &'a Path,
    },
    /// One directory; those above it are operations of their own.
    MakeDir(&'a Path),
    /// The content of a file, as far as it was written, becomes durable.
    Sync(&'a Path),
    /// The file is cut to a length.
    Cut(&'a Path, u64),
    /// Within one file system.
    Rename {
        /// The name before.
        from: &'a Path,
        /// The name after; what was there is gone.
        to: &'a Path,
    },
    /// A file, or an empty directory.
    Remove(&'a Path),
    /// An empty directory.
    RemoveDir(&'a Path),
    /// A directory with all that is in it.
    RemoveTree(&'a Path),
    /// The names in a directory become durable.
    SyncDir(&'a Path),
}

/// Is told of each operation of its thread before it happens.
pub trait Tape {
    /// An error is given to the caller as if the disk had said it; the operation then does not happen.
    fn before(&self, op: &Op<'_>) -> io::Result<()>;
}

thread_local! {
    static TAPE: RefCell<Option<Rc<dyn Tape>>> = const { RefCell::new(None) };
}

/// Lets a tape listen to this thread, or nobody. For tests.
pub fn listen(tape: Option<Rc<dyn Tape>>) {
    TAPE.set(tape);
}

fn tell(op: &Op<'_>) -> io::Result<()> {
    // Not borrowed while the tape works: it may use files itself.
    match TAPE.with_borrow(Clone::clone) {
        None => Ok(()),
        Some(tape) => tape.before(op),
    }
}

/// Creates a file for its owner alone that must not be there yet, be it as a link to somewhere else.
pub fn create_new(path: &Path) -> io::Result<File> {
    tell(&Op::Create(path))?;
    OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The same for a file that is only ever appended to.
pub fn create_to_append(path: &Path) -> io::Result<File> {
    tell(&Op::Create(path))?;
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes a symbolic link.
pub fn link(target: &Path, path: &Path) -> io::Result<()> {
    tell(&Op::Link { target, path })?;
    std::os::unix::fs::symlink(target, path)
}

/// Makes one directory.
pub fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    tell(&Op::MakeDir(path))?;
    DirBuilder::new().mode(mode).create(path)
}

/// Syncs the content and the mode of the file that was opened at `path`.
pub fn sync_all(file: &File, path: &Path) -> io::Result<()> {
    tell(&Op::Sync(path))?;
    file.sync_all()
}

/// Syncs the content of the file that was opened at `path`.
pub fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    tell(&Op::Sync(path))?;
    file.sync_data()
}

/// Cuts the file that was opened at `path`.
pub fn cut(file: &File, path: &Path, length: u64) -> io::Result<()> {
    tell(&Op::Cut(path, length))?;
    file.set_len(length)
}

/// Renames a file, over whatever has the name.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    tell(&Op::Rename { from, to })?;
    fs::rename(from, to)
}

/// Removes a file's name.
pub fn remove_file(path: &Path) -> io::Result<()> {
    tell(&Op::Remove(path))?;
    fs::remove_file(path)
}

/// Removes an empty directory.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    tell(&Op::RemoveDir(path))?;
    fs::remove_dir(path)
}

/// Removes a directory with all that is in it.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    tell(&Op::RemoveTree(path))?;
    fs::remove_dir_all(path)
}

/// Makes the names in a directory durable.
///
/// Some file systems cannot sync a directory and say `EINVAL`: they keep names in their own way. Any other error
/// counts.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    tell(&Op::SyncDir(dir))?;
    tolerated(File::open(dir)?.sync_all())
}

fn tolerated(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            Ok(())
        }
        other => other,
    }
}

/// The directories of a path that are not there, the outermost first.
pub fn missing_dirs(path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir())
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_directory_sync_is_tolerated_and_a_broken_disk_is_not() {
        let with = |errno: rustix::io::Errno| {
            tolerated(Err(io::Error::from_raw_os_error(errno.raw_os_error())))
        };
        assert!(with(rustix::io::Errno::INVAL).is_ok());
        assert!(with(rustix::io::Errno::IO).is_err());
        assert!(with(rustix::io::Errno::NOSPC).is_err());
    }

    /// Refuses everything.
    struct Full;

    impl Tape for Full {
        fn before(&self, _op: &Op<'_>) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn what_a_tape_refuses_does_not_happen() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, gone) = (dir.path().join("file"), dir.path().join("gone"));
        fs::write(&file, "kept").expect("written");
        let open = File::options().append(true).open(&file).expect("opened");
        listen(Some(Rc::new(Full)));
        let refused = [
            create_new(&gone).map(drop),
            create_to_append(&gone).map(drop),
            link(&file, &gone),
            make_dir(&gone, 0o700),
            sync_all(&open, &file),
            sync_data(&open, &file),
            cut(&open, &file, 0),
            rename(&file, &gone),
            remove_file(&file),
            remove_dir(dir.path()),
            remove_tree(dir.path()),
            sync_dir(dir.path()),
        ];
        listen(None);
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(fs::read(&file).expect("still there"), b"kept");
        assert!(!gone.exists());
        create_new(&gone).expect("nobody listens any more");
    }
}
