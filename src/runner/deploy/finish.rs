//! The end of the story: the plan is carried out, and the host is asked once more how it went.

use super::context::RunContext;
use super::planned::Planned;
use crate::choices::rollback_choices;
use crate::link::Link;
use crate::transaction;
use belay_model::composition::near_miss;
use belay_model::transaction::outcome::{Outcome, Word};
use belay_wire::{HostFacts, LookBack, Verb};

/// Carries the plan out. From here on the host decides, and the outcome says what it decided.
pub(super) fn finish(
    context: &mut RunContext<'_, '_>,
    link: &mut Link,
    planned: &Planned,
    outcome: &mut Outcome,
) {
    let Planned { plan, nonce } = planned;
    context.record.beginning(outcome, &plan.tx);
    transaction::carry_out(link, plan, nonce, outcome, context.watcher);
    let startup = outcome.durations.startup_ms;
    let slow = startup.and_then(|ms| near_miss::slow_health(ms, plan.health.deadline_ms));
    outcome.warnings.extend(slow);
    after(link, outcome);
}

/// What the host says when it is over: what can be rolled back to now, and how it went beside earlier deployments. Best
/// effort; the outcome stands without it.
pub(crate) fn after(link: &mut Link, outcome: &mut Outcome) {
    let facts = link
        .reconnect()
        .ok()
        .and_then(|()| link.ask::<HostFacts>(Verb::Facts, &[], None::<&()>).ok());
    let Some(facts) = facts else { return };
    let choices = rollback_choices(&facts).into_iter();
    let names = choices.map(|(name, _)| name);
    let is_version = |name: &String| facts.releases.iter().any(|r| r.tag == *name);
    (outcome.rollback_targets, outcome.rollback_backups) = names.partition(is_version);
    let since = outcome.cut_over.unwrap_or(outcome.started).to_string();
    let words = ["--since", &since];
    if let Ok(seen) = link.ask::<LookBack>(Verb::LookBack, &words, None::<&()>) {
        outcome.history = seen.deployments;
        if outcome.word == Word::Deployed {
            outcome.errors = Some(seen.errors);
            outcome.service_changes = seen.changes;
        }
    }
}
