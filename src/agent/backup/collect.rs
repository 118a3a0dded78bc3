//! Brings the sources into the archive: the files under the root, then each volume and bind mount.
//!
//! Runs on the host. What could not be copied as it was is said in the source's record.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::archive::ArchiveWriter;
use super::config_copy::copy_config;
use super::data_copy::{bind_path, copy_data};
use super::manifest::{LeftOut, SourceKind, SourceRecord, SourceState};
use super::names::checked_part;
use super::{BackupError, BackupRequest, BackupSource, DataKind, DataReader};

/// What the sources came to.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) sources: Vec<SourceRecord>,
    pub(super) left_out: Vec<LeftOut>,
}

/// Copies every source of a request.
pub(super) fn collect(
    archive: &mut ArchiveWriter,
    request: &BackupRequest<'_>,
    reader: &dyn DataReader,
) -> Result<Collected, BackupError> {
    let mut collected = Collected::default();
    let config = copy_config(archive, request, reader, &mut collected.left_out)?;
    collected.sources.push(config);
    for (source, place, within) in placed(&request.data)? {
        let state = if let Some(path) = within {
            SourceState::Within { path }
        } else {
            archive.add_parents(&place, request.seconds())?;
            copy_data(
                archive,
                &source.kind,
                &place,
                source.consistency,
                reader,
                &mut collected.left_out,
            )?
        };
        collected.sources.push(SourceRecord {
            source: SourceKind::Data(source.kind.clone()),
            path: place,
            services: source.services.clone(),
            consistency: source.consistency,
            state,
        });
    }
    Ok(collected)
}

/// Each source once, with its place in the archive, and with the place of another source that holds it already.
fn placed(
    sources: &[BackupSource],
) -> Result<Vec<(BackupSource, String, Option<String>)>, BackupError> {
    let mut unique: BTreeMap<&DataKind, BackupSource> = BTreeMap::new();
    for source in sources {
        let known = unique.entry(&source.kind).or_insert_with(|| BackupSource {
            services: vec![],
            ..source.clone()
        });
        known.services.extend(source.services.iter().cloned());
        known.services.sort();
        known.services.dedup();
    }
    let paths: Vec<&Path> = unique.keys().filter_map(|kind| bind_path(kind)).collect();
    let holder = |kind: &DataKind| {
        let path = bind_path(kind)?;
        let above = paths
            .iter()
            .find(|other| **other != path && path.starts_with(other))?;
        Some(place_of_bind(above))
    };
    unique
        .values()
        .map(|source| {
            let place = place_of(&source.kind)?;
            let within = holder(&source.kind).transpose()?;
            Ok((source.clone(), place, within))
        })
        .collect()
}

fn place_of(kind: &DataKind) -> Result<String, BackupError> {
    match kind {
        DataKind::Volume { name } => Ok(format!("data/volumes/{}", checked_part(name)?)),
        DataKind::Bind { path } => place_of_bind(path),
    }
}

fn place_of_bind(path: &Path) -> Result<String, BackupError> {
    let bad = || BackupError::BadPath(path.to_owned());
    let mut place = "data/binds".to_owned();
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(bad());
    }
    for component in components {
        let Component::Normal(part) = component else {
            return Err(bad());
        };
        place.push('/');
        place.push_str(part.to_str().ok_or_else(bad)?);
    }
    if place == "data/binds" {
        Err(bad())
    } else {
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Consistency;

    fn bind(path: &str, service: &str) -> BackupSource {
        BackupSource {
            kind: DataKind::Bind { path: path.into() },
            services: vec![service.to_owned()],
            consistency: Consistency::Live,
        }
    }

    #[test]
    fn a_source_inside_another_is_not_saved_twice() {
        let sources = [
            bind("/srv/data/up", "web"),
            bind("/srv/data", "web"),
            bind("/srv/data", "worker"),
        ];
        let placed = placed(&sources).expect("placed");
        let found: Vec<(&str, usize, Option<&str>)> = placed
            .iter()
            .map(|(s, place, within)| (place.as_str(), s.services.len(), within.as_deref()))
            .collect();
        let wanted = [
            ("data/binds/srv/data", 2, None),
            ("data/binds/srv/data/up", 1, Some("data/binds/srv/data")),
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for path in ["data", "/", "/srv/../etc"] {
            assert!(place_of_bind(Path::new(path)).is_err(), "{path}");
        }
        for name in ["", "..", "a/b", ".hidden", "a b"] {
            assert!(
                place_of(&DataKind::Volume {
                    name: name.to_owned()
                })
                .is_err(),
                "{name}"
            );
        }
    }
}
