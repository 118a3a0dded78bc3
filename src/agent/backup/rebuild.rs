//! Makes the manifest of a backup again from its archive, which says what it is in `backup.json`.
//!
//! Runs on the host, when a person asks for a repair. The archive is read whole, by the same checked reader as ever; what
//! its own checksum and form do not show, nothing could.

use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::BackupLimits;
use super::checked::{Budget, CheckedReader};
use super::manifest::{
    BackupManifest, FileRecord, ImageRecord, LeftOut, ManifestError, Reason, SCHEMA, SourceRecord,
    tag_of,
};
use super::names::{BackupName, file_name};
use super::read::{
    Hashing, MOST_IN_MEMORY, VerifyError, check_file, damaged, open, read_manifest, record_of,
    tar_error,
};
use crate::durable;
use crate::sizes::wide;
use belay_model::digest::hex;

/// What the archive says about itself.
#[derive(Deserialize)]
struct Description {
    schema: u32,
    belay: String,
    name: String,
    app: String,
    seq: u64,
    created: Timestamp,
    reason: Reason,
    release: Option<String>,
    revision: Option<String>,
    images: Vec<ImageRecord>,
    sources: Vec<SourceRecord>,
    left_out: Vec<LeftOut>,
}

/// What of a backup can be written again from its archive.
pub struct Rebuilt {
    /// The manifest's bytes, sealed; none where the one that is there is whole.
    manifest: Option<Vec<u8>>,
    /// The names of images.
    images: Vec<u8>,
}

/// Reads a backup's archive whole, for what is missing or damaged beside it. Nothing is changed.
pub fn reconstruct(root: &Path, name: &BackupName) -> Result<Rebuilt, VerifyError> {
    let files = name.files(root);
    let found = read_archive(&files.archive, name)?;
    let Ok(manifest) = read_manifest(name, &files) else {
        return Ok(found);
    };
    let hash = hex(&Sha256::digest(&found.images));
    if hash == manifest.images_file.sha256 {
        return Ok(Rebuilt {
            manifest: None,
            images: found.images,
        });
    }
    Err(damaged(&files.archive, "it is not the manifest's"))
}

/// Writes what was reconstructed, the manifest last.
pub fn put_back(root: &Path, name: &BackupName, rebuilt: &Rebuilt) -> Result<(), VerifyError> {
    let files = name.files(root);
    let put = |path: &Path, bytes: &[u8]| {
        durable::replace(path, bytes, 0o600).map_err(|source| VerifyError::Write {
            path: path.to_owned(),
            source,
        })
    };
    put(&files.images, &rebuilt.images)?;
    rebuilt
        .manifest
        .as_ref()
        .map_or(Ok(()), |bytes| put(&files.manifest, bytes))
}

/// Files of a backup that are there and are not what they should be: they are set aside before others take their places.
#[must_use]
pub fn in_the_way(root: &Path, name: &BackupName) -> Vec<std::path::PathBuf> {
    let files = name.files(root);
    let Ok(manifest) = read_manifest(name, &files) else {
        let beside = [files.manifest, files.images];
        return beside
            .into_iter()
            .filter(|p| durable::is_there(p))
            .collect();
    };
    let is_wrong = check_file(&files.images, &manifest.images_file).is_err();
    match is_wrong && durable::is_there(&files.images) {
        true => vec![files.images],
        false => vec![],
    }
}

fn read_archive(path: &Path, name: &BackupName) -> Result<Rebuilt, VerifyError> {
    let file = open(path)?;
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    let input = Hashing::new(&file);
    let budget = Budget {
        entries: BackupLimits::default().entries,
        bytes: u64::MAX,
    };
    let mut tar = CheckedReader::new(MultiGzDecoder::new(BufReader::new(input)), budget);
    let (mut entries, mut about, mut images) = (vec![], None, None);
    while let Some(entry) = tar.next_entry().map_err(|error| tar_error(path, &error))? {
        let mut content = Hashing::new(tar.content());
        let wanted = match entry.path.as_slice() {
            b"backup.json" => Some(&mut about),
            b"images.txt" => Some(&mut images),
            _ => None,
        };
        if let Some(wanted) = wanted {
            let mut bytes = vec![];
            let most = (&mut content).take(MOST_IN_MEMORY).read_to_end(&mut bytes);
            most.map_err(|error| damaged(path, error.to_string()))?;
            *wanted = Some(bytes);
        }
        io::copy(&mut content, &mut io::sink())
            .map_err(|error| damaged(path, error.to_string()))?;
        entries.push(record_of(&entry, &content.hash.finalize()));
    }
    let gzip = tar.finish().map_err(|error| tar_error(path, &error))?;
    let mut rest = gzip.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(read)?;
    let archive = FileRecord {
        name: file_name(path),
        size: (&file).stream_position().map_err(read)?,
        sha256: hex(&rest.into_inner().hash.finalize()),
    };
    let missing = |what: &str| damaged(path, format!("{what} is not in it"));
    let about = about.ok_or_else(|| missing("backup.json"))?;
    let images = images.ok_or_else(|| missing("images.txt"))?;
    let unusable = |source| VerifyError::Manifest {
        name: name.to_string(),
        source,
    };
    let about: Description =
        serde_json::from_slice(&about).map_err(|e| unusable(ManifestError::Form(e)))?;
    if about.schema > SCHEMA {
        return Err(unusable(ManifestError::Newer(about.schema)));
    }
    if about.name != name.as_str() {
        return Err(damaged(path, format!("it is a copy of {}", about.name)));
    }
    let mut manifest = BackupManifest {
        schema: SCHEMA,
        belay: about.belay,
        name: about.name,
        app: about.app,
        seq: about.seq,
        created: about.created,
        reason: about.reason,
        tag: about.release.as_deref().and_then(tag_of),
        release: about.release,
        revision: about.revision,
        archive,
        images_file: FileRecord {
            name: file_name(&name.files(Path::new("")).images),
            size: wide(images.len()),
            sha256: hex(&Sha256::digest(&images)),
        },
        images: about.images,
        sources: about.sources,
        left_out: about.left_out,
        entries,
        seal: String::new(),
    };
    Ok(Rebuilt {
        manifest: Some(manifest.seal().map_err(unusable)?),
        images,
    })
}
