//! The one lock of a host: a kernel lock (flock) on a file, with the holder's details beside it for people.
//!
//! Runs on the host. The kernel frees the lock when its process ends, however it ends, so there is nothing to unlock by
//! hand and nothing that goes stale. Rust opens files close-on-exec, so no child of the engine keeps the lock alive.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::durable;
use super::layout::Layout;
use belay_model::transaction::journal::Holder;

/// Proof that this process is the one that may change the host.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
    mark: LockMark,
}

impl HostLock {
    /// How to tell whether it still counts.
    #[must_use]
    pub fn mark(&self) -> &LockMark {
        &self.mark
    }
}

/// How to tell whether a lock that was taken is still the one that counts.
///
/// The kernel keeps a lock for as long as its process lives, also for one that is suspended. But a lock file may be
/// removed and made again, and network file systems forget locks: then somebody else has taken *the* lock since.
#[derive(Clone, Debug)]
pub struct LockMark {
    file: PathBuf,
    /// Device and inode. The inode cannot be given to another file while this one is open.
    identity: (u64, u64),
    holder: PathBuf,
    details: Vec<u8>,
}

impl LockMark {
    /// Whether the lock file is the one that was locked, and its last taker the one that took it then.
    pub fn is_current(&self) -> io::Result<bool> {
        let file = if_there(fs::metadata(&self.file))?;
        let details = if_there(fs::read(&self.holder))?;
        Ok(
            file.is_some_and(|file| (file.dev(), file.ino()) == self.identity)
                && details.as_ref() == Some(&self.details),
        )
    }
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Locking {
    /// By this process, until it is dropped.
    Held(HostLock),
    /// Somebody else has it; the details may be missing for a moment after it changed hands.
    Busy(Option<Holder>),
}

/// Takes the lock if it is free.
pub fn take(layout: &Layout, holder: &Holder) -> io::Result<Locking> {
    let file = open(&layout.lock())?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let details = serde_json::to_vec_pretty(holder).map_err(io::Error::other)?;
            durable::replace(&layout.holder(), &details, 0o600)?;
            let data = file.metadata()?;
            let mark = LockMark {
                file: layout.lock(),
                identity: (data.dev(), data.ino()),
                holder: layout.holder(),
                details,
            };
            Ok(Locking::Held(HostLock { _file: file, mark }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locking::Busy(read_holder(layout))),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file that is only there to be locked.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Who holds the lock now; `None` when it is free.
pub fn holder(layout: &Layout) -> io::Result<Option<Holder>> {
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .open(layout.lock())
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(read_holder(layout).unwrap_or_default())),
        Err(error) => Err(error.into()),
    }
}

fn read_holder(layout: &Layout) -> Option<Holder> {
    serde_json::from_slice(&std::fs::read(layout.holder()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.state()).expect("the state directory");
        (dir, layout)
    }

    /// A child that another test is just starting holds every file of this process until it runs its own program.
    fn taken_soon(layout: &Layout) {
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_secs(5) {
            if matches!(
                take(layout, &Holder::default()).expect("the lock works"),
                Locking::Held(_)
            ) {
                return;
            }
        }
        panic!("the lock was not freed");
    }

    #[test]
    fn a_second_taker_learns_who_holds_it() {
        let (_dir, layout) = layout();
        let first = Holder {
            what: "deploy v1.0.0".to_owned(),
            ..Holder::default()
        };
        let held = take(&layout, &first).expect("the lock works");
        assert!(matches!(held, Locking::Held(_)));
        match take(&layout, &Holder::default()).expect("the lock works") {
            Locking::Busy(Some(holder)) => assert_eq!(holder.what, "deploy v1.0.0"),
            other => panic!("the lock was given twice: {other:?}"),
        }
        assert!(super::holder(&layout).expect("readable").is_some());
        drop(held);
        taken_soon(&layout);
    }

    #[test]
    fn a_lock_whose_file_was_removed_or_taken_anew_is_no_longer_current() {
        let (_dir, layout) = layout();
        let Ok(Locking::Held(held)) = take(&layout, &Holder::default()) else {
            panic!("the lock is free")
        };
        assert!(held.mark().is_current().expect("readable"));
        let other = Holder {
            pid: Some(1),
            ..Holder::default()
        };
        fs::write(
            layout.holder(),
            serde_json::to_vec_pretty(&other).expect("text"),
        )
        .expect("written");
        assert!(
            !held.mark().is_current().expect("readable"),
            "another taker"
        );

        fs::remove_file(layout.lock()).expect("removed");
        let Ok(Locking::Held(second)) = take(&layout, &Holder::default()) else {
            panic!("a new file has a new lock")
        };
        assert!(!held.mark().is_current().expect("readable"), "another file");
        assert!(second.mark().is_current().expect("readable"));
        fs::remove_file(layout.lock()).expect("removed");
        assert!(!second.mark().is_current().expect("readable"), "no file");
    }

    #[test]
    fn a_child_of_the_holder_does_not_keep_it() {
        let (_dir, layout) = layout();
        let held = take(&layout, &Holder::default()).expect("the lock works");
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .expect("a child");
        drop(held);
        taken_soon(&layout);
        child.kill().expect("the child ends");
        child.wait().expect("the child ended");
    }
}
