//! The half of Belay that runs on the Actions VM or a laptop: it starts a transaction, watches it and confirms it.

pub mod actions;
pub mod git;
pub mod github;
pub mod link;
pub mod program;
pub mod ssh;
pub mod tag_command;
