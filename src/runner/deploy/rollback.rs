//! The story of a rollback: a wish, the host, the version that is meant, the plan, the outcome. No image is made.

use super::conclusion::{Concluded, DryRunPlan, blank, conclude};
use super::context::{RunContext, describe_place};
use super::error::{DeployError, UnusableBackup};
use super::finish::finish;
use super::planned::Planned;
use super::reached::Reached;
use crate::consent;
use crate::session::Session;
use belay_model::config::{Config, Settings};
use belay_model::request::intent::RollbackWish;
use belay_model::request::tag::{Tag, TagKind};
use belay_model::transaction::outcome::{Outcome, Word, Work};
use belay_model::transaction::plan::PlannedWork;
use belay_model::versions::release::{
    KnownBackup, RollbackChoice, RollbackTo, choose_restore, choose_rollback,
};
use belay_report::words;
use belay_wire::HostFacts;

/// Rolls back to an earlier version.
pub(crate) fn rollback(context: &mut RunContext<'_, '_>, wish: &RollbackWish) -> Concluded {
    let mut outcome = blank(Work::Rollback, &describe(&wish.to));
    outcome.reason.clone_from(&wish.reason);
    let ended = try_rollback(context, wish, &mut outcome);
    conclude(outcome, ended, &context.session.interrupt)
}

fn describe(to: &RollbackTo) -> String {
    match to {
        RollbackTo::Previous => "the version before".to_owned(),
        RollbackTo::Tag(tag) => tag.clone(),
        RollbackTo::Backup(name) => name.clone(),
    }
}

fn try_rollback(
    context: &mut RunContext<'_, '_>,
    wish: &RollbackWish,
    outcome: &mut Outcome,
) -> Result<Option<DryRunPlan>, DeployError> {
    let settings = settings_for(context.session, &wish.to)?;
    describe_place(context.session, &settings, outcome);
    if let Some(backup) = wish.restore.as_ref().filter(|_| !context.is_dry_run()) {
        consent::check(context.session, settings.environment.as_str(), backup)?;
    }
    let mut reached = Reached::open(context.session, &settings, outcome)?;
    if let Some(name) = &wish.restore {
        check_data(name, &reached.facts)?;
    }
    match choose(wish, &reached.facts) {
        RollbackChoice::Go(release) => {
            outcome.asked = release.tag;
            outcome.revision = release.revision;
        }
        RollbackChoice::Already(_) if !reached.facts.down.is_empty() => {
            return Err(not_running(&reached.facts));
        }
        RollbackChoice::Already(why) => {
            nothing_to_do(outcome, &reached.facts, why);
            return Ok(None);
        }
        RollbackChoice::Impossible { error, next } => {
            return Err(DeployError::NoRollback { error, next });
        }
    }
    context.record.opened(outcome, &settings);
    let planned = plan(context.session, &settings, wish, &outcome.asked)?;
    if context.is_dry_run() {
        return Ok(Some(DryRunPlan {
            outlook: reached.outlook(&planned.plan)?,
            plan: planned.plan,
            facts: reached.facts,
            settings,
            services: vec![],
            images: vec![],
            warnings: outcome.warnings.clone(),
        }));
    }
    finish(context, &mut reached.link, &planned, outcome);
    Ok(None)
}

/// The settings of the environment that the version belongs to, as they are in the checkout: a rollback resolves no tag.
fn settings_for(session: &Session<'_>, to: &RollbackTo) -> Result<Settings, DeployError> {
    let config = session.config(&session.dir)?;
    Ok(session.settings(&config, &rollback_environment(&config, to))?)
}

/// The environment of a rollback: the input's, else that of the version's kind, else production.
fn rollback_environment(config: &Config, to: &RollbackTo) -> String {
    let kind = match to {
        RollbackTo::Tag(text) => Tag::parse(text).map_or(TagKind::Release, |tag| tag.kind()),
        RollbackTo::Previous | RollbackTo::Backup(_) => TagKind::Release,
    };
    config
        .environment_of(kind)
        .unwrap_or("production")
        .to_owned()
}

/// Checks that a backup whose data is wanted is there and holds some.
fn check_data(name: &str, facts: &HostFacts) -> Result<(), UnusableBackup> {
    let name = name.to_owned();
    let Some(backup) = facts.backups.iter().find(|b| b.name == name) else {
        return Err(UnusableBackup::Missing(name));
    };
    match &backup.problem {
        Some(problem) => Err(UnusableBackup::Damaged {
            name,
            problem: problem.clone(),
        }),
        None if backup.data.is_empty() => Err(UnusableBackup::WithoutData(name)),
        None => Ok(()),
    }
}

/// Which version the wish means on this host.
fn choose(wish: &RollbackWish, facts: &HostFacts) -> RollbackChoice {
    let choose = match &wish.restore {
        Some(_) => choose_restore,
        None => choose_rollback,
    };
    let known = facts.backups.iter().map(|b| KnownBackup {
        name: b.name.clone(),
        release: b.release.clone(),
    });
    let backups: Vec<KnownBackup> = known.collect();
    choose(&wish.to, facts.current.as_ref(), &facts.releases, &backups)
}

/// The version that was asked for is the one that was deployed last, and not all of it is there.
fn not_running(facts: &HostFacts) -> DeployError {
    let last = facts.current.as_ref().map_or("it", |current| &current.tag);
    DeployError::NoRollback {
        error: format!(
            "{last} is what was deployed last, and {} not run",
            words::not_running(&facts.down)
        ),
        next: format!("deploy {last} again: that brings back what does not run"),
    }
}

fn nothing_to_do(outcome: &mut Outcome, facts: &HostFacts, why: String) {
    outcome.word = Word::Unchanged;
    outcome.serving = facts.current.as_ref().map(|c| c.tag.clone());
    outcome.asked = outcome.serving.clone().unwrap_or_default();
    outcome.warnings.push(why);
}

/// The host is told the version by name: what the wish means was decided here, and must not change under the lock.
fn plan(
    session: &Session<'_>,
    settings: &Settings,
    wish: &RollbackWish,
    tag: &str,
) -> Result<Planned, DeployError> {
    let work = PlannedWork::Rollback {
        to: match &wish.to {
            RollbackTo::Backup(name) => RollbackTo::Backup(name.clone()),
            RollbackTo::Previous | RollbackTo::Tag(_) => RollbackTo::Tag(tag.to_owned()),
        },
        reason: wish.reason.clone(),
        restore: wish.restore.clone(),
    };
    let project = settings.project.as_ref().map(|p| p.as_str().to_owned());
    Planned::of(session, settings, project, work)
}
