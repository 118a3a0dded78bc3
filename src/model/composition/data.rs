//! An application's data: where it is, and what of it a transaction puts back.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Paths of a host that are interfaces of the kernel or of Docker, not data.
const NOT_DATA: [&str; 7] = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/etc/localtime",
    "/var/lib/docker",
];

/// Whether a path of a host can hold an application's data. By their names alone sockets hold none.
#[must_use]
pub fn is_data(path: &str) -> bool {
    let place = Path::new(path);
    place != Path::new("/")
        && !NOT_DATA.iter().any(|system| place.starts_with(system))
        && path.strip_suffix(".sock").is_none()
}

/// Where data is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// A named volume, by the name that the engine has for it.
    Volume {
        /// With the project's prefix, unless the volume is external or sets its own `name`.
        name: String,
    },
    /// A file or directory of the host, absolute.
    Bind {
        /// On the host, not in a container.
        path: PathBuf,
    },
}

impl DataKind {
    /// Whether it is a volume for which nobody had a name, so that it bears one of Docker's own.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        match self {
            DataKind::Volume { name } => {
                name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
            }
            DataKind::Bind { .. } => false,
        }
    }
}

impl std::fmt::Display for DataKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DataKind::Volume { name } => write!(f, "volume {name}"),
            DataKind::Bind { path } => write!(f, "{}", path.display()),
        }
    }
}

/// The data that a transaction puts back, as its preflight found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoration {
    /// The backup that it comes from.
    pub backup: String,
    /// The volumes and bind mounts that it brings back; all others keep their data.
    pub sources: Vec<RestoredSource>,
}

/// One volume or bind mount that is put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredSource {
    /// Where the data goes.
    pub kind: DataKind,
    /// Where it is in the backup's archive.
    pub path: String,
    /// It is a single file, not a directory.
    pub is_file: bool,
}
