//! What can go wrong between the runner and the host, and whether trying again can help.
//!
//! Pure; runs on the runner. Each error says what could not be done; its class decides about a retry, and its hint says
//! what a person does next. No error carries a secret.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use super::SshTarget;
use super::host_key::{HostKey, KeyType};
use super::known_hosts::host_name;

/// Whether and how the work may go on after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Trying again cannot help, and may lock the runner out: sshd counts refused logins against the address.
    Refused,
    /// No session came about; a later attempt may succeed.
    Transient,
    /// A running command is out of sight. Its outcome is unknown: connect again and ask, never assume.
    LinkLost,
    /// The caller asked to stop.
    Interrupted,
}

/// A failure to reach the host, to trust it, to be let in, or to see a command through.
#[derive(Debug, Error)]
pub enum SshError {
    /// The name leads to no address.
    #[error("could not find the address of {target}")]
    Unresolved {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No TCP connection came about, at any of the addresses.
    #[error("could not connect to {target}")]
    Unreachable {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A part of connecting took too long.
    #[error("{target} did not finish {stage} within {} s", limit.as_secs_f32())]
    TimedOut {
        /// The host.
        target: SshTarget,
        /// The part of connecting.
        stage: ConnectStage,
        /// How long it could have taken.
        limit: Duration,
    },
    /// The host hung up while connecting.
    #[error("{target} ended the connection during {stage}")]
    Dropped {
        /// The host.
        target: SshTarget,
        /// The part of connecting.
        stage: ConnectStage,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// Which methods each side has is known, so it can be said what is missing.
    #[error("could not agree on encryption with {}: {gap}", gap.target)]
    NothingInCommon {
        /// What each side has.
        gap: Box<Incompatible>,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// The key exchange failed for another reason.
    #[error("could not agree on keys with {target}")]
    Handshake {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// No pinned line names this host.
    #[error("the host key of {} is not known: it shows {}", seen.target, seen.key.fingerprint())]
    HostKeyUnknown {
        /// The key that was shown.
        seen: Box<SeenKey>,
    },
    /// The host is pinned with other keys: somebody else may answer.
    #[error("the host key of {} is not the pinned one: it shows {}", seen.target, seen.key.fingerprint())]
    HostKeyMismatch {
        /// The key that was shown.
        seen: Box<SeenKey>,
        /// The types of the pinned keys.
        known: Vec<KeyType>,
    },
    /// The key was withdrawn, so whoever has it is not trusted.
    #[error("the host key of {} was revoked by line {line} of known_hosts: {}", seen.target, seen.key.fingerprint())]
    HostKeyRevoked {
        /// The key that was shown.
        seen: Box<SeenKey>,
        /// Counted from 1.
        line: usize,
    },
    /// What the host showed is no key that can be compared.
    #[error("could not read the host key of {target}")]
    HostKeyUnreadable {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: super::BadHostKey,
    },
    /// The library could not use the private key.
    #[error("could not open the private key")]
    Key {
        /// Whether a passphrase was used.
        passphrase: Passphrase,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// The host was trusted; it does not trust us.
    #[error("{target} does not accept the private key for user {}", target.user)]
    AuthRefused {
        /// The host.
        target: SshTarget,
        /// The line that the host's `authorized_keys` would need, when it can be told.
        public: Option<String>,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// The host lets us in, and runs nothing for us.
    #[error("could not start a command on {target}")]
    ExecRefused {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: ssh2::Error,
    },
    /// Whether the command goes on is not known.
    #[error("lost the link to {target}")]
    LinkLost {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: Loss,
    },
    /// The command took longer than it may. It may still run.
    #[error("the command on {target} did not end within {} s", limit.as_secs_f32())]
    Deadline {
        /// The host.
        target: SshTarget,
        /// How long it could have taken.
        limit: Duration,
    },
    /// The command printed nothing for longer than it may. It may still run.
    #[error("the command on {target} was silent for {} s", limit.as_secs_f32())]
    Idle {
        /// The host.
        target: SshTarget,
        /// How long it could have taken.
        limit: Duration,
    },
    /// This side could not read what the command waits for.
    #[error("could not read what was to be sent to {target}")]
    Input {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// This machine could not make a socket, or set it up.
    #[error("could not prepare the connection to {target}")]
    Setup {
        /// The host.
        target: SshTarget,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// This side was asked to stop.
    #[error("the work on {target} was interrupted")]
    Interrupted {
        /// The host.
        target: SshTarget,
    },
}

/// How a link came to be lost.
#[derive(Debug, Error)]
pub enum Loss {
    /// By an error of the socket.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// By silence: TCP notices a host that vanished only after minutes.
    #[error("nothing was heard from the host for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// By an earlier command that was left before its end.
    #[error("it was given up earlier, in the middle of a command")]
    Earlier,
}

/// The part of connecting that an error happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectStage {
    /// TCP.
    Connecting,
    /// Up to the host's key.
    KeyExchange,
    /// Up to being let in.
    Authentication,
    /// A command was asked for.
    Starting,
}

impl fmt::Display for ConnectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::KeyExchange => "the key exchange",
            Self::Authentication => "authentication",
            Self::Starting => "starting a command",
        })
    }
}

/// A purpose for which the server and belay share no method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatible {
    /// The host.
    pub target: SshTarget,
    /// How the server names itself.
    pub server: String,
    /// The setting of `sshd_config` that lists what is allowed.
    pub setting: &'static str,
    /// What the server offers, separated by commas.
    pub theirs: String,
    /// What Belay has, separated by commas.
    pub ours: String,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            setting,
            theirs,
            ours,
            ..
        } = self;
        write!(
            f,
            "{server} offers the {setting} {theirs}, belay has {ours}"
        )
    }
}

/// Whether a key was opened with a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passphrase {
    /// It may be the wrong one.
    Given,
    /// The key was not encrypted.
    Absent,
}

/// A host key that was shown and not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKey {
    /// The host that showed it.
    pub target: SshTarget,
    /// What it showed.
    pub key: HostKey,
}

impl SeenKey {
    /// The line that would trust this key, to be pasted once the key was compared on the host itself.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} {}",
            host_name(&self.target.address, self.target.port),
            self.key
        )
    }
}

impl SshError {
    /// Whether trying again can help.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Dropped { .. } => {
                Class::Transient
            }
            Self::TimedOut { stage, .. } => match stage {
                ConnectStage::Connecting
                | ConnectStage::KeyExchange
                | ConnectStage::Authentication => Class::Transient,
                // The request was sent: the command may be running.
                ConnectStage::Starting => Class::LinkLost,
            },
            // Without its input, too, the command may be running.
            Self::LinkLost { .. }
            | Self::Deadline { .. }
            | Self::Idle { .. }
            | Self::Input { .. } => Class::LinkLost,
            Self::NothingInCommon { .. }
            | Self::Handshake { .. }
            | Self::HostKeyUnknown { .. }
            | Self::HostKeyMismatch { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyUnreadable { .. }
            | Self::Key { .. }
            | Self::AuthRefused { .. }
            | Self::ExecRefused { .. }
            | Self::Setup { .. } => Class::Refused,
            Self::Interrupted { .. } => Class::Interrupted,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Cow<'static, str> {
        match self {
            Self::Unresolved { target, .. } => {
                format!("check the host setting: {:?}", target.address).into()
            }
            Self::Unreachable { target, .. } => {
                let port = target.port;
                format!(
                    "check host and port, and that the firewall lets the runner reach port {port}"
                )
                .into()
            }
            Self::TimedOut { .. } => {
                "check that an SSH server listens on this port and that the host is not overloaded"
                    .into()
            }
            Self::Dropped { .. } => {
                "the server may be limiting connections (MaxStartups, PerSourcePenalties, \
                                     fail2ban): look into its log, or wait a few minutes"
                    .into()
            }
            Self::NothingInCommon { gap, .. } => gap.hint().into(),
            Self::Handshake { .. } => {
                "look into the log of sshd on the host; something may be altering the connection"
                    .into()
            }
            Self::HostKeyUnknown { seen } => seen.hint().into(),
            Self::HostKeyMismatch { seen, known } => mismatch_hint(seen, known).into(),
            Self::HostKeyRevoked { .. } => {
                "this key was withdrawn: do not trust it; give the host a new one".into()
            }
            Self::HostKeyUnreadable { .. } => {
                "the host must have an ed25519, ecdsa or rsa host key".into()
            }
            Self::Key { passphrase, .. } => passphrase.hint().into(),
            Self::AuthRefused { target, public, .. } => {
                login_hint(&target.user, public.as_deref()).into()
            }
            Self::ExecRefused { .. } => {
                "the host must let this user run commands: see its shell, MaxSessions, ForceCommand"
                    .into()
            }
            Self::LinkLost { .. } | Self::Deadline { .. } | Self::Idle { .. } => {
                "connect again and ask the host: what was begun there goes on without the link"
                    .into()
            }
            Self::Input { .. } => "see the cause; the transfer can be repeated".into(),
            Self::Setup { .. } => {
                "this is a fault of the runner or of belay, not of the host".into()
            }
            Self::Interrupted { .. } => {
                "what was begun on the host goes on without the link".into()
            }
        }
    }
}

impl SeenKey {
    fn hint(&self) -> String {
        format!(
            "compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` on the host itself; \
             if it is the same, add this line to known-hosts: {}",
            self.line()
        )
    }
}

impl Incompatible {
    fn hint(&self) -> String {
        let first = self.ours.split(',').next().unwrap_or_default();
        let setting = self.setting;
        format!("add `{setting} +{first}` to sshd_config on the host, or update its OpenSSH")
    }
}

impl Passphrase {
    fn hint(self) -> &'static str {
        match self {
            Self::Given => "check ssh-key-passphrase, or paste the key again",
            Self::Absent => "paste the key again, or make one with `ssh-keygen -t ed25519`",
        }
    }
}

fn mismatch_hint(seen: &SeenKey, known: &[KeyType]) -> String {
    let known: Vec<&str> = known.iter().map(|kind| kind.name()).collect();
    let pinned = if known.is_empty() {
        String::new()
    } else {
        format!(" (pinned: {})", known.join(", "))
    };
    let trust = seen.hint();
    format!(
        "if the host was not reinstalled, somebody may be in between{pinned}; otherwise {trust}"
    )
}

fn login_hint(user: &str, public: Option<&str>) -> String {
    match public {
        Some(line) => format!("add this line to ~{user}/.ssh/authorized_keys on the host: {line}"),
        None => format!(
            "add the public half of the key (`ssh-keygen -y -f FILE`) to ~{user}/.ssh/authorized_keys on the host"
        ),
    }
}
