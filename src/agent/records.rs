//! Files of Belay's own on the host: read whole or not there, written whole or not at all.
//!
//! Runs on the host. Reading never changes anything; writing goes through [`durable`], so a crash leaves the old file or the
//! new one.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::durable;
use super::layout::Layout;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system does not let it be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system does not let it be written.
    #[error("could not write {path}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else has written it, or another version of Belay.
    #[error("{path} is not what Belay wrote there")]
    Format {
        /// The file.
        path: String,
        /// Where it is different.
        #[source]
        source: serde_json::Error,
    },
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.display().to_string();
    move |source| RecordError::Read { path, source }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.display().to_string();
    move |source| RecordError::Write { path, source }
}

/// Reads a file that may not be there.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read_error(path)(error)),
    }
}

/// Reads a record that may not be there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let Some(bytes) = read_optional(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes).map_err(|source| RecordError::Format {
        path: path.display().to_string(),
        source,
    })?;
    Ok(Some(value))
}

/// Writes a record as JSON.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(io::Error::other)
        .map_err(write_error(path))?;
    write(path, &text, 0o600)
}

/// Writes a file whole.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), RecordError> {
    durable::replace(path, bytes, mode).map_err(write_error(path))
}

/// Removes a file that may be gone already. It stays gone, whatever happens to the machine.
pub fn remove(path: &Path) -> Result<(), RecordError> {
    durable::remove(path).map_err(write_error(path))
}

/// Removes a directory that may be gone already, with all that is in it.
pub fn remove_dir(path: &Path) -> Result<(), RecordError> {
    durable::remove_tree(path).map_err(write_error(path))
}

/// Makes durable which names a directory has now ([`durable::settle`]).
pub(crate) fn settle(dir: &Path) -> Result<(), RecordError> {
    durable::settle(dir).map_err(write_error(dir))
}

/// Makes a directory that only its owner may enter.
pub fn make_dir(path: &Path) -> Result<(), RecordError> {
    durable::make_dirs(path, 0o700).map_err(write_error(path))
}

/// The names in a directory that may not be there.
pub fn names(dir: &Path) -> Result<Vec<String>, RecordError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(read_error(dir)(error)),
    };
    let mut names = vec![];
    for entry in entries {
        names.extend(entry.map_err(read_error(dir))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// The number of the last transaction; 0 before the first.
pub fn seq(layout: &Layout) -> Result<u64, RecordError> {
    let path = layout.seq();
    let Some(bytes) = read_optional(&path)? else {
        return Ok(0);
    };
    String::from_utf8_lossy(&bytes)
        .trim()
        .parse()
        .map_err(|e| read_error(&path)(io::Error::new(io::ErrorKind::InvalidData, e)))
}
