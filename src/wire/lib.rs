//! What the two machines say to each other: JSON values, one a line, over the standard streams of one agent call.
//!
//! The runner never derives success from an exit status: each verb answers with one of these values, or the answer is not
//! known.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use belay_model::composition::data_view::UnnamedVolume;
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
    /// Settles what a dead engine left, then answers with [`HostFacts`].
    Facts,
    /// Gives a stream of images to `docker load`, and answers with [`Loaded`].
    Load,
    /// Hands a plan to a new engine, and answers with [`Begun`].
    Begin,
    /// Tells the records of a transaction as they come, each as a [`Line`].
    Follow,
    /// Leaves the confirmation for the engine, and answers with [`Confirmed`].
    Confirm,
    /// Asks the engine to wait longer for the confirmation.
    Extend,
    /// Asks the engine to unwind; after the commit it changes nothing.
    Abort,
    /// The same as `facts`; what the start of the machine runs.
    Recover,
    /// Takes a backup of what serves, now.
    Backup,
    /// Lists the backups, each as a [`BackupFacts`].
    Backups,
    /// Shows containers' logs as they are.
    Logs,
    /// Asks an endpoint once, for the checklist.
    Ask,
    /// Answers with [`LookBack`]; reads only.
    LookBack,
    /// Restarts containers of what serves, and answers with each that is [`Restarted`].
    Restart,
    /// Answers with [`Examined`], for `belay doctor`.
    Examine,
    /// Answers with [`DataOutlook`]: what a plan would mean for the application's data. Changes nothing.
    Outlook,
    /// Rebuilds what is damaged of Belay's files, and answers with [`Repaired`].
    Repair,
}

impl Verb {
    /// The word on the command line of `belay agent`.
    #[must_use]
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
            Verb::Outlook => "outlook",
            Verb::Repair => "repair",
        }
    }
}

/// Any verb's answer: what it was asked for, or why it could not be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// What was asked for.
    Ok(T),
    /// Nothing was, or could be, found out; in three lines for people.
    Failed(Failure),
}

/// What a host is like, and what is on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The agent's [`LANGUAGE`].
    pub language: u32,
    /// The host's own clock, which the runner's may differ from.
    pub now: Timestamp,
    /// Which Docker and Compose the host has.
    pub engine: EngineFacts,
    /// What is free for this user on the root's file system.
    pub free_bytes: u64,
    /// Of the file system of the root.
    pub total_bytes: u64,
    /// What serves; `None` before the first deployment.
    pub current: Option<Current>,
    /// Every release whose record is whole, by its number.
    pub releases: Vec<KnownRelease>,
    /// The services of what was deployed last that do not run now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// The images of what serves, for comparison.
    pub images: Vec<ServiceImage>,
    /// Every container of the project that serves, one that is stopped included.
    pub services: Vec<ServiceState>,
    /// Oldest first; those that are damaged, too.
    pub backups: Vec<BackupFacts>,
    /// Who has the lock; `None` when it is free.
    pub holder: Option<Holder>,
    /// A transaction that is not over.
    pub open: Option<OpenTransaction>,
    /// Who starts the recovery when the host starts.
    pub supervisor: Supervisor,
    /// What the host did by itself since the last transaction.
    pub note: Option<String>,
    /// Belay's files that are damaged, and those that were since the last transaction, with what was done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFinding>,
}

/// A file of Belay's on the host that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFinding {
    /// Below the application's folder.
    pub path: String,
    /// What is wrong with it, as the end of a sentence: `is empty`.
    pub found: String,
    /// What was done about it; `None`: nothing yet.
    pub done: Option<String>,
    /// Where the damaged file is now, below the folder.
    pub kept: Option<String>,
    /// What a person has to do; `None`: nothing is left to do, or the next contact does it.
    pub next: Option<String>,
}

impl FileFinding {
    /// Whether a contact mends it without being asked.
    #[must_use]
    pub fn is_mendable(&self) -> bool {
        self.done.is_none() && self.next.is_none()
    }

    /// In one sentence, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{} {}", self.path, self.found);
        match &self.done {
            Some(done) => text.push_str(&format!("; {done}")),
            None if self.is_mendable() => text.push_str("; the next contact rebuilds it"),
            None => {}
        }
        if let Some(kept) = &self.kept {
            text.push_str(&format!(" (it is kept as {kept})"));
        }
        text
    }
}

/// What a repair found, and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Each file that was not as it should be.
    pub files: Vec<FileFinding>,
    /// Services of the version that serves which do not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// The tag that serves, as the records say now.
    pub serving: Option<String>,
    /// A transaction that is still open, in words.
    pub open: Option<String>,
    /// How many files were looked at.
    pub looked_at: usize,
}

impl Repaired {
    /// Whether nothing is left for a person to do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.open.is_none() && self.down.is_empty() && self.files.iter().all(|f| f.next.is_none())
    }
}

/// Who lets a host settle after a start of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervisor {
    /// A unit of the system: root deploys.
    SystemUnit {
        /// `belay-FOLDER-HASH.service`.
        unit: String,
    },
    /// A unit of the user, who may linger.
    UserUnit {
        /// `belay-FOLDER-HASH.service`.
        unit: String,
    },
    /// A line `@reboot`, where systemd offers nothing and cron runs.
    Crontab {
        /// Whose crontab has it.
        user: String,
    },
    /// Nobody does.
    NextContact,
}

impl Supervisor {
    /// In words, as a log and `belay status` tell it.
    #[must_use]
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
    /// Docker's version, as it says itself: `27.3.1`.
    pub engine: String,
    /// Compose's version: `2.26.1`, or `1.29.2` of the older program.
    pub compose: String,
    /// As images name it: `amd64`, `arm64`.
    pub architecture: String,
    /// Whether containers outlive the engine (`live-restore` of Docker's daemon.json).
    pub live_restore: bool,
    /// Where the engine keeps images, which decides what it calls them.
    pub store: ImageStore,
    /// The oldest version of its API that the engine still speaks (`1.24`).
    pub oldest_api: String,
}

/// The image of a service of the release that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceImage {
    /// The service's name in the Compose file.
    pub service: String,
    /// Its identity: the digest of its config.
    pub id: String,
    /// Its layers when unpacked, in bytes.
    pub size: u64,
    /// Whether the host's engine still has it.
    pub is_there: bool,
    /// Whether its containers run for as long as the release serves.
    pub serves: bool,
}

/// A container of the project, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The service's name in the Compose file.
    pub service: String,
    /// The container's name, without Docker's leading slash.
    pub container: String,
    /// Docker's word: `running`, `exited`, `restarting`.
    pub state: String,
    /// `starting`, `healthy` or `unhealthy`; `None` without a healthcheck.
    pub health: Option<String>,
    /// The image's identity where a release names it, else what the engine calls it.
    pub image_id: String,
    /// Times that Docker itself started it again.
    pub restarts: u32,
}

/// A backup, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// `backup_` and the time: the folder's name, by which a rollback means it.
    pub name: String,
    /// The number of the transaction for which it was taken.
    pub seq: u64,
    /// When it was begun.
    pub created: Timestamp,
    /// The release that served then; `None` where nothing did.
    pub release: Option<String>,
    /// That release's tag.
    pub tag: Option<String>,
    /// Why it was taken, in words.
    pub reason: String,
    /// The archive's size, as it is on the disk.
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
    /// Whether it was read back just now, because the runner asked for that.
    pub verified: bool,
}

/// A transaction that has begun and is not over: one that runs, or one that is stuck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its number.
    pub seq: u64,
    /// `deploy v1.2.0`.
    pub what: String,
    /// When it began.
    pub since: Timestamp,
    /// An undo failed: a person is needed.
    pub stuck: bool,
}

/// What came of handing over a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Begun {
    /// It runs (or has run): follow it.
    Running {
        /// The transaction's number.
        seq: u64,
    },
    /// Somebody else was busy until the patience was over.
    Busy {
        /// Who has the lock.
        holder: Holder,
    },
    /// Nothing was begun.
    Refused(Failure),
}

/// A line while following a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The next record of the journal, which is safe on the disk.
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

/// What a plan would mean for the application's data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataOutlook {
    /// Why it would be refused, if it would.
    pub refusal: Option<Failure>,
    /// What should be known of it.
    pub warnings: Vec<String>,
    /// Data that has no name.
    pub unnamed: Vec<UnnamedVolume>,
    /// Volumes of the project that what serves does not have mounted.
    pub unused: Vec<UnusedVolume>,
    /// Services that stop while their data is copied to its new place.
    #[serde(default)]
    pub stops: Vec<String>,
}

/// A volume of the project that nothing of what serves has mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedVolume {
    /// The engine's name for it.
    pub name: String,
    /// What it holds, where that could be found out.
    pub bytes: Option<u64>,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
}

/// A container that was restarted, or made, and is well again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// The service's name in the Compose file.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// From its stop until it was well, in milliseconds.
    pub ms: u64,
    /// None of the service ran before.
    #[serde(default)]
    pub made: bool,
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
    /// What `docker load` wrote last, for when it is not complete.
    pub said: String,
}

/// A runner's images for a transaction that is yet to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The names under which the images come.
    pub references: Vec<String>,
    /// When they were announced: those of a run that never came are swept a day later.
    pub since: Timestamp,
}

/// What a confirmation came to: the host decides once, and both sides say the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmed {
    /// The new version serves and stays.
    Committed,
    /// It came too late (or after a failure): the host has gone back, or is going back.
    Unwound {
        /// How it ended, when it has ended already.
        end: Option<End>,
    },
}
