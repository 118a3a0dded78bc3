//! Cutover: the new version takes over. Every service is replaced in place (stop-first), in the order of their
//! dependencies.
//!
//! Its undo is the automatic rollback: it makes the version before serve again, from that release's own file and images,
//! and believes it only after it has compared image IDs.

use std::time::Duration;

use super::{Work, container_of, files, long_running};
use crate::agent::host::{DockerHealth, RunState};
use crate::model::compose::{ComposeFile, Condition};
use crate::model::journal::Output;
use crate::model::outcome::Failure;
use crate::model::release::Release;

/// How often a dependency is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let candidate = work.candidate()?;
    let removed = dropped_services(work.previous()?.as_ref(), &candidate);
    stop_services(work, &candidate.project, &removed)?;
    files::place(work, &candidate)?;
    let file = work.normalised(&candidate.name)?;
    let services = long_running(&candidate, &file)?;
    let mut waiting = vec![];
    for service in &services {
        wait_for_dependencies(work, &candidate.project, &file, service)?;
        match start(work, &candidate, service) {
            // A service further on in the order has it still, and gives it up when its turn comes.
            Err(failure) if is_about_a_port(&failure) => waiting.push(service),
            done => done?,
        }
    }
    for service in waiting {
        start(work, &candidate, service)?;
    }
    Ok(Output::CutOver { services, removed })
}

pub(super) fn undo(work: &mut Work<'_>) -> Result<(), Failure> {
    let candidate = work.candidate()?;
    let previous = work.previous()?;
    files::put_back(work, &candidate)?;
    remove_new_containers(work, &candidate.project, previous.as_ref())?;
    if let Some(previous) = &previous {
        bring_back(work, previous)?;
        verify_running(work, previous, &work.preflight()?.running.clone())?;
        files::verify(work, previous)?;
        await_serving(work, previous);
    }
    Ok(())
}

/// Makes one service of a release run.
pub(super) fn start(work: &Work<'_>, release: &Release, service: &str) -> Result<(), Failure> {
    work.host
        .up(&work.composition(release), service)
        .map_err(|e| {
            Failure::new(format!(
                "could not start {service} of {}: {}",
                release.tag,
                Failure::of(&e).error
            ))
        })
}

/// Whether Docker says that another container has a port that this one publishes.
fn is_about_a_port(failure: &Failure) -> bool {
    ["already allocated", "address already in use"]
        .iter()
        .any(|words| failure.error.contains(words))
}

/// Waits until everything that a service depends on is in the state that its file asks for.
fn wait_for_dependencies(
    work: &Work<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
) -> Result<(), Failure> {
    for (dependency, condition) in file.dependencies(service) {
        if condition == Condition::Healthy {
            wait_until_healthy(work, project, file, service, &dependency)?;
        }
    }
    Ok(())
}

/// Waits until a service's dependency is healthy.
pub(super) fn wait_until_healthy(
    work: &Work<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
    dependency: &str,
) -> Result<(), Failure> {
    let patience = file
        .healthcheck_needs_ms(dependency)
        .unwrap_or(0)
        .max(work.plan.health.deadline_ms);
    let deadline = work.host.boot_time().plus_ms(patience);
    loop {
        let containers = work.host.containers(project).map_err(|e| Failure::of(&e))?;
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
                        return Err(Failure::new(format!(
                            "{service} was still waiting for {dependency}: {reason}"
                        )));
                    }
                    work.host.sleep(LOOK);
                    continue;
                }
            },
            None => "it has no container".to_owned(),
        };
        return Err(Failure::new(format!(
            "{service} waits for {dependency} to be healthy, but {trouble}"
        )));
    }
}

/// Services that the version before had and the candidate does not.
fn dropped_services(previous: Option<&Release>, candidate: &Release) -> Vec<String> {
    let Some(previous) = previous else {
        return vec![];
    };
    previous
        .services
        .iter()
        .map(|s| &s.name)
        .filter(|name| !candidate.services.iter().any(|s| s.name == **name))
        .cloned()
        .collect()
}

fn stop_services(work: &Work<'_>, project: &str, services: &[String]) -> Result<(), Failure> {
    for container in work.host.containers(project).map_err(|e| Failure::of(&e))? {
        if services.contains(&container.service) && container.state == RunState::Running {
            work.host.stop(&container.id).map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

/// Takes away the containers that the transaction made for services that did not run when it began.
pub(super) fn remove_new_containers(
    work: &Work<'_>,
    project: &str,
    previous: Option<&Release>,
) -> Result<(), Failure> {
    let running = work.preflight()?.running.clone();
    for container in work.host.containers(project).map_err(|e| Failure::of(&e))? {
        let service =
            previous.and_then(|p| p.services.iter().find(|s| s.name == container.service));
        let is_alive = matches!(container.state, RunState::Running | RunState::Restarting);
        match service {
            // The version before brings it back in place.
            Some(service) if running.contains(&service.name) => {}
            Some(service) if service.image_id == container.image_id && !is_alive => {}
            Some(service) if service.image_id == container.image_id => {
                work.host.stop(&container.id).map_err(|e| Failure::of(&e))?
            }
            Some(_) | None => work
                .host
                .remove_container(&container.id)
                .map_err(|e| Failure::of(&e))?,
        }
    }
    Ok(())
}

/// Makes the services of the version before run that ran when the transaction began.
fn bring_back(work: &Work<'_>, previous: &Release) -> Result<(), Failure> {
    let file = work.normalised(&previous.name)?;
    let running = work.preflight()?.running.clone();
    let mut waiting = vec![];
    for service in long_running(previous, &file)?
        .into_iter()
        .filter(|s| running.contains(s))
    {
        // A dependency that does not become healthy now must not keep the others from coming back.
        let _ = wait_for_dependencies(work, &previous.project, &file, &service);
        if start(work, previous, &service).is_err() {
            waiting.push(service);
        }
    }
    // One service that cannot start must not keep the others down; and what it lacked (a port) may be free by now.
    waiting
        .iter()
        .try_for_each(|service| start(work, previous, service))
}

/// Takes away the networks and volumes that the transaction made. Docker gives up a volume only after the last container
/// that has it, so this comes when every new container is gone.
pub(super) fn remove_new_networks_and_volumes(
    work: &Work<'_>,
    project: &str,
) -> Result<(), Failure> {
    let before = work.preflight()?;
    for network in work.host.networks(project).map_err(|e| Failure::of(&e))? {
        if !before.networks.contains(&network) {
            work.host
                .remove_network(&network)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    for volume in work.host.volumes(project).map_err(|e| Failure::of(&e))? {
        if !before.volumes.contains(&volume) {
            work.host
                .remove_volume(&volume)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

/// Compares the image that each of the services runs with the release's record.
pub(super) fn verify_running(
    work: &Work<'_>,
    release: &Release,
    services: &[String],
) -> Result<(), Failure> {
    let containers = work
        .host
        .containers(&release.project)
        .map_err(|e| Failure::of(&e))?;
    for service in release
        .services
        .iter()
        .filter(|s| services.contains(&s.name) && !s.image_id.is_empty())
    {
        let running = container_of(&containers, &service.name);
        match running {
            Some(container) if container.image_id == service.image_id => {}
            Some(container) => {
                return Err(Failure::new(format!(
                    "{} runs image {} instead of {} as {} has it",
                    service.name, container.image_id, service.image_id, release.tag
                )));
            }
            None => {
                return Err(Failure::new(format!(
                    "{} of {} has no container",
                    service.name, release.tag
                )));
            }
        }
    }
    Ok(())
}

/// Waits until the version before answers again. It served before, so silence now is told, not judged.
fn await_serving(work: &mut Work<'_>, previous: &Release) {
    let rules = work.plan.health.clone();
    let Some(url) = rules.primary.as_deref().or(rules.backup.as_deref()) else {
        return;
    };
    let deadline = work.host.boot_time().plus_ms(rules.deadline_ms);
    loop {
        let answer = work
            .host
            .ask(url, Duration::from_millis(rules.timeout_ms), None);
        match &answer {
            answer if answer.is_success() => {
                return work.note(format!("{} answers again at {url}", previous.tag));
            }
            _ if deadline.has_passed(&work.host.boot_time()) => {
                return work.warn(format!(
                    "{} runs again, but {url} {}",
                    previous.tag,
                    answer.describe()
                ));
            }
            _ => work.host.sleep(LOOK),
        }
    }
}
