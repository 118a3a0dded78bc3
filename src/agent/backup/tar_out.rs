//! Writes tar, byte for byte as given: no path or link is normalised on the way.
//!
//! Runs on the host. Names of any length, extended attributes and large numbers are written in the ways that GNU tar
//! and busybox read.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::names::LONGEST_PATH;
use crate::sizes::{at_most, first, wide};

/// The unit of a tar archive, in bytes: headers are one long, contents are padded to it.
pub(super) const RECORD: usize = 512;

/// What an entry of a tar archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink(Vec<u8>),
    /// Another name of a file that came before, by that file's path in the archive.
    HardLink(Vec<u8>),
    /// A device, a pipe: known, but never kept.
    Special,
}

/// What is kept of a file besides its path and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds since 1970.
    pub(super) mtime: u64,
    /// Records like `SCHILY.xattr.security.capability`.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// Writes everything of an entry that comes before its content.
pub(super) fn write_header(
    out: &mut impl Write,
    path: &[u8],
    kind: &Kind,
    meta: &Meta,
    size: u64,
) -> io::Result<()> {
    write_xattrs(out, &meta.xattrs)?;
    let mut path = path.to_vec();
    if *kind == Kind::Dir {
        path.push(b'/');
    }
    let (entry_type, link): (EntryType, &[u8]) = match kind {
        Kind::File => (EntryType::Regular, b""),
        Kind::Dir => (EntryType::Directory, b""),
        Kind::Symlink(target) => (EntryType::Symlink, target),
        Kind::HardLink(target) => (EntryType::Link, target),
        Kind::Special => return Err(io::Error::other("devices and pipes are not archived")),
    };
    let mut header = Header::new_gnu();
    if link.len() > header.as_old().linkname.len() {
        write_long(out, EntryType::GNULongLink, link)?;
    }
    if path.len() > header.as_old().name.len() {
        write_long(out, EntryType::GNULongName, &path)?;
    }
    put(&mut header.as_old_mut().linkname, link);
    put(&mut header.as_old_mut().name, &path);
    header.set_entry_type(entry_type);
    header.set_mode(meta.mode & 0o7777);
    header.set_uid(meta.uid);
    header.set_gid(meta.gid);
    header.set_mtime(meta.mtime);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// Fills the last record of a content of `size` bytes.
pub(super) fn write_padding(out: &mut impl Write, size: u64) -> io::Result<()> {
    out.write_all(first(&[0; RECORD], padding(size)))
}

/// How many bytes follow a content of `size` bytes until the next record.
pub(super) fn padding(size: u64) -> usize {
    let used = at_most(size % wide(RECORD), RECORD);
    (RECORD - used) % RECORD
}

/// Ends the archive.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * RECORD])
}

fn write_long(out: &mut impl Write, entry_type: EntryType, text: &[u8]) -> io::Result<()> {
    if text.len() > LONGEST_PATH {
        return Err(io::Error::other(
            "a name is longer than any file system allows",
        ));
    }
    let mut text = text.to_vec();
    text.push(0);
    write_extra(out, entry_type, b"././@LongLink", &text)
}

fn write_xattrs(out: &mut impl Write, xattrs: &[(String, Vec<u8>)]) -> io::Result<()> {
    if xattrs.is_empty() {
        return Ok(());
    }
    let mut records = vec![];
    for (key, value) in xattrs {
        records.extend_from_slice(&pax_record(key, value));
    }
    write_extra(out, EntryType::XHeader, b"././@PaxHeader", &records)
}

/// One record of a PAX header, which begins with its own length.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn write_extra(out: &mut impl Write, kind: EntryType, name: &[u8], text: &[u8]) -> io::Result<()> {
    let size = wide(text.len());
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    out.write_all(text)?;
    write_padding(out, size)
}

fn put(field: &mut [u8], text: &[u8]) {
    for (byte, wanted) in field.iter_mut().zip(text) {
        *byte = *wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for length in [0, 1, 80, 85, 86, 87, 88, 90, 970, 985, 986, 987, 990, 9_980] {
            let record = pax_record("SCHILY.xattr.user.x", &vec![b'v'; length]);
            let text = String::from_utf8(record.clone()).expect("text");
            let (said, _) = text.split_once(' ').expect("a length");
            assert_eq!(said.parse::<usize>().expect("a number"), record.len());
        }
    }

    #[test]
    fn content_is_padded_to_whole_records() {
        for (size, wanted) in [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)] {
            assert_eq!(padding(size), wanted);
        }
    }
}
