//! The stand-in for api.github.com as a program, for tests that are shell scripts or run a real workflow runner.
//!
//! `fake-github [--port N] [--contract PATH] [--state-file PATH]` prints its port on the first line and serves until it
//! is killed. Orders and questions: `POST /_fake/seed`, `POST /_fake/faults`, `DELETE /_fake/faults`, `GET /_fake/state`,
//! `GET /_fake/violations`. A token that contains `read-only` may not write.

// Its output is its interface.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "mod.rs"]
mod fake_github;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use fake_github::FakeGitHub;
use fake_github::contract::Contract;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut port, mut contract, mut state_file) = (0, Contract::usual_path(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => port = value.parse()?,
            "--contract" => contract = PathBuf::from(value),
            "--state-file" => state_file = Some(PathBuf::from(value)),
            _ => return Err(format!("{name} is not known").into()),
        }
    }
    let checks = match Contract::load(&contract) {
        Ok(contract) => Some(Arc::new(contract)),
        Err(error) if std::env::var("BELAY_CONTRACT_REQUIRED").is_ok_and(|value| value == "1") => {
            return Err(format!("could not read {}: {error}", contract.display()).into());
        }
        Err(error) => {
            eprintln!(
                "NOTHING IS CHECKED against GitHub's description: {}: {error}",
                contract.display()
            );
            None
        }
    };
    let fake = FakeGitHub::start(checks, port, state_file)?;
    println!("{}", fake.port());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
