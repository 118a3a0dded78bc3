//! What is asked for: an event, its tag and its kind, and the intent that they come to.

pub mod event;
pub mod intent;
pub mod tag;
pub mod tag_rules;
