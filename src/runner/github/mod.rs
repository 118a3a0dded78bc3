//! Belay's view of GitHub: deployments, their statuses, and the little around them that a deployment needs to know.
//! Runs on the runner.
//!
//! [`client`] carries requests and reads answers, [`deployments`] is one function per thing that is asked or told, and
//! [`ledger`] is the life of one deployment's record from queued to its last word. [`comments`] keeps the one comment on a
//! pull request, [`pulls`] reads what it is about, and [`contents`] finds the pull requests of a release. [`rules`] reads
//! what the repository's settings allow, for the doctor.
//!
//! Promises: nothing here decides the fate of a deployment. Reads are repeated a few times; a write is never repeated
//! without looking first whether it happened after all; every failure ends as a warning in the ledger.

mod answer;
pub mod client;
pub mod comments;
pub mod contents;
pub mod deployments;
mod ending;
mod error;
pub mod ledger;
mod ledger_file;
pub mod pulls;
pub mod rules;

pub use client::{ApiAccess, GitHubClient, RetryPolicy};
pub use comments::{CommentChange, Sticky};
pub use deployments::{
    Deployment, DeploymentMark, DeploymentTask, NewDeployment, SeenState, State, StatusUpdate,
    WorkflowState,
};
pub use ending::FinalStatus;
pub use error::{ApiCall, GitHubError};
pub use ledger::{Ledger, Restored, finalize};
pub use ledger_file::{Opening, RecordPolicy};
