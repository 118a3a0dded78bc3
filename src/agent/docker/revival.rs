//! What Docker has left stopped, and when its engine last started.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::super::host::{Host, HostError};
use super::super::revive::Revival;
use super::RealHost;
use belay_model::versions::revival::{Ended, EngineStart};

/// How long starting one container may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Ticks a second of the times in `/proc`: part of Linux's interface, and the same on every machine that Belay runs on.
const TICKS: u64 = 100;

impl Revival for RealHost {
    fn last_start(&self) -> Result<Option<EngineStart>, HostError> {
        #[derive(Deserialize)]
        struct Network {
            #[serde(rename = "Created")]
            created: Timestamp,
        }
        // The engine makes this network anew at each start, after it has ended what it found running and before it answers.
        // A host may have been told to have no such network: then there is no evidence.
        let Ok(Network { created: until }) = self.api()?.get("/networks/bridge") else {
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
        let inspected = self.inspect_all(project, |listed| listed.state == "exited")?;
        Ok(inspected.into_iter().map(Ended::from).collect())
    }

    fn start_again(&self, container: &str) -> Result<(), HostError> {
        self.start_within(container, PATIENCE)
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
}
