//! Keep: what has to serve at this moment of the transaction runs, whoever has taken it away.
//!
//! Runs on the host, in a thread beside the steps ([`crate::keeper`]), which never looks while a step begins. What a step
//! works on is none of its business ([`Duty`]), so both may act at once. It may be called again at any time and finds
//! nothing to do where all is well.

use std::collections::BTreeMap;

use super::{Sides, StepContext, long_running, services, traffic};
use crate::adopt;
use crate::down::answers;
use crate::durable;
use crate::error::AgentError;
use crate::host::{Container, RunState};
use belay_model::replacement::gateway::{Side, Traffic};
use belay_model::replacement::moves::{GatewayMove, Moves};
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::duty::Duty;
use belay_model::transaction::phase::Phase;
use belay_model::transaction::step::Step;
use belay_model::versions::release::Release;
use belay_model::versions::revival::has_done_its_work;

/// How often one container, or one service that lost its container, is brought back within a transaction: what goes away
/// more often than that is taken away by itself.
const TRIES: u32 = 5;

/// How often each was brought back.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    of_each: BTreeMap<String, u32>,
    /// Something is left as it is for the moment.
    pub(crate) is_waiting: bool,
}

impl Tries {
    fn allows(&mut self, what: &str) -> bool {
        let tries = self.of_each.entry(what.to_owned()).or_default();
        *tries += 1;
        *tries <= TRIES
    }
}

/// Brings back what has to serve and does not; tells what was done.
pub(crate) fn keep(work: &StepContext<'_>, tries: &mut Tries) -> Result<Vec<String>, AgentError> {
    let phase = phase(work)?;
    if let Some(release) = adopt::unrecorded(work.layout)? {
        // A person has decided, and is at it.
        return leave_to(work, phase, &release);
    }
    let duty = Duty::at(phase, work.plan.work.restores());
    let mut told = match duty {
        Duty::Nobody => return Ok(vec![]),
        _ => let_go(work, tries, phase)?,
    };
    let wanted = match (duty, work.previous()?) {
        (Duty::Nobody, _) | (Duty::Before | Duty::BeforeBesideReplaced, None) => return Ok(told),
        (Duty::Before, Some(previous)) => before(work, previous)?,
        (Duty::BeforeBesideReplaced, Some(previous)) => {
            beside_replaced(work, before(work, previous)?)?
        }
        (Duty::After, _) => match lost_candidate(work)? {
            Some(reason) => {
                told.push(go_back(work, &reason)?);
                return Ok(told);
            }
            None => after(work)?,
        },
        (Duty::Committed, _) => committed(work)?,
    };
    told.extend(all(work, tries, &wanted)?);
    Ok(told)
}

/// Lets containers run on that somebody holds still: on either side, because no version does that to itself. A backup may
/// hold some for a moment, and lets go of them itself.
fn let_go(
    work: &StepContext<'_>,
    tries: &mut Tries,
    phase: Phase,
) -> Result<Vec<String>, AgentError> {
    let mut held = work.containers()?;
    held.retain(|c| {
        let is_off = work.was_there(c) && !work.ran(c) || work.is_stopped_for_a_copy(&c.service);
        c.state == RunState::Paused && !is_off
    });
    let is_saving = matches!(
        phase,
        Phase::Performing {
            step: Step::Backup,
            ..
        }
    );
    tries.is_waiting = is_saving && !held.is_empty();
    held.retain(|c| !is_saving && tries.allows(&c.id));
    for container in &held {
        work.host.unpause(&container.id)?;
    }
    let told = held
        .iter()
        .map(|c| format!("{} had been paused; it runs on", c.service));
    Ok(told.collect())
}

/// Treats both versions as the transaction wants it at this moment, in a gateway that has forgotten it.
pub(crate) fn mend_traffic(work: &StepContext<'_>) -> Result<(), AgentError> {
    let traffic = match Duty::traffic(phase(work)?) {
        Some(Traffic::MOVED) if is_giving_back(work)? => Some(Traffic::RETURNED),
        traffic => traffic,
    };
    match traffic {
        None => Ok(()),
        // Another gateway takes its place at the cutover, and knows nothing of either.
        Some(traffic)
            if traffic != Traffic::MOVED && work.moves().gateway != GatewayMove::Stays =>
        {
            Ok(())
        }
        Some(traffic) => traffic::set(work, traffic),
    }
}

/// Whether the requests are the version before's again, though the step does not know it yet.
fn is_giving_back(work: &StepContext<'_>) -> Result<bool, AgentError> {
    let duty = Duty::at(phase(work)?, work.plan.work.restores());
    Ok(duty == Duty::After && work.wish_to_stop()?.is_some())
}

fn phase(work: &StepContext<'_>) -> Result<Phase, AgentError> {
    Phase::of(work.entries())
        .map_err(|error| AgentError::new(format!("the journal contradicts itself: {error}")))
}

/// What has to run: services of one release, each with the side of its containers; all of them where there is one only.
struct Wanted {
    release: Release,
    services: Vec<(String, Option<Side>)>,
}

impl Wanted {
    /// Of a service that gets candidates only one side serves.
    fn of(release: Release, moves: &Moves, names: Vec<String>, side: Side) -> Wanted {
        let side_of = |name: &String| moves.strategy(name).is_start_first().then_some(side);
        let services = names.into_iter().map(|name| {
            let side = side_of(&name);
            (name, side)
        });
        Wanted {
            services: services.collect(),
            release,
        }
    }

    fn only(mut self, is_kept: impl Fn(&str) -> bool) -> Wanted {
        self.services.retain(|(name, _)| is_kept(name));
        self
    }
}

/// All that ran when the transaction began.
fn before(work: &StepContext<'_>, previous: Release) -> Result<Wanted, AgentError> {
    let file = work.normalised(&previous.name)?;
    let mut names = long_running(&previous, &file)?;
    names.push(GATEWAY_SERVICE.to_owned());
    let running = &work.preflight()?.running;
    names.retain(|name| running.contains(name) && !work.is_stopped_for_a_copy(name));
    Ok(Wanted::of(previous, &work.moves(), names, Side::Incumbent))
}

/// What serves while services without candidates are replaced: those with candidates, and the gateway before them.
fn beside_replaced(work: &StepContext<'_>, before: Wanted) -> Result<Wanted, AgentError> {
    let moves = work.moves();
    let candidate = work.candidate()?;
    Ok(before.only(|name| match name {
        GATEWAY_SERVICE => moves.gateway == GatewayMove::Stays,
        // Whose ports the gateway takes over, or whose replicas go one by one, the cutover itself stops.
        _ if candidate.rolls(name) || matches!(moves.gateway, GatewayMove::Comes { .. }) => false,
        _ => moves.strategy(name).is_start_first(),
    }))
}

/// The new version's gateway, and what it took over as it was. What was replaced is being judged.
fn after(work: &StepContext<'_>) -> Result<Wanted, AgentError> {
    let moves = work.moves();
    Ok(committed(work)?.only(|name| {
        let strategy = moves.strategy(name);
        name == GATEWAY_SERVICE || strategy == Strategy::Untouched || strategy.is_start_first()
    }))
}

/// All of the new version.
fn committed(work: &StepContext<'_>) -> Result<Wanted, AgentError> {
    let candidate = work.candidate()?;
    let file = work.normalised(&candidate.name)?;
    let mut names = long_running(&candidate, &file)?;
    if candidate.service(GATEWAY_SERVICE).is_some() {
        names.push(GATEWAY_SERVICE.to_owned());
    }
    Ok(Wanted::of(candidate, &work.moves(), names, Side::Candidate))
}

fn all(
    work: &StepContext<'_>,
    tries: &mut Tries,
    Wanted { release, services }: &Wanted,
) -> Result<Vec<String>, AgentError> {
    let mut told = vec![];
    let mut failed = Ok(());
    for (service, side) in services {
        // What cannot be brought back must not keep the others away.
        match keep_one(work, tries, release, service, *side) {
            Ok(text) => told.extend(text),
            Err(error) => failed = Err(error),
        }
    }
    match told.is_empty() {
        true => failed.map(|()| told),
        false => Ok(told),
    }
}

fn keep_one(
    work: &StepContext<'_>,
    tries: &mut Tries,
    release: &Release,
    service: &str,
    side: Option<Side>,
) -> Result<Option<String>, AgentError> {
    let (mine, others) = sides(work, service, side)?;
    if mine.is_empty() {
        if !tries.allows(service) || is_same_image(work, service)? && side.is_some() {
            return Ok(None);
        }
        if others.is_empty() {
            services::up(work, release, service)?;
        } else {
            services::create(work, release, service, others.len() + 1)?;
            let (made, _) = sides(work, service, side)?;
            start(work, release, &made)?;
        }
        return Ok(Some(format!(
            "{service} had lost its container; it was made again"
        )));
    }
    let is_served = mine.iter().any(Container::is_alive);
    let answers = answers(
        release,
        work.normalised(&release.name).ok().as_ref(),
        service,
    );
    let mut stopped = mine;
    stopped.retain(|c| has_to_run(work, c, is_served, answers) && tries.allows(&c.id));
    start(work, release, &stopped)?;
    Ok((!stopped.is_empty()).then(|| format!("{service} had been stopped; it was started again")))
}

/// A service's containers of one side, and those of the other.
fn sides(
    work: &StepContext<'_>,
    service: &str,
    side: Option<Side>,
) -> Result<(Vec<Container>, Vec<Container>), AgentError> {
    let Sides {
        incumbents,
        candidates,
    } = work.sides(service)?;
    Ok(match side {
        None => ([incumbents, candidates].concat(), vec![]),
        Some(Side::Incumbent) => (incumbents, candidates),
        Some(Side::Candidate) => (candidates, incumbents),
    })
}

fn start(
    work: &StepContext<'_>,
    release: &Release,
    containers: &[Container],
) -> Result<(), AgentError> {
    containers.iter().try_for_each(|container| {
        let done = work.host.start(&container.id);
        done.map_err(|e| services::could_not_start(release, &container.service, e))
    })
}

/// Whether a container that does not run should. One that did not when the transaction began is not ours to start.
fn has_to_run(
    work: &StepContext<'_>,
    container: &Container,
    is_served: bool,
    answers: bool,
) -> bool {
    let known_and_off = work.was_there(container) && !work.ran(container);
    !known_and_off
        && match container.state {
            RunState::Created => !is_served,
            RunState::Exited(code) => !has_done_its_work(&container.restart_policy, code, answers),
            RunState::Running | RunState::Restarting | RunState::Paused => false,
        }
}

/// Two versions with the same image cannot be told apart by their containers.
fn is_same_image(work: &StepContext<'_>, service: &str) -> Result<bool, AgentError> {
    let Ok(candidate) = work.candidate() else {
        return Ok(false);
    };
    let image = |release: &Release| Some(release.service(service)?.engine_id().to_owned());
    let before = work.previous()?.as_ref().and_then(image);
    Ok(before.is_some() && before == image(&candidate))
}

/// Why the new version cannot keep the requests, where the version before can take them back.
fn lost_candidate(work: &StepContext<'_>) -> Result<Option<String>, AgentError> {
    let mut lost = None;
    for service in work.moves().start_first() {
        let Sides {
            incumbents,
            candidates,
        } = work.sides(service)?;
        if !incumbents.iter().any(Container::is_alive) {
            return Ok(None);
        }
        let dead = candidates.iter().find_map(|c| match c.state {
            RunState::Exited(code) => Some(format!("{} ended with code {code}", c.name)),
            _ => None,
        });
        let gone = candidates
            .is_empty()
            .then(|| format!("the new container of {service} is gone"));
        lost = lost.or(dead).or(gone);
    }
    Ok(lost)
}

/// Has the transaction unwind, if it still can: it is another version that somebody wants.
fn leave_to(
    work: &StepContext<'_>,
    phase: Phase,
    release: &Release,
) -> Result<Vec<String>, AgentError> {
    let is_its_own = work.candidate().is_ok_and(|own| own.name == release.name);
    if is_its_own || Duty::at(phase, false) == Duty::Committed {
        return Ok(vec![]);
    }
    let reason = format!("somebody brought {} back by hand", release.tag);
    wish_to_stop(work, &reason)?;
    Ok(vec![])
}

fn wish_to_stop(work: &StepContext<'_>, reason: &str) -> Result<(), AgentError> {
    work.may_act()?;
    let wish = work.layout.abort(work.seq()?);
    match wish.exists() {
        true => Ok(()),
        false => Ok(durable::replace(&wish, reason.as_bytes(), 0o600)?),
    }
}

/// Gives the requests back at once, and has the transaction unwind.
fn go_back(work: &StepContext<'_>, reason: &str) -> Result<String, AgentError> {
    traffic::set(work, Traffic::RETURNED)?;
    wish_to_stop(work, reason)?;
    Ok(format!(
        "{reason} while it had the requests; the version before has them again"
    ))
}
