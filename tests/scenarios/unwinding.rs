//! Every way in which a new version can be bad, and that the old one is back afterwards.

use belay_agent::engine::Ending;
use belay_agent::host::{Host, RunState};
use belay_model::judgement::health::{DegradedRule, Verdict};
use belay_model::transaction::journal::{End, Event, Output};
use belay_model::transaction::step::Step;
use serde_json::json;

use crate::support::fake_host::{Behaviour, ComposeKind, FakeImage};
use crate::support::site::{Site, Version, assert_same, deployment_of};

const COMMITTED: Ending = Ending::Ended(End::Committed);
const UNWOUND: Ending = Ending::Ended(End::Unwound);

fn bad_ones() -> [(Behaviour, &'static str); 9] {
    [
        (Behaviour::Status500, "answered 500"),
        (Behaviour::PrimaryFails, "answered 500"),
        (Behaviour::Exits(1), "exited with code 1"),
        (Behaviour::DockerUnhealthy, "says unhealthy: no database"),
        (Behaviour::WrongVersion, "reports version \"v0.0.1\""),
        (Behaviour::NeverListens, "does not accept connections"),
        (Behaviour::BadAfter(4500), "it was healthy, then"),
        (Behaviour::WontStart, "could not start web"),
        (Behaviour::OneShot(0), "exited with code 0"),
    ]
}

#[test]
fn every_bad_version_is_rolled_back() {
    for compose in [ComposeKind::Python, ComposeKind::Go] {
        for (behaviour, why) in bad_ones() {
            is_rolled_back(compose, &behaviour, why);
        }
    }
}

fn is_rolled_back(compose: ComposeKind, behaviour: &Behaviour, why: &str) {
    let site = Site::new();
    site.host.world().compose = compose;
    site.must_deploy(&Version::first("v1.0.0"));
    let (before, db) = (site.photo(), site.container("db"));
    let version = Version::second("v1.1.0").with("web", behaviour.clone());
    assert_eq!(site.deploy(&version), UNWOUND, "{behaviour:?}");
    let cause = site.cause().error;
    assert!(cause.contains(why), "{behaviour:?}: {cause}");
    assert_same(&site.photo(), &before, &format!("{behaviour:?}"));
    site.check();
    assert_eq!(site.container("db"), db, "the database was touched");
}

#[test]
fn every_bad_first_version_leaves_nothing() {
    for (behaviour, _) in bad_ones() {
        let site = Site::new();
        let before = site.photo();
        let version = Version::second("v1.0.0").with("web", behaviour.clone());
        assert_eq!(site.deploy(&version), UNWOUND, "{behaviour:?}");
        assert_same(&site.photo(), &before, &format!("{behaviour:?}"));
        site.check();
        site.must_deploy(&Version::first("v1.0.1"));
    }
}

#[test]
fn every_bad_version_over_an_adopted_application_brings_that_back() {
    for (behaviour, _) in bad_ones() {
        let site = Site::new();
        site.handmade();
        let version = Version::second("v1.0.0").with("web", behaviour.clone());
        assert_eq!(site.deploy(&version), UNWOUND, "{behaviour:?}");
        site.check();
        assert_eq!(site.serving().as_deref(), Some("adopted"));
        assert_eq!(site.answered().as_deref(), Some("v0.9.0"));
    }
}

#[test]
fn a_container_that_ends_without_a_restart_policy_is_noticed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let mut version = Version::second("v1.1.0").with("worker", Behaviour::Exits(7));
    version.compose["services"]["worker"]["restart"] = json!("no");
    assert_eq!(site.deploy(&version), UNWOUND);
    let cause = site.cause().error;
    assert!(cause.contains("worker exited with code 7"), "{cause}");
    site.check();
}

#[test]
fn what_the_bad_version_wrote_last_is_kept() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.deploy(&Version::second("v1.1.0").with("web", Behaviour::Status500));
    let logs: Vec<String> = site
        .entries()
        .into_iter()
        .filter_map(|e| match e.event {
            Event::Logs { service, text } if service == "web" => Some(text),
            _ => None,
        })
        .collect();
    assert!(logs[0].contains("server web v1.1.0 starts"), "{logs:?}");
    let kept = site.read(".belay/failed/00000002/web.log");
    assert!(kept.is_some_and(|text| text.contains("v1.1.0")));
}

#[test]
fn a_degraded_version_is_accepted_with_a_warning_where_the_rules_accept_it() {
    let site = Site::new();
    let version = Version::first("v1.0.0").with("web", Behaviour::PrimaryHangs);
    assert_eq!(site.deploy(&version), COMMITTED, "{:?}", site.failures());
    assert!(site.entries().iter().any(|e| matches!(&e.event,
        Event::Done { output: Output::Baked(baked), .. } if matches!(baked.verdict, Verdict::Degraded(_)))));
    assert!(site.entries().iter().any(|e| matches!(&e.event,
        Event::Warning { text } if text.contains("degraded"))));
}

#[test]
fn a_degraded_version_is_rolled_back_where_the_rules_refuse_it() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let before = site.photo();
    let version = Version::first("v1.1.0").with("web", Behaviour::PrimaryHangs);
    let mut plan = deployment_of(&version);
    plan.health.degraded = DegradedRule::Fail;
    site.bring(&version);
    assert_eq!(site.engine(&plan).expect("it ends"), UNWOUND);
    assert_same(&site.photo(), &before, "degraded");
}

#[test]
fn a_dropped_service_is_stopped_before_its_port_is_needed_and_then_removed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::second("v1.1.0"));
    assert!(!site.running().contains_key("legacy"));
    assert!(site.running().contains_key("cache"));
}

#[test]
fn an_image_that_never_arrived_is_told_before_anything_is_touched() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let (before, web) = (site.photo(), site.container("web"));
    let plan = deployment_of(&Version::second("v1.1.0"));
    assert_eq!(site.engine(&plan).expect("it ends"), UNWOUND);
    assert!(site.cause().error.contains("did not arrive"));
    assert_same(&site.photo(), &before, "an image is missing");
    assert_eq!(site.container("web"), web);
}

#[test]
fn an_image_that_serves_already_does_not_keep_the_names_of_a_failed_version() {
    let site = Site::new();
    let shared = FakeImage::new("worker", "v1.0.0", Behaviour::Healthy);
    site.must_deploy(&Version::first("v1.0.0"));
    let before = site.photo();
    let version = Version::first("v1.1.0").with("web", Behaviour::Status500);
    let mut plan = deployment_of(&version);
    if let belay_model::transaction::plan::PlannedWork::Deploy(work) = &mut plan.work {
        let worker = work.images.iter_mut().find(|i| i.service == "worker");
        worker.expect("it is built").id.clone_from(&shared.id);
    }
    site.bring(&version);
    site.host.load(&version.reference("worker"), &shared);
    assert_eq!(site.engine(&plan).expect("it ends"), UNWOUND);
    assert_same(&site.photo(), &before, "a shared image");
}

#[test]
fn images_that_arrived_under_any_name_go_with_a_failed_version() {
    let site = Site::new();
    let version = Version::first("v1.0.0").with("web", Behaviour::Status500);
    let mut plan = deployment_of(&version);
    let other = "belay/app-web:v1.0.0";
    if let belay_model::transaction::plan::PlannedWork::Deploy(work) = &mut plan.work {
        let web = work.images.iter_mut().find(|i| i.service == "web");
        other.clone_into(&mut web.expect("it is built").reference);
    }
    site.bring(&version);
    site.host.load(other, &version.image("web"));
    let _ = site.host.forget_image(&version.reference("web"));
    assert_eq!(site.engine(&plan).expect("it ends"), UNWOUND);
    assert!(!site.host.world().names.contains_key(other));
}

#[test]
fn a_service_that_was_stopped_stays_stopped_and_old() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let worker = site.container("worker");
    site.host.stop(&worker).expect("stopped");
    let old = site.running()["worker"].0.clone();
    site.host.calm();
    let version = Version::second("v1.1.0").with("web", Behaviour::BadAfter(3000));
    assert_eq!(site.deploy(&version), UNWOUND);
    // Its old container was replaced and cannot be had without starting it; the new one must not stay in its place.
    let now = site.running().get("worker").cloned();
    assert!(
        now.as_ref()
            .is_none_or(|(id, state)| *id == old && matches!(state, RunState::Exited(_))),
        "{now:?}"
    );
    let world = site.host.world();
    let starts = world.calls.iter().filter(|call| *call == "up worker");
    assert_eq!(
        starts.count(),
        1,
        "only the new version may have started it"
    );
}

#[test]
fn a_version_that_kept_crashing_comes_back_when_its_correction_is_bad_too() {
    let site = Site::new();
    let mut crashing = Version::first("v1.0.0").with("worker", Behaviour::Healthy);
    crashing.compose["services"]["worker"]["restart"] = json!("always");
    site.must_deploy(&crashing);
    // It begins to crash after it was deployed.
    let image = crashing.image("worker").id;
    let mut world = site.host.world();
    world.images.get_mut(&image).expect("it is there").behaviour = Behaviour::Exits(1);
    drop(world);
    let before = site.photo();
    let version = Version::first("v1.0.1").with("web", Behaviour::Status500);
    assert_eq!(site.deploy(&version), UNWOUND);
    assert_same(&site.photo(), &before, "a crashing version before");
}

#[test]
fn a_port_that_moved_to_another_service_goes_back() {
    let site = Site::new();
    let port = json!(["127.0.0.1:7070:7070"]);
    let mut old = Version::first("v1.0.0");
    old.compose["services"]["legacy"]["ports"] = port.clone();
    site.must_deploy(&old);
    let before = site.photo();
    let mut new = Version::first("v1.1.0").with("web", Behaviour::Status500);
    new.compose["services"]["worker"]["ports"] = port;
    new.compose["services"]["legacy"]["ports"] = json!([]);
    assert_eq!(site.deploy(&new), UNWOUND, "{:?}", site.failures());
    assert_same(&site.photo(), &before, "a port moved");
}

#[test]
fn a_port_can_move_to_a_service_that_comes_first() {
    let site = Site::new();
    let port = json!(["127.0.0.1:7070:7070"]);
    let mut old = Version::first("v1.0.0");
    old.compose["services"]["worker"]["ports"] = port.clone();
    site.must_deploy(&old);
    let mut new = Version::first("v1.1.0");
    new.compose["services"]["legacy"]["ports"] = port;
    site.must_deploy(&new);
}

/// Something changes what a name of an image means while the transaction waits.
fn renamed(site: &Site, after_ms: u64, reference: &str, image: &FakeImage) {
    let (host, reference, image) = (site.host.clone(), reference.to_owned(), image.clone());
    site.host
        .after_ms(after_ms, move || host.load(&reference, &image));
}

#[test]
fn a_version_that_runs_another_image_than_its_record_says_is_not_accepted() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let before = site.photo();
    let version = Version::second("v1.1.0");
    let stranger = FakeImage::new("stranger", "v1.1.0", Behaviour::Healthy);
    let pin = belay_model::composition::project::pin("app", "web", &version.image("web").config);
    // While the migration runs.
    renamed(&site, 100, &pin, &stranger);
    assert_eq!(site.deploy(&version), UNWOUND);
    let cause = site.cause().error;
    assert!(cause.contains("web runs image"), "{cause}");
    assert_same(&site.photo(), &before, "another image");
}

#[test]
fn a_way_back_that_leads_to_another_image_is_stuck_and_never_called_unwound() {
    let site = Site::new();
    site.handmade();
    let stranger = FakeImage::new("stranger", "v0.9.0", Behaviour::Healthy);
    let own = site.host.world().names["handmade/web:latest"].clone();
    let own = site.host.world().images[&own].clone();
    site.host.load("handmade/kept:latest", &own);
    renamed(&site, 1000, "handmade/web:latest", &stranger);
    let version = Version::first("v1.0.0")
        .with("web", Behaviour::Status500)
        .stop_first("web");
    assert_eq!(site.deploy(&version), Ending::Stuck(Step::Cutover));
    let told = site.failures();
    assert!(
        told.iter().any(|t| t.contains("web runs image")),
        "{told:?}"
    );
    // A person gives the name back its meaning.
    site.host.load("handmade/web:latest", &own);
    assert_eq!(site.recover().expect("it ends"), [UNWOUND]);
    site.check();
}

#[test]
fn a_way_back_that_is_changed_meanwhile_is_stuck_and_never_called_unwound() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let path = ".belay/releases/1-v1.0.0/docker-compose.yml";
    let text = site.read(path).expect("it is there");
    let (full, other) = (site.root().join(path), format!("{text}# changed\n"));
    site.host
        .after_ms(1000, move || std::fs::write(full, other).expect("written"));
    let version = Version::first("v1.1.0").with("web", Behaviour::BadAfter(3000));
    assert_eq!(site.deploy(&version), Ending::Stuck(Step::Cutover));
    site.write(path, 0o600, &text);
    assert_eq!(site.recover().expect("it ends"), [UNWOUND]);
    site.check();
}

#[test]
fn without_a_whole_way_back_nothing_begins() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let path = ".belay/releases/1-v1.0.0/docker-compose.yml";
    let text = site.read(path).expect("it is there");
    site.write(path, 0o600, &text.replace("8080:", "8088:"));
    let (before, web) = (site.photo(), site.container("web"));
    let version = Version::second("v1.1.0");
    assert_eq!(site.deploy(&version), UNWOUND);
    assert!(site.cause().error.contains("was changed since"));
    assert_same(&site.photo().before_arrival(&version), &before, "refused");
    assert_eq!(site.container("web"), web);
}

#[test]
fn the_steps_are_undone_in_reverse_and_each_once() {
    let site = Site::new();
    site.deploy(&Version::first("v1.0.0").with("web", Behaviour::BadAfter(3000)));
    let undone: Vec<Step> = site
        .entries()
        .into_iter()
        .filter_map(|e| match e.event {
            Event::UndoDone { step } => Some(step),
            _ => None,
        })
        .collect();
    let mut expected: Vec<Step> = Step::ALL.into_iter().filter(|s| *s <= Step::Bake).collect();
    expected.reverse();
    assert_eq!(undone, expected);
}
