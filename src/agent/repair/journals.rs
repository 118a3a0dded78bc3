//! Journals and the plans of open transactions.
//!
//! Runs on the host. Only the journal of a transaction that is not over decides anything. A plan is written before its
//! journal and removed after all else, so that a transaction without one is over, whatever is left of its journal; while
//! it is open there are two of them.

use std::fs;
use std::path::Path;

use super::cut::came_through;
use super::salvage::{Line, lines, records};
use super::{Mender, Mode, is_record};
use crate::journal::{self, JournalError};
use crate::records as files;
use crate::records::RecordError;
use crate::state;
use belay_model::transaction::journal::{BootTime, Event, Output};
use belay_model::transaction::phase::{Next, Phase, Records, next};
use belay_model::transaction::plan::Plan;
use belay_model::transaction::step::Step;

impl Mender<'_> {
    pub(super) fn journals(&mut self) {
        for seq in journal::sequence_numbers(self.layout).unwrap_or_default() {
            self.journal(seq);
        }
        self.lost_journals();
    }

    fn journal(&mut self, seq: u64) {
        let path = self.layout.journal(seq);
        let read = match journal::read(&path) {
            // Only a newer Belay knows what it says.
            Err(JournalError::Newer { .. }) => return,
            Err(JournalError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return;
            }
            read => read,
        };
        match read {
            Ok(entries) if matches!(next(&entries), Next::Closed(_)) => {}
            Ok(entries) => self.open(seq, &path, &entries),
            Err(error) => self.damaged(seq, &path, &error),
        }
    }

    /// The journal of a transaction that does not look over: it has its plan, or it was cut.
    fn open(&mut self, seq: u64, path: &Path, entries: &Records) {
        let has_plan = self.plan_is_there(seq, entries);
        if entries.is_empty() {
            return self.empty(seq, path);
        }
        let has_lost = |step: Step| {
            let lost = Event::Done {
                step,
                output: Output::Nothing,
            };
            entries.iter().any(|entry| entry.event == lost)
        };
        if has_plan && has_lost(Step::Preflight) {
            return self.give_up(seq, path, "has lost what was there before it began");
        }
        if has_plan {
            return;
        }
        if self.layout.displaced(seq).is_dir() && !self.is_published(seq) {
            return self.give_up(seq, path, "has no plan any more, and is not over");
        }
        self.replace(
            path,
            "was cut short after its transaction was over",
            "nothing depends on it any more",
            || Ok(()),
        );
    }

    /// The journal of a transaction that has begun nothing, or one of which nothing is left.
    fn empty(&mut self, seq: u64, path: &Path) {
        if !self.layout.journal_plan(seq).exists() {
            let done = "its transaction is over: nothing depends on it";
            self.replace(path, "is empty", done, || Ok(()));
        } else if self.was_begun(seq) {
            self.give_up(seq, path, "is empty");
        }
    }

    /// Whether a transaction has left more than its plan.
    fn was_begun(&self, seq: u64) -> bool {
        let releases = files::names(&self.layout.releases()).unwrap_or_default();
        self.layout.displaced(seq).is_dir()
            || releases.iter().any(|name| super::seq_in(name) == Some(seq))
    }

    /// Makes sure of the plan of an open transaction, from the copy that was handed over.
    fn plan_is_there(&mut self, seq: u64, entries: &Records) -> bool {
        let path = self.layout.journal_plan(seq);
        let found = match fs::read(&path) {
            Ok(bytes) if is_record::<Plan>(&bytes).is_ok() => return true,
            Ok(_) => "is damaged",
            Err(_) => "is missing",
        };
        let begin = belay_model::transaction::journal::begin(entries);
        let copy = begin.map(|begin| self.layout.incoming_plan(&begin.tx));
        let plan = copy.and_then(|copy| files::read_json::<Plan>(&copy).ok().flatten());
        let Some(plan) = plan else {
            return false;
        };
        self.replace(&path, found, "it was rebuilt from its copy", || {
            files::write_json(&path, &plan)
        });
        true
    }

    fn damaged(&mut self, seq: u64, path: &Path, error: &JournalError) {
        let bytes = fs::read(path).unwrap_or_default();
        let found = lines(&bytes);
        let plan: Option<Plan> = files::read_json(&self.layout.journal_plan(seq))
            .ok()
            .flatten();
        let begin = || Some(self.beginning(seq, plan.as_ref()?));
        let mut salvaged = records(&found, begin);
        if salvaged.is_none() && self.is_published(seq) {
            salvaged = committed(&found, seq, || Some(self.beginning(seq, plan.as_ref()?)));
        }
        let why = match error {
            JournalError::Read { .. } => "cannot be read".to_owned(),
            JournalError::Damaged { record, .. } | JournalError::Contradiction { record, .. } => {
                format!("is damaged in record {record}")
            }
            other => other.to_string(),
        };
        let is_complete = !found.contains(&Line::Lost);
        match salvaged {
            // Of one that is over the gap is no matter, but it would hide how it ended.
            Some(entries) if !entries.is_empty() => {
                let done = match is_complete {
                    true => "it was put right by its checksums",
                    false => "it was rebuilt from its other records",
                };
                self.replace(path, &why, done, || write(path, &entries));
            }
            _ if !self.layout.journal_plan(seq).exists() => {
                self.replace(
                    path,
                    &why,
                    "its transaction is over: nothing depends on it",
                    || Ok(()),
                );
            }
            _ => self.give_up(seq, path, &why),
        }
    }

    /// Nobody can tell any more what a transaction has done: a person has to agree that what runs, and what the records of
    /// what serves say, counts.
    fn give_up(&mut self, seq: u64, path: &Path, found: &str) {
        let found = format!("{found}: it cannot be told what transaction {seq} has still to do");
        if self.mode != Mode::Whole {
            return self.leave(path, &found, crate::records::WAY_ON);
        }
        let mut also = vec![self.layout.displaced(seq)];
        let plan = self.layout.journal_plan(seq);
        if let Some(plan) = files::read_json::<Plan>(&plan).ok().flatten() {
            also.push(self.layout.incoming_plan(&plan.tx));
            also.push(self.layout.staged(&plan.tx));
        }
        also.push(plan);
        self.replace(
            path,
            &found,
            "it was set aside: docker-compose.yml says what is to run, and the next deployment replaces it",
            || Ok(()),
        );
        for path in also {
            if path.exists() {
                self.replace(
                    &path,
                    "belongs to that transaction",
                    "it was set aside",
                    || Ok(()),
                );
            }
        }
    }

    /// Plans whose journal is gone although something was begun.
    fn lost_journals(&mut self) {
        for name in files::names(&self.layout.journals()).unwrap_or_default() {
            let seq = name
                .strip_suffix(".plan.json")
                .and_then(|n| n.parse::<u64>().ok());
            let Some(seq) = seq.filter(|seq| !self.layout.journal(*seq).exists()) else {
                continue;
            };
            // Else it was never begun, and the plan is swept.
            if self.was_begun(seq) {
                let path = self.layout.journal(seq);
                if self.is_published(seq) {
                    let plan = self.layout.journal_plan(seq);
                    self.replace(&plan, "has lost its journal", "its version serves", || {
                        Ok(())
                    });
                } else {
                    self.give_up(seq, &path, "is missing");
                }
            }
        }
    }

    /// Whether the records of what serves say that this transaction came through.
    fn is_published(&self, seq: u64) -> bool {
        came_through(self.layout, seq)
    }

    /// A transaction's first record, made again from its plan.
    fn beginning(&self, seq: u64, plan: &Plan) -> Event {
        let current = state::current(self.layout).ok().flatten();
        let before = current.filter(|current| current.seq != seq);
        // Of no boot: it has passed.
        let passed = BootTime {
            boot_id: String::new(),
            ms: 0,
        };
        state::beginning(plan, seq, before.as_ref(), passed)
    }
}

/// The records of a transaction of which something else says that it was committed.
fn committed(found: &[Line], seq: u64, begin: impl FnOnce() -> Option<Event>) -> Option<Records> {
    let (Line::Lost, before) = found.split_last()? else {
        return None;
    };
    let mut entries = records(before, begin)?;
    let at = entries.last()?.at;
    let is_confirming = matches!(
        entries.phase(),
        Phase::Performing {
            step: Step::Confirm,
            ..
        }
    );
    let is_it = belay_model::transaction::journal::begin(&entries).is_some_and(|b| b.seq == seq);
    let done = Event::Done {
        step: Step::Confirm,
        output: Output::Nothing,
    };
    let n = crate::sizes::wide(entries.len());
    let entry = belay_model::transaction::journal::Entry { n, at, event: done };
    (is_confirming && is_it && entries.push(entry).is_ok()).then_some(entries)
}

fn write(path: &Path, entries: &Records) -> Result<(), RecordError> {
    let mut text = String::new();
    for entry in entries.iter() {
        text.push_str(&journal::encode(entry).map_err(files::write_error(path))?);
    }
    files::write(path, text.as_bytes(), 0o600)
}
