//! How often and how patiently a connection is tried again, with a clock that the tests move.

use std::cell::{Cell, RefCell};
use std::io;

use super::*;
use crate::ssh::SshTarget;

fn target() -> SshTarget {
    SshTarget {
        address: "203.0.113.10".into(),
        port: 22,
        user: "deploy".into(),
    }
}

fn transient() -> SshError {
    SshError::Unreachable {
        target: target(),
        source: io::ErrorKind::ConnectionRefused.into(),
    }
}

fn refused() -> SshError {
    SshError::Setup {
        target: target(),
        source: io::ErrorKind::Other.into(),
    }
}

/// Runs attempts that fail in turn with the given errors and then succeed; returns the pauses and whether it
/// succeeded.
fn pauses(attempts: u32, deadline: u64, failures: Vec<SshError>) -> (Vec<u64>, bool) {
    let slept = RefCell::new(Vec::new());
    let now = Cell::new(Duration::ZERO);
    let sleep = |pause: Duration| {
        now.set(now.get() + pause);
        slept.borrow_mut().push(pause.as_secs());
    };
    let mut failures = failures.into_iter();
    let result = with_backoff(
        attempts,
        Duration::from_secs(deadline),
        &|| now.get(),
        &sleep,
        |_| failures.next().map_or(Ok(()), Err),
    );
    (slept.into_inner(), result.is_ok())
}

#[test]
fn pauses_double_from_one_second_to_eight() {
    let failures = (0..9).map(|_| transient()).collect();
    assert_eq!(pauses(5, 100, failures), (vec![1, 2, 4, 8], false));
}

#[test]
fn five_attempts_are_the_most_whatever_is_asked_for() {
    let failures = (0..9).map(|_| transient()).collect();
    assert_eq!(pauses(50, 1000, failures).0.len(), 4);
}

#[test]
fn a_refusal_is_never_tried_again() {
    assert_eq!(pauses(5, 100, vec![refused()]), (vec![], false));
    assert_eq!(
        pauses(5, 100, vec![transient(), refused()]),
        (vec![1], false)
    );
}

#[test]
fn a_success_after_failures_is_a_success() {
    assert_eq!(
        pauses(5, 100, vec![transient(), transient()]),
        (vec![1, 2], true)
    );
}

#[test]
fn nothing_is_tried_that_would_start_after_the_deadline() {
    let failures = (0..9).map(|_| transient()).collect();
    assert_eq!(pauses(5, 3, failures).0, vec![1]);
}

#[test]
fn zero_attempts_mean_one() {
    assert_eq!(pauses(0, 100, vec![]), (vec![], true));
}
