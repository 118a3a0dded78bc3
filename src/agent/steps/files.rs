//! The files that a release puts beside the Compose file, and what they displace.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Work;
use crate::agent::{durable, state};
use crate::model::compose::sha256;
use crate::model::outcome::Failure;
use crate::model::release::Release;

/// Keeps a copy of what stands where the release's files will go. What is already kept stays: after a crash the root may
/// hold the new files.
pub(super) fn keep_displaced(work: &Work<'_>, release: &Release) -> Result<(), Failure> {
    let kept = work.layout.displaced(work.seq()?);
    let finished = kept.join(".complete");
    if finished.exists() {
        return Ok(());
    }
    for file in &release.files {
        let from = work.layout.root().join(&file.path);
        if from.is_file() {
            copy(&from, &kept.join(&file.path)).map_err(|e| fail("keep", &from, &e))?;
        }
    }
    state::make_dir(&kept).map_err(|e| Failure::of(&e))?;
    durable::replace(&finished, b"", 0o600).map_err(|e| fail("keep", &finished, &e))
}

/// Puts the release's files under the root.
pub(super) fn place(work: &Work<'_>, release: &Release) -> Result<(), Failure> {
    let source = work.layout.release(&release.name).files();
    for file in &release.files {
        let to = work.layout.root().join(&file.path);
        copy(&source.join(&file.path), &to).map_err(|e| fail("place", &to, &e))?;
    }
    Ok(())
}

/// Puts back what the release's files displaced, and removes those that displaced nothing.
pub(super) fn put_back(work: &Work<'_>, release: &Release) -> Result<(), Failure> {
    let kept = work.layout.displaced(work.seq()?);
    if !kept.join(".complete").exists() {
        // Nothing was placed before everything was kept.
        return Ok(());
    }
    for file in &release.files {
        let to = work.layout.root().join(&file.path);
        let from = kept.join(&file.path);
        if from.exists() {
            copy(&from, &to).map_err(|e| fail("put back", &to, &e))?;
        } else {
            state::remove(&to).map_err(|e| Failure::of(&e))?;
            remove_empty_parents(&to, work.layout.root());
        }
    }
    Ok(())
}

/// Checks that a release's own copies are what its record says.
pub(super) fn verify(work: &Work<'_>, release: &Release) -> Result<(), Failure> {
    let layout = work.layout.release(&release.name);
    check_hash(&layout.compose(), &release.compose_sha256)?;
    for file in &release.files {
        check_hash(&layout.files().join(&file.path), &file.sha256)?;
    }
    Ok(())
}

fn check_hash(path: &Path, expected: &str) -> Result<(), Failure> {
    let bytes = fs::read(path).map_err(|e| fail("read", path, &e))?;
    if sha256(&bytes) == expected {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} was changed since the release was made",
        path.display()
    ))
    .next("restore that file, or choose another version"))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = fs::metadata(from)?.permissions().mode() & 0o7777;
    durable::replace(to, &fs::read(from)?, mode)
}

fn remove_empty_parents(path: &Path, root: &Path) {
    let mut parent: Option<PathBuf> = path.parent().map(Path::to_path_buf);
    while let Some(dir) = parent {
        // Stops by itself at the first directory that is not empty.
        if dir == root || fs::remove_dir(&dir).is_err() {
            return;
        }
        parent = dir.parent().map(Path::to_path_buf);
    }
}

fn fail(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("could not {what} {}: {error}", path.display()))
}
