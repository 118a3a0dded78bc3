//! What a transaction did to data, as the summary says it.
//!
//! Pure, from the outcome.

use belay_model::transaction::outcome::{Outcome, Word};

use super::markdown::Inline;
use super::words;

/// What was put back, and where that is which was there before.
pub(crate) fn restored(outcome: &Outcome) -> Option<Inline> {
    let restored = outcome.restored.as_ref()?;
    let sources = restored.sources.iter().map(|source| Inline::code(source));
    let put_back = Inline::joined(sources.collect(), ", ").say(" as in ");
    let from = Inline::code(&restored.backup).say("; what was there before is in ");
    Some(put_back.then(from).then(Inline::code(&restored.safety)))
}

/// What became of the data that was copied.
pub(crate) const STAYS: &str =
    "; the old data stays as it was, and what is written from now on is only in the new place";

/// Each place of data that the version which serves now has at another one; none where it went back.
pub(crate) fn copies(outcome: &Outcome) -> Vec<Inline> {
    if outcome.word != Word::Deployed {
        return vec![];
    }
    let each = outcome.copied.iter().map(|copied| {
        let to = Inline::code(&copied.from).say(" was copied to ");
        let size = Inline::text(&words::size(copied.bytes));
        to.then(Inline::code(&copied.to))
            .say(" (")
            .then(size)
            .say(")")
    });
    each.collect()
}
