//! Puts data in the place of other data through the Docker engine, so that no sudo is needed.
//!
//! Runs on the host, as a user of the docker group. What is there is moved aside, and back, by this very program inside a
//! helper container that has the data mounted ([`aside`](super::aside)); the new content is unpacked by the engine
//! (`docker cp`), which keeps owners, modes, times and attributes. Nothing else may use the data meanwhile.

use std::io;
use std::path::Path;

use super::aside::Action;
use super::calls::{SILENCE, docker_command, feed};
use super::helper::{Helpers, MOUNTED, MountAccess};
use super::manifest::EntryRecord;
use super::{DataKind, DataWriter, Feed, ReadError};
use belay_model::composition::data::RestoredSource;

/// What it prints at the end of its work. An exit status alone is no proof.
pub const DONE: &str = "done";

/// Writes an application's data through the engine.
#[derive(Debug)]
pub struct DockerWriter {
    helpers: Helpers,
}

impl DockerWriter {
    /// A writer for a project's data. `program` is this one, or of the same commands.
    #[must_use]
    pub fn new(program: &Path, project: &str) -> DockerWriter {
        DockerWriter {
            helpers: Helpers::of(program, project),
        }
    }

    /// Runs this program beside the data.
    fn run(
        &self,
        source: &RestoredSource,
        action: Action,
        mark: &str,
        input: Feed<'_>,
    ) -> Result<(), ReadError> {
        let (kind, only) = mounted(source);
        let mut words = vec!["agent", "aside", action.name(), "--dir", MOUNTED];
        words.extend(["--mark", mark]);
        if let Some(only) = &only {
            words.extend(["--only", only]);
        }
        let helper = self.helpers.create(&kind, MountAccess::Write, &words)?;
        let start = ["start", "--attach", "--interactive", &helper.id];
        let printed = feed(docker_command(start), input, SILENCE)?;
        match printed.trim() == DONE {
            true => Ok(()),
            false => Err(ReadError::said(
                action.name(),
                "it ended before its work was done",
            )),
        }
    }
}

/// What a helper mounts, and the one name in it that is meant: a single file cannot be moved from where it is mounted.
fn mounted(source: &RestoredSource) -> (DataKind, Option<String>) {
    match &source.kind {
        DataKind::Bind { path } if source.is_file => {
            let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
            (DataKind::Bind { path: dir }, file_name(path))
        }
        kind => (kind.clone(), None),
    }
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

impl DataWriter for DockerWriter {
    fn set_aside(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.run(source, Action::SetAside, mark, &mut |_| Ok(()))
    }

    fn fill(&self, source: &RestoredSource, content: Feed<'_>) -> Result<(), ReadError> {
        let (kind, _) = mounted(source);
        // Never started.
        let helper = self.helpers.create(&kind, MountAccess::Write, &[])?;
        // To the directory above: only what has a name gets its mode and its owner.
        let to = format!("{}:/", helper.id);
        feed(docker_command(["cp", "-", &to]), content, SILENCE).map(drop)
    }

    fn check(
        &self,
        source: &RestoredSource,
        mark: &str,
        wanted: &[EntryRecord],
    ) -> Result<(), ReadError> {
        self.run(source, Action::Check, mark, &mut |out| {
            serde_json::to_writer(out, wanted).map_err(io::Error::from)
        })
    }

    fn put_back(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.run(source, Action::PutBack, mark, &mut |_| Ok(()))
    }

    fn forget(&self, source: &RestoredSource, mark: &str) -> Result<(), ReadError> {
        self.run(source, Action::Forget, mark, &mut |_| Ok(()))
    }

    fn sweep(&self) -> Result<(), ReadError> {
        self.helpers.sweep()
    }
}
