//! The host as it is: Docker, Compose, the network, the clock.
//!
//! Runs on the host. What is asked often, and what requests wait for, is said to the engine itself (`api.rs`); Compose and
//! everything else are command lines. Commands are argument lists and answers are JSON wherever Docker offers it, so
//! nothing is read off a table and nothing passes a shell.

mod api;
mod client;
mod compose;
mod events;
mod inspected;
mod revival;
mod runtime;
mod shim;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use self::api::{Api, filter};
use self::client::{SHORT, docker};
use self::compose::{ComposeProgram, find_compose};
use self::inspected::{InspectedContainer, InspectedImage, InspectedVolume};
use super::backup::{DataReader, DataWriter, DockerReader, DockerWriter};
use super::command::Call;
use super::host::{
    Attentive, Composition, Container, Host, HostError, Image, ImageContent, ImageName, RunState,
    Volume,
};
use belay_model::composition::image::ImageStore;
use belay_model::composition::image::architecture;
use belay_model::composition::profiles::{PROFILES, active_profiles, leave_out_inactive};
use belay_model::judgement::health::{HealthAnswer, VersionCheck};
use belay_model::replacement::gateway::{self, Change, Server};
use belay_model::transaction::journal::BootTime;
use belay_model::yaml;
use belay_prober::{Prober, Target};
use belay_wire::EngineFacts;

/// Pulling and starting may take minutes.
const LONG: Duration = Duration::from_mins(15);

/// The machine that this process runs on.
#[derive(Debug, Default)]
pub struct RealHost {
    api: OnceLock<Api>,
    /// Locked while it is looked for, so that nobody looks at the same time.
    compose: Arc<Mutex<Option<ComposeProgram>>>,
}

/// Two calls of Compose that make the same container at once get in each other's way: an engine and the thread beside it.
static COMPOSE_CHANGES: Mutex<()> = Mutex::new(());

/// This program, also when another one has its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A container, as far as the engine's list tells.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    #[serde(rename = "State")]
    state: String,
}

/// The engine, as it describes itself.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineInfo {
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    live_restore_enabled: bool,
    #[serde(default)]
    server_errors: Vec<String>,
    #[serde(default)]
    docker_root_dir: PathBuf,
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
}

impl EngineInfo {
    fn store(&self) -> ImageStore {
        ImageStore::of(self.driver_status.as_deref().unwrap_or_default())
    }
}

/// A network, or a volume.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "Name")]
    name: String,
}

impl RealHost {
    /// Asks nothing yet: the engine is looked for when it is first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn api(&self) -> Result<&Api, HostError> {
        if let Some(api) = self.api.get() {
            return Ok(api);
        }
        let found = Api::find()?;
        Ok(self.api.get_or_init(|| found))
    }

    /// Begins to look for Compose, for whoever asks for it later: one written in Python takes a quarter of a second to say
    /// its version.
    pub fn prepare(&self) {
        let compose = Arc::clone(&self.compose);
        // Whoever needs the answer before it is there waits for it at the lock, so nobody needs the thread.
        std::thread::spawn(move || find_compose(&compose));
    }

    fn compose(&self) -> Result<ComposeProgram, HostError> {
        find_compose(&self.compose).ok_or(HostError::NoCompose)
    }

    fn compose_call(&self, composition: &Composition, words: &[&str]) -> Result<Call, HostError> {
        let program = self.compose()?;
        let mut argv = program.argv;
        argv.extend(["--project-name".to_owned(), composition.project.clone()]);
        argv.extend([
            "--project-directory".to_owned(),
            composition.directory.display().to_string(),
        ]);
        argv.extend(["--file".to_owned(), composition.file.display().to_string()]);
        argv.extend(words.iter().map(|w| (*w).to_owned()));
        Ok(Call::new(argv))
    }

    /// The project's containers that are wanted, each looked at by itself. One that goes away meanwhile is left out.
    fn inspect_all(
        &self,
        project: &str,
        is_wanted: impl Fn(&Listed) -> bool,
    ) -> Result<Vec<InspectedContainer>, HostError> {
        let api = self.api()?;
        let listed: Vec<Listed> =
            api.get(&format!("/containers/json{}&all=true", of_project(project)))?;
        let mut inspected = vec![];
        for Listed { id, .. } in listed.iter().filter(|listed| is_wanted(listed)) {
            inspected.extend(api.get_if_there(&format!("/containers/{id}/json"))?);
        }
        Ok(inspected)
    }

    fn info(&self) -> Result<EngineInfo, HostError> {
        let info: EngineInfo = self.api()?.get("/info")?;
        match info.server_errors.is_empty() {
            true => Ok(info),
            false => Err(HostError::NoEngine(info.server_errors.join("; "))),
        }
    }

    /// An image's layers when unpacked, in bytes: what each line of its history has added. An image may have no history,
    /// and an engine none of layers that it has not unpacked; then what the engine says must do, which is what is packed
    /// in a containerd store.
    fn unpacked_size(&self, id: &str) -> Result<u64, HostError> {
        #[derive(Deserialize)]
        struct Sized {
            #[serde(rename = "Size", default)]
            size: u64,
        }
        let lines = self.api()?.get(&format!("/images/{id}/history"));
        let unpacked = lines.map_or(0, |lines: Vec<Sized>| lines.iter().map(|l| l.size).sum());
        match unpacked {
            0 => Ok(self
                .api()?
                .get::<Sized>(&format!("/images/{id}/json"))?
                .size),
            size => Ok(size),
        }
    }

    /// Starts a container that does not run.
    fn start_within(&self, container: &str, deadline: Duration) -> Result<(), HostError> {
        shim::await_end(container);
        let path = format!("/containers/{container}/start");
        self.api()?.post(&path, None, deadline)
    }

    /// Compose 1.x puts a container's ID before its name while it is replaced. When the new one could not start and the
    /// old one had to come back, it stays there.
    fn give_names_back(&self, project: &str, service: &str) -> Result<(), HostError> {
        let containers = self.containers(project)?;
        for container in containers.iter().filter(|c| c.service == service) {
            let prefix = container.id.get(..12).map(|id| format!("{id}_"));
            let name = prefix.and_then(|prefix| container.name.strip_prefix(&prefix));
            if let Some(name) = name {
                // A name is for people: that it is taken must not make a rollback fail.
                let _ = docker(["rename", &container.id, name]).run();
            }
        }
        Ok(())
    }
}

fn profiles(composition: &Composition, variables: &[(String, String)]) -> Vec<String> {
    let given = variables.iter().find(|(name, _)| name == PROFILES);
    let set = given
        .map(|(_, value)| value.clone())
        .or_else(|| std::env::var(PROFILES).ok());
    // Without the file, and when it is no text, there is nothing that Compose could read in it either.
    let dot_env = std::fs::read_to_string(composition.directory.join(".env")).unwrap_or_default();
    active_profiles(set.as_deref(), &dot_env)
}

fn gone_is_fine(result: Result<(), HostError>) -> Result<(), HostError> {
    match result {
        Err(HostError::Gone { .. }) => Ok(()),
        done => done,
    }
}

fn of_project(project: &str) -> String {
    filter("label", &format!("com.docker.compose.project={project}"))
}

impl Host for RealHost {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn boot_time(&self) -> BootTime {
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot_id =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let ms = since.tv_sec.unsigned_abs() * 1000 + since.tv_nsec.unsigned_abs() / 1_000_000;
        BootTime {
            boot_id: boot_id.trim().to_owned(),
            ms,
        }
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn apart(&self) -> Option<Box<dyn Attentive>> {
        Some(Box::new(RealHost {
            api: OnceLock::new(),
            compose: Arc::clone(&self.compose),
        }))
    }

    fn engine(&self) -> Result<EngineFacts, HostError> {
        let info = self.info()?;
        Ok(EngineFacts {
            store: info.store(),
            oldest_api: self.api()?.oldest(),
            engine: info.server_version,
            compose: self.compose()?.version,
            architecture: architecture(&info.architecture).to_owned(),
            live_restore: info.live_restore_enabled,
        })
    }

    fn containers(&self, project: &str) -> Result<Vec<Container>, HostError> {
        let inspected = self.inspect_all(project, |_| true)?;
        Ok(inspected.into_iter().map(Container::from).collect())
    }

    fn images_in_use(&self) -> Result<Vec<String>, HostError> {
        let listed: Vec<Listed> = self.api()?.get("/containers/json?all=true")?;
        Ok(listed.into_iter().map(|c| c.image_id).collect())
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, HostError> {
        let path = format!("/images/{reference}/json");
        let inspected: Option<InspectedImage> = self.api()?.get_if_there(&path)?;
        Ok(inspected.map(Image::from))
    }

    fn image_content(&self, id: &str) -> Result<ImageContent, HostError> {
        #[derive(Deserialize)]
        struct Chosen {
            #[serde(rename = "Architecture", default)]
            architecture: String,
        }
        let config = match self.info()?.store() {
            ImageStore::Graph => id.to_owned(),
            ImageStore::Containerd => {
                // Of several platforms the engine has chosen one: the machine's, else what is there.
                let image: Chosen = self.api()?.get(&format!("/images/{id}/json"))?;
                let archive = self.api()?.stream(&format!("/images/{id}/get"), LONG)?;
                let found = belay_archive::find(archive, id, &image.architecture);
                let found = found.map_err(|source| HostError::Unidentified {
                    id: id.to_owned(),
                    source,
                })?;
                found.content.config
            }
        };
        Ok(ImageContent {
            config,
            size: self.unpacked_size(id)?,
        })
    }

    fn image_names(&self, prefix: &str) -> Result<Vec<ImageName>, HostError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct ListedImage {
            id: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
        }
        let listed: Vec<ListedImage> = self.api()?.get("/images/json")?;
        let mut names = vec![];
        for ListedImage { id, repo_tags } in listed {
            let of_prefix = repo_tags.into_iter().flatten();
            let of_prefix = of_prefix.filter(|name| name.starts_with(prefix));
            names.extend(of_prefix.map(|reference| ImageName {
                reference,
                id: id.clone(),
            }));
        }
        Ok(names)
    }

    fn name_image(&self, id: &str, reference: &str) -> Result<(), HostError> {
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let path = format!("/images/{id}/tag?repo={repository}&tag={tag}");
        self.api()?.post(&path, None, SHORT)
    }

    fn forget_image(&self, reference: &str) -> Result<(), HostError> {
        gone_is_fine(self.api()?.delete(&format!("/images/{reference}")))
    }

    fn pull(&self, reference: &str) -> Result<(), HostError> {
        docker(["pull", "--quiet", reference])
            .deadline(LONG)
            .run()
            .map(drop)
    }

    fn render(
        &self,
        composition: &Composition,
        variables: &[(String, String)],
    ) -> Result<Value, HostError> {
        let as_json = self.compose()?.prints_json;
        let words: &[&str] = if as_json {
            &["config", "--format", "json"]
        } else {
            &["config"]
        };
        let printed = self
            .compose_call(composition, words)?
            .variables(variables)
            .run()?;
        let what = "docker compose config".to_owned();
        if as_json {
            return serde_json::from_slice(&printed.stdout)
                .map_err(|source| HostError::Answer { what, source });
        }
        let mut document = yaml::read(&printed.stdout)
            .map_err(|error| HostError::said(what, error.to_string()))?;
        leave_out_inactive(&mut document, &profiles(composition, variables));
        Ok(document)
    }

    fn up(&self, composition: &Composition, service: &str) -> Result<(), HostError> {
        let containers = self.containers(&composition.project)?;
        for container in containers.iter().filter(|c| c.service == service) {
            match container.state {
                // Compose may start it.
                RunState::Exited(_) => shim::await_end(&container.id),
                // Compose would, too, and Docker does not start one that is held still.
                RunState::Paused => self.unpause(&container.id)?,
                RunState::Created | RunState::Running | RunState::Restarting => {}
            }
        }
        let _alone = COMPOSE_CHANGES
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words = ["up", "--detach", "--no-deps", "--no-build", service];
        self.compose_call(composition, &words)?
            .deadline(LONG)
            .run()?;
        match self.compose()?.prints_json {
            true => Ok(()),
            false => self.give_names_back(&composition.project, service),
        }
    }

    fn create(
        &self,
        composition: &Composition,
        service: &str,
        containers: usize,
    ) -> Result<(), HostError> {
        let scale = format!("{service}={containers}");
        let _alone = COMPOSE_CHANGES
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words = [
            "up",
            "--no-start",
            "--no-deps",
            "--no-recreate",
            "--no-build",
            "--scale",
            &scale,
            service,
        ];
        self.compose_call(composition, &words)?
            .deadline(LONG)
            .run()
            .map(drop)
    }

    fn start(&self, container: &str) -> Result<(), HostError> {
        self.start_within(container, SHORT)
    }

    fn unpause(&self, container: &str) -> Result<(), HostError> {
        let path = format!("/containers/{container}/unpause");
        match gone_is_fine(self.api()?.post(&path, None, SHORT)) {
            Err(HostError::Command { said, .. }) if said.contains("is not paused") => Ok(()),
            done => done,
        }
    }

    fn set_restart_policy(&self, container: &str, policy: &str) -> Result<(), HostError> {
        let path = format!("/containers/{container}/update");
        // The engine takes apart what a Compose file says in one word, `on-failure:5`.
        let (name, count) = policy.split_once(':').unwrap_or((policy, "0"));
        let count: u32 = count.parse().unwrap_or(0);
        let body = json!({"RestartPolicy": {"Name": name, "MaximumRetryCount": count}});
        gone_is_fine(self.api()?.post(&path, Some(&body), SHORT))
    }

    fn run_in(
        &self,
        container: &str,
        argv: &[String],
        deadline: Duration,
    ) -> Result<(), HostError> {
        let words = ["docker", "exec", container].map(str::to_owned);
        Call::new(words.into_iter().chain(argv.iter().cloned()))
            .deadline(deadline)
            .run()
            .map(drop)
    }

    fn stop(&self, container: &str) -> Result<(), HostError> {
        let path = format!("/containers/{container}/stop");
        gone_is_fine(self.api()?.post(&path, None, LONG))
    }

    fn stop_within(&self, container: &str, grace: Duration) -> Result<(), HostError> {
        let seconds = grace.as_millis().div_ceil(1000);
        let path = format!("/containers/{container}/stop?t={seconds}");
        gone_is_fine(self.api()?.post(&path, None, grace + SHORT))
    }

    fn restart(&self, container: &str, grace: Duration) -> Result<(), HostError> {
        let seconds = grace.as_millis().div_ceil(1000);
        let path = format!("/containers/{container}/restart?t={seconds}");
        self.api()?.post(&path, None, grace + SHORT)
    }

    fn remove_container(&self, container: &str) -> Result<(), HostError> {
        let path = format!("/containers/{container}?force=true");
        gone_is_fine(self.api()?.delete(&path))
    }

    fn logs(&self, container: &str, lines: u32) -> Result<String, HostError> {
        let printed = docker([
            "logs",
            "--timestamps",
            "--tail",
            &lines.to_string(),
            container,
        ])
        .run()?;
        let mut text = String::from_utf8_lossy(&printed.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&printed.stderr));
        Ok(text)
    }

    fn networks(&self, project: &str) -> Result<Vec<String>, HostError> {
        let path = format!("/networks{}", of_project(project));
        let listed: Vec<Named> = self.api()?.get(&path)?;
        Ok(listed.into_iter().map(|named| named.name).collect())
    }

    fn remove_network(&self, name: &str) -> Result<(), HostError> {
        gone_is_fine(self.api()?.delete(&format!("/networks/{name}")))
    }

    fn volumes(&self, project: &str) -> Result<Vec<String>, HostError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct ListedVolumes {
            #[serde(default)]
            volumes: Option<Vec<Named>>,
        }
        let path = format!("/volumes{}", of_project(project));
        let listed: ListedVolumes = self.api()?.get(&path)?;
        let volumes = listed.volumes.unwrap_or_default();
        Ok(volumes.into_iter().map(|named| named.name).collect())
    }

    fn volume(&self, name: &str) -> Result<Option<Volume>, HostError> {
        let found: Option<InspectedVolume> =
            self.api()?.get_if_there(&format!("/volumes/{name}"))?;
        Ok(found.map(Volume::from))
    }

    fn projects(&self) -> Result<Vec<String>, HostError> {
        #[derive(Deserialize)]
        struct Labelled {
            #[serde(rename = "Labels", default)]
            labels: Option<BTreeMap<String, String>>,
        }
        let label = "com.docker.compose.project";
        let path = format!("/containers/json{}&all=true", filter("label", label));
        let listed: Vec<Labelled> = self.api()?.get(&path)?;
        let labels = listed.into_iter().filter_map(|listed| listed.labels);
        let projects = labels.filter_map(|mut labels| labels.remove(label));
        let projects: BTreeSet<String> = projects.collect();
        Ok(projects.into_iter().collect())
    }

    fn remove_volume(&self, name: &str) -> Result<(), HostError> {
        gone_is_fine(self.api()?.delete(&format!("/volumes/{name}")))
    }

    fn gateway_servers(&self, gateway: &str) -> Result<Vec<Server>, HostError> {
        Ok(gateway::servers(&self.runtime(gateway, gateway::LOOK)?))
    }

    fn change_gateway(&self, gateway: &str, changes: &[Change]) -> Result<(), HostError> {
        let commands: Vec<String> = changes.iter().map(gateway::command).collect();
        let said = self.runtime(gateway, &commands.join("; "))?;
        // HAProxy says nothing when it did what it was told.
        match said.lines().find(|line| !line.trim().is_empty()) {
            None => Ok(()),
            Some(line) => Err(HostError::said("a command for the gateway", line)),
        }
    }

    fn connects(&self, address: &str, port: u16, timeout: Duration) -> bool {
        let Ok(address) = address.parse::<std::net::IpAddr>() else {
            return false;
        };
        std::net::TcpStream::connect_timeout(&(address, port).into(), timeout).is_ok()
    }

    fn prober(&self, target: &Target) -> Box<dyn Prober> {
        belay_prober::start(target)
    }

    fn ask(&self, url: &str, timeout: Duration, version: Option<&VersionCheck>) -> HealthAnswer {
        // The host's own proxy, if it has one, is for the way out.
        belay_prober::ask_once(url, timeout, version, false)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn data_root(&self) -> Result<PathBuf, HostError> {
        Ok(self.info()?.docker_root_dir)
    }

    fn data_reader<'a>(&'a self, project: &'a str) -> Box<dyn DataReader + 'a> {
        Box::new(DockerReader::new(Path::new(THIS_PROGRAM), project))
    }

    fn data_writer<'a>(&'a self, project: &'a str) -> Box<dyn DataWriter + 'a> {
        Box::new(DockerWriter::new(Path::new(THIS_PROGRAM), project))
    }
}
