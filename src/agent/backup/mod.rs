//! Backups of an application: its configuration, data, logs and the names of its images, in one archive.
//!
//! Runs on the host, as the deploying user, without async and without root. A backup is three files under
//! `<root>/backups`: `backup_YYYYMMDD_HHMMSS.tar.gz`, `.images.txt` and `.manifest.json`. The archive is written
//! aside, synced, read back whole and compared, and only then published, the manifest last: it is the commit pointer,
//! and what has none is no backup. A failure, a full disk included, leaves nothing behind; what a crash leaves,
//! [`sweep`] removes.
//!
//! Data that only root can read comes through the Docker engine, see [`DockerReader`]. Reading an archive back trusts
//! nothing: see [`verify`].

mod archive;
pub mod aside;
mod calls;
mod checked;
mod collect;
mod config_copy;
mod config_out;
mod data_copy;
mod docker_reader;
mod docker_writer;
mod gzip;
mod helper;
mod helper_image;
#[cfg(test)]
mod hostile;
mod manifest;
mod names;
pub mod pack;
mod read;
pub mod rebuild;
mod relay;
mod shelf;
mod steady;
mod stream;
mod tar_in;
mod tar_out;
mod write;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::fence::Overtaken;
use crate::trouble::Trouble;
use belay_model::composition::data::RestoredSource;

pub use belay_model::composition::data::DataKind;
pub use config_out::{ConfigEntry, ConfigKind, extract_config, open_config};
pub use docker_reader::DockerReader;
pub use docker_writer::{DONE, DockerWriter};
pub use manifest::{
    BackupManifest, Consistency, EntryKind, EntryRecord, FileRecord, ImageRecord, LeftOut,
    ManifestError, Reason, SourceKind, SourceRecord, SourceState,
};
pub use names::{BackupName, Leads, NotABackupName};
pub use read::{SavedData, VerifyError, extract_file, verify};
pub use relay::{Content, Relayed, content, relay};
pub use shelf::{BackupEntry, Unrecorded, estimate, free_bytes, list, remove, sweep, unrecorded};
pub use write::{PublishPoint, create, create_watched};

/// What goes into a backup.
#[derive(Clone, Debug)]
pub struct BackupRequest<'a> {
    /// The application's directory; `backups` is in it.
    pub root: &'a Path,
    /// The application's name, for the texts inside.
    pub app: &'a str,
    /// The transaction that asks for it.
    pub seq: u64,
    /// Gives the backup its name.
    pub now: Timestamp,
    /// Why it is made; a listing tells it.
    pub reason: Reason,
    /// The release that is serving, by its directory's name, like `3-v1.1.0`.
    pub release: Option<String>,
    /// The commit of that release, where there is one.
    pub revision: Option<String>,
    /// What each service runs from: only told of, the images themselves are not in a backup.
    pub images: Vec<ImageRecord>,
    /// Volumes and bind mounts to save.
    pub data: Vec<BackupSource>,
    /// The logs of each service, by its name.
    pub logs: Vec<(String, LogSource)>,
    /// More directories or files under the root that are not configuration, relative or absolute. Bind mounts in `data`
    /// need not be named again.
    pub exclude: Vec<PathBuf>,
    /// When to stop.
    pub limits: BackupLimits,
}

impl BackupRequest<'_> {
    /// When it is made, in seconds since 1970: the time of everything that the backup itself adds.
    fn seconds(&self) -> u64 {
        u64::try_from(self.now.as_second()).unwrap_or(0)
    }
}

/// Application data to save.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSource {
    /// The volume or the bind mount.
    pub kind: DataKind,
    /// Services that use it.
    pub services: Vec<String>,
    /// Whether something writes to it meanwhile.
    pub consistency: Consistency,
}

/// Where a service's logs are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSource {
    /// Its containers, by name or ID.
    pub containers: Vec<String>,
    /// The last lines of each; `None`: as many as fit.
    pub lines: Option<u32>,
}

/// How much a backup may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLimits {
    /// Files and directories together; each takes memory while the backup is made.
    pub entries: usize,
    /// Of each service's logs, the last bytes.
    pub log_bytes: u64,
}

impl Default for BackupLimits {
    fn default() -> Self {
        BackupLimits {
            entries: 1_000_000,
            log_bytes: 8 * 1024 * 1024,
        }
    }
}

/// A backup that was made, verified and published.
#[derive(Clone, Debug)]
pub struct MadeBackup {
    /// By which it is found, verified and removed.
    pub name: BackupName,
    /// Where its archive is.
    pub archive: PathBuf,
    /// What it holds, sealed.
    pub manifest: BackupManifest,
}

/// Reads what an ordinary user cannot read by itself.
pub trait DataReader {
    /// Hands `sink` a volume's or bind mount's content as [`pack::pack`] writes it. What the sink returns is passed on as [`ReadError::Sink`].
    fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError>;

    /// How many bytes the content has, roughly.
    fn size(&self, source: &DataKind) -> Result<u64, ReadError>;

    /// Removes what a reading that was cut off left.
    fn sweep(&self) -> Result<(), ReadError>;

    /// Asked right before the backup gets its name: whether it may still have one.
    fn may_publish(&self) -> Result<(), ReadError> {
        Ok(())
    }

    /// The last `most` bytes, at the most, of a service's logs.
    fn logs(&self, source: &LogSource, most: u64) -> Result<Vec<u8>, ReadError>;
}

/// Puts data in the place of other data, as an ordinary user cannot, and keeps what was there until nobody needs it.
///
/// Each call can be repeated. `mark` names what one transaction keeps aside.
pub trait DataWriter {
    /// Moves everything that is there aside, within the same file system. Again, it takes away what came since.
    fn set_aside(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError>;

    /// Puts in what `feed` gives: an uncompressed tar whose top directory (or one file) is named [`TOP`].
    fn fill(&self, source: &RestoredSource, feed: Feed<'_>) -> Result<(), ReadError>;

    /// Compares what is there now with a backup's records, hash by hash, and syncs it to the disk.
    fn check(
        &self,
        source: &RestoredSource,
        mark: &str,
        wanted: &[EntryRecord],
    ) -> Result<(), ReadError>;

    /// Takes away what is there and moves back what was set aside. Finds nothing to do when nothing was.
    fn put_back(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError>;

    /// Removes what was set aside, for good.
    fn forget(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError>;

    /// Ends whatever an engine before this one left at work.
    fn sweep(&self) -> Result<(), ReadError>;
}

/// The name of the top directory of a tar for [`DataWriter::fill`].
pub const TOP: &str = "belay-data";

/// Gives a stream.
pub type Feed<'a> = &'a mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Takes a stream while it is open.
pub type Sink<'a> = &'a mut dyn FnMut(&mut dyn Read) -> io::Result<()>;

/// Data or logs that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such volume or path.
    #[error("it does not exist")]
    Absent,
    /// This program, of which helpers are made.
    #[error("could not read this program")]
    Program(#[source] io::Error),
    /// Docker, or a program that it ran, failed.
    #[error("{what} failed: {said}")]
    Docker {
        /// The call, as people know it.
        what: String,
        /// What it said.
        said: String,
        /// What that means for Belay.
        trouble: Trouble,
    },
    /// It was ended after so long a silence.
    #[error("{what} was silent for {seconds} s")]
    TooLong {
        /// The call, as people know it.
        what: String,
        /// The silence that is allowed.
        seconds: u64,
    },
    /// Docker's client is not there, or could not be waited for.
    #[error("could not run docker")]
    Start(#[source] io::Error),
    /// Whoever took the stream, or gave it, could not go on.
    #[error("the copy could not go on")]
    Sink(#[source] io::Error),
    /// Another engine has taken this one's place.
    #[error("a look at the lock failed")]
    Overtaken(#[from] Overtaken),
}

impl ReadError {
    /// Docker failed, by what it said.
    pub fn said(what: impl Into<String>, said: impl Into<String>) -> Self {
        let said = said.into();
        ReadError::Docker {
            what: what.into(),
            trouble: Trouble::of(&said),
            said,
        }
    }

    /// What Docker stumbled over.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            ReadError::Docker { trouble, .. } => *trouble,
            ReadError::Absent
            | ReadError::Program(_)
            | ReadError::TooLong { .. }
            | ReadError::Start(_)
            | ReadError::Sink(_)
            | ReadError::Overtaken(_) => Trouble::Other,
        }
    }
}

/// A backup that could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Told apart from other errors of writing: people can do something about it.
    #[error("the disk that holds {} is full", dir.display())]
    NoSpace {
        /// On the disk that is full.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the backup's own.
    #[error("could not write {}", path.display())]
    Write {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something below the root.
    #[error("could not read {}", path.display())]
    Config {
        /// What could not be read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A volume, a bind mount or a log.
    #[error("could not read {source_name}")]
    Source {
        /// Which one, in words.
        source_name: String,
        /// What stood in the way.
        #[source]
        source: ReadError,
    },
    /// It broke off, or changed, each time that it was tried.
    #[error("could not copy {source_name} whole: {why}")]
    Torn {
        /// Which volume or bind mount.
        source_name: String,
        /// What was missing.
        why: String,
    },
    /// A tar cannot hold it, or it would not be safe to unpack.
    #[error("{source_name} has an entry that cannot be saved: {why}")]
    Refused {
        /// Which volume or bind mount.
        source_name: String,
        /// What is wrong with it.
        why: String,
    },
    /// More than [`BackupLimits::entries`].
    #[error("there are more than {0} files to save")]
    TooMany(usize),
    /// A service's or a volume's name that would lead elsewhere.
    #[error("{0:?} cannot be part of a path")]
    BadName(String),
    /// A bind mount's path that would lead elsewhere.
    #[error("the path {} is not absolute and plain", .0.display())]
    BadPath(PathBuf),
    /// It was written, and is not what was meant.
    #[error("the backup was written but does not read back")]
    ReadBack(#[source] VerifyError),
    /// The record of what it holds.
    #[error("could not write the manifest")]
    Manifest(#[from] ManifestError),
    /// All 9999 of them.
    #[error("every name for a backup of this second is taken")]
    NoName,
}

impl BackupError {
    /// An error of writing to `path`, with a full disk told apart.
    fn writing(path: &Path, source: io::Error) -> BackupError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BackupError::NoSpace {
                dir: path.parent().unwrap_or(path).to_owned(),
                source,
            },
            _ => BackupError::Write {
                path: path.to_owned(),
                source,
            },
        }
    }
}
