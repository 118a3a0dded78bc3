//! The last word on a deployment, in GitHub's terms. Runs on the runner; pure.

use super::deployments::{State, StatusUpdate};

/// The last word on a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalStatus {
    /// How it ended.
    pub state: State,
    /// Words for people.
    pub description: String,
    /// Where the application is found, when it is live.
    pub environment_url: Option<String>,
}

impl FinalStatus {
    pub(super) fn new(state: State, description: impl Into<String>) -> Self {
        Self {
            state,
            description: description.into(),
            environment_url: None,
        }
    }

    /// The run was ended before it had the host begin anything.
    #[must_use]
    pub fn cut_short() -> Self {
        Self::new(
            State::Error,
            "the run was ended before anything was changed on the host",
        )
    }

    /// Of a deployment that nobody ended.
    pub(super) fn abandoned() -> Self {
        Self::new(State::Error, "abandoned: its run ended without a result")
    }

    /// The status that says it.
    pub(super) fn update(&self, log_url: &str) -> StatusUpdate {
        StatusUpdate {
            state: self.state,
            description: self.description.clone(),
            environment_url: self.environment_url.clone(),
            log_url: Some(log_url.to_owned()),
            auto_inactive: self.state == State::Success,
        }
    }
}
