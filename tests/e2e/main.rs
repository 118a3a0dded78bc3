//! Belay's release binary against real hosts: containers with their own sshd and Docker (`dist-scripts/lab`), the real
//! application of `examples/ntplatform`, real git tags, and the stand-in for GitHub. Nothing of Belay is mocked.
//!
//! Runs only with `BELAY_E2E=1`, because it needs Docker and some minutes; without it every test says so and ends.
//! `BELAY_BIN` names the binary (default: the release build). There are hosts of each flavour of the lab, with one test at
//! a time on each and all of them at once; `BELAY_E2E_FLAVOURS=debian13` leaves the other out. A usual run plays a
//! part, which `BELAY_SAMPLE` decides ([`lab::Often`]); `BELAY_FULL=1` plays everything on all of them.
//! After every run the same things are looked at (`lab::App::check`): who answers, journal, lock, pins, leftovers, and
//! that what is not Belay's has not changed. How long each test took goes to standard error.

mod engine_api;
#[path = "../support/fake_github/mod.rs"]
mod fake_github;
#[macro_use]
mod lab;
#[path = "../support/load/mod.rs"]
mod load;
#[path = "../support/normalised.rs"]
mod normalised;
#[path = "../support/sample.rs"]
mod sample;

mod action;
mod button;
mod cancel;
mod chaos;
mod checklist;
mod compose_features;
mod continuity;
mod crashes;
mod damage;
mod doors;
mod failures;
mod faults;
mod gateway;
mod hands;
mod main_job;
mod matrix;
mod own_proxy;
mod plain_compose;
mod recording;
mod recovery;
mod restore;
mod secrets;
mod shelf;
mod stores;
mod systemd;
mod zero_downtime;
