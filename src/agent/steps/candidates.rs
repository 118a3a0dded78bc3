//! Candidates: the containers that a release puts beside what serves, and that go when it is no good.
//!
//! Runs on the host, under the lock. Nobody sends a candidate anything before the cutover, and none is started by Docker
//! itself before the release is committed.

use super::services::{could_not_start, create};
use super::{Sides, StepContext};
use crate::error::AgentError;
use crate::host::{Container, HostError, RunState};
use belay_model::replacement::moves::Moves;
use belay_model::replacement::strategy::Strategy;
use belay_model::versions::release::Release;

/// Makes so many candidates of a service exist and run.
pub(super) fn start(
    work: &StepContext<'_>,
    release: &Release,
    service: &str,
    wanted: usize,
) -> Result<(), AgentError> {
    let Sides {
        incumbents,
        candidates,
    } = work.sides(service)?;
    if candidates.len() < wanted {
        let all = incumbents.len() + wanted;
        create(work, release, service, all)?;
    }
    for container in work.sides(service)?.candidates {
        start_one(work, &container).map_err(|e| could_not_start(release, service, e))?;
    }
    Ok(())
}

fn start_one(work: &StepContext<'_>, container: &Container) -> Result<(), HostError> {
    match container.state {
        RunState::Created => {
            work.host.set_restart_policy(&container.id, "no")?;
            work.host.start(&container.id)
        }
        // One that ended by itself the probe will tell of; or the host was restarted, which ends the transaction anyway.
        RunState::Exited(_) | RunState::Running | RunState::Restarting | RunState::Paused => Ok(()),
    }
}

pub(super) fn remove_all(work: &StepContext<'_>, moves: &Moves) -> Result<(), AgentError> {
    for service in moves.of(Strategy::StartFirstProxy) {
        let_requests_end(work, service)?;
    }
    for service in moves.start_first() {
        for container in work.sides(service)?.candidates {
            work.remove(&container)?;
        }
    }
    Ok(())
}

/// The user's proxy has given the candidates requests since they began to run. They get as long for them as incumbents do.
fn let_requests_end(work: &StepContext<'_>, service: &str) -> Result<(), AgentError> {
    let grace = work.grace(service)?;
    for container in work.sides(service)?.candidates {
        if container.is_alive() {
            // One that cannot be stopped is ended by its removal.
            let _ = work.host.stop_within(&container.id, grace);
        }
    }
    Ok(())
}
