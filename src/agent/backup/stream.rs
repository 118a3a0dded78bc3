//! Copies a tar stream from a [`DataReader`](super::DataReader) into the archive, and notices what speaks against it.
//!
//! Runs on the host. The stream ends with a record of what there was ([`pack`](super::pack)). A stream that ends before it, or
//! does not have what the record says, is broken off, and whether it is read again is for the caller to say.

use std::io::{self, Read};

use super::BackupError;
use super::archive::{ArchiveWriter, Given};
use super::manifest::LeftOut;
use super::names::readable;
use super::pack::{EXAMPLES, Packed, RECORD};
use super::tar_in::{TarEntry, TarError, TarReader};
use super::tar_out::Kind;
use crate::sizes::wide;

/// The longest record that is read, in bytes: it has a line for each file that is not in the stream.
const LONGEST_RECORD: u64 = 64 * 1024 * 1024;

/// What was noticed while copying.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    pub(super) entries: u64,
    /// Files that look like the data of a database, and of which.
    pub(super) databases: Vec<String>,
    /// Files that changed while the copy was going on.
    pub(super) changed: u64,
    pub(super) changed_examples: Vec<String>,
    pub(super) left_out: Vec<LeftOut>,
    /// How much of that went away during the copy.
    pub(super) gone: u64,
    /// Why the stream broke off, if it did. The archive is whole nevertheless.
    pub(super) torn: Option<String>,
}

impl Noticed {
    pub(super) fn saw_change(&mut self, path: String) {
        self.changed += 1;
        if self.changed_examples.len() < EXAMPLES {
            self.changed_examples.push(path);
        }
    }

    fn saw_content(&mut self, entry: &TarEntry, path: &[u8], given: &Given) {
        let database = database(&entry.path, &given.head);
        if let Some(database) = database.filter(|_| self.databases.len() < EXAMPLES) {
            self.databases
                .push(format!("{} belongs to {database}", readable(path)));
        }
    }

    /// Takes over what the record says, with its paths moved to `place`.
    fn settle(&mut self, record: Packed, top: &str, place: &str) {
        let moved = |path: String| match path.strip_prefix(top) {
            Some(rest) => format!("{place}{rest}"),
            None => path,
        };
        if !record.is_whole(self.entries) {
            self.torn = Some(format!(
                "{} of {} files and directories came",
                self.entries, record.listed
            ));
        }
        self.changed += record.changed;
        self.gone += record.gone;
        self.changed_examples
            .extend(record.examples.into_iter().map(moved));
        self.left_out
            .extend(record.left_out.into_iter().map(|left| LeftOut {
                path: moved(left.path),
                why: left.why,
            }));
    }
}

/// Copies a stream to `place` in the archive.
pub(super) fn copy_stream(
    archive: &mut ArchiveWriter,
    stream: &mut dyn Read,
    place: &str,
) -> Result<Noticed, BackupError> {
    let mut tar = TarReader::new(stream);
    let mut noticed = Noticed::default();
    let mut top: Option<Vec<u8>> = None;
    let mut record: Option<Packed> = None;
    let refuse = |error: TarError| BackupError::Refused {
        source_name: place.to_owned(),
        why: error.to_string(),
    };
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(TarError::Torn(what)) => return Ok(broken_off(noticed, &what)),
            Err(TarError::Read(error)) => return Ok(broken_off(noticed, &error.to_string())),
            Err(error) => return Err(refuse(error)),
        };
        if entry.path == RECORD.as_bytes() {
            match record_in(&mut tar, &entry) {
                Ok(found) => record = Some(found),
                Err(error) => return Ok(broken_off(noticed, &error.to_string())),
            }
            continue;
        }
        let top = top.get_or_insert_with(|| first_part(&entry.path).to_vec());
        let moved = |path: &[u8]| {
            replanted(path, top, place)
                .ok_or_else(|| refuse(entry.refused("it is not under the others' top")))
        };
        let path = moved(&entry.path)?;
        noticed.entries += 1;
        match &entry.kind {
            Kind::Special => return Err(refuse(entry.refused("it is a device or a pipe"))),
            Kind::HardLink(target) => {
                archive.add(&path, &Kind::HardLink(moved(target)?), &entry.meta)?;
            }
            Kind::Dir | Kind::Symlink(_) => archive.add(&path, &entry.kind, &entry.meta)?,
            Kind::File => {
                let mut content = EntryContent(&mut tar);
                let given = archive.add_file(&path, &entry.meta, entry.size, &mut content)?;
                noticed.saw_content(&entry, &path, &given);
                if given.bytes < entry.size {
                    return Ok(broken_off(noticed, &readable(&path)));
                }
            }
        }
    }
    let top = readable(&top.unwrap_or_default());
    match record {
        Some(record) => noticed.settle(record, &top, place),
        None => noticed.torn = Some("the copy ended without its record".to_owned()),
    }
    Ok(noticed)
}

/// The record that an entry holds.
pub(super) fn record_in<R: Read>(tar: &mut TarReader<R>, entry: &TarEntry) -> io::Result<Packed> {
    let mut text = vec![];
    EntryContent(tar)
        .take(LONGEST_RECORD)
        .read_to_end(&mut text)?;
    match wide(text.len()) == entry.size {
        true => Ok(serde_json::from_slice(&text)?),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn broken_off(mut noticed: Noticed, at: &str) -> Noticed {
    noticed.torn = Some(format!(
        "the copy broke off in {at}, and what comes after it is missing"
    ));
    noticed
}

pub(super) fn first_part(path: &[u8]) -> &[u8] {
    path.split(|b| *b == b'/').next().unwrap_or(path)
}

/// A path of the stream as a path of the archive: its top directory becomes `place`.
pub(super) fn replanted(path: &[u8], top: &[u8], place: &str) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(top)?;
    if !rest.is_empty() && !rest.starts_with(b"/") {
        return None;
    }
    Some([place.as_bytes(), rest].concat())
}

/// Tells a database's file by its name or its first bytes. A copy of one that is being written to is no backup.
fn database(path: &[u8], head: &[u8]) -> Option<&'static str> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    match name {
        b"PG_VERSION" => Some("PostgreSQL"),
        b"ibdata1" => Some("MySQL or MariaDB"),
        b"dump.rdb" => Some("Redis"),
        b"WiredTiger" => Some("MongoDB"),
        _ if head.starts_with(b"SQLite format 3\0") => Some("SQLite"),
        _ => None,
    }
}

/// The content of a stream's current entry.
pub(super) struct EntryContent<'a, R>(pub(super) &'a mut TarReader<R>);

impl<R: Read> Read for EntryContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_content(buffer).map_err(|error| match error {
            TarError::Read(error) => error,
            other => io::Error::other(other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_moves_with_its_top_and_not_with_a_longer_name() {
        assert_eq!(
            replanted(b"top/a", b"top", "data/x").as_deref(),
            Some(&b"data/x/a"[..])
        );
        assert_eq!(
            replanted(b"top", b"top", "data/x").as_deref(),
            Some(&b"data/x"[..])
        );
        assert_eq!(replanted(b"topper/a", b"top", "data/x"), None);
    }

    #[test]
    fn databases_are_told_by_name_or_first_bytes() {
        assert_eq!(
            database(b"belay-data/PG_VERSION", b"16\n"),
            Some("PostgreSQL")
        );
        assert_eq!(
            database(b"belay-data/app.db", b"SQLite format 3\0"),
            Some("SQLite")
        );
        assert_eq!(database(b"belay-data/app.db", b"SQLite format"), None);
    }
}
