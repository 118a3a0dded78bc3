//! Starts again what Docker has left stopped after its own death. Which containers those are is decided in
//! [`belay_model::versions::revival`].
//!
//! Runs on the host, in the engine that settles what an earlier one left: under the lock, when no transaction is open. Never
//! a reason to fail: what could not be started is told, and tried again at the next contact.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::AgentError;
use super::host::{Host, HostError};
use super::layout::Layout;
use super::lock::HostLock;
use super::records;
use super::state;
use belay_model::transaction::outcome::with_causes;
use belay_model::versions::release::Release;
use belay_model::versions::revival::{Ended, EngineStart, left_stopped, wants_to_run};

/// What reviving needs to know of Docker, beside [`Host`].
pub trait Revival: Host {
    /// When the engine that answers now was starting; `None` when that cannot be found out.
    fn last_start(&self) -> Result<Option<EngineStart>, HostError>;
    /// The project's containers that have ended.
    fn ended(&self, project: &str) -> Result<Vec<Ended>, HostError>;
    /// Starts a container that has ended.
    fn start_again(&self, container: &str) -> Result<(), HostError>;
}

/// What the last revival did, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revived {
    /// When, by the host's clock.
    pub at: Timestamp,
    /// What was started and what could not be, in words.
    pub text: String,
}

/// Whether Docker has left anything stopped.
pub fn is_needed(docker: &dyn Revival, layout: &Layout) -> Result<bool, AgentError> {
    Ok(find(docker, layout)?.is_some())
}

/// Starts what Docker has left stopped; tells what was done, if anything.
pub fn revive(
    docker: &dyn Revival,
    layout: &Layout,
    lock: &HostLock,
) -> Result<Option<String>, AgentError> {
    let Some((release, left)) = find(docker, layout)? else {
        return Ok(None);
    };
    let (mut started, mut failed) = (vec![], vec![]);
    for ended in in_order(layout, &release, left) {
        if !lock.mark().is_current().unwrap_or(false) {
            return Err(AgentError::new("the lock is not the host's lock any more"));
        }
        match docker.start_again(&ended.container) {
            Ok(()) => started.push(ended.service),
            Err(error) => failed.push(format!("{} ({})", ended.service, with_causes(&error))),
        }
    }
    let text = words(&started, &failed);
    let revived = Revived {
        at: docker.now(),
        text: text.clone(),
    };
    records::write_json(&layout.revived(), &revived)?;
    Ok(Some(text))
}

/// What the last revival did, unless a transaction has brought something else since.
#[must_use]
pub fn last(layout: &Layout) -> Option<Revived> {
    let text = records::read_optional(&layout.revived()).ok()??;
    let revived: Revived = serde_json::from_slice(&text).ok()?;
    let current = state::current(layout).ok()??;
    (revived.at > current.since).then_some(revived)
}

fn find(
    docker: &dyn Revival,
    layout: &Layout,
) -> Result<Option<(Release, Vec<Ended>)>, AgentError> {
    let Some(current) = state::current(layout)? else {
        return Ok(None);
    };
    let release = state::release(layout, &current.release)?;
    let Some(release) = release else {
        return Ok(None);
    };
    let mut ended = docker.ended(&release.project)?;
    ended.retain(|e| wants_to_run(&e.restart_policy));
    if ended.is_empty() {
        return Ok(None);
    }
    let Some(start) = docker.last_start()? else {
        return Ok(None);
    };
    let left: Vec<Ended> = left_stopped(&release, &ended, start)
        .into_iter()
        .cloned()
        .collect();
    Ok((!left.is_empty()).then_some((release, left)))
}

/// Each after what it depends on; those of no service of the release (a gateway) come last.
fn in_order(layout: &Layout, release: &Release, mut left: Vec<Ended>) -> Vec<Ended> {
    let names: Vec<String> = release.services.iter().map(|s| s.name.clone()).collect();
    let order = state::normalised(layout, &release.name)
        .ok()
        .flatten()
        .and_then(|file| file.in_order(&names).ok())
        .unwrap_or(names);
    left.sort_by_key(|e| {
        order
            .iter()
            .position(|name| *name == e.service)
            .unwrap_or(usize::MAX)
    });
    left
}

fn words(started: &[String], failed: &[String]) -> String {
    let mut text = String::new();
    if !started.is_empty() {
        text = format!(
            "started {}, which Docker had stopped when it died and had left stopped",
            started.join(", ")
        );
    }
    if !failed.is_empty() {
        let separator = if text.is_empty() { "" } else { "; " };
        text.push_str(&format!(
            "{separator}could not start {}, which Docker had left stopped",
            failed.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let told = words(&["web".to_owned()], &["db (no)".to_owned()]);
        assert!(told.starts_with("started web, "), "{told}");
        assert!(told.contains("; could not start db (no), "), "{told}");
    }
}
