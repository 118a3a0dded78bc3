//! Which part of its sweeps a run plays.
//!
//! A sweep that takes minutes is played in parts: a usual run takes one case in so many, and as many runs with samples that
//! follow each other take all of them. `BELAY_FULL=1` plays every case. docs/testing.md lists the sweeps.

#![allow(dead_code, unreachable_pub)]

/// Every case of every sweep, on every kind of host.
pub fn all_is_wanted() -> bool {
    std::env::var("BELAY_FULL").as_deref() == Ok("1")
}

/// The sample's number, `BELAY_SAMPLE`: `dist-scripts/test` gives the same to all tests and prints it. Nothing else decides
/// what a run plays; without it each process takes one of its own.
pub fn sample() -> usize {
    let wished = std::env::var("BELAY_SAMPLE").ok();
    let wished = wished.and_then(|sample| sample.parse().ok());
    wished.unwrap_or(std::process::id() as usize)
}

/// Whether a run that plays one in `in_a_run` of such cases plays this one.
pub fn has_its_turn(name: &str, in_a_run: usize) -> bool {
    all_is_wanted()
        || number_of(name)
            .wrapping_add(sample())
            .is_multiple_of(in_a_run)
}

/// A number that a name always has, so that not all names have their turn at once.
pub fn number_of(name: &str) -> usize {
    name.bytes().map(usize::from).sum()
}
