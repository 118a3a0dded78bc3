//! Files of Belay's own on the host: read whole or not there, written whole or not at all.
//!
//! Runs on the host. Reading never changes anything; writing goes through [`durable`], so a crash leaves the old file or the
//! new one. A record in JSON ends with its seal, the SHA-256 of what comes before, so that a flipped byte is found rather
//! than believed; one of an earlier version has none, and no newline at its end either. What cannot be found out again has
//! a second copy below [`Layout::spares`], which is read where the first one cannot be.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::durable;
use super::layout::Layout;
use belay_model::digest::sha256;

/// Comes between a record and the digest that seals it.
const SEAL: &str = ",\n  \"seal\": \"";
/// Comes after the digest. The newline tells a sealed record from one of an earlier version.
const SEALED: &str = "\"\n}\n";

/// What a person is told to do about what no contact does by itself.
pub(crate) const WAY_ON: &str =
    "run `belay repair`: it sets damaged files aside and rebuilds what they said";

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
    /// It was changed after it was written.
    #[error("{path} is damaged: its seal does not fit it")]
    Seal {
        /// The file.
        path: String,
    },
}

impl RecordError {
    /// Whether the file is not as it was written, or not there to be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            RecordError::Read { .. } | RecordError::Format { .. } | RecordError::Seal { .. } => {
                true
            }
            RecordError::Write { .. } => false,
        }
    }
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
    read_optional(path)?
        .map(|bytes| parse(path, &bytes))
        .transpose()
}

/// Reads a record from its file, or from its spare where that cannot be read.
pub fn read_spared<T: DeserializeOwned>(
    layout: &Layout,
    path: &Path,
) -> Result<Option<T>, RecordError> {
    match read_json(path) {
        Ok(Some(value)) => Ok(Some(value)),
        first => match layout.spare(path).map(|spare| read_json(&spare)) {
            Some(Ok(Some(value))) => Ok(Some(value)),
            _ => first,
        },
    }
}

/// Makes a record of its bytes, once its seal is found whole.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, RecordError> {
    let damaged = || RecordError::Seal {
        path: path.display().to_string(),
    };
    let record = unsealed(bytes).ok_or_else(damaged)?;
    serde_json::from_slice(&record).map_err(|source| RecordError::Format {
        path: path.display().to_string(),
        source,
    })
}

/// A record without its seal; nothing when that does not fit it.
fn unsealed(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !bytes.ends_with(b"}\n") {
        return Some(Cow::Borrowed(bytes));
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let (record, seal) = text.strip_suffix(SEALED)?.rsplit_once(SEAL)?;
    (sha256(record.as_bytes()) == seal).then(|| Cow::Owned(format!("{record}\n}}").into_bytes()))
}

/// A record's bytes: JSON, and its seal as the last field.
fn sealed<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(match text.strip_suffix("\n}") {
        Some(record) => {
            let seal = sha256(record.as_bytes());
            format!("{record}{SEAL}{seal}{SEALED}").into_bytes()
        }
        // Nothing is in it that could be damaged.
        None => text.into_bytes(),
    })
}

/// Writes a record as JSON, sealed.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let text = sealed(value)
        .map_err(io::Error::other)
        .map_err(write_error(path))?;
    write(path, &text, 0o600)
}

/// Writes a record as JSON, and its spare.
pub fn write_json_spared<T: Serialize>(
    layout: &Layout,
    path: &Path,
    value: &T,
) -> Result<(), RecordError> {
    let text = sealed(value)
        .map_err(io::Error::other)
        .map_err(write_error(path))?;
    write_spared(layout, path, &text, 0o600)
}

/// Writes a file whole, and its spare after it: the first one is what counts.
pub fn write_spared(
    layout: &Layout,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), RecordError> {
    write(path, bytes, mode)?;
    write_spare(layout, path, bytes, mode)
}

/// Writes the spare of a file that has one.
pub(super) fn write_spare(
    layout: &Layout,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<(), RecordError> {
    let Some(spare) = layout.spare(path) else {
        return Ok(());
    };
    if let Some(dir) = spare.parent() {
        make_dir(dir)?;
    }
    write(&spare, bytes, mode)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        sealed(&serde_json::json!({"environment": "production", "seq": 7})).expect("JSON")
    }

    fn value(bytes: &[u8]) -> Result<serde_json::Value, RecordError> {
        parse(Path::new("current"), bytes)
    }

    #[test]
    fn a_sealed_record_is_read_without_its_seal() {
        let read = value(&record()).expect("whole");
        assert_eq!(
            read,
            serde_json::json!({"environment": "production", "seq": 7})
        );
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let older = serde_json::to_vec_pretty(&serde_json::json!({"seq": 7})).expect("JSON");
        assert_eq!(value(&older).expect("whole"), serde_json::json!({"seq": 7}));
    }

    #[test]
    fn no_flipped_bit_of_a_record_is_believed() {
        let whole = record();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(value(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_record_that_was_cut_is_not_believed() {
        let whole = record();
        // Without its last newline nothing of it is missing.
        for end in 0..whole.len() - 1 {
            assert!(value(&whole[..end]).is_err(), "{end}");
        }
    }
}
