//! The verbs of `belay agent` about the host as a whole: what it is like, its backups, logs and restarts.
//!
//! Runs on the host, one short process a call. A verb answers in JSON on the channel and may die with it at any moment;
//! the engine is another process, which never writes to a channel. An empty line says "still here" while a verb waits.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use super::backup::aside::{Action, Aside};
use super::backup::{EntryRecord, VerifyError};
use super::channel::answer;
use super::contact::{prepared, settle};
use super::docker::RealHost;
use super::engine_process::take;
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::lock::Locking;
use super::{adopt, backup, backup_now, facts, outlook, repair, restart, state, supervise};
use belay_model::judgement::health::TimedAnswer;
use belay_model::transaction::journal::Holder;
use belay_model::transaction::outcome::{ServiceLog, with_causes};
use belay_model::transaction::plan::Plan;
use belay_prober::ask_timed;
use belay_wire::{
    Answer, BackupFacts, DataOutlook, Examined, HostFacts, LookBack, Repaired, Restarted,
};

/// How much of a tar is written at once, in bytes.
const PACKED_AT_ONCE: usize = 256 * 1024;

/// How long a port of this machine may take to be reached.
const CONNECT: Duration = Duration::from_millis(500);

/// `facts`: what the host is like. Anything that a dead engine left is settled first.
#[must_use]
pub fn facts(layout: &Layout) -> Answer<HostFacts> {
    answer(prepared(layout).and_then(|()| {
        settle(layout)?;
        facts::gather(&RealHost::new(), layout)
    }))
}

/// `aside`: moves content aside, compares it, moves it back or removes it. Runs inside a helper container, whose engine's
/// caller reads the last word and the exit code.
pub fn aside(action: &str, aside: &Aside) -> u8 {
    let done = match Action::ALL.into_iter().find(|a| a.name() == action) {
        Some(Action::SetAside) => aside.set_aside().map_err(AgentError::from),
        Some(Action::PutBack) => aside.put_back().map_err(AgentError::from),
        Some(Action::Forget) => aside.forget().map_err(AgentError::from),
        Some(Action::Check) => serde_json::from_reader(io::stdin().lock())
            .map_err(AgentError::from)
            .and_then(|wanted: Vec<EntryRecord>| aside.check(&wanted).map_err(AgentError::from)),
        None => Err(AgentError::new(format!("there is no action {action}"))),
    };
    // Whoever started the container may be gone.
    match done {
        Ok(()) => {
            let _ = writeln!(io::stdout(), "{}", backup::DONE);
            0
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", with_causes(&error));
            1
        }
    }
}

/// `pack`: writes what is at a path as a tar to the standard output. Runs inside a helper container, whose engine's caller
/// reads the record at its end and the exit code.
#[must_use]
pub fn pack(dir: &Path) -> u8 {
    let mut out = BufWriter::with_capacity(PACKED_AT_ONCE, io::stdout().lock());
    match backup::pack::pack(dir, &mut out) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            1
        }
    }
}

/// `recover`: settles what a dead engine left, and says what is still open.
#[must_use]
pub fn recover(layout: &Layout) -> Answer<HostFacts> {
    facts(layout)
}

/// `ask`: asks an endpoint once, from where the host is.
#[must_use]
pub fn ask(url: &str, timeout: Duration) -> Answer<TimedAnswer> {
    Answer::Ok(ask_timed(url, timeout, false))
}

/// `backup`: a backup by itself, under the lock.
#[must_use]
pub fn backup(layout: &Layout, plan: &Plan) -> Answer<BackupFacts> {
    answer(try_backup(layout, plan))
}

fn try_backup(layout: &Layout, plan: &Plan) -> Result<BackupFacts, AgentError> {
    prepared(layout)?;
    settle(layout)?;
    let host = RealHost::new();
    let lock = match take(&host, layout, &plan.holder)? {
        Locking::Held(lock) => lock,
        Locking::Busy(holder) => return Err(Holder::busy(holder.as_ref()).into()),
    };
    adopt::adopt(&host, layout, &lock, plan)?;
    backup_now::backup_now(&host, layout, plan, &lock)
}

/// `examine`: which of these ports are taken.
#[must_use]
pub fn examine(ports: &[u16]) -> Answer<Examined> {
    let is_taken = |port: &&u16| {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], **port));
        std::net::TcpStream::connect_timeout(&address, CONNECT).is_ok()
    };
    Answer::Ok(Examined {
        taken: ports.iter().filter(is_taken).copied().collect(),
    })
}

/// `outlook`: what a plan would mean for the application's data. Changes nothing.
#[must_use]
pub fn outlook(layout: &Layout, plan: &Plan) -> Answer<DataOutlook> {
    answer(prepared(layout).and_then(|()| outlook::outlook(&RealHost::new(), layout, plan)))
}

/// `restart`: the services of what serves, or one, under the lock.
#[must_use]
pub fn restart(layout: &Layout, plan: &Plan, service: Option<&str>) -> Answer<Vec<Restarted>> {
    answer(try_restart(layout, plan, service))
}

fn try_restart(
    layout: &Layout,
    plan: &Plan,
    service: Option<&str>,
) -> Result<Vec<Restarted>, AgentError> {
    prepared(layout)?;
    settle(layout)?;
    let host = RealHost::new();
    match take(&host, layout, &plan.holder)? {
        Locking::Held(lock) => restart::restart(&host, layout, &lock, service),
        Locking::Busy(holder) => Err(Holder::busy(holder.as_ref()).into()),
    }
}

/// `repair`: looks at every file of Belay's, sets aside what is damaged, rebuilds it, settles what was interrupted, and
/// looks at what runs.
#[must_use]
pub fn repair(layout: &Layout) -> Answer<Repaired> {
    answer(try_repair(layout))
}

fn try_repair(layout: &Layout) -> Result<Repaired, AgentError> {
    prepared(layout)?;
    let host = RealHost::new();
    let holder = Holder {
        what: "repair".to_owned(),
        ..Holder::default()
    };
    let files = match take(&host, layout, &holder)? {
        Locking::Held(lock) => repair::whole(layout, &lock, host.now()),
        Locking::Busy(holder) => return Err(Holder::busy(holder.as_ref()).into()),
    };
    // Best effort: each transaction does it again, and says why it could not.
    let _ = supervise::ensure(layout);
    settle(layout)?;
    repair::report(&host, layout, files)
}

/// `backups`: every backup; with `verify`, each read back whole.
#[must_use]
pub fn backups(layout: &Layout, verify: bool) -> Answer<Vec<BackupFacts>> {
    let mut all = facts::backup_facts(layout);
    if verify {
        for backup in &mut all {
            match backup::verify(layout.root(), &backup.name) {
                Ok(_) => backup.problem = None,
                // What is wrong with it is known already: it has no record.
                Err(VerifyError::Missing(_)) => {}
                Err(error) => backup.problem = Some(with_causes(&error)),
            }
            backup.verified = backup.problem.is_none();
        }
    }
    Answer::Ok(all)
}

/// `logs`: the last lines of every service (or one) of what serves.
#[must_use]
pub fn logs(layout: &Layout, service: Option<&str>, lines: u32) -> Answer<Vec<ServiceLog>> {
    answer(try_logs(layout, service, lines))
}

fn try_logs(
    layout: &Layout,
    service: Option<&str>,
    lines: u32,
) -> Result<Vec<ServiceLog>, AgentError> {
    let current = state::current(layout)?;
    let current = current.ok_or_else(|| {
        AgentError::new("nothing is deployed here").next("push a release tag first")
    })?;
    let host = RealHost::new();
    let mut logs = vec![];
    for container in host.containers(&current.project)? {
        if service.is_none_or(|wanted| wanted == container.service) {
            let text = host.logs(&container.id, lines)?;
            logs.push(ServiceLog {
                service: container.service,
                text,
            });
        }
    }
    Ok(logs)
}

/// `look-back`: what the deployments that went live came to, and what the services complained of since.
#[must_use]
pub fn look_back(layout: &Layout, since: jiff::Timestamp) -> Answer<LookBack> {
    answer(facts::look_back(&RealHost::new(), layout, since))
}
