//! Images on their way to the host, through its `docker load`, over the one connection.
//!
//! Runs on the runner. The host gets images and nothing else.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::process::{ChildStdout, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::link::{Link, LinkError};
use super::program;
use belay_archive::ArchiveError;
use belay_model::composition::image::{Documents, Naming};
use belay_model::transaction::outcome::Failure;
use belay_model::transaction::plan::PlannedImage;
use belay_wire::{HostFacts, Loaded, Verb};

/// What a transfer cost, and which manifests it brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    pub ms: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    /// The manifest of each image, by its reference, where the archive had one.
    pub manifests: BTreeMap<String, String>,
}

/// Sends the images that the host lacks. `packing`: how the runner's engine has packed them, where it has.
pub fn ship(
    link: &Link,
    tx: &str,
    images: &[PlannedImage],
    packing: &[Naming],
    facts: &HostFacts,
) -> Result<Option<Shipped>, Failure> {
    let is_there = |image: &PlannedImage| {
        let mut there = facts.images.iter().filter(|there| there.is_there);
        there.any(|there| there.id == image.id)
    };
    let missing: Vec<&PlannedImage> = images.iter().filter(|i| !is_there(i)).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let began = Instant::now();
    let mut words = vec!["--tx", tx];
    for image in &missing {
        words.extend(["--reference", &image.reference]);
    }
    let is_sent = |named: &&Naming| missing.iter().any(|i| i.reference == named.reference);
    let packing: Vec<Naming> = packing.iter().filter(is_sent).cloned().collect();
    let mut save = program::command("docker")
        .arg("save")
        .args(missing.iter().map(|image| &image.reference))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::new(format!("could not run docker save: {e}")))?;
    let stream = save
        .stdout
        .take()
        .ok_or_else(|| Failure::new("docker save gave no stream"))?;
    let (reader, packer) = pack(stream, packing)
        .map_err(|e| Failure::new(format!("could not prepare the stream of docker save: {e}")))?;
    let mut counted = Counted {
        inner: reader,
        bytes: 0,
    };
    let loaded: Result<Loaded, LinkError> = link.ask_with_stream(Verb::Load, &words, &mut counted);
    let bytes = counted.bytes;
    // The thread notices that nobody reads any more.
    drop(counted);
    if !loaded.as_ref().is_ok_and(|loaded| loaded.is_complete) {
        // It may be far from noticing that nobody listens any more.
        let _ = save.kill();
    }
    let packed = packer
        .join()
        .map_err(|_| Failure::new("the images could not be packed"))?;
    let saved = save
        .wait_with_output()
        .map_err(|e| Failure::new(format!("could not wait for docker save: {e}")))?;
    let documents = judge(loaded, packed, &saved)?;
    Ok(Some(Shipped {
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        bytes,
        manifests: manifests(&missing, &documents),
    }))
}

/// What came of the three at work. Who fails first makes the others fail: the runner's Docker, whose images are then not
/// whole; else the host, which reads no further.
fn judge(
    loaded: Result<Loaded, LinkError>,
    packed: Result<Documents, ArchiveError>,
    saved: &Output,
) -> Result<Documents, Failure> {
    // One that was ended, or could not get rid of its words, has no code.
    if saved.status.code().is_some_and(|code| code != 0) {
        let said = String::from_utf8_lossy(&saved.stderr);
        return Err(Failure::new(format!(
            "docker save failed ({}): {}",
            saved.status,
            said.trim()
        )));
    }
    match (packed, loaded) {
        (Err(error), _) if !error.is_for_want_of_a_reader() => Err(Failure::of(&error)),
        (_, Err(error)) => Err(error.failure()),
        (_, Ok(loaded)) if !loaded.is_complete => Err(not_taken(&loaded.said)),
        (packed, Ok(_)) => packed.map_err(|error| Failure::of(&error)),
    }
}

type Packer = JoinHandle<Result<Documents, ArchiveError>>;

/// Compresses the stream beside everything else. Where the images are packed already, only what the host needs of them is
/// passed on, as it is.
fn pack(stream: ChildStdout, packing: Vec<Naming>) -> io::Result<(PipeReader, Packer)> {
    let (reader, writer) = io::pipe()?;
    // It may be long before anything comes; meanwhile the link is looked after, and interrupts are noticed.
    rustix::io::ioctl_fionbio(&reader, true)?;
    let encoder = |writer: PipeWriter, level| GzEncoder::new(writer, level);
    let packer = std::thread::spawn(move || {
        if packing.is_empty() {
            let mut to = encoder(writer, Compression::fast());
            let documents = belay_archive::copy(stream, &mut to)?;
            to.finish().map_err(ArchiveError::Write)?;
            return Ok(documents);
        }
        let is_compressed = packing.iter().all(|named| named.manifest.is_compressed);
        let level = match is_compressed {
            true => Compression::none(),
            false => Compression::fast(),
        };
        let mut to = encoder(writer, level);
        let documents = belay_archive::copy_only(stream, &mut to, &packing)?;
        to.finish().map_err(ArchiveError::Write)?;
        Ok(documents)
    });
    Ok((reader, packer))
}

fn manifests(images: &[&PlannedImage], documents: &Documents) -> BTreeMap<String, String> {
    let manifest = |image: &&PlannedImage| {
        let manifest = documents.manifest_of(&image.content())?;
        Some((image.reference.clone(), manifest))
    };
    images.iter().filter_map(manifest).collect()
}

fn not_taken(said: &str) -> Failure {
    let error = format!("Docker on the host could not take the images in: {said}");
    let next = match said.contains("no space left") {
        true => {
            "make room on the host's disk (`docker system df` tells what takes it), then deploy again"
        }
        false => "see what Docker on the host says, then deploy again",
    };
    Failure::new(error).next(next)
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
