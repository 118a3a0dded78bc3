//! Belay's files on the host, looked at one by one: what is damaged is set aside, never removed, and made again from what
//! can be trusted.
//!
//! Runs on the host, under the lock, before anything else is done there. What has only one right content (a spare copy, a
//! digest in a record, a checksum in the journal decides which) is made again at each contact. What loses something is
//! done only when a person asks for it ([`whole`]); until then it is told of. An engine that works does not meet this: it
//! has the lock.

mod access;
mod current;
mod cut;
mod journals;
mod releases;
mod salvage;
mod serving;
mod shelf;

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::down::down_now;
use super::durable::{self, is_there};
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::lock::HostLock;
use super::records::{self, RecordError, WAY_ON};
use super::state;
use belay_model::transaction::outcome::with_causes;
use belay_model::transaction::phase::{Next, next};
use belay_wire::{FileFinding, Repaired};

pub use access::make_usable;
pub(crate) use cut::lost_records;
pub use serving::ROLLBACK_SCRIPT;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Only look.
    Look,
    /// Do what has only one right result.
    Safe,
    /// Also what loses something: a person has asked for it.
    Whole,
}

/// What a contact would find, and has not mended. Changes nothing.
#[must_use]
pub fn look(layout: &Layout, now: Timestamp) -> Vec<FileFinding> {
    Mender::new(layout, Mode::Look, now).all()
}

/// Mends what has only one right result, and leaves the rest for a person.
#[must_use]
pub fn safely(layout: &Layout, _lock: &HostLock, now: Timestamp) -> Vec<FileFinding> {
    let found = Mender::new(layout, Mode::Safe, now).all();
    remember(layout, now, &found);
    found
}

/// Mends everything that can be: what a person asks for.
#[must_use]
pub fn whole(layout: &Layout, _lock: &HostLock, now: Timestamp) -> Vec<FileFinding> {
    let found = Mender::new(layout, Mode::Whole, now).all();
    remember(layout, now, &found);
    found
}

/// What was mended the last time that something was.
#[derive(Serialize, Deserialize)]
struct Remembered {
    at: Timestamp,
    files: Vec<FileFinding>,
}

fn remember(layout: &Layout, now: Timestamp, found: &[FileFinding]) {
    let mut files = found.to_vec();
    files.retain(|finding| finding.done.is_some());
    if !files.is_empty() {
        let remembered = Remembered { at: now, files };
        // For people only: what was done is done.
        let _ = records::write_json(&layout.repaired(), &remembered);
    }
}

/// For people: what is not mended, and what was since something else came to serve.
#[must_use]
pub fn told(layout: &Layout, now: Timestamp) -> Vec<FileFinding> {
    let mut told = look(layout, now);
    let remembered: Option<Remembered> = records::read_json(&layout.repaired()).ok().flatten();
    let since = state::current(layout).ok().flatten().map(|c| c.since);
    if let Some(remembered) = remembered.filter(|r| since.is_none_or(|since| r.at >= since)) {
        told.extend(remembered.files);
    }
    told
}

/// What a repair came to, with a look at what runs.
pub(crate) fn report(
    host: &dyn Host,
    layout: &Layout,
    mut files: Vec<FileFinding>,
) -> Result<Repaired, AgentError> {
    // Settling may have led to more.
    let mut left = look(layout, host.now());
    left.retain(|finding| files.iter().all(|known| known.path != finding.path));
    files.extend(left);
    let open = open_transaction(layout);
    Ok(Repaired {
        files,
        down: down_now(host, layout)?,
        serving: state::current(layout)?.map(|current| current.tag),
        open,
        looked_at: access::files(layout).len(),
    })
}

fn open_transaction(layout: &Layout) -> Option<String> {
    match state::open_transactions(layout) {
        Ok(open) => {
            let seq = *open.last()?;
            let entries = super::journal::read(&layout.journal(seq)).ok()?;
            let how = match next(&entries) {
                Next::Stuck(step) => format!("is stuck at {step}"),
                _ => "is not over".to_owned(),
            };
            let begin = belay_model::transaction::journal::begin(&entries);
            let what = begin.map_or("a transaction", |begin| &begin.what);
            Some(format!("{what} ({seq}) {how}"))
        }
        Err(error) => Some(with_causes(&error)),
    }
}

/// What is wrong with a file that has one right content.
enum Held {
    Whole(Vec<u8>),
    Gone,
    Damaged(String),
}

/// Looks at the files, and mends them as far as it may.
struct Mender<'a> {
    layout: &'a Layout,
    mode: Mode,
    now: Timestamp,
    found: Vec<FileFinding>,
}

impl<'a> Mender<'a> {
    fn new(layout: &'a Layout, mode: Mode, now: Timestamp) -> Self {
        Mender {
            layout,
            mode,
            now,
            found: vec![],
        }
    }

    /// What others are found out by comes first: who may read, the numbers, the journals, what serves.
    fn all(mut self) -> Vec<FileFinding> {
        if !self.layout.state().is_dir() {
            return vec![];
        }
        self.access();
        self.numbers();
        self.journals();
        self.releases();
        self.current();
        self.serving();
        self.shelf();
        self.found
    }

    /// Names a file below the application's folder.
    fn named(&self, path: &Path) -> String {
        let below = path.strip_prefix(self.layout.root()).unwrap_or(path);
        below.display().to_string()
    }

    fn tell(
        &mut self,
        path: &Path,
        found: &str,
        done: Option<&str>,
        kept: Option<String>,
        next: Option<&str>,
    ) {
        self.found.push(FileFinding {
            path: self.named(path),
            found: found.to_owned(),
            done: done.map(str::to_owned),
            kept,
            next: next.map(str::to_owned),
        });
    }

    /// Leaves a file to a person.
    fn leave(&mut self, path: &Path, found: &str, next: &str) {
        self.tell(path, found, None, None, Some(next));
    }

    /// Sets a damaged file aside and makes it again. What `make` does is told as `done`.
    fn replace(
        &mut self,
        path: &Path,
        found: &str,
        done: &str,
        make: impl FnOnce() -> Result<(), RecordError>,
    ) {
        if self.mode == Mode::Look {
            return self.tell(path, found, None, None, None);
        }
        let made = self
            .set_aside(path)
            .map_err(records::write_error(path))
            .and_then(|kept| make().map(|()| kept));
        match made {
            Ok(kept) => self.tell(path, found, Some(done), kept, None),
            Err(error) => {
                let found = format!("{found}, and could not be mended: {}", with_causes(&error));
                let owner = format!(
                    "give it to the user that deploys: sudo chown -R USER {}",
                    path.display()
                );
                self.leave(path, &found, &owner);
            }
        }
    }

    /// Does what loses something if a person asks for it, and tells of it else.
    fn replace_if_asked(
        &mut self,
        path: &Path,
        found: &str,
        done: &str,
        make: impl FnOnce() -> Result<(), RecordError>,
    ) {
        match self.mode {
            Mode::Whole => self.replace(path, found, done, make),
            Mode::Look | Mode::Safe => self.leave(path, found, WAY_ON),
        }
    }

    /// Moves a file or a directory where nothing of Belay's looks; tells where. One that is not there is fine.
    fn set_aside(&self, path: &Path) -> io::Result<Option<String>> {
        if !is_there(path) {
            return Ok(None);
        }
        let to = self.place_aside(path)?;
        durable::relocate(path, &to)?;
        Ok(Some(self.named(&to)))
    }

    /// A free name for a damaged file, where they are kept.
    fn place_aside(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        let dir = self.layout.damaged();
        durable::make_dirs(&dir, 0o700)?;
        let name = self.named(path).trim_start_matches('.').replace('/', "_");
        let at = self.now.strftime("%Y%m%d_%H%M%S");
        let names = (1..10_000).map(|n| match n {
            1 => dir.join(format!("{at}-{name}")),
            n => dir.join(format!("{at}-{name}.{n}")),
        });
        let mut free = names.filter(|to| !is_there(to));
        free.next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Holds a file against its spare, and makes each again from the other. `judge` says what is wrong with bytes. Returns
    /// what is right; nothing when neither is.
    fn twin(
        &mut self,
        path: &Path,
        mode: u32,
        judge: &dyn Fn(&[u8]) -> Result<(), String>,
    ) -> Option<Vec<u8>> {
        let spare = self.layout.spare(path)?;
        match (held(path, judge), held(&spare, judge)) {
            (Held::Whole(bytes), Held::Whole(copy)) => {
                if bytes != copy {
                    // A crash between the two: the first one is what counts.
                    self.copy(path, &bytes, mode);
                }
                Some(bytes)
            }
            (Held::Whole(bytes), Held::Gone) => {
                // Of an earlier version, or another crash.
                self.copy(path, &bytes, mode);
                Some(bytes)
            }
            (Held::Whole(bytes), Held::Damaged(why)) => {
                let layout = self.layout;
                self.replace(&spare, &why, "it was copied again", || {
                    records::write_spare(layout, path, &bytes, mode)
                });
                Some(bytes)
            }
            (Held::Gone, Held::Whole(bytes)) => {
                self.restore(path, "is missing", &bytes, mode);
                Some(bytes)
            }
            (Held::Damaged(why), Held::Whole(bytes)) => {
                self.restore(path, &why, &bytes, mode);
                Some(bytes)
            }
            (Held::Gone | Held::Damaged(_), Held::Gone | Held::Damaged(_)) => None,
        }
    }

    fn restore(&mut self, path: &Path, found: &str, bytes: &[u8], mode: u32) {
        self.replace(path, found, "it was rebuilt from its spare copy", || {
            if let Some(dir) = path.parent() {
                records::make_dir(dir)?;
            }
            records::write(path, bytes, mode)
        });
    }

    fn copy(&self, path: &Path, bytes: &[u8], mode: u32) {
        if self.mode != Mode::Look {
            // Without it there is one copy less, until the next contact.
            let _ = records::write_spare(self.layout, path, bytes, mode);
        }
    }

    /// The number of the last transaction: at least that of everything that remembers its own.
    fn numbers(&mut self) {
        let path = self.layout.seq();
        let known = known_numbers(self.layout);
        let newest = known.last().copied().unwrap_or(0);
        let layout = self.layout;
        let write = || records::write(&layout.seq(), format!("{newest}\n").as_bytes(), 0o600);
        let from = "it was made again from the journals and releases";
        match records::seq(layout) {
            Err(_) => self.replace(&path, "is no number", from, write),
            // An open transaction would be taken for one that another has overtaken, for ever.
            Ok(seq) if seq > newest && state::has_plans(layout).unwrap_or(false) => {
                let found = format!("says {seq}, and the last transaction is {newest}");
                self.replace(&path, &found, from, write);
            }
            Ok(seq) if seq < newest => {
                let found = match path.exists() {
                    true => format!("says {seq}, and the last transaction is {newest}"),
                    false => "is missing".to_owned(),
                };
                self.replace(&path, &found, from, write);
            }
            Ok(_) => {}
        }
    }
}

/// Numbers of transactions that left something, in order.
fn known_numbers(layout: &Layout) -> Vec<u64> {
    let mut numbers = super::journal::sequence_numbers(layout).unwrap_or_default();
    for name in records::names(&layout.releases()).unwrap_or_default() {
        numbers.extend(seq_in(&name));
    }
    numbers.sort_unstable();
    numbers
}

/// The number in a release's name.
fn seq_in(release: &str) -> Option<u64> {
    release.split_once('-')?.0.parse().ok()
}

fn held(path: &Path, judge: &dyn Fn(&[u8]) -> Result<(), String>) -> Held {
    match fs::read(path) {
        Ok(bytes) => match judge(&bytes) {
            Ok(()) => Held::Whole(bytes),
            Err(_) if bytes.is_empty() => Held::Damaged("is empty".to_owned()),
            Err(why) => Held::Damaged(why),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Held::Gone,
        Err(error) => Held::Damaged(format!("cannot be read ({error})")),
    }
}

/// Judges a record by its seal and its form.
fn is_record<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(), String> {
    match records::parse::<T>(Path::new("record"), bytes) {
        Ok(_) => Ok(()),
        Err(RecordError::Seal { .. }) => Err("is damaged (its seal does not fit it)".to_owned()),
        Err(_) => Err("is damaged (it is not what Belay writes there)".to_owned()),
    }
}
