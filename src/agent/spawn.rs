//! Processes of the agent's own: this very program, started again to outlive the channel that started it.
//!
//! Runs on the host. Such a process has nobody to talk to: it writes to the engine's log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};

use super::layout::Layout;

/// Starts this very program as an engine, with nothing of the channel's in its hands.
pub(super) fn spawn_engine(layout: &Layout, words: &[&str]) -> io::Result<Child> {
    spawn(layout, &["engine"], words)
}

/// Starts this very program as an agent of its own.
pub(super) fn spawn(layout: &Layout, verb: &[&str], words: &[&str]) -> io::Result<Child> {
    let log = open_log(layout)?;
    Command::new(std::env::current_exe()?)
        .arg("agent")
        .args(verb)
        .arg("--root")
        .arg(layout.root())
        .args(words)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

pub(super) fn log(layout: &Layout, text: &str) {
    // The last resort of a process without a channel: there is nobody to tell that this failed, too.
    if let Ok(mut file) = open_log(layout) {
        let _ = writeln!(file, "{} {text}", jiff::Timestamp::now());
    }
}

fn open_log(layout: &Layout) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(layout.engine_log())
}
