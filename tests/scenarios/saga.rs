//! The loops over `Step::ALL`: every step repeated; every step failing, before and after its work; the same with every
//! undo repeated. A new step is in all of them from the day it exists.

use belay_agent::engine;
use belay_agent::error::AgentError;
use belay_agent::journal::Journal;
use belay_agent::lock::HostLock;
use belay_agent::steps::{self, StepContext};
use belay_agent::{adopt, state};
use belay_model::transaction::journal::{End, Event, Output};
use belay_model::transaction::phase::{Next, next};
use belay_model::transaction::plan::Plan;
use belay_model::transaction::step::Step;

use crate::cases::Case;
use crate::support::fake_host::When;
use crate::support::site::{Site, assert_same};
use belay_agent::host::Host;

/// How often a step, or an undo, is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Once,
    Twice,
}

/// What becomes of the steps of a transaction.
struct Script {
    perform: Times,
    undo: Times,
    /// The step that fails, before or after it has done its work.
    fail: Option<(Step, When)>,
}

/// The engine's own loop, with the script's changes.
fn act(site: &Site, plan: &Plan, script: &Script) -> End {
    let lock: HostLock = site.lock();
    engine::recover(&site.host, &site.layout, &lock, "a test").expect("nothing is open");
    adopt::adopt(&site.host, &site.layout, &lock, plan).expect("adopted");
    let mut journal = engine::begin(&site.host, &site.layout, &lock, plan).expect("begun");
    loop {
        match next(journal.entries()) {
            Next::Perform(step) => {
                append(site, &mut journal, Event::Started { step });
                let event = match perform(site, plan, &mut journal, step, script) {
                    Ok(output) => Event::Done { step, output },
                    Err(error) => Event::Failed {
                        step,
                        failure: error.into_failure(),
                    },
                };
                append(site, &mut journal, event);
            }
            Next::Undo(step) => {
                append(site, &mut journal, Event::UndoStarted { step });
                undo(site, plan, &mut journal, step, script.undo);
                append(site, &mut journal, Event::UndoDone { step });
            }
            Next::Finish(end) => {
                append(
                    site,
                    &mut journal,
                    Event::End {
                        end,
                        down: vec![],
                        by_hand: None,
                    },
                );
                state::close(&site.layout, &journal).expect("closed");
            }
            Next::Stuck(step) => panic!("{step} is stuck"),
            Next::Closed(end) => return end,
        }
    }
}

fn append(site: &Site, journal: &mut Journal, event: Event) {
    journal.append(site.host.now(), event).expect("appended");
}

fn perform(
    site: &Site,
    plan: &Plan,
    journal: &mut Journal,
    step: Step,
    script: &Script,
) -> Result<Output, AgentError> {
    let told_to_fail = || Err(AgentError::new("as the test wants it"));
    if script.fail == Some((step, When::Before)) {
        return told_to_fail();
    }
    let mut work = StepContext::new(&site.host, &site.layout, plan, journal);
    let mut done = steps::perform(step, &mut work);
    if script.perform == Times::Twice {
        done.unwrap_or_else(|e| panic!("{step}: {e}"));
        done = steps::perform(step, &mut work);
    }
    work.into_result().expect("every note was written");
    if script.fail == Some((step, When::After)) {
        return told_to_fail();
    }
    Ok(done.unwrap_or_else(|e| panic!("{step}: {e}")))
}

fn undo(site: &Site, plan: &Plan, journal: &mut Journal, step: Step, times: Times) {
    let mut work = StepContext::new(&site.host, &site.layout, plan, journal);
    let rounds = if times == Times::Twice { 2 } else { 1 };
    for _ in 0..rounds {
        steps::undo(step, &mut work).unwrap_or_else(|e| panic!("{step} could not be undone: {e}"));
    }
    work.into_result().expect("every note was written");
}

#[test]
fn a_step_that_is_performed_twice_comes_to_the_same() {
    for case in Case::ALL {
        let prepared = case.prepare();
        let [once, twice] = [Times::Once, Times::Twice].map(|perform| {
            let arranged = prepared.arrange();
            let script = Script {
                perform,
                undo: Times::Once,
                fail: None,
            };
            let end = act(&arranged.site, arranged.plan(), &script);
            assert_eq!(end, End::Committed);
            arranged.site.check();
            arranged.site.photo()
        });
        assert_same(&twice, &once, &format!("{case:?}"));
    }
}

#[test]
fn a_step_that_fails_unwinds_to_what_was_before() {
    every_step_failing(Times::Once);
}

#[test]
fn an_undo_that_is_repeated_comes_to_the_same() {
    every_step_failing(Times::Twice);
}

fn every_step_failing(undo: Times) {
    for case in Case::ALL {
        let prepared = case.prepare();
        for step in Step::ALL.into_iter().filter(|s| !s.is_after_commit()) {
            for when in [When::Before, When::After] {
                let arranged = prepared.arrange();
                let script = Script {
                    perform: Times::Once,
                    undo,
                    fail: Some((step, when)),
                };
                let what = format!("{case:?}, failing {when:?} {step}");
                let end = act(&arranged.site, arranged.plan(), &script);
                assert_eq!(end, End::Unwound, "{what}");
                arranged.assert_unwound(&what);
            }
        }
    }
}

#[test]
fn a_step_that_fails_after_the_commit_still_commits() {
    for case in Case::ALL {
        let prepared = case.prepare();
        for step in Step::ALL.into_iter().filter(|s| s.is_tidying()) {
            for when in [When::Before, When::After] {
                let arranged = prepared.arrange();
                let script = Script {
                    perform: Times::Once,
                    undo: Times::Once,
                    fail: Some((step, when)),
                };
                let end = act(&arranged.site, arranged.plan(), &script);
                assert_eq!(end, End::Committed, "{case:?}, failing {when:?} {step}");
            }
        }
    }
}
