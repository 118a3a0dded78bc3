//! Restarts what serves, without changing it: one container after the other, each well before the next.
//!
//! Runs on the host, under the lock. Docker stops and starts a container in one call, so a death of this process leaves
//! none stopped; whatever was not reached runs as before.

use std::time::Duration;

use super::error::AgentError;
use super::host::{Container, DockerHealth, Host, RunState};
use super::layout::Layout;
use super::lock::HostLock;
use super::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::outcome::with_causes;
use belay_wire::Restarted;

/// How often a container that was restarted is looked at: a person waits for it.
const LOOK: Duration = Duration::from_millis(200);
/// How long a container without a healthcheck has to stay up: one that cannot start has ended by then, as a rule.
const SETTLING_MS: u64 = 2_000;
/// How long one may take beyond what its healthcheck needs: a slow host, not a broken version.
const PATIENCE_MS: u64 = 60_000;

/// Restarts every service of what serves, or one. The gateway only by its name: it serves all the others.
pub(crate) fn restart(
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
    let containers = host.containers(&current.project)?;
    let mut done = vec![];
    for name in order(&file, &containers, service)? {
        for container in containers.iter().filter(|c| serves(c, &name)) {
            let ms = restart_one(host, &file, &current.project, container)?;
            done.push(Restarted {
                service: name.clone(),
                container: container.name.clone(),
                ms,
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
    service: Option<&str>,
) -> Result<Vec<String>, AgentError> {
    let runs = |name: &str| containers.iter().any(|c| serves(c, name));
    match service {
        Some(name) if runs(name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            let all = file.service_names();
            let running = all.iter().filter(|name| runs(name)).cloned();
            let running = running.collect::<Vec<_>>().join(", ");
            Err(AgentError::new(format!("no service {name} runs here"))
                .host("nothing was restarted")
                .next(format!("name one of these: {running}")))
        }
        None => {
            let mut names = file.service_names();
            names.retain(|name| name != GATEWAY_SERVICE && runs(name));
            Ok(file.in_order(&names)?)
        }
    }
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
            Some(DockerHealth::Healthy) if is_up => break,
            None if is_up && settled.has_passed(&host.boot_time()) => break,
            Some(DockerHealth::Unhealthy(why)) => {
                return Err(failed(service, &format!("it is unhealthy: {why}")));
            }
            _ if deadline.has_passed(&host.boot_time()) => {
                return Err(failed(service, "it does not come up again"));
            }
            _ => host.sleep(LOOK),
        }
    }
    Ok(host.boot_time().ms.saturating_sub(began.ms))
}

fn failed(service: &str, why: &str) -> AgentError {
    AgentError::new(format!("{service} was restarted, and {why}"))
        .host("the version is the same as before; services after this one were not restarted")
        .next("look at `belay logs`, and roll back if the version itself is bad")
}
