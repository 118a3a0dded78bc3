//! Migrate: runs the one-shot services of a new release, once, and insists that each ends well.
//!
//! A rollback runs none of them: data stays as it is. What a migration did to data is not undone either; the backup that
//! was just taken holds the data from before.

use std::time::Duration;

use super::{Work, container_of, one_shots};
use crate::agent::host::RunState;
use crate::model::journal::Output;
use crate::model::outcome::Failure;
use crate::model::release::Release;

/// How often a running one-shot service is looked at.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    if work.deploy().is_none() {
        return Ok(Output::Nothing);
    }
    let release = work.candidate()?;
    let services = one_shots(&release, &work.normalised(&release.name)?)?;
    for service in &services {
        run(work, &release, service)?;
    }
    Ok(Output::Migrated { services })
}

pub(super) fn undo(work: &mut Work<'_>) -> Result<(), Failure> {
    if work.deploy().is_none() {
        return Ok(());
    }
    let release = work.candidate()?;
    let previous = work.previous()?;
    let services = one_shots(&release, &work.normalised(&release.name)?)?;
    for container in work
        .host
        .containers(&release.project)
        .map_err(|e| Failure::of(&e))?
    {
        let is_the_previous = previous
            .as_ref()
            .is_some_and(|p| runs(p, &container.service, &container.image_id));
        if services.contains(&container.service) && !is_the_previous {
            work.host
                .remove_container(&container.id)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

fn runs(release: &Release, service: &str, image_id: &str) -> bool {
    release
        .services
        .iter()
        .any(|s| s.name == service && s.image_id == image_id)
}

fn run(work: &mut Work<'_>, release: &Release, service: &str) -> Result<(), Failure> {
    work.note(format!("running {service}"));
    let file = work.normalised(&release.name)?;
    // A migration may need its database: what it depends on runs already, or is started as the file says.
    for (dependency, _) in file.dependencies(service) {
        let containers = work
            .host
            .containers(&release.project)
            .map_err(|e| Failure::of(&e))?;
        if container_of(&containers, &dependency).is_none_or(|c| c.state != RunState::Running) {
            super::cutover::start(work, release, &dependency)?;
        }
    }
    super::cutover::wait_for_dependencies(work, &release.project, &file, service)?;
    work.host
        .up(&work.composition(release), service)
        .map_err(|e| Failure::of(&e))?;
    loop {
        let containers = work
            .host
            .containers(&release.project)
            .map_err(|e| Failure::of(&e))?;
        match container_of(&containers, service).map(|c| c.state) {
            Some(RunState::Exited(0)) => return Ok(()),
            Some(RunState::Exited(code)) => {
                return Err(
                    Failure::new(format!("{service} ended with exit code {code}")).next(
                        "the logs below say why; the data from before is in the backup just taken",
                    ),
                );
            }
            None => return Err(Failure::new(format!("the container of {service} is gone"))),
            Some(
                RunState::Created | RunState::Running | RunState::Restarting | RunState::Paused,
            ) => {}
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(Failure::new(format!(
                "{service} was still running: {reason}"
            )));
        }
        work.host.sleep(LOOK);
    }
}
