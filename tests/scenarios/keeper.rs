//! The thread beside the engine that keeps what serves: what somebody takes away in the middle of a deployment is back
//! before its users have missed it for long.

use std::time::Duration;

use belay_agent::engine::Ending;
use belay_agent::host::Host;
use belay_model::judgement::measure::Measured;
use belay_model::transaction::journal::{End, Event};
use belay_model::transaction::step::Step;
use belay_prober::Target;

use crate::support::fake_host::Hand;
use crate::support::site::{PRIMARY_URL, Saved, Site, Version, deployment_of};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

/// How long nobody may be served, in milliseconds: the start of a container, and the time between two looks of the engine,
/// which is when a hand comes.
const LONGEST_GAP_MS: u64 = 1_000;

/// A version serves, and another one has been sent.
struct Stage {
    saved: Saved,
    next: Version,
}

impl Stage {
    fn new() -> Stage {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let next = Version::first("v1.1.0");
        site.bring(&next);
        Stage {
            saved: site.save(),
            next,
        }
    }

    /// How long after the transaction's beginning a step begins, in milliseconds.
    fn begins(&self, wanted: Step) -> u64 {
        let site = self.saved.restore();
        site.engine(&deployment_of(&self.next)).expect("it ends");
        let entries = site.entries();
        let begins = |e: &&belay_model::transaction::journal::Entry| matches!(e.event, Event::Started { step } if step == wanted);
        let begun = entries.iter().find(begins).expect("it was begun").at;
        let first = entries.first().expect("a record").at;
        u64::try_from((begun.as_millisecond() - first.as_millisecond()).max(0)).expect("forward")
    }

    /// Lets somebody do something so long after a step began.
    fn play(
        &self,
        step: Step,
        after_ms: u64,
        hand: Hand,
        service: &'static str,
        newest: bool,
    ) -> Played {
        let at = self.begins(step) + after_ms;
        let site = self.saved.restore();
        site.host.attend();
        let host = site.host.clone();
        site.host
            .after_ms(at, move || host.by_hand(hand, service, newest));
        let mut user = site.host.prober(&Target {
            url: PRIMARY_URL.to_owned(),
            per_second: 50,
            timeout: Duration::from_secs(1),
            version: None,
            by_proxy: false,
        });
        // From now on.
        user.take();
        let ended = site.engine(&deployment_of(&self.next)).expect("it ends");
        let seen = user.take();
        Played { site, ended, seen }
    }
}

struct Played {
    site: Site,
    ended: Ending,
    seen: Measured,
}

impl Played {
    fn is_told(&self, text: &str) -> bool {
        let entries = self.site.entries();
        let mut warnings = entries.iter().filter_map(|e| match &e.event {
            Event::Warning { text } => Some(text),
            _ => None,
        });
        warnings.any(|warning| warning.contains(text))
    }

    #[track_caller]
    fn ends(&self, ended: Ending, told: &str) {
        assert_eq!(self.ended, ended, "{:?}", self.site.failures());
        assert!(self.is_told(told), "{:#?}", self.site.entries());
        assert!(
            self.seen.longest_gap_ms <= LONGEST_GAP_MS,
            "{:?}",
            self.seen
        );
        self.site.check();
    }
}

#[test]
fn what_serves_before_the_cutover_is_brought_back() {
    let stage = Stage::new();
    for (hand, told) in [
        (Hand::Kills, "web had been stopped; it was started again"),
        (
            Hand::Removes,
            "web had lost its container; it was made again",
        ),
        (Hand::Pauses, "web had been paused; it runs on"),
    ] {
        let played = stage.play(Step::Probe, 600, hand, "web", false);
        played.ends(COMMITTED, told);
    }
}

#[test]
fn the_gateway_is_brought_back() {
    let stage = Stage::new();
    for hand in [Hand::Kills, Hand::Pauses] {
        for step in [Step::Probe, Step::Bake] {
            let played = stage.play(step, 600, hand, "belay-gateway", true);
            played.ends(COMMITTED, "belay-gateway had been");
        }
    }
}

#[test]
fn a_new_version_that_loses_its_container_gives_the_requests_back() {
    let stage = Stage::new();
    for (hand, told) in [
        (Hand::Kills, "ended with code 137"),
        (Hand::Removes, "the new container of web is gone"),
    ] {
        let played = stage.play(Step::Bake, 600, hand, "web", true);
        played.ends(UNWOUND, told);
    }
}

#[test]
fn a_new_version_that_is_paused_runs_on() {
    let stage = Stage::new();
    let played = stage.play(Step::Bake, 600, Hand::Pauses, "web", true);
    played.ends(COMMITTED, "web had been paused; it runs on");
}

#[test]
fn what_was_paused_before_a_deployment_serves_again() {
    let stage = Stage::new();
    let site = stage.saved.restore();
    site.host.attend();
    site.host.by_hand(Hand::Pauses, "web", true);
    assert_eq!(site.answered(), None);
    let ended = site.engine(&deployment_of(&stage.next)).expect("it ends");
    assert_eq!(ended, COMMITTED, "{:?}", site.failures());
    site.check();
    let told = Played {
        site,
        ended,
        seen: Measured::default(),
    };
    assert!(told.is_told("web had been paused; it runs on"));
}
