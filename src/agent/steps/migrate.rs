//! Migrate: runs the one-shot services of a new release, once, and insists that each ends well.
//!
//! Data that the release has at another place is copied there first ([`super::copy`]). A rollback runs no services: data
//! stays as it is, unless it asks for the data of a backup ([`super::restore`]). What a migration did to data is not undone
//! either; the backup that was just taken holds the data from before.

use std::time::Duration;

use super::{StepContext, container_of, copy, go_back, one_shots, restore, services};
use crate::error::AgentError;
use crate::host::RunState;
use belay_model::composition::compose::{ComposeFile, Condition};
use belay_model::transaction::journal::Output;
use belay_model::versions::release::Release;

/// How often a running one-shot service is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    if work.deploy().is_none() {
        return match work.restoration() {
            Some(restoration) => restore::perform(work, &restoration),
            None => Ok(Output::Nothing),
        };
    }
    let copying = work.copying();
    let copied = match copying.is_empty() {
        true => vec![],
        false => copy::perform(work, &copying)?,
    };
    let release = work.candidate()?;
    let services = one_shots(&release, &work.normalised(&release.name)?)?;
    for service in &services {
        run(work, &release, service)?;
    }
    Ok(Output::Migrated { services, copied })
}

/// Takes away all that is new: Compose makes networks, volumes and the containers of dependencies for a migration, too.
/// The undo of the cutover has brought the version before back by now.
pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    if let Some(restoration) = work.restoration() {
        restore::undo(work, &restoration)?;
    }
    let copying = work.copying();
    if !copying.is_empty() {
        copy::undo(work, &copying)?;
    }
    let project = work.preflight()?.project.clone();
    let previous = work.previous()?;
    go_back::remove_new_containers(work, previous.as_ref())?;
    go_back::remove_new_networks_and_volumes(work, &project)
}

/// Makes sure that a service which a migration needs (its database) runs, and is in the state that the file asks for.
fn provide(
    work: &StepContext<'_>,
    release: &Release,
    file: &ComposeFile,
    service: &str,
    dependency: &str,
    condition: Condition,
) -> Result<(), AgentError> {
    let containers = work.host.containers(&release.project)?;
    let incumbent = container_of(&containers, dependency).filter(|c| c.state == RunState::Running);
    match incumbent {
        // The version before may have no healthcheck yet; what serves it will serve its migration.
        Some(container) if container.health.is_none() => return Ok(()),
        Some(_) => {}
        None => services::up(work, release, dependency)?,
    }
    match condition {
        Condition::Healthy => {
            services::wait_until_healthy(work, &release.project, file, service, dependency)
        }
        Condition::Started | Condition::CompletedSuccessfully => Ok(()),
    }
}

fn run(work: &mut StepContext<'_>, release: &Release, service: &str) -> Result<(), AgentError> {
    work.note(format!("running {service}"));
    let file = work.normalised(&release.name)?;
    for (dependency, condition) in file.dependencies(service) {
        if condition != Condition::CompletedSuccessfully {
            provide(work, release, &file, service, &dependency, condition)?;
        }
    }
    work.host
        .up(&services::composed(work, release, service)?, service)?;
    loop {
        let containers = work.host.containers(&release.project)?;
        match container_of(&containers, service).map(|c| c.state) {
            Some(RunState::Exited(0)) => return Ok(()),
            Some(RunState::Exited(code)) => {
                return Err(
                    AgentError::new(format!("{service} ended with exit code {code}")).next(
                        "the logs below say why; the data from before is in the backup just taken",
                    ),
                );
            }
            None => {
                return Err(AgentError::new(format!(
                    "the container of {service} is gone"
                )));
            }
            Some(
                RunState::Created | RunState::Running | RunState::Restarting | RunState::Paused,
            ) => {}
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(format!(
                "{service} was still running: {reason}"
            )));
        }
        work.host.sleep(LOOK);
    }
}
