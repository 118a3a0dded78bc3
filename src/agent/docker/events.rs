//! Waiting for what happens to a project's containers, by Docker's stream of events
//! (<https://docs.docker.com/reference/cli/docker/system/events/>).

use std::io::{BufRead, BufReader};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::super::host::{Attentive, ContainerEvent, Host, HostError};
use super::RealHost;
use super::api::query;

/// How much longer than it was asked for a stream may take to end.
const MARGIN: Duration = Duration::from_secs(10);

/// What tells that a container serves, or does not any more.
const WANTED: [&str; 6] = ["start", "restart", "die", "destroy", "pause", "unpause"];

/// A line of the stream.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(rename = "Attributes", default)]
    attributes: Attributes,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(rename = "com.docker.compose.service", default)]
    service: String,
}

impl Attentive for RealHost {
    fn await_event(
        &self,
        project: &str,
        since: Timestamp,
        patience: Duration,
    ) -> Result<Option<ContainerEvent>, HostError> {
        let patience_by_clock = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
        let until = Host::now(self).saturating_add(patience_by_clock);
        let until = until.unwrap_or(Timestamp::MAX);
        let filters = json!({
            "type": ["container"],
            "event": WANTED,
            "label": [format!("com.docker.compose.project={project}")],
        });
        let path = format!(
            "/events{}",
            query(&[
                ("since", &unix(since)),
                ("until", &unix(until)),
                ("filters", &filters.to_string()),
            ])
        );
        let stream = self.api()?.stream(&path, patience + MARGIN)?;
        let mut line = String::new();
        // A stream that breaks off told nothing; whoever waits looks by itself.
        let _ = BufReader::new(stream).read_line(&mut line);
        let line: Option<Line> = serde_json::from_str(&line).ok();
        Ok(line.map(|line| ContainerEvent {
            service: line.actor.attributes.service,
            started: matches!(line.action.as_str(), "start" | "restart" | "unpause"),
        }))
    }
}

/// As the engine takes a moment: seconds with their fractions.
fn unix(at: Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_seconds_and_nanoseconds() {
        let at: Timestamp = "2024-12-15T14:30:22.000000007Z".parse().expect("a moment");
        assert_eq!(unix(at), "1734273022.000000007");
    }
}
