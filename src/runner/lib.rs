//! The half of Belay that runs on the Actions VM or a laptop: it starts a transaction, watches it and confirms it.

#![cfg_attr(
    test,
    allow(
        clippy::match_same_arms,
        clippy::string_slice,
        reason = "a test that panics has said what is wrong"
    )
)]

pub mod actions;
mod checklist;
pub mod choices;
mod commands;
mod completion;
mod consent;
mod deploy;
mod doctor;
mod engine;
mod finalize;
pub mod git;
pub mod github;
mod github_record;
mod images;
pub mod init;
pub mod inputs;
mod link;
mod live_log;
mod notify;
mod pending;
mod percent;
pub mod present;
mod program;
mod public_check;
mod publish;
mod random;
pub mod run;
mod session;
mod ship;
mod source;
pub mod ssh;
pub mod tag_command;
mod transaction;
