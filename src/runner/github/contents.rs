//! Which pull requests lie between two commits. Runs on the runner; reads only.
//!
//! Asked of what was live and what is, not of tags: a release that was rolled back or never succeeded is made up for by
//! the next one. GitHub knows the pull request of every commit that came by one, also when it was squashed or rebased.

use serde::Deserialize;

use super::client::{GitHubClient, LARGE_PAGES};
use super::error::{ApiCall, GitHubError};
use belay_model::versions::changes::{Compared, PullRequestOf};

/// Most commits whose pull requests are looked up, one request each; the newest ones.
const MOST_COMMITS: usize = 250;

#[derive(Deserialize)]
struct Comparison {
    #[serde(default)]
    commits: Vec<ComparedCommit>,
}

#[derive(Deserialize)]
struct ComparedCommit {
    sha: String,
}

#[derive(Deserialize)]
struct SeenPull {
    number: u64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    merged_at: Option<String>,
    #[serde(default)]
    head: Option<ComparedCommit>,
}

impl GitHubClient {
    /// The pull requests whose commits `to` has and `from` has not, each once and in the order of their numbers. Merged ones
    /// only: a commit may lie in any number of open ones.
    pub async fn pull_requests_between(
        &self,
        from: &str,
        to: &str,
    ) -> Result<Compared, GitHubError> {
        let commits = self.commits_between(from, to).await?;
        let left_out = commits.len().saturating_sub(MOST_COMMITS);
        let mut found: Vec<PullRequestOf> = vec![];
        for sha in commits.iter().skip(left_out) {
            let path = self.path(&["commits", sha, "pulls"]) + LARGE_PAGES;
            let pulls: Vec<SeenPull> = self.all(ApiCall::ReadPulls, path, |page| page).await?;
            for pull in pulls {
                if pull.merged_at.is_some() && !found.iter().any(|p| p.number == pull.number) {
                    found.push(pull.into());
                }
            }
        }
        found.sort_by_key(|pull| pull.number);
        Ok(Compared {
            commits: commits.len(),
            left_out,
            pull_requests: found,
        })
    }

    /// Oldest first.
    async fn commits_between(&self, from: &str, to: &str) -> Result<Vec<String>, GitHubError> {
        let between = format!("{from}...{to}");
        let path = self.path(&["compare", &between]) + LARGE_PAGES;
        let unwrap = |page: Comparison| page.commits;
        let commits: Vec<ComparedCommit> = self.all(ApiCall::Compare, path, unwrap).await?;
        Ok(commits.into_iter().map(|commit| commit.sha).collect())
    }
}

impl From<SeenPull> for PullRequestOf {
    fn from(pull: SeenPull) -> Self {
        PullRequestOf {
            number: pull.number,
            title: pull.title,
            url: pull.html_url,
            head: pull.head.map(|head| head.sha),
        }
    }
}
