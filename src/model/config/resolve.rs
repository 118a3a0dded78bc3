//! A whole `belay.yml`, and the settings of one of its environments: which of environment, file and input counts.
//!
//! Pure; the file is read on the runner.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::checks;
use super::document::{Entries, Field, Located, Node, parse};
use super::inputs::{self, CheckedInputs, Overrides};
use super::problems::{Problem, Problems, closest, entries, shown};
use super::setting::{KeyMap, Setting, SettingKey, homes, names};
use super::settings::{
    BackupSettings, DataMeaning, EnvironmentSettings, File, FileToShip, Gateway, HealthSettings,
    ImageSettings, RequestSettings, ServiceSettings, SharedSettings,
};
use super::values::{
    AbsolutePath, AppName, DataSource, EnvironmentName, HostAddress, Period, ProjectName,
    RelativePath, ServiceName, Text, Url, UserName,
};
use crate::request::tag::TagKind;

/// Every key of `belay.yml`, as it is declared.
#[must_use]
pub fn keys() -> Vec<SettingKey> {
    File::keys()
}

/// A whole `belay.yml`, with the inputs of the run beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    file: File,
    inputs: CheckedInputs,
}

/// Everything that one deployment to one environment needs to know. Complete: no setting is left to guess. What each
/// means is told at its key, in `settings.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// As given, or the last part of its root, or the repository's name.
    pub app: AppName,
    /// Its name on GitHub; not always one that the file describes.
    pub environment: EnvironmentName,
    /// The kinds of tag that go to this environment.
    pub tags: BTreeSet<TagKind>,
    /// Shown on GitHub.
    pub url: Option<Url>,
    /// The host; only a command that stays on the runner can do without.
    pub host: Option<HostToReach>,
    /// Never a folder of the system.
    pub root: AbsolutePath,
    /// In the repository; without it the caller takes the first of [`COMPOSE_FILES`] that exists.
    pub compose: Option<RelativePath>,
    /// When it is not the one that Compose derives from the root.
    pub project: Option<ProjectName>,
    /// Shipped beside the Compose file; no two to the same place.
    pub files: Vec<FileToShip>,
    /// A service that is not named here is [`WishedStrategy::Auto`](super::WishedStrategy::Auto).
    pub services: BTreeMap<ServiceName, ServiceSettings>,
    /// For the images that are built, and those that are given.
    pub images: ImageSettings,
    /// In front of services that are replaced without a gap.
    pub gateway: Gateway,
    /// What is measured while a deployment is at work.
    pub requests: RequestSettings,
    /// Asked of the new version before it counts as healthy.
    pub health: HealthSettings,
    /// From the cutover on.
    pub bake: Period,
    /// From the end of the bake on; then the host goes back by itself.
    pub confirm: Period,
    /// Zero is not to wait.
    pub lock_wait: Period,
    /// Taken before each deployment.
    pub backup: BackupSettings,
    /// What is meant to become of data that a version mounts otherwise than the one before.
    #[serde(default)]
    pub data: BTreeMap<DataSource, DataMeaning>,
}

/// Where the Compose file is looked for, in this order: Compose's own.
pub const COMPOSE_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// A host that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostToReach {
    /// Its name or IP address.
    pub address: HostAddress,
    /// Of its SSH server.
    pub port: u16,
    /// In the group `docker` of the host.
    pub user: UserName,
}

// ---- reading --------------------------------------------------------------------------------------------------------

impl Config {
    /// Reads a `belay.yml`. `file` is its name in messages. An empty file is valid: every setting has a default.
    pub fn load(text: &str, file: &str) -> Result<Config, Vec<Problem>> {
        let mut problems = Problems::of(file, homes("", &keys()));
        let file = match parse(text) {
            Ok(item) => read(&mut problems, &item),
            Err(error) => {
                let hint =
                    "indent with spaces, close every quote and bracket, keep it to one document";
                problems.add(error.at(), error.to_string(), hint);
                File::default()
            }
        };
        let inputs = CheckedInputs::default();
        problems.finish(Config { file, inputs })
    }

    /// Lays the inputs of a run over the file; they win over everything that it says.
    pub fn with(self, overrides: &Overrides) -> Result<Config, Vec<Problem>> {
        let inputs = inputs::check(overrides)?;
        Ok(Config { inputs, ..self })
    }
}

fn read(problems: &mut Problems, item: &Located) -> File {
    if let Node::Nothing = item.node {
        return File::default();
    }
    let name = String::new();
    let top = problems.section(&Field { name, item }, &names::<File>());
    let mut file = File::default().read_keys(problems, &top);
    lay_under_environments(&mut file, &top);
    checks::check(problems, &top, &file);
    file
}

/// What an environment says counts over what the file says for all. Each was read, with its problems, over the
/// defaults; here it is read again over what the rest of the file has come to.
fn lay_under_environments(file: &mut File, top: &Entries<'_>) {
    let Some(environments) = top.get("environments") else {
        return;
    };
    let described = entries(&environments);
    for (name, environment) in &mut file.environments {
        let below = EnvironmentSettings {
            shared: file.shared.clone(),
            ..EnvironmentSettings::default()
        };
        let field = described.get(name.as_str());
        *environment = below.read_over(&mut Problems::ignored(), field.as_ref());
    }
}

// ---- one environment ------------------------------------------------------------------------------------------------

impl Config {
    /// The environment that a kind of tag goes to: the input's, the one that lists the kind, or the usual one. Nothing
    /// when the usual one lists its kinds and leaves this one out.
    #[must_use]
    pub fn environment_of(&self, kind: TagKind) -> Option<&str> {
        if let Some(environment) = &self.inputs.environment {
            return Some(environment.as_str());
        }
        let lists = |environment: &EnvironmentSettings| {
            let tags = environment.tags.as_ref();
            tags.is_some_and(|tags| tags.contains(&kind))
        };
        let mut environments = self.file.environments.iter();
        if let Some((name, _)) = environments.find(|(_, environment)| lists(environment)) {
            return Some(name.as_str());
        }
        let usual = kind.class().default_environment();
        let mut environments = self.file.environments.iter();
        let is_closed =
            environments.any(|(name, found)| name.as_str() == usual && found.tags.is_some());
        (!is_closed).then_some(usual)
    }

    /// The settings of one environment, complete. Fails when the environment is not described although others are, and
    /// when nothing names the app.
    pub fn for_environment(&self, name: &str) -> Result<Settings, Vec<Problem>> {
        let known = EnvironmentName::read(name).filter(|_| self.knows(name));
        let Some(environment) = known else {
            return Err(vec![unknown_environment(name, self)]);
        };
        let (file, inputs) = (self.file.clone(), &self.inputs);
        let described = file.environments.get(&environment).cloned();
        let described = described.unwrap_or(EnvironmentSettings {
            shared: file.shared,
            ..EnvironmentSettings::default()
        });
        let shared = described.shared;
        let (app, root) = self
            .app_and_root(&shared)
            .ok_or_else(|| vec![nameless_app()])?;
        Ok(Settings {
            tags: TagKind::ALL
                .into_iter()
                .filter(|kind| self.environment_of(*kind) == Some(name))
                .collect(),
            host: self.host_to_reach(&shared),
            app,
            environment,
            url: described.url,
            root,
            compose: shared.compose,
            project: shared.project,
            files: shared.files,
            services: file.services,
            images: file.images,
            gateway: file.gateway,
            requests: file.requests,
            health: shared.health,
            bake: shared.bake,
            confirm: shared.confirm,
            lock_wait: inputs.lock_wait.unwrap_or(shared.lock_wait),
            backup: file.backup,
            data: file.data,
        })
    }

    /// Whether an environment may be deployed to: all, as long as none is described; then those, and the usual two.
    fn knows(&self, name: &str) -> bool {
        let environments = &self.file.environments;
        let mut kinds = TagKind::ALL.iter();
        kinds.any(|kind| kind.class().default_environment() == name)
            || environments.is_empty()
            || environments.keys().any(|known| known.as_str() == name)
    }

    /// The app is named as given, or as the last part of its root, or as the repository; the root is as given, or the
    /// usual one of the app.
    fn app_and_root(&self, shared: &SharedSettings) -> Option<(AppName, AbsolutePath)> {
        let root = self.inputs.root.clone().or_else(|| shared.root.clone());
        let from_root = || AppName::read(root.as_ref()?.last_part());
        let app = self.file.app.clone();
        let app = app
            .or_else(from_root)
            .or_else(|| self.inputs.repository.clone())?;
        let root = root.or_else(|| AbsolutePath::read(&format!("/opt/{app}")))?;
        Some((app, root))
    }

    fn host_to_reach(&self, shared: &SharedSettings) -> Option<HostToReach> {
        let (inputs, host) = (&self.inputs, &shared.host);
        Some(HostToReach {
            address: inputs.host.clone().or_else(|| host.address.clone())?,
            port: inputs.port.unwrap_or(host.port),
            user: inputs.user.clone().unwrap_or_else(|| host.user.clone()),
        })
    }
}

fn unknown_environment(name: &str, config: &Config) -> Problem {
    let known = config.file.environments.keys();
    let known: Vec<&str> = known.map(EnvironmentName::as_str).collect();
    let hint = match closest(name, &known) {
        Some(close) => format!("did you mean {close}?"),
        None if known.is_empty() => EnvironmentName::HINT.to_owned(),
        None => format!("known: {}; or add it under environments", known.join(", ")),
    };
    let name = shown(name);
    let message = format!("environment: \"{name}\" is not an environment of belay.yml");
    Problem::of_inputs(message, hint)
}

fn nameless_app() -> Problem {
    let hint = "add `app: name` or `root: /opt/name` to belay.yml";
    Problem::of_inputs("nothing names the app".to_owned(), hint.to_owned())
}
