//! A person's word that the data of an environment may be replaced.
//!
//! Runs on the runner or a laptop, before the host is contacted. Data is never put back because a box was ticked: the
//! environment's name has to be typed, in the workflow's input, on the command line, or here.

use std::io::{self, IsTerminal};

use super::session::Session;
use belay_model::transaction::outcome::Failure;

/// Nobody has confirmed that data may be replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsentError {
    /// Something else than the environment's name was typed.
    #[error("confirm says {typed:?}, and the environment is {environment}")]
    Mistyped {
        /// What was typed.
        typed: String,
        /// What should have been.
        environment: String,
    },
    /// Nothing was typed, or there was nowhere to type it.
    #[error(
        "what {environment} holds would be replaced by the data of {backup}, and nobody has confirmed that"
    )]
    Missing {
        /// Whose data would be replaced.
        environment: String,
        /// By which backup's.
        backup: String,
    },
}

impl From<ConsentError> for Failure {
    fn from(error: ConsentError) -> Failure {
        let (ConsentError::Mistyped { environment, .. }
        | ConsentError::Missing { environment, .. }) = &error;
        let next = format!("type {environment} into the input confirm (--confirm {environment})");
        Failure::of(&error).host("it was not contacted").next(next)
    }
}

/// Checks that whoever asks for a backup's data has typed the environment's name.
pub(crate) fn check(
    session: &Session<'_>,
    environment: &str,
    backup: &str,
) -> Result<(), ConsentError> {
    let typed = match &session.inputs.asked.confirm {
        Some(typed) => Some(typed.clone()),
        None => ask(session, environment, backup),
    };
    match typed.as_deref().map(str::trim) {
        Some(typed) if typed == environment => Ok(()),
        Some(typed) => Err(ConsentError::Mistyped {
            typed: typed.to_owned(),
            environment: environment.to_owned(),
        }),
        None => Err(ConsentError::Missing {
            environment: environment.to_owned(),
            backup: backup.to_owned(),
        }),
    }
}

/// Asks on a terminal. Anywhere else there is nobody.
fn ask(session: &Session<'_>, environment: &str, backup: &str) -> Option<String> {
    if session.actions.in_actions() || !io::stdin().is_terminal() {
        return None;
    }
    let question = format!(
        "The data of {backup} replaces what {environment} holds now. Type {environment} to confirm:"
    );
    session.actions.line(&question).ok()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).ok()?;
    Some(answer).filter(|answer| !answer.trim().is_empty())
}
