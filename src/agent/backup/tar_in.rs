//! Reads tar strictly, entry by entry: whatever two readers could understand differently is refused.
//!
//! Runs on the host. It never writes, never follows a link and trusts nothing: sums are checked, names are plain
//! relative paths, a stream that ends without its end marker is [`TarError::Torn`] (`docker cp` exits with 0 after
//! such a one), and memory is bounded whatever the headers say.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::names::{LONGEST_PATH, checked_path, readable};
use super::tar_out::{Kind, Meta, RECORD, padding};
use crate::sizes::{at_most, first, first_mut, wide};

/// The longest extended header, in bytes.
const LONGEST_PAX: u64 = 1024 * 1024;
/// The most zeros after the end marker: tar pads to whole blocks of records.
const MOST_ZEROS: u64 = 1024 * 1024;
/// How a PAX header names an extended attribute; GNU tar and busybox read it.
const XATTR: &str = "SCHILY.xattr.";

/// Why a tar stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error("the archive ends early, in {0}")]
    Torn(String),
    #[error("entry {entry} is refused: {why}")]
    Refused { entry: String, why: String },
    #[error("the archive holds more than {0}")]
    TooMuch(String),
    #[error("could not read the archive")]
    Read(#[from] io::Error),
}

/// What stands before an entry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TarEntry {
    /// Without a final slash.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
    pub(super) size: u64,
}

impl TarEntry {
    pub(super) fn refused(&self, why: impl Into<String>) -> TarError {
        refused(&self.path, why)
    }
}

fn refused(path: &[u8], why: impl Into<String>) -> TarError {
    TarError::Refused {
        entry: readable(first(path, 200)),
        why: why.into(),
    }
}

/// Reads the entries of a tar stream.
pub(super) struct TarReader<R> {
    input: R,
    /// What is left of the current entry's content.
    left: u64,
    padding: usize,
    current: String,
}

/// What headers before an entry say about it.
#[derive(Default)]
struct Extras {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(input: R) -> Self {
        TarReader {
            input,
            left: 0,
            padding: 0,
            current: "its first header".to_owned(),
        }
    }

    /// Goes to the next entry, past what was not read of the current one. Nothing: the end marker was found.
    pub(super) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        self.skip_content()?;
        let mut extras = Extras::default();
        loop {
            let Some(header) = self.header()? else {
                return match extras.is_empty() {
                    true => Ok(None),
                    false => Err(refused(b"", "an extended header has no entry")),
                };
            };
            if !self.take_extra(&header, &mut extras)? {
                let entry = entry_of(&header, extras)?;
                self.left = entry.size;
                self.padding = padding(entry.size);
                self.current = readable(&entry.path);
                return Ok(Some(entry));
            }
        }
    }

    /// Reads the current entry's content; 0 bytes only at its end.
    pub(super) fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = at_most(self.left, buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(first_mut(buffer, most))?;
        if count == 0 {
            return Err(TarError::Torn(self.current.clone()));
        }
        self.left -= wide(count);
        Ok(count)
    }

    /// Checks that nothing but zeros follows the end marker, and returns the input at its end.
    pub(super) fn finish(mut self) -> Result<R, TarError> {
        let mut buffer = [0; 8192];
        let mut seen = 0;
        loop {
            let count = self.input.read(&mut buffer)?;
            if count == 0 {
                return Ok(self.input);
            }
            seen += wide(count);
            if seen > MOST_ZEROS || first(&buffer, count).iter().any(|b| *b != 0) {
                return Err(refused(b"", "something follows the end of the archive"));
            }
        }
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 8192];
        while self.read_content(&mut buffer)? > 0 {}
        let mut rest = [0; RECORD];
        let padding = std::mem::take(&mut self.padding);
        self.fill(first_mut(&mut rest, padding))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match self.input.read_exact(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(TarError::Torn(self.current.clone()))
            }
            other => Ok(other?),
        }
    }

    /// The next header; nothing at the end marker, which is two records of zeros.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut record = [0; RECORD];
        self.fill(&mut record)?;
        if record.iter().all(|b| *b == 0) {
            self.fill(&mut record)?;
            return match record.iter().all(|b| *b == 0) {
                true => Ok(None),
                false => Err(refused(b"", "the end marker is not whole")),
            };
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&record);
        if header.cksum().ok() != Some(sum_of(&record)) {
            return Err(refused(
                &header.path_bytes(),
                "the sum of its header is wrong",
            ));
        }
        Ok(Some(header))
    }

    /// Reads a header that only describes the next one, if it is such.
    fn take_extra(&mut self, header: &Header, extras: &mut Extras) -> Result<bool, TarError> {
        let twice = || refused(b"", "it has two extended headers of one kind");
        match header.entry_type() {
            EntryType::GNULongName => {
                let text = self.long_text(header)?;
                extras.path.replace(text).map_or(Ok(true), |_| Err(twice()))
            }
            EntryType::GNULongLink => {
                let text = self.long_text(header)?;
                extras.link.replace(text).map_or(Ok(true), |_| Err(twice()))
            }
            EntryType::XHeader => {
                let pax = parse_pax(&self.extra_text(header, LONGEST_PAX)?)?;
                extras.pax.replace(pax).map_or(Ok(true), |_| Err(twice()))
            }
            _ => Ok(false),
        }
    }

    fn long_text(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut text = self.extra_text(header, wide(LONGEST_PATH) + 1)?;
        if text.last() == Some(&0) {
            text.pop();
        }
        if text.contains(&0) {
            return Err(refused(&text, "its name contains NUL"));
        }
        Ok(text)
    }

    fn extra_text(&mut self, header: &Header, most: u64) -> Result<Vec<u8>, TarError> {
        let size = number(header.entry_size(), b"")?;
        if size > most {
            return Err(refused(b"", "an extended header is too long"));
        }
        let mut text = vec![0; at_most(size, usize::MAX)];
        self.fill(&mut text)?;
        let mut rest = [0; RECORD];
        self.fill(first_mut(&mut rest, padding(size)))?;
        Ok(text)
    }
}

impl Extras {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

/// The sum that a header's record must claim: of all its bytes, with the sum itself as blanks.
fn sum_of(record: &[u8; RECORD]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    let (before, rest) = record.split_at(148);
    let (_, after) = rest.split_at(8);
    sum(before) + 8 * u32::from(b' ') + sum(after)
}

fn number<T>(field: io::Result<T>, path: &[u8]) -> Result<T, TarError> {
    field.map_err(|_| refused(path, "a number in its header cannot be read"))
}

/// One of two ways to say the same thing; saying it in both is refused.
fn either<T>(gnu: Option<T>, pax: Option<T>) -> Result<Option<T>, TarError> {
    match (gnu, pax) {
        (Some(_), Some(_)) => Err(refused(b"", "it has two names")),
        (one, other) => Ok(one.or(other)),
    }
}

fn entry_of(header: &Header, extras: Extras) -> Result<TarEntry, TarError> {
    let pax = extras.pax.unwrap_or_default();
    let named = either(extras.path, pax.path)?.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = checked_path(&named)
        .map_err(|why| refused(&named, why))?
        .to_vec();
    let short_link = || {
        header
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default()
    };
    let link = either(extras.link, pax.link)?.unwrap_or_else(short_link);
    let kind = kind_of(header.entry_type(), link).map_err(|why| refused(&path, why))?;
    if kind != Kind::Dir && named.ends_with(b"/") {
        return Err(refused(&path, "its name is that of a directory"));
    }
    let size = match pax.size {
        Some(size) => size,
        None => number(header.entry_size(), &path)?,
    };
    if i64::try_from(size).is_err() || (kind != Kind::File && size != 0) {
        return Err(refused(&path, "its size is impossible"));
    }
    let meta = Meta {
        mode: number(header.mode(), &path)? & 0o7777,
        uid: pax.uid.map_or_else(|| number(header.uid(), &path), Ok)?,
        gid: pax.gid.map_or_else(|| number(header.gid(), &path), Ok)?,
        mtime: past_1970(
            pax.mtime
                .map_or_else(|| number(header.mtime(), &path), Ok)?,
        ),
        xattrs: pax.xattrs,
    };
    Ok(TarEntry {
        path,
        kind,
        meta,
        size,
    })
}

fn kind_of(entry_type: EntryType, link: Vec<u8>) -> Result<Kind, &'static str> {
    if link.contains(&0) || link.len() > LONGEST_PATH {
        return Err("its link cannot be one");
    }
    match entry_type {
        EntryType::Regular => Ok(Kind::File),
        EntryType::Directory => Ok(Kind::Dir),
        EntryType::Symlink if link.is_empty() => Err("it links to nothing"),
        EntryType::Symlink => Ok(Kind::Symlink(link)),
        EntryType::Link => Ok(Kind::HardLink(checked_path(&link)?.to_vec())),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Ok(Kind::Special),
        EntryType::GNUSparse => Err("it is a sparse file"),
        _ => Err("it is of an unknown kind"),
    }
}

fn parse_pax(text: &[u8]) -> Result<Pax, TarError> {
    let bad = || refused(b"", "an extended header cannot be read");
    let mut pax = Pax::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, value, after) = pax_record(rest).ok_or_else(bad)?;
        rest = after;
        let whole = || -> Result<u64, TarError> {
            let text = std::str::from_utf8(value).map_err(|_| bad())?;
            text.parse().map_err(|_| bad())
        };
        match key {
            "path" => pax.path = Some(value.to_vec()),
            "linkpath" => pax.link = Some(value.to_vec()),
            "size" => pax.size = Some(whole()?),
            "uid" => pax.uid = Some(whole()?),
            "gid" => pax.gid = Some(whole()?),
            "mtime" => pax.mtime = Some(seconds(value)),
            _ if key.starts_with("GNU.sparse.") => return Err(refused(b"", "it is a sparse file")),
            _ if key.starts_with(XATTR) => pax.xattrs.push((key.to_owned(), value.to_vec())),
            // Names of users and other times: nothing that is kept.
            _ => {}
        }
    }
    Ok(pax)
}

/// Takes `LENGTH KEY=VALUE\n` off the front.
fn pax_record(text: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let blank = text.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(first(text, blank)).ok()?.parse().ok()?;
    let (record, rest) = text.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = record.split_at(equals);
    let value = value.strip_prefix(b"=").unwrap_or(value);
    Some((std::str::from_utf8(key).ok()?, value, rest))
}

/// A time before 1970 reads as one in the far future; it becomes 1970.
fn past_1970(mtime: u64) -> u64 {
    if i64::try_from(mtime).is_ok() {
        mtime
    } else {
        0
    }
}

/// The whole seconds of a time like `1700000000.25`; 0 for one before 1970.
fn seconds(value: &[u8]) -> u64 {
    let whole = value.split(|b| *b == b'.').next().unwrap_or_default();
    std::str::from_utf8(whole)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}
