//! A deployment or a rollback, from what was asked for to the outcome.
//!
//! Runs on the runner. A value moves one way: [`deployment`] takes a tag to a `Resolved` (resolved.rs), with the host to a
//! `Reached` (reached.rs), with the Compose file to a `Composed` (composed.rs), with the images to a `Built`, and to a
//! `Planned` (planned.rs); [`mod@rollback`] has no images to make. Everything before
//! [`carry_out`](super::transaction::carry_out) leaves what serves on the host alone, so an error there is a refusal.

mod composed;
mod conclusion;
mod context;
mod deployment;
mod error;
mod finish;
mod outlook;
mod planned;
mod reached;
mod resolved;
mod rollback;
mod shipped_files;

pub(crate) use conclusion::{Concluded, DryRunPlan, blank};
pub(crate) use context::{DeploymentRecord, RunContext};
pub(crate) use deployment::deploy;
pub(crate) use finish::after;
pub(crate) use outlook::outlook_of_checkout;
pub(crate) use rollback::rollback;
