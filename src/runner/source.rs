//! The repository at the commit that is deployed.
//!
//! Runs on the runner or a laptop. A checkout of another commit (a workflow that was dispatched on a branch) is left as it
//! is: the wanted commit is laid out beside it and removed afterwards.

use std::path::{Path, PathBuf};

use super::program::{ProgramError, run};

/// A directory with the files of one commit.
#[derive(Debug)]
pub(crate) struct Source {
    dir: PathBuf,
    /// The repository whose worktree this is, when it was laid out for this run.
    laid_out_from: Option<PathBuf>,
}

/// Why there are no files to deploy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("could not lay out commit {revision}")]
    LayOut {
        revision: String,
        #[source]
        source: ProgramError,
    },
    #[error("could not make a directory for commit {revision}")]
    Directory {
        revision: String,
        #[source]
        source: std::io::Error,
    },
}

impl Source {
    /// The files of a commit of the repository around `dir`.
    pub(crate) fn at(dir: &Path, revision: &str) -> Result<Source, SourceError> {
        if head(dir).as_deref() == Some(revision) {
            return Ok(Source {
                dir: dir.to_owned(),
                laid_out_from: None,
            });
        }
        let place = tempfile::Builder::new()
            .prefix("belay-source-")
            .tempdir()
            .map_err(|source| SourceError::Directory {
                revision: revision.to_owned(),
                source,
            })?;
        // git makes the last part of the path itself; the worktree is removed by git, too.
        let target = place.keep().join("source");
        git(
            dir,
            &[
                "worktree",
                "add",
                "--quiet",
                "--detach",
                &target.display().to_string(),
                revision,
            ],
        )
        .map_err(|source| SourceError::LayOut {
            revision: revision.to_owned(),
            source,
        })?;
        Ok(Source {
            dir: target,
            laid_out_from: Some(dir.to_owned()),
        })
    }

    /// The files as they lie there, whatever their commit: for work that deploys nothing.
    pub(crate) fn here(dir: &Path) -> Source {
        Source {
            dir: dir.to_owned(),
            laid_out_from: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(repository) = &self.laid_out_from {
            // A worktree that stays behind does no harm; git removes its record with `git worktree prune`.
            let _ = git(
                repository,
                &[
                    "worktree",
                    "remove",
                    "--force",
                    &self.dir.display().to_string(),
                ],
            );
            if let Some(parent) = self.dir.parent() {
                let _ = std::fs::remove_dir(parent);
            }
        }
    }
}

/// The commit that is checked out.
pub(crate) fn head(dir: &Path) -> Option<String> {
    let printed = git(dir, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).ok()?;
    Some(String::from_utf8_lossy(&printed).trim().to_owned())
}

fn git(dir: &Path, words: &[&str]) -> Result<Vec<u8>, ProgramError> {
    let mut argv = vec!["git".to_owned(), "-C".to_owned(), dir.display().to_string()];
    argv.extend(words.iter().map(|w| (*w).to_owned()));
    run(&argv)
}
