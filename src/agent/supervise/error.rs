//! Why no supervisor could be installed.

use std::io;
use std::path::PathBuf;

use crate::host::HostError;

/// A supervisor that the machine has, and that could not be installed. It becomes one line of the journal, so each of these
/// says its cause itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    /// Units and crontabs are lines; a path with a line break, or one that is no text, cannot be in one.
    #[error("the root's path cannot be written into a unit or a crontab")]
    Root,
    /// The script that they all start.
    #[error("could not write the script: {0}")]
    Script(#[source] io::Error),
    /// A unit's file.
    #[error("could not write {}: {source}", path.display())]
    Unit {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text that `crontab` was to read.
    #[error("{0}")]
    Crontab(#[source] io::Error),
    /// `loginctl` ended well, and the user's units still wait for a login.
    #[error("the user's units only run while the user is logged in")]
    NoLinger,
    /// One of the machine's programs failed.
    #[error(transparent)]
    Program(#[from] HostError),
}
