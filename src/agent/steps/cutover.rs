//! Cutover: the new version takes over. The gateway gives new requests to the candidates and lets the incumbents finish
//! theirs; services that cannot run twice are replaced in place (stop-first) just before, in the order of their
//! dependencies. Those that the requests need not wait for follow: workers, and what runs as it shall already.
//!
//! Its undo is the automatic rollback: it gives the requests back to the incumbents, which still run, makes everything
//! else of the version before serve again from that release's own file and images, and believes it only after it has
//! compared image IDs.

use std::time::Duration;

use super::{Sides, Work, container_of, files, long_running, roll, start, traffic};
use crate::agent::host::{Container, DockerHealth, HostError, RunState};
use crate::model::compose::{ComposeFile, Condition};
use crate::model::gateway::{Side, Traffic};
use crate::model::journal::Output;
use crate::model::moves::{GatewayMove, Moves};
use crate::model::outcome::Failure;
use crate::model::release::Release;
use crate::model::strategy::{GATEWAY_SERVICE, Strategy};

/// How often a dependency is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let candidate = work.candidate()?;
    let moves = work.moves()?;
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
    for service in moves
        .start_first()
        .filter(|s| roll::is_wanted(&candidate, s))
    {
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
    work: &Work<'_>,
    candidate: &Release,
    file: &ComposeFile,
    moves: &Moves,
    services: &[String],
) -> Result<(Vec<String>, Vec<String>), Failure> {
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
fn publishes_nothing(work: &Work<'_>, file: &ComposeFile, service: &str) -> Result<bool, Failure> {
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
    work: &Work<'_>,
    candidate: &Release,
    moves: &Moves,
    service: &str,
) -> Result<bool, Failure> {
    Ok(moves.strategy(service) == Strategy::Untouched && serves(work, candidate, service)?)
}

/// Replaces services in place, each after what it depends on. Returns those that wait for a port: a service further on in
/// the order, or the gateway, has it still, and gives it up when its turn comes.
fn replace(
    work: &Work<'_>,
    candidate: &Release,
    file: &ComposeFile,
    services: &[String],
) -> Result<Vec<String>, Failure> {
    let mut waiting = vec![];
    for service in services {
        wait_for_dependencies(work, &candidate.project, file, service)?;
        match up(work, candidate, service) {
            Err(failure) if is_about_a_port(&failure) => waiting.push(service.clone()),
            done => done?,
        }
    }
    Ok(waiting)
}

/// Whether a container of the release serves.
pub(super) fn serves(work: &Work<'_>, release: &Release, service: &str) -> Result<bool, Failure> {
    let known = release.service(service);
    let is_right =
        |image: &str| known.is_none_or(|s| s.engine_id().is_empty() || s.engine_id() == image);
    let containers = work.containers()?;
    let mut of_service = containers.iter().filter(|c| c.service == service);
    Ok(of_service.any(|c| c.is_alive() && is_right(&c.image_id)))
}

/// Makes the release's gateway run.
pub(super) fn place_gateway(
    work: &Work<'_>,
    release: &Release,
    moves: &Moves,
) -> Result<(), Failure> {
    match &moves.gateway {
        GatewayMove::None | GatewayMove::Goes => Ok(()),
        // Compose would only find that out, which takes it a second on some hosts.
        GatewayMove::Stays if runs(work, GATEWAY_SERVICE)? => Ok(()),
        GatewayMove::Stays => up(work, release, GATEWAY_SERVICE),
        GatewayMove::Comes { freed_by } => {
            if work.sides(GATEWAY_SERVICE)?.incumbents.is_empty() {
                // Made before its ports are freed: what is left to do then is to start it.
                let composition = work.composition(release);
                let created = work.host.create(&composition, GATEWAY_SERVICE, 1);
                created.map_err(|e| could_not_start(release, GATEWAY_SERVICE, &e))?;
            }
            for service in freed_by {
                stop_incumbents(work, service)?;
            }
            up(work, release, GATEWAY_SERVICE)
        }
    }
}

fn runs(work: &Work<'_>, service: &str) -> Result<bool, Failure> {
    let incumbents = work.sides(service)?.incumbents;
    Ok(incumbents.iter().any(|c| c.state == RunState::Running))
}

fn stop_incumbents(work: &Work<'_>, service: &str) -> Result<(), Failure> {
    let grace = work.grace(service)?;
    for container in work.sides(service)?.incumbents {
        if container.is_alive() {
            let stopped = work.host.stop_within(&container.id, grace);
            stopped.map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

pub(super) fn undo(work: &mut Work<'_>) -> Result<(), Failure> {
    match work.restoration()? {
        // The version before must not see data that was put back; its own comes first.
        Some(_) => Ok(()),
        None => go_back(work),
    }
}

/// Makes the version before serve, whatever serves now.
pub(super) fn go_back(work: &mut Work<'_>) -> Result<(), Failure> {
    let candidate = work.candidate()?;
    let previous = work.previous()?;
    let moves = work.moves()?;
    files::put_back(work, &candidate)?;
    if let GatewayMove::Comes { .. } = moves.gateway {
        // It has the ports that the incumbents, or the gateway before it, need.
        for container in work.sides(GATEWAY_SERVICE)?.candidates {
            work.remove(&container)?;
        }
    }
    give_back(work, previous.as_ref(), &moves)?;
    start::remove_candidates(work, &moves)?;
    remove_new_containers(work, previous.as_ref())?;
    if let Some(previous) = &previous {
        bring_back(work, previous, &moves)?;
        verify_running(work, previous, &work.preflight()?.running.clone())?;
        files::verify(work, previous)?;
        traffic::open(work)?;
        await_serving(work, previous);
    }
    Ok(())
}

/// Gives the requests back to the incumbents of start-first services, and lets the candidates finish what they have.
fn give_back(work: &Work<'_>, previous: Option<&Release>, moves: &Moves) -> Result<(), Failure> {
    let Some(previous) = previous else {
        return Ok(());
    };
    if moves.gateway == GatewayMove::Stays {
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
fn revive(work: &Work<'_>, service: &str) -> Result<Vec<Container>, Failure> {
    let mut revived = vec![];
    for container in work.sides(service)?.incumbents {
        if work.ran(&container) && !container.is_alive() {
            let started = work.host.start(&container.id);
            started.map_err(|e| Failure::of(&e))?;
            revived.push(container);
        }
    }
    Ok(revived)
}

/// Waits until incumbents that had to be started again accept connections. One that does not in time is let in all the
/// same: the candidates are about to go.
fn await_listening(work: &Work<'_>, moves: &Moves, revived: &[Container]) -> Result<(), Failure> {
    let deadline = work.host.boot_time().plus_ms(work.plan.health.deadline_ms);
    let listens = |container: &Container| {
        let mut ports = moves
            .fronts
            .iter()
            .filter(|f| f.service == container.service);
        let address = container.addresses.first();
        ports.all(|f| address.is_some_and(|a| work.host.connects(a, f.target, LOOK)))
    };
    while !revived.is_empty() && !deadline.has_passed(&work.host.boot_time()) {
        let mut now = work.containers()?;
        now.retain(|c| revived.iter().any(|r| r.id == c.id));
        if now.iter().all(listens) {
            return Ok(());
        }
        work.host.sleep(LOOK);
    }
    Ok(())
}

/// The same for candidates, after the commit.
pub(super) fn await_candidates_listening(work: &Work<'_>, moves: &Moves) -> Result<(), Failure> {
    let mut candidates = vec![];
    for service in moves.start_first() {
        candidates.extend(work.sides(service)?.candidates);
    }
    await_listening(work, moves, &candidates)
}

/// Makes one service of a release run.
pub(super) fn up(work: &Work<'_>, release: &Release, service: &str) -> Result<(), Failure> {
    let done = work.host.up(&work.composition(release), service);
    done.map_err(|e| could_not_start(release, service, &e))
}

pub(super) fn could_not_start(release: &Release, service: &str, error: &HostError) -> Failure {
    Failure::new(format!(
        "could not start {service} of {}: {}",
        release.tag,
        Failure::of(error).error
    ))
}

/// Whether Docker says that another container has a port that this one publishes.
pub(super) fn is_about_a_port(failure: &Failure) -> bool {
    ["already allocated", "address already in use"]
        .iter()
        .any(|words| failure.error.contains(words))
}

/// Waits until everything that a service depends on is in the state that its file asks for.
fn wait_for_dependencies(
    work: &Work<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
) -> Result<(), Failure> {
    for (dependency, condition) in file.dependencies(service) {
        if condition == Condition::Healthy {
            wait_until_healthy(work, project, file, service, &dependency)?;
        }
    }
    Ok(())
}

/// Waits until a service's dependency is healthy.
pub(super) fn wait_until_healthy(
    work: &Work<'_>,
    project: &str,
    file: &ComposeFile,
    service: &str,
    dependency: &str,
) -> Result<(), Failure> {
    let patience = file
        .healthcheck_needs_ms(dependency)
        .unwrap_or(0)
        .max(work.plan.health.deadline_ms);
    let deadline = work.host.boot_time().plus_ms(patience);
    loop {
        let containers = work.host.containers(project).map_err(|e| Failure::of(&e))?;
        let trouble = match container_of(&containers, dependency) {
            Some(c) if c.health == Some(DockerHealth::Healthy) => return Ok(()),
            Some(c) => match (&c.state, &c.health) {
                (RunState::Exited(code), _) => format!("it exited with code {code}"),
                (_, Some(DockerHealth::Unhealthy(why))) => format!("its healthcheck says: {why}"),
                (_, None) => "it has no healthcheck".to_owned(),
                _ if deadline.has_passed(&work.host.boot_time()) => {
                    "it is still starting".to_owned()
                }
                _ => {
                    if let Some(reason) = work.wish_to_stop()? {
                        return Err(Failure::new(format!(
                            "{service} was still waiting for {dependency}: {reason}"
                        )));
                    }
                    work.host.sleep(LOOK);
                    continue;
                }
            },
            None => "it has no container".to_owned(),
        };
        return Err(Failure::new(format!(
            "{service} waits for {dependency} to be healthy, but {trouble}"
        )));
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

fn stop_services(work: &Work<'_>, services: &[String]) -> Result<(), Failure> {
    for container in work.containers()? {
        if services.contains(&container.service) && container.state == RunState::Running {
            let grace = work.grace(&container.service)?;
            let stopped = work.host.stop_within(&container.id, grace);
            stopped.map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

/// Takes away the containers that the transaction made for services that did not run when it began.
pub(super) fn remove_new_containers(
    work: &Work<'_>,
    previous: Option<&Release>,
) -> Result<(), Failure> {
    let running = work.preflight()?.running.clone();
    for container in work.containers()? {
        let service = previous.and_then(|p| p.service(&container.service));
        match service {
            // The version before brings it back in place.
            Some(service) if running.contains(&service.name) => {}
            Some(service) if service.engine_id() == container.image_id && !container.is_alive() => {
            }
            Some(service) if service.engine_id() == container.image_id => {
                work.host.stop(&container.id).map_err(|e| Failure::of(&e))?
            }
            Some(_) | None => work.remove(&container)?,
        }
    }
    Ok(())
}

/// Makes the services of the version before run that ran when the transaction began.
fn bring_back(work: &Work<'_>, previous: &Release, moves: &Moves) -> Result<(), Failure> {
    let file = work.normalised(&previous.name)?;
    let running = work.preflight()?.running.clone();
    let mut services = long_running(previous, &file)?;
    services.push(GATEWAY_SERVICE.to_owned());
    let mut waiting = vec![];
    for service in services.into_iter().filter(|s| running.contains(s)) {
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

/// Whether every container of a service that ran when the transaction began runs still.
fn runs_as_before(work: &Work<'_>, service: &str) -> Result<bool, Failure> {
    let Sides { incumbents, .. } = work.sides(service)?;
    let before = work.preflight()?.before.iter();
    let ids: Vec<&String> = before
        .filter(|known| known.service == service && known.ran)
        .map(|known| &known.id)
        .collect();
    let runs = |id: &&String| incumbents.iter().any(|c| c.id == **id && c.is_alive());
    Ok(!ids.is_empty() && ids.iter().all(runs))
}

/// Takes away the networks and volumes that the transaction made. Docker gives up a volume only after the last container
/// that has it, so this comes when every new container is gone.
pub(super) fn remove_new_networks_and_volumes(
    work: &Work<'_>,
    project: &str,
) -> Result<(), Failure> {
    let before = work.preflight()?;
    for network in work.host.networks(project).map_err(|e| Failure::of(&e))? {
        if !before.networks.contains(&network) {
            work.host
                .remove_network(&network)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    for volume in work.host.volumes(project).map_err(|e| Failure::of(&e))? {
        if !before.volumes.contains(&volume) {
            work.host
                .remove_volume(&volume)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

/// Compares the image that each container of the services runs with the release's record.
pub(super) fn verify_running(
    work: &Work<'_>,
    release: &Release,
    services: &[String],
) -> Result<(), Failure> {
    for service in release
        .services
        .iter()
        .filter(|s| services.contains(&s.name) && !s.engine_id().is_empty())
    {
        let running = work.serving_or_candidates(&service.name)?;
        if running.is_empty() {
            return Err(Failure::new(format!(
                "{} of {} has no container",
                service.name, release.tag
            )));
        }
        if let Some(other) = running.iter().find(|c| c.image_id != service.engine_id()) {
            return Err(Failure::new(format!(
                "{} runs image {} instead of {} as {} has it",
                service.name,
                other.image_id,
                service.engine_id(),
                release.tag
            )));
        }
    }
    Ok(())
}

/// Waits until the version before answers again. It served before, so silence now is told, not judged.
fn await_serving(work: &mut Work<'_>, previous: &Release) {
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
