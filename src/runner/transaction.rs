//! One transaction, seen from the runner: hand over the plan, watch, confirm, and say what came of it.
//!
//! Runs on the runner. The host decides; this only reports what its journal says. A lost connection is reconnected for as
//! long as the host may take; if it stays lost the outcome is *unknown*, with the time by which the host settles itself.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::link::{Link, LinkError, persistently};
use crate::model::health::HealthRules;
use crate::model::journal::{Entry, Event, Holder};
use crate::model::outcome::{Failure, Outcome, Word};
use crate::model::plan::{ConfirmRule, Plan};
use crate::model::secret::Secret;
use crate::model::settle::settle;
use crate::model::step::Step;
use crate::wire::{Begun, Confirmed, Verb};

/// How long contact may stay lost before the runner gives up watching.
const LOST_PATIENCE: Duration = Duration::from_secs(180);

/// Somebody who wants to know how it goes.
pub trait Watcher {
    fn entry(&mut self, entry: &Entry);
    fn line(&mut self, text: &str);
    /// Output of another program, as it comes.
    fn remote(&mut self, bytes: &[u8]);
    /// What comes now belongs under this title.
    fn section(&mut self, title: &str);
}

/// What confirms this transaction, and nothing else.
pub struct Nonce(Secret);

impl Nonce {
    /// A new one, from the kernel's random numbers.
    pub fn new() -> std::io::Result<Nonce> {
        Ok(Nonce(Secret::new(random_hex()?)))
    }

    /// The rule that goes into the plan: the host learns only the hash.
    pub fn rule(&self, within_ms: u64) -> ConfirmRule {
        ConfirmRule::Runner {
            nonce_sha256: crate::model::compose::sha256(self.0.expose().as_bytes()),
            within_ms,
        }
    }
}

/// 32 hexadecimal digits from the kernel's random numbers; names a transaction.
pub fn random_hex() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Carries a plan out on the host and fills in the outcome.
pub fn carry_out(
    link: &mut Link,
    plan: &Plan,
    nonce: &Nonce,
    outcome: &mut Outcome,
    watcher: &mut dyn Watcher,
) {
    match begin(link, plan) {
        Ok(Begun::Running { .. }) => {}
        Ok(Begun::Busy { holder }) => return refuse(outcome, busy(&holder)),
        Ok(Begun::Refused(failure)) => return refuse(outcome, failure),
        Err(error) => return lost_before_begin(outcome, &error),
    }
    let mut watch = Watch {
        entries: vec![],
        confirmed: false,
    };
    let watched = watch.until_it_is_over(link, plan, nonce, watcher);
    settle(outcome, &watch.entries);
    if let Err(failure) = watched
        && outcome.word == Word::Unknown
    {
        outcome.settles_by = settles_by(plan, &watch.entries);
        outcome.failure = Some(if link.is_interrupted() {
            cancel(link, plan)
        } else {
            failure
        });
    }
}

/// Tells the host that the run was cancelled. Best effort: without the message the host goes back by itself, only later.
fn cancel(link: &mut Link, plan: &Plan) -> Failure {
    link.forget_interrupt();
    let words = ["--tx", &plan.tx, "--reason", "the run was cancelled"];
    let told: Result<Confirmed, LinkError> = link
        .reconnect()
        .and_then(|()| link.ask(Verb::Abort, &words, None::<&()>));
    let host = match told {
        Ok(Confirmed::Committed) => "the new version was committed already and stays",
        Ok(Confirmed::Unwound { .. }) => "it goes back to the version before",
        Err(_) => "it goes back to the version before by itself, when no confirmation comes",
    };
    Failure::new("the run was cancelled")
        .host(host)
        .next("the step `finalize` tells how it ended; so does `belay status`")
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
fn lost_before_begin(outcome: &mut Outcome, error: &LinkError) {
    outcome.failure = Some(error.failure());
    outcome.word = if error.is_lost_contact() {
        Word::Unknown
    } else {
        Word::Refused
    };
}

fn busy(holder: &Holder) -> Failure {
    let mut who = holder.what.clone();
    if let Some(actor) = &holder.actor {
        who.push_str(&format!(" by {actor}"));
    }
    if let Some(since) = holder.since {
        who.push_str(&format!(", since {since}"));
    }
    if let Some(url) = &holder.run_url {
        who.push_str(&format!(", {url}"));
    }
    Failure::new(format!("the host is busy: {who}"))
        .host("that transaction goes on; nothing of this one was begun")
        .next("run again when it has ended, or raise lock-wait")
}

/// The last time at which the host may still be waiting for a confirmation.
fn settles_by(plan: &Plan, entries: &[Entry]) -> Option<jiff::Timestamp> {
    let began = entries.first()?.at;
    let within = match plan.confirm {
        ConfirmRule::Runner { within_ms, .. } => within_ms,
        ConfirmRule::Host => 0,
    };
    began
        .checked_add(Duration::from_millis(plan.limits.transaction_ms + within))
        .ok()
}

struct Watch {
    entries: Vec<Entry>,
    confirmed: bool,
}

impl Watch {
    fn until_it_is_over(
        &mut self,
        link: &mut Link,
        plan: &Plan,
        nonce: &Nonce,
        watcher: &mut dyn Watcher,
    ) -> Result<(), Failure> {
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
    ) -> Result<(), Failure> {
        let confirmed = self.confirmed;
        let entries = &mut self.entries;
        let stopped = persistently(link, LOST_PATIENCE, |link| {
            let from = entries.len() as u64;
            link.follow(&plan.tx, from, &mut |entry| {
                // The records of a reconnection may overlap with those before it.
                if entry.n == entries.len() as u64 {
                    watcher.entry(&entry);
                    entries.push(entry);
                }
                let pause = !confirmed && awaits_confirmation(entries);
                if pause {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        match stopped {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err(failure),
            Err(error) => Err(error.failure()),
        }
    }
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
) -> Result<(), Failure> {
    if matches!(plan.confirm, ConfirmRule::Host) {
        return Ok(());
    }
    let wait = link.reconnect();
    if let Err(trouble) = public_health(&plan.health) {
        watcher.line(&format!("not confirmed: {trouble}"));
        wait.map_err(|e| e.failure())?;
        let reason = format!("the runner's own check failed: {trouble}");
        let _: Confirmed = link
            .ask(
                Verb::Abort,
                &["--tx", &plan.tx, "--reason", &reason],
                None::<&()>,
            )
            .map_err(|e| e.failure())?;
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
            watcher.line("the confirmation came too late: the host goes back")
        }
        // The journal has the last word; following on tells it.
        Err(error) => watcher.line(&format!("could not confirm: {error}")),
    }
    Ok(())
}

/// Asks the public URL until it has answered well often enough, or the deadline is over.
fn public_health(rules: &HealthRules) -> Result<(), String> {
    let Some(url) = &rules.public else {
        return Ok(());
    };
    let client = reqwest::blocking::Client::builder()
        .timeout(Duration::from_millis(rules.timeout_ms))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| e.to_string())?;
    let began = Instant::now();
    let mut good = 0;
    loop {
        let trouble = match client.get(url).send() {
            Ok(answer) if answer.status().is_success() => {
                good += 1;
                if good >= rules.successes {
                    return Ok(());
                }
                None
            }
            Ok(answer) => Some(format!("{url} answered {}", answer.status().as_u16())),
            Err(error) => Some(format!(
                "{url} could not be reached from the runner: {error}"
            )),
        };
        if let Some(trouble) = trouble {
            good = 0;
            // The host's own watch was well a moment ago: a short outage in between is given a third of the deadline.
            if began.elapsed() >= Duration::from_millis(rules.deadline_ms / 3) {
                return Err(trouble);
            }
        }
        std::thread::sleep(Duration::from_millis(rules.interval_ms));
    }
}
