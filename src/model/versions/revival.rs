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

/// Whether a container that ended with this code has done its work, and nobody misses it: it ended well, nothing asked Docker
/// to keep it running, and it is not there to answer requests.
#[must_use]
pub fn has_done_its_work(restart_policy: &str, exit_code: i32, answers: bool) -> bool {
    // What `on-failure` asks for ends with a good exit.
    let is_kept = wants_to_run(restart_policy) && !restart_policy.starts_with("on-failure");
    exit_code == 0 && !answers && !is_kept
}

fn was_dockers_doing(ended: &Ended, start: EngineStart) -> bool {
    let before_anybody_could_ask = ended.finished <= start.until;
    before_anybody_could_ask && (ended.finished >= start.from || ended.start_failed)
}
