//! Drain: waits until the incumbents of start-first services have no request left.
//!
//! Behind the gateway they get no new ones since the cutover; each may take as long for its last ones as its
//! `stop_grace_period` says, which is also how long it has always had after SIGTERM. Behind the user's own proxy the
//! service's `drain.command` tells the incumbent (or the proxy) that it is to go, and `drain.wait` lets that be noticed.

use std::time::Duration;

use super::{StepContext, traffic};
use crate::error::AgentError;
use crate::host::Container;
use belay_model::replacement::gateway::Side;
use belay_model::replacement::moves::Moves;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::DrainWish;
use belay_model::transaction::journal::Output;
use belay_model::transaction::outcome::with_causes;
use belay_model::versions::release::Release;

/// How long a drain command may take.
const COMMAND: Duration = Duration::from_secs(30);

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let moves = work.moves();
    behind_proxies(work)?;
    let gateway = moves
        .services
        .iter()
        .filter(|m| m.strategy == Strategy::StartFirstGateway);
    let mut patience = Duration::ZERO;
    for service in gateway {
        patience = patience.max(work.grace(&service.service)?);
    }
    if !traffic::await_idle(work, Side::Incumbent, patience)? {
        work.warn(format!(
            "the old containers still had requests after {} s; what they had left was cut off",
            patience.as_secs()
        ));
    }
    Ok(Output::Nothing)
}

fn behind_proxies(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let moves = work.moves();
    let release = work.candidate()?;
    let mut incumbents = vec![];
    for service in moves.of(Strategy::StartFirstProxy) {
        incumbents.extend(work.sides(service)?.incumbents);
    }
    tell_proxy(work, &release, &incumbents);
    Ok(())
}

/// Lets the user's own proxy know that these containers are about to go, as their services' settings say. Nothing is to
/// be done for those behind the gateway.
pub(super) fn tell_proxy(work: &mut StepContext<'_>, release: &Release, containers: &[Container]) {
    let behind_proxy =
        |moves: &Moves, c: &Container| moves.strategy(&c.service) == Strategy::StartFirstProxy;
    let moves = work.moves();
    let mut wait = Duration::ZERO;
    for container in containers
        .iter()
        .filter(|c| c.is_alive() && behind_proxy(&moves, c))
    {
        let wish = release.wish(&container.service);
        let drain = wish
            .and_then(|w| w.drain.clone())
            .unwrap_or_else(DrainWish::usual);
        wait = wait.max(Duration::from_millis(drain.wait_ms));
        if drain.command.is_empty() {
            continue;
        }
        if let Err(error) = work.host.run_in(&container.id, &drain.command, COMMAND) {
            work.warn(format!(
                "the drain command of {} failed: {}",
                container.service,
                with_causes(&error)
            ));
        }
    }
    work.host.sleep(wait);
}
