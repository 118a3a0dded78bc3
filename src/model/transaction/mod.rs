//! One deployment or rollback on the host: plan, steps, journal, and what it came to.

pub mod duty;
pub mod journal;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod recall;
pub mod settle;
pub mod step;
