//! Reading files that somebody may be writing to: what was read, and whether it stood still meanwhile.
//!
//! Runs on the host, and in a helper container. Reads only.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::tar_out::Meta;
use crate::sizes::wide;

/// How often a file, or a whole source, is read until it stands still.
pub(super) const ATTEMPTS: usize = 3;

/// Files up to this size are read into memory before they are written, so that trying again costs nothing.
pub(super) const SMALL: u64 = 4 * 1024 * 1024;

/// Whether a file stayed the same while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stable {
    Unchanged,
    Changing,
}

/// Compares what a file was before and after `read` bytes of it were read. The kernel sets `ctime` at every change, with the
/// clock of its tick: a few milliseconds, not the whole seconds of a tar.
pub(super) fn compared(before: &Metadata, after: &Metadata, read: u64) -> Stable {
    let stamp = |m: &Metadata| {
        (
            m.len(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec(),
        )
    };
    if stamp(before) == stamp(after) && read == before.len() {
        Stable::Unchanged
    } else {
        Stable::Changing
    }
}

/// Reads a small file whole, once more while it changes.
pub(super) fn read_small(path: &Path) -> io::Result<(Vec<u8>, Stable)> {
    let mut attempt = 1;
    loop {
        let (bytes, stable) = read_whole(path)?;
        if stable == Stable::Unchanged || attempt == ATTEMPTS {
            return Ok((bytes, stable));
        }
        attempt += 1;
    }
}

fn read_whole(path: &Path) -> io::Result<(Vec<u8>, Stable)> {
    let mut file = open(path)?;
    let before = file.metadata()?;
    let mut bytes = vec![];
    // One that grows for ever is cut off.
    (&mut file).take(2 * SMALL).read_to_end(&mut bytes)?;
    let stable = compared(&before, &file.metadata()?, wide(bytes.len()));
    Ok((bytes, stable))
}

/// Opens a file, never through a link, and never waiting for a pipe that took its place.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// What an archive keeps of a file besides its content.
pub(super) fn meta_of(metadata: &Metadata) -> Meta {
    Meta {
        mode: metadata.mode() & 0o7777,
        uid: u64::from(metadata.uid()),
        gid: u64::from(metadata.gid()),
        mtime: u64::try_from(metadata.mtime()).unwrap_or(0),
        xattrs: vec![],
    }
}
