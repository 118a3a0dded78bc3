//! The files that a release puts beside the Compose file, and what they displace.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;

use super::StepContext;
use crate::durable::{self, is_there};
use crate::error::AgentError;
use crate::records;
use belay_model::digest::sha256;
use belay_model::transaction::plan::ShippedFile;
use belay_model::versions::release::Release;

/// What a file holds that the runner sent with the plan.
pub(super) fn content(file: &ShippedFile) -> Result<Vec<u8>, AgentError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(&file.base64);
    decoded
        .map_err(|e| AgentError::doing(format!("the file {} did not arrive whole", file.path), e))
}

/// Keeps a copy of what stands where the release's files will go. What is already kept stays: after a crash the root may
/// hold the new files.
pub(super) fn keep_displaced(work: &StepContext<'_>, release: &Release) -> Result<(), AgentError> {
    let kept = work.layout.displaced(work.seq()?);
    let finished = kept.join(".complete");
    if finished.exists() {
        return Ok(());
    }
    for file in &release.files {
        work.may_act()?;
        keep(work.layout.root(), &kept, Path::new(&file.path))?;
    }
    work.may_act()?;
    records::make_dir(&kept)?;
    durable::replace(&finished, b"", 0o600).map_err(|e| fail("keep", &finished, e))
}

/// Keeps what stands at one path, and which of the directories above it are there already.
fn keep(root: &Path, kept: &Path, path: &Path) -> Result<(), AgentError> {
    for dir in path.ancestors().skip(1) {
        let there = root.join(dir);
        if there.is_dir() {
            records::make_dir(&kept.join(dir))?;
        } else if is_there(&there) {
            return Err(in_the_way(&there));
        }
    }
    let from = root.join(path);
    if from.is_dir() {
        return Err(in_the_way(&from));
    }
    if is_there(&from) {
        copy(&from, &kept.join(path)).map_err(|e| fail("keep", &from, e))?;
    }
    Ok(())
}

fn in_the_way(path: &Path) -> AgentError {
    AgentError::new(format!(
        "{} stands where the release has something else to place",
        path.display()
    ))
    .next("move it away on the host, or change the file's place in the repository")
}

/// Puts the release's files under the root.
pub(super) fn place(work: &StepContext<'_>, release: &Release) -> Result<(), AgentError> {
    let source = work.layout.release(&release.name).files();
    for file in &release.files {
        let to = work.layout.root().join(&file.path);
        work.may_act()?;
        copy(&source.join(&file.path), &to).map_err(|e| fail("place", &to, e))?;
    }
    Ok(())
}

/// Puts back what the release's files displaced, and removes those that displaced nothing.
pub(super) fn put_back(work: &StepContext<'_>, release: &Release) -> Result<(), AgentError> {
    let kept = work.layout.displaced(work.seq()?);
    if !kept.join(".complete").exists() {
        // Nothing was placed before everything was kept.
        return Ok(());
    }
    for file in &release.files {
        let to = work.layout.root().join(&file.path);
        let from = kept.join(&file.path);
        work.may_act()?;
        if let Some(dir) = to.parent() {
            // A crash while the file was placed.
            durable::sweep(dir).map_err(|e| fail("tidy", dir, e))?;
        }
        if is_there(&from) {
            copy(&from, &to).map_err(|e| fail("put back", &to, e))?;
        } else {
            records::remove(&to)?;
            remove_new_parents(work.layout.root(), &kept, Path::new(&file.path));
        }
    }
    Ok(())
}

/// Checks that a release's own copies are what its record says.
pub(super) fn verify(work: &StepContext<'_>, release: &Release) -> Result<(), AgentError> {
    let layout = work.layout.release(&release.name);
    check_hash(&layout.compose(), &release.compose_sha256)?;
    for file in &release.files {
        check_hash(&layout.files().join(&file.path), &file.sha256)?;
    }
    Ok(())
}

fn check_hash(path: &Path, expected: &str) -> Result<(), AgentError> {
    let bytes = fs::read(path).map_err(|e| fail("read", path, e))?;
    if sha256(&bytes) == expected {
        return Ok(());
    }
    Err(AgentError::new(format!(
        "{} was changed since the release was made",
        path.display()
    ))
    .next("restore that file, or choose another version"))
}

/// Copies a file with its mode, or a link as a link.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        durable::make_dirs(parent, 0o777)?;
    }
    let data = fs::symlink_metadata(from)?;
    if data.is_symlink() {
        return durable::replace_link(to, &fs::read_link(from)?);
    }
    durable::replace(to, &fs::read(from)?, data.permissions().mode() & 0o7777)
}

/// Removes the directories above a path that were not there before and are empty again.
fn remove_new_parents(root: &Path, kept: &Path, path: &Path) {
    for dir in path.ancestors().skip(1) {
        // Stops by itself at the first directory that is not empty.
        if kept.join(dir).is_dir() || durable::remove_dir(&root.join(dir)).is_err() {
            return;
        }
    }
}

fn fail(what: &str, path: &Path, error: io::Error) -> AgentError {
    AgentError::doing(format!("could not {what} {}", path.display()), error)
}
