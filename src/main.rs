//! The `belay` program: the runner's side and the host's agent in one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    belay::cli::main()
}
