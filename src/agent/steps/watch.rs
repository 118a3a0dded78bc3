//! Watching a version until there is a verdict: the looks of Probe and Bake. What they mean is decided in
//! [`belay_model::judgement::health`].

use std::time::Duration;

use super::{Sides, StepContext};
use crate::error::AgentError;
use crate::host::{Container, DockerHealth, RunState};
use belay_model::config::ProxyProtocol;
use belay_model::judgement::health::{
    Answering, ContainerSample, ContainerState, HealthAnswer, HealthRules, Judge, Sample, Verdict,
    VersionCheck,
};
use belay_model::replacement::gateway::Front;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::BootTime;
use belay_model::versions::release::Release;

/// How long a candidate may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(500);

/// Whom a watch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// What serves under the application's own address.
    Serving,
    /// Containers that nobody sends requests to yet, each at its own address.
    Candidates,
}

/// What a watch came to.
pub(super) struct Watched {
    pub(super) verdict: Verdict,
    pub(super) samples: u32,
    /// From the watch's beginning to when the version was healthy, in milliseconds.
    pub(super) healthy_after_ms: u64,
}

impl Watched {
    /// Only a healthy version, or an accepted degraded one, goes on.
    pub(super) fn healthy_or_failure(
        &self,
        candidate: &Release,
        work: &mut StepContext<'_>,
    ) -> Result<(), AgentError> {
        match &self.verdict {
            Verdict::Healthy => Ok(()),
            Verdict::Degraded(reason) => {
                work.warn(format!("degraded, and accepted: {reason}"));
                Ok(())
            }
            Verdict::Unhealthy(reason) | Verdict::Undecided(reason) => Err(AgentError::new(
                format!("{} is not healthy: {reason}", candidate.tag),
            )),
        }
    }
}

/// What was adopted from before Belay has no version to report.
pub(super) fn rules_for(work: &StepContext<'_>, candidate: &Release) -> HealthRules {
    let mut rules = work.plan.health.clone();
    if candidate.revision.is_none() {
        rules.version = None;
    }
    rules
}

/// Looks until there is a verdict.
pub(super) fn watch(
    work: &mut StepContext<'_>,
    candidate: &Release,
    services: &[String],
    rules: &HealthRules,
    subject: Subject,
) -> Result<Watched, AgentError> {
    let watched = |name: &String| services.contains(name);
    let needs = candidate
        .services
        .iter()
        .filter(|s| watched(&s.name))
        .filter_map(|s| s.healthcheck_needs_ms)
        .max()
        .unwrap_or(0);
    let mut judge = Judge::new(rules, &candidate.tag, needs).of(answering(work, subject)?);
    let began = work.host.boot_time();
    let mut last_told = String::new();
    let mut samples = 0;
    loop {
        let sample = look(work, services, rules, subject, &began)?;
        samples += 1;
        match judge.judge(&sample) {
            Verdict::Undecided(news) => {
                if news != last_told {
                    work.note(news.clone());
                    last_told = news;
                }
            }
            verdict => {
                return Ok(Watched {
                    verdict,
                    samples,
                    healthy_after_ms: judge.healthy_since().unwrap_or(sample.at_ms),
                });
            }
        }
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(format!(
                "{} was still being watched: {reason}",
                candidate.tag
            )));
        }
        work.host.sleep(Duration::from_millis(rules.interval_ms));
    }
}

/// A proxy of the user's asks every container that it finds, until the incumbents are retired.
fn answering(work: &StepContext<'_>, subject: Subject) -> Result<Answering, AgentError> {
    if subject == Subject::Candidates {
        return Ok(Answering::Candidate);
    }
    for service in work.moves().of(Strategy::StartFirstProxy) {
        let Sides { incumbents, .. } = work.sides(service)?;
        if incumbents.iter().any(Container::is_alive) {
            return Ok(Answering::IncumbentsToo);
        }
    }
    Ok(Answering::Candidate)
}

fn look(
    work: &StepContext<'_>,
    services: &[String],
    rules: &HealthRules,
    subject: Subject,
    began: &BootTime,
) -> Result<Sample, AgentError> {
    let mut containers = vec![];
    for service in services {
        containers.extend(samples_of(work, service, subject)?);
    }
    let timeout = Duration::from_millis(rules.timeout_ms);
    let ask = |url: &str, version: Option<&VersionCheck>| work.host.ask(url, timeout, version);
    let primary = match (&rules.primary, subject) {
        (None, _) => None,
        (Some(url), Subject::Serving) => Some(ask(url, rules.version.as_ref())),
        (Some(url), Subject::Candidates) => {
            Some(ask_directly(work, url, timeout, rules.version.as_ref())?)
        }
    };
    // The backup endpoint speaks only when the primary cannot be reached at all.
    let backup = match (&primary, &rules.backup, subject) {
        (Some(HealthAnswer::Unreachable(_)), Some(url), Subject::Serving) => Some(ask(url, None)),
        (Some(HealthAnswer::Unreachable(_)), Some(url), Subject::Candidates) => {
            Some(ask_directly(work, url, timeout, None)?)
        }
        _ => None,
    };
    Ok(Sample {
        at_ms: work.host.boot_time().ms.saturating_sub(began.ms),
        containers,
        primary,
        backup,
    })
}

/// Whether an endpoint's port is one that candidates are to get, so that they can be asked for it before.
pub(super) fn is_of_candidates(work: &StepContext<'_>, url: &str) -> bool {
    let fronts = work.moves().fronts_moved();
    fronts
        .iter()
        .any(|front| directly(url, front, "127.0.0.1").is_some())
}

/// Asks every candidate behind an endpoint at its own address; the first answer that is not good is the answer.
fn ask_directly(
    work: &StepContext<'_>,
    url: &str,
    timeout: Duration,
    version: Option<&VersionCheck>,
) -> Result<HealthAnswer, AgentError> {
    let mut answer = HealthAnswer::Unreachable("no candidate has an address".to_owned());
    for front in work.moves().fronts_moved() {
        for container in work.sides(&front.service)?.candidates {
            let address = container.addresses.first();
            let Some(direct) = address.and_then(|address| directly(url, &front, address)) else {
                continue;
            };
            answer = work.host.ask(&direct, timeout, version);
            if !answer.is_success() {
                return Ok(answer);
            }
        }
    }
    Ok(answer)
}

/// The same question to a container's own address.
fn directly(url: &str, front: &Front, address: &str) -> Option<String> {
    let mut url = url::Url::parse(url).ok()?;
    let speaks_plainly = front.proxy_protocol == ProxyProtocol::Off;
    if url.port_or_known_default() != front.published || !speaks_plainly {
        return None;
    }
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    url.set_host(Some(&host)).ok()?;
    url.set_port(Some(front.target)).ok()?;
    Some(url.into())
}

fn samples_of(
    work: &StepContext<'_>,
    service: &str,
    subject: Subject,
) -> Result<Vec<ContainerSample>, AgentError> {
    let sample = |container: Option<&Container>, state: ContainerState| ContainerSample {
        service: service.to_owned(),
        state,
        restarts: container.map_or(0, |c| c.restarts),
    };
    let containers = work.serving_or_candidates(service)?;
    if containers.is_empty() {
        return Ok(vec![sample(None, ContainerState::Missing)]);
    }
    let ports: Vec<u16> = match subject {
        Subject::Serving => vec![],
        Subject::Candidates => {
            let fronts = work.moves().fronts;
            let of_service = fronts.iter().filter(|f| f.service == service);
            of_service.map(|f| f.target).collect()
        }
    };
    Ok(containers
        .iter()
        .map(|container| {
            let state = match state_of(container) {
                // It is no version's: somebody stopped it, and it is started again.
                ContainerState::Exited(_) if service == GATEWAY_SERVICE => {
                    ContainerState::Restarting
                }
                ContainerState::Well if !listens(work, container, &ports) => {
                    ContainerState::NotListening
                }
                state => state,
            };
            sample(Some(container), state)
        })
        .collect())
}

fn listens(work: &StepContext<'_>, container: &Container, ports: &[u16]) -> bool {
    let address = container.addresses.first();
    ports
        .iter()
        .all(|port| address.is_some_and(|address| work.host.connects(address, *port, CONNECT)))
}

fn state_of(container: &Container) -> ContainerState {
    match (container.state, &container.health) {
        (RunState::Exited(code), _) => ContainerState::Exited(code),
        (RunState::Restarting, _) => ContainerState::Restarting,
        (RunState::Running, Some(DockerHealth::Unhealthy(why))) => {
            ContainerState::Unhealthy(why.clone())
        }
        (RunState::Created | RunState::Paused, _)
        | (RunState::Running, Some(DockerHealth::Starting)) => ContainerState::Starting,
        (RunState::Running, Some(DockerHealth::Healthy) | None) => ContainerState::Well,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belay_model::config::Mode;

    #[test]
    fn a_candidate_is_asked_the_same_at_its_own_address() {
        let front = Front {
            service: "web".to_owned(),
            host_ip: None,
            published: Some(8080),
            target: 9000,
            mode: Mode::Http,
            proxy_protocol: ProxyProtocol::Off,
        };
        let ask = |url: &str, address: &str| directly(url, &front, address);
        assert_eq!(
            ask("http://127.0.0.1:8080/api/status?full=1", "172.18.0.4").as_deref(),
            Some("http://172.18.0.4:9000/api/status?full=1")
        );
        assert_eq!(
            ask("http://127.0.0.1:8080/", "fd00::4").as_deref(),
            Some("http://[fd00::4]:9000/")
        );
        assert_eq!(ask("http://127.0.0.1:9090/", "172.18.0.4"), None);
        assert_eq!(ask("http://127.0.0.1/", "172.18.0.4"), None);
    }
}
