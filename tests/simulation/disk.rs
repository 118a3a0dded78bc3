//! What of a directory would survive if the power failed now.
//!
//! The files are real ones, in memory; the agent tells of each operation before it happens (`src/agent/disk.rs`). Kept
//! here is what POSIX promises and no more: a content is durable once its file was synced, a name once its directory was.
//! [`Disk::fail`] goes back to one of the states that this allows, and chance chooses which.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use belay_agent::disk::Op;

use crate::rng::Rng;

/// A file, under whatever name.
#[derive(Debug)]
struct Inode {
    /// Empty before it was first synced.
    durable: Vec<u8>,
    mode: u32,
}

#[derive(Clone, Debug)]
enum Node {
    Dir,
    Link(PathBuf),
    File(Rc<RefCell<Inode>>),
}

/// A change of a name whose directory was not synced since.
#[derive(Debug)]
enum Change {
    Bind(PathBuf, Node),
    Move(PathBuf, PathBuf, Node),
    Unbind(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Change::Bind(path, _) | Change::Unbind(path) | Change::Move(_, path, _) => path,
        }
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Bind(path, node) => drop(names.insert(path, node)),
            Change::Unbind(path) => drop(names.remove(&path)),
            Change::Move(from, to, node) => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

pub(crate) struct Disk {
    root: PathBuf,
    durable: BTreeMap<PathBuf, Node>,
    /// What a process sees.
    live: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
}

impl Disk {
    /// A directory, of which everything is durable.
    pub(crate) fn new(root: &Path) -> Self {
        let mut disk = Disk {
            root: root.to_owned(),
            durable: BTreeMap::new(),
            live: BTreeMap::new(),
            pending: vec![],
        };
        disk.take_in();
        disk
    }

    /// What is there now is durable.
    pub(crate) fn take_in(&mut self) {
        let mut names = BTreeMap::new();
        let mut left = vec![self.root.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).expect("readable") {
                let path = entry.expect("readable").path();
                let data = fs::symlink_metadata(&path).expect("there");
                let node = if data.is_symlink() {
                    Node::Link(fs::read_link(&path).expect("a link"))
                } else if data.is_dir() {
                    left.push(path.clone());
                    Node::Dir
                } else {
                    Node::File(Rc::new(RefCell::new(Inode {
                        durable: fs::read(&path).expect("readable"),
                        mode: data.mode() & 0o7777,
                    })))
                };
                names.insert(path, node);
            }
        }
        self.live.clone_from(&names);
        self.durable = names;
        self.pending.clear();
    }

    /// Takes in what is about to happen. What is going to fail (a name that is taken, one that is not there) is nothing.
    pub(crate) fn before(&mut self, op: &Op<'_>) {
        match *op {
            Op::Create(path) => {
                let inode = Inode {
                    durable: vec![],
                    mode: 0o600,
                };
                self.bind(path, Node::File(Rc::new(RefCell::new(inode))));
            }
            Op::Link { target, path } => self.bind(path, Node::Link(target.to_owned())),
            Op::MakeDir(path) => self.bind(path, Node::Dir),
            Op::Sync(path) => self.sync(path),
            Op::Cut(..) => {}
            Op::Rename { from, to } => {
                if let Some(node) = self.live.remove(from) {
                    self.live.insert(to.to_owned(), node.clone());
                    self.pending
                        .push(Change::Move(from.to_owned(), to.to_owned(), node));
                }
            }
            Op::Remove(path) => self.unbind(path),
            Op::RemoveDir(path) => {
                if fs::read_dir(path).is_ok_and(|mut inside| inside.next().is_none()) {
                    self.unbind(path);
                }
            }
            Op::RemoveTree(path) => {
                let inside = self.live.keys().filter(|name| name.starts_with(path));
                let inside: Vec<PathBuf> = inside.cloned().collect();
                inside.iter().rev().for_each(|name| self.unbind(name));
            }
            Op::SyncDir(dir) => {
                let pending = std::mem::take(&mut self.pending);
                let (synced, left) = pending
                    .into_iter()
                    .partition(|change| change.path().parent() == Some(dir));
                self.pending = left;
                synced
                    .into_iter()
                    .for_each(|change: Change| change.apply(&mut self.durable));
            }
        }
    }

    fn bind(&mut self, path: &Path, node: Node) {
        if fs::symlink_metadata(path).is_err() {
            self.live.insert(path.to_owned(), node.clone());
            self.pending.push(Change::Bind(path.to_owned(), node));
        }
    }

    fn unbind(&mut self, path: &Path) {
        if self.live.remove(path).is_some() {
            self.pending.push(Change::Unbind(path.to_owned()));
        }
    }

    fn sync(&self, path: &Path) {
        if let Some(Node::File(inode)) = self.live.get(path) {
            *inode.borrow_mut() = Inode {
                durable: fs::read(path).expect("readable"),
                mode: fs::metadata(path).expect("there").mode() & 0o7777,
            };
        }
    }

    /// A process ends while it writes: what it wrote since the last sync is there in part only.
    pub(crate) fn tear(&self, path: &Path, rng: &mut Rng) {
        let Some(Node::File(inode)) = self.live.get(path) else {
            return;
        };
        let written = fs::read(path).unwrap_or_default();
        let inode = inode.borrow();
        if written.len() > inode.durable.len() && written.starts_with(&inode.durable) {
            let keep = rng.between(inode.durable.len() as u64, written.len() as u64);
            let file = fs::File::options().write(true).open(path).expect("there");
            file.set_len(keep).expect("cut");
        }
    }

    /// The power fails, and comes back. Says what was lost.
    pub(crate) fn fail(&mut self, rng: &mut Rng) -> Vec<String> {
        let mut told = vec![];
        let mut names = self.durable.clone();
        let pending = std::mem::take(&mut self.pending);
        let (mode, kept) = (rng.below(4), rng.below(pending.len() + 1));
        for (n, change) in pending.into_iter().enumerate() {
            let happened = match mode {
                0 => false,
                1 => true,
                // As a file system that keeps the order of its changes.
                2 => n < kept,
                _ => rng.percent(50),
            };
            if happened {
                change.apply(&mut names);
            } else {
                told.push(format!("lost: {change:?}"));
            }
        }
        self.drop_unreachable(&mut names);
        let contents = self.contents(&names, rng, &mut told);
        self.rebuild(&names, &contents);
        self.take_in();
        told
    }

    /// Whatever lies in a directory that is not there is not there.
    fn drop_unreachable(&self, names: &mut BTreeMap<PathBuf, Node>) {
        let all = std::mem::take(names);
        for (path, node) in all {
            let parent = path.parent().expect("under the root");
            if parent == self.root || matches!(names.get(parent), Some(Node::Dir)) {
                names.insert(path, node);
            }
        }
    }

    fn contents(
        &self,
        names: &BTreeMap<PathBuf, Node>,
        rng: &mut Rng,
        told: &mut Vec<String>,
    ) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        for (path, node) in names {
            let Node::File(inode) = node else { continue };
            let durable = inode.borrow().durable.clone();
            let written = self.written(inode).unwrap_or_else(|| durable.clone());
            let content = if written == durable {
                durable
            } else {
                let torn = torn(&durable, &written, rng);
                told.push(format!(
                    "torn: {} has {} bytes, of {} written and {} synced",
                    path.display(),
                    torn.len(),
                    written.len(),
                    durable.len()
                ));
                torn
            };
            contents.insert(path.clone(), content);
        }
        contents
    }

    /// What a file holds now, if it still has a name.
    fn written(&self, wanted: &Rc<RefCell<Inode>>) -> Option<Vec<u8>> {
        let found = self
            .live
            .iter()
            .find(|(_, node)| matches!(node, Node::File(inode) if Rc::ptr_eq(inode, wanted)));
        found.and_then(|(path, _)| fs::read(path).ok())
    }

    fn rebuild(&self, names: &BTreeMap<PathBuf, Node>, contents: &BTreeMap<PathBuf, Vec<u8>>) {
        let modes: BTreeMap<&PathBuf, u32> = names
            .keys()
            .filter_map(|path| Some((path, fs::symlink_metadata(path).ok()?.mode() & 0o7777)))
            .collect();
        for entry in fs::read_dir(&self.root).expect("readable") {
            let path = entry.expect("readable").path();
            match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            }
            .expect("removed");
        }
        for (path, node) in names {
            let mode = match node {
                Node::Link(target) => {
                    symlink(target, path).expect("linked");
                    continue;
                }
                Node::Dir => {
                    fs::create_dir(path).expect("made");
                    modes.get(path).copied().unwrap_or(0o700)
                }
                Node::File(inode) => {
                    fs::write(path, &contents[path]).expect("written");
                    inode.borrow().mode
                }
            };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
    }
}

/// What may become of a file that was written to since it was synced.
fn torn(durable: &[u8], written: &[u8], rng: &mut Rng) -> Vec<u8> {
    if !written.starts_with(durable) {
        return if rng.percent(50) { durable } else { written }.to_vec();
    }
    let synced = durable.len();
    let mut content = written.to_vec();
    let at = |rng: &mut Rng| rng.between(synced as u64, written.len() as u64) as usize;
    match rng.below(5) {
        0 => content.truncate(synced),
        1 => content.truncate(at(rng)),
        // The length reached the disk and the blocks did not.
        2 => content[synced..].fill(0),
        3 => {
            let (one, other) = (at(rng), at(rng));
            content[one.min(other)..one.max(other)].fill(0);
        }
        _ => {}
    }
    content
}
