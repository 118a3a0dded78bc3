//! Whether a version is good: its health, its errors, and what was measured of its requests.

pub mod error_lines;
pub mod health;
pub mod measure;
