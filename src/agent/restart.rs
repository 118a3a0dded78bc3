//! Restarts what serves, without changing it: one container after the other, each well before the next.
//!
//! Runs on the host, under the lock. Docker stops and starts a container in one call, so a death of this process leaves
//! none stopped; whatever was not reached runs as before. What is gone, or was stopped by hand, is made to run.

use std::time::Duration;

use super::down::down;
use super::error::AgentError;
use super::host::{Composition, Container, DockerHealth, Host, RunState};
use super::layout::Layout;
use super::lock::HostLock;
use super::state;
use super::steps::name_image_again;
use belay_model::composition::compose::ComposeFile;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::outcome::with_causes;
use belay_model::versions::release::Release;
use belay_wire::Restarted;

/// How often a container that was restarted is looked at: a person waits for it.
const LOOK: Duration = Duration::from_millis(200);
/// How long a container without a healthcheck has to stay up: one that cannot start has ended by then, as a rule.
const SETTLING_MS: u64 = 2_000;
/// How long one may take beyond what its healthcheck needs: a slow host, not a broken version.
const PATIENCE_MS: u64 = 60_000;

/// Restarts every service of what serves, or one; what has no container that runs gets one. The gateway only by its name,
/// unless it is gone: it serves all the others.
pub fn restart(
    host: &dyn Host,
    layout: &Layout,
    _lock: &HostLock,
    service: Option<&str>,
) -> Result<Vec<Restarted>, AgentError> {
    let nothing = || AgentError::new("nothing is deployed here").next("push a release tag first");
    let current = state::current(layout)?;
    let current = current.ok_or_else(nothing)?;
    let file = state::normalised(layout, &current.release)?;
    let file = file.ok_or_else(nothing)?;
    let release = state::release(layout, &current.release)?;
    let release = release.ok_or_else(nothing)?;
    let containers = host.containers(&current.project)?;
    let down = down(host, layout, &release)?;
    let mut done = vec![];
    for name in order(&file, &containers, &down, service)? {
        if down.contains(&name) {
            done.push(make_again(host, layout, &file, &release, &name)?);
            continue;
        }
        for container in containers.iter().filter(|c| serves(c, &name)) {
            let ms = restart_one(host, &file, &current.project, container)?;
            done.push(Restarted {
                service: name.clone(),
                container: container.name.clone(),
                ms,
                made: false,
            });
        }
    }
    Ok(done)
}

fn serves(container: &Container, service: &str) -> bool {
    container.service == service && container.is_alive() && !container.one_off
}

/// Each service after what it depends on.
fn order(
    file: &ComposeFile,
    containers: &[Container],
    down: &[String],
    service: Option<&str>,
) -> Result<Vec<String>, AgentError> {
    let is_known = |name: &str| {
        down.iter().any(|down| down == name) || containers.iter().any(|c| serves(c, name))
    };
    match service {
        Some(name) if is_known(name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            let all = file.service_names();
            let running = all.iter().filter(|name| is_known(name)).cloned();
            let running = running.collect::<Vec<_>>().join(", ");
            Err(AgentError::new(format!("no service {name} runs here"))
                .host("nothing was restarted")
                .next(format!("name one of these: {running}")))
        }
        None => {
            let mut names = file.service_names();
            names.retain(|name| name != GATEWAY_SERVICE && is_known(name));
            let mut names = file.in_order(&names)?;
            let gateway = down.iter().filter(|name| *name == GATEWAY_SERVICE);
            names.extend(gateway.cloned());
            Ok(names)
        }
    }
}

/// Makes a service run that has no container that does, as the version has it.
fn make_again(
    host: &dyn Host,
    layout: &Layout,
    file: &ComposeFile,
    release: &Release,
    service: &str,
) -> Result<Restarted, AgentError> {
    let began = host.boot_time();
    let composition = Composition {
        project: release.project.clone(),
        directory: layout.root().to_owned(),
        file: layout.release(&release.name).compose(),
    };
    let made = name_image_again(host, release, service)
        .and_then(|()| host.up(&composition, service))
        .and_then(|()| host.containers(&release.project));
    let containers = made.map_err(|e| failed(service, &with_causes(&e)))?;
    let container = containers.iter().find(|c| serves(c, service));
    let container = container.ok_or_else(|| failed(service, "it has no container that runs"))?;
    wait_until_well(host, file, &release.project, container)?;
    Ok(Restarted {
        service: service.to_owned(),
        container: container.name.clone(),
        ms: host.boot_time().ms.saturating_sub(began.ms),
        made: true,
    })
}

fn restart_one(
    host: &dyn Host,
    file: &ComposeFile,
    project: &str,
    container: &Container,
) -> Result<u64, AgentError> {
    let service = &container.service;
    let began = host.boot_time();
    let grace = Duration::from_millis(file.stop_grace_ms(service));
    let restarted = host.restart(&container.id, grace);
    restarted.map_err(|e| failed(service, &with_causes(&e)))?;
    wait_until_well(host, file, project, container)?;
    Ok(host.boot_time().ms.saturating_sub(began.ms))
}

fn wait_until_well(
    host: &dyn Host,
    file: &ComposeFile,
    project: &str,
    container: &Container,
) -> Result<(), AgentError> {
    let service = &container.service;
    let needs = file.healthcheck_needs_ms(service).unwrap_or(0);
    let deadline = host.boot_time().plus_ms(needs + PATIENCE_MS);
    let settled = host.boot_time().plus_ms(SETTLING_MS);
    loop {
        let now = host
            .containers(project)
            .map_err(|e| failed(service, &with_causes(&e)))?;
        let now = now.iter().find(|c| c.id == container.id);
        let is_up = now.is_some_and(|c| c.state == RunState::Running);
        match now.and_then(|c| c.health.as_ref()) {
            Some(DockerHealth::Healthy) if is_up => return Ok(()),
            None if is_up && settled.has_passed(&host.boot_time()) => return Ok(()),
            Some(DockerHealth::Unhealthy(why)) => {
                return Err(failed(service, &format!("it is unhealthy: {why}")));
            }
            _ if deadline.has_passed(&host.boot_time()) => {
                return Err(failed(service, "it does not come up again"));
            }
            _ => host.sleep(LOOK),
        }
    }
}

fn failed(service: &str, why: &str) -> AgentError {
    AgentError::new(format!("{service} was restarted, and {why}"))
        .host("the version is the same as before; services after this one were not restarted")
        .next("look at `belay logs`, and roll back if the version itself is bad")
}
