//! Which lines of a log tell of an error.
//!
//! Runs anywhere; pure. A word list, as people read a log: it finds what says of itself that it is an error, and leaves
//! lines alone that say that there was none. It counts for a person to look; nothing is decided by it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Lines of each service that are kept, the first ones.
const KEPT: usize = 5;
/// Most of a line that is kept, in characters.
const KEPT_CHARS: usize = 300;

/// The lines of one service that tell of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLines {
    /// Its name in the Compose file; all its containers count together.
    pub service: String,
    /// All lines that were found, including those not kept in `first`.
    pub count: u64,
    /// The first few, shortened.
    pub first: Vec<String>,
}

impl ErrorLines {
    /// Looks through a log whose lines begin with Docker's timestamps, from `since` on.
    #[must_use]
    pub fn of(service: &str, log: &str, since: Timestamp) -> ErrorLines {
        let mut found = ErrorLines {
            service: service.to_owned(),
            ..ErrorLines::default()
        };
        for line in log.lines().filter_map(|line| said_since(line, since)) {
            if !is_error(line) {
                continue;
            }
            found.count += 1;
            if found.first.len() < KEPT {
                found.first.push(shortened(line));
            }
        }
        found
    }

    /// Adds what another container of the same service said.
    pub fn add(&mut self, other: ErrorLines) {
        self.count += other.count;
        let room = KEPT.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }
}

/// A line without its timestamp. One without a timestamp is the rest of a line that was too long for Docker.
fn said_since(line: &str, since: Timestamp) -> Option<&str> {
    let (stamp, said) = line.split_once(' ')?;
    let at: Timestamp = stamp.parse().ok()?;
    (at >= since).then_some(said)
}

fn shortened(line: &str) -> String {
    let mut chars = line.chars();
    let kept: String = chars.by_ref().take(KEPT_CHARS).collect();
    match chars.next() {
        Some(_) => kept + "…",
        None => kept,
    }
}

const WORDS: [&str; 10] = [
    "error",
    "err",
    "fatal",
    "panic",
    "panicked",
    "critical",
    "emerg",
    "exception",
    "traceback",
    "segfault",
];

/// What stands before or after one of the words when there was none: `0 errors`, `error=null`, `without error`.
const NONE_BEFORE: [&str; 5] = ["0", "no", "without", "zero", "non"];
const NONE_AFTER: [&str; 7] = ["null", "nil", "none", "0", "false", "\"\"", "<nil>"];

/// Whether a line says of itself that it is an error.
fn is_error(line: &str) -> bool {
    let line = line.to_lowercase();
    let mut before = "";
    for (word, rest) in words(&line) {
        let is_none = NONE_BEFORE.contains(&before) || (is_a_field(word) && has_none(rest));
        if is_word_of_error(word) && !is_none {
            return true;
        }
        before = word;
    }
    false
}

fn is_word_of_error(word: &str) -> bool {
    let singular = word.strip_suffix('s').unwrap_or(word);
    WORDS.contains(&word) || WORDS.contains(&singular) || word.ends_with("exception")
}

/// Each word of letters and digits, and what follows it.
fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(|c: char| c.is_alphanumeric())?;
        let (_, from) = rest.split_at(start);
        let end = from
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        rest = after;
        Some((word, rest))
    })
}

fn is_a_field(word: &str) -> bool {
    matches!(word, "err" | "error" | "errors")
}

/// Whether the value of a field that is called like an error says that there was none.
fn has_none(rest: &str) -> bool {
    let value = rest.trim_start_matches(['"', '\'', ' ']);
    let Some(value) = value.strip_prefix(['=', ':']) else {
        return false;
    };
    let value = value.trim_start();
    NONE_AFTER.iter().any(|none| {
        value
            .strip_prefix(none)
            .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_error_when_it_says_so() {
        for line in [
            "2026/11/24 12:00:00 [error] 7#7: upstream timed out",
            "ERROR:  relation \"users\" does not exist",
            r#"{"level":"error","msg":"no route"}"#,
            "level=error msg=\"no route\"",
            "thread 'main' panicked at src/main.rs:5:9:",
            "Traceback (most recent call last):",
            "java.lang.NullPointerException: null",
            "[FATAL] terminating",
            "3 errors were found",
            "error: nothing works",
            "error=0.5 of the budget",
        ] {
            assert!(is_error(line), "{line}");
        }
    }

    #[test]
    fn a_line_that_says_that_there_was_none_is_not() {
        for line in [
            "GET /errorpages/404 200",
            "compiled with 0 errors",
            "finished without error",
            "no errors found",
            r#"{"level":"info","error":null,"msg":"ok"}"#,
            "level=info err=<nil> msg=ok",
            "errors: 0, warnings: 3",
            "terror and mirrors",
            "",
        ] {
            assert!(!is_error(line), "{line}");
        }
    }

    #[test]
    fn lines_count_from_the_moment_on_and_the_first_are_kept() {
        let since: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
        let mut log = "2026-11-24T11:59:59.9Z error: of the version before\n".to_owned();
        for n in 0..9 {
            log.push_str(&format!("2026-11-24T12:00:0{n}.123456789Z error {n}\n"));
            log.push_str(&format!("2026-11-24T12:00:0{n}.2Z all is well\n"));
        }
        log.push_str(&format!(
            "2026-11-24T12:01:00Z error {}\n",
            "é".repeat(9_000)
        ));
        let mut found = ErrorLines::of("web", &log, since);
        assert_eq!(found.count, 10);
        assert_eq!(
            found.first,
            ["error 0", "error 1", "error 2", "error 3", "error 4"]
        );
        let long = "2026-11-24T12:01:00Z error ".to_owned() + &"é".repeat(9_000);
        let other = ErrorLines::of("web", &long, since);
        assert_eq!(other.first[0].chars().count(), KEPT_CHARS + 1);
        found.add(other);
        assert_eq!((found.count, found.first.len()), (11, KEPT));
    }
}
