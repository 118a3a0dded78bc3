//! Starts again what Docker has left stopped after its own death. Which containers those are is decided in
//! [`crate::model::revival`].
//!
//! Runs on the host, in the engine that settles what an earlier one left: under the lock, when no transaction is open. Never
//! a reason to fail: what could not be started is told, and tried again at the next contact.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::command::Call;
use super::docker::RealHost;
use super::host::{Host, HostError};
use super::layout::Layout;
use super::lock::HostLock;
use super::state;
use crate::model::outcome::Failure;
use crate::model::release::Release;
use crate::model::revival::{Ended, EngineStart, left_stopped, wants_to_run};

/// What reviving needs to know of Docker, beside [`Host`].
pub trait Revival: Host {
    /// When the engine that answers now was starting; `None` when that cannot be found out.
    fn last_start(&self) -> Result<Option<EngineStart>, HostError>;
    /// The project's containers that have ended.
    fn ended(&self, project: &str) -> Result<Vec<Ended>, HostError>;
    fn start_again(&self, container: &str) -> Result<(), HostError>;
}

/// What the last revival did, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revived {
    pub at: Timestamp,
    pub text: String,
}

/// Whether Docker has left anything stopped.
pub fn is_needed(docker: &dyn Revival, layout: &Layout) -> Result<bool, Failure> {
    Ok(find(docker, layout)?.is_some())
}

/// Starts what Docker has left stopped; tells what was done, if anything.
pub fn revive(
    docker: &dyn Revival,
    layout: &Layout,
    lock: &HostLock,
) -> Result<Option<String>, Failure> {
    let Some((release, left)) = find(docker, layout)? else {
        return Ok(None);
    };
    let (mut started, mut failed) = (vec![], vec![]);
    for ended in in_order(layout, &release, left) {
        if !lock.mark().is_current().unwrap_or(false) {
            return Err(Failure::new("the lock is not the host's lock any more"));
        }
        match docker.start_again(&ended.container) {
            Ok(()) => started.push(ended.service),
            Err(error) => failed.push(format!("{} ({})", ended.service, Failure::of(&error).error)),
        }
    }
    let text = words(&started, &failed);
    let revived = Revived {
        at: docker.now(),
        text: text.clone(),
    };
    state::write_json(&layout.revived(), &revived).map_err(|e| Failure::of(&e))?;
    Ok(Some(text))
}

/// What the last revival did, unless a transaction has brought something else since.
pub fn last(layout: &Layout) -> Option<Revived> {
    let text = state::read_optional(&layout.revived()).ok()??;
    let revived: Revived = serde_json::from_slice(&text).ok()?;
    let current = state::current(layout).ok()??;
    (revived.at > current.since).then_some(revived)
}

fn find(docker: &dyn Revival, layout: &Layout) -> Result<Option<(Release, Vec<Ended>)>, Failure> {
    let failed = |e: HostError| Failure::of(&e);
    let Some(current) = state::current(layout).map_err(|e| Failure::of(&e))? else {
        return Ok(None);
    };
    let release = state::release(layout, &current.release).map_err(|e| Failure::of(&e))?;
    let Some(release) = release else {
        return Ok(None);
    };
    let mut ended = docker.ended(&release.project).map_err(failed)?;
    ended.retain(|e| wants_to_run(&e.restart_policy));
    if ended.is_empty() {
        return Ok(None);
    }
    let Some(start) = docker.last_start().map_err(failed)? else {
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

// --- the real one ----------------------------------------------------------------------------------------------------

/// How long starting one container may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ticks a second of the times in `/proc`: part of Linux's interface, and the same on every machine that Belay runs on.
const TICKS: u64 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    image: String,
    state: InspectedState,
    config: InspectedConfig,
    host_config: InspectedHostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    finished_at: Timestamp,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHostConfig {
    restart_policy: InspectedPolicy,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedPolicy {
    #[serde(default)]
    name: String,
}

impl From<Inspected> for Ended {
    fn from(inspected: Inspected) -> Self {
        let labels = inspected.config.labels.unwrap_or_default();
        let label = |name: &str| labels.get(&format!("com.docker.compose.{name}"));
        Ended {
            container: inspected.id,
            service: label("service").cloned().unwrap_or_default(),
            image_id: inspected.image,
            restart_policy: inspected.host_config.restart_policy.name,
            one_off: label("oneoff").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            finished: inspected.state.finished_at,
            start_failed: !inspected.state.error.is_empty(),
        }
    }
}

impl Revival for RealHost {
    fn last_start(&self) -> Result<Option<EngineStart>, HostError> {
        // The engine makes this network anew at each start, after it has ended what it found running and before it answers.
        let call = Call::new([
            "docker",
            "network",
            "inspect",
            "--format",
            "{{json .Created}}",
            "bridge",
        ]);
        // A host may have been told to have no such network: then there is no evidence.
        let Ok(printed) = call.run() else {
            return Ok(None);
        };
        let Ok(until) = serde_json::from_slice::<Timestamp>(&printed.stdout) else {
            return Ok(None);
        };
        let since_boot = Host::boot_time(self).ms;
        let now = Timestamp::now();
        let started = process_ages("dockerd", since_boot)
            .into_iter()
            .filter_map(|ms| now.checked_sub(SignedDuration::from_millis(ms)).ok())
            // There may be several engines on one machine. The one that came last before the network made it, or an
            // innocent one did: then too little counts as Docker's doing, never too much.
            .filter(|from| *from <= until)
            .max();
        Ok(started.map(|from| EngineStart { from, until }))
    }

    fn ended(&self, project: &str) -> Result<Vec<Ended>, HostError> {
        let filter = format!("label=com.docker.compose.project={project}");
        let words = [
            "docker",
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            "status=exited",
            "--filter",
            &filter,
        ];
        let listed = Call::new(words).run()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(vec![]);
        }
        // A container that went away meanwhile is no error: the others are still printed.
        let (_, printed) = Call::new(["docker", "inspect"].into_iter().chain(ids)).run_to_end()?;
        let inspected: Vec<Inspected> =
            serde_json::from_slice(&printed.stdout).map_err(|source| HostError::Answer {
                what: "docker inspect".to_owned(),
                source,
            })?;
        Ok(inspected.into_iter().map(Ended::from).collect())
    }

    fn start_again(&self, container: &str) -> Result<(), HostError> {
        Call::new(["docker", "start", container])
            .deadline(PATIENCE)
            .run()
            .map(drop)
    }
}

/// How long ago, in milliseconds, each process of this name was started.
fn process_ages(name: &str, since_boot_ms: u64) -> Vec<i64> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return vec![];
    };
    let stats = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        std::fs::read_to_string(path.join("stat")).ok()
    });
    stats
        .filter_map(|stat| started_after_boot_ms(&stat, name))
        .map(|started| i64::try_from(since_boot_ms.saturating_sub(started)).unwrap_or(i64::MAX))
        .collect()
}

/// When a process was started, from its line in `/proc/PID/stat`, if it has this name.
fn started_after_boot_ms(stat: &str, name: &str) -> Option<u64> {
    // The name stands in brackets and may itself hold any character; the last bracket ends it.
    let (before, after) = stat.rsplit_once(") ")?;
    let (_, found) = before.split_once('(')?;
    let ticks: u64 = after.split(' ').nth(19)?.parse().ok()?;
    (found == name).then_some(ticks * 1000 / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_line_tells_its_start() {
        let line =
            "812 (docker) d) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 114213 2 3 4\n";
        assert_eq!(started_after_boot_ms(line, "docker) d"), Some(1_142_130));
        assert_eq!(started_after_boot_ms(line, "dockerd"), None);
        assert_eq!(started_after_boot_ms("nonsense", "dockerd"), None);
    }

    #[test]
    fn the_age_of_a_process_is_found() {
        let name = std::fs::read_to_string("/proc/self/comm").expect("Linux");
        let since = Host::boot_time(&RealHost::new()).ms;
        let ages = process_ages(name.trim(), since);
        assert!(ages.iter().any(|ms| (0..600_000).contains(ms)), "{ages:?}");
    }

    #[test]
    fn what_was_done_is_told() {
        let told = words(&["web".to_owned()], &["db (no)".to_owned()]);
        assert!(told.starts_with("started web, "), "{told}");
        assert!(told.contains("; could not start db (no), "), "{told}");
    }
}
