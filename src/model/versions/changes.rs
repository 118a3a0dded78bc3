//! What a deployment or a rollback changed, as people ask: which pull requests came and which went.
//!
//! Runs anywhere; pure data.

use serde::{Deserialize, Serialize};

/// A merged pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestOf {
    /// GitHub's number of it in the repository, without `#`.
    pub number: u64,
    /// As it was when the run looked; its author can still change it.
    pub title: String,
    /// Its page, for people.
    pub url: String,
    /// The newest of its own commits; what reviews and checks are of.
    pub head: Option<String>,
}

/// What one commit has and another has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// How many, including those in `left_out`.
    pub commits: usize,
    /// Of those, the oldest ones, whose pull requests were not looked up.
    pub left_out: usize,
    /// The merged ones that these commits belong to, each once, by number.
    pub pull_requests: Vec<PullRequestOf>,
}

/// The difference between what was live before a run and what the run brought, or tried to bring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The commit that was live before.
    pub from: String,
    /// The commit that the run brought, or tried to bring.
    pub to: String,
    /// What `to` has and `from` has not.
    pub came: Compared,
    /// What `from` had and `to` has not: after a rollback, or a hotfix of an older version.
    pub went: Compared,
}
