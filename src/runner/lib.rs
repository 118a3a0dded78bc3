//! The half of Belay that runs on the Actions VM or a laptop: it starts a transaction, watches it and confirms it.

pub mod actions;
pub mod checklist;
pub mod choices;
pub mod commands;
pub mod completion;
pub mod consent;
pub mod deploy;
pub mod doctor;
pub mod engine;
pub mod git;
pub mod github;
pub mod images;
pub mod init;
pub mod inputs;
pub mod link;
pub mod notify;
mod percent;
pub mod present;
pub mod program;
pub mod random;
pub mod run;
pub mod session;
pub mod ship;
pub mod source;
pub mod ssh;
pub mod tag_command;
pub mod transaction;
