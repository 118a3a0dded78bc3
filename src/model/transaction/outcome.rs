//! What came of a run: the one value that every report is made from.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::step::Step;
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
    /// Why a person asked for it, in their own words.
    pub reason: Option<String>,
    pub revision: Option<String>,
    /// The host's records were read. Without that, no version before and none now means that it is not known.
    pub host_was_read: bool,
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
    /// Data that was put back.
    pub restored: Option<RestoredReport>,
    pub removed: Vec<Removal>,
    #[serde(with = "strategy::in_words")]
    pub strategies: Vec<ServiceStrategy>,
    pub warnings: Vec<String>,
    pub failure: Option<Failure>,
    /// Where the failure happened, when it was a step.
    pub failed_step: Option<Step>,
    pub logs: Vec<ServiceLog>,
    /// Versions that can be rolled back to, newest first.
    pub rollback_targets: Vec<String>,
    /// Backups of such versions, newest first.
    pub rollback_backups: Vec<String>,
    /// By when the host settles itself, if contact was lost.
    pub settles_by: Option<Timestamp>,
    /// The run was asked to stop before the host had decided.
    pub cancelled: bool,
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
    #[must_use]
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

/// Data that came from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredReport {
    pub backup: String,
    /// Which volumes and bind mounts, in words.
    pub sources: Vec<String>,
    /// The backup that holds what was there before.
    pub safety: String,
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
    /// Asked on the host all through the transaction.
    #[serde(default)]
    pub total: Option<u64>,
    pub failed: Option<u64>,
    pub longest_gap_ms: Option<u64>,
    /// The versions that answered, in order.
    #[serde(default)]
    pub versions: Vec<Seen>,
    /// The same, asked by the runner at the public URL.
    #[serde(default)]
    pub public: Option<Measured>,
}
