//! Everything that the host needs to know to carry out one transaction: what the runner sends, and what a dry run shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::journal::Holder;
use crate::composition::continuity::{Meant, Unsaid};
use crate::composition::image::Content;
use crate::config::{self, DataMeaning, DataStrategy, ImageSource, Period, Settings};
use crate::judgement::health::{DegradedRule, HealthRules, VersionCheck};
use crate::replacement::wishes::{DrainWish, GatewayRule, StrategyWish};
use crate::request::tag::TagClass;
use crate::versions::release::RollbackTo;

/// The version of the plan's format.
pub const SCHEMA: u32 = 1;

/// One transaction, as the runner wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's format: [`SCHEMA`] of who wrote it.
    pub schema: u32,
    /// Names this transaction on both sides; 32 hexadecimal digits from the runner.
    pub tx: String,
    /// What is to be done.
    pub work: PlannedWork,
    /// The application's name in belay.yml.
    pub app: String,
    /// The environment's name on GitHub.
    pub environment: String,
    /// The Compose project's name, where belay.yml settles it.
    pub project: Option<String>,
    /// When the new version counts as good.
    pub health: HealthRules,
    /// Whose word makes it stay.
    pub confirm: ConfirmRule,
    /// What is saved before anything changes.
    pub backup: BackupRules,
    /// Versions (releases and their images) to keep.
    pub keep_releases: usize,
    /// Who asks for it, for whoever has to wait.
    pub holder: Holder,
    /// How long it may take.
    pub limits: Limits,
    /// Whether there is a gateway, and from which image.
    #[serde(default)]
    pub gateway: GatewayRule,
    /// How downtime is measured, and how much of it is allowed.
    #[serde(default)]
    pub requests: RequestRules,
    /// What is meant to become of data that the new version mounts otherwise.
    #[serde(default)]
    pub continuity: ContinuityRules,
}

/// What happens to data that the new version mounts otherwise than what serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinuityRules {
    /// What happens when nothing is said of it.
    pub unsaid: Unsaid,
    /// What belay.yml says.
    pub meant: Vec<Meant>,
}

impl ContinuityRules {
    /// Whether some data is to be copied, if any of it is mounted otherwise.
    #[must_use]
    pub fn may_copy(&self) -> bool {
        let mut meant = self.meant.iter();
        meant.any(|meant| meant.meaning == DataMeaning::Copied)
    }
}

/// How downtime is measured while the transaction is at work, and how much of it is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRules {
    /// 0 measures nothing.
    pub per_second: u32,
    /// `None`: any number is allowed.
    pub max_failed: Option<u64>,
    /// The longest time between two good answers; `None` when any is allowed.
    pub max_gap_ms: Option<u64>,
    /// What it means when that is exceeded.
    pub over: OverLimit,
}

/// What it means that more failed than is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverLimit {
    /// It is said, and the new version stays.
    #[default]
    Warn,
    /// The transaction is undone, as long as it can be.
    Fail,
}

/// What the transaction is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "work")]
pub enum PlannedWork {
    /// A new release.
    Deploy(Box<DeployWork>),
    /// An earlier release, which the host has.
    Rollback {
        /// Which.
        to: RollbackTo,
        /// Why, in the words of who asked.
        reason: Option<String>,
        /// The backup whose data is put back as well.
        #[serde(default)]
        restore: Option<String>,
    },
}

impl PlannedWork {
    /// The work in words: `deploy v1.2.0`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            PlannedWork::Rollback {
                restore: Some(backup),
                ..
            } => format!("{} with the data of {backup}", self.describe_version()),
            PlannedWork::Deploy(_) | PlannedWork::Rollback { .. } => self.describe_version(),
        }
    }

    /// Whether data is put back.
    #[must_use]
    pub fn restores(&self) -> bool {
        match self {
            PlannedWork::Rollback { restore, .. } => restore.is_some(),
            PlannedWork::Deploy(_) => false,
        }
    }

    fn describe_version(&self) -> String {
        match self {
            PlannedWork::Deploy(deploy) => format!("deploy {}", deploy.tag),
            PlannedWork::Rollback {
                to: RollbackTo::Previous,
                ..
            } => "rollback to the version before".to_owned(),
            PlannedWork::Rollback {
                to: RollbackTo::Tag(tag),
                ..
            } => format!("rollback to {tag}"),
            PlannedWork::Rollback {
                to: RollbackTo::Backup(name),
                ..
            } => format!("rollback to {name}"),
        }
    }
}

/// A new release: its files and images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployWork {
    /// The tag, which names the release.
    pub tag: String,
    /// The full commit that it stands for.
    pub revision: String,
    /// The Compose file; its path says which of `files` it is.
    pub compose_path: String,
    /// The files of the release, the Compose file among them.
    pub files: Vec<ShippedFile>,
    /// Those that Belay sends; the others are pulled by their names.
    pub images: Vec<PlannedImage>,
    /// What belay.yml wants for single services.
    pub strategies: Vec<StrategyWish>,
}

/// A file from the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippedFile {
    /// Relative to the root on the host.
    pub path: String,
    /// Unix permissions, as git knows them: 0o644 or 0o755.
    pub mode: u32,
    /// Whether it goes under the root when the release goes live, or is only read to render the Compose file.
    pub placed: bool,
    /// The content.
    pub base64: String,
}

/// An image that Belay brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedImage {
    /// The service's name in the Compose file.
    pub service: String,
    /// The reference under which it arrives, `belay/<app>-<service>:<tag>`.
    pub reference: String,
    /// The image's identity, the digest of its config: the host must have exactly this one.
    pub id: String,
    /// The digests of its unpacked layers, the lowest one first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// The manifest that it is sent with, where that is known: an engine with the containerd store has it for its ID.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Its layers when unpacked, in bytes.
    pub size: u64,
    /// How it gets to the host.
    pub source: ImageSource,
    /// Paths that it declares to hold data (`VOLUME`).
    #[serde(default)]
    pub volumes: Vec<String>,
}

impl Plan {
    /// Takes down which manifests the images were sent with, by their references.
    pub fn note_manifests(&mut self, manifests: &BTreeMap<String, String>) {
        let PlannedWork::Deploy(deploy) = &mut self.work else {
            return;
        };
        for image in &mut deploy.images {
            if let Some(manifest) = manifests.get(&image.reference) {
                image.manifest = Some(manifest.clone());
            }
        }
    }
}

impl PlannedImage {
    /// What the image is.
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            config: self.id.clone(),
            layers: self.layers.clone(),
        }
    }
}

/// How the transaction is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfirmRule {
    /// By the runner, over a fresh connection, with the text whose SHA-256 this is, within this time after Bake.
    Runner {
        /// In hexadecimal digits. The host gets the text itself only with the confirmation.
        nonce_sha256: String,
        /// In milliseconds; the runner can ask for more. The host unwinds the transaction when it has passed.
        within_ms: u64,
    },
    /// By the host itself once Bake is through: for a transaction that was started on the host.
    Host,
}

/// What is backed up, and how many backups stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRules {
    /// Backups that Prune leaves.
    pub keep: usize,
    /// Lines of every service's log.
    pub log_lines: u32,
    /// Which data.
    pub data: DataRule,
}

/// Which application data a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataRule {
    /// Every named volume and writable bind mount of the project, copied while it is in use.
    Auto,
    /// No data; a backup then holds the application's folder, the logs and the names of the images.
    None,
    /// These sources, and no others.
    Only(Vec<DataWish>),
}

/// One source of data that belay.yml names for the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataWish {
    /// A volume's name in the Compose file, or an absolute path on the host.
    pub source: String,
    /// How it is brought to rest.
    pub strategy: DataStrategy,
    /// Whose data it is, where the strategy needs one.
    pub service: Option<String>,
    /// What `dump` runs in the service; empty for the others.
    pub command: Vec<String>,
}

/// Bounds on time. In milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From begin to Bake's end; the host unwinds by itself when it has passed.
    pub transaction_ms: u64,
    /// How long to wait for another transaction's lock.
    pub lock_wait_ms: u64,
}

/// Time that a transaction may take beyond what the settings name, in milliseconds: backup, start, stop.
const WORK_MS: u64 = 30 * 60 * 1000;

/// What only this run knows: its name, its secret, and who runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The transaction's name: 32 random hexadecimal digits.
    pub tx: String,
    /// With the SHA-256 of this run's secret, where the runner is to confirm.
    pub confirm: ConfirmRule,
    /// Who started the run. The plan fills in `what` from its work.
    pub holder: Holder,
}

/// Puts a plan together from what to do and the settings.
#[must_use]
pub fn compose(work: PlannedWork, settings: &Settings, project: Option<String>, run: Run) -> Plan {
    let health = health_rules(settings);
    let holder = Holder {
        what: work.describe(),
        ..run.holder
    };
    Plan {
        schema: SCHEMA,
        tx: run.tx,
        work,
        app: settings.app.as_str().to_owned(),
        environment: settings.environment.as_str().to_owned(),
        project,
        confirm: run.confirm,
        backup: backup_rules(&settings.backup),
        keep_releases: count(settings.images.keep),
        holder,
        limits: Limits {
            transaction_ms: WORK_MS + health.deadline_ms + health.bake_ms,
            lock_wait_ms: ms(settings.lock_wait),
        },
        health,
        gateway: gateway_rule(&settings.gateway),
        requests: request_rules(&settings.requests),
        continuity: continuity_rules(settings),
    }
}

/// Production is the environment of that name, and each that releases go to.
fn continuity_rules(settings: &Settings) -> ContinuityRules {
    let mut kinds = settings.tags.iter();
    let is_production = settings.environment.as_str() == TagClass::Production.default_environment()
        || kinds.any(|kind| kind.class() == TagClass::Production);
    ContinuityRules {
        unsaid: match is_production {
            true => Unsaid::Refuse,
            false => Unsaid::Warn,
        },
        meant: settings
            .data
            .iter()
            .map(|(source, meaning)| Meant {
                source: source.as_str().to_owned(),
                meaning: *meaning,
            })
            .collect(),
    }
}

/// How long the host waits for a confirmation, in milliseconds.
#[must_use]
pub fn confirm_within_ms(settings: &Settings) -> u64 {
    ms(settings.confirm)
}

fn ms(period: Period) -> u64 {
    u64::try_from(period.get().as_millis()).unwrap_or(u64::MAX)
}

fn gateway_rule(gateway: &config::Gateway) -> GatewayRule {
    match gateway {
        config::Gateway::Off => GatewayRule::Off,
        config::Gateway::On { image, .. } => GatewayRule::On {
            image: image.as_str().to_owned(),
        },
    }
}

fn request_rules(requests: &config::RequestSettings) -> RequestRules {
    RequestRules {
        per_second: requests.rate,
        max_failed: requests.max_failed.map(u64::from),
        max_gap_ms: requests.max_gap.map(ms),
        over: match requests.over {
            config::Excess::Warn => OverLimit::Warn,
            config::Excess::Fail => OverLimit::Fail,
        },
    }
}

fn health_rules(settings: &Settings) -> HealthRules {
    let health = &settings.health;
    let url = |url: &Option<config::Url>| url.as_ref().map(|url| url.as_str().to_owned());
    HealthRules {
        primary: url(&health.primary),
        backup: url(&health.backup),
        public: url(&health.public),
        successes: health.successes,
        interval_ms: ms(health.interval),
        timeout_ms: ms(health.timeout),
        deadline_ms: ms(health.deadline),
        degraded: match health.degraded {
            config::Degraded::Accept => DegradedRule::Accept,
            config::Degraded::Refuse => DegradedRule::Fail,
        },
        version: health.version.as_ref().map(|source| match source {
            config::VersionSource::Header(name) => VersionCheck::Header(name.as_str().to_owned()),
            config::VersionSource::Json(field) => VersionCheck::Json(field.as_str().to_owned()),
        }),
        bake_ms: ms(settings.bake),
    }
}

/// More than a machine can count is as good as all.
fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn backup_rules(backup: &config::BackupSettings) -> BackupRules {
    BackupRules {
        keep: count(backup.keep),
        log_lines: backup.logs,
        data: match &backup.data {
            config::BackupData::Auto => DataRule::Auto,
            config::BackupData::None => DataRule::None,
            config::BackupData::These(sources) => {
                DataRule::Only(sources.iter().map(data_wish).collect())
            }
        },
    }
}

fn data_wish(source: &config::DataToCopy) -> DataWish {
    DataWish {
        source: match &source.place {
            config::DataPlace::Volume(name) => name.as_str().to_owned(),
            config::DataPlace::Path(path) => path.as_str().to_owned(),
        },
        strategy: source.strategy,
        service: source.service.as_ref().map(|name| name.as_str().to_owned()),
        command: source.command.clone(),
    }
}

/// What the settings want for single services.
#[must_use]
pub fn strategy_wishes(settings: &Settings) -> Vec<StrategyWish> {
    settings
        .services
        .iter()
        .map(|(name, service)| StrategyWish {
            strategy: service.strategy,
            mode: service.mode,
            proxy_protocol: service.proxy_protocol,
            roll: service.roll,
            drain: Some(DrainWish {
                command: service.drain.command.clone(),
                wait_ms: ms(service.drain.wait),
            }),
            left: left_of(settings, name.as_str()),
            service: name.as_str().to_owned(),
        })
        .collect()
}

/// The places of a service's volumes without a name that may be left behind.
fn left_of(settings: &Settings, service: &str) -> Vec<String> {
    let left = settings
        .data
        .iter()
        .filter(|(_, meaning)| **meaning == DataMeaning::Left);
    let of_service = left.filter_map(|(source, _)| match source.as_str().split_once(':') {
        Some((of, target)) if of == service => Some(target.trim_end_matches('/').to_owned()),
        Some(_) | None => None,
    });
    of_service.collect()
}
