//! The steps of a transaction, in their one order.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of a transaction on the host. Each can be performed and undone, and each finds nothing to do when its work is
/// already done (or already undone).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Looks at the host and refuses what cannot work, before anything changes.
    Preflight,
    /// Lays out the release directory and renders the Compose file with pinned images.
    Unpack,
    /// Makes sure that every image is on the host, by ID.
    Fetch,
    /// Takes, verifies and publishes the backup.
    Backup,
    /// Runs the one-shot services (migrations), once for the release.
    Migrate,
    /// Starts candidates beside the incumbents of start-first services.
    Start,
    /// Asks the candidates for their health before they get traffic.
    Probe,
    /// Moves traffic to the candidates; stop-first services are replaced here.
    Cutover,
    /// Watches the new version serve until it is healthy and stays so.
    Bake,
    /// Waits for the runner's confirmation. Its `Done` record is the commit point.
    Confirm,
    /// Makes the release what `docker-compose.yml` and `current` say.
    Publish,
    /// Waits until the incumbents of start-first services have no requests left.
    Drain,
    /// Stops and parks the incumbents, and removes what the release no longer has.
    Retire,
    /// Removes backups, releases and images beyond the number to keep.
    Prune,
}

impl Step {
    /// Every step, in order. Test loops run over this, so a new step cannot be left untested.
    pub const ALL: [Step; 14] = [
        Step::Preflight,
        Step::Unpack,
        Step::Fetch,
        Step::Backup,
        Step::Migrate,
        Step::Start,
        Step::Probe,
        Step::Cutover,
        Step::Bake,
        Step::Confirm,
        Step::Publish,
        Step::Drain,
        Step::Retire,
        Step::Prune,
    ];

    /// The step after it.
    pub(crate) fn following(self) -> Option<Step> {
        Step::ALL.into_iter().find(|step| *step > self)
    }

    /// The step before it.
    pub(crate) fn preceding(self) -> Option<Step> {
        Step::ALL.into_iter().rev().find(|step| *step < self)
    }

    /// Whether the step runs after the commit point, where things are only finished, never undone.
    #[must_use]
    pub fn is_after_commit(self) -> bool {
        self > Step::Confirm
    }

    /// Whether the step may change what serves. A transaction that ended before the first of these left the host untouched.
    #[must_use]
    pub fn may_touch_the_application(self) -> bool {
        self >= Step::Migrate
    }

    /// Whether a failure of this step, after the commit, still lets the transaction finish (with a warning). The others
    /// are tried again: an old container that stays beside the new one would be let in by the next transaction.
    #[must_use]
    pub fn is_tidying(self) -> bool {
        matches!(self, Step::Drain | Step::Prune)
    }

    /// The step's word in journals, messages and reports; the same as its serialised form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::Unpack => "unpack",
            Step::Fetch => "fetch",
            Step::Backup => "backup",
            Step::Migrate => "migrate",
            Step::Start => "start",
            Step::Probe => "probe",
            Step::Cutover => "cutover",
            Step::Bake => "bake",
            Step::Confirm => "confirm",
            Step::Publish => "publish",
            Step::Drain => "drain",
            Step::Retire => "retire",
            Step::Prune => "prune",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
