//! What is remembered of a deployment is what its journal says, and only of one that went live.

use jiff::Timestamp;

use belay_model::judgement::health::Verdict;
use belay_model::judgement::measure::Measured;
use belay_model::replacement::moves::Moves;
use belay_model::transaction::journal::{Baked, Begin, BootTime, FetchedImage, Holder};
use belay_model::transaction::journal::{Entry, Event, Output};
use belay_model::transaction::recall::*;
use belay_model::transaction::step::Step;

fn boot(ms: u64) -> BootTime {
    BootTime {
        boot_id: "b".to_owned(),
        ms,
    }
}

fn begin(what: &str) -> Event {
    Event::Begin(Box::new(Begin {
        environment: None,
        schema: 2,
        tx: "t".to_owned(),
        seq: 7,
        what: what.to_owned(),
        holder: Holder::default(),
        previous: None,
        previous_tag: None,
        deadline: boot(1),
    }))
}

fn output_of(step: Step) -> Output {
    match step {
        Step::Fetch => Output::Fetched {
            images: vec![FetchedImage {
                service: "web".to_owned(),
                reference: "a".to_owned(),
                id: "sha256:1".to_owned(),
                layers: vec![],
                engine_id: "sha256:packed".to_owned(),
                pin: "a".to_owned(),
                size: 10,
                volumes: vec![],
            }],
            strategies: vec![],
            moves: Moves::default(),
            copying: Box::default(),
        },
        Step::Bake => Output::Baked(Baked {
            verdict: Verdict::Healthy,
            startup_ms: 1_200,
            samples: 3,
            confirm_by: boot(9),
        }),
        _ => Output::Nothing,
    }
}

/// A journal until this step is done, with a measurement beside the bake.
fn journal(what: &str, last: Step) -> Vec<Entry> {
    let mut events = vec![begin(what)];
    for step in Step::ALL.into_iter().filter(|step| *step <= last) {
        events.push(Event::Started { step });
        let measured = Measured {
            total: 4,
            answering_ms: if step == Step::Bake { 40 } else { 4_000 },
            ..Measured::default()
        };
        events.push(Event::Measured { step, measured });
        let output = output_of(step);
        events.push(Event::Done { step, output });
    }
    let entry = |(n, event)| Entry {
        n,
        at: Timestamp::UNIX_EPOCH,
        event,
    };
    (0..).zip(events).map(entry).collect()
}

#[test]
fn a_deployment_that_went_live_is_recalled() {
    let past = past_deployment(&journal("deploy v1.2.0", Step::Prune)).expect("it went live");
    assert_eq!((past.seq, past.tag.as_str()), (7, "v1.2.0"));
    assert_eq!((past.startup_ms, past.answer_ms), (1_200, Some(10)));
    assert_eq!(past.image_bytes(), 10);
}

#[test]
fn what_did_not_go_live_and_rollbacks_are_not() {
    assert_eq!(past_deployment(&journal("deploy v1.2.0", Step::Bake)), None);
    assert_eq!(
        past_deployment(&journal("rollback to v1.0.0", Step::Prune)),
        None
    );
    assert_eq!(past_deployment(&[]), None);
}
