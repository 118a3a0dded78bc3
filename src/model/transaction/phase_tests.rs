//! Every phase against every record, and the whole against a second way to say the same: one state for each step.

use std::collections::HashMap;

use jiff::Timestamp;

use super::*;
use crate::judgement::measure::Measured;
use crate::transaction::journal::{Begin, BootTime, Holder, Output};
use crate::transaction::outcome::Failure;

fn begin() -> Event {
    Event::Begin(Box::new(Begin {
        environment: None,
        schema: 2,
        tx: "t".to_owned(),
        seq: 1,
        what: "deploy v1.0.0".to_owned(),
        holder: Holder::default(),
        previous: None,
        previous_tag: None,
        deadline: boot_time(),
    }))
}

fn boot_time() -> BootTime {
    BootTime {
        boot_id: "b".to_owned(),
        ms: 1,
    }
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

fn undo_failed(step: Step) -> Event {
    Event::UndoFailed {
        step,
        failure: Failure::new("no disk"),
    }
}

fn interrupted() -> Event {
    Event::Interrupted {
        reason: "the engine was gone".to_owned(),
    }
}

fn extended() -> Event {
    Event::Extended {
        confirm_by: boot_time(),
        ms: 1,
    }
}

fn words() -> [Event; 4] {
    let text = "words".to_owned();
    [
        Event::Note { text: text.clone() },
        Event::Warning { text: text.clone() },
        Event::Logs {
            service: "web".to_owned(),
            text,
        },
        Event::Measured {
            step: Step::Bake,
            measured: Measured::default(),
        },
    ]
}

/// One record of each kind, of each step.
fn every_event() -> Vec<Event> {
    let of_step = |step| {
        [
            Event::Started { step },
            done(step),
            failed(step),
            Event::UndoStarted { step },
            Event::UndoDone { step },
            undo_failed(step),
        ]
    };
    let ends = [End::Committed, End::Unwound].map(|end| Event::End {
        end,
        down: vec![],
        by_hand: None,
    });
    Step::ALL
        .into_iter()
        .flat_map(of_step)
        .chain([begin(), interrupted(), extended()])
        .chain(words())
        .chain(ends)
        .collect()
}

fn every_phase() -> Vec<Phase> {
    let mut phases = vec![
        Phase::Empty,
        Phase::Performed,
        Phase::Undone,
        Phase::Closed(End::Committed),
        Phase::Closed(End::Unwound),
    ];
    for step in Step::ALL {
        // Only these two are tried again.
        let tries = match step {
            Step::Publish | Step::Retire => 0..3,
            _ => 0..1,
        };
        for failures in tries {
            phases.push(Phase::Ready { step, failures });
            phases.push(Phase::Performing { step, failures });
        }
        match step {
            Step::Publish | Step::Retire => phases.push(Phase::Exhausted(step)),
            Step::Drain | Step::Prune => {}
            _ => phases.extend([
                Phase::Unwinding(step),
                Phase::Undoing(step),
                Phase::UndoFailed(step),
            ]),
        }
    }
    phases
}

/// The records that a phase takes, but for words. Every other one is refused.
fn taken(phase: Phase) -> Vec<Event> {
    match phase {
        Phase::Empty => vec![begin()],
        Phase::Ready { step, .. } => vec![Event::Started { step }, interrupted()],
        Phase::Performing { step, .. } => {
            let mut taken = vec![done(step), failed(step), interrupted()];
            taken.extend((step == Step::Confirm).then(extended));
            taken
        }
        Phase::Unwinding(step) => vec![Event::UndoStarted { step }, interrupted()],
        Phase::Undoing(step) => vec![Event::UndoDone { step }, undo_failed(step), interrupted()],
        Phase::Exhausted(_) | Phase::UndoFailed(_) => vec![interrupted()],
        Phase::Performed => vec![interrupted(), end(End::Committed)],
        Phase::Undone => vec![interrupted(), end(End::Unwound)],
        Phase::Closed(_) => vec![],
    }
}

fn end(end: End) -> Event {
    Event::End {
        end,
        down: vec![],
        by_hand: None,
    }
}

fn takes(phase: Phase, event: &Event) -> bool {
    let takes_words = !matches!(phase, Phase::Empty | Phase::Closed(_));
    taken(phase).contains(event) || (takes_words && words().contains(event))
}

/// The name of the refusal that a record gets where it is not taken.
fn refusal(phase: Phase, event: &Event) -> CannotFollow {
    match (phase, event) {
        (Phase::Empty, _) => CannotFollow::NoBeginning,
        (_, Event::Begin(_)) => CannotFollow::SecondBeginning,
        (Phase::Closed(_), _) => CannotFollow::AfterTheEnd,
        (_, &Event::Started { step }) => CannotFollow::NotItsTurn { step, phase },
        (_, &(Event::Done { step, .. } | Event::Failed { step, .. })) => {
            CannotFollow::NotPerforming { step, phase }
        }
        (_, &Event::UndoStarted { step }) => CannotFollow::NotToBeUndone { step, phase },
        (_, &(Event::UndoDone { step } | Event::UndoFailed { step, .. })) => {
            CannotFollow::NotUndoing { step, phase }
        }
        (_, Event::Extended { .. }) => CannotFollow::NotConfirming(phase),
        (_, &Event::End { end, .. }) => CannotFollow::NotOver { end, phase },
        _ => panic!("{event:?} {phase} is never refused"),
    }
}

#[test]
fn every_record_in_every_phase_is_taken_or_refused_by_name() {
    let mut pairs = 0;
    for phase in every_phase() {
        for event in every_event() {
            let after = phase.after(&event);
            match takes(phase, &event) {
                true => assert!(after.is_ok(), "{event:?} {phase}: {after:?}"),
                false => assert_eq!(after, Err(refusal(phase, &event)), "{event:?} {phase}"),
            }
            pairs += 1;
        }
    }
    assert_eq!(pairs, 73 * 93);
}

/// The shortest journal to each phase that can be reached.
fn journals() -> HashMap<Phase, Vec<Event>> {
    let mut found = HashMap::from([(Phase::Empty, vec![])]);
    let mut open = vec![Phase::Empty];
    while let Some(phase) = open.pop() {
        for event in every_event() {
            let Ok(after) = phase.after(&event) else {
                continue;
            };
            if !found.contains_key(&after) {
                let mut journal = found[&phase].clone();
                journal.push(event);
                found.insert(after, journal);
                open.push(after);
            }
        }
    }
    found
}

#[test]
fn every_phase_is_reached_and_no_other() {
    let found = journals();
    for phase in every_phase() {
        assert!(found.contains_key(&phase), "{phase:?}");
    }
    assert_eq!(found.len(), every_phase().len());
}

/// Decides by the last state of each step, and of nothing else. It takes any records in any order.
fn by_step(events: &[Event]) -> Next {
    #[derive(Clone, Copy, PartialEq)]
    enum Is {
        Untouched,
        Begun,
        Done,
        Undone,
        Stuck,
    }
    let mut steps = HashMap::from(Step::ALL.map(|step| (step, (Is::Untouched, 0))));
    let mut back = false;
    for event in events {
        match event {
            Event::Started { step } | Event::UndoStarted { step } => {
                steps.get_mut(step).unwrap().0 = Is::Begun;
            }
            Event::Done { step, .. } => steps.get_mut(step).unwrap().0 = Is::Done,
            Event::Failed { step, .. } => {
                let (is, failures) = steps.get_mut(step).unwrap();
                *failures += 1;
                *is = if step.is_tidying() {
                    Is::Done
                } else {
                    Is::Begun
                };
                back |= !step.is_after_commit();
            }
            Event::UndoDone { step } => steps.get_mut(step).unwrap().0 = Is::Undone,
            Event::UndoFailed { step, .. } => steps.get_mut(step).unwrap().0 = Is::Stuck,
            Event::Interrupted { .. } => {
                back |= steps[&Step::Confirm].0 != Is::Done;
                for (is, failures) in steps.values_mut() {
                    *failures = 0;
                    if *is == Is::Stuck {
                        *is = Is::Begun;
                    }
                }
            }
            Event::End { end, .. } => return Next::Closed(*end),
            _ => {}
        }
    }
    if back {
        let begun = |step: &Step| !matches!(steps[step].0, Is::Untouched | Is::Undone);
        return match Step::ALL.into_iter().rev().find(begun) {
            Some(step) if steps[&step].0 == Is::Stuck => Next::Stuck(step),
            Some(step) => Next::Undo(step),
            None => Next::Finish(End::Unwound),
        };
    }
    match Step::ALL.into_iter().find(|step| steps[step].0 != Is::Done) {
        Some(step) if steps[&step].1 >= 3 => Next::Stuck(step),
        Some(step) => Next::Perform(step),
        None => Next::Finish(End::Committed),
    }
}

#[test]
fn what_follows_is_what_the_steps_say() {
    for (phase, journal) in journals() {
        for event in every_event() {
            let Ok(after) = phase.after(&event) else {
                continue;
            };
            let mut journal = journal.clone();
            journal.push(event);
            assert_eq!(after.next(), by_step(&journal), "{journal:#?}");
        }
    }
}

/// What the engine writes when everything goes well, as far as the end of this step.
fn done_until(last: Step) -> Vec<Event> {
    let steps = Step::ALL.into_iter().filter(|step| *step <= last);
    let records = steps.flat_map(|step| [Event::Started { step }, done(step)]);
    std::iter::once(begin()).chain(records).collect()
}

fn next(events: &[Event]) -> Next {
    let entry = |event: &Event| Entry {
        n: 0,
        at: Timestamp::UNIX_EPOCH,
        event: event.clone(),
    };
    let entries: Vec<Entry> = events.iter().map(entry).collect();
    Phase::of(&entries).expect("it follows").next()
}

#[test]
fn steps_follow_each_other_to_the_end() {
    assert_eq!(next(&[]), Next::Perform(Step::Preflight));
    for pair in Step::ALL.windows(2) {
        assert_eq!(next(&done_until(pair[0])), Next::Perform(pair[1]));
    }
    assert_eq!(next(&done_until(Step::Prune)), Next::Finish(End::Committed));
}

#[test]
fn a_failure_before_the_commit_undoes_every_begun_step_in_reverse() {
    for step in Step::ALL.into_iter().filter(|s| !s.is_after_commit()) {
        let mut events = done_until(step);
        events.pop();
        events.push(failed(step));
        let mut undone = vec![];
        while let Next::Undo(step) = next(&events) {
            undone.push(step);
            events.push(Event::UndoStarted { step });
            events.push(Event::UndoDone { step });
        }
        let mut expected: Vec<Step> = Step::ALL.into_iter().filter(|s| *s <= step).collect();
        expected.reverse();
        assert_eq!(undone, expected);
        assert_eq!(next(&events), Next::Finish(End::Unwound));
    }
}

#[test]
fn an_interruption_after_the_commit_only_finishes() {
    let mut events = done_until(Step::Confirm);
    let step = Step::Publish;
    events.extend([Event::Started { step }, interrupted()]);
    assert_eq!(next(&events), Next::Perform(step));
}

#[test]
fn an_interruption_before_the_commit_unwinds_even_when_confirm_had_started() {
    let mut events = done_until(Step::Bake);
    let step = Step::Confirm;
    events.extend([Event::Started { step }, interrupted()]);
    assert_eq!(next(&events), Next::Undo(step));
}

#[test]
fn an_undo_that_fails_is_stuck_until_the_next_contact() {
    let mut events = done_until(Step::Cutover);
    let step = Step::Bake;
    events.extend([
        Event::Started { step },
        failed(step),
        Event::UndoStarted { step },
        undo_failed(step),
    ]);
    assert_eq!(next(&events), Next::Stuck(step));
    events.push(interrupted());
    assert_eq!(next(&events), Next::Undo(step));
}

#[test]
fn publishing_is_tried_three_times_and_again_at_the_next_contact() {
    let mut events = done_until(Step::Confirm);
    let step = Step::Publish;
    for _ in 0..3 {
        assert_eq!(next(&events), Next::Perform(step));
        events.extend([Event::Started { step }, failed(step)]);
    }
    assert_eq!(next(&events), Next::Stuck(step));
    events.push(interrupted());
    assert_eq!(next(&events), Next::Perform(step));
}

#[test]
fn tidying_up_that_fails_never_stops_a_committed_transaction() {
    let mut events = done_until(Step::Publish);
    let went = |step, ended| [Event::Started { step }, ended];
    events.extend(went(Step::Drain, failed(Step::Drain)));
    events.extend(went(Step::Retire, done(Step::Retire)));
    events.extend(went(Step::Prune, failed(Step::Prune)));
    assert_eq!(next(&events), Next::Finish(End::Committed));
}
