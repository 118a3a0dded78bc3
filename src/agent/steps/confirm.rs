//! Confirm: waits for the runner to say, over a fresh connection, that all is well from where it stands.
//!
//! The `Done` record of this step is the commit point. Without the confirmation in time the transaction unwinds, whoever
//! is or is not there to see it.

use std::time::Duration;

use super::Work;
use crate::agent::state;
use crate::model::compose::sha256;
use crate::model::journal::{self, ConfirmedBy, Output};
use crate::model::outcome::Failure;
use crate::model::plan::ConfirmRule;
use crate::model::step::Step;

/// How often the confirmation is looked for.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    let nonce_sha256 = match &work.plan.confirm {
        ConfirmRule::Host => {
            return Ok(Output::Confirmed {
                by: ConfirmedBy::Host,
            });
        }
        ConfirmRule::Runner { nonce_sha256, .. } => nonce_sha256,
    };
    let Some(Output::Baked(baked)) = journal::output(work.entries(), Step::Bake) else {
        return Err(Failure::new("the journal has no record of the bake"));
    };
    let deadline = baked.confirm_by.clone();
    let seq = work.seq()?;
    loop {
        if is_confirmed(work, seq, nonce_sha256)? {
            return Ok(Output::Confirmed {
                by: ConfirmedBy::Runner,
            });
        }
        if let Some(reason) = state::abort_wish(work.layout, seq).map_err(|e| Failure::of(&e))? {
            return Err(Failure::new(reason));
        }
        if deadline.has_passed(&work.host.boot_time()) {
            return Err(Failure::new("the runner did not confirm in time")
                .next("look at the run's log for why it stopped, then deploy again"));
        }
        work.host.sleep(LOOK);
    }
}

/// Only this transaction's own text counts; anything else that lies there is no confirmation.
fn is_confirmed(work: &Work<'_>, seq: u64, nonce_sha256: &str) -> Result<bool, Failure> {
    let text = state::read_optional(&work.layout.confirmation(seq)).map_err(|e| Failure::of(&e))?;
    Ok(text.is_some_and(|text| sha256(&text) == nonce_sha256))
}
