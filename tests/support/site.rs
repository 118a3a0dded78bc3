//! An application on a fake host: versions to deploy, a root of its own, and what every test asks of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64::Engine as _;
use belay_agent::engine::{self, Ending};
use belay_agent::error::EngineError;
use belay_agent::host::{Composition, Host, RunState};
use belay_agent::journal::Journal;
use belay_agent::layout::Layout;
use belay_agent::lock::{self, HostLock, Locking};
use belay_agent::{adopt, backup, engine_process, records, state};
use belay_model::composition::continuity::{Meant, Unsaid};
use belay_model::config::{DataMeaning, ImageSource, WishedStrategy};
use belay_model::digest::sha256;
use belay_model::judgement::health::{DegradedRule, HealthAnswer, HealthRules, VersionCheck};
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::{GatewayRule, StrategyWish};
use belay_model::transaction::journal::{End, Entry, Event, Holder};
use belay_model::transaction::outcome::Failure;
use belay_model::transaction::plan::{
    BackupRules, ConfirmRule, ContinuityRules, DataRule, DeployWork, Limits, OverLimit, Plan,
    PlannedImage, PlannedWork, RequestRules, ShippedFile,
};
use belay_model::versions::release::{Current, Release, RollbackTo};
use belay_model::yaml;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fake_host::{Behaviour, Content, FakeHost, FakeImage, VERSION_HEADER, World};

pub const PROJECT: &str = "app";
/// The database's.
const VOLUME: &str = "app_data";
pub const PRIMARY_URL: &str = "http://127.0.0.1:8080/api/status";
pub const BACKUP_URL: &str = "http://127.0.0.1:8080/health";

/// A host in memory has no processes to watch and no boot to recover at.
pub const NO_GUARDS: engine_process::Guards = engine_process::Guards {
    watch: |_| Ok(()),
    supervise: |_| None,
};

/// A version of the application, as its tag has it.
#[derive(Clone, Debug)]
pub struct Version {
    pub tag: String,
    pub compose: Value,
    /// Placed under the root: path, mode, text.
    pub files: Vec<(String, u32, String)>,
    /// Services whose image Belay brings, and what it does.
    pub built: BTreeMap<String, Behaviour>,
    /// What belay.yml says of single services.
    pub wishes: Vec<StrategyWish>,
}

impl Version {
    /// `db` (its image and definition never change), `web`, `worker`, a one-shot `migrate`, and `legacy`.
    pub fn first(tag: &str) -> Self {
        let mut version = Version::common(tag);
        version.compose["services"]["legacy"] = json!({
            "image": "legacy:1", "restart": "unless-stopped", "ports": ["127.0.0.1:9090:90"]});
        version
    }

    /// Without `legacy`; with `cache`, which has a network and a volume of its own, and takes over `legacy`'s port.
    pub fn second(tag: &str) -> Self {
        let mut version = Version::common(tag);
        let services = &mut version.compose["services"];
        services["cache"] = json!({"image": "cache:7", "restart": "unless-stopped", "networks": ["back"],
            "volumes": ["cachedata:/data"], "ports": ["127.0.0.1:9090:6379"]});
        services["migrate"]["volumes"] = json!(["cachedata:/cache", "data:/data"]);
        version.compose["networks"] = json!({"back": null});
        version.compose["volumes"]["cachedata"] = Value::Null;
        version.files.push((
            "conf/new/cache.conf".to_owned(),
            0o644,
            "cache\n".to_owned(),
        ));
        version
    }

    /// Like the first, with the database's data in another volume.
    pub fn with_moved_data(tag: &str) -> Self {
        let mut version = Version::first(tag);
        version.compose["services"]["db"]["volumes"] = json!(["store:/var/lib/db"]);
        version.compose["volumes"] = json!({"store": null});
        version
    }

    fn common(tag: &str) -> Self {
        let built = |extra: Value| {
            let mut service = json!({"build": {"context": "."}, "restart": "unless-stopped",
                "environment": {"RELEASE": "${BELAY_TAG}"}});
            if let (Some(all), Some(extra)) = (service.as_object_mut(), extra.as_object()) {
                all.extend(extra.clone());
            }
            service
        };
        let compose = json!({
            "services": {
                "db": {"image": "db:16", "restart": "unless-stopped", "volumes": ["data:/var/lib/db"],
                    "healthcheck": {"test": ["CMD", "ready"], "interval": "1s", "timeout": "1s", "retries": 5}},
                "web": built(json!({"ports": ["127.0.0.1:8080:8080"], "volumes": ["./conf:/etc/app:ro"],
                    "depends_on": {"db": {"condition": "service_healthy"},
                        "migrate": {"condition": "service_completed_successfully"}}})),
                "worker": built(json!({"depends_on": {"web": {"condition": "service_started"}}})),
                "migrate": built(json!({"restart": "no",
                    "depends_on": {"db": {"condition": "service_healthy"}}})),
            },
            "volumes": {"data": null},
        });
        Version {
            tag: tag.to_owned(),
            compose,
            files: vec![
                (".env".to_owned(), 0o600, format!("RELEASE={tag}\n")),
                ("conf/app.conf".to_owned(), 0o644, format!("app {tag}\n")),
                (
                    "bin/tool".to_owned(),
                    0o755,
                    format!("#!/bin/sh\n# {tag}\n"),
                ),
            ],
            built: BTreeMap::from([
                ("web".to_owned(), Behaviour::Healthy),
                ("worker".to_owned(), Behaviour::Healthy),
                ("migrate".to_owned(), Behaviour::OneShot(0)),
            ]),
            wishes: vec![],
        }
    }

    #[must_use]
    pub fn with(mut self, service: &str, behaviour: Behaviour) -> Self {
        self.built.insert(service.to_owned(), behaviour);
        self
    }

    #[must_use]
    pub fn stop_first(mut self, service: &str) -> Self {
        self.wishes.push(StrategyWish {
            strategy: WishedStrategy::StopFirst,
            ..StrategyWish::of(service)
        });
        self
    }

    /// The image that Belay brings for a service.
    pub fn image(&self, service: &str) -> FakeImage {
        FakeImage::new(service, &self.tag, self.built[service].clone())
    }

    pub fn reference(&self, service: &str) -> String {
        format!("belay/{PROJECT}/{service}:{}", self.tag)
    }

    fn work(&self) -> DeployWork {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut files = vec![ShippedFile {
            path: "docker-compose.yml".to_owned(),
            mode: 0o644,
            placed: false,
            base64: encode(&yaml::write(&self.compose)),
        }];
        files.extend(self.files.iter().map(|(path, mode, text)| ShippedFile {
            path: path.clone(),
            mode: *mode,
            placed: true,
            base64: encode(text),
        }));
        DeployWork {
            tag: self.tag.clone(),
            revision: sha256(self.tag.as_bytes())[..40].to_owned(),
            compose_path: "docker-compose.yml".to_owned(),
            files,
            images: self
                .built
                .keys()
                .map(|service| PlannedImage {
                    service: service.clone(),
                    reference: self.reference(service),
                    id: self.image(service).config,
                    layers: self.image(service).layers(),
                    manifest: None,
                    size: 10_000_000,
                    source: ImageSource::Stream,
                    volumes: vec![],
                })
                .collect(),
            strategies: self.wishes.clone(),
        }
    }
}

/// A plan for any work, with rules that most tests want.
pub fn plan_for(work: PlannedWork) -> Plan {
    Plan {
        schema: belay_model::transaction::plan::SCHEMA,
        tx: sha256(format!("{work:?}").as_bytes())[..32].to_owned(),
        holder: Holder {
            what: work.describe(),
            ..Holder::default()
        },
        work,
        app: PROJECT.to_owned(),
        environment: "production".to_owned(),
        project: Some(PROJECT.to_owned()),
        health: HealthRules {
            primary: Some(PRIMARY_URL.to_owned()),
            backup: Some(BACKUP_URL.to_owned()),
            public: None,
            successes: 3,
            interval_ms: 1000,
            timeout_ms: 5000,
            deadline_ms: 8000,
            degraded: DegradedRule::Accept,
            version: Some(VersionCheck::Header(VERSION_HEADER.to_owned())),
            bake_ms: 2000,
        },
        confirm: ConfirmRule::Host,
        backup: BackupRules {
            keep: 5,
            log_lines: 100,
            data: DataRule::Auto,
        },
        keep_releases: 5,
        limits: Limits {
            transaction_ms: 600_000,
            lock_wait_ms: 0,
        },
        gateway: GatewayRule::On {
            image: "haproxy:3.0".to_owned(),
        },
        requests: RequestRules {
            per_second: 50,
            max_failed: None,
            max_gap_ms: None,
            over: OverLimit::Warn,
        },
        continuity: ContinuityRules::default(),
    }
}

pub fn deployment_of(version: &Version) -> Plan {
    plan_for(PlannedWork::Deploy(Box::new(version.work())))
}

/// One to production, that takes the database's data along.
pub fn copying_deployment_of(version: &Version) -> Plan {
    let mut plan = deployment_of(version);
    plan.continuity = ContinuityRules {
        unsaid: Unsaid::Refuse,
        meant: vec![Meant {
            source: "data".to_owned(),
            meaning: DataMeaning::Copied,
        }],
    };
    plan
}

pub fn rollback_to(to: RollbackTo) -> Plan {
    plan_for(PlannedWork::Rollback {
        to,
        reason: None,
        restore: None,
    })
}

/// A rollback that puts a backup's data back as well.
pub fn restore_of(to: RollbackTo, backup: &str) -> Plan {
    plan_for(PlannedWork::Rollback {
        to,
        reason: None,
        restore: Some(backup.to_owned()),
    })
}

/// The root that has the project's name, as a host with Compose 1.x needs it.
fn root_in(dir: &TempDir) -> PathBuf {
    dir.path().join(PROJECT)
}

/// A host with a root directory.
#[derive(Clone)]
pub struct Site {
    dir: Rc<TempDir>,
    pub host: FakeHost,
    pub layout: Layout,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// An empty host.
    pub fn new() -> Self {
        // Memory where there is some: these tests sync thousands of small files, and none outlives them.
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self::in_dir(Rc::new(dir.expect("a directory")))
    }

    fn in_dir(dir: Rc<TempDir>) -> Self {
        let layout = Layout::new(root_in(&dir));
        fs::create_dir_all(layout.root()).expect("made");
        state::prepare(&layout).expect("the state directory");
        let host = FakeHost::new();
        for (name, version) in [
            ("db:16", "16"),
            ("legacy:1", "1"),
            ("cache:7", "7"),
            ("haproxy:3.0", "3.0"),
        ] {
            let image = FakeImage::new(name, version, Behaviour::Healthy);
            host.world().registry.insert(name.to_owned(), image);
        }
        Site { dir, host, layout }
    }

    /// The same directory with nothing in it, and a new host.
    #[must_use]
    pub fn anew(&self) -> Self {
        self.wipe();
        Self::in_dir(self.dir.clone())
    }

    /// The host and the root as they are, to come back to.
    pub fn save(&self) -> Saved {
        let mut files = vec![];
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(self.root().join(&dir)).expect("readable") {
                let path = dir.join(entry.expect("readable").file_name());
                let full = self.root().join(&path);
                let data = fs::symlink_metadata(&full).expect("there");
                let kind = if data.is_symlink() {
                    Node::Link(fs::read_link(&full).expect("a link"))
                } else if data.is_dir() {
                    left.push(path.clone());
                    Node::Dir
                } else {
                    Node::File(fs::read(&full).expect("readable"))
                };
                files.push((path, data.mode() & 0o7777, kind));
            }
        }
        Saved {
            dir: self.dir.clone(),
            world: self.host.world().clone(),
            files,
        }
    }

    fn wipe(&self) {
        for entry in fs::read_dir(self.root()).expect("readable") {
            let path = entry.expect("readable").path();
            match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            }
            .expect("removed");
        }
    }

    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Writes a file of the user's under the root.
    pub fn write(&self, path: &str, mode: u32, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    }

    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root().join(path)).ok()
    }

    /// Puts an application there by hand, as it may be before Belay comes, and starts it.
    pub fn handmade(&self) {
        let web = FakeImage::new("handmade", "v0.9.0", Behaviour::Healthy);
        self.host.load("handmade/web:latest", &web);
        let db = self.host.world().registry["db:16"].clone();
        self.host.load("db:16", &db);
        self.write(".env", 0o640, "RELEASE=by hand\n");
        self.write("conf/app.conf", 0o666, "app by hand\n");
        self.write("notes.txt", 0o644, "of the user's\n");
        self.write(
            "docker-compose.yml",
            0o644,
            &yaml::write(&json!({
                "services": {
                    "db": {"image": "db:16", "volumes": ["data:/var/lib/db"]},
                    "web": {"image": "handmade/web", "ports": ["8080:8080"], "restart": "always"},
                },
                "volumes": {"data": null},
            })),
        );
        for service in ["db", "web"] {
            let started = self.host.up(&self.composition(), service);
            started.expect("the user's application runs");
        }
        self.host.calm();
    }

    /// The project as `docker-compose up -d` in the root has it.
    pub fn composition(&self) -> Composition {
        Composition {
            project: PROJECT.to_owned(),
            directory: self.root().to_owned(),
            file: self.layout.compose(),
        }
    }

    /// Brings a version's images, as the runner does before a transaction begins.
    pub fn bring(&self, version: &Version) {
        for service in version.built.keys() {
            let image = version.image(service);
            self.host.load(&version.reference(service), &image);
        }
    }

    pub fn lock(&self) -> HostLock {
        match lock::take(&self.layout, &Holder::default()).expect("the lock works") {
            Locking::Held(lock) => lock,
            Locking::Busy(holder) => panic!("the lock is held by {holder:?}"),
        }
    }

    /// What an engine's process does with a plan.
    pub fn engine(&self, plan: &Plan) -> Result<Ending, EngineError> {
        let lock = self.lock();
        let endings = engine::recover(&self.host, &self.layout, &lock, "a test came back")?;
        if let Some(stuck) = endings.iter().find(|e| matches!(e, Ending::Stuck(_))) {
            return Ok(*stuck);
        }
        let mut journal = self.begin(&lock, plan)?;
        engine::run(&self.host, &self.layout, &lock, &mut journal, plan)
    }

    /// Begins a transaction, as far as its first record.
    pub fn begin(&self, lock: &HostLock, plan: &Plan) -> Result<Journal, EngineError> {
        adopt::adopt(&self.host, &self.layout, lock, plan).expect("adopted");
        engine::begin(&self.host, &self.layout, lock, plan)
    }

    /// What an engine's process does that only settles what another left.
    pub fn recover(&self) -> Result<Vec<Ending>, EngineError> {
        let lock = self.lock();
        engine::recover(
            &self.host,
            &self.layout,
            &lock,
            "the engine before was gone",
        )
    }

    pub fn deploy(&self, version: &Version) -> Ending {
        self.bring(version);
        self.engine(&deployment_of(version))
            .expect("the engine came to an end")
    }

    pub fn roll_back(&self, to: RollbackTo) -> Ending {
        self.engine(&rollback_to(to))
            .expect("the engine came to an end")
    }

    /// Has the database's volume hold something.
    pub fn hold(&self, text: &str) {
        let mut world = self.host.world();
        world.data.insert(VOLUME.to_owned(), Content::note(text));
    }

    /// What the database's volume holds, with nothing set aside in it.
    pub fn held(&self) -> Content {
        self.host.world().data[VOLUME].clone()
    }

    /// Every backup, the newest last.
    pub fn backups(&self) -> Vec<backup::BackupEntry> {
        backup::list(self.root())
    }

    /// Deploys a version that must succeed.
    pub fn must_deploy(&self, version: &Version) {
        let ending = self.deploy(version);
        assert_eq!(
            ending,
            Ending::Ended(End::Committed),
            "{:#?}",
            self.failures()
        );
        self.check();
    }

    pub fn current(&self) -> Option<Current> {
        state::current(&self.layout).expect("readable")
    }

    /// The tag that serves, as the records say.
    pub fn serving(&self) -> Option<String> {
        self.current().map(|current| current.tag)
    }

    /// The last transaction's records.
    pub fn entries(&self) -> Vec<Entry> {
        let numbers =
            belay_agent::journal::sequence_numbers(&self.layout).expect("the journals are there");
        let last = numbers.last().expect("there was a transaction");
        let records = belay_agent::journal::read(&self.layout.journal(*last));
        records.expect("readable").to_vec()
    }

    /// Every failure and interruption that the last transaction recorded.
    pub fn failures(&self) -> Vec<String> {
        let told = self.entries().into_iter().filter_map(|e| match e.event {
            Event::Failed { step, failure } | Event::UndoFailed { step, failure } => {
                Some(format!("{step}: {}", failure.error))
            }
            Event::Interrupted { reason } => Some(reason),
            _ => None,
        });
        told.collect()
    }

    /// The first failure of the last transaction.
    pub fn cause(&self) -> Failure {
        let cause = belay_model::transaction::journal::cause(&self.entries());
        cause.expect("something failed").1
    }

    /// Service, image and whether it runs, of every container.
    pub fn running(&self) -> BTreeMap<String, (String, RunState)> {
        let containers = self.host.containers(PROJECT).expect("listed");
        containers
            .into_iter()
            .map(|c| (c.service, (c.image_id, c.state)))
            .collect()
    }

    /// The ID of a service's container.
    /// How many containers of a service run.
    pub fn running_of(&self, service: &str) -> usize {
        let containers = self.host.containers(PROJECT).expect("Docker is there");
        let of_service = containers.iter().filter(|c| c.service == service);
        of_service.filter(|c| c.state == RunState::Running).count()
    }

    pub fn container(&self, service: &str) -> String {
        let containers = self.host.containers(PROJECT).expect("listed");
        let found = containers.into_iter().find(|c| c.service == service);
        found.expect("the service has a container").id
    }

    /// The version that users get.
    pub fn answered(&self) -> Option<String> {
        let check = VersionCheck::Header(VERSION_HEADER.to_owned());
        let timeout = std::time::Duration::from_secs(1);
        match self.host.ask(PRIMARY_URL, timeout, Some(&check)) {
            HealthAnswer::Status { version, .. } => version,
            HealthAnswer::Unreachable(_) => None,
        }
    }

    /// Checks what must be true whenever no engine works: one version, whole, and nothing left over.
    pub fn check(&self) {
        self.check_serving();
        let Some(current) = self.current() else {
            return;
        };
        let release = state::release(&self.layout, &current.release).expect("readable");
        for service in self.running().keys() {
            assert!(
                release
                    .iter()
                    .flat_map(|r| &r.services)
                    .any(|s| s.name == *service),
                "{service} is not in {}",
                current.release
            );
        }
    }

    /// The same when tidying up may have failed: a service that the release no longer has is there still, and stopped.
    pub fn check_serving(&self) {
        let holder = lock::holder(&self.layout).expect("readable");
        assert!(holder.is_none(), "the lock is not free: {holder:?}");
        let open = state::open_transactions(&self.layout).expect("readable journals");
        assert!(open.is_empty(), "transactions are open: {open:?}");
        for leftover in [
            self.layout.incoming(),
            self.layout.state().join("displaced"),
        ] {
            let names = records::names(&leftover).expect("readable");
            assert!(names.is_empty(), "{} has {names:?}", leftover.display());
        }
        self.check_backups();
        for name in records::names(&self.layout.releases()).expect("readable") {
            let record = state::release(&self.layout, &name).expect("readable");
            assert!(record.is_some(), "{name} is half a release");
        }
        match self.current() {
            None => self.check_nothing_serves(),
            Some(current) => self.check_serves(&current),
        }
    }

    /// Every service of what the records say serves runs, and nothing else.
    pub fn check_running(&self) {
        let current = self.current().expect("something serves");
        let release = state::release(&self.layout, &current.release).expect("readable");
        self.check_containers(&release.expect("what serves has a record"));
    }

    /// Every file in the directory of backups is of a whole backup.
    fn check_backups(&self) {
        let backups = backup::list(self.root());
        for entry in &backups {
            assert_eq!(entry.problem, None, "{}", entry.name);
        }
        for file in records::names(&self.layout.backups()).expect("readable") {
            let known = backups
                .iter()
                .any(|b| file.starts_with(&format!("{}.", b.name)));
            assert!(known, "{file} is of no backup");
        }
    }

    fn check_nothing_serves(&self) {
        assert!(!self.layout.backups().exists(), "of what should it be?");
        assert_eq!(self.running(), BTreeMap::new());
        let world = self.host.world();
        assert!(world.networks.is_empty(), "{:?}", world.networks);
        assert!(world.volumes.is_empty(), "{:?}", world.volumes);
        assert!(!self.layout.compose().exists());
    }

    fn check_serves(&self, current: &Current) {
        let release = state::release(&self.layout, &current.release)
            .expect("readable")
            .expect("what serves has a record");
        let file = fs::read(self.layout.compose()).expect("what serves has its file");
        assert_eq!(
            sha256(&file),
            release.compose_sha256,
            "docker-compose.yml is not that of {}",
            release.name
        );
        if let Some(previous) = &current.previous {
            let kept = fs::read(self.layout.compose_backup()).expect("the way back is there");
            let of_previous = fs::read(self.layout.release(previous).compose());
            assert_eq!(kept, of_previous.expect("it has its file"));
        }
        self.check_containers(&release);
        for file in &release.files {
            let placed = fs::read(self.root().join(&file.path)).expect("placed");
            assert_eq!(sha256(&placed), file.sha256, "{}", file.path);
        }
        if release.revision.is_some() {
            assert_eq!(self.answered().as_ref(), Some(&release.tag));
        }
    }

    fn check_containers(&self, release: &Release) {
        let running = self.running();
        for service in &release.services {
            if service.strategy == Strategy::OneShot {
                continue;
            }
            let expected = (service.engine_id().to_owned(), RunState::Running);
            assert_eq!(
                running.get(&service.name),
                Some(&expected),
                "{} of {}",
                service.name,
                release.name
            );
            assert!(
                self.host.is_as_written(&self.composition(), &service.name),
                "`up -d` would change {} of {}",
                service.name,
                release.name
            );
        }
        for (service, (_, state)) in &running {
            assert!(
                release.services.iter().any(|s| s.name == *service)
                    || matches!(state, RunState::Exited(_)),
                "{service} runs and is not in {}",
                release.name
            );
        }
    }

    /// Everything that a transaction may change, in a form that can be compared.
    pub fn photo(&self) -> Photo {
        let world = self.host.world();
        let one_shot = |id: &str| {
            matches!(
                world.images.get(id).map(|i| &i.behaviour),
                Some(Behaviour::OneShot(_))
            )
        };
        Photo {
            containers: world
                .containers
                .iter()
                // An ended one-shot container is a trace, not a state.
                .filter(|c| !one_shot(&c.image_id))
                .map(|c| {
                    let version = &world.images[&c.image_id].version;
                    let state = world.state(c);
                    format!("{} {version} {state:?} {}", c.service, c.config)
                })
                .collect(),
            // A pulled image is the host's cache: it stays under the name that the user's file gives it.
            names: world
                .names
                .iter()
                .filter(|(name, _)| !world.registry.contains_key(*name))
                .map(|(name, id)| format!("{name} {id}"))
                .collect(),
            networks: world.networks.keys().cloned().collect(),
            volumes: world
                .volumes
                .iter()
                .map(|(name, (_, number))| format!("{name} {number}"))
                .collect(),
            data: world
                .volumes
                .keys()
                .map(|name| {
                    let content = world.data.get(name).cloned().unwrap_or_default();
                    format!("{name} {content:?}")
                })
                .collect(),
            files: files_under(self.root()),
        }
    }
}

/// A host and its root at one moment.
pub struct Saved {
    dir: Rc<TempDir>,
    world: World,
    files: Vec<(PathBuf, u32, Node)>,
}

enum Node {
    Dir,
    File(Vec<u8>),
    Link(PathBuf),
}

impl Saved {
    /// Goes back to that moment. Every other site in the directory is over.
    pub fn restore(&self) -> Site {
        let site = Site {
            dir: self.dir.clone(),
            host: FakeHost::in_state(self.world.clone()),
            layout: Layout::new(root_in(&self.dir)),
        };
        site.wipe();
        for (path, mode, node) in &self.files {
            let path = site.root().join(path);
            match node {
                Node::Dir => fs::create_dir(&path),
                Node::File(bytes) => fs::write(&path, bytes),
                Node::Link(target) => std::os::unix::fs::symlink(target, &path),
            }
            .expect("made");
            if !matches!(node, Node::Link(_)) {
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("set");
            }
        }
        site
    }
}

/// Everything that a transaction may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    pub containers: BTreeSet<String>,
    pub names: BTreeSet<String>,
    pub networks: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    /// What they hold, and what somebody has left aside in them.
    pub data: BTreeSet<String>,
    pub files: BTreeMap<PathBuf, String>,
}

impl Photo {
    /// Without the names under which a version's images arrive.
    #[must_use]
    pub fn before_arrival(mut self, version: &Version) -> Self {
        for service in version.built.keys() {
            let name = format!("{} ", version.reference(service));
            self.names.retain(|known| !known.starts_with(&name));
        }
        self
    }

    /// What differs from another photo, for people.
    pub fn differences(&self, other: &Photo) -> Vec<String> {
        let mut told = vec![];
        let sets = [
            ("container", &self.containers, &other.containers),
            ("image", &self.names, &other.names),
            ("network", &self.networks, &other.networks),
            ("volume", &self.volumes, &other.volumes),
            ("data", &self.data, &other.data),
        ];
        for (what, mine, others) in sets {
            told.extend(mine.difference(others).map(|x| format!("{what} + {x}")));
            told.extend(others.difference(mine).map(|x| format!("{what} - {x}")));
        }
        let paths: BTreeSet<&PathBuf> = self.files.keys().chain(other.files.keys()).collect();
        for path in paths {
            let (mine, others) = (self.files.get(path), other.files.get(path));
            if mine != others {
                told.push(format!("file {}: {mine:?}, not {others:?}", path.display()));
            }
        }
        told
    }
}

/// Asserts that two photos show the same.
#[track_caller]
pub fn assert_same(now: &Photo, expected: &Photo, what: &str) {
    let differences = now.differences(expected);
    assert!(differences.is_empty(), "{what}: {differences:#?}");
}

fn files_under(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            let relative = path.strip_prefix(root).expect("under the root").to_owned();
            if is_a_record(&relative) {
                continue;
            }
            let data = fs::symlink_metadata(&path).expect("there");
            let mode = data.mode() & 0o7777;
            let text = if data.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).expect("a link"))
            } else if data.is_dir() {
                left.push(path);
                format!("directory {mode:o}")
            } else {
                format!("{mode:o} {}", content(&path))
            };
            found.insert(relative, text);
        }
    }
    found
}

/// Belay's own books and backups, which grow with every transaction.
fn is_a_record(path: &Path) -> bool {
    path.starts_with("backups")
        || [
            "journal",
            "lock",
            "lock.json",
            "seq",
            "failed",
            "displaced",
            "rollback.sh",
            "engine.log",
            "repaired.json",
        ]
        .iter()
        .any(|name| path.starts_with(Path::new(".belay").join(name)))
}

/// A file's hash, or a record's text without its times.
fn content(path: &Path) -> String {
    let bytes = fs::read(path).expect("readable");
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(mut map)) => {
            map.remove("created");
            map.remove("since");
            map.remove("seal");
            Value::Object(map).to_string()
        }
        _ => sha256(&bytes),
    }
}
