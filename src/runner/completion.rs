//! After a deployment: which pull requests came and went with it, and what their checklists say of it.
//!
//! Runs on the runner, when the outcome stands and GitHub's record of the deployment has had its last word. Best effort:
//! whatever fails here is a line of the log, because a deployment is as it is without a comment.

use super::checklist::{reviewed, settings_seen};
use super::github::{GitHubClient, GitHubError, Sticky};
use super::session::Session;
use belay_model::request::event::Origin;
use belay_model::reviewing::checklist::boxes;
use belay_model::transaction::outcome::{Outcome, Word, Work};
use belay_model::versions::changes::{Changes, Compared, PullRequestOf};
use belay_report::checklist::{Checklist, PullRequestState, checklist, standing_elsewhere};
use belay_report::evidence::{SettingsSeen, Unseen};
use belay_report::released::{
    Released, after_release, error_logs, standing_after, standing_of_gone,
};

/// Most comments that are written after one deployment; of a larger one the newest pull requests get theirs.
const MOST_COMMENTS: usize = 50;

/// Looks up what the run changed, and completes the checklists. Returns what there is to say in the log.
pub(crate) async fn follow_up(
    session: &Session<'_>,
    client: &GitHubClient,
    origin: &Origin,
    outcome: &mut Outcome,
) -> Vec<String> {
    match changes(client, outcome).await {
        Ok(changes) => outcome.changes = changes,
        Err(error) => {
            let why = error.in_words();
            return vec![format!("which pull requests are in it is not known: {why}")];
        }
    }
    complete_checklists(session, client, origin, outcome).await
}

/// Looks up what the run changed, or tried to.
async fn changes(client: &GitHubClient, outcome: &Outcome) -> Result<Option<Changes>, GitHubError> {
    let (Some(from), Some(to)) = (&outcome.previous_revision, &outcome.revision) else {
        // The first version, or one after something that was adopted.
        return Ok(None);
    };
    let has_changed = matches!(outcome.word, Word::Deployed | Word::RolledBack);
    let is_about_versions = matches!(outcome.work, Work::Deploy | Work::Rollback);
    if from == to || !has_changed || !is_about_versions {
        return Ok(None);
    }
    Ok(Some(Changes {
        from: from.clone(),
        to: to.clone(),
        came: client.pull_requests_between(from, to).await?,
        went: client.pull_requests_between(to, from).await?,
    }))
}

async fn complete_checklists(
    session: &Session<'_>,
    client: &GitHubClient,
    origin: &Origin,
    outcome: &Outcome,
) -> Vec<String> {
    let Some(changes) = &outcome.changes else {
        return vec![];
    };
    // The pull requests' comments are about the environment that releases go to.
    let settings = match session.release_settings() {
        Ok(settings) if settings.environment.as_str() == outcome.environment => settings,
        Ok(_) | Err(_) => return vec![],
    };
    let update = ChecklistUpdate {
        client,
        origin,
        outcome,
        settings: settings_seen(&settings),
    };
    let mut told = vec![];
    if let Some(standing) = standing_after(outcome) {
        for pull in newest(&changes.came) {
            let done = update.complete(pull, &standing).await;
            told.push(tell(pull, "completed", done));
        }
    }
    if let Some(standing) = standing_of_gone(outcome) {
        for pull in newest(&changes.went) {
            let done = update.take_back(pull, &standing).await;
            told.push(tell(pull, "marked as rolled back", done));
        }
    }
    told
}

fn newest(compared: &Compared) -> &[PullRequestOf] {
    let all = &compared.pull_requests;
    let (_, newest) = all.split_at(all.len().saturating_sub(MOST_COMMENTS));
    newest
}

fn tell(pull: &PullRequestOf, what: &str, done: Result<(), GitHubError>) -> String {
    let number = pull.number;
    match done {
        Ok(()) => format!("the checklist of pull request {number} is {what}"),
        Err(error) => format!(
            "the checklist of pull request {number} is not {what}: {}",
            error.in_words()
        ),
    }
}

/// What every comment of this run is made from.
struct ChecklistUpdate<'a> {
    client: &'a GitHubClient,
    origin: &'a Origin,
    outcome: &'a Outcome,
    settings: SettingsSeen,
}

impl ChecklistUpdate<'_> {
    async fn complete(
        &self,
        pull: &PullRequestOf,
        standing: &PullRequestState,
    ) -> Result<(), GitHubError> {
        let commit = pull.head.clone().unwrap_or_default();
        let seen = Released {
            outcome: self.outcome,
            reviewed: reviewed(self.client, self.origin, pull.number, &commit)
                .await
                .map_err(Unseen::because),
            commit,
            settings: self.settings.clone(),
        };
        let list = Checklist {
            environment: self.outcome.environment.clone(),
            standing: standing.clone(),
            entries: after_release(&seen),
            logs: error_logs(self.outcome),
        };
        let write = |old: Option<&str>| Some(checklist(&list, &old.map(boxes).unwrap_or_default()));
        let sticky = self.sticky(pull);
        self.client.keep_comment(&sticky, &write).await.map(drop)
    }

    /// A pull request without a comment gets none that says that it is gone.
    async fn take_back(
        &self,
        pull: &PullRequestOf,
        standing: &PullRequestState,
    ) -> Result<(), GitHubError> {
        let environment = self.outcome.environment.as_str();
        let write = |old: Option<&str>| standing_elsewhere(old?, standing, environment);
        let sticky = self.sticky(pull);
        self.client.keep_comment(&sticky, &write).await.map(drop)
    }

    fn sticky(&self, pull: &PullRequestOf) -> Sticky {
        Sticky {
            pull_request: pull.number,
            environment: self.outcome.environment.clone(),
            run: self.origin.run_id,
            author: None,
            is_release: true,
        }
    }
}
