//! What came of a run: the one value that every report is made from.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::composition::copying::CopiedData;
use crate::composition::service_changes::ServiceChange;
use crate::judgement::error_lines::ErrorLines;
use crate::judgement::health::Verdict;
use crate::judgement::measure::{Measured, Seen};
use crate::replacement::strategy::{self, ServiceStrategy};
use crate::versions::changes::Changes;
use crate::versions::history::PastDeployment;
use crate::versions::retention::Removal;

/// The outcome in a word; it fixes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The version that was asked for serves, and stays.
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
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Word::Deployed | Word::Unchanged => 0,
            Word::Refused => 10,
            Word::RolledBack => 20,
            Word::Stuck => 30,
            Word::Unknown => 40,
        }
    }

    /// The word in JSON, in outputs and in the log.
    #[must_use]
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
    /// What could not be done, and why: lower case, without a full stop.
    pub error: String,
    /// What the host is doing now.
    pub host: Option<String>,
    /// What a person can do about it.
    pub next: Option<String>,
}

impl Failure {
    /// A failure of which only this is known yet.
    pub fn new(error: impl Into<String>) -> Self {
        Failure {
            error: error.into(),
            host: None,
            next: None,
        }
    }

    /// Sets what the host is doing now, in place of what was set before.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets what a person can do, in place of what was set before.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// An error with its causes, as one sentence.
    pub fn of(error: &dyn std::error::Error) -> Self {
        Failure::new(with_causes(error))
    }
}

/// An error's words and those of all that caused it, the innermost last.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What kind of work a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// A new version was to come.
    Deploy,
    /// An earlier one was to come back.
    Rollback,
    /// A backup was to be taken.
    Backup,
    /// Nothing was to be changed.
    Plan,
}

/// Everything that a report may say. Times are in milliseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it came to.
    pub word: Word,
    /// What was to be done.
    pub work: Work,
    /// The application's name in belay.yml.
    pub app: String,
    /// The environment's name on GitHub.
    pub environment: String,
    /// `user@host:port`, for people.
    pub host: String,
    /// What was asked for: the tag, or the version or backup to roll back to.
    pub asked: String,
    /// Why a person asked for it, in their own words.
    pub reason: Option<String>,
    /// The full commit that the tag stands for.
    pub revision: Option<String>,
    /// The host's records were read. Without that, no version before and none now means that it is not known.
    pub host_was_read: bool,
    /// What served before.
    pub previous: Option<String>,
    /// The commit of that.
    pub previous_revision: Option<String>,
    /// What serves now, as the host's records say; `None` when nothing does or nothing is known.
    pub serving: Option<String>,
    /// The services of that which did not run when the host was looked at last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// When the run began, by the clock of its machine.
    pub started: Timestamp,
    /// Where the time went, on the runner.
    pub durations: Durations,
    /// Where the time went on the host: each step that ended, in order.
    pub steps: Vec<StepTime>,
    /// Those that were built or fetched.
    pub images: Vec<ImageReport>,
    /// What Bake said; `None` when it was not reached.
    pub verdict: Option<Verdict>,
    /// The one that was taken before anything was changed.
    pub backup: Option<BackupReport>,
    /// Data that was put back.
    pub restored: Option<RestoredReport>,
    /// Data that was copied to its new place, and is where it was, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<CopiedData>,
    /// What Prune removed.
    pub removed: Vec<Removal>,
    /// How each service was replaced.
    #[serde(with = "strategy::in_words")]
    pub strategies: Vec<ServiceStrategy>,
    /// What a person should know although all went on.
    pub warnings: Vec<String>,
    /// Why the version that was asked for does not serve.
    pub failure: Option<Failure>,
    /// Where the failure happened, when it was a step.
    pub failed_step: Option<Step>,
    /// The last lines of the containers that did not do.
    pub logs: Vec<ServiceLog>,
    /// Versions that can be rolled back to, newest first.
    pub rollback_targets: Vec<String>,
    /// Backups of such versions, newest first.
    pub rollback_backups: Vec<String>,
    /// By when the host settles itself, if contact was lost.
    pub settles_by: Option<Timestamp>,
    /// The run was asked to stop before the host had decided.
    pub cancelled: bool,
    /// Pages to link to.
    pub urls: Urls,
    /// What became of requests that were asked beside the transaction.
    pub requests: Requests,
    /// When the new version was first given requests.
    pub cut_over: Option<Timestamp>,
    /// The deployments that went live on the host, oldest first, this one included when it did.
    pub history: Vec<PastDeployment>,
    /// The log lines since the cutover that tell of errors, of every service; `None` when nobody looked.
    pub errors: Option<Vec<ErrorLines>>,
    /// What is different about the services from what served before.
    pub service_changes: Vec<ServiceChange>,
    /// What came and what went, where GitHub could be asked.
    pub changes: Option<Changes>,
}

/// Where a run spent its time. What did not take place has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// Building every image.
    pub build_ms: Option<u64>,
    /// Running their tests.
    pub test_ms: Option<u64>,
    /// Sending them to the host.
    pub transfer_ms: Option<u64>,
    /// What went over the line for that, packed.
    pub transfer_bytes: Option<u64>,
    /// From cutover to the first good answer.
    pub startup_ms: Option<u64>,
    /// From the first look at the event to the last word.
    pub total_ms: u64,
}

/// One step, or one undo, that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// Which.
    pub step: Step,
    /// From its start to its end.
    pub ms: u64,
    /// How it ended.
    pub result: StepResult,
}

/// How a step, or its undo, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// It was performed.
    Done,
    /// It could not be performed.
    Failed,
    /// It was undone.
    Undone,
    /// It could not be undone.
    UndoFailed,
}

/// An image of the version that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    /// The service's name in the Compose file.
    pub service: String,
    /// What the Compose file calls it, or the name that Belay built it under.
    pub reference: String,
    /// Its identity: the digest of its config.
    pub id: String,
    /// Its layers when unpacked.
    pub size: u64,
    /// The same of the version before; `None` where that is not known.
    pub previous_size: Option<u64>,
    /// What belay.yml allows; `None` for an image that is not built here.
    pub budget: Option<u64>,
}

impl ImageReport {
    /// Whether it is larger than belay.yml allows.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.budget.is_some_and(|budget| self.size > budget)
    }
}

/// The backup that a transaction took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupReport {
    /// By which a rollback means it.
    pub name: String,
    /// Where its archive is on the host.
    pub path: String,
    /// The archive's size.
    pub bytes: u64,
}

/// Data that came from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredReport {
    /// The backup that it came from.
    pub backup: String,
    /// Which volumes and bind mounts, in words.
    pub sources: Vec<String>,
    /// The backup that holds what was there before.
    pub safety: String,
}

/// The last lines of the log of a service that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceLog {
    /// The service's name in the Compose file.
    pub service: String,
    /// As Docker has them; foreign text.
    pub text: String,
}

/// Pages to link to, as far as there are any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Urls {
    /// `url` of belay.yml: where users find the application.
    pub environment: Option<String>,
    /// The page of the workflow run.
    pub run: Option<String>,
    /// The page of the repository.
    pub repository: Option<String>,
}

/// What became of requests that were asked beside a transaction. `None` where none was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Asked on the host all through the transaction.
    #[serde(default)]
    pub total: Option<u64>,
    /// Those of them without a good answer.
    pub failed: Option<u64>,
    /// The longest time between two good answers.
    pub longest_gap_ms: Option<u64>,
    /// The versions that answered, in order.
    #[serde(default)]
    pub versions: Vec<Seen>,
    /// The same, asked by the runner at the public URL.
    #[serde(default)]
    pub public: Option<Measured>,
}
