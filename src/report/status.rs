//! What GitHub shows of a run beside the summary: the deployment's status and the one error annotation.
//!
//! Runs anywhere; pure. GitHub takes at most 140 characters as a status's description; every description made here fits.

use belay_model::text::{clip, one_line};
use belay_model::transaction::journal::Holder;
use belay_model::transaction::outcome::{Outcome, Word, Work};
use belay_model::transaction::step::Step;

use super::failure::FailureLines;
use super::progress::position;
use super::story;
use super::words;

/// The longest description of a deployment's status.
const DESCRIPTION_MAX: usize = 140;

/// The state of a deployment, as far as Belay ever sets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentState {
    /// Waiting for the host's lock, or for the transaction to begin.
    Queued,
    /// A step is running, or being undone.
    InProgress,
    /// The version is live, or was already.
    Success,
    /// Refused or rolled back: the version from before is live, if there was one.
    Failure,
    /// Stuck, or contact was lost: the host has to be looked at.
    Error,
    /// Was live, and another version has replaced it.
    Inactive,
}

impl DeploymentState {
    /// The word of GitHub's API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DeploymentState::Queued => "queued",
            DeploymentState::InProgress => "in_progress",
            DeploymentState::Success => "success",
            DeploymentState::Failure => "failure",
            DeploymentState::Error => "error",
            DeploymentState::Inactive => "inactive",
        }
    }
}

/// The status that a deployment ends in: terminal for every outcome.
#[must_use]
pub fn deployment_status(outcome: &Outcome) -> (DeploymentState, String) {
    let (state, text) = match outcome.word {
        Word::Deployed | Word::Unchanged => (DeploymentState::Success, success(outcome)),
        Word::Refused => (
            DeploymentState::Failure,
            format!("refused: {}", error(outcome)),
        ),
        Word::RolledBack => (DeploymentState::Failure, rolled_back(outcome)),
        Word::Stuck => (
            DeploymentState::Error,
            format!("STUCK, manual action needed: {}", error(outcome)),
        ),
        Word::Unknown => (DeploymentState::Error, unknown(outcome)),
    };
    (state, describe(&text))
}

fn success(outcome: &Outcome) -> String {
    let took = words::duration(outcome.durations.total_ms);
    let headline = story::headline(outcome).plain();
    let backup = match &outcome.backup {
        Some(backup) if outcome.word == Word::Deployed => {
            format!("; {} ({})", backup.name, words::size(backup.bytes))
        }
        _ => String::new(),
    };
    let said = match (outcome.word, outcome.requests.failed) {
        (Word::Deployed, Some(failed)) => {
            let failed = words::count(
                usize::try_from(failed).unwrap_or(usize::MAX),
                "request",
                "requests",
            );
            format!("{headline} in {took}, {failed} failed")
        }
        (Word::Deployed, None) => format!("{headline} in {took}"),
        _ => headline,
    };
    let reason = outcome.reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    // The reason comes last: it may be cut.
    said + &backup + &reason
}

/// The backup, and its size, that a good deployment's status tells of, for whoever cannot ask the host.
#[must_use]
pub fn backup_in(description: &str) -> Option<&str> {
    let (_, found) = description.split_once("; backup_")?;
    let end = found.find(')')? + 1;
    let start = description.len() - found.len() - "backup_".len();
    description.get(start..start + "backup_".len() + end)
}

/// What serves comes first: the reason may be cut.
fn rolled_back(outcome: &Outcome) -> String {
    let step = outcome.failed_step.map_or("the deployment", Step::name);
    match &outcome.serving {
        Some(version) => format!(
            "{step} failed; rolled back to {version}: {}",
            error(outcome)
        ),
        None => format!(
            "{step} failed; nothing serves, as before: {}",
            error(outcome)
        ),
    }
}

fn unknown(outcome: &Outcome) -> String {
    let why = if outcome.cancelled {
        "cancelled"
    } else {
        "contact lost"
    };
    match outcome.settles_by {
        Some(at) => format!("{why}; the host settles itself by {}", words::clock(at)),
        None => format!("{why}; the host settles itself"),
    }
}

fn error(outcome: &Outcome) -> String {
    FailureLines::of(outcome).map_or_else(String::new, |lines| lines.error)
}

/// While another transaction holds the host's lock.
#[must_use]
pub fn queued(holder: Option<&Holder>) -> (DeploymentState, String) {
    let text = match holder {
        Some(holder) => format!("waiting for {}", holder.what),
        None => "waiting to begin".to_owned(),
    };
    (DeploymentState::Queued, describe(&text))
}

/// While a step runs: `4/14 backup`.
#[must_use]
pub fn phase(step: Step) -> (DeploymentState, String) {
    (DeploymentState::InProgress, position(step))
}

/// While the transaction undoes itself.
#[must_use]
pub fn undoing(step: Step) -> (DeploymentState, String) {
    (
        DeploymentState::InProgress,
        format!("failed; undoing {step}"),
    )
}

/// For the deployment whose version no longer serves.
#[must_use]
pub fn replaced_by(version: &str) -> (DeploymentState, String) {
    (
        DeploymentState::Inactive,
        describe(&format!("replaced by {version}")),
    )
}

/// For the deployment that says, after an automatic rollback, which version serves.
#[must_use]
pub fn serves_again(version: &str, failed: &str) -> (DeploymentState, String) {
    (
        DeploymentState::Success,
        describe(&format!("{version} serves again, because {failed} failed")),
    )
}

/// For a deployment of an earlier run that ended without a word.
#[must_use]
pub fn abandoned() -> (DeploymentState, String) {
    (
        DeploymentState::Error,
        "abandoned: its run ended without saying how".to_owned(),
    )
}

/// For a run that was cancelled while the host was at work.
#[must_use]
pub fn cancelled() -> (DeploymentState, String) {
    (
        DeploymentState::Error,
        "the run was cancelled; the host settles itself".to_owned(),
    )
}

/// A description that GitHub accepts: one line, cut between characters. GitHub may count as JavaScript does.
fn describe(text: &str) -> String {
    let line = one_line(text);
    if line.encode_utf16().count() <= DESCRIPTION_MAX {
        return line;
    }
    let mut kept = String::new();
    let mut units = 1;
    for c in line.chars() {
        units += c.len_utf16();
        if units > DESCRIPTION_MAX {
            break;
        }
        kept.push(c);
    }
    format!("{}…", kept.trim_end())
}

/// The one error annotation of a run: its title and its message of three lines. `None` when there is nothing to complain.
#[must_use]
pub fn annotation(outcome: &Outcome) -> Option<(String, String)> {
    let lines = FailureLines::of(outcome)?;
    let work = match outcome.work {
        Work::Deploy => "Deploy",
        Work::Rollback => "Rollback",
        Work::Backup => "Backup",
        Work::Plan => "Plan",
    };
    let what = match outcome.word {
        Word::Deployed | Word::Unchanged => "went well, with an error",
        Word::Refused => "refused",
        Word::RolledBack => "failed and was rolled back",
        Word::Stuck => "is stuck: a person is needed",
        Word::Unknown if outcome.cancelled => "was cancelled: the host decides",
        Word::Unknown => "lost sight of the host",
    };
    let asked = clip(&one_line(&outcome.asked), 60);
    let title = match outcome.failed_step {
        Some(step) => format!("{work} of {asked} {what} (in {step})"),
        None => format!("{work} of {asked} {what}"),
    };
    Some((title, lines.to_string().trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn every_outcome_ends_in_a_terminal_state() {
        for (name, outcome) in examples::all() {
            let (state, text) = deployment_status(&outcome);
            let terminal = [
                DeploymentState::Success,
                DeploymentState::Failure,
                DeploymentState::Error,
            ];
            assert!(terminal.contains(&state), "{name}");
            assert!(text.len() > 10, "{name}: {text}");
        }
    }

    #[test]
    fn a_description_is_cut_between_characters() {
        for error in ["ä".repeat(500), "🚀".repeat(200), "a\nb".repeat(200)] {
            let mut outcome = examples::refused_tag();
            outcome.failure = Some(belay_model::transaction::outcome::Failure::new(error));
            let (_, text) = deployment_status(&outcome);
            assert!(text.encode_utf16().count() <= DESCRIPTION_MAX);
            assert!(text.encode_utf16().count() >= DESCRIPTION_MAX - 2 && text.ends_with('…'));
            assert!(!text.contains('\n'));
        }
        assert_eq!(describe(&"x".repeat(140)), "x".repeat(140));
    }

    #[test]
    fn a_rollback_names_what_serves() {
        let (state, text) = deployment_status(&examples::rolled_back());
        assert_eq!(state, DeploymentState::Failure);
        assert!(
            text.starts_with("bake failed; rolled back to v1.1.1: "),
            "{text}"
        );
    }

    #[test]
    fn phases_are_counted() {
        assert_eq!(phase(Step::Preflight).1, "1/14 preflight");
        assert_eq!(phase(Step::Prune).1, "14/14 prune");
        assert_eq!(undoing(Step::Cutover).1, "failed; undoing cutover");
    }

    #[test]
    fn only_what_failed_is_annotated_and_briefly_enough() {
        for (name, outcome) in examples::all() {
            let failed = outcome.word.exit_code() != 0;
            assert_eq!(annotation(&outcome).is_some(), failed, "{name}");
        }
        let mut outcome = examples::stuck();
        outcome.failure = Some(belay_model::transaction::outcome::Failure::new(
            "x".repeat(100_000),
        ));
        let (title, message) = annotation(&outcome).unwrap();
        assert!(message.chars().count() < 4096 && title.chars().count() < 200);
        assert_eq!(message.lines().count(), 3);
    }
}
