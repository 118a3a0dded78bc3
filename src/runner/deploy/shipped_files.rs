//! The files that go to the host with the plan: the Compose file, and what `files:` of belay.yml names.

use std::path::Path;

use base64::Engine as _;

use super::error::DeployError;
use belay_model::config::Settings;
use belay_model::transaction::plan::ShippedFile;

/// Most that all shipped files together may weigh, in bytes: they travel inside the plan, and the host keeps them with
/// each release.
const SHIPPED_LIMIT: usize = 16 * 1024 * 1024;

/// The last part of a path; empty for a path without one.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The Compose file and everything that belay.yml ships beside it.
pub(super) fn shipped_files(
    dir: &Path,
    compose: &Path,
    settings: &Settings,
) -> Result<Vec<ShippedFile>, DeployError> {
    let mut files = vec![shipped(compose, &file_name(compose), Placed::InRelease)?];
    for file in &settings.files {
        ship_path(&dir.join(file.from.as_str()), file.to.as_str(), &mut files)?;
    }
    let weight: usize = files.iter().map(|f| f.base64.len() / 4 * 3).sum();
    match weight > SHIPPED_LIMIT {
        true => Err(DeployError::FilesTooLarge { bytes: weight }),
        false => Ok(files),
    }
}

/// A file, or everything in a directory, in an order that does not depend on the machine.
fn ship_path(from: &Path, to: &str, files: &mut Vec<ShippedFile>) -> Result<(), DeployError> {
    if !from.is_dir() {
        files.push(shipped(from, to, Placed::InRoot)?);
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(from)
        .and_then(Iterator::collect)
        .map_err(unreadable(from))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let to = format!("{to}/{}", name.to_string_lossy());
        ship_path(&entry.path(), &to, files)?;
    }
    Ok(())
}

/// Where a file is put on the host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// With the release only: the host writes its own form of it into the root.
    InRelease,
    /// Into the application's root as well.
    InRoot,
}

fn shipped(from: &Path, to: &str, placed: Placed) -> Result<ShippedFile, DeployError> {
    use std::os::unix::fs::PermissionsExt;
    let bytes = std::fs::read(from).map_err(unreadable(from))?;
    let about = std::fs::metadata(from).map_err(unreadable(from))?;
    Ok(ShippedFile {
        path: to.to_owned(),
        mode: about.permissions().mode() & 0o777,
        placed: placed == Placed::InRoot,
        base64: base64::engine::general_purpose::STANDARD.encode(bytes),
    })
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> DeployError + '_ {
    |source| DeployError::File {
        path: path.to_owned(),
        source,
    }
}
