//! The transaction itself: ask the journal what is next, write down that it begins, do it, write down how it went.
//!
//! Runs on the host, detached from whoever started it, holding the lock. It writes nothing but its journal. It may be
//! killed at any moment: [`recover`] then runs the same loop on the journal that is there. When even the journal cannot be
//! written, it stops at once and leaves the rest to the next engine.

use std::time::Duration;

use super::adopt;
use super::down::down_now;
use super::durable;
use super::error::{AgentError, EngineError};
use super::fence::Fence;
use super::fenced::Fenced;
use super::host::{Attentive, Host};
use super::journal::{Journal, JournalError};
use super::keeper::{Keeper, Turn, could_not_keep};
use super::layout::Layout;
use super::lock::HostLock;
use super::meter::{self, Meter};
use super::records;
use super::repair;
use super::state;
use super::steps::keep::{Tries, keep};
use super::steps::{self, StepContext};
use belay_model::transaction::journal::{self, End, Event, Output};
use belay_model::transaction::phase::{Next, next};
use belay_model::transaction::plan::{OverLimit, Plan};
use belay_model::transaction::step::Step;

/// Lines of a failed container's log that are kept.
const FAILED_LOG_LINES: u32 = 100;
/// Bytes of them that go into the journal.
const FAILED_LOG_BYTES: usize = 8 * 1024;
/// How long is waited before an undo, or a step after the commit, is done again because Docker was away or had lost track
/// (a port or a name that is still taken, a network that is not there): no step may take much longer than a deployment's
/// own limits, so this is half a minute in all.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(3),
    Duration::from_secs(9),
    Duration::from_secs(18),
];
/// How long Docker may stay away: an update of its package takes a minute or two.
const DOCKER_PATIENCE_MS: u64 = 5 * 60 * 1000;
/// How often it is looked for meanwhile.
const DOCKER_LOOK: Duration = Duration::from_millis(250);

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Committed or unwound; nothing is left to do.
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
    records::write_json(&layout.journal_plan(seq), plan)?;
    let current = state::current(layout)?;
    let mut journal = Journal::create(layout, seq)?;
    journal.append(
        host.now(),
        state::beginning(
            plan,
            seq,
            current.as_ref(),
            host.boot_time().plus_ms(plan.limits.transaction_ms),
        ),
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
        let lost = repair::lost_records(host, layout, journal.entries());
        journal.guard(Fence::new(layout, lock, seq));
        for event in lost.unwrap_or_default() {
            journal.append(host.now(), event)?;
        }
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
///
/// An engine that was suspended and overtaken ends with an error at whatever it was about to do next, and leaves the journal
/// and the host as they are: they are the newer one's.
pub fn run(
    host: &dyn Host,
    layout: &Layout,
    lock: &HostLock,
    journal: &mut Journal,
    plan: &Plan,
) -> Result<Ending, EngineError> {
    let fence = Fence::new(layout, lock, state::seq_of(journal));
    journal.guard(fence.clone());
    let apart = host.apart();
    let host = &Fenced::new(host, fence.clone());
    let meter = Meter::new(host, plan, journal.entries());
    let mut transaction = RunningEngine {
        host,
        layout,
        plan,
        journal,
        meter,
        lock,
        fence,
        apart,
        keeper: None,
    };
    transaction.carry_through()
}

/// A transaction that an engine works on.
struct RunningEngine<'a> {
    host: &'a dyn Host,
    layout: &'a Layout,
    plan: &'a Plan,
    journal: &'a mut Journal,
    meter: Meter<'a>,
    lock: &'a HostLock,
    fence: Fence,
    /// For the keeper, until it has started.
    apart: Option<Box<dyn Attentive>>,
    keeper: Option<Keeper>,
}

impl RunningEngine<'_> {
    fn carry_through(&mut self) -> Result<Ending, EngineError> {
        loop {
            let decided = next(self.journal.entries());
            if let Next::Closed(end) = decided {
                return Ok(Ending::Ended(end));
            }
            self.host.may_act()?;
            match decided {
                Next::Perform(step) => self.perform(step)?,
                Next::Undo(step) => self.undo(step)?,
                Next::Finish(end) => {
                    self.finish(end)?;
                    state::close(self.layout, self.journal)?;
                }
                Next::Stuck(step) => return Ok(Ending::Stuck(step)),
                Next::Closed(end) => return Ok(Ending::Ended(end)),
            }
        }
    }

    /// Tells what the keeper did last, and has it do nothing more.
    fn end_keeper(&mut self) -> Result<(), JournalError> {
        let told = self.keeper.take().map(|keeper| keeper.turn().told());
        for text in told.into_iter().flatten() {
            self.record(Event::Warning { text })?;
        }
        Ok(())
    }

    /// Nobody says that a version serves without having looked: what was taken away during the last step comes back.
    fn look_once_more(&mut self) -> Result<(), JournalError> {
        let work = StepContext::new(self.host, self.layout, self.plan, self.journal);
        let kept = keep(&work, &mut Tries::default());
        let told = kept.unwrap_or_else(|error| vec![could_not_keep(&error)]);
        for text in told {
            self.record(Event::Warning { text })?;
        }
        Ok(())
    }

    /// Looks at what serves now, and writes the last record.
    fn finish(&mut self, end: End) -> Result<(), EngineError> {
        self.end_keeper()?;
        if end == End::Committed {
            self.look_once_more()?;
        }
        let by_hand = self.brought_back_by_hand()?;
        // Everything that had to be verified has been; what cannot be found out now is not told.
        let down = down_now(self.host, self.layout).unwrap_or_default();
        Ok(self.record(Event::End { end, down, by_hand })?)
    }

    /// The version that somebody brought back meanwhile: it stays.
    fn brought_back_by_hand(&mut self) -> Result<Option<String>, JournalError> {
        // A file of Belay's that cannot be read is found, and told, by the next contact.
        let found = adopt::Found::BesideTransaction;
        let taken = adopt::take_note(self.host, self.layout, self.lock, found).unwrap_or_default();
        let Some(taken) = taken else {
            return Ok(None);
        };
        let tag = taken.release.tag;
        let text = format!("somebody brought {tag} back by hand meanwhile; it stays");
        self.record(Event::Warning { text })?;
        if let Some(error) = taken.incomplete {
            let text = could_not_keep(&error);
            self.record(Event::Warning { text })?;
        }
        Ok(Some(tag))
    }

    fn record(&mut self, event: Event) -> Result<(), JournalError> {
        self.journal.append(self.host.now(), event)
    }

    fn perform(&mut self, step: Step) -> Result<(), EngineError> {
        if let Some(reason) = self.wish_to_stop(step)? {
            return Ok(self.record(Event::Interrupted { reason })?);
        }
        self.begin(step, Event::Started { step })?;
        let go = |work: &mut StepContext<'_>| steps::perform(step, work);
        let done = match step.is_after_commit() {
            // There is no way back from here, so an engine that is away is waited for.
            true => self.patiently(go)?,
            false => self.once(&go)?,
        };
        // A step that failed because this engine was overtaken is no failure of the transaction.
        self.host.may_act()?;
        self.record_measurement(step)?;
        let done = match done {
            Ok(output) => self.within_limits(step)?.map(|()| output),
            failed => failed,
        };
        match done {
            Ok(output) => self.record(Event::Done { step, output })?,
            Err(error) => self.failed(step, error)?,
        }
        Ok(())
    }

    /// Writes down that a step, or its undo, begins. From then on what it works on is its own.
    fn begin(&mut self, step: Step, event: Event) -> Result<(), EngineError> {
        self.start_keeper();
        let at = self.host.now();
        let mut turn = self.keeper.as_ref().map(Keeper::turn);
        for text in turn.iter_mut().flat_map(Turn::told) {
            self.journal.append(at, Event::Warning { text })?;
        }
        self.journal.append(at, event)?;
        drop(turn);
        self.meter.beside(step);
        Ok(())
    }

    /// Once it is known what ran before, something can be kept running.
    fn start_keeper(&mut self) {
        let Some(Output::Preflight(before)) =
            journal::output(self.journal.entries(), Step::Preflight)
        else {
            return;
        };
        if let Some(apart) = self.apart.take() {
            let seq = state::seq_of(self.journal);
            let (plan, project) = (self.plan, &before.project);
            let fence = self.fence.clone();
            self.keeper = Some(Keeper::start(apart, self.layout, plan, seq, project, fence));
        }
    }

    /// Where a step's error becomes words for people.
    fn failed(&mut self, step: Step, error: AgentError) -> Result<(), EngineError> {
        if step.may_touch_the_application() && !step.is_after_commit() {
            self.keep_logs()?;
        }
        let failure = error.into_failure();
        Ok(self.record(Event::Failed { step, failure })?)
    }

    fn undo(&mut self, step: Step) -> Result<(), EngineError> {
        self.begin(step, Event::UndoStarted { step })?;
        let undone = self.patiently(|work| steps::undo(step, work))?;
        self.host.may_act()?;
        self.record_measurement(step)?;
        self.record(match undone {
            Ok(()) => Event::UndoDone { step },
            Err(error) => Event::UndoFailed {
                step,
                failure: error.into_failure(),
            },
        })?;
        Ok(())
    }

    /// One go at a step. The outer error is one of the journal, and ends the engine.
    fn once<T>(
        &mut self,
        go: &impl Fn(&mut StepContext<'_>) -> Result<T, AgentError>,
    ) -> Result<Result<T, AgentError>, EngineError> {
        let mut work = StepContext::new(self.host, self.layout, self.plan, self.journal);
        let done = go(&mut work);
        work.into_result()?;
        Ok(done)
    }

    /// Goes again when the host's Docker was away, or stumbled over what may be over in a moment. What else fails while it is
    /// there has failed.
    fn patiently<T>(
        &mut self,
        go: impl Fn(&mut StepContext<'_>) -> Result<T, AgentError>,
    ) -> Result<Result<T, AgentError>, EngineError> {
        for pause in PAUSES {
            let done = self.once(&go)?;
            match &done {
                // It may be back before it is known that it was away: a Compose written in Python takes a second to say so.
                Err(error) if was_away(self.host) || error.trouble().may_pass() => {
                    self.host.sleep(pause);
                }
                _ => return Ok(done),
            }
        }
        self.once(&go)
    }

    /// Holds what was measured against what belay.yml allows, at the last moment at which there is a way back, and again when
    /// everything is over. The first says so or undoes; the second can only say so.
    fn within_limits(&mut self, step: Step) -> Result<Result<(), AgentError>, JournalError> {
        if step != Step::Bake && step != Step::Retire {
            return Ok(Ok(()));
        }
        match meter::exceeded(self.plan, self.journal.entries()) {
            Some((OverLimit::Fail, text)) if step == Step::Bake => {
                return Ok(Err(AgentError::new(text).next(
                    "see `requests` in belay.yml, and the strategy of each service in the summary",
                )));
            }
            Some((_, text)) if !has_warned(self.journal, &text) => {
                self.record(Event::Warning { text })?;
            }
            Some(_) | None => {}
        }
        Ok(Ok(()))
    }

    fn record_measurement(&mut self, step: Step) -> Result<(), JournalError> {
        match self.meter.read(step) {
            Some(event) => self.record(event),
            None => Ok(()),
        }
    }

    /// Looks for an abort, and for the deadline, before a step that could still be undone.
    fn wish_to_stop(&self, step: Step) -> Result<Option<String>, EngineError> {
        if step.is_after_commit() {
            return Ok(None);
        }
        let seq = state::seq_of(self.journal);
        if let Some(reason) = state::abort_wish(self.layout, seq)? {
            return Ok(Some(reason));
        }
        let now = || self.host.boot_time();
        let passed = journal::begin(self.journal.entries())
            .is_some_and(|begin| step < Step::Confirm && begin.deadline.has_passed(&now()));
        Ok(passed.then(|| "the transaction's deadline passed".to_owned()))
    }

    /// Keeps what the candidate's containers wrote last: in full in a file, shortened in the journal.
    fn keep_logs(&mut self) -> Result<(), EngineError> {
        let dir = self.layout.failed_logs(state::seq_of(self.journal));
        let entries = self.journal.entries();
        let logs = steps::candidate_logs(self.host, self.layout, entries, FAILED_LOG_LINES);
        for (service, text) in logs {
            // Evidence must never keep an unwind from happening: a full disk loses the file, not the rollback.
            let kept = durable::make_dirs(&dir, 0o777).and_then(|()| {
                durable::replace(&dir.join(format!("{service}.log")), text.as_bytes(), 0o600)
            });
            if let Err(error) = kept {
                let text = format!("could not keep the log of {service}: {error}");
                self.record(Event::Note { text })?;
            }
            let text = tail(&text, FAILED_LOG_BYTES).to_owned();
            self.record(Event::Logs { service, text })?;
        }
        Ok(())
    }
}

/// Whether Docker is away now; waits for it to come back.
fn was_away(host: &dyn Host) -> bool {
    let deadline = host.boot_time().plus_ms(DOCKER_PATIENCE_MS);
    let mut away = false;
    while host.may_act().is_ok()
        && host.engine().is_err()
        && !deadline.has_passed(&host.boot_time())
    {
        away = true;
        host.sleep(DOCKER_LOOK);
    }
    away
}

fn has_warned(journal: &Journal, wanted: &str) -> bool {
    let mut entries = journal.entries().iter();
    entries.any(|e| matches!(&e.event, Event::Warning { text } if text == wanted))
}

/// The end of a text, at most so many bytes, from a line's beginning where there is one.
fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let start = text.ceil_char_boundary(text.len() - bytes);
    let end = text.get(start..).unwrap_or_default();
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}
