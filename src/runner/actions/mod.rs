//! What Belay writes for the Actions runner: the log with its groups here, and beside it annotations, masks, outputs and
//! the step summary. Runs on the runner; everything it prints goes through one sink, so no two writers can mix inside a
//! line.
//!
//! Promises: text that came from outside (a host, a container, a registry) can never become a workflow command, colour
//! codes and invisible characters are gone from it, and an output or a summary cannot break out of its place. Outside
//! Actions the same calls print plain text, and outputs and summary go nowhere unless their files are named.
//! Fails only with the I/O error of the sink or the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::random;
use belay_model::text::{self, LONGEST_LINE, log_lines};

mod annotation;
mod command;
mod masks;
mod output;
mod summary;
#[cfg(test)]
mod tests;

pub use annotation::Annotation;

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// It looks for commands in it.
    ActionsRunner,
    Person,
}

/// The writer. It is shared by reference; each call is written whole before the next.
pub struct Actions {
    sink: Mutex<Sink>,
    audience: Audience,
    output: Option<PathBuf>,
    summary: Option<PathBuf>,
}

/// Where the log goes, and what has to be counted of it.
struct Sink {
    out: Box<dyn Write + Send>,
    shown: annotation::Shown,
}

impl Sink {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actions")
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

impl Actions {
    /// Reads from the environment whether the Actions runner listens (`GITHUB_ACTIONS` is `true`) and where its files
    /// are.
    pub fn new(env: &BTreeMap<String, String>, out: impl Write + Send + 'static) -> Self {
        let file = |name: &str| {
            env.get(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let in_actions = env
            .get("GITHUB_ACTIONS")
            .is_some_and(|value| value == "true");
        Self {
            sink: Mutex::new(Sink {
                out: Box::new(out),
                shown: annotation::Shown::default(),
            }),
            audience: match in_actions {
                true => Audience::ActionsRunner,
                false => Audience::Person,
            },
            output: file("GITHUB_OUTPUT"),
            summary: file("GITHUB_STEP_SUMMARY"),
        }
    }

    /// Whether the Actions runner reads what is written here.
    pub fn in_actions(&self) -> bool {
        self.audience == Audience::ActionsRunner
    }

    /// Prints a text of ours. It may quote foreign words, so it is cleaned like foreign text, line by line.
    pub fn line(&self, text: &str) -> io::Result<()> {
        self.write(&format!("{}\n", log_lines(text.as_bytes())))
    }

    /// Prints each line of a text of ours, as a courtesy: standard output that is gone takes nobody's deployment with it.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            let _ = self.line(line);
        }
    }

    /// Prints foreign output: cleaned, and with the runner told not to look for commands until a word that nobody can
    /// guess. Either guard would do; the second one covers what we do not know about the runner's parser.
    pub fn remote(&self, bytes: &[u8]) -> io::Result<()> {
        let text = log_lines(bytes);
        if text.is_empty() {
            return Ok(());
        }
        match self.audience {
            Audience::Person => self.write(&format!("{text}\n")),
            Audience::ActionsRunner => {
                let word = random::hex()?;
                self.write(&format!("::stop-commands::{word}\n{text}\n::{word}::\n"))
            }
        }
    }

    /// Opens a foldable group in the log. Groups do not nest.
    pub fn group(&self, title: &str) -> io::Result<()> {
        let title = title_line(title);
        match self.audience {
            Audience::ActionsRunner => self.write(&command::command("group", &[], &title)),
            Audience::Person => self.write(&format!("{title}\n")),
        }
    }

    /// Closes the group.
    pub fn end_group(&self) -> io::Result<()> {
        match self.audience {
            Audience::ActionsRunner => self.write(&command::command("endgroup", &[], "")),
            Audience::Person => Ok(()),
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        self.sink().write(text)
    }

    /// A writer that panicked left whole lines behind or none, so its lock is as good as ever.
    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A title, a file's name: one line, and not an endless one.
fn title_line(text: &str) -> String {
    text::cut(&text::one_line(text), LONGEST_LINE)
}

/// Adds to a file of the Actions runner, which other steps and programs write to as well.
fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(text.as_bytes())
}
