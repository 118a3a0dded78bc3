//! What people on GitHub are told beside a deployment: checklists, comments, notices.

pub mod checklist;
pub mod notification;
pub mod review;
pub mod sticky;
