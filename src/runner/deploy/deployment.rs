//! The story of a deployment: a tag, its commit, the host, the Compose file, the images, the plan, the outcome.

use std::cell::OnceCell;

use super::composed::Composed;
use super::conclusion::{Concluded, DryRunPlan, blank, conclude};
use super::context::RunContext;
use super::error::DeployError;
use super::finish::finish;
use super::planned::Planned;
use super::reached::Reached;
use super::resolved::Resolved;
use super::shipped_files::{file_name, shipped_files};
use crate::images::{self, BuiltImages, Making};
use crate::session::Session;
use crate::{ship, transaction};
use belay_model::composition::compose::ComposeFile;
use belay_model::replacement::strategy::classify;
use belay_model::request::tag::Tag;
use belay_model::transaction::outcome::{Outcome, Word, Work};
use belay_model::transaction::plan::{DeployWork, PlannedWork, strategy_wishes};

/// Why a transaction is not going to begin.
const NOT_SENT: &str = "the images could not be sent";

/// Deploys a tag. `revision`: the commit that the event says it stands for.
pub(crate) fn deploy(
    context: &mut RunContext<'_, '_>,
    tag: &Tag,
    revision: Option<&str>,
) -> Concluded {
    let mut outcome = blank(Work::Deploy, tag.as_str());
    let ended = try_deploy(context, tag, revision, &mut outcome);
    conclude(outcome, ended, &context.session.interrupt)
}

fn try_deploy(
    context: &mut RunContext<'_, '_>,
    tag: &Tag,
    revision: Option<&str>,
    outcome: &mut Outcome,
) -> Result<Option<DryRunPlan>, DeployError> {
    let resolved = Resolved::of(context.session, tag, revision, outcome)?;
    context.record.opened(outcome, &resolved.settings);
    context.judge_key(outcome);
    let mut reached = Reached::open(context.session, &resolved.settings, outcome)?;
    if reached.serves_already(tag, &resolved.revision) {
        outcome.word = Word::Unchanged;
        outcome.serving = Some(tag.as_str().to_owned());
        return Ok(None);
    }
    reached.refuse_older(tag)?;
    let composed = Composed::read(context.session, &resolved, outcome)?;
    let built = build(context, &resolved, &reached, &composed, outcome)?;
    let mut planned = plan(context.session, &resolved, &composed, &built)?;
    if context.is_dry_run() {
        return dry_run(resolved, reached, composed, planned, outcome).map(Some);
    }
    send(context.session, &mut reached, &built, &mut planned, outcome)?;
    refuse_moved_tag(context, &resolved).inspect_err(|moved| {
        // What was sent for it goes again. What stays is removed by a later Prune.
        let _ = transaction::withdraw(&reached.link, &planned.plan.tx, &moved.to_string());
    })?;
    finish(context, &mut reached.link, &planned, outcome);
    Ok(None)
}

/// Builds, tests and measures the images; the outcome tells what it took.
fn build(
    context: &mut RunContext<'_, '_>,
    resolved: &Resolved<'_>,
    reached: &Reached,
    composed: &Composed,
    outcome: &mut Outcome,
) -> Result<BuiltImages, DeployError> {
    let settings = &resolved.settings;
    let repository_url = context.session.repository_url();
    let making = Making {
        settings,
        project: &reached.image_project(composed.project.as_deref(), settings),
        tag: resolved.tag.as_str(),
        revision: &resolved.revision,
        repository_url: repository_url.as_deref(),
        directory: &composed.directory,
        facts: &reached.facts,
        engine: OnceCell::new(),
        interrupt: &context.session.interrupt,
    };
    let watcher = &mut *context.watcher;
    watcher.section("build and test the images");
    let mut built = images::make(&making, &composed.builds, &mut |bytes| {
        watcher.remote(bytes);
    })?;
    outcome.durations.build_ms = built.build_ms;
    outcome.durations.test_ms = built.test_ms;
    outcome.images = std::mem::take(&mut built.reports);
    outcome.warnings.append(&mut built.warnings);
    Ok(built)
}

fn plan(
    session: &Session<'_>,
    resolved: &Resolved<'_>,
    composed: &Composed,
    built: &BuiltImages,
) -> Result<Planned, DeployError> {
    let settings = &resolved.settings;
    let work = PlannedWork::Deploy(Box::new(DeployWork {
        tag: resolved.tag.as_str().to_owned(),
        revision: resolved.revision.clone(),
        compose_path: file_name(&composed.path),
        files: shipped_files(resolved.source.dir(), &composed.path, settings)?,
        images: built.images.clone(),
        strategies: strategy_wishes(settings),
    }));
    Planned::of(session, settings, composed.project.clone(), work)
}

fn dry_run(
    resolved: Resolved<'_>,
    reached: Reached,
    composed: Composed,
    planned: Planned,
    outcome: &Outcome,
) -> Result<DryRunPlan, DeployError> {
    let wishes = strategy_wishes(&resolved.settings);
    let file = ComposeFile::new(composed.document)?;
    let images = match &planned.plan.work {
        PlannedWork::Deploy(deploy) => deploy.images.as_slice(),
        PlannedWork::Rollback { .. } => &[],
    };
    let volumes = images
        .iter()
        .map(|i| (i.service.as_str(), i.volumes.as_slice()));
    let file = file.with_image_volumes(volumes);
    let services = classify(&file, &wishes, &planned.plan.gateway, None)?;
    let outlook = reached.outlook(&planned.plan)?;
    Ok(DryRunPlan {
        outlook,
        plan: planned.plan,
        facts: reached.facts,
        settings: resolved.settings,
        services,
        images: outcome.images.clone(),
        warnings: outcome.warnings.clone(),
    })
}

/// Sends the images that the host lacks. When that fails the host is told that nothing will come of it.
fn send(
    session: &Session<'_>,
    reached: &mut Reached,
    built: &BuiltImages,
    planned: &mut Planned,
    outcome: &mut Outcome,
) -> Result<(), DeployError> {
    let Reached { link, facts } = reached;
    let tx = planned.plan.tx.clone();
    let shipped =
        ship::ship(link, &tx, &built.images, &built.packing, facts).inspect_err(|_| {
            match session.interrupt.is_raised() {
                true => transaction::take_back(link, &tx),
                // What has arrived is of no use without the rest. What stays is removed by a later Prune.
                false => drop(transaction::withdraw(link, &tx, NOT_SENT)),
            }
        })?;
    if let Some(shipped) = shipped {
        outcome.durations.transfer_ms = Some(shipped.ms);
        outcome.durations.transfer_bytes = Some(shipped.bytes);
        planned.plan.note_manifests(&shipped.manifests);
    }
    Ok(())
}

/// Looks the tag up once more: building and sending took minutes, in which it may have been moved.
fn refuse_moved_tag(
    context: &mut RunContext<'_, '_>,
    resolved: &Resolved<'_>,
) -> Result<(), DeployError> {
    match context.record.tag_stands_at(resolved.tag.as_str()) {
        Some(now) if now != resolved.revision => Err(resolved.moved_to(now)),
        Some(_) | None => Ok(()),
    }
}
