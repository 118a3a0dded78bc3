//! The user's Compose file: what it says, what it builds and mounts, and what its images are.

pub mod build;
pub mod compose;
pub mod continuity;
pub mod copying;
pub mod data;
pub mod data_view;
pub mod definitions;
pub mod image;
pub mod near_miss;
pub mod ports;
pub mod profiles;
pub mod project;
pub mod service_changes;
