//! Bake: watches the new version until it is healthy and has stayed so for a while.

use std::time::Duration;

use super::{Work, container_of, cutover, long_running};
use crate::agent::host::{Container, DockerHealth, RunState};
use crate::model::health::{
    Answer, ContainerSample, ContainerState, HealthRules, Judge, Sample, Verdict, VersionCheck,
};
use crate::model::journal::{Baked, BootTime, Event, Output};
use crate::model::outcome::Failure;
use crate::model::plan::ConfirmRule;
use crate::model::release::Release;
use crate::model::step::Step;

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let candidate = work.candidate()?;
    let file = work.normalised(&candidate.name)?;
    let services = long_running(&candidate, &file)?;
    cutover::verify_running(work, &candidate, &services)?;
    let rules = rules_for(work, &candidate);
    let (verdict, samples, healthy_after) = watch(work, &candidate, &services, &rules)?;
    match &verdict {
        Verdict::Healthy => {}
        Verdict::Degraded(reason) => work.warn(format!("degraded, and accepted: {reason}")),
        Verdict::Unhealthy(reason) | Verdict::Undecided(reason) => {
            return Err(Failure::new(format!(
                "{} is not healthy: {reason}",
                candidate.tag
            )));
        }
    }
    let confirm_by = work.host.boot_time().plus_ms(match &work.plan.confirm {
        ConfirmRule::Runner { within_ms, .. } => *within_ms,
        ConfirmRule::Host => 0,
    });
    Ok(Output::Baked(Baked {
        verdict,
        startup_ms: since_cutover(work, healthy_after),
        samples,
        confirm_by,
    }))
}

/// What was adopted from before Belay has no version to report.
fn rules_for(work: &Work<'_>, candidate: &Release) -> HealthRules {
    let mut rules = work.plan.health.clone();
    if candidate.revision.is_none() {
        rules.version = None;
    }
    rules
}

/// Looks until there is a verdict. Also tells how many looks it took and when, in milliseconds from the watch's beginning,
/// the version was healthy.
fn watch(
    work: &mut Work<'_>,
    candidate: &Release,
    services: &[String],
    rules: &HealthRules,
) -> Result<(Verdict, u32, u64), Failure> {
    let needs = candidate
        .services
        .iter()
        .filter_map(|s| s.healthcheck_needs_ms)
        .max()
        .unwrap_or(0);
    let mut judge = Judge::new(rules, &candidate.tag, needs);
    let began = work.host.boot_time();
    let mut last_told = String::new();
    let mut samples = 0;
    loop {
        let sample = look(work, candidate, services, rules, &began)?;
        samples += 1;
        match judge.judge(&sample) {
            Verdict::Undecided(news) => {
                if news != last_told {
                    work.note(news.clone());
                    last_told = news;
                }
            }
            verdict => {
                return Ok((
                    verdict,
                    samples,
                    judge.healthy_since().unwrap_or(sample.at_ms),
                ));
            }
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(Failure::new(format!(
                "{} was still being watched: {reason}",
                candidate.tag
            )));
        }
        work.host.sleep(Duration::from_millis(rules.interval_ms));
    }
}

fn look(
    work: &Work<'_>,
    candidate: &Release,
    services: &[String],
    rules: &HealthRules,
    began: &BootTime,
) -> Result<Sample, Failure> {
    let containers = work
        .host
        .containers(&candidate.project)
        .map_err(|e| Failure::of(&e))?;
    let timeout = Duration::from_millis(rules.timeout_ms);
    let ask = |url: &String, version: Option<&VersionCheck>| work.host.ask(url, timeout, version);
    let primary = rules
        .primary
        .as_ref()
        .map(|url| ask(url, rules.version.as_ref()));
    // The backup endpoint speaks only when the primary cannot be reached at all.
    let backup = match primary {
        Some(Answer::Unreachable(_)) => rules.backup.as_ref().map(|url| ask(url, None)),
        Some(Answer::Status { .. }) | None => None,
    };
    Ok(Sample {
        at_ms: work.host.boot_time().ms.saturating_sub(began.ms),
        containers: services
            .iter()
            .map(|service| sample_of(&containers, service))
            .collect(),
        primary,
        backup,
    })
}

fn sample_of(containers: &[Container], service: &str) -> ContainerSample {
    let container = container_of(containers, service);
    ContainerSample {
        service: service.to_owned(),
        state: container.map_or(ContainerState::Missing, state_of),
        restarts: container.map_or(0, |c| c.restarts),
    }
}

fn state_of(container: &Container) -> ContainerState {
    match (container.state, &container.health) {
        (RunState::Exited(code), _) => ContainerState::Exited(code),
        (RunState::Restarting, _) => ContainerState::Restarting,
        (RunState::Created | RunState::Paused, _) => ContainerState::Starting,
        (RunState::Running, Some(DockerHealth::Unhealthy(why))) => {
            ContainerState::Unhealthy(why.clone())
        }
        (RunState::Running, Some(DockerHealth::Starting)) => ContainerState::Starting,
        (RunState::Running, Some(DockerHealth::Healthy) | None) => ContainerState::Well,
    }
}

fn since_cutover(work: &Work<'_>, healthy_after_ms: u64) -> u64 {
    let started = |wanted: Step| {
        work.entries()
            .iter()
            .rev()
            .find_map(|entry| match entry.event {
                Event::Started { step } if step == wanted => Some(entry.at),
                _ => None,
            })
    };
    let cutover_ms = match (started(Step::Cutover), started(Step::Bake)) {
        (Some(cutover), Some(bake)) => {
            u64::try_from(bake.duration_since(cutover).as_millis()).unwrap_or(0)
        }
        _ => 0,
    };
    cutover_ms + healthy_after_ms
}
