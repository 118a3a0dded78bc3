//! What an engine waits for, and what stops it: confirmations, deadlines, aborts, newer engines, the lock.

use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use belay_agent::engine::{self, Ending};
use belay_agent::error::EngineError;
use belay_agent::fence::Overtaken;
use belay_agent::host::Host;
use belay_agent::layout::Layout;
use belay_agent::lock::{self, Locking};
use belay_model::digest::sha256;
use belay_model::transaction::journal::{ConfirmedBy, End, Event, Holder, Output};
use belay_model::transaction::plan::{ConfirmRule, Plan};
use belay_model::transaction::step::Step;

use crate::cases::NONCE;
use crate::support::fake_host::Behaviour;
use crate::support::site::{Photo, Site, Version, assert_same, deployment_of};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

/// A host where v1.0.0 serves and v1.1.0 is to be deployed, with the runner's confirmation.
struct Waiting {
    site: Site,
    plan: Plan,
    version: Version,
    before: Photo,
}

impl Waiting {
    fn new() -> Self {
        Self::with(Version::second("v1.1.0"))
    }

    fn with(version: Version) -> Self {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let before = site.photo();
        site.bring(&version);
        let mut plan = deployment_of(&version);
        plan.confirm = ConfirmRule::Runner {
            nonce_sha256: sha256(NONCE.as_bytes()),
            within_ms: 60_000,
        };
        site.host.calm();
        Waiting {
            site,
            plan,
            version,
            before,
        }
    }

    /// Lets a file appear once the clock has come so far.
    fn appears(&self, after_ms: u64, path: PathBuf, text: &'static str) {
        self.site.host.after_ms(after_ms, move || {
            fs::write(path, text).expect("written");
        });
    }

    fn run(&self) -> Ending {
        self.site.engine(&self.plan).expect("it ends")
    }

    #[track_caller]
    fn assert_unwound(&self, why: &str) {
        let told = self.site.failures();
        assert!(told.iter().any(|t| t.contains(why)), "{told:?}");
        let photo = self.site.photo().before_arrival(&self.version);
        assert_same(&photo, &self.before, why);
        self.site.check();
    }
}

#[test]
fn the_right_confirmation_commits() {
    let waiting = Waiting::new();
    waiting.appears(20_000, waiting.site.layout.confirmation(2), NONCE);
    assert_eq!(waiting.run(), COMMITTED, "{:?}", waiting.site.failures());
    waiting.site.check();
    assert!(waiting.site.entries().iter().any(|e| matches!(
        &e.event,
        Event::Done {
            output: Output::Confirmed {
                by: ConfirmedBy::Runner
            },
            ..
        }
    )));
    assert!(!waiting.site.layout.confirmation(2).exists());
}

#[test]
fn a_wrong_confirmation_is_none() {
    let waiting = Waiting::new();
    waiting.appears(20_000, waiting.site.layout.confirmation(2), "5f3a90c2");
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");
}

#[test]
fn the_confirmation_of_another_transaction_is_none() {
    let waiting = Waiting::new();
    waiting.appears(20_000, waiting.site.layout.confirmation(1), NONCE);
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");
}

#[test]
fn a_late_confirmation_unwinds() {
    let waiting = Waiting::new();
    let began = waiting.site.host.now_ms();
    // Bake takes some seconds; a minute after its end is too late, by however little.
    let mut too_late = Waiting::new();
    too_late.run();
    let baked = too_late.site.entries().iter().find_map(|e| match &e.event {
        Event::Done {
            output: Output::Baked(baked),
            ..
        } => Some(baked.confirm_by.ms),
        _ => None,
    });
    let deadline = baked.expect("it was baked") - began;
    waiting.appears(deadline + 1, waiting.site.layout.confirmation(2), NONCE);
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");

    too_late = Waiting::new();
    too_late.appears(deadline - 100, too_late.site.layout.confirmation(2), NONCE);
    assert_eq!(too_late.run(), COMMITTED);
}

#[test]
fn a_wish_for_more_time_puts_the_deadline_off() {
    let with_wish = |ms: &'static str, confirmed_after: u64| {
        let waiting = Waiting::new();
        let layout = &waiting.site.layout;
        waiting.appears(30_000, layout.extension(2), ms);
        waiting.appears(confirmed_after, layout.confirmation(2), NONCE);
        let ending = waiting.run();
        assert!(!layout.extension(2).exists());
        waiting.site.check();
        (ending, waiting)
    };
    // A minute after the bake would have been the end.
    assert_eq!(with_wish("90000", 110_000).0, COMMITTED);
    let (late, waiting) = with_wish("90000", 150_000);
    assert_eq!(late, UNWOUND);
    waiting.assert_unwound("did not confirm in time");
    // It makes nothing shorter, has an end, and has to be a number.
    assert_eq!(with_wish("1000", 50_000).0, COMMITTED);
    assert_eq!(with_wish("9000000", 500_000).0, COMMITTED);
    assert_eq!(with_wish("9000000", 700_000).0, UNWOUND);
    assert_eq!(with_wish("for ever", 110_000).0, UNWOUND);
}

#[test]
fn a_wish_for_more_time_that_comes_too_late_is_none() {
    let waiting = Waiting::new();
    waiting.appears(80_000, waiting.site.layout.extension(2), "90000");
    waiting.appears(90_000, waiting.site.layout.confirmation(2), NONCE);
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");
}

#[test]
fn a_confirmation_between_the_deadline_and_the_next_look_is_too_late() {
    let with_confirmation = |after_ms: Option<u64>| {
        let mut waiting = Waiting::new();
        if let ConfirmRule::Runner { within_ms, .. } = &mut waiting.plan.confirm {
            // No look falls on the deadline.
            *within_ms = 60_050;
        }
        if let Some(after_ms) = after_ms {
            waiting.appears(after_ms, waiting.site.layout.confirmation(2), NONCE);
        }
        let began = waiting.site.host.now_ms();
        let ending = waiting.run();
        let baked = waiting.site.entries().iter().find_map(|e| match &e.event {
            Event::Done {
                output: Output::Baked(baked),
                ..
            } => Some(baked.confirm_by.ms - began),
            _ => None,
        });
        (ending, baked.expect("it was baked"))
    };
    let (_, deadline) = with_confirmation(None);
    assert_eq!(with_confirmation(Some(deadline + 10)).0, UNWOUND);
    assert_eq!(with_confirmation(Some(deadline - 60)).0, COMMITTED);
}

#[test]
fn nobody_there_to_confirm_unwinds() {
    let waiting = Waiting::new();
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");
}

#[test]
fn an_abort_unwinds_whatever_the_engine_waits_for() {
    for after_ms in [0, 250, 1500, 4000, 7000, 30_000] {
        let waiting = Waiting::new();
        waiting.appears(
            after_ms,
            waiting.site.layout.abort(2),
            "cancelled by a person",
        );
        assert_eq!(waiting.run(), UNWOUND);
        waiting.assert_unwound("cancelled by a person");
        assert!(!waiting.site.layout.abort(2).exists());
    }
}

#[test]
fn an_abort_that_is_there_already_begins_no_step() {
    let waiting = Waiting::new();
    let lock = waiting.site.lock();
    let mut journal = waiting.site.begin(&lock, &waiting.plan).expect("begun");
    fs::write(waiting.site.layout.abort(2), "cancelled by a person").expect("written");
    let site = &waiting.site;
    let ending = engine::run(&site.host, &site.layout, &lock, &mut journal, &waiting.plan);
    assert_eq!(ending.expect("it ends"), UNWOUND);
    drop(lock);
    assert!(!has_started(&waiting.site));
    waiting.assert_unwound("cancelled by a person");
}

#[test]
fn a_deadline_that_has_passed_already_begins_no_step() {
    let mut waiting = Waiting::new();
    waiting.plan.limits.transaction_ms = 0;
    assert_eq!(waiting.run(), UNWOUND);
    assert!(!has_started(&waiting.site));
    waiting.assert_unwound("the transaction's deadline passed");
}

fn has_started(site: &Site) -> bool {
    let entries = site.entries();
    entries
        .iter()
        .any(|e| matches!(e.event, Event::Started { .. }))
}

#[test]
fn an_abort_after_the_commit_does_nothing() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let version = Version::second("v1.1.0");
    site.bring(&version);
    let plan = deployment_of(&version);
    let lock = site.lock();
    let mut journal = site.begin(&lock, &plan).expect("begun");
    // As far as the commit, by hand; then the wish arrives.
    while !belay_model::transaction::journal::is_committed(journal.entries()) {
        let belay_model::transaction::phase::Next::Perform(step) =
            belay_model::transaction::phase::next(journal.entries())
        else {
            panic!("it goes forward");
        };
        journal
            .append(site.host.now(), Event::Started { step })
            .expect("appended");
        let mut work =
            belay_agent::steps::StepContext::new(&site.host, &site.layout, &plan, &mut journal);
        let output = belay_agent::steps::perform(step, &mut work).expect("performed");
        work.into_result().expect("noted");
        let done = Event::Done { step, output };
        journal.append(site.host.now(), done).expect("appended");
    }
    fs::write(site.layout.abort(2), "too late").expect("written");
    let ending = engine::run(&site.host, &site.layout, &lock, &mut journal, &plan);
    assert_eq!(ending.expect("it ends"), COMMITTED);
    drop(lock);
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.1.0"));
}

#[test]
fn a_deadline_that_passes_unwinds() {
    // A health watch that would take 8 s, a database that takes half a second: each is cut short.
    for transaction_ms in [300, 1000, 4000] {
        let mut waiting =
            Waiting::with(Version::second("v1.1.0").with("web", Behaviour::Status500));
        waiting.plan.limits.transaction_ms = transaction_ms;
        let began = waiting.site.host.now_ms();
        assert_eq!(waiting.run(), UNWOUND);
        waiting.assert_unwound("the transaction's deadline passed");
        let took = waiting.site.host.now_ms() - began;
        assert!(took < transaction_ms + 3000, "it took {took} ms");
    }
}

#[test]
fn the_deadline_of_the_transaction_does_not_cut_the_time_to_confirm() {
    let mut waiting = Waiting::new();
    waiting.plan.limits.transaction_ms = 15_000;
    waiting.appears(50_000, waiting.site.layout.confirmation(2), NONCE);
    assert_eq!(waiting.run(), COMMITTED, "{:?}", waiting.site.failures());
}

#[test]
fn a_reboot_while_waiting_for_the_confirmation_unwinds() {
    let waiting = Waiting::new();
    let host = waiting.site.host.clone();
    // The engine of this test survives it, so only the clock's new boot tells.
    waiting.site.host.after_ms(20_000, move || host.reboot());
    assert_eq!(waiting.run(), UNWOUND);
    waiting.assert_unwound("did not confirm in time");
}

#[test]
fn an_engine_that_a_newer_one_has_overtaken_stops_without_a_write() {
    for step in [Step::Preflight, Step::Cutover, Step::Publish] {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let version = Version::second("v1.1.0");
        site.bring(&version);
        let plan = deployment_of(&version);
        let lock = site.lock();
        let mut journal = site.begin(&lock, &plan).expect("begun");
        while belay_model::transaction::phase::next(journal.entries())
            != belay_model::transaction::phase::Next::Perform(step)
        {
            let belay_model::transaction::phase::Next::Perform(step) =
                belay_model::transaction::phase::next(journal.entries())
            else {
                panic!("it goes forward");
            };
            journal
                .append(site.host.now(), Event::Started { step })
                .expect("appended");
            let mut work =
                belay_agent::steps::StepContext::new(&site.host, &site.layout, &plan, &mut journal);
            let output = belay_agent::steps::perform(step, &mut work).expect("performed");
            work.into_result().expect("noted");
            let done = Event::Done { step, output };
            journal.append(site.host.now(), done).expect("appended");
        }
        let written = fs::read(site.layout.journal(2)).expect("readable");
        let before = site.photo();
        fs::write(site.layout.seq(), "3\n").expect("written");
        let stopped = engine::run(&site.host, &site.layout, &lock, &mut journal, &plan);
        assert!(
            matches!(
                stopped,
                Err(EngineError::Overtaken(Overtaken::Newer {
                    mine: 2,
                    newest: 3
                }))
            ),
            "{stopped:?}"
        );
        let after = fs::read(site.layout.journal(2)).expect("readable");
        assert_eq!(after, written, "it wrote to its journal");
        assert_same(&site.photo(), &before, "overtaken");
    }
}

#[test]
fn of_many_that_want_the_lock_at_once_one_gets_it() {
    let site = Site::new();
    let layout = Layout::new(site.root());
    for _ in 0..50 {
        let together = Barrier::new(8);
        let held: Vec<bool> = thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        let taken = lock::take(&layout, &Holder::default());
                        // Kept until all have tried.
                        together.wait();
                        matches!(taken.expect("it works"), Locking::Held(_))
                    })
                })
                .collect();
            let told = takers.into_iter().map(|t| t.join().expect("no panic"));
            told.collect()
        });
        assert_eq!(held.iter().filter(|held| **held).count(), 1);
    }
    assert!(lock::holder(&layout).expect("readable").is_none());
}

#[test]
fn a_run_that_finds_the_lock_taken_learns_by_whom() {
    let site = Site::new();
    let holder = Holder {
        what: "deploy v1.0.0".to_owned(),
        ..Holder::default()
    };
    let held = lock::take(&site.layout, &holder).expect("it works");
    match lock::take(&site.layout, &Holder::default()).expect("it works") {
        Locking::Busy(Some(found)) => assert_eq!(found.what, "deploy v1.0.0"),
        other => panic!("given twice: {other:?}"),
    }
    drop(held);
    site.must_deploy(&Version::first("v1.0.0"));
}
