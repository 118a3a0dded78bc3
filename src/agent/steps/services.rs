//! What several steps do with the services of a release: make one run, wait until it is well, see what serves.
//!
//! Runs on the host, under the lock. Each of these may be called again after a crash and finds its work done.

use std::time::Duration;

use super::{StepContext, container_of};
use crate::error::AgentError;
use crate::host::{Composition, Container, DockerHealth, Host, HostError, RunState};
use crate::images::Images;
use crate::state;
use crate::trouble::Trouble;
use belay_model::composition::compose::{ComposeFile, Condition};
use belay_model::replacement::moves::Moves;
use belay_model::versions::release::Release;

/// How often a service that is waited for is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Makes one service of a release run.
pub(super) fn up(
    work: &StepContext<'_>,
    release: &Release,
    service: &str,
) -> Result<(), AgentError> {
    let composition = composed(work, release, service);
    let done = composition.and_then(|composition| work.host.up(&composition, service));
    done.map_err(|e| could_not_start(release, service, e))
}

/// Starts a container that does not run, or lets it run on.
pub(super) fn start_again(work: &StepContext<'_>, container: &Container) -> Result<(), HostError> {
    match container.state {
        RunState::Paused => work.host.unpause(&container.id),
        RunState::Created | RunState::Running | RunState::Restarting | RunState::Exited(_) => {
            work.host.start(&container.id)
        }
    }
}

/// Makes containers of a service until it has so many, and starts none ([`crate::host::Host::create`]).
pub(super) fn create(
    work: &StepContext<'_>,
    release: &Release,
    service: &str,
    containers: usize,
) -> Result<(), AgentError> {
    let composition = composed(work, release, service);
    let done =
        composition.and_then(|composition| work.host.create(&composition, service, containers));
    done.map_err(|e| could_not_start(release, service, e))
}

/// A release's file, for Compose to make a service from. The image gets its name back when it is there without it: on
/// Docker 20.10 `docker image prune --all` takes the names even of images that containers have.
pub(super) fn composed(
    work: &StepContext<'_>,
    release: &Release,
    service: &str,
) -> Result<Composition, HostError> {
    name_image_again(work.host, release, service)?;
    Ok(work.composition(release))
}

pub(crate) fn name_image_again(
    host: &dyn Host,
    release: &Release,
    service: &str,
) -> Result<(), HostError> {
    if let Some(known) = release.service(service)
        // What was there before Belay has no name of Belay's.
        && !known.pin.is_empty()
        && !known.engine_id().is_empty()
        && host.image(&known.pin)?.is_none()
        && host.image(known.engine_id())?.is_some()
    {
        // Where it cannot have that name Compose says what it lacks.
        let _ = host.name_image(known.engine_id(), &known.pin);
    }
    Ok(())
}

/// The services of a release whose images are on the host no more, by whatever name.
pub(super) fn without_image(
    work: &StepContext<'_>,
    release: &Release,
) -> Result<Vec<String>, AgentError> {
    let releases = state::releases(work.layout)?;
    let missing = Images::new(work.host, &releases).missing(release)?;
    Ok(missing.into_iter().map(|s| s.name.clone()).collect())
}

pub(super) fn could_not_start(release: &Release, service: &str, error: HostError) -> AgentError {
    let next = way_on(error.trouble());
    let failed = AgentError::doing(
        format!("could not start {service} of {}", release.tag),
        error,
    );
    match next {
        Some(next) => failed.next(next),
        None => failed,
    }
}

/// What a person can do about what Docker stumbles over for longer than a moment.
fn way_on(trouble: Trouble) -> Option<&'static str> {
    match trouble {
        Trouble::PortTaken => Some(
            "see who has the port: `docker ps` names a container, `sudo ss -ltnp` another program; end it. Where neither shows \
             one, Docker holds on to the port of a container that is gone: `sudo systemctl restart docker`. Then `belay status`, \
             and the host goes on by itself",
        ),
        Trouble::NameTaken => Some(
            "`docker ps -a` shows the container that has the name; remove it with `docker rm -f`, then `belay status`, and the \
             host goes on by itself",
        ),
        Trouble::NetworkLost => Some(
            "Docker has lost track of a network: `sudo systemctl restart docker`, then `belay status`, and the host goes on by \
             itself",
        ),
        Trouble::EngineAway
        | Trouble::NoVolume
        | Trouble::NoPath
        | Trouble::NotUnpacked
        | Trouble::Other => None,
    }
}

/// Whether a container of the release serves.
pub(super) fn serves(
    work: &StepContext<'_>,
    release: &Release,
    service: &str,
) -> Result<bool, AgentError> {
    let known = release.service(service);
    let is_right =
        |image: &str| known.is_none_or(|s| s.engine_id().is_empty() || s.engine_id() == image);
    let containers = work.containers()?;
    let mut of_service = containers.iter().filter(|c| c.service == service);
    Ok(of_service.any(|c| c.is_alive() && is_right(&c.image_id)))
}

/// Compares the image that each container of the services runs with the release's record.
pub(super) fn verify_running(
    work: &StepContext<'_>,
    release: &Release,
    services: &[String],
) -> Result<(), AgentError> {
    for service in release
        .services
        .iter()
        .filter(|s| services.contains(&s.name) && !s.engine_id().is_empty())
    {
        let running = work.serving_or_candidates(&service.name)?;
        if running.is_empty() {
            return Err(AgentError::new(format!(
                "{} of {} has no container",
                service.name, release.tag
            )));
        }
        if let Some(other) = running.iter().find(|c| c.image_id != service.engine_id()) {
            return Err(AgentError::new(format!(
                "{} runs image {} instead of {} as {} has it",
                service.name,
                other.image_id,
                service.engine_id(),
                release.tag
            )));
        }
    }
    Ok(())
}

/// Waits until everything that a service depends on is in the state that its file asks for.
pub(super) fn wait_for_dependencies(
    work: &StepContext<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
) -> Result<(), AgentError> {
    for (dependency, condition) in file.dependencies(service) {
        if condition == Condition::Healthy {
            wait_until_healthy(work, project, file, service, &dependency)?;
        }
    }
    Ok(())
}

/// Waits until a service's dependency is healthy.
pub(super) fn wait_until_healthy(
    work: &StepContext<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
    dependency: &str,
) -> Result<(), AgentError> {
    let patience = file
        .healthcheck_needs_ms(dependency)
        .unwrap_or(0)
        .max(work.plan.health.deadline_ms);
    let deadline = work.host.boot_time().plus_ms(patience);
    loop {
        let containers = work.host.containers(project)?;
        let trouble = match container_of(&containers, dependency) {
            Some(c) if c.health == Some(DockerHealth::Healthy) => return Ok(()),
            Some(c) => match (&c.state, &c.health) {
                (RunState::Exited(code), _) => format!("it exited with code {code}"),
                (_, Some(DockerHealth::Unhealthy(why))) => format!("its healthcheck says: {why}"),
                (_, None) => "it has no healthcheck".to_owned(),
                _ if deadline.has_passed(&work.host.boot_time()) => {
                    "it is still starting".to_owned()
                }
                _ => {
                    if let Some(reason) = work.wish_to_stop()? {
                        return Err(AgentError::new(format!(
                            "{service} was still waiting for {dependency}: {reason}"
                        )));
                    }
                    work.host.sleep(LOOK);
                    continue;
                }
            },
            None => "it has no container".to_owned(),
        };
        return Err(AgentError::new(format!(
            "{service} waits for {dependency} to be healthy, but {trouble}"
        )));
    }
}

/// Waits until incumbents that had to be started again accept connections. One that does not in time is let in all the
/// same: the candidates are about to go.
pub(super) fn await_listening(
    work: &StepContext<'_>,
    moves: &Moves,
    revived: &[Container],
) -> Result<(), AgentError> {
    let deadline = work.host.boot_time().plus_ms(work.plan.health.deadline_ms);
    let listens = |container: &Container| {
        let mut ports = moves
            .fronts
            .iter()
            .filter(|f| f.service == container.service);
        let address = container.addresses.first();
        ports.all(|f| address.is_some_and(|a| work.host.connects(a, f.target, LOOK)))
    };
    while !revived.is_empty() && !deadline.has_passed(&work.host.boot_time()) {
        let mut now = work.containers()?;
        now.retain(|c| revived.iter().any(|r| r.id == c.id));
        if now.iter().all(listens) {
            return Ok(());
        }
        work.host.sleep(LOOK);
    }
    Ok(())
}

/// The same for candidates, after the commit.
pub(super) fn await_candidates_listening(
    work: &StepContext<'_>,
    moves: &Moves,
) -> Result<(), AgentError> {
    let mut candidates = vec![];
    for service in moves.start_first() {
        candidates.extend(work.sides(service)?.candidates);
    }
    await_listening(work, moves, &candidates)
}
