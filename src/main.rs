//! The `belay` program: the runner's side and the host's agent in one binary.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The panic itself was printed already; the exit code tells a defect from everything that Belay expects.
    std::panic::catch_unwind(cli::main)
        .unwrap_or(ExitCode::from(belay_model::transaction::outcome::EXIT_BUG))
}
