//! What GitHub knows of a pull request: its reviews, the checks of a commit, and the tags that there are. Runs on the
//! runner; reads only.

use serde::Deserialize;

use super::client::{GitHubClient, LARGE_PAGES};
use super::error::{ApiCall, GitHubError};
use belay_model::reviewing::review::{Check, CheckState, Opinion, Review};

#[derive(Deserialize)]
struct Reviewer {
    #[serde(default)]
    login: String,
}

#[derive(Deserialize)]
struct SeenReview {
    #[serde(default)]
    user: Option<Reviewer>,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct CheckRuns {
    #[serde(default)]
    check_runs: Vec<CheckRun>,
}

#[derive(Deserialize)]
struct CheckRun {
    #[serde(default)]
    name: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    details_url: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "ref", default)]
    name: String,
}

impl GitHubClient {
    /// The reviews of a pull request, in the order in which they were given.
    pub async fn reviews(&self, pull_request: u64) -> Result<Vec<Review>, GitHubError> {
        let path = self.path(&["pulls", &pull_request.to_string(), "reviews"]) + LARGE_PAGES;
        let seen: Vec<SeenReview> = self.all(ApiCall::ReadReviews, path, |page| page).await?;
        let review = |seen: SeenReview| Review {
            author: seen.user.map(|user| user.login).unwrap_or_default(),
            opinion: match seen.state.as_str() {
                "APPROVED" => Opinion::Approved,
                "CHANGES_REQUESTED" => Opinion::ChangesRequested,
                "DISMISSED" => Opinion::Dismissed,
                _ => Opinion::Commented,
            },
        };
        Ok(seen.into_iter().map(review).collect())
    }

    /// The checks of a commit, but for those of the workflow run that asks: it never sees itself end.
    pub async fn checks(&self, commit: &str, own_run: u64) -> Result<Vec<Check>, GitHubError> {
        let path = self.path(&["commits", commit, "check-runs"]) + LARGE_PAGES;
        let unwrap = |page: CheckRuns| page.check_runs;
        let seen: Vec<CheckRun> = self.all(ApiCall::ReadChecks, path, unwrap).await?;
        let own = format!("/runs/{own_run}/");
        let is_own = |run: &CheckRun| {
            let url = run.details_url.as_deref().unwrap_or_default();
            format!("{url}/").contains(&own)
        };
        let check = |run: CheckRun| Check {
            state: state_of(&run),
            name: run.name,
        };
        let others = seen.into_iter().filter(|run| !is_own(run));
        Ok(others.map(check).collect())
    }

    /// The names of all tags that begin like a version.
    pub async fn version_tags(&self) -> Result<Vec<String>, GitHubError> {
        // This list comes whole.
        let path = self.path(&["git", "matching-refs", "tags/v"]);
        let seen: Vec<Reference> = self.all(ApiCall::ReadTags, path, |page| page).await?;
        let tag = |reference: Reference| {
            let name = reference.name.strip_prefix("refs/tags/")?;
            Some(name.to_owned())
        };
        Ok(seen.into_iter().filter_map(tag).collect())
    }
}

/// A check that was left out on purpose stands in nobody's way.
fn state_of(run: &CheckRun) -> CheckState {
    match (run.status.as_str(), run.conclusion.as_deref()) {
        ("completed", Some("success" | "neutral" | "skipped")) => CheckState::Passed,
        ("completed", _) => CheckState::Failed,
        _ => CheckState::Running,
    }
}
