//! The record of the deployment on GitHub, as one run keeps it.
//!
//! Runs on the runner. Nothing of it decides what is deployed.

use std::cell::RefCell;

use super::deploy::DeploymentRecord;
use super::github::{DeploymentTask, FinalStatus, Ledger, Opening, RecordPolicy, Restored, State};
use super::pending::{keep_pending, ledger_file};
use super::session::Session;
use belay_model::config::Settings;
use belay_model::request::intent::DryRun;
use belay_model::transaction::outcome::{Outcome, Word, Work};
use belay_model::transaction::step::Step;
use belay_report::status::DeploymentState;

/// Steps that GitHub's record of the deployment shows; one status each.
const SHOWN_PHASES: [Step; 4] = [Step::Backup, Step::Cutover, Step::Bake, Step::Confirm];

/// GitHub's record of the deployment, and the file that lets `finalize` settle it.
pub(super) struct GitHubRecord<'a, 's> {
    pub(super) session: &'a Session<'s>,
    work: Work,
    pub(super) runtime: tokio::runtime::Runtime,
    ledger: Option<Ledger>,
}

impl<'a, 's> GitHubRecord<'a, 's> {
    /// Of which GitHub knows nothing yet.
    pub(super) fn new(
        session: &'a Session<'s>,
        work: Work,
        runtime: tokio::runtime::Runtime,
    ) -> Self {
        GitHubRecord {
            session,
            work,
            runtime,
            ledger: None,
        }
    }

    fn open(&mut self, outcome: &Outcome, settings: &Settings) {
        let Some(origin) = self.session.origin() else {
            return;
        };
        let Some(sha) = outcome.revision.clone() else {
            return;
        };
        if self.session.inputs.asked.dry_run == DryRun::Yes {
            return;
        }
        let opening = Opening {
            record: RecordPolicy::Auto,
            task: match self.work {
                Work::Rollback => DeploymentTask::Rollback,
                Work::Deploy | Work::Backup | Work::Plan => DeploymentTask::Deploy,
            },
            environment: settings.environment.as_str().to_owned(),
            production: settings.environment.as_str() == "production",
            sha,
            tag: outcome.asked.clone(),
            seq: None,
            run_id: origin.run_id,
            run_attempt: origin.run_attempt,
            log_url: origin.job_url.clone(),
        };
        let client = self.session.github(&self.runtime);
        let words = format!("deploying {}", outcome.asked);
        let file = ledger_file(self.session.env);
        self.ledger = Some(self.runtime.block_on(Ledger::open(
            client,
            opening,
            &file,
            State::InProgress,
            &words,
        )));
    }

    pub(super) fn phase(&mut self, step: Step) {
        if let Some(ledger) = &mut self.ledger
            && SHOWN_PHASES.contains(&step)
        {
            let (_, words) = belay_report::status::phase(step);
            self.runtime.block_on(ledger.phase(&words));
        }
    }

    pub(super) fn last_word(&mut self, outcome: &Outcome) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        self.runtime.block_on(tell_ending(ledger, outcome));
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.ledger
            .as_ref()
            .map(|ledger| ledger.warnings().to_vec())
            .unwrap_or_default()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.ledger.as_ref().is_none_or(Ledger::is_finished)
    }

    pub(super) fn deployment_id(&self) -> Option<u64> {
        self.ledger.as_ref().and_then(Ledger::deployment_id)
    }
}

/// Says the last word, or how it stands where that is not known yet.
pub(super) async fn tell_ending(ledger: &mut Ledger, outcome: &Outcome) {
    let (state, description) = belay_report::deployment_status(outcome);
    let ending = FinalStatus {
        state: match state {
            DeploymentState::Success => State::Success,
            DeploymentState::Failure => State::Failure,
            DeploymentState::Error => State::Error,
            DeploymentState::Inactive => State::Inactive,
            DeploymentState::InProgress => State::InProgress,
            DeploymentState::Queued => State::Queued,
        },
        description,
        environment_url: outcome.urls.environment.clone(),
    };
    match outcome.word {
        Word::Unknown => ledger.leave(&ending).await,
        Word::Deployed | Word::Unchanged | Word::Refused | Word::RolledBack | Word::Stuck => {
            ledger.finish(&ending).await;
        }
    }
    // What serves again is live again: GitHub shows so only when it has a deployment that says it.
    if outcome.word == Word::RolledBack
        && let (Some(tag), Some(sha)) = (&outcome.serving, &outcome.previous_revision)
    {
        let restored = Restored {
            sha: sha.clone(),
            tag: tag.clone(),
            seq: None,
            environment_url: outcome.urls.environment.clone(),
        };
        ledger.record_rollback(&restored).await;
    }
}

/// The record as the story of a run sees it. The live log tells it of each step meanwhile.
pub(super) struct SharedRecord<'t, 'a, 's>(pub(super) &'t RefCell<GitHubRecord<'a, 's>>);

impl DeploymentRecord for SharedRecord<'_, '_, '_> {
    fn opened(&mut self, outcome: &Outcome, settings: &Settings) {
        self.0.borrow_mut().open(outcome, settings);
    }

    fn beginning(&mut self, outcome: &Outcome, tx: &str) {
        keep_pending(self.0.borrow().session.env, tx, outcome);
    }

    fn tag_stands_at(&mut self, tag: &str) -> Option<String> {
        let telling = self.0.borrow();
        let client = telling.session.github(&telling.runtime)?;
        telling
            .runtime
            .block_on(client.resolve_tag(tag))
            .ok()
            .flatten()
    }
}
