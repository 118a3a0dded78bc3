//! The half of Belay that runs on the host: it takes the lock, keeps the journal, does and undoes the steps.

pub mod backup;
pub mod durable;
pub mod layout;
