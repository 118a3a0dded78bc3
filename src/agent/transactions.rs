//! The verbs about one transaction: its images arrive, it begins, it is followed, confirmed, given more time, taken back.
//!
//! Runs on the host, one short process a call. It may die with its channel at any moment, and be asked again; the engine is
//! another process. What a runner is told is on the disk before.

use std::io::{self, Write};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::channel::{Heartbeat, answer, say};
use super::contact::prepared;
use super::docker::RealHost;
use super::engine_process::{EXIT_BUSY, is_withdrawn, refusal_path, withdrawn};
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::records;
use super::sizes::wide;
use super::spawn::spawn_engine;
use super::trouble::Trouble;
use super::{durable, lock, state};
use belay_model::digest::sha256;
use belay_model::transaction::journal::{self, End};
use belay_model::transaction::outcome::Failure;
use belay_model::transaction::phase::{Next, Records, next};
use belay_model::transaction::plan::{ConfirmRule, Plan};
use belay_wire::{Answer, Begun, Confirmed, Line, Loaded, Staged};

/// How often a waiting verb looks again.
const LOOK: Duration = Duration::from_millis(100);

/// How long a started engine may take to show itself.
const ENGINE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a decided confirmation may take to reach the journal.
const CONFIRM_PATIENCE: Duration = Duration::from_mins(1);

/// How many engines `follow` starts for a transaction that none works on.
const RECOVERIES: u32 = 3;

/// `load`: takes an image stream from the channel into the engine, and says what came of it.
#[must_use]
pub fn load(layout: &Layout, tx: &str, references: &[String]) -> Answer<Loaded> {
    answer(try_load(layout, tx, references))
}

fn try_load(layout: &Layout, tx: &str, references: &[String]) -> Result<Loaded, AgentError> {
    prepared(layout)?;
    let host = RealHost::new();
    // Written down first: a prune of another transaction must not take what is just arriving.
    let staged = Staged {
        references: references.to_vec(),
        since: host.now(),
    };
    records::write_json(&layout.staged(tx), &staged)?;
    let output = super::command::Call::new(["docker", "load"])
        .command()
        .stdin(Stdio::inherit())
        .output()
        .map_err(|e| AgentError::doing("could not run docker load", e))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Loaded {
        // With the containerd store it ends well although it could not unpack a layer.
        is_complete: output.status.success() && Trouble::of(&said) != Trouble::NotUnpacked,
        said: said.trim().to_owned(),
    })
}

/// `begin`: hands a plan to an engine of its own. Asked again with the same plan, it finds the one that runs already.
pub fn begin(layout: &Layout, plan: &Plan, out: &mut dyn Write) -> Answer<Begun> {
    answer(try_begin(layout, plan, out))
}

fn try_begin(layout: &Layout, plan: &Plan, out: &mut dyn Write) -> Result<Begun, AgentError> {
    prepared(layout)?;
    records::write_json(&layout.incoming_plan(&plan.tx), plan)?;
    let patience = Duration::from_millis(plan.limits.lock_wait_ms);
    let began = Instant::now();
    let mut heartbeat = Heartbeat::new();
    loop {
        if let Some((seq, _)) = state::find(layout, &plan.tx)? {
            return Ok(Begun::Running { seq });
        }
        if is_withdrawn(layout, &plan.tx)? {
            return Ok(Begun::Refused(withdrawn()));
        }
        let Some(holder) = lock::holder(layout)? else {
            match start_engine(layout, plan, &mut heartbeat, out)? {
                Some(begun) => return Ok(begun),
                // Another engine was quicker; wait for it like for any other.
                None => continue,
            }
        };
        if began.elapsed() >= patience {
            records::remove(&layout.incoming_plan(&plan.tx))?;
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
) -> Result<Option<Begun>, AgentError> {
    let mut engine = spawn_engine(layout, &["--tx", &plan.tx])?;
    let began = Instant::now();
    loop {
        if let Some((seq, _)) = state::find(layout, &plan.tx)? {
            return Ok(Some(Begun::Running { seq }));
        }
        if let Some(status) = engine.try_wait()? {
            return ended_without_journal(layout, plan, status);
        }
        // Settling an older transaction comes first and may take as long as an unwind takes; only silence is a defect.
        let busy = lock::holder(layout)?.is_some();
        if !busy && began.elapsed() > ENGINE_PATIENCE {
            return Err(AgentError::new("the engine on the host did not start")
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
) -> Result<Option<Begun>, AgentError> {
    if status.code() == Some(i32::from(EXIT_BUSY)) {
        return Ok(None);
    }
    // A very short transaction may have begun and ended between two looks.
    if let Some((seq, _)) = state::find(layout, &plan.tx)? {
        return Ok(Some(Begun::Running { seq }));
    }
    if is_withdrawn(layout, &plan.tx)? {
        return Ok(Some(Begun::Refused(withdrawn())));
    }
    forget_staged(&RealHost::new(), layout, &plan.tx)?;
    let refusal = records::read_optional(&refusal_path(layout, &plan.tx))?;
    records::remove(&refusal_path(layout, &plan.tx))?;
    records::remove(&layout.incoming_plan(&plan.tx))?;
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
pub fn forget_staged(host: &dyn Host, layout: &Layout, tx: &str) -> Result<(), AgentError> {
    let path = layout.staged(tx);
    let Some(text) = records::read_optional(&path)? else {
        return Ok(());
    };
    let staged: Staged = serde_json::from_slice(&text)?;
    let releases = state::releases(layout)?;
    let is_needed = |id: &str| {
        let mut services = releases.iter().flat_map(|release| &release.services);
        services.any(|service| service.engine_id() == id)
    };
    for reference in &staged.references {
        let image = host.image(reference)?;
        if image.is_some_and(|image| !is_needed(&image.id)) {
            host.forget_image(reference)?;
        }
    }
    Ok(records::remove(&path)?)
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
                if wide(entries.len()) > told {
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
            Err(error) => return say(out, &Line::Stopped(AgentError::from(error).into_failure())),
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
) -> Result<Confirmed, AgentError> {
    leave_confirmation(layout, tx, nonce)?;
    let began = Instant::now();
    let mut heartbeat = Heartbeat::new();
    loop {
        if let Some(decided) = decided(layout, tx)? {
            return Ok(decided);
        }
        let engine_lives = lock::holder(layout)?.is_some();
        if !engine_lives {
            spawn_engine(layout, &["--recover"]).and_then(|mut e| e.wait())?;
        } else if began.elapsed() > CONFIRM_PATIENCE {
            return Err(AgentError::new("the engine did not decide in time"));
        }
        heartbeat.beat(out);
        std::thread::sleep(LOOK);
    }
}

/// Leaves a runner's confirmation where the engine looks for it, if it is that of this very transaction.
pub fn leave_confirmation(layout: &Layout, tx: &str, nonce: &str) -> Result<(), AgentError> {
    let (seq, _) = find(layout, tx)?;
    if let Ok(plan) = state::plan(layout, seq)
        && let ConfirmRule::Runner { nonce_sha256, .. } = &plan.confirm
    {
        if sha256(nonce.as_bytes()) != *nonce_sha256 {
            return Err(AgentError::new(
                "this is not the confirmation of that transaction",
            ));
        }
        durable::replace(&layout.confirmation(seq), nonce.as_bytes(), 0o600)?;
    }
    Ok(())
}

/// `extend`: asks the engine to wait longer for the confirmation, so many milliseconds from when it reads this. What has
/// been decided already stays so.
#[must_use]
pub fn extend(layout: &Layout, tx: &str, by_ms: u64) -> Answer<()> {
    answer(leave_extension(layout, tx, by_ms))
}

/// The same, before it is put into words.
pub fn leave_extension(layout: &Layout, tx: &str, by_ms: u64) -> Result<(), AgentError> {
    let (seq, entries) = find(layout, tx)?;
    if decision(&entries).is_some() {
        return Ok(());
    }
    let text = by_ms.to_string();
    Ok(durable::replace(
        &layout.extension(seq),
        text.as_bytes(),
        0o600,
    )?)
}

/// What the host has decided about a transaction, for whoever will believe it; `None`: nothing yet.
pub fn decided(layout: &Layout, tx: &str) -> Result<Option<Confirmed>, AgentError> {
    let (seq, entries) = find(layout, tx)?;
    let decided = decision(&entries);
    if decided.is_some() {
        super::journal::make_durable(&layout.journal(seq))?;
    }
    Ok(decided)
}

/// What the host has decided: nothing yet, to commit, or to go back.
fn decision(entries: &Records) -> Option<Confirmed> {
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

fn find(layout: &Layout, tx: &str) -> Result<(u64, Records), AgentError> {
    let found = state::find(layout, tx)?;
    found.ok_or_else(|| AgentError::new("the host has no record of this transaction"))
}

/// `abort`: asks the engine to unwind. After the commit point it changes nothing. What has not begun does not begin any
/// more.
#[must_use]
pub fn abort(layout: &Layout, tx: &str, reason: &str) -> Answer<Confirmed> {
    answer(try_abort(&RealHost::new(), layout, tx, reason))
}

/// The same, on any host.
pub fn try_abort(
    host: &dyn Host,
    layout: &Layout,
    tx: &str,
    reason: &str,
) -> Result<Confirmed, AgentError> {
    if state::find(layout, tx)?.is_none() {
        // Before the second look: an engine that begins meanwhile looks for its plan afterwards, and goes back.
        records::remove(&layout.incoming_plan(tx))?;
        forget_staged(host, layout, tx)?;
        if state::find(layout, tx)?.is_none() {
            return Ok(Confirmed::Unwound {
                end: Some(End::Unwound),
            });
        }
    }
    if let Some(decided) = decided(layout, tx)? {
        return Ok(decided);
    }
    let (seq, _) = find(layout, tx)?;
    durable::replace(&layout.abort(seq), reason.as_bytes(), 0o600)?;
    Ok(Confirmed::Unwound { end: None })
}
