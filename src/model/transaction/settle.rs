//! What a transaction's journal adds to an outcome.

use jiff::Timestamp;

use super::journal::{self, End, Entry, Event, FetchedImage, Next, Output};
use super::outcome::{
    BackupReport, ImageReport, Outcome, RestoredReport, ServiceLog, StepResult, StepTime, Word,
};
use super::step::Step;

/// Fills in everything that the journal knows.
///
/// The journal is the host's own word; nothing else decides between deployed, rolled back and refused.
pub fn settle(outcome: &mut Outcome, entries: &[Entry]) {
    outcome.steps = step_times(entries);
    for entry in entries {
        take_in(outcome, &entry.event);
    }
    let previous = journal::begin(entries).and_then(|begin| begin.previous_tag.clone());
    outcome.previous = outcome.previous.take().or_else(|| previous.clone());
    outcome.word = word_of(entries);
    outcome.cut_over = began(entries, Step::Cutover);
    if let Some(measured) = journal::measured(entries) {
        outcome.requests.total = Some(measured.total);
        outcome.requests.failed = Some(measured.failed);
        outcome.requests.longest_gap_ms = Some(measured.longest_gap_ms);
        outcome.requests.versions = measured.versions;
    }
    // What was put back went again with everything else.
    outcome.restored = outcome
        .restored
        .take()
        .filter(|_| outcome.word == Word::Deployed);
    match outcome.word {
        Word::Deployed | Word::Unchanged => outcome.serving = Some(outcome.asked.clone()),
        Word::Refused | Word::RolledBack => outcome.serving = previous,
        Word::Stuck | Word::Unknown => outcome.serving = None,
    }
    if !matches!(outcome.word, Word::Deployed | Word::Unchanged) {
        let (step, failure) = journal::cause(entries).unzip();
        outcome.failed_step = step.flatten();
        outcome.failure = outcome.failure.take().or(failure);
    }
}

fn began(entries: &[Entry], wanted: Step) -> Option<Timestamp> {
    let is_wanted = |e: &&Entry| matches!(e.event, Event::Started { step } if step == wanted);
    entries.iter().find(is_wanted).map(|e| e.at)
}

fn word_of(entries: &[Entry]) -> Word {
    match journal::next(entries) {
        Next::Closed(End::Committed) => Word::Deployed,
        // Past the commit point the new version stays, whatever became of the tidying up.
        Next::Perform(_) | Next::Finish(End::Committed) if journal::is_committed(entries) => {
            Word::Deployed
        }
        // It serves and stays; what could not be tidied up is tried again at the next contact.
        Next::Stuck(step) if step > Step::Publish => Word::Deployed,
        Next::Closed(End::Unwound) if journal::touched_the_application(entries) => Word::RolledBack,
        Next::Closed(End::Unwound) => Word::Refused,
        Next::Stuck(_) => Word::Stuck,
        Next::Perform(_) | Next::Undo(_) | Next::Finish(_) => Word::Unknown,
    }
}

fn take_in(outcome: &mut Outcome, event: &Event) {
    match event {
        Event::Done { output, .. } => take_in_output(outcome, output),
        Event::Warning { text } => outcome.warnings.push(text.clone()),
        Event::Failed { step, failure } if step.is_after_commit() => {
            outcome.warnings.push(format!("{step}: {}", failure.error));
        }
        Event::Logs { service, text } => {
            outcome.logs.push(ServiceLog {
                service: service.clone(),
                text: text.clone(),
            });
        }
        Event::Begin(_)
        | Event::Started { .. }
        | Event::Failed { .. }
        | Event::Interrupted { .. }
        | Event::UndoStarted { .. }
        | Event::UndoDone { .. }
        | Event::UndoFailed { .. }
        | Event::Note { .. }
        | Event::Measured { .. }
        | Event::Extended { .. }
        | Event::End { .. } => {}
    }
}

fn take_in_output(outcome: &mut Outcome, output: &Output) {
    match output {
        Output::BackedUp { name, bytes, path } => {
            outcome.backup = Some(BackupReport {
                name: name.clone(),
                path: path.clone(),
                bytes: *bytes,
            });
        }
        Output::Fetched {
            images, strategies, ..
        } => {
            outcome.strategies.clone_from(strategies);
            for image in images {
                take_in_image(outcome, image);
            }
        }
        Output::Baked(baked) => {
            outcome.verdict = Some(baked.verdict.clone());
            outcome.durations.startup_ms = Some(baked.startup_ms);
        }
        Output::Restored {
            backup,
            sources,
            safety,
        } => {
            outcome.restored = Some(RestoredReport {
                backup: backup.clone(),
                sources: sources.clone(),
                safety: safety.clone(),
            });
        }
        Output::Pruned { removed } => outcome.removed.clone_from(removed),
        Output::Nothing
        | Output::Preflight(_)
        | Output::Unpacked { .. }
        | Output::Migrated { .. }
        | Output::Started { .. }
        | Output::Probed { .. }
        | Output::CutOver { .. }
        | Output::Confirmed { .. } => {}
    }
}

/// Images that the runner built are known already, with their budget; the others come from the host.
fn take_in_image(outcome: &mut Outcome, image: &FetchedImage) {
    if !outcome
        .images
        .iter()
        .any(|known| known.service == image.service)
    {
        outcome.images.push(ImageReport {
            service: image.service.clone(),
            reference: image.reference.clone(),
            id: image.id.clone(),
            size: image.size,
            previous_size: None,
            budget: None,
        });
    }
}

fn step_times(entries: &[Entry]) -> Vec<StepTime> {
    let mut times: Vec<StepTime> = vec![];
    let mut began: Option<Timestamp> = None;
    for entry in entries {
        let (step, result) = match &entry.event {
            Event::Started { .. } | Event::UndoStarted { .. } => {
                began = Some(entry.at);
                continue;
            }
            Event::Done { step, .. } => (*step, StepResult::Done),
            Event::Failed { step, .. } => (*step, StepResult::Failed),
            Event::UndoDone { step } => (*step, StepResult::Undone),
            Event::UndoFailed { step, .. } => (*step, StepResult::UndoFailed),
            Event::Begin(_)
            | Event::Interrupted { .. }
            | Event::Note { .. }
            | Event::Warning { .. }
            | Event::Logs { .. }
            | Event::Extended { .. }
            | Event::Measured { .. }
            | Event::End { .. } => continue,
        };
        let ms = began.map_or(0, |at| {
            u64::try_from(entry.at.duration_since(at).as_millis()).unwrap_or(0)
        });
        times.push(StepTime { step, ms, result });
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::outcome::Failure;
    use crate::transaction::step::Step;

    fn entries(events: Vec<Event>) -> Vec<Entry> {
        let entry = |(n, event)| Entry {
            n: n as u64,
            at: Timestamp::UNIX_EPOCH,
            event,
        };
        events.into_iter().enumerate().map(entry).collect()
    }

    fn done(step: Step) -> Event {
        Event::Done {
            step,
            output: Output::Nothing,
        }
    }

    fn failed(step: Step) -> Event {
        Event::Failed {
            step,
            failure: Failure::new("it broke"),
        }
    }

    #[test]
    fn an_unwind_before_anything_was_touched_is_a_refusal() {
        let events = vec![
            Event::Started { step: Step::Backup },
            failed(Step::Backup),
            Event::UndoDone { step: Step::Backup },
            Event::End { end: End::Unwound },
        ];
        assert_eq!(word_of(&entries(events)), Word::Refused);
    }

    #[test]
    fn an_unwind_after_the_cutover_began_is_a_rollback() {
        let events = vec![
            Event::Started {
                step: Step::Cutover,
            },
            failed(Step::Cutover),
            Event::UndoDone {
                step: Step::Cutover,
            },
            Event::End { end: End::Unwound },
        ];
        assert_eq!(word_of(&entries(events)), Word::RolledBack);
    }

    #[test]
    fn past_the_commit_point_the_new_version_is_deployed_though_the_view_was_lost() {
        let events = vec![
            done(Step::Confirm),
            Event::Started {
                step: Step::Publish,
            },
        ];
        assert_eq!(word_of(&entries(events)), Word::Deployed);
    }

    #[test]
    fn a_view_lost_before_the_commit_point_is_unknown() {
        let events = vec![done(Step::Cutover), Event::Started { step: Step::Bake }];
        assert_eq!(word_of(&entries(events)), Word::Unknown);
        assert_eq!(word_of(&[]), Word::Unknown);
    }

    #[test]
    fn an_undo_that_failed_is_stuck() {
        let events = vec![
            Event::Started {
                step: Step::Cutover,
            },
            failed(Step::Cutover),
            Event::UndoFailed {
                step: Step::Cutover,
                failure: Failure::new("no disk"),
            },
        ];
        assert_eq!(word_of(&entries(events)), Word::Stuck);
    }
}
