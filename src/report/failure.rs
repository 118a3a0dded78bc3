//! Every failure in exactly three lines: what failed, what the host is doing now, what to do next.
//!
//! Runs anywhere; pure. Whoever noticed the failure may not have known the last two; the outcome's word then says them.

use std::fmt;

use jiff::Timestamp;

use belay_model::text::{clip, one_line};
use belay_model::transaction::outcome::{Failure, Outcome, Word};

use super::story;
use super::words::{self, clock};

/// The longest of the three lines, in characters. GitHub cuts an annotation at 4,096.
const LINE_MAX: usize = 1200;

/// A failure with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureLines {
    /// What failed. Like the others one line, cut at 1,200 characters.
    pub error: String,
    /// What the host is doing now.
    pub host: String,
    /// What to do next.
    pub next: String,
}

/// What is known around a failure. A word alone will do.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    word: Word,
    previous: Option<&'a str>,
    serving: Option<&'a str>,
    down: &'a [String],
    asked: Option<&'a str>,
    root: Option<&'a str>,
    settles_by: Option<Timestamp>,
    committed: bool,
    has_logs: bool,
}

impl From<Word> for Circumstances<'_> {
    fn from(word: Word) -> Self {
        Circumstances {
            word,
            previous: None,
            serving: None,
            down: &[],
            asked: None,
            root: None,
            settles_by: None,
            committed: false,
            has_logs: false,
        }
    }
}

impl<'a> From<&'a Outcome> for Circumstances<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Circumstances {
            word: outcome.word,
            previous: outcome.previous.as_deref(),
            serving: outcome.serving.as_deref(),
            down: &outcome.down,
            asked: Some(&outcome.asked),
            root: story::root(outcome),
            settles_by: outcome.settles_by,
            committed: story::is_committed(outcome),
            has_logs: !outcome.logs.is_empty(),
        }
    }
}

/// The failure in three lines: `error: …`, `host: …`, `next: …`.
pub fn three_lines<'a>(failure: &Failure, around: impl Into<Circumstances<'a>>) -> String {
    FailureLines::new(failure, &around.into()).to_string()
}

impl fmt::Display for FailureLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        writeln!(f, "host: {}", self.host)?;
        writeln!(f, "next: {}", self.next)
    }
}

impl FailureLines {
    /// Fills in what the failure leaves open.
    #[must_use]
    pub fn new(failure: &Failure, around: &Circumstances<'_>) -> Self {
        let line = |text: &str| clip(&one_line(text), LINE_MAX);
        FailureLines {
            error: line(&failure.error),
            host: line(failure.host.as_deref().unwrap_or(&around.host())),
            next: line(failure.next.as_deref().unwrap_or(&around.next())),
        }
    }

    /// The failure of an outcome: `None` when it went well.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let around = Circumstances::from(outcome);
        match (&outcome.failure, outcome.word) {
            (Some(failure), _) => Some(Self::new(failure, &around)),
            (None, Word::Deployed | Word::Unchanged) => None,
            (None, Word::Refused | Word::RolledBack | Word::Stuck | Word::Unknown) => {
                Some(Self::new(&Failure::new(around.error()), &around))
            }
        }
    }
}

impl Circumstances<'_> {
    /// For an outcome that forgot to say what failed.
    fn error(&self) -> &'static str {
        match self.word {
            Word::Refused => "it was refused",
            Word::Unknown => "contact with the host was lost",
            Word::Deployed | Word::Unchanged | Word::RolledBack | Word::Stuck => "it failed",
        }
    }

    fn host(&self) -> String {
        match self.word {
            Word::Deployed | Word::Unchanged => self.serves(),
            Word::Refused => match self.serving.or(self.previous) {
                Some(version) if self.down.is_empty() => {
                    format!("nothing was changed; {version} still serves")
                }
                Some(version) => format!(
                    "nothing was changed; {version} was deployed last, and {} not run",
                    words::not_running(self.down)
                ),
                None => "nothing was changed".to_owned(),
            },
            Word::RolledBack => match self.serving.or(self.previous) {
                Some(version) if self.down.is_empty() => {
                    format!("{version} serves again, verified")
                }
                Some(version) => format!(
                    "{version} is back, but {} not run",
                    words::not_running(self.down)
                ),
                None => {
                    "nothing serves, as before; nothing of the failed version is left".to_owned()
                }
            },
            Word::Stuck => self.stuck_host(),
            Word::Unknown => self.unknown_host(),
        }
    }

    fn serves(&self) -> String {
        match self.serving {
            Some(version) if self.down.is_empty() => format!("{version} serves"),
            Some(version) => {
                format!(
                    "{version} is there, but {} not run",
                    words::not_running(self.down)
                )
            }
            None => "nothing serves".to_owned(),
        }
    }

    fn stuck_host(&self) -> String {
        match (self.committed, self.previous) {
            (true, _) => format!(
                "{} serves, but its files are not all in place",
                self.serving.or(self.asked).unwrap_or("the new version")
            ),
            (false, Some(version)) => {
                format!("an undo failed, so it is not certain that {version} serves")
            }
            (false, None) => "an undo failed, so it is not certain what serves".to_owned(),
        }
    }

    fn unknown_host(&self) -> String {
        let until = match self.settles_by {
            Some(at) => format!("it settles itself by {}", clock(at)),
            None => "it settles itself".to_owned(),
        };
        match (self.asked, self.previous) {
            (Some(asked), Some(previous)) if asked != previous => {
                format!("{until}: then {asked} serves if it was confirmed, else {previous}")
            }
            _ => until,
        }
    }

    fn next(&self) -> String {
        match self.word {
            Word::Deployed | Word::Unchanged => "look at the warnings".to_owned(),
            Word::Refused => "correct that and run this again".to_owned(),
            Word::RolledBack if self.has_logs => {
                "read the failed containers' last logs, correct it and push a new tag".to_owned()
            }
            Word::RolledBack => "correct it and push a new tag".to_owned(),
            Word::Stuck => self.stuck_next(),
            Word::Unknown => match self.settles_by {
                Some(at) => format!("look with `belay status` after {}", clock(at)),
                None => "look with `belay status` in a few minutes".to_owned(),
            },
        }
    }

    fn stuck_next(&self) -> String {
        let script = match self.root {
            Some(root) => format!("{root}/.belay/rollback.sh"),
            None => ".belay/rollback.sh in the application's directory".to_owned(),
        };
        if self.committed {
            return "look with `belay status`, free what stands in the way and run this again"
                .to_owned();
        }
        match self.previous {
            Some(version) => format!(
                "look with `belay status`; if {version} does not serve, run {script} on the host"
            ),
            None => "look with `belay status`, and stop what is left on the host".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    const WORDS: [Word; 6] = [
        Word::Deployed,
        Word::Unchanged,
        Word::Refused,
        Word::RolledBack,
        Word::Stuck,
        Word::Unknown,
    ];

    #[test]
    fn every_failure_is_three_lines_whatever_it_contains() {
        for word in WORDS {
            for error in [
                "it broke",
                "two\nlines\r\nand three",
                "",
                "\u{1b}[2J::error::x",
            ] {
                let text = three_lines(&Failure::new(error), word);
                let lines: Vec<&str> = text.lines().collect();
                assert_eq!(lines.len(), 3, "{text}");
                assert!(lines[0].starts_with("error: "));
                assert!(
                    lines[1].starts_with("host: ") && lines[1].len() > 10,
                    "{text}"
                );
                assert!(
                    lines[2].starts_with("next: ") && lines[2].len() > 10,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn what_is_known_already_is_kept() {
        let failure = Failure::new("e").host("h").next("n");
        assert_eq!(
            three_lines(&failure, Word::Stuck),
            "error: e\nhost: h\nnext: n\n"
        );
    }

    #[test]
    fn the_host_line_names_what_serves() {
        let host = |outcome| FailureLines::of(&outcome).unwrap().host;
        assert_eq!(
            host(examples::refused_disk()),
            "nothing was changed; v1.1.0 still serves"
        );
        assert_eq!(
            host(examples::rolled_back()),
            "v1.1.1 serves again, verified"
        );
        assert_eq!(
            host(examples::first_deployment_failed()),
            "nothing serves, as before; nothing of the failed version is left"
        );
        assert_eq!(
            host(examples::unknown()),
            "it settles itself by 03:30 UTC: then v1.2.0 serves if it was confirmed, else v1.1.1"
        );
    }

    #[test]
    fn a_bad_outcome_without_a_failure_still_has_three_lines() {
        let mut outcome = examples::rolled_back();
        outcome.failure = None;
        assert!(FailureLines::of(&outcome).is_some());
        assert!(FailureLines::of(&examples::deployed()).is_none());
    }
}
