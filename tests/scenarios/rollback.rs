//! Rollbacks that a person asks for.

use belay_agent::engine::Ending;
use belay_model::transaction::journal::End;
use belay_model::versions::release::{How, RollbackTo};

use crate::support::fake_host::Behaviour;
use crate::support::site::{Site, Version, assert_same};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

fn tag(tag: &str) -> RollbackTo {
    RollbackTo::Tag(tag.to_owned())
}

fn three_versions() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    site.must_deploy(&Version::first("v1.2.0"));
    site
}

/// Refused: nothing on the host is any different, and nothing that serves was touched.
#[track_caller]
fn refused(site: &Site, to: RollbackTo, why: &str) {
    let before = site.photo();
    site.host.calm();
    assert_eq!(site.roll_back(to), UNWOUND);
    let cause = site.cause().error;
    assert!(cause.contains(why), "{cause}");
    assert_same(&site.photo(), &before, "refused");
    let calls = site.host.world().calls.clone();
    let touching = calls.iter().find(|c| {
        ["up", "stop", "remove", "forget"]
            .iter()
            .any(|w| c.starts_with(w))
    });
    assert_eq!(touching, None);
}

#[test]
fn without_a_name_it_goes_to_the_version_before() {
    let site = three_versions();
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    site.check();
    let current = site.current().expect("something serves");
    assert_eq!(
        (current.tag.as_str(), current.how),
        ("v1.1.0", How::Rollback)
    );
    assert_eq!(current.bad, ["3-v1.2.0"]);
    assert_eq!(site.answered().as_deref(), Some("v1.1.0"));
}

#[test]
fn by_a_tag_it_goes_to_that_version_and_forward_again() {
    let site = three_versions();
    assert_eq!(site.roll_back(tag("v1.0.0")), COMMITTED);
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    assert_eq!(site.roll_back(tag("v1.2.0")), COMMITTED);
    site.check();
    let current = site.current().expect("something serves");
    assert_eq!(current.bad, ["1-v1.0.0"]);
}

#[test]
fn twice_in_a_row_it_is_refused_without_harm() {
    let site = three_versions();
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    refused(&site, RollbackTo::Previous, "already rolled back");
    assert_eq!(site.serving().as_deref(), Some("v1.1.0"));
}

#[test]
fn to_what_serves_it_is_refused_without_harm() {
    let site = three_versions();
    refused(&site, tag("v1.2.0"), "is what serves now");
}

#[test]
fn to_a_version_that_never_was_it_is_refused_without_harm() {
    let site = three_versions();
    refused(&site, tag("v9.9.0"), "no longer kept");
}

#[test]
fn on_an_empty_host_it_is_refused_without_harm() {
    refused(
        &Site::new(),
        RollbackTo::Previous,
        "nothing is deployed here",
    );
}

#[test]
fn of_the_first_version_it_is_refused_without_harm() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    refused(&site, RollbackTo::Previous, "is the first version");
}

#[test]
fn to_an_adopted_application_it_brings_that_back() {
    let site = Site::new();
    site.handmade();
    let by_hand = site.read("docker-compose.yml");
    site.must_deploy(&Version::first("v1.0.0"));
    assert_eq!(site.read("docker-compose.yml.backup"), by_hand);
    assert_eq!(
        site.roll_back(RollbackTo::Previous),
        COMMITTED,
        "{:?}",
        site.failures()
    );
    site.check();
    assert_eq!(site.read("docker-compose.yml"), by_hand);
    assert_eq!(site.answered().as_deref(), Some("v0.9.0"));
}

#[test]
fn to_a_release_whose_compose_file_was_changed_it_is_refused_without_harm() {
    let site = three_versions();
    let path = ".belay/releases/2-v1.1.0/docker-compose.yml";
    let text = site.read(path).expect("it is there");
    site.write(path, 0o600, &text.replace("8080:", "8088:"));
    refused(&site, RollbackTo::Previous, "was changed since");
}

#[test]
fn to_a_release_whose_shipped_file_was_changed_it_is_refused_without_harm() {
    let site = three_versions();
    site.write(
        ".belay/releases/2-v1.1.0/files/.env",
        0o600,
        "RELEASE=mine\n",
    );
    refused(&site, RollbackTo::Previous, "was changed since");
}

#[test]
fn to_a_release_whose_image_is_gone_it_is_refused_without_harm() {
    let site = three_versions();
    let image = Version::second("v1.1.0").image("web").id;
    site.host.world().images.remove(&image);
    site.host.world().names.retain(|_, id| *id != image);
    refused(&site, RollbackTo::Previous, "are gone from this host");
}

#[test]
fn to_a_version_that_turns_out_bad_it_comes_back_to_where_it_began() {
    let site = three_versions();
    let before = site.photo();
    let image = Version::second("v1.1.0").image("web").id;
    let mut world = site.host.world();
    world.images.get_mut(&image).expect("kept").behaviour = Behaviour::Status500;
    drop(world);
    assert_eq!(site.roll_back(RollbackTo::Previous), UNWOUND);
    assert_same(&site.photo(), &before, "a bad target");
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.2.0"));
}

#[test]
fn an_older_tag_is_no_deployment() {
    let site = three_versions();
    let before = site.photo();
    let old = Version::first("v1.0.1");
    assert_eq!(site.deploy(&old), UNWOUND);
    assert_same(&site.photo().before_arrival(&old), &before, "a downgrade");
}

#[test]
fn files_that_only_the_left_version_placed_do_not_confuse_the_way_forward() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    site.check();
    site.must_deploy(&Version::second("v1.2.0"));
}
