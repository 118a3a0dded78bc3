//! Decisions, as pure code: no I/O, clock, environment or async. Everything needed is passed in, the time included.

pub mod build;
pub mod checklist;
pub mod compose;
pub mod config;
pub mod event;
pub mod gateway;
pub mod health;
pub mod intent;
pub mod journal;
pub mod measure;
pub mod moves;
pub mod nginx;
pub mod outcome;
pub mod plan;
pub mod ports;
pub mod release;
pub mod retention;
pub mod review;
pub mod revival;
pub mod secret;
pub mod settle;
pub mod step;
pub mod sticky;
pub mod strategy;
pub mod tag;
pub mod yaml;
