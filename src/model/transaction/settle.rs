//! What a transaction's journal adds to an outcome.

use jiff::Timestamp;

use super::journal::{self, End, Entry, Event, FetchedImage, Output};
use super::outcome::{
    BackupReport, Failure, ImageReport, Outcome, RestoredReport, ServiceLog, StepResult, StepTime,
    Word,
};
use super::phase::Phase;
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
    outcome.word = match Phase::of(entries) {
        Ok(phase) => word_of(phase, entries),
        Err(refusal) => {
            let error = format!("the host's journal contradicts itself: {refusal}");
            outcome.failure.get_or_insert(Failure::new(error));
            Word::Unknown
        }
    };
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
        Word::Deployed | Word::Unchanged => {
            outcome.serving = brought_back(entries).or_else(|| Some(outcome.asked.clone()));
        }
        Word::Refused | Word::RolledBack => outcome.serving = brought_back(entries).or(previous),
        Word::Stuck | Word::Unknown => outcome.serving = None,
    }
    if !matches!(outcome.word, Word::Deployed | Word::Unchanged) {
        let (step, failure) = journal::cause(entries).unzip();
        outcome.failed_step = step.flatten();
        outcome.failure = outcome.failure.take().or(failure);
    }
}

/// The version that somebody brought back by hand while the transaction was under way.
fn brought_back(entries: &[Entry]) -> Option<String> {
    match &entries.last()?.event {
        Event::End { by_hand, .. } => by_hand.clone(),
        _ => None,
    }
}

fn began(entries: &[Entry], wanted: Step) -> Option<Timestamp> {
    let is_wanted = |e: &&Entry| matches!(e.event, Event::Started { step } if step == wanted);
    entries.iter().find(is_wanted).map(|e| e.at)
}

fn word_of(phase: Phase, entries: &[Entry]) -> Word {
    match phase {
        Phase::Closed(End::Committed) | Phase::Performed => Word::Deployed,
        // Past the commit point the new version stays, whatever became of the tidying up.
        Phase::Ready { step, .. } | Phase::Performing { step, .. } if step.is_after_commit() => {
            Word::Deployed
        }
        // It serves and stays; what could not be tidied up is tried again at the next contact.
        Phase::Exhausted(step) if step > Step::Publish => Word::Deployed,
        Phase::Exhausted(_) | Phase::UndoFailed(_) => Word::Stuck,
        Phase::Closed(End::Unwound) if journal::touched_the_application(entries) => {
            Word::RolledBack
        }
        Phase::Closed(End::Unwound) => Word::Refused,
        Phase::Empty
        | Phase::Ready { .. }
        | Phase::Performing { .. }
        | Phase::Unwinding(_)
        | Phase::Undoing(_)
        | Phase::Undone => Word::Unknown,
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
        | Event::Extended { .. } => {}
        Event::End { down, .. } => outcome.down.clone_from(down),
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
        Output::Migrated { copied, .. } => outcome.copied.clone_from(copied),
        Output::Pruned { removed } => outcome.removed.clone_from(removed),
        Output::Nothing
        | Output::Preflight(_)
        | Output::Unpacked { .. }
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

    fn at(phase: Phase) -> Word {
        word_of(phase, &[])
    }

    fn started(step: Step) -> Entry {
        Entry {
            n: 0,
            at: Timestamp::UNIX_EPOCH,
            event: Event::Started { step },
        }
    }

    #[test]
    fn an_unwind_before_anything_was_touched_is_a_refusal() {
        let unwound = Phase::Closed(End::Unwound);
        assert_eq!(word_of(unwound, &[started(Step::Backup)]), Word::Refused);
    }

    #[test]
    fn an_unwind_after_the_first_change_is_a_rollback() {
        let unwound = Phase::Closed(End::Unwound);
        for step in [Step::Migrate, Step::Cutover] {
            assert_eq!(word_of(unwound, &[started(step)]), Word::RolledBack);
        }
    }

    #[test]
    fn past_the_commit_point_the_new_version_is_deployed_though_the_view_was_lost() {
        let step = Step::Publish;
        let failures = 2;
        assert_eq!(at(Phase::Ready { step, failures }), Word::Deployed);
        assert_eq!(at(Phase::Performing { step, failures }), Word::Deployed);
        assert_eq!(at(Phase::Performed), Word::Deployed);
        assert_eq!(at(Phase::Closed(End::Committed)), Word::Deployed);
    }

    #[test]
    fn a_view_lost_before_the_commit_point_is_unknown() {
        let step = Step::Confirm;
        let failures = 0;
        assert_eq!(at(Phase::Performing { step, failures }), Word::Unknown);
        assert_eq!(at(Phase::Unwinding(step)), Word::Unknown);
        assert_eq!(at(Phase::Undone), Word::Unknown);
        assert_eq!(at(Phase::Empty), Word::Unknown);
    }

    #[test]
    fn what_cannot_be_undone_or_published_is_stuck_and_what_cannot_be_retired_is_deployed() {
        assert_eq!(at(Phase::UndoFailed(Step::Cutover)), Word::Stuck);
        assert_eq!(at(Phase::Exhausted(Step::Publish)), Word::Stuck);
        assert_eq!(at(Phase::Exhausted(Step::Retire)), Word::Deployed);
    }
}
