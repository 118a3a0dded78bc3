//! The configurations that the nginx services of a release mount, as they will be when it serves.
//!
//! Runs on the host, for Fetch. Reads only: a file that the release brings from its own directory, any other from where it
//! lies. What cannot be read, or is no text of a usual size, is left out; nginx itself has the last word about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::StepContext;
use belay_model::composition::compose::{ComposeFile, MountSource};
use belay_model::versions::release::Release;

/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

/// The texts, by service.
pub(super) fn nginx_texts(
    work: &StepContext<'_>,
    release: &Release,
    file: &ComposeFile,
) -> BTreeMap<String, Vec<String>> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mount in file.mounts() {
        let MountSource::Bind(source) = &mount.source else {
            continue;
        };
        let is_nginx = |service: &&String| file.image(service).is_some_and(|i| i.contains("nginx"));
        for service in mount.services.iter().filter(is_nginx) {
            let found = texts.entry(service.clone()).or_default();
            found.extend(read_below(work, release, Path::new(source)));
        }
    }
    texts
}

/// The text at a path, or those in a directory.
fn read_below(work: &StepContext<'_>, release: &Release, source: &Path) -> Vec<String> {
    let brought = source.strip_prefix(work.layout.root()).ok();
    let brought = brought.map(|path| work.layout.release(&release.name).files().join(path));
    let places: Vec<PathBuf> = brought.into_iter().chain([source.to_owned()]).collect();
    let Some(place) = places.into_iter().find(|place| place.exists()) else {
        return vec![];
    };
    let Ok(entries) = fs::read_dir(&place) else {
        return read(&place).into_iter().collect();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    (size <= LARGEST)
        .then(|| fs::read_to_string(path).ok())
        .flatten()
}
