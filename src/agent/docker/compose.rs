//! Which Compose the host has.
//!
//! Runs on the host. The one written in Python (1.x) takes a quarter of a second to say its version, and as a single file
//! more than half; every contact needs it. So its answer is kept beside the agent, for as long as the program's file is the
//! same. That file is a convenience: without it the program is asked.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::command::{Call, PATH};
use crate::records;

/// The Compose written in Python, as a program of its own.
const PYTHON: &str = "docker-compose";

#[derive(Clone, Debug)]
pub(super) struct ComposeProgram {
    pub(super) argv: Vec<String>,
    pub(super) version: String,
    /// The Go one, which prints JSON; the Python one (1.x) prints YAML only.
    pub(super) prints_json: bool,
}

/// What was found before, else what is found now: a host whose Docker is being updated may have none for a moment.
pub(super) fn find_compose(known: &Mutex<Option<ComposeProgram>>) -> Option<ComposeProgram> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.is_none() {
        *known = ComposeProgram::find();
    }
    known.clone()
}

impl ComposeProgram {
    /// Both are asked for their version: `docker compose` without the plugin is a different, working command.
    fn find() -> Option<Self> {
        let plugin = ["docker", "compose"];
        let of_plugin = || Some(Self::new(&plugin, version(&plugin)?));
        let of_program = || Some(Self::new(&[PYTHON], version_of_program()?));
        of_plugin().or_else(of_program)
    }

    fn new(argv: &[&str], version: String) -> Self {
        ComposeProgram {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            prints_json: !version.starts_with("1."),
            version,
        }
    }
}

/// What a program says that its version is.
fn version(argv: &[&str]) -> Option<String> {
    let words = argv.iter().copied().chain(["version", "--short"]);
    let printed = Call::new(words).run().ok()?;
    let version = String::from_utf8_lossy(&printed.stdout)
        .trim()
        .trim_start_matches('v')
        .to_owned();
    // One that somebody has built has no number, and says `dev` or a commit (docker/compose#12461).
    let is_one_word = !version.is_empty() && !version.contains(char::is_whitespace);
    is_one_word.then_some(version)
}

/// A file of a program, as it was when it said its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    path: PathBuf,
    modified: SystemTime,
    size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    program: Identity,
    version: String,
}

fn version_of_program() -> Option<String> {
    let program = identify(PYTHON, PATH)?;
    // The agent has a folder of its own, which goes with it.
    let notes = std::env::current_exe().ok();
    let notes = notes.map(|agent| agent.with_file_name("compose-version.json"));
    let asked = || version(&[PYTHON]);
    match notes {
        Some(notes) => remembered(&notes, program, asked),
        None => asked(),
    }
}

/// The version that was noted for just this file, else what it says now, which is noted.
fn remembered(
    notes: &Path,
    program: Identity,
    ask: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let noted = std::fs::read(notes).ok();
    let noted = noted.and_then(|text| serde_json::from_slice::<Remembered>(&text).ok());
    if let Some(noted) = noted.filter(|noted| noted.program == program) {
        return Some(noted.version);
    }
    let version = ask()?;
    let note = Remembered {
        program,
        version: version.clone(),
    };
    // Next time it is asked again, then.
    let _ = records::write_json(notes, &note);
    Some(version)
}

/// Where a program is, and which file that is.
fn identify(program: &str, path: &str) -> Option<Identity> {
    path.split(':').find_map(|folder| {
        let path = Path::new(folder).join(program);
        let found = std::fs::metadata(&path).ok()?;
        Some(Identity {
            path,
            modified: found.modified().ok()?,
            size: found.len(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_asked_once_and_again_when_it_is_another_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        let notes = dir.path().join("notes.json");
        std::fs::create_dir(&bin).expect("a directory");
        let path = format!("/nowhere:{}", bin.display());
        assert_eq!(identify("tool", &path), None);
        std::fs::write(bin.join("tool"), "one").expect("written");
        let tool = || identify("tool", &path).expect("it is there");
        let said = |version: &str| Some(version.to_owned());
        assert_eq!(remembered(&notes, tool(), || None), None);
        assert_eq!(
            remembered(&notes, tool(), || said("1.29.2")),
            said("1.29.2")
        );
        let asked_again = || panic!("it is known");
        assert_eq!(remembered(&notes, tool(), asked_again), said("1.29.2"));
        std::fs::write(bin.join("tool"), "another").expect("written");
        assert_eq!(
            remembered(&notes, tool(), || said("2.30.0")),
            said("2.30.0")
        );
        std::fs::write(&notes, "{").expect("written");
        assert_eq!(
            remembered(&notes, tool(), || said("2.30.0")),
            said("2.30.0")
        );
    }
}
