//! Belay against GitHub, as GitHub describes itself: its webhook payloads and its API. Runs against a stand-in on this
//! machine, without network.
//!
//! The descriptions are development dependencies of `tests/github`, installed by
//! `dist-scripts/prepare-github-contract`. Without them these tests say loudly that they check nothing; with
//! `BELAY_CONTRACT_REQUIRED=1` they fail instead.

#[path = "github/checks.rs"]
mod checks;
#[path = "github/comments.rs"]
mod comments;
#[path = "github/contents.rs"]
mod contents;
#[path = "github/events.rs"]
mod events;
#[path = "support/fake_github/mod.rs"]
mod fake_github;
#[path = "github/ledger.rs"]
mod ledger;
#[path = "github/pulls.rs"]
mod pulls;
#[path = "github/rules.rs"]
mod rules;

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use fake_github::contract::Contract;

/// GitHub's description of its API, read once.
fn contract() -> Option<Arc<Contract>> {
    static CONTRACT: OnceLock<Option<Arc<Contract>>> = OnceLock::new();
    let path = Contract::usual_path();
    CONTRACT
        .get_or_init(|| found(Contract::load(&path), &path).map(Arc::new))
        .clone()
}

/// What is missing is skipped loudly, unless it is required: past the test harness, which would keep it to itself.
fn found<T>(read: std::io::Result<T>, path: &Path) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) if std::env::var("BELAY_CONTRACT_REQUIRED").is_ok_and(|value| value == "1") => {
            panic!(
                "could not read {}: {error}; run dist-scripts/prepare-github-contract",
                path.display()
            )
        }
        Err(error) => {
            let path = path.display();
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED, NOTHING WAS CHECKED: could not read {path}: {error}; run dist-scripts/prepare-github-contract"
            );
            None
        }
    }
}
