//! Decisions, as pure code: no I/O, clock, environment or async. Everything needed is passed in, the time included.
//!
//! One room for each subject. A value goes from `request` over `config`, `composition` and `replacement` to `transaction`;
//! `judgement` and `versions` are asked on the way, and `reviewing` tells of it.

#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::string_slice,
        clippy::unnecessary_wraps,
        reason = "a test that panics has said what is wrong"
    )
)]

pub mod composition;
pub mod config;
pub mod digest;
pub mod docker_versions;
pub mod judgement;
pub mod replacement;
pub mod request;
pub mod reviewing;
pub mod secret;
pub mod shell;
pub mod text;
pub mod transaction;
pub mod versions;
pub mod yaml;
