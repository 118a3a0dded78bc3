//! The transaction itself: ask the journal what is next, write down that it begins, do it, write down how it went.
//!
//! Runs on the host, detached from whoever started it, holding the lock. It writes nothing but its journal. It may be
//! killed at any moment: [`recover`] then runs the same loop on the journal that is there. When even the journal cannot be
//! written, it stops at once and leaves the rest to the next engine.

use std::fs;
use std::io;

use jiff::Timestamp;

use super::durable;
use super::host::Host;
use super::journal::{Journal, JournalError};
use super::layout::Layout;
use super::lock::HostLock;
use super::state::{self, StateError};
use super::steps::{self, Work};
use crate::model::journal::{Begin, End, Event, Next, next};
use crate::model::outcome::Failure;
use crate::model::plan::Plan;
use crate::model::step::Step;

/// Lines of a failed container's log that are kept.
const FAILED_LOG_LINES: u32 = 100;
/// Bytes of them that go into the journal.
const FAILED_LOG_BYTES: usize = 8 * 1024;

/// Why an engine stopped before its transaction was over. The journal stays open; the next engine goes on with it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("transaction {mine} may not act any more: {newest} has begun")]
    Fenced { mine: u64, newest: u64 },
    #[error("could not {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Ended(End),
    /// A person is needed; the journal stays open.
    Stuck(Step),
}

/// Begins a new transaction: number, plan and first record are on the disk when this returns.
pub fn begin(
    host: &dyn Host,
    layout: &Layout,
    lock: &HostLock,
    plan: &Plan,
) -> Result<Journal, EngineError> {
    let seq = state::next_seq(layout, lock)?;
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| EngineError::Io { what, source }
    };
    let text = serde_json::to_vec(plan)
        .map_err(io::Error::other)
        .map_err(io("write the plan"))?;
    durable::replace(&layout.journal_plan(seq), &text, 0o600).map_err(io("write the plan"))?;
    let current = state::current(layout)?;
    let mut journal = Journal::create(layout, seq)?;
    journal.append(
        host.now(),
        Event::Begin(Box::new(Begin {
            schema: crate::model::journal::SCHEMA,
            tx: plan.tx.clone(),
            seq,
            what: plan.work.describe(),
            holder: plan.holder.clone(),
            previous: current.as_ref().map(|c| c.release.clone()),
            previous_tag: current.map(|c| c.tag),
            deadline: host.boot_time().plus_ms(plan.limits.transaction_ms),
        })),
    )?;
    Ok(journal)
}

/// Goes on with every transaction that is not over, oldest first. Returns what they came to.
///
/// A transaction that was interrupted before its commit point is unwound; one that was interrupted after it is finished.
pub fn recover(
    host: &dyn Host,
    layout: &Layout,
    lock: &HostLock,
    why: &str,
) -> Result<Vec<Ending>, EngineError> {
    let mut endings = vec![];
    for seq in state::open_transactions(layout)? {
        let mut journal = Journal::open(layout, seq)?;
        if journal.entries().is_empty() {
            // It crashed before its first record: nothing was done.
            state::discard_journal(layout, seq)?;
            continue;
        }
        let plan = state::plan(layout, seq)?;
        journal.append(
            host.now(),
            Event::Interrupted {
                reason: why.to_owned(),
            },
        )?;
        endings.push(run(host, layout, lock, &mut journal, &plan)?);
    }
    state::sweep(layout)?;
    Ok(endings)
}

/// Runs a transaction to its end.
pub fn run(
    host: &dyn Host,
    layout: &Layout,
    lock: &HostLock,
    journal: &mut Journal,
    plan: &Plan,
) -> Result<Ending, EngineError> {
    loop {
        let decided = next(journal.entries());
        if let Next::Closed(end) = decided {
            return Ok(Ending::Ended(end));
        }
        fence(layout, lock, journal)?;
        match decided {
            Next::Perform(step) => perform(host, layout, journal, plan, step)?,
            Next::Undo(step) => undo(host, layout, journal, plan, step)?,
            Next::Finish(end) => {
                journal.append(host.now(), Event::End { end })?;
                state::close(layout, journal)?;
            }
            Next::Stuck(step) => return Ok(Ending::Stuck(step)),
            Next::Closed(end) => return Ok(Ending::Ended(end)),
        }
    }
}

/// An engine that was stopped and woken after a newer transaction began must not act.
fn fence(layout: &Layout, _lock: &HostLock, journal: &Journal) -> Result<(), EngineError> {
    let mine = state::seq_of(journal);
    let newest = state::seq(layout)?;
    if newest > mine {
        Err(EngineError::Fenced { mine, newest })
    } else {
        Ok(())
    }
}

fn perform(
    host: &dyn Host,
    layout: &Layout,
    journal: &mut Journal,
    plan: &Plan,
    step: Step,
) -> Result<(), EngineError> {
    if let Some(reason) = wish_to_stop(host, layout, journal, step)? {
        journal.append(host.now(), Event::Interrupted { reason })?;
        return Ok(());
    }
    journal.append(host.now(), Event::Started { step })?;
    let mut work = Work::new(host, layout, plan, journal);
    let done = steps::perform(step, &mut work);
    work.into_result()?;
    match done {
        Ok(output) => journal.append(host.now(), Event::Done { step, output })?,
        Err(failure) => {
            if step.may_touch_the_application() && !step.is_after_commit() {
                keep_logs(host, layout, journal)?;
            }
            journal.append(host.now(), Event::Failed { step, failure })?;
        }
    }
    Ok(())
}

fn undo(
    host: &dyn Host,
    layout: &Layout,
    journal: &mut Journal,
    plan: &Plan,
    step: Step,
) -> Result<(), EngineError> {
    journal.append(host.now(), Event::UndoStarted { step })?;
    let mut work = Work::new(host, layout, plan, journal);
    let undone = steps::undo(step, &mut work);
    work.into_result()?;
    match undone {
        Ok(()) => journal.append(host.now(), Event::UndoDone { step })?,
        Err(failure) => journal.append(host.now(), Event::UndoFailed { step, failure })?,
    }
    Ok(())
}

/// Looks for an abort, and for the deadline, before a step that could still be undone.
fn wish_to_stop(
    host: &dyn Host,
    layout: &Layout,
    journal: &Journal,
    step: Step,
) -> Result<Option<String>, EngineError> {
    if step.is_after_commit() {
        return Ok(None);
    }
    let seq = state::seq_of(journal);
    if let Some(reason) = state::abort_wish(layout, seq)? {
        return Ok(Some(reason));
    }
    let passed = crate::model::journal::begin(journal.entries())
        .is_some_and(|begin| step < Step::Confirm && begin.deadline.has_passed(&host.boot_time()));
    Ok(passed.then(|| "the transaction's deadline passed".to_owned()))
}

/// Keeps what the candidate's containers wrote last: in full in a file, shortened in the journal.
fn keep_logs(host: &dyn Host, layout: &Layout, journal: &mut Journal) -> Result<(), EngineError> {
    let seq = state::seq_of(journal);
    for (service, text) in steps::candidate_logs(host, layout, journal.entries(), FAILED_LOG_LINES)
    {
        let dir = layout.failed_logs(seq);
        // Evidence must never keep an unwind from happening: a full disk loses the file, not the rollback.
        let kept = fs::create_dir_all(&dir).and_then(|()| {
            durable::replace(&dir.join(format!("{service}.log")), text.as_bytes(), 0o600)
        });
        if let Err(error) = kept {
            note(
                journal,
                host.now(),
                format!("could not keep the log of {service}: {error}"),
            )?;
        }
        let text = tail(&text, FAILED_LOG_BYTES).to_owned();
        journal.append(host.now(), Event::Logs { service, text })?;
    }
    Ok(())
}

fn note(journal: &mut Journal, at: Timestamp, text: String) -> Result<(), JournalError> {
    journal.append(at, Event::Note { text })
}

/// The end of a text, at most so many bytes, from a line's beginning where there is one.
fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let mut start = text.len() - bytes;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    match text[start..].find('\n') {
        Some(newline) => &text[start + newline + 1..],
        None => &text[start..],
    }
}

/// A failure of a step, from an error and what was being done.
pub fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    let cause = Failure::of(error).error;
    Failure::new(format!("{what}: {cause}"))
}
