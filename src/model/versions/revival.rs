//! Which stopped containers Docker has left behind although somebody wants them to run.
//!
//! When `dockerd` dies without `live-restore` and starts again, it ends every container that still runs, as if a person had
//! stopped each, and then `unless-stopped` keeps them down for ever. Measured with SIGKILL on Docker 20.10.24 and 26.1.5,
//! ten containers, four ways of dying, the same on both:
//!
//! | before | after the engine's start | exit code | finished |
//! | --- | --- | --- | --- |
//! | ran, `unless-stopped` | **stays down** | 0 if it obeys SIGTERM, else 137 after 10 s | between the engine's start and its readiness |
//! | ran, `on-failure` | stays down when it ended with 0 | the same | the same |
//! | ran, `always` | runs | | |
//! | a person's `stop` or `kill`, `unless-stopped` | stays down | 0 or 137 | before the engine's start |
//! | a person's `stop` afterwards | stays down | 0 or 137 | after the engine was ready |
//! | its port was taken when the engine started it | stays down, with an error | that of before | before the engine was ready |
//!
//! So exit codes tell nothing, and times tell everything: nobody can ask an engine to stop a container before it answers.
//! After a power cut (exit code 255) and after a clean stop of the engine, it starts `unless-stopped` by itself.
//! An engine that is killed a second time while it ends containers leaves some whose end came before its last start: those
//! look like a person's and stay down.

use jiff::Timestamp;

use super::release::Release;
use crate::replacement::strategy::Strategy;

/// From when until when the container engine that answers now was starting: nobody could ask it for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineStart {
    /// When its process began.
    pub from: Timestamp,
    /// When it had ended the containers that it found running, shortly before it answered.
    pub until: Timestamp,
}

/// A container of the project that is not running and has run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its ID on the engine.
    pub container: String,
    /// Its name in the Compose file, from the label that Compose sets.
    pub service: String,
    /// What the engine calls the image that it was made from.
    pub image_id: String,
    /// As a Compose file writes it: `no`, `unless-stopped`, `on-failure:3`.
    pub restart_policy: String,
    /// Made by `docker compose run`.
    pub one_off: bool,
    /// When its process last ended, by the engine's record.
    pub finished: Timestamp,
    /// Docker tried to start it since, and could not.
    pub start_failed: bool,
}

/// The containers of what serves that Docker stopped, and not a person.
#[must_use]
pub fn left_stopped<'e>(
    release: &Release,
    ended: &'e [Ended],
    start: EngineStart,
) -> Vec<&'e Ended> {
    let mut left: Vec<&Ended> = ended
        .iter()
        .filter(|e| is_left(release, e, start))
        .collect();
    // In the release's order, so that the answer does not depend on Docker's.
    let place = |e: &Ended| release.services.iter().position(|s| s.name == e.service);
    left.sort_by_key(|e| (place(e), e.container.clone()));
    left
}

fn is_left(release: &Release, ended: &Ended, start: EngineStart) -> bool {
    let service = release.service(&ended.service);
    let serves = service.is_none_or(|s| {
        s.strategy != Strategy::OneShot
            && (s.engine_id().is_empty() || s.engine_id() == ended.image_id)
    });
    serves
        && !ended.one_off
        && wants_to_run(&ended.restart_policy)
        && was_dockers_doing(ended, start)
}

/// Whether somebody asked Docker to keep it running. Parked and candidate containers have no such policy.
#[must_use]
pub fn wants_to_run(restart_policy: &str) -> bool {
    // It may have a number of times, `on-failure:5`.
    let name = restart_policy.split(':').next().unwrap_or_default();
    matches!(name, "always" | "unless-stopped" | "on-failure")
}

fn was_dockers_doing(ended: &Ended, start: EngineStart) -> bool {
    let before_anybody_could_ask = ended.finished <= start.until;
    before_anybody_could_ask && (ended.finished >= start.from || ended.start_failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::release::ReleaseService;

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
            gateway: crate::replacement::wishes::GatewayRule::Off,
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
}
