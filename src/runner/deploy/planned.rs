//! What the host is handed: the plan, and the secret that confirms it.

use super::error::DeployError;
use crate::random;
use crate::session::Session;
use crate::transaction::Nonce;
use belay_model::config::Settings;
use belay_model::transaction::journal::Holder;
use belay_model::transaction::plan::{self, Plan, PlannedWork, Run, confirm_within_ms};

/// A plan that can be carried out.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) nonce: Nonce,
}

impl Planned {
    /// Makes a transaction of the work, under a name of its own.
    pub(super) fn of(
        session: &Session<'_>,
        settings: &Settings,
        project: Option<String>,
        work: PlannedWork,
    ) -> Result<Self, DeployError> {
        let nonce = Nonce::new().map_err(DeployError::Random)?;
        let run = Run {
            tx: random::hex().map_err(DeployError::Random)?,
            confirm: nonce.rule(confirm_within_ms(settings)),
            holder: Holder {
                what: String::new(),
                run_url: session.origin().map(|o| o.run_url.clone()),
                actor: session.origin().map(|o| o.actor.clone()),
                since: None,
                pid: None,
            },
        };
        let plan = plan::compose(work, settings, project, run);
        Ok(Planned { plan, nonce })
    }
}
