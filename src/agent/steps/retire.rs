//! Retire: stops and removes the incumbents, and the containers of services that the release no longer has.
//!
//! They are not kept, stopped, for a later rollback: Compose counts a stopped container of another version as one of the
//! service's, and a plain `docker-compose up -d` would remove the one that serves and recreate the old one in its place
//! (Compose 1.29 and 2.26). The release's image, file and record stay, from which a rollback makes a new container.
//!
//! The same happens when somebody types it just before this step, while both are there: what is missing then is made again.

use super::{StepContext, long_running, services, traffic};
use crate::error::AgentError;
use belay_model::transaction::journal::Output;
use belay_model::versions::release::Release;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let moves = work.moves();
    let candidate = work.candidate()?;
    make_again_what_is_missing(work, &candidate)?;
    for service in moves.start_first() {
        let grace = work.grace(service)?;
        for container in &work.sides(service)?.incumbents {
            work.host.stop_within(&container.id, grace)?;
            work.remove(container)?;
        }
    }
    make_again_what_is_missing(work, &candidate)?;
    traffic::open(work)?;
    for container in work.containers()? {
        if !candidate
            .services
            .iter()
            .any(|s| s.name == container.service)
        {
            work.remove(&container)?;
        }
    }
    Ok(Output::Nothing)
}

/// Makes the containers of the new version that are gone; somebody took them away.
fn make_again_what_is_missing(
    work: &mut StepContext<'_>,
    candidate: &Release,
) -> Result<(), AgentError> {
    let file = work.normalised(&candidate.name)?;
    for service in long_running(candidate, &file)? {
        if !services::serves(work, candidate, &service)? {
            services::up(work, candidate, &service)?;
            work.warn(format!(
                "the new container of {service} was gone; it was made again"
            ));
        }
    }
    Ok(())
}
