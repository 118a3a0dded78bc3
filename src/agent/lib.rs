//! The half of Belay that runs on the host: it takes the lock, keeps the journal, does and undoes the steps.

#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::format_collect,
        clippy::maybe_infinite_iter,
        reason = "a test that panics has said what is wrong"
    )
)]

pub mod adopt;
pub mod backup;
mod backup_now;
pub mod channel;
mod command;
mod contact;
mod continuity;
mod copying;
pub mod disk;
pub mod docker;
mod down;
pub mod durable;
pub mod engine;
pub mod engine_process;
pub mod error;
pub mod facts;
pub mod fence;
mod fenced;
pub mod host;
mod images;
pub mod journal;
mod keeper;
pub mod layout;
pub mod lock;
mod meter;
mod outlook;
pub mod records;
pub mod rendering;
pub mod repair;
pub mod restart;
pub mod revive;
mod sizes;
mod spawn;
pub mod state;
pub mod steps;
mod supervise;
pub mod transactions;
pub mod trouble;
pub mod verbs;
pub mod watch;
