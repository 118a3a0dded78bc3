//! Retire: removes the containers of services that the release no longer has. Cutover stopped them.

use super::Work;
use crate::model::journal::Output;
use crate::model::outcome::Failure;

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let candidate = work.candidate()?;
    for container in work
        .host
        .containers(&candidate.project)
        .map_err(|e| Failure::of(&e))?
    {
        if !candidate
            .services
            .iter()
            .any(|s| s.name == container.service)
        {
            work.host
                .remove_container(&container.id)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(Output::Nothing)
}
