//! How each service of a version is replaced by that of the next, and the gateway in front.

pub mod gateway;
pub mod moves;
pub mod nginx;
mod obstacles;
mod service;
pub mod strategy;
pub mod wishes;
