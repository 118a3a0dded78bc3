//! Start: candidates beside the incumbents of start-first services.
//!
//! Nobody sends them anything yet: the gateway's free places are held before the first one comes. Their restart policy is
//! `no` until the release is published, so a host that reboots or whose engine is restarted before that comes back with
//! the incumbents alone, with nothing of Belay's running.

use super::services::{up, wait_until_healthy};
use super::{StepContext, candidates, files, long_running, traffic};
use crate::error::AgentError;
use crate::trouble::Trouble;
use belay_model::composition::compose::{ComposeFile, Condition};
use belay_model::replacement::gateway::Traffic;
use belay_model::replacement::moves::{GatewayMove, Moves};
use belay_model::transaction::journal::Output;
use belay_model::versions::release::Release;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let moves = work.moves();
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
            let wanted = match candidate.rolls(&service) && !is_new {
                true => 1,
                false => usize::try_from(file.replicas(&service)).unwrap_or(1),
            };
            candidates::start(work, &candidate, &service, wanted)?;
            started.push(service);
        } else if is_needed_and_new(work, &moves, &file, &service)? {
            // A port that somebody else still has is waited for at the cutover; the candidate shows whether it can wait.
            match up(work, &candidate, &service) {
                Err(error) if error.trouble() == Trouble::PortTaken => {}
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
    work: &StepContext<'_>,
    release: &Release,
    file: &ComposeFile,
    service: &str,
) -> Result<(), AgentError> {
    for (dependency, condition) in file.dependencies(service) {
        let incumbents = work.sides(&dependency)?.incumbents;
        let serves = incumbents
            .iter()
            .any(|c| c.is_alive() && c.health.is_none());
        if condition == Condition::Healthy && !serves {
            wait_until_healthy(work, &release.project, file, service, &dependency)?;
        }
    }
    Ok(())
}

/// Takes the candidates away. The undo of the cutover has given their requests back to the incumbents by now.
pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let moves = work.moves();
    if moves.start_first().next().is_none() {
        return Ok(());
    }
    candidates::remove_all(work, &moves)?;
    files::put_back(work, &work.candidate()?)?;
    traffic::open(work)
}

/// Whether a candidate needs a service that does not run: a cache, say, that comes with this release, or a database that was
/// stopped to get its data back.
fn is_needed_and_new(
    work: &StepContext<'_>,
    moves: &Moves,
    file: &ComposeFile,
    service: &str,
) -> Result<bool, AgentError> {
    let is_needed = moves.start_first().any(|s| file.needs(s, service));
    let mut incumbents = work.sides(service)?.incumbents.into_iter();
    Ok(is_needed && !incumbents.any(|c| c.is_alive()))
}
