//! `belay finalize`: settles what a killed step left, and tells the truth about it.
//!
//! Runs on the runner, as a step of its own that always runs.

use std::ops::ControlFlow;
use std::time::Duration;

use super::actions::Actions;
use super::github::{self, FinalStatus, Ledger};
use super::github_record::tell_ending;
use super::inputs::{Env, Inputs};
use super::link::{Link, LinkError, persistently};
use super::pending::{Pending, forget_pending, ledger_file, read_pending};
use super::publish::{follow_up, notify, publish};
use super::session::{Session, runtime};
use super::ssh::Interrupt;
use super::{deploy, transaction};
use belay_model::transaction::journal::Entry;
use belay_model::transaction::outcome::{EXIT_BUG, Failure, Outcome, Word};
use belay_model::transaction::settle::settle;
use belay_wire::Confirmed;

/// How long `finalize` waits for the host to decide.
const DECISION_PATIENCE: Duration = Duration::from_mins(4);

/// `belay finalize`: settles what a killed step left. Finds nothing to do after a run that ended by itself.
pub fn finalize(env: &Env, inputs: &Inputs, actions: &Actions) -> u8 {
    let pending = read_pending(env);
    let session = match Session::open(env, inputs, actions, Interrupt::default()) {
        Ok(session) => session,
        Err(error) => {
            let failure = Failure::from(error);
            actions.say(&format!("could not finalize: {}", failure.error));
            return 0;
        }
    };
    let Some(pending) = pending else {
        // The file is written before the host is handed anything.
        return settle_ledger(&session, &FinalStatus::cut_short());
    };
    let mut outcome = true_outcome(&session, pending);
    let Ok(runtime) = runtime() else {
        return EXIT_BUG;
    };
    let mut deployment_id = None;
    if let Ok(Some(mut ledger)) = Ledger::resume(session.github(&runtime), &ledger_file(env)) {
        runtime.block_on(tell_ending(&mut ledger, &outcome));
        deployment_id = ledger.deployment_id();
    }
    follow_up(&session, &runtime, &mut outcome);
    publish(actions, &outcome, deployment_id);
    notify(actions, &session.inputs, &outcome);
    forget_pending(env);
    // The job's result is the step's that was killed; this one only tells the truth about it.
    0
}

fn settle_ledger(session: &Session<'_>, ending: &FinalStatus) -> u8 {
    let Ok(runtime) = runtime() else {
        return EXIT_BUG;
    };
    let warnings = runtime.block_on(github::finalize(
        session.github(&runtime),
        &ledger_file(session.env),
        ending,
    ));
    for warning in warnings {
        session.actions.say(&warning);
    }
    0
}

/// Asks the host what became of the transaction, and waits until it has decided.
fn true_outcome(session: &Session<'_>, pending: Pending) -> Outcome {
    let mut outcome = pending.outcome;
    let asked = ask_host(session, &pending.tx, &outcome);
    match asked {
        Ok((entries, _)) if entries.is_empty() => {
            outcome.word = Word::Refused;
            outcome.serving.clone_from(&outcome.previous);
            outcome.failure = Some(transaction::cancelled());
        }
        Ok((entries, mut link)) => {
            settle(&mut outcome, &entries);
            deploy::after(&mut link, &mut outcome);
        }
        Err(failure) => {
            outcome.word = Word::Unknown;
            outcome.failure = Some(failure);
        }
    }
    outcome
}

/// The records of the transaction, once the host has decided; none when it was never begun, and then it never will be.
fn ask_host(
    session: &Session<'_>,
    tx: &str,
    outcome: &Outcome,
) -> Result<(Vec<Entry>, Link), Failure> {
    let config = session.config(&session.dir)?;
    let settings = session.settings(&config, &outcome.environment)?;
    let mut link = session.link(&settings)?;
    let mut entries: Vec<Entry> = vec![];
    let mut stopped = follow_to_its_end(&mut link, tx, &mut entries)?;
    if stopped.is_some() && entries.is_empty() {
        // The plan may wait for the lock on the host, with nobody left who would confirm it.
        let told = transaction::withdraw(&link, tx, "the run was ended before it began");
        if let Confirmed::Unwound { end: Some(_) } = told? {
            return Ok((vec![], link));
        }
        stopped = follow_to_its_end(&mut link, tx, &mut entries)?;
    }
    match stopped {
        Some(failure) if entries.is_empty() => Err(failure),
        Some(_) | None => Ok((entries, link)),
    }
}

fn follow_to_its_end(
    link: &mut Link,
    tx: &str,
    entries: &mut Vec<Entry>,
) -> Result<Option<Failure>, LinkError> {
    persistently(link, DECISION_PATIENCE, |link| {
        let from = transaction::next_number(entries);
        link.follow(tx, from, &mut |entry| {
            if entry.n == transaction::next_number(entries) {
                entries.push(entry);
            }
            ControlFlow::Continue(())
        })
    })
}
