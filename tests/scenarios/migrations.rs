//! One-shot services: once for a deployment, never for a rollback, and a failed one leaves nothing behind.

use belay_agent::engine::Ending;
use belay_model::transaction::journal::End;
use belay_model::versions::release::RollbackTo;
use serde_json::json;

use crate::support::fake_host::Behaviour;
use crate::support::site::{Site, Version, assert_same};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

fn runs(site: &Site) -> Vec<String> {
    site.host.world().one_shots.clone()
}

#[test]
fn a_migration_runs_once_for_a_deployment_and_never_for_a_rollback() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    assert_eq!(runs(&site), ["migrate v1.0.0", "migrate v1.1.0"]);
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    assert_eq!(runs(&site).len(), 2);
}

#[test]
fn a_migration_that_waits_for_another_one_runs_after_it_and_both_once() {
    let site = Site::new();
    let mut version = Version::first("v1.0.0").with("seed", Behaviour::OneShot(0));
    version.compose["services"]["seed"] = json!({"build": {"context": "."}});
    version.compose["services"]["migrate"]["depends_on"] =
        json!({"seed": {"condition": "service_completed_successfully"}});
    site.must_deploy(&version);
    assert_eq!(runs(&site), ["seed v1.0.0", "migrate v1.0.0"]);
}

#[test]
fn a_failed_migration_of_a_first_deployment_leaves_nothing() {
    let site = Site::new();
    let version = Version::second("v1.0.0").with("migrate", Behaviour::OneShot(1));
    let before = site.photo();
    assert_eq!(site.deploy(&version), UNWOUND);
    assert!(
        site.cause().error.contains("exit code 1"),
        "{:?}",
        site.cause()
    );
    assert_same(&site.photo(), &before, "a failed migration");
    site.check();
}

#[test]
fn a_failed_migration_leaves_the_version_before_untouched() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let (before, web) = (site.photo(), site.container("web"));
    site.host.calm();
    let version = Version::second("v1.1.0").with("migrate", Behaviour::OneShot(3));
    assert_eq!(site.deploy(&version), UNWOUND);
    assert_same(&site.photo(), &before, "a failed migration");
    assert_eq!(site.container("web"), web, "what serves was replaced");
    assert!(!site.host.world().calls.contains(&"up web".to_owned()));
}

#[test]
fn a_migration_is_served_by_a_database_that_has_no_healthcheck_yet() {
    let site = Site::new();
    site.handmade();
    site.must_deploy(&Version::first("v1.0.0"));
    assert_eq!(runs(&site), ["migrate v1.0.0"]);
}

#[test]
fn a_database_that_did_not_run_is_started_for_its_migration_and_stopped_when_it_fails() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let db = site.container("db");
    belay_agent::host::Host::stop(&site.host, &db).expect("stopped");
    let before = site.photo();
    let version = Version::first("v1.1.0").with("migrate", Behaviour::OneShot(1));
    assert_eq!(site.deploy(&version), UNWOUND);
    assert_same(&site.photo(), &before, "a failed migration");
}
