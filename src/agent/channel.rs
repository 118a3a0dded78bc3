//! The channel of a verb: one line of JSON for each answer, and a sign of life while it waits.
//!
//! Runs on the host. The channel may end at any moment; whoever has only signs of life to give does not mind.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::AgentError;
use belay_wire::{Answer, Line};

/// How often a waiting verb says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Writes an answer as one line.
pub fn say<T: Serialize>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

pub(super) fn answer<T>(result: Result<T, AgentError>) -> Answer<T> {
    match result {
        Ok(value) => Answer::Ok(value),
        Err(error) => Answer::Failed(error.into_failure()),
    }
}

/// Keeps a quiet channel alive.
pub(super) struct Heartbeat {
    last: Instant,
}

impl Heartbeat {
    pub(super) fn new() -> Self {
        Heartbeat {
            last: Instant::now(),
        }
    }

    /// An empty line: "still here". Nobody listening is no reason to stop.
    pub(super) fn beat(&mut self, out: &mut dyn Write) {
        if self.last.elapsed() >= HEARTBEAT {
            self.last = Instant::now();
            let _ = out.write_all(b"\n").and_then(|()| out.flush());
        }
    }

    pub(super) fn beat_line(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.last = Instant::now();
        say(out, &Line::Alive)
    }
}
