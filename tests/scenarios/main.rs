//! Whole transactions on a host in memory: what they come to when all goes well, and when anything does not.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod cases;
mod crash;
mod files;
mod journal;
mod migrations;
mod outage;
mod rollback;
mod saga;
mod unwinding;
mod waiting;
