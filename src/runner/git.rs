//! What the repository says about its tags, read with the `git` binary on the runner or a laptop.
//!
//! The name of a tag never becomes an argument: all tags are listed, the one in question is looked up here, and git is
//! only ever given object ids that git itself printed. No shell takes part. Nothing is fetched, written or locked, and
//! variables that would point git at another repository are taken out of its environment. Fails when the folder is not
//! a repository, and when git is missing or refuses (a checkout that belongs to another user, for example).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use super::program;
use belay_model::request::tag::Tag;
use belay_model::request::tag_ancestry::{History, RepositoryFacts, TagPlace};

/// Why there are no facts about a repository.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The folder is in no repository, so there is nothing to know.
    #[error("this folder is not in a git repository")]
    OutsideRepository,
    /// There is no `git` on this machine, or it could not be started.
    #[error("could not run git")]
    NotRun(#[source] std::io::Error),
    /// Git ran and refused.
    #[error("git could not read the repository: {0}")]
    Refused(String),
}

/// Everything that bears on the tag `name`, which may be any text and need not exist.
pub fn repository_facts(dir: &Path, name: &str) -> Result<RepositoryFacts, GitError> {
    let history = match git(dir, &["rev-parse", "--is-shallow-repository"])?.trim() {
        "true" => History::Shallow,
        _ => History::Complete,
    };
    let tags = read_tags(dir)?;
    let place = match tags.get(name) {
        Some(commit) => TagPlace::Tagged(commit.clone()),
        None => head(dir).map_or(TagPlace::Nowhere, TagPlace::Head),
    };
    let contained = match &place {
        TagPlace::Tagged(commit) | TagPlace::Head(commit) => contained_in(dir, commit)?,
        TagPlace::Nowhere => BTreeSet::new(),
    };
    Ok(RepositoryFacts {
        history,
        tags,
        place,
        contained,
    })
}

/// Every tag that is one of Belay's and points, directly or through annotated tags, to a commit.
fn read_tags(dir: &Path) -> Result<BTreeMap<String, String>, GitError> {
    const FORMAT: &str =
        "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)";
    let listing = git(dir, &["for-each-ref", FORMAT, "refs/tags"])?;
    let mut tags = BTreeMap::new();
    for line in listing.lines() {
        // Without an annotation the starred fields are empty, and leave their spaces behind.
        let (fields, name) = line.split_once(" refs/tags/").unwrap_or((line, ""));
        if Tag::parse(name).is_err() {
            continue;
        }
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let commit = match fields[..] {
            ["commit", commit] | ["tag", _, "commit", commit] => Some(commit.to_owned()),
            ["tag", object, "tag", _] => commit_of(dir, object),
            _ => None,
        };
        if let Some(commit) = commit {
            tags.insert(name.to_owned(), commit);
        }
    }
    Ok(tags)
}

fn contained_in(dir: &Path, commit: &str) -> Result<BTreeSet<String>, GitError> {
    let merged = format!("--merged={commit}");
    let listing = git(
        dir,
        &["for-each-ref", &merged, "--format=%(refname)", "refs/tags"],
    )?;
    let names = listing
        .lines()
        .filter_map(|line| line.strip_prefix("refs/tags/"));
    Ok(names
        .filter(|name| Tag::parse(name).is_ok())
        .map(str::to_owned)
        .collect())
}

/// The commit that is checked out; nothing in a repository without commits.
fn head(dir: &Path) -> Option<String> {
    commit_of(dir, "HEAD")
}

fn commit_of(dir: &Path, object: &str) -> Option<String> {
    let peeled = format!("{object}^{{commit}}");
    let answer = git(
        dir,
        &[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &peeled,
        ],
    )
    .ok()?;
    // Before 2.30, rev-parse repeats --end-of-options in its answer.
    answer
        .lines()
        .rfind(|line| line.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(str::to_owned)
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String, GitError> {
    let output = command(dir)
        .args(arguments)
        .output()
        .map_err(GitError::NotRun)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(classify(&String::from_utf8_lossy(&output.stderr)))
}

/// What git's words mean. It has one exit status for everything (128); the words are the same in every version since 1.5,
/// in the language that [`command`] asks for.
fn classify(said: &str) -> GitError {
    if said.contains("not a git repository") {
        return GitError::OutsideRepository;
    }
    let first = said.lines().next().unwrap_or("it gave no reason");
    GitError::Refused(first.escape_debug().to_string())
}

fn command(dir: &Path) -> Command {
    let mut command = program::command("git");
    for (name, _) in std::env::vars_os() {
        if misleads(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_NO_LAZY_FETCH", "1");
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .arg("--no-pager")
        .arg("-C")
        .arg(dir);
    command
}

/// Whether a variable would make git look at another repository than the one it is asked about. `GIT_CONFIG_*` stays:
/// that is how a runner declares its checkout to be safe.
fn misleads(variable: &str) -> bool {
    variable.starts_with("GIT_")
        && !variable.starts_with("GIT_CONFIG")
        && variable != "GIT_CEILING_DIRECTORIES"
}

#[cfg(test)]
mod tests {
    use super::misleads;

    #[test]
    fn variables_of_another_repository_are_taken_away() {
        for variable in [
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_COMMON_DIR",
            "GIT_OBJECT_DIRECTORY",
            "GIT_NAMESPACE",
        ] {
            assert!(misleads(variable), "{variable}");
        }
        for variable in [
            "PATH",
            "HOME",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_GLOBAL",
            "GITHUB_REF",
        ] {
            assert!(!misleads(variable), "{variable}");
        }
    }
}
