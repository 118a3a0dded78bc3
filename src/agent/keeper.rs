//! The thread beside an engine that watches the project's containers: what somebody else stops, kills or removes while a
//! transaction is under way is brought back, or the good version gets the requests, without waiting for the step.
//!
//! Runs on the host. It is woken by Docker's events, and looks by itself now and then, because a stream of events may break
//! off with Docker. It never acts while a step begins or ends: both take turns. What it did is told in the journal by the
//! engine, the only one that writes there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::AgentError;
use super::fence::Fence;
use super::fenced::Fenced;
use super::host::{Attentive, ContainerEvent, Host, HostError};
use super::journal::Journal;
use super::layout::Layout;
use super::steps::StepContext;
use super::steps::keep::{self, Tries};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::outcome::with_causes;
use belay_model::transaction::plan::Plan;

/// How long it waits for an event before it looks by itself.
const QUIET: Duration = Duration::from_secs(5);
/// The same while something is not as it should be.
const TROUBLED: Duration = Duration::from_millis(500);
/// How long after an event of the gateway its traffic is looked at: Docker's DNS tells it of a new container a little later.
const SETTLING_MS: u64 = 6_000;

/// What engine and keeper take turns with.
#[derive(Debug, Default)]
struct Shared {
    /// The engine works on this transaction no more.
    is_over: bool,
    /// What was done since it was told last.
    told: Vec<String>,
}

/// The engine's side of it. The thread acts no more when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Mutex<Shared>>,
}

/// The engine's turn: the keeper does nothing until it is dropped.
pub(crate) struct Turn<'a>(MutexGuard<'a, Shared>);

impl Turn<'_> {
    /// What the keeper did since this was asked last.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0.told)
    }
}

impl Keeper {
    /// Starts to keep what serves in this transaction.
    pub(crate) fn start(
        host: Box<dyn Attentive>,
        layout: &Layout,
        plan: &Plan,
        seq: u64,
        project: &str,
        fence: Fence,
    ) -> Keeper {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let watch = Watch {
            shared: Arc::clone(&shared),
            layout: layout.clone(),
            plan: plan.clone(),
            project: project.to_owned(),
            seq,
            fence,
        };
        // It ends by itself once it is over; nobody waits for the last event.
        thread::spawn(move || watch.carry_on(host.as_ref()));
        Keeper { shared }
    }

    /// Waits until the keeper has done what it is at, and keeps it from beginning anything.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(lock(&self.shared))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Watch {
    shared: Arc<Mutex<Shared>>,
    layout: Layout,
    plan: Plan,
    project: String,
    seq: u64,
    fence: Fence,
}

impl Watch {
    fn carry_on(&self, host: &dyn Attentive) {
        let mut tries = Tries::default();
        let mut settling_until = 0;
        let mut since = host.now();
        let mut patience = Duration::ZERO;
        loop {
            let event = host.await_event(&self.project, since, patience);
            // From before the look: what happens during it is asked for again.
            since = host.now();
            if concerns_gateway(&event) {
                settling_until = host.boot_time().ms + SETTLING_MS;
            }
            let is_settling = host.boot_time().ms < settling_until;
            let mut shared = lock(&self.shared);
            if shared.is_over {
                return;
            }
            let looked = match &event {
                Ok(_) => look(host, self, &mut tries, is_settling),
                // Docker is away, with everything that it ran.
                Err(_) => Ok(vec![]),
            };
            patience = match (&event, &looked) {
                (Ok(_), Ok(told)) if told.is_empty() && !is_settling && !tries.is_waiting => QUIET,
                _ => TROUBLED,
            };
            match looked {
                Ok(told) if !told.is_empty() => {
                    settling_until = host.boot_time().ms + SETTLING_MS;
                    shared.told.extend(told);
                }
                Ok(_) => {}
                Err(error) => {
                    let text = could_not_keep(&error);
                    if shared.told.last() != Some(&text) {
                        shared.told.push(text);
                    }
                }
            }
            drop(shared);
            if event.is_err() {
                host.sleep(TROUBLED);
            }
        }
    }
}

fn concerns_gateway(event: &Result<Option<ContainerEvent>, HostError>) -> bool {
    matches!(event, Ok(Some(event)) if event.started && event.service == GATEWAY_SERVICE)
}

/// What is told of a look that failed.
pub(crate) fn could_not_keep(error: &AgentError) -> String {
    format!("could not keep what serves: {}", with_causes(error))
}

/// One look, with what it led to.
fn look(
    host: &dyn Attentive,
    watch: &Watch,
    tries: &mut Tries,
    is_settling: bool,
) -> Result<Vec<String>, AgentError> {
    let mut journal = Journal::to_read(&watch.layout, watch.seq)?;
    let host: &dyn Host = host;
    let fenced = Fenced::new(host, watch.fence.clone());
    let work = StepContext::new(&fenced, &watch.layout, &watch.plan, &mut journal);
    let told = keep::keep(&work, tries)?;
    if is_settling {
        keep::mend_traffic(&work)?;
    }
    Ok(told)
}
