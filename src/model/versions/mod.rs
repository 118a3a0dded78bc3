//! The versions on a host: what they are, what is kept of them, and which one a rollback means.

pub mod changes;
pub mod history;
pub mod release;
pub mod retention;
pub mod revival;
