//! The settings: every key of `belay.yml` as a type, its default, and how an environment and the inputs override it.
//!
//! Pure. What is read into these types was checked by `read`; [`Config::for_environment`] decides between the layers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::document::{Problem, closest, shown};
use super::values::{
    AbsolutePath, AppName, Bytes, DataPath, EnvironmentName, HeaderName, HostAddress, ImageName,
    JsonField, Percent, Period, Platform, ProjectName, RelativePath, ServiceName, Text, Url,
    UserName, VolumeName, words,
};
use crate::request::tag::TagKind;

/// A whole `belay.yml`, with the inputs of the run laid over it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Config {
    /// The name of the app, when it is given.
    pub app: Option<AppName>,
    /// What every environment shares unless it says otherwise.
    pub base: Layer,
    /// How single services are replaced.
    pub services: BTreeMap<ServiceName, Service>,
    /// How images are made, measured, shipped and kept.
    pub images: Images,
    /// The proxy in front of services that are replaced without a gap.
    pub gateway: Gateway,
    /// How downtime is measured.
    pub requests: Requests,
    /// What is backed up before each deployment.
    pub backup: Backup,
    /// The environments that are described.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// What the inputs of this run override.
    pub inputs: Inputs,
}

/// The settings that an environment may have for itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Layer {
    /// The host, as far as it is known here.
    pub host: HostLayer,
    /// The folder of the app on the host.
    pub root: Option<AbsolutePath>,
    /// The Compose file.
    pub compose: Option<RelativePath>,
    /// The Compose project.
    pub project: Option<ProjectName>,
    /// Files shipped beside the Compose file.
    pub files: Option<Vec<ShippedFile>>,
    /// How health is judged.
    pub health: HealthLayer,
    /// How long the new version is watched after it took over.
    pub bake: Option<Period>,
    /// How long the host waits for the runner's confirmation.
    pub confirm: Option<Period>,
    /// How long a deployment waits for another one to end.
    pub lock_wait: Option<Period>,
}

/// A host that may be known in parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HostLayer {
    /// Its name or IP address.
    pub address: Option<HostAddress>,
    /// The port of its SSH server.
    pub port: Option<u16>,
    /// The user that deploys.
    pub user: Option<UserName>,
}

/// How health is judged, as far as it is said here.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HealthLayer {
    /// See [`Health::primary`].
    pub primary: Option<Url>,
    /// See [`Health::backup`].
    pub backup: Option<Url>,
    /// See [`Health::public`].
    pub public: Option<Url>,
    /// See [`Health::successes`].
    pub successes: Option<u32>,
    /// See [`Health::interval`].
    pub interval: Option<Period>,
    /// See [`Health::timeout`].
    pub timeout: Option<Period>,
    /// See [`Health::deadline`].
    pub deadline: Option<Period>,
    /// See [`Health::degraded`].
    pub degraded: Option<Degraded>,
    /// See [`Health::version`].
    pub version: Option<VersionSource>,
}

/// One environment of `belay.yml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Environment {
    /// The kinds of tag that go here, when they are listed.
    pub tags: Option<BTreeSet<TagKind>>,
    /// Where people find the app; shown on GitHub.
    pub url: Option<Url>,
    /// What differs from the base.
    pub layer: Layer,
}

/// What the inputs of a run say, checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Inputs {
    /// The environment, whatever the kind of tag.
    pub environment: Option<EnvironmentName>,
    /// The host.
    pub host: HostLayer,
    /// The folder of the app on the host.
    pub root: Option<AbsolutePath>,
    /// How long to wait for the lock.
    pub lock_wait: Option<Period>,
    /// The repository's name: the app, when nothing else names it.
    pub repository: Option<AppName>,
}

/// The inputs as the action passes them: text, empty when not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Input `environment`.
    pub environment: Option<String>,
    /// Input `host`.
    pub host: Option<String>,
    /// Input `port`.
    pub port: Option<String>,
    /// Input `user`.
    pub user: Option<String>,
    /// A root that replaces the one of the file.
    pub root: Option<String>,
    /// Input `lock-wait`.
    pub lock_wait: Option<String>,
    /// The repository, as `owner/name` or `name`.
    pub repository: Option<String>,
}

/// Everything that one deployment to one environment needs to know. Complete: no setting is left to guess.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The kinds of tag that go to this environment.
    pub tags: BTreeSet<TagKind>,
    /// Where people find the app.
    pub url: Option<Url>,
    /// The host; only a command that stays on the runner can do without.
    pub host: Option<Host>,
    /// The folder of the app on the host.
    pub root: AbsolutePath,
    /// The Compose file in the repository; without it the caller takes the first of [`COMPOSE_FILES`] that exists.
    pub compose: Option<RelativePath>,
    /// The Compose project, when it is not the one that Compose derives from the root.
    pub project: Option<ProjectName>,
    /// Files shipped beside the Compose file.
    pub files: Vec<ShippedFile>,
    /// How single services are replaced; a service that is not named here is [`Strategy::Auto`].
    pub services: BTreeMap<ServiceName, Service>,
    /// How images are made, measured, shipped and kept.
    pub images: Images,
    /// The proxy in front of services that are replaced without a gap.
    pub gateway: Gateway,
    /// How downtime is measured.
    pub requests: Requests,
    /// How health is judged.
    pub health: Health,
    /// How long the new version is watched after it took over.
    pub bake: Period,
    /// How long the host waits for the runner's confirmation before it goes back by itself.
    pub confirm: Period,
    /// How long a deployment waits for another one to end.
    pub lock_wait: Period,
    /// What is backed up before each deployment.
    pub backup: Backup,
}

/// Where the Compose file is looked for, in this order.
pub const COMPOSE_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// A host that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name or IP address.
    pub address: HostAddress,
    /// The port of its SSH server.
    pub port: u16,
    /// The user that deploys.
    pub user: UserName,
}

/// A file that travels with the Compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedFile {
    /// Where it is in the repository.
    pub from: RelativePath,
    /// Where it goes below the root.
    pub to: RelativePath,
}

/// What is said about one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// How it is replaced.
    pub strategy: Strategy,
    /// What the gateway speaks with it.
    pub mode: Mode,
    /// How the gateway tells it the client's address, besides HTTP's headers.
    pub proxy_protocol: ProxyProtocol,
    /// How its replicas are replaced.
    pub roll: Roll,
    /// How an incumbent is taken out by the user's own proxy before it stops.
    pub drain: Drain,
}

/// What happens to an incumbent behind the user's own proxy before it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Run inside it; empty for none.
    pub command: Vec<String>,
    /// How long the proxy gets to notice.
    pub wait: Period,
}

words! {
    /// What the gateway speaks with a service.
    Mode {
        /// HTTP/1.1, WebSockets and server-sent events included.
        Http = "http",
        /// Bytes, whatever they mean.
        Tcp = "tcp",
    }
}

words! {
    /// The PROXY protocol that the gateway speaks to a service.
    ProxyProtocol {
        /// None.
        Off = "off",
        /// Version 1, in text.
        V1 = "v1",
        /// Version 2, in bytes.
        V2 = "v2",
    }
}

words! {
    /// How the replicas of a start-first service are replaced.
    Roll {
        /// All new ones beside all old ones.
        Together = "together",
        /// One after the other.
        OneByOne = "one-by-one",
    }
}

/// The proxy in front of services that are replaced without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gateway {
    /// There is none: services that publish ports are replaced stop-first.
    Off,
    /// HAProxy, as one more service of the project.
    On {
        /// Its image.
        image: ImageName,
        /// How the image reaches the host.
        source: ImageSource,
    },
}

/// How downtime is measured, and how much of it is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Questions a second; 0 measures nothing.
    pub rate: u32,
    /// How many may fail.
    pub max_failed: Option<u32>,
    /// How long there may be no good answer.
    pub max_gap: Option<Period>,
    /// What more of either means.
    pub over: Excess,
}

words! {
    /// How a service is replaced.
    Strategy {
        /// Belay looks at the service and says what it chose, and why.
        Auto = "auto",
        /// The new container is healthy before the old one stops.
        StartFirst = "start-first",
        /// The old container stops before the new one starts.
        StopFirst = "stop-first",
        /// Never replaced by a deployment.
        Untouched = "untouched",
        /// Run once per release, to its end: a migration.
        OneShot = "one-shot",
    }
}

/// How images are made, measured, shipped and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// How images reach the host.
    pub source: ImageSource,
    /// The size that an image should stay below.
    pub budget: Bytes,
    /// What a larger image means.
    pub over_budget: Excess,
    /// How much an image may grow from one version to the next.
    pub growth: Percent,
    /// What more growth means.
    pub over_growth: Excess,
    /// A command run inside each built image before it ships; empty for none.
    pub test: Vec<String>,
    /// How many versions stay on the host.
    pub keep: u32,
    /// Images that are not built here, by service.
    pub given: BTreeMap<ServiceName, ImageName>,
    /// The platform to build for; the host's own when it is not given.
    pub platform: Option<Platform>,
}

words! {
    /// How images reach the host.
    ImageSource {
        /// Over the SSH connection, whole; one that the running version has already is not sent again.
        Stream = "stream",
        /// The host pulls them by digest.
        Registry = "registry",
    }
}

words! {
    /// What it means when a limit is exceeded.
    Excess {
        /// The deployment goes on and the report says so.
        Warn = "warn",
        /// The deployment is refused.
        Fail = "fail",
    }
}

/// How health is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The endpoint that decides, asked on the host; without it the containers alone do.
    pub primary: Option<Url>,
    /// The endpoint that is asked when the primary cannot be reached at all.
    pub backup: Option<Url>,
    /// The endpoint as users reach it, asked from the runner.
    pub public: Option<Url>,
    /// How many answers in a row must be good.
    pub successes: u32,
    /// The pause between two questions.
    pub interval: Period,
    /// How long one answer may take.
    pub timeout: Period,
    /// How long the app may take to become healthy.
    pub deadline: Period,
    /// Whether it is enough when only the backup endpoint answers.
    pub degraded: Degraded,
    /// Where the primary endpoint says which version it is.
    pub version: Option<VersionSource>,
}

words! {
    /// What becomes of an app of which only the backup endpoint answers.
    Degraded {
        /// It is deployed, with a warning.
        Accept = "accept",
        /// It counts as unhealthy.
        Refuse = "refuse",
    }
}

/// Where an answer says which version gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// In this response header.
    Header(HeaderName),
    /// In this field of the JSON body.
    Json(JsonField),
}

/// What is backed up before each deployment, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// How many verified backups stay.
    pub keep: u32,
    /// How many lines of log are kept of each service.
    pub logs: u32,
    /// Which data is included.
    pub data: BackupData,
}

/// Which data a backup includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupData {
    /// Every named volume and every bind mount below the root, copied live.
    Auto,
    /// No data.
    None,
    /// What is listed.
    These(Vec<DataSource>),
}

/// One piece of data and how it is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataSource {
    /// Where it is.
    pub place: DataPlace,
    /// How it is copied.
    pub strategy: DataStrategy,
    /// The service that is paused, stopped or asked for the dump; with `pause` and `stop`, all that use the data if
    /// none.
    pub service: Option<ServiceName>,
    /// The command whose output is the dump; empty for the other strategies.
    pub command: Vec<String>,
}

/// Where data is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPlace {
    /// In a Docker volume, by its name in the Compose file.
    Volume(VolumeName),
    /// In a folder or file of the host.
    Path(DataPath),
}

words! {
    /// How data is copied.
    DataStrategy {
        /// While it is in use; marked as possibly inconsistent.
        Live = "live",
        /// While its services are paused.
        Pause = "pause",
        /// While its services are stopped.
        Stop = "stop",
        /// As the output of a command in a service.
        Dump = "dump",
    }
}

impl Default for Images {
    fn default() -> Images {
        Images {
            source: ImageSource::Stream,
            budget: Bytes::megabytes(300),
            over_budget: Excess::Warn,
            growth: Percent::new(20),
            over_growth: Excess::Warn,
            test: Vec::new(),
            keep: 3,
            given: BTreeMap::new(),
            platform: None,
        }
    }
}

impl Default for Backup {
    fn default() -> Backup {
        Backup {
            keep: 5,
            logs: 1000,
            data: BackupData::Auto,
        }
    }
}

impl Default for Service {
    fn default() -> Service {
        Service {
            strategy: Strategy::Auto,
            mode: Mode::Http,
            proxy_protocol: ProxyProtocol::Off,
            roll: Roll::Together,
            drain: Drain::default(),
        }
    }
}

impl Default for Drain {
    fn default() -> Drain {
        Drain {
            command: Vec::new(),
            wait: Period::seconds(5),
        }
    }
}

/// The gateway's image where belay.yml names none: the long-term supported version of the official one.
const GATEWAY_IMAGE: &str = "haproxy:3.0";

impl Default for Gateway {
    fn default() -> Gateway {
        match ImageName::read(GATEWAY_IMAGE) {
            Some(image) => Gateway::On {
                image,
                source: ImageSource::Registry,
            },
            None => Gateway::Off,
        }
    }
}

impl Default for Requests {
    fn default() -> Requests {
        Requests {
            rate: 50,
            max_failed: None,
            max_gap: None,
            over: Excess::Warn,
        }
    }
}

impl Default for Health {
    fn default() -> Health {
        Health::from_layers(&HealthLayer::default(), &HealthLayer::default())
    }
}

impl Health {
    pub(super) fn from_layers(first: &HealthLayer, then: &HealthLayer) -> Health {
        Health {
            primary: either(&first.primary, &then.primary),
            backup: either(&first.backup, &then.backup),
            public: either(&first.public, &then.public),
            successes: either(&first.successes, &then.successes).unwrap_or(3),
            interval: either(&first.interval, &then.interval).unwrap_or(Period::seconds(1)),
            timeout: either(&first.timeout, &then.timeout).unwrap_or(Period::seconds(5)),
            deadline: either(&first.deadline, &then.deadline).unwrap_or(Period::seconds(60)),
            degraded: either(&first.degraded, &then.degraded).unwrap_or(Degraded::Accept),
            version: either(&first.version, &then.version),
        }
    }
}

impl Config {
    /// The environment that a kind of tag goes to: the input's, the one that lists the kind, or the usual one. Nothing
    /// when the usual one lists its kinds and leaves this one out.
    pub fn environment_of(&self, kind: TagKind) -> Option<&str> {
        if let Some(environment) = &self.inputs.environment {
            return Some(environment.as_str());
        }
        let lists = |environment: &Environment| {
            environment
                .tags
                .as_ref()
                .is_some_and(|tags| tags.contains(&kind))
        };
        if let Some((name, _)) = self
            .environments
            .iter()
            .find(|(_, environment)| lists(environment))
        {
            return Some(name.as_str());
        }
        let usual = kind.class().default_environment();
        let is_closed = |environment: &Environment| environment.tags.is_some();
        let closed = self
            .environments
            .iter()
            .any(|(name, found)| name.as_str() == usual && is_closed(found));
        (!closed).then_some(usual)
    }

    /// The settings of one environment, complete. Fails when the environment is not described although others are, and
    /// when nothing names the app.
    pub fn for_environment(&self, name: &str) -> Result<Settings, Vec<Problem>> {
        let Some(environment_name) = EnvironmentName::read(name).filter(|_| self.knows(name))
        else {
            return Err(vec![unknown_environment(name, self)]);
        };
        let described = self
            .environments
            .get(&environment_name)
            .cloned()
            .unwrap_or_default();
        let (layer, base, inputs) = (&described.layer, &self.base, &self.inputs);
        let given_root = inputs
            .root
            .clone()
            .or_else(|| either(&layer.root, &base.root));
        let Some(app) = self.app_at(given_root.as_ref()) else {
            return Err(vec![nameless_app()]);
        };
        let Some(root) = given_root.or_else(|| AbsolutePath::read(&format!("/opt/{app}"))) else {
            return Err(vec![nameless_app()]);
        };
        Ok(Settings {
            tags: TagKind::ALL
                .into_iter()
                .filter(|kind| self.environment_of(*kind) == Some(name))
                .collect(),
            url: described.url.clone(),
            host: self.host_of(layer),
            compose: either(&layer.compose, &base.compose),
            project: either(&layer.project, &base.project),
            files: either(&layer.files, &base.files).unwrap_or_default(),
            services: self.services.clone(),
            images: self.images.clone(),
            gateway: self.gateway.clone(),
            requests: self.requests.clone(),
            health: Health::from_layers(&layer.health, &base.health),
            bake: either(&layer.bake, &base.bake).unwrap_or(Period::seconds(10)),
            confirm: either(&layer.confirm, &base.confirm).unwrap_or(Period::seconds(120)),
            lock_wait: inputs
                .lock_wait
                .or_else(|| either(&layer.lock_wait, &base.lock_wait))
                .unwrap_or(Period::seconds(600)),
            backup: self.backup.clone(),
            environment: environment_name,
            app,
            root,
        })
    }

    /// Whether an environment may be deployed to: all, as long as none is described; then those, and the usual two.
    fn knows(&self, name: &str) -> bool {
        let usual = TagKind::ALL
            .iter()
            .any(|kind| kind.class().default_environment() == name);
        usual
            || self.environments.is_empty()
            || self.environments.keys().any(|known| known.as_str() == name)
    }

    /// The app's name: as given, or the last part of its root, or the repository's.
    fn app_at(&self, root: Option<&AbsolutePath>) -> Option<AppName> {
        let from_root = || root.and_then(|root| AppName::read(root.last_part()));
        self.app
            .clone()
            .or_else(from_root)
            .or_else(|| self.inputs.repository.clone())
    }

    pub(super) fn host_of(&self, layer: &Layer) -> Option<Host> {
        let (inputs, host, base) = (&self.inputs.host, &layer.host, &self.base.host);
        Some(Host {
            address: inputs
                .address
                .clone()
                .or_else(|| either(&host.address, &base.address))?,
            port: inputs
                .port
                .or_else(|| either(&host.port, &base.port))
                .unwrap_or(22),
            user: inputs
                .user
                .clone()
                .or_else(|| either(&host.user, &base.user))
                .or_else(|| UserName::read("deploy"))?,
        })
    }
}

/// The first that is given.
fn either<T: Clone>(first: &Option<T>, then: &Option<T>) -> Option<T> {
    first.as_ref().or(then.as_ref()).cloned()
}

fn unknown_environment(name: &str, config: &Config) -> Problem {
    let known: Vec<&str> = config
        .environments
        .keys()
        .map(EnvironmentName::as_str)
        .collect();
    let hint = match closest(name, &known) {
        Some(close) => format!("did you mean {close}?"),
        None if known.is_empty() => EnvironmentName::HINT.to_owned(),
        None => format!("known: {}; or add it under environments", known.join(", ")),
    };
    Problem {
        file: "inputs".into(),
        line: 0,
        column: 0,
        message: format!(
            "environment: \"{}\" is not an environment of belay.yml",
            shown(name)
        ),
        hint: Some(hint),
    }
}

fn nameless_app() -> Problem {
    Problem {
        file: "inputs".into(),
        line: 0,
        column: 0,
        message: "nothing names the app".into(),
        hint: Some("add `app: name` or `root: /opt/name` to belay.yml".into()),
    }
}
