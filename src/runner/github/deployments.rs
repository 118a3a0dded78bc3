//! Deployments and statuses, one function for each thing that is asked or told. Runs on the runner.
//!
//! What GitHub answers is read tolerantly: every field that Belay can do without may be missing, and states that do not
//! exist yet are [`SeenState::Unknown`]. What Belay writes carries a [`DeploymentMark`] in its payload, by which a write whose
//! answer was lost is found again; only when it is not found is it sent once more.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::ApiAnswer;
use super::client::GitHubClient;
use super::error::{ApiCall, GitHubError};
use crate::percent::percent_encode;

/// GitHub's limit for descriptions, in characters. Its API description does not state it, its server enforces it.
const MAX_DESCRIPTION: usize = 140;
const PER_PAGE: usize = 100;
/// How many deployments of an environment are looked at, newest first, to find the one that is live.
const MAX_LOOK_BACK: usize = 150;
/// Unfinished deployments are looked for at least this far back, also behind the one that is live.
const UNFINISHED_LOOK_BACK: usize = 20;
/// How many deployments of one revision are looked at to find the one that Actions made for this job.
const ADOPT_LOOK_BACK: usize = 10;
const ACTIONS_BOT: &str = "github-actions[bot]";

/// What a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentTask {
    /// A version goes live.
    Deploy,
    /// An earlier version goes live again.
    Rollback,
}

impl DeploymentTask {
    fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
        }
    }
}

/// A state that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Whether it is live is not known, or nobody could put it right.
    Error,
    /// It is not live, and what was live before still is.
    Failure,
    /// It was live, and was replaced.
    Inactive,
    /// The host is at work.
    InProgress,
    /// Nothing was begun.
    Queued,
    /// GitHub's own word for a beginning; Belay does not write it.
    Pending,
    /// It is live.
    Success,
}

/// A state that can be read: more than can be written, and open to what GitHub adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenState {
    /// As [`State::Error`] when Belay wrote it. Other tools may mean something else by any of these.
    Error,
    /// As [`State::Failure`].
    Failure,
    /// As [`State::Inactive`]; GitHub writes it too.
    Inactive,
    /// As [`State::InProgress`]. Unfinished: the run that wrote it may have been killed.
    InProgress,
    /// As [`State::Queued`]. Unfinished.
    Queued,
    /// Unfinished, by another tool: Belay never writes it.
    Pending,
    /// As [`State::Success`]. The newest deployment in it counts as the live one.
    Success,
    /// Held back by a protection rule of the environment.
    Waiting,
    /// A state that did not exist when this was written. Counts as finished.
    #[serde(other)]
    Unknown,
}

impl SeenState {
    /// Something is still expected to happen.
    #[must_use]
    pub fn is_unfinished(self) -> bool {
        match self {
            Self::InProgress | Self::Queued | Self::Pending | Self::Waiting => true,
            Self::Error | Self::Failure | Self::Inactive | Self::Success | Self::Unknown => false,
        }
    }
}

impl PartialEq<State> for SeenState {
    fn eq(&self, written: &State) -> bool {
        match written {
            State::Error => *self == Self::Error,
            State::Failure => *self == Self::Failure,
            State::Inactive => *self == Self::Inactive,
            State::InProgress => *self == Self::InProgress,
            State::Queued => *self == Self::Queued,
            State::Pending => *self == Self::Pending,
            State::Success => *self == Self::Success,
        }
    }
}

/// What Belay writes into the payload, under `belay`, to know its own deployments again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentMark {
    /// The workflow run that made it.
    pub run_id: u64,
    /// Which attempt of that run.
    #[serde(default)]
    pub attempt: u32,
    /// The version, by its tag.
    #[serde(default)]
    pub tag: String,
    /// The number of the release on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The deployment that failed, when this one records the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<u64>,
}

impl DeploymentMark {
    /// Whether the other one was made by the same attempt of the same run, for the same purpose.
    fn is_same_attempt(&self, other: &Self) -> bool {
        (self.run_id, self.attempt, &self.tag, self.rollback_of)
            == (other.run_id, other.attempt, &other.tag, other.rollback_of)
    }
}

/// A deployment to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeployment {
    /// The commit in full: a tag may be moved.
    pub sha: String,
    /// The environment's name on GitHub.
    pub environment: String,
    /// What it is for.
    pub task: DeploymentTask,
    /// Words for people, cut to what GitHub takes.
    pub description: String,
    /// Whether people use the environment directly.
    pub production: bool,
    /// By what it is known again.
    pub mark: DeploymentMark,
}

impl NewDeployment {
    /// Everything is said explicitly: by default GitHub would merge the default branch into a ref that is behind it,
    /// and refuse while any check of the commit is not green.
    fn body(&self) -> Value {
        json!({
            "ref": self.sha,
            "task": self.task.word(),
            "environment": self.environment,
            "description": short(&self.description),
            "payload": { "belay": self.mark },
            "auto_merge": false,
            "required_contexts": [],
            "transient_environment": false,
            "production_environment": self.production,
        })
    }
}

/// A status to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusUpdate {
    /// How it stands.
    pub state: State,
    /// Words for people, cut to what GitHub takes.
    pub description: String,
    /// Where the application is found, shown as "View deployment".
    pub environment_url: Option<String>,
    /// The page with the log.
    pub log_url: Option<String>,
    /// Retire earlier deployments of the environment. GitHub does it only for those that are not production.
    pub auto_inactive: bool,
}

impl StatusUpdate {
    fn body(&self) -> Value {
        let mut fields = Map::from_iter([
            ("state".to_owned(), json!(self.state)),
            ("description".to_owned(), json!(short(&self.description))),
            ("auto_inactive".to_owned(), json!(self.auto_inactive)),
        ]);
        for (name, url) in [
            ("environment_url", &self.environment_url),
            ("log_url", &self.log_url),
        ] {
            if let Some(url) = url.as_ref().filter(|url| !url.is_empty()) {
                fields.insert(name.to_owned(), json!(url));
            }
        }
        Value::Object(fields)
    }
}

/// A deployment as GitHub tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Deployment {
    /// GitHub's number.
    pub id: u64,
    /// The commit; empty where GitHub leaves it out.
    #[serde(default)]
    pub sha: String,
    /// The environment's name.
    #[serde(default)]
    pub environment: String,
    /// As whoever made it called it.
    #[serde(default)]
    pub task: String,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    creator: Option<Creator>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Creator {
    #[serde(default)]
    login: String,
}

impl Deployment {
    /// Belay's mark, when Belay made it. The payload may be an object or a text that holds one.
    #[must_use]
    pub fn mark(&self) -> Option<DeploymentMark> {
        let parsed: Value;
        let payload = match &self.payload {
            Value::String(text) => {
                parsed = serde_json::from_str(text).ok()?;
                &parsed
            }
            object => object,
        };
        DeploymentMark::deserialize(payload.get("belay")?).ok()
    }

    /// Made by GitHub Actions itself, because the job names an environment.
    fn is_from_actions(&self) -> bool {
        self.mark().is_none()
            && self
                .creator
                .as_ref()
                .is_some_and(|creator| creator.login == ACTIONS_BOT)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Status {
    #[serde(default)]
    id: u64,
    state: SeenState,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    log_url: Option<String>,
    #[serde(default)]
    target_url: Option<String>,
}

impl Status {
    fn says(&self, update: &StatusUpdate) -> bool {
        self.state == update.state
            && self.description.as_deref().unwrap_or_default() == short(&update.description)
    }

    fn belongs_to_run(&self, run_id: u64) -> bool {
        let urls = [self.log_url.as_deref(), self.target_url.as_deref()];
        urls.into_iter().flatten().any(|url| names_run(url, run_id))
    }
}

/// Whether an address is that of the run or of something in it; run 12 is not run 123.
fn names_run(url: &str, run_id: u64) -> bool {
    let needle = format!("/runs/{run_id}");
    url.match_indices(&needle).any(|(at, _)| {
        !url.split_at(at + needle.len())
            .1
            .starts_with(|next: char| next.is_ascii_digit())
    })
}

/// What the deployments of an environment show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The newest one whose last word is success: what GitHub believes to be live.
    pub live: Option<Deployment>,
    /// Those whose last word promises more, newest first; one of Belay's without any status counts too.
    pub unfinished: Vec<Deployment>,
}

/// Whether a workflow run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkflowState {
    /// It ended, or is not known any more.
    Over,
    /// It may still say something.
    GoesOn,
}

impl GitHubClient {
    /// Creates a deployment. When the answer is lost, it is looked for before it is sent a second and last time.
    pub async fn create_deployment(&self, new: &NewDeployment) -> Result<Deployment, GitHubError> {
        let error = match self.try_create(new).await {
            Ok(deployment) => return Ok(deployment),
            Err(error) => error,
        };
        if !error.is_outage() || !self.pause_after(&error, 0).await {
            return Err(error);
        }
        match self.find_deployment(new).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.try_create(new).await,
            // Without a look there is no second try.
            Err(_) => Err(error),
        }
    }

    async fn try_create(&self, new: &NewDeployment) -> Result<Deployment, GitHubError> {
        let call = ApiCall::CreateDeployment;
        let answer = self
            .post(call, &self.path(&["deployments"]), &new.body())
            .await?;
        match answer.status {
            201 => answer.read(call),
            // A 202 has a message and no deployment: GitHub merged something instead.
            _ => Err(answer.refusal(call)),
        }
    }

    /// Finds a deployment that this very attempt has created already.
    pub async fn find_deployment(
        &self,
        new: &NewDeployment,
    ) -> Result<Option<Deployment>, GitHubError> {
        let mut page = Some(self.deployments_path(&new.environment, Some(&new.sha)));
        while let Some(path) = page {
            let answer = self.get(ApiCall::ListDeployments, &path).await?;
            let deployments: Vec<Deployment> = answer.read(ApiCall::ListDeployments)?;
            let own = |deployment: &Deployment| {
                deployment.task == new.task.word()
                    && deployment
                        .mark()
                        .is_some_and(|mark| mark.is_same_attempt(&new.mark))
            };
            if let Some(found) = deployments.into_iter().find(own) {
                return Ok(Some(found));
            }
            page = next(&answer);
        }
        Ok(None)
    }

    /// Finds the deployment that Actions made for this run, because its job names the environment.
    pub async fn adopt_deployment(
        &self,
        environment: &str,
        sha: &str,
        run_id: u64,
    ) -> Result<Option<Deployment>, GitHubError> {
        let path = self.deployments_path(environment, Some(sha));
        let answer = self.get(ApiCall::ListDeployments, &path).await?;
        let mut deployments: Vec<Deployment> = answer.read(ApiCall::ListDeployments)?;
        deployments.retain(Deployment::is_from_actions);
        newest_first(&mut deployments);
        for deployment in deployments.into_iter().take(ADOPT_LOOK_BACK) {
            let statuses = self.statuses(deployment.id).await?;
            if statuses.iter().any(|status| status.belongs_to_run(run_id)) {
                return Ok(Some(deployment));
            }
        }
        Ok(None)
    }

    /// Sets a status. When the answer is lost, the newest status is looked at before it is sent a second and last time.
    pub async fn set_status(&self, id: u64, update: &StatusUpdate) -> Result<(), GitHubError> {
        let error = match self.set_status_once(id, update).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !error.is_outage() || !self.pause_after(&error, 0).await {
            return Err(error);
        }
        match self.statuses(id).await {
            Ok(statuses) if statuses.first().is_some_and(|newest| newest.says(update)) => Ok(()),
            Ok(_) => self.set_status_once(id, update).await,
            Err(_) => Err(error),
        }
    }

    /// Sets a status that nobody will miss: sent once, whatever happens.
    pub async fn set_status_once(&self, id: u64, update: &StatusUpdate) -> Result<(), GitHubError> {
        let path = self.path(&["deployments", &id.to_string(), "statuses"]);
        let answer = self.post(ApiCall::SetStatus, &path, &update.body()).await?;
        match answer.status {
            201 => Ok(()),
            _ => Err(answer.refusal(ApiCall::SetStatus)),
        }
    }

    /// Retires a deployment that another one has replaced.
    pub async fn set_inactive(&self, id: u64, description: &str) -> Result<(), GitHubError> {
        let update = StatusUpdate {
            state: State::Inactive,
            description: description.to_owned(),
            environment_url: None,
            log_url: None,
            auto_inactive: false,
        };
        self.set_status(id, &update).await
    }

    /// The deployment that GitHub believes to be live in an environment.
    pub async fn latest_successful(
        &self,
        environment: &str,
    ) -> Result<Option<Deployment>, GitHubError> {
        Ok(self.survey(environment).await?.live)
    }

    /// The last words of the deployment that GitHub believes to be live in an environment.
    pub async fn words_of_live(&self, environment: &str) -> Result<Option<String>, GitHubError> {
        let Some(live) = self.latest_successful(environment).await? else {
            return Ok(None);
        };
        let statuses = self.statuses(live.id).await?;
        Ok(statuses.into_iter().next().and_then(|s| s.description))
    }

    /// The recent deployments of an environment whose last word promises more.
    pub async fn unfinished(&self, environment: &str) -> Result<Vec<Deployment>, GitHubError> {
        Ok(self.survey(environment).await?.unfinished)
    }

    /// Looks at the deployments of an environment, newest first, as far back as is useful.
    pub async fn survey(&self, environment: &str) -> Result<Survey, GitHubError> {
        let mut survey = Survey::default();
        let mut seen = 0;
        let mut page = Some(self.deployments_path(environment, None));
        while let Some(path) = page {
            let answer = self.get(ApiCall::ListDeployments, &path).await?;
            let mut deployments: Vec<Deployment> = answer.read(ApiCall::ListDeployments)?;
            newest_first(&mut deployments);
            for deployment in deployments {
                let enough = survey.live.is_some() && seen >= UNFINISHED_LOOK_BACK;
                if enough || seen >= MAX_LOOK_BACK {
                    return Ok(survey);
                }
                seen += 1;
                self.survey_one(deployment, &mut survey).await?;
            }
            page = next(&answer);
        }
        Ok(survey)
    }

    async fn survey_one(
        &self,
        deployment: Deployment,
        survey: &mut Survey,
    ) -> Result<(), GitHubError> {
        // Once the live one is known, only Belay's own can still be of interest.
        if survey.live.is_some() && deployment.mark().is_none() {
            return Ok(());
        }
        match self
            .statuses(deployment.id)
            .await?
            .first()
            .map(|newest| newest.state)
        {
            Some(SeenState::Success) if survey.live.is_none() => survey.live = Some(deployment),
            Some(state) if state.is_unfinished() => survey.unfinished.push(deployment),
            None if deployment.mark().is_some() => survey.unfinished.push(deployment),
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Whether a workflow run has ended. One that GitHub does not know any more has.
    pub async fn run_is_over(&self, run_id: u64) -> Result<WorkflowState, GitHubError> {
        #[derive(Deserialize)]
        struct WorkflowRun {
            #[serde(default)]
            status: Option<String>,
        }
        let call = ApiCall::ReadRun;
        let answer = match self
            .get(call, &self.path(&["actions", "runs", &run_id.to_string()]))
            .await
        {
            Err(GitHubError::Refused {
                status: 404 | 410, ..
            }) => return Ok(WorkflowState::Over),
            answer => answer?,
        };
        let run: WorkflowRun = answer.read(call)?;
        match run.status.as_deref() {
            Some("completed") => Ok(WorkflowState::Over),
            _ => Ok(WorkflowState::GoesOn),
        }
    }

    /// The commit that a tag names now, annotated or not; `None` when there is no such tag.
    pub async fn resolve_tag(&self, tag: &str) -> Result<Option<String>, GitHubError> {
        #[derive(Deserialize)]
        struct TaggedCommit {
            sha: String,
        }
        let call = ApiCall::ResolveTag;
        // `tags/` keeps a branch of the same name from answering.
        let path = self.path(&["commits", &format!("tags/{tag}")]);
        match self.get(call, &path).await {
            Ok(answer) => Ok(Some(answer.read::<TaggedCommit>(call)?.sha)),
            Err(GitHubError::Refused {
                status: 404 | 422, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The statuses of a deployment, the newest first. One page is enough: the newest are on it.
    async fn statuses(&self, id: u64) -> Result<Vec<Status>, GitHubError> {
        let path = self.path(&["deployments", &id.to_string(), "statuses"]);
        let answer = self
            .get(
                ApiCall::ListStatuses,
                &format!("{path}?per_page={PER_PAGE}"),
            )
            .await?;
        let mut statuses: Vec<Status> = answer.read(ApiCall::ListStatuses)?;
        statuses.sort_by_key(|status| std::cmp::Reverse(status.id));
        Ok(statuses)
    }

    fn deployments_path(&self, environment: &str, sha: Option<&str>) -> String {
        let encode = |text: &str| percent_encode(text, b"-_.~");
        let sha = sha
            .map(|sha| format!("&sha={}", encode(sha)))
            .unwrap_or_default();
        let path = self.path(&["deployments"]);
        format!(
            "{path}?environment={}{sha}&per_page={PER_PAGE}",
            encode(environment)
        )
    }
}

fn next(answer: &ApiAnswer) -> Option<String> {
    answer.next().map(str::to_owned)
}

/// GitHub lists the newest first; the ids say so for certain.
fn newest_first(deployments: &mut [Deployment]) {
    deployments.sort_by_key(|deployment| std::cmp::Reverse(deployment.id));
}

/// Cuts a description to what GitHub takes, at a character and with a mark.
fn short(description: &str) -> String {
    if description.chars().count() <= MAX_DESCRIPTION {
        return description.to_owned();
    }
    let kept: String = description.chars().take(MAX_DESCRIPTION - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(payload: Value) -> Deployment {
        serde_json::from_value(json!({
            "id": 42, "payload": payload, "creator": {"login": ACTIONS_BOT}, "new_field": 1
        }))
        .expect("readable")
    }

    #[test]
    fn a_description_is_cut_at_a_character() {
        let text = "é".repeat(200);
        assert_eq!(short(&text).chars().count(), MAX_DESCRIPTION);
        assert!(short(&text).ends_with("é…"));
        let fits = "x".repeat(MAX_DESCRIPTION);
        assert_eq!(short(&fits), fits);
    }

    #[test]
    fn the_payload_is_read_as_object_and_as_text() {
        let mark = DeploymentMark {
            run_id: 7,
            attempt: 1,
            tag: "v1.2.0".into(),
            seq: Some(3),
            rollback_of: None,
        };
        let object = json!({"belay": mark});
        assert_eq!(deployment(object.clone()).mark(), Some(mark.clone()));
        assert_eq!(deployment(json!(object.to_string())).mark(), Some(mark));
        for other in [
            json!(""),
            json!(null),
            json!({}),
            json!({"belay": 1}),
            json!("not json"),
            json!([]),
        ] {
            assert_eq!(deployment(other).mark(), None);
        }
    }

    #[test]
    fn a_deployment_of_belay_is_not_one_of_actions() {
        assert!(deployment(json!("")).is_from_actions());
        assert!(!deployment(json!({"belay": {"run_id": 7}})).is_from_actions());
    }

    #[test]
    fn states_that_cannot_be_written_are_read() {
        let read =
            |state: &str| serde_json::from_value::<SeenState>(json!(state)).expect("readable");
        assert_eq!(read("waiting"), SeenState::Waiting);
        assert_eq!(read("in_progress"), SeenState::InProgress);
        assert_eq!(read("levitating"), SeenState::Unknown);
        assert!(read("waiting").is_unfinished() && !read("levitating").is_unfinished());
    }

    #[test]
    fn run_12_is_not_run_123() {
        let url = "https://github.com/octo-org/shop/actions/runs/123/job/5";
        assert!(names_run(url, 123));
        assert!(!names_run(url, 12));
        assert!(names_run(
            "https://github.com/octo-org/shop/actions/runs/12",
            12
        ));
    }

    #[test]
    fn empty_addresses_are_not_sent() {
        let update = StatusUpdate {
            state: State::InProgress,
            description: "x".into(),
            environment_url: Some(String::new()),
            log_url: None,
            auto_inactive: false,
        };
        assert_eq!(
            update.body(),
            json!({"state": "in_progress", "description": "x", "auto_inactive": false})
        );
    }
}
