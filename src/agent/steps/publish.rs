//! Publish: makes the release what `docker-compose.yml` and `current` say, and what served before the emergency path.
//!
//! Comes after the commit point, so it is finished, not undone. Everything is written whole, and in an order in which a
//! crash leaves a set that works: the way back first, then what serves, then what Docker itself starts again, then Belay's
//! own pointer. Until the third of these a reboot brings the old version; so it makes sure first that the new one serves.

use super::{Sides, StepContext, cutover, services, traffic};
use crate::error::AgentError;
use crate::records;
use crate::repair::ROLLBACK_SCRIPT;
use crate::state;
use belay_model::transaction::journal::Output;
use belay_model::transaction::plan::PlannedWork;
use belay_model::versions::release::{Current, How, Release};

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let candidate = work.candidate()?;
    let previous = work.previous()?;
    let serves = keep_serving(work, &candidate);
    if let Some(previous) = previous.as_ref().filter(|p| p.name != candidate.name) {
        copy_compose(work, previous, &work.layout.compose_backup())?;
    }
    copy_compose(work, &candidate, &work.layout.compose())?;
    work.may_act()?;
    let script = work.layout.rollback_script();
    records::write(&script, ROLLBACK_SCRIPT.as_bytes(), 0o700)?;
    serves?;
    settle_restart_policies(work, &candidate)?;
    let current = pointer(work, &candidate)?;
    work.may_act()?;
    state::set_current(work.layout, &current)?;
    Ok(Output::Nothing)
}

/// A host that was restarted since the cutover came back with the incumbents: the candidates are let in again.
fn keep_serving(work: &StepContext<'_>, candidate: &Release) -> Result<(), AgentError> {
    let moves = work.moves();
    let mut started = false;
    for service in moves.start_first() {
        for container in work
            .sides(service)?
            .candidates
            .iter()
            .filter(|c| !c.is_alive())
        {
            let done = work.host.start(&container.id);
            done.map_err(|e| services::could_not_start(candidate, service, e))?;
            started = true;
        }
    }
    if started {
        // Not before they listen: the incumbents serve meanwhile.
        services::await_candidates_listening(work, &moves)?;
    }
    cutover::place_gateway(work, candidate, &moves)?;
    traffic::let_candidates_in(work)
}

/// From here on Docker itself brings the new containers back, and the old ones no more.
fn settle_restart_policies(work: &StepContext<'_>, candidate: &Release) -> Result<(), AgentError> {
    let moves = work.moves();
    let file = work.normalised(&candidate.name)?;
    for service in moves.start_first() {
        let Sides {
            incumbents,
            candidates,
        } = work.sides(service)?;
        let policy = file.restart_policy(service);
        for container in candidates.iter().filter(|c| c.restart_policy != policy) {
            work.host.set_restart_policy(&container.id, &policy)?;
        }
        for container in incumbents.iter().filter(|c| c.restart_policy != "no") {
            work.host.set_restart_policy(&container.id, "no")?;
        }
    }
    Ok(())
}

fn copy_compose(
    work: &StepContext<'_>,
    release: &Release,
    to: &std::path::Path,
) -> Result<(), AgentError> {
    let from = work.layout.release(&release.name).compose();
    let text = records::read_optional(&from)?;
    let text = text.ok_or_else(|| AgentError::new(format!("{} is gone", from.display())))?;
    work.may_act()?;
    // Rendered files hold what `.env` said, so they are as private as it should be.
    Ok(records::write(to, &text, 0o600)?)
}

fn pointer(work: &StepContext<'_>, candidate: &Release) -> Result<Current, AgentError> {
    let seq = work.seq()?;
    let before = state::current(work.layout)?;
    if let Some(done) = before.as_ref().filter(|current| current.seq == seq) {
        // An engine before this one came this far.
        return Ok(done.clone());
    }
    if let Some(same) = before.as_ref().filter(|c| c.release == candidate.name) {
        // Only its data came from another time: what served before it, and how it came, is as it was.
        return Ok(Current {
            seq,
            since: work.host.now(),
            ..same.clone()
        });
    }
    let how = match work.plan.work {
        PlannedWork::Deploy(_) => How::Deploy,
        PlannedWork::Rollback { .. } => How::Rollback,
    };
    let mut bad = before.as_ref().map(|c| c.bad.clone()).unwrap_or_default();
    if let (How::Rollback, Some(before)) = (how, &before)
        && !bad.contains(&before.release)
    {
        bad.push(before.release.clone());
    }
    bad.retain(|name| *name != candidate.name);
    Ok(Current {
        schema: 1,
        release: candidate.name.clone(),
        tag: candidate.tag.clone(),
        revision: candidate.revision.clone(),
        project: candidate.project.clone(),
        environment: Some(work.plan.environment.clone()),
        seq,
        since: work.host.now(),
        how,
        previous: before.map(|c| c.release),
        bad,
    })
}
