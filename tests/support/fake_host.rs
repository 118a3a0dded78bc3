//! A host in memory: images, containers, networks, volumes, endpoints and a clock that only sleeping moves.
//!
//! It passes the same contract as the real one (`host_contract.rs`). What an image does when it runs is its
//! [`Behaviour`]; what a container is like is worked out from that and from how long it has run. Every call counts, so
//! a test can end the engine, or fail it, at any of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belay_agent::backup::pack::{Packed, RECORD};
use belay_agent::backup::{
    DataKind, DataReader, DataWriter, EntryKind, EntryRecord, Feed, LogSource, ReadError, Sink, TOP,
};
use belay_agent::host::{
    Attentive, Composition, Container, ContainerEvent, ContainerMount, DockerHealth, Host,
    HostError, Image, ImageContent, ImageName, RunState, Volume,
};
use belay_agent::revive::Revival;
use belay_model::composition::data::RestoredSource;
use belay_model::composition::image::ImageStore;
use belay_model::composition::profiles::{PROFILES, active_profiles, leave_out_inactive};
use belay_model::digest::sha256;
use belay_model::judgement::health::{HealthAnswer, VersionCheck};
use belay_model::judgement::measure::{Measured, Recorder};
use belay_model::replacement::gateway::{Admission, Change, Server};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::BootTime;
use belay_model::versions::revival::{Ended, EngineStart};
use belay_model::yaml;
use belay_prober::{Prober, Target};
use belay_wire::EngineFacts;
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
/// Whoever waits for so long in all would wait for ever; a test is to fail then, not to go on with it.
const FOREVER_MS: u64 = 6 * 3_600_000;

/// The wall clock of a host that has just started.
pub const WALL_MS: i64 = 1_734_273_022_000;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Is told of each call of this thread to a host, by its name, before it happens. It may unwind with [`Crashed`].
pub type Listener = Rc<dyn Fn(&str)>;

/// Lets somebody listen to this thread, or nobody.
pub fn listen(listener: Option<Listener>) {
    LISTENER.set(listener);
}

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
    /// A proxy of the user's: asks the containers of this service in turn, whichever run.
    Proxy(&'static str),
}

/// What a volume holds: files by name, and those that somebody has set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub files: BTreeMap<String, String>,
    pub aside: BTreeMap<String, BTreeMap<String, String>>,
}

impl Content {
    /// Nothing, as a new volume has it.
    pub fn empty() -> Self {
        Content {
            files: BTreeMap::new(),
            aside: BTreeMap::new(),
        }
    }

    /// One file, `note`.
    pub fn note(text: &str) -> Self {
        Content {
            files: BTreeMap::from([("note".to_owned(), text.to_owned())]),
            aside: BTreeMap::new(),
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Content::note("kept")
    }
}

#[derive(Clone, Debug)]
pub struct FakeImage {
    /// What an engine with the containerd store calls it; one with a graph driver calls it by its identity.
    pub id: String,
    /// Its identity.
    pub config: String,
    pub version: String,
    pub behaviour: Behaviour,
}

impl FakeImage {
    /// An image with content of its own: `name`, `version` and what it does make it what it is.
    pub fn new(name: &str, version: &str, behaviour: Behaviour) -> Self {
        let content = format!("{name} {version} {behaviour:?}");
        FakeImage {
            id: digest(&format!("packed {content}")),
            config: digest(&content),
            version: version.to_owned(),
            behaviour,
        }
    }

    /// The same image under another ID, as it comes from another engine.
    #[must_use]
    pub fn packed_again(mut self) -> Self {
        self.id = digest(&format!("packed again {}", self.id));
        self
    }

    pub fn layers(&self) -> Vec<String> {
        vec![digest(&format!("layer of {}", self.config))]
    }
}

fn digest(text: &str) -> String {
    format!("sha256:{}", sha256(text.as_bytes()))
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
    mounts: Vec<ContainerMount>,
    has_healthcheck: bool,
    life: Life,
    /// Somebody holds it still.
    pub paused: bool,
    /// In every network that it is in; another one after each start.
    address: String,
    gateway: Option<FakeGateway>,
}

/// HAProxy, as far as Belay uses it: read from the configuration in the Compose file.
#[derive(Clone, Debug)]
struct FakeGateway {
    /// By the port of the host.
    fronts: BTreeMap<u16, String>,
    backends: BTreeMap<String, Backend>,
}

#[derive(Clone, Debug)]
struct Backend {
    service: String,
    slots: Vec<(Option<String>, Admission)>,
}

#[derive(Clone, Copy, Debug)]
enum Life {
    Created,
    StartedAt(u64),
    StoppedWith(i32),
}

/// What passes between somebody's hand and the thread that keeps what serves.
#[derive(Clone, Debug, Default)]
struct Attention {
    /// Nothing waits for a thread that is not there.
    has_keeper: bool,
    raised: Vec<ContainerEvent>,
    taken: usize,
    /// How often the thread has come back for more.
    looks: usize,
    /// The engine sleeps until it has looked again.
    is_awaited: bool,
}

/// What somebody does to a container by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    Kills,
    Removes,
    Pauses,
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
    /// Where the engine keeps its images.
    pub store: ImageStore,
    /// By the engine's IDs.
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
    /// What volumes hold, by their names; one that is not here holds what [`Content::default`] says. A new one is empty, and
    /// gets that from its first container that starts.
    pub data: BTreeMap<String, Content>,
    /// The services that ran whenever a volume was filled.
    pub ran_at_fill: Vec<BTreeSet<String>>,
    attention: Option<Attention>,
    /// Every start of a container, as `service version`, while something is kept aside in a volume.
    pub beside_kept: Vec<String>,
    pub free_bytes: u64,
    pub compose: ComposeKind,
    /// Every start of a one-shot container, as `service version`.
    pub one_shots: Vec<String>,
    /// Every call of the host, in order.
    pub calls: Vec<String>,
    /// How far somebody has set the wall clock; the boot clock knows nothing of it.
    pub wall_offset_ms: i64,
    /// Requests that containers got while they were asked through a port of the host, by version.
    pub served: BTreeMap<String, u64>,
    /// How long good answers through a port of the host take to be written.
    pub answers_last_ms: u64,
    /// Answers that were not whole when their container ended.
    pub cut_off: u64,
    /// Answers that are being written: by which container, and until when.
    writing: Vec<(String, u64)>,
    probers: Vec<(Target, Arc<Mutex<Recorder>>)>,
    /// Requests through gateways, which go to one server after the other.
    turn: usize,
    /// When containers ended that somebody or Docker stopped.
    ended_ms: BTreeMap<String, u64>,
    /// From when until when Docker was starting last.
    docker_started_ms: (u64, u64),
    /// From when until when Docker takes every port of the host for taken, as it may when it was killed.
    pub ports_kept_ms: (u64, u64),
    /// Containers that Docker could not start when it started.
    pub start_failed: BTreeSet<String>,
    pub now_ms: u64,
    slept_ms: u64,
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

type Interruption = (usize, Box<dyn FnOnce()>);

thread_local! {
    /// Not in the world: what happens meanwhile happens on the engine's own thread, as far as a test can tell.
    static INTERRUPTION: std::cell::Cell<Option<Interruption>> = const { std::cell::Cell::new(None) };
}

/// A handle on a world. Clones see the same one.
#[derive(Clone, Debug)]
pub struct FakeHost {
    world: Arc<Mutex<World>>,
    /// It is the second way to it, of the thread that keeps what serves.
    is_apart: bool,
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
                // The stricter one: whoever takes an ID for an identity is found out.
                store: ImageStore::Containerd,
                images: BTreeMap::new(),
                names: BTreeMap::new(),
                registry: BTreeMap::new(),
                containers: vec![],
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
                data: BTreeMap::new(),
                ran_at_fill: vec![],
                attention: None,
                beside_kept: vec![],
                free_bytes: 1 << 40,
                compose: ComposeKind::Python,
                one_shots: vec![],
                calls: vec![],
                wall_offset_ms: 0,
                served: BTreeMap::new(),
                answers_last_ms: 0,
                cut_off: 0,
                writing: vec![],
                probers: vec![],
                turn: 0,
                ended_ms: BTreeMap::new(),
                docker_started_ms: (0, 0),
                ports_kept_ms: (0, 0),
                start_failed: BTreeSet::new(),
                now_ms: 0,
                slept_ms: 0,
                boot: 1,
                made: 0,
                fallible_calls: 0,
                crash: None,
                outage: None,
                timers: Timers::default(),
            })),
            is_apart: false,
        }
    }

    /// A host in a state that another one was in.
    pub fn in_state(world: World) -> Self {
        FakeHost {
            world: Arc::new(Mutex::new(world)),
            is_apart: false,
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
        INTERRUPTION.set(None);
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
        let ids: Vec<String> = world.containers.iter().map(|c| c.id.clone()).collect();
        for id in ids {
            let container = world.container(&id);
            match (container.life, container.restart_policy.as_str()) {
                (Life::StartedAt(_), "always" | "unless-stopped") => world.launch(&id),
                (Life::StartedAt(_), _) => world.end(&id, 255),
                (Life::Created | Life::StoppedWith(_), _) => {}
            }
        }
    }

    /// Docker's engine is killed and starts again, without `live-restore`: it ends every container that still runs and then
    /// starts those with the policy `always`.
    pub fn docker_dies(&self) {
        let mut world = self.world();
        let from = world.now_ms + 300;
        let ended = from + 1000;
        world.docker_started_ms = (from, ended + 200);
        world.now_ms = ended + 2000;
        let running: Vec<(String, bool)> = world
            .containers
            .iter()
            .filter(|c| matches!(c.life, Life::StartedAt(_)))
            .map(|c| (c.id.clone(), c.restart_policy == "always"))
            .collect();
        for (id, comes_back) in running {
            world.end(&id, 137);
            world.ended_ms.insert(id.clone(), ended);
            if comes_back {
                world.launch(&id);
            }
        }
    }

    /// From now on engines have a thread beside them that keeps what serves. The clock stands still while it acts.
    pub fn attend(&self) {
        self.world().attention = Some(Attention::default());
    }

    /// Somebody does something to the newest container of a service that runs, or to the oldest one.
    pub fn by_hand(&self, hand: Hand, service: &str, newest: bool) {
        let mut world = self.world();
        let of_service = world.containers.iter().filter(|c| c.service == service);
        let mut running = of_service.filter(|c| world.state(c) == RunState::Running);
        let found = if newest {
            running.next_back()
        } else {
            running.next()
        };
        let id = found.expect("it runs").id.clone();
        match hand {
            Hand::Kills => world.end(&id, 137),
            Hand::Removes => {
                world.end(&id, 137);
                world.containers.retain(|c| c.id != id);
            }
            Hand::Pauses => {
                let mut all = world.containers.iter_mut();
                all.find(|c| c.id == id).expect("it is there").paused = true;
            }
        }
        if let Some(attention) = &mut world.attention {
            attention.raised.push(ContainerEvent {
                service: service.to_owned(),
                started: false,
            });
        }
    }

    /// Waits until the thread that keeps what serves, where there is one, has seen to what happened: it is as quick as a
    /// thread that looks all the time.
    fn await_keeper(&self) {
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let looks = |is_awaited| {
            let mut world = self.world();
            let attention = world.attention.as_mut().filter(|a| a.has_keeper)?;
            attention.is_awaited = is_awaited;
            Some(attention.looks)
        };
        let Some(from) = looks(true).filter(|_| !self.is_apart) else {
            return;
        };
        // It may be in the middle of one.
        while looks(true).is_some_and(|now| now < from + 2) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_micros(300));
        }
        looks(false);
    }

    /// Puts an image on the host under a name, as `docker load` or `docker build` does.
    pub fn load(&self, reference: &str, image: &FakeImage) {
        self.world().put(reference, image.clone());
    }

    /// An administrator has the engine keep its images elsewhere and starts it again: it knows nothing of those that it
    /// had, nor of their containers, which have ended. Volumes and networks are not in the store.
    pub fn switch_store(&self, store: ImageStore) {
        let mut world = self.world();
        world.store = store;
        world.images.clear();
        world.names.clear();
        world.containers.clear();
    }

    /// Whether `docker-compose up -d` with this file would leave a service's one container exactly as it is.
    pub fn is_as_written(&self, composition: &Composition, service: &str) -> bool {
        let world = self.world();
        let Ok(file) = File::read(composition) else {
            return false;
        };
        let Ok(wanted) = file.container(service, &world) else {
            return false;
        };
        let of_service: Vec<&FakeContainer> = world
            .containers
            .iter()
            .filter(|c| c.project == composition.project && c.service == service)
            .collect();
        let replicas = file.document["services"][service]["deploy"]["replicas"].as_u64();
        let as_written = |c: &&FakeContainer| c.config == wanted.config && world.is_alive(c);
        of_service.len() as u64 == replicas.unwrap_or(1) && of_service.iter().all(as_written)
    }

    /// The services that run.
    fn running(&self) -> BTreeSet<String> {
        let world = self.world();
        let running = world.containers.iter().filter(|c| world.is_alive(c));
        running.map(|c| c.service.clone()).collect()
    }

    /// One call that cannot fail.
    fn call<T>(&self, name: &str, effect: impl FnOnce(&mut World) -> T) -> T {
        if let Some(listener) = LISTENER.with_borrow(Clone::clone) {
            listener(name);
        }
        let mut world = self.world();
        let due = world.count(name.to_owned());
        if due == Some(When::Before) {
            die(world);
        }
        let result = effect(&mut world);
        world.probe();
        if due == Some(When::After) {
            die(world);
        }
        let calls = world.calls.len();
        drop(world);
        let interruption = INTERRUPTION.take();
        match interruption {
            Some((at, action)) if at == calls => action(),
            other => INTERRUPTION.set(other),
        }
        result
    }

    /// Suspends the engine at the end of a call, counted from now; wakes it when the action is over.
    pub fn interrupt_at(&self, call: usize, action: impl FnOnce() + 'static) {
        self.calm();
        INTERRUPTION.set(Some((call, Box::new(action))));
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
    HostError::said(what, said)
}

impl Host for FakeHost {
    fn now(&self) -> Timestamp {
        self.call("now", |world| {
            time(world.now_ms) + jiff::SignedDuration::from_millis(world.wall_offset_ms)
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
            world.slept_ms += time.as_millis() as u64;
            assert!(world.slept_ms < FOREVER_MS, "somebody waits for ever");
            // Looks in between, as a measurement does that goes on all the time.
            for _ in 0..4 {
                world.now_ms += time.as_millis() as u64 / 4;
                world.probe();
            }
            world.now_ms += time.as_millis() as u64 % 4;
            world.due_timers()
        });
        for action in due {
            action();
        }
        self.await_keeper();
    }

    fn apart(&self) -> Option<Box<dyn Attentive>> {
        self.world().attention.as_mut()?.has_keeper = true;
        Some(Box::new(FakeHost {
            world: Arc::clone(&self.world),
            is_apart: true,
        }))
    }

    fn engine(&self) -> Result<EngineFacts, HostError> {
        self.try_call("engine", |world| {
            Ok(EngineFacts {
                store: world.store,
                oldest_api: "1.24".to_owned(),
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
                layers: image.layers(),
                tags: world.names_of(&image.id),
                digests: vec![],
                architecture: "amd64".to_owned(),
                volumes: vec![],
            }))
        })
    }

    fn image_content(&self, id: &str) -> Result<ImageContent, HostError> {
        self.try_call("image_content", |world| match world.images.get(id) {
            None => Err(said("GET /images", format!("No such image: {id}"))),
            Some(image) => Ok(ImageContent {
                config: image.config.clone(),
                size: 10_000_000,
            }),
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
            world.put(&with_tag(reference), image);
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

    fn create(
        &self,
        composition: &Composition,
        service: &str,
        containers: usize,
    ) -> Result<(), HostError> {
        self.try_call(&format!("create {service}"), |world| {
            world.create(composition, service, containers)
        })
    }

    fn start(&self, container: &str) -> Result<(), HostError> {
        self.try_call("start", |world| {
            if world.containers.iter().any(|c| c.id == container) {
                world.start(container)
            } else {
                Err(said(
                    "docker start",
                    format!("No such container: {container}"),
                ))
            }
        })
    }

    fn unpause(&self, container: &str) -> Result<(), HostError> {
        self.try_call("unpause", |world| {
            world.unpause(container);
            Ok(())
        })
    }

    fn set_restart_policy(&self, container: &str, policy: &str) -> Result<(), HostError> {
        self.try_call("set_restart_policy", |world| {
            for found in world.containers.iter_mut().filter(|c| c.id == container) {
                found.restart_policy = policy.to_owned();
            }
            Ok(())
        })
    }

    fn run_in(
        &self,
        container: &str,
        argv: &[String],
        _deadline: Duration,
    ) -> Result<(), HostError> {
        self.try_call("run_in", |world| {
            let found = world.containers.iter().find(|c| c.id == container);
            match found.filter(|c| world.is_alive(c)) {
                Some(_) => Ok(()),
                None => Err(said("docker exec", format!("{argv:?}: is not running"))),
            }
        })
    }

    fn gateway_servers(&self, gateway: &str) -> Result<Vec<Server>, HostError> {
        self.try_call("gateway_servers", |world| {
            world.resolve();
            let backends = world.running_gateway(gateway)?.backends.clone();
            let backends = backends.iter();
            Ok(backends
                .flat_map(|(name, backend)| servers(world, name, backend))
                .collect())
        })
    }

    fn change_gateway(&self, gateway: &str, changes: &[Change]) -> Result<(), HostError> {
        self.try_call("change_gateway", |world| {
            world.resolve();
            world.running_gateway(gateway)?;
            for change in changes {
                world.change(gateway, change)?;
            }
            Ok(())
        })
    }

    fn connects(&self, address: &str, _port: u16, _timeout: Duration) -> bool {
        self.call("connects", |world| {
            let found = world.containers.iter().find(|c| c.address == address);
            found.is_some_and(|container| world.listens(container))
        })
    }

    fn prober(&self, target: &Target) -> Box<dyn Prober> {
        let recorder = Arc::new(Mutex::new(Recorder::default()));
        let shared = Arc::clone(&recorder);
        self.call("prober", |world| {
            world.probers.push((target.clone(), shared))
        });
        Box::new(FakeProber {
            host: self.clone(),
            recorder,
        })
    }

    fn stop(&self, container: &str) -> Result<(), HostError> {
        self.try_call("stop", |world| {
            let found = world.containers.iter().find(|c| c.id == container);
            if found.is_some_and(|c| matches!(c.life, Life::StartedAt(_))) {
                world.end(container, 0);
            }
            Ok(())
        })
    }

    fn stop_within(&self, container: &str, _grace: Duration) -> Result<(), HostError> {
        self.stop(container)
    }

    fn restart(&self, container: &str, grace: Duration) -> Result<(), HostError> {
        self.stop_within(container, grace)?;
        self.start(container)
    }

    fn remove_container(&self, container: &str) -> Result<(), HostError> {
        self.try_call("remove_container", |world| {
            world.end(container, 137);
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

    fn volume(&self, name: &str) -> Result<Option<Volume>, HostError> {
        self.try_call("volume", |world| {
            let found = world.volumes.contains_key(name).then(|| Volume {
                name: name.to_owned(),
                driver: "local".to_owned(),
                options: BTreeMap::new(),
                created: None,
            });
            Ok(found)
        })
    }

    fn projects(&self) -> Result<Vec<String>, HostError> {
        self.try_call("projects", |world| {
            let projects = world.containers.iter().map(|c| c.project.clone());
            let projects: BTreeSet<String> = projects.collect();
            Ok(projects.into_iter().collect())
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
                    world.data.remove(name);
                    Ok(())
                }
            }
        })
    }

    fn ask(&self, url: &str, _timeout: Duration, version: Option<&VersionCheck>) -> HealthAnswer {
        self.call("ask", |world| world.answer(url, version))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.try_call("free_bytes", |world| Ok(world.free_bytes))
            .map_err(io::Error::other)
    }

    fn data_root(&self) -> Result<PathBuf, HostError> {
        // No directory of this machine: what it is on is not known.
        self.try_call("data_root", |_| Ok(PathBuf::from("/volumes")))
    }

    fn data_reader<'a>(&'a self, _project: &'a str) -> Box<dyn DataReader + 'a> {
        Box::new(FakeReader(self))
    }

    fn data_writer<'a>(&'a self, _project: &'a str) -> Box<dyn DataWriter + 'a> {
        Box::new(FakeWriter(self))
    }
}

impl Attentive for FakeHost {
    fn await_event(
        &self,
        _project: &str,
        _since: Timestamp,
        _patience: Duration,
    ) -> Result<Option<ContainerEvent>, HostError> {
        self.world().attention.as_mut().expect("it attends").looks += 1;
        for _ in 0..50 {
            let mut world = self.world();
            let attention = world.attention.as_mut().expect("it attends");
            if let Some(event) = attention.raised.get(attention.taken).cloned() {
                attention.taken += 1;
                return Ok(Some(event));
            }
            if attention.is_awaited {
                break;
            }
            drop(world);
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(None)
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        // The others may go while somebody has the world in hand.
        if !self.is_apart {
            return;
        }
        if let Some(attention) = &mut self.world().attention {
            attention.has_keeper = false;
        }
    }
}

/// Measures at every call and while the clock moves.
struct FakeProber {
    host: FakeHost,
    recorder: Arc<Mutex<Recorder>>,
}

impl Prober for FakeProber {
    fn take(&mut self) -> Measured {
        let now = self.host.world().now_ms;
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.take(now)
    }
}

impl Drop for FakeProber {
    fn drop(&mut self) {
        let mut world = self.host.world();
        world
            .probers
            .retain(|(_, other)| !Arc::ptr_eq(other, &self.recorder));
    }
}

fn servers(world: &World, name: &str, backend: &Backend) -> Vec<Server> {
    let slots = backend.slots.iter().enumerate();
    slots
        .map(|(number, (address, admission))| Server {
            backend: name.to_owned(),
            name: format!("s{}", number + 1),
            address: address.clone(),
            admission: *admission,
            sessions: world.written_at(address.as_deref()),
        })
        .collect()
}

impl FakeGateway {
    /// Reads the fronts and backends that a gateway's Compose service describes.
    fn read(spec: &Value) -> Option<FakeGateway> {
        let script = spec.get("command")?.get(0)?.as_str()?;
        let mut inside = BTreeMap::new();
        let mut backends = BTreeMap::new();
        let (mut bound, mut backend) = (0_u16, "");
        for line in script.lines().map(str::trim) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["bind", port] => bound = port.trim_start_matches(':').parse().ok()?,
                ["default_backend", name] => {
                    inside.insert(bound, name.to_owned());
                }
                ["backend", name] => backend = name,
                ["server-template", _, count, target, ..] => {
                    let count = count.parse().ok()?;
                    let (service, _) = target.split_once(':')?;
                    let made = Backend {
                        service: service.to_owned(),
                        slots: vec![(None, Admission::Ready); count],
                    };
                    backends.insert(backend.to_owned(), made);
                }
                _ => {}
            }
        }
        let ports = spec.get("ports")?.as_array()?.iter().filter_map(|port| {
            let mut parts = port.as_str()?.rsplit(':');
            let target: u16 = parts.next()?.parse().ok()?;
            Some((parts.next()?.parse().ok()?, inside.get(&target)?.clone()))
        });
        Some(FakeGateway {
            fronts: ports.collect(),
            backends,
        })
    }
}

fn time(ms: u64) -> Timestamp {
    Timestamp::from_millisecond(1_734_273_022_000 + ms as i64).expect("a time that can be written")
}

impl Revival for FakeHost {
    fn last_start(&self) -> Result<Option<EngineStart>, HostError> {
        self.try_call("last_start", |world| {
            let (from, until) = world.docker_started_ms;
            Ok(Some(EngineStart {
                from: time(from),
                until: time(until),
            }))
        })
    }

    fn ended(&self, project: &str) -> Result<Vec<Ended>, HostError> {
        self.try_call("ended", |world| {
            let ended = world
                .containers
                .iter()
                .filter(|c| c.project == project && matches!(world.state(c), RunState::Exited(_)));
            let ended = ended.map(|c| Ended {
                container: c.id.clone(),
                service: c.service.clone(),
                image_id: c.image_id.clone(),
                restart_policy: c.restart_policy.clone(),
                one_off: false,
                finished: time(world.ended_ms.get(&c.id).copied().unwrap_or_default()),
                start_failed: world.start_failed.contains(&c.id),
            });
            Ok(ended.collect())
        })
    }

    fn start_again(&self, container: &str) -> Result<(), HostError> {
        self.try_call(&format!("start_again {container}"), |world| {
            world.start_failed.remove(container);
            world.start(container)
        })
    }
}

/// Reads the data of the fake host's volumes. Its calls count like the host's own.
struct FakeReader<'a>(&'a FakeHost);

impl FakeReader<'_> {
    fn call<T>(&self, name: &str, value: T) -> Result<T, ReadError> {
        let done = self.0.try_call(name, |_| Ok(value));
        done.map_err(|error| ReadError::said(name, error.to_string()))
    }
}

impl DataReader for FakeReader<'_> {
    fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
        let content = self.0.world().content_of(source).clone();
        let bytes = self.call("read_data", archive_of(&content))?;
        sink(&mut bytes.as_slice()).map_err(ReadError::Sink)
    }

    fn size(&self, source: &DataKind) -> Result<u64, ReadError> {
        let content = self.0.world().content_of(source).clone();
        let size = content.files.values().map(|text| text.len() as u64).sum();
        let size = self.call("data_size", size)?;
        match source {
            DataKind::Volume { name } if !self.0.world().volumes.contains_key(name) => {
                Err(ReadError::Absent)
            }
            DataKind::Volume { .. } | DataKind::Bind { .. } => Ok(size),
        }
    }

    fn sweep(&self) -> Result<(), ReadError> {
        Ok(())
    }

    fn logs(&self, _source: &LogSource, _most: u64) -> Result<Vec<u8>, ReadError> {
        self.call("read_logs", b"a line\n".to_vec())
    }
}

/// Puts data into the fake host's volumes. Nobody may use them meanwhile.
struct FakeWriter<'a>(&'a FakeHost);

impl FakeWriter<'_> {
    fn change(
        &self,
        name: &str,
        source: &RestoredSource,
        effect: impl FnOnce(&mut Content),
    ) -> Result<(), ReadError> {
        let done = self.0.try_call(name, |world| {
            let user = world.user_of(&source.kind);
            assert_eq!(user, None, "{name} beside a container that runs");
            effect(world.content_of(&source.kind));
            Ok(())
        });
        done.map_err(|error| ReadError::said(name, error.to_string()))
    }
}

impl DataWriter for FakeWriter<'_> {
    fn set_aside(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.change("set_aside", source, |content| {
            let files = std::mem::take(&mut content.files);
            content.aside.entry(mark.to_owned()).or_insert(files);
        })
    }

    fn fill(&self, source: &RestoredSource, feed: Feed<'_>) -> Result<(), ReadError> {
        let mut bytes = vec![];
        feed(&mut bytes).map_err(ReadError::Sink)?;
        let running = self.0.running();
        self.0.world().ran_at_fill.push(running);
        self.change("fill", source, |content| {
            content.files.extend(files_in(&bytes));
        })
    }

    fn check(
        &self,
        source: &RestoredSource,
        _mark: &str,
        wanted: &[EntryRecord],
    ) -> Result<(), ReadError> {
        let found = self.0.world().content_of(&source.kind).files.clone();
        let wanted = wanted.iter().filter_map(|entry| match &entry.kind {
            EntryKind::File { sha256, .. } => Some((entry.path.clone(), sha256.clone())),
            _ => None,
        });
        let wanted: BTreeMap<String, String> = wanted.collect();
        let found = found
            .into_iter()
            .map(|(name, text)| (name, sha256(text.as_bytes())));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted);
        self.change("check", source, |_| ())
    }

    fn put_back(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.change("put_back", source, |content| {
            if let Some(files) = content.aside.remove(mark) {
                content.files = files;
            }
        })
    }

    fn forget(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        let done = self.0.try_call("forget_aside", |world| {
            world.content_of(&source.kind).aside.remove(mark);
            Ok(())
        });
        done.map_err(|error| ReadError::said("forget", error.to_string()))
    }

    fn sweep(&self) -> Result<(), ReadError> {
        Ok(())
    }
}

fn files_in(archive: &[u8]) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("a tar");
        let path = entry.path().expect("a path").display().to_string();
        let name = path.strip_prefix(TOP).expect("under the top");
        if entry.header().entry_type().is_file() {
            let mut text = String::new();
            io::Read::read_to_string(&mut entry, &mut text).expect("text");
            found.push((name.trim_start_matches('/').to_owned(), text));
        }
    }
    found
}

fn archive_of(content: &Content) -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    let top = ("data/".to_owned(), tar::EntryType::Directory, String::new());
    let files = content.files.iter().map(|(name, text)| {
        let path = format!("data/{name}");
        (path, tar::EntryType::Regular, text.clone())
    });
    let record = serde_json::to_string(&Packed {
        listed: 1 + content.files.len() as u64,
        entries: 1 + content.files.len() as u64,
        ..Packed::default()
    });
    let record = (
        RECORD.to_owned(),
        tar::EntryType::Regular,
        record.expect("JSON"),
    );
    for (path, kind, content) in std::iter::once(top).chain(files).chain([record]) {
        let content = content.as_bytes();
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
    /// What is at a place of data; a bind mount holds the same as a volume of its path's name.
    fn content_of(&mut self, source: &DataKind) -> &mut Content {
        let name = match source {
            DataKind::Volume { name } => name.clone(),
            DataKind::Bind { path } => path.display().to_string(),
        };
        let is_empty_dir = |path: &Path| path.read_dir().is_ok_and(|mut dir| dir.next().is_none());
        self.data.entry(name).or_insert_with(|| match source {
            DataKind::Bind { path } if is_empty_dir(path) => Content::empty(),
            DataKind::Bind { .. } | DataKind::Volume { .. } => Content::default(),
        })
    }

    /// A container that runs and has a volume.
    fn user_of(&self, source: &DataKind) -> Option<String> {
        let DataKind::Volume { name } = source else {
            return None;
        };
        let has_it = |c: &&FakeContainer| c.volumes.contains(name);
        let mut users = self.containers.iter().filter(has_it);
        let running = users.find(|c| self.state(c) == RunState::Running);
        running.map(|c| c.service.clone())
    }

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

    /// Takes an image into the store, under a name.
    fn put(&mut self, reference: &str, mut image: FakeImage) {
        if self.store == ImageStore::Graph {
            image.id = image.config.clone();
        }
        self.names.insert(reference.to_owned(), image.id.clone());
        self.images.insert(image.id.clone(), image);
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
            _ if container.paused => RunState::Paused,
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
                addresses: match self.state(c) {
                    RunState::Running => vec![c.address.clone()],
                    _ => vec![],
                },
                app: String::new(),
                mounts: c.mounts.clone(),
            })
            .collect()
    }

    /// What Compose does for `up --no-deps SERVICE`.
    fn up(&mut self, composition: &Composition, service: &str) -> Result<(), HostError> {
        let file = File::read(composition)?;
        let wanted = file.container(service, self)?;
        self.make_surroundings(&file);
        let mut of_service = self.ids_of(&wanted);
        for id in &of_service {
            self.unpause(id);
        }
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
        for id in &of_service {
            if matches!(self.container(id).life, Life::StartedAt(_)) {
                self.end(id, 0);
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
        if self.state(&container) == RunState::Paused {
            return refuse("cannot start a paused container, try unpause instead");
        }
        if *self.behaviour(&container) == Behaviour::WontStart {
            return refuse("OCI runtime create failed: exec: \"/app\": no such file or directory");
        }
        let taken = self
            .containers
            .iter()
            .filter(|c| c.id != container.id && self.is_alive(c))
            .any(|c| c.ports.iter().any(|port| container.ports.contains(port)));
        let (from, until) = self.ports_kept_ms;
        let is_kept = (from..until).contains(&self.now_ms) && !container.ports.is_empty();
        if taken || is_kept {
            return refuse("driver failed programming: port is already allocated");
        }
        let image = &self.images[&container.image_id];
        if matches!(image.behaviour, Behaviour::OneShot(_)) {
            self.one_shots
                .push(format!("{} {}", container.service, image.version));
        }
        self.launch(id);
        Ok(())
    }

    /// A container begins to run: at an address of its own, and a gateway with nothing in its memory.
    fn launch(&mut self, id: &str) {
        if self.data.values().any(|content| !content.aside.is_empty()) {
            let image = &self.images[&self.container(id).image_id];
            let told = format!("{} {}", self.container(id).service, image.version);
            self.beside_kept.push(told);
        }
        for volume in self.container(id).volumes.clone() {
            let content = self.data.entry(volume).or_default();
            if *content == Content::empty() {
                *content = Content::default();
            }
        }
        let (now, number) = (self.now_ms, self.number());
        for container in self.containers.iter_mut().filter(|c| c.id == id) {
            container.life = Life::StartedAt(now);
            container.paused = false;
            container.address = format!(
                "10.{}.{}.{}",
                number >> 16,
                (number >> 8) & 255,
                number & 255
            );
            for backend in container
                .gateway
                .iter_mut()
                .flat_map(|g| g.backends.values_mut())
            {
                backend.slots.fill((None, Admission::Ready));
            }
        }
    }

    fn unpause(&mut self, id: &str) {
        for container in self.containers.iter_mut().filter(|c| c.id == id) {
            container.paused = false;
        }
    }

    fn end(&mut self, id: &str, code: i32) {
        let now = self.now_ms;
        self.ended_ms.insert(id.to_owned(), now);
        let is_cut = |(by, until): &(String, u64)| by == id && *until > now;
        self.cut_off += self
            .writing
            .extract_if(.., |writing| is_cut(writing))
            .count() as u64;
        for container in self.containers.iter_mut().filter(|c| c.id == id) {
            container.life = Life::StoppedWith(code);
            container.paused = false;
        }
    }

    /// What Compose does for `up --no-start --no-recreate --scale SERVICE=N`.
    fn create(
        &mut self,
        composition: &Composition,
        service: &str,
        wanted: usize,
    ) -> Result<(), HostError> {
        let file = File::read(composition)?;
        let container = file.container(service, self)?;
        self.make_surroundings(&file);
        while self.ids_of(&container).len() < wanted {
            let id = sha256(format!("container {}", self.number()).as_bytes());
            self.containers.push(FakeContainer {
                id,
                ..container.clone()
            });
        }
        Ok(())
    }

    fn make_surroundings(&mut self, file: &File) {
        for network in file.networks() {
            self.networks.insert(network, file.project.clone());
        }
        for volume in file.volumes() {
            if !self.volumes.contains_key(&volume) {
                let number = self.number();
                self.data.insert(volume.clone(), Content::empty());
                self.volumes.insert(volume, (file.project.clone(), number));
            }
        }
    }

    /// How many answers the container with this address is writing.
    fn written_at(&self, address: Option<&str>) -> u64 {
        let owner = self
            .containers
            .iter()
            .find(|c| Some(c.address.as_str()) == address);
        let is_its = |(by, until): &&(String, u64)| {
            *until > self.now_ms && owner.is_some_and(|c| c.id == *by)
        };
        self.writing.iter().filter(is_its).count() as u64
    }

    /// Docker's DNS, as the gateways see it: who runs has a place, who does not has none.
    fn resolve(&mut self) {
        let running: Vec<(String, String, String)> = self
            .containers
            .iter()
            // One that is paused keeps its name.
            .filter(|c| matches!(self.state(c), RunState::Running | RunState::Paused))
            .map(|c| (c.project.clone(), c.service.clone(), c.address.clone()))
            .collect();
        for container in &mut self.containers {
            let project = &container.project;
            for backend in container
                .gateway
                .iter_mut()
                .flat_map(|g| g.backends.values_mut())
            {
                let of_service = running
                    .iter()
                    .filter(|(p, s, _)| p == project && *s == backend.service);
                let addresses: Vec<&String> = of_service.map(|(_, _, address)| address).collect();
                for (address, _) in &mut backend.slots {
                    if address.as_ref().is_some_and(|a| !addresses.contains(&a)) {
                        *address = None;
                    }
                }
                for address in addresses {
                    let known = backend
                        .slots
                        .iter()
                        .any(|(a, _)| a.as_ref() == Some(address));
                    let mut free = backend.slots.iter_mut().filter(|(a, _)| a.is_none());
                    if let (false, Some(slot)) = (known, free.next()) {
                        slot.0 = Some(address.clone());
                    }
                }
            }
        }
    }

    fn running_gateway(&mut self, id: &str) -> Result<&mut FakeGateway, HostError> {
        let refuse = || said("docker exec", format!("Container {id} is not running"));
        let runs = self
            .containers
            .iter()
            .any(|c| c.id == id && self.is_alive(c));
        let mut found = self.containers.iter_mut().filter(|c| c.id == id && runs);
        found
            .next()
            .and_then(|c| c.gateway.as_mut())
            .ok_or_else(refuse)
    }

    fn change(&mut self, gateway: &str, change: &Change) -> Result<(), HostError> {
        let refuse = || said("a command for the gateway", "No such server.");
        let backends = &mut self.running_gateway(gateway)?.backends;
        let backend = backends.get_mut(&change.backend).ok_or_else(refuse)?;
        let number = change.server.trim_start_matches('s').parse::<usize>().ok();
        let slot = number
            .and_then(|n| backend.slots.get_mut(n - 1))
            .ok_or_else(refuse)?;
        slot.1 = change.to;
        Ok(())
    }

    fn listens(&self, container: &FakeContainer) -> bool {
        let Life::StartedAt(at) = container.life else {
            return false;
        };
        self.state(container) == RunState::Running
            && self.now_ms - at >= READY_MS
            && !matches!(
                self.behaviour(container),
                Behaviour::NeverListens | Behaviour::OneShot(_)
            )
    }

    /// Asks for every measurement that is going on.
    fn probe(&mut self) {
        for (target, recorder) in self.probers.clone() {
            let now = self.now_ms;
            let answer = self.answer(&target.url, target.version.as_ref());
            let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                HealthAnswer::Status { code, version } if code < 500 => {
                    recorder.good(now, 1, version.as_deref())
                }
                other => recorder.bad(&other.describe()),
            }
        }
    }

    /// The container that gets the next request at a port of the host, through the gateway where it has the port.
    fn server_at(&mut self, port: u16) -> Option<FakeContainer> {
        self.resolve();
        let with_port = |c: &&FakeContainer| c.ports.contains(&port);
        let running = |c: &&FakeContainer| self.state(c) == RunState::Running;
        let holder = self
            .containers
            .iter()
            .filter(with_port)
            .find(running)?
            .clone();
        if let Behaviour::Proxy(service) = self.behaviour(&holder) {
            let of_service = self.containers.iter().filter(|c| c.service == *service);
            let found: Vec<&FakeContainer> = of_service.filter(|c| self.listens(c)).collect();
            let chosen = found.get(self.turn % found.len().max(1)).copied().cloned();
            self.turn += 1;
            return chosen;
        }
        let Some(gateway) = &holder.gateway else {
            return Some(holder);
        };
        let name = gateway.fronts.get(&port)?.clone();
        let backend = &gateway.backends[&name];
        let ready: Vec<&String> = backend
            .slots
            .iter()
            .filter(|(_, admission)| *admission == Admission::Ready)
            .filter_map(|(address, _)| address.as_ref())
            .collect();
        let in_turn = (0..ready.len()).map(|n| ready[(n + self.turn) % ready.len()]);
        let mut servers = in_turn.filter_map(|a| self.containers.iter().find(|c| c.address == *a));
        // A connection that is refused is tried at the next server.
        let chosen = servers.find(|c| self.listens(c)).cloned();
        self.turn += 1;
        chosen
    }

    fn answer(&mut self, url: &str, version: Option<&VersionCheck>) -> HealthAnswer {
        let refused = || HealthAnswer::Unreachable("Connection refused (os error 111)".to_owned());
        let late = || HealthAnswer::Unreachable("no answer in time".to_owned());
        let Some((host, port, path)) = parts_of(url) else {
            return refused();
        };
        let server = match host.as_str() {
            "127.0.0.1" => self.server_at(port),
            address => self
                .containers
                .iter()
                .find(|c| c.address == address && self.state(c) == RunState::Running)
                .cloned(),
        };
        let Some(server) = server else {
            return refused();
        };
        if host == "127.0.0.1" {
            let version = self.images[&server.image_id].version.clone();
            *self.served.entry(version).or_default() += 1;
        }
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
        if host == "127.0.0.1" && code < 500 {
            let now = self.now_ms;
            let until = now + self.answers_last_ms;
            self.writing.retain(|(_, until)| *until > now);
            self.writing.push((server.id.clone(), until));
        }
        let version = version.and_then(|check| match check {
            VersionCheck::Header(name) => name.eq_ignore_ascii_case(VERSION_HEADER).then_some(told),
            VersionCheck::Json(field) => (field == "version").then_some(told),
        });
        HealthAnswer::Status { code, version }
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

fn parts_of(url: &str) -> Option<(String, u16, String)> {
    let (place, path) = url.strip_prefix("http://")?.split_once('/')?;
    let (host, port) = place.split_once(':')?;
    Some((host.to_owned(), port.parse().ok()?, format!("/{path}")))
}

fn render(composition: &Composition, variables: &[(String, String)]) -> Result<Value, HostError> {
    let what = "docker compose config";
    let text = std::fs::read_to_string(&composition.file)
        .map_err(|e| said(what, format!("{}: {e}", composition.file.display())))?;
    let text = variables.iter().fold(text, |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    });
    let mut document = parsed(&text).map_err(|e| said(what, e))?;
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
    let dot_env = std::fs::read_to_string(composition.directory.join(".env")).unwrap_or_default();
    let set = variables.iter().find(|(name, _)| name == PROFILES);
    let active = active_profiles(set.map(|(_, value)| value.as_str()), &dot_env);
    leave_out_inactive(&mut document, &active);
    if let Some(map) = document.as_object_mut() {
        map.insert("name".to_owned(), composition.project.clone().into());
    }
    Ok(document)
}

thread_local! {
    static PARSED: RefCell<BTreeMap<String, Value>> = const { RefCell::new(BTreeMap::new()) };
}

/// Reads a file's text; the same few are read again and again.
fn parsed(text: &str) -> Result<Value, String> {
    if let Some(known) = PARSED.with_borrow(|known| known.get(text).cloned()) {
        return Ok(known);
    }
    let document: Value = yaml::read(text.as_bytes()).map_err(|e| e.to_string())?;
    PARSED.with_borrow_mut(|known| known.insert(text.to_owned(), document.clone()));
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
            mounts: self.mounts_of(spec),
            has_healthcheck: spec.get("healthcheck").is_some(),
            life: Life::Created,
            paused: false,
            address: String::new(),
            gateway: match service {
                GATEWAY_SERVICE => FakeGateway::read(spec),
                _ => None,
            },
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

    /// The named volumes that a service has, each with its place in the container.
    fn mounts_of(&self, spec: &Value) -> Vec<ContainerMount> {
        let mounts = spec.get("volumes").and_then(Value::as_array);
        let mounts = mounts.into_iter().flatten().filter_map(|mount| {
            let (source, target) = match mount {
                Value::String(short) => short.split_once(':')?,
                long => (long.get("source")?.as_str()?, long.get("target")?.as_str()?),
            };
            self.document.get("volumes")?.get(source)?;
            Some(ContainerMount {
                data: DataKind::Volume {
                    name: format!("{}_{source}", self.project),
                },
                target: target.split(':').next().unwrap_or(target).to_owned(),
                is_writable: true,
            })
        });
        mounts.collect()
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
