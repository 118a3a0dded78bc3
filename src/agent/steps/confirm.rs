//! Confirm: waits for the runner to say, over a fresh connection, that all is well from where it stands.
//!
//! The `Done` record of this step is the commit point. Without the confirmation in time the transaction unwinds, whoever
//! is or is not there to see it. The runner may ask for more time, up to ten minutes in all.

use std::time::Duration;

use super::StepContext;
use crate::error::AgentError;
use crate::records;
use crate::state;
use belay_model::digest::sha256;
use belay_model::transaction::journal::{self, ConfirmedBy, Event, Output};
use belay_model::transaction::plan::ConfirmRule;

/// How often the confirmation is looked for.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let (nonce_sha256, within_ms) = match &work.plan.confirm {
        ConfirmRule::Host => {
            return Ok(Output::Confirmed {
                by: ConfirmedBy::Host,
            });
        }
        ConfirmRule::Runner {
            nonce_sha256,
            within_ms,
        } => (nonce_sha256, *within_ms),
    };
    let seq = work.seq()?;
    loop {
        work.may_act()?;
        let Some(deadline) = journal::confirm_by(work.entries()) else {
            return Err(AgentError::new("the journal has no record of the bake"));
        };
        // Looked at before the confirmation: one that arrived since the last look, after the deadline, comes too late.
        if deadline.has_passed(&work.host.boot_time()) {
            return Err(AgentError::new("the runner did not confirm in time")
                .next("look at the run's log for why it stopped, then deploy again"));
        }
        if is_confirmed(work, seq, nonce_sha256)? {
            return Ok(Output::Confirmed {
                by: ConfirmedBy::Runner,
            });
        }
        if let Some(reason) = state::abort_wish(work.layout, seq)? {
            return Err(AgentError::new(reason));
        }
        extend(work, seq, within_ms)?;
        work.host.sleep(LOOK);
    }
}

/// Puts the deadline off, in the journal, when somebody wished for that.
fn extend(work: &mut StepContext<'_>, seq: u64, within_ms: u64) -> Result<(), AgentError> {
    let wish = state::take_extension(work.layout, seq)?;
    let Some(ms) = wish else { return Ok(()) };
    let now = work.host.boot_time();
    if let Some(confirm_by) = journal::extended(work.entries(), &now, ms, within_ms) {
        let ms = confirm_by.ms.saturating_sub(now.ms);
        work.record(Event::Extended { confirm_by, ms });
    }
    Ok(())
}

/// Only this transaction's own text counts; anything else that lies there is no confirmation.
fn is_confirmed(work: &StepContext<'_>, seq: u64, nonce_sha256: &str) -> Result<bool, AgentError> {
    let text = records::read_optional(&work.layout.confirmation(seq))?;
    Ok(text.is_some_and(|text| sha256(&text) == nonce_sha256))
}
