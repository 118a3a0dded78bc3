//! What a run was given: the environment, read once, and the options of the command line laid over it.
//!
//! Runs on the runner or a laptop. Nothing else of Belay reads the environment. In a composite action an input that was
//! not given arrives as an empty text, so empty means "not given" everywhere.

use std::collections::BTreeMap;
use std::path::PathBuf;

use belay_model::config::Overrides;
use belay_model::request::event::Trigger;
use belay_model::request::intent::{ActionInputs, DryRun, Request, What};
use belay_model::reviewing::notification::NotificationWishes;
use belay_model::secret::Secret;
use belay_model::transaction::outcome::Failure;

/// The process's environment.
pub type Env = BTreeMap<String, String>;

/// Everything that a run was given, besides the event.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// What to do.
    pub asked: Request,
    /// The configuration file, from the repository's directory; `belay.yml` without it.
    pub config: Option<PathBuf>,
    /// What wins over the configuration file.
    pub overrides: Overrides,
    /// The private key, as its file has it.
    pub ssh_key: Option<Secret>,
    /// Only for an encrypted key.
    pub ssh_key_passphrase: Option<Secret>,
    /// The host's public keys as lines of `known_hosts`, or a fingerprint.
    pub known_hosts: Option<String>,
    /// For GitHub's API.
    pub token: Option<Secret>,
    /// A webhook to tell of outcomes.
    pub notify_url: Option<Secret>,
    /// Of which outcomes.
    pub notify_on: NotificationWishes,
    /// Answer in JSON.
    pub json: bool,
    /// For backups: read each back whole.
    pub verify: bool,
    /// For the doctor: a report for somebody who helps.
    pub report: bool,
    /// For logs and restart.
    pub service: Option<String>,
}

impl Inputs {
    /// Reads the inputs of the action, as its steps pass them on.
    pub fn from_env(env: &Env) -> Result<Inputs, Failure> {
        let text = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        let secret = |name: &str| text(name).map(Secret::new);
        Ok(Inputs {
            asked: Request {
                what: What::Inputs(ActionInputs {
                    command: text("BELAY_COMMAND"),
                    tag: text("BELAY_TAG"),
                    rollback: text("BELAY_ROLLBACK"),
                    reason: text("BELAY_REASON"),
                    restore_data: text("BELAY_RESTORE_DATA"),
                }),
                confirm: text("BELAY_CONFIRM"),
                dry_run: dry_run(text("BELAY_DRY_RUN").as_deref())?,
            },
            config: text("BELAY_CONFIG").map(PathBuf::from),
            overrides: Overrides {
                environment: text("BELAY_ENVIRONMENT"),
                host: text("BELAY_HOST"),
                port: text("BELAY_PORT"),
                user: text("BELAY_USER"),
                root: text("BELAY_ROOT"),
                lock_wait: text("BELAY_LOCK_WAIT"),
                repository: text("GITHUB_REPOSITORY"),
            },
            ssh_key: secret("BELAY_SSH_KEY"),
            ssh_key_passphrase: secret("BELAY_SSH_KEY_PASSPHRASE"),
            known_hosts: text("BELAY_KNOWN_HOSTS"),
            token: secret("BELAY_TOKEN").or_else(|| secret("GITHUB_TOKEN")),
            notify_url: secret("BELAY_NOTIFY_URL"),
            notify_on: match text("BELAY_NOTIFY_ON") {
                Some(words) => NotificationWishes::parse(&words)?,
                None => NotificationWishes::default(),
            },
            json: false,
            verify: false,
            report: false,
            service: text("BELAY_SERVICE"),
        })
    }
}

impl Inputs {
    /// Lays the event's own inputs (those of a dispatched workflow) under the ones that were given explicitly.
    #[must_use]
    pub fn with_event(mut self, trigger: Option<&Trigger>) -> Inputs {
        self.asked = self.asked.with(trigger);
        if let Some(Trigger::Dispatch(dispatch)) = trigger {
            let environment = &mut self.overrides.environment;
            *environment = environment.take().or_else(|| dispatch.environment.clone());
        }
        self
    }
}

fn dry_run(text: Option<&str>) -> Result<DryRun, Failure> {
    match text {
        None | Some("false") => Ok(DryRun::No),
        Some("true") => Ok(DryRun::Yes),
        Some(other) => Err(Failure::new(format!(
            "the input dry-run is {other:?}, which is neither true nor false"
        ))
        .host("nothing was changed")
        .next("set dry-run to true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn an_empty_input_was_not_given() {
        let inputs =
            Inputs::from_env(&env(&[("BELAY_TAG", ""), ("BELAY_SSH_KEY", "")])).expect("readable");
        assert_eq!(inputs.asked, Request::default());
        assert_eq!(inputs.ssh_key, None);
    }

    #[test]
    fn a_dry_run_is_exactly_true_or_false() {
        assert!(Inputs::from_env(&env(&[("BELAY_DRY_RUN", "yes")])).is_err());
        let inputs = Inputs::from_env(&env(&[("BELAY_DRY_RUN", "true")])).expect("readable");
        assert_eq!(inputs.asked.dry_run, DryRun::Yes);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let inputs = Inputs::from_env(&env(&[("BELAY_SSH_KEY", "canary")])).expect("readable");
        assert!(!format!("{inputs:?}").contains("canary"));
    }
}
