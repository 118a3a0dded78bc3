//! The `belay` program: the runner's side and the host's agent in one binary.

// The same as in the workspace's table, which the program's package cannot take: its tests/ would have it too.
#![warn(
    clippy::pedantic,
    clippy::as_conversions,
    clippy::exit,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used
)]
#![allow(clippy::format_push_string, clippy::match_bool)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The panic itself was printed already; the exit code tells a defect from everything that Belay expects.
    std::panic::catch_unwind(cli::main)
        .unwrap_or(ExitCode::from(belay_model::transaction::outcome::EXIT_BUG))
}
