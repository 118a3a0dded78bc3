//! `belay run`: the whole story of one run, from the event to the reports.
//!
//! Runs on the runner, as the last command of the action's step, and on a laptop. Every path ends in an outcome, and every
//! outcome in a log line, the outputs, a summary and a terminal status on GitHub. GitHub is told what happens and never
//! decides it: an API that cannot be reached costs warnings.

use std::cell::RefCell;

use super::actions::Actions;
use super::choices;
use super::deploy::{self, Concluded, DryRunPlan, RunContext};
pub use super::finalize::finalize;
use super::github_record::{GitHubRecord, SharedRecord};
use super::inputs::{Env, Inputs};
use super::live_log::LiveLog;
use super::pending::forget_pending;
use super::publish::{follow_up, notify, publish};
use super::session::{Session, runtime};
use super::ssh::Interrupt;
use belay_model::request::intent::{Intent, decide};
use belay_model::request::tag::TagKind;
use belay_model::transaction::outcome::{EXIT_BUG, Failure, Outcome, Word, Work};
use belay_wire::{HostFacts, Verb};

/// Runs what the event and the inputs ask for, and returns the exit code.
pub fn run(env: &Env, inputs: &Inputs, actions: &Actions) -> u8 {
    let interrupt = Interrupt::default();
    raise_on_signal(&interrupt);
    let session = match Session::open(env, inputs, actions, interrupt) {
        Ok(session) => session,
        Err(error) => return refused(actions, inputs, error.into()),
    };
    match decide(session.trigger(), session.inputs.asked.clone()) {
        Err(error) => refused(actions, &session.inputs, error.failure()),
        Ok(Intent::Nothing(why)) => {
            actions.say(&format!("nothing to do: {why}"));
            0
        }
        Ok(Intent::Checklist(pull)) => super::checklist::run(&session, &pull),
        Ok(Intent::Operation(operation)) => super::commands::run(&session, operation),
        Ok(Intent::Deploy { tag, revision }) => with_record(&session, Work::Deploy, |context| {
            deploy::deploy(context, &tag, revision.as_deref())
        }),
        Ok(Intent::Rollback(wish)) => with_record(&session, Work::Rollback, |context| {
            deploy::rollback(context, &wish)
        }),
    }
}

/// Reports a run that ended before it knew more than what was asked.
fn refused(actions: &Actions, inputs: &Inputs, failure: Failure) -> u8 {
    let mut outcome = deploy::blank(Work::Deploy, &inputs.asked.name());
    outcome.word = Word::Refused;
    outcome.failure = Some(failure);
    publish(actions, &outcome, None);
    notify(actions, inputs, &outcome);
    outcome.word.exit_code()
}

fn with_record(
    session: &Session<'_>,
    work: Work,
    story: impl FnOnce(&mut RunContext<'_, '_>) -> Concluded,
) -> u8 {
    let Ok(runtime) = runtime() else {
        let actions = session.actions;
        actions.say("error: could not start the runtime for talking to GitHub");
        return EXIT_BUG;
    };
    let record = RefCell::new(GitHubRecord::new(session, work, runtime));
    let mut watcher = LiveLog::new(session.actions, &record);
    let concluded = story(&mut RunContext {
        session,
        record: &mut SharedRecord(&record),
        watcher: &mut watcher,
    });
    watcher.close_group();
    match concluded {
        Concluded::DryRun(plan) => {
            show_plan(session.actions, &plan, session.inputs.json);
            0
        }
        Concluded::Outcome(outcome) => report(session, &mut record.borrow_mut(), *outcome),
    }
}

/// Tells everybody what came of it: GitHub first, whose view of the deployment nobody should have to wait for.
fn report(session: &Session<'_>, record: &mut GitHubRecord<'_, '_>, mut outcome: Outcome) -> u8 {
    let actions = session.actions;
    record.last_word(&outcome);
    outcome.warnings.extend(record.warnings());
    follow_up(session, &record.runtime, &mut outcome);
    publish(actions, &outcome, record.deployment_id());
    // What is not known yet, `finalize` finds out and tells.
    if outcome.word != Word::Unknown || !actions.in_actions() {
        notify(actions, &session.inputs, &outcome);
    }
    // What is not known yet, `finalize` finds out; what GitHub does not know, it tells.
    if outcome.word != Word::Unknown && record.is_finished() {
        forget_pending(session.env);
    }
    outcome.word.exit_code()
}

fn show_plan(actions: &Actions, plan: &DryRunPlan, json: bool) {
    let report = super::present::plan(plan);
    if json {
        // A plan is plain data and always serialises.
        return actions.say(&serde_json::to_string_pretty(&report).unwrap_or_default());
    }
    actions.say(&belay_report::plan_text(&report));
    // A dry run's summary is a convenience; the log has the same.
    let _ = actions.summary(&belay_report::plan_markdown(&report));
}

/// The runner's SIGINT asks for an end within seconds: work in progress stops, and the host is left to decide.
fn raise_on_signal(interrupt: &Interrupt) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else {
            return;
        };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut sigint) = signal(SignalKind::interrupt()) else {
                return;
            };
            sigint.recv().await;
            interrupt.raise();
        });
    });
}

/// What can be rolled back to, newest first, each with a few words, for a person to choose from.
pub fn rollback_choices(
    env: &Env,
    inputs: &Inputs,
    actions: &Actions,
) -> Result<Vec<(String, String)>, Failure> {
    let session = Session::open(env, inputs, actions, Interrupt::default())?;
    let config = session.config(&session.dir)?;
    let environment = config
        .environment_of(TagKind::Release)
        .unwrap_or("production")
        .to_owned();
    let link = session.link(&session.settings(&config, &environment)?)?;
    let facts: HostFacts = link.ask(Verb::Facts, &[], None::<&()>)?;
    Ok(choices::rollback_choices(&facts))
}
