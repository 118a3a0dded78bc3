//! Hands data from one place to another while nobody writes to it, and notes what it hands over, to compare with.
//!
//! Runs on the host. Nothing is given up for lost here: what the reader listed came whole and stood still, or the copy is
//! none. What is written is a tar for [`DataWriter::fill`](super::DataWriter::fill).

use std::io::{self, Read, Write};

use super::manifest::{EntryRecord, LeftOut};
use super::names::{file_name, readable};
use super::pack::{Packed, RECORD};
use super::read::{Hashing, record_of};
use super::stream::{EntryContent, first_part, record_in, replanted};
use super::tar_in::{TarEntry, TarError, TarReader};
use super::tar_out::{Kind, Meta, write_end, write_header, write_padding};
use super::{DataKind, DataReader, ReadError, TOP};
use crate::sizes::wide;
use belay_model::composition::data::RestoredSource;

/// A file system's own directory, at the top of a volume that is one.
const OF_THE_FILE_SYSTEM: &[u8] = b"lost+found";

/// What was handed over.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Each, by its path at the new place.
    pub entries: Vec<EntryRecord>,
    /// What the files hold together.
    pub bytes: u64,
    /// What is not data: devices, pipes and sockets.
    pub left_out: Vec<LeftOut>,
}

/// What there is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing but the directory itself.
    Empty {
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u64,
        /// Its group.
        gid: u64,
    },
    /// Something, by the path of the first of it.
    Some(String),
}

/// Looks for something at a place; no more than that is read.
pub fn content(reader: &dyn DataReader, place: &DataKind) -> Result<Content, ReadError> {
    let mut found = None;
    let read = reader.read(place, &mut |stream| {
        found = Some(first_content(stream)?);
        Err(io::Error::other("no more is wanted"))
    });
    match (found, read) {
        (Some(found), _) => Ok(found),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(ReadError::Absent),
    }
}

fn first_content(stream: &mut dyn Read) -> io::Result<Content> {
    let mut tar = TarReader::new(stream);
    let top = tar.next_entry().map_err(told)?;
    let top = top.ok_or(io::ErrorKind::UnexpectedEof)?;
    if top.kind != Kind::Dir {
        return Ok(Content::Some(readable(&top.path)));
    }
    while let Some(entry) = tar.next_entry().map_err(told)? {
        let below = entry.path.strip_prefix(top.path.as_slice());
        let below = below.and_then(|rest| rest.strip_prefix(b"/"));
        match below {
            Some(path) if first_part(path) != OF_THE_FILE_SYSTEM => {
                return Ok(Content::Some(readable(path)));
            }
            Some(_) | None => {}
        }
    }
    Ok(Content::Empty {
        mode: top.meta.mode,
        uid: top.meta.uid,
        gid: top.meta.gid,
    })
}

impl Content {
    /// Gives an empty directory its mode and owner back, as a tar for [`DataWriter::fill`](super::DataWriter::fill).
    pub fn directory(mode: u32, uid: u64, gid: u64, out: &mut dyn Write) -> io::Result<()> {
        let mut out = out;
        let meta = Meta {
            mode,
            uid,
            gid,
            ..Meta::default()
        };
        write_header(&mut out, TOP.as_bytes(), &Kind::Dir, &meta, 0)?;
        write_end(&mut out)
    }
}

/// Writes what is at `from` as a tar for `to`.
pub fn relay(
    reader: &dyn DataReader,
    from: &DataKind,
    to: &RestoredSource,
    out: &mut dyn Write,
) -> Result<Relayed, ReadError> {
    let mut relayed = None;
    reader.read(from, &mut |stream| {
        relayed = Some(relay_stream(stream, to, out)?);
        Ok(())
    })?;
    relayed.ok_or(ReadError::Absent)
}

fn relay_stream(
    stream: &mut dyn Read,
    to: &RestoredSource,
    out: &mut dyn Write,
) -> io::Result<Relayed> {
    let mut out = out;
    let mut tar = TarReader::new(stream);
    let mut relayed = Relayed::default();
    let mut top: Option<Vec<u8>> = None;
    let mut record: Option<Packed> = None;
    while let Some(mut entry) = tar.next_entry().map_err(told)? {
        if entry.path == RECORD.as_bytes() {
            record = Some(record_in(&mut tar, &entry)?);
            continue;
        }
        let top = top.get_or_insert_with(|| first_part(&entry.path).to_vec());
        move_to(&mut entry, top, to)?;
        write_header(&mut out, &entry.path, &entry.kind, &entry.meta, entry.size)?;
        let mut content = Hashing::new(EntryContent(&mut tar));
        io::copy(&mut content, &mut out)?;
        write_padding(&mut out, entry.size)?;
        relayed.note(&entry, &content.finish());
    }
    relayed.settle(record)?;
    write_end(&mut out)?;
    Ok(relayed)
}

/// Gives an entry, and what a link leads to, its name at the new place.
fn move_to(entry: &mut TarEntry, top: &[u8], to: &RestoredSource) -> io::Result<()> {
    let place = match (&to.kind, to.is_file) {
        (DataKind::Bind { path }, true) => format!("{TOP}/{}", file_name(path)),
        (DataKind::Bind { .. } | DataKind::Volume { .. }, _) => TOP.to_owned(),
    };
    let moved = |path: &[u8]| {
        let stray = || io::Error::other(format!("{} is not under the others' top", readable(path)));
        replanted(path, top, &place).ok_or_else(stray)
    };
    entry.path = moved(&entry.path)?;
    if let Kind::HardLink(target) = &entry.kind {
        entry.kind = Kind::HardLink(moved(target)?);
    }
    Ok(())
}

impl Relayed {
    fn note(&mut self, entry: &TarEntry, hash: &[u8]) {
        let record = record_of(entry, hash);
        let below = record.path.strip_prefix(TOP).unwrap_or(&record.path);
        let path = below.trim_start_matches('/').to_owned();
        self.bytes += entry.size;
        self.entries.push(EntryRecord { path, ..record });
    }

    /// Holds what came against what the reader saw.
    fn settle(&mut self, record: Option<Packed>) -> io::Result<()> {
        let record = record.ok_or_else(|| io::Error::other("it ended without its record"))?;
        let came = wide(self.entries.len());
        if !record.is_whole(came) {
            let text = format!("{came} of {} files and directories came", record.listed);
            return Err(io::Error::other(text));
        }
        if record.changed > 0 || record.gone > 0 {
            let examples = record.examples.iter();
            let gone = record.left_out.iter().map(|left| &left.path);
            let first = examples.chain(gone).next().map_or("a file", String::as_str);
            let text = format!("something still writes there: {first} changed while it was read");
            return Err(io::Error::other(text));
        }
        self.left_out = record.left_out;
        Ok(())
    }
}

fn told(error: TarError) -> io::Error {
    match error {
        TarError::Read(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::backup::{LogSource, Sink, pack};

    /// Reads a directory without a helper; what it leaves out of the stream can be chosen.
    struct Direct(fn(Vec<u8>) -> Vec<u8>);

    impl DataReader for Direct {
        fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
            let DataKind::Bind { path } = source else {
                return Err(ReadError::Absent);
            };
            let mut bytes = vec![];
            pack::pack(path, &mut bytes).map_err(ReadError::Sink)?;
            sink(&mut self.0(bytes).as_slice()).map_err(ReadError::Sink)
        }

        fn size(&self, _: &DataKind) -> Result<u64, ReadError> {
            Ok(0)
        }

        fn sweep(&self) -> Result<(), ReadError> {
            Ok(())
        }

        fn logs(&self, _: &LogSource, _: u64) -> Result<Vec<u8>, ReadError> {
            Ok(vec![])
        }
    }

    fn bind(path: &std::path::Path) -> DataKind {
        DataKind::Bind {
            path: path.to_owned(),
        }
    }

    fn to(name: &str, is_file: bool) -> RestoredSource {
        RestoredSource {
            kind: DataKind::Bind {
                path: format!("/srv/{name}").into(),
            },
            path: String::new(),
            is_file,
        }
    }

    fn paths(relayed: &Relayed) -> Vec<&str> {
        relayed.entries.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn what_is_handed_over_is_noted_by_its_path_at_the_new_place() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("sub")).expect("made");
        fs::write(dir.path().join("sub/a"), "text").expect("written");
        fs::hard_link(dir.path().join("sub/a"), dir.path().join("sub/b")).expect("linked");
        let mut out = vec![];
        let reader = Direct(|bytes| bytes);
        let relayed = relay(&reader, &bind(dir.path()), &to("new", false), &mut out);
        let relayed = relayed.expect("handed over");
        assert_eq!(paths(&relayed), ["", "sub", "sub/a", "sub/b"]);
        assert_eq!(relayed.bytes, 4);
        let mut archive = tar::Archive::new(out.as_slice());
        let names = archive.entries().expect("a tar").map(|entry| {
            let entry = entry.expect("a tar");
            entry.path().expect("a path").display().to_string()
        });
        let names: Vec<String> = names.collect();
        assert_eq!(
            names,
            [
                "belay-data/",
                "belay-data/sub/",
                "belay-data/sub/a",
                "belay-data/sub/b"
            ]
        );
    }

    #[test]
    fn a_single_file_gets_the_name_that_it_has_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("old.db");
        fs::write(&file, "rows").expect("written");
        let reader = Direct(|bytes| bytes);
        let relayed = relay(&reader, &bind(&file), &to("new.db", true), &mut vec![]);
        assert_eq!(paths(&relayed.expect("handed over")), ["new.db"]);
    }

    #[test]
    fn a_stream_without_its_end_is_no_copy() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("a"), "text").expect("written");
        let cut: [fn(Vec<u8>) -> Vec<u8>; 2] = [
            |bytes| bytes[..1024].to_vec(),
            // Whole, but for the record: its header, its content, and the end.
            |bytes| [&bytes[..1536], &[0; 1024]].concat(),
        ];
        for cut in cut {
            let copied = relay(
                &Direct(cut),
                &bind(dir.path()),
                &to("new", false),
                &mut vec![],
            );
            assert!(matches!(copied, Err(ReadError::Sink(_))), "{copied:?}");
        }
    }

    #[test]
    fn an_empty_place_is_told_from_one_that_holds_something() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).expect("set");
        fs::create_dir(dir.path().join("lost+found")).expect("made");
        let reader = Direct(|bytes| bytes);
        let found = || content(&reader, &bind(dir.path())).expect("looked at");
        assert!(
            matches!(found(), Content::Empty { mode: 0o750, .. }),
            "{:?}",
            found()
        );
        fs::create_dir(dir.path().join("sub")).expect("made");
        assert_eq!(found(), Content::Some("sub".to_owned()));
    }
}
