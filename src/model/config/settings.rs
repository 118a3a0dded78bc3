//! Every key of `belay.yml`, declared once: what it means, its type, its default and its range.
//!
//! Pure. A doc comment here is what the JSON schema and `docs/configuration.md` say; `BELAY_BLESS=1 cargo test --test
//! config` writes both. The form of a declaration is told at `settings!`. Values that are more than a type each
//! (a word or a map, one of two keys) are read in `forms.rs`, what has to fit together is in `checks.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::document::{Entries, Field, Node};
use super::problems::Problems;
use super::setting::{
    KeyMap, Ranged, Setting, SettingKey, Shape, Usual, choice, default_of, names, read_over,
    settings, shape_of,
};
use super::values::{
    AbsolutePath, AppName, Bytes, Choice, DataPath, DataSource, EnvironmentName, FromLiteral,
    HeaderName, HostAddress, ImageName, JsonField, Keyword, Percent, Period, Platform, ProjectName,
    RelativePath, ServiceName, Url, UserName, VolumeName,
};
use crate::request::tag::TagKind;

settings! {
    /// How Belay deploys this repository: belay.yml. Every setting has a default.
    pub(super) struct File {
        ..shared: SharedSettings;
        /// The name of the app.
        app: Option<AppName>, else "last part of `root`, else the repository's name";
        /// What is said about single services, by their names in the Compose file.
        services: BTreeMap<ServiceName, ServiceSettings>;
        /// How images are made, measured, shipped and kept.
        images: ImageSettings;
        /// HAProxy as one more service of the project (`belay-gateway`), which takes over the ports that start-first
        /// services publish. No service of the Compose file may have its name.
        gateway: Gateway, else "on";
        /// How downtime is measured while a deployment is at work: the host asks `health.primary` from before the first
        /// new container starts until the last old one is gone. Nothing is measured without that endpoint, and on a
        /// first deployment.
        requests: RequestSettings;
        /// What is backed up before each deployment.
        backup: BackupSettings;
        /// What is meant to become of data that a new version mounts otherwise than the running one, or not at all: by
        /// a volume's name in the Compose file, by a path (`./files` or `/srv/files`), or, for a volume without a name,
        /// by its service and where it is mounted (`web:/data`). Without an entry a deployment to production is refused
        /// rather than leave data behind; elsewhere it is a warning.
        data: BTreeMap<DataSource, DataMeaning>;
        /// What differs, by the environment's name on GitHub.
        environments: BTreeMap<EnvironmentName, EnvironmentSettings>;
    }

    /// One environment of `belay.yml`.
    pub(super) struct EnvironmentSettings {
        ..shared: SharedSettings;
        /// The kinds of tag that go here. A kind goes to one environment only. One that its usual environment leaves out
        /// and nobody lists is refused.
        tags: Option<BTreeSet<TagKind>>, else "the usual kinds";
        /// Where people find the app; shown on GitHub.
        url: Option<Url>, else "none";
    }

    /// What an environment may have for itself.
    pub(super) struct SharedSettings {
        /// The folder of the app on the host. It belongs to the app alone: folders of the system are refused.
        root: Option<AbsolutePath>, else "`/opt/` and the name of the app";
        /// The Compose file in the repository.
        compose: Option<RelativePath>,
            else "the first of `compose.yaml`, `compose.yml`, `docker-compose.yaml`, `docker-compose.yml`";
        /// The Compose project.
        project: Option<ProjectName>, else "the name that Compose derives from `root`";
        /// The host to deploy to: an address, or a map of the keys below.
        host: HostSettings, else "the inputs of the action";
        /// Files shipped beside the Compose file. Each is a path, or a map of `from` and `to`. A service that has one
        /// mounted (volume, secret or config) is replaced when it changes.
        files: Vec<FileToShip>;
        /// How health is judged.
        health: HealthSettings;
        /// How long the new version is watched after it took over.
        bake: Period = Period::seconds(10);
        /// How long the host waits for the runner's confirmation before it goes back by itself; at least `10s`. Where
        /// the runner's look at `health.public` may take longer, it asks for more, up to ten minutes.
        confirm: Period = Period::seconds(120), within Period::seconds(10)..;
        /// How long a deployment waits for another one to end.
        lock_wait: Period = Period::seconds(600);
    }

    /// A host, as far as it is known.
    pub(super) struct HostSettings, or only address: "an address", "{address: example.com, user: deploy}" {
        /// Its name or IP address.
        address: Option<HostAddress>;
        /// The port of its SSH server.
        port: u16 = 22, within 1..=65_535;
        /// The user that deploys.
        user: UserName = UserName::literal("deploy");
    }

    /// An entry of `files`.
    pub(super) struct FileEntry, or only from: "a path", "{from: a.conf, to: b.conf}" {
        /// Where the file is in the repository.
        from: Option<RelativePath>;
        /// Where it goes below `root`; not into `backups/` or `.belay/`.
        to: Option<RelativePath>, else "same as `from`";
    }

    /// What is said about one service.
    pub struct ServiceSettings {
        /// How the service is replaced.
        strategy: WishedStrategy = WishedStrategy::Auto;
        /// What the gateway speaks with the service.
        mode: Mode = Mode::Http;
        /// The PROXY protocol that the gateway speaks to the service. In `http` mode the client's address is in
        /// `X-Forwarded-For` as well.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off;
        /// How the replicas of a start-first service are replaced.
        roll: Roll = Roll::Together;
        /// What happens to an old container behind your own proxy before it stops. Behind the gateway there is nothing
        /// to set: it finishes its requests for as long as its `stop_grace_period` says.
        drain: DrainSettings;
    }

    /// What happens to an incumbent behind the user's own proxy before it stops.
    pub struct DrainSettings {
        /// A command run inside it, at most 30 s, which makes your proxy take it out. When it fails, that is a warning.
        command: Vec<String>;
        /// How long your proxy gets to notice, after the command.
        wait: Period = Period::seconds(5);
    }

    /// The gateway, where there is one.
    pub(super) struct GatewaySettings {
        /// Its image: HAProxy 2.6 or newer, with a shell and bash or `nc`, as the official images have.
        image: ImageName = ImageName::literal("haproxy:3.0");
        /// How the image reaches the host; `stream` is for hosts that cannot pull. `images.test`, `images.budget` and
        /// `images.growth` are not for it.
        source: ImageSource = ImageSource::Registry;
    }

    /// How downtime is measured, and how much of it is allowed.
    pub struct RequestSettings {
        /// Questions a second, at most `1000`; `0` measures nothing.
        rate: u32 = 50, within 0..=1000;
        /// How many may fail: no whole answer within `health.timeout`, or one with a status of 500 and above.
        max_failed: Option<u32>, else "not limited", within 0..=1_000_000;
        /// How long there may be no good answer; at least two questions' time, `40ms` at the usual rate.
        max_gap: Option<Period>, else "not limited";
        /// What more of either means. With `fail`, a deployment that has exceeded a limit when the bake ends is rolled
        /// back. What is exceeded after that can only be told.
        over: Excess = Excess::Warn;
    }

    /// How images are made, measured, shipped and kept.
    pub struct ImageSettings {
        /// How images reach the host. `registry` is refused in this version; images that the Compose file only names
        /// are pulled by the host.
        source: ImageSource = ImageSource::Stream;
        /// The size that an image should stay below, unpacked ([engines.md](engines.md#what-an-image-is)).
        budget: Bytes = Bytes::megabytes(300);
        /// What a larger image means.
        over_budget: Excess = Excess::Warn;
        /// How much an image may grow from one version to the next.
        growth: Percent = Percent::new(20);
        /// What more growth means.
        over_growth: Excess = Excess::Warn;
        /// A command run inside each built image before it ships.
        test: Vec<String>;
        /// How many versions stay on the host; at least 2, so that there is one to go back to.
        keep: u32 = 3, within 2..=100;
        /// Images that are not built here: a map from service to image name.
        given: BTreeMap<ServiceName, ImageName>;
        /// The platform to build for, as in `linux/arm64`.
        platform: Option<Platform>, else "the host's own";
    }

    /// How health is judged. Without endpoints, by the containers and their own health checks.
    pub struct HealthSettings {
        /// The endpoint that decides, asked on the host: 2xx is healthy.
        primary: Option<Url>, else "none";
        /// The endpoint that is asked when the primary cannot be reached at all. Needs a primary.
        backup: Option<Url>, else "none";
        /// The endpoint as users reach it, asked from the runner.
        public: Option<Url>, else "none";
        /// How many answers in a row must be good.
        successes: u32 = 3, within 1..=100;
        /// The pause between two questions.
        interval: Period = Period::seconds(1), within Period::milliseconds(100)..;
        /// How long one answer may take.
        timeout: Period = Period::seconds(5), within Period::milliseconds(100)..;
        /// How long the app may take to become healthy.
        deadline: Period = Period::seconds(60), within Period::seconds(1)..;
        /// What it means when only the backup endpoint answers.
        degraded: Degraded = Degraded::Accept;
        /// Where the primary endpoint says which version it is; it has to be the deployed one. One of the two keys
        /// below.
        version: Option<VersionSource>, else "not asked";
    }

    /// The keys of `health.version`, of which one is given.
    pub(super) struct VersionKeys {
        /// In this response header, as in `X-App-Version`.
        header: Option<HeaderName>;
        /// In this field of the JSON body, as in `build.version`.
        json: Option<JsonField>;
    }

    /// What is backed up before each deployment, and for how long.
    pub struct BackupSettings {
        /// How many verified backups stay.
        keep: u32 = 5, within 1..=1000;
        /// How many lines of log a backup has of each service, at most 8 MiB.
        logs: u32 = 1000, within 0..=1_000_000;
        /// Which data is included: one of the words, or a list of maps with the keys below.
        data: BackupData = BackupData::Auto;
    }

    /// An entry of `backup.data`.
    pub(super) struct DataKeys {
        /// A Docker volume, by its name in the Compose file.
        volume: Option<VolumeName>;
        /// A folder or file of the host, below `root` or from `/`.
        path: Option<DataPath>;
        /// How it is copied. `pause`, `stop` and `dump` are refused in this version.
        strategy: DataStrategy = DataStrategy::Live;
        /// The service that is paused, stopped or asked for the dump.
        service: Option<ServiceName>, else "all that use the data";
        /// The command whose output is the dump, as in `["pg_dump", "-U", "app"]`. Only with `dump`.
        command: Vec<String>, else "—";
    }
}

// ---- words ----------------------------------------------------------------------------------------------------------

choice! {
    /// How a service is replaced.
    pub enum WishedStrategy {
        /// Belay chooses, and says why.
        Auto = "auto",
        /// The new container is healthy before the old one stops; refused, with the reason and the way out, for a
        /// service that cannot run twice.
        StartFirst = "start-first",
        /// The old container stops before the new one starts.
        StopFirst = "stop-first",
        /// Left alone while it is the same in both versions; a changed service is replaced all the same.
        Untouched = "untouched",
        /// Run to its end once per release, for migrations.
        OneShot = "one-shot",
    }
}

choice! {
    /// What the gateway speaks with a service.
    #[default = Http]
    pub enum Mode {
        /// HTTP/1.1, WebSockets and server-sent events included.
        Http = "http",
        /// Anything else (TLS, HTTP/2 without TLS, a protocol of your own).
        Tcp = "tcp",
    }
}

choice! {
    /// The PROXY protocol that the gateway speaks to a service.
    #[default = Off]
    pub enum ProxyProtocol {
        /// None.
        Off = "off",
        /// Version 1, in text.
        V1 = "v1",
        /// Version 2, in bytes.
        V2 = "v2",
    }
}

choice! {
    /// How the replicas of a start-first service are replaced.
    #[default = Together]
    pub enum Roll {
        /// All new ones start beside all old ones, which needs twice the memory for a while.
        Together = "together",
        /// A new one is healthy and serves before the next old one stops, so there is one more than usual, and both
        /// versions serve meanwhile.
        OneByOne = "one-by-one",
    }
}

choice! {
    /// How images reach the host.
    pub enum ImageSource {
        /// Sent by the runner over the SSH connection, whole; one that the running version has already is not sent
        /// again.
        Stream = "stream",
        /// The host has it, or pulls it.
        Registry = "registry",
    }
}

choice! {
    /// What it means when a limit is exceeded.
    pub enum Excess {
        /// The deployment goes on, and the report says so.
        Warn = "warn",
        /// The deployment fails: it is refused, or rolled back if it has begun.
        Fail = "fail",
    }
}

choice! {
    /// What becomes of an app of which only the backup endpoint answers.
    pub enum Degraded {
        /// It is deployed, with a warning.
        Accept = "accept",
        /// It counts as unhealthy.
        Refuse = "refuse",
    }
}

choice! {
    /// How data is copied.
    pub enum DataStrategy {
        /// While it is in use; a database's files are marked as possibly inconsistent.
        Live = "live",
        /// While its services are paused.
        Pause = "pause",
        /// While its services are stopped.
        Stop = "stop",
        /// As the output of a command in a service.
        Dump = "dump",
    }
}

choice! {
    /// What is meant to become of data.
    pub enum DataMeaning {
        /// It is copied to its new place within the deployment, while everything that writes to it is stopped; the old one
        /// stays as it is.
        Copied = "copied",
        /// It has been brought to its new place already; the old one stays as it is.
        Moved = "moved",
        /// It stays on the host, and the new version begins without it.
        Left = "left",
    }
}

choice! {
    /// `gateway`, where it is a word.
    pub(super) enum GatewayWord {
        /// None; services with a fixed port are replaced stop-first.
        Off = "off",
    }
}

choice! {
    /// `backup.data`, where it is a word.
    pub(super) enum DataWord {
        /// Every named volume, and every bind mount that a service may write to.
        Auto = "auto",
        /// No data.
        None = "none",
    }
}

// ---- what the forms become ------------------------------------------------------------------------------------------

/// The proxy in front of services that are replaced without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gateway {
    /// There is none: services that publish ports are replaced stop-first.
    Off,
    /// HAProxy, as one more service of the project.
    On {
        /// As the engine of the host or of the runner knows it.
        image: ImageName,
        /// How it reaches the host.
        source: ImageSource,
    },
}

impl Default for Gateway {
    fn default() -> Gateway {
        GatewaySettings::default().into()
    }
}

impl From<GatewaySettings> for Gateway {
    fn from(given: GatewaySettings) -> Gateway {
        Gateway::On {
            image: given.image,
            source: given.source,
        }
    }
}

/// A file that travels with the Compose file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileToShip {
    /// Where it is in the repository.
    pub from: RelativePath,
    /// Where it goes below the root.
    pub to: RelativePath,
}

/// Where an answer says which version gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// In this response header.
    Header(HeaderName),
    /// In this field of the JSON body.
    Json(JsonField),
}

/// Which data a backup includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupData {
    /// Every named volume and every bind mount below the root, copied live.
    Auto,
    /// No data.
    None,
    /// What is listed.
    These(Vec<DataToCopy>),
}

/// One piece of data and how it is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataToCopy {
    /// Where it is.
    pub place: DataPlace,
    /// What happens to its services meanwhile.
    pub strategy: DataStrategy,
    /// The service that is paused, stopped or asked for the dump; with `pause` and `stop`, all that use the data if
    /// none.
    pub service: Option<ServiceName>,
    /// The command whose output is the dump; empty for the other strategies.
    pub command: Vec<String>,
}

/// Where data is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataPlace {
    /// In a Docker volume, by its name in the Compose file.
    Volume(VolumeName),
    /// In a folder or file of the host.
    Path(DataPath),
}
