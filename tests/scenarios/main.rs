//! Whole transactions on a host in memory: what they come to when all goes well, and when anything does not.

#[path = "../support/mod.rs"]
mod support;

mod basics;
