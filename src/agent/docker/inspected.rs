//! Containers as Docker's engine describes them, and what Belay makes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::host::{Container, ContainerMount, DockerHealth, Image, RunState, Volume};
use belay_model::composition::data::DataKind;
use belay_model::versions::revival::Ended;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedContainer {
    id: String,
    name: String,
    image: String,
    #[serde(default)]
    restart_count: u32,
    state: InspectedState,
    config: InspectedConfig,
    host_config: InspectedHostConfig,
    #[serde(default)]
    network_settings: Option<InspectedNetworks>,
    #[serde(default)]
    mounts: Option<Vec<InspectedMount>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedMount {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    source: String,
    destination: String,
    #[serde(rename = "RW", default)]
    is_writable: bool,
}

impl InspectedMount {
    /// Nothing for memory and whatever else is no data.
    fn data(self) -> Option<ContainerMount> {
        let data = match self.kind.as_str() {
            "volume" => DataKind::Volume { name: self.name },
            "bind" => DataKind::Bind {
                path: self.source.into(),
            },
            _ => return None,
        };
        Some(ContainerMount {
            data,
            target: self.destination,
            is_writable: self.is_writable,
        })
    }
}

/// An image, as the engine describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedImage {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    architecture: String,
    #[serde(default, rename = "RootFS")]
    root_fs: InspectedRootFs,
    #[serde(default)]
    config: Option<InspectedImageConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedRootFs {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedImageConfig {
    #[serde(default)]
    volumes: Option<BTreeMap<String, Value>>,
}

impl From<InspectedImage> for Image {
    fn from(inspected: InspectedImage) -> Self {
        let volumes = inspected.config.and_then(|config| config.volumes);
        Image {
            id: inspected.id,
            layers: inspected.root_fs.layers.unwrap_or_default(),
            tags: inspected.repo_tags.unwrap_or_default(),
            digests: inspected.repo_digests.unwrap_or_default(),
            architecture: inspected.architecture,
            volumes: volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// A volume, as the engine describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InspectedVolume {
    name: String,
    #[serde(default)]
    driver: String,
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created_at: String,
}

impl From<InspectedVolume> for Volume {
    fn from(inspected: InspectedVolume) -> Self {
        Volume {
            name: inspected.name,
            driver: inspected.driver,
            options: inspected.options.unwrap_or_default(),
            created: inspected.created_at.parse().ok(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedNetworks {
    #[serde(default)]
    networks: Option<BTreeMap<String, InspectedEndpoint>>,
}

#[derive(Deserialize)]
struct InspectedEndpoint {
    #[serde(rename = "IPAddress", default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i32,
    finished_at: Timestamp,
    #[serde(default)]
    error: String,
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    status: String,
    /// How many checks have failed since the last good one.
    #[serde(default)]
    failing_streak: u32,
    #[serde(default)]
    log: Option<Vec<InspectedCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedCheck {
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
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
    #[serde(default)]
    maximum_retry_count: u32,
}

impl InspectedConfig {
    /// What Compose has noted under this name.
    fn label(&self, name: &str) -> String {
        self.image_label(&format!("com.docker.compose.{name}"))
    }

    /// A label, which may come from the image.
    fn image_label(&self, name: &str) -> String {
        let labels = self.labels.as_ref();
        labels
            .and_then(|labels| labels.get(name))
            .cloned()
            .unwrap_or_default()
    }

    /// Made by `docker compose run`.
    fn is_one_off(&self) -> bool {
        self.label("oneoff").eq_ignore_ascii_case("true")
    }
}

impl InspectedPolicy {
    /// As a Compose file says it. Compose 1.x leaves it out where Docker's own client says "no".
    fn in_words(self) -> String {
        match (self.name, self.maximum_retry_count) {
            (name, _) if name.is_empty() => "no".to_owned(),
            (name, 0) => name,
            (name, count) => format!("{name}:{count}"),
        }
    }
}

impl From<InspectedContainer> for Ended {
    fn from(inspected: InspectedContainer) -> Self {
        Ended {
            service: inspected.config.label("service"),
            one_off: inspected.config.is_one_off(),
            container: inspected.id,
            image_id: inspected.image,
            restart_policy: inspected.host_config.restart_policy.in_words(),
            finished: inspected.state.finished_at,
            start_failed: !inspected.state.error.is_empty(),
        }
    }
}

impl From<InspectedContainer> for Container {
    fn from(inspected: InspectedContainer) -> Self {
        let config = inspected.config;
        Container {
            id: inspected.id,
            name: inspected.name.trim_start_matches('/').to_owned(),
            service: config.label("service"),
            working_dir: config.label("project.working_dir"),
            one_off: config.is_one_off(),
            app: config.image_label("dev.belay.app"),
            image_id: inspected.image,
            image: config.image,
            state: run_state(&inspected.state.status, inspected.state.exit_code),
            health: inspected.state.health.and_then(docker_health),
            restarts: inspected.restart_count,
            restart_policy: inspected.host_config.restart_policy.in_words(),
            addresses: inspected
                .network_settings
                .and_then(|settings| settings.networks)
                .into_iter()
                .flat_map(BTreeMap::into_values)
                .map(|endpoint| endpoint.address)
                .filter(|address| !address.is_empty())
                .collect(),
            mounts: inspected
                .mounts
                .unwrap_or_default()
                .into_iter()
                .filter_map(InspectedMount::data)
                .collect(),
        }
    }
}

fn run_state(status: &str, exit_code: i32) -> RunState {
    match status {
        "running" => RunState::Running,
        "restarting" => RunState::Restarting,
        "paused" => RunState::Paused,
        "created" => RunState::Created,
        _ => RunState::Exited(exit_code),
    }
}

fn docker_health(health: InspectedHealth) -> Option<DockerHealth> {
    match health.status.as_str() {
        "healthy" => Some(DockerHealth::Healthy),
        // Docker calls a container so when its checks are suspended, as while it is paused, and until the next one after that
        // (moby/moby, `CloseMonitorChannel`). What the last check said holds.
        "unhealthy" if health.failing_streak == 0 => {
            let was_checked = health.log.is_some_and(|log| !log.is_empty());
            Some(match was_checked {
                true => DockerHealth::Healthy,
                false => DockerHealth::Starting,
            })
        }
        "unhealthy" => {
            let last = health
                .log
                .unwrap_or_default()
                .pop()
                .map(|check| check.output)
                .unwrap_or_default();
            Some(DockerHealth::Unhealthy(
                last.trim().chars().take(300).collect(),
            ))
        }
        "starting" => Some(DockerHealth::Starting),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_check_that_was_suspended_has_not_failed() {
        let health = |streak: u32, log: &[&str]| {
            let log: Vec<_> = log.iter().map(|said| json!({"Output": said})).collect();
            let said = json!({"Status": "unhealthy", "FailingStreak": streak, "Log": log});
            docker_health(serde_json::from_value(said).expect("readable"))
        };
        let failed = DockerHealth::Unhealthy("no database".to_owned());
        assert_eq!(health(3, &["ok", "no database\n"]), Some(failed));
        assert_eq!(health(0, &["ok"]), Some(DockerHealth::Healthy));
        assert_eq!(health(0, &[]), Some(DockerHealth::Starting));
    }
}
