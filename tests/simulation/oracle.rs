//! What must be true when everything is settled, whatever happened on the way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use belay_agent::host::Host as _;
use belay_agent::{durable, engine_process, journal, records as files, state, transactions};
use belay_model::transaction::journal::{
    self as records, BootTime, ConfirmedBy, End, Entry, Event, Output,
};
use belay_model::transaction::phase::{Next, next};
use belay_model::transaction::plan::{ConfirmRule, PlannedWork};
use belay_model::transaction::step::Step;

use crate::life::{Claim, Life};
use crate::story::last_version;
use crate::support::fake_host::Behaviour;
use crate::support::site::{NO_GUARDS, Photo, Site, assert_same};

/// How much later than its deadline a transaction may begin to unwind: the longest time between two looks.
const LATE_MS: u64 = 1000;

/// A transaction's journal, as the host has it in the end.
struct Told {
    seq: u64,
    entries: belay_model::transaction::phase::Records,
    runner: Option<usize>,
}

impl Told {
    fn committed(&self) -> bool {
        records::is_committed(&self.entries)
    }

    /// The release that it brought, or was to bring.
    fn release(&self, life: &Life) -> Option<String> {
        match &life.story.runners[self.runner?].plan.work {
            PlannedWork::Deploy(work) => Some(format!("{}-{}", self.seq, work.tag)),
            PlannedWork::Rollback { .. } => {
                match records::output(&self.entries, Step::Preflight)? {
                    Output::Preflight(output) => output.target.clone(),
                    _ => None,
                }
            }
        }
    }
}

/// What a story came to, for the count.
fn tally(life: &Life, told: &[Told]) {
    let mut facts = life.facts.borrow_mut();
    for one in told {
        facts.count(match one.committed() {
            true => "transactions that were committed",
            false => "transactions that were unwound",
        });
        let deadline = |e: &Entry| matches!(&e.event, Event::Failed { step: Step::Confirm, failure } if failure.error.contains("in time"));
        if one.entries.iter().any(deadline) {
            facts.count("transactions that nobody confirmed in time");
        }
        let extended = |e: &Entry| matches!(e.event, Event::Extended { .. });
        if one.entries.iter().any(extended) {
            facts.count("transactions that waited longer for their confirmation");
        }
        if one
            .entries
            .iter()
            .any(|e| matches!(e.event, Event::UndoFailed { .. }))
        {
            facts.count("undos that failed at first");
        }
    }
}

/// Checks everything. `before` is what the host was like, and what served, when the story began.
pub(crate) fn check(life: &Life, before: &Photo, base_release: Option<&str>) {
    let told = all_told(life);
    tally(life, &told);
    every_transaction_is_over(&told);
    what_serves_is_what_the_journals_say(life, &told, base_release);
    nobody_was_told_otherwise(life, &told);
    for one in &told {
        only_its_own_runner_committed_it(life, one);
        its_deadlines_held(life, one);
        a_calm_story_has_the_expected_end(life, one);
    }
    forget_what_never_began(life, &told);
    // After a loss of power the application needs a moment until it listens again.
    life.site.host.sleep(Duration::from_secs(1));
    if life.story.has_outages() {
        life.site.check_serving();
    } else {
        life.site.check();
    }
    if told.iter().any(Told::committed) {
        the_books_are_right(life);
    } else {
        let mut now = life.site.photo();
        for version in life.story.runners.iter().filter_map(|r| r.version.as_ref()) {
            now = now.before_arrival(version);
        }
        assert_same(&now, before, "nothing was committed");
    }
    if life.story.is_followed {
        the_next_deployment_works(&life.site, &told);
        life.facts.borrow_mut().count("deployments that followed");
    }
}

fn all_told(life: &Life) -> Vec<Told> {
    let facts = life.facts.borrow();
    let first = facts.seen.keys().next().copied().unwrap_or(u64::MAX);
    journal::sequence_numbers(&life.site.layout)
        .expect("readable")
        .into_iter()
        .filter(|seq| *seq >= first)
        .map(|seq| {
            let entries = journal::read(&life.site.layout.journal(seq)).expect("a whole journal");
            let tx = records::begin(&entries).map(|begin| begin.tx.clone());
            let mut runners = life.story.runners.iter();
            let runner = runners.position(|r| Some(&r.plan.tx) == tx.as_ref());
            Told {
                seq,
                entries,
                runner,
            }
        })
        .collect()
}

fn every_transaction_is_over(told: &[Told]) {
    for one in told {
        let next = next(&one.entries);
        let numbers: Vec<u64> = one.entries.iter().map(|e| e.n).collect();
        let expected: Vec<u64> = (0..one.entries.len() as u64).collect();
        assert_eq!(numbers, expected, "records of transaction {}", one.seq);
        let expected = match one.committed() {
            true => End::Committed,
            false => End::Unwound,
        };
        assert_eq!(next, Next::Closed(expected), "transaction {}", one.seq);
        let ends = one
            .entries
            .iter()
            .filter(|e| matches!(e.event, Event::End { .. }));
        assert_eq!(ends.count(), 1, "transaction {} ends once", one.seq);
    }
}

fn what_serves_is_what_the_journals_say(life: &Life, told: &[Told], base: Option<&str>) {
    let last = told.iter().rev().find(|one| one.committed());
    let expected = match last {
        Some(one) => one.release(life),
        None => base.map(str::to_owned),
    };
    let serves = life.site.current().map(|current| current.release);
    assert_eq!(serves, expected, "what serves");
}

/// One outcome: what a runner was told is what the journal says.
fn nobody_was_told_otherwise(life: &Life, told: &[Told]) {
    for (who, claim) in &life.facts.borrow().claims {
        let committed = told
            .iter()
            .any(|one| one.runner == Some(*who) && one.committed());
        let expected = match committed {
            true => Claim::Committed,
            false => Claim::Unwound,
        };
        assert_eq!(*claim, expected, "what runner {who} was told");
    }
}

fn confirm_by(one: &Told) -> Option<BootTime> {
    let Output::Baked(baked) = records::output(&one.entries, Step::Bake)? else {
        return None;
    };
    let by = records::confirm_by(&one.entries)?.clone();
    assert!(
        by.ms >= baked.confirm_by.ms && by.ms <= baked.confirm_by.ms + records::MOST_CONFIRM_MS
    );
    Some(by)
}

fn only_its_own_runner_committed_it(life: &Life, one: &Told) {
    let Some(Output::Confirmed { by }) = records::output(&one.entries, Step::Confirm) else {
        return;
    };
    let runner = one.runner.expect("a transaction is a runner's");
    match &life.story.runners[runner].plan.confirm {
        ConfirmRule::Host => assert_eq!(*by, ConfirmedBy::Host),
        ConfirmRule::Runner { .. } => {
            assert_eq!(*by, ConfirmedBy::Runner);
            let deadline = confirm_by(one).expect("it was baked");
            let facts = life.facts.borrow();
            let in_time = facts.left.iter().any(|left| {
                let boot_id = format!("boot-{}", left.boot + 1);
                let ms = left.ms;
                left.runner == runner && !deadline.has_passed(&BootTime { boot_id, ms })
            });
            assert!(
                in_time,
                "{} was committed, confirmed by nobody in time",
                one.seq
            );
        }
    }
}

/// An engine that works on looks at its deadlines, whatever the wall clock says.
fn its_deadlines_held(life: &Life, one: &Told) {
    if !life.story.is_calm() || one.committed() {
        return;
    }
    let begin = records::begin(&one.entries).expect("it began");
    let deadline = confirm_by(one).map_or(begin.deadline.ms, |confirm_by| confirm_by.ms);
    let Some(unwinding) = life.facts.borrow().seen[&one.seq].unwinding else {
        return;
    };
    assert!(
        unwinding <= deadline + LATE_MS,
        "{} had until {deadline} ms and began to unwind at {unwinding} ms",
        one.seq
    );
}

/// Where nothing breaks, a good version that is confirmed in time is deployed.
fn a_calm_story_has_the_expected_end(life: &Life, one: &Told) {
    let story = &life.story;
    let runner = one.runner.expect("a transaction is a runner's");
    let plan = &story.runners[runner].plan;
    let Some(confirm_by) = confirm_by(one) else {
        // It may have run into a deadline, an abort, a bad version or an order of versions; not without a reason.
        return assert!(records::cause(&one.entries).is_some());
    };
    // A stranger who may write there can take a confirmation away by putting something else in its place.
    let undisturbed = story.is_calm() && !story.has_strangers() && !is_aborted(&one.entries);
    if !undisturbed || plan.confirm == ConfirmRule::Host {
        return;
    }
    // A look comes every 100 ms; what arrives after the last one before the deadline is too late.
    let facts = life.facts.borrow();
    let mut left = facts.left.iter().filter(|left| left.runner == runner);
    if left.any(|left| left.ms + 200 < confirm_by.ms && left.ms > facts.seen[&one.seq].began) {
        assert!(one.committed(), "{} was confirmed in time", one.seq);
    }
}

fn is_aborted(entries: &[Entry]) -> bool {
    records::cause(entries).is_some_and(|(_, failure)| failure.error.contains("cancelled"))
}

/// Plans and images of runners that went before an engine took them. Their `begin` removes them, when it lives.
fn forget_what_never_began(life: &Life, told: &[Told]) {
    let site = &life.site;
    for (who, runner) in life.story.runners.iter().enumerate() {
        if !told.iter().any(|one| one.runner == Some(who)) {
            let tx = &runner.plan.tx;
            transactions::forget_staged(&site.host, &site.layout, tx).expect("forgotten");
            files::remove(&site.layout.incoming_plan(tx)).expect("removed");
        }
    }
}

/// Every release that is kept is whole, and its images are there.
fn the_books_are_right(life: &Life) {
    let site = &life.site;
    for release in state::releases(&site.layout).expect("readable") {
        let place = site.layout.release(&release.name);
        let file = fs::read(place.compose()).expect("a release has its file");
        assert_eq!(belay_model::digest::sha256(&file), release.compose_sha256);
        let world = site.host.world();
        for service in &release.services {
            assert!(
                service.engine_id().is_empty() || world.images.contains_key(service.engine_id()),
                "{} of {} has lost its image",
                service.name,
                release.name
            );
        }
    }
}

fn the_next_deployment_works(site: &Site, told: &[Told]) {
    let version = last_version().with("web", Behaviour::Healthy);
    site.bring(&version);
    let mut plan = belay_plan(&version);
    plan.tx = "the next deployment".to_owned();
    let text = serde_json::to_vec(&plan).expect("a plan is JSON");
    durable::replace(&site.layout.incoming_plan(&plan.tx), &text, 0o600).expect("written");
    let ended = engine_process::engine_on(&site.host, &site.layout, Some(&plan.tx), &NO_GUARDS);
    assert_eq!(
        ended.map_err(|e| e.to_string()),
        Ok(0),
        "the next deployment"
    );
    let serves = site.serving();
    assert_eq!(serves.as_deref(), Some("v9.0.0"), "{:#?}", site.failures());
    site.check();
    let numbers = journal::sequence_numbers(&site.layout).expect("readable");
    let last = told.iter().map(|one| one.seq).max();
    assert!(numbers.last().copied() > last, "a number came again");
    nothing_is_half_written(site.root());
}

fn belay_plan(version: &crate::support::site::Version) -> belay_model::transaction::plan::Plan {
    let mut plan = crate::support::site::deployment_of(version);
    plan.health.successes = 1;
    plan.health.bake_ms = 0;
    plan
}

fn nothing_is_half_written(dir: &Path) {
    for entry in fs::read_dir(dir).expect("readable") {
        let entry = entry.expect("readable");
        let name = entry.file_name();
        assert!(
            !durable::is_leftover(&name),
            "{} is left over",
            entry.path().display()
        );
        if entry.file_type().expect("readable").is_dir() {
            nothing_is_half_written(&entry.path());
        }
    }
}
