//! The stage of the end-to-end tests: hosts, an application with its repository, and runs as the action makes them.
//!
//! Each test runs once on every kind of host ([`Flavour`]). It borrows a host of that kind for itself and finds it empty,
//! but for things of somebody else that must stay as they are.
//! What is asked of the host here never goes through Belay: a test looks with its own eyes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::engine_api;
use crate::fake_github::FakeGitHub;
use crate::fake_github::contract::Contract;
use crate::fake_github::world::{Deployment, Seed};
use crate::sample::{all_is_wanted, number_of, sample};

/// The application's repository on GitHub.
pub(crate) const REPOSITORY: &str = "example/ntplatform";
/// Where the application lives on every host.
pub(crate) const ROOT: &str = "/opt/ntplatform";
/// Longest that one run may take before the test gives up on it.
const RUN_PATIENCE: Duration = Duration::from_secs(150);

/// Settings that make a deployment take seconds.
const BELAY_YML: &str = "\
root: /opt/ntplatform
project: PROJECT
host: {address: 127.0.0.1, user: deploy}
images:
  test: [\"/app\", \"--self-test\"]
gateway: {image: \"GATEWAY\", source: stream}
services:
  web: {strategy: start-first}
health:
  primary: http://127.0.0.1:8080/api/status
  backup: http://127.0.0.1:8080/health
  version: {header: X-App-Version}
  deadline: 8s
  interval: 300ms
  timeout: 1s
  successes: 2
bake: 1s
lock-wait: 60s
";

/// As root finds it on every host.
const ROOTS_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn say(text: &str) {
    // Past the test harness, which would keep it to itself.
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

// --- hosts -----------------------------------------------------------------------------------------------------------

/// A kind of host: what Docker and Compose are like there decides what a deployment may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// OpenSSH 10, Docker 26.1, Compose 2.26.
    Debian13,
    /// OpenSSH 9.2, Docker 20.10, and the Compose written in Python, 1.29: no plugin, and no JSON.
    Debian12,
    /// Debian 13 again, run by its own systemd. Only what is about that is played there.
    Systemd,
    /// Docker 28.5, Compose 2.40, with the images in Docker's own store. Only what is about Docker's versions is played
    /// there, and on the next.
    Sid,
    /// The same with the images in containerd's store.
    SidContainerd,
}

impl Flavour {
    /// The lab's name for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Flavour::Debian13 => "debian13",
            Flavour::Debian12 => "debian12",
            Flavour::Systemd => "systemd",
            Flavour::Sid => "sid",
            Flavour::SidContainerd => "sid-containerd",
        }
    }

    /// What the lab is asked for.
    fn recipe(self) -> &'static [&'static str] {
        match self {
            Flavour::Debian13 => &["debian13"],
            Flavour::Debian12 => &["debian12"],
            Flavour::Systemd => &["systemd"],
            Flavour::Sid => &["sid", "--store", "graph"],
            Flavour::SidContainerd => &["sid", "--store", "containerd"],
        }
    }

    /// The Compose project on each host of this kind, of which there are as many as names. Each has another one: it tells
    /// their images apart on the one engine that builds them.
    ///
    /// Two hosts at once leave the processor idle for a third of the time, and four keep it busy: that shortens hours, when
    /// every test is played on both kinds, and makes single tests slower.
    fn projects(self) -> &'static [&'static str] {
        match self {
            Flavour::Debian13 => &["ntplatform13", "ntplatform13b"],
            Flavour::Debian12 if all_is_wanted() => &["ntplatform", "ntplatformb"],
            Flavour::Debian12 => &["ntplatform"],
            Flavour::Systemd => &["ntplatformsd"],
            Flavour::Sid => &["ntplatformsid"],
            Flavour::SidContainerd => &["ntplatformsidc"],
        }
    }

    fn is_wanted(self) -> bool {
        std::env::var("BELAY_E2E_FLAVOURS").map_or(true, |wanted| {
            wanted.split([' ', ',']).any(|w| w == self.name())
        })
    }

    fn pool(self) -> &'static Pool {
        static DEBIAN13: Pool = Pool::empty();
        static DEBIAN12: Pool = Pool::empty();
        static SYSTEMD: Pool = Pool::empty();
        static SID: Pool = Pool::empty();
        static SID_CONTAINERD: Pool = Pool::empty();
        match self {
            Flavour::Debian13 => &DEBIAN13,
            Flavour::Debian12 => &DEBIAN12,
            Flavour::Systemd => &SYSTEMD,
            Flavour::Sid => &SID,
            Flavour::SidContainerd => &SID_CONTAINERD,
        }
    }
}

/// How often a test is played. `BELAY_FULL=1` plays each on every kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Often {
    /// In every run, on each kind of host that it names: what depends on Docker most.
    Always,
    /// In every run, on one kind of host.
    ByTurns,
    /// In one run of four, on one kind of host.
    OneRunInFour,
}

impl Often {
    /// Samples that follow each other come by all of it: twenty-four of them play each test on both kinds of host. One test in
    /// six is played on Debian 12, whose only host is then as busy as each of the others.
    fn plays(self, name: &str, flavour: Flavour, sample: usize) -> bool {
        let number = number_of(name) + sample % 24;
        let (is_played, turn) = match self {
            Often::Always => return true,
            Often::ByTurns => (true, number),
            Often::OneRunInFour => (number.is_multiple_of(4), number / 4),
        };
        let is_older_ones = turn % 6 == 1;
        let has_its_turn = match flavour {
            Flavour::Debian12 => is_older_ones,
            Flavour::Debian13 => !is_older_ones,
            Flavour::Systemd | Flavour::Sid | Flavour::SidContainerd => true,
        };
        is_played && has_its_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_follow_each_other_come_by_every_test_on_both_kinds_of_host() {
        for name in ["one", "another", "a_third", "a_fourth_one"] {
            for first in [0, 7, usize::MAX - 24] {
                let played = |often: Often, flavour| {
                    let samples = first..first + 24;
                    samples
                        .filter(|sample| often.plays(name, flavour, *sample))
                        .count()
                };
                let both = |often| [Flavour::Debian12, Flavour::Debian13].map(|f| played(often, f));
                assert_eq!(both(Often::Always), [24, 24]);
                assert_eq!(both(Often::ByTurns), [4, 20]);
                assert_eq!(both(Often::OneRunInFour), [1, 5]);
                assert_eq!(played(Often::OneRunInFour, Flavour::Sid), 6);
            }
        }
    }
}

/// Makes each of these functions a test. They are given an [`App`] whose host is empty.
#[macro_export]
macro_rules! on_every_host {
    ($(always: $($always:ident),* $(,)?;)? $(by turns: $($turn:ident),* $(,)?;)? $(one run in four: $($rare:ident),* $(,)?;)?) => {
        mod debian13 {
            $crate::on_every_host!(@ Debian13: $($(Always $always)*)? $($(ByTurns $turn)*)? $($(OneRunInFour $rare)*)?);
        }
        mod debian12 {
            $crate::on_every_host!(@ Debian12: $($(Always $always)*)? $($(ByTurns $turn)*)? $($(OneRunInFour $rare)*)?);
        }
    };
    (@ $flavour:ident: $($often:ident $test:ident)*) => {
        $(#[test] fn $test() {
            use $crate::lab::{Flavour, Often};
            $crate::lab::run(Flavour::$flavour, Often::$often, stringify!($test), super::$test);
        })*
    };
}

/// Runs one test on one kind of host, when it is asked for.
pub(crate) fn run(flavour: Flavour, often: Often, name: &'static str, test: fn(App)) {
    run_from(Runner::Here, flavour, often, name, test);
}

/// The same from a runner of the lab's.
pub(crate) fn run_from(
    runner: Runner,
    flavour: Flavour,
    often: Often,
    name: &'static str,
    test: impl FnOnce(App),
) {
    let skipped = match std::env::var("BELAY_E2E").as_deref() {
        Ok("1") if !flavour.is_wanted() => "BELAY_E2E_FLAVOURS leaves this kind of host out",
        Ok("1") if all_is_wanted() || often.plays(name, flavour, sample()) => {
            return test(App::start(runner, flavour, name));
        }
        Ok("1") => "it is another sample's turn; BELAY_FULL=1 plays it on all of them",
        _ => "it needs BELAY_E2E=1 and Docker",
    };
    say(&format!(
        "SKIPPED, NOTHING WAS RUN: {name} on {}: {skipped}",
        flavour.name()
    ));
}

/// A lab host that is up.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) flavour: Flavour,
    pub(crate) name: String,
    /// Tells the images of two hosts apart on the one engine that builds them.
    pub(crate) project: &'static str,
    env: BTreeMap<String, String>,
    /// Of its first process; another one after a loss of power.
    pid: Arc<Mutex<String>>,
}

impl Host {
    fn up(flavour: Flavour, project: &'static str) -> Host {
        let first = flavour.projects().first();
        let more = first.and_then(|first| project.strip_prefix(first));
        let name = format!("e2e-{}{}", flavour.name(), more.unwrap_or_default());
        Host {
            project,
            ..Host::named(&name, flavour)
        }
    }

    /// A host of the lab, by its name there.
    fn named(name: &str, flavour: Flavour) -> Host {
        let lab = checkout().join("dist-scripts/lab");
        let mut up = Command::new(&lab);
        succeed(up.arg("up").args(flavour.recipe()).args(["--name", name]));
        let printed = succeed(Command::new(&lab).args(["env", name]));
        let env = printed
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        Host {
            flavour,
            name: name.to_owned(),
            project: "",
            env,
            pid: Arc::default(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.env.get(name).map_or("", String::as_str)
    }

    /// Has Belay log in as this user from now on.
    pub(crate) fn log_in_as(&mut self, user: &str) {
        self.env.insert("LAB_USER".to_owned(), user.to_owned());
    }

    /// Runs a script on the host, as root and past SSH. `docker exec` would do the same for ten times the work, and
    /// tests look every few milliseconds.
    pub(crate) fn try_run(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.env_clear().env("PATH", ROOTS_PATH).current_dir("/");
        command.args([
            "--target",
            &self.first_process(),
            "--all",
            "sh",
            "-c",
            script,
        ]);
        command.output().expect("nsenter runs")
    }

    /// The host's process 1, as this machine numbers it.
    fn first_process(&self) -> String {
        let mut known = self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() || !Path::new("/proc").join(&*known).exists() {
            let mut inspect = Command::new("docker");
            inspect.args(["inspect", "--format", "{{.State.Pid}}"]);
            *known = succeed(inspect.arg(self.get("LAB_CONTAINER")));
        }
        known.clone()
    }

    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on the host: {script}\n{said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a script as the user who deploys, with a login's environment.
    pub(crate) fn run_as_user(&self, script: &str) -> Output {
        let container = self.get("LAB_CONTAINER");
        let mut command = Command::new("docker");
        command.args(["exec", "--user", "deploy", "--workdir", "/", container]);
        command.args(["bash", "-lc", script]);
        command.output().expect("docker runs")
    }

    /// Ends everything from one moment to the next, and starts the machine again.
    pub(crate) fn lose_power(&self) {
        let container = self.get("LAB_CONTAINER");
        succeed(Command::new("docker").args(["kill", container]));
        succeed(Command::new("docker").args(["start", container]));
    }

    /// Has Docker's engine keep its images in another store, as its administrator does it.
    pub(crate) fn switch_store(&self, is_containerd: bool) {
        self.run(&format!(
            "echo '{{\"features\": {{\"containerd-snapshotter\": {is_containerd}}}}}' >/etc/docker/daemon.json"
        ));
        self.restart_docker();
    }

    /// Ends the engine as its administrator does, and waits for the next one.
    pub(crate) fn restart_docker(&self) {
        self.run(
            "kill $(cat /var/run/docker.pid); while [ -e /var/run/docker.pid ]; do sleep 0.1; done",
        );
        self.await_docker();
    }

    pub(crate) fn await_docker(&self) {
        self.run("for i in $(seq 600); do docker version >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1");
    }

    /// Gives Docker the store back that a host of this kind has, and its place on the disk, when a test that failed has left
    /// it another one.
    fn settle_the_store(&self) {
        let is_containerd = match self.flavour {
            Flavour::Debian13 | Flavour::Debian12 | Flavour::Systemd => return,
            Flavour::Sid => false,
            Flavour::SidContainerd => true,
        };
        let place = "/var/lib/containerd";
        let is_tmpfs = format!("findmnt -n -o FSTYPE {place} | grep -q tmpfs");
        if self.try_run(&is_tmpfs).status.success() {
            self.while_docker_is_down(&format!("umount {place}"));
        }
        let driver = self.run("docker info --format '{{.DriverStatus}}'");
        if driver.contains("io.containerd.snapshotter") != is_containerd {
            self.switch_store(is_containerd);
        }
    }

    /// Runs a script while neither Docker nor containerd runs.
    pub(crate) fn while_docker_is_down(&self, script: &str) {
        self.run(&format!(
            "touch /run/lab/hold-dockerd /run/lab/hold-containerd
             kill $(cat /var/run/docker.pid); pkill -x containerd
             while pgrep -x 'dockerd|containerd' >/dev/null; do sleep 0.1; done
             {script}
             rm -f /run/lab/hold-dockerd /run/lab/hold-containerd"
        ));
        self.await_docker();
    }

    /// Nothing runs on it but Docker and the stranger, until the next test: a healthcheck each second on a few hosts is a
    /// tenth of what this machine can do.
    fn rest(&self) {
        self.try_run(END_WHAT_RUNS);
    }

    /// Everything of the application away; what belongs to somebody else is put there once and stays.
    fn clean(&self) {
        self.settle_the_store();
        let script = format!(
            "{END_WHAT_RUNS}
             umount {ROOT}/backups {ROOT} 2>/dev/null
             found=$(docker volume ls -q | grep -vx foreign-data)
             [ -z \"$found\" ] || docker volume rm $found >/dev/null
             docker network prune -f >/dev/null
             images=$(docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -v '^foreign/' | grep -v '<none>')
             [ -z \"$images\" ] || docker rmi -f $images >/dev/null
             docker image prune -f >/dev/null
             rm -rf {ROOT} && install -d -o deploy -g deploy -m 0755 {ROOT}"
        );
        self.run(&script);
        self.name_the_project();
        if !self.try_run("docker inspect foreign").status.success() {
            self.settle_a_stranger();
        }
    }

    /// Compose 1.x does not know `name:`, and takes a project for its folder's namesake unless `.env` says otherwise.
    pub(crate) fn name_the_project(&self) {
        let project = self.project;
        if self.flavour == Flavour::Debian12 && !ROOT.ends_with(&format!("/{project}")) {
            self.run(&format!(
                "echo COMPOSE_PROJECT_NAME={project} >{ROOT}/.env && chown deploy: {ROOT}/.env"
            ));
        }
    }

    /// A container with a volume, an image, a network and a file that have nothing to do with the application.
    fn settle_a_stranger(&self) {
        let app = app_binary();
        let container = self.get("LAB_CONTAINER");
        succeed(Command::new("docker").args(["cp", &app, &format!("{container}:/opt/stranger")]));
        self.run(
            "mkdir -p /opt/foreign && cp /opt/stranger /opt/foreign/app && rm /opt/stranger
             tar -C /opt/foreign -c app | docker import - foreign/thing:v1.0.0 >/dev/null
             docker volume create foreign-data >/dev/null
             docker network create foreign-net >/dev/null
             docker run -d --name foreign --network foreign-net -v foreign-data:/data \
                 foreign/thing:v1.0.0 /app --worker >/dev/null",
        );
    }

    /// What its engine answers to `GET path`.
    fn docker(&self, path: &str) -> Value {
        engine_api::get(&self.first_process(), path)
    }

    /// What belongs to somebody else, as it is: it must be the same before and after.
    pub(crate) fn strangers(&self) -> String {
        let container = self.docker("/containers/foreign/json");
        let image = self.docker("/images/foreign/thing:v1.0.0/json");
        let volume = self.docker("/volumes/foreign-data");
        let network = self.docker("/networks/foreign-net");
        let file = format!("/proc/{}/root/opt/foreign/app", self.first_process());
        let file = fs::read(file).expect("the stranger's file");
        let state = &container["State"];
        let seen = [
            [
                &container["Id"],
                &container["Image"],
                &state["StartedAt"],
                &state["Status"],
            ],
            [
                &image["Id"],
                &image["RepoTags"],
                &volume["Name"],
                &volume["CreatedAt"],
            ],
        ];
        let file = belay_model::digest::sha256(&file);
        format!("{} {} {file}", json!(seen), network["Id"])
    }
}

// --- runners ---------------------------------------------------------------------------------------------------------

/// Where Belay's runner half runs: what builds the images, and where they are kept until they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// This machine.
    Here,
    /// A host of the lab with the newest Docker that Debian has, and BuildKit.
    Sid,
    /// The same with the images in containerd's store.
    SidContainerd,
}

impl Runner {
    fn host(self) -> Option<&'static Host> {
        static SID: OnceLock<Host> = OnceLock::new();
        static SID_CONTAINERD: OnceLock<Host> = OnceLock::new();
        let start = |name: &str, flavour| {
            let host = Host::named(name, flavour);
            let gateway = gateway_image();
            if !host
                .try_run(&format!("docker image inspect {gateway}"))
                .status
                .success()
            {
                let container = host.get("LAB_CONTAINER");
                let send =
                    format!("docker save {gateway} | docker exec -i {container} docker load");
                succeed(Command::new("sh").args(["-c", &send]));
            }
            host
        };
        match self {
            Runner::Here => None,
            Runner::Sid => Some(SID.get_or_init(|| start("e2e-runner", Flavour::Sid))),
            Runner::SidContainerd => {
                let start = || start("e2e-runner-containerd", Flavour::SidContainerd);
                Some(SID_CONTAINERD.get_or_init(start))
            }
        }
    }

    /// A program as it runs there. It sees that machine's files and Docker, and this one's network: hosts and GitHub's
    /// stand-in are where they always are.
    fn command(self, program: &Path, dir: &Path) -> Command {
        let Some(host) = self.host() else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        // With its processes, because Belay looks itself up among them. They are to end with this one.
        command.args(["--target", &host.first_process(), "--mount", "--pid"]);
        command.args(["setpriv", "--pdeathsig", "KILL"]);
        command.args(["env", "--chdir"]).arg(dir).arg(program);
        command
    }

    /// Where its programs are.
    fn path(self) -> std::ffi::OsString {
        match self {
            Runner::Here => std::env::var_os("PATH").unwrap_or_default(),
            Runner::Sid | Runner::SidContainerd => ROOTS_PATH.into(),
        }
    }

    /// What a script prints there.
    pub(crate) fn run(self, script: &str) -> String {
        let mut command = self.command(Path::new("sh"), Path::new("/"));
        succeed(command.env("PATH", ROOTS_PATH).args(["-c", script]))
    }

    /// A place for a test's files that exists there under the same path.
    fn dir(self) -> tempfile::TempDir {
        match self {
            Runner::Here => tempfile::tempdir(),
            Runner::Sid | Runner::SidContainerd => {
                let place = checkout().join("target/lab/runs");
                fs::create_dir_all(&place).expect("a directory");
                tempfile::tempdir_in(place)
            }
        }
        .expect("a directory")
    }
}

/// Ends the agent and every container but the stranger's.
const END_WHAT_RUNS: &str = "\
pkill -KILL -f '[a]gent (watch|engine)'; sleep 0.1
found=$(docker ps -a --format '{{.Names}}' | grep -vx foreign)
[ -z \"$found\" ] || docker rm -f -v $found >/dev/null";

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn gateway_image() -> String {
    static IMAGE: OnceLock<String> = OnceLock::new();
    let build = || succeed(Command::new(checkout().join("dist-scripts/lab")).arg("gateway"));
    IMAGE.get_or_init(build).clone()
}

fn app_binary() -> String {
    static APP: OnceLock<String> = OnceLock::new();
    let build = || succeed(Command::new(checkout().join("dist-scripts/lab")).arg("app"));
    APP.get_or_init(build).clone()
}

/// Two test runs of one checkout would take each other's hosts: the second waits until the first is over.
fn alone() -> File {
    let path = checkout().join("target/lab/e2e.lock");
    fs::create_dir_all(checkout().join("target/lab")).expect("a directory");
    let lock = File::create(path).expect("a lock file");
    lock.lock().expect("the lock works");
    lock
}

/// The hosts of one kind.
struct Pool {
    hosts: Mutex<Hosts>,
    returned: Condvar,
}

struct Hosts {
    /// Those that nobody has.
    idle: Vec<Host>,
    /// How many there are so far.
    up: usize,
}

impl Pool {
    const fn empty() -> Pool {
        let hosts = Hosts {
            idle: Vec::new(),
            up: 0,
        };
        Pool {
            hosts: Mutex::new(hosts),
            returned: Condvar::new(),
        }
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle host, else a new one, for which the others wait, else the first that comes back.
    fn take(&self, flavour: Flavour) -> Host {
        let mut hosts = self.hosts();
        loop {
            if let Some(host) = hosts.idle.pop() {
                return host;
            }
            if let Some(project) = flavour.projects().get(hosts.up) {
                let host = Host::up(flavour, project);
                hosts.up += 1;
                return host;
            }
            hosts = self
                .returned
                .wait(hosts)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, host: Host) {
        self.hosts().idle.push(host);
        self.returned.notify_one();
    }
}

/// How many hosts are at work at once, whatever their kinds: with six of them this machine's two cores spent their time on
/// nothing but changing from one to the other, and a test took four times as long.
const MOST_AT_WORK: usize = 3;

static AT_WORK: Mutex<usize> = Mutex::new(0);
static RESTED: Condvar = Condvar::new();

/// A host for one test alone; it goes back when this is dropped.
struct Lease(Option<Host>);

impl Lease {
    fn take(flavour: Flavour) -> Lease {
        static ALONE: OnceLock<File> = OnceLock::new();
        ALONE.get_or_init(alone);
        let host = flavour.pool().take(flavour);
        // After the host, so that nobody who may work waits for one.
        let mut at_work = AT_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        while *at_work >= MOST_AT_WORK {
            at_work = RESTED.wait(at_work).unwrap_or_else(PoisonError::into_inner);
        }
        *at_work += 1;
        Lease(Some(host))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(host) = self.0.take() {
            host.flavour.pool().give_back(host);
            *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            RESTED.notify_one();
        }
    }
}

// --- the application -------------------------------------------------------------------------------------------------

/// An application with its repository, its GitHub and its host.
pub(crate) struct App {
    name: &'static str,
    began: Instant,
    pub(crate) host: Host,
    pub(crate) github: FakeGitHub,
    pub(crate) dir: tempfile::TempDir,
    /// Laid over the environment of every run; an empty value takes the variable away.
    pub(crate) env: BTreeMap<String, String>,
    /// What is not Belay's, as it must stay; a test that ends Docker itself looks anew.
    pub(crate) strangers: String,
    pub(crate) runner: Runner,
    runs: u64,
    _lease: Lease,
}

impl App {
    fn start(runner: Runner, flavour: Flavour, name: &'static str) -> App {
        let lease = Lease::take(flavour);
        let host = lease.0.clone().expect("a lease has a host");
        let began = Instant::now();
        host.clean();
        let app = App {
            name,
            began,
            strangers: host.strangers(),
            github: FakeGitHub::start(contract(), 0, None).expect("a free port"),
            dir: runner.dir(),
            runner,
            env: BTreeMap::new(),
            runs: 0,
            host,
            _lease: lease,
        };
        app.lay_out();
        app
    }

    /// Images of two tests are never the same ones, or Docker's cache would give a service now this test's image and now
    /// the other's; and `dist-scripts/lab` removes them with the host.
    fn label_images(&self) {
        let host = self.host.get("LAB_CONTAINER");
        let test = self.dir.path().file_name().expect("a name").display();
        self.edit("Dockerfile", |text| {
            let labels = format!("LABEL belay.lab.host={host} belay.lab.test={test}");
            text.replace("FROM scratch\n", &format!("FROM scratch\n{labels}\n"))
        });
    }

    fn lay_out(&self) {
        let from = checkout().join("examples/ntplatform");
        succeed(
            Command::new("cp")
                .arg("-R")
                .arg(&from)
                .arg(self.repository()),
        );
        fs::copy(app_binary(), self.repository().join("app")).expect("the application is copied");
        fs::write(self.repository().join(".gitignore"), "").expect("written");
        self.label_images();
        self.write(
            "belay.yml",
            &BELAY_YML
                .replace("PROJECT", self.host.project)
                .replace("GATEWAY", &gateway_image()),
        );
        // A check's own limits stay as they are: Docker on a busy machine needs more than a second to begin one.
        // Since Docker 25 checks come every 5 s while an application may still be starting, unless the file says otherwise;
        // Compose 1.x does not know the word.
        let start = match self.host.flavour {
            Flavour::Debian12 => "start_period: 1s",
            _ => "start_period: 1s\n      start_interval: 300ms",
        };
        self.edit("docker-compose.yml", |text| {
            text.replace("interval: 2s", "interval: 1s")
                .replace("start_period: 5s", start)
        });
        self.git(&["init", "--quiet", "--initial-branch=main"]);
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.repository().join(path), text).expect("the file is written");
    }

    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.repository().join(path)).expect("the file is there");
        self.write(path, &change(text));
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.repository());
        command.args(["-c", "user.name=Test", "-c", "user.email=test@example.com"]);
        succeed(command.args(words))
    }

    /// A commit with this version, tagged. `fault` is one of the lab's application.
    pub(crate) fn release(&self, tag: &str, fault: &str) {
        self.release_with(tag, &[("APP_FAIL", fault)]);
    }

    /// The same with any of the Dockerfile's arguments; those that are not named are empty again.
    pub(crate) fn release_with(&self, tag: &str, arguments: &[(&str, &str)]) {
        self.write("VERSION", &format!("{tag}\n"));
        self.edit("Dockerfile", |text| {
            let line = |line: &str| match line.strip_prefix("ARG ").and_then(|l| l.split_once('='))
            {
                Some((name, _)) => {
                    let value = arguments
                        .iter()
                        .find(|(n, _)| *n == name)
                        .map_or("", |(_, v)| v);
                    format!("ARG {name}={value}\n")
                }
                None => format!("{line}\n"),
            };
            text.lines().map(line).collect()
        });
        self.commit_and_tag(tag);
    }

    pub(crate) fn commit_and_tag(&self, tag: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", tag]);
        self.git(&["tag", "--annotate", tag, "--message", tag]);
        let refs = BTreeMap::from([(format!("tags/{tag}"), self.commit_of(tag))]);
        self.github.seed(Seed {
            refs,
            ..Seed::default()
        });
    }

    pub(crate) fn commit_of(&self, tag: &str) -> String {
        self.git(&["rev-parse", &format!("{tag}^{{commit}}")])
    }

    // --- runs ---

    /// The run that GitHub starts when this tag is pushed.
    pub(crate) fn push(&mut self, tag: &str) -> Run {
        let running = self.begin_push(tag);
        self.finish(running)
    }

    pub(crate) fn begin_push(&mut self, tag: &str) -> Running {
        let sha = self.commit_of(tag);
        self.git(&["checkout", "--quiet", "--detach", tag]);
        let payload = push_event(tag, &sha);
        self.begin("run", "push", &payload, &sha, &format!("refs/tags/{tag}"))
    }

    /// The run of a workflow that was started by hand, on `main`.
    pub(crate) fn press(&mut self, inputs: Value) -> Run {
        let running = self.begin_press(&inputs);
        self.finish(running)
    }

    pub(crate) fn begin_press(&mut self, inputs: &Value) -> Running {
        let sha = self.commit_of("HEAD");
        let payload = dispatch_event(inputs);
        self.begin(
            "run",
            "workflow_dispatch",
            &payload,
            &sha,
            "refs/heads/main",
        )
    }

    /// The run of an event of a pull request, whose newest commit is the repository's.
    pub(crate) fn pull_request(&mut self, payload: &Value) -> Run {
        let sha = self.commit_of("HEAD");
        let number = &payload["number"];
        let running = self.begin(
            "run",
            "pull_request",
            payload,
            &sha,
            &format!("refs/pull/{number}/merge"),
        );
        self.finish(running)
    }

    pub(crate) fn rollback(&mut self, to: &str) -> Run {
        self.press(json!({"command": "rollback", "rollback": to}))
    }

    /// The step that the action always runs last, after the run `of`.
    pub(crate) fn finalize(&mut self, of: &Running) -> Run {
        let running = self.begin_finalize(of);
        self.finish(running)
    }

    pub(crate) fn begin_finalize(&self, of: &Running) -> Running {
        let mut command = self.command("finalize", &of.dir, of.run_id);
        command.envs(of.event_env.clone());
        Running::start(
            command,
            of.dir.clone(),
            of.run_id,
            of.event_env.clone(),
            "finalize.log",
        )
    }

    fn begin(
        &mut self,
        command: &str,
        event: &str,
        payload: &Value,
        sha: &str,
        ref_: &str,
    ) -> Running {
        self.runs += 1;
        let dir = self.dir.path().join(format!("run-{}", self.runs));
        fs::create_dir_all(dir.join("temp")).expect("a directory");
        fs::write(dir.join("event.json"), payload.to_string()).expect("written");
        let ref_name = ref_.rsplit('/').next().unwrap_or_default();
        let event_env = BTreeMap::from([
            ("GITHUB_EVENT_NAME".to_owned(), event.to_owned()),
            ("GITHUB_SHA".to_owned(), sha.to_owned()),
            ("GITHUB_REF".to_owned(), ref_.to_owned()),
            ("GITHUB_REF_NAME".to_owned(), ref_name.to_owned()),
        ]);
        let run_id = 1000 + self.runs;
        let mut started = self.command(command, &dir, run_id);
        started.envs(event_env.clone());
        Running::start(started, dir, run_id, event_env, "log")
    }

    fn command(&self, command: &str, dir: &Path, run_id: u64) -> Command {
        let mut belay = self.runner.command(&binary(), &self.repository());
        let read = |name: &str| fs::read_to_string(self.host.get(name)).expect("the lab's file");
        belay
            .arg(command)
            .env_clear()
            .env("PATH", self.runner.path())
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_EVENT_PATH", dir.join("event.json"))
            .env("GITHUB_REPOSITORY", REPOSITORY)
            .env("GITHUB_RUN_ID", run_id.to_string())
            .env("GITHUB_RUN_ATTEMPT", "1")
            .env("GITHUB_ACTOR", "octocat")
            .env("GITHUB_JOB", "deploy")
            .env("GITHUB_API_URL", self.github.api_url())
            .env("GITHUB_WORKSPACE", self.repository())
            .env("GITHUB_OUTPUT", dir.join("output"))
            .env("GITHUB_STEP_SUMMARY", dir.join("summary.md"))
            .env("RUNNER_TEMP", dir.join("temp"))
            .env("BELAY_TOKEN", "ghs_token")
            .env("BELAY_HOST", self.host.get("LAB_HOST"))
            .env("BELAY_PORT", self.host.get("LAB_PORT"))
            .env("BELAY_USER", self.host.get("LAB_USER"))
            .env("BELAY_SSH_KEY", read("LAB_KEY"))
            .env("BELAY_KNOWN_HOSTS", read("LAB_KNOWN_HOSTS"));
        for (name, value) in &self.env {
            match value.as_str() {
                "" => belay.env_remove(name),
                value => belay.env(name, value),
            };
        }
        belay
    }

    /// Waits for a run and looks at everything that must hold after any run.
    pub(crate) fn finish(&self, running: Running) -> Run {
        let run = self.wait(running);
        self.check(&run.log);
        run
    }

    /// Waits without looking further: for runs that leave the host in the middle of something on purpose.
    pub(crate) fn wait(&self, mut running: Running) -> Run {
        let run = running.ended();
        Run {
            serving: self.serving(),
            ..run
        }
    }

    /// A command of the command line, as a person types it on a laptop.
    pub(crate) fn belay(&self, words: &[&str]) -> Output {
        let mut belay = Command::new(binary());
        belay
            .args(words)
            .current_dir(self.repository())
            .env("BELAY_HOST", self.host.get("LAB_HOST"))
            .env("BELAY_PORT", self.host.get("LAB_PORT"))
            .env("BELAY_USER", self.host.get("LAB_USER"))
            .args(["--ssh-key", self.host.get("LAB_KEY")])
            .args(["--known-hosts", self.host.get("LAB_KNOWN_HOSTS")])
            .stdin(Stdio::null());
        belay.output().expect("belay starts")
    }

    // --- looking ---

    /// The version that the application itself answers with; nothing when it does not answer, or somebody else does.
    pub(crate) fn serving(&self) -> Option<String> {
        let (head, body) = self.http("GET", "/version", "")?;
        let ours = head.to_ascii_lowercase().contains("x-belay-lab: 1");
        if head.starts_with("HTTP/1.1 503") && !ours {
            // The gateway, which has nobody to give it to.
            return None;
        }
        assert!(ours, "somebody else answers: {head}");
        Some(body.trim().to_owned())
    }

    /// Where the application is published.
    pub(crate) fn addr(&self) -> SocketAddr {
        let port: u16 = self.host.get("LAB_APP_PORT").parse().expect("a port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// One request; nothing when there is no answer.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(self.addr()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.to_owned(), body.to_owned()))
    }

    /// What must hold after any run that ended by itself.
    pub(crate) fn check(&self, log: &str) {
        let troubles = self.troubles();
        assert!(
            troubles.is_empty(),
            "{}:\n{}\n{log}",
            self.host.name,
            troubles.join("\n")
        );
    }

    /// Everything is asked for in one go: each way into the host takes longer than all that is looked at there.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let printed = self.host.run(&format!(
            "cd {ROOT} || exit 1
             if [ -e .belay/lock ]; then
                 flock -w 3 .belay/lock true || echo 'the lock is held'
             fi
             newest=$(ls .belay/journal/*.log 2>/dev/null | tail -n 1)
             if [ -n \"$newest\" ]; then
                 tail -n 1 $newest | grep -q '\"event\":\"end\"' || echo \"open journal: $(tail -n 1 $newest)\"
             fi
             find . \\( -name '*.part' -o -name '*.new' -o -name '*.tmp' -o -path './.belay/incoming/*' \
                 -o -path './.belay/displaced/*' -o -name '*.confirm' -o -name '*.abort' -o -name '*.extend' -o -name '*.plan.json' \\) \
                 -printf 'left over: %p\\n'
             echo {PART}
             ! [ -e docker-compose.yml ] || docker-compose config"
        ));
        let (left, config) = printed.split_once(PART).expect("both parts are there");
        let mut troubles: Vec<String> = left.trim().lines().map(str::to_owned).collect();
        let containers = self.host.docker("/containers/json?all=1");
        troubles.extend(helpers(&containers));
        let images = self.host.docker("/images/json");
        let running = services(&containers, self.host.project);
        troubles.extend(wrong_pins(config, &running, &names(&images)));
        let strangers = self.host.strangers();
        if strangers != self.strangers {
            let before = &self.strangers;
            troubles.push(format!(
                "what is not Belay's has changed:\n{before}\n{strangers}"
            ));
        }
        troubles
    }

    /// Images of the application on the host, `repository:tag`. That of Belay's helpers is nobody's.
    pub(crate) fn images(&self) -> Vec<String> {
        let printed = self
            .host
            .run("docker images --format '{{.Repository}}:{{.Tag}}'");
        let mut images: Vec<String> = printed
            .lines()
            .filter(|i| !i.starts_with("foreign/") && !i.starts_with("belay-helper:"))
            .map(str::to_owned)
            .collect();
        images.sort();
        images
    }

    /// Containers, volumes and networks of the project on the host.
    pub(crate) fn belongings(&self) -> Vec<String> {
        let label = format!("label=com.docker.compose.project={}", self.host.project);
        let printed = self.host.run(&format!(
            "docker ps -a --filter {label} --format 'container {{{{.Names}}}}'
             docker volume ls --filter {label} --format 'volume {{{{.Name}}}}'
             docker network ls --filter {label} --format 'network {{{{.Name}}}}'"
        ));
        let mut belongings: Vec<String> = printed.lines().map(str::to_owned).collect();
        belongings.sort();
        belongings
    }

    /// The records on GitHub, oldest first.
    pub(crate) fn deployments(&self) -> Vec<Deployment> {
        self.github.look(|world| world.deployments.clone())
    }

    /// The states that a deployment went through.
    pub(crate) fn states(&self, deployment: &Deployment) -> Vec<String> {
        deployment
            .statuses
            .iter()
            .map(|s| s.state.clone())
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let took = self.began.elapsed().as_secs_f64();
        if std::thread::panicking() {
            return say(&format!(
                "e2e: {} FAILED on {} after {took:.1} s",
                self.name, self.host.name
            ));
        }
        self.host.rest();
        say(&format!(
            "e2e: {} on {} took {took:.1} s, {} runs",
            self.name, self.host.name, self.runs
        ));
        let violations = self.github.violations();
        assert!(
            violations.is_empty(),
            "against GitHub's description: {violations:#?}"
        );
    }
}

/// Stands between the parts of what [`App::troubles`] asks for.
const PART: &str = "--- part ---";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Containers that Belay works with; none outlives its work.
fn helpers(containers: &Value) -> Vec<String> {
    let all = containers.as_array().into_iter().flatten();
    all.filter(|container| container["Labels"].get("dev.belay.helper").is_some())
        .map(|container| format!("left over: container {}", container["Names"]))
        .collect()
}

/// What runs for the project: `service image state`, the image as the engine calls it.
fn services(containers: &Value, project: &str) -> Vec<String> {
    let label = |container: &Value, name: &str| {
        text(&container["Labels"][format!("com.docker.compose.{name}")]).to_owned()
    };
    let all = containers.as_array().into_iter().flatten();
    all.filter(|container| label(container, "project") == project)
        .map(|container| {
            let (image, state) = (text(&container["ImageID"]), text(&container["State"]));
            format!("{} {image} {state}", label(container, "service"))
        })
        .collect()
}

/// What the engine calls the image of each name.
fn names(images: &Value) -> BTreeMap<&str, &str> {
    let all = images.as_array().into_iter().flatten();
    all.flat_map(|image| {
        let tags = image["RepoTags"].as_array().into_iter().flatten();
        tags.map(|tag| (text(tag), text(&image["Id"])))
    })
    .collect()
}

/// Services that do not run the image that the published Compose file names.
fn wrong_pins(config: &str, running: &[String], ids: &BTreeMap<&str, &str>) -> Vec<String> {
    // Read as YAML, because Compose 1.x prints nothing else.
    let config = belay_model::yaml::read(config.as_bytes()).expect("Compose prints YAML");
    let mut wrong = vec![];
    for (service, definition) in config["services"].as_object().into_iter().flatten() {
        let image = definition["image"].as_str().unwrap_or_default();
        let id = ids.get(image).copied().unwrap_or_default();
        let found: Vec<&str> = running
            .iter()
            .map(String::as_str)
            .filter(|line| line.split(' ').next() == Some(service))
            .collect();
        let one_shot = definition["command"].to_string().contains("--migrate");
        let fits = |line: &&str| *line == format!("{service} {id} running");
        let replicas = definition["deploy"]["replicas"].as_u64();
        let wanted = definition["scale"].as_u64().or(replicas).unwrap_or(1);
        let is_right = found.len() as u64 == wanted && found.iter().all(fits);
        if !one_shot && !is_right {
            wrong.push(format!(
                "{service} should run {wanted} times {image} ({id}), and there is {found:?}"
            ));
        }
    }
    wrong
}

fn contract() -> Option<Arc<Contract>> {
    static CONTRACT: OnceLock<Option<Arc<Contract>>> = OnceLock::new();
    let load = || match Contract::load(&Contract::usual_path()) {
        Ok(contract) => Some(Arc::new(contract)),
        Err(error) => {
            say(&format!(
                "GitHub's description is not there; requests are not checked against it: {error}"
            ));
            None
        }
    };
    CONTRACT.get_or_init(load).clone()
}

pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("BELAY_BIN") {
        Some(path) => path.into(),
        None => {
            // Tests are in target/<triple>/<profile>/deps, and the release build is beside that profile.
            let test = std::env::current_exe().expect("this program has a path");
            let triple = test.ancestors().nth(3).expect("the target's directory");
            triple.join("release/belay")
        }
    }
}

pub(crate) fn push_event(tag: &str, sha: &str) -> Value {
    json!({
        "ref": format!("refs/tags/{tag}"), "before": "0".repeat(40), "after": sha, "created": true,
        "deleted": false, "forced": false, "base_ref": null,
        "repository": {"full_name": REPOSITORY, "default_branch": "main"},
    })
}

pub(crate) fn dispatch_event(inputs: &Value) -> Value {
    json!({
        "ref": "refs/heads/main", "inputs": inputs,
        "repository": {"full_name": REPOSITORY, "default_branch": "main"},
    })
}

// --- one run ---------------------------------------------------------------------------------------------------------

/// A run that has not ended.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) dir: PathBuf,
    run_id: u64,
    event_env: BTreeMap<String, String>,
    log: PathBuf,
}

impl Running {
    fn start(
        mut command: Command,
        dir: PathBuf,
        run_id: u64,
        event_env: BTreeMap<String, String>,
        log: &str,
    ) -> Running {
        // The files of the runner exist before a step begins.
        for name in ["output", "summary.md"] {
            File::create(dir.join(name)).expect("a file");
        }
        let log = dir.join(log);
        let out = File::create(&log).expect("a log");
        let err = out.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Running {
            child: command.spawn().expect("belay starts"),
            dir,
            run_id,
            event_env,
            log,
        }
    }

    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let masks = |line: &&str| line.starts_with("::add-mask::");
        text.lines()
            .filter(|line| !masks(line))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Waits until the log has this text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            let ended = self.child.try_wait().expect("the child is ours").is_some();
            let log = self.log();
            assert!(
                !ended || log.contains(text),
                "it ended without {text:?}:\n{log}"
            );
            assert!(
                began.elapsed() < RUN_PATIENCE,
                "it never said {text:?}:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The runner is gone from one moment to the next.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("it has ended");
    }

    /// Waits for its end. Who serves then is not looked at.
    pub(crate) fn ended(&mut self) -> Run {
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("the child is ours") {
                Some(status) => break status,
                None if began.elapsed() > RUN_PATIENCE => {
                    self.kill();
                    panic!("the run did not end:\n{}", self.log());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Run {
            exit: status.code().unwrap_or(-1),
            outputs: outputs(&fs::read_to_string(self.dir.join("output")).unwrap_or_default()),
            summary: fs::read_to_string(self.dir.join("summary.md")).unwrap_or_default(),
            log: self.log(),
            serving: None,
        }
    }
}

/// Keeps a page as somebody sees it on GitHub, for `dist-scripts/pictures`.
pub(crate) fn keep_page(name: &str, text: &str) {
    let dir = checkout().join("target/pages");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join(name), text).expect("written");
}

/// A run that has ended, with everything that it left for people and machines.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) exit: i32,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) summary: String,
    pub(crate) log: String,
    /// What the application itself answered afterwards.
    pub(crate) serving: Option<String>,
}

impl Run {
    pub(crate) fn output(&self, name: &str) -> &str {
        self.outputs.get(name).map_or("", String::as_str)
    }

    /// Exit code, outcome, the output `version` and what really serves, all four.
    #[track_caller]
    pub(crate) fn ends(&self, outcome: &str, serving: &str) -> &Run {
        let exit = match outcome {
            "deployed" | "unchanged" => 0,
            "refused" => 10,
            "rolled-back" => 20,
            "stuck" => 30,
            "unknown" => 40,
            other => panic!("no such outcome: {other}"),
        };
        let serving = Some(serving).filter(|version| !version.is_empty());
        let wanted = (exit, outcome, serving);
        let got = (self.exit, self.output("outcome"), self.serving.as_deref());
        assert_eq!(got, wanted, "exit, outcome, serving\n{}", self.log);
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Run {
        assert!(
            self.log.contains(text),
            "the log does not say {text:?}:\n{}",
            self.log
        );
        self
    }
}

/// Reads GITHUB_OUTPUT, in both of its forms.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some((name, end)) = line.split_once("<<") {
            let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
            outputs.insert(name.to_owned(), value.join("\n"));
        } else if let Some((name, value)) = line.split_once('=') {
            outputs.insert(name.to_owned(), value.to_owned());
        }
    }
    outputs
}
