//! Deployments and rollbacks that go well.

use belay_agent::engine::Ending;
use belay_agent::{backup, state};
use belay_model::transaction::journal::End;
use belay_model::versions::release::RollbackTo;

use crate::support::site::{Site, Version};

#[test]
fn versions_follow_each_other_and_back() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let db = site.container("db");
    site.must_deploy(&Version::second("v1.1.0"));
    assert_eq!(site.container("db"), db, "the database was touched");
    let ending = site.roll_back(RollbackTo::Previous);
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    assert_eq!(site.container("db"), db, "the database was touched");
}

#[test]
fn of_many_versions_the_last_ones_are_kept_and_each_of_them_can_be_had_again() {
    let site = Site::new();
    for minor in 0..9 {
        site.must_deploy(&Version::first(&format!("v1.{minor}.0")));
    }
    let kept = state::releases(&site.layout).expect("readable");
    let tags: Vec<&str> = kept.iter().map(|r| r.tag.as_str()).collect();
    assert_eq!(tags, ["v1.4.0", "v1.5.0", "v1.6.0", "v1.7.0", "v1.8.0"]);
    assert_eq!(backup::list(site.root()).len(), 5);
    // Only images of kept versions are there, and all of them.
    let built = |tag: &str| {
        let world = site.host.world();
        world.images.values().filter(|i| i.version == tag).count()
    };
    assert_eq!((built("v1.3.0"), built("v1.4.0")), (0, 3));
    for tag in ["v1.4.0", "v1.7.0", "v1.5.0"] {
        let ending = site.roll_back(RollbackTo::Tag(tag.to_owned()));
        assert_eq!(
            ending,
            Ending::Ended(End::Committed),
            "{:?}",
            site.failures()
        );
        site.check();
    }
}
