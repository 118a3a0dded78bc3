//! The half of Belay that runs on the host: it takes the lock, keeps the journal, does and undoes the steps.

pub mod adopt;
pub mod backup;
pub mod command;
pub mod disk;
pub mod docker;
pub mod durable;
pub mod engine;
pub mod facts;
pub mod fenced;
pub mod host;
pub mod images;
pub mod journal;
pub mod layout;
pub mod lock;
pub mod meter;
pub mod restart;
pub mod revive;
pub mod state;
pub mod steps;
pub mod supervise;
pub mod verbs;
pub mod watch;
