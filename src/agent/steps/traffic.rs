//! Traffic: which containers of a service the gateway gives requests to.
//!
//! Runs on the host, for the steps. Every call says how it shall be and changes what is not so, so it can be repeated, and
//! mends what a restarted gateway has forgotten. Where no gateway runs there is nothing to do: nobody is let in by it.

use std::time::Duration;

use super::{Sides, StepContext};
use crate::error::AgentError;
use crate::host::{Container, HostError, RunState};
use belay_model::replacement::gateway::{Front, Server, Side, Traffic, changes};
use belay_model::replacement::wishes::GATEWAY_SERVICE;

/// How often the gateway is asked while something is waited for.
const LOOK: Duration = Duration::from_millis(100);
/// How long Docker's DNS may take to tell the gateway of a new container.
const PATIENCE_MS: u64 = 15_000;

/// Treats the containers of the services that get candidates as wished.
pub(super) fn set(work: &StepContext<'_>, traffic: Traffic) -> Result<(), AgentError> {
    steer(work, traffic, &|c| Some(side_in(work, c)))
}

fn side_in(work: &StepContext<'_>, container: &Container) -> Side {
    match work.is_incumbent(container) {
        true => Side::Incumbent,
        false => Side::Candidate,
    }
}

/// Gives no new requests to these containers of a service, and to all its others. Other services stay as they are.
pub(super) fn leave(
    work: &StepContext<'_>,
    service: &str,
    leaving: &[String],
) -> Result<(), AgentError> {
    let side_of = |container: &Container| {
        (container.service == service).then(|| match leaving.contains(&container.id) {
            true => Side::Incumbent,
            false => Side::Candidate,
        })
    };
    steer(work, Traffic::ROLLING, &side_of)
}

/// A container without a side stays as it is.
fn steer(
    work: &StepContext<'_>,
    traffic: Traffic,
    side_of: &dyn Fn(&Container) -> Option<Side>,
) -> Result<(), AgentError> {
    let Some(gateway) = running_gateway(work)? else {
        return Ok(());
    };
    match servers_of(work, &gateway, &work.moves().fronts_moved())? {
        Some(servers) => steer_seen(work, &GatewayView { gateway, servers }, traffic, side_of),
        // An undo brings it back with the others; whoever brings candidates needs it now.
        None if [Traffic::OPEN, Traffic::RETURNED].contains(&traffic) => Ok(()),
        None => Err(has_stopped()),
    }
}

fn has_stopped() -> AgentError {
    AgentError::new("the gateway has stopped")
        .next("look at the gateway's log: docker-compose logs belay-gateway")
}

/// What a running gateway says.
struct GatewayView {
    gateway: Container,
    servers: Vec<Server>,
}

fn steer_seen(
    work: &StepContext<'_>,
    GatewayView { gateway, servers }: &GatewayView,
    traffic: Traffic,
    side_of: &dyn Fn(&Container) -> Option<Side>,
) -> Result<(), AgentError> {
    let containers = work.containers()?;
    let side_at = |address: &str| {
        let mut owners = containers.iter();
        side_of(owners.find(|c| c.addresses.iter().any(|a| a == address))?)
    };
    let changes = changes(servers, &side_at, traffic);
    if changes.is_empty() {
        return Ok(());
    }
    let changed = work.host.change_gateway(&gateway.id, &changes);
    changed.map_err(fail)
}

/// Lets every container that is left serve, and every one that comes: there is no transaction any more. Waits first until
/// the addresses of removed containers are gone; one of them let in again would be sent requests that nobody answers.
pub(super) fn open(work: &StepContext<'_>) -> Result<(), AgentError> {
    if let Some(gateway) = running_gateway(work)? {
        let deadline = work.host.boot_time().plus_ms(PATIENCE_MS);
        let containers = work.containers()?;
        let mut fronts = work.moves().fronts_moved();
        // Where nobody could answer, no request is kept from whoever can.
        fronts.retain(|front| {
            let mut alive = containers.iter().filter(|c| c.is_alive());
            alive.any(|c| c.service == front.service)
        });
        let is_gone = |address: &String| !containers.iter().any(|c| c.addresses.contains(address));
        let has_stale = |servers: &[Server]| {
            servers
                .iter()
                .any(|s| s.address.as_ref().is_some_and(is_gone))
        };
        while servers_of(work, &gateway, &fronts)?.is_some_and(|s| has_stale(&s))
            && !deadline.has_passed(&work.host.boot_time())
        {
            work.host.sleep(LOOK);
        }
    }
    set(work, Traffic::OPEN)
}

/// Gives new requests to the candidates.
pub(super) fn let_candidates_in(work: &StepContext<'_>) -> Result<(), AgentError> {
    match knows_candidates(work)? {
        Some(seen) => steer_seen(work, &seen, Traffic::MOVED, &|c| Some(side_in(work, c))),
        None => Ok(()),
    }
}

/// Waits until the gateway knows every candidate of the services that get some.
pub(super) fn await_candidates(work: &StepContext<'_>) -> Result<(), AgentError> {
    knows_candidates(work).map(drop)
}

/// Returns what the gateway said then, if there is one.
fn knows_candidates(work: &StepContext<'_>) -> Result<Option<GatewayView>, AgentError> {
    let Some(gateway) = running_gateway(work)? else {
        return Ok(None);
    };
    let fronts = work.moves().fronts_moved();
    let deadline = work.host.boot_time().plus_ms(PATIENCE_MS);
    loop {
        let servers = servers_of(work, &gateway, &fronts)?.ok_or_else(has_stopped)?;
        let Some(unknown) = first_unknown(work, &servers, &fronts)? else {
            return Ok(Some(GatewayView { gateway, servers }));
        };
        if deadline.has_passed(&work.host.boot_time()) {
            return Err(AgentError::new(format!(
                "the gateway cannot find the new container of {unknown} by its name"
            ))
            .next("check that the service and the gateway share a network in which Docker's DNS answers"));
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(reason));
        }
        work.host.sleep(LOOK);
    }
}

fn first_unknown(
    work: &StepContext<'_>,
    servers: &[Server],
    fronts: &[Front],
) -> Result<Option<String>, AgentError> {
    for front in fronts {
        let Sides { candidates, .. } = work.sides(&front.service)?;
        let backend = front.backend();
        let knows = |container: &Container| {
            let mut of_backend = servers.iter().filter(|s| s.backend == backend);
            of_backend.any(|s| {
                s.address
                    .as_ref()
                    .is_some_and(|a| container.addresses.contains(a))
            })
        };
        if candidates
            .iter()
            .any(|c| c.state == RunState::Running && !knows(c))
        {
            return Ok(Some(front.service.clone()));
        }
    }
    Ok(None)
}

/// Waits until the containers of one side have no request left, at most for `patience`. Returns whether it came to that.
pub(super) fn await_idle(
    work: &StepContext<'_>,
    side: Side,
    patience: Duration,
) -> Result<bool, AgentError> {
    let is_incumbent = side == Side::Incumbent;
    await_idle_of(work, patience, &|c| work.is_incumbent(c) == is_incumbent)
}

/// The same for these containers.
pub(super) fn await_idle_of(
    work: &StepContext<'_>,
    patience: Duration,
    wanted: &dyn Fn(&Container) -> bool,
) -> Result<bool, AgentError> {
    let Some(gateway) = running_gateway(work)? else {
        return Ok(true);
    };
    let fronts = work.moves().fronts_moved();
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let deadline = work.host.boot_time().plus_ms(patience_ms);
    loop {
        let mut containers = work.containers()?;
        containers.retain(wanted);
        let Some(servers) = servers_of(work, &gateway, &fronts)? else {
            return Ok(true);
        };
        let is_theirs = |address: &String| containers.iter().any(|c| c.addresses.contains(address));
        let busy = servers
            .iter()
            .filter(|s| s.address.as_ref().is_some_and(is_theirs))
            .any(|s| s.sessions > 0);
        if !busy {
            return Ok(true);
        }
        if deadline.has_passed(&work.host.boot_time()) {
            return Ok(false);
        }
        work.host.sleep(LOOK);
    }
}

/// The gateway's container, if it runs.
pub(super) fn running_gateway(work: &StepContext<'_>) -> Result<Option<Container>, AgentError> {
    let containers = work.containers()?;
    Ok(containers
        .into_iter()
        .find(|c| c.service == GATEWAY_SERVICE && c.state == RunState::Running))
}

/// Nothing when the gateway has stopped meanwhile: Docker ends it with the others when its own engine was killed.
fn servers_of(
    work: &StepContext<'_>,
    gateway: &Container,
    fronts: &[Front],
) -> Result<Option<Vec<Server>>, AgentError> {
    let backends: Vec<String> = fronts.iter().map(Front::backend).collect();
    let deadline = work.host.boot_time().plus_ms(PATIENCE_MS);
    loop {
        match work.host.gateway_servers(&gateway.id) {
            Ok(mut servers) if !servers.is_empty() => {
                servers.retain(|s| backends.contains(&s.backend));
                return Ok(Some(servers));
            }
            Ok(_) | Err(HostError::Command { .. } | HostError::Gone { .. })
                if running_gateway(work)?.is_none_or(|now| now.id != gateway.id) =>
            {
                return Ok(None);
            }
            // A gateway that was started a moment ago does not listen yet.
            Ok(_) | Err(HostError::Command { .. })
                if !deadline.has_passed(&work.host.boot_time()) =>
            {
                work.host.sleep(LOOK);
            }
            Ok(_) => return Err(AgentError::new("the gateway does not tell its servers")),
            Err(error) => return Err(fail(error)),
        }
    }
}

fn fail(error: HostError) -> AgentError {
    AgentError::doing("could not steer the gateway", error)
        .next("look at the gateway's log: docker-compose logs belay-gateway")
}
