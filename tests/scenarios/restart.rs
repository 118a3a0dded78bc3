//! `belay restart`: what runs is restarted, and what does not is made to run.

use std::time::Duration;

use belay_agent::host::{Host, RunState};
use belay_agent::restart::restart;

use crate::support::fake_host::Hand;
use crate::support::site::{Site, Version};

fn serving() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site
}

fn restarted(site: &Site, service: Option<&str>) -> Vec<(String, bool)> {
    let done = restart(&site.host, &site.layout, &site.lock(), service);
    let done = done.expect("restarted").into_iter();
    done.map(|one| (one.service, one.made)).collect()
}

#[test]
fn what_is_gone_or_stopped_or_held_is_made_to_run() {
    let site = serving();
    site.host.by_hand(Hand::Removes, "web", true);
    site.host.by_hand(Hand::Removes, "belay-gateway", true);
    site.host.by_hand(Hand::Pauses, "db", true);
    site.host
        .stop_within(&site.container("worker"), Duration::ZERO)
        .expect("stopped");
    assert_eq!(site.answered(), None);
    let done = restarted(&site, None);
    let made: Vec<&str> = done
        .iter()
        .filter(|(_, made)| *made)
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(made, ["db", "web", "worker", "belay-gateway"]);
    assert!(done.contains(&("legacy".to_owned(), false)), "{done:?}");
    site.check();
    assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
}

#[test]
fn one_service_that_is_gone_is_made_by_its_name() {
    let site = serving();
    site.host.by_hand(Hand::Removes, "worker", true);
    assert_eq!(
        restarted(&site, Some("worker")),
        [("worker".to_owned(), true)]
    );
    site.check();
    let refused = restart(&site.host, &site.layout, &site.lock(), Some("cart"));
    let error = refused.expect_err("there is none").into_failure().error;
    assert_eq!(error, "no service cart runs here");
}

#[test]
fn a_migration_that_is_over_does_not_run_again() {
    let site = serving();
    let runs = site.host.world().one_shots.len();
    let done = restarted(&site, None);
    assert!(
        done.iter().all(|(name, made)| name != "migrate" && !made),
        "{done:?}"
    );
    assert_eq!(site.host.world().one_shots.len(), runs);
    assert_eq!(site.running()["web"].1, RunState::Running);
}
