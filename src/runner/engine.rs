//! The runner's own Docker: where it keeps images, what builds them, and what an image in it is.
//!
//! Runs on the runner, and only looks.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};

use serde::Deserialize;

use super::program::{self, ProgramError, argv, run};
use belay_archive::ArchiveError;
use belay_model::composition::build::Builder;
use belay_model::composition::image::{Content, ImageStore, Manifest, PackingError};

/// The runner's Docker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunnerDocker {
    store: ImageStore,
    pub(crate) builder: Builder,
}

/// An image of the runner's, for the host's platform.
#[derive(Clone, Debug)]
pub(crate) struct Identified {
    pub(crate) content: Content,
    /// How the engine has packed it, where it keeps images packed.
    pub(crate) manifest: Option<Manifest>,
    /// Its layers when unpacked, in bytes.
    pub(crate) size: u64,
    /// Paths that it declares to hold data (`VOLUME`).
    pub(crate) volumes: Vec<String>,
}

/// Why it is not known what an image is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerDockerError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("it is made for {there}, and not for {wanted}")]
    OtherPlatform { there: String, wanted: String },
    #[error("Docker does not run here: {0}")]
    NotRunning(String),
    #[error("could not run docker save")]
    Save(#[source] std::io::Error),
    #[error("docker save failed ({status}): {said}")]
    SaveFailed { status: ExitStatus, said: String },
    #[error(transparent)]
    Archive(ArchiveError),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LocalImage {
    id: String,
    size: u64,
    architecture: String,
    #[serde(default, rename = "RootFS")]
    root_fs: LocalLayers,
    #[serde(default)]
    config: Option<LocalConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LocalConfig {
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

impl LocalImage {
    fn volumes(&self) -> Vec<String> {
        let config = self.config.as_ref();
        let volumes = config.and_then(|config| config.volumes.as_ref());
        volumes
            .into_iter()
            .flatten()
            .map(|(path, _)| path.clone())
            .collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LocalLayers {
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl RunnerDocker {
    /// Asks Docker what it is like.
    pub(crate) fn find() -> Result<RunnerDocker, RunnerDockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct DockerInfo {
            #[serde(default)]
            driver_status: Option<Vec<Vec<String>>>,
            #[serde(default)]
            server_errors: Option<Vec<String>>,
        }
        let printed = run(&argv(["docker", "info", "--format", "{{json .}}"]))?;
        let info: DockerInfo =
            serde_json::from_slice(&printed).map_err(|source| ProgramError::Answer {
                what: "docker info".to_owned(),
                source,
            })?;
        // Without an engine the client ends well all the same.
        let errors = info.server_errors.unwrap_or_default();
        if !errors.is_empty() {
            return Err(RunnerDockerError::NotRunning(errors.join("; ")));
        }
        Ok(RunnerDocker {
            store: ImageStore::of(info.driver_status.as_deref().unwrap_or_default()),
            builder: builder(),
        })
    }

    /// What the image of that name is, for a host of this architecture.
    pub(crate) fn identify(
        self,
        reference: &str,
        architecture: &str,
    ) -> Result<Identified, RunnerDockerError> {
        let inspected = inspect(reference)?;
        match self.store {
            ImageStore::Graph => by_id(inspected, architecture),
            ImageStore::Containerd => by_archive(reference, &inspected, architecture),
        }
    }
}

/// Whether the runner's engine has an image of that name.
pub(crate) fn is_there(reference: &str) -> bool {
    inspect(reference).is_ok()
}

/// An ID of a graph driver is the image's identity, and there is one platform.
fn by_id(inspected: LocalImage, architecture: &str) -> Result<Identified, RunnerDockerError> {
    if inspected.architecture != architecture {
        return Err(RunnerDockerError::OtherPlatform {
            there: inspected.architecture,
            wanted: architecture.to_owned(),
        });
    }
    Ok(Identified {
        volumes: inspected.volumes(),
        content: Content {
            config: inspected.id,
            layers: inspected.root_fs.layers.unwrap_or_default(),
        },
        manifest: None,
        size: inspected.size,
    })
}

/// The containerd store tells an image's identity by its archive alone.
fn by_archive(
    reference: &str,
    inspected: &LocalImage,
    architecture: &str,
) -> Result<Identified, RunnerDockerError> {
    let mut save = program::command("docker")
        .args(["save", reference])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(RunnerDockerError::Save)?;
    let stream = save
        .stdout
        .take()
        .ok_or_else(|| RunnerDockerError::Save(std::io::Error::other("it gave no stream")))?;
    let found = belay_archive::find(stream, &inspected.id, architecture);
    if found.is_ok() {
        // It has usually more to say than anybody needs.
        let _ = save.kill();
    }
    let ended = save.wait_with_output().map_err(RunnerDockerError::Save)?;
    let packed = found.map_err(|error| match error {
        ArchiveError::Packing(PackingError::OtherPlatform { there, wanted }) => {
            RunnerDockerError::OtherPlatform { there, wanted }
        }
        _ if ended.status.code().is_some_and(|code| code != 0) => RunnerDockerError::SaveFailed {
            status: ended.status,
            said: String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
        },
        other => RunnerDockerError::Archive(other),
    })?;
    // A manifest that stands for itself says nothing of a platform; its config does.
    if packed.architecture != architecture {
        return Err(RunnerDockerError::OtherPlatform {
            there: packed.architecture,
            wanted: architecture.to_owned(),
        });
    }
    Ok(Identified {
        volumes: inspected.volumes(),
        size: unpacked_size(reference, architecture).unwrap_or(inspected.size),
        content: packed.content,
        manifest: Some(packed.manifest),
    })
}

/// The layers together, which this store has packed and unpacked: what users know as an image's size is the second one.
fn unpacked_size(reference: &str, architecture: &str) -> Option<u64> {
    let lines = ["--human=false", "--format", "{{.Size}}", reference];
    // Since Docker 28 it can be asked of the platform that will run it.
    let platform = format!("--platform=linux/{architecture}");
    let asked = [vec![platform.as_str()], vec![]].into_iter().map(|more| {
        let words = ["docker", "history"].into_iter().chain(more).chain(lines);
        run(&words.map(str::to_owned).collect::<Vec<_>>()).ok()
    });
    let printed = asked.flatten().next()?;
    let size: Option<u64> = String::from_utf8_lossy(&printed)
        .lines()
        .map(|line| line.trim().parse::<u64>().ok())
        .sum();
    // An image may have no history, and one for another machine may not be unpacked here.
    size.filter(|size| *size > 0)
}

fn inspect(reference: &str) -> Result<LocalImage, ProgramError> {
    let words = ["docker", "image", "inspect", "--format", "{{json .}}"];
    let printed = run(&[&argv(words)[..], &[reference.to_owned()]].concat())?;
    serde_json::from_slice(&printed).map_err(|source| ProgramError::Answer {
        what: "docker image inspect".to_owned(),
        source,
    })
}

/// `BuildKit` by its plugin where there is one, unless the user wants the builder that came before it.
fn builder() -> Builder {
    // As Docker's client reads it, which is written in Go (strconv.ParseBool).
    let off = ["0", "f", "F", "false", "False", "FALSE"];
    let is_off = std::env::var("DOCKER_BUILDKIT").is_ok_and(|value| off.contains(&value.as_str()));
    match !is_off && run(&argv(["docker", "buildx", "version"])).is_ok() {
        true => Builder::Buildx,
        false => Builder::Docker,
    }
}

/// The name of the builder that buildx uses: the one of `docker/setup-buildx-action`, say.
pub(crate) fn builder_name() -> Option<String> {
    if let Ok(name) = std::env::var("BUILDX_BUILDER") {
        return Some(name);
    }
    let printed = run(&argv(["docker", "buildx", "inspect"])).ok()?;
    let text = String::from_utf8_lossy(&printed).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("Name:"))?;
    Some(name.trim().to_owned())
}
