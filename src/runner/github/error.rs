//! What can go wrong between Belay and GitHub, by kind. Runs on the runner; pure.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use belay_model::transaction::outcome::with_causes;

/// What is asked of GitHub, for messages and for the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiCall {
    /// One deployment of Belay's own.
    CreateDeployment,
    /// Those of an environment.
    ListDeployments,
    /// One more status of a deployment.
    SetStatus,
    /// All statuses of a deployment.
    ListStatuses,
    /// Whether a workflow run is over.
    ReadRun,
    /// The commit of a tag.
    ResolveTag,
    /// Those of a pull request.
    ReadComments,
    /// Making, changing and removing the one comment.
    WriteComment,
    /// Those of a pull request.
    ReadReviews,
    /// The check runs of a commit.
    ReadChecks,
    /// The names of all version tags.
    ReadTags,
    /// The commits between two commits.
    Compare,
    /// The pull requests that a commit came with.
    ReadPulls,
    /// Who may deploy to an environment, and when.
    ReadEnvironment,
    /// What protects tags.
    ReadRulesets,
}

impl ApiCall {
    /// The line that the workflow's `permissions:` needs for it, where there is one for it.
    #[must_use]
    pub fn permission(self) -> Option<&'static str> {
        Some(match self {
            Self::CreateDeployment
            | Self::SetStatus
            | Self::ListDeployments
            | Self::ListStatuses => "deployments: write",
            Self::ReadRun | Self::ReadEnvironment => "actions: read",
            Self::ResolveTag | Self::ReadTags | Self::Compare => "contents: read",
            Self::ReadReviews | Self::ReadPulls => "pull-requests: read",
            Self::ReadChecks => "checks: read",
            Self::ReadComments | Self::WriteComment => "pull-requests: write",
            // Part of what every token may ("metadata").
            Self::ReadRulesets => return None,
        })
    }
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateDeployment => "create the deployment on GitHub",
            Self::ListDeployments => "list the deployments on GitHub",
            Self::SetStatus => "set the status of the deployment on GitHub",
            Self::ListStatuses => "read the statuses of a deployment on GitHub",
            Self::ReadRun => "read a workflow run on GitHub",
            Self::ResolveTag => "resolve the tag on GitHub",
            Self::ReadComments => "read the comments of the pull request on GitHub",
            Self::WriteComment => "write the comment on the pull request on GitHub",
            Self::ReadReviews => "read the reviews of the pull request on GitHub",
            Self::ReadChecks => "read the checks of the commit on GitHub",
            Self::ReadTags => "read the tags on GitHub",
            Self::Compare => "compare two commits on GitHub",
            Self::ReadPulls => "read the pull requests of a commit on GitHub",
            Self::ReadEnvironment => "read the rules of the environment on GitHub",
            Self::ReadRulesets => "read the rulesets on GitHub",
        })
    }
}

/// The cause of an error, reduced to words that may be shown.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(pub(super) String);

/// What went wrong between Belay and GitHub. It never contains the token.
#[derive(Debug, Error)]
pub enum GitHubError {
    /// No client could be made.
    #[error("could not set up the connection to GitHub")]
    Setup {
        /// In words that may be shown.
        #[source]
        source: Cause,
    },
    /// Whether GitHub did what was asked is not known.
    #[error("could not {call}: no answer")]
    NoAnswer {
        /// What was asked.
        call: ApiCall,
        /// In words that may be shown.
        #[source]
        source: Cause,
    },
    /// GitHub's own failure, status 5xx. Whether it did what was asked is not known either.
    #[error("could not {call}: GitHub has a problem (status {status})")]
    Outage {
        /// What was asked.
        call: ApiCall,
        /// Of the answer.
        status: u16,
        /// How long GitHub asks to wait, where it says.
        wait: Option<Duration>,
    },
    /// GitHub did nothing: the token has asked too often.
    #[error("could not {call}: too many requests (status {status})")]
    Limited {
        /// What was asked.
        call: ApiCall,
        /// Of the answer.
        status: u16,
        /// How long GitHub asks to wait, where it says.
        wait: Option<Duration>,
    },
    /// The token is wrong, or may not do this.
    #[error("could not {call}: the token is not allowed to (status {status})")]
    Forbidden {
        /// What was asked.
        call: ApiCall,
        /// Of the answer.
        status: u16,
        /// In words that may be shown.
        #[source]
        source: Cause,
    },
    /// GitHub understood, and does not do it.
    #[error("could not {call}: refused (status {status})")]
    Refused {
        /// What was asked.
        call: ApiCall,
        /// Of the answer.
        status: u16,
        /// In words that may be shown.
        #[source]
        source: Cause,
    },
    /// Its answer is not what its documentation promises.
    #[error("could not {call}: its answer makes no sense")]
    Unreadable {
        /// What was asked.
        call: ApiCall,
        /// In words that may be shown.
        #[source]
        source: Cause,
    },
}

impl GitHubError {
    /// GitHub cannot be reached or cannot answer at present; nothing was said about the request itself.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer { .. } | Self::Outage { .. } | Self::Limited { .. }
        )
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden { status: 401, .. } => {
                Some("the token is wrong or has expired".to_owned())
            }
            Self::Forbidden { call, .. } => Some(format!(
                "add \"{}\" under \"permissions:\" in the workflow",
                call.permission()?
            )),
            Self::Limited {
                wait: Some(wait), ..
            } => Some(format!("GitHub asks to wait {} s", wait.as_secs())),
            _ => None,
        }
    }

    /// The error with its causes and its hint, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let words = with_causes(self);
        match self.hint() {
            Some(hint) => format!("{words} ({hint})"),
            None => words,
        }
    }

    /// How long to pause before another try, or `None` when another try is useless.
    pub(super) fn pause_before_retry(&self, tried: u32, longest: Duration) -> Option<Duration> {
        let backoff = Duration::from_secs(1 << tried.min(4));
        match self {
            Self::NoAnswer { .. } => Some(backoff),
            Self::Outage { wait, .. } => {
                Some(wait.unwrap_or(backoff)).filter(|wait| *wait <= longest)
            }
            // Without a time GitHub means at least a minute, which no deployment should spend here.
            Self::Limited { wait, .. } => wait.filter(|wait| *wait <= longest),
            Self::Setup { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_pause_is_waited_for() {
        let longest = Duration::from_secs(20);
        let limited = |wait: Option<u64>| GitHubError::Limited {
            call: ApiCall::SetStatus,
            status: 429,
            wait: wait.map(Duration::from_secs),
        };
        assert_eq!(
            limited(Some(7)).pause_before_retry(0, longest),
            Some(Duration::from_secs(7))
        );
        assert_eq!(limited(Some(3600)).pause_before_retry(0, longest), None);
        assert_eq!(limited(None).pause_before_retry(0, longest), None);
    }
}
