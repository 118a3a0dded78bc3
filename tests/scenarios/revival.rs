//! What Docker left stopped after its own death runs again; what a person stopped does not.

use belay_agent::host::{Host, RunState};
use belay_agent::revive;

use crate::cases::Case;
use crate::support::fake_host::{Crash, When};
use crate::support::site::{Site, Version, deployment_of};

fn revive(site: &Site) -> Option<String> {
    let lock = site.lock();
    revive::revive(&site.host, &site.layout, &lock).expect("it was looked")
}

fn running(site: &Site) -> Vec<String> {
    let running = site.running().into_iter();
    let alive = running.filter(|(_, (_, state))| *state == RunState::Running);
    alive.map(|(service, _)| service).collect()
}

fn serving() -> Site {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site
}

#[test]
fn after_dockers_death_everything_that_served_serves_again() {
    let site = serving();
    let before = running(&site);
    site.host.docker_dies();
    assert!(
        running(&site).len() < before.len(),
        "the fake Docker stops them"
    );
    let told = revive(&site).expect("there was something to start");
    assert!(told.starts_with("started "), "{told}");
    assert_eq!(running(&site), before);
    site.host.sleep(std::time::Duration::from_secs(1));
    site.check();
    assert_eq!(revive(&site), None, "a second look finds nothing");
    let noted = revive::last(&site.layout).expect("it was written down");
    assert_eq!(noted.text, told);
}

#[test]
fn what_a_person_stopped_before_or_after_stays_stopped() {
    let site = serving();
    Host::stop(&site.host, &site.container("worker")).expect("stopped");
    site.host.docker_dies();
    revive(&site);
    assert!(
        !running(&site).contains(&"worker".to_owned()),
        "stopped before"
    );
    assert!(running(&site).contains(&"web".to_owned()));

    let site = serving();
    site.host.docker_dies();
    revive(&site);
    Host::stop(&site.host, &site.container("web")).expect("stopped");
    assert_eq!(revive(&site), None);
    assert!(!running(&site).contains(&"web".to_owned()), "stopped after");
}

#[test]
fn what_docker_could_not_start_is_started_once_it_can_be() {
    let site = serving();
    let web = site.container("web");
    Host::stop(&site.host, &web).expect("stopped");
    site.host.world().start_failed.insert(web);
    site.host.docker_dies();
    revive(&site);
    assert!(running(&site).contains(&"web".to_owned()));
}

#[test]
fn dependencies_come_first() {
    let site = serving();
    site.host.docker_dies();
    site.host.calm();
    revive(&site);
    let calls = site.host.world().calls.clone();
    let place = |service: &str| {
        let call = format!("start_again {}", site.container(service));
        calls.iter().position(|c| *c == call)
    };
    assert!(place("db").expect("it was started") < place("web").expect("it was started"));
}

#[test]
fn one_that_cannot_be_started_keeps_none_of_the_others_down() {
    let site = serving();
    site.host.docker_dies();
    let db = site.container("db");
    site.host.world().images.values_mut().for_each(|image| {
        if image.version == "16" {
            image.behaviour = crate::support::fake_host::Behaviour::WontStart;
        }
    });
    let told = revive(&site).expect("there was something to start");
    assert!(told.contains("could not start db"), "{told}");
    assert!(running(&site).contains(&"web".to_owned()));
    assert!(site.host.world().containers.iter().any(|c| c.id == db));
}

/// Docker dies in the middle of a transaction and takes the engine's work with it; the next one settles both.
#[test]
fn after_dockers_death_in_the_middle_the_host_settles_on_one_version() {
    for call in [40, 60, 80, 100, 120] {
        let site = serving();
        let version = Version::second("v1.1.0");
        site.bring(&version);
        let when = When::After;
        site.host.crash_at(Crash { call, when });
        let plan = deployment_of(&version);
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.engine(&plan)));
        assert!(died.is_err(), "the transaction has fewer than {call} calls");
        site.host.calm();
        site.host.docker_dies();
        site.recover().expect("it ends");
        revive(&site);
        site.host.sleep(std::time::Duration::from_secs(1));
        site.check();
        assert_eq!(site.serving().as_deref(), Some("v1.0.0"), "call {call}");
    }
}

/// Docker dies at every call of a deployment, is back at once, and has left everything stopped. Whatever the engine was
/// about to ask the gateway, it sees that there is none, instead of asking again and again.
#[test]
fn nobody_waits_for_a_gateway_that_ended_with_docker() {
    let prepared = Case::OverPrevious.prepare();
    let undisturbed = prepared.arrange();
    undisturbed.engine().expect("it ends");
    let (calls, _) = undisturbed.site.host.counted();
    let usual_ms = undisturbed.site.host.now_ms();
    for call in 1..=calls {
        let arranged = prepared.arrange();
        let site = &arranged.site;
        let host = site.host.clone();
        site.host.interrupt_at(call, move || host.docker_dies());
        let ending = arranged.engine().expect("it ends");
        let took = site.host.now_ms();
        assert!(
            took < usual_ms + 14_000,
            "call {call}: {took} ms instead of {usual_ms}, {ending:?}, {:?}",
            site.failures()
        );
        site.host.calm();
        revive(site);
        site.host.sleep(std::time::Duration::from_secs(1));
        site.check_serving();
    }
}
