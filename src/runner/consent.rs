//! A person's word that the data of an environment may be replaced.
//!
//! Runs on the runner or a laptop, before the host is contacted. Data is never put back because a box was ticked: the
//! environment's name has to be typed, in the workflow's input, on the command line, or here.

use std::io::{self, IsTerminal};

use super::session::Session;
use belay_model::transaction::outcome::Failure;

/// Checks that whoever asks for a backup's data has typed the environment's name.
pub fn check(session: &Session<'_>, environment: &str, backup: &str) -> Result<(), Failure> {
    let typed = match &session.inputs.asked.confirm {
        Some(typed) => Some(typed.clone()),
        None => ask(session, environment, backup),
    };
    let error = match typed.as_deref().map(str::trim) {
        Some(typed) if typed == environment => return Ok(()),
        Some(typed) => format!("confirm says {typed:?}, and the environment is {environment}"),
        None => format!(
            "what {environment} holds would be replaced by the data of {backup}, and nobody has confirmed that"
        ),
    };
    Err(Failure::new(error)
        .host("it was not contacted")
        .next(format!(
            "type {environment} into the input confirm (--confirm {environment})"
        )))
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
