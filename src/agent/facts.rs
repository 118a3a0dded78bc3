//! What a host is like and what is on it, for the runner's plan and for `belay status`.
//!
//! Runs on the host. Reads only.

use std::io;

use jiff::Timestamp;

use super::down::down_now;
use super::error::AgentError;
use super::host::{Container, DockerHealth, Host, HostError, RunState};
use super::images::Images;
use super::layout::Layout;
use super::{backup, lock, repair, revive, state, supervise};
use belay_model::composition::service_changes::{ReleaseContent, ServiceChange, service_changes};
use belay_model::judgement::error_lines::ErrorLines;
use belay_model::replacement::strategy::Strategy;
use belay_model::transaction::journal::{self};
use belay_model::transaction::phase::{Next, next};
use belay_model::versions::release::{KnownBackup, KnownRelease, Release, ReleaseService};
use belay_wire::{
    BackupFacts, HostFacts, LANGUAGE, LookBack, OpenTransaction, ServiceImage, ServiceState,
};

/// Lines of each container's log that are looked through for errors.
const LINES_LOOKED_THROUGH: u32 = 5_000;

/// Gathers everything.
pub fn gather(host: &dyn Host, layout: &Layout) -> Result<HostFacts, AgentError> {
    let engine = host.engine().map_err(|e| {
        AgentError::from(e)
            .next("check that Docker runs on the host and that the user is in the group docker")
    })?;
    let current = state::current(layout)?;
    let serving = match &current {
        Some(current) => state::release(layout, &current.release)?,
        None => None,
    };
    let containers = match &current {
        Some(current) => host.containers(&current.project)?,
        None => vec![],
    };
    let releases = state::releases(layout)?;
    let images = Images::new(host, &releases);
    Ok(HostFacts {
        language: LANGUAGE,
        now: host.now(),
        engine,
        free_bytes: host
            .free_bytes(layout.root())
            .map_err(|e| AgentError::doing("could not read the free disk space", e))?,
        total_bytes: total_bytes(layout)?,
        releases: known_releases(host, layout)?,
        down: down_now(host, layout)?,
        images: service_images(&images, serving.as_slice())?,
        services: containers
            .iter()
            .map(|container| service_state(container, &images))
            .collect(),
        backups: backup_facts(layout),
        holder: lock::holder(layout)
            .map_err(|e| AgentError::doing("could not look at the lock", e))?,
        open: open_transaction(layout)?,
        supervisor: supervise::installed(&supervise::Machine::this(), layout),
        note: revive::last(layout).map(|revived| revived.text),
        files: repair::told(layout, host.now()),
        current,
    })
}

fn total_bytes(layout: &Layout) -> Result<u64, AgentError> {
    let stat = rustix::fs::statvfs(layout.root()).map_err(|e| {
        AgentError::doing("could not read the size of the disk", io::Error::from(e))
    })?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Every release that is kept, with the images that it misses.
pub fn known_releases(host: &dyn Host, layout: &Layout) -> Result<Vec<KnownRelease>, AgentError> {
    let releases = state::releases(layout)?;
    let images = Images::new(host, &releases);
    let mut known = vec![];
    for release in &releases {
        let missing = images.missing(release)?;
        let name = |s: &&ReleaseService| format!("{} ({})", s.name, s.engine_id());
        known.push(KnownRelease {
            name: release.name.clone(),
            seq: release.seq,
            tag: release.tag.clone(),
            revision: release.revision.clone(),
            created: release.created,
            can_serve: missing.iter().all(|s| s.strategy == Strategy::OneShot),
            missing_images: missing.iter().map(name).collect(),
        });
    }
    Ok(known)
}

/// Every backup, as far as a rollback needs it.
#[must_use]
pub fn known_backups(layout: &Layout) -> Vec<KnownBackup> {
    backup::list(layout.root())
        .into_iter()
        .map(|entry| KnownBackup {
            name: entry.name,
            release: entry.manifest.release,
        })
        .collect()
}

/// Every backup, oldest first; before them what only looks like one.
pub fn backup_facts(layout: &Layout) -> Vec<BackupFacts> {
    let unrecorded = backup::unrecorded(layout.root());
    let unrecorded = unrecorded.into_iter().map(backup::Unrecorded::facts);
    let recorded = backup::list(layout.root());
    unrecorded
        .chain(recorded.into_iter().map(backup::BackupEntry::facts))
        .collect()
}

/// What the deployments that went live came to, and which log lines of what serves tell of errors since a moment.
pub fn look_back(
    host: &dyn Host,
    layout: &Layout,
    since: Timestamp,
) -> Result<LookBack, AgentError> {
    let mut look_back = LookBack {
        deployments: state::deployments(layout)?,
        errors: vec![],
        changes: vec![],
    };
    let Some(current) = state::current(layout)? else {
        return Ok(look_back);
    };
    if let Some(previous) = &current.previous {
        look_back.changes = changes(layout, previous, &current.release)?;
    }
    for container in host.containers(&current.project)? {
        // Whose log driver keeps nothing has nothing to look through.
        let Ok(log) = host.logs(&container.id, LINES_LOOKED_THROUGH) else {
            continue;
        };
        let found = ErrorLines::of(&container.service, &log, since);
        let mut known = look_back.errors.iter_mut();
        match known.find(|errors| errors.service == found.service) {
            Some(known) => known.add(found),
            None => look_back.errors.push(found),
        }
    }
    Ok(look_back)
}

/// What is different about two releases; nothing where one is not kept any more.
fn changes(layout: &Layout, old: &str, new: &str) -> Result<Vec<ServiceChange>, state::StateError> {
    let (Some(old), Some(new)) = (side(layout, old)?, side(layout, new)?) else {
        return Ok(vec![]);
    };
    Ok(service_changes(&old, &new))
}

fn side(layout: &Layout, name: &str) -> Result<Option<ReleaseContent>, state::StateError> {
    let file = state::normalised(layout, name)?;
    let release = state::release(layout, name)?;
    let image = |service: ReleaseService| (service.name, service.config);
    Ok(file.zip(release).map(|(file, release)| ReleaseContent {
        file,
        images: release.services.into_iter().map(image).collect(),
    }))
}

fn service_images(
    images: &Images<'_>,
    serving: &[Release],
) -> Result<Vec<ServiceImage>, HostError> {
    let mut found = vec![];
    for service in serving.iter().flat_map(|release| &release.services) {
        found.push(ServiceImage {
            service: service.name.clone(),
            id: service.config.clone(),
            size: service.size,
            serves: service.strategy != Strategy::OneShot,
            is_there: images.has(service)?,
        });
    }
    Ok(found)
}

fn service_state(container: &Container, images: &Images<'_>) -> ServiceState {
    ServiceState {
        service: container.service.clone(),
        container: container.name.clone(),
        state: match container.state {
            RunState::Created => "created".to_owned(),
            RunState::Running => "running".to_owned(),
            RunState::Restarting => "restarting".to_owned(),
            RunState::Paused => "paused".to_owned(),
            RunState::Exited(code) => format!("exited ({code})"),
        },
        health: container.health.as_ref().map(|health| match health {
            DockerHealth::Starting => "starting".to_owned(),
            DockerHealth::Healthy => "healthy".to_owned(),
            DockerHealth::Unhealthy(_) => "unhealthy".to_owned(),
        }),
        image_id: images.recorded(&container.image_id),
        restarts: container.restarts,
    }
}

fn open_transaction(layout: &Layout) -> Result<Option<OpenTransaction>, state::StateError> {
    let Some(seq) = state::open_transactions(layout)?.pop() else {
        return Ok(None);
    };
    let entries = super::journal::read(&layout.journal(seq))?;
    Ok(Some(OpenTransaction {
        seq,
        since: entries
            .first()
            .map_or(jiff::Timestamp::UNIX_EPOCH, |entry| entry.at),
        what: journal::begin(&entries)
            .map(|b| b.what.clone())
            .unwrap_or_default(),
        stuck: matches!(next(&entries), Next::Stuck(_)),
    }))
}
