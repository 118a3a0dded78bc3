//! Start: candidates beside the incumbents of start-first services.
//!
//! Nobody sends them anything yet: the gateway's free places are held before the first one comes. Their restart policy is
//! `no` until the release is published, so a host that reboots or whose engine is restarted before that comes back with
//! the incumbents alone, with nothing of Belay's running.

use super::{Sides, Work, cutover, files, long_running, roll, traffic};
use crate::agent::host::{Container, RunState};
use crate::model::compose::{ComposeFile, Condition};
use crate::model::gateway::Traffic;
use crate::model::journal::Output;
use crate::model::moves::{GatewayMove, Moves};
use crate::model::outcome::Failure;
use crate::model::release::Release;
use crate::model::strategy::Strategy;

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let moves = work.moves()?;
    if moves.start_first().next().is_none() {
        return Ok(Output::Nothing);
    }
    let candidate = work.candidate()?;
    let file = work.normalised(&candidate.name)?;
    // A candidate may mount what the release brings.
    files::place(work, &candidate)?;
    if moves.gateway == GatewayMove::Stays {
        traffic::set(work, Traffic::HELD)?;
    }
    let mut started = vec![];
    for service in long_running(&candidate, &file)? {
        if moves.strategy(&service).is_start_first() {
            wait_for_dependencies(work, &candidate, &file, &service)?;
            let is_new = work.sides(&service)?.incumbents.is_empty();
            let wanted = match roll::is_wanted(&candidate, &service) && !is_new {
                true => 1,
                false => usize::try_from(file.replicas(&service)).unwrap_or(1),
            };
            start_candidates(work, &candidate, &service, wanted)?;
            started.push(service);
        } else if is_needed_and_new(work, &moves, &file, &service)? {
            // A port that somebody else still has is waited for at the cutover; the candidate shows whether it can wait.
            match cutover::up(work, &candidate, &service) {
                Err(failure) if cutover::is_about_a_port(&failure) => {}
                done => done?,
            }
        }
    }
    work.note(format!(
        "started beside what serves: {}",
        started.join(", ")
    ));
    Ok(Output::Started { services: started })
}

/// Waits for what a candidate needs. What the version before has in a service's place is good enough until the cutover: its
/// container may not even have a healthcheck.
fn wait_for_dependencies(
    work: &Work<'_>,
    release: &Release,
    file: &ComposeFile,
    service: &str,
) -> Result<(), Failure> {
    for (dependency, condition) in file.dependencies(service) {
        let incumbents = work.sides(&dependency)?.incumbents;
        let serves = incumbents
            .iter()
            .any(|c| c.is_alive() && c.health.is_none());
        if condition == Condition::Healthy && !serves {
            cutover::wait_until_healthy(work, &release.project, file, service, &dependency)?;
        }
    }
    Ok(())
}

/// Takes the candidates away. The undo of the cutover has given their requests back to the incumbents by now.
pub(super) fn undo(work: &mut Work<'_>) -> Result<(), Failure> {
    let moves = work.moves()?;
    if moves.start_first().next().is_none() {
        return Ok(());
    }
    remove_candidates(work, &moves)?;
    files::put_back(work, &work.candidate()?)?;
    traffic::open(work)
}

pub(super) fn remove_candidates(work: &Work<'_>, moves: &Moves) -> Result<(), Failure> {
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
fn let_requests_end(work: &Work<'_>, service: &str) -> Result<(), Failure> {
    let grace = work.grace(service)?;
    for container in work.sides(service)?.candidates {
        if container.is_alive() {
            // One that cannot be stopped is ended by its removal.
            let _ = work.host.stop_within(&container.id, grace);
        }
    }
    Ok(())
}

/// Makes so many candidates of a service exist and run.
pub(super) fn start_candidates(
    work: &Work<'_>,
    release: &Release,
    service: &str,
    wanted: usize,
) -> Result<(), Failure> {
    let Sides {
        incumbents,
        candidates,
    } = work.sides(service)?;
    if candidates.len() < wanted {
        let all = incumbents.len() + wanted;
        let composition = work.composition(release);
        let created = work.host.create(&composition, service, all);
        created.map_err(|e| cutover::could_not_start(release, service, &e))?;
    }
    for container in work.sides(service)?.candidates {
        start_one(work, &container).map_err(|e| cutover::could_not_start(release, service, &e))?;
    }
    Ok(())
}

fn start_one(work: &Work<'_>, container: &Container) -> Result<(), crate::agent::host::HostError> {
    match container.state {
        RunState::Created => {
            work.host.set_restart_policy(&container.id, "no")?;
            work.host.start(&container.id)
        }
        // It ended by itself, which the probe will tell; or the host was restarted, which ends the transaction anyway.
        RunState::Exited(_) => Ok(()),
        RunState::Running | RunState::Restarting | RunState::Paused => Ok(()),
    }
}

/// Whether a candidate needs a service that does not run: a cache, say, that comes with this release, or a database that was
/// stopped to get its data back.
fn is_needed_and_new(
    work: &Work<'_>,
    moves: &Moves,
    file: &ComposeFile,
    service: &str,
) -> Result<bool, Failure> {
    let is_needed = moves.start_first().any(|s| file.needs(s, service));
    let mut incumbents = work.sides(service)?.incumbents.into_iter();
    Ok(is_needed && !incumbents.any(|c| c.is_alive()))
}
