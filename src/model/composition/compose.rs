//! Reads the normalised Compose file (`docker compose config`), decides how each service is replaced, and renders the
//! file that goes live: the same file with every image pinned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::digest::sha256;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A file that a release puts under the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFile {
    /// Relative to the root.
    pub path: String,
    /// Unix permissions: 0o644 or 0o755.
    pub mode: u32,
    /// Of the content, in hexadecimal digits.
    pub sha256: String,
}

/// The label that tells a service's mounted files apart from those of another version.
const FILES_LABEL: &str = "dev.belay.files";

/// What is wrong with a Compose file, as far as Belay has to understand it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeProblem {
    /// There is nothing to deploy.
    #[error("the Compose file has no services")]
    NoServices,
    /// There is nothing to run, in this service.
    #[error("service {0} has neither an image nor a build section")]
    NoImage(String),
    /// There is no order to start these in.
    #[error("the services depend on each other in a circle: {}", .0.join(", "))]
    Circle(Vec<String>),
    /// A wish for a service that is not there.
    #[error("belay.yml names service {0}, which the Compose file does not have")]
    UnknownService(String),
    /// A wish that cannot be had.
    #[error("service {service} cannot be started first: {reason}")]
    CannotStartFirst {
        /// Of which service.
        service: String,
        /// Why not, and what its owner can do.
        reason: String,
    },
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
    #[must_use]
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

    /// A service's definition.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Value> {
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
        // Since Docker 25 checks come at this distance while the start period lasts, five seconds unless the file says so,
        // the first one included (https://docs.docker.com/reference/dockerfile/#healthcheck).
        let start_period = duration("start_period", 0);
        let start_interval = match start_period {
            0 => 0,
            _ => duration("start_interval", 5_000),
        };
        Some(
            start_period
                + start_interval
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
                // A path, as a user writes it or as Compose prints it; no volume's name begins with one of these.
                let source = if source.starts_with(['/', '.', '~']) {
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

    /// What a service can write to and finds again after its container was replaced. A socket is no data.
    pub fn kept_data(&self, service: &str) -> Vec<Kept> {
        let volumes = self.service(service).and_then(|s| s.get("volumes"));
        let volumes = volumes.and_then(Value::as_array).into_iter().flatten();
        volumes
            .filter_map(|volume| match self.mount_source(volume) {
                Some((MountSource::Volume(name), true)) => Some(Kept::Volume(name.key)),
                Some((MountSource::Bind(path), true)) => {
                    (!is_socket(&path)).then_some(Kept::Bind(path))
                }
                Some((MountSource::Volume(_) | MountSource::Bind(_), false)) => None,
                None => anonymous_volume(volume).map(Kept::Anonymous),
            })
            .collect()
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

    /// The same file with a label on each service that has files of the release mounted: their hash. To Compose a service is
    /// the same whatever its files say by now, and its container would keep those that it was started with.
    #[must_use]
    pub fn with_files_labelled(&self, root: &Path, files: &[ReleaseFile]) -> ComposeFile {
        let mut document = self.document.clone();
        for (name, service) in self.services() {
            let paths = self.mounted_paths(service);
            let places: Vec<&Path> = paths
                .iter()
                .filter_map(|path| below(root, Path::new(path)))
                .collect();
            let mut seen: Vec<String> = files
                .iter()
                .filter(|file| places.iter().any(|p| Path::new(&file.path).starts_with(p)))
                .map(|file| format!("{} {:o} {}\n", file.sha256, file.mode, file.path))
                .collect();
            if !seen.is_empty() {
                seen.sort();
                let hash = sha256(seen.concat().as_bytes());
                let short = hash.get(..12).unwrap_or(&hash);
                if let Some(service) = document.get_mut("services").and_then(|s| s.get_mut(name)) {
                    add_label(service, FILES_LABEL, short);
                }
            }
        }
        ComposeFile { document }
    }

    /// The paths on the host that a service has mounted, as its volumes, secrets and configs name them.
    fn mounted_paths(&self, service: &Value) -> Vec<String> {
        let list = |key: &str| {
            let found = service.get(key).and_then(Value::as_array);
            found.into_iter().flatten()
        };
        let volumes = list("volumes").filter_map(|volume| match self.mount_source(volume)?.0 {
            MountSource::Bind(path) => Some(path),
            MountSource::Volume(_) => None,
        });
        let by_name = |kind: &'static str| {
            list(kind).filter_map(move |granted| {
                let source = granted.as_str().or(granted["source"].as_str())?;
                let file = self.document.get(kind)?.get(source)?.get("file")?;
                file.as_str().map(str::to_owned)
            })
        };
        volumes
            .chain(by_name("secrets"))
            .chain(by_name("configs"))
            .collect()
    }

    /// The same file without the published ports of these services.
    #[must_use]
    pub fn without_ports(&self, services: &[&str]) -> ComposeFile {
        let mut document = self.document.clone();
        for name in services {
            let service = document.get_mut("services").and_then(|s| s.get_mut(*name));
            if let Some(service) = service.and_then(Value::as_object_mut) {
                service.remove("ports");
            }
        }
        ComposeFile { document }
    }

    /// The same file with one more service.
    #[must_use]
    pub fn with_service(&self, name: &str, definition: Value) -> ComposeFile {
        let mut document = self.document.clone();
        if let Some(services) = document.get_mut("services").and_then(Value::as_object_mut) {
            services.insert(name.to_owned(), definition);
        }
        ComposeFile { document }
    }

    /// The same file, to be judged: data that an image declares (`VOLUME`) and the file does not mount is an anonymous
    /// volume of the service.
    #[must_use]
    pub fn with_image_volumes<'a>(
        &self,
        volumes: impl Iterator<Item = (&'a str, &'a [String])>,
    ) -> ComposeFile {
        let mut document = self.document.clone();
        for (name, paths) in volumes {
            let service = document.get_mut("services").and_then(|s| s.get_mut(name));
            let Some(service) = service.and_then(Value::as_object_mut) else {
                continue;
            };
            let mounted: Vec<Value> = match service.get("volumes") {
                Some(Value::Array(list)) => list.clone(),
                _ => vec![],
            };
            let declared = paths
                .iter()
                .filter(|path| !mounted.iter().any(|m| mounts_at(m, path)));
            let anonymous = declared.map(|path| Value::String(path.clone()));
            let all: Vec<Value> = mounted.iter().cloned().chain(anonymous).collect();
            if !all.is_empty() {
                service.insert("volumes".to_owned(), Value::Array(all));
            }
        }
        ComposeFile { document }
    }

    /// Whether a service needs another one, directly or through others.
    #[must_use]
    pub fn needs(&self, service: &str, other: &str) -> bool {
        let mut left = vec![service.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = left.pop() {
            for (dependency, _) in self.dependencies(&name) {
                if dependency == other {
                    return true;
                }
                if seen.insert(dependency.clone()) {
                    left.push(dependency);
                }
            }
        }
        false
    }

    /// The restart policy that Compose gives a service's containers, as Docker names it.
    pub fn restart_policy(&self, service: &str) -> String {
        let service = self.service(service);
        if let Some(policy) = service
            .and_then(|s| s.get("restart"))
            .and_then(Value::as_str)
        {
            return policy.to_owned();
        }
        let deploy = service
            .and_then(|s| s.get("deploy"))
            .and_then(|d| d.get("restart_policy"));
        let Some(rule) = deploy else {
            return "no".to_owned();
        };
        match rule.get("condition").and_then(Value::as_str) {
            Some("none") => "no".to_owned(),
            Some("on-failure") => match rule.get("max_attempts").and_then(as_u64_or_text) {
                Some(most) => format!("on-failure:{most}"),
                None => "on-failure".to_owned(),
            },
            _ => "always".to_owned(),
        }
    }

    /// How long Docker lets a service's container end by itself when it is stopped, in milliseconds.
    pub fn stop_grace_ms(&self, service: &str) -> u64 {
        let period = self
            .service(service)
            .and_then(|s| s.get("stop_grace_period"))
            .and_then(Value::as_str);
        period.and_then(go_duration_ms).unwrap_or(10_000)
    }

    /// How many containers a service is to have. A `global` one has one on each host.
    pub fn replicas(&self, service: &str) -> u32 {
        let service = self.service(service);
        let deploy = service.and_then(|s| s.get("deploy"));
        let mode = deploy.and_then(|d| d.get("mode")).and_then(Value::as_str);
        if mode == Some("global") {
            return 1;
        }
        let wanted = service.and_then(|s| s.get("scale"));
        let wanted = wanted.or_else(|| deploy?.get("replicas"));
        let number = wanted.and_then(as_u64_or_text);
        number.and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
    }

    /// The document, to be written as YAML.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }
}

/// A mount of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Those that have it mounted, sorted.
    pub services: Vec<String>,
    /// One of them may write to it.
    pub writable: bool,
}

/// Data of a service: a volume's key in the file, a path on the host, or the container's path of a volume without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A named volume, by its key in the file.
    Volume(String),
    /// A path on the host.
    Bind(String),
    /// The container's path of a volume without a name.
    Anonymous(String),
}

/// What a mount takes its data from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    /// A named volume.
    Volume(VolumeName),
    /// A path on the host.
    Bind(String),
}

/// A volume's key in the file, and its name in the engine where the file settles it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeName {
    /// Below `volumes` of the file.
    pub key: String,
    /// `None`: the engine's name is made of the project's and the key.
    pub name: Option<String>,
}

impl VolumeName {
    /// The name in the engine, for a project: Compose puts the project's name before a key without a name of its own.
    #[must_use]
    pub fn in_project(&self, project: &str) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| format!("{project}_{}", self.key))
    }
}

/// The condition of a dependency (Compose specification, `depends_on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has started; what a plain list means.
    Started,
    /// Its healthcheck says so.
    Healthy,
    /// It has ended without an error.
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

/// The container's path of a volume that has no name.
fn anonymous_volume(volume: &Value) -> Option<String> {
    match volume {
        Value::String(short) => (!short.contains(':')).then(|| short.clone()),
        long => {
            let is_volume = long.get("type").and_then(Value::as_str) == Some("volume");
            let has_no_name = long.get("source").and_then(Value::as_str).is_none();
            let target = long.get("target").and_then(Value::as_str)?;
            (is_volume && has_no_name).then(|| target.to_owned())
        }
    }
}

/// Whether a mount is at this path of the container.
fn mounts_at(mount: &Value, path: &str) -> bool {
    let target = match mount {
        Value::String(short) => short.split(':').nth(1).or(Some(short.as_str())),
        long => long.get("target").and_then(Value::as_str),
    };
    target.is_some_and(|target| target.trim_end_matches('/') == path.trim_end_matches('/'))
}

fn as_u64_or_text(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A path relative to the root, if it is below; nothing for any other.
fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a Path> {
    match path.is_absolute() {
        true => path.strip_prefix(root).ok(),
        false => Some(path.strip_prefix("./").unwrap_or(path)),
    }
}

/// By its name alone: Docker's own socket, and most others, are called so.
fn is_socket(path: &str) -> bool {
    path.strip_suffix(".sock").is_some()
}

/// Labels are a map, or lines of `key=value`.
fn add_label(service: &mut Value, key: &str, value: &str) {
    match &mut service["labels"] {
        Value::Array(lines) => lines.push(Value::String(format!("{key}={value}"))),
        labels => labels[key] = Value::String(value.to_owned()),
    }
}

/// Reads Go's durations (`1m30s`, `500ms`), which Compose prints, as milliseconds.
#[must_use]
pub fn go_duration_ms(text: &str) -> Option<u64> {
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let unit_length = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        total += number
            * match unit {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" => 0.001,
                "ns" => 0.000_001,
                _ => return None,
            };
        rest = after;
    }
    let total = Duration::try_from_secs_f64(total.round() / 1000.0).ok()?;
    (!text.is_empty()).then(|| u64::try_from(total.as_millis()).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::composition::project::pin;

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
    fn a_service_bears_the_hash_of_the_files_that_it_has_mounted() {
        let files = |conf: &str| {
            let file = |path: &str, sha256: &str| ReleaseFile {
                path: path.to_owned(),
                mode: 0o644,
                sha256: sha256.to_owned(),
            };
            [
                file("conf/a.conf", conf),
                file("token.txt", "t"),
                file("conf.d/b", "b"),
            ]
        };
        let compose = file(json!({
            "a": {"volumes": [{"type": "bind", "source": "/opt/shop/conf", "target": "/etc/a"}]},
            "b": {"volumes": ["./conf/a.conf:/a.conf:ro"], "labels": ["x=y"]},
            "c": {"secrets": [{"source": "token"}], "labels": {"x": "y"}},
            "d": {"volumes": ["data:/data", "/etc/hosts:/etc/hosts:ro"]},
        }));
        let compose = ComposeFile {
            document: {
                let mut document = compose.document;
                document["secrets"] = json!({"token": {"file": "/opt/shop/token.txt"}});
                document
            },
        };
        let with = |conf| compose.with_files_labelled(Path::new("/opt/shop"), &files(conf));
        let (one, two) = (with("1"), with("2"));
        for (service, changes) in [("a", true), ("b", true), ("c", false), ("d", false)] {
            assert_eq!(
                one.service(service) != two.service(service),
                changes,
                "{service}"
            );
            let is_labelled = one.service(service) != compose.service(service);
            assert_eq!(is_labelled, service != "d", "{service}");
        }
        let c = &one.document["services"]["c"]["labels"];
        assert_eq!(c["x"], "y");
        assert_eq!(c[FILES_LABEL].as_str().map(str::len), Some(12));
        assert_eq!(with("1"), one);
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
    fn data_is_what_outlives_a_container() {
        let file = file(json!({"web": {"volumes": [
            "data:/data", "read:/read:ro", "./conf:/conf:rw,z", "/srv:/srv:ro,z", "/run/docker.sock:/run/docker.sock",
            "/cache", {"type": "volume", "target": "/more"}, {"type": "tmpfs", "target": "/tmp"},
            {"type": "volume", "source": "read", "target": "/r", "read_only": true},
        ]}}));
        assert_eq!(
            file.kept_data("web"),
            [
                Kept::Volume("data".into()),
                Kept::Bind("./conf".into()),
                Kept::Anonymous("/cache".into()),
                Kept::Anonymous("/more".into()),
            ]
        );
    }

    #[test]
    fn replicas_and_grace_are_read() {
        let file = file(json!({
            "a": {"scale": 3, "stop_grace_period": "1m"}, "b": {"deploy": {"replicas": "2"}}, "c": {},
            "d": {"deploy": {"mode": "global", "replicas": 4}}, "e": {"deploy": {"replicas": 0}},
        }));
        let replicas = ["a", "b", "c", "d", "e"].map(|service| file.replicas(service));
        assert_eq!(replicas, [3, 2, 1, 1, 0]);
        assert_eq!(
            (file.stop_grace_ms("a"), file.stop_grace_ms("b")),
            (60_000, 10_000)
        );
    }

    #[test]
    fn healthchecks_say_how_long_they_need() {
        let file = file(json!({
            "web": {"healthcheck": {"test": ["CMD", "x"], "interval": "5s", "timeout": "1s", "retries": 4,
                "start_period": "1m0s"}},
            "quick": {"healthcheck": {"test": ["CMD", "x"], "interval": "5s", "timeout": "1s", "retries": 4,
                "start_period": "1m0s", "start_interval": "500ms"}},
            "off": {"healthcheck": {"disable": true}}, "none": {},
        }));
        assert_eq!(file.healthcheck_needs_ms("web"), Some(89_000));
        assert_eq!(file.healthcheck_needs_ms("quick"), Some(84_500));
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
}
