//! What is asked for: an event, its tag and its kind, and the intent that they come to.

pub mod event;
pub mod intent;
pub mod tag;
pub mod tag_ancestry;
pub mod tag_explanation;
mod tag_grammar;
pub mod tag_rules;
mod tag_suggestion;
