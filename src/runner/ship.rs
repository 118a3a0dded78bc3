//! Images on their way to the host, through its `docker load`, over the one connection.
//!
//! Runs on the runner. The host gets images and nothing else.

use std::collections::BTreeMap;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::process::{Child, ChildStdout, ExitStatus, Output, Stdio};
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
pub(crate) struct Shipped {
    pub(crate) ms: u64,
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    /// The manifest of each image, by its reference, where the archive had one.
    pub(crate) manifests: BTreeMap<String, String>,
}

/// Why the images did not arrive. What serves is untouched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    /// There is no Docker client here, or it could not be started.
    #[error("could not run docker save")]
    Start(#[source] io::Error),
    /// It was started without a standard output.
    #[error("docker save gave no stream")]
    NoStream,
    /// No pipe could be made.
    #[error("could not prepare the stream of docker save")]
    Pipe(#[source] io::Error),
    /// The thread that compresses panicked.
    #[error("the images could not be packed")]
    Packer,
    /// The client's end was not seen.
    #[error("could not wait for docker save")]
    Wait(#[source] io::Error),
    /// The runner's Docker failed, and said why.
    #[error("docker save failed ({status}): {said}")]
    Save {
        /// How the client ended.
        status: ExitStatus,
        /// What it printed as errors.
        said: String,
    },
    /// What the runner's Docker sent is no archive of images.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The way to the host, or the agent's own refusal.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The host's Docker could not load what came.
    #[error("Docker on the host could not take the images in: {said}")]
    NotTaken {
        /// As far as it is known.
        cause: LoadTrouble,
        /// What it printed.
        said: String,
    },
}

/// Why Docker on the host could not take images in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadTrouble {
    /// The disk is full.
    NoSpace,
    /// Anything else; its words say what.
    Other,
}

impl LoadTrouble {
    /// Reads what `docker load` printed. Docker passes the kernel's words for ENOSPC on, in all versions from 20.10 to 29.
    fn of(said: &str) -> LoadTrouble {
        match said.contains("no space left") {
            true => LoadTrouble::NoSpace,
            false => LoadTrouble::Other,
        }
    }
}

impl From<ShipError> for Failure {
    fn from(error: ShipError) -> Failure {
        let lines = Failure::of(&error);
        match error {
            ShipError::Link(error) => error.into(),
            ShipError::NotTaken { cause, .. } => lines.next(match cause {
                LoadTrouble::NoSpace => {
                    "make room on the host's disk (`docker system df` tells what takes it), then deploy again"
                }
                LoadTrouble::Other => "see what Docker on the host says, then deploy again",
            }),
            ShipError::Start(_)
            | ShipError::NoStream
            | ShipError::Pipe(_)
            | ShipError::Packer
            | ShipError::Wait(_)
            | ShipError::Save { .. }
            | ShipError::Archive(_) => lines,
        }
    }
}

/// Sends the images that the host lacks. `packing`: how the runner's engine has packed them, where it has.
pub(crate) fn ship(
    link: &Link,
    tx: &str,
    images: &[PlannedImage],
    packing: &[Naming],
    facts: &HostFacts,
) -> Result<Option<Shipped>, ShipError> {
    let missing = missing(images, facts);
    if missing.is_empty() {
        return Ok(None);
    }
    let began = Instant::now();
    let is_sent = |named: &&Naming| missing.iter().any(|i| i.reference == named.reference);
    let packing: Vec<Naming> = packing.iter().filter(is_sent).cloned().collect();
    let mut save = save(&missing)?;
    let stream = save.stdout.take().ok_or(ShipError::NoStream)?;
    let (reader, packer) = pack(stream, packing).map_err(ShipError::Pipe)?;
    let mut counted = Counted {
        inner: reader,
        bytes: 0,
    };
    let loaded = load(link, tx, &missing, &mut counted);
    let bytes = counted.bytes;
    // The thread notices that nobody reads any more.
    drop(counted);
    if !loaded.as_ref().is_ok_and(|loaded| loaded.is_complete) {
        // It may be far from noticing that nobody listens any more.
        let _ = save.kill();
    }
    let packed = packer.join().map_err(|_| ShipError::Packer)?;
    let saved = save.wait_with_output().map_err(ShipError::Wait)?;
    let documents = judge(loaded, packed, &saved)?;
    Ok(Some(Shipped {
        ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        bytes,
        manifests: manifests(&missing, &documents),
    }))
}

/// The images that the host has not.
fn missing<'i>(images: &'i [PlannedImage], facts: &HostFacts) -> Vec<&'i PlannedImage> {
    let is_there = |image: &PlannedImage| {
        let mut there = facts.images.iter().filter(|there| there.is_there);
        there.any(|there| there.id == image.id)
    };
    images.iter().filter(|i| !is_there(i)).collect()
}

/// Starts the runner's `docker save`.
fn save(images: &[&PlannedImage]) -> Result<Child, ShipError> {
    program::command("docker")
        .arg("save")
        .args(images.iter().map(|image| &image.reference))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ShipError::Start)
}

/// Has the host take the stream in.
fn load(
    link: &Link,
    tx: &str,
    images: &[&PlannedImage],
    stream: &mut dyn Read,
) -> Result<Loaded, LinkError> {
    let mut words = vec!["--tx", tx];
    for image in images {
        words.extend(["--reference", &image.reference]);
    }
    link.ask_with_stream(Verb::Load, &words, stream)
}

/// What came of the three at work. Who fails first makes the others fail: the runner's Docker, whose images are then not
/// whole; else the host, which reads no further.
fn judge(
    loaded: Result<Loaded, LinkError>,
    packed: Result<Documents, ArchiveError>,
    saved: &Output,
) -> Result<Documents, ShipError> {
    // One that was ended, or could not get rid of its words, has no code.
    if saved.status.code().is_some_and(|code| code != 0) {
        return Err(ShipError::Save {
            status: saved.status,
            said: String::from_utf8_lossy(&saved.stderr).trim().to_owned(),
        });
    }
    match (packed, loaded) {
        (Err(error), _) if !error.is_for_want_of_a_reader() => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
        (_, Ok(loaded)) if !loaded.is_complete => Err(ShipError::NotTaken {
            cause: LoadTrouble::of(&loaded.said),
            said: loaded.said,
        }),
        (packed, Ok(_)) => Ok(packed?),
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

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += u64::try_from(read).unwrap_or(0);
        Ok(read)
    }
}
