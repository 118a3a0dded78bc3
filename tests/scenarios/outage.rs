//! The host's engine fails at every call that can fail: once, for a while, for ever.

use std::fs;
use std::rc::Rc;

use belay_agent::engine::Ending;
use belay_model::transaction::journal::{End, Event};

use crate::cases::{Case, Prepared, sampled};
use crate::support::fake_host::{Behaviour, Outage, When, listen};
use crate::support::site::{Site, Version, deployment_of};

fn fallible_calls(prepared: &Prepared) -> usize {
    let arranged = prepared.arrange();
    arranged.engine().expect("it ends");
    arranged.site.host.counted().1
}

/// Fails so many calls from each one on; then the engine is well again and another contact settles what is left.
fn sweep(case: Case, calls: usize, when: When) {
    let prepared = case.prepare();
    // A restore makes and reads several archives, which takes a while, and a long outage has many contacts.
    let in_a_run = match (case, calls) {
        (Case::Restore, _) => 7,
        (_, 1 | 2) => 2,
        _ => 8,
    };
    let what = format!("{case:?}, {calls} failing");
    for first in sampled(&what, fallible_calls(&prepared), in_a_run) {
        let arranged = prepared.arrange();
        let outage = Outage { first, calls, when };
        arranged.site.host.fail_at(outage);
        let what = format!("{case:?}, {outage:?}");
        let ending = arranged.engine();
        let ending = ending.unwrap_or_else(|e| panic!("{what}: {e}"));
        arranged.site.host.calm();
        let endings = arranged.site.recover();
        let endings = endings.unwrap_or_else(|e| panic!("{what}: {e}"));
        let settled = endings.last().copied().unwrap_or(ending);
        match settled {
            Ending::Ended(End::Unwound) => arranged.assert_unwound(&what),
            Ending::Ended(End::Committed) => arranged.site.check_serving(),
            Ending::Stuck(step) => {
                panic!("{what}: {step} is stuck: {:?}", arranged.site.failures())
            }
        }
        if calls <= 2 {
            assert!(
                endings.is_empty(),
                "{what}: it needed a contact, {ending:?}"
            );
        }
    }
}

#[test]
fn one_failing_call_unwinds_or_is_tidied_up_later() {
    for case in Case::ALL {
        sweep(case, 1, When::Before);
    }
}

#[test]
fn one_call_that_only_seems_to_fail_unwinds_or_is_tidied_up_later() {
    for case in Case::ALL {
        sweep(case, 1, When::After);
    }
}

#[test]
fn an_outage_that_reaches_into_the_undo_and_is_over_then_needs_no_contact() {
    sweep(Case::OverPrevious, 2, When::Before);
}

#[test]
fn an_outage_heals_at_the_next_contact() {
    for case in [Case::OverPrevious, Case::Rollback, Case::Restore] {
        for calls in [3, 10, usize::MAX] {
            sweep(case, calls, When::Before);
        }
    }
}

/// A Docker that was killed takes ports of containers that are gone for taken. While nothing else is wrong that is waited for,
/// and what no wait helps says what does.
#[test]
fn ports_that_docker_does_not_let_go_of_are_waited_for() {
    for (kept_for_ms, is_over_in_time) in [(5_000, true), (20_000, true), (3_600_000, false)] {
        let site = Site::new();
        let direct = |tag| Version::first(tag).stop_first("web");
        site.must_deploy(&direct("v1.0.0"));
        let bad = direct("v1.1.0").with("web", Behaviour::Status500);
        site.bring(&bad);
        let (host, journal) = (site.host.clone(), site.layout.journal(2));
        listen(Some(Rc::new(move |_| {
            let written = fs::read_to_string(&journal).unwrap_or_default();
            let mut world = host.world();
            if world.ports_kept_ms.0 == 0 && written.contains("\"undo-started\"") {
                let now = world.now_ms;
                world.ports_kept_ms = (now, now + kept_for_ms);
            }
        })));
        let ending = site.engine(&deployment_of(&bad)).expect("it ends");
        listen(None);
        match is_over_in_time {
            true => {
                assert_eq!(ending, Ending::Ended(End::Unwound));
                site.check();
            }
            false => {
                assert!(matches!(ending, Ending::Stuck(_)), "{ending:?}");
                let next = site
                    .entries()
                    .into_iter()
                    .rev()
                    .find_map(|e| match e.event {
                        Event::UndoFailed { failure, .. } => failure.next,
                        _ => None,
                    });
                let next = next.expect("a person is told what to do");
                assert!(next.contains("systemctl restart docker"), "{next}");
                // What the person does.
                site.host.world().ports_kept_ms = (0, 0);
                site.recover().expect("it goes on");
                site.check();
            }
        }
    }
}
