//! Backup: saves what serves (configuration, data, logs, the names of images), verified and published before anything
//! changes.
//!
//! Its undo keeps the backup: a migration may have changed data since. Only a first deployment, before which there was
//! nothing, leaves none.

use super::StepContext;
use crate::backup::{
    self, BackupEntry, BackupLimits, BackupRequest, BackupSource, Consistency, DataKind,
    DataReader, ImageRecord, LogSource, Reason,
};
use crate::error::AgentError;
use crate::host::{Container, Host, HostError};
use crate::images::Images;
use crate::layout::Layout;
use crate::{durable, state};
use belay_model::composition::compose::{ComposeFile, MountSource};
use belay_model::composition::data::{Restoration, is_data};
use belay_model::config::DataStrategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::Output;
use belay_model::transaction::plan::{DataRule, Plan, PlannedWork};
use belay_model::versions::release::Release;
use belay_wire::BackupFacts;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let reason = match &work.plan.work {
        PlannedWork::Deploy(deploy) => Reason::BeforeDeploy {
            tag: deploy.tag.clone(),
        },
        PlannedWork::Rollback { .. } => Reason::BeforeRollback,
    };
    let made = make_in(work, &Order::live(work.seq()?, reason))?;
    for source in made.manifest.inconsistent() {
        work.warn(format!("the backup may not be consistent: {source}"));
    }
    Ok(Output::BackedUp {
        name: made.name,
        bytes: made.manifest.archive.size,
        path: work
            .layout
            .backups()
            .join(&made.manifest.archive.name)
            .display()
            .to_string(),
    })
}

pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let first = work.previous()?.is_none();
    let seq = work.seq()?;
    if first {
        for entry in backup::list(work.layout.root())
            .into_iter()
            .filter(|entry| entry.manifest.seq == seq)
        {
            work.may_act()?;
            super::remove_backup(work.layout, &entry.name)?;
        }
    }
    work.may_act()?;
    backup::sweep(work.layout.root(), &[]).map(drop)?;
    let dir = work.layout.backups();
    if !first && dir.is_dir() {
        // An engine that was killed may have left the backup's name in the kernel's memory only.
        durable::sync_dir(&dir).map_err(|e| AgentError::doing("could not keep the backup", e))?;
    }
    if first {
        // Stops by itself when somebody else's files are there.
        let _ = durable::remove_dir(&work.layout.backups());
    }
    Ok(())
}

/// A backup of what data really is, now that everything has stopped: before a restore replaces some of it. Returns its name.
pub(super) fn before_restore(
    work: &mut StepContext<'_>,
    restoration: &Restoration,
) -> Result<String, AgentError> {
    let order = Order {
        seq: work.seq()?,
        reason: Reason::BeforeRestore {
            backup: restoration.backup.clone(),
        },
        consistency: Consistency::Stopped,
        also: restoration.sources.iter().map(|s| s.kind.clone()).collect(),
    };
    let made = make_in(work, &order)?;
    work.note(format!("{} holds what is there now", made.name));
    Ok(made.name)
}

/// What the backup may take at the worst, in bytes.
pub(super) fn estimate(work: &StepContext<'_>, project: &str) -> Result<u64, AgentError> {
    let previous = work.previous()?;
    let request = request(
        work.host,
        work.layout,
        work.plan,
        previous.as_ref(),
        project,
        &Order::live(0, Reason::Manual),
    )?;
    let reader = work.host.data_reader(project);
    Ok(backup::estimate(&request, reader.as_ref())?)
}

/// Which backup is wanted.
pub(crate) struct Order {
    /// The transaction that it belongs to.
    seq: u64,
    reason: Reason,
    consistency: Consistency,
    /// Data that is saved whatever the plan's rule says.
    also: Vec<DataKind>,
}

impl Order {
    /// While everything runs.
    pub(crate) fn live(seq: u64, reason: Reason) -> Order {
        Order {
            seq,
            reason,
            consistency: Consistency::Live,
            also: vec![],
        }
    }
}

/// A backup of what served when the transaction began.
fn make_in(work: &StepContext<'_>, order: &Order) -> Result<BackupEntry, AgentError> {
    let previous = work.previous()?;
    let project = &work.preflight()?.project;
    make(
        work.host,
        work.layout,
        work.plan,
        previous.as_ref(),
        project,
        order,
    )
}

/// Makes, verifies and publishes a backup of what serves, unless the order was carried out already.
pub(crate) fn make(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
    serving: Option<&Release>,
    project: &str,
    order: &Order,
) -> Result<BackupEntry, AgentError> {
    let request = request(host, layout, plan, serving, project, order)?;
    let reader: Box<dyn DataReader + '_> = host.data_reader(project);
    reader.sweep()?;
    host.may_act()?;
    backup::sweep(layout.root(), &[])?;
    // After a crash the transaction's own backup may be there already; one that was published was verified.
    let of_this = |entry: &BackupEntry| {
        let manifest = &entry.manifest;
        (manifest.seq, &manifest.reason) == (order.seq, &order.reason) && entry.problem.is_none()
    };
    if let Some(made) = backup::list(layout.root()).into_iter().find(of_this) {
        return Ok(made);
    }
    let made = backup::create(&request, reader.as_ref()).map_err(|e| {
        AgentError::from(e)
            .next("see what stands in the way of the backup; nothing is deployed without one")
    })?;
    Ok(BackupEntry {
        name: made.name.as_str().to_owned(),
        manifest: made.manifest,
        problem: None,
    })
}

/// What to save.
fn request<'a>(
    host: &dyn Host,
    layout: &'a Layout,
    plan: &'a Plan,
    serving: Option<&Release>,
    project: &str,
    order: &Order,
) -> Result<BackupRequest<'a>, AgentError> {
    let containers = host.containers(project)?;
    let releases = state::releases(layout)?;
    let images = image_records(host, &Images::new(host, &releases), &containers)?;
    Ok(BackupRequest {
        root: layout.root(),
        app: &plan.app,
        seq: order.seq,
        now: host.now(),
        reason: order.reason.clone(),
        release: serving.map(|r| r.name.clone()),
        revision: serving.and_then(|r| r.revision.clone()),
        images,
        data: data(layout, plan, serving, order, &containers)?,
        logs: logs(&containers, plan.backup.log_lines),
        exclude: vec![],
        limits: BackupLimits::default(),
    })
}

/// The logs of every service that has containers, the last lines of each.
fn logs(containers: &[Container], lines: u32) -> Vec<(String, LogSource)> {
    let mut logs: Vec<(String, LogSource)> = vec![];
    for container in containers {
        let id = container.id.clone();
        let known = logs.iter_mut().find(|(s, _)| *s == container.service);
        if let Some((_, source)) = known {
            source.containers.push(id);
        } else {
            let source = LogSource {
                containers: vec![id],
                lines: Some(lines),
            };
            logs.push((container.service.clone(), source));
        }
    }
    logs
}

/// The data that the plan chooses, and what the order adds to it.
fn data(
    layout: &Layout,
    plan: &Plan,
    serving: Option<&Release>,
    order: &Order,
    containers: &[Container],
) -> Result<Vec<BackupSource>, AgentError> {
    let mut data = match serving {
        Some(release) => data_sources(layout, plan, release, containers)?,
        None => vec![],
    };
    for kind in &order.also {
        if !data.iter().any(|source| source.kind == *kind) {
            data.push(BackupSource {
                kind: kind.clone(),
                services: vec![],
                consistency: order.consistency,
            });
        }
    }
    for source in &mut data {
        source.consistency = order.consistency;
    }
    Ok(data)
}

/// The images that containers run from, as the engine has them. One that is gone cannot be told of.
fn image_records(
    host: &dyn Host,
    known: &Images<'_>,
    containers: &[Container],
) -> Result<Vec<ImageRecord>, HostError> {
    let mut records = vec![];
    for container in containers {
        let Some(image) = host.image(&container.image_id)? else {
            continue;
        };
        let content = known.content(&image.id)?;
        records.push(ImageRecord {
            service: container.service.clone(),
            reference: container.image.clone(),
            id: content.config,
            engine_id: image.id,
            digests: image.digests,
            tags: image.tags,
            size: content.size,
        });
    }
    Ok(records)
}

/// The data of the release that serves, as the plan's rule chooses it.
fn data_sources(
    layout: &Layout,
    plan: &Plan,
    release: &Release,
    containers: &[Container],
) -> Result<Vec<BackupSource>, AgentError> {
    let file = state::normalised(layout, &release.name)?;
    let Some(file) = file else { return Ok(vec![]) };
    let mut mounted = mounted_data(&file, &release.project);
    match &plan.backup.data {
        DataRule::None => Ok(vec![]),
        DataRule::Auto => {
            let unnamed = unnamed_data(&mounted, containers);
            mounted.extend(unnamed);
            Ok(mounted)
        }
        // What the serving release does not have yet has nothing to save; the candidate's own names are checked at Unpack.
        DataRule::Only(wishes) => Ok(wishes
            .iter()
            .filter_map(|wish| {
                mounted
                    .iter()
                    .find(|source| is_named(&source.kind, &wish.source, &file, &release.project))
                    .cloned()
            })
            .collect()),
    }
}

/// Refuses what belay.yml asks for and this version cannot do, before anything changes.
pub(super) fn refuse_strategies(plan: &Plan) -> Result<(), AgentError> {
    let DataRule::Only(wishes) = &plan.backup.data else {
        return Ok(());
    };
    match wishes.iter().find(|wish| wish.strategy != DataStrategy::Live) {
        None => Ok(()),
        Some(wish) => Err(AgentError::new(format!(
            "the backup strategy of {} is not in this version of Belay; only `live` is",
            wish.source
        ))
        .next("use `strategy: live` in belay.yml, and put a dump of your own into a volume that is backed up")),
    }
}

/// Checks that everything that belay.yml wants to back up is there in the new release.
pub(super) fn check_names(
    plan: &Plan,
    file: &ComposeFile,
    project: &str,
) -> Result<(), AgentError> {
    let DataRule::Only(wishes) = &plan.backup.data else {
        return Ok(());
    };
    let mounted = mounted_data(file, project);
    let unknown = |source: &str| {
        !mounted
            .iter()
            .any(|m| is_named(&m.kind, source, file, project))
    };
    match wishes.iter().find(|wish| unknown(&wish.source)) {
        None => Ok(()),
        Some(wish) => Err(AgentError::new(format!(
            "belay.yml backs up {}, which no service of the Compose file uses",
            wish.source
        ))
        .next("name a volume of the Compose file, or the path of a bind mount")),
    }
}

fn is_named(kind: &DataKind, wanted: &str, file: &ComposeFile, project: &str) -> bool {
    match kind {
        DataKind::Bind { path } => path.as_os_str() == wanted,
        DataKind::Volume { name } => file.mounts().into_iter().any(|mount| match mount.source {
            MountSource::Volume(volume) => {
                volume.key == wanted && volume.in_project(project) == *name
            }
            MountSource::Bind(_) => false,
        }),
    }
}

/// Every named volume, and every bind mount that is written to and is data.
fn mounted_data(file: &ComposeFile, project: &str) -> Vec<BackupSource> {
    file.mounts()
        .into_iter()
        .filter_map(|mount| {
            let kind = match mount.source {
                MountSource::Volume(volume) => DataKind::Volume {
                    name: volume.in_project(project),
                },
                MountSource::Bind(path) if mount.writable && is_data(&path) => {
                    DataKind::Bind { path: path.into() }
                }
                MountSource::Bind(_) => return None,
            };
            Some(BackupSource {
                kind,
                services: mount.services,
                consistency: Consistency::Live,
            })
        })
        .collect()
}

/// Volumes that containers have and their file does not name: those of an image's `VOLUME`, and those without a name.
fn unnamed_data(named: &[BackupSource], containers: &[Container]) -> Vec<BackupSource> {
    let mut found: Vec<BackupSource> = vec![];
    let users = containers
        .iter()
        .filter(|c| !c.one_off && c.service != GATEWAY_SERVICE);
    for container in users {
        let mounts = container.mounts.iter().filter(|m| m.is_writable);
        for mount in mounts.filter(|m| m.is_unnamed()) {
            let mut known = named.iter().chain(&found);
            if !known.any(|source| source.kind == mount.data) {
                found.push(BackupSource {
                    kind: mount.data.clone(),
                    services: vec![container.service.clone()],
                    consistency: Consistency::Live,
                });
            }
        }
    }
    found
}

/// The data that a release uses, and what its containers have besides.
pub(super) fn mounted(
    file: &ComposeFile,
    project: &str,
    containers: &[Container],
) -> Vec<DataKind> {
    let mut sources = mounted_data(file, project);
    let unnamed = unnamed_data(&sources, containers);
    sources.extend(unnamed);
    sources.into_iter().map(|source| source.kind).collect()
}

impl BackupEntry {
    /// The backup as the runner is told of it.
    #[must_use]
    pub fn facts(self) -> BackupFacts {
        let inconsistent = self.manifest.inconsistent();
        let data = self.manifest.data();
        BackupFacts {
            name: self.name,
            seq: self.manifest.seq,
            created: self.manifest.created,
            release: self.manifest.release,
            tag: self.manifest.tag,
            reason: self.manifest.reason.to_string(),
            bytes: self.manifest.archive.size,
            images: self.manifest.images.len(),
            data,
            inconsistent,
            problem: self.problem,
            verified: false,
        }
    }
}

impl backup::Unrecorded {
    /// What the runner is told of it: its name, and what is wrong with it.
    #[must_use]
    pub fn facts(self) -> BackupFacts {
        BackupFacts {
            seq: 0,
            created: self.name.moment().unwrap_or(jiff::Timestamp::UNIX_EPOCH),
            name: self.name.to_string(),
            release: None,
            tag: None,
            reason: "unknown: it has no record".to_owned(),
            bytes: self.bytes,
            images: 0,
            data: vec![],
            inconsistent: vec![],
            problem: Some(format!("{}: run `belay repair`", self.why)),
            verified: false,
        }
    }
}
