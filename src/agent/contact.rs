//! What every contact with a host does first: Belay's directories are there, and what a dead engine left is settled.
//!
//! Runs on the host, at the beginning of a verb.

use super::docker::RealHost;
use super::error::AgentError;
use super::layout::Layout;
use super::spawn::spawn_engine;
use super::{adopt, lock, repair, revive, state};
use belay_wire::FileFinding;

pub(super) fn prepared(layout: &Layout) -> Result<(), AgentError> {
    if !layout.root().is_dir() {
        return Err(AgentError::new(format!(
            "there is no directory {} on the host",
            layout.root().display()
        ))
        .host("nothing was changed")
        .next(format!(
            "create it and give it to the user that deploys: mkdir -p {0} && chown USER {0}",
            layout.root().display()
        )));
    }
    repair::make_usable(layout);
    state::prepare(layout).map_err(|e| {
        AgentError::from(e).next(format!(
            "give {} to the user that deploys",
            layout.root().display()
        ))
    })
}

/// Lets an engine rebuild what is damaged of Belay's files, go on with what a dead one left, take note of an emergency path,
/// and start what Docker left stopped; waits for it.
pub(super) fn settle(layout: &Layout) -> Result<(), AgentError> {
    let is_free = lock::holder(layout)?.is_none();
    let found = repair::look(layout, jiff::Timestamp::now());
    if is_free && found.iter().any(FileFinding::is_mendable) {
        return Ok(spawn_engine(layout, &["--recover"])?.wait().map(drop)?);
    }
    let open = state::open_transactions(layout)?;
    let busy = lock::holder(layout)?.is_some();
    let stale = adopt::unrecorded(layout)?.is_some();
    // A Docker that does not answer is told by what comes next, not here.
    let left = || revive::is_needed(&RealHost::new(), layout).unwrap_or(false);
    if busy || (open.is_empty() && !stale && !left()) {
        return Ok(());
    }
    let mut engine = spawn_engine(layout, &["--recover"])?;
    Ok(engine.wait().map(drop)?)
}
