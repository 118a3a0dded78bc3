//! Data that a version would leave behind: refused in production before anything changes, told elsewhere and by a rollback.

use belay_agent::engine::Ending;
use belay_model::composition::continuity::{Meant, Unsaid};
use belay_model::config::DataMeaning;
use belay_model::transaction::journal::{End, Event};
use belay_model::transaction::plan::ContinuityRules;
use belay_model::versions::release::RollbackTo;

use crate::support::site::{Site, Version, assert_same, deployment_of, rollback_to};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

/// `cache` and its volume are gone in the next version.
fn served_with_a_cache() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::second("v1.0.0"));
    site
}

fn without_a_cache(site: &Site, unsaid: Unsaid, meant: Vec<Meant>) -> Ending {
    let version = Version::first("v1.1.0");
    site.bring(&version);
    let mut plan = deployment_of(&version);
    plan.continuity = ContinuityRules { unsaid, meant };
    site.engine(&plan).expect("it ends")
}

fn meant(source: &str, meaning: DataMeaning) -> Vec<Meant> {
    vec![Meant {
        source: source.to_owned(),
        meaning,
    }]
}

fn warnings(site: &Site) -> Vec<String> {
    let entries = site.entries().into_iter();
    let warnings = entries.filter_map(|entry| match entry.event {
        Event::Warning { text } => Some(text),
        _ => None,
    });
    warnings.collect()
}

fn is_told(site: &Site, text: &str) -> bool {
    warnings(site).iter().any(|warning| warning.contains(text))
}

const LOST: &str = "no service has the volume app_cachedata (4 B), which cache had at /data";

#[test]
fn production_refuses_to_leave_data_behind_and_changes_nothing() {
    let site = served_with_a_cache();
    // What was sent for it stays until a later Prune.
    site.bring(&Version::first("v1.1.0"));
    let before = site.photo();
    assert_eq!(without_a_cache(&site, Unsaid::Refuse, vec![]), UNWOUND);
    let cause = site.cause();
    assert!(cause.error.contains(LOST), "{cause:?}");
    let next = cause.next.unwrap_or_default();
    assert!(next.contains("data: {cachedata: left}"), "{next}");
    assert_same(&site.photo(), &before, "refused");
    site.check();
}

#[test]
fn what_belay_yml_says_is_done() {
    for meaning in [DataMeaning::Left, DataMeaning::Moved] {
        let site = served_with_a_cache();
        let ended = without_a_cache(&site, Unsaid::Refuse, meant("cachedata", meaning));
        assert_eq!(ended, COMMITTED, "{meaning}");
        assert!(site.host.world().volumes.contains_key("app_cachedata"));
    }
    let site = served_with_a_cache();
    let ended = without_a_cache(&site, Unsaid::Refuse, meant("cache", DataMeaning::Left));
    assert_eq!(ended, UNWOUND, "another volume's entry");
}

#[test]
fn elsewhere_and_in_a_rollback_it_is_a_warning() {
    let site = served_with_a_cache();
    assert_eq!(without_a_cache(&site, Unsaid::Warn, vec![]), COMMITTED);
    assert!(is_told(&site, LOST), "{:?}", warnings(&site));

    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    let mut plan = rollback_to(RollbackTo::Previous);
    plan.continuity.unsaid = Unsaid::Refuse;
    assert_eq!(site.engine(&plan).expect("it ends"), COMMITTED);
    assert!(is_told(&site, LOST), "{:?}", warnings(&site));
}

#[test]
fn an_entry_that_has_done_its_work_is_told() {
    let site = served_with_a_cache();
    let rules = meant("cachedata", DataMeaning::Left);
    assert_eq!(
        without_a_cache(&site, Unsaid::Refuse, rules.clone()),
        COMMITTED
    );
    assert!(!is_told(&site, "take the line out"));
    let version = Version::first("v1.2.0");
    site.bring(&version);
    let mut plan = deployment_of(&version);
    plan.continuity.meant = rules;
    assert_eq!(site.engine(&plan).expect("it ends"), COMMITTED);
    assert!(is_told(&site, "take the line out"), "{:?}", warnings(&site));
}

#[test]
fn data_that_was_never_made_is_not_missed() {
    let site = served_with_a_cache();
    site.host.world().volumes.remove("app_cachedata");
    assert_eq!(without_a_cache(&site, Unsaid::Refuse, vec![]), COMMITTED);
}
