//! Whole transactions on a host in memory: what they come to when all goes well, and when anything does not.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod by_hand;
mod cases;
mod continuity;
mod copied;
mod crash;
mod damage;
mod fenced;
mod files;
mod images;
mod journal;
mod keeper;
mod migrations;
mod older;
mod outage;
mod restart;
mod restore;
mod revival;
mod rollback;
mod saga;
mod unwinding;
mod waiting;
mod withdrawn;
mod zero_downtime;
