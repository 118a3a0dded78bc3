//! The journal on disk: one file a transaction, only ever appended to, each record synced before anything depends on it.
//!
//! Runs on the host. A record is one line, `<crc32c> <json>`. A torn last line (a crash while writing) is ignored and cut
//! off; damage before the last line is refused, because then nothing that follows can be trusted. A failed write or sync
//! is fatal for the engine: what is on the disk is then read afresh by the next one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::disk;
use super::fence::{Fence, Overtaken};
use super::layout::Layout;
use super::sizes::{first, wide};
use belay_model::transaction::journal::{Entry, Event};
use belay_model::transaction::phase::CannotFollow;
use belay_model::transaction::phase::Records;

/// Why a journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system does not let it be read.
    #[error("could not read the journal {path}")]
    Read {
        /// The journal's file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A record may be on the disk or not; the engine has to end.
    #[error("could not write the journal {path}")]
    Write {
        /// The journal's file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not only the last record, which a crash may have torn.
    #[error("the journal {path} is damaged in record {record}")]
    Damaged {
        /// The journal's file.
        path: String,
        /// Its number, from 0.
        record: usize,
    },
    /// Of a format that this version does not know.
    #[error("the journal {path} was written by a newer Belay (format {schema})")]
    Newer {
        /// The journal's file.
        path: String,
        /// Its format's number.
        schema: u32,
    },
    /// A whole record that cannot follow those before it.
    #[error("the journal {path} contradicts itself in record {record}")]
    Contradiction {
        /// The journal's file.
        path: String,
        /// Its number, from 0.
        record: usize,
        /// Why it cannot follow.
        #[source]
        source: CannotFollow,
    },
    /// Another engine has taken this one's place: the journal is no longer this one's.
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
}

impl JournalError {
    /// Whether the file is not as it was written, or not there to be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            JournalError::Read { .. }
            | JournalError::Damaged { .. }
            | JournalError::Contradiction { .. } => true,
            JournalError::Write { .. }
            | JournalError::Newer { .. }
            | JournalError::Overtaken(_) => false,
        }
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    records: Records,
    fence: Option<Fence>,
}

impl Journal {
    /// From now on only an engine that was not overtaken writes a record.
    pub fn guard(&mut self, fence: Fence) {
        self.fence = Some(fence);
    }

    /// Creates the journal of a new transaction.
    pub fn create(layout: &Layout, seq: u64) -> Result<Self, JournalError> {
        let path = layout.journal(seq);
        let file = disk::create_to_append(&path).map_err(write_error(&path))?;
        disk::sync_dir(&layout.journals()).map_err(write_error(&path))?;
        Ok(Journal {
            path,
            file,
            records: Records::default(),
            fence: None,
        })
    }

    /// Opens a journal to go on with it, and cuts off a torn last record.
    pub fn open(layout: &Layout, seq: u64) -> Result<Self, JournalError> {
        let path = layout.journal(seq);
        let (records, good_bytes) = read_with_length(&path)?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(write_error(&path))?;
        disk::cut(&file, &path, good_bytes).map_err(write_error(&path))?;
        disk::sync_data(&file, &path).map_err(write_error(&path))?;
        Ok(Journal {
            path,
            file,
            records,
            fence: None,
        })
    }

    /// A journal as it is now, for somebody who only reads it.
    pub(crate) fn to_read(layout: &Layout, seq: u64) -> Result<Self, JournalError> {
        let path = layout.journal(seq);
        let (records, _) = read_with_length(&path)?;
        let file = File::open(&path).map_err(write_error(&path))?;
        Ok(Journal {
            path,
            // The system refuses to write to it.
            file,
            records,
            fence: None,
        })
    }

    /// The records until now, oldest first.
    #[must_use]
    pub fn entries(&self) -> &Records {
        &self.records
    }

    /// Writes a record and waits until it is on the disk. One that cannot follow is refused before.
    pub fn append(&mut self, at: Timestamp, event: Event) -> Result<(), JournalError> {
        if let Some(fence) = &self.fence {
            fence.check()?;
        }
        let contradicts = contradiction(&self.path.display().to_string(), &self.records);
        self.records.check(&event).map_err(&contradicts)?;
        let entry = Entry {
            n: wide(self.records.len()),
            at,
            event,
        };
        self.write(&entry).map_err(write_error(&self.path))?;
        self.records.push(entry).map_err(contradicts)
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let line = encode(entry)?;
        self.file.write_all(line.as_bytes())?;
        disk::sync_data(&self.file, &self.path)
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.display().to_string();
    move |source| JournalError::Write { path, source }
}

pub(super) fn encode(entry: &Entry) -> io::Result<String> {
    let json = serde_json::to_string(entry).map_err(io::Error::other)?;
    Ok(format!(
        "{} {json}
",
        checksum(&json)
    ))
}

fn checksum(json: &str) -> String {
    format!("{:08x}", crc32c::crc32c(json.as_bytes()))
}

/// Makes everything durable that was read of a journal until now. An engine that was killed while it wrote may have left a
/// record in the kernel's memory only: it must not be told to anybody as long as a loss of power could still undo it.
pub fn make_durable(path: &Path) -> Result<(), JournalError> {
    let synced = File::open(path).and_then(|file| disk::sync_data(&file, path));
    synced.map_err(write_error(path))
}

/// Reads a journal without opening it for writing. A torn last record is left out.
pub fn read(path: &Path) -> Result<Records, JournalError> {
    read_with_length(path).map(|(records, _)| records)
}

fn read_with_length(path: &Path) -> Result<(Records, u64), JournalError> {
    let text = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| JournalError::Read {
        path: text.clone(),
        source,
    })?;
    decode(&bytes, &text)
}

/// Decodes a journal's bytes; also says how many of them are whole records.
fn decode(bytes: &[u8], path: &str) -> Result<(Records, u64), JournalError> {
    let mut records = Records::default();
    let mut good_bytes = 0;
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let (line, after) = rest.split_at(end + 1);
        match decode_line(first(line, end)) {
            Some(entry) => {
                check_schema(&entry, path)?;
                let contradicts = contradiction(path, &records);
                records.push(entry).map_err(contradicts)?;
            }
            // Blocks of a torn write may reach the disk out of order; the missing ones read as zeros.
            None if after.is_empty() && line.contains(&0) => break,
            None => {
                return Err(JournalError::Damaged {
                    path: path.to_owned(),
                    record: records.len(),
                });
            }
        }
        good_bytes += wide(line.len());
        rest = after;
    }
    Ok((records, good_bytes))
}

/// What to say of the record that comes next and cannot.
fn contradiction(path: &str, records: &Records) -> impl Fn(CannotFollow) -> JournalError + use<> {
    let (path, record) = (path.to_owned(), records.len());
    move |source| JournalError::Contradiction {
        path: path.clone(),
        record,
        source,
    }
}

pub(super) fn decode_line(line: &[u8]) -> Option<Entry> {
    let text = std::str::from_utf8(line).ok()?;
    let (crc, json) = text.split_once(' ')?;
    // Compared as it was written: a parsed number would not notice a flipped letter case.
    if crc != checksum(json) {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn check_schema(entry: &Entry, path: &str) -> Result<(), JournalError> {
    match &entry.event {
        Event::Begin(begin) if begin.schema > belay_model::transaction::journal::SCHEMA => {
            Err(JournalError::Newer {
                path: path.to_owned(),
                schema: begin.schema,
            })
        }
        _ => Ok(()),
    }
}

/// The numbers of all transactions that have a journal, in order.
pub fn sequence_numbers(layout: &Layout) -> io::Result<Vec<u64>> {
    let mut numbers = vec![];
    let entries = match fs::read_dir(layout.journals()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        if let Some(number) = name
            .to_str()
            .and_then(|n| n.strip_suffix(".log"))
            .and_then(|n| n.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use belay_model::transaction::journal::{Begin, BootTime, Holder, Output};
    use belay_model::transaction::step::Step;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.journals()).expect("the journal directory");
        (dir, layout)
    }

    fn started(step: Step) -> Event {
        Event::Started { step }
    }

    fn begin() -> Event {
        Event::Begin(Box::new(Begin {
            schema: 2,
            tx: "t".to_owned(),
            seq: 1,
            what: "deploy v1.0.0".to_owned(),
            holder: Holder::default(),
            previous: None,
            previous_tag: None,
            environment: None,
            deadline: BootTime {
                boot_id: "b".to_owned(),
                ms: 1,
            },
        }))
    }

    /// As many steps as fill a dozen records.
    fn events() -> Vec<Event> {
        let done = |step| Event::Done {
            step,
            output: Output::Nothing,
        };
        let steps = Step::ALL.into_iter().take(6);
        let of_steps = steps.flat_map(|step| [started(step), done(step)]);
        std::iter::once(begin()).chain(of_steps).collect()
    }

    fn written(layout: &Layout) -> Vec<u8> {
        let mut journal = Journal::create(layout, 1).expect("created");
        for event in events() {
            journal
                .append(Timestamp::UNIX_EPOCH, event)
                .expect("appended");
        }
        fs::read(layout.journal(1)).expect("readable")
    }

    #[test]
    fn a_record_that_cannot_follow_is_not_written() {
        let (_dir, layout) = layout();
        let bytes = written(&layout);
        let mut journal = Journal::open(&layout, 1).expect("opened");
        let refused = journal.append(Timestamp::UNIX_EPOCH, started(Step::Preflight));
        assert!(
            matches!(refused, Err(JournalError::Contradiction { record: 13, .. })),
            "{refused:?}"
        );
        assert_eq!(fs::read(layout.journal(1)).expect("readable"), bytes);
        assert_eq!(journal.entries().len(), events().len());
    }

    #[test]
    fn a_whole_record_that_cannot_follow_is_refused() {
        let (_dir, layout) = layout();
        let bytes = written(&layout);
        let doubled = [bytes.as_slice(), bytes.as_slice()].concat();
        assert!(matches!(
            decode(&doubled, "journal"),
            Err(JournalError::Contradiction { record: 13, .. })
        ));
    }

    #[test]
    fn what_was_appended_is_read_back() {
        let (_dir, layout) = layout();
        written(&layout);
        let entries = read(&layout.journal(1)).expect("readable");
        assert_eq!(entries.len(), events().len());
        assert_eq!(entries[3].n, 3);
        assert_eq!(entries[3].event, started(Step::Unpack));
    }

    #[test]
    fn a_torn_last_record_is_ignored_and_cut_off() {
        let (_dir, layout) = layout();
        let bytes = written(&layout);
        let last_line = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .expect("several lines")
            + 1;
        for cut in last_line..bytes.len() {
            fs::write(layout.journal(1), &bytes[..cut]).expect("written");
            let mut journal = Journal::open(&layout, 1).expect("opened");
            let [whole @ .., last] = &events()[..] else {
                panic!("several records");
            };
            assert_eq!(journal.entries().len(), whole.len(), "cut at {cut}");
            journal
                .append(Timestamp::UNIX_EPOCH, last.clone())
                .expect("appended");
            let read = read(&layout.journal(1)).expect("readable");
            assert_eq!(read.len(), whole.len() + 1);
        }
    }

    #[test]
    fn any_flipped_bit_before_the_last_record_is_refused() {
        let (_dir, layout) = layout();
        let bytes = written(&layout);
        let last_line = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .expect("several lines")
            + 1;
        for position in 0..last_line {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                let read = decode(&damaged, "journal");
                assert!(
                    read.is_err(),
                    "a flip of bit {bit} in byte {position} went unnoticed"
                );
            }
        }
    }

    #[test]
    fn a_journal_of_a_newer_belay_is_refused() {
        let json = r#"{"n":0,"at":"1970-01-01T00:00:00Z","event":"begin","schema":99,"tx":"","seq":1,"what":"","holder":{"what":""},"previous":null,"previous_tag":null,"deadline":{"boot_id":"","ms":0}}"#;
        let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        assert!(matches!(
            decode(line.as_bytes(), "journal"),
            Err(JournalError::Newer { schema: 99, .. })
        ));
    }
}
