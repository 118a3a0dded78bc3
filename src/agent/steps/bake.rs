//! Bake: watches the new version serve, at the address that users have, until it is healthy and has stayed so for a while.

use super::watch::{self, Subject, Watched};
use super::{StepContext, long_running, services};
use crate::error::AgentError;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::{Baked, Event, Output};
use belay_model::transaction::plan::ConfirmRule;
use belay_model::transaction::step::Step;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let candidate = work.candidate()?;
    let file = work.normalised(&candidate.name)?;
    let mut services = long_running(&candidate, &file)?;
    if candidate.services.iter().any(|s| s.name == GATEWAY_SERVICE) {
        services.push(GATEWAY_SERVICE.to_owned());
    }
    services::verify_running(work, &candidate, &services)?;
    let rules = watch::rules_for(work, &candidate);
    let watched = watch::watch(work, &candidate, &services, &rules, Subject::Serving)?;
    watched.healthy_or_failure(&candidate, work)?;
    let confirm_by = work.host.boot_time().plus_ms(match &work.plan.confirm {
        ConfirmRule::Runner { within_ms, .. } => *within_ms,
        ConfirmRule::Host => 0,
    });
    Ok(Output::Baked(Baked {
        startup_ms: startup_ms(work, &watched),
        verdict: watched.verdict,
        samples: watched.samples,
        confirm_by,
    }))
}

/// How long the new version took until it was well: as a candidate, where there was one, else since the cutover.
fn startup_ms(work: &StepContext<'_>, watched: &Watched) -> u64 {
    let started = |wanted: Step| {
        work.entries()
            .iter()
            .rev()
            .find_map(|entry| match entry.event {
                Event::Started { step } if step == wanted => Some(entry.at),
                _ => None,
            })
    };
    let between = |from: Step, to: Step| match (started(from), started(to)) {
        (Some(from), Some(to)) => u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0),
        _ => 0,
    };
    let probed = work.entries().iter().find_map(|entry| match &entry.event {
        Event::Done {
            output: Output::Probed {
                healthy_after_ms, ..
            },
            ..
        } => Some(*healthy_after_ms),
        _ => None,
    });
    match probed {
        Some(healthy_after_ms) => between(Step::Start, Step::Probe) + healthy_after_ms,
        None => between(Step::Cutover, Step::Bake) + watched.healthy_after_ms,
    }
}
