//! The verbs of `belay agent`: what the runner asks of a host.
//!
//! Runs on the host, one short process a call. A verb answers in JSON on the channel and may die with it at any moment;
//! the engine is another process, which never writes to a channel. An empty line says "still here" while a verb waits.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::backup::EntryRecord;
use super::backup::aside::{Action, Aside};
use super::docker::RealHost;
use super::engine::{self, Ending, EngineError};
use super::host::Host;
use super::layout::Layout;
use super::lock::{self, Locking};
use super::revive::Revival;
use super::{adopt, backup, durable, facts, restart, revive, state, steps, supervise, watch};
use crate::model::compose::sha256;
use crate::model::health::TimedAnswer;
use crate::model::journal::{self, End, Entry, Event, Holder, Next, next};
use crate::model::outcome::{Failure, ServiceLog, with_causes};
use crate::model::plan::{ConfirmRule, Plan};
use crate::model::step::Step;
use crate::prober::ask_timed;
use crate::wire::{
    Answer, BackupFacts, Begun, Confirmed, Examined, HostFacts, Line, Loaded, LookBack, Restarted,
    Staged,
};

/// How often a waiting verb looks again.
const LOOK: Duration = Duration::from_millis(100);
/// How often a waiting verb says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a started engine may take to show itself.
const ENGINE_PATIENCE: Duration = Duration::from_secs(20);
/// How long a decided confirmation may take to reach the journal.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(60);
/// How long a port of this machine may take to be reached.
const CONNECT: Duration = Duration::from_millis(500);
/// How many engines `follow` starts for a transaction that none works on.
const RECOVERIES: u32 = 3;

/// Writes an answer as one line.
pub fn say<T: Serialize>(out: &mut dyn Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    match result {
        Ok(value) => Answer::Ok(value),
        Err(failure) => Answer::Failed(failure),
    }
}

fn stumbled(error: impl std::error::Error) -> Failure {
    Failure::of(&error)
}

fn prepared(layout: &Layout) -> Result<(), Failure> {
    if !layout.root().is_dir() {
        return Err(Failure::new(format!(
            "there is no directory {} on the host",
            layout.root().display()
        ))
        .host("nothing was changed")
        .next(format!(
            "create it and give it to the user that deploys: mkdir -p {0} && chown USER {0}",
            layout.root().display()
        )));
    }
    state::prepare(layout).map_err(|e| {
        stumbled(e).next(format!(
            "give {} to the user that deploys",
            layout.root().display()
        ))
    })
}

/// `facts`: what the host is like. Anything that a dead engine left is settled first.
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
        Some(Action::SetAside) => aside.set_aside().map_err(stumbled),
        Some(Action::PutBack) => aside.put_back().map_err(stumbled),
        Some(Action::Forget) => aside.forget().map_err(stumbled),
        Some(Action::Check) => serde_json::from_reader(io::stdin().lock())
            .map_err(stumbled)
            .and_then(|wanted: Vec<EntryRecord>| aside.check(&wanted).map_err(stumbled)),
        None => Err(Failure::new(format!("there is no action {action}"))),
    };
    // Whoever started the container may be gone.
    match done {
        Ok(()) => {
            let _ = writeln!(io::stdout(), "{}", backup::DONE);
            0
        }
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{}", failure.error);
            1
        }
    }
}

/// Lets an engine go on with what a dead one left, take note of an emergency path, and start what Docker left stopped; waits
/// for it.
fn settle(layout: &Layout) -> Result<(), Failure> {
    let open = state::open_transactions(layout).map_err(stumbled)?;
    let busy = lock::holder(layout).map_err(stumbled)?.is_some();
    let stale = adopt::unrecorded(layout)?.is_some();
    // A Docker that does not answer is told by what comes next, not here.
    let left = || revive::is_needed(&RealHost::new(), layout).unwrap_or(false);
    if busy || (open.is_empty() && !stale && !left()) {
        return Ok(());
    }
    let mut engine = spawn_engine(layout, &["--recover"]).map_err(stumbled)?;
    engine.wait().map(drop).map_err(stumbled)
}

/// `recover`: settles what a dead engine left, and says what is still open.
pub fn recover(layout: &Layout) -> Answer<HostFacts> {
    facts(layout)
}

/// `load`: takes an image stream from the channel into the engine, and says what came of it.
pub fn load(layout: &Layout, tx: &str, references: &[String]) -> Answer<Loaded> {
    answer(try_load(layout, tx, references))
}

fn try_load(layout: &Layout, tx: &str, references: &[String]) -> Result<Loaded, Failure> {
    prepared(layout)?;
    let host = RealHost::new();
    // Written down first: a prune of another transaction must not take what is just arriving.
    let staged = Staged {
        references: references.to_vec(),
        since: host.now(),
    };
    state::write_json(&layout.staged(tx), &staged).map_err(stumbled)?;
    let output = super::command::Call::new(["docker", "load"])
        .command()
        .stdin(Stdio::inherit())
        .output()
        .map_err(|e| Failure::new(format!("could not run docker load: {e}")))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Loaded {
        // With the containerd store it ends well although it could not unpack a layer, and says so only.
        is_complete: output.status.success() && !said.contains("Error unpacking image"),
        said: said.trim().to_owned(),
    })
}

/// `begin`: hands a plan to an engine of its own. Asked again with the same plan, it finds the one that runs already.
pub fn begin(layout: &Layout, plan: &Plan, out: &mut dyn Write) -> Answer<Begun> {
    answer(try_begin(layout, plan, out))
}

fn try_begin(layout: &Layout, plan: &Plan, out: &mut dyn Write) -> Result<Begun, Failure> {
    prepared(layout)?;
    let text = serde_json::to_vec(plan).map_err(stumbled)?;
    durable::replace(&layout.incoming_plan(&plan.tx), &text, 0o600).map_err(stumbled)?;
    let patience = Duration::from_millis(plan.limits.lock_wait_ms);
    let began = Instant::now();
    let mut heartbeat = Heartbeat::new();
    loop {
        if let Some((seq, _)) = state::find(layout, &plan.tx).map_err(stumbled)? {
            return Ok(Begun::Running { seq });
        }
        if is_withdrawn(layout, &plan.tx)? {
            return Ok(Begun::Refused(withdrawn()));
        }
        let Some(holder) = lock::holder(layout).map_err(stumbled)? else {
            match start_engine(layout, plan, &mut heartbeat, out)? {
                Some(begun) => return Ok(begun),
                // Another engine was quicker; wait for it like for any other.
                None => continue,
            }
        };
        if began.elapsed() >= patience {
            state::remove(&layout.incoming_plan(&plan.tx)).map_err(stumbled)?;
            forget_staged(&RealHost::new(), layout, &plan.tx)?;
            return Ok(Begun::Busy { holder });
        }
        heartbeat.beat(out);
        std::thread::sleep(LOOK);
    }
}

/// Starts an engine for a plan and waits until it shows itself. `None`: it found the lock taken.
fn start_engine(
    layout: &Layout,
    plan: &Plan,
    heartbeat: &mut Heartbeat,
    out: &mut dyn Write,
) -> Result<Option<Begun>, Failure> {
    let mut engine = spawn_engine(layout, &["--tx", &plan.tx]).map_err(stumbled)?;
    let began = Instant::now();
    loop {
        if let Some((seq, _)) = state::find(layout, &plan.tx).map_err(stumbled)? {
            return Ok(Some(Begun::Running { seq }));
        }
        if let Some(status) = engine.try_wait().map_err(stumbled)? {
            return ended_without_journal(layout, plan, status);
        }
        // Settling an older transaction comes first and may take as long as an unwind takes; only silence is a defect.
        let busy = lock::holder(layout).map_err(stumbled)?.is_some();
        if !busy && began.elapsed() > ENGINE_PATIENCE {
            return Err(Failure::new("the engine on the host did not start")
                .next(format!("look at {}", layout.engine_log().display())));
        }
        heartbeat.beat(out);
        std::thread::sleep(LOOK);
    }
}

fn ended_without_journal(
    layout: &Layout,
    plan: &Plan,
    status: ExitStatus,
) -> Result<Option<Begun>, Failure> {
    if status.code() == Some(i32::from(EXIT_BUSY)) {
        return Ok(None);
    }
    // A very short transaction may have begun and ended between two looks.
    if let Some((seq, _)) = state::find(layout, &plan.tx).map_err(stumbled)? {
        return Ok(Some(Begun::Running { seq }));
    }
    if is_withdrawn(layout, &plan.tx)? {
        return Ok(Some(Begun::Refused(withdrawn())));
    }
    forget_staged(&RealHost::new(), layout, &plan.tx)?;
    let refusal = state::read_optional(&refusal_path(layout, &plan.tx)).map_err(stumbled)?;
    state::remove(&refusal_path(layout, &plan.tx)).map_err(stumbled)?;
    state::remove(&layout.incoming_plan(&plan.tx)).map_err(stumbled)?;
    let failure = refusal
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_else(|| {
            Failure::new(format!(
                "the engine on the host ended with {status} before it began"
            ))
            .next(format!("look at {}", layout.engine_log().display()))
        });
    Ok(Some(Begun::Refused(failure)))
}

/// Takes away the images that were sent for a transaction that is not going to begin, unless a release has them, too.
pub fn forget_staged(host: &dyn Host, layout: &Layout, tx: &str) -> Result<(), Failure> {
    let path = layout.staged(tx);
    let Some(text) = state::read_optional(&path).map_err(stumbled)? else {
        return Ok(());
    };
    let staged: Staged = serde_json::from_slice(&text).map_err(stumbled)?;
    let releases = state::releases(layout).map_err(stumbled)?;
    let is_needed = |id: &str| {
        let mut services = releases.iter().flat_map(|release| &release.services);
        services.any(|service| service.engine_id() == id)
    };
    for reference in &staged.references {
        let image = host.image(reference).map_err(stumbled)?;
        if image.is_some_and(|image| !is_needed(&image.id)) {
            host.forget_image(reference).map_err(stumbled)?;
        }
    }
    state::remove(&path).map_err(stumbled)
}

fn refusal_path(layout: &Layout, tx: &str) -> std::path::PathBuf {
    layout.incoming().join(format!("{tx}.refused"))
}

/// `follow`: tells a transaction's records from number `from` on until it is over. It may be asked again at any time.
pub fn follow(layout: &Layout, tx: &str, from: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut told = from;
    let mut heartbeat = Heartbeat::new();
    let mut recoveries = 0;
    loop {
        // The lock is looked at before the journal: an engine that ends in between has written its last record by then.
        let engine_lives = lock::holder(layout)?.is_some();
        let entries = match state::find(layout, tx) {
            Ok(Some((seq, entries))) => {
                if entries.len() as u64 > told {
                    super::journal::make_durable(&layout.journal(seq)).map_err(io::Error::other)?;
                }
                entries
            }
            Ok(None) => {
                return say(
                    out,
                    &Line::Stopped(Failure::new("the host has no record of this transaction")),
                );
            }
            Err(error) => return say(out, &Line::Stopped(Failure::of(&error))),
        };
        for entry in entries
            .iter()
            .skip(usize::try_from(told).unwrap_or(usize::MAX))
        {
            say(out, &Line::Entry(Box::new(entry.clone())))?;
            told += 1;
        }
        if matches!(next(&entries), Next::Closed(_) | Next::Stuck(_)) {
            return Ok(());
        }
        if !engine_lives {
            if recoveries == RECOVERIES {
                let failure = Failure::new("no engine on the host can go on with this transaction")
                    .next(format!("look at {}", layout.engine_log().display()));
                return say(out, &Line::Stopped(failure));
            }
            recoveries += 1;
            spawn_engine(layout, &["--recover"])?.wait()?;
        }
        heartbeat.beat_line(out)?;
        std::thread::sleep(LOOK);
    }
}

/// `confirm`: leaves the runner's confirmation for the engine and waits for what the engine makes of it.
pub fn confirm(layout: &Layout, tx: &str, nonce: &str, out: &mut dyn Write) -> Answer<Confirmed> {
    answer(try_confirm(layout, tx, nonce, out))
}

fn try_confirm(
    layout: &Layout,
    tx: &str,
    nonce: &str,
    out: &mut dyn Write,
) -> Result<Confirmed, Failure> {
    leave_confirmation(layout, tx, nonce)?;
    let began = Instant::now();
    let mut heartbeat = Heartbeat::new();
    loop {
        if let Some(decided) = decided(layout, tx)? {
            return Ok(decided);
        }
        let engine_lives = lock::holder(layout).map_err(stumbled)?.is_some();
        if !engine_lives {
            spawn_engine(layout, &["--recover"])
                .and_then(|mut e| e.wait())
                .map_err(stumbled)?;
        } else if began.elapsed() > CONFIRM_PATIENCE {
            return Err(Failure::new("the engine did not decide in time"));
        }
        heartbeat.beat(out);
        std::thread::sleep(LOOK);
    }
}

/// Leaves a runner's confirmation where the engine looks for it, if it is that of this very transaction.
pub fn leave_confirmation(layout: &Layout, tx: &str, nonce: &str) -> Result<(), Failure> {
    let (seq, _) = find(layout, tx)?;
    if let Ok(plan) = state::plan(layout, seq)
        && let ConfirmRule::Runner { nonce_sha256, .. } = &plan.confirm
    {
        if sha256(nonce.as_bytes()) != *nonce_sha256 {
            return Err(Failure::new(
                "this is not the confirmation of that transaction",
            ));
        }
        durable::replace(&layout.confirmation(seq), nonce.as_bytes(), 0o600).map_err(stumbled)?;
    }
    Ok(())
}

/// `ask`: asks an endpoint once, from where the host is.
pub fn ask(url: &str, timeout: Duration) -> Answer<TimedAnswer> {
    Answer::Ok(ask_timed(url, timeout, false))
}

/// `extend`: asks the engine to wait longer for the confirmation, so many milliseconds from when it reads this. What has
/// been decided already stays so.
pub fn extend(layout: &Layout, tx: &str, by_ms: u64) -> Answer<()> {
    answer(leave_extension(layout, tx, by_ms))
}

/// The same, before it is put into words.
pub fn leave_extension(layout: &Layout, tx: &str, by_ms: u64) -> Result<(), Failure> {
    let (seq, entries) = find(layout, tx)?;
    if decision(&entries).is_some() {
        return Ok(());
    }
    let text = by_ms.to_string();
    durable::replace(&layout.extension(seq), text.as_bytes(), 0o600).map_err(stumbled)
}

/// What the host has decided about a transaction, for whoever will believe it; `None`: nothing yet.
pub fn decided(layout: &Layout, tx: &str) -> Result<Option<Confirmed>, Failure> {
    let (seq, entries) = find(layout, tx)?;
    let decided = decision(&entries);
    if decided.is_some() {
        super::journal::make_durable(&layout.journal(seq)).map_err(stumbled)?;
    }
    Ok(decided)
}

/// What the host has decided: nothing yet, to commit, or to go back.
fn decision(entries: &[Entry]) -> Option<Confirmed> {
    if journal::is_committed(entries) {
        return Some(Confirmed::Committed);
    }
    match next(entries) {
        Next::Closed(end) => Some(Confirmed::Unwound { end: Some(end) }),
        Next::Undo(_) | Next::Stuck(_) | Next::Finish(End::Unwound) => {
            Some(Confirmed::Unwound { end: None })
        }
        Next::Perform(_) | Next::Finish(End::Committed) => None,
    }
}

fn find(layout: &Layout, tx: &str) -> Result<(u64, Vec<Entry>), Failure> {
    let found = state::find(layout, tx).map_err(stumbled)?;
    found.ok_or_else(|| Failure::new("the host has no record of this transaction"))
}

/// `abort`: asks the engine to unwind. After the commit point it changes nothing. What has not begun does not begin any
/// more.
pub fn abort(layout: &Layout, tx: &str, reason: &str) -> Answer<Confirmed> {
    answer(try_abort(&RealHost::new(), layout, tx, reason))
}

/// The same, on any host.
pub fn try_abort(
    host: &dyn Host,
    layout: &Layout,
    tx: &str,
    reason: &str,
) -> Result<Confirmed, Failure> {
    if state::find(layout, tx).map_err(stumbled)?.is_none() {
        // Before the second look: an engine that begins meanwhile looks for its plan afterwards, and goes back.
        state::remove(&layout.incoming_plan(tx)).map_err(stumbled)?;
        forget_staged(host, layout, tx)?;
        if state::find(layout, tx).map_err(stumbled)?.is_none() {
            return Ok(Confirmed::Unwound {
                end: Some(End::Unwound),
            });
        }
    }
    if let Some(decided) = decided(layout, tx)? {
        return Ok(decided);
    }
    let (seq, _) = find(layout, tx)?;
    durable::replace(&layout.abort(seq), reason.as_bytes(), 0o600).map_err(stumbled)?;
    Ok(Confirmed::Unwound { end: None })
}

/// Whether somebody took back the plan of a transaction that has not begun.
fn is_withdrawn(layout: &Layout, tx: &str) -> Result<bool, Failure> {
    let plan = state::read_optional(&layout.incoming_plan(tx)).map_err(stumbled)?;
    Ok(plan.is_none())
}

/// The failure of a transaction that was taken back in time.
fn withdrawn() -> Failure {
    Failure::new("the run was ended before its transaction began")
        .host("nothing of it was begun")
        .next("run it again when it is wanted")
}

/// `backup`: a backup by itself, under the lock.
pub fn backup(layout: &Layout, plan: &Plan) -> Answer<BackupFacts> {
    answer(try_backup(layout, plan))
}

fn try_backup(layout: &Layout, plan: &Plan) -> Result<BackupFacts, Failure> {
    prepared(layout)?;
    settle(layout)?;
    let host = RealHost::new();
    let lock = match take(&host, layout, &plan.holder)? {
        Locking::Held(lock) => lock,
        Locking::Busy(holder) => return Err(busy(holder.as_ref())),
    };
    adopt::adopt(&host, layout, &lock, plan)?;
    steps::backup_now(&host, layout, plan, &lock)
}

/// `examine`: which of these ports are taken.
pub fn examine(ports: &[u16]) -> Answer<Examined> {
    let is_taken = |port: &&u16| {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], **port));
        std::net::TcpStream::connect_timeout(&address, CONNECT).is_ok()
    };
    Answer::Ok(Examined {
        taken: ports.iter().filter(is_taken).copied().collect(),
    })
}

/// `restart`: the services of what serves, or one, under the lock.
pub fn restart(layout: &Layout, plan: &Plan, service: Option<&str>) -> Answer<Vec<Restarted>> {
    answer(try_restart(layout, plan, service))
}

fn try_restart(
    layout: &Layout,
    plan: &Plan,
    service: Option<&str>,
) -> Result<Vec<Restarted>, Failure> {
    prepared(layout)?;
    settle(layout)?;
    let host = RealHost::new();
    match take(&host, layout, &plan.holder)? {
        Locking::Held(lock) => restart::restart(&host, layout, &lock, service),
        Locking::Busy(holder) => Err(busy(holder.as_ref())),
    }
}

/// The failure of finding the lock taken: who holds it, and since when.
pub fn busy(holder: Option<&Holder>) -> Failure {
    let who = holder.map_or_else(|| "somebody".to_owned(), describe_holder);
    Failure::new(format!("the host is busy: {who}"))
        .host("that transaction goes on; nothing of this one was begun")
        .next("wait for it to end, or raise lock-wait")
}

fn describe_holder(holder: &Holder) -> String {
    let mut text = holder.what.clone();
    if let Some(actor) = &holder.actor {
        text.push_str(&format!(" by {actor}"));
    }
    if let Some(since) = holder.since {
        text.push_str(&format!(" since {since}"));
    }
    if let Some(url) = &holder.run_url {
        text.push_str(&format!(", {url}"));
    }
    text
}

/// `backups`: every backup; with `verify`, each read back whole.
pub fn backups(layout: &Layout, verify: bool) -> Answer<Vec<BackupFacts>> {
    let mut all = facts::backup_facts(layout);
    if verify {
        for backup in &mut all {
            backup.problem = backup::verify(layout.root(), &backup.name)
                .err()
                .map(|e| Failure::of(&e).error);
            backup.verified = backup.problem.is_none();
        }
    }
    Answer::Ok(all)
}

/// `logs`: the last lines of every service (or one) of what serves.
pub fn logs(layout: &Layout, service: Option<&str>, lines: u32) -> Answer<Vec<ServiceLog>> {
    answer(try_logs(layout, service, lines))
}

fn try_logs(
    layout: &Layout,
    service: Option<&str>,
    lines: u32,
) -> Result<Vec<ServiceLog>, Failure> {
    let current = state::current(layout).map_err(stumbled)?;
    let current = current
        .ok_or_else(|| Failure::new("nothing is deployed here").next("push a release tag first"))?;
    let host = RealHost::new();
    let mut logs = vec![];
    for container in host.containers(&current.project).map_err(stumbled)? {
        if service.is_none_or(|wanted| wanted == container.service) {
            let text = host.logs(&container.id, lines).map_err(stumbled)?;
            logs.push(ServiceLog {
                service: container.service,
                text,
            });
        }
    }
    Ok(logs)
}

/// `look-back`: what the deployments that went live came to, and what the services complained of since.
pub fn look_back(layout: &Layout, since: jiff::Timestamp) -> Answer<LookBack> {
    answer(facts::look_back(&RealHost::new(), layout, since).map_err(stumbled))
}

/// Exit code of an engine that found the lock taken (sysexits' "temporary failure").
pub const EXIT_BUSY: u8 = 75;
/// Exit code of an engine that was suspended and woke after another one had taken its place.
const EXIT_OVERTAKEN: u8 = 76;

/// `engine`: the detached process that does the work. Returns its exit code; its results are in the journal.
pub fn engine(layout: &Layout, tx: Option<&str>) -> u8 {
    // Leaves the session of the channel that started it, so that its end is not this process's end. It fails only for a
    // process that leads a session already, which is what is wanted.
    let _ = rustix::process::setsid();
    match try_engine(layout, tx) {
        Ok(code) => code,
        Err(failure) => {
            if let Some(tx) = tx {
                // Best effort: without it the caller reports the engine's log instead.
                let _ = state::write_json(&refusal_path(layout, tx), &failure);
            }
            log(layout, &failure.error);
            1
        }
    }
}

fn try_engine(layout: &Layout, tx: Option<&str>) -> Result<u8, Failure> {
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
) -> Result<u8, Failure> {
    let plan: Option<Plan> = match tx {
        Some(tx) => state::read_optional(&layout.incoming_plan(tx))
            .map_err(stumbled)?
            .map(|text| serde_json::from_slice(&text).map_err(stumbled))
            .transpose()?,
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
    let endings = engine::recover(host, layout, &lock, "the engine before was gone");
    let Some(endings) = unless_overtaken(layout, endings)? else {
        return Ok(EXIT_OVERTAKEN);
    };
    if let Some(Ending::Stuck(step)) = endings
        .iter()
        .find(|ending| matches!(ending, Ending::Stuck(_)))
    {
        return Err(stuck(*step));
    }
    adopt::take_note(host, layout, &lock)?;
    match revive::revive(host, layout, &lock) {
        Ok(told) => told.iter().for_each(|text| log(layout, text)),
        Err(failure) => log(layout, &failure.error),
    }
    let Some(plan) = plan else { return Ok(0) };
    if state::find(layout, &plan.tx).map_err(stumbled)?.is_some() {
        return Ok(0);
    }
    adopt::adopt(host, layout, &lock, &plan)?;
    let mut journal = engine::begin(host, layout, &lock, &plan).map_err(stumbled)?;
    if is_withdrawn(layout, &plan.tx)? {
        let (seq, reason) = (state::seq_of(&journal), withdrawn().error);
        durable::replace(&layout.abort(seq), reason.as_bytes(), 0o600).map_err(stumbled)?;
    }
    if let Some(text) = (guards.supervise)(layout) {
        let at = host.now();
        journal
            .append(at, Event::Note { text })
            .map_err(|e| stumbled(EngineError::from(e)))?;
    }
    let ended = engine::run(host, layout, &lock, &mut journal, &plan);
    match unless_overtaken(layout, ended)? {
        Some(_) => Ok(0),
        None => Ok(EXIT_OVERTAKEN),
    }
}

/// An engine that was overtaken says so in its log only: everything else is the newer one's.
fn unless_overtaken<T>(
    layout: &Layout,
    ended: Result<T, EngineError>,
) -> Result<Option<T>, Failure> {
    match ended {
        Ok(ended) => Ok(Some(ended)),
        Err(EngineError::Overtaken(overtaken)) => {
            log(layout, &with_causes(&overtaken));
            Ok(None)
        }
        Err(error) => Err(stumbled(error)),
    }
}

fn stuck(step: Step) -> Failure {
    Failure::new(format!("an earlier transaction is stuck: its step {step} could not be undone"))
        .host("it is as that transaction's failure left it; nothing of this one was begun")
        .next("see `belay status` for what stands in the way, mend it, and start again: it is tried anew each time")
}

fn recovery_holder() -> Holder {
    Holder {
        what: "recovery".to_owned(),
        ..Holder::default()
    }
}

fn take(host: &dyn Host, layout: &Layout, holder: &Holder) -> Result<Locking, Failure> {
    let holder = Holder {
        since: Some(host.now()),
        pid: Some(std::process::id()),
        ..holder.clone()
    };
    lock::take(layout, &holder).map_err(|e| Failure::new(format!("could not take the lock: {e}")))
}

/// Starts this very program as an engine, with nothing of the channel's in its hands.
fn spawn_engine(layout: &Layout, words: &[&str]) -> io::Result<std::process::Child> {
    spawn(layout, &["engine"], words)
}

/// Starts this very program as an agent of its own.
pub(super) fn spawn(
    layout: &Layout,
    verb: &[&str],
    words: &[&str],
) -> io::Result<std::process::Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(layout.engine_log())?;
    Command::new(std::env::current_exe()?)
        .arg("agent")
        .args(verb)
        .arg("--root")
        .arg(layout.root())
        .args(words)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

pub(super) fn log(layout: &Layout, text: &str) {
    // The last resort of a process without a channel: there is nobody to tell that this failed, too.
    if let Ok(mut file) = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(layout.engine_log())
    {
        let _ = writeln!(file, "{} {text}", jiff::Timestamp::now());
    }
}

/// Keeps a quiet channel alive.
struct Heartbeat {
    last: Instant,
}

impl Heartbeat {
    fn new() -> Self {
        Heartbeat {
            last: Instant::now(),
        }
    }

    /// An empty line: "still here". Nobody listening is no reason to stop.
    fn beat(&mut self, out: &mut dyn Write) {
        if self.last.elapsed() >= HEARTBEAT {
            self.last = Instant::now();
            let _ = out.write_all(b"\n").and_then(|()| out.flush());
        }
    }

    fn beat_line(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        self.last = Instant::now();
        say(out, &Line::Alive)
    }
}
