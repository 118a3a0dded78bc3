//! The outputs of the action: what a workflow's later steps can read. Runs anywhere; pure.

use belay_model::text::one_line;
use belay_model::transaction::outcome::{Outcome, Word};
use belay_model::versions::history::bytes_together;

use super::story;

/// Every output of the action, by name. One that is not known is empty, which a workflow reads as not set.
#[must_use]
pub fn outputs(outcome: &Outcome, deployment_id: Option<u64>) -> Vec<(&'static str, String)> {
    let revision = outcome
        .revision
        .as_deref()
        .filter(|_| story::serves_what_was_asked(outcome));
    let duration = Some(outcome.durations.total_ms).filter(|ms| *ms > 0);
    vec![
        ("outcome", outcome.word.name().to_owned()),
        ("version", text(outcome.serving.as_deref())),
        ("previous-version", text(outcome.previous.as_deref())),
        ("revision", text(revision)),
        ("environment-url", text(outcome.urls.environment.as_deref())),
        ("deployment-id", number(deployment_id)),
        (
            "backup",
            text(outcome.backup.as_ref().map(|b| b.name.as_str())),
        ),
        (
            "rolled-back",
            (outcome.word == Word::RolledBack).to_string(),
        ),
        ("failed-requests", number(outcome.requests.failed)),
        ("longest-gap-ms", number(outcome.requests.longest_gap_ms)),
        ("duration-ms", number(duration)),
        ("image-size", number(image_size(outcome))),
    ]
}

/// Nothing where there are no images.
fn image_size(outcome: &Outcome) -> Option<u64> {
    let images = outcome.images.iter();
    let together = bytes_together(images.map(|image| (image.id.as_str(), image.size)));
    (!outcome.images.is_empty()).then_some(together)
}

fn text(value: Option<&str>) -> String {
    value.map(one_line).unwrap_or_default()
}

fn number(value: Option<u64>) -> String {
    value.map(|n| n.to_string()).unwrap_or_default()
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
