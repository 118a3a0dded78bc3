//! Which containers an engine's start left stopped by mistake, and which were stopped on purpose.

#![allow(
    clippy::expect_used,
    reason = "a test that panics has said what is wrong"
)]

use belay_model::replacement::strategy::Strategy;
use belay_model::versions::release::Release;
use belay_model::versions::release::ReleaseService;
use belay_model::versions::revival::*;
use jiff::Timestamp;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_764_098_800 + second).expect("a time")
}

const FROM: i64 = 100;
const UNTIL: i64 = 112;

fn start() -> EngineStart {
    EngineStart {
        from: at(FROM),
        until: at(UNTIL),
    }
}

fn release() -> Release {
    let service = |name: &str, strategy| ReleaseService {
        name: name.to_owned(),
        reference: "built".to_owned(),
        // The engine has the containerd store: its ID is not the identity.
        config: format!("sha256:config of {name}"),
        layers: vec![],
        engine_id: Some(format!("sha256:{name}")),
        pin: String::new(),
        size: 0,
        strategy,
        reason: String::new(),
        healthcheck_needs_ms: None,
        image_volumes: vec![],
    };
    Release {
        schema: 1,
        name: "2-v1.1.0".to_owned(),
        seq: 2,
        tag: "v1.1.0".to_owned(),
        revision: None,
        project: "app".to_owned(),
        services: vec![
            service("db", Strategy::StopFirst),
            service("web", Strategy::StopFirst),
            service("migrate", Strategy::OneShot),
        ],
        compose_sha256: String::new(),
        files: vec![],
        created: at(0),
        fronts: vec![],
        wishes: vec![],
        gateway: belay_model::replacement::wishes::GatewayRule::Off,
        store: None,
    }
}

/// A container of `web` that ran until Docker ended it.
fn victim() -> Ended {
    Ended {
        container: "c".to_owned(),
        service: "web".to_owned(),
        image_id: "sha256:web".to_owned(),
        restart_policy: "unless-stopped".to_owned(),
        one_off: false,
        finished: at(FROM + 1),
        start_failed: false,
    }
}

fn is_left(ended: Ended) -> bool {
    !left_stopped(&release(), &[ended], start()).is_empty()
}

#[test]
fn what_docker_ended_while_it_started_is_left() {
    assert!(is_left(victim()));
    for policy in ["always", "on-failure"] {
        assert!(is_left(Ended {
            restart_policy: policy.to_owned(),
            ..victim()
        }));
    }
    for second in [FROM, UNTIL] {
        assert!(is_left(Ended {
            finished: at(second),
            ..victim()
        }));
    }
}

#[test]
fn what_a_person_stopped_stays_stopped() {
    for second in [0, FROM - 1, UNTIL + 1, 10_000] {
        assert!(
            !is_left(Ended {
                finished: at(second),
                ..victim()
            }),
            "{second}"
        );
    }
}

#[test]
fn what_docker_could_not_start_is_left_unless_it_ran_since() {
    let failed = |second| Ended {
        finished: at(second),
        start_failed: true,
        ..victim()
    };
    assert!(is_left(failed(FROM - 50)));
    assert!(!is_left(failed(UNTIL + 1)));
}

#[test]
fn what_is_not_to_run_or_not_what_serves_is_let_be() {
    let but = |change: fn(&mut Ended)| {
        let mut ended = victim();
        change(&mut ended);
        is_left(ended)
    };
    assert!(!but(|e| e.restart_policy = "no".to_owned()), "parked");
    assert!(!but(|e| e.one_off = true), "docker compose run");
    assert!(
        !but(|e| e.image_id = "sha256:old".to_owned()),
        "another version"
    );
    assert!(!but(|e| e.service = "migrate".to_owned()), "a one-shot");
    assert!(
        but(|e| e.service = "gateway".to_owned()),
        "it ran beside them"
    );
}

#[test]
fn they_come_in_the_releases_order() {
    let db = Ended {
        container: "d".to_owned(),
        service: "db".to_owned(),
        image_id: "sha256:db".to_owned(),
        ..victim()
    };
    let ended = [victim(), db];
    let left = left_stopped(&release(), &ended, start());
    let services: Vec<&str> = left.iter().map(|e| e.service.as_str()).collect();
    assert_eq!(services, ["db", "web"]);
}

#[test]
fn a_container_has_done_its_work_when_it_ended_well_and_nothing_keeps_it() {
    for (policy, code, answers, expected) in [
        ("no", 0, false, true),
        ("on-failure:5", 0, false, true),
        ("no", 0, true, false),
        ("no", 137, false, false),
        ("on-failure", 1, false, false),
        ("unless-stopped", 0, false, false),
        ("always", 0, false, false),
    ] {
        let done = has_done_its_work(policy, code, answers);
        assert_eq!(done, expected, "{policy} {code} {answers}");
    }
}
