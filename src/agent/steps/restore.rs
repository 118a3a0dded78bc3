//! Restore: puts the data of a backup in the place of what is there, for a rollback that asks for it.
//!
//! Part of Migrate, the step that may change data. Everything of the application stops first, so that nobody writes and a
//! last backup is what the data really was. That data is then moved aside and comes back when the transaction is undone;
//! it is removed only after the commit, and is in the backup still.

use super::{StepContext, backup, go_back, long_running};
use crate::backup::{
    DataKind, DataWriter, EntryRecord, SavedData, SourceKind, SourceRecord, SourceState,
};
use crate::error::AgentError;
use crate::host::Container;
use belay_model::composition::data::{Restoration, RestoredSource};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::Output;
use belay_model::transaction::outcome::with_causes;
use belay_model::transaction::plan::PlannedWork;

/// What the plan wants to be put back, found in its backup and in the release that gets it; for Preflight.
pub(super) fn find(
    work: &mut StepContext<'_>,
    target: Option<&str>,
    project: &str,
) -> Result<Option<(Restoration, u64)>, AgentError> {
    let (
        PlannedWork::Rollback {
            restore: Some(name),
            ..
        },
        Some(target),
    ) = (&work.plan.work, target)
    else {
        return Ok(None);
    };
    let saved = SavedData::open(work.layout.root(), name).map_err(|e| {
        AgentError::from(e)
            .next("choose another backup; `belay backups --verify` reads each one back")
    })?;
    let containers = work.host.containers(project)?;
    let used = backup::mounted(&work.normalised(target)?, project, &containers);
    let mut sources = vec![];
    let mut bytes = 0;
    for kind in used {
        match saved.manifest().sources.iter().find(|s| is_of(s, &kind)) {
            Some(record) if record.state.is_saved() => {
                warn_of_inconsistency(work, record);
                let (source, size) = source_of(&saved, record, kind);
                sources.push(source);
                bytes += size;
            }
            // It comes with the one that holds it.
            Some(record) if matches!(record.state, SourceState::Within { .. }) => {}
            Some(_) | None => work.warn(format!("{kind} is not in {name} and stays as it is")),
        }
    }
    if sources.is_empty() {
        return Err(
            AgentError::new(format!("{name} holds no data that {target} uses"))
                .next("choose another backup, or roll back without its data"),
        );
    }
    refuse_lost_places(work, &sources, project)?;
    if saved.manifest().release.as_deref() != Some(target) {
        work.warn(format!(
            "the data is from when {} served, and {target} gets it",
            saved.manifest().release.as_deref().unwrap_or("nothing")
        ));
    }
    let backup = saved.manifest().name.clone();
    Ok(Some((Restoration { backup, sources }, bytes)))
}

fn is_of(record: &SourceRecord, kind: &DataKind) -> bool {
    record.source == SourceKind::Data(kind.clone())
}

fn warn_of_inconsistency(work: &mut StepContext<'_>, record: &SourceRecord) {
    if let SourceState::Inconsistent { reasons } = &record.state {
        let why = reasons.join("; ");
        work.warn(format!(
            "the saved {} may not be consistent: {why}",
            record.source
        ));
    }
}

/// The source, and its size in bytes.
fn source_of(saved: &SavedData, record: &SourceRecord, kind: DataKind) -> (RestoredSource, u64) {
    let mut source = RestoredSource {
        kind,
        path: record.path.clone(),
        is_file: false,
    };
    let entries = saved.entries(&source);
    source.is_file = matches!(entries.as_slice(), [entry] if entry.is_file());
    (source, entries.iter().map(EntryRecord::size).sum())
}

/// A volume that Belay made would not be Compose's own; whoever lost one knows best how it comes back.
fn refuse_lost_places(
    work: &StepContext<'_>,
    sources: &[RestoredSource],
    project: &str,
) -> Result<(), AgentError> {
    let reader = work.host.data_reader(project);
    for source in sources {
        reader.size(&source.kind).map_err(|e| {
            AgentError::doing(format!("{} cannot be put back", source.kind), e).next(
                "make it on the host (`docker-compose up -d` makes what is missing), and try again",
            )
        })?;
    }
    Ok(())
}

pub(super) fn perform(
    work: &mut StepContext<'_>,
    restoration: &Restoration,
) -> Result<Output, AgentError> {
    let saved = SavedData::open(work.layout.root(), &restoration.backup)?;
    stop(work, |_| true)?;
    work.note("everything is stopped while its data is put back");
    let safety = backup::before_restore(work, restoration)?;
    remove_start_first(work, |_| true)?;
    let mark = work.seq()?.to_string();
    for source in &restoration.sources {
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(reason));
        }
        replace(work, &saved, source, &mark)?;
        work.note(format!("{} is as in {}", source.kind, restoration.backup));
    }
    Ok(Output::Restored {
        backup: restoration.backup.clone(),
        sources: restoration
            .sources
            .iter()
            .map(|s| s.kind.to_string())
            .collect(),
        safety,
    })
}

fn replace(
    work: &StepContext<'_>,
    saved: &SavedData,
    source: &RestoredSource,
    mark: &str,
) -> Result<(), AgentError> {
    with_writer(work, |writer| {
        writer.set_aside(source, mark)?;
        writer.fill(source, &mut |out| {
            saved.write(source, out).map_err(std::io::Error::other)
        })?;
        writer.check(source, mark, &saved.entries(source))
    })
    .map_err(|e| AgentError::doing(format!("could not put {} back", source.kind), e))
}

/// Stops everything again, brings the data back that was set aside, and then the version before.
pub(super) fn undo(
    work: &mut StepContext<'_>,
    restoration: &Restoration,
) -> Result<(), AgentError> {
    stop(work, |_| true)?;
    let mark = work.seq()?.to_string();
    for source in &restoration.sources {
        with_writer(work, |writer| writer.put_back(source, &mark)).map_err(|e| {
            AgentError::doing(format!("could not bring {} back", source.kind), e).next(format!(
                "what it held is in its directory .belay-kept-{mark}, and in the last backup"
            ))
        })?;
    }
    go_back::go_back(work)
}

/// After the commit: what was set aside goes. It is in the backup that was taken when everything had stopped.
pub(super) fn forget(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let Some(restoration) = work.restoration() else {
        return Ok(());
    };
    let mark = work.seq()?.to_string();
    for source in &restoration.sources {
        if let Err(error) = with_writer(work, |writer| writer.forget(source, &mark)) {
            work.warn(format!(
                "the data that was in {} before is left there as .belay-kept-{mark}: {}",
                source.kind,
                with_causes(&error)
            ));
        }
    }
    Ok(())
}

/// Stops what may write, of these containers. The gateway goes on: it has nobody to give requests to, and says so.
pub(super) fn stop(
    work: &StepContext<'_>,
    is_meant: impl Fn(&Container) -> bool,
) -> Result<(), AgentError> {
    let order = match work.previous()? {
        Some(previous) => long_running(&previous, &work.normalised(&previous.name)?)?,
        None => vec![],
    };
    let mut containers = work.containers()?;
    containers.retain(|c| c.service != GATEWAY_SERVICE && c.is_under_way() && is_meant(c));
    // Whoever needs another one stops before it.
    containers.sort_by_key(|c| std::cmp::Reverse(order.iter().position(|s| *s == c.service)));
    for container in containers {
        let grace = work.grace(&container.service)?;
        work.host.stop_within(&container.id, grace)?;
    }
    Ok(())
}

/// Compose would start them again beside the candidates. The others stay, for Compose to replace: they may have data in
/// volumes without a name, which it hands on.
pub(super) fn remove_start_first(
    work: &StepContext<'_>,
    is_meant: impl Fn(&str) -> bool,
) -> Result<(), AgentError> {
    for service in work.moves().start_first().filter(|s| is_meant(s)) {
        for container in work.sides(service)?.incumbents {
            work.remove(&container)?;
        }
    }
    Ok(())
}

pub(super) fn with_writer<T>(
    work: &StepContext<'_>,
    act: impl FnOnce(&dyn DataWriter) -> Result<T, crate::backup::ReadError>,
) -> Result<T, AgentError> {
    let project = work.preflight()?.project.clone();
    let writer = work.host.data_writer(&project);
    writer
        .sweep()
        .and_then(|()| act(writer.as_ref()))
        .map_err(AgentError::from)
}
