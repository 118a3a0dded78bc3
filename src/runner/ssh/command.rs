//! The one place where words become a shell string, and where the end of a remote command is read.
//!
//! Pure; runs on the runner. SSH carries a command as text that the login shell of the user splits, so there is
//! exactly one shell string in Belay: the one made here from an argument list, every word quoted for POSIX shells (and
//! for fish and csh, which differ only in what a backslash means inside quotes). It promises that the host runs
//! exactly the given words.
//!
//! The string also makes the remote shell write the exit status, behind an unguessable mark, as the last line of
//! stderr. The SSH library reports status 0 when a server closes without sending one, so a 0 counts only when this
//! line says so too.

use belay_model::shell::quoted;
use std::fmt;

use thiserror::Error;

/// A program and its arguments, checked to survive the way to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteCommand(Vec<String>);

/// Why words cannot be a command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// There was not a single word.
    #[error("a command needs a program")]
    Empty,
    /// No shell reads such a word as it is written.
    #[error("could not put argument {index} into a command: it contains a NUL or a line break")]
    Forbidden {
        /// Counted from 0, the program.
        index: usize,
    },
    /// The server would not get it whole.
    #[error("could not put {length} bytes of arguments into one command, {limit} fit")]
    TooLong {
        /// In bytes, quoted.
        length: usize,
        /// In bytes.
        limit: usize,
    },
}

/// The SSH library sends a request in one packet of at most 35,000 bytes.
const LONGEST: usize = 32_000;

impl RemoteCommand {
    /// Takes the program and its arguments, one word each. Line breaks are refused because no two shells agree on them.
    pub fn new<S: AsRef<str>>(argv: &[S]) -> Result<Self, CommandError> {
        if argv
            .first()
            .is_none_or(|program| program.as_ref().is_empty())
        {
            return Err(CommandError::Empty);
        }
        if let Some(index) = argv
            .iter()
            .position(|word| word.as_ref().contains(['\0', '\n', '\r']))
        {
            return Err(CommandError::Forbidden { index });
        }
        let command = Self(argv.iter().map(|word| word.as_ref().to_owned()).collect());
        let length = command.to_string().len();
        if length > LONGEST {
            return Err(CommandError::TooLong {
                length,
                limit: LONGEST,
            });
        }
        Ok(command)
    }

    /// The text for the host's login shell.
    pub(super) fn line(&self, mark: &ExitMark) -> String {
        format!(r#"exec sh -c '"$@"; s=$?; echo "{mark} $s" >&2; exit "$s"' belay {self}"#)
    }
}

/// The quoted words, as a person could paste them.
impl fmt::Display for RemoteCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{}", quoted(word))?;
        }
        Ok(())
    }
}

/// The words before the exit status on the last line of stderr.
#[derive(Debug, Clone)]
pub(super) struct ExitMark(String);

impl ExitMark {
    /// `nonce` differs from one command to the next, so that no output can be taken for the mark by accident.
    pub(super) fn new(nonce: u64) -> Self {
        Self(format!("belay-exit-{nonce:016x}"))
    }

    /// Takes the mark out of what the command wrote; `None` when it is not there, or not complete.
    pub(super) fn split(&self, stderr: &str) -> (String, Option<i32>) {
        let Some((before, after)) = stderr.rsplit_once(&self.0) else {
            return (stderr.to_owned(), None);
        };
        let Some((status, rest)) = after
            .strip_prefix(' ')
            .and_then(|after| after.split_once('\n'))
        else {
            return (stderr.to_owned(), None);
        };
        match status.parse() {
            Ok(status) => (format!("{before}{rest}"), Some(status)),
            Err(_) => (stderr.to_owned(), None),
        }
    }
}

impl fmt::Display for ExitMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of a stream, whose beginning is forgotten once there is too much of it.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    forgotten: usize,
}

impl Tail {
    const KEPT: usize = 64 * 1024;

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // Forgetting in large steps keeps this linear.
        if self.bytes.len() > 2 * Self::KEPT {
            self.forget();
        }
    }

    pub(super) fn text(mut self) -> String {
        self.forget();
        let text = String::from_utf8_lossy(&self.bytes);
        match self.forgotten {
            0 => text.into_owned(),
            forgotten => format!("[{forgotten} bytes left out]\n{text}"),
        }
    }

    fn forget(&mut self) {
        let surplus = self.bytes.len().saturating_sub(Self::KEPT);
        self.bytes.drain(..surplus);
        self.forgotten += surplus;
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    fn mark() -> ExitMark {
        ExitMark::new(7)
    }

    /// What a POSIX shell makes of the quoted words.
    fn split_by_sh(command: &RemoteCommand) -> Vec<u8> {
        let script = format!("printf '%s\\0' {command}");
        process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap()
            .stdout
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn every_word_arrives_as_it_was_given(
            words in proptest::collection::vec("[^\\x00\\r\\n]{1,12}|['\"\\\\$`!*]{1,6}", 1..6)
        ) {
            let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
            proptest::prop_assert_eq!(split_by_sh(&RemoteCommand::new(&words).unwrap()), expected);
        }
    }

    #[test]
    fn what_cannot_be_a_word_is_refused() {
        assert_eq!(RemoteCommand::new::<&str>(&[]), Err(CommandError::Empty));
        assert_eq!(RemoteCommand::new(&[""]), Err(CommandError::Empty));
        for bad in ["a\0b", "a\nb", "\n", "a\r"] {
            assert_eq!(
                RemoteCommand::new(&["echo", "fine", bad]),
                Err(CommandError::Forbidden { index: 2 })
            );
        }
        let long = "x".repeat(40_000);
        assert!(matches!(
            RemoteCommand::new(&["echo", &long]),
            Err(CommandError::TooLong { .. })
        ));
    }

    #[test]
    fn the_line_runs_the_words_and_tells_their_status() {
        let command = RemoteCommand::new(&["sh", "-c", "echo out; echo err >&2; exit 3"]).unwrap();
        let output = process::Command::new("sh")
            .args(["-c", &command.line(&mark())])
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            mark().split(&String::from_utf8(output.stderr).unwrap()),
            ("err\n".into(), Some(3))
        );
    }

    #[test]
    fn only_a_complete_mark_counts() {
        let mark = mark();
        assert_eq!(mark.split("x\n"), ("x\n".into(), None));
        assert_eq!(mark.split(&format!("x{mark} 0\n")), ("x".into(), Some(0)));
        assert_eq!(
            mark.split(&format!("{mark} 0\nlate\n")),
            ("late\n".into(), Some(0))
        );
        for text in [
            format!("{mark} 0"),
            format!("{mark} "),
            format!("{mark}0\n"),
            format!("{mark} x\n"),
            mark.to_string(),
        ] {
            assert_eq!(mark.split(&text), (text.clone(), None));
        }
        let other = ExitMark::new(8);
        assert_eq!(mark.split(&format!("{other} 0\n")).1, None);
    }

    #[test]
    fn a_tail_keeps_the_end_and_says_what_is_missing() {
        let mut tail = Tail::default();
        for _ in 0..300 {
            tail.push(&[b'x'; 1000]);
        }
        tail.push(b"end");
        let text = tail.text();
        assert!(text.starts_with(&format!("[{} bytes left out]\n", 300_003 - Tail::KEPT)));
        assert!(text.ends_with("xend"));
        assert_eq!(
            text.matches(['x', 'e', 'n', 'd']).count()
                - "bytes left out".matches(['e', 'n', 'd']).count(),
            Tail::KEPT
        );
    }

    #[test]
    fn a_short_tail_is_the_whole() {
        let mut tail = Tail::default();
        tail.push(b"all \xff");
        assert_eq!(tail.text(), "all \u{fffd}");
    }
}
