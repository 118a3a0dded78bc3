//! Archives of images, as `docker save` and `GET /images/NAME/get` write them, read as they pass.
//!
//! Used on both sides: the runner sends them, and an engine with the containerd store is asked for what it keeps. They come
//! in two forms, told apart by what is in them: Docker's own (before Docker 25), and an OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>). Nothing is unpacked or kept on a disk.

#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        reason = "a test that panics has said what is wrong"
    )
)]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use belay_model::composition::image::{
    Documents, LARGEST_DOCUMENT, Naming, Packed, PackingError, closing_files,
};

/// All documents of one archive together, in bytes; more is no archive that a person made.
const MOST_DOCUMENTS: u64 = 64 * 1024 * 1024;

/// An archive that could not be read, or not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The sender stopped, or what came is not a tar archive. [`copy`] reports a failure to write here too.
    #[error("could not read the archive of the image")]
    Read(#[source] io::Error),
    /// From [`copy_only`] alone: the receiver took no more, or the sender stopped in the middle of a large file.
    #[error("could not pass the archive of the image on")]
    Write(#[source] io::Error),
    /// The archive was read, and the wanted image is not in it, is unreadable, or is made for another platform.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// Its documents together exceed 64 MiB; they are all kept in memory.
    #[error("the archive of the image is more than an archive should be")]
    TooMuch,
    /// A file that a named image needs never came; its path in the archive.
    #[error("the archive of the image has no {0}")]
    Incomplete(String),
}

impl ArchiveError {
    /// Whether it failed because nobody takes any more of it.
    #[must_use]
    pub fn is_for_want_of_a_reader(&self) -> bool {
        match self {
            ArchiveError::Read(error) | ArchiveError::Write(error) => {
                error.kind() == io::ErrorKind::BrokenPipe
            }
            ArchiveError::Packing(_) | ArchiveError::TooMuch | ArchiveError::Incomplete(_) => false,
        }
    }
}

/// The image that an engine with the containerd store calls `id`, out of the archive that the engine writes of it. Stops
/// reading as soon as it is known: usually half-way, because the files of such an archive are in the order of their digests.
pub fn find(from: impl Read, id: &str, architecture: &str) -> Result<Packed, ArchiveError> {
    let mut documents = Documents::default();
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        if !keep(&mut documents, &mut entry)? {
            continue;
        }
        match documents.image(id, architecture) {
            Err(PackingError::Missing { .. }) => {}
            found => return Ok(found?),
        }
    }
    Ok(documents.image(id, architecture)?)
}

/// Passes an archive on as it is, and returns the documents in it.
pub fn copy(from: impl Read, to: impl Write) -> Result<Documents, ArchiveError> {
    let mut documents = Documents::default();
    let mut archive = tar::Archive::new(Tee { from, to });
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        keep(&mut documents, &mut entry)?;
    }
    read_out(archive)?;
    Ok(documents)
}

/// Passes on what these images need of an archive that is an OCI image layout, under these names: no other platform, and
/// nothing that was attached to them.
pub fn copy_only(
    from: impl Read,
    to: impl Write,
    named: &[Naming],
) -> Result<Documents, ArchiveError> {
    let mut documents = Documents::default();
    let mut wanted: BTreeSet<String> = named.iter().flat_map(|n| n.manifest.paths()).collect();
    let mut archive = tar::Archive::new(from);
    let mut writer = tar::Builder::new(to);
    for entry in archive.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !wanted.remove(&path) {
            continue;
        }
        let header = entry.header().clone();
        let written = match is_small(&entry) {
            true => {
                let content = content(&mut entry)?;
                let written = writer.append(&header, content.as_slice());
                documents.keep(content);
                written
            }
            false => writer.append(&header, &mut entry),
        };
        written.map_err(ArchiveError::Write)?;
    }
    read_out(archive)?;
    if let Some(path) = wanted.pop_first() {
        return Err(ArchiveError::Incomplete(path));
    }
    for (path, content) in closing_files(named) {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).unwrap_or(u64::MAX));
        header.set_mode(0o644);
        let written = writer.append_data(&mut header, path, content.as_slice());
        written.map_err(ArchiveError::Write)?;
    }
    let mut to = writer.into_inner().map_err(ArchiveError::Write)?;
    to.flush().map_err(ArchiveError::Write)?;
    Ok(documents)
}

/// Reads what comes after an archive's last file: zeros that fill its last block up. Docker fails when it cannot get rid of
/// them.
fn read_out<R: Read>(archive: tar::Archive<R>) -> Result<(), ArchiveError> {
    let mut rest = archive.into_inner();
    let read = io::copy(&mut rest, &mut io::sink());
    read.map(drop).map_err(ArchiveError::Read)
}

/// Keeps a file that may be a document. Whether it was kept.
fn keep<R: Read>(
    documents: &mut Documents,
    entry: &mut tar::Entry<'_, R>,
) -> Result<bool, ArchiveError> {
    if !is_small(entry) {
        return Ok(false);
    }
    if documents.size() + entry.size() > MOST_DOCUMENTS {
        return Err(ArchiveError::TooMuch);
    }
    Ok(documents.keep(content(entry)?))
}

fn is_small<R: Read>(entry: &tar::Entry<'_, R>) -> bool {
    entry.header().entry_type().is_file() && entry.size() <= LARGEST_DOCUMENT
}

fn content<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    let mut content = vec![];
    let read = entry.read_to_end(&mut content);
    read.map_err(ArchiveError::Read)?;
    Ok(content)
}

/// Writes down everything that is read.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        let (seen, _) = buffer.split_at(read);
        self.to.write_all(seen)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use belay_model::composition::image::digest;

    /// An archive as containerd writes it: files in the order of their names.
    fn layout(architecture: &str) -> (Vec<u8>, String) {
        let layer = vec![0x1f; 5000];
        let config = json!({"architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:unpacked"]}});
        let config = config.to_string().into_bytes();
        let manifest = json!({"schemaVersion": 2, "config": {"digest": digest(&config)},
            "layers": [{"digest": digest(&layer)}]});
        let manifest = manifest.to_string().into_bytes();
        let attached = vec![b'{'; 100];
        let index = json!({"schemaVersion": 2, "manifests": [
            {"digest": digest(&manifest), "platform": {"architecture": architecture, "os": "linux"}},
            {"digest": digest(&attached), "platform": {"architecture": "unknown", "os": "unknown"}}]});
        let index = index.to_string().into_bytes();
        let id = digest(&index);
        let mut files: Vec<(String, Vec<u8>)> = [layer, config, manifest, index, attached]
            .into_iter()
            .map(|content| {
                (
                    digest(&content).replacen("sha256:", "blobs/sha256/", 1),
                    content,
                )
            })
            .collect();
        files.sort();
        let mut writer = tar::Builder::new(vec![]);
        for (path, content) in &files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            writer
                .append_data(&mut header, path, content.as_slice())
                .expect("written");
        }
        (writer.into_inner().expect("ended"), id)
    }

    #[test]
    fn an_image_is_found_in_its_archive_by_the_engines_id() {
        let (archive, id) = layout("amd64");
        let packed = find(archive.as_slice(), &id, "amd64").expect("it is there");
        assert_eq!(packed.content.layers, ["sha256:unpacked"]);
        assert_ne!(packed.content.config, id);
        let error = find(archive.as_slice(), &id, "arm64").expect_err("another platform");
        assert!(error.to_string().contains("linux/amd64"), "{error}");
        let error = find(archive.as_slice(), "sha256:other", "amd64").expect_err("not there");
        assert!(error.to_string().contains("sha256:other"), "{error}");
    }

    #[test]
    fn an_archive_passes_unchanged() {
        let (archive, id) = layout("amd64");
        let mut passed = vec![];
        let documents = copy(archive.as_slice(), &mut passed).expect("it passes");
        assert_eq!(passed, archive);
        assert!(documents.image(&id, "amd64").is_ok());
    }

    #[test]
    fn only_what_an_image_needs_passes_and_the_rest_of_the_layout_is_written_for_it() {
        let (archive, id) = layout("amd64");
        let packed = find(archive.as_slice(), &id, "amd64").expect("it is there");
        let manifest = packed.manifest.digest.clone();
        let named = [Naming {
            reference: "belay/shop/web:v1".to_owned(),
            manifest: packed.manifest,
        }];
        let mut passed = vec![];
        copy_only(archive.as_slice(), &mut passed, &named).expect("it passes");
        // The host finds the same image in it, by its manifest, and nothing else.
        let again = find(passed.as_slice(), &manifest, "amd64").expect("it is there");
        assert_eq!(again.content, packed.content);
        assert!(find(passed.as_slice(), &id, "amd64").is_err());
        let mut entries = tar::Archive::new(passed.as_slice());
        let entries = entries.entries().expect("an archive");
        assert_eq!(entries.count(), 6);
        let error = copy_only(passed.as_slice(), io::sink(), &named[..0]);
        assert!(error.is_ok(), "nothing is needed, nothing is missing");
    }

    #[test]
    fn what_an_archive_lacks_is_told() {
        let (archive, id) = layout("amd64");
        let packed = find(archive.as_slice(), &id, "amd64").expect("it is there");
        let named = [Naming {
            reference: "belay/shop/web:v1".to_owned(),
            manifest: packed.manifest,
        }];
        let empty = tar::Builder::new(vec![]).into_inner().expect("ended");
        let error = copy_only(empty.as_slice(), io::sink(), &named).expect_err("all is missing");
        assert!(matches!(error, ArchiveError::Incomplete(_)), "{error:?}");
    }
}
