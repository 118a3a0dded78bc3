//! Preflight: looks at the host and refuses what cannot work, before anything changes.

use super::{StepContext, files, restore};
use crate::error::AgentError;
use crate::host::Host;
use crate::images::Images;
use crate::layout::{Layout, RIVAL_FILES};
use crate::records;
use crate::state;
use belay_model::composition::image::ImageStore;
use belay_model::composition::project::{project_from_directory, repository_prefix};
use belay_model::docker_versions::misfit;
use belay_model::request::tag::Tag;
use belay_model::request::tag_ancestry;
use belay_model::transaction::journal::{KnownContainer, Output, PreflightOutput};
use belay_model::transaction::plan::{Plan, PlannedWork};
use belay_model::versions::release::{
    Current, Release, ReleaseName, RollbackChoice, choose_restore, choose_rollback,
};
use belay_wire::EngineFacts;

/// What must stay free on the disk beyond what the backup may take, in bytes.
const RESERVE: u64 = 64 * 1024 * 1024;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let engine = usable_engine(work)?;
    state::check_writable(work.layout)?;
    refuse_rival_files(work.layout)?;
    super::backup::refuse_strategies(work.plan)?;
    let current = state::current(work.layout)?;
    refuse_another_environment(&work.plan.environment, current.as_ref())?;
    let project = settle_project(work.layout, work.plan.project.as_deref(), current.as_ref())?;
    refuse_lost_project_name(work.layout, &engine.compose, &project)?;
    refuse_foreign_containers(work, &project)?;
    let target = target(work, current.as_ref())?;
    if let Some(previous) = work.previous()? {
        // Without a way back that is known to be whole, nothing may begin.
        find_images_of(work, previous.clone(), &project, engine.store)?;
        files::verify(work, &previous)?;
    }
    let restoration = restore::find(work, target.as_deref(), &project)?;
    let restored_bytes = restoration.as_ref().map(|(_, bytes)| *bytes);
    let backup_estimate_bytes = estimate(work, &project, restored_bytes)?;
    let free_bytes = enough_disk(work, backup_estimate_bytes)?;
    Ok(Output::Preflight(Box::new(PreflightOutput {
        target,
        restoration: restoration.map(|(restoration, _)| restoration),
        free_bytes,
        backup_estimate_bytes,
        ..there_before(work, project)?
    })))
}

/// What Docker and Compose are, if Belay can work with them.
fn usable_engine(work: &mut StepContext<'_>) -> Result<EngineFacts, AgentError> {
    let engine = work.host.engine().map_err(|e| {
        AgentError::from(e)
            .next("check that Docker runs on the host and that the user is in the group docker")
    })?;
    work.note(format!(
        "Docker {}, Compose {}",
        engine.engine, engine.compose
    ));
    match misfit(&engine.engine, &engine.oldest_api, &engine.compose) {
        Some(remark) => Err(AgentError::new(remark.text).next(remark.next)),
        None => Ok(engine),
    }
}

/// What the transaction's backups, and data that is put back, may take on the disk.
fn estimate(
    work: &StepContext<'_>,
    project: &str,
    restored: Option<u64>,
) -> Result<u64, AgentError> {
    let backup = super::backup::estimate(work, project)?;
    Ok(match restored {
        // A second backup, once everything has stopped, and what is put back beside what is kept until it is through.
        Some(bytes) => backup.saturating_mul(2).saturating_add(bytes),
        None => backup,
    })
}

/// What there is of the project before anything changes, for the undo to compare with. What was decided is not in it yet.
fn there_before(work: &StepContext<'_>, project: String) -> Result<PreflightOutput, AgentError> {
    let containers = work.host.containers(&project)?;
    let running = containers
        .iter()
        // One that keeps crashing is meant to run, and an unwind has to take the candidate out of its place.
        .filter(|c| c.is_under_way() && !c.one_off)
        .map(|c| c.service.clone());
    let before = containers.iter().map(|c| KnownContainer {
        id: c.id.clone(),
        service: c.service.clone(),
        ran: c.is_under_way(),
    });
    let prefix = repository_prefix(&project);
    Ok(PreflightOutput {
        target: None,
        restoration: None,
        free_bytes: 0,
        backup_estimate_bytes: 0,
        running: running.collect(),
        before: before.collect(),
        networks: work.host.networks(&project)?,
        volumes: work.host.volumes(&project)?,
        images: work
            .host
            .image_names(&prefix)?
            .into_iter()
            .map(|name| name.reference)
            .collect(),
        project,
    })
}

/// Looks up what the engine calls the images of the version that serves: it may keep them in another store than when that
/// version was deployed. Of one that has containers they must be there, or there is no way back to it.
fn find_images_of(
    work: &mut StepContext<'_>,
    mut previous: Release,
    project: &str,
    store: ImageStore,
) -> Result<(), AgentError> {
    let before = previous.clone();
    let releases = state::releases(work.layout)?;
    let found = Images::new(work.host, &releases).refresh(&mut previous);
    let mut missing = found?;
    missing.retain(|(_, image)| image.is_none());
    if missing.is_empty() {
        previous.store = Some(store);
        return work.note_in_record(&before, &previous);
    }
    let containers = work.host.containers(project)?;
    let mut alive = containers.iter().filter(|c| c.is_under_way() && !c.one_off);
    if alive.any(|c| missing.iter().any(|(service, _)| *service == c.service)) {
        return Err(AgentError::new(format!(
            "containers of this project run, but Docker has no images of {}, which is recorded as serving: there would be \
             no way back",
            previous.tag
        ))
        .next(
            "run `docker compose down` in the folder on the host (volumes stay), then deploy again; or have Docker keep its \
             images where it kept them",
        ));
    }
    tell_of_a_switched_store(work, &before, store);
    work.note_in_record(&before, &previous)
}

/// Docker shows nothing of what it keeps in the other store: what served is gone for it, containers included.
fn tell_of_a_switched_store(work: &mut StepContext<'_>, previous: &Release, store: ImageStore) {
    let Some(before) = previous.store.filter(|before| *before != store) else {
        return;
    };
    work.warn(format!(
        "Docker keeps its images in {} now, and kept them in {} when {} was deployed: it knows none of the images and \
         containers of before, so there is no way back to them until it is switched back",
        store.describe(),
        before.describe(),
        previous.tag
    ));
}

/// The name of the Compose project, settled once: a release that serves has settled it for good, because another name
/// would mean other volumes.
pub fn settle_project(
    layout: &Layout,
    wanted: Option<&str>,
    current: Option<&Current>,
) -> Result<String, AgentError> {
    match (current, wanted) {
        (Some(current), Some(wanted)) if current.project != wanted => {
            Err(AgentError::new(format!(
                "the project is {wanted} now, but {} serves as project {}",
                current.tag, current.project
            ))
            .next(format!(
                "set `project: {}` in belay.yml; another name would start with empty volumes",
                current.project
            )))
        }
        (Some(current), _) => Ok(current.project.clone()),
        (None, Some(wanted)) => Ok(wanted.to_owned()),
        (None, None) => layout
            .root()
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(project_from_directory)
            .ok_or_else(|| {
                AgentError::new("no project name can be made from the root's name")
                    .next("set `project:` in belay.yml")
            }),
    }
}

/// A development tag must never replace what serves production because both were given one host and one root.
fn refuse_another_environment(wanted: &str, current: Option<&Current>) -> Result<(), AgentError> {
    match current.and_then(|current| current.environment.as_deref()) {
        Some(serving) if serving != wanted => Err(AgentError::new(format!(
            "this directory serves the environment {serving}, and the deployment is for {wanted}"
        ))
        .next(format!(
            "give {wanted} a root (or host) of its own under `environments` in belay.yml"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn refuse_rival_files(layout: &Layout) -> Result<(), AgentError> {
    match RIVAL_FILES.iter().find(|name| layout.root().join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(AgentError::new(format!(
            "{} would be read instead of, or on top of, the docker-compose.yml that Belay writes",
            layout.root().join(name).display()
        ))
        .next("move it into the repository (or merge it into docker-compose.yml), remove it there, and deploy again")),
    }
}

/// Compose 1.x takes the project's name from the directory or from `.env`, never from the file: with another name the
/// emergency procedure would start a second, empty application beside the one that serves.
fn refuse_lost_project_name(
    layout: &Layout,
    compose: &str,
    project: &str,
) -> Result<(), AgentError> {
    let by_directory = layout
        .root()
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(project_from_directory);
    if !compose.starts_with("1.") || by_directory.as_deref() == Some(project) {
        return Ok(());
    }
    let line = format!("COMPOSE_PROJECT_NAME={project}");
    let env = records::read_optional(&layout.root().join(".env"))?.unwrap_or_default();
    if String::from_utf8_lossy(&env)
        .lines()
        .any(|l| l.trim() == line)
    {
        return Ok(());
    }
    Err(AgentError::new(format!(
        "Compose {compose} on the host cannot keep the project's name {project} in the file"
    ))
    .next(format!(
        "put `{line}` into {}/.env, or remove `project:` from belay.yml",
        layout.root().display()
    )))
}

/// Two directories with one project name are one project to Compose, and each would replace the other's containers.
fn refuse_foreign_containers(work: &StepContext<'_>, project: &str) -> Result<(), AgentError> {
    let root = work.layout.root().display().to_string();
    let containers = work.host.containers(project)?;
    match containers
        .iter()
        .find(|c| !c.working_dir.is_empty() && c.working_dir != root)
    {
        None => Ok(()),
        Some(foreign) => Err(AgentError::new(format!(
            "project {project} is in use by {}, which runs {}",
            foreign.working_dir, foreign.name
        ))
        .next("set another `project:` in belay.yml")),
    }
}

/// The release to roll back to; for a deployment, a check that it goes forward.
fn target(
    work: &StepContext<'_>,
    current: Option<&Current>,
) -> Result<Option<ReleaseName>, AgentError> {
    match &work.plan.work {
        PlannedWork::Deploy(deploy) => {
            check_order(&deploy.tag, current)?;
            Ok(None)
        }
        PlannedWork::Rollback { .. } => rollback_target(work.host, work.layout, work.plan, current),
    }
}

/// The release that a rollback brings back; nothing for a deployment.
pub(crate) fn rollback_target(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
    current: Option<&Current>,
) -> Result<Option<ReleaseName>, AgentError> {
    match &plan.work {
        PlannedWork::Deploy(_) => Ok(None),
        PlannedWork::Rollback { to, restore, .. } => {
            let choose = match restore {
                Some(_) => choose_restore,
                None => choose_rollback,
            };
            let known = crate::facts::known_releases(host, layout)?;
            let backups = crate::facts::known_backups(layout);
            match choose(to, current, &known, &backups) {
                RollbackChoice::Go(release) => Ok(Some(release.name)),
                RollbackChoice::Already(why) => Err(AgentError::new(why)),
                RollbackChoice::Impossible { error, next } => {
                    Err(AgentError::new(error).next(next))
                }
            }
        }
    }
}

fn check_order(tag: &str, current: Option<&Current>) -> Result<(), AgentError> {
    let tag = Tag::parse(tag).map_err(|refusal| AgentError::new(refusal.reason))?;
    // What was adopted, or put there by an older Belay, may have no tag of ours: anything is newer.
    let serving = current.and_then(|c| Tag::parse(&c.tag).ok());
    tag_ancestry::check_newer(&tag, serving.as_ref()).map_err(|refusal| {
        AgentError::new(refusal.reason)
            .next("to go back, start a rollback to that version instead of a deployment")
    })
}

fn enough_disk(work: &StepContext<'_>, estimate: u64) -> Result<u64, AgentError> {
    let free = work
        .host
        .free_bytes(work.layout.root())
        .map_err(|e| AgentError::doing("could not read the free disk space", e))?;
    let needed = estimate.saturating_add(RESERVE);
    if free >= needed {
        return Ok(free);
    }
    Err(AgentError::new(format!(
        "not enough disk: the backup may take {} MB and {} MB are free",
        needed / 1_000_000,
        free / 1_000_000
    ))
    .next("free some space on the host, or lower backup.keep in belay.yml"))
}
