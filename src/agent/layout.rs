//! Every path on the host, in one place.
//!
//! Runs on the host. Nothing here reads or writes.

use std::path::{Path, PathBuf};

/// Where things are under an application's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// The directory of Belay's own state, under the root.
pub const STATE: &str = ".belay";
/// The directory of backups, under the root.
pub const BACKUPS: &str = "backups";
/// The file that says what serves now. Plain `docker-compose up -d` reads it.
pub const COMPOSE: &str = "docker-compose.yml";
/// The file that says what served before: the emergency path.
pub const COMPOSE_BACKUP: &str = "docker-compose.yml.backup";

/// Files that Compose would read instead of, or on top of, [`COMPOSE`].
pub const RIVAL_FILES: [&str; 7] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

impl Layout {
    /// The layout below an application's directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    /// The application's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What serves, for Compose and for people.
    #[must_use]
    pub fn compose(&self) -> PathBuf {
        self.root.join(COMPOSE)
    }

    /// What served before, for the emergency path.
    #[must_use]
    pub fn compose_backup(&self) -> PathBuf {
        self.root.join(COMPOSE_BACKUP)
    }

    /// All backups.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.root.join(BACKUPS)
    }

    /// Second copies of what cannot be found out again, laid out like [`Layout::state`].
    #[must_use]
    pub fn spares(&self) -> PathBuf {
        self.state().join("spare")
    }

    /// Where the second copy of a file of [`Layout::state`] is.
    #[must_use]
    pub fn spare(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(self.state()).ok()?;
        Some(self.spares().join(below))
    }

    /// Files that were found damaged, each under the time and its name. Nothing of Belay's ever removes them.
    #[must_use]
    pub fn damaged(&self) -> PathBuf {
        self.state().join("damaged")
    }

    /// What was damaged the last time that something was, and what was done about it.
    #[must_use]
    pub fn repaired(&self) -> PathBuf {
        self.state().join("repaired.json")
    }

    /// Releases on their way out: what is here was whole until its removal began.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.state().join("trash")
    }

    /// What is Belay's own, and private.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join(STATE)
    }

    /// Held (flock) by the one engine that may change the host.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }

    /// Who holds the lock, for people.
    #[must_use]
    pub fn holder(&self) -> PathBuf {
        self.state().join("lock.json")
    }

    /// The number of the last transaction; an engine with a lower one may not change anything.
    #[must_use]
    pub fn seq(&self) -> PathBuf {
        self.state().join("seq")
    }

    /// The record of what serves.
    #[must_use]
    pub fn current(&self) -> PathBuf {
        self.state().join("current")
    }

    /// The emergency path as a script.
    #[must_use]
    pub fn rollback_script(&self) -> PathBuf {
        self.state().join("rollback.sh")
    }

    /// Held (flock) by the one watch that looks after the engine.
    #[must_use]
    pub fn watch(&self) -> PathBuf {
        self.state().join("watch")
    }

    /// What the last start of containers was that Docker had left stopped.
    #[must_use]
    pub fn revived(&self) -> PathBuf {
        self.state().join("revived.json")
    }

    /// What a start of the machine runs: the recovery by the agent that is there. POSIX sh.
    #[must_use]
    pub fn recover_script(&self) -> PathBuf {
        self.state().join("recover.sh")
    }

    /// Messages of engines that could not even write their journal.
    #[must_use]
    pub fn engine_log(&self) -> PathBuf {
        self.state().join("engine.log")
    }

    /// Agents, each in a folder of its version.
    #[must_use]
    pub fn binaries(&self) -> PathBuf {
        self.state().join("bin")
    }

    /// All journals, with the plans of open transactions.
    #[must_use]
    pub fn journals(&self) -> PathBuf {
        self.state().join("journal")
    }

    /// The journal of a transaction.
    #[must_use]
    pub fn journal(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.log"))
    }

    /// The plan of a transaction, until it is over.
    #[must_use]
    pub fn journal_plan(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.plan.json"))
    }

    /// What a waiting engine looks for: the runner's confirmation of a transaction.
    #[must_use]
    pub fn confirmation(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.confirm"))
    }

    /// The wish that it waits longer for that.
    #[must_use]
    pub fn extension(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.extend"))
    }

    /// What an engine looks for between any two looks: a wish to stop.
    #[must_use]
    pub fn abort(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.abort"))
    }

    /// There once data is being copied to its new places: what is there from then on is the transaction's.
    #[must_use]
    pub fn filling(&self, seq: u64) -> PathBuf {
        self.journals().join(format!("{seq:08}.filling"))
    }

    /// Plans that were handed over and have no journal yet.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.state().join("incoming")
    }

    /// A plan that no engine has begun with yet.
    #[must_use]
    pub fn incoming_plan(&self, tx: &str) -> PathBuf {
        self.incoming().join(format!("{tx}.json"))
    }

    /// Where the files of a plan are laid out that is only looked at; gone afterwards.
    #[must_use]
    pub fn looked_at(&self, tx: &str) -> PathBuf {
        self.incoming().join(format!("{tx}.look"))
    }

    /// Images that a runner has loaded for a transaction that has not begun yet.
    #[must_use]
    pub fn staged(&self, tx: &str) -> PathBuf {
        self.incoming().join(format!("{tx}.images"))
    }

    /// All releases.
    #[must_use]
    pub fn releases(&self) -> PathBuf {
        self.state().join("releases")
    }

    /// The places of one release.
    #[must_use]
    pub fn release(&self, name: &str) -> ReleaseLayout {
        ReleaseLayout {
            dir: self.releases().join(name),
        }
    }

    /// What was in the root where a transaction puts its release's files; gone when the transaction is over.
    #[must_use]
    pub fn displaced(&self, seq: u64) -> PathBuf {
        self.state().join("displaced").join(format!("{seq:08}"))
    }

    /// Logs of containers of failed deployments.
    #[must_use]
    pub fn failed_logs(&self, seq: u64) -> PathBuf {
        self.state().join("failed").join(format!("{seq:08}"))
    }
}

/// Where things are in one release's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseLayout {
    dir: PathBuf,
}

impl ReleaseLayout {
    /// The release's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The record. Written last: a directory without it is not a release.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("release.json")
    }

    /// The rendered Compose file.
    #[must_use]
    pub fn compose(&self) -> PathBuf {
        self.dir.join(COMPOSE)
    }

    /// What `docker compose config` made of the user's files, before pinning.
    #[must_use]
    pub fn normalised(&self) -> PathBuf {
        self.dir.join("compose.json")
    }

    /// The files that the release brings, as shipped.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// Where the user's files are laid out to be rendered; gone afterwards.
    #[must_use]
    pub fn rendering(&self) -> PathBuf {
        self.dir.join("rendering")
    }
}
