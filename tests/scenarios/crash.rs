//! The engine's process ends at every call of the host there is, before and after its effect; the next one must leave
//! the old version or the new one, whole, and the deployment after that must need no help.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cases::{Arranged, Case, NONCE, Prepared, sampled};
use crate::support::fake_host::{Crash, Crashed, When};
use crate::support::site::{Photo, Site, Version};

/// What a transaction comes to when nothing disturbs it, and how many calls it takes.
struct Reference {
    after: Photo,
    calls: usize,
}

fn reference(prepared: &Prepared) -> Reference {
    let arranged = prepared.arrange();
    arranged.engine().expect("it ends");
    let (calls, _) = arranged.site.host.counted();
    arranged.site.check();
    Reference {
        after: arranged.site.photo(),
        calls,
    }
}

/// Runs something that is to crash; tells whether it did.
fn crashes<T>(work: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(_) => false,
        Err(panic) if panic.is::<Crashed>() => true,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn crash_once(arranged: &Arranged<'_>, crash: Crash) {
    arranged.site.host.crash_at(crash);
    assert!(crashes(|| arranged.engine()), "{crash:?} did not happen");
    arranged.site.host.calm();
}

fn the_next_deployment_works(site: &Site) {
    site.must_deploy(&Version::first("v1.2.0"));
    assert_eq!(site.serving().as_deref(), Some("v1.2.0"));
}

fn sweep(case: Case) {
    let prepared = case.prepare();
    let reference = reference(&prepared);
    for call in sampled(&format!("{case:?}"), reference.calls, 5) {
        for when in [When::Before, When::After] {
            let arranged = prepared.arrange();
            crash_once(&arranged, Crash { call, when });
            let what = format!("{case:?}, gone {when:?} call {call}");
            arranged.settle(&reference.after, &what);
            if when == When::After {
                the_next_deployment_works(&arranged.site);
            }
        }
    }
}

#[test]
fn a_first_deployment_survives_a_crash_anywhere() {
    sweep(Case::OnEmpty);
}

#[test]
fn a_deployment_survives_a_crash_anywhere() {
    sweep(Case::OverPrevious);
}

#[test]
fn a_deployment_over_an_adopted_application_survives_a_crash_anywhere() {
    sweep(Case::OverAdopted);
}

#[test]
fn a_rollback_survives_a_crash_anywhere() {
    sweep(Case::Rollback);
}

#[test]
fn a_restore_survives_a_crash_anywhere() {
    sweep(Case::Restore);
}

#[test]
fn a_copy_of_data_survives_a_crash_at_any_call() {
    sweep(Case::Copied);
}

/// Crashes, then crashes again while the recovery is at work, at each of its calls.
fn sweep_twice(case: Case, in_a_run: usize) {
    let prepared = case.prepare();
    let reference = reference(&prepared);
    let what = format!("{case:?}, and its recovery");
    for call in sampled(&what, reference.calls, in_a_run) {
        let first = Crash {
            call,
            when: When::After,
        };
        for second in 1.. {
            let arranged = prepared.arrange();
            crash_once(&arranged, first);
            arranged.site.host.crash_at(Crash {
                call: second,
                when: When::After,
            });
            let again = crashes(|| arranged.site.recover());
            arranged.site.host.calm();
            let what = format!("{case:?}, gone after call {call} and {second}");
            arranged.settle(&reference.after, &what);
            if !again {
                // The recovery took fewer calls than that.
                break;
            }
        }
    }
}

#[test]
fn a_deployment_survives_a_crash_of_its_recovery() {
    sweep_twice(Case::OverPrevious, 14);
}

#[test]
fn a_restore_survives_a_crash_of_its_recovery() {
    sweep_twice(Case::Restore, 46);
}

#[test]
fn a_rollback_survives_a_crash_of_its_recovery() {
    sweep_twice(Case::Rollback, 14);
}

#[test]
fn a_copy_of_data_survives_a_crash_of_its_recovery() {
    sweep_twice(Case::Copied, 46);
}

#[test]
fn half_a_release_that_a_crash_left_is_removed_with_the_next_prune() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.write(".belay/trash/1-v0.9.0/docker-compose.yml", 0o600, "half");
    the_next_deployment_works(&site);
    assert!(!site.root().join(".belay/trash/1-v0.9.0").exists());
}

/// The same for a deployment that a runner confirms, around and after its confirmation. What no engine had read when it
/// ended does not commit.
#[test]
fn a_deployment_survives_a_crash_anywhere_around_its_confirmation() {
    let prepared = Case::OverPrevious.prepare_confirmed_by_a_runner();
    let confirmed = |arranged: &Arranged<'_>| {
        let path = arranged.site.layout.confirmation(2);
        arranged.site.host.after_ms(8000, move || {
            std::fs::write(path, NONCE).expect("written");
        });
    };
    let arranged = prepared.arrange();
    confirmed(&arranged);
    arranged.engine().expect("it ends");
    let calls = arranged.site.host.world().calls.clone();
    let last_look = calls.iter().rposition(|call| call == "ask");
    let reference = Reference {
        after: arranged.site.photo(),
        calls: calls.len(),
    };
    arranged.site.check();
    assert_eq!(arranged.site.serving().as_deref(), Some("v1.1.0"));
    for call in last_look.expect("it was asked")..=reference.calls {
        let arranged = prepared.arrange();
        confirmed(&arranged);
        let when = When::After;
        crash_once(&arranged, Crash { call, when });
        arranged.settle(&reference.after, &format!("gone after call {call}"));
    }
}
