//! What the tests of the agent share: a host in memory, and an application with several versions on it.
// Each test program uses another part of it.
#![allow(dead_code, unreachable_pub)]

pub mod fake_host;
pub mod sample;
pub mod setups;
pub mod site;
