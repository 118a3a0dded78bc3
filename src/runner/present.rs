//! Turns what the host answered into what the reports show. Pure, though it lives with the runner, which is the one that
//! knows both sides.

use belay_model::composition::copying::GAP_FOR_A_COPY;
use belay_model::config::DataStrategy;
use belay_model::replacement::strategy::ServiceStrategy;
use belay_model::transaction::outcome::{Failure, ImageReport, Work};
use belay_model::transaction::plan::{DataRule, Plan, PlannedWork};
use belay_model::versions::release::RollbackTo;
use belay_report::host_status::{
    BackupCheck, BackupLine, CurrentReport, KeptRelease, OpenState, ServiceReport, StatusReport,
    UnfinishedTransaction,
};
use belay_report::plan::{
    EndpointRole, PlanReport, PlannedBackup, PlannedEndpoint, PlannedHealth, PlannedImageReport,
    PlannedRestore, PlannedService, PlannedSource, PlannedUnused, Refusal,
};
use belay_wire::{BackupFacts, DataOutlook, HostFacts, ServiceState, UnusedVolume};

use super::choices::rollback_choices;
use super::deploy::DryRunPlan;

/// The state of a host, for people and programs.
pub fn status(
    app: &str,
    environment: &str,
    host: &str,
    root: &str,
    facts: &HostFacts,
) -> StatusReport {
    StatusReport {
        app: app.to_owned(),
        environment: environment.to_owned(),
        host: host.to_owned(),
        root: root.to_owned(),
        at: facts.now,
        down: facts.down.clone(),
        current: facts.current.as_ref().map(|current| CurrentReport {
            version: current.tag.clone(),
            release: current.release.clone(),
            revision: current.revision.clone(),
            since: current.since,
            how: current.how,
            previous: current.previous.as_ref().map(|name| tag_of(facts, name)),
        }),
        services: facts.services.iter().map(service).collect(),
        lock: facts.holder.clone(),
        open: facts.open.as_ref().map(|open| UnfinishedTransaction {
            tx: open.seq.to_string(),
            what: open.what.clone(),
            since: open.since,
            step: None,
            state: match (open.stuck, &facts.holder) {
                (true, _) => OpenState::Stuck,
                (false, Some(_)) => OpenState::Running,
                (false, None) => OpenState::Interrupted,
            },
        }),
        backups: backups(&facts.backups),
        free_bytes: Some(facts.free_bytes),
        releases: facts
            .releases
            .iter()
            .rev()
            .map(|release| KeptRelease {
                version: release.tag.clone(),
                release: release.name.clone(),
                created: release.created,
                missing_images: release.missing_images.clone(),
            })
            .collect(),
        recovery: Some(facts.supervisor.describe()),
        note: note(facts),
    }
}

fn tag_of(facts: &HostFacts, release: &str) -> String {
    facts
        .releases
        .iter()
        .find(|r| r.name == release)
        .map_or_else(|| release.to_owned(), |r| r.tag.clone())
}

fn service(service: &ServiceState) -> ServiceReport {
    ServiceReport {
        service: service.service.clone(),
        container: service.container.clone(),
        state: service.state.clone(),
        health: service.health.clone(),
        image: service.image_id.clone(),
    }
}

/// What the host did by itself, and which of Belay's files there are or were damaged.
fn note(facts: &HostFacts) -> Option<String> {
    let files = facts.files.iter().map(|finding| match &finding.next {
        Some(next) => format!("{} ({next})", finding.describe()),
        None => finding.describe(),
    });
    let notes: Vec<String> = facts.note.clone().into_iter().chain(files).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Backups, newest first.
#[must_use]
pub fn backups(facts: &[BackupFacts]) -> Vec<BackupLine> {
    facts
        .iter()
        .rev()
        .map(|backup| BackupLine {
            name: backup.name.clone(),
            taken: backup.created,
            bytes: backup.bytes,
            version: backup.tag.clone(),
            check: match (&backup.problem, backup.verified) {
                (Some(problem), _) => BackupCheck::Broken(problem.clone()),
                (None, true) => BackupCheck::Verified,
                (None, false) => BackupCheck::Recorded,
            },
        })
        .collect()
}

/// What a dry run found.
pub(crate) fn plan(planned: &DryRunPlan) -> PlanReport {
    let DryRunPlan {
        plan,
        facts,
        settings,
        services,
        images,
        outlook,
        ..
    } = planned;
    let current = facts.current.as_ref();
    let (work, to, revision) = match &plan.work {
        PlannedWork::Deploy(deploy) => (
            Work::Deploy,
            deploy.tag.clone(),
            Some(deploy.revision.clone()),
        ),
        PlannedWork::Rollback { to, .. } => (Work::Rollback, rollback_words(to), None),
    };
    PlanReport {
        work,
        app: plan.app.clone(),
        environment: plan.environment.clone(),
        host: settings
            .host
            .as_ref()
            .map(|h| format!("{}@{}:{}", h.user.as_str(), h.address.as_str(), h.port))
            .unwrap_or_default(),
        root: settings.root.as_str().to_owned(),
        tag: to.clone(),
        revision,
        from: current.map(|c| c.tag.clone()),
        to,
        services: services
            .iter()
            .map(|s| PlannedService {
                planned: with_gap_of_a_copy(s, &outlook.stops),
                last_startup_ms: None,
            })
            .collect(),
        images: images
            .iter()
            .map(|image| planned_image(plan, image))
            .collect(),
        backup: PlannedBackup {
            keep: plan.backup.keep,
            sources: backup_sources(&plan.backup.data),
            estimate_bytes: facts.backups.last().map(|b| b.bytes),
            free_bytes: Some(facts.free_bytes),
        },
        files: match &plan.work {
            PlannedWork::Deploy(deploy) => deploy
                .files
                .iter()
                .filter(|f| f.placed)
                .map(|f| f.path.clone())
                .collect(),
            PlannedWork::Rollback { .. } => vec![],
        },
        health: health(plan),
        restore: restore(plan, facts),
        choices: rollback_choices(facts),
        warnings: warnings(planned),
        unused: outlook.unused.iter().map(unused_volume).collect(),
        refusals: outlook.refusal.iter().map(refusal).collect(),
    }
}

fn with_gap_of_a_copy(service: &ServiceStrategy, stops: &[String]) -> ServiceStrategy {
    let mut planned = service.clone();
    if stops.contains(&planned.service) {
        planned.gap = Some(GAP_FOR_A_COPY.to_owned());
    }
    planned
}

fn warnings(planned: &DryRunPlan) -> Vec<String> {
    let DataOutlook {
        warnings, unnamed, ..
    } = &planned.outlook;
    let unnamed = unnamed
        .iter()
        .map(|volume| format!("{}; {}", volume.describe(), volume.advice()));
    let all = planned.warnings.iter().chain(warnings).cloned();
    all.chain(unnamed).collect()
}

fn refusal(failure: &Failure) -> Refusal {
    Refusal {
        error: failure.error.clone(),
        next: failure.next.clone(),
    }
}

fn unused_volume(volume: &UnusedVolume) -> PlannedUnused {
    PlannedUnused {
        name: volume.name.clone(),
        bytes: volume.bytes,
        created: volume.created,
    }
}

fn restore(plan: &Plan, facts: &HostFacts) -> Option<PlannedRestore> {
    let PlannedWork::Rollback { restore, .. } = &plan.work else {
        return None;
    };
    let backup = facts
        .backups
        .iter()
        .find(|b| Some(&b.name) == restore.as_ref())?;
    Some(PlannedRestore {
        backup: backup.name.clone(),
        version: backup.tag.clone(),
        taken: backup.created,
        sources: backup.data.clone(),
    })
}

fn rollback_words(to: &RollbackTo) -> String {
    match to {
        RollbackTo::Previous => "the version before".to_owned(),
        RollbackTo::Tag(tag) => tag.clone(),
        RollbackTo::Backup(name) => name.clone(),
    }
}

fn planned_image(plan: &Plan, image: &ImageReport) -> PlannedImageReport {
    let source = match &plan.work {
        PlannedWork::Deploy(deploy) => deploy
            .images
            .iter()
            .find(|planned| planned.service == image.service)
            .map(|planned| planned.source),
        PlannedWork::Rollback { .. } => None,
    };
    PlannedImageReport {
        service: image.service.clone(),
        reference: image.reference.clone(),
        size: Some(image.size),
        previous_size: image.previous_size,
        budget: image.budget,
        source,
    }
}

fn backup_sources(rule: &DataRule) -> Vec<PlannedSource> {
    let every = |text: &str| PlannedSource {
        source: text.to_owned(),
        strategy: DataStrategy::Live,
        services: vec![],
    };
    match rule {
        DataRule::Auto => vec![every("every volume and writable bind mount of the project")],
        DataRule::None => vec![],
        DataRule::Only(wishes) => wishes
            .iter()
            .map(|wish| PlannedSource {
                source: wish.source.clone(),
                strategy: wish.strategy,
                services: wish.service.iter().cloned().collect(),
            })
            .collect(),
    }
}

fn health(plan: &Plan) -> PlannedHealth {
    let rules = &plan.health;
    let endpoints = [
        (EndpointRole::Primary, &rules.primary),
        (EndpointRole::Backup, &rules.backup),
        (EndpointRole::Public, &rules.public),
    ];
    PlannedHealth {
        endpoints: endpoints
            .into_iter()
            .filter_map(|(role, url)| {
                Some(PlannedEndpoint {
                    role,
                    url: url.clone()?,
                })
            })
            .collect(),
        deadline_ms: rules.deadline_ms,
        successes: rules.successes,
    }
}
