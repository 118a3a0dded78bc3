//! A journal that was cut short in the middle of its transaction: it looks like one whose last record a crash has torn, but
//! the host has gone further than it says.
//!
//! Runs on the host, before an engine goes on. A record comes before its deed, so a container of the new version that the
//! journal has never begun to start tells that records are lost, and so does what only a committed transaction publishes.
//! They are then taken to have been written: each undo makes it so, whether or not there was anything to undo.

use std::fs;

use crate::error::AgentError;
use crate::host::Host;
use crate::layout::Layout;
use crate::state;
use belay_model::digest::sha256;
use belay_model::transaction::journal::{Event, Output, begin, output};
use belay_model::transaction::phase::{Phase, Records};
use belay_model::transaction::step::Step;
use belay_model::versions::release::Release;

/// The records that are missing at the end of an open journal, as far as the host shows that some are.
pub(crate) fn lost_records(
    host: &dyn Host,
    layout: &Layout,
    entries: &Records,
) -> Result<Vec<Event>, AgentError> {
    let (Phase::Ready { step, .. } | Phase::Performing { step, .. }) = entries.phase() else {
        return Ok(vec![]);
    };
    let Some(begin) = begin(entries) else {
        return Ok(vec![]);
    };
    // Where they go to: what they cannot say is the only thing that is not known.
    let until = if step <= Step::Confirm && came_through(layout, begin.seq) {
        Step::Confirm
    } else if step < Step::Migrate && runs_the_candidate(host, layout, entries)? {
        // From Migrate on the journal has begun what starts containers.
        Step::Cutover
    } else {
        return Ok(vec![]);
    };
    let is_performing = matches!(entries.phase(), Phase::Performing { .. });
    let mut lost = vec![];
    for following in Step::ALL {
        if following < step || following > until {
            continue;
        }
        if following != step || !is_performing {
            lost.push(Event::Started { step: following });
        }
        if following != Step::Cutover || until != Step::Cutover {
            lost.push(Event::Done {
                step: following,
                output: Output::Nothing,
            });
        }
    }
    Ok(lost)
}

/// Whether a transaction was committed, by what only one that was has written: what serves, for Belay or for Compose.
pub(super) fn came_through(layout: &Layout, seq: u64) -> bool {
    let current = state::current(layout).ok().flatten();
    if current.as_ref().is_some_and(|current| current.seq == seq) {
        return true;
    }
    let serves = |name: &str| current.as_ref().is_some_and(|c| c.release == name);
    let Ok(releases) = state::releases(layout) else {
        return false;
    };
    let Some(candidate) = releases.iter().find(|r| r.seq == seq && !serves(&r.name)) else {
        return false;
    };
    let is_new = |old: &Release| old.compose_sha256 != candidate.compose_sha256;
    let is_another = releases.iter().filter(|r| r.seq != seq).all(is_new);
    let file = fs::read(layout.compose()).map(|text| sha256(&text));
    is_another && file.is_ok_and(|hash| hash == candidate.compose_sha256)
}

/// Whether a container of the version that the transaction brings was made since it began.
fn runs_the_candidate(
    host: &dyn Host,
    layout: &Layout,
    entries: &Records,
) -> Result<bool, AgentError> {
    let Some(Output::Preflight(preflight)) = output(entries, Step::Preflight) else {
        return Ok(false);
    };
    let Some(begin) = begin(entries) else {
        return Ok(false);
    };
    let releases = state::releases(layout)?;
    let is_candidate = |release: &&Release| match &preflight.target {
        Some(target) => release.name == *target,
        None => release.seq == begin.seq,
    };
    let Some(candidate) = releases.iter().find(is_candidate) else {
        return Ok(false);
    };
    let containers = host.containers(&preflight.project)?;
    Ok(containers.iter().any(|container| {
        let is_new = preflight
            .before
            .iter()
            .all(|known| known.id != container.id);
        let service = candidate.service(&container.service);
        is_new && service.is_some_and(|service| service.engine_id() == container.image_id)
    }))
}
