//! The life of one deployment's record on GitHub, from queued to its last word. Runs on the runner.
//!
//! The ledger only tells GitHub what happened; it never decides what happens. Every failure of the API becomes a line
//! in [`Ledger::warnings`], every step has a time budget, and after a first outage the unimportant steps are left out,
//! so a GitHub that is down costs a deployment a minute at worst and never its result. What must still be settled is
//! kept in a small file, from which `belay finalize` goes on when the step that opened the record was killed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::GitHubClient;
use super::deployments::{
    Deployment, DeploymentMark, DeploymentTask, NewDeployment, State, StatusUpdate, Survey,
    WorkflowState,
};
use super::ending::FinalStatus;
use super::error::GitHubError;
use super::ledger_file::{LedgerState, Opening, RecordPolicy};

const OPEN_BUDGET: Duration = Duration::from_secs(30);
const PHASE_BUDGET: Duration = Duration::from_secs(10);
const FINISH_BUDGET: Duration = Duration::from_secs(40);

/// The version that serves again after an automatic rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its commit in full.
    pub sha: String,
    /// Its tag.
    pub tag: String,
    /// The number of its release, where it is known.
    pub seq: Option<u64>,
    /// Where the application is found.
    pub environment_url: Option<String>,
}

/// Whether talking to GitHub makes sense at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Fine,
    /// It did not answer lately: only what matters is still tried.
    Outage,
    /// The token may not, or there is none: nothing is tried.
    Denied,
}

/// Whether more is to come after what is said at the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finality {
    Last,
    ForNow,
}

/// The record of one deployment.
#[derive(Debug)]
pub struct Ledger {
    client: Option<GitHubClient>,
    kept: LedgerState,
    file: PathBuf,
    reach: Reach,
    /// A creation was sent whose answer is not known, so the next one looks first.
    look_first: bool,
    last_phase: Option<String>,
    warnings: Vec<String>,
}

impl Ledger {
    /// Opens the record: creates or adopts the deployment, sets its first status, and settles what dead runs left open.
    /// Without a client nothing is told, which is said once.
    pub async fn open(
        client: Option<GitHubClient>,
        opening: Opening,
        file: &Path,
        state: State,
        description: &str,
    ) -> Self {
        let mut ledger = Self::over(client, LedgerState::new(opening), file);
        if ledger.client.is_none() && ledger.kept.opening.record != RecordPolicy::None {
            ledger.warn(
                "GitHub is not told about this deployment: there is no token or no repository"
                    .to_owned(),
            );
        }
        if ledger.client().is_some() {
            ledger.keep();
            let opened =
                tokio::time::timeout(OPEN_BUDGET, ledger.try_open(state, description)).await;
            ledger.note_budget(opened.ok());
        }
        ledger
    }

    /// Goes on where another process stopped. `None`: there is nothing to settle.
    pub fn resume(client: Option<GitHubClient>, file: &Path) -> io::Result<Option<Self>> {
        let Some(kept) = LedgerState::read(file)?.filter(|kept| !kept.finished) else {
            return Ok(None);
        };
        let mut ledger = Self::over(client, kept, file);
        ledger.look_first = true;
        Ok(Some(ledger))
    }

    /// Says what is being done now. Repeating the same words sends nothing.
    pub async fn phase(&mut self, description: &str) {
        let (Some(client), Some(id)) = (self.client().cloned(), self.kept.deployment_id) else {
            return;
        };
        let said = self.last_phase.as_deref() == Some(description);
        if said || self.reach != Reach::Fine || self.kept.finished {
            return;
        }
        self.last_phase = Some(description.to_owned());
        let update = self.progress(State::InProgress, description);
        let sent = tokio::time::timeout(PHASE_BUDGET, client.set_status_once(id, &update)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.note(&error),
            Err(_) => self.note_budget(None),
        }
    }

    /// Says the last word, once, and retires the deployment that was replaced.
    pub async fn finish(&mut self, ending: &FinalStatus) {
        self.end(ending, Finality::Last).await;
    }

    /// Says how it stands where this process leaves it. The last word is still to come, from `belay finalize`.
    pub async fn leave(&mut self, ending: &FinalStatus) {
        self.end(ending, Finality::ForNow).await;
    }

    /// Whether everything was said that this process, or a later one, has to say.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.kept.finished || self.client().is_none()
    }

    async fn end(&mut self, ending: &FinalStatus, finality: Finality) {
        if self.is_finished() {
            return;
        }
        self.reach = Reach::Fine;
        let ended = tokio::time::timeout(FINISH_BUDGET, self.try_end(ending, finality)).await;
        let said = ended.ok();
        self.note_budget(said.map(drop));
        let is_said = said == Some(true) || self.kept.finished;
        if !is_said && self.reach != Reach::Denied {
            self.warn(format!(
                "GitHub could not be told how the deployment ended: \"{}\"",
                ending.description
            ));
        }
    }

    /// Records that the version before serves again, as a deployment of its own, so that what GitHub shows as live is.
    pub async fn record_rollback(&mut self, restored: &Restored) {
        if self.client().is_none() {
            return;
        }
        self.reach = Reach::Fine;
        let recorded =
            tokio::time::timeout(FINISH_BUDGET, self.try_record_rollback(restored)).await;
        self.note_budget(recorded.ok());
    }

    /// What could not be told, each thing once.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The deployment on GitHub, for the output of that name.
    #[must_use]
    pub fn deployment_id(&self) -> Option<u64> {
        self.kept.deployment_id
    }

    fn over(client: Option<GitHubClient>, kept: LedgerState, file: &Path) -> Self {
        Self {
            client,
            kept,
            file: file.to_owned(),
            reach: Reach::Fine,
            look_first: false,
            last_phase: None,
            warnings: Vec::new(),
        }
    }

    /// The client, when GitHub is to be told and may be.
    fn client(&self) -> Option<&GitHubClient> {
        let wanted = self.kept.opening.record != RecordPolicy::None && self.reach != Reach::Denied;
        self.client.as_ref().filter(|_| wanted)
    }

    async fn try_open(&mut self, state: State, description: &str) {
        let survey = self.survey().await;
        if self.reach != Reach::Fine {
            // The end tries again; a deployment does not wait for GitHub to get well.
            return;
        }
        let Some(id) = self.ensure_deployment().await else {
            return;
        };
        let update = self.progress(state, description);
        self.last_phase = Some(description.to_owned());
        if self.set_status(id, &update).await {
            self.settle_abandoned(&survey.unfinished).await;
        }
    }

    /// Returns whether GitHub was told.
    async fn try_end(&mut self, ending: &FinalStatus, finality: Finality) -> bool {
        let Some(id) = self.ensure_deployment().await else {
            return false;
        };
        let update = ending.update(&self.kept.opening.log_url);
        let said = self.set_status(id, &update).await;
        if !said || finality == Finality::ForNow {
            return said;
        }
        self.kept.finished = true;
        self.keep();
        if ending.state == State::Success {
            let why = format!("replaced by {}", self.kept.opening.tag);
            self.retire_replaced(id, &why).await;
        }
        true
    }

    async fn try_record_rollback(&mut self, restored: &Restored) {
        let opening = &self.kept.opening;
        let new = NewDeployment {
            sha: restored.sha.clone(),
            environment: opening.environment.clone(),
            task: DeploymentTask::Rollback,
            description: format!("rolled back from {} to {}", opening.tag, restored.tag),
            production: opening.production,
            mark: DeploymentMark {
                run_id: opening.run_id,
                attempt: opening.run_attempt,
                tag: restored.tag.clone(),
                seq: restored.seq,
                rollback_of: self.kept.deployment_id,
            },
        };
        let Some(deployment) = self.create(&new).await else {
            return;
        };
        let ending = FinalStatus {
            environment_url: restored.environment_url.clone(),
            ..FinalStatus::new(State::Success, format!("{} is live again", restored.tag))
        };
        let update = ending.update(&self.kept.opening.log_url);
        if self.set_status(deployment.id, &update).await {
            let why = format!("{} goes on as deployment {}", restored.tag, deployment.id);
            self.retire_replaced(deployment.id, &why).await;
        }
    }

    /// What was there before us: the live deployment, kept for later, and those that dead runs left open.
    async fn survey(&mut self) -> Survey {
        let Some(client) = self.client().cloned() else {
            return Survey::default();
        };
        match client.survey(&self.kept.opening.environment).await {
            Ok(survey) => {
                self.kept.live = survey.live.as_ref().map(|live| live.id);
                self.keep();
                survey
            }
            Err(error) => {
                self.note(&error);
                Survey::default()
            }
        }
    }

    /// The deployment that carries the statuses: known already, or adopted, or created now.
    async fn ensure_deployment(&mut self) -> Option<u64> {
        if let Some(id) = self.kept.deployment_id {
            return Some(id);
        }
        let deployment = match self.kept.opening.record {
            RecordPolicy::None => None,
            RecordPolicy::Create => self.create_own().await,
            RecordPolicy::Adopt => {
                let adopted = self.adopt().await;
                if adopted.is_none() && self.reach == Reach::Fine {
                    self.warn(
                        "no deployment that Actions made for this job was found to adopt"
                            .to_owned(),
                    );
                }
                adopted
            }
            RecordPolicy::Auto => match self.adopt().await {
                Some(adopted) => Some(adopted),
                None if self.reach == Reach::Fine => self.create_own().await,
                // Whether there is one to adopt is not known, and two would be wrong.
                None => None,
            },
        };
        let id = deployment?.id;
        self.kept.deployment_id = Some(id);
        self.keep();
        Some(id)
    }

    async fn adopt(&mut self) -> Option<Deployment> {
        let client = self.client()?.clone();
        let Opening {
            environment,
            sha,
            run_id,
            ..
        } = &self.kept.opening;
        match client.adopt_deployment(environment, sha, *run_id).await {
            Ok(adopted) => adopted,
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    async fn create_own(&mut self) -> Option<Deployment> {
        let opening = &self.kept.opening;
        let what = match opening.task {
            DeploymentTask::Deploy => "deploy",
            DeploymentTask::Rollback => "roll back to",
        };
        let new = NewDeployment {
            sha: opening.sha.clone(),
            environment: opening.environment.clone(),
            task: opening.task,
            description: format!("{what} {}", opening.tag),
            production: opening.production,
            mark: DeploymentMark {
                run_id: opening.run_id,
                attempt: opening.run_attempt,
                tag: opening.tag.clone(),
                seq: opening.seq,
                rollback_of: None,
            },
        };
        self.create(&new).await
    }

    /// Creates a deployment, after a look when an earlier creation may have happened.
    async fn create(&mut self, new: &NewDeployment) -> Option<Deployment> {
        let client = self.client()?.clone();
        if self.look_first {
            match client.find_deployment(new).await {
                Ok(None) => {}
                Ok(found) => return found,
                Err(error) => {
                    self.note(&error);
                    return None;
                }
            }
        }
        // Until the answer is there (the budget may end the wait), it may have happened.
        self.look_first = true;
        match client.create_deployment(new).await {
            Ok(deployment) => {
                self.look_first = false;
                Some(deployment)
            }
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    async fn set_status(&mut self, id: u64, update: &StatusUpdate) -> bool {
        let Some(client) = self.client().cloned() else {
            return false;
        };
        match client.set_status(id, update).await {
            Ok(()) => true,
            Err(error) => {
                self.note(&error);
                false
            }
        }
    }

    /// GitHub retires replaced deployments by itself, but not those of production.
    async fn retire_replaced(&mut self, id: u64, why: &str) {
        let Some(client) = self.client().cloned() else {
            return;
        };
        let Some(live) = self
            .kept
            .live
            .filter(|live| *live != id && self.kept.opening.production)
        else {
            return;
        };
        match client.set_inactive(live, why).await {
            Ok(()) => self.kept.live = Some(id),
            Err(error) => self.note(&error),
        }
    }

    /// Gives the deployments of dead runs their last word. Only Belay's own: Actions ends those that it made.
    async fn settle_abandoned(&mut self, unfinished: &[Deployment]) {
        for deployment in unfinished {
            let Some(mark) = deployment.mark() else {
                continue;
            };
            if Some(deployment.id) == self.kept.deployment_id || !self.run_is_over(&mark).await {
                continue;
            }
            let update = FinalStatus::abandoned().update(&self.kept.opening.log_url);
            if !self.set_status(deployment.id, &update).await {
                return;
            }
        }
    }

    async fn run_is_over(&mut self, mark: &DeploymentMark) -> bool {
        if mark.run_id == self.kept.opening.run_id {
            // An earlier attempt of this run is over, or this one would not run.
            return mark.attempt < self.kept.opening.run_attempt;
        }
        let Some(client) = self.client().cloned() else {
            return false;
        };
        match client.run_is_over(mark.run_id).await {
            Ok(state) => state == WorkflowState::Over,
            // Not being allowed to read runs says nothing about deployments.
            Err(error @ GitHubError::Forbidden { .. }) => {
                self.warn(error.in_words());
                false
            }
            Err(error) => {
                self.note(&error);
                false
            }
        }
    }

    fn progress(&self, state: State, description: &str) -> StatusUpdate {
        StatusUpdate {
            auto_inactive: false,
            ..FinalStatus::new(state, description).update(&self.kept.opening.log_url)
        }
    }

    fn note(&mut self, error: &GitHubError) {
        self.reach = match error {
            GitHubError::Forbidden { .. } | GitHubError::Setup { .. } => Reach::Denied,
            error if error.is_outage() => Reach::Outage,
            _ => self.reach,
        };
        self.warn(error.in_words());
    }

    /// `None`: the time for a step was used up.
    fn note_budget(&mut self, in_time: Option<()>) {
        if in_time.is_none() {
            self.reach = Reach::Outage;
            self.warn("GitHub took too long to answer".to_owned());
        }
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn keep(&mut self) {
        if let Err(error) = self.kept.write(&self.file) {
            self.warn(format!(
                "could not keep what GitHub was told in {}: {error}",
                self.file.display()
            ));
        }
    }
}

/// Settles the record that a killed step left behind. Returns what could not be told.
pub async fn finalize(
    client: Option<GitHubClient>,
    file: &Path,
    ending: &FinalStatus,
) -> Vec<String> {
    match Ledger::resume(client, file) {
        Ok(None) => Vec::new(),
        Ok(Some(mut ledger)) => {
            ledger.finish(ending).await;
            ledger.warnings
        }
        Err(error) => vec![format!(
            "could not read what GitHub was told in {}: {error}",
            file.display()
        )],
    }
}
