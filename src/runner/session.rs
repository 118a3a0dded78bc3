//! What every run needs: the inputs, the event, the log, the settings, the way to the host.
//!
//! Runs on the runner or a laptop. Opening any of it can fail before the host is touched; such failures say so.

use std::path::{Path, PathBuf};

use super::actions::{Actions, Annotation};
use super::github::{Connection, GitHubClient, Patience};
use super::inputs::{Env, Inputs};
use super::link::{Access, Link};
use super::ssh::{HostKeys, Interrupt, Key, Target};
use belay_model::config::{COMPOSE_FILES, Config, Problem, Settings, render_problems};
use belay_model::request::event::{Event, Origin, Trigger};
use belay_model::request::tag::TagKind;
use belay_model::transaction::outcome::Failure;
use belay_model::yaml::YamlError;

/// One run of Belay.
pub struct Session<'a> {
    pub env: &'a Env,
    /// Everything that was asked for, the event's own inputs included.
    pub inputs: Inputs,
    pub actions: &'a Actions,
    pub event: Option<Event>,
    /// The directory of the repository.
    pub dir: PathBuf,
    pub interrupt: Interrupt,
}

impl<'a> Session<'a> {
    /// Reads the event, where there is one, and hides the secrets from the log before anything is printed.
    pub fn open(
        env: &'a Env,
        inputs: &'a Inputs,
        actions: &'a Actions,
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        let secrets = [
            &inputs.ssh_key,
            &inputs.ssh_key_passphrase,
            &inputs.token,
            &inputs.notify_url,
        ];
        for secret in secrets.into_iter().flatten() {
            actions
                .mask(secret)
                .map_err(|e| Failure::new(format!("could not hide a secret from the log: {e}")))?;
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

    pub fn trigger(&self) -> Option<&Trigger> {
        self.event.as_ref().map(|event| &event.trigger)
    }

    pub fn origin(&self) -> Option<&Origin> {
        self.event.as_ref().map(|event| &event.origin)
    }

    /// The repository's page, where there is one.
    pub fn repository_url(&self) -> Option<String> {
        self.origin()
            .map(|origin| format!("{}/{}", origin.server_url, origin.repository))
    }

    /// Reads belay.yml in a directory and lays the inputs over it. Every problem is annotated at its place.
    pub fn config(&self, dir: &Path) -> Result<Config, Failure> {
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
            Err(error) => {
                return Err(Failure::new(format!(
                    "could not read {}: {error}",
                    path.display()
                )));
            }
        };
        Config::load(&text, &name.display().to_string())
            .and_then(|config| config.with(&self.inputs.overrides))
            .map_err(|problems| self.problems(&problems))
    }

    /// The settings of an environment.
    pub fn settings(&self, config: &Config, environment: &str) -> Result<Settings, Failure> {
        config
            .for_environment(environment)
            .map_err(|problems| self.problems(&problems))
    }

    /// The settings of the environment that releases go to.
    pub fn release_settings(&self) -> Result<Settings, Failure> {
        let config = self.config(&self.dir)?;
        let environment = config.environment_of(TagKind::Release);
        self.settings(&config, environment.unwrap_or("production"))
    }

    fn problems(&self, problems: &[Problem]) -> Failure {
        for problem in problems {
            let annotation = Annotation::new("Configuration", &problem.message).at(
                &problem.file,
                u32::try_from(problem.line).unwrap_or(0),
                u32::try_from(problem.column).unwrap_or(0),
            );
            // The failure below says the same; a log that cannot be written to is no reason to say less.
            let _ = self.actions.error(&annotation);
        }
        Failure::new(format!(
            "the configuration has problems:\n{}",
            render_problems(problems)
        ))
        .host("nothing was changed")
        .next("mend these lines; docs/configuration.md lists every setting")
    }

    /// GitHub's API, for a run in a workflow that has a token.
    pub fn github(&self, runtime: &tokio::runtime::Runtime) -> Option<GitHubClient> {
        let origin = self.origin()?;
        // The client starts a task of its own when it is made, and panics where there is no runtime to start it in.
        let _inside = runtime.enter();
        let connection = Connection {
            api_url: origin.api_url.clone(),
            token: self.inputs.token.clone()?,
            repository: origin.repository.clone(),
        };
        GitHubClient::new(&connection, Patience::default()).ok()
    }

    /// Opens the line to the host of an environment.
    pub fn link(&self, settings: &Settings) -> Result<Link, Failure> {
        Link::open(self.access(settings)?).map_err(|error| error.failure())
    }

    /// The public half of the key, where the private one tells it.
    pub fn public_key(&self) -> Option<String> {
        let text = self.inputs.ssh_key.as_ref()?;
        let key = Key::parse(text, self.inputs.ssh_key_passphrase.clone()).ok()?;
        key.public().map(str::to_owned)
    }

    /// A problem of a file of the repository, annotated at its place where it has one.
    pub fn file_problem(&self, path: &Path, error: &YamlError) -> Failure {
        let name = path.strip_prefix(&self.dir).unwrap_or(path);
        let name = name.display().to_string();
        if let Some((line, column)) = error.place() {
            let place = |number| u32::try_from(number).unwrap_or(0);
            let annotation = Annotation::new("Compose file", error.to_string());
            let annotation = annotation.at(&name, place(line), place(column));
            // The failure says the same.
            let _ = self.actions.error(&annotation);
        }
        Failure::new(format!("{name}: {error}"))
            .host("it was not contacted")
            .next("mend the file; `docker compose config` reads it the same way")
    }

    fn access(&self, settings: &Settings) -> Result<Access, Failure> {
        let host = settings.host.as_ref().ok_or_else(|| {
            untouched("no host is set")
                .next("set `host:` in belay.yml, or give it as the input host or with --host")
        })?;
        let key_text = self.inputs.ssh_key.as_ref().ok_or_else(|| {
            untouched("no SSH key was given")
                .next("give the private key as the input ssh-key or with --ssh-key FILE; runs from forks get no secrets")
        })?;
        let key = Key::parse(key_text, self.inputs.ssh_key_passphrase.clone())
            .map_err(|e| untouched(&Failure::of(&e).error).next(e.hint()))?;
        let host_keys = HostKeys::parse(self.inputs.known_hosts.as_deref().unwrap_or_default())
            .map_err(|e| untouched(&Failure::of(&e).error).next(e.hint()))?;
        Ok(Access {
            target: Target {
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
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A failure of a run that has not contacted the host.
pub fn untouched(error: &str) -> Failure {
    Failure::new(error).host("it was not contacted")
}

fn read_event(env: &Env) -> Result<Event, Failure> {
    let path = env
        .get("GITHUB_EVENT_PATH")
        .map(String::as_str)
        .unwrap_or_default();
    let unreadable = |why: String| Failure::new(format!("could not read the event {path}: {why}"));
    let text = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
    let payload = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
    Event::parse(env, &payload).map_err(|e| Failure::of(&e))
}

/// The Compose file of a repository: the settings' choice, else the first usual name that exists.
pub fn compose_file(dir: &Path, settings: &Settings) -> Result<PathBuf, Failure> {
    let candidates: Vec<&str> = match &settings.compose {
        Some(path) => vec![path.as_str()],
        None => COMPOSE_FILES.to_vec(),
    };
    candidates
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            untouched(&format!(
                "there is no Compose file: {}",
                candidates.join(", ")
            ))
            .next("set `compose:` in belay.yml to the file's path in the repository")
        })
}
