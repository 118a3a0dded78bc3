//! Belay's release binary against real hosts: containers with their own sshd and Docker (`dist-scripts/lab`), the real
//! application of `examples/ntplatform`, real git tags, and the stand-in for GitHub. Nothing of Belay is mocked.
//!
//! Runs only with `BELAY_E2E=1`, because it needs Docker and some minutes; without it every test says so and ends.
//! `BELAY_BIN` names the binary (default: the release build), `BELAY_E2E_HOSTS` how many hosts there are (default 2).
//! After every run the same things are looked at (`lab::App::check`): who answers, journal, lock, pins, leftovers, and
//! that what is not Belay's has not changed. How long each test took goes to standard error.

#[path = "../support/fake_github/mod.rs"]
mod fake_github;
mod lab;

mod action;
mod compose_features;
mod crashes;
mod doors;
mod failures;
mod main_job;
mod shelf;
