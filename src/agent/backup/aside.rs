//! Sets the content of a directory aside while other content takes its place, and brings it back or lets it go.
//!
//! Runs on the host, inside a helper container, as root: see [`DockerWriter`](super::DockerWriter). What is set aside stays
//! in the directory itself, under a name of ours, because only there a rename is certain to work: nothing is copied, no
//! space is needed, and what comes back is what was there, to the last attribute. Each operation may be cut off anywhere
//! and be repeated; which name the content has tells how far it came.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::archive::mode_text;
use super::manifest::{EntryKind, EntryRecord};
use super::names::readable;
use crate::sizes::first;
use belay_model::digest::hex;

/// A file system's own directory, at the top of a volume that is one.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// How much of a file is read at once.
const CHUNK: usize = 128 * 1024;

/// What can be done with a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Moves it aside.
    SetAside,
    /// Compares what came in its place with the backup.
    Check,
    /// Moves it back, in the place of what came.
    PutBack,
    /// Removes what was moved aside.
    Forget,
}

impl Action {
    /// For finding one by its name.
    pub const ALL: [Action; 4] = [
        Action::SetAside,
        Action::Check,
        Action::PutBack,
        Action::Forget,
    ];

    /// The word on the command line of the helper.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::SetAside => "set-aside",
            Action::Check => "check",
            Action::PutBack => "put-back",
            Action::Forget => "forget",
        }
    }
}

/// A directory whose content is replaced.
#[derive(Clone, Debug)]
pub struct Aside {
    dir: PathBuf,
    /// Only this name of it is meant; the rest is somebody else's.
    only: Option<OsString>,
    /// Its content while it is moved, in either direction.
    moving: PathBuf,
    /// Its content once all of it was moved.
    kept: PathBuf,
}

/// Content that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Something below it cannot be looked at.
    #[error("could not read it")]
    Read(#[from] io::Error),
    /// The backup has it.
    #[error("{0} is missing")]
    Missing(String),
    /// The backup does not have it.
    #[error("{0} should not be there")]
    Extra(String),
    /// Another kind, mode, size or content.
    #[error("{0} is not what the backup holds")]
    Different(String),
}

impl Aside {
    /// The content of a directory, or one name in it. `mark` tells what is kept for one transaction from all else.
    pub fn new(dir: &Path, only: Option<&str>, mark: &str) -> Aside {
        Aside {
            dir: dir.to_owned(),
            only: only.map(OsString::from),
            moving: dir.join(format!(".belay-moving-{mark}")),
            kept: dir.join(format!(".belay-kept-{mark}")),
        }
    }

    /// Moves everything aside. Once that is done, doing it again takes away what came since.
    pub fn set_aside(&self) -> io::Result<()> {
        if exists(&self.kept)? {
            self.clear()?;
            return self.sync();
        }
        if !exists(&self.moving)? {
            DirBuilder::new().mode(0o700).create(&self.moving)?;
        }
        for name in self.content()? {
            fs::rename(self.dir.join(&name), self.moving.join(&name))?;
        }
        self.sync()?;
        fs::rename(&self.moving, &self.kept)?;
        self.sync()
    }

    /// Takes away what is there now, and moves back what was set aside, or the part of it that was.
    pub fn put_back(&self) -> io::Result<()> {
        if exists(&self.kept)? {
            self.clear()?;
            self.sync()?;
            fs::rename(&self.kept, &self.moving)?;
            self.sync()?;
        }
        if exists(&self.moving)? {
            for name in names(&self.moving)? {
                let to = self.dir.join(&name);
                // Whatever has come there meanwhile is nobody's.
                remove(&to)?;
                fs::rename(self.moving.join(&name), to)?;
            }
            fs::remove_dir(&self.moving)?;
        }
        self.sync()
    }

    /// Removes what was set aside.
    pub fn forget(&self) -> io::Result<()> {
        remove(&self.kept)
    }

    /// Compares what is there with what a backup says of it, and syncs it. Paths begin below the directory; the directory's
    /// own is empty.
    pub fn check(&self, wanted: &[EntryRecord]) -> Result<(), CheckError> {
        let mut wanted: BTreeMap<&str, &EntryRecord> =
            wanted.iter().map(|e| (e.path.as_str(), e)).collect();
        let mut waiting = self.tops()?;
        while let Some(path) = waiting.pop() {
            let place = readable(path.as_os_str().as_bytes());
            let full = self.dir.join(&path);
            let metadata = fs::symlink_metadata(&full)?;
            match wanted.remove(place.as_str()) {
                None => return Err(CheckError::Extra(place)),
                Some(record) if !is_as(&full, &metadata, record)? => {
                    return Err(CheckError::Different(place));
                }
                Some(_) => {}
            }
            if metadata.is_dir() {
                let inside = match path.as_os_str().is_empty() {
                    true => self.content()?,
                    false => names(&full)?,
                };
                waiting.extend(inside.into_iter().map(|name| path.join(name)));
            }
        }
        wanted.retain(|path, _| *path != OF_THE_FILE_SYSTEM);
        match wanted.keys().next() {
            Some(missing) => Err(CheckError::Missing((*missing).to_owned())),
            None => Ok(self.sync()?),
        }
    }

    /// Where a comparison begins.
    fn tops(&self) -> io::Result<Vec<PathBuf>> {
        Ok(match &self.only {
            None => vec![PathBuf::new()],
            Some(_) => self.content()?.into_iter().map(PathBuf::from).collect(),
        })
    }

    /// The names of the content that is meant.
    fn content(&self) -> io::Result<Vec<OsString>> {
        let ours = [self.moving.file_name(), self.kept.file_name()];
        let is_meant = |name: &OsStr| match &self.only {
            Some(only) => name == only,
            None => name != OF_THE_FILE_SYSTEM && !ours.contains(&Some(name)),
        };
        let mut names = names(&self.dir)?;
        names.retain(|name| is_meant(name));
        Ok(names)
    }

    fn clear(&self) -> io::Result<()> {
        for name in self.content()? {
            remove(&self.dir.join(name))?;
        }
        Ok(())
    }

    /// Everything on the file system, so that the renames reach the disk after what they stand for.
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_as(path: &Path, metadata: &Metadata, record: &EntryRecord) -> io::Result<bool> {
    let has_mode = mode_text(metadata.mode()) == record.mode;
    Ok(match &record.kind {
        EntryKind::Dir => metadata.is_dir() && has_mode,
        EntryKind::File { size, sha256 } => {
            metadata.is_file() && has_mode && metadata.len() == *size && hash_of(path)? == *sha256
        }
        // Its content was compared under the name that came first.
        EntryKind::HardLink { .. } => metadata.is_file() && metadata.nlink() > 1,
        EntryKind::Symlink { link } => {
            metadata.is_symlink()
                && readable(&fs::read_link(path)?.into_os_string().into_vec()) == *link
        }
    })
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(first(&buffer, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(path) = waiting.pop() {
            for name in names(&dir.join(&path)).expect("a directory") {
                let path = path.join(name);
                let full = dir.join(&path);
                let metadata = fs::symlink_metadata(&full).expect("there");
                let what = if metadata.is_dir() {
                    waiting.push(path.clone());
                    "directory".to_owned()
                } else if metadata.is_symlink() {
                    format!("-> {}", fs::read_link(&full).expect("a link").display())
                } else {
                    fs::read_to_string(&full).expect("text")
                };
                found.insert(path, what);
            }
        }
        found
    }

    fn old_content(dir: &Path) {
        fs::write(dir.join("a"), "old a").expect("written");
        fs::create_dir_all(dir.join("deep/er")).expect("made");
        fs::write(dir.join("deep/er/b"), "old b").expect("written");
        symlink("/nowhere", dir.join("link")).expect("made");
    }

    fn new_content(dir: &Path) {
        fs::write(dir.join("a"), "new a").expect("written");
        fs::create_dir_all(dir.join("other")).expect("made");
        fs::write(dir.join("other/c"), "new c").expect("written");
    }

    #[test]
    fn what_was_set_aside_comes_back_as_it_was() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        old_content(dir);
        let before = tree(dir);
        let aside = Aside::new(dir, None, "7");
        for _ in 0..2 {
            aside.set_aside().expect("set aside");
            assert!(aside.content().expect("names").is_empty());
            new_content(dir);
        }
        for _ in 0..2 {
            aside.put_back().expect("put back");
            assert_eq!(tree(dir), before);
        }
    }

    #[test]
    fn what_is_forgotten_leaves_the_new_content_alone() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        old_content(dir);
        let aside = Aside::new(dir, None, "7");
        aside.set_aside().expect("set aside");
        new_content(dir);
        for _ in 0..2 {
            aside.forget().expect("forgotten");
        }
        let left = tree(dir);
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(left[Path::new("a")], "new a");
    }

    /// However far a move came in either direction, what follows finds its way.
    #[test]
    fn a_move_that_was_cut_off_anywhere_can_be_undone() {
        let count = 3;
        for moved in 0..=count {
            for complete in [false, true] {
                for returned in 0..=count {
                    let temp = tempfile::tempdir().expect("a directory");
                    let dir = temp.path();
                    old_content(dir);
                    let before = tree(dir);
                    let aside = Aside::new(dir, None, "7");
                    let mut content = aside.content().expect("names");
                    content.sort();
                    fs::create_dir(&aside.moving).expect("made");
                    let moved = if complete { count } else { moved };
                    for name in &content[..moved] {
                        fs::rename(dir.join(name), aside.moving.join(name)).expect("moved");
                    }
                    if complete {
                        fs::rename(&aside.moving, &aside.kept).expect("moved");
                        new_content(dir);
                        // An undo that was cut off while it moved things back.
                        aside.clear().expect("cleared");
                        fs::rename(&aside.kept, &aside.moving).expect("moved");
                    }
                    for name in &content[..returned.min(moved)] {
                        fs::rename(aside.moving.join(name), dir.join(name)).expect("moved");
                    }
                    aside.put_back().expect("put back");
                    assert_eq!(tree(dir), before, "{moved} {complete} {returned}");
                }
            }
        }
    }

    #[test]
    fn only_the_one_file_that_is_meant_is_touched() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        old_content(dir);
        let before = tree(dir);
        let aside = Aside::new(dir, Some("a"), "7");
        aside.set_aside().expect("set aside");
        assert_eq!(
            tree(dir).get(Path::new("deep/er/b")).map(String::as_str),
            Some("old b")
        );
        fs::write(dir.join("a"), "new a").expect("written");
        aside.put_back().expect("put back");
        assert_eq!(tree(dir), before);
    }

    fn file(path: &str, text: &str) -> EntryRecord {
        EntryRecord {
            path: path.to_owned(),
            mode: "0644".to_owned(),
            kind: EntryKind::File {
                size: text.len() as u64,
                sha256: hex(&Sha256::digest(text)),
            },
        }
    }

    #[test]
    fn a_check_finds_what_is_missing_what_is_too_much_and_what_differs() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        let mode = |path: &Path, mode| {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(path, permissions).expect("set");
        };
        mode(dir, 0o755);
        let aside = Aside::new(dir, None, "7");
        fs::write(dir.join("a"), "text").expect("written");
        mode(&dir.join("a"), 0o644);
        fs::create_dir(&aside.kept).expect("made");
        let top = EntryRecord {
            path: String::new(),
            mode: "0755".to_owned(),
            kind: EntryKind::Dir,
        };
        let good = [top.clone(), file("a", "text")];
        assert!(aside.check(&good).is_ok());
        let two = [top.clone(), file("a", "text"), file("b", "")];
        assert!(matches!(aside.check(&two), Err(CheckError::Missing(path)) if path == "b"));
        let none = std::slice::from_ref(&top);
        assert!(matches!(aside.check(none), Err(CheckError::Extra(path)) if path == "a"));
        let other = [top, file("a", "tixt")];
        assert!(matches!(aside.check(&other), Err(CheckError::Different(path)) if path == "a"));
        mode(&dir.join("a"), 0o600);
        assert!(matches!(aside.check(&good), Err(CheckError::Different(_))));
    }
}
