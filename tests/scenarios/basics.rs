//! Deployments and rollbacks that go well.

use belay::agent::engine::Ending;
use belay::model::journal::End;
use belay::model::release::RollbackTo;

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
