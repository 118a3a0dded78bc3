//! The automatic rollback: the version before serves again, from its own file and images.
//!
//! Runs on the host, under the lock, when the cutover is undone and when a restore is. It may be called again after a crash,
//! goes on where one thing cannot be brought back for the sake of the others, and believes in the end only what it has
//! compared by image.

use std::time::Duration;

use super::services::{
    LOOK, await_listening, start_again, up, verify_running, wait_for_dependencies, without_image,
};
use super::{Sides, StepContext, candidates, files, long_running, traffic};
use crate::error::AgentError;
use crate::host::Container;
use belay_model::replacement::gateway::{Side, Traffic};
use belay_model::replacement::moves::{GatewayMove, Moves};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::versions::release::Release;

/// Makes the version before serve, whatever serves now.
pub(super) fn go_back(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let candidate = work.candidate()?;
    let previous = work.previous()?;
    let moves = work.moves();
    files::put_back(work, &candidate)?;
    if let GatewayMove::Comes { .. } = moves.gateway {
        // It has the ports that the incumbents, or the gateway before it, need.
        for container in work.sides(GATEWAY_SERVICE)?.candidates {
            work.remove(&container)?;
        }
    }
    give_back(work, previous.as_ref(), &moves)?;
    candidates::remove_all(work, &moves)?;
    remove_new_containers(work, previous.as_ref())?;
    if let Some(previous) = &previous {
        let lost = without_image(work, previous)?;
        bring_back(work, previous, &moves, &lost)?;
        let mut back = work.preflight()?.running.clone();
        back.retain(|service| !lost.contains(service));
        verify_running(work, previous, &back)?;
        tell_lost(work, previous, &lost);
        files::verify(work, previous)?;
        traffic::open(work)?;
        await_serving(work, previous);
    }
    Ok(())
}

/// Gives the requests back to the incumbents of start-first services, and lets the candidates finish what they have.
fn give_back(
    work: &StepContext<'_>,
    previous: Option<&Release>,
    moves: &Moves,
) -> Result<(), AgentError> {
    let Some(previous) = previous else {
        return Ok(());
    };
    let lost = without_image(work, previous)?;
    if moves.gateway == GatewayMove::Stays && !lost.iter().any(|s| s == GATEWAY_SERVICE) {
        // Whatever ended it: without it nobody is served.
        up(work, previous, GATEWAY_SERVICE)?;
    }
    let mut revived = vec![];
    let mut grace = Duration::ZERO;
    for service in moves.start_first() {
        revived.extend(revive(work, service)?);
        grace = grace.max(work.grace(service)?);
    }
    if moves.gateway != GatewayMove::Stays {
        return Ok(());
    }
    await_listening(work, moves, &revived)?;
    traffic::set(work, Traffic::RETURNED)?;
    traffic::await_idle(work, Side::Candidate, grace).map(drop)
}

/// Starts the incumbents of a service that ran when the transaction began and do not now; they may have ended with
/// Docker's engine. Returns those that were started.
fn revive(work: &StepContext<'_>, service: &str) -> Result<Vec<Container>, AgentError> {
    let mut revived = vec![];
    for container in work.sides(service)?.incumbents {
        if work.ran(&container) && !container.is_alive() {
            start_again(work, &container)?;
            revived.push(container);
        }
    }
    Ok(revived)
}

/// Takes away the containers that the transaction made for services that did not run when it began.
pub(super) fn remove_new_containers(
    work: &StepContext<'_>,
    previous: Option<&Release>,
) -> Result<(), AgentError> {
    let running = work.preflight()?.running.clone();
    for container in work.containers()? {
        let service = previous.and_then(|p| p.service(&container.service));
        match service {
            // The version before brings it back in place.
            Some(service) if running.contains(&service.name) => {}
            Some(service) if service.engine_id() == container.image_id && !container.is_alive() => {
            }
            Some(service) if service.engine_id() == container.image_id => {
                work.host.stop(&container.id)?;
            }
            Some(_) | None => work.remove(&container)?,
        }
    }
    Ok(())
}

/// Takes away the networks and volumes that the transaction made. Docker gives up a volume only after the last container
/// that has it, so this comes when every new container is gone.
pub(super) fn remove_new_networks_and_volumes(
    work: &StepContext<'_>,
    project: &str,
) -> Result<(), AgentError> {
    let before = work.preflight()?;
    for network in work.host.networks(project)? {
        if !before.networks.contains(&network) {
            work.host.remove_network(&network)?;
        }
    }
    for volume in work.host.volumes(project)? {
        if !before.volumes.contains(&volume) {
            work.host.remove_volume(&volume)?;
        }
    }
    Ok(())
}

/// Makes the services of the version before run that ran when the transaction began.
/// What has lost its image cannot come back, and must not keep the transaction open for ever: only a deployment brings it.
fn bring_back(
    work: &StepContext<'_>,
    previous: &Release,
    moves: &Moves,
    lost: &[String],
) -> Result<(), AgentError> {
    let file = work.normalised(&previous.name)?;
    let running = work.preflight()?.running.clone();
    let mut services = long_running(previous, &file)?;
    services.push(GATEWAY_SERVICE.to_owned());
    let mut waiting = vec![];
    let comes_back = |s: &String| running.contains(s) && !lost.contains(s);
    for service in services.into_iter().filter(comes_back) {
        if moves.strategy(&service).is_start_first() && runs_as_before(work, &service)? {
            continue;
        }
        // A dependency that does not become healthy now must not keep the others from coming back.
        let _ = wait_for_dependencies(work, &previous.project, &file, &service);
        if up(work, previous, &service).is_err() {
            waiting.push(service);
        }
    }
    // One service that cannot start must not keep the others down; and what it lacked (a port) may be free by now.
    waiting
        .iter()
        .try_for_each(|service| up(work, previous, service))
}

fn tell_lost(work: &mut StepContext<'_>, previous: &Release, lost: &[String]) {
    let running = work.preflight().map(|before| before.running.clone());
    let running = running.unwrap_or_default();
    for service in lost.iter().filter(|service| running.contains(service)) {
        work.warn(format!(
            "{service} of {} could not be brought back: its image was removed from this host. Deploy a tag to bring it \
             back",
            previous.tag
        ));
    }
}

/// Whether every container of a service that ran when the transaction began runs still.
fn runs_as_before(work: &StepContext<'_>, service: &str) -> Result<bool, AgentError> {
    let Sides { incumbents, .. } = work.sides(service)?;
    let before = work.preflight()?.before.iter();
    let ids: Vec<&String> = before
        .filter(|known| known.service == service && known.ran)
        .map(|known| &known.id)
        .collect();
    let runs = |id: &&String| incumbents.iter().any(|c| c.id == **id && c.is_alive());
    Ok(!ids.is_empty() && ids.iter().all(runs))
}

/// Waits until the version before answers again. It served before, so silence now is told, not judged.
fn await_serving(work: &mut StepContext<'_>, previous: &Release) {
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
