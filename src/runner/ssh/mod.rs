//! The SSH transport: one checked, authenticated connection over which commands run.
//!
//! Runs on the runner. It promises four things. Nothing that could log in is sent to a host whose key is not pinned.
//! No call blocks for ever: everything has a deadline, and a link that falls silent is noticed. A command counts as
//! ended only when its end was seen; after a lost link the answer is an error, never a status. And no word of a
//! command is ever read by a shell as anything but itself.
//!
//! It fails with an [`SshError`], whose [`Class`] says whether trying again can help. The decisions (which key is
//! trusted, whether a key text is sound, how a command is quoted, when to retry) are pure and live in files of their
//! own; I/O is in `link`, `session`, `pump` and, after a failure, `offer`.

mod blob;
mod command;
mod error;
mod host_key;
mod host_keys;
mod key;
mod known_hosts;
mod link;
mod offer;
mod pump;
mod retry;
mod session;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use command::{CommandError, RemoteCommand};
pub use error::{Class, ConnectStage, Incompatible, Loss, Passphrase, SeenKey, SshError};
pub use host_key::{BadHostKey, Fingerprint, HostKey, KeyType};
pub use host_keys::{HostKeys, HostKeysError};
pub use key::{Key, KeyError};
pub use known_hosts::{HostKeyVerdict, KnownHosts, LineProblem, UnreadableLine, host_name};
pub use pump::{ExecLimits, Exit};
pub use retry::MOST_ATTEMPTS;
pub use session::{SshConnection, connect_with_backoff};

/// The host that is connected to, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// A name or an IP address.
    pub address: String,
    /// Of the SSH server, usually 22.
    pub port: u16,
    /// Who is let in.
    pub user: String,
}

impl fmt::Display for SshTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&host_name(&self.address, self.port))
    }
}

/// How long the parts of a connection may take.
#[derive(Debug, Clone)]
pub struct ConnectLimits {
    /// Finding the address and opening the TCP connection.
    pub connect: Duration,
    /// Key exchange and authentication together.
    pub handshake: Duration,
    /// The longest time in which the host may send nothing at all while something waits for it.
    pub silence: Duration,
    /// How often a sign of life is asked for, every two seconds at most; several must fit into `silence`.
    pub keepalive: Duration,
    /// Stops whatever the connection is doing.
    pub interrupt: Interrupt,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            handshake: Duration::from_secs(30),
            silence: Duration::from_secs(15),
            keepalive: Duration::from_secs(4),
            interrupt: Interrupt::default(),
        }
    }
}

/// A switch that a signal handler turns on to stop work in progress. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
    /// When it counts as raised although nobody raised it.
    due: Option<Instant>,
}

impl Interrupt {
    /// One that comes by itself when the time is over.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self {
            due: Instant::now().checked_add(time),
            ..Self::default()
        }
    }

    /// Stops the work, within about a tenth of a second.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// Whether to stop: after [`raise`](Self::raise) on any clone, or once its time is over. It never turns off again.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire) || self.due.is_some_and(|due| Instant::now() >= due)
    }

    /// Sleeps so long, or until it is raised.
    pub fn sleep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.is_raised() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(link::TICK));
        }
    }
}
