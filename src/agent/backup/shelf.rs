//! The backups that a host has: lists them, removes them, sweeps up after a crash, and tells what the next may take.
//!
//! Runs on the host. What has no manifest is no backup, and may be somebody's: it is told of and left alone. Removal puts
//! the manifest aside first, so that what is left of an interrupted one is known as Belay's, swept and never listed.

use std::fs;
use std::io;
use std::path::Path;

use super::config_copy::ConfigWalk;
use super::manifest::{BackupManifest, images_text};
use super::names::{BackupName, Found, file_name, recognise};
use super::read::{VerifyError, read_manifest};
use super::{BackupError, BackupRequest, DataKind, DataReader, ReadError};
use crate::durable;
use crate::sizes::wide;

/// What tar adds to a file, at the most, when its name is short.
const ENTRY_OVERHEAD: u64 = 1024;
/// What the archive takes beside its contents.
const FIXED_OVERHEAD: u64 = 256 * 1024;

/// A backup that the host has.
#[derive(Clone, Debug)]
pub struct BackupEntry {
    /// Without the ending of a file.
    pub name: String,
    /// Read, but not compared with the archive.
    pub manifest: BackupManifest,
    /// What a quick look found wrong with it: its manifest's seal, or a file that is missing or of another size. For a
    /// thorough look there is [`verify`](super::verify).
    pub problem: Option<String>,
}

/// Every backup under a root, the newest transaction's last.
#[must_use]
pub fn list(root: &Path) -> Vec<BackupEntry> {
    let mut entries: Vec<BackupEntry> = names(root)
        .into_iter()
        .filter_map(|(_, found)| match found {
            Found::Manifest(name) => entry(root, &name),
            Found::Archive(_)
            | Found::Images(_)
            | Found::Unfinished
            | Found::Unpublished(_)
            | Found::Foreign => None,
        })
        .collect();
    // Several backups of one transaction follow in the order in which they were made.
    entries.sort_by(|a, b| {
        let key = |e: &BackupEntry| (e.manifest.seq, e.manifest.created, e.name.len());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    entries
}

/// Files that are named like those of a backup, and no manifest that can be read says what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// By which it would be found.
    pub name: BackupName,
    /// Of the archive; 0 where there is none.
    pub bytes: u64,
    /// Why it is none that counts.
    pub why: String,
}

/// Everything that looks like a backup and has no manifest, or one that cannot be read. It counts for nothing, and nothing
/// of Belay's removes it.
#[must_use]
pub fn unrecorded(root: &Path) -> Vec<Unrecorded> {
    let mut found: Vec<Unrecorded> = vec![];
    for (_, file) in names(root) {
        let (Found::Archive(name) | Found::Images(name) | Found::Manifest(name)) = file else {
            continue;
        };
        let files = name.files(root);
        let is_known = found.iter().any(|known| known.name == name);
        if is_known || durable::is_there(&files.unpublished) || entry(root, &name).is_some() {
            continue;
        }
        let archive = fs::metadata(&files.archive);
        found.push(Unrecorded {
            bytes: archive.as_ref().map_or(0, fs::Metadata::len),
            why: match (durable::is_there(&files.manifest), archive.is_ok()) {
                (true, _) => format!("{} cannot be read", file_name(&files.manifest)),
                (false, true) => format!("{} is missing", file_name(&files.manifest)),
                (false, false) => format!("{} is missing", file_name(&files.archive)),
            },
            name,
        });
    }
    found.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    found
}

fn entry(root: &Path, name: &BackupName) -> Option<BackupEntry> {
    let files = name.files(root);
    let (manifest, problem) = match read_manifest(name, &files) {
        Ok(manifest) => {
            let problem = wrong_size(&files.archive, manifest.archive.size)
                .or_else(|| wrong_size(&files.images, manifest.images_file.size));
            (manifest, problem)
        }
        // One that still says what it is about is listed with what is wrong with it.
        Err(error) => {
            let manifest = BackupManifest::parse_unsealed(&fs::read(&files.manifest).ok()?).ok()?;
            (manifest, Some(worded(&error)))
        }
    };
    Some(BackupEntry {
        name: name.to_string(),
        manifest,
        problem,
    })
}

fn worded(error: &VerifyError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn wrong_size(path: &Path, size: u64) -> Option<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() == size => {
            let unreadable = fs::File::open(path).err();
            unreadable.map(|error| format!("{name} cannot be read: {error}"))
        }
        Ok(metadata) => Some(format!(
            "{name} has {} bytes instead of {size}",
            metadata.len()
        )),
        Err(_) => Some(format!("{name} is missing")),
    }
}

/// The files in the directory of backups.
fn names(root: &Path) -> Vec<(String, Found)> {
    let dir = root.join(super::names::BACKUPS);
    let Ok(entries) = fs::read_dir(dir) else {
        return vec![];
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .map(|name| {
            let found = recognise(&name);
            (name, found)
        })
        .collect()
}

/// Removes what crashes left, as far as it is Belay's own beyond doubt: files whose names say that they are not finished,
/// and those of a backup that was being published or removed. `underway` are backups that an open journal refers to.
/// Returns the names of the files that were removed.
pub fn sweep(root: &Path, underway: &[BackupName]) -> Result<Vec<String>, BackupError> {
    let dir = root.join(super::names::BACKUPS);
    let mut swept = vec![];
    durable::settle(&dir).map_err(|error| BackupError::writing(&dir, error))?;
    let mut files = names(root);
    // What says that the others are unfinished goes last.
    files.sort_by_key(|(_, found)| matches!(found, Found::Unpublished(_)));
    for (file, found) in files {
        let garbage = match &found {
            Found::Archive(name) | Found::Images(name) => {
                let files = name.files(root);
                !underway.contains(name)
                    && !durable::is_there(&files.manifest)
                    && durable::is_there(&files.unpublished)
            }
            Found::Unpublished(name) => !underway.contains(name),
            Found::Unfinished => !underway
                .iter()
                .any(|name| file.starts_with(&format!("{name}."))),
            Found::Manifest(_) => false,
            Found::Foreign => durable::is_leftover(file.as_ref()),
        };
        if garbage {
            let path = dir.join(&file);
            durable::remove(&path).map_err(|error| BackupError::writing(&path, error))?;
            swept.push(file);
        }
    }
    Ok(swept)
}

/// Removes a backup. One that is gone is fine.
pub fn remove(root: &Path, name: &BackupName) -> Result<(), BackupError> {
    let files = name.files(root);
    if durable::is_there(&files.manifest) {
        durable::publish(&files.manifest, &files.unpublished)
            .map_err(|error| BackupError::writing(&files.manifest, error))?;
    }
    for path in files.all() {
        durable::remove(path).map_err(|error| BackupError::writing(path, error))?;
    }
    Ok(())
}

/// How many bytes a backup may take at the worst, as if nothing could be compressed.
///
/// What volumes hold is as the engine counts it, which is rough for very many very small files.
pub fn estimate(request: &BackupRequest<'_>, reader: &dyn DataReader) -> Result<u64, BackupError> {
    let images = wide(images_text(request.app, "", &request.images).len());
    let logs = request
        .limits
        .log_bytes
        .saturating_mul(wide(request.logs.len()));
    let mut total = FIXED_OVERHEAD + 2 * images + logs + config_size(request, reader)?;
    for source in &request.data {
        total = total.saturating_add(data_size(&source.kind, reader)?);
    }
    // Incompressible blocks, and the manifest.
    Ok(total.saturating_add(total / 50))
}

fn data_size(kind: &DataKind, reader: &dyn DataReader) -> Result<u64, BackupError> {
    match reader.size(kind) {
        Ok(size) => Ok(size),
        Err(ReadError::Absent) => Ok(0),
        Err(source) => Err(BackupError::Source {
            source_name: kind.to_string(),
            source,
        }),
    }
}

fn config_size(request: &BackupRequest<'_>, reader: &dyn DataReader) -> Result<u64, BackupError> {
    let walk = ConfigWalk::new(request);
    let top = walk.top().map_err(|source| BackupError::Config {
        path: walk.root.clone(),
        source,
    })?;
    let mut waiting = vec![top];
    let mut total = 0;
    while let Some(member) = waiting.pop() {
        total += ENTRY_OVERHEAD;
        if member.metadata.is_file() {
            total += member.metadata.len();
        } else if member.metadata.is_dir() {
            match walk.members(&member) {
                Ok(mut members) => waiting.append(&mut members),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    total += data_size(&DataKind::Bind { path: member.path }, reader)?;
                }
                Err(source) => {
                    return Err(BackupError::Config {
                        path: member.path,
                        source,
                    });
                }
            }
        }
    }
    Ok(total)
}

/// What is free for this user on the file system that holds `path`, in bytes.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
