//! What is kept in the job for `belay finalize`, should the step that deploys be killed.
//!
//! Runs on the runner, in its temporary directory. A file that is missing costs warnings at most.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inputs::Env;
use belay_model::transaction::outcome::Outcome;

/// What `finalize` needs to settle a run that was killed.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    /// The transaction's name on the host.
    pub(super) tx: String,
    /// What is known of it so far.
    pub(super) outcome: Outcome,
}

fn state_dir(env: &Env) -> PathBuf {
    env.get("RUNNER_TEMP")
        .filter(|path| !path.is_empty())
        .map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Where what `finalize` needs is kept.
fn pending_file(env: &Env) -> PathBuf {
    state_dir(env).join(format!("belay-pending-{}.json", run_name(env)))
}

/// Where it is kept what GitHub was told.
pub(super) fn ledger_file(env: &Env) -> PathBuf {
    state_dir(env).join(format!("belay-ledger-{}.json", run_name(env)))
}

/// Several jobs of a run may share a temporary directory on a self-hosted runner.
fn run_name(env: &Env) -> String {
    let part = |name: &str| env.get(name).map_or("local", String::as_str);
    let name = format!(
        "{}-{}-{}",
        part("GITHUB_RUN_ID"),
        part("GITHUB_RUN_ATTEMPT"),
        part("GITHUB_JOB")
    );
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

/// There is nothing left to settle.
pub(super) fn forget_pending(env: &Env) {
    // A file that stays behind is settled by `finalize`, which then finds the outcome unchanged.
    let _ = std::fs::remove_file(pending_file(env));
}

/// Writes down what is about to be handed to the host.
pub(super) fn keep_pending(env: &Env, tx: &str, outcome: &Outcome) {
    let pending = Pending {
        tx: tx.to_owned(),
        outcome: outcome.clone(),
    };
    // Without the file `finalize` finds nothing to settle; the next run then settles GitHub's record.
    let _ = serde_json::to_vec(&pending).map(|text| std::fs::write(pending_file(env), text));
}

/// What a run left that was killed; nothing after one that ended by itself.
pub(super) fn read_pending(env: &Env) -> Option<Pending> {
    serde_json::from_slice(&std::fs::read(pending_file(env)).ok()?).ok()
}
