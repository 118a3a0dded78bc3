//! Reads the normalised Compose file (`docker compose config`), decides how each service is replaced, and renders the
//! file that goes live: the same file with every image pinned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// How a service goes from the old version to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    StartFirstGateway,
    StartFirstProxy,
    StopFirst,
    Untouched,
    OneShot,
}

impl Strategy {
    pub fn name(self) -> &'static str {
        match self {
            Strategy::StartFirstGateway => "start-first through the gateway",
            Strategy::StartFirstProxy => "start-first behind your proxy",
            Strategy::StopFirst => "stop-first",
            Strategy::Untouched => "untouched",
            Strategy::OneShot => "one-shot",
        }
    }
}

/// What belay.yml wants for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyWish {
    pub service: String,
    pub strategy: WishedStrategy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WishedStrategy {
    Auto,
    StartFirst,
    StopFirst,
    Untouched,
    OneShot,
}

/// A strategy with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    pub service: String,
    pub strategy: Strategy,
    pub reason: String,
}

/// What is wrong with a Compose file, as far as Belay has to understand it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeProblem {
    #[error("the Compose file has no services")]
    NoServices,
    #[error("service {0} has neither an image nor a build section")]
    NoImage(String),
    #[error("the services depend on each other in a circle: {}", .0.join(", "))]
    Circle(Vec<String>),
    #[error("belay.yml names service {0}, which the Compose file does not have")]
    UnknownService(String),
}

/// A normalised Compose file.
#[derive(Clone, Debug, PartialEq)]
pub struct ComposeFile {
    document: Value,
}

impl ComposeFile {
    /// Takes what `docker compose config` printed.
    pub fn new(document: Value) -> Result<Self, ComposeProblem> {
        match document.get("services").and_then(Value::as_object) {
            Some(services) if !services.is_empty() => Ok(ComposeFile { document }),
            _ => Err(ComposeProblem::NoServices),
        }
    }

    fn services(&self) -> &Map<String, Value> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        self.document
            .get("services")
            .and_then(Value::as_object)
            .unwrap_or(&EMPTY)
    }

    /// The services' names, sorted.
    pub fn service_names(&self) -> Vec<String> {
        self.services().keys().cloned().collect()
    }

    /// The project's name, where the file settles it.
    pub fn project(&self) -> Option<&str> {
        self.document.get("name").and_then(Value::as_str)
    }

    /// The image that the file names for a service.
    pub fn image(&self, service: &str) -> Option<&str> {
        self.services()
            .get(service)?
            .get("image")
            .and_then(Value::as_str)
    }

    fn service(&self, name: &str) -> Option<&Value> {
        self.services().get(name)
    }

    /// What a service depends on, with the condition.
    pub fn dependencies(&self, service: &str) -> Vec<(String, Condition)> {
        match self.service(service).and_then(|s| s.get("depends_on")) {
            Some(Value::Object(map)) => map
                .iter()
                .map(|(name, spec)| {
                    (
                        name.clone(),
                        Condition::parse(spec.get("condition").and_then(Value::as_str)),
                    )
                })
                .collect(),
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(Value::as_str)
                .map(|name| (name.to_owned(), Condition::Started))
                .collect(),
            _ => vec![],
        }
    }

    /// The given services, each after everything that it depends on.
    pub fn in_order(&self, services: &[String]) -> Result<Vec<String>, ComposeProblem> {
        let mut left: BTreeSet<String> = services.iter().cloned().collect();
        let mut order = vec![];
        while !left.is_empty() {
            let ready: Vec<String> = left
                .iter()
                .filter(|name| {
                    self.dependencies(name)
                        .iter()
                        .all(|(dependency, _)| !left.contains(dependency))
                })
                .cloned()
                .collect();
            if ready.is_empty() {
                return Err(ComposeProblem::Circle(left.into_iter().collect()));
            }
            for name in ready {
                left.remove(&name);
                order.push(name);
            }
        }
        Ok(order)
    }

    /// How long the service's own healthcheck may take to say "healthy": its start period and every retry, in milliseconds.
    pub fn healthcheck_needs_ms(&self, service: &str) -> Option<u64> {
        let check = self.service(service)?.get("healthcheck")?;
        if check.get("disable").and_then(Value::as_bool) == Some(true) {
            return None;
        }
        let duration = |key: &str, default: u64| {
            check
                .get(key)
                .and_then(Value::as_str)
                .and_then(go_duration_ms)
                .unwrap_or(default)
        };
        let retries = check.get("retries").and_then(as_u64_or_text).unwrap_or(3);
        Some(
            duration("start_period", 0)
                + retries * (duration("interval", 30_000) + duration("timeout", 30_000)),
        )
    }

    /// The data that the project's services keep: named volumes and bind mounts, with who uses them.
    pub fn mounts(&self) -> Vec<Mount> {
        let mut mounts: BTreeMap<MountSource, Mount> = BTreeMap::new();
        for (service, spec) in self.services() {
            for volume in spec
                .get("volumes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let Some((source, writable)) = self.mount_source(volume) else {
                    continue;
                };
                let mount = mounts.entry(source.clone()).or_insert_with(|| Mount {
                    source,
                    services: vec![],
                    writable: false,
                });
                mount.services.push(service.clone());
                mount.writable |= writable;
            }
        }
        mounts.into_values().collect()
    }

    fn mount_source(&self, volume: &Value) -> Option<(MountSource, bool)> {
        match volume {
            Value::String(short) => {
                let mut parts = short.splitn(3, ':');
                let source = parts.next()?;
                parts.next()?;
                let writable = !parts
                    .next()
                    .is_some_and(|mode| mode.split(',').any(|m| m == "ro"));
                let source = if source.starts_with('/') {
                    MountSource::Bind(source.to_owned())
                } else {
                    MountSource::Volume(self.volume_name(source))
                };
                Some((source, writable))
            }
            Value::Object(long) => {
                let source = long.get("source").and_then(Value::as_str)?;
                let writable = long.get("read_only").and_then(Value::as_bool) != Some(true);
                match long.get("type").and_then(Value::as_str)? {
                    "volume" => Some((MountSource::Volume(self.volume_name(source)), writable)),
                    "bind" => Some((MountSource::Bind(source.to_owned()), writable)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The engine's name of a volume: what the file says, else the file's key (to which the project's name belongs).
    fn volume_name(&self, key: &str) -> VolumeName {
        let spec = self.document.get("volumes").and_then(|v| v.get(key));
        let name = spec.and_then(|s| s.get("name")).and_then(Value::as_str);
        VolumeName {
            key: key.to_owned(),
            name: name.map(str::to_owned),
        }
    }

    /// The services that run once and end: they are waited for by others, or belay.yml says so.
    fn one_shots(&self) -> BTreeSet<String> {
        self.services()
            .keys()
            .flat_map(|service| self.dependencies(service))
            .filter(|(_, condition)| *condition == Condition::CompletedSuccessfully)
            .map(|(dependency, _)| dependency)
            .collect()
    }

    /// Decides the strategy of every service, given what serves now.
    pub fn classify(
        &self,
        wishes: &[StrategyWish],
        serving: Option<&ComposeFile>,
    ) -> Result<Vec<Classified>, ComposeProblem> {
        if let Some(wish) = wishes.iter().find(|w| self.service(&w.service).is_none()) {
            return Err(ComposeProblem::UnknownService(wish.service.clone()));
        }
        let one_shots = self.one_shots();
        Ok(self
            .service_names()
            .into_iter()
            .map(|service| {
                let wish = wishes
                    .iter()
                    .find(|w| w.service == service)
                    .map_or(WishedStrategy::Auto, |w| w.strategy);
                let (strategy, reason) = self.strategy_of(&service, wish, &one_shots, serving);
                Classified {
                    service,
                    strategy,
                    reason,
                }
            })
            .collect())
    }

    fn strategy_of(
        &self,
        service: &str,
        wish: WishedStrategy,
        one_shots: &BTreeSet<String>,
        serving: Option<&ComposeFile>,
    ) -> (Strategy, String) {
        let same_as_serving = serving.and_then(|s| s.service(service)) == self.service(service);
        match wish {
            WishedStrategy::OneShot => (Strategy::OneShot, "belay.yml says so".to_owned()),
            WishedStrategy::Auto if one_shots.contains(service) => (
                Strategy::OneShot,
                "another service waits for it to complete".to_owned(),
            ),
            WishedStrategy::Untouched | WishedStrategy::Auto if same_as_serving => (
                Strategy::Untouched,
                "it is the same in both versions".to_owned(),
            ),
            WishedStrategy::Untouched => (
                Strategy::StopFirst,
                "it changed, so it cannot stay untouched".to_owned(),
            ),
            WishedStrategy::StopFirst => (Strategy::StopFirst, "belay.yml says so".to_owned()),
            WishedStrategy::StartFirst => (
                Strategy::StopFirst,
                "start-first needs the gateway, which this version does not bring".to_owned(),
            ),
            WishedStrategy::Auto => (
                Strategy::StopFirst,
                "services are replaced in place".to_owned(),
            ),
        }
    }

    /// The file that goes live: every image pinned, nothing left to build.
    #[must_use]
    pub fn pinned(&self, pins: &BTreeMap<String, String>) -> ComposeFile {
        let mut document = self.document.clone();
        if let Some(services) = document.get_mut("services").and_then(Value::as_object_mut) {
            for (name, service) in services.iter_mut() {
                if let (Some(service), Some(pin)) = (service.as_object_mut(), pins.get(name)) {
                    service.insert("image".to_owned(), Value::String(pin.clone()));
                    service.remove("build");
                    // Only what was put on the host may run there.
                    service.remove("pull_policy");
                }
            }
        }
        ComposeFile { document }
    }

    /// The document, to be written as YAML.
    pub fn document(&self) -> &Value {
        &self.document
    }
}

/// A mount of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: MountSource,
    pub services: Vec<String>,
    pub writable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    Volume(VolumeName),
    Bind(String),
}

/// A volume's key in the file, and its name in the engine where the file settles it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName {
    pub key: String,
    pub name: Option<String>,
}

impl VolumeName {
    /// The name in the engine, for a project: Compose puts the project's name before a key without a name of its own.
    pub fn in_project(&self, project: &str) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("{project}_{}", self.key))
    }
}

/// The condition of a dependency (Compose specification, `depends_on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Started,
    Healthy,
    CompletedSuccessfully,
}

impl Condition {
    fn parse(text: Option<&str>) -> Condition {
        match text {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::CompletedSuccessfully,
            _ => Condition::Started,
        }
    }
}

fn as_u64_or_text(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Reads Go's durations (`1m30s`, `500ms`), which Compose prints, as milliseconds.
pub fn go_duration_ms(text: &str) -> Option<u64> {
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit_length = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        total += number
            * match &after[..unit_length] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" => 0.001,
                "ns" => 0.000_001,
                _ => return None,
            };
        rest = &after[unit_length..];
    }
    (!text.is_empty()).then_some(total.round() as u64)
}

/// The reference that pins an image in a rendered file. It names the content (the ID), so the same image keeps the same
/// pin and Compose leaves its container alone.
pub fn pin(project: &str, service: &str, image_id: &str) -> String {
    let digits = image_id.strip_prefix("sha256:").unwrap_or(image_id);
    format!(
        "{}:{}",
        repository(project, service),
        &digits[..digits.len().min(12)]
    )
}

/// The repository of Belay's own image references for a service.
pub fn repository(project: &str, service: &str) -> String {
    format!(
        "{}{}",
        repository_prefix(project),
        service.to_ascii_lowercase()
    )
}

/// What every image reference of Belay's for a project begins with. The slash keeps one project's prefix from being
/// another's beginning.
pub fn repository_prefix(project: &str) -> String {
    format!("belay/{project}/")
}

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The project's name that Compose itself makes from a directory's name: lower case, and only letters, digits, `-`, `_`.
pub fn project_from_directory(name: &str) -> Option<String> {
    let kept: String = name
        .to_ascii_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .collect();
    let name = kept.trim_start_matches(['-', '_']).to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(services: Value) -> ComposeFile {
        ComposeFile::new(json!({"name": "shop", "services": services})).expect("a valid file")
    }

    #[test]
    fn a_file_without_services_is_refused() {
        assert_eq!(
            ComposeFile::new(json!({"services": {}})),
            Err(ComposeProblem::NoServices)
        );
        assert_eq!(ComposeFile::new(json!([])), Err(ComposeProblem::NoServices));
    }

    #[test]
    fn services_come_after_what_they_depend_on() {
        let file = file(json!({
            "web": {"depends_on": {"db": {"condition": "service_healthy"}, "cache": {}}},
            "db": {}, "cache": {"depends_on": ["db"]},
        }));
        assert_eq!(
            file.in_order(&file.service_names()),
            Ok(vec!["db".into(), "cache".into(), "web".into()])
        );
    }

    #[test]
    fn a_circle_of_dependencies_is_refused() {
        let file = file(json!({"a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}}));
        assert!(matches!(
            file.in_order(&file.service_names()),
            Err(ComposeProblem::Circle(_))
        ));
    }

    #[test]
    fn a_service_that_others_wait_for_to_complete_is_one_shot() {
        let file = file(json!({
            "web": {"depends_on": {"migrate": {"condition": "service_completed_successfully"}}},
            "migrate": {},
        }));
        let classified = file.classify(&[], None).expect("classified");
        assert_eq!(classified[0].strategy, Strategy::OneShot);
        assert_eq!(classified[1].strategy, Strategy::StopFirst);
    }

    #[test]
    fn a_service_that_did_not_change_is_untouched() {
        let old = file(json!({"web": {"image": "a"}, "db": {"image": "x"}}));
        let new = file(json!({"web": {"image": "b"}, "db": {"image": "x"}}));
        let classified = new.classify(&[], Some(&old)).expect("classified");
        assert_eq!(classified[0].strategy, Strategy::Untouched);
        assert_eq!(classified[1].strategy, Strategy::StopFirst);
    }

    #[test]
    fn a_wish_for_an_unknown_service_is_refused() {
        let wish = StrategyWish {
            service: "wbe".to_owned(),
            strategy: WishedStrategy::StopFirst,
        };
        let file = file(json!({"web": {}}));
        assert_eq!(
            file.classify(&[wish], None),
            Err(ComposeProblem::UnknownService("wbe".to_owned()))
        );
    }

    #[test]
    fn pinning_changes_images_and_drops_what_would_build_or_pull() {
        let file = file(
            json!({"web": {"build": {"context": "."}, "pull_policy": "always", "ports": ["80:80"]}}),
        );
        let pins = BTreeMap::from([(
            "web".to_owned(),
            pin("shop", "web", "sha256:0123456789abcdef"),
        )]);
        assert_eq!(
            file.pinned(&pins).document()["services"]["web"],
            json!({"image": "belay/shop/web:0123456789ab", "ports": ["80:80"]})
        );
    }

    #[test]
    fn mounts_are_found_in_both_notations() {
        let file = ComposeFile::new(json!({
            "services": {
                "web": {"volumes": ["data:/data", "/srv/files:/files:ro"]},
                "db": {"volumes": [
                    {"type": "volume", "source": "data", "target": "/d", "read_only": true},
                    {"type": "bind", "source": "/srv/db", "target": "/x"},
                    {"type": "tmpfs", "target": "/tmp"},
                ]},
            },
            "volumes": {"data": {"name": "shop_data"}},
        }))
        .expect("valid");
        let mounts = file.mounts();
        assert_eq!(mounts.len(), 3);
        let data = mounts
            .iter()
            .find(|m| matches!(&m.source, MountSource::Volume(_)))
            .expect("the volume");
        assert_eq!((data.services.len(), data.writable), (2, true));
        let files = mounts
            .iter()
            .find(|m| m.source == MountSource::Bind("/srv/files".into()))
            .expect("the bind");
        assert!(!files.writable);
    }

    #[test]
    fn healthchecks_say_how_long_they_need() {
        let file = file(json!({
            "web": {"healthcheck": {"test": ["CMD", "x"], "interval": "5s", "timeout": "1s", "retries": 4,
                "start_period": "1m0s"}},
            "off": {"healthcheck": {"disable": true}}, "none": {},
        }));
        assert_eq!(file.healthcheck_needs_ms("web"), Some(84_000));
        assert_eq!(file.healthcheck_needs_ms("off"), None);
        assert_eq!(file.healthcheck_needs_ms("none"), None);
    }

    #[test]
    fn go_durations_are_read() {
        assert_eq!(go_duration_ms("1m30s"), Some(90_000));
        assert_eq!(go_duration_ms("1.5s"), Some(1500));
        assert_eq!(go_duration_ms("500ms"), Some(500));
        assert_eq!(go_duration_ms(""), None);
        assert_eq!(go_duration_ms("5 apples"), None);
    }

    #[test]
    fn projects_are_named_as_compose_names_them() {
        assert_eq!(
            project_from_directory("NT Platform.v2").as_deref(),
            Some("ntplatformv2")
        );
        assert_eq!(project_from_directory("_x-1").as_deref(), Some("x-1"));
        assert_eq!(project_from_directory("..."), None);
    }
}
