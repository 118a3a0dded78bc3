//! Data that goes along to its new place within the deployment: whole, with nobody writing, and undone whole.

use std::collections::BTreeMap;

use belay_agent::engine::Ending;
use belay_agent::host::{Composition, Host};
use belay_model::composition::continuity::{Meant, Unsaid};
use belay_model::config::{DataMeaning, WishedStrategy};
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::StrategyWish;
use belay_model::transaction::journal::{self, End, Event, Output};
use belay_model::transaction::plan::{ContinuityRules, Plan};
use belay_model::transaction::step::Step;
use belay_model::versions::release::RollbackTo;
use belay_model::yaml;
use serde_json::{Value, json};

use crate::support::fake_host::{Behaviour, Content};
use crate::support::site::{
    PROJECT, Site, Version, assert_same, copying_deployment_of, deployment_of,
};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

fn precious() -> Content {
    let files = [("note", "precious"), ("rows", "more")];
    Content {
        files: files
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into(),
        aside: BTreeMap::new(),
    }
}

/// The first version serves, and its database has data.
fn served() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.host
        .world()
        .data
        .insert("app_data".to_owned(), precious());
    site
}

fn run(site: &Site, plan: &Plan) -> Ending {
    site.engine(plan).expect("it ends")
}

fn copy(site: &Site, version: &Version) -> Ending {
    site.bring(version);
    run(site, &copying_deployment_of(version))
}

fn content(site: &Site, volume: &str) -> Option<Content> {
    site.host.world().data.get(volume).cloned()
}

/// Refused before anything stops.
#[track_caller]
fn refused(site: &Site, version: &Version, plan: &Plan, why: &str) -> String {
    // What was sent for it goes with it.
    let photo = || site.photo().before_arrival(version);
    let before = photo();
    site.host.calm();
    assert_eq!(run(site, plan), UNWOUND);
    let cause = site.cause();
    assert!(cause.error.contains(why), "{cause:?}");
    let calls = site.host.world().calls.clone();
    assert!(!calls.iter().any(|c| c.starts_with("stop")), "{calls:?}");
    assert_same(&photo(), &before, "refused");
    site.check();
    cause.next.unwrap_or_default()
}

#[test]
fn data_goes_along_and_stays_where_it_was() {
    let site = served();
    let ended = copy(&site, &Version::with_moved_data("v1.1.0"));
    assert_eq!(ended, COMMITTED, "{:?}", site.failures());
    site.check();
    assert_eq!(content(&site, "app_store"), Some(precious()));
    assert_eq!(content(&site, "app_data"), Some(precious()));
    let Some(Output::Migrated { copied, .. }) =
        journal::output(&site.entries(), Step::Migrate).cloned()
    else {
        panic!("nothing is told of it");
    };
    let told: Vec<_> = copied
        .iter()
        .map(|c| (c.from.as_str(), c.to.as_str(), c.bytes))
        .collect();
    assert_eq!(told, [("volume app_data", "volume app_store", 12)]);
}

#[test]
fn what_writes_to_it_has_stopped_and_nothing_else() {
    let site = served();
    copy(&site, &Version::with_moved_data("v1.1.0"));
    let running = site.host.world().ran_at_fill.clone();
    let [at_fill] = running.as_slice() else {
        panic!("{running:?}");
    };
    assert!(!at_fill.contains("db"), "{at_fill:?}");
    assert!(
        at_fill.contains("web") && at_fill.contains("worker"),
        "{at_fill:?}"
    );
    let Some(Output::Fetched { strategies, .. }) =
        journal::output(&site.entries(), Step::Fetch).cloned()
    else {
        panic!("nothing is told of it");
    };
    let has_gap = |name: &str| {
        let service = strategies.iter().find(|s| s.service == name);
        let gap = service.and_then(|s| s.gap.as_deref()).unwrap_or_default();
        gap.contains("its data is copied")
    };
    assert!(has_gap("db") && !has_gap("worker"), "{strategies:?}");
}

/// A service that is replaced start-first, and has data in a volume.
fn with_uploads(tag: &str, volume: &str) -> Version {
    let mut version = Version::first(tag);
    version.compose["services"]["web"]["volumes"] = json!([format!("{volume}:/uploads")]);
    version.compose["volumes"][volume] = Value::Null;
    version.wishes.push(StrategyWish {
        strategy: WishedStrategy::StartFirst,
        ..StrategyWish::of("web")
    });
    version
}

fn copying_uploads(version: &Version) -> Plan {
    let mut plan = copying_deployment_of(version);
    "uploads".clone_into(&mut plan.continuity.meant[0].source);
    plan
}

#[test]
fn the_old_container_of_a_start_first_service_never_runs_beside_the_new_data() {
    for behaviour in [
        Behaviour::Healthy,
        Behaviour::Status500,
        Behaviour::BadAfter(4500),
    ] {
        let site = Site::new();
        site.must_deploy(&with_uploads("v1.0.0", "uploads"));
        site.host
            .world()
            .data
            .insert("app_uploads".to_owned(), precious());
        let version = with_uploads("v1.1.0", "files").with("web", behaviour.clone());
        site.bring(&version);
        let before = site.photo().before_arrival(&version);
        site.host.calm();
        let ended = run(&site, &copying_uploads(&version));
        let Some(Output::Fetched { moves, .. }) =
            journal::output(&site.entries(), Step::Fetch).cloned()
        else {
            panic!("it was refused: {:?}", site.cause());
        };
        assert_eq!(moves.strategy("web"), Strategy::StartFirstGateway);
        let at_fill = site.host.world().ran_at_fill.clone();
        assert!(
            at_fill.iter().all(|running| !running.contains("web")),
            "{at_fill:?}"
        );
        site.check();
        assert_eq!(content(&site, "app_uploads"), Some(precious()));
        if behaviour == Behaviour::Healthy {
            assert_eq!(ended, COMMITTED, "{:?}", site.failures());
            assert_eq!(content(&site, "app_files"), Some(precious()));
            assert_eq!(site.running_of("web"), 1);
        } else {
            assert_eq!(ended, UNWOUND);
            assert_same(&site.photo().before_arrival(&version), &before, "unwound");
            assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
        }
    }
}

#[test]
fn a_version_that_is_not_well_leaves_the_data_where_it_was_and_no_copy() {
    for behaviour in [
        Behaviour::Status500,
        Behaviour::WontStart,
        Behaviour::BadAfter(4500),
    ] {
        let site = served();
        let before = site.photo();
        let version = Version::with_moved_data("v1.1.0").with("web", behaviour.clone());
        assert_eq!(copy(&site, &version), UNWOUND);
        assert_same(&site.photo(), &before, &format!("{behaviour:?}"));
        site.check();
        assert_eq!(content(&site, "app_store"), None);
        // The next one takes it along.
        assert_eq!(copy(&site, &Version::with_moved_data("v1.2.0")), COMMITTED);
        assert_eq!(content(&site, "app_store"), Some(precious()));
    }
}

#[test]
fn the_version_before_finds_its_data_as_it_was_and_is_not_copied_over() {
    let site = served();
    copy(&site, &Version::with_moved_data("v1.1.0"));
    let newer = Content::note("written since");
    site.host
        .world()
        .data
        .insert("app_store".to_owned(), newer.clone());
    assert_eq!(site.roll_back(RollbackTo::Previous), COMMITTED);
    site.check();
    assert_eq!(content(&site, "app_data"), Some(precious()));
    assert_eq!(content(&site, "app_store"), Some(newer.clone()));
    // What is there now is nobody's to overwrite.
    let again = Version::with_moved_data("v1.2.0");
    site.bring(&again);
    let next = refused(
        &site,
        &again,
        &copying_deployment_of(&again),
        "the volume app_data cannot be copied to the volume app_store, which is not empty: note is there",
    );
    assert!(next.contains("docker volume rm app_store"), "{next}");
    assert!(
        next.contains("say `moved` instead of `copied` for data"),
        "{next}"
    );
    assert_eq!(content(&site, "app_store"), Some(newer));
}

#[test]
fn a_rollback_never_copies() {
    let site = served();
    copy(&site, &Version::with_moved_data("v1.1.0"));
    let mut plan = crate::support::site::rollback_to(RollbackTo::Previous);
    plan.continuity = ContinuityRules {
        unsaid: Unsaid::Refuse,
        meant: vec![Meant {
            source: "store".to_owned(),
            meaning: DataMeaning::Copied,
        }],
    };
    assert_eq!(run(&site, &plan), COMMITTED, "{:?}", site.failures());
    assert_eq!(site.host.world().ran_at_fill.len(), 1);
}

#[test]
fn a_place_that_is_there_and_empty_is_filled_and_emptied_again() {
    for behaviour in [Behaviour::Healthy, Behaviour::Status500] {
        let site = served();
        let there = (PROJECT.to_owned(), 999);
        site.host
            .world()
            .volumes
            .insert("app_store".to_owned(), there);
        site.host
            .world()
            .data
            .insert("app_store".to_owned(), Content::empty());
        let before = site.photo();
        let version = Version::with_moved_data("v1.1.0").with("web", behaviour.clone());
        let ended = copy(&site, &version);
        site.check();
        if behaviour == Behaviour::Healthy {
            assert_eq!(ended, COMMITTED, "{:?}", site.failures());
            assert_eq!(content(&site, "app_store"), Some(precious()));
        } else {
            assert_eq!(ended, UNWOUND);
            assert_same(&site.photo(), &before, "unwound");
        }
    }
}

#[test]
fn a_folder_that_is_not_there_is_made_and_goes_again() {
    for behaviour in [Behaviour::Healthy, Behaviour::Status500] {
        let site = served();
        let before = site.photo();
        let mut version = Version::first("v1.1.0").with("web", behaviour.clone());
        version.compose["services"]["db"]["volumes"] = json!(["./deep/store:/var/lib/db"]);
        let ended = copy(&site, &version);
        let folder = site.root().join("deep/store");
        if behaviour == Behaviour::Healthy {
            assert_eq!(ended, COMMITTED, "{:?}", site.failures());
            assert!(folder.is_dir());
            let found = content(&site, &folder.display().to_string());
            assert_eq!(found, Some(precious()));
        } else {
            assert_eq!(ended, UNWOUND);
            assert_same(&site.photo(), &before, "unwound");
        }
    }
}

#[test]
fn without_the_room_for_it_nothing_stops() {
    let site = served();
    site.hold(&"much ".repeat(100_000));
    // What the second needs is known from the first one's backup, as it is for the third.
    for tag in ["v1.1.0", "v1.2.0"] {
        let version = Version::with_moved_data(tag).with("web", Behaviour::Status500);
        copy(&site, &version);
    }
    let entries = site.entries();
    let Some(Output::Preflight(seen)) = journal::output(&entries, Step::Preflight) else {
        panic!("it was refused: {:?}", site.cause());
    };
    // Enough for the backup, and for half of the copy.
    site.host.world().free_bytes = seen.backup_estimate_bytes + 64 * 1024 * 1024 + 250_000;
    let version = Version::with_moved_data("v1.3.0");
    site.bring(&version);
    let plan = copying_deployment_of(&version);
    let next = refused(
        &site,
        &version,
        &plan,
        "not enough disk to copy volume app_data",
    );
    assert!(next.contains("free some space"), "{next}");
}

#[test]
fn what_cannot_be_copied_is_refused_with_what_to_say_instead() {
    let site = served();
    let mut version = Version::first("v1.1.0");
    version.compose["services"]["db"]["volumes"] = json!(["data:/elsewhere"]);
    site.bring(&version);
    let next = refused(
        &site,
        &version,
        &copying_deployment_of(&version),
        "belay.yml says that it is copied, and it cannot be, because it is the same data in both versions",
    );
    assert!(next.contains("say `moved`"), "{next}");
}

/// The application as somebody else's project has it, in the same folder.
fn other_project(site: &Site) -> Composition {
    let mut version = Version::with_moved_data("by-hand");
    let services = version.compose["services"]
        .as_object_mut()
        .expect("services");
    services.remove("migrate");
    for service in services.values_mut() {
        let service = service.as_object_mut().expect("a service");
        if service.remove("build").is_some() {
            service.insert("image".to_owned(), json!("db:16"));
        }
        service.remove("depends_on");
    }
    site.write("by-hand.yml", 0o644, &yaml::write(&version.compose));
    let composition = Composition {
        project: "elsewhere".to_owned(),
        directory: site.root().to_owned(),
        file: site.root().join("by-hand.yml"),
    };
    let registry = site.host.world().registry.clone();
    for (name, image) in registry {
        site.host.load(&name, &image);
    }
    for service in ["db", "web", "worker", "legacy"] {
        site.host.up(&composition, service).expect("it runs");
    }
    composition
}

#[test]
fn another_project_makes_room_and_comes_back_when_that_is_undone() {
    for behaviour in [Behaviour::Healthy, Behaviour::Status500] {
        let site = Site::new();
        other_project(&site);
        site.host
            .world()
            .data
            .insert("elsewhere_store".to_owned(), precious());
        let running = || {
            let containers = site.host.containers("elsewhere").expect("listed");
            containers.iter().filter(|c| c.is_alive()).count()
        };
        assert_eq!(running(), 4);
        let version = Version::first("v1.0.0").with("web", behaviour.clone());
        site.bring(&version);
        let mut plan = copying_deployment_of(&version);
        "store".clone_into(&mut plan.continuity.meant[0].source);
        let ended = run(&site, &plan);
        assert_eq!(content(&site, "elsewhere_store"), Some(precious()));
        if behaviour == Behaviour::Healthy {
            assert_eq!(ended, COMMITTED, "{:?}", site.failures());
            assert_eq!(content(&site, "app_data"), Some(precious()));
            assert_eq!(running(), 0);
            let is_told = |e: &journal::Entry| matches!(&e.event, Event::Warning { text } if text.contains("is stopped, and stays so"));
            assert!(site.entries().iter().any(is_told));
        } else {
            assert_eq!(ended, UNWOUND);
            assert_eq!(running(), 4);
            assert_eq!(content(&site, "app_data"), None);
        }
    }
}

#[test]
fn without_the_word_nothing_is_copied() {
    let site = served();
    let version = Version::with_moved_data("v1.1.0");
    site.bring(&version);
    let mut plan = deployment_of(&version);
    plan.continuity.unsaid = Unsaid::Refuse;
    let next = refused(
        &site,
        &version,
        &plan,
        "v1.1.0 would leave data of v1.0.0 behind",
    );
    for word in ["copied", "moved", "left"] {
        assert!(
            next.contains(&format!("`data: {{data: {word}}}`")),
            "{next}"
        );
    }
}
