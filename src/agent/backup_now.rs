//! A backup by itself, outside a transaction: `belay backup`.
//!
//! Runs on the host, under the lock. It is made like that of a deployment, and counts among those that are kept.

use super::backup::Reason;
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::lock::HostLock;
use super::state;
use super::steps::backup::{Order, make};
use super::steps::prune::prune_backups;
use belay_model::transaction::plan::Plan;
use belay_wire::BackupFacts;

/// A backup by itself, outside a transaction.
pub(crate) fn backup_now(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
    lock: &HostLock,
) -> Result<BackupFacts, AgentError> {
    let current = state::current(layout)?;
    let current = current.ok_or_else(|| {
        AgentError::new("nothing is deployed here, so there is nothing to back up")
            .next("push a release tag first")
    })?;
    let release = state::release(layout, &current.release)?;
    let seq = state::next_seq(layout, lock)?;
    let made = make(
        host,
        layout,
        plan,
        release.as_ref(),
        &current.project,
        &Order::live(seq, Reason::Manual),
    )?;
    prune_backups(layout, plan.backup.keep)?;
    Ok(made.facts())
}
