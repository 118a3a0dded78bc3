//! One transaction, seen from the runner: hand over the plan, watch, confirm, and say what came of it.
//!
//! Runs on the runner. The host decides; this only reports what its journal says. A lost connection is reconnected for as
//! long as the host may take; if it stays lost the outcome is *unknown*, with the time by which the host settles itself.
//! Where there is a public URL it is asked all through the transaction, as users ask it.

use std::ops::ControlFlow;
use std::time::Duration;

use super::link::{Link, LinkError, persistently};
use super::{public_check, random};
use belay_model::judgement::measure::Measured;
use belay_model::secret::Secret;
use belay_model::transaction::journal::{self, Entry, Event, Holder};
use belay_model::transaction::outcome::{Failure, Outcome, Word};
use belay_model::transaction::plan::{ConfirmRule, Plan};
use belay_model::transaction::settle::settle;
use belay_model::transaction::step::Step;
use belay_prober::{Prober, Target};
use belay_report::words::clock;
use belay_wire::{Begun, Confirmed, Verb};

/// How long contact may stay lost before the runner gives up watching.
const LOST_PATIENCE: Duration = Duration::from_mins(3);

/// How long a cancelled run may talk to the host. GitHub's runner sends SIGTERM 7.5 s after SIGINT, and until then GitHub is
/// to be told, too.
const FAREWELL: Duration = Duration::from_millis(3500);

/// For a new connection after the check, in milliseconds.
const MARGIN_MS: u64 = 10_000;

/// Somebody who wants to know how it goes.
pub(crate) trait Watcher {
    fn entry(&mut self, entry: &Entry);
    fn line(&mut self, text: &str);
    /// Output of another program, as it comes.
    fn remote(&mut self, bytes: &[u8]);
    /// What comes now belongs under this title.
    fn section(&mut self, title: &str);
}

/// What confirms this transaction, and nothing else.
pub(crate) struct Nonce(Secret);

impl Nonce {
    /// A new one, from the kernel's random numbers.
    pub(crate) fn new() -> std::io::Result<Nonce> {
        Ok(Nonce(Secret::new(random::hex()?)))
    }

    /// The rule that goes into the plan: the host learns only the hash.
    pub(crate) fn rule(&self, within_ms: u64) -> ConfirmRule {
        ConfirmRule::Runner {
            nonce_sha256: belay_model::digest::sha256(self.0.expose().as_bytes()),
            within_ms,
        }
    }
}

/// Carries a plan out on the host and fills in the outcome.
pub(crate) fn carry_out(
    link: &mut Link,
    plan: &Plan,
    nonce: &Nonce,
    outcome: &mut Outcome,
    watcher: &mut dyn Watcher,
) {
    let mut watch = Watch {
        entries: vec![],
        confirmed: false,
        public: PublicProbe::default(),
    };
    let watched = match begin(link, plan) {
        Ok(Begun::Running { .. }) => watch.until_it_is_over(link, plan, nonce, watcher),
        Ok(Begun::Busy { holder }) => return refuse(outcome, Holder::busy(Some(&holder))),
        Ok(Begun::Refused(failure)) => return refuse(outcome, failure),
        // The plan may have arrived all the same.
        Err(error) if link.is_interrupted() => Err(error),
        Err(error) => return lost_before_begin(outcome, error),
    };
    let unseen = match watched {
        Ok(()) => None,
        Err(_) if link.is_interrupted() => {
            outcome.cancelled = true;
            match watch.cancel(link, plan, watcher) {
                Parting::NothingBegan => {
                    outcome.serving = outcome.previous.clone();
                    return refuse(outcome, cancelled());
                }
                Parting::HostDecides(failure) => Some(failure),
            }
        }
        Err(error) => Some(error.into()),
    };
    settle(outcome, &watch.entries);
    outcome.requests.public = watch.public.finish();
    if let Some(failure) = unseen
        && outcome.word == Word::Unknown
    {
        outcome.settles_by = settles_by(plan, &watch.entries);
        outcome.failure = Some(failure);
    }
}

/// The failure of a run that was cancelled before the host had begun anything.
pub(crate) fn cancelled() -> Failure {
    Failure::new(CANCELLED).next("run it again when it is wanted")
}

/// What the host is told, and tells in its journal.
const CANCELLED: &str = "the run was cancelled";

/// How a cancelled run leaves the host.
enum Parting {
    NothingBegan,
    /// As its journal says, as far as that was seen; the failure is for what was not.
    HostDecides(Failure),
}

fn is_cut_over(entries: &[Entry]) -> bool {
    let cutover = |e: &Entry| {
        matches!(
            e.event,
            Event::Started {
                step: Step::Cutover
            }
        )
    };
    entries.iter().any(cutover)
}

fn detached(plan: &Plan, entries: &[Entry]) -> Failure {
    let by = settles_by(plan, entries)
        .map_or(String::new(), |by| format!(", at the latest {}", clock(by)));
    Failure::new("the run was cancelled after the cutover")
        .host(format!(
            "it decides by itself: without a confirmation it goes back{by}"
        ))
        .next("the step `finalize` tells how it ended; so does `belay status`")
}

/// Takes back what a cancelled run has sent so far for a transaction that was not begun. Best effort: what stays is removed
/// by a later Prune.
pub(crate) fn take_back(link: &mut Link, tx: &str) {
    link.use_once_more(FAREWELL);
    let _ = link
        .reconnect()
        .and_then(|()| withdraw(link, tx, CANCELLED));
}

/// Has the host go back, or not even begin.
pub(crate) fn withdraw(link: &Link, tx: &str, reason: &str) -> Result<Confirmed, LinkError> {
    let words = ["--tx", tx, "--reason", reason];
    link.ask(Verb::Abort, &words, None::<&()>)
}

fn begin(link: &mut Link, plan: &Plan) -> Result<Begun, LinkError> {
    // Asked again after a lost connection, the host finds the transaction that it has begun already.
    persistently(link, LOST_PATIENCE, |link| {
        link.ask(Verb::Begin, &[], Some(plan))
    })
}

fn refuse(outcome: &mut Outcome, failure: Failure) {
    outcome.word = Word::Refused;
    outcome.failure = Some(failure);
}

/// Whether the plan reached the host is not known; if it did, the host unwinds it without a confirmation.
fn lost_before_begin(outcome: &mut Outcome, error: LinkError) {
    outcome.word = if error.is_lost_contact() {
        Word::Unknown
    } else {
        Word::Refused
    };
    outcome.failure = Some(error.into());
}

/// The last time at which the host may still be waiting for a confirmation.
fn settles_by(plan: &Plan, entries: &[Entry]) -> Option<jiff::Timestamp> {
    let within = match plan.confirm {
        ConfirmRule::Runner { within_ms, .. } => within_ms,
        ConfirmRule::Host => 0,
    };
    let (since, ms) = match (extended(entries), baked_at(entries)) {
        (Some(extended), _) => extended,
        (None, Some(baked)) => (baked, within),
        (None, None) => (entries.first()?.at, plan.limits.transaction_ms + within),
    };
    since.checked_add(Duration::from_millis(ms)).ok()
}

fn extended(entries: &[Entry]) -> Option<(jiff::Timestamp, u64)> {
    entries.iter().rev().find_map(|entry| match entry.event {
        Event::Extended { ms, .. } => Some((entry.at, ms)),
        _ => None,
    })
}

fn baked_at(entries: &[Entry]) -> Option<jiff::Timestamp> {
    let is_baked = |e: &&Entry| {
        matches!(
            e.event,
            Event::Done {
                step: Step::Bake,
                ..
            }
        )
    };
    entries.iter().find(is_baked).map(|e| e.at)
}

struct Watch {
    entries: Vec<Entry>,
    confirmed: bool,
    public: PublicProbe,
}

/// The public URL as users see it, measured from before the first candidate starts until the last old container is gone.
#[derive(Default)]
struct PublicProbe {
    prober: Option<Box<dyn Prober>>,
    measured: Option<Measured>,
}

impl PublicProbe {
    fn look(&mut self, plan: &Plan, entries: &[Entry]) {
        match entries.last().map(|entry| &entry.event) {
            Some(Event::Started { step: Step::Start }) => {
                self.prober = target(plan, entries).map(|target| belay_prober::start(&target));
            }
            Some(Event::Done {
                step: Step::Retire, ..
            }) => self.measured = self.finish(),
            _ => {}
        }
    }

    fn finish(&mut self) -> Option<Measured> {
        let measured = self.prober.take().map(|mut prober| prober.take());
        measured.filter(|m| m.total > 0).or(self.measured.take())
    }
}

/// What to ask as users do; nothing on a first deployment, where nobody can miss the application yet.
fn target(plan: &Plan, entries: &[Entry]) -> Option<Target> {
    let something_serves = journal::begin(entries)?.previous.is_some();
    let url = plan.health.public.clone()?;
    (something_serves && plan.requests.per_second > 0).then(|| Target {
        url,
        per_second: plan.requests.per_second,
        timeout: Duration::from_millis(plan.health.timeout_ms),
        version: plan.health.version.clone(),
        by_proxy: true,
    })
}

impl Watch {
    /// Has the host go back, as long as nothing has been cut over, and watches it for a moment. Best effort: without the
    /// message it goes back by itself, only later. From the cutover on the host is left to decide: it goes back when nobody
    /// confirms.
    fn cancel(&mut self, link: &mut Link, plan: &Plan, watcher: &mut dyn Watcher) -> Parting {
        if is_cut_over(&self.entries) {
            return Parting::HostDecides(detached(plan, &self.entries));
        }
        link.use_once_more(FAREWELL);
        let told = link
            .reconnect()
            .and_then(|()| withdraw(link, &plan.tx, CANCELLED));
        let host = match told {
            Ok(Confirmed::Unwound { end: Some(_) }) if self.entries.is_empty() => {
                return Parting::NothingBegan;
            }
            Ok(Confirmed::Committed) => "the new version was committed already and stays",
            Ok(Confirmed::Unwound { .. }) => "it goes back to the version before",
            Err(_) => "it goes back to the version before by itself, when no confirmation comes",
        };
        if told.is_ok() {
            // What is not seen in this time, `finalize` sees.
            let _ = self.follow(link, plan, watcher);
        }
        Parting::HostDecides(
            Failure::new(CANCELLED)
                .host(host)
                .next("the step `finalize` tells how it ended; so does `belay status`"),
        )
    }

    fn until_it_is_over(
        &mut self,
        link: &mut Link,
        plan: &Plan,
        nonce: &Nonce,
        watcher: &mut dyn Watcher,
    ) -> Result<(), LinkError> {
        loop {
            self.follow(link, plan, watcher)?;
            if self.confirmed || !awaits_confirmation(&self.entries) {
                return Ok(());
            }
            self.confirmed = true;
            confirm(link, plan, nonce, watcher)?;
        }
    }

    /// Watches until the transaction is over or waits for the confirmation.
    fn follow(
        &mut self,
        link: &mut Link,
        plan: &Plan,
        watcher: &mut dyn Watcher,
    ) -> Result<(), LinkError> {
        let waits = !self.confirmed && !matches!(plan.confirm, ConfirmRule::Host);
        let (entries, public) = (&mut self.entries, &mut self.public);
        let stopped = persistently(link, LOST_PATIENCE, |link| {
            let from = next_number(entries);
            link.follow(&plan.tx, from, &mut |entry| {
                // The records of a reconnection may overlap with those before it.
                if entry.n == next_number(entries) {
                    watcher.entry(&entry);
                    entries.push(entry);
                    public.look(plan, entries);
                }
                match waits && awaits_confirmation(entries) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
        });
        match stopped? {
            None => Ok(()),
            Some(failure) => Err(LinkError::Failed(failure)),
        }
    }
}

/// The number of the record after these.
pub(crate) fn next_number(entries: &[Entry]) -> u64 {
    u64::try_from(entries.len()).unwrap_or(u64::MAX)
}

fn awaits_confirmation(entries: &[Entry]) -> bool {
    matches!(
        entries.last().map(|e| &e.event),
        Some(Event::Started {
            step: Step::Confirm
        })
    )
}

/// Looks at the public URL as users see it, then confirms over a fresh connection: that the host can be entered anew is
/// part of what is confirmed.
fn confirm(
    link: &mut Link,
    plan: &Plan,
    nonce: &Nonce,
    watcher: &mut dyn Watcher,
) -> Result<(), LinkError> {
    let wait = link.reconnect();
    extend(link, plan, watcher);
    if let Err(trouble) = public_check::check(&plan.health, link.interrupt()) {
        watcher.line(&format!("not confirmed: {trouble}"));
        wait?;
        let reason = format!("the runner's own check failed: {trouble}");
        withdraw(link, &plan.tx, &reason)?;
        return Ok(());
    }
    let confirmed: Result<Confirmed, LinkError> = persistently(link, LOST_PATIENCE, |link| {
        link.ask_with_stream(
            Verb::Confirm,
            &["--tx", &plan.tx],
            &mut nonce.0.expose().as_bytes(),
        )
    });
    match confirmed {
        Ok(Confirmed::Committed) => watcher.line("confirmed"),
        Ok(Confirmed::Unwound { .. }) => {
            watcher.line("the confirmation came too late: the host goes back");
        }
        // The journal has the last word; following on tells it.
        Err(error) => watcher.line(&format!("could not confirm: {error}")),
    }
    Ok(())
}

/// Asks the host to wait longer where this run's own check may take longer than it would wait.
fn extend(link: &Link, plan: &Plan, watcher: &mut dyn Watcher) {
    let ConfirmRule::Runner { within_ms, .. } = plan.confirm else {
        return;
    };
    let check = plan.health.public_check_ms();
    if check == 0 || check + MARGIN_MS <= within_ms {
        return;
    }
    let needed = check + MARGIN_MS;
    let words = ["--tx", &plan.tx, "--by", &needed.to_string()];
    // Without it the host may go back while the check goes on, and says so.
    if let Err(error) = link.ask::<()>(Verb::Extend, &words, None::<&()>) {
        watcher.line(&format!("could not ask the host to wait: {error}"));
    }
}
