//! Files that the user who deploys cannot read, or not write where that is needed.
//!
//! Runs on the host. One that is this user's is opened again, as it was when it was written; another's is set aside, as
//! far as its directory allows.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Mender, Mode};
use crate::layout::Layout;

/// Every file of Belay's that anything depends on, and the directories that they are in.
pub(super) fn files(layout: &Layout) -> Vec<PathBuf> {
    let mut found = vec![layout.compose(), layout.compose_backup()];
    let mut dirs = vec![layout.state(), layout.backups()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(data) = fs::symlink_metadata(&path) else {
                continue;
            };
            // Each agent is checked by its hash before it is run; what was set aside is nobody's business.
            if path == layout.binaries() || path == layout.damaged() || data.is_symlink() {
                continue;
            }
            if data.is_dir() {
                dirs.push(path.clone());
            }
            found.push(path);
        }
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    found
}

fn is_usable(layout: &Layout, path: &Path, is_dir: bool) -> bool {
    let is_written = is_dir
        || [layout.lock(), layout.watch(), layout.engine_log()].contains(&path.to_owned())
        || path.parent() == Some(&layout.journals())
            && path.extension().is_some_and(|e| e == "log");
    let mut wanted = Access::READ_OK;
    if is_written {
        wanted |= Access::WRITE_OK;
    }
    if is_dir {
        wanted |= Access::EXEC_OK;
    }
    access(path, wanted).is_ok()
}

/// Opens what is this user's own to open again. It needs no lock: nothing but the mode changes.
fn open_again(path: &Path, data: &fs::Metadata) -> bool {
    let own = if data.is_dir() { 0o700 } else { 0o600 };
    let mode = fs::Permissions::from_mode(data.mode() & 0o7777 | own);
    data.uid() == rustix::process::geteuid().as_raw() && fs::set_permissions(path, mode).is_ok()
}

/// Makes what a verb needs before it can have the lock usable: directories, and files that have no content that counts.
pub fn make_usable(layout: &Layout) {
    for dir in [
        layout.state(),
        layout.backups(),
        layout.journals(),
        layout.incoming(),
    ] {
        if let Ok(data) = fs::metadata(&dir)
            && !is_usable(layout, &dir, true)
        {
            open_again(&dir, &data);
        }
    }
    for path in [layout.lock(), layout.watch(), layout.engine_log()] {
        if let Ok(data) = fs::metadata(&path)
            && !is_usable(layout, &path, false)
            && !open_again(&path, &data)
        {
            // An engine that holds this lock notices that it counts no more, and ends.
            let mender = Mender::new(layout, Mode::Safe, jiff::Timestamp::now());
            let _ = mender.set_aside(&path);
        }
    }
}

impl Mender<'_> {
    pub(super) fn access(&mut self) {
        // A directory that is opened may have more in it.
        let mut known = vec![];
        loop {
            let mut paths = files(self.layout);
            paths.retain(|path| !known.contains(path));
            if paths.is_empty() {
                return;
            }
            for path in paths {
                self.one(&path);
                known.push(path);
            }
        }
    }

    fn one(&mut self, path: &Path) {
        let Ok(data) = fs::symlink_metadata(path) else {
            return;
        };
        if is_usable(self.layout, path, data.is_dir()) {
            return;
        }
        let found = "could not be read or written";
        if self.mode == Mode::Look {
            return self.tell(path, found, None, None, None);
        }
        if open_again(path, &data) {
            return self.tell(path, found, Some("its owner may again"), None, None);
        }
        let chown = format!("sudo chown USER {}", path.display());
        let next = format!("give it to the user that deploys: {chown}");
        if data.is_dir() || path.starts_with(self.layout.backups()) {
            // What is in them may be whole, and is not made again by anything.
            return self.leave(path, "belongs to another user, and cannot be read", &next);
        }
        match self.set_aside(path) {
            Ok(kept) => self.tell(path, found, Some("it was set aside"), kept, None),
            Err(_) => self.leave(path, "belongs to another user, and cannot be read", &next),
        }
    }
}
