//! The host as it is: Docker and Compose by their command lines, the network, the clock.
//!
//! Runs on the host. Commands are argument lists and answers are JSON wherever Docker offers it, so nothing is read off a
//! table and nothing passes a shell.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::backup::{DataReader, DockerReader};
use super::command::Call;
use super::host::{
    Composition, Container, DockerHealth, Host, HostError, Image, ImageName, RunState,
};
use crate::model::health::{Answer, VersionCheck};
use crate::model::journal::BootTime;
use crate::model::yaml;
use crate::wire::EngineFacts;

const SHORT: Duration = Duration::from_secs(60);
/// Pulling and starting may take minutes.
const LONG: Duration = Duration::from_secs(900);

/// Most of an endpoint's answer that is read, in bytes.
const BODY_LIMIT: u64 = 64 * 1024;

/// The machine that this process runs on.
#[derive(Debug, Default)]
pub struct RealHost {
    compose: OnceLock<ComposeProgram>,
}

/// Which Compose the host has.
#[derive(Clone, Debug)]
struct ComposeProgram {
    argv: Vec<String>,
    version: String,
    /// The Go one, which prints JSON; the Python one (1.x) prints YAML only.
    prints_json: bool,
}

impl RealHost {
    pub fn new() -> Self {
        Self::default()
    }

    fn compose(&self) -> Result<&ComposeProgram, HostError> {
        if let Some(program) = self.compose.get() {
            return Ok(program);
        }
        // Both are asked for their version: `docker compose` without the plugin is a different, working command.
        let candidates = [vec!["docker", "compose"], vec!["docker-compose"]];
        for candidate in candidates {
            let argv: Vec<String> = candidate.into_iter().map(str::to_owned).collect();
            let call = Call::new(
                argv.iter()
                    .cloned()
                    .chain(["version".to_owned(), "--short".to_owned()]),
            );
            let Ok(printed) = call.run() else { continue };
            let version = String::from_utf8_lossy(&printed.stdout)
                .trim()
                .trim_start_matches('v')
                .to_owned();
            if version.starts_with(|c: char| c.is_ascii_digit()) {
                let prints_json = !version.starts_with("1.");
                return Ok(self.compose.get_or_init(|| ComposeProgram {
                    argv,
                    version,
                    prints_json,
                }));
            }
        }
        Err(HostError::NoCompose)
    }

    fn compose_call(&self, composition: &Composition, words: &[&str]) -> Result<Call, HostError> {
        let program = self.compose()?;
        let mut argv = program.argv.clone();
        argv.extend(["--project-name".to_owned(), composition.project.clone()]);
        argv.extend([
            "--project-directory".to_owned(),
            composition.directory.display().to_string(),
        ]);
        argv.extend(["--file".to_owned(), composition.file.display().to_string()]);
        argv.extend(words.iter().map(|w| (*w).to_owned()));
        Ok(Call::new(argv))
    }

    fn inspect_all<T: DeserializeOwned>(&self, ids: &[String]) -> Result<Vec<T>, HostError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let words = ["docker", "inspect"]
            .map(str::to_owned)
            .into_iter()
            .chain(ids.iter().cloned());
        // A container that went away between the listing and this call is no error: the others are still printed.
        let (_, printed) = Call::new(words).deadline(SHORT).run_to_end()?;
        serde_json::from_slice(&printed.stdout).map_err(|source| HostError::Answer {
            what: "docker inspect".to_owned(),
            source,
        })
    }
}

fn docker<const N: usize>(words: [&str; N]) -> Call {
    Call::new(std::iter::once("docker").chain(words)).deadline(SHORT)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether an error of Docker's says that the thing is not there.
fn is_gone(error: &HostError) -> bool {
    matches!(error, HostError::Command { said, .. }
        if ["No such", "not found", "no such"].iter().any(|words| said.contains(words)))
}

fn gone_is_fine(result: Result<super::command::Printed, HostError>) -> Result<(), HostError> {
    match result {
        Err(error) if !is_gone(&error) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
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

    fn engine(&self) -> Result<EngineFacts, HostError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            #[serde(default)]
            server_version: String,
            #[serde(default)]
            architecture: String,
            #[serde(default)]
            live_restore_enabled: bool,
            #[serde(default)]
            server_errors: Vec<String>,
        }
        let printed =
            docker(["info", "--format", "{{json .}}"])
                .run()
                .map_err(|error| match error {
                    HostError::Command { said, .. } => HostError::NoEngine(said),
                    other => other,
                })?;
        let info: Info =
            serde_json::from_slice(&printed.stdout).map_err(|source| HostError::Answer {
                what: "docker info".to_owned(),
                source,
            })?;
        if !info.server_errors.is_empty() {
            return Err(HostError::NoEngine(info.server_errors.join("; ")));
        }
        Ok(EngineFacts {
            engine: info.server_version,
            compose: self.compose()?.version.clone(),
            architecture: image_architecture(&info.architecture).to_owned(),
            live_restore: info.live_restore_enabled,
        })
    }

    fn containers(&self, project: &str) -> Result<Vec<Container>, HostError> {
        let filter = format!("label=com.docker.compose.project={project}");
        let printed =
            docker(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).run()?;
        let inspected: Vec<InspectedContainer> = self.inspect_all(&lines(&printed.stdout))?;
        Ok(inspected.into_iter().map(Container::from).collect())
    }

    fn images_in_use(&self) -> Result<Vec<String>, HostError> {
        let printed = docker(["ps", "--all", "--quiet", "--no-trunc"]).run()?;
        let inspected: Vec<InspectedContainer> = self.inspect_all(&lines(&printed.stdout))?;
        Ok(inspected.into_iter().map(|c| c.image).collect())
    }

    fn image(&self, reference: &str) -> Result<Option<Image>, HostError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspected {
            id: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            #[serde(default)]
            repo_digests: Option<Vec<String>>,
            architecture: String,
            size: u64,
        }
        let printed = match docker(["image", "inspect", reference]).run() {
            Ok(printed) => printed,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let inspected: Vec<Inspected> =
            serde_json::from_slice(&printed.stdout).map_err(|source| HostError::Answer {
                what: "docker image inspect".to_owned(),
                source,
            })?;
        Ok(inspected.into_iter().next().map(|i| Image {
            id: i.id,
            tags: i.repo_tags.unwrap_or_default(),
            digests: i.repo_digests.unwrap_or_default(),
            architecture: i.architecture,
            size: i.size,
        }))
    }

    fn image_names(&self, prefix: &str) -> Result<Vec<ImageName>, HostError> {
        let format = "{{.Repository}}:{{.Tag}}\t{{.ID}}";
        let printed = docker(["image", "ls", "--no-trunc", "--format", format]).run()?;
        Ok(lines(&printed.stdout)
            .iter()
            .filter_map(|line| line.split_once('\t'))
            .filter(|(reference, _)| {
                reference.starts_with(prefix) && !reference.ends_with(":<none>")
            })
            .map(|(reference, id)| ImageName {
                reference: reference.to_owned(),
                id: id.to_owned(),
            })
            .collect())
    }

    fn name_image(&self, id: &str, reference: &str) -> Result<(), HostError> {
        docker(["image", "tag", id, reference]).run().map(drop)
    }

    fn forget_image(&self, reference: &str) -> Result<(), HostError> {
        gone_is_fine(docker(["image", "rm", "--no-prune=false", reference]).run())
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
        yaml::read(&printed.stdout).map_err(|error| HostError::Command {
            what,
            said: error.to_string(),
        })
    }

    fn up(&self, composition: &Composition, service: &str) -> Result<(), HostError> {
        let words = ["up", "--detach", "--no-deps", "--no-build", service];
        self.compose_call(composition, &words)?
            .deadline(LONG)
            .run()
            .map(drop)
    }

    fn stop(&self, container: &str) -> Result<(), HostError> {
        gone_is_fine(docker(["stop", container]).deadline(LONG).run())
    }

    fn remove_container(&self, container: &str) -> Result<(), HostError> {
        gone_is_fine(docker(["rm", "--force", container]).run())
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
        let filter = format!("label=com.docker.compose.project={project}");
        Ok(lines(
            &docker([
                "network",
                "ls",
                "--format",
                "{{.Name}}",
                "--filter",
                &filter,
            ])
            .run()?
            .stdout,
        ))
    }

    fn remove_network(&self, name: &str) -> Result<(), HostError> {
        gone_is_fine(docker(["network", "rm", name]).run())
    }

    fn volumes(&self, project: &str) -> Result<Vec<String>, HostError> {
        let filter = format!("label=com.docker.compose.project={project}");
        Ok(lines(
            &docker(["volume", "ls", "--format", "{{.Name}}", "--filter", &filter])
                .run()?
                .stdout,
        ))
    }

    fn remove_volume(&self, name: &str) -> Result<(), HostError> {
        gone_is_fine(docker(["volume", "rm", name]).run())
    }

    fn ask(&self, url: &str, timeout: Duration, version: Option<&VersionCheck>) -> Answer {
        ask(url, timeout, version)
            .unwrap_or_else(|error| Answer::Unreachable(why_unreachable(&error)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn data_reader<'a>(
        &'a self,
        image: Option<&'a str>,
        project: &'a str,
    ) -> Box<dyn DataReader + 'a> {
        Box::new(DockerReader::new(image, project))
    }
}

/// The name that images use for a machine's architecture.
pub fn image_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn ask(
    url: &str,
    timeout: Duration,
    version: Option<&VersionCheck>,
) -> Result<Answer, reqwest::Error> {
    use std::io::Read;

    // A redirect is an answer of its own: following one could leave the host, or hide that the endpoint moved.
    let client = reqwest::blocking::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("belay/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let response = client.get(url).send()?;
    let code = response.status().as_u16();
    let seen = match version {
        None => None,
        Some(VersionCheck::Header(name)) => response
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned),
        Some(VersionCheck::Json(path)) => {
            let mut body = vec![];
            let read = response.take(BODY_LIMIT).read_to_end(&mut body);
            read.ok()
                .and_then(|_| serde_json::from_slice(&body).ok())
                .and_then(|v: Value| field(&v, path))
        }
    };
    Ok(Answer::Status {
        code,
        version: seen,
    })
}

fn field(value: &Value, path: &str) -> Option<String> {
    let found = path
        .split('.')
        .try_fold(value, |value, key| value.get(key))?;
    Some(
        found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned),
    )
}

fn why_unreachable(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // The innermost cause is the one that people know: "connection refused".
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedContainer {
    id: String,
    name: String,
    image: String,
    #[serde(default)]
    restart_count: u32,
    state: InspectedState,
    config: InspectedConfig,
    host_config: InspectedHostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i32,
    health: Option<InspectedHealth>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHealth {
    status: String,
    #[serde(default)]
    log: Option<Vec<InspectedCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedCheck {
    #[serde(default)]
    output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    #[serde(default)]
    image: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHostConfig {
    restart_policy: InspectedPolicy,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedPolicy {
    #[serde(default)]
    name: String,
}

impl From<InspectedContainer> for Container {
    fn from(inspected: InspectedContainer) -> Self {
        let labels = inspected.config.labels.unwrap_or_default();
        let label = |name: &str| {
            labels
                .get(&format!("com.docker.compose.{name}"))
                .cloned()
                .unwrap_or_default()
        };
        Container {
            id: inspected.id,
            name: inspected.name.trim_start_matches('/').to_owned(),
            service: label("service"),
            image_id: inspected.image,
            image: inspected.config.image,
            state: run_state(&inspected.state.status, inspected.state.exit_code),
            health: inspected.state.health.and_then(docker_health),
            restarts: inspected.restart_count,
            restart_policy: match inspected.host_config.restart_policy.name {
                // Compose 1.x leaves it out where Docker's own client says so.
                name if name.is_empty() => "no".to_owned(),
                name => name,
            },
            working_dir: label("project.working_dir"),
            one_off: label("oneoff").eq_ignore_ascii_case("true"),
        }
    }
}

fn run_state(status: &str, exit_code: i32) -> RunState {
    match status {
        "running" => RunState::Running,
        "restarting" => RunState::Restarting,
        "paused" => RunState::Paused,
        "created" => RunState::Created,
        _ => RunState::Exited(exit_code),
    }
}

fn docker_health(health: InspectedHealth) -> Option<DockerHealth> {
    match health.status.as_str() {
        "healthy" => Some(DockerHealth::Healthy),
        "unhealthy" => {
            let last = health
                .log
                .unwrap_or_default()
                .pop()
                .map(|check| check.output)
                .unwrap_or_default();
            Some(DockerHealth::Unhealthy(
                last.trim().chars().take(300).collect(),
            ))
        }
        "starting" => Some(DockerHealth::Starting),
        _ => None,
    }
}
