//! What came of a run: the one value that every report is made from.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::health::Verdict;
use super::journal::{self, End, Entry, Event, FetchedImage, Next, Output};
use super::retention::Removal;
use super::step::Step;

/// The outcome in a word; it fixes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    Deployed,
    /// There was nothing to do.
    Unchanged,
    /// The host is untouched.
    Refused,
    /// The version before serves again.
    RolledBack,
    /// An undo failed; a person is needed.
    Stuck,
    /// Contact was lost; the host settles itself.
    Unknown,
}

/// The exit code of a defect of Belay's own.
pub const EXIT_BUG: u8 = 70;

impl Word {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Word::Deployed | Word::Unchanged => 0,
            Word::Refused => 10,
            Word::RolledBack => 20,
            Word::Stuck => 30,
            Word::Unknown => 40,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Word::Deployed => "deployed",
            Word::Unchanged => "unchanged",
            Word::Refused => "refused",
            Word::RolledBack => "rolled-back",
            Word::Stuck => "stuck",
            Word::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure in three lines: what failed, what the host is doing now, what to do next. The last two may still be unknown
/// where the failure is noticed; whoever knows adds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    pub host: Option<String>,
    pub next: Option<String>,
}

impl Failure {
    pub fn new(error: impl Into<String>) -> Self {
        Failure {
            error: error.into(),
            host: None,
            next: None,
        }
    }

    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// An error with its causes, as one sentence.
    pub fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Failure::new(text)
    }
}

/// What kind of work a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Deploy,
    Rollback,
    Backup,
    Plan,
}

/// Everything that a report may say. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub word: Word,
    pub work: Work,
    pub app: String,
    pub environment: String,
    /// `user@host:port`, for people.
    pub host: String,
    /// What was asked for: the tag, or the version or backup to roll back to.
    pub asked: String,
    pub revision: Option<String>,
    /// What served before.
    pub previous: Option<String>,
    pub previous_revision: Option<String>,
    /// What serves now, as the host's records say; `None` when nothing does or nothing is known.
    pub serving: Option<String>,
    pub started: Timestamp,
    pub durations: Durations,
    pub steps: Vec<StepTime>,
    pub images: Vec<ImageReport>,
    pub verdict: Option<Verdict>,
    pub backup: Option<BackupReport>,
    pub removed: Vec<Removal>,
    pub strategies: Vec<StrategyReport>,
    pub warnings: Vec<String>,
    pub failure: Option<Failure>,
    /// Where the failure happened, when it was a step.
    pub failed_step: Option<Step>,
    pub logs: Vec<ServiceLog>,
    /// Versions that can be rolled back to, newest first.
    pub rollback_targets: Vec<String>,
    /// By when the host settles itself, if contact was lost.
    pub settles_by: Option<Timestamp>,
    pub urls: Urls,
    /// Requests asked by the health watch and those that failed after the version was first healthy.
    pub requests: Requests,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    pub build_ms: Option<u64>,
    pub test_ms: Option<u64>,
    pub transfer_ms: Option<u64>,
    pub transfer_bytes: Option<u64>,
    /// From cutover to the first good answer.
    pub startup_ms: Option<u64>,
    pub total_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    pub step: Step,
    pub ms: u64,
    pub result: StepResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    Done,
    Failed,
    Undone,
    UndoFailed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    pub service: String,
    pub reference: String,
    pub id: String,
    pub size: u64,
    pub previous_size: Option<u64>,
    pub budget: Option<u64>,
}

impl ImageReport {
    pub fn is_over_budget(&self) -> bool {
        self.budget.is_some_and(|budget| self.size > budget)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupReport {
    pub name: String,
    pub path: String,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategyReport {
    pub service: String,
    pub strategy: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceLog {
    pub service: String,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Urls {
    pub environment: Option<String>,
    pub run: Option<String>,
    pub repository: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    pub failed: Option<u64>,
    pub longest_gap_ms: Option<u64>,
}

/// What a transaction's journal adds to an outcome.
///
/// The journal is the host's own word; nothing else decides between deployed, rolled back and refused.
pub fn settle(outcome: &mut Outcome, entries: &[Entry]) {
    outcome.steps = step_times(entries);
    for entry in entries {
        take_in(outcome, &entry.event);
    }
    let previous = journal::begin(entries).and_then(|begin| begin.previous_tag.clone());
    outcome.previous = outcome.previous.take().or_else(|| previous.clone());
    outcome.word = word_of(entries);
    match outcome.word {
        Word::Deployed | Word::Unchanged => outcome.serving = Some(outcome.asked.clone()),
        Word::Refused | Word::RolledBack => outcome.serving = previous,
        Word::Stuck | Word::Unknown => outcome.serving = None,
    }
    if !matches!(outcome.word, Word::Deployed | Word::Unchanged) {
        let (step, failure) = journal::cause(entries).unzip();
        outcome.failed_step = step.flatten();
        outcome.failure = outcome.failure.take().or(failure);
    }
}

fn word_of(entries: &[Entry]) -> Word {
    match journal::next(entries) {
        Next::Closed(End::Committed) => Word::Deployed,
        // Past the commit point the new version stays, whatever became of the tidying up.
        Next::Perform(_) | Next::Finish(End::Committed) if journal::is_committed(entries) => {
            Word::Deployed
        }
        Next::Closed(End::Unwound) if journal::touched_the_application(entries) => Word::RolledBack,
        Next::Closed(End::Unwound) => Word::Refused,
        Next::Stuck(_) => Word::Stuck,
        Next::Perform(_) | Next::Undo(_) | Next::Finish(_) => Word::Unknown,
    }
}

fn take_in(outcome: &mut Outcome, event: &Event) {
    match event {
        Event::Done { output, .. } => take_in_output(outcome, output),
        Event::Warning { text } => outcome.warnings.push(text.clone()),
        Event::Failed { step, failure } if step.is_after_commit() => {
            outcome.warnings.push(format!("{step}: {}", failure.error));
        }
        Event::Logs { service, text } => {
            outcome.logs.push(ServiceLog {
                service: service.clone(),
                text: text.clone(),
            });
        }
        Event::Begin(_)
        | Event::Started { .. }
        | Event::Failed { .. }
        | Event::Interrupted { .. }
        | Event::UndoStarted { .. }
        | Event::UndoDone { .. }
        | Event::UndoFailed { .. }
        | Event::Note { .. }
        | Event::End { .. } => {}
    }
}

fn take_in_output(outcome: &mut Outcome, output: &Output) {
    match output {
        Output::BackedUp { name, bytes, path } => {
            outcome.backup = Some(BackupReport {
                name: name.clone(),
                path: path.clone(),
                bytes: *bytes,
            });
        }
        Output::Fetched { images, strategies } => {
            outcome.strategies.clone_from(strategies);
            for image in images {
                take_in_image(outcome, image);
            }
        }
        Output::Baked(baked) => {
            outcome.verdict = Some(baked.verdict.clone());
            outcome.durations.startup_ms = Some(baked.startup_ms);
        }
        Output::Pruned { removed } => outcome.removed.clone_from(removed),
        Output::Nothing
        | Output::Preflight(_)
        | Output::Unpacked { .. }
        | Output::Migrated { .. }
        | Output::CutOver { .. }
        | Output::Confirmed { .. } => {}
    }
}

/// Images that the runner built are known already, with their budget; the others come from the host.
fn take_in_image(outcome: &mut Outcome, image: &FetchedImage) {
    if !outcome
        .images
        .iter()
        .any(|known| known.service == image.service)
    {
        outcome.images.push(ImageReport {
            service: image.service.clone(),
            reference: image.reference.clone(),
            id: image.id.clone(),
            size: image.size,
            previous_size: None,
            budget: None,
        });
    }
}

fn step_times(entries: &[Entry]) -> Vec<StepTime> {
    let mut times: Vec<StepTime> = vec![];
    let mut began: Option<Timestamp> = None;
    for entry in entries {
        let (step, result) = match &entry.event {
            Event::Started { .. } | Event::UndoStarted { .. } => {
                began = Some(entry.at);
                continue;
            }
            Event::Done { step, .. } => (*step, StepResult::Done),
            Event::Failed { step, .. } => (*step, StepResult::Failed),
            Event::UndoDone { step } => (*step, StepResult::Undone),
            Event::UndoFailed { step, .. } => (*step, StepResult::UndoFailed),
            Event::Begin(_)
            | Event::Interrupted { .. }
            | Event::Note { .. }
            | Event::Warning { .. }
            | Event::Logs { .. }
            | Event::End { .. } => continue,
        };
        let ms = began.map_or(0, |at| {
            u64::try_from(entry.at.duration_since(at).as_millis()).unwrap_or(0)
        });
        times.push(StepTime { step, ms, result });
    }
    times
}
