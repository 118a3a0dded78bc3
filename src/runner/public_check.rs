//! The runner's own look at the application before it confirms: the public URL, as users reach it.
//!
//! Runs on the runner.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking::Client;

use super::ssh::Interrupt;
use belay_model::judgement::health::HealthRules;

/// How often the runner looks whether it is to stop: often enough that whoever cancels notices no wait.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why the new version is not confirmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublicCheckError {
    #[error("the run was cancelled")]
    Cancelled,
    #[error("its thread ended early")]
    ThreadEnded,
    /// No HTTP client could be made.
    #[error("{0}")]
    Client(reqwest::Error),
    #[error("{url} answered {}", status.as_u16())]
    Answered { url: String, status: StatusCode },
    #[error("{url} could not be reached from the runner: {error}")]
    Unreachable { url: String, error: reqwest::Error },
}

/// Asks the public URL until it has answered well often enough, the deadline is over, or the run is to stop. A slow answer
/// is left behind with the thread that waits for it.
pub(super) fn check(rules: &HealthRules, interrupt: &Interrupt) -> Result<(), PublicCheckError> {
    let (report, reports) = mpsc::channel();
    let (rules, stop) = (rules.clone(), interrupt.clone());
    std::thread::spawn(move || report.send(ask_until_well(&rules, &stop)));
    while !interrupt.is_raised() {
        match reports.recv_timeout(POLL_INTERVAL) {
            Ok(health) => return health,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(PublicCheckError::ThreadEnded),
        }
    }
    Err(PublicCheckError::Cancelled)
}

fn ask_until_well(rules: &HealthRules, stop: &Interrupt) -> Result<(), PublicCheckError> {
    let Some(url) = &rules.public else {
        return Ok(());
    };
    let client = Client::builder()
        .timeout(Duration::from_millis(rules.timeout_ms))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(PublicCheckError::Client)?;
    let began = Instant::now();
    let mut good = 0;
    loop {
        match ask(&client, url) {
            Ok(()) => {
                good += 1;
                if good >= rules.successes {
                    return Ok(());
                }
            }
            // The host's own watch was well a moment ago, so one bad answer is no verdict.
            Err(trouble)
                if began.elapsed() >= Duration::from_millis(rules.public_patience_ms()) =>
            {
                return Err(trouble);
            }
            Err(_) => good = 0,
        }
        stop.sleep(Duration::from_millis(rules.interval_ms));
        if stop.is_raised() {
            return Err(PublicCheckError::Cancelled);
        }
    }
}

fn ask(client: &Client, url: &str) -> Result<(), PublicCheckError> {
    let url = url.to_owned();
    match client.get(&url).send() {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(PublicCheckError::Answered {
            url,
            status: answer.status(),
        }),
        Err(error) => Err(PublicCheckError::Unreachable { url, error }),
    }
}
