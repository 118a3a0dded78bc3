//! Turns values into words: an outcome into what a console, a step summary, a deployment status and a workflow's outputs
//! say, a dry run into a plan that people read, and the state of a host into `belay status`.
//!
//! Pure: no I/O, no clock, no environment; what is needed, the time included, is passed in. Nothing here can fail. Text
//! that comes from outside (logs, tags, services' names, errors) stays text: on a console it can neither move the cursor
//! nor become a workflow command, and in Markdown it can neither leave its place nor link, mention or show a picture.

#![cfg_attr(
    test,
    allow(
        clippy::match_same_arms,
        clippy::string_slice,
        clippy::too_many_lines,
        clippy::unnecessary_wraps,
        reason = "a test that panics has said what is wrong"
    )
)]

pub mod changed;
pub mod charts;
pub mod checklist;
pub mod console;
pub mod doctor;
pub mod evidence;
pub mod failure;
pub mod host_status;

pub mod markdown;
mod moved_data;
pub mod notification;
pub mod outputs;
pub mod plan;

pub mod progress;
pub mod released;
pub mod sentence;
pub mod status;
pub mod story;
pub mod summary;
pub mod support;
pub mod words;

#[cfg(test)]
mod examples;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;

pub use console::console;
pub use failure::{FailureLines, three_lines};

pub use host_status::{StatusReport, backups_text, status_text};
pub use outputs::outputs;
pub use plan::{PlanReport, plan_markdown, plan_text};

pub use progress::{Narrator, Progress};
pub use status::{annotation, deployment_status};
pub use summary::summary;
