//! The last lines of a run on a terminal or in a log.
//!
//! Runs anywhere; pure. A failure is exactly three lines; a success says what came of it, what was and what is, and how
//! long things took.

use belay_model::text::one_line;
use belay_model::transaction::outcome::{Outcome, StepResult, Word};

use super::failure::FailureLines;
use super::story;
use super::words;

/// The last lines: for a failure `error:`, `host:`, `next:` and nothing else.
#[must_use]
pub fn console(outcome: &Outcome) -> String {
    match FailureLines::of(outcome) {
        Some(lines) => lines.to_string(),
        None => success(outcome),
    }
}

fn success(outcome: &Outcome) -> String {
    let mut lines = vec![
        format!(
            "{} ({})",
            story::headline(outcome).plain(),
            one_line(&outcome.host)
        ),
        format!("version: {}", story::was_is(outcome).plain()),
    ];
    lines.extend(timings(outcome).map(|text| format!("time: {text}")));
    lines.extend(steps(outcome).map(|text| format!("steps: {text}")));
    if let Some(verdict) = &outcome.verdict {
        lines.push(format!("health: {}", story::verdict(verdict).plain()));
    }
    if let Some(backup) = &outcome.backup {
        let size = words::size(backup.bytes);
        lines.push(format!("backup: {} ({size})", one_line(&backup.path)));
    }
    if let Some(restored) = &outcome.restored {
        let (from, safety) = (one_line(&restored.backup), one_line(&restored.safety));
        let sources = one_line(&restored.sources.join(", "));
        lines.push(format!(
            "data: {sources} as in {from}; what was there before is in {safety}"
        ));
    }
    lines.extend(copied(outcome));
    let warnings = outcome.warnings.iter();
    lines.extend(warnings.map(|text| format!("warning: {}", one_line(text))));
    lines.join("\n") + "\n"
}

fn copied(outcome: &Outcome) -> impl Iterator<Item = String> {
    let kept = outcome
        .copied
        .iter()
        .filter(|_| outcome.word == Word::Deployed);
    kept.map(|copied| {
        format!(
            "data: {} was copied to {} ({}); the old one stays as it was, and what is written from now on is only in the \
             new one",
            one_line(&copied.from),
            one_line(&copied.to),
            words::size(copied.bytes)
        )
    })
}

/// The durations of the parts in one line.
fn timings(outcome: &Outcome) -> Option<String> {
    let d = &outcome.durations;
    let transfer = d.transfer_ms.map(|ms| match d.transfer_bytes {
        Some(bytes) => format!("transfer {} ({})", words::duration(ms), words::size(bytes)),
        None => format!("transfer {}", words::duration(ms)),
    });
    let part = |name: &str, ms: Option<u64>| ms.map(|ms| format!("{name} {}", words::duration(ms)));
    let parts = [
        part("build", d.build_ms),
        part("test", d.test_ms),
        transfer,
        part("start-up", d.startup_ms),
        part("total", (d.total_ms > 0).then_some(d.total_ms)),
    ];
    join(parts.into_iter().flatten())
}

/// The steps in one line. Only what took time, or did not end well, is worth a word.
fn steps(outcome: &Outcome) -> Option<String> {
    let told = outcome
        .steps
        .iter()
        .filter(|step| step.ms >= 100 || step.result != StepResult::Done);
    join(told.map(|step| {
        let text = format!("{} {}", step.step, words::duration(step.ms));
        match step.result {
            StepResult::Done => text,
            other => format!("{text} ({})", result(other)),
        }
    }))
}

fn join(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How a step ended, in words.
pub(super) fn result(result: StepResult) -> &'static str {
    match result {
        StepResult::Done => "done",
        StepResult::Failed => "failed",
        StepResult::Undone => "undone",
        StepResult::UndoFailed => "undo failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn a_failure_is_exactly_three_lines() {
        for outcome in [
            examples::refused_tag(),
            examples::rolled_back(),
            examples::stuck(),
            examples::unknown(),
        ] {
            assert_eq!(
                console(&outcome).lines().count(),
                3,
                "{}",
                console(&outcome)
            );
        }
    }

    #[test]
    fn a_success_says_was_and_is() {
        let text = console(&examples::deployed());
        assert!(text.contains("version: v1.0.0 -> v1.1.0\n"), "{text}");
        assert!(console(&examples::first_deploy()).contains("version: nothing -> v1.0.0\n"));
    }

    #[test]
    fn text_from_outside_stays_on_its_line() {
        let mut outcome = examples::deployed();
        let lines = console(&outcome).lines().count();
        outcome.host = "h\n::error::x".to_owned();
        outcome.warnings = vec!["w\n::add-mask::x\u{1b}[2J".to_owned()];
        let text = console(&outcome);
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
