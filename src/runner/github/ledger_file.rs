//! What has to be known of a record when another process goes on with it: a file of the job.
//!
//! Runs on the runner. Its names are read by a later step, which may be another version of Belay.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::deployments::DeploymentTask;

/// Which deployment carries the statuses, as the input `deployment-record` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordPolicy {
    /// The one that Actions made for the job when there is one, else one of our own.
    #[default]
    Auto,
    /// Always one of our own.
    Create,
    /// Only the one that Actions made.
    Adopt,
    /// None: GitHub is not told.
    None,
}

/// What the record is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which deployment carries the statuses.
    pub record: RecordPolicy,
    /// What the deployment is for.
    pub task: DeploymentTask,
    /// The environment's name on GitHub.
    pub environment: String,
    /// Whether people use this environment directly; the replaced deployment is then retired by us.
    pub production: bool,
    /// The commit in full.
    pub sha: String,
    /// The version, by its tag.
    pub tag: String,
    /// The number of the release on the host, once it is known.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The workflow run.
    pub run_id: u64,
    /// Which attempt of it.
    pub run_attempt: u32,
    /// The page with the log, shown as "View logs".
    pub log_url: String,
}

/// What the file keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LedgerState {
    #[serde(flatten)]
    pub(super) opening: Opening,
    pub(super) deployment_id: Option<u64>,
    /// The deployment that was live before.
    pub(super) live: Option<u64>,
    pub(super) finished: bool,
}

impl LedgerState {
    /// Of a record of which nothing was told yet.
    pub(super) fn new(opening: Opening) -> Self {
        Self {
            opening,
            deployment_id: None,
            live: None,
            finished: false,
        }
    }

    /// What another process kept; `None` when there is no file.
    pub(super) fn read(file: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(serde_json::from_slice(&bytes?)?)),
        }
    }

    /// Keeps it. Readers see the old text or the new one.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let dir = file
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut aside = tempfile::NamedTempFile::new_in(dir)?;
        serde_json::to_writer(&mut aside, self)?;
        aside.persist(file).map_err(|error| error.error)?;
        Ok(())
    }
}
