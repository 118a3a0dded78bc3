//! What the two machines say to each other: JSON values, one a line, over the standard streams of one agent call.
//!
//! The runner never derives success from an exit status: each verb answers with one of these values, or the answer is not
//! known.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use belay_model::composition::image::ImageStore;
use belay_model::composition::service_changes::ServiceChange;
use belay_model::judgement::error_lines::ErrorLines;
use belay_model::transaction::journal::{End, Entry, Holder};
use belay_model::transaction::outcome::Failure;
use belay_model::versions::history::PastDeployment;
use belay_model::versions::release::{Current, KnownRelease};

/// The version of this language. An agent is uploaded by the runner that speaks to it, so both sides have the same one;
/// it is here to tell a foreign answer from a broken one.
pub const LANGUAGE: u32 = 1;

/// The verbs of `belay agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Facts,
    Load,
    Begin,
    Follow,
    Confirm,
    Extend,
    Abort,
    Recover,
    Backup,
    Backups,
    Logs,
    Ask,
    LookBack,
    Restart,
    Examine,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Verb::Facts => "facts",
            Verb::Load => "load",
            Verb::Begin => "begin",
            Verb::Follow => "follow",
            Verb::Confirm => "confirm",
            Verb::Extend => "extend",
            Verb::Abort => "abort",
            Verb::Recover => "recover",
            Verb::Backup => "backup",
            Verb::Backups => "backups",
            Verb::Logs => "logs",
            Verb::Ask => "ask",
            Verb::LookBack => "look-back",
            Verb::Restart => "restart",
            Verb::Examine => "examine",
        }
    }
}

/// Any verb's answer: what it was asked for, or why it could not be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    Ok(T),
    Failed(Failure),
}

/// What a host is like, and what is on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    pub language: u32,
    pub now: Timestamp,
    pub engine: EngineFacts,
    pub free_bytes: u64,
    /// Of the file system of the root.
    pub total_bytes: u64,
    pub current: Option<Current>,
    pub releases: Vec<KnownRelease>,
    /// The images of what serves, for comparison.
    pub images: Vec<ServiceImage>,
    pub services: Vec<ServiceState>,
    pub backups: Vec<BackupFacts>,
    pub holder: Option<Holder>,
    /// A transaction that is not over.
    pub open: Option<OpenTransaction>,
    /// Who starts the recovery when the host starts.
    pub supervisor: Supervisor,
    /// What the host did by itself since the last transaction.
    pub note: Option<String>,
}

/// Who lets a host settle after a start of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervisor {
    SystemUnit {
        unit: String,
    },
    UserUnit {
        unit: String,
    },
    Crontab {
        user: String,
    },
    /// Nobody does.
    NextContact,
}

impl Supervisor {
    /// In words, as a log and `belay status` tell it.
    pub fn describe(&self) -> String {
        match self {
            Supervisor::SystemUnit { unit } => format!("recovers at boot: systemd unit {unit}"),
            Supervisor::UserUnit { unit } => format!("recovers at boot: systemd user unit {unit}"),
            Supervisor::Crontab { user } => {
                format!("recovers at boot: @reboot in the crontab of {user}")
            }
            Supervisor::NextContact => {
                "after a reboot it recovers at the next contact, not by itself".to_owned()
            }
        }
    }
}

/// The engine and Compose of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    pub engine: String,
    pub compose: String,
    /// As images name it: `amd64`, `arm64`.
    pub architecture: String,
    pub live_restore: bool,
    pub store: ImageStore,
    /// The oldest version of its API that the engine still speaks (`1.24`).
    pub oldest_api: String,
}

/// The image of a service of the release that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceImage {
    pub service: String,
    /// Its identity: the digest of its config.
    pub id: String,
    pub size: u64,
    /// Whether the host's engine still has it.
    pub is_there: bool,
    /// Whether its containers run for as long as the release serves.
    pub serves: bool,
}

/// A container of the project, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    pub service: String,
    pub container: String,
    pub state: String,
    pub health: Option<String>,
    /// The image's identity where a release names it, else what the engine calls it.
    pub image_id: String,
    pub restarts: u32,
}

/// A backup, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupFacts {
    pub name: String,
    pub seq: u64,
    pub created: Timestamp,
    pub release: Option<String>,
    pub tag: Option<String>,
    pub reason: String,
    pub bytes: u64,
    /// Images that the backup names.
    pub images: usize,
    /// The volumes and bind mounts whose data it holds, in words.
    #[serde(default)]
    pub data: Vec<String>,
    /// Sources whose copy may not be consistent, with the reason.
    pub inconsistent: Vec<String>,
    /// What a fresh look found, when one was asked for: nothing is well.
    pub problem: Option<String>,
    pub verified: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTransaction {
    pub seq: u64,
    pub what: String,
    pub since: Timestamp,
    pub stuck: bool,
}

/// What came of handing over a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begun {
    /// It runs (or has run): follow it.
    Running { seq: u64 },
    /// Somebody else was busy until the patience was over.
    Busy { holder: Holder },
    /// Nothing was begun.
    Refused(Failure),
}

/// A line while following a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    Entry(Box<Entry>),
    /// The host is there; nothing new. Sent often, so that silence means a dead link.
    Alive,
    /// No engine works on the transaction any more and no one of this host could go on with it.
    Stopped(Failure),
}

/// What `belay doctor` wants to know of a host beyond its facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// Of the ports that were asked about, those that somebody listens on.
    pub taken: Vec<u16>,
}

/// A container that was restarted and is well again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    pub service: String,
    pub container: String,
    /// From its stop until it was well, in milliseconds.
    pub ms: u64,
}

/// What is known of the deployments that went live, and what the services complained of since a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LookBack {
    /// As far as their journals are kept, oldest first.
    pub deployments: Vec<PastDeployment>,
    /// Of every service of what serves, also of those without any.
    pub errors: Vec<ErrorLines>,
    /// What is different about what serves from what served before; empty where nothing did.
    pub changes: Vec<ServiceChange>,
}

/// What an image transfer came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Whether Docker says that it has loaded everything.
    pub is_complete: bool,
    pub said: String,
}

/// A runner's images for a transaction that is yet to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    pub references: Vec<String>,
    pub since: Timestamp,
}

/// What a confirmation came to: the host decides once, and both sides say the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmed {
    Committed,
    /// It came too late (or after a failure): the host has gone back, or is going back.
    Unwound {
        end: Option<End>,
    },
}
