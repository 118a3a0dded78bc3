//! Belay deploys a Docker Compose application to a host over SSH from a git tag.
//!
//! Folders say where the code runs, because that decides what may fail: [`model`] is pure and runs anywhere, [`agent`]
//! runs on the host, [`runner`] on the Actions VM (or a laptop), [`wire`] is what the two say to each other, and
//! [`report`] turns an outcome into words. [`prober`] measures from either side, and [`archive`] reads archives of images
//! on both.

pub mod agent;
pub mod archive;
pub mod cli;
pub mod model;
pub mod prober;
pub mod report;
pub mod runner;
pub mod wire;
