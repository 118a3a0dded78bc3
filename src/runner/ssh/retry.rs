//! How often and how patiently a connection is tried again.
//!
//! Runs on the runner; pure but for the sleep and the clock that are handed in. It promises to repeat only what can get
//! better by waiting: a refused key or a wrong host key is never tried twice, because sshd (`PerSourcePenalties`) shuts
//! out addresses that do so.

use std::time::Duration;

use super::error::{Class, SshError};

/// No more attempts than this, whatever is asked for.
pub const MOST_ATTEMPTS: u32 = 5;

/// The pause after a number of failed attempts: 1, 2, 4, 8 s.
fn pause_after(failed: u32) -> Duration {
    Duration::from_secs(1 << failed.saturating_sub(1).min(3))
}

/// Calls `attempt`, with the time that is left, until it succeeds, is refused, or the attempts or the time run out.
pub(super) fn with_backoff<T>(
    attempts: u32,
    deadline: Duration,
    elapsed: &dyn Fn() -> Duration,
    sleep: &dyn Fn(Duration),
    mut attempt: impl FnMut(Duration) -> Result<T, SshError>,
) -> Result<T, SshError> {
    let attempts = attempts.clamp(1, MOST_ATTEMPTS);
    let mut failed = 0;
    loop {
        let error = match attempt(deadline.saturating_sub(elapsed())) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failed += 1;
        let pause = pause_after(failed);
        if error.class() != Class::Transient || failed == attempts || elapsed() + pause >= deadline
        {
            return Err(error);
        }
        sleep(pause);
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
