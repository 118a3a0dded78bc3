//! Makes a backup: writes it aside, reads it back, publishes it.
//!
//! Runs on the host. Until the manifest is renamed into place there is no backup; afterwards there is a whole one. When
//! anything fails, everything that was written is removed again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::archive::ArchiveWriter;
use super::collect::collect;
use super::manifest::{
    BackupManifest, FileRecord, ImageRecord, LeftOut, Reason, SCHEMA, SourceRecord, images_text,
    tag_of,
};
use super::names::file_name;
use super::names::{BackupFiles, BackupName, checked_part};
use super::read::check_archive;
use super::{BackupError, BackupRequest, DataReader, MadeBackup};
use crate::sizes::wide;
use crate::{disk, durable};
use belay_model::digest::hex;

/// Moments while a backup is made, in order. A test ends the process at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishPoint {
    /// The archive is written aside and synced.
    Written,
    /// It was read back and compared.
    Verified,
    /// The archive has its name.
    ArchivePlaced,
    /// The names of images have theirs.
    ImagesPlaced,
    /// The backup is published.
    ManifestPlaced,
}

impl PublishPoint {
    /// In their order.
    pub const ALL: [PublishPoint; 5] = [
        PublishPoint::Written,
        PublishPoint::Verified,
        PublishPoint::ArchivePlaced,
        PublishPoint::ImagesPlaced,
        PublishPoint::ManifestPlaced,
    ];
}

/// Makes, verifies and publishes a backup.
pub fn create(
    request: &BackupRequest<'_>,
    reader: &dyn DataReader,
) -> Result<MadeBackup, BackupError> {
    create_watched(request, reader, &mut |_| {})
}

/// As [`create`], and tells `watch` of each [`PublishPoint`].
pub fn create_watched(
    request: &BackupRequest<'_>,
    reader: &dyn DataReader,
    watch: &mut dyn FnMut(PublishPoint),
) -> Result<MadeBackup, BackupError> {
    let name = prepare(request)?;
    let draft = Draft {
        files: name.files(request.root),
        placing: false,
        kept: false,
    };
    let (mut manifest, images) = write_archive(request, &name, &draft.files, reader)?;
    watch(PublishPoint::Written);
    read_back(&draft.files.part, &manifest)?;
    watch(PublishPoint::Verified);
    let sealed = manifest.seal()?;
    reader.may_publish().map_err(|source| BackupError::Source {
        source_name: "the host's lock".to_owned(),
        source,
    })?;
    publish(draft, images.as_bytes(), &sealed, watch)?;
    let archive = name.files(request.root).archive;
    Ok(MadeBackup {
        name,
        archive,
        manifest,
    })
}

/// Makes the directory of backups, for its owner alone, and finds a name that is free.
fn prepare(request: &BackupRequest<'_>) -> Result<BackupName, BackupError> {
    let dir = BackupName::at(request.now, 1).files(request.root).dir;
    let failed = |error| BackupError::writing(&dir, error);
    match disk::make_dir(&dir, 0o700) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // It may be another user's, who shares it with us; the files in it are for their owner alone in any case.
            let _ = fs::set_permissions(&dir, Permissions::from_mode(0o700));
        }
        Err(error) => return Err(failed(error)),
        Ok(()) => {}
    }
    // Also when it was there: who made it may have been killed before it could do this.
    durable::sync_dir(request.root).map_err(failed)?;
    (1..=9999)
        .map(|n| BackupName::at(request.now, n))
        .find(|name| {
            name.files(request.root)
                .all()
                .iter()
                .all(|path| fs::symlink_metadata(path).is_err())
        })
        .ok_or(BackupError::NoName)
}

/// The files of a backup that is not published yet: removed again unless it is.
struct Draft {
    files: BackupFiles,
    /// Whether the names beside the part's are this backup's.
    placing: bool,
    kept: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            let part = self.files.part.as_path();
            for path in self
                .files
                .all()
                .into_iter()
                .filter(|path| self.placing || *path == part)
            {
                // The failure that led here is what counts; `sweep` tries again.
                let _ = durable::remove(path);
            }
        }
    }
}

/// Writes the archive aside, and returns its manifest, unsealed, and the list of images.
fn write_archive(
    request: &BackupRequest<'_>,
    name: &BackupName,
    files: &BackupFiles,
    reader: &dyn DataReader,
) -> Result<(BackupManifest, String), BackupError> {
    let file = durable::create_new(&files.part)
        .map_err(|error| BackupError::writing(&files.part, error))?;
    let mut archive = ArchiveWriter::new(file, files.part.clone(), request.limits.entries);
    let images = images_text(request.app, name.as_str(), &request.images);
    let now = request.seconds();
    archive.add_text("images.txt", images.as_bytes(), now)?;
    let mut collected = collect(&mut archive, request, reader)?;
    add_logs(&mut archive, request, reader, &mut collected.left_out)?;
    let facts = Description::of(request, name, &collected.sources, &collected.left_out);
    let facts = serde_json::to_vec_pretty(&facts).map_err(super::ManifestError::Form)?;
    archive.add_text("backup.json", &facts, now)?;
    let (written, entries) = archive.finish()?;
    let manifest = BackupManifest {
        schema: SCHEMA,
        belay: env!("CARGO_PKG_VERSION").to_owned(),
        name: name.to_string(),
        app: request.app.to_owned(),
        seq: request.seq,
        created: request.now,
        reason: request.reason.clone(),
        release: request.release.clone(),
        tag: request.release.as_deref().and_then(tag_of),
        revision: request.revision.clone(),
        archive: FileRecord {
            name: file_name(&files.archive),
            size: written.length,
            sha256: written.sha256,
        },
        images_file: FileRecord {
            name: file_name(&files.images),
            size: wide(images.len()),
            sha256: hex(&Sha256::digest(images.as_bytes())),
        },
        images: request.images.clone(),
        sources: collected.sources,
        left_out: collected.left_out,
        entries,
        seal: String::new(),
    };
    Ok((manifest, images))
}

/// What the archive says about itself, for when it travels alone.
#[derive(Serialize)]
struct Description<'a> {
    schema: u32,
    belay: &'a str,
    name: &'a str,
    app: &'a str,
    seq: u64,
    created: jiff::Timestamp,
    reason: &'a Reason,
    release: Option<&'a str>,
    revision: Option<&'a str>,
    images: &'a [ImageRecord],
    sources: &'a [SourceRecord],
    left_out: &'a [LeftOut],
}

impl<'a> Description<'a> {
    fn of(
        request: &'a BackupRequest<'_>,
        name: &'a BackupName,
        sources: &'a [SourceRecord],
        left_out: &'a [LeftOut],
    ) -> Description<'a> {
        Description {
            schema: SCHEMA,
            belay: env!("CARGO_PKG_VERSION"),
            name: name.as_str(),
            app: request.app,
            seq: request.seq,
            created: request.now,
            reason: &request.reason,
            release: request.release.as_deref(),
            revision: request.revision.as_deref(),
            images: &request.images,
            sources,
            left_out,
        }
    }
}

/// Adds each service's logs. Logs that cannot be had are no reason not to have a backup.
fn add_logs(
    archive: &mut ArchiveWriter,
    request: &BackupRequest<'_>,
    reader: &dyn DataReader,
    left_out: &mut Vec<LeftOut>,
) -> Result<(), BackupError> {
    for (service, source) in &request.logs {
        let path = format!("logs/{}.log", checked_part(service)?);
        match reader.logs(source, request.limits.log_bytes) {
            Ok(bytes) => {
                archive.add_parents(&path, request.seconds())?;
                archive.add_text(&path, &bytes, request.seconds())?;
            }
            Err(error) => left_out.push(LeftOut {
                path,
                why: error.to_string(),
            }),
        }
    }
    Ok(())
}

/// Reads what was written, from the disk rather than from memory, and compares it.
fn read_back(part: &Path, manifest: &BackupManifest) -> Result<(), BackupError> {
    let failed = |error| BackupError::writing(part, error);
    let file = File::open(part).map_err(failed)?;
    // Advice only: where the file system keeps no pages, there is nothing to drop.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    check_archive(&file, part, manifest, &mut |_, _| Ok(())).map_err(BackupError::ReadBack)
}

/// Renames the files into place, the manifest last. It is written aside first: an archive that has only that beside it is
/// known as unfinished, and one that has nothing as somebody's.
fn publish(
    mut draft: Draft,
    images: &[u8],
    manifest: &[u8],
    watch: &mut dyn FnMut(PublishPoint),
) -> Result<(), BackupError> {
    draft.placing = true;
    let files = &draft.files;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| BackupError::writing(&path, error)
    };
    durable::replace(&files.unpublished, manifest, 0o600).map_err(failed(&files.manifest))?;
    durable::publish(&files.part, &files.archive).map_err(failed(&files.archive))?;
    watch(PublishPoint::ArchivePlaced);
    durable::replace(&files.images, images, 0o600).map_err(failed(&files.images))?;
    watch(PublishPoint::ImagesPlaced);
    durable::publish(&files.unpublished, &files.manifest).map_err(failed(&files.manifest))?;
    watch(PublishPoint::ManifestPlaced);
    draft.kept = true;
    Ok(())
}
