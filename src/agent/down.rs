//! Which services of a version do not run at this moment. Nobody says that a version serves without having looked.
//!
//! Runs on the host. Reads only.

use super::error::AgentError;
use super::host::{Container, Host, RunState};
use super::layout::Layout;
use super::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::versions::release::{Release, ReleaseService};
use belay_model::versions::revival::has_done_its_work;

/// The same of what was deployed last.
pub(crate) fn down_now(host: &dyn Host, layout: &Layout) -> Result<Vec<String>, AgentError> {
    let current = state::current(layout)?;
    let release = current.map(|current| state::release(layout, &current.release));
    match release.transpose()?.flatten() {
        Some(release) => down(host, layout, &release),
        None => Ok(vec![]),
    }
}

/// The names of a release's lasting services without a container that runs, in the release's order.
pub(crate) fn down(
    host: &dyn Host,
    layout: &Layout,
    release: &Release,
) -> Result<Vec<String>, AgentError> {
    let containers = host.containers(&release.project)?;
    let file = state::normalised(layout, &release.name).ok().flatten();
    let is_down = |service: &&ReleaseService| {
        let answers = answers(release, file.as_ref(), &service.name);
        !is_well(&containers, &service.name, answers)
    };
    let down = lasting(release, file.as_ref()).filter(is_down);
    Ok(down.map(|service| service.name.clone()).collect())
}

/// The services of a release that have to run, in the release's order. Without its file that is every one that lasts.
pub(crate) fn lasting<'a>(
    release: &'a Release,
    file: Option<&'a ComposeFile>,
) -> impl Iterator<Item = &'a ReleaseService> {
    release.services.iter().filter(move |service| {
        service.strategy != Strategy::OneShot
            && file.is_none_or(|file| is_wanted(file, &service.name))
    })
}

/// A person may want none of a service (`scale: 0`).
fn is_wanted(file: &ComposeFile, service: &str) -> bool {
    file.service(service).is_none() || file.replicas(service) > 0
}

/// Whether a service is there to answer: then it has never done its work.
pub(crate) fn answers(release: &Release, file: Option<&ComposeFile>, service: &str) -> bool {
    let publishes =
        |file: &ComposeFile| file.service(service).is_some_and(|s| !s["ports"].is_null());
    release.fronts.iter().any(|front| front.service == service)
        || service == GATEWAY_SERVICE
        || file.is_some_and(publishes)
}

/// Whether one of its containers runs, or has done its work and nobody wants it to run on.
fn is_well(containers: &[Container], service: &str, answers: bool) -> bool {
    let mut of_service = containers
        .iter()
        .filter(|c| c.service == service && !c.one_off);
    of_service.any(|c| match c.state {
        RunState::Running | RunState::Restarting => true,
        RunState::Exited(code) => has_done_its_work(&c.restart_policy, code, answers),
        // One that is held still answers nobody.
        RunState::Created | RunState::Paused => false,
    })
}
