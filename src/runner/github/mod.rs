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

pub mod client;
pub mod comments;
pub mod contents;
pub mod deployments;
pub mod ledger;
pub mod pulls;
pub mod rules;

pub use client::{Connection, GitHubClient, GitHubError, Patience};
pub use comments::{Kept, Sticky};
pub use deployments::{
    Deployment, Mark, NewDeployment, RunState, SeenState, State, StatusUpdate, Task,
};
pub use ledger::{Ending, Ledger, Opening, Record, Restored, finalize};
