//! Probe: asks the candidates for their health, directly and before anybody else may.
//!
//! The rules are those of the bake. Where the primary endpoint's port is one that a start-first service publishes, the
//! same path is asked of the candidate's own address, past the gateway. A candidate has to accept connections besides,
//! so that one without a healthcheck and an endpoint does not pass for well by merely running.

use std::time::Duration;

use super::watch::{self, Subject, Watched};
use super::{Sides, StepContext, long_running};
use crate::error::AgentError;
use crate::host::Container;
use belay_model::replacement::moves::Moves;
use belay_model::replacement::strategy::Strategy;
use belay_model::transaction::journal::Output;
use belay_model::versions::release::Release;

/// Candidates are asked often: every look that comes earlier is an earlier cutover, and nobody else asks them anything.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let moves = work.moves();
    let candidate = work.candidate()?;
    let file = work.normalised(&candidate.name)?;
    let mut services = long_running(&candidate, &file)?;
    services.retain(|service| moves.strategy(service).is_start_first());
    if services.is_empty() {
        return Ok(Output::Nothing);
    }
    let watched = until_well(work, &candidate, &services)?;
    warn_of_silent_ones(work, &moves)?;
    Ok(Output::Probed {
        healthy_after_ms: watched.healthy_after_ms,
        samples: watched.samples,
    })
}

/// Waits until every candidate of these services is well.
pub(super) fn until_well(
    work: &mut StepContext<'_>,
    candidate: &Release,
    services: &[String],
) -> Result<Watched, AgentError> {
    let mut rules = watch::rules_for(work, candidate);
    rules.bake_ms = 0;
    rules.interval_ms = rules
        .interval_ms
        .min(u64::try_from(LOOK.as_millis()).unwrap_or(u64::MAX));
    // An endpoint that leads elsewhere says nothing about them; the bake asks it.
    let asks_them = |url: &String| watch::is_of_candidates(work, url);
    rules.primary = rules.primary.filter(asks_them);
    rules.backup = rules.backup.filter(asks_them);
    let watched = watch::watch(work, candidate, services, &rules, Subject::Candidates)?;
    watched.healthy_or_failure(candidate, work)?;
    Ok(watched)
}

/// Behind the user's proxy incumbents answer as well. Without a healthcheck, and a version that tells whose answer it is,
/// theirs would pass for the candidate's.
fn warn_of_silent_ones(work: &mut StepContext<'_>, moves: &Moves) -> Result<(), AgentError> {
    let health = &work.plan.health;
    if health.primary.is_some() && health.version.is_some() {
        return Ok(());
    }
    for service in moves.of(Strategy::StartFirstProxy) {
        let Sides {
            incumbents,
            candidates,
        } = work.sides(service)?;
        let is_silent = |c: &Container| c.health.is_none();
        if !incumbents.is_empty() && candidates.iter().any(is_silent) {
            work.warn(format!(
                "nothing tells whether the new container of {service} is well: give it a healthcheck, or say \
                 health.version, because your proxy asks the old one, too"
            ));
        }
    }
    Ok(())
}
