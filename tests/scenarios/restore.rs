//! Rollbacks that put the data of a backup back.

use belay_agent::backup::Reason;
use belay_agent::engine::Ending;
use belay_model::transaction::journal::End;
use belay_model::transaction::plan::{DataRule, Plan};
use belay_model::versions::release::{How, RollbackTo};

use crate::support::fake_host::{Behaviour, Content};
use crate::support::site::{Site, Version, assert_same, deployment_of, restore_of};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

/// Two versions, and data that the second one has spoilt. Returns the name of the backup from between them.
fn spoilt() -> (Site, String) {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.hold("good");
    site.must_deploy(&Version::second("v1.1.0"));
    site.hold("spoilt");
    let backup = site.backups().pop().expect("a backup");
    (site, backup.name)
}

fn run(site: &Site, plan: &Plan) -> Ending {
    site.engine(plan).expect("the engine came to an end")
}

/// Refused: nothing on the host is any different, and nothing was stopped.
#[track_caller]
fn refused(site: &Site, plan: &Plan, why: &str) {
    let before = site.photo();
    site.host.calm();
    assert_eq!(run(site, plan), UNWOUND);
    let cause = site.cause().error;
    assert!(cause.contains(why), "{cause}");
    assert_same(&site.photo(), &before, "refused");
    let calls = site.host.world().calls.clone();
    assert!(!calls.iter().any(|c| c.starts_with("stop")), "{calls:?}");
}

#[test]
fn the_version_before_gets_the_data_that_it_had() {
    let (site, backup) = spoilt();
    let plan = restore_of(RollbackTo::Previous, &backup);
    assert_eq!(run(&site, &plan), COMMITTED, "{:?}", site.failures());
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
    assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
    assert_eq!(site.held(), Content::note("good"));
    let safety = site.backups().pop().expect("a backup");
    let reason = Reason::BeforeRestore { backup };
    assert_eq!(safety.manifest.reason, reason);
    let text = belay_agent::backup::extract_file(
        site.layout.root(),
        &safety.name,
        "data/volumes/app_data/note",
    );
    assert_eq!(text.expect("saved"), b"spoilt");
}

#[test]
fn what_was_there_comes_back_from_its_own_backup() {
    let (site, backup) = spoilt();
    run(&site, &restore_of(RollbackTo::Previous, &backup));
    let safety = site.backups().pop().expect("a backup").name;
    let forward = restore_of(RollbackTo::Tag("v1.1.0".to_owned()), &safety);
    assert_eq!(run(&site, &forward), COMMITTED, "{:?}", site.failures());
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.1.0"));
    assert_eq!(site.held(), Content::note("spoilt"));
    site.must_deploy(&Version::first("v1.2.0"));
}

#[test]
fn the_version_that_serves_can_get_other_data_and_stays_what_it_is() {
    let (site, backup) = spoilt();
    let way_back = site.read("docker-compose.yml.backup");
    let plan = restore_of(RollbackTo::Tag("v1.1.0".to_owned()), &backup);
    assert_eq!(run(&site, &plan), COMMITTED, "{:?}", site.failures());
    site.check();
    assert_eq!(site.held(), Content::note("good"));
    assert_eq!(site.read("docker-compose.yml.backup"), way_back);
    let current = site.current().expect("something serves");
    let expected = ("v1.1.0", How::Deploy, Some("1-v1.0.0"));
    let found = (
        current.tag.as_str(),
        current.how,
        current.previous.as_deref(),
    );
    assert_eq!(found, expected);
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
}

#[test]
fn a_version_that_is_not_well_with_it_leaves_data_and_version_as_they_were() {
    let (site, backup) = spoilt();
    let old = Version::first("v1.0.0").image("web").id;
    let before = site.photo();
    let mut world = site.host.world();
    world.images.get_mut(&old).expect("kept").behaviour = Behaviour::Status500;
    drop(world);
    let plan = restore_of(RollbackTo::Previous, &backup);
    assert_eq!(run(&site, &plan), UNWOUND);
    assert_same(&site.photo(), &before, "unwound");
    site.check();
    assert_eq!(site.held(), Content::note("spoilt"));
    assert_eq!(site.answered().as_deref(), Some("v1.1.0"));
}

/// It would write into the data of another time, or make something else of it.
#[test]
fn the_version_before_never_starts_on_data_that_is_about_to_go_again() {
    let (site, backup) = spoilt();
    let old = Version::first("v1.0.0").image("web").id;
    let mut world = site.host.world();
    world.images.get_mut(&old).expect("kept").behaviour = Behaviour::BadAfter(2_500);
    drop(world);
    let plan = restore_of(RollbackTo::Previous, &backup);
    assert_eq!(run(&site, &plan), UNWOUND);
    let started = site.host.world().beside_kept.clone();
    assert!(started.contains(&"worker v1.0.0".to_owned()), "{started:?}");
    assert!(
        !started.iter().any(|s| s.ends_with("v1.1.0")),
        "{started:?}"
    );
    site.check();
    assert_eq!(site.held(), Content::note("spoilt"));
}

#[test]
fn a_backup_that_is_damaged_is_refused_before_anything_stops() {
    let (site, backup) = spoilt();
    let path = format!("backups/{backup}.tar.gz");
    let file = site.layout.root().join(&path);
    let mut bytes = std::fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    refused(&site, &restore_of(RollbackTo::Previous, &backup), "damaged");
}

#[test]
fn a_backup_that_is_not_there_is_refused_before_anything_stops() {
    let (site, _) = spoilt();
    let plan = restore_of(RollbackTo::Previous, "backup_20200101_000000");
    refused(&site, &plan, "there is no backup");
}

#[test]
fn a_backup_without_data_is_refused_before_anything_stops() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let second = Version::second("v1.1.0");
    site.bring(&second);
    let mut plan = deployment_of(&second);
    plan.backup.data = DataRule::None;
    assert_eq!(run(&site, &plan), COMMITTED);
    let backup = site.backups().pop().expect("a backup").name;
    let plan = restore_of(RollbackTo::Previous, &backup);
    refused(&site, &plan, "holds no data that 1-v1.0.0 uses");
}

#[test]
fn what_is_replaced_is_saved_even_where_backups_hold_no_data() {
    let (site, backup) = spoilt();
    let mut plan = restore_of(RollbackTo::Previous, &backup);
    plan.backup.data = DataRule::None;
    assert_eq!(run(&site, &plan), COMMITTED);
    let safety = site.backups().pop().expect("a backup");
    assert_eq!(safety.manifest.data(), ["volume app_data"]);
}
