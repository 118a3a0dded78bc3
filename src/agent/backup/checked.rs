//! What an archive of ours may hold, checked entry by entry while it is read.
//!
//! Runs on the host. Regular files, directories, symbolic links and other names of files that came before: nothing
//! else, no name twice, nothing below a link or a file, and no more than was announced. Whoever writes what passes
//! here into an empty directory, links last, cannot write outside of it.

use std::collections::HashMap;
use std::io::{self, Read};

use super::tar_in::{TarEntry, TarError, TarReader};
use super::tar_out::Kind;
use crate::sizes::first;

/// How much an archive may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathKind {
    File,
    Dir,
    Link,
}

/// Reads an archive of ours.
pub(super) struct CheckedReader<R> {
    tar: TarReader<R>,
    seen: HashMap<Vec<u8>, PathKind>,
    left: Budget,
}

impl<R: Read> CheckedReader<R> {
    pub(super) fn new(input: R, budget: Budget) -> Self {
        CheckedReader {
            tar: TarReader::new(input),
            seen: HashMap::new(),
            left: budget,
        }
    }

    /// The next entry, if it may be there.
    pub(super) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let Some(entry) = self.tar.next_entry()? else {
            return Ok(None);
        };
        self.spend(&entry)?;
        self.check_parent(&entry)?;
        let seen = match &entry.kind {
            Kind::File => PathKind::File,
            Kind::Dir => PathKind::Dir,
            Kind::Symlink(_) => PathKind::Link,
            Kind::HardLink(target) if self.seen.get(target) == Some(&PathKind::File) => {
                PathKind::File
            }
            Kind::HardLink(_) => {
                return Err(entry.refused("it is another name of no file that came before"));
            }
            Kind::Special => return Err(entry.refused("it is a device or a pipe")),
        };
        if self.seen.insert(entry.path.clone(), seen).is_some() {
            return Err(entry.refused("its name came before"));
        }
        Ok(Some(entry))
    }

    /// The content of the current entry.
    pub(super) fn content(&mut self) -> impl Read + '_ {
        CheckedContent(&mut self.tar)
    }

    pub(super) fn finish(self) -> Result<R, TarError> {
        self.tar.finish()
    }

    fn spend(&mut self, entry: &TarEntry) -> Result<(), TarError> {
        let too_much = || TarError::TooMuch("was announced".to_owned());
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(too_much)?;
        self.left.bytes = self
            .left
            .bytes
            .checked_sub(entry.size)
            .ok_or_else(too_much)?;
        Ok(())
    }

    fn check_parent(&self, entry: &TarEntry) -> Result<(), TarError> {
        let Some(slash) = entry.path.iter().rposition(|b| *b == b'/') else {
            return Ok(());
        };
        match self.seen.get(first(&entry.path, slash)) {
            Some(PathKind::Dir) => Ok(()),
            Some(PathKind::File | PathKind::Link) => {
                Err(entry.refused("it lies below what is no directory"))
            }
            None => Err(entry.refused("its directory did not come before")),
        }
    }
}

struct CheckedContent<'a, R>(&'a mut TarReader<R>);

impl<R: Read> Read for CheckedContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_content(buffer).map_err(|error| match error {
            TarError::Read(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })
    }
}
