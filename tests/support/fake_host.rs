//! A host in memory: images, containers, networks, volumes, endpoints and a clock that only sleeping moves.
//!
//! It passes the same contract as the real one (`host_contract.rs`). What an image does when it runs is its
//! [`Behaviour`]; what a container is like is worked out from that and from how long it has run. Every call counts, so
//! a test can end the engine, or fail it, at any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belay::agent::backup::{DataKind, DataReader, LogSource, ReadError, Sink};
use belay::agent::host::{
    Composition, Container, DockerHealth, Host, HostError, Image, ImageName, RunState,
};
use belay::model::compose::sha256;
use belay::model::health::{Answer, VersionCheck};
use belay::model::journal::BootTime;
use belay::model::yaml;
use belay::wire::EngineFacts;
use jiff::Timestamp;
use serde_json::Value;

/// The primary endpoint's path; every other path is the backup endpoint's.
pub const PRIMARY: &str = "/api/status";
/// Where an image tells its version.
pub const VERSION_HEADER: &str = "X-App-Version";
/// How long a container takes until it listens, and until its healthcheck has made up its mind.
const READY_MS: u64 = 500;
/// How long a one-shot container runs.
const ONE_SHOT_MS: u64 = 700;
/// How often a container that ends at once is started again by its restart policy.
const RESTART_MS: u64 = 1000;

/// What an image does when it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Healthy,
    /// Everything answers 500.
    Status500,
    /// The primary endpoint answers 500, the backup endpoint 200.
    PrimaryFails,
    /// The primary endpoint cannot be reached, the backup endpoint answers 200.
    PrimaryHangs,
    /// Ends at once; with a restart policy that is a crash loop.
    Exits(i32),
    /// Docker's own healthcheck says unhealthy.
    DockerUnhealthy,
    WrongVersion,
    /// Runs and never listens.
    NeverListens,
    /// Healthy at first, then everything answers 500.
    BadAfter(u64),
    /// Cannot be started at all.
    WontStart,
    /// Runs for a moment and ends with this code.
    OneShot(i32),
}

#[derive(Clone, Debug)]
pub struct FakeImage {
    pub id: String,
    pub version: String,
    pub behaviour: Behaviour,
}

impl FakeImage {
    /// An image with content of its own: `name`, `version` and what it does make its ID.
    pub fn new(name: &str, version: &str, behaviour: Behaviour) -> Self {
        let id = format!(
            "sha256:{}",
            sha256(format!("{name} {version} {behaviour:?}").as_bytes())
        );
        FakeImage {
            id,
            version: version.to_owned(),
            behaviour,
        }
    }
}

#[derive(Clone, Debug)]
pub struct FakeContainer {
    pub id: String,
    pub project: String,
    pub service: String,
    pub image_id: String,
    image: String,
    /// What Compose compares: the service's definition and the image's content.
    pub config: String,
    restart_policy: String,
    working_dir: String,
    ports: Vec<u16>,
    networks: Vec<String>,
    volumes: Vec<String>,
    has_healthcheck: bool,
    life: Life,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    Created,
    StartedAt(u64),
    StoppedWith(i32),
}

/// Which Compose the host has. They differ in what a failed replacement leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComposeKind {
    /// 1.x: the old container stays, stopped, beside the new one that could not be started.
    Python,
    /// 2.x and later: the old container is gone.
    Go,
}

/// The state of the host. Tests may read and arrange anything in it. A clone has no timers.
#[derive(Clone, Debug)]
pub struct World {
    pub images: BTreeMap<String, FakeImage>,
    pub names: BTreeMap<String, String>,
    /// What could be pulled.
    pub registry: BTreeMap<String, FakeImage>,
    /// Oldest first.
    pub containers: Vec<FakeContainer>,
    /// By name, with the project.
    pub networks: BTreeMap<String, String>,
    /// By name, with the project and a number of its own: a volume that was removed and made again is another one.
    pub volumes: BTreeMap<String, (String, u64)>,
    pub free_bytes: u64,
    pub compose: ComposeKind,
    /// Every start of a one-shot container, as `service version`.
    pub one_shots: Vec<String>,
    /// Every call of the host, in order.
    pub calls: Vec<String>,
    now_ms: u64,
    boot: u32,
    made: u64,
    fallible_calls: usize,
    crash: Option<Crash>,
    outage: Option<Outage>,
    timers: Timers,
}

/// Ends the engine at a call, as a killed process ends: nothing after that point happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Counts from 1.
    pub call: usize,
    pub when: When,
}

/// Before or after the effect of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// Makes calls fail that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The first call that fails, among those that can; counts from 1.
    pub first: usize,
    /// How many fail.
    pub calls: usize,
    /// After: the call does its work and then says that it failed.
    pub when: When,
}

#[derive(Default)]
struct Timers(Vec<(u64, Box<dyn FnOnce() + Send>)>);

impl Clone for Timers {
    fn clone(&self) -> Self {
        Timers::default()
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} timers", self.0.len())
    }
}

/// What a crash at a call unwinds with.
#[derive(Debug)]
pub struct Crashed;

/// A handle on a world. Clones see the same one.
#[derive(Clone, Debug)]
pub struct FakeHost {
    world: Arc<Mutex<World>>,
}

impl Default for FakeHost {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeHost {
    pub fn new() -> Self {
        FakeHost {
            world: Arc::new(Mutex::new(World {
                images: BTreeMap::new(),
                names: BTreeMap::new(),
                registry: BTreeMap::new(),
                containers: vec![],
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
                free_bytes: 1 << 40,
                compose: ComposeKind::Python,
                one_shots: vec![],
                calls: vec![],
                now_ms: 0,
                boot: 1,
                made: 0,
                fallible_calls: 0,
                crash: None,
                outage: None,
                timers: Timers::default(),
            })),
        }
    }

    /// A host in a state that another one was in.
    pub fn in_state(world: World) -> Self {
        FakeHost {
            world: Arc::new(Mutex::new(world)),
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts calls afresh and forgets every fault.
    pub fn calm(&self) {
        let mut world = self.world();
        world.calls.clear();
        world.fallible_calls = 0;
        world.crash = None;
        world.outage = None;
    }

    /// Ends the engine at a call, counted from now.
    pub fn crash_at(&self, crash: Crash) {
        self.calm();
        self.world().crash = Some(crash);
    }

    /// Makes calls fail, counted from now.
    pub fn fail_at(&self, outage: Outage) {
        self.calm();
        self.world().outage = Some(outage);
    }

    /// How many calls there were since the last [`Self::calm`], and how many of them could have failed.
    pub fn counted(&self) -> (usize, usize) {
        let world = self.world();
        (world.calls.len(), world.fallible_calls)
    }

    /// Does something once the clock has come so far, from now.
    pub fn after_ms(&self, ms: u64, action: impl FnOnce() + Send + 'static) {
        let mut world = self.world();
        let at = world.now_ms + ms;
        world.timers.0.push((at, Box::new(action)));
    }

    pub fn now_ms(&self) -> u64 {
        self.world().now_ms
    }

    /// The machine starts anew: containers with a restart policy come back, the others do not.
    pub fn reboot(&self) {
        let mut world = self.world();
        world.boot += 1;
        let now = world.now_ms;
        for container in &mut world.containers {
            container.life = match (container.life, container.restart_policy.as_str()) {
                (Life::StartedAt(_), "always" | "unless-stopped") => Life::StartedAt(now),
                (Life::StartedAt(_), _) => Life::StoppedWith(255),
                (other, _) => other,
            };
        }
    }

    /// Puts an image on the host under a name, as `docker load` or `docker build` does.
    pub fn load(&self, reference: &str, image: &FakeImage) {
        let mut world = self.world();
        world.images.insert(image.id.clone(), image.clone());
        world.names.insert(reference.to_owned(), image.id.clone());
    }

    /// Whether `docker-compose up -d` with this file would leave a service's one container exactly as it is.
    pub fn is_as_written(&self, composition: &Composition, service: &str) -> bool {
        let world = self.world();
        let wanted = File::read(composition).and_then(|file| file.container(service, &world));
        let mut of_service = world
            .containers
            .iter()
            .filter(|c| c.project == composition.project && c.service == service);
        match (of_service.next(), of_service.next(), wanted) {
            (Some(found), None, Ok(wanted)) => {
                found.config == wanted.config && world.is_alive(found)
            }
            _ => false,
        }
    }

    /// One call that cannot fail.
    fn call<T>(&self, name: &str, effect: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        let due = world.count(name.to_owned());
        if due == Some(When::Before) {
            die(world);
        }
        let result = effect(&mut world);
        if due == Some(When::After) {
            die(world);
        }
        result
    }

    /// One call that can fail.
    fn try_call<T>(
        &self,
        name: &str,
        effect: impl FnOnce(&mut World) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        self.call(name, |world| {
            let failing = world.fails();
            match failing {
                Some(When::Before) => Err(unreachable_engine()),
                Some(When::After) => effect(world).and_then(|_| Err(unreachable_engine())),
                None => effect(world),
            }
        })
    }
}

fn die(world: MutexGuard<'_, World>) -> ! {
    drop(world);
    // Without the panic hook's message: this is the end that the test asked for.
    panic::resume_unwind(Box::new(Crashed))
}

fn unreachable_engine() -> HostError {
    HostError::NoEngine("Cannot connect to the Docker daemon".to_owned())
}

fn said(what: &str, said: impl Into<String>) -> HostError {
    HostError::Command {
        what: what.to_owned(),
        said: said.into(),
    }
}

impl Host for FakeHost {
    fn now(&self) -> Timestamp {
        self.call("now", |world| {
            Timestamp::from_millisecond(1_734_273_022_000 + world.now_ms as i64)
                .expect("a time that can be written")
        })
    }

    fn boot_time(&self) -> BootTime {
        self.call("boot_time", |world| BootTime {
            boot_id: format!("boot-{}", world.boot),
            ms: world.now_ms,
        })
    }

    fn sleep(&self, time: Duration) {
        let due = self.call("sleep", |world| {
            world.now_ms += time.as_millis() as u64;
            world.due_timers()
        });
        for action in due {
            action();
        }
    }

    fn engine(&self) -> Result<EngineFacts, HostError> {
        self.try_call("engine", |world| {
            Ok(EngineFacts {
                engine: "27.3.1".to_owned(),
                compose: match world.compose {
                    ComposeKind::Python => "2.26.1".to_owned(),
                    ComposeKind::Go => "2.29.7".to_owned(),
                },
                architecture: "amd64".to_owned(),
                live_restore: true,
            })
        })
    }

    fn containers(&self, project: &str) -> Result<Vec<Container>, HostError> {
        self.try_call("containers", |world| Ok(world.described(project)))
    }

    fn images_in_use(&self) -> Result<Vec<String>, HostError> {
        self.try_call("images_in_use", |world| {
            let newest_first = world.containers.iter().rev();
            Ok(newest_first.map(|c| c.image_id.clone()).collect())
        })
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, HostError> {
        self.try_call("image", |world| {
            Ok(world.find_image(reference).map(|image| Image {
                id: image.id.clone(),
                tags: world.names_of(&image.id),
                digests: vec![],
                architecture: "amd64".to_owned(),
                size: 10_000_000,
            }))
        })
    }

    fn image_names(&self, prefix: &str) -> Result<Vec<ImageName>, HostError> {
        self.try_call("image_names", |world| {
            let names = world
                .names
                .iter()
                .filter(|(name, _)| name.starts_with(prefix));
            let names = names.map(|(reference, id)| ImageName {
                reference: reference.clone(),
                id: id.clone(),
            });
            Ok(names.collect())
        })
    }

    fn name_image(&self, id: &str, reference: &str) -> Result<(), HostError> {
        self.try_call(&format!("name_image {reference}"), |world| {
            let Some(image) = world.find_image(id) else {
                return Err(said("docker image tag", format!("No such image: {id}")));
            };
            let id = image.id.clone();
            world.names.insert(with_tag(reference), id);
            Ok(())
        })
    }

    fn forget_image(&self, reference: &str) -> Result<(), HostError> {
        self.try_call(&format!("forget_image {reference}"), |world| {
            world.forget_image(reference)
        })
    }

    fn pull(&self, reference: &str) -> Result<(), HostError> {
        self.try_call(&format!("pull {reference}"), |world| {
            let Some(image) = world.registry.get(&with_tag(reference)).cloned() else {
                return Err(said(
                    "docker pull",
                    format!("manifest for {reference} not found"),
                ));
            };
            world.names.insert(with_tag(reference), image.id.clone());
            world.images.insert(image.id.clone(), image);
            Ok(())
        })
    }

    fn render(
        &self,
        composition: &Composition,
        variables: &[(String, String)],
    ) -> Result<Value, HostError> {
        self.try_call("render", |_| render(composition, variables))
    }

    fn up(&self, composition: &Composition, service: &str) -> Result<(), HostError> {
        self.try_call(&format!("up {service}"), |world| {
            world.up(composition, service)
        })
    }

    fn stop(&self, container: &str) -> Result<(), HostError> {
        self.try_call("stop", |world| {
            for found in world.containers.iter_mut().filter(|c| c.id == container) {
                if matches!(found.life, Life::StartedAt(_)) {
                    found.life = Life::StoppedWith(0);
                }
            }
            Ok(())
        })
    }

    fn remove_container(&self, container: &str) -> Result<(), HostError> {
        self.try_call("remove_container", |world| {
            world.containers.retain(|c| c.id != container);
            Ok(())
        })
    }

    fn logs(&self, container: &str, lines: u32) -> Result<String, HostError> {
        self.try_call("logs", |world| {
            let found = world.containers.iter().find(|c| c.id == container);
            let Some(found) = found else {
                return Err(said(
                    "docker logs",
                    format!("No such container: {container}"),
                ));
            };
            let version = &world.images[&found.image_id].version;
            let all = [
                format!("server {} {version} starts", found.service),
                "listening on port 8080".to_owned(),
            ];
            let first = all.len().saturating_sub(lines as usize);
            let stamped = all[first..]
                .iter()
                .map(|line| format!("2024-12-15T14:30:22.000000000Z {line}\n"));
            Ok(stamped.collect())
        })
    }

    fn networks(&self, project: &str) -> Result<Vec<String>, HostError> {
        self.try_call("networks", |world| {
            let of_project = world.networks.iter().filter(|(_, p)| *p == project);
            Ok(of_project.map(|(name, _)| name.clone()).collect())
        })
    }

    fn remove_network(&self, name: &str) -> Result<(), HostError> {
        self.try_call(&format!("remove_network {name}"), |world| {
            let user = world
                .containers
                .iter()
                .find(|c| c.networks.iter().any(|n| n == name) && world.is_alive(c));
            match user {
                Some(user) => Err(said(
                    "docker network rm",
                    format!("network {name} has active endpoints: {}", user.service),
                )),
                None => {
                    world.networks.remove(name);
                    Ok(())
                }
            }
        })
    }

    fn volumes(&self, project: &str) -> Result<Vec<String>, HostError> {
        self.try_call("volumes", |world| {
            let of_project = world.volumes.iter().filter(|(_, (p, _))| p == project);
            Ok(of_project.map(|(name, _)| name.clone()).collect())
        })
    }

    fn remove_volume(&self, name: &str) -> Result<(), HostError> {
        self.try_call(&format!("remove_volume {name}"), |world| {
            // A volume is in use by every container that has it, whether or not that one runs.
            let user = world
                .containers
                .iter()
                .find(|c| c.volumes.iter().any(|v| v == name));
            match user {
                Some(user) => Err(said(
                    "docker volume rm",
                    format!("volume is in use - [{}]", user.id),
                )),
                None => {
                    world.volumes.remove(name);
                    Ok(())
                }
            }
        })
    }

    fn ask(&self, url: &str, _timeout: Duration, version: Option<&VersionCheck>) -> Answer {
        self.call("ask", |world| world.answer(url, version))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.try_call("free_bytes", |world| Ok(world.free_bytes))
            .map_err(io::Error::other)
    }

    fn data_reader<'a>(
        &'a self,
        _image: Option<&'a str>,
        _project: &'a str,
    ) -> Box<dyn DataReader + 'a> {
        Box::new(FakeReader(self))
    }
}

/// Reads the data of the fake host's volumes. Its calls count like the host's own.
struct FakeReader<'a>(&'a FakeHost);

impl FakeReader<'_> {
    fn call<T>(&self, name: &str, value: T) -> Result<T, ReadError> {
        let done = self.0.try_call(name, |_| Ok(value));
        done.map_err(|error| ReadError::Docker {
            what: name.to_owned(),
            said: error.to_string(),
        })
    }
}

impl DataReader for FakeReader<'_> {
    fn read(&self, _source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
        let bytes = self.call("read_data", archive_of_a_volume())?;
        sink(&mut bytes.as_slice()).map_err(ReadError::Sink)
    }

    fn size(&self, _source: &DataKind) -> Result<u64, ReadError> {
        self.call("data_size", 4)
    }

    fn sweep(&self) -> Result<(), ReadError> {
        Ok(())
    }

    fn logs(&self, _source: &LogSource, _most: u64) -> Result<Vec<u8>, ReadError> {
        self.call("read_logs", b"a line\n".to_vec())
    }
}

fn archive_of_a_volume() -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    for (path, kind, content) in [
        ("data/", tar::EntryType::Directory, b"".as_slice()),
        ("data/note", tar::EntryType::Regular, b"kept".as_slice()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(70);
        header.set_gid(70);
        header.set_mtime(1_734_273_022);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, path, content)
            .expect("a tar in memory");
    }
    archive.into_inner().expect("a tar in memory")
}

impl World {
    /// Counts a call; tells whether the engine ends at this one.
    fn count(&mut self, name: String) -> Option<When> {
        self.calls.push(name);
        let due = self.crash.filter(|c| c.call == self.calls.len());
        if due.is_some() {
            self.crash = None;
        }
        due.map(|c| c.when)
    }

    fn fails(&mut self) -> Option<When> {
        self.fallible_calls += 1;
        let outage = self.outage?;
        let last = outage.first.saturating_add(outage.calls);
        (outage.first..last)
            .contains(&self.fallible_calls)
            .then_some(outage.when)
    }

    fn due_timers(&mut self) -> Vec<Box<dyn FnOnce() + Send>> {
        let now = self.now_ms;
        let all = std::mem::take(&mut self.timers.0);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= now);
        self.timers.0 = later;
        due.into_iter().map(|(_, action)| action).collect()
    }

    fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn find_image(&self, reference: &str) -> Option<&FakeImage> {
        self.images.get(reference).or_else(|| {
            let id = self.names.get(&with_tag(reference))?;
            self.images.get(id)
        })
    }

    fn names_of(&self, id: &str) -> Vec<String> {
        let names = self.names.iter().filter(|(_, named)| *named == id);
        names.map(|(name, _)| name.clone()).collect()
    }

    fn forget_image(&mut self, reference: &str) -> Result<(), HostError> {
        let reference = with_tag(reference);
        let Some(id) = self.names.get(&reference).cloned() else {
            return Ok(());
        };
        if self.names_of(&id).len() == 1 {
            if let Some(user) = self.containers.iter().find(|c| c.image_id == id) {
                return Err(said(
                    "docker image rm",
                    format!(
                        "conflict: container {} is using its referenced image",
                        user.id
                    ),
                ));
            }
            self.images.remove(&id);
        }
        self.names.remove(&reference);
        Ok(())
    }

    fn is_alive(&self, container: &FakeContainer) -> bool {
        matches!(
            self.state(container),
            RunState::Running | RunState::Restarting
        )
    }

    fn behaviour(&self, container: &FakeContainer) -> &Behaviour {
        &self.images[&container.image_id].behaviour
    }

    /// What a container is like now.
    pub fn state(&self, container: &FakeContainer) -> RunState {
        let since = match container.life {
            Life::Created => return RunState::Created,
            Life::StoppedWith(code) => return RunState::Exited(code),
            Life::StartedAt(at) => self.now_ms - at,
        };
        match self.behaviour(container) {
            Behaviour::Exits(_) if container.restarts_itself() => RunState::Restarting,
            Behaviour::Exits(code) => RunState::Exited(*code),
            Behaviour::OneShot(code) if since >= ONE_SHOT_MS => RunState::Exited(*code),
            _ => RunState::Running,
        }
    }

    fn health(&self, container: &FakeContainer) -> Option<DockerHealth> {
        let unhealthy = *self.behaviour(container) == Behaviour::DockerUnhealthy;
        if !unhealthy && !container.has_healthcheck {
            return None;
        }
        Some(match container.life {
            Life::StartedAt(at) if self.now_ms - at < READY_MS => DockerHealth::Starting,
            Life::Created | Life::StoppedWith(_) => DockerHealth::Unhealthy(String::new()),
            Life::StartedAt(_) if unhealthy => DockerHealth::Unhealthy("no database".to_owned()),
            Life::StartedAt(_) => DockerHealth::Healthy,
        })
    }

    fn restarts(&self, container: &FakeContainer) -> u32 {
        match (container.life, self.behaviour(container)) {
            (Life::StartedAt(at), Behaviour::Exits(_)) if container.restarts_itself() => {
                1 + ((self.now_ms - at) / RESTART_MS) as u32
            }
            _ => 0,
        }
    }

    fn described(&self, project: &str) -> Vec<Container> {
        let newest_first = self.containers.iter().rev();
        newest_first
            .filter(|c| c.project == project)
            .map(|c| Container {
                id: c.id.clone(),
                name: format!("{}_{}_1", c.project, c.service),
                service: c.service.clone(),
                image_id: c.image_id.clone(),
                image: c.image.clone(),
                state: self.state(c),
                health: self.health(c),
                restarts: self.restarts(c),
                restart_policy: c.restart_policy.clone(),
                working_dir: c.working_dir.clone(),
                one_off: false,
            })
            .collect()
    }

    /// What Compose does for `up --no-deps SERVICE`.
    fn up(&mut self, composition: &Composition, service: &str) -> Result<(), HostError> {
        let file = File::read(composition)?;
        let wanted = file.container(service, self)?;
        for network in file.networks() {
            self.networks.insert(network, composition.project.clone());
        }
        for volume in file.volumes() {
            if !self.volumes.contains_key(&volume) {
                let number = self.number();
                self.volumes
                    .insert(volume, (composition.project.clone(), number));
            }
        }
        let mut of_service = self.ids_of(&wanted);
        let as_written = of_service
            .iter()
            .position(|id| self.container(id).config == wanted.config);
        if let Some(index) = as_written {
            let id = of_service.swap_remove(index);
            self.containers.retain(|c| !of_service.contains(&c.id));
            return match self.is_alive(self.container(&id)) {
                true => Ok(()),
                false => self.start(&id),
            };
        }
        for container in &mut self.containers {
            if of_service.contains(&container.id) && matches!(container.life, Life::StartedAt(_)) {
                container.life = Life::StoppedWith(0);
            }
        }
        if self.compose == ComposeKind::Go {
            self.containers.retain(|c| !of_service.contains(&c.id));
        }
        let id = sha256(format!("container {}", self.number()).as_bytes());
        self.containers.push(FakeContainer {
            id: id.clone(),
            ..wanted
        });
        self.start(&id)?;
        // The Python one keeps the old container until the new one has started.
        self.containers.retain(|c| !of_service.contains(&c.id));
        Ok(())
    }

    fn container(&self, id: &str) -> &FakeContainer {
        let found = self.containers.iter().find(|c| c.id == id);
        found.expect("it is there")
    }

    fn ids_of(&self, wanted: &FakeContainer) -> Vec<String> {
        let of_service = self
            .containers
            .iter()
            .filter(|c| c.project == wanted.project && c.service == wanted.service);
        of_service.map(|c| c.id.clone()).collect()
    }

    fn start(&mut self, id: &str) -> Result<(), HostError> {
        let container = self.container(id).clone();
        let refuse = |why: &str| Err(said("docker-compose up", why));
        if *self.behaviour(&container) == Behaviour::WontStart {
            return refuse("OCI runtime create failed: exec: \"/app\": no such file or directory");
        }
        let taken = self
            .containers
            .iter()
            .filter(|c| c.id != container.id && self.is_alive(c))
            .any(|c| c.ports.iter().any(|port| container.ports.contains(port)));
        if taken {
            return refuse("driver failed programming: port is already allocated");
        }
        let image = &self.images[&container.image_id];
        if matches!(image.behaviour, Behaviour::OneShot(_)) {
            self.one_shots
                .push(format!("{} {}", container.service, image.version));
        }
        let now = self.now_ms;
        for container in self.containers.iter_mut().filter(|c| c.id == id) {
            container.life = Life::StartedAt(now);
        }
        Ok(())
    }

    fn answer(&self, url: &str, version: Option<&VersionCheck>) -> Answer {
        let refused = || Answer::Unreachable("Connection refused (os error 111)".to_owned());
        let late = || Answer::Unreachable("no answer in time".to_owned());
        let Some((port, path)) = port_and_path(url) else {
            return refused();
        };
        let server = self
            .containers
            .iter()
            .find(|c| c.ports.contains(&port) && self.state(c) == RunState::Running);
        let Some(server) = server else {
            return refused();
        };
        let Life::StartedAt(at) = server.life else {
            return refused();
        };
        let since = self.now_ms - at;
        let image = &self.images[&server.image_id];
        let primary = path == PRIMARY;
        let code = match &image.behaviour {
            _ if since < READY_MS => return refused(),
            Behaviour::NeverListens | Behaviour::OneShot(_) => return refused(),
            Behaviour::PrimaryHangs if primary => return late(),
            Behaviour::Status500 => 500,
            Behaviour::PrimaryFails if primary => 500,
            Behaviour::BadAfter(ms) if since >= *ms => 500,
            _ => 200,
        };
        let told = match &image.behaviour {
            Behaviour::WrongVersion => "v0.0.1".to_owned(),
            _ => image.version.clone(),
        };
        let version = version.and_then(|check| match check {
            VersionCheck::Header(name) => name.eq_ignore_ascii_case(VERSION_HEADER).then_some(told),
            VersionCheck::Json(field) => (field == "version").then_some(told),
        });
        Answer::Status { code, version }
    }
}

impl FakeContainer {
    fn restarts_itself(&self) -> bool {
        matches!(
            self.restart_policy.as_str(),
            "always" | "unless-stopped" | "on-failure"
        )
    }
}

fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains(':') {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    }
}

fn port_and_path(url: &str) -> Option<(u16, String)> {
    let rest = url.strip_prefix("http://127.0.0.1:")?;
    let (port, path) = rest.split_once('/')?;
    Some((port.parse().ok()?, format!("/{path}")))
}

fn render(composition: &Composition, variables: &[(String, String)]) -> Result<Value, HostError> {
    let what = "docker compose config";
    let text = std::fs::read_to_string(&composition.file)
        .map_err(|e| said(what, format!("{}: {e}", composition.file.display())))?;
    let text = variables.iter().fold(text, |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    });
    let mut document = yaml::read(text.as_bytes()).map_err(|e| said(what, e.to_string()))?;
    let directory = composition.directory.display().to_string();
    let services = document
        .get_mut("services")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| said(what, "services must be a mapping"))?;
    for service in services.values_mut() {
        let volumes = service.get_mut("volumes").and_then(Value::as_array_mut);
        for volume in volumes.into_iter().flatten() {
            if let Some(rest) = volume.as_str().and_then(|v| v.strip_prefix("./")) {
                *volume = Value::String(format!("{directory}/{rest}"));
            }
        }
    }
    if let Some(map) = document.as_object_mut() {
        map.insert("name".to_owned(), composition.project.clone().into());
    }
    Ok(document)
}

/// A Compose file, as `up` reads it.
struct File {
    document: Value,
    project: String,
    directory: String,
}

impl File {
    fn read(composition: &Composition) -> Result<Self, HostError> {
        Ok(File {
            document: render(composition, &[])?,
            project: composition.project.clone(),
            directory: composition.directory.display().to_string(),
        })
    }

    fn services(&self) -> impl Iterator<Item = &Value> {
        let services = self.document.get("services").and_then(Value::as_object);
        services.into_iter().flat_map(|map| map.values())
    }

    /// The container that a service should have; it is not made yet.
    fn container(&self, service: &str, world: &World) -> Result<FakeContainer, HostError> {
        let refuse = |why: String| said("docker-compose up", why);
        let spec = self
            .document
            .get("services")
            .and_then(|s| s.get(service))
            .ok_or_else(|| refuse(format!("No such service: {service}")))?;
        let image = spec.get("image").and_then(Value::as_str);
        let image = image.ok_or_else(|| refuse(format!("{service} has no image")))?;
        let found = world
            .find_image(image)
            .ok_or_else(|| refuse(format!("pull access denied for {image}")))?;
        let restart = spec.get("restart").and_then(Value::as_str).unwrap_or("no");
        let config = format!("{spec} {}", found.id);
        Ok(FakeContainer {
            id: String::new(),
            project: self.project.clone(),
            service: service.to_owned(),
            image_id: found.id.clone(),
            image: image.to_owned(),
            config: sha256(config.as_bytes()),
            restart_policy: restart.to_owned(),
            working_dir: self.directory.clone(),
            ports: published(spec),
            networks: self.networks_of(spec),
            volumes: self.volumes_of(spec),
            has_healthcheck: spec.get("healthcheck").is_some(),
            life: Life::Created,
        })
    }

    fn networks_of(&self, spec: &Value) -> Vec<String> {
        if spec.get("network_mode").is_some() {
            return vec![];
        }
        let names: Vec<String> = match spec.get("networks") {
            Some(Value::Array(list)) => list
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::Object(map)) => map.keys().cloned().collect(),
            _ => vec!["default".to_owned()],
        };
        names
            .into_iter()
            .map(|name| format!("{}_{name}", self.project))
            .collect()
    }

    fn volumes_of(&self, spec: &Value) -> Vec<String> {
        let mounts = spec.get("volumes").and_then(Value::as_array);
        let sources = mounts.into_iter().flatten().filter_map(|mount| {
            let source = match mount {
                Value::String(short) => short.split(':').next(),
                long => long.get("source").and_then(Value::as_str),
            }?;
            let declared = self.document.get("volumes").and_then(|v| v.get(source));
            declared.map(|_| format!("{}_{source}", self.project))
        });
        sources.collect()
    }

    /// The networks of every service: Compose makes them all, whichever service it is asked for.
    fn networks(&self) -> BTreeSet<String> {
        self.services().flat_map(|s| self.networks_of(s)).collect()
    }

    fn volumes(&self) -> BTreeSet<String> {
        let declared = self.document.get("volumes").and_then(Value::as_object);
        let names = declared.into_iter().flat_map(|map| map.keys());
        names.map(|key| format!("{}_{key}", self.project)).collect()
    }
}

/// The ports of the host that a service publishes.
fn published(spec: &Value) -> Vec<u16> {
    let ports = spec.get("ports").and_then(Value::as_array);
    let published = ports.into_iter().flatten().filter_map(|port| match port {
        Value::String(short) => {
            let mut parts = short.rsplit(':');
            parts.next()?;
            parts.next()?.parse().ok()
        }
        long => match long.get("published")? {
            Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|n| u16::try_from(n).ok()),
        },
    });
    published.collect()
}
