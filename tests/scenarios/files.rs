//! The files that a release places under the root, and what they displace.

use std::fs;
use std::os::unix::fs::symlink;

use belay_agent::engine::Ending;
use belay_model::transaction::journal::End;

use crate::support::fake_host::Behaviour;
use crate::support::site::{Site, Version, assert_same};

const UNWOUND: Ending = Ending::Ended(End::Unwound);

/// A version whose files are in place by the time it fails.
fn bad(tag: &str) -> Version {
    Version::second(tag).with("web", Behaviour::Status500)
}

fn unwinds_to_the_same(site: &Site, version: &Version) {
    let before = site.photo();
    assert_eq!(site.deploy(version), UNWOUND);
    assert_same(&site.photo(), &before, "unwound");
    site.check();
}

#[test]
fn what_was_displaced_comes_back_with_its_mode() {
    let site = Site::new();
    site.handmade();
    site.write("bin/tool", 0o777, "of the user's");
    site.deploy(&bad("v1.0.0"));
    unwinds_to_the_same(&site, &bad("v1.0.1"));
    assert_eq!(site.read(".env").as_deref(), Some("RELEASE=by hand\n"));
    assert_eq!(site.read("bin/tool").as_deref(), Some("of the user's"));
}

#[test]
fn a_link_that_was_displaced_comes_back_as_a_link() {
    let site = Site::new();
    site.write("shared/env", 0o600, "SECRET=1\n");
    symlink("shared/env", site.root().join(".env")).expect("linked");
    fs::create_dir(site.root().join("conf")).expect("made");
    symlink("nowhere", site.root().join("conf/app.conf")).expect("linked");
    unwinds_to_the_same(&site, &bad("v1.0.0"));
    assert_eq!(site.read("shared/env").as_deref(), Some("SECRET=1\n"));
}

#[test]
fn a_directory_that_was_empty_before_stays() {
    let site = Site::new();
    fs::create_dir_all(site.root().join("conf")).expect("made");
    unwinds_to_the_same(&site, &bad("v1.0.0"));
    assert!(site.root().join("conf").is_dir());
    assert!(!site.root().join("bin").exists());
}

#[test]
fn a_directory_where_a_file_belongs_refuses_the_release_before_anything_is_touched() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    fs::create_dir_all(site.root().join("conf/new/cache.conf")).expect("made");
    let web = site.container("web");
    unwinds_to_the_same(&site, &Version::second("v1.1.0"));
    assert!(
        site.cause().error.contains("cache.conf"),
        "{:?}",
        site.cause()
    );
    assert_eq!(site.container("web"), web);
}

#[test]
fn a_file_where_a_directory_belongs_refuses_the_release_before_anything_is_touched() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.write("conf/new", 0o644, "no directory");
    let web = site.container("web");
    unwinds_to_the_same(&site, &Version::second("v1.1.0"));
    assert!(
        site.cause().error.contains("conf/new"),
        "{:?}",
        site.cause()
    );
    assert_eq!(site.container("web"), web);
}

#[test]
fn a_file_that_the_user_changed_by_hand_comes_back_as_changed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.write("conf/app.conf", 0o640, "changed by hand\n");
    let before = site.read("conf/app.conf");
    assert_eq!(site.deploy(&bad("v1.1.0")), UNWOUND);
    assert_eq!(site.read("conf/app.conf"), before);
}

/// The database's container does not change with the version, but with the file that it has mounted.
#[test]
fn a_service_is_replaced_when_a_file_changes_that_it_has_mounted() {
    let with_file = |tag: &str, text: &str| {
        let mut version = Version::first(tag);
        let volumes = &mut version.compose["services"]["db"]["volumes"];
        let volumes = volumes.as_array_mut().expect("a list");
        volumes.push("./db.conf:/etc/db.conf:ro".into());
        let file = ("db.conf".to_owned(), 0o644, text.to_owned());
        version.files.push(file);
        version
    };
    let site = Site::new();
    site.must_deploy(&with_file("v1.0.0", "one"));
    let first = site.container("db");
    site.must_deploy(&with_file("v1.1.0", "one"));
    assert_eq!(site.container("db"), first, "it did not change");
    site.must_deploy(&with_file("v1.2.0", "two"));
    assert_ne!(
        site.container("db"),
        first,
        "it would still read the old one"
    );
    site.check();
}
