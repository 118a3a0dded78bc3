//! What a run came to.

use super::error::DeployError;
use crate::ssh::Interrupt;
use crate::transaction;
use belay_model::config::Settings;
use belay_model::replacement::strategy::ServiceStrategy;
use belay_model::transaction::outcome::{
    Durations, ImageReport, Outcome, Requests, Urls, Word, Work,
};
use belay_model::transaction::plan::Plan;
use belay_wire::{DataOutlook, HostFacts};

/// The plan of a dry run.
pub(crate) struct DryRunPlan {
    /// As it would be handed to the host.
    pub(crate) plan: Plan,
    /// What it would mean for the data on the host.
    pub(crate) outlook: DataOutlook,
    /// What the host was like when it was asked.
    pub(crate) facts: HostFacts,
    /// The settings of the environment.
    pub(crate) settings: Settings,
    /// How each service would be replaced; none for a rollback, which the host decides.
    pub(crate) services: Vec<ServiceStrategy>,
    /// The images that were built for it.
    pub(crate) images: Vec<ImageReport>,
    /// What there is to say about all this.
    pub(crate) warnings: Vec<String>,
}

/// What a run came to.
pub(crate) enum Concluded {
    /// It ended, well or not.
    Outcome(Box<Outcome>),
    /// Only the plan was wanted.
    DryRun(Box<DryRunPlan>),
}

/// Closes the story: with the plan of a dry run, or with the outcome and what refused it.
pub(super) fn conclude(
    mut outcome: Outcome,
    ended: Result<Option<DryRunPlan>, DeployError>,
    interrupt: &Interrupt,
) -> Concluded {
    match ended {
        Ok(Some(plan)) => return Concluded::DryRun(Box::new(plan)),
        Ok(None) => {}
        Err(error) => {
            outcome.word = Word::Refused;
            outcome.serving.clone_from(&outcome.previous);
            // Whatever an interrupt made fail, the interrupt is why.
            outcome.failure = Some(match interrupt.is_raised() {
                true => transaction::cancelled(),
                false => error.into(),
            });
        }
    }
    let total = jiff::Timestamp::now()
        .duration_since(outcome.started)
        .as_millis();
    outcome.durations.total_ms = u64::try_from(total).unwrap_or(0);
    Concluded::Outcome(Box::new(outcome))
}

/// An outcome of which nothing is known yet.
pub(crate) fn blank(work: Work, asked: &str) -> Outcome {
    Outcome {
        word: Word::Unknown,
        work,
        app: String::new(),
        environment: String::new(),
        host: String::new(),
        asked: asked.to_owned(),
        reason: None,
        revision: None,
        host_was_read: false,
        previous: None,
        previous_revision: None,
        serving: None,
        down: vec![],
        started: jiff::Timestamp::now(),
        durations: Durations::default(),
        steps: vec![],
        images: vec![],
        verdict: None,
        backup: None,
        restored: None,
        copied: vec![],
        removed: vec![],
        strategies: vec![],
        warnings: vec![],
        failure: None,
        failed_step: None,
        logs: vec![],
        rollback_targets: vec![],
        rollback_backups: vec![],
        settles_by: None,
        cancelled: false,
        urls: Urls::default(),
        requests: Requests::default(),
        cut_over: None,
        history: vec![],
        errors: None,
        service_changes: vec![],
        changes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::ShipError;

    #[test]
    fn an_interrupt_is_the_cause_of_whatever_it_made_fail() {
        let concluded = |interrupt: &Interrupt| {
            let mut outcome = blank(Work::Deploy, "v1.1.0");
            outcome.previous = Some("v1.0.0".to_owned());
            let failed = Err(DeployError::Ship(ShipError::NoStream));
            match conclude(outcome, failed, interrupt) {
                Concluded::Outcome(outcome) => *outcome,
                Concluded::DryRun(_) => panic!("nothing was planned"),
            }
        };
        let raised = Interrupt::default();
        raised.raise();
        for (interrupt, error) in [
            (Interrupt::default(), "docker save gave no stream"),
            (raised, "the run was cancelled"),
        ] {
            let outcome = concluded(&interrupt);
            assert_eq!(outcome.word, Word::Refused);
            assert_eq!(outcome.serving.as_deref(), Some("v1.0.0"));
            assert_eq!(outcome.failure.expect("it failed").error, error);
        }
    }
}
