//! What a transaction has come to by its journal, and which record may follow.
//!
//! A transaction is a saga: it goes forward step by step, or back the same way. [`Phase::after`] is the only place that
//! says where a record leads. One that cannot follow is refused with its reason, because a journal that contradicts itself
//! does not say what the host is like.

use std::fmt;
use std::ops::Deref;

use super::journal::{End, Entry, Event};
use super::step::Step;

/// Times that a step after the commit point is tried before the transaction is left to the next contact.
const TRIES_AFTER_COMMIT: u8 = 3;

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not one record is there.
    Empty,
    /// Every step before this one is over, and it has not begun or is to be tried again.
    Ready {
        /// What to perform next.
        step: Step,
        /// Times that it failed since the last interruption; counted after the commit only.
        failures: u8,
    },
    /// A step was begun.
    Performing {
        /// What is performed.
        step: Step,
        /// As in [`Phase::Ready`].
        failures: u8,
    },
    /// A step after the commit failed too often: a person is needed.
    Exhausted(Step),
    /// Every step is over; only the last record is missing.
    Performed,
    /// The way back: this step is the last one that was begun and is not undone.
    Unwinding(Step),
    /// An undo was begun.
    Undoing(Step),
    /// This step could not be undone: a person is needed.
    UndoFailed(Step),
    /// Every step that was begun is undone; only the last record is missing.
    Undone,
    /// The transaction is over.
    Closed(End),
}

/// What an engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Perform this step.
    Perform(Step),
    /// Undo this step.
    Undo(Step),
    /// Write the last record.
    Finish(End),
    /// This step could not be undone (or not be finished after the commit): a person is needed.
    Stuck(Step),
    /// Nothing: the transaction is over.
    Closed(End),
}

/// Why a record cannot follow those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotFollow {
    /// The first record is another one.
    #[error("it does not start with its first record")]
    NoBeginning,
    /// There are two first records.
    #[error("it begins a second time")]
    SecondBeginning,
    /// Something was written after the last record.
    #[error("it goes on after its end")]
    AfterTheEnd,
    /// A step was begun before its turn, a second time, or on the way back.
    #[error("{step} was started {phase}")]
    NotItsTurn {
        /// The step that was begun.
        step: Step,
        /// Where the transaction was.
        phase: Phase,
    },
    /// A step ended which had not begun.
    #[error("{step} ended {phase}")]
    NotPerforming {
        /// The step that ended.
        step: Step,
        /// Where the transaction was.
        phase: Phase,
    },
    /// An undo was begun before its turn, or on the way forward.
    #[error("the undo of {step} was started {phase}")]
    NotToBeUndone {
        /// The step whose undo was begun.
        step: Step,
        /// Where the transaction was.
        phase: Phase,
    },
    /// An undo ended which had not begun.
    #[error("the undo of {step} ended {phase}")]
    NotUndoing {
        /// The step whose undo ended.
        step: Step,
        /// Where the transaction was.
        phase: Phase,
    },
    /// The confirmation was put off at a time at which nobody waits for one.
    #[error("the confirmation was put off {0}")]
    NotConfirming(Phase),
    /// The last record came too early, or is the wrong one.
    #[error("it ended as {end} {phase}")]
    NotOver {
        /// What it says.
        end: End,
        /// Where the transaction was.
        phase: Phase,
    },
}

impl Phase {
    /// What a whole journal comes to.
    pub fn of(entries: &[Entry]) -> Result<Phase, CannotFollow> {
        let mut entries = entries.iter();
        entries.try_fold(Phase::Empty, |phase, entry| phase.after(&entry.event))
    }

    /// Where a record leads.
    pub fn after(self, event: &Event) -> Result<Phase, CannotFollow> {
        self.leads_to(event).ok_or_else(|| self.refusal(event))
    }

    fn leads_to(self, event: &Event) -> Option<Phase> {
        let is = |step: &Step, wanted: Step| *step == wanted;
        match (self, event) {
            (Phase::Empty, Event::Begin(_)) => Some(Phase::ready(Step::Preflight)),
            (Phase::Empty | Phase::Closed(_), _) | (_, Event::Begin(_)) => None,
            (Phase::Ready { step, failures }, Event::Started { step: s }) if is(s, step) => {
                Some(Phase::Performing { step, failures })
            }
            (Phase::Performing { step, .. }, Event::Done { step: s, .. }) if is(s, step) => {
                Some(Phase::past(step))
            }
            (Phase::Performing { step, failures }, Event::Failed { step: s, .. })
                if is(s, step) =>
            {
                Some(Phase::failed(step, failures))
            }
            (Phase::Unwinding(step), Event::UndoStarted { step: s }) if is(s, step) => {
                Some(Phase::Undoing(step))
            }
            (Phase::Undoing(step), Event::UndoDone { step: s }) if is(s, step) => {
                Some(Phase::before(step))
            }
            (Phase::Undoing(step), Event::UndoFailed { step: s, .. }) if is(s, step) => {
                Some(Phase::UndoFailed(step))
            }
            (_, Event::End { end, .. }) if self.next() == Next::Finish(*end) => {
                Some(Phase::Closed(*end))
            }
            (_, Event::Interrupted { .. }) => Some(self.interrupted()),
            // Words for people, counts, and a later time to confirm: they lead nowhere else.
            (
                Phase::Performing {
                    step: Step::Confirm,
                    ..
                },
                Event::Extended { .. },
            )
            | (
                _,
                Event::Note { .. }
                | Event::Warning { .. }
                | Event::Logs { .. }
                | Event::Measured { .. },
            ) => Some(self),
            _ => None,
        }
    }

    /// Why a record leads nowhere.
    fn refusal(self, event: &Event) -> CannotFollow {
        let phase = self;
        match (self, event) {
            (Phase::Empty, _) => CannotFollow::NoBeginning,
            (_, Event::Begin(_)) => CannotFollow::SecondBeginning,
            // The others are taken in every phase but the first and the last.
            (Phase::Closed(_), _)
            | (
                _,
                Event::Interrupted { .. }
                | Event::Note { .. }
                | Event::Warning { .. }
                | Event::Logs { .. }
                | Event::Measured { .. },
            ) => CannotFollow::AfterTheEnd,
            (_, &Event::Started { step }) => CannotFollow::NotItsTurn { step, phase },
            (_, &Event::Done { step, .. } | &Event::Failed { step, .. }) => {
                CannotFollow::NotPerforming { step, phase }
            }
            (_, &Event::UndoStarted { step }) => CannotFollow::NotToBeUndone { step, phase },
            (_, &Event::UndoDone { step } | &Event::UndoFailed { step, .. }) => {
                CannotFollow::NotUndoing { step, phase }
            }
            (_, Event::Extended { .. }) => CannotFollow::NotConfirming(phase),
            (_, &Event::End { end, .. }) => CannotFollow::NotOver { end, phase },
        }
    }

    fn ready(step: Step) -> Phase {
        Phase::Ready { step, failures: 0 }
    }

    /// After a step that is over.
    fn past(step: Step) -> Phase {
        step.following().map_or(Phase::Performed, Phase::ready)
    }

    /// On the way back, after this step is undone.
    fn before(step: Step) -> Phase {
        step.preceding().map_or(Phase::Undone, Phase::Unwinding)
    }

    /// Before the commit a failure turns the transaction round. After it there is no way back: tidying may fail, and the rest
    /// is tried again.
    fn failed(step: Step, failures: u8) -> Phase {
        if !step.is_after_commit() {
            return Phase::Unwinding(step);
        }
        if step.is_tidying() {
            return Phase::past(step);
        }
        match failures + 1 {
            TRIES_AFTER_COMMIT.. => Phase::Exhausted(step),
            failures => Phase::Ready { step, failures },
        }
    }

    /// A crash or an abort unwinds what is not committed, and gives what got stuck another try.
    fn interrupted(self) -> Phase {
        match self {
            Phase::Ready { step, .. } | Phase::Performing { step, .. }
                if step.is_after_commit() =>
            {
                Phase::ready(step)
            }
            Phase::Exhausted(step) => Phase::ready(step),
            Phase::Ready { step, .. } => Phase::before(step),
            Phase::Performing { step, .. }
            | Phase::Unwinding(step)
            | Phase::Undoing(step)
            | Phase::UndoFailed(step) => Phase::Unwinding(step),
            Phase::Empty | Phase::Performed | Phase::Undone | Phase::Closed(_) => self,
        }
    }

    /// Decides what follows.
    ///
    /// Before the `Done` of Confirm, any failure or interruption undoes every step that was begun, last one first. After it
    /// the transaction is only ever finished.
    #[must_use]
    pub fn next(self) -> Next {
        match self {
            Phase::Empty => Next::Perform(Step::Preflight),
            // One that was begun and not ended is done again: the record of its end may be what was lost.
            Phase::Ready { step, .. } | Phase::Performing { step, .. } => Next::Perform(step),
            Phase::Unwinding(step) | Phase::Undoing(step) => Next::Undo(step),
            Phase::Exhausted(step) | Phase::UndoFailed(step) => Next::Stuck(step),
            Phase::Performed => Next::Finish(End::Committed),
            Phase::Undone => Next::Finish(End::Unwound),
            Phase::Closed(end) => Next::Closed(end),
        }
    }
}

/// As the end of a sentence about a record that came then.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Phase::Empty => f.write_str("before anything began"),
            Phase::Ready { step, .. } => write!(f, "when {step} was next"),
            Phase::Performing { step, .. } => write!(f, "during {step}"),
            Phase::Exhausted(step) => write!(f, "after {step} had failed too often"),
            Phase::Performed => f.write_str("after the last step"),
            Phase::Unwinding(step) => write!(f, "when the undo of {step} was next"),
            Phase::Undoing(step) => write!(f, "during the undo of {step}"),
            Phase::UndoFailed(step) => write!(f, "after the undo of {step} had failed"),
            Phase::Undone => f.write_str("after the last undo"),
            Phase::Closed(end) => write!(f, "after it was {end}"),
        }
    }
}

/// The records of one transaction, of which each can follow those before it. Nothing else can be made of them than what
/// [`next`] says, and reading them as a slice is free.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    entries: Vec<Entry>,
    phase: Phase,
}

impl Default for Records {
    fn default() -> Self {
        Records {
            entries: vec![],
            phase: Phase::Empty,
        }
    }
}

impl Records {
    /// Whether a record could come next.
    pub fn check(&self, event: &Event) -> Result<(), CannotFollow> {
        self.phase.after(event).map(drop)
    }

    /// Takes the next record in, or leaves everything as it is.
    pub fn push(&mut self, entry: Entry) -> Result<(), CannotFollow> {
        self.phase = self.phase.after(&entry.event)?;
        self.entries.push(entry);
        Ok(())
    }

    /// What they come to.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }
}

impl Deref for Records {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.entries
    }
}

/// Decides what an engine does next.
#[must_use]
pub fn next(records: &Records) -> Next {
    records.phase.next()
}

#[cfg(test)]
#[path = "phase_tests.rs"]
mod tests;
