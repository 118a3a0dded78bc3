//! The backups that a host has: lists them, removes them, sweeps up after a crash, and tells what the next may take.
//!
//! Runs on the host. What has no manifest is no backup. Removal takes the manifest first, so that what is left of an
//! interrupted one is swept and never listed.

use std::fs;
use std::io;
use std::path::Path;

use super::config_copy::ConfigWalk;
use super::manifest::{BackupManifest, images_text};
use super::names::{BackupName, Found, recognise};
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
            Found::Archive(_) | Found::Images(_) | Found::Unfinished | Found::Foreign => None,
        })
        .collect();
    // Several backups of one transaction follow in the order in which they were made.
    entries.sort_by(|a, b| {
        let key = |e: &BackupEntry| (e.manifest.seq, e.manifest.created, e.name.len());
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    entries
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
        Ok(metadata) if metadata.len() == size => None,
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

/// Removes what crashes left: unfinished files, and files without a manifest. `underway` are backups that an open
/// journal refers to. Returns the names of the files that were removed.
pub fn sweep(root: &Path, underway: &[BackupName]) -> Result<Vec<String>, BackupError> {
    let dir = root.join(super::names::BACKUPS);
    let mut swept = vec![];
    durable::settle(&dir).map_err(|error| BackupError::writing(&dir, error))?;
    for (file, found) in names(root) {
        let garbage = match &found {
            Found::Archive(name) | Found::Images(name) => {
                !underway.contains(name) && fs::symlink_metadata(name.files(root).manifest).is_err()
            }
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

/// Removes a backup, the manifest first. One that is gone is fine.
pub fn remove(root: &Path, name: &BackupName) -> Result<(), BackupError> {
    for path in name.files(root).all() {
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
