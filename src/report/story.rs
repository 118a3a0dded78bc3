//! What an outcome means, in sentences that every report shares: the headline, what was and what is, the health verdict.
//!
//! Runs anywhere; pure. The console, the summary, the deployment's status and the annotation take their words from here,
//! so that they cannot tell different stories.

use belay_model::judgement::health::Verdict;
use belay_model::transaction::outcome::{Outcome, Word, Work};

use super::sentence::Sentence;
use super::words;

/// One sentence that says what came of the run.
#[must_use]
pub fn headline(outcome: &Outcome) -> Sentence {
    match outcome.word {
        Word::Deployed => done(outcome),
        Word::Unchanged => unchanged(outcome),
        Word::Refused => refused(outcome),
        Word::RolledBack => rolled_back(outcome),
        Word::Stuck => stuck(outcome),
        Word::Unknown => unknown(outcome),
    }
}

/// The one sign of the banner.
#[must_use]
pub fn sign(word: Word) -> &'static str {
    match word {
        Word::Deployed => "✅",
        Word::RolledBack => "↩️",
        Word::Refused => "⛔",
        Word::Stuck => "🛑",
        Word::Unknown => "❓",
        Word::Unchanged => "➖",
    }
}

fn done(outcome: &Outcome) -> Sentence {
    match outcome.work {
        Work::Deploy => Sentence::new("Deployed ")
            .name(&outcome.asked)
            .say(" to ")
            .name(&outcome.environment),
        Work::Rollback => Sentence::new("Rolled ")
            .name(&outcome.environment)
            .say(" back to ")
            .name(now(outcome)),
        Work::Backup => Sentence::new("Backed up ").name(&outcome.environment),
        Work::Plan => planned(outcome),
    }
}

fn unchanged(outcome: &Outcome) -> Sentence {
    match outcome.work {
        Work::Deploy | Work::Rollback => Sentence::new("Unchanged: ")
            .name(now(outcome))
            .say(" serves ")
            .name(&outcome.environment)
            .say(" already"),
        Work::Backup => {
            Sentence::new("Unchanged: there was nothing to back up in ").name(&outcome.environment)
        }
        Work::Plan => planned(outcome),
    }
}

fn planned(outcome: &Outcome) -> Sentence {
    Sentence::new("Planned ")
        .name(&outcome.asked)
        .say(" for ")
        .name(&outcome.environment)
        .say(", and changed nothing")
}

fn refused(outcome: &Outcome) -> Sentence {
    match outcome.work {
        Work::Deploy => Sentence::new("Refused to deploy ")
            .name(&outcome.asked)
            .say(" to ")
            .name(&outcome.environment),
        Work::Rollback => Sentence::new("Refused to roll ")
            .name(&outcome.environment)
            .say(" back"),
        Work::Backup => Sentence::new("Refused to back up ").name(&outcome.environment),
        Work::Plan => Sentence::new("Refused to plan ")
            .name(&outcome.asked)
            .say(" for ")
            .name(&outcome.environment),
    }
}

fn rolled_back(outcome: &Outcome) -> Sentence {
    let what = match outcome.work {
        Work::Deploy | Work::Plan => Sentence::new("Rolled back: ").name(&outcome.asked),
        Work::Rollback => Sentence::new("Rolled back: the rollback to ").name(&outcome.asked),
        Work::Backup => Sentence::new("Rolled back: the backup of ").name(&outcome.environment),
    };
    let failed = failed_in(what.say(" failed"), outcome);
    match &outcome.serving {
        Some(version) if outcome.down.is_empty() => {
            failed.say("; ").name(version).say(" serves again")
        }
        Some(version) => failed
            .say("; ")
            .name(version)
            .say(" is back, but ")
            .text(&words::not_running(&outcome.down))
            .say(" not run"),
        None => failed.say("; nothing serves, as before"),
    }
}

fn stuck(outcome: &Outcome) -> Sentence {
    let what = Sentence::new("Stuck: ").name(&outcome.asked);
    if is_committed(outcome) {
        return failed_in(what.say(" serves, but failed"), outcome).say("; a person is needed");
    }
    failed_in(what.say(" failed"), outcome).say(" and could not be undone; a person is needed")
}

fn unknown(outcome: &Outcome) -> Sentence {
    let lost = if outcome.cancelled {
        Sentence::new("Unknown: the run was cancelled over ").name(&outcome.asked)
    } else {
        Sentence::new("Unknown: contact with the host was lost over ").name(&outcome.asked)
    };
    match outcome.settles_by {
        Some(at) => lost
            .say("; the host settles itself by ")
            .text(&words::clock(at)),
        None => lost.say("; the host settles itself"),
    }
}

fn failed_in(sentence: Sentence, outcome: &Outcome) -> Sentence {
    match outcome.failed_step {
        Some(step) => sentence.say(" in ").say(step.name()),
        None => sentence,
    }
}

/// What serves now; for a sentence that is only said when something does.
fn now(outcome: &Outcome) -> &str {
    outcome.serving.as_deref().unwrap_or(&outcome.asked)
}

/// Whether the run failed after the point from which the new version stays.
#[must_use]
pub fn is_committed(outcome: &Outcome) -> bool {
    outcome
        .failed_step
        .is_some_and(belay_model::transaction::step::Step::is_after_commit)
}

/// Whether what was asked for is what serves now, so that the revision is the serving one's.
#[must_use]
pub fn serves_what_was_asked(outcome: &Outcome) -> bool {
    match outcome.word {
        Word::Deployed | Word::Unchanged => true,
        Word::Stuck => is_committed(outcome),
        Word::Refused | Word::RolledBack | Word::Unknown => false,
    }
}

/// What served, then what serves: `v1.1.0 -> v1.2.0`.
#[must_use]
pub fn was_is(outcome: &Outcome) -> Sentence {
    was(outcome).say(" -> ").then(is(outcome))
}

/// What served before, as far as it is known.
#[must_use]
pub fn was(outcome: &Outcome) -> Sentence {
    known(outcome, outcome.previous.as_deref())
}

/// What serves now, as far as it is known.
#[must_use]
pub fn is(outcome: &Outcome) -> Sentence {
    match (outcome.word, &outcome.serving) {
        (Word::Stuck | Word::Unknown, None) => Sentence::new("not known"),
        (Word::Unknown, Some(last)) => Sentence::new("not known (last seen: ").name(last).say(")"),
        (_, serving) => known(outcome, serving.as_deref()),
    }
}

fn known(outcome: &Outcome, version: Option<&str>) -> Sentence {
    match version {
        Some(version) => Sentence::with_name(version),
        None if outcome.host_was_read => Sentence::new("nothing"),
        None => Sentence::new("not known"),
    }
}

/// The health verdict in words.
#[must_use]
pub fn verdict(verdict: &Verdict) -> Sentence {
    match verdict {
        Verdict::Healthy => Sentence::new("healthy"),
        Verdict::Degraded(reason) => Sentence::new("degraded: ").text(reason),
        Verdict::Unhealthy(reason) => Sentence::new("unhealthy: ").text(reason),
        Verdict::Undecided(reason) => Sentence::new("undecided: ").text(reason),
    }
}

/// The application's directory on the host. A report does not carry it, but the backup's path begins with it.
#[must_use]
pub fn root(outcome: &Outcome) -> Option<&str> {
    let (folder, _) = outcome.backup.as_ref()?.path.rsplit_once('/')?;
    let root = folder.strip_suffix("/backups")?;
    root.starts_with('/').then_some(root)
}
