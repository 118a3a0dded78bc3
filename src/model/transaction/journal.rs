//! What a transaction wrote down, and what follows from it.
//!
//! [`next`](super::phase::next) is the only place that decides what an engine does: a first run, a recovery after a crash and an unwind are
//! the same loop over it. Which record may follow which is in [`super::phase`].

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::Failure;
use super::step::Step;
use crate::composition::copying::{CopiedData, Copying};
use crate::composition::data::Restoration;
use crate::judgement::health::Verdict;
use crate::judgement::measure::Measured;
use crate::replacement::moves::Moves;
use crate::replacement::strategy::{self, ServiceStrategy};
use crate::versions::release::ReleaseName;
use crate::versions::retention::Removal;

/// The version of the journal's format. An agent refuses a journal with a higher one.
pub const SCHEMA: u32 = 2;

/// The longest that a host waits for a confirmation that is put off, in milliseconds. One that belay.yml makes longer stays
/// as long as it is.
pub const MOST_CONFIRM_MS: u64 = 600_000;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0.
    pub n: u64,
    /// The host's clock when it was written, for people; nothing is decided by it.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The transaction exists. Always the first record.
    Begin(Box<Begin>),
    /// A step is about to be performed.
    Started {
        /// Which.
        step: Step,
    },
    /// A step was performed.
    Done {
        /// Which.
        step: Step,
        /// What it found or made.
        output: Output,
    },
    /// A step could not be performed. Before the commit this turns the transaction round.
    Failed {
        /// Which.
        step: Step,
        /// Why, in three lines for people.
        failure: Failure,
    },
    /// Something stopped the transaction from outside: a crash, an abort, a deadline.
    Interrupted {
        /// What it was, in words.
        reason: String,
    },
    /// A step is about to be undone.
    UndoStarted {
        /// Which.
        step: Step,
    },
    /// A step was undone.
    UndoDone {
        /// Which.
        step: Step,
    },
    /// A step could not be undone: the transaction is stuck until the next contact.
    UndoFailed {
        /// Which.
        step: Step,
        /// Why, in three lines for people.
        failure: Failure,
    },
    /// Progress, for people.
    Note {
        /// One line.
        text: String,
    },
    /// Something that a person should know although the transaction goes on.
    Warning {
        /// One line.
        text: String,
    },
    /// The last container logs of a service that failed.
    Logs {
        /// The service's name in the Compose file.
        service: String,
        /// Cut to its last lines; the file `.belay/failed/` has more.
        text: String,
    },
    /// What became of the requests that were asked beside this step.
    Measured {
        /// Beside which, and since the record before it.
        step: Step,
        /// The counts of this stretch alone.
        measured: Measured,
    },
    /// Somebody asked for more time to confirm: the host waits until `confirm_by`, which is so many milliseconds from now.
    Extended {
        /// The new time, on the host's boot clock.
        confirm_by: BootTime,
        /// From this record on, for who has no such clock.
        ms: u64,
    },
    /// The last record.
    End {
        /// How it ended.
        end: End,
        /// The services of what should serve now that did not run when it was looked last.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        down: Vec<String>,
        /// The tag of another version, which somebody brought back by hand meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_hand: Option<String>,
    },
}

/// Who and what a transaction is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// The journal's format: [`SCHEMA`] of who wrote it.
    pub schema: u32,
    /// The name that the runner gave it: 32 hexadecimal digits.
    pub tx: String,
    /// The transaction's number on this host, which only grows.
    pub seq: u64,
    /// What was asked for, in words: `deploy v1.2.0`.
    pub what: String,
    /// Who asked for it.
    pub holder: Holder,
    /// The environment that it is for; none in journals of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What served when it began.
    pub previous: Option<ReleaseName>,
    /// That release's tag.
    pub previous_tag: Option<String>,
    /// When it unwinds by itself unless it is confirmed: a time on the host's boot clock.
    pub deadline: BootTime,
}

/// A time on the clock that counts from the host's start. One of another boot has always passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    /// The kernel's `boot_id`: another one after each start.
    pub boot_id: String,
    /// Milliseconds since the start, those asleep included.
    pub ms: u64,
}

impl BootTime {
    /// Whether it is over; a time of another boot always is.
    #[must_use]
    pub fn has_passed(&self, now: &BootTime) -> bool {
        self.boot_id != now.boot_id || now.ms >= self.ms
    }

    /// So much later.
    #[must_use]
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
    /// The workflow run's page; `None` on a laptop.
    pub run_url: Option<String>,
    /// Who started the run: a login of GitHub, or the user of the laptop.
    pub actor: Option<String>,
    /// Filled in by the host when the lock is taken.
    pub since: Option<Timestamp>,
    /// The engine's process.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The new version serves.
    Committed,
    /// Everything is undone, and the version before serves.
    Unwound,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Committed => "committed",
            End::Unwound => "unwound",
        })
    }
}

/// What a step found or made, for the steps after it and for the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Output {
    /// There is nothing that anybody needs to know.
    Nothing,
    /// Of Preflight.
    Preflight(Box<PreflightOutput>),
    /// Of Unpack.
    Unpacked {
        /// The directory that was laid out, or that of the release to go back to.
        release: ReleaseName,
        /// Every service of it.
        services: Vec<String>,
    },
    /// Of Fetch.
    Fetched {
        /// Every image that the release needs, each on the host now.
        images: Vec<FetchedImage>,
        /// What becomes of each service, as people are told it.
        #[serde(with = "strategy::in_words")]
        strategies: Vec<ServiceStrategy>,
        /// What every later step goes by; empty in journals from before there was a gateway.
        #[serde(default)]
        moves: Moves,
        /// The data that is copied to its new place.
        #[serde(default, skip_serializing_if = "Copying::is_empty")]
        copying: Box<Copying>,
    },
    /// Of Backup.
    BackedUp {
        /// The backup's name.
        name: String,
        /// The size of its archive.
        bytes: u64,
        /// Where the archive is on the host.
        path: String,
    },
    /// Of Migrate.
    Migrated {
        /// The one-shot services that ran to their end.
        services: Vec<String>,
        /// The data that was copied to its new place before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        copied: Vec<CopiedData>,
    },
    /// Of Migrate, when data was put back.
    Restored {
        /// The backup that it came from.
        backup: String,
        /// Which volumes and bind mounts, in words.
        sources: Vec<String>,
        /// The backup that holds what was there before.
        safety: String,
    },
    /// Of Start.
    Started {
        /// Those that have candidates now.
        services: Vec<String>,
    },
    /// Of Probe.
    Probed {
        /// From the beginning of the step, in milliseconds.
        healthy_after_ms: u64,
        /// Answers that were looked at.
        samples: u32,
    },
    /// Of Cutover.
    CutOver {
        /// Those that were replaced.
        services: Vec<String>,
        /// Those that the release no longer has, and that were stopped.
        removed: Vec<String>,
    },
    /// Of Bake.
    Baked(Baked),
    /// Of Confirm.
    Confirmed {
        /// Whose word it was.
        by: ConfirmedBy,
    },
    /// Of Prune.
    Pruned {
        /// What is gone, each with its reason.
        removed: Vec<Removal>,
    },
}

/// What Preflight saw; undo goes back to exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreflightOutput {
    /// The Compose project's name.
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
    /// Those of the project that were there; every other one is new.
    pub networks: Vec<String>,
    /// Those of the project that were there; the undo removes no other.
    pub volumes: Vec<String>,
    /// The image names of Belay's that were there.
    pub images: Vec<String>,
    /// What was free on the root's file system.
    pub free_bytes: u64,
    /// What the backup may need at most.
    pub backup_estimate_bytes: u64,
}

/// A container that was there when a transaction began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownContainer {
    /// Docker's full ID.
    pub id: String,
    /// The service's name in the Compose file.
    pub service: String,
    /// Whether it ran then.
    pub ran: bool,
}

/// An image of the release, as the host has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FetchedImage {
    /// The service's name in the Compose file.
    pub service: String,
    /// What the Compose file, or the plan, calls it.
    pub reference: String,
    /// The image's identity: the digest of its config.
    pub id: String,
    /// The digests of its unpacked layers, the lowest one first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// What the host's engine calls it; the same as `id` in journals of older versions.
    #[serde(default)]
    pub engine_id: String,
    /// The name of Belay's that the rendered file has instead.
    pub pin: String,
    /// Its layers when unpacked, in bytes.
    pub size: u64,
    /// Paths that the image declares to hold data.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// What Bake saw of the new version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baked {
    /// Healthy, or degraded where belay.yml accepts that.
    pub verdict: Verdict,
    /// From the cutover to the first good answer, in milliseconds.
    pub startup_ms: u64,
    /// Answers that were looked at.
    pub samples: u32,
    /// By when the runner must confirm, unless it asks for more time.
    pub confirm_by: BootTime,
}

/// Whose word made the new version stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmedBy {
    /// A runner, over a fresh connection, after a look at the public URL.
    Runner,
    /// The transaction was started on the host itself, where nobody can lose sight of it.
    Host,
}

/// Whether the commit point was reached: from there on the new version stays.
#[must_use]
pub fn is_committed(entries: &[Entry]) -> bool {
    output(entries, Step::Confirm).is_some()
}

/// Whether a step that may change what serves was ever begun.
#[must_use]
pub fn touched_the_application(entries: &[Entry]) -> bool {
    entries
        .iter()
        .any(|e| matches!(&e.event, Event::Started { step } if step.may_touch_the_application()))
}

/// By when a transaction that was baked must be confirmed.
#[must_use]
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
#[must_use]
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
#[must_use]
pub fn begin(entries: &[Entry]) -> Option<&Begin> {
    match entries.first().map(|e| &e.event) {
        Some(Event::Begin(begin)) => Some(begin),
        _ => None,
    }
}

/// The output of a step that is done.
#[must_use]
pub fn output(entries: &[Entry], wanted: Step) -> Option<&Output> {
    entries.iter().rev().find_map(|e| match &e.event {
        Event::Done { step, output } if *step == wanted => Some(output),
        _ => None,
    })
}

/// What became of all requests that were asked beside the transaction; `None` when none was.
#[must_use]
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
#[must_use]
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
