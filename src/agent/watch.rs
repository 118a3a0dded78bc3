//! What settles a host without anybody's asking: the watch beside an engine, and the recovery at boot.
//!
//! Runs on the host. The watch is a process of its own, in a session of its own, started by an engine as soon as it has the
//! lock. It waits until the lock is free. If the transaction is over then, it ends; if the engine died, it lets another one
//! go on. So an engine that is killed while no runner is there is followed by one within a second. What is killed together
//! with its watch, or by a power cut, is settled at boot (`supervise`) or at the next contact.
//!
//! Both wait for Docker, both try a few times and then leave it to the next contact: neither ever goes on for ever.

use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::docker::RealHost;
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::spawn::{log, spawn};
use super::{adopt, lock, revive, state};
use belay_model::transaction::outcome::with_causes;

/// How often the lock is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often Docker is asked, while it does not answer.
const ASK_DOCKER: Duration = Duration::from_secs(1);
/// How long Docker may take to come up.
const DOCKER_PATIENCE: Duration = Duration::from_mins(5);
/// How many engines are let loose on one host before it is left to the next contact: one that dies three times would die
/// again.
const TRIES: u32 = 3;
/// The pause between two of them, so that what killed one may pass.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts the watch beside this engine.
pub fn start(layout: &Layout) -> io::Result<()> {
    spawn(layout, &["watch"], &[]).map(drop)
}

/// `watch`: waits until no engine works any more, and settles what the last one left. Returns the exit code.
#[must_use]
pub fn watch(layout: &Layout) -> u8 {
    // Leaves the session of the engine. It fails only for a process that leads one already, which is what is wanted.
    let _ = rustix::process::setsid();
    // One at a time: the next one looks when this one has ended, so that no engine goes unwatched.
    let alone = match alone(layout) {
        Ok(alone) => alone,
        Err(error) => return told(layout, &format!("no watch: {error}")),
    };
    if let Err(error) = until_free(layout) {
        return told(
            layout,
            &format!("the watch lost sight of the lock: {error}"),
        );
    }
    let code = settle(layout);
    drop(alone);
    code
}

/// `recover --boot`: settles the host after its start. Returns the exit code: 0 when there is nothing left to settle.
#[must_use]
pub fn at_boot(layout: &Layout) -> u8 {
    if !layout.state().is_dir() {
        return 0;
    }
    match lock::holder(layout) {
        // Docker was started anew in the middle of a transaction: its engine and its watch are there.
        Ok(Some(_)) => 0,
        Ok(None) => settle(layout),
        Err(error) => told(layout, &format!("could not look at the lock: {error}")),
    }
}

fn settle(layout: &Layout) -> u8 {
    match try_settle(layout) {
        Ok(true) => 0,
        Ok(false) => told(
            layout,
            "the host could not settle by itself; the next contact tries again",
        ),
        Err(error) => told(layout, &with_causes(&error)),
    }
}

fn told(layout: &Layout, text: &str) -> u8 {
    log(layout, text);
    1
}

/// Lets engines go on until nothing is left to settle.
fn try_settle(layout: &Layout) -> Result<bool, AgentError> {
    let host = RealHost::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        if !docker_answers(&host) {
            return Err(AgentError::new(
                "Docker did not come up in time; nothing was settled",
            ));
        }
        // An engine that a contact has started meanwhile may have done it all.
        until_free(layout).map_err(|e| AgentError::doing("could not look at the lock", e))?;
        if !is_needed(&host, layout)? {
            return Ok(true);
        }
        let engine = spawn(layout, &["engine"], &["--recover"]).and_then(|mut e| e.wait());
        engine.map_err(|e| AgentError::doing("could not start an engine", e))?;
    }
    Ok(!is_needed(&host, layout)?)
}

/// Whether a contact would have anything to settle.
pub fn is_needed(host: &RealHost, layout: &Layout) -> Result<bool, AgentError> {
    let open = state::open_transactions(layout)?;
    let plans = state::has_plans(layout)?;
    Ok(!open.is_empty()
        || plans
        || adopt::unrecorded(layout)?.is_some()
        || revive::is_needed(host, layout)?)
}

fn docker_answers(host: &RealHost) -> bool {
    let began = Instant::now();
    loop {
        if host.engine().is_ok() {
            return true;
        }
        if began.elapsed() > DOCKER_PATIENCE {
            return false;
        }
        std::thread::sleep(ASK_DOCKER);
    }
}

fn until_free(layout: &Layout) -> io::Result<()> {
    while lock::holder(layout)?.is_some() {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn alone(layout: &Layout) -> io::Result<std::fs::File> {
    let file = lock::open(&layout.watch())?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_belay_has_left_needs_nothing_at_boot() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(at_boot(&Layout::new(dir.path())), 0);
        assert_eq!(at_boot(&Layout::new(dir.path().join("gone"))), 0);
        assert!(!dir.path().join(".belay").exists());
    }
}
