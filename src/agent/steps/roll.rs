//! Rolling: the replicas of a service take over one after the other, where belay.yml says `roll: one-by-one`.
//!
//! Part of the cutover. Its start has made one candidate only, which is well. From then on: an incumbent gets no new
//! requests, finishes those that it has, and stops; the next candidate starts in the room that it leaves, and has to be
//! well before anything else happens. The last incumbent runs until the release is committed, like any other. Stopped
//! ones are kept until then, and the undo of the cutover starts them again.

use super::{Sides, StepContext, candidates as beside, drain, probe, traffic};
use crate::error::AgentError;
use crate::host::Container;
use belay_model::composition::compose::ComposeFile;
use belay_model::versions::release::Release;

/// Makes all candidates of a service serve, of which there is one.
pub(super) fn one_by_one(
    work: &mut StepContext<'_>,
    release: &Release,
    file: &ComposeFile,
    service: &str,
) -> Result<(), AgentError> {
    let wanted = usize::try_from(file.replicas(service)).unwrap_or(1);
    loop {
        traffic::await_candidates(work)?;
        let Sides {
            incumbents,
            candidates,
        } = work.sides(service)?;
        if candidates.len() >= wanted {
            return Ok(());
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(reason));
        }
        if let Some(leaving) = incumbents.iter().find(|c| c.is_alive()) {
            send_away(work, release, &incumbents, leaving)?;
        }
        let next = candidates.len() + 1;
        beside::start(work, release, service, next)?;
        probe::until_well(work, release, &[service.to_owned()])?;
        work.note(format!(
            "{next} of {wanted} new containers of {service} are well"
        ));
    }
}

/// Stops an incumbent that has finished what it had.
fn send_away(
    work: &mut StepContext<'_>,
    release: &Release,
    incumbents: &[Container],
    leaving: &Container,
) -> Result<(), AgentError> {
    let gone = incumbents.iter().filter(|c| !c.is_alive());
    let mut leave: Vec<String> = gone.map(|c| c.id.clone()).collect();
    leave.push(leaving.id.clone());
    traffic::leave(work, &leaving.service, &leave)?;
    let grace = work.grace(&leaving.service)?;
    drain::tell_proxy(work, release, std::slice::from_ref(leaving));
    traffic::await_idle_of(work, grace, &|c| c.id == leaving.id)?;
    Ok(work.host.stop_within(&leaving.id, grace)?)
}
