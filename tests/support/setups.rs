//! The two hosts that the contract runs against: the one in memory, and this machine's own Docker.

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use belay_agent::docker::RealHost;
use belay_agent::host::{Composition, Container, Host};
use belay_model::yaml;
use serde_json::Value;
use tempfile::TempDir;

use super::fake_host::{Behaviour, FakeHost, FakeImage};

/// A project of its own on a host, of which nothing stays.
pub trait Setup {
    fn host(&self) -> &dyn Host;
    fn dir(&self) -> &Path;
    fn project(&self) -> &str;
    /// A port that nothing else uses.
    fn port(&self) -> u16;
    /// Makes an image; its name begins with [`Setup::prefix`].
    fn image(&self, name: &str, version: &str, behaviour: &Behaviour) -> String;

    /// The image of a gateway.
    fn gateway_image(&self) -> String;
    /// Where the one container of `web` may be asked directly. Traffic of tests stays on this machine's own addresses, so
    /// that is its published port where the engine is a real one.
    fn probed_address(&self) -> String;

    fn prefix(&self) -> String {
        format!("{}/", self.project())
    }

    /// Holds a container still.
    fn pause(&self, container: &str);

    /// Writes the Compose file.
    fn compose(&self, document: &Value) -> Composition {
        self.compose_text(&yaml::write(document))
    }

    fn compose_text(&self, text: &str) -> Composition {
        let file = self.dir().join("docker-compose.yml");
        fs::write(&file, text).expect("written");
        Composition {
            project: self.project().to_owned(),
            directory: self.dir().to_owned(),
            file,
        }
    }

    fn containers(&self) -> Vec<Container> {
        self.host().containers(self.project()).expect("listed")
    }

    /// The one container of a service.
    fn container(&self, service: &str) -> Container {
        let mut found = self.containers();
        found.retain(|c| c.service == service);
        assert_eq!(found.len(), 1, "{service} has {found:#?}");
        found.remove(0)
    }

    /// Looks until it is so, on the host's own clock.
    fn eventually(&self, what: &str, is_so: &dyn Fn() -> bool) {
        let deadline = self.host().boot_time().plus_ms(20_000);
        while !is_so() {
            let late = deadline.has_passed(&self.host().boot_time());
            assert!(!late, "{what}, but {:#?}", self.containers());
            self.host().sleep(Duration::from_millis(50));
        }
    }
}

/// The host in memory.
pub struct Fake {
    host: FakeHost,
    dir: TempDir,
    ports: AtomicU32,
}

impl Fake {
    pub fn new() -> Option<Self> {
        Some(Fake {
            host: FakeHost::new(),
            dir: tempfile::tempdir().expect("a directory"),
            ports: AtomicU32::new(8080),
        })
    }
}

impl Setup for Fake {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn project(&self) -> &str {
        "contract"
    }

    fn port(&self) -> u16 {
        self.ports.fetch_add(1, Ordering::Relaxed) as u16
    }

    fn gateway_image(&self) -> String {
        let reference = "haproxy:3.0".to_owned();
        let image = FakeImage::new("haproxy", "3.0", Behaviour::Healthy);
        self.host.load(&reference, &image);
        reference
    }

    fn pause(&self, container: &str) {
        let mut world = self.host.world();
        let mut all = world.containers.iter_mut();
        all.find(|c| c.id == container).expect("it is there").paused = true;
    }

    fn probed_address(&self) -> String {
        self.container("web").addresses.remove(0)
    }

    fn image(&self, name: &str, version: &str, behaviour: &Behaviour) -> String {
        let reference = format!("{}{name}:{version}", self.prefix());
        let image = FakeImage::new(name, version, behaviour.clone());
        self.host.load(&reference, &image);
        reference
    }
}

/// This machine's own engine, when `BELAY_TEST_DOCKER=1` asks for it.
pub struct Real {
    host: RealHost,
    dir: TempDir,
    project: String,
    app: PathBuf,
}

impl Real {
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if std::env::var("BELAY_TEST_DOCKER").is_ok_and(|value| value == "1") {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            Some(Real {
                host: RealHost::new(),
                dir: tempfile::tempdir().expect("a directory"),
                project: format!("belay-contract-{}-{number}", std::process::id()),
                app: application(),
            })
        } else {
            skipped();
            None
        }
    }

    fn docker(&self, words: &[&str]) -> String {
        let output = Command::new("docker")
            .args(words)
            .output()
            .expect("docker runs");
        assert!(
            output.status.success(),
            "docker {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn remove_all(&self, list: &[&str], remove: &[&str]) {
        let found = self.docker(list);
        let names: Vec<&str> = found.lines().filter(|l| !l.is_empty()).collect();
        if !names.is_empty() {
            self.docker(&[remove, &names].concat());
        }
    }
}

/// Says once, past the test harness, that the real engine was not asked.
fn skipped() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = io::stderr()
            .write_all(b"BELAY_TEST_DOCKER=1 is not set: only the fake host was checked\n");
    });
}

/// The lab's application, as one static binary.
fn application() -> PathBuf {
    if let Some(path) = std::env::var_os("BELAY_TEST_APP") {
        return path.into();
    }
    lab("app").into()
}

/// What a command of the lab prints. On a host of the lab, where these tests are played on its own Docker, it was asked
/// before.
fn lab(command: &str) -> String {
    if let Ok(printed) = std::env::var(format!("BELAY_LAB_{}", command.to_uppercase())) {
        return printed;
    }
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist-scripts/lab");
    let output = Command::new(&lab).arg(command).output().expect("it runs");
    assert!(
        output.status.success(),
        "{} {command} failed",
        lab.display()
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Drop for Real {
    fn drop(&mut self) {
        let label = format!("label=com.docker.compose.project={}", self.project);
        let images = format!("reference={}/*", self.project);
        self.remove_all(
            &["ps", "--all", "--quiet", "--filter", &label],
            &["rm", "--force", "--volumes"],
        );
        self.remove_all(
            &["network", "ls", "--quiet", "--filter", &label],
            &["network", "rm"],
        );
        self.remove_all(
            &["volume", "ls", "--quiet", "--filter", &label],
            &["volume", "rm"],
        );
        let names = "{{.Repository}}:{{.Tag}}";
        self.remove_all(
            &["image", "ls", "--format", names, "--filter", &images],
            &["image", "rm", "--force"],
        );
    }
}

impl Setup for Real {
    fn host(&self) -> &dyn Host {
        &self.host
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn project(&self) -> &str {
        &self.project
    }

    fn port(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    }

    fn gateway_image(&self) -> String {
        lab("gateway")
    }

    fn pause(&self, container: &str) {
        let paused = Command::new("docker").args(["pause", container]).output();
        let paused = paused.expect("docker runs");
        assert!(paused.status.success(), "{paused:?}");
    }

    fn probed_address(&self) -> String {
        "127.0.0.1".to_owned()
    }

    fn image(&self, name: &str, version: &str, behaviour: &Behaviour) -> String {
        let reference = format!("{}{name}:{version}", self.prefix());
        let place = tempfile::tempdir().expect("a directory");
        fs::copy(&self.app, place.path().join("app")).expect("copied");
        fs::write(
            place.path().join("Dockerfile"),
            dockerfile(name, version, behaviour, &self.project),
        )
        .expect("written");
        let place = place.path().display().to_string();
        // Without the cache: its layers belong to images that a test beside this one may just be removing.
        self.docker(&[
            "build",
            "--no-cache",
            "--quiet",
            "--tag",
            &reference,
            &place,
        ]);
        reference
    }
}

fn dockerfile(name: &str, version: &str, behaviour: &Behaviour, project: &str) -> String {
    let (fault, more) = match behaviour {
        Behaviour::Healthy | Behaviour::WrongVersion | Behaviour::WontStart => (String::new(), ""),
        Behaviour::Status500 => ("all500".to_owned(), ""),
        Behaviour::PrimaryFails => ("status500".to_owned(), ""),
        Behaviour::PrimaryHangs => ("hang-primary".to_owned(), ""),
        Behaviour::Exits(_) => ("exit".to_owned(), ""),
        Behaviour::DockerUnhealthy => (
            "all500".to_owned(),
            "HEALTHCHECK --interval=200ms --retries=1 CMD [\"/app\", \"--healthcheck\", \"/health\"]\n",
        ),
        Behaviour::NeverListens => ("no-listen".to_owned(), ""),
        Behaviour::BadAfter(ms) => (format!("bad-after:{ms}"), ""),
        Behaviour::OneShot(_) => (String::new(), "CMD [\"--migrate\"]\n"),
        Behaviour::Proxy(_) => panic!("only a host in memory has this proxy"),
    };
    let entry = match behaviour {
        Behaviour::WontStart => "/nothing",
        _ => "/app",
    };
    let code = match behaviour {
        Behaviour::OneShot(code) => *code,
        _ => 0,
    };
    // The label makes it this test's own: equal content would be one image, under the names of several tests.
    format!(
        "FROM scratch\nLABEL project={project}\nCOPY app /app\nENV APP_SERVICE={name} APP_VERSION={version} \
         APP_FAIL={fault} APP_MIGRATE_EXIT={code} DATA_DIR=/data\nENTRYPOINT [\"{entry}\"]\n{more}"
    )
}
