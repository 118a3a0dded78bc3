//! (being written)
use serde::{Deserialize, Serialize};

/// Something that was removed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    pub name: String,
    pub reason: String,
}
