//! What a transaction wrote down, and what follows from it.
//!
//! [`next`] is the only place that decides what an engine does: a first run, a recovery after a crash and an unwind are
//! the same loop over it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::{Failure, StrategyReport};
use super::step::Step;
use crate::composition::data::Restoration;
use crate::judgement::health::Verdict;
use crate::judgement::measure::Measured;
use crate::replacement::moves::Moves;
use crate::versions::release::ReleaseName;
use crate::versions::retention::Removal;

/// The version of the journal's format. An agent refuses a journal with a higher one.
pub const SCHEMA: u32 = 2;

/// Times that a step after the commit point is tried before the transaction is left to the next contact.
const TRIES_AFTER_COMMIT: usize = 3;

/// The longest that a host waits for a confirmation that is put off, in milliseconds. One that belay.yml makes longer stays
/// as long as it is.
pub const MOST_CONFIRM_MS: u64 = 600_000;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0.
    pub n: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The transaction exists. Always the first record.
    Begin(Box<Begin>),
    Started {
        step: Step,
    },
    Done {
        step: Step,
        output: Output,
    },
    Failed {
        step: Step,
        failure: Failure,
    },
    /// Something stopped the transaction from outside: a crash, an abort, a deadline.
    Interrupted {
        reason: String,
    },
    UndoStarted {
        step: Step,
    },
    UndoDone {
        step: Step,
    },
    UndoFailed {
        step: Step,
        failure: Failure,
    },
    /// Progress, for people.
    Note {
        text: String,
    },
    /// Something that a person should know although the transaction goes on.
    Warning {
        text: String,
    },
    /// The last container logs of a service that failed.
    Logs {
        service: String,
        text: String,
    },
    /// What became of the requests that were asked beside this step.
    Measured {
        step: Step,
        measured: Measured,
    },
    /// Somebody asked for more time to confirm: the host waits until `confirm_by`, which is so many milliseconds from now.
    Extended {
        confirm_by: BootTime,
        ms: u64,
    },
    End {
        end: End,
    },
}

/// Who and what a transaction is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    pub schema: u32,
    pub tx: String,
    pub seq: u64,
    /// What was asked for, in words: `deploy v1.2.0`.
    pub what: String,
    pub holder: Holder,
    /// What served when it began.
    pub previous: Option<ReleaseName>,
    pub previous_tag: Option<String>,
    /// When it unwinds by itself unless it is confirmed: a time on the host's boot clock.
    pub deadline: BootTime,
}

/// A time on the clock that counts from the host's start. One of another boot has always passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    pub boot_id: String,
    pub ms: u64,
}

impl BootTime {
    pub fn has_passed(&self, now: &BootTime) -> bool {
        self.boot_id != now.boot_id || now.ms >= self.ms
    }

    pub fn plus_ms(&self, ms: u64) -> BootTime {
        BootTime {
            boot_id: self.boot_id.clone(),
            ms: self.ms.saturating_add(ms),
        }
    }
}

/// Who runs a transaction, for whoever has to wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `deploy v1.2.0`.
    pub what: String,
    pub run_url: Option<String>,
    pub actor: Option<String>,
    /// Filled in by the host when the lock is taken.
    pub since: Option<Timestamp>,
    pub pid: Option<u32>,
}

impl Holder {
    /// The failure of whoever finds the host busy: who has it, and since when, as far as that is known.
    pub fn busy(holder: Option<&Holder>) -> Failure {
        let who = holder.map_or_else(|| "somebody".to_owned(), Holder::describe);
        Failure::new(format!("the host is busy: {who}"))
            .host("that transaction goes on; nothing of this one was begun")
            .next("run again when it has ended, or raise lock-wait")
    }

    fn describe(&self) -> String {
        let mut text = self.what.clone();
        if let Some(actor) = &self.actor {
            text.push_str(&format!(" by {actor}"));
        }
        if let Some(since) = self.since {
            text.push_str(&format!(", since {since}"));
        }
        if let Some(url) = &self.run_url {
            text.push_str(&format!(", {url}"));
        }
        text
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Committed,
    Unwound,
}

/// What a step found or made, for the steps after it and for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Output {
    Nothing,
    Preflight(Box<PreflightOutput>),
    Unpacked {
        release: ReleaseName,
        services: Vec<String>,
    },
    Fetched {
        images: Vec<FetchedImage>,
        strategies: Vec<StrategyReport>,
        #[serde(default)]
        moves: Moves,
    },
    BackedUp {
        name: String,
        bytes: u64,
        path: String,
    },
    Migrated {
        services: Vec<String>,
    },
    Restored {
        backup: String,
        /// Which volumes and bind mounts, in words.
        sources: Vec<String>,
        /// The backup that holds what was there before.
        safety: String,
    },
    Started {
        services: Vec<String>,
    },
    Probed {
        /// From the beginning of the step, in milliseconds.
        healthy_after_ms: u64,
        samples: u32,
    },
    CutOver {
        services: Vec<String>,
        removed: Vec<String>,
    },
    Baked(Baked),
    Confirmed {
        by: ConfirmedBy,
    },
    Pruned {
        removed: Vec<Removal>,
    },
}

/// What Preflight saw; undo goes back to exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreflightOutput {
    pub project: String,
    /// The release to go to, when the transaction is a rollback.
    pub target: Option<ReleaseName>,
    /// The data to put back, when the transaction is a rollback that asks for it.
    #[serde(default)]
    pub restoration: Option<Restoration>,
    /// Services that ran.
    pub running: Vec<String>,
    /// Every container of the project: the others are the transaction's own.
    #[serde(default)]
    pub before: Vec<KnownContainer>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
    pub images: Vec<String>,
    pub free_bytes: u64,
    pub backup_estimate_bytes: u64,
}

/// A container that was there when a transaction began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownContainer {
    pub id: String,
    pub service: String,
    pub ran: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchedImage {
    pub service: String,
    pub reference: String,
    /// The image's identity: the digest of its config.
    pub id: String,
    /// The digests of its unpacked layers, the lowest one first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// What the host's engine calls it; the same as `id` in journals of older versions.
    #[serde(default)]
    pub engine_id: String,
    pub pin: String,
    /// Its layers when unpacked, in bytes.
    pub size: u64,
    /// Paths that the image declares to hold data.
    #[serde(default)]
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baked {
    pub verdict: Verdict,
    /// From the cutover to the first good answer, in milliseconds.
    pub startup_ms: u64,
    pub samples: u32,
    /// By when the runner must confirm, unless it asks for more time.
    pub confirm_by: BootTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmedBy {
    Runner,
    /// The transaction was started on the host itself, where nobody can lose sight of it.
    Host,
}

/// What an engine does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Perform(Step),
    Undo(Step),
    Finish(End),
    /// This step could not be undone (or not be finished after the commit): a person is needed.
    Stuck(Step),
    Closed(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepState {
    Untouched,
    Started,
    Done,
    Failed,
    Undone,
    UndoFailed,
}

/// A journal, read back: the state of each step.
struct Folded {
    steps: [StepState; Step::ALL.len()],
    unwinding: bool,
    /// Of each step after the commit, since the last interruption.
    failures: [usize; Step::ALL.len()],
    end: Option<End>,
}

fn fold(entries: &[Entry]) -> Folded {
    let mut folded = Folded {
        steps: [StepState::Untouched; Step::ALL.len()],
        unwinding: false,
        failures: [0; Step::ALL.len()],
        end: None,
    };
    for entry in entries {
        match &entry.event {
            Event::Started { step } => folded.set(*step, StepState::Started),
            Event::Done { step, .. } => folded.set(*step, StepState::Done),
            Event::Failed { step, .. } => folded.failed(*step),
            Event::Interrupted { .. } => folded.interrupted(),
            Event::UndoStarted { step } => folded.set(*step, StepState::Started),
            Event::UndoDone { step } => folded.set(*step, StepState::Undone),
            Event::UndoFailed { step, .. } => folded.set(*step, StepState::UndoFailed),
            Event::End { end } => folded.end = Some(*end),
            Event::Begin(_)
            | Event::Note { .. }
            | Event::Warning { .. }
            | Event::Logs { .. }
            | Event::Extended { .. }
            | Event::Measured { .. } => {}
        }
    }
    folded
}

impl Folded {
    fn get(&self, step: Step) -> StepState {
        self.steps[step as usize]
    }

    fn set(&mut self, step: Step, state: StepState) {
        self.steps[step as usize] = state;
    }

    fn committed(&self) -> bool {
        self.get(Step::Confirm) == StepState::Done
    }

    fn failed(&mut self, step: Step) {
        self.set(step, StepState::Failed);
        if !step.is_after_commit() {
            self.unwinding = true;
        } else {
            self.failures[step as usize] += 1;
        }
    }

    /// A crash or an abort unwinds what is not committed, and gives what got stuck another try.
    fn interrupted(&mut self) {
        self.failures = [0; Step::ALL.len()];
        if !self.committed() {
            self.unwinding = true;
        }
        for state in &mut self.steps {
            if *state == StepState::UndoFailed {
                *state = StepState::Started;
            }
        }
    }

    fn next_undo(&self) -> Next {
        for step in Step::ALL.into_iter().rev() {
            match self.get(step) {
                StepState::Untouched | StepState::Undone => {}
                StepState::UndoFailed => return Next::Stuck(step),
                StepState::Started | StepState::Done | StepState::Failed => {
                    return Next::Undo(step);
                }
            }
        }
        Next::Finish(End::Unwound)
    }

    fn next_perform(&self) -> Next {
        for step in Step::ALL {
            match self.get(step) {
                StepState::Done => {}
                StepState::Failed if step.is_tidying() => {}
                StepState::Failed if self.failures[step as usize] >= TRIES_AFTER_COMMIT => {
                    return Next::Stuck(step);
                }
                StepState::Untouched
                | StepState::Started
                | StepState::Failed
                | StepState::Undone
                | StepState::UndoFailed => return Next::Perform(step),
            }
        }
        Next::Finish(End::Committed)
    }
}

/// Decides what follows from a journal.
///
/// Before the `Done` of Confirm, any failure or interruption undoes every step that was begun, last one first. After it
/// the transaction is only ever finished.
pub fn next(entries: &[Entry]) -> Next {
    let folded = fold(entries);
    match folded.end {
        Some(end) => Next::Closed(end),
        None if folded.unwinding => folded.next_undo(),
        None => folded.next_perform(),
    }
}

/// Whether the commit point was reached: from there on the new version stays.
pub fn is_committed(entries: &[Entry]) -> bool {
    fold(entries).committed()
}

/// Whether a step that may change what serves was ever begun.
pub fn touched_the_application(entries: &[Entry]) -> bool {
    entries
        .iter()
        .any(|e| matches!(&e.event, Event::Started { step } if step.may_touch_the_application()))
}

/// By when a transaction that was baked must be confirmed.
pub fn confirm_by(entries: &[Entry]) -> Option<&BootTime> {
    let extended = entries.iter().rev().find_map(|e| match &e.event {
        Event::Extended { confirm_by, .. } => Some(confirm_by),
        _ => None,
    });
    extended.or(match output(entries, Step::Bake) {
        Some(Output::Baked(baked)) => Some(&baked.confirm_by),
        _ => None,
    })
}

/// The same when it is extended by so many milliseconds from `now`: never earlier than it was, and never later than the
/// host may wait in all.
pub fn extended(entries: &[Entry], now: &BootTime, ms: u64, within_ms: u64) -> Option<BootTime> {
    let Some(Output::Baked(baked)) = output(entries, Step::Bake) else {
        return None;
    };
    let more = MOST_CONFIRM_MS.saturating_sub(within_ms);
    let latest = baked.confirm_by.plus_ms(more).ms;
    let wished = now.plus_ms(ms).ms.min(latest);
    let until = confirm_by(entries)?;
    (wished > until.ms).then(|| BootTime {
        boot_id: until.boot_id.clone(),
        ms: wished,
    })
}

/// The first record's content.
pub fn begin(entries: &[Entry]) -> Option<&Begin> {
    match entries.first().map(|e| &e.event) {
        Some(Event::Begin(begin)) => Some(begin),
        _ => None,
    }
}

/// The output of a step that is done.
pub fn output(entries: &[Entry], wanted: Step) -> Option<&Output> {
    entries.iter().rev().find_map(|e| match &e.event {
        Event::Done { step, output } if *step == wanted => Some(output),
        _ => None,
    })
}

/// What became of all requests that were asked beside the transaction; `None` when none was.
pub fn measured(entries: &[Entry]) -> Option<Measured> {
    let stretches = entries.iter().filter_map(|e| match &e.event {
        Event::Measured { measured, .. } => Some(measured),
        _ => None,
    });
    stretches.fold(None, |all: Option<Measured>, stretch| {
        let mut all = all.unwrap_or_default();
        all.add(stretch);
        Some(all)
    })
}

/// What made the transaction unwind: the first failure or interruption.
pub fn cause(entries: &[Entry]) -> Option<(Option<Step>, Failure)> {
    entries.iter().find_map(|e| match &e.event {
        Event::Failed { step, failure } if !step.is_after_commit() => {
            Some((Some(*step), failure.clone()))
        }
        Event::Interrupted { reason } => Some((None, Failure::new(reason.clone()))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(events: Vec<Event>) -> Vec<Entry> {
        events
            .into_iter()
            .enumerate()
            .map(|(n, event)| Entry {
                n: n as u64,
                at: Timestamp::UNIX_EPOCH,
                event,
            })
            .collect()
    }

    fn done(step: Step) -> Event {
        Event::Done {
            step,
            output: Output::Nothing,
        }
    }

    fn done_until(last: Step) -> Vec<Event> {
        Step::ALL
            .into_iter()
            .filter(|s| *s <= last)
            .flat_map(|step| [Event::Started { step }, done(step)])
            .collect()
    }

    fn failed(step: Step) -> Event {
        Event::Failed {
            step,
            failure: Failure::new("it broke"),
        }
    }

    #[test]
    fn steps_follow_each_other_to_the_end() {
        assert_eq!(next(&[]), Next::Perform(Step::Preflight));
        for pair in Step::ALL.windows(2) {
            assert_eq!(next(&journal(done_until(pair[0]))), Next::Perform(pair[1]));
        }
        assert_eq!(
            next(&journal(done_until(Step::Prune))),
            Next::Finish(End::Committed)
        );
    }

    #[test]
    fn a_failure_before_the_commit_undoes_every_begun_step_in_reverse() {
        for step in Step::ALL.into_iter().filter(|s| !s.is_after_commit()) {
            let mut events: Vec<Event> = done_until(step);
            events.pop();
            events.push(failed(step));
            let mut undone = vec![];
            while let Next::Undo(step) = next(&journal(events.clone())) {
                undone.push(step);
                events.push(Event::UndoStarted { step });
                events.push(Event::UndoDone { step });
            }
            let mut expected: Vec<Step> = Step::ALL.into_iter().filter(|s| *s <= step).collect();
            expected.reverse();
            assert_eq!(undone, expected);
            assert_eq!(next(&journal(events)), Next::Finish(End::Unwound));
        }
    }

    #[test]
    fn an_interruption_after_the_commit_only_finishes() {
        let mut events = done_until(Step::Confirm);
        events.push(Event::Started {
            step: Step::Publish,
        });
        events.push(Event::Interrupted {
            reason: "the agent was gone".to_owned(),
        });
        assert_eq!(next(&journal(events)), Next::Perform(Step::Publish));
    }

    #[test]
    fn an_interruption_before_the_commit_unwinds_even_when_confirm_had_started() {
        let mut events = done_until(Step::Bake);
        events.push(Event::Started {
            step: Step::Confirm,
        });
        events.push(Event::Interrupted {
            reason: "the agent was gone".to_owned(),
        });
        assert_eq!(next(&journal(events)), Next::Undo(Step::Confirm));
    }

    #[test]
    fn an_undo_that_fails_is_stuck_until_somebody_comes_back() {
        let mut events = done_until(Step::Cutover);
        events.push(failed(Step::Bake));
        events.push(Event::UndoStarted { step: Step::Bake });
        events.push(Event::UndoFailed {
            step: Step::Bake,
            failure: Failure::new("no disk"),
        });
        assert_eq!(next(&journal(events.clone())), Next::Stuck(Step::Bake));
        events.push(Event::Interrupted {
            reason: "a new contact".to_owned(),
        });
        assert_eq!(next(&journal(events)), Next::Undo(Step::Bake));
    }

    #[test]
    fn publishing_is_tried_again_and_then_a_person_is_asked() {
        let mut events = done_until(Step::Confirm);
        for _ in 0..2 {
            events.push(Event::Started {
                step: Step::Publish,
            });
            events.push(failed(Step::Publish));
            assert_eq!(next(&journal(events.clone())), Next::Perform(Step::Publish));
        }
        events.push(failed(Step::Publish));
        assert_eq!(next(&journal(events)), Next::Stuck(Step::Publish));
    }

    #[test]
    fn tidying_up_that_fails_never_stops_a_committed_transaction() {
        let mut events = done_until(Step::Publish);
        events.extend([failed(Step::Drain), done(Step::Retire), failed(Step::Prune)]);
        assert_eq!(next(&journal(events)), Next::Finish(End::Committed));
    }

    #[test]
    fn a_time_of_another_boot_has_passed() {
        let deadline = BootTime {
            boot_id: "a".to_owned(),
            ms: 1000,
        };
        assert!(!deadline.has_passed(&BootTime {
            boot_id: "a".to_owned(),
            ms: 999
        }));
        assert!(deadline.has_passed(&BootTime {
            boot_id: "a".to_owned(),
            ms: 1000
        }));
        assert!(deadline.has_passed(&BootTime {
            boot_id: "b".to_owned(),
            ms: 0
        }));
    }
}
