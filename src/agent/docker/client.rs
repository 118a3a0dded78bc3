//! Docker's own client, for the few things that its API does not do for us.
//!
//! Runs on the host.

use std::time::Duration;

use super::super::command::Call;

/// How long a call may take that has little to do, on a host that is busy.
pub(super) const SHORT: Duration = Duration::from_mins(1);

pub(super) fn docker<const N: usize>(words: [&str; N]) -> Call {
    Call::new(std::iter::once("docker").chain(words)).deadline(SHORT)
}
