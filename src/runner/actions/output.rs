//! The outputs of a step, for the steps after it. Runs on the runner.

use std::io;

use super::{Actions, append};
use crate::random;

impl Actions {
    /// Sets an output of the step. Without an output file nothing happens.
    pub fn output(&self, name: &str, value: &str) -> io::Result<()> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not the name of an output",
            ));
        }
        let mut word = random::hex()?;
        while value.contains(&word) {
            word = random::hex()?;
        }
        append(
            path,
            &format!("{name}<<belay_{word}\n{value}\nbelay_{word}\n"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actions, file};

    #[test]
    fn an_output_cannot_end_itself_early() {
        let (_dir, path) = file("output");
        let (actions, _) = actions(&[("GITHUB_OUTPUT", path.to_str().expect("UTF-8"))]);
        actions
            .output("backup", "one\nEOF\noutcome=stolen")
            .expect("written");
        actions.output("outcome", "deployed").expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        let word = lines[0].strip_prefix("backup<<").expect("a delimiter");
        assert!(word.len() > 32);
        assert_eq!(lines[1..5], ["one", "EOF", "outcome=stolen", word]);
        assert!(lines[5].starts_with("outcome<<") && lines[6] == "deployed");
        assert_ne!(lines[5], format!("outcome<<{word}"));
    }

    #[test]
    fn an_output_with_a_strange_name_is_refused() {
        let (_dir, path) = file("output");
        let (actions, _) = actions(&[("GITHUB_OUTPUT", path.to_str().expect("UTF-8"))]);
        for name in ["", "a b", "a\nb", "a=b", "a<<b"] {
            assert!(actions.output(name, "x").is_err());
        }
        assert!(!path.exists());
    }
}
