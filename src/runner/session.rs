//! What every run needs: the inputs, the event, the log, the settings, the way to the host.
//!
//! Runs on the runner or a laptop. Opening any of it can fail before the host is touched; such failures say so.

use std::path::{Path, PathBuf};

use super::actions::{Actions, Annotation};
use super::github::{ApiAccess, GitHubClient, RetryPolicy};
use super::inputs::{Env, Inputs};
use super::link::{HostAccess, Link, LinkError};
use super::ssh::{HostKeys, HostKeysError, Interrupt, Key, KeyError, SshTarget};
use belay_model::config::{COMPOSE_FILES, Config, Problem, Settings, render_problems};
use belay_model::request::event::{EventError, GitHubEvent, Origin, Trigger};
use belay_model::request::tag::TagKind;
use belay_model::transaction::outcome::Failure;
use belay_model::yaml::YamlError;

/// Why a run has not what it needs. The host was not changed, and but for the last it was not contacted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// Nothing may be printed that could not be hidden first.
    #[error("could not hide a secret from the log")]
    Mask(#[source] std::io::Error),
    /// The file of the event, which the Actions runner writes.
    #[error("could not read the event {path}")]
    EventFile {
        /// From `GITHUB_EVENT_PATH`.
        path: String,
        /// Of the disk, or of the JSON in it.
        #[source]
        source: std::io::Error,
    },
    /// The event is not one that makes sense.
    #[error(transparent)]
    Event(#[from] EventError),
    /// belay.yml is there and cannot be read.
    #[error("could not read {}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Each is annotated at its place already.
    #[error("the configuration has problems:\n{}", render_problems(.0))]
    Problems(Vec<Problem>),
    /// A YAML file of the repository, annotated at its place already.
    #[error("{name}: {error}")]
    Yaml {
        /// The file's path in the repository.
        name: String,
        /// What the reader says, with its place.
        error: YamlError,
    },
    /// None of the usual names, or not the one that is set.
    #[error("there is no Compose file: {}", .0.join(", "))]
    NoComposeFile(Vec<String>),
    /// Neither belay.yml nor an input names one.
    #[error("no host is set")]
    NoHost,
    /// The input is empty.
    #[error("no SSH key was given")]
    NoKey,
    /// The key's text is not one.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The pinned host keys cannot be understood.
    #[error(transparent)]
    HostKeys(#[from] HostKeysError),
    /// The host cannot be entered.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Failure {
        let lines = Failure::of(&error);
        let untouched = || lines.clone().host("it was not contacted");
        match error {
            SessionError::Mask(_)
            | SessionError::EventFile { .. }
            | SessionError::Event(_)
            | SessionError::ConfigFile { .. } => lines,
            SessionError::Problems(_) => lines
                .host("nothing was changed")
                .next("mend these lines; docs/configuration.md lists every setting"),
            SessionError::Yaml { .. } => {
                untouched().next("mend the file; `docker compose config` reads it the same way")
            }
            SessionError::NoComposeFile(_) => untouched()
                .next("set `compose:` in belay.yml to the file's path in the repository"),
            SessionError::NoHost => {
                untouched()
                .next("set `host:` in belay.yml, or give it as the input host or with --host")
            }
            SessionError::NoKey => untouched().next(
                "give the private key as the input ssh-key or with --ssh-key FILE; runs from forks get no secrets",
            ),
            SessionError::Key(error) => untouched().next(error.hint()),
            SessionError::HostKeys(error) => untouched().next(error.hint()),
            SessionError::Link(error) => error.into(),
        }
    }
}

/// One run of Belay.
pub(crate) struct Session<'a> {
    pub(crate) env: &'a Env,
    /// Everything that was asked for, the event's own inputs included.
    pub(crate) inputs: Inputs,
    pub(crate) actions: &'a Actions,
    pub(crate) event: Option<GitHubEvent>,
    /// The directory of the repository.
    pub(crate) dir: PathBuf,
    pub(crate) interrupt: Interrupt,
}

impl<'a> Session<'a> {
    /// Reads the event, where there is one, and hides the secrets from the log before anything is printed.
    pub(crate) fn open(
        env: &'a Env,
        inputs: &'a Inputs,
        actions: &'a Actions,
        interrupt: Interrupt,
    ) -> Result<Self, SessionError> {
        let secrets = [
            &inputs.ssh_key,
            &inputs.ssh_key_passphrase,
            &inputs.token,
            &inputs.notify_url,
        ];
        for secret in secrets.into_iter().flatten() {
            actions.mask(secret).map_err(SessionError::Mask)?;
        }
        let dir = env
            .get("GITHUB_WORKSPACE")
            .filter(|path| actions.in_actions() && !path.is_empty())
            .map_or_else(|| PathBuf::from("."), PathBuf::from);
        let event = if actions.in_actions() {
            Some(read_event(env)?)
        } else {
            None
        };
        let inputs = inputs
            .clone()
            .with_event(event.as_ref().map(|event| &event.trigger));
        Ok(Session {
            env,
            inputs,
            actions,
            event,
            dir,
            interrupt,
        })
    }

    pub(crate) fn trigger(&self) -> Option<&Trigger> {
        self.event.as_ref().map(|event| &event.trigger)
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.event.as_ref().map(|event| &event.origin)
    }

    /// The repository's page, where there is one.
    pub(crate) fn repository_url(&self) -> Option<String> {
        self.origin()
            .map(|origin| format!("{}/{}", origin.server_url, origin.repository))
    }

    /// Reads belay.yml in a directory and lays the inputs over it. Every problem is annotated at its place.
    pub(crate) fn config(&self, dir: &Path) -> Result<Config, SessionError> {
        let name = self
            .inputs
            .config
            .clone()
            .unwrap_or_else(|| PathBuf::from("belay.yml"));
        let path = dir.join(&name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Every setting has a default, and the host may come from the inputs.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(SessionError::ConfigFile { path, source }),
        };
        Config::load(&text, &name.display().to_string())
            .and_then(|config| config.with(&self.inputs.overrides))
            .map_err(|problems| self.problems(problems))
    }

    /// The settings of an environment.
    pub(crate) fn settings(
        &self,
        config: &Config,
        environment: &str,
    ) -> Result<Settings, SessionError> {
        config
            .for_environment(environment)
            .map_err(|problems| self.problems(problems))
    }

    /// The settings of the environment that releases go to.
    pub(crate) fn release_settings(&self) -> Result<Settings, SessionError> {
        let config = self.config(&self.dir)?;
        let environment = config.environment_of(TagKind::Release);
        self.settings(&config, environment.unwrap_or("production"))
    }

    fn problems(&self, problems: Vec<Problem>) -> SessionError {
        for problem in &problems {
            let annotation = Annotation::new("Configuration", &problem.message).at(
                &problem.file,
                u32::try_from(problem.line).unwrap_or(0),
                u32::try_from(problem.column).unwrap_or(0),
            );
            // The failure below says the same; a log that cannot be written to is no reason to say less.
            let _ = self.actions.error(&annotation);
        }
        SessionError::Problems(problems)
    }

    /// GitHub's API, for a run in a workflow that has a token.
    pub(crate) fn github(&self, runtime: &tokio::runtime::Runtime) -> Option<GitHubClient> {
        let origin = self.origin()?;
        // The client starts a task of its own when it is made, and panics where there is no runtime to start it in.
        let _inside = runtime.enter();
        let connection = ApiAccess {
            api_url: origin.api_url.clone(),
            token: self.inputs.token.clone()?,
            repository: origin.repository.clone(),
        };
        GitHubClient::new(&connection, RetryPolicy::default()).ok()
    }

    /// Opens the line to the host of an environment.
    pub(crate) fn link(&self, settings: &Settings) -> Result<Link, SessionError> {
        Ok(Link::open(self.access(settings)?)?)
    }

    /// The public half of the key, where the private one tells it.
    pub(crate) fn public_key(&self) -> Option<String> {
        let text = self.inputs.ssh_key.as_ref()?;
        let key = Key::parse(text, self.inputs.ssh_key_passphrase.clone()).ok()?;
        key.public().map(str::to_owned)
    }

    /// A problem of a file of the repository, annotated at its place where it has one.
    pub(crate) fn file_problem(&self, path: &Path, error: YamlError) -> SessionError {
        let name = path.strip_prefix(&self.dir).unwrap_or(path);
        let name = name.display().to_string();
        if let Some((line, column)) = error.place() {
            let place = |number| u32::try_from(number).unwrap_or(0);
            let annotation = Annotation::new("Compose file", error.to_string());
            let annotation = annotation.at(&name, place(line), place(column));
            // The failure says the same.
            let _ = self.actions.error(&annotation);
        }
        SessionError::Yaml { name, error }
    }

    fn access(&self, settings: &Settings) -> Result<HostAccess, SessionError> {
        let host = settings.host.as_ref().ok_or(SessionError::NoHost)?;
        let key_text = self.inputs.ssh_key.as_ref().ok_or(SessionError::NoKey)?;
        let key = Key::parse(key_text, self.inputs.ssh_key_passphrase.clone())?;
        let host_keys = HostKeys::parse(self.inputs.known_hosts.as_deref().unwrap_or_default())?;
        Ok(HostAccess {
            target: SshTarget {
                address: host.address.as_str().to_owned(),
                port: host.port,
                user: host.user.as_str().to_owned(),
            },
            host_keys,
            key,
            root: settings.root.as_str().to_owned(),
            interrupt: self.interrupt.clone(),
        })
    }
}

/// Where GitHub's API is waited for: on the thread that asks.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn read_event(env: &Env) -> Result<GitHubEvent, SessionError> {
    let path = env
        .get("GITHUB_EVENT_PATH")
        .map(String::as_str)
        .unwrap_or_default();
    let unreadable = |source| SessionError::EventFile {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(unreadable)?;
    let payload = serde_json::from_slice(&text).map_err(|e| unreadable(e.into()))?;
    Ok(GitHubEvent::parse(env, &payload)?)
}

/// The Compose file of a repository: the settings' choice, else the first usual name that exists.
pub(crate) fn compose_file(dir: &Path, settings: &Settings) -> Result<PathBuf, SessionError> {
    let candidates: Vec<&str> = match &settings.compose {
        Some(path) => vec![path.as_str()],
        None => COMPOSE_FILES.to_vec(),
    };
    candidates
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let names = candidates.iter().map(|name| (*name).to_owned());
            SessionError::NoComposeFile(names.collect())
        })
}
