//! Downtime, measured on the host: a prober asks the application all through a transaction, from before the first
//! candidate starts until the last incumbent is gone.
//!
//! Runs on the host, in the engine. What it found beside each step goes into the journal, so it outlives the engine.
//! Nothing is measured on a first deployment, where there is nobody to miss the application, and without an endpoint.

use std::time::Duration;

use super::host::Host;
use belay_model::judgement::measure::Measured;
use belay_model::transaction::journal::{Entry, Event, begin, measured};
use belay_model::transaction::plan::{OverLimit, Plan};
use belay_model::transaction::step::Step;
use belay_prober::{Prober, Target};

/// The measurement of one transaction.
pub(crate) struct Meter<'a> {
    host: &'a dyn Host,
    target: Option<Target>,
    prober: Option<Box<dyn Prober>>,
    /// The first step that may take the application away.
    first: Step,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(host: &'a dyn Host, plan: &Plan, entries: &[Entry]) -> Self {
        let something_serves = begin(entries).is_some_and(|begin| begin.previous.is_some());
        let target = plan.health.primary.as_ref().map(|url| Target {
            url: url.clone(),
            per_second: plan.requests.per_second,
            timeout: Duration::from_millis(plan.health.timeout_ms),
            version: plan.health.version.clone(),
            by_proxy: false,
        });
        Meter {
            host,
            target: target.filter(|t| something_serves && t.per_second > 0),
            prober: None,
            // What a copy of data stops is missed from then on.
            first: match plan.work.restores() || plan.continuity.may_copy() {
                true => Step::Migrate,
                false => Step::Start,
            },
        }
    }

    /// Measures beside the step that is about to begin, or no more.
    pub(crate) fn beside(&mut self, step: Step) {
        let wanted = (self.first..=Step::Retire).contains(&step);
        match (&self.target, &self.prober) {
            (Some(target), None) if wanted => self.prober = Some(self.host.prober(target)),
            (_, Some(_)) if !wanted => self.prober = None,
            _ => {}
        }
    }

    /// What was measured since it was asked last, as a record beside this step.
    pub(crate) fn read(&mut self, step: Step) -> Option<Event> {
        let measured = self.prober.as_mut()?.take();
        (measured.total > 0).then_some(Event::Measured { step, measured })
    }
}

/// A limit that was exceeded so far, in words. What came before the cutover was the version before's doing.
///
/// A person who had data put back was told that everything stops for it.
#[must_use]
pub(crate) fn exceeded(plan: &Plan, entries: &[Entry]) -> Option<(OverLimit, String)> {
    if plan.work.restores() {
        return None;
    }
    let cutover = entries.iter().position(|e| {
        matches!(
            e.event,
            Event::Started {
                step: Step::Cutover
            }
        )
    });
    let entries = entries.get(cutover?..)?;
    let Measured {
        failed,
        longest_gap_ms,
        reasons,
        ..
    } = measured(entries)?;
    let rules = &plan.requests;
    let why = reasons
        .first()
        .map_or(String::new(), |why| format!(" ({why})"));
    let text = match (rules.max_failed, rules.max_gap_ms) {
        (Some(most), _) if failed > most => {
            format!("{failed} requests failed{why}, and {most} are allowed")
        }
        (_, Some(most)) if longest_gap_ms > most => format!(
            "for {longest_gap_ms} ms there was no good answer{why}, and {most} ms are allowed"
        ),
        _ => return None,
    };
    Some((rules.over, text))
}
