//! What the steps need from a host's engine, Compose, network and clock.
//!
//! [`Host`] has two implementations that pass one contract suite: [`super::docker::RealHost`], which asks the host's own
//! Docker, and the fake one of the scenario tests. Files are not behind this trait: tests give the steps a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backup::{DataReader, DataWriter};
use super::fence::Overtaken;
use super::trouble::Trouble;
use belay_archive::ArchiveError;
use belay_model::composition::data::DataKind;
use belay_model::judgement::health::{HealthAnswer, VersionCheck};
use belay_model::replacement::gateway::{Change, Server};
use belay_model::transaction::journal::BootTime;
use belay_prober::{Prober, Target};
use belay_wire::EngineFacts;

/// A failed look at, or change of, the host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A program ended with an error, or the engine answered with one.
    #[error("{what} failed: {said}")]
    Command {
        /// The call, as people know it.
        what: String,
        /// What it said, the last lines of it.
        said: String,
        /// What that means for Belay.
        trouble: Trouble,
    },
    /// The engine knows nothing of that name.
    #[error("{what} failed: {said}")]
    Gone {
        /// The call, as people know it.
        what: String,
        /// What the engine said.
        said: String,
    },
    /// It was ended, or not waited for any longer.
    #[error("{what} took longer than {seconds} s")]
    TooLong {
        /// The call, as people know it.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// A program that is not there, or could not be waited for.
    #[error("could not run {program}")]
    Start {
        /// Its name, as it is looked for.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An answer of another form than is known.
    #[error("could not understand what {what} printed")]
    Answer {
        /// The call, as people know it.
        what: String,
        /// Where it is different.
        #[source]
        source: serde_json::Error,
    },
    /// The engine is away, or not on this machine; in words.
    #[error("Docker's engine does not answer: {0}")]
    NoEngine(String),
    /// Neither the plugin nor the program.
    #[error("there is no Docker Compose on this host")]
    NoCompose,
    /// An image whose content had to be read for its identity.
    #[error("could not find out which image {id} is")]
    Unidentified {
        /// What the engine calls it.
        id: String,
        /// What is wrong with it.
        #[source]
        source: ArchiveError,
    },
    /// Another engine has taken this one's place.
    #[error(transparent)]
    Overtaken(#[from] Overtaken),
}

impl HostError {
    /// A program that failed, by what it said.
    pub fn said(what: impl Into<String>, said: impl Into<String>) -> Self {
        let said = said.into();
        HostError::Command {
            what: what.into(),
            trouble: Trouble::of(&said),
            said,
        }
    }

    /// A failed program's words changed for people; what they mean for Belay was read before and stays.
    #[must_use]
    pub fn reworded(self, change: impl Fn(&str) -> String) -> Self {
        match self {
            HostError::Command {
                what,
                said,
                trouble,
            } => HostError::Command {
                what: change(&what),
                said: change(&said),
                trouble,
            },
            other => other,
        }
    }

    /// What Docker stumbled over.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            HostError::Command { trouble, .. } => *trouble,
            HostError::NoEngine(_) => Trouble::EngineAway,
            HostError::Gone { .. }
            | HostError::TooLong { .. }
            | HostError::Start { .. }
            | HostError::Answer { .. }
            | HostError::NoCompose
            | HostError::Unidentified { .. }
            | HostError::Overtaken(_) => Trouble::Other,
        }
    }
}

/// A container of the project, in whatever state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's, in full.
    pub id: String,
    /// As Compose made it; people know it by this.
    pub name: String,
    /// As the Compose file calls it.
    pub service: String,
    /// What the engine calls the image that it was made from.
    pub image_id: String,
    /// What the container was created from, as its Compose file said.
    pub image: String,
    /// What it does now.
    pub state: RunState,
    /// What its healthcheck says; absent without one.
    pub health: Option<DockerHealth>,
    /// By its restart policy, since it was made.
    pub restarts: u32,
    /// As a Compose file says it: `no`, `always`, `on-failure:5`.
    pub restart_policy: String,
    /// The application that its image was built for by Belay; empty for any other image.
    pub app: String,
    /// The project directory that Compose was given.
    pub working_dir: String,
    /// Made by `docker compose run`.
    pub one_off: bool,
    /// Its addresses in the networks that it is in, while it runs.
    pub addresses: Vec<String>,
    /// The volumes and paths of the host that it has mounted, running or not.
    pub mounts: Vec<ContainerMount>,
}

/// Data that a container has mounted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerMount {
    /// A volume, one without a name of its own included, or a path of the host.
    pub data: DataKind,
    /// The place in the container.
    pub target: String,
    /// Whether the container can write to it.
    pub is_writable: bool,
}

impl ContainerMount {
    /// Whether it is a volume for which nobody had a name, so that it bears one of Docker's own.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.data.is_unnamed()
    }
}

/// A volume, as the engine describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The engine's name for it.
    pub name: String,
    /// Who keeps it: `local`, or a plugin.
    pub driver: String,
    /// What the driver was told when it was made.
    pub options: BTreeMap<String, String>,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
}

impl Container {
    /// Whether it serves, or is about to again by its restart policy.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::Restarting)
    }

    /// Whether it was started and has not ended, though somebody may hold it still.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.is_alive() || self.state == RunState::Paused
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Made, and not started yet.
    Created,
    /// Its program runs.
    Running,
    /// It ended, and its restart policy starts it again.
    Restarting,
    /// Docker holds it still.
    Paused,
    /// Its program ended, with this code.
    Exited(i32),
}

/// What a container's healthcheck says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DockerHealth {
    /// Not decided yet.
    Starting,
    /// The last check was good.
    Healthy,
    /// With what the check printed last.
    Unhealthy(String),
}

/// An image of the engine, as far as a look at it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What this engine calls it: not its identity ([`belay_model::composition::image`]).
    pub id: String,
    /// The digests of its unpacked layers, the lowest one first.
    pub layers: Vec<String>,
    /// Every name that the engine has for it.
    pub tags: Vec<String>,
    /// The digests under which registries know it.
    pub digests: Vec<String>,
    /// As Docker calls it: `amd64`, `arm64`.
    pub architecture: String,
    /// Paths that the image declares to hold data (`VOLUME`).
    pub volumes: Vec<String>,
}

/// What an image is beyond what a look at it tells. An engine with the containerd store has to read the image for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageContent {
    /// The digest of its config: its identity.
    pub config: String,
    /// Its layers when unpacked, in bytes, as the engine's store counts them.
    pub size: u64,
}

/// A name that the engine has for an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageName {
    /// Repository and tag.
    pub reference: String,
    /// The engine's ID of the image.
    pub id: String,
}

/// A Compose file, and the project that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composition {
    /// Compose's name for all that belongs together.
    pub project: String,
    /// Relative paths in the file start here, and its `.env` is here.
    pub directory: PathBuf,
    /// The Compose file itself.
    pub file: PathBuf,
}

/// A host, as far as a transaction needs it. Every call has a deadline of its own.
pub trait Host {
    /// The wall clock, for people; it may jump.
    fn now(&self) -> Timestamp;
    /// The time since the machine's start, which does not jump; for deadlines.
    fn boot_time(&self) -> BootTime;
    /// Waits. In tests no time passes.
    fn sleep(&self, time: Duration);
    /// A second way to the same host, for the thread that keeps what serves; `None` for a host on which nothing happens by
    /// itself.
    fn apart(&self) -> Option<Box<dyn Attentive>> {
        None
    }
    /// Whether this engine may still change the host. Asked right before a file is changed; every other call asks it, too.
    fn may_act(&self) -> Result<(), Overtaken> {
        Ok(())
    }

    /// What Docker and Compose are like. Fails while Docker is away.
    fn engine(&self) -> Result<EngineFacts, HostError>;

    /// Every container of a project.
    fn containers(&self, project: &str) -> Result<Vec<Container>, HostError>;
    /// The images of all containers on the host, whoever's they are.
    fn images_in_use(&self) -> Result<Vec<String>, HostError>;
    /// An image by one of its names, or by the engine's ID.
    fn image(&self, reference: &str) -> Result<Option<Image>, HostError>;
    /// What the image is that the engine calls `id`.
    fn image_content(&self, id: &str) -> Result<ImageContent, HostError>;
    /// Names of images that begin with a prefix.
    fn image_names(&self, prefix: &str) -> Result<Vec<ImageName>, HostError>;
    /// Gives an image a name more.
    fn name_image(&self, id: &str, reference: &str) -> Result<(), HostError>;
    /// Removes a name, and the image with its last name. Finds nothing to do when the name is gone.
    fn forget_image(&self, reference: &str) -> Result<(), HostError>;
    /// Fetches an image from its registry.
    fn pull(&self, reference: &str) -> Result<(), HostError>;

    /// What Compose makes of a file: `docker compose config`.
    fn render(
        &self,
        composition: &Composition,
        variables: &[(String, String)],
    ) -> Result<Value, HostError>;
    /// Makes one service run as the file says, without its dependencies; leaves it alone when it does already.
    fn up(&self, composition: &Composition, service: &str) -> Result<(), HostError>;
    /// Makes containers of a service until it has so many, whatever their state, and starts none; those that are there
    /// stay as they are, though the file may say something else by now.
    fn create(
        &self,
        composition: &Composition,
        service: &str,
        containers: usize,
    ) -> Result<(), HostError>;
    /// Starts a container that does not run.
    fn start(&self, container: &str) -> Result<(), HostError>;
    /// Lets a container run on that somebody holds still (`docker pause`). One that runs, or is gone, is fine.
    fn unpause(&self, container: &str) -> Result<(), HostError>;
    /// Says when Docker itself starts a container again. One that is gone is fine.
    fn set_restart_policy(&self, container: &str, policy: &str) -> Result<(), HostError>;
    /// Runs a program in a container, for as long as `deadline`.
    fn run_in(&self, container: &str, argv: &[String], deadline: Duration)
    -> Result<(), HostError>;
    /// Stops a container, within the time that its own settings give it. One that is gone is fine.
    fn stop(&self, container: &str) -> Result<(), HostError>;
    /// Stops a container, and ends it when it has not ended by itself in time.
    fn stop_within(&self, container: &str, grace: Duration) -> Result<(), HostError>;
    /// Stops a container as [`Host::stop_within`] does and starts it again, in one call of the engine's.
    fn restart(&self, container: &str, grace: Duration) -> Result<(), HostError>;
    /// Removes a container, running or not. One that is gone is fine.
    fn remove_container(&self, container: &str) -> Result<(), HostError>;
    /// The last lines that a container wrote.
    fn logs(&self, container: &str, lines: u32) -> Result<String, HostError>;

    /// The names of the project's networks.
    fn networks(&self, project: &str) -> Result<Vec<String>, HostError>;
    /// Removes a network that nothing uses. One that is gone is fine.
    fn remove_network(&self, name: &str) -> Result<(), HostError>;
    /// The names of the project's volumes.
    fn volumes(&self, project: &str) -> Result<Vec<String>, HostError>;
    /// A volume by its name.
    fn volume(&self, name: &str) -> Result<Option<Volume>, HostError>;
    /// The Compose projects that have containers, this one or not.
    fn projects(&self) -> Result<Vec<String>, HostError>;
    /// Removes a volume with what is in it. One that is gone is fine.
    fn remove_volume(&self, name: &str) -> Result<(), HostError>;

    /// The servers of a gateway, by the name or ID of its container.
    fn gateway_servers(&self, gateway: &str) -> Result<Vec<Server>, HostError>;
    /// Tells a gateway to treat servers otherwise.
    fn change_gateway(&self, gateway: &str, changes: &[Change]) -> Result<(), HostError>;

    /// Whether something accepts connections there.
    fn connects(&self, address: &str, port: u16, timeout: Duration) -> bool;
    /// Asks an endpoint again and again, beside everything else, until the prober is dropped.
    fn prober(&self, target: &Target) -> Box<dyn Prober>;
    /// Asks an endpoint once. Never fails: an endpoint that cannot be reached is an answer.
    fn ask(&self, url: &str, timeout: Duration, version: Option<&VersionCheck>) -> HealthAnswer;

    /// What an ordinary user may still write to the disk that holds a path.
    fn free_bytes(&self, path: &Path) -> std::io::Result<u64>;
    /// The directory in which Docker keeps volumes.
    fn data_root(&self) -> Result<PathBuf, HostError>;
    /// Reads volumes, bind mounts and logs for a backup.
    fn data_reader<'a>(&'a self, project: &'a str) -> Box<dyn DataReader + 'a>;
    /// The same for putting data in the place of other data.
    fn data_writer<'a>(&'a self, project: &'a str) -> Box<dyn DataWriter + 'a>;
}

/// Something that happened to a container of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The container's service.
    pub service: String,
    /// It runs now.
    pub started: bool,
}

/// A second way to the same host, for a thread of its own.
pub trait Attentive: Host + Send {
    /// Waits until a container of the project has started, ended or gone since a moment, at most for so long.
    fn await_event(
        &self,
        project: &str,
        since: Timestamp,
        patience: Duration,
    ) -> Result<Option<ContainerEvent>, HostError>;
}
