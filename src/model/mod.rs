//! Decisions, as pure code: no I/O, clock, environment or async. Everything needed is passed in, the time included.

pub mod build;
pub mod compose;
pub mod config;
pub mod event;
pub mod health;
pub mod intent;
pub mod journal;
pub mod outcome;
pub mod plan;
pub mod release;
pub mod retention;
pub mod secret;
pub mod settle;
pub mod step;
pub mod tag;
pub mod yaml;
