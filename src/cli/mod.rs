//! The command line: what the user typed becomes an intent, and the intent's work is done elsewhere.

mod agent;
mod args;
mod choice;
mod dispatch;
mod generate;
mod help;
mod host;
mod output;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use belay_model::transaction::outcome::Word;
use belay_runner::inputs::Env;

/// Runs the command line and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let env: Env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let code = match help::parse(std::env::args_os()) {
        Ok(command) => dispatch::run(command, &env),
        Err(error) => {
            // Help and version are answers; everything else is a refusal before anything was touched.
            let _ = error.print();
            if error.use_stderr() {
                Word::Refused.exit_code()
            } else {
                0
            }
        }
    };
    ExitCode::from(code)
}
