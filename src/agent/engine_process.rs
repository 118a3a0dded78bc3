//! The process that does the work: takes the lock, settles what another one left, and carries out one plan.
//!
//! Runs on the host, in a session of its own, so that no channel's end is its end. What it comes to is in the journal; why it
//! did not begin is left beside its plan, for the verb that started it.

use std::io;
use std::path::PathBuf;

use super::docker::RealHost;
use super::engine::{self, Ending};
use super::error::{AgentError, EngineError};
use super::host::Host;
use super::layout::Layout;
use super::lock::{self, HostLock, Locking};
use super::records;
use super::revive::Revival;
use super::spawn::log;
use super::{adopt, durable, repair, revive, state, supervise, watch};
use belay_model::transaction::journal::{Event, Holder};
use belay_model::transaction::outcome::{Failure, with_causes};
use belay_model::transaction::plan::Plan;
use belay_model::transaction::step::Step;

/// Exit code of an engine that found the lock taken (sysexits' "temporary failure").
pub const EXIT_BUSY: u8 = 75;

/// Exit code of an engine that was suspended and woke after another one had taken its place.
const EXIT_OVERTAKEN: u8 = 76;

/// `engine`: the detached process that does the work. Returns its exit code; its results are in the journal.
#[must_use]
pub fn engine(layout: &Layout, tx: Option<&str>) -> u8 {
    // Leaves the session of the channel that started it, so that its end is not this process's end. It fails only for a
    // process that leads a session already, which is what is wanted.
    let _ = rustix::process::setsid();
    match try_engine(layout, tx) {
        Ok(code) => code,
        Err(error) => {
            let failure = error.into_failure();
            if let Some(tx) = tx {
                // Best effort: without it the caller reports the engine's log instead.
                let _ = records::write_json(&refusal_path(layout, tx), &failure);
            }
            log(layout, &failure.error);
            1
        }
    }
}

fn try_engine(layout: &Layout, tx: Option<&str>) -> Result<u8, AgentError> {
    let guards = Guards {
        watch: watch::start,
        supervise: supervise::ensure,
    };
    let host = RealHost::new();
    host.prepare();
    engine_on(&host, layout, tx, &guards)
}

/// What an engine sets up against its own end and the host's: processes and entries of the host, which a simulation of
/// one has no use for.
pub struct Guards {
    /// Starts what lets another engine go on when this one dies.
    pub watch: fn(&Layout) -> io::Result<()>,
    /// Tells what it set up, where there is something to tell.
    pub supervise: fn(&Layout) -> Option<String>,
}

/// What an engine's process does: takes the lock, settles what another left, and carries out the plan that waits under
/// the name `tx`, if one is named. Returns the exit code.
pub fn engine_on<H: Host + Revival>(
    host: &H,
    layout: &Layout,
    tx: Option<&str>,
    guards: &Guards,
) -> Result<u8, AgentError> {
    let plan = match tx {
        Some(tx) => waiting_plan(layout, tx)?,
        None => None,
    };
    let holder = plan
        .as_ref()
        .map_or_else(recovery_holder, |plan| plan.holder.clone());
    let lock = match take(host, layout, &holder)? {
        Locking::Held(lock) => lock,
        Locking::Busy(_) => return Ok(EXIT_BUSY),
    };
    if plan.is_some()
        && let Err(error) = (guards.watch)(layout)
    {
        log(
            layout,
            &format!("there is no watch beside this engine: {error}"),
        );
    }
    if settle(host, layout, &lock)? == Mandate::Overtaken {
        return Ok(EXIT_OVERTAKEN);
    }
    match plan {
        Some(plan) => carry_out(host, layout, &lock, &plan, guards),
        None => Ok(0),
    }
}

/// The plan that waits under a name, if it was not taken back.
fn waiting_plan(layout: &Layout, tx: &str) -> Result<Option<Plan>, AgentError> {
    Ok(records::read_json(&layout.incoming_plan(tx))?)
}

/// Whether an engine is still the one that may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mandate {
    Current,
    Overtaken,
}

/// Rebuilds what is damaged of Belay's files, then settles what earlier engines, an emergency path, or Docker's own death
/// have left.
fn settle<H: Host + Revival>(
    host: &H,
    layout: &Layout,
    lock: &HostLock,
) -> Result<Mandate, AgentError> {
    for finding in repair::safely(layout, lock, host.now()) {
        if finding.done.is_some() {
            log(layout, &finding.describe());
        }
    }
    let endings = engine::recover(host, layout, lock, "the engine before was gone");
    let Some(endings) = unless_overtaken(layout, endings)? else {
        return Ok(Mandate::Overtaken);
    };
    if let Some(Ending::Stuck(step)) = endings
        .iter()
        .find(|ending| matches!(ending, Ending::Stuck(_)))
    {
        return Err(stuck(*step));
    }
    let taken = adopt::take_note(host, layout, lock, adopt::Found::AtRest)?;
    if let Some(error) = taken.and_then(|taken| taken.incomplete) {
        log(layout, &with_causes(&error));
    }
    match revive::revive(host, layout, lock) {
        Ok(told) => told.iter().for_each(|text| log(layout, text)),
        Err(error) => log(layout, &with_causes(&error)),
    }
    Ok(Mandate::Current)
}

/// Begins with a plan and runs it to its end, unless it has begun already. Returns the exit code.
fn carry_out(
    host: &dyn Host,
    layout: &Layout,
    lock: &HostLock,
    plan: &Plan,
    guards: &Guards,
) -> Result<u8, AgentError> {
    if state::find(layout, &plan.tx)?.is_some() {
        return Ok(0);
    }
    adopt::adopt(host, layout, lock, plan)?;
    let mut journal = engine::begin(host, layout, lock, plan)?;
    if is_withdrawn(layout, &plan.tx)? {
        let (seq, reason) = (state::seq_of(&journal), withdrawn().error);
        durable::replace(&layout.abort(seq), reason.as_bytes(), 0o600)?;
    }
    if let Some(text) = (guards.supervise)(layout) {
        let at = host.now();
        journal
            .append(at, Event::Note { text })
            .map_err(EngineError::from)?;
    }
    let ended = engine::run(host, layout, lock, &mut journal, plan);
    match unless_overtaken(layout, ended)? {
        Some(_) => Ok(0),
        None => Ok(EXIT_OVERTAKEN),
    }
}

/// An engine that was overtaken says so in its log only: everything else is the newer one's.
fn unless_overtaken<T>(
    layout: &Layout,
    ended: Result<T, EngineError>,
) -> Result<Option<T>, AgentError> {
    match ended {
        Ok(ended) => Ok(Some(ended)),
        Err(EngineError::Overtaken(overtaken)) => {
            log(layout, &with_causes(&overtaken));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn stuck(step: Step) -> AgentError {
    AgentError::new(format!("an earlier transaction is stuck: its step {step} could not be undone"))
        .host("it is as that transaction's failure left it; nothing of this one was begun")
        .next("see `belay status` for what stands in the way, mend it, and start again: it is tried anew each time")
}

fn recovery_holder() -> Holder {
    Holder {
        what: "recovery".to_owned(),
        ..Holder::default()
    }
}

pub(super) fn take(
    host: &dyn Host,
    layout: &Layout,
    holder: &Holder,
) -> Result<Locking, AgentError> {
    let holder = Holder {
        since: Some(host.now()),
        pid: Some(std::process::id()),
        ..holder.clone()
    };
    lock::take(layout, &holder).map_err(|e| AgentError::doing("could not take the lock", e))
}

pub(super) fn refusal_path(layout: &Layout, tx: &str) -> PathBuf {
    layout.incoming().join(format!("{tx}.refused"))
}

/// Whether somebody took back the plan of a transaction that has not begun.
pub(super) fn is_withdrawn(layout: &Layout, tx: &str) -> Result<bool, AgentError> {
    let plan = records::read_optional(&layout.incoming_plan(tx))?;
    Ok(plan.is_none())
}

/// The failure of a transaction that was taken back in time.
pub(super) fn withdrawn() -> Failure {
    Failure::new("the run was ended before its transaction began")
        .host("nothing of it was begun")
        .next("run it again when it is wanted")
}
