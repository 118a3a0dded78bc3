//! Cutover: the new version takes over. The gateway gives new requests to the candidates and lets the incumbents finish
//! theirs; services that cannot run twice are replaced in place (stop-first) just before, in the order of their
//! dependencies. Those that the requests need not wait for follow: workers, and what runs as it shall already.
//!
//! Its undo is the automatic rollback: it gives the requests back to the incumbents, which still run, makes everything
//! else of the version before serve again from that release's own file and images, and believes it only after it has
//! compared image IDs.

use super::services::{create, serves, up, wait_for_dependencies};
use super::{StepContext, files, go_back, long_running, roll, traffic};
use crate::error::AgentError;
use crate::host::RunState;
use crate::trouble::Trouble;
use belay_model::composition::compose::ComposeFile;
use belay_model::replacement::moves::{GatewayMove, Moves};
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::Output;
use belay_model::versions::release::Release;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let candidate = work.candidate()?;
    let moves = work.moves();
    let removed = dropped_services(work.previous()?.as_ref(), &candidate);
    stop_services(work, &removed)?;
    files::place(work, &candidate)?;
    let file = work.normalised(&candidate.name)?;
    let services = long_running(&candidate, &file)?;
    let (leading, following) = in_place(work, &candidate, &file, &moves, &services)?;
    let waiting = replace(work, &candidate, &file, &leading)?;
    place_gateway(work, &candidate, &moves)?;
    for service in &waiting {
        up(work, &candidate, service)?;
    }
    for service in moves.start_first().filter(|s| candidate.rolls(s)) {
        roll::one_by_one(work, &candidate, &file, service)?;
    }
    traffic::let_candidates_in(work)?;
    if moves.start_first().next().is_some() {
        work.note(format!("{} gets the requests", candidate.tag));
    }
    for service in replace(work, &candidate, &file, &following)? {
        up(work, &candidate, &service)?;
    }
    Ok(Output::CutOver { services, removed })
}

/// The services that are replaced in place, in their order: those that the requests wait for, and those that follow.
fn in_place(
    work: &StepContext<'_>,
    candidate: &Release,
    file: &ComposeFile,
    moves: &Moves,
    services: &[String],
) -> Result<(Vec<String>, Vec<String>), AgentError> {
    let mut leading = vec![];
    let mut following = vec![];
    for service in services {
        if moves.strategy(service).is_start_first() {
            continue;
        }
        let is_needed = services.iter().any(|s| file.needs(s, service));
        let is_worker = !is_needed && publishes_nothing(work, file, service)?;
        match is_worker || stays(work, candidate, moves, service)? {
            true => following.push(service.clone()),
            false => leading.push(service.clone()),
        }
    }
    Ok((leading, following))
}

/// Whether a service takes no requests from outside, neither in this release nor in the one before.
fn publishes_nothing(
    work: &StepContext<'_>,
    file: &ComposeFile,
    service: &str,
) -> Result<bool, AgentError> {
    let publishes = |file: &ComposeFile| {
        file.service(service)
            .is_some_and(|s| !s["ports"].is_null() || !s["network_mode"].is_null())
    };
    let before = match work.previous()? {
        Some(previous) => publishes(&work.normalised(&previous.name)?),
        None => false,
    };
    Ok(!before && !publishes(file))
}

/// Whether a service runs already as it shall.
fn stays(
    work: &StepContext<'_>,
    candidate: &Release,
    moves: &Moves,
    service: &str,
) -> Result<bool, AgentError> {
    Ok(moves.strategy(service) == Strategy::Untouched && serves(work, candidate, service)?)
}

/// Replaces services in place, each after what it depends on. Returns those that wait for a port: a service further on in
/// the order, or the gateway, has it still, and gives it up when its turn comes.
fn replace(
    work: &StepContext<'_>,
    candidate: &Release,
    file: &ComposeFile,
    services: &[String],
) -> Result<Vec<String>, AgentError> {
    let mut waiting = vec![];
    for service in services {
        wait_for_dependencies(work, &candidate.project, file, service)?;
        match up(work, candidate, service) {
            Err(error) if error.trouble() == Trouble::PortTaken => waiting.push(service.clone()),
            done => done?,
        }
    }
    Ok(waiting)
}

/// Makes the release's gateway run.
pub(super) fn place_gateway(
    work: &StepContext<'_>,
    release: &Release,
    moves: &Moves,
) -> Result<(), AgentError> {
    match &moves.gateway {
        GatewayMove::None | GatewayMove::Goes => Ok(()),
        // Compose would only find that out, which takes it a second on some hosts.
        GatewayMove::Stays if runs(work, GATEWAY_SERVICE)? => Ok(()),
        GatewayMove::Stays => up(work, release, GATEWAY_SERVICE),
        GatewayMove::Comes { freed_by } => {
            if work.sides(GATEWAY_SERVICE)?.incumbents.is_empty() {
                // Made before its ports are freed: what is left to do then is to start it.
                create(work, release, GATEWAY_SERVICE, 1)?;
            }
            for service in freed_by {
                stop_incumbents(work, service)?;
            }
            up(work, release, GATEWAY_SERVICE)
        }
    }
}

fn runs(work: &StepContext<'_>, service: &str) -> Result<bool, AgentError> {
    let incumbents = work.sides(service)?.incumbents;
    Ok(incumbents.iter().any(|c| c.state == RunState::Running))
}

fn stop_incumbents(work: &StepContext<'_>, service: &str) -> Result<(), AgentError> {
    let grace = work.grace(service)?;
    for container in work.sides(service)?.incumbents {
        if container.is_under_way() {
            work.host.stop_within(&container.id, grace)?;
        }
    }
    Ok(())
}

pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    // The version before must not see data that was put back; its own comes first. And where its services were stopped for
    // a copy of their data, they come back with all that, once.
    match work.restoration().is_some() || !work.copying().is_empty() {
        true => Ok(()),
        false => go_back::go_back(work),
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

fn stop_services(work: &StepContext<'_>, services: &[String]) -> Result<(), AgentError> {
    for container in work.containers()? {
        if services.contains(&container.service) && container.state == RunState::Running {
            let grace = work.grace(&container.service)?;
            work.host.stop_within(&container.id, grace)?;
        }
    }
    Ok(())
}
