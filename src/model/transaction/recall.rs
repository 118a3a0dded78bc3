//! Reads what a deployment came to out of its journal, long after it.
//!
//! Runs anywhere; pure.

use super::journal::{self, Entry, Event, Output};
use super::step::Step;
use crate::versions::history::{PastDeployment, PastImage};

/// Reads a journal; nothing when it is not that of a deployment that went live.
#[must_use]
pub fn past_deployment(entries: &[Entry]) -> Option<PastDeployment> {
    let begin = journal::begin(entries)?;
    let tag = begin.what.strip_prefix("deploy ")?;
    let Some(Output::Baked(baked)) = journal::output(entries, Step::Bake) else {
        return None;
    };
    if !journal::is_committed(entries) {
        return None;
    }
    Some(PastDeployment {
        seq: begin.seq,
        tag: tag.to_owned(),
        at: entries.last()?.at,
        startup_ms: baked.startup_ms,
        answer_ms: answer_ms(entries),
        images: images(entries),
    })
}

/// Before the cutover the version before gave the answers.
fn answer_ms(entries: &[Entry]) -> Option<u64> {
    entries.iter().find_map(|entry| match &entry.event {
        Event::Measured {
            step: Step::Bake,
            measured,
        } => measured.answer_ms(),
        _ => None,
    })
}

fn images(entries: &[Entry]) -> Vec<PastImage> {
    let Some(Output::Fetched { images, .. }) = journal::output(entries, Step::Fetch) else {
        return vec![];
    };
    let image = |image: &journal::FetchedImage| PastImage {
        service: image.service.clone(),
        id: image.id.clone(),
        bytes: image.size,
    };
    images.iter().map(image).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::judgement::health::Verdict;
    use crate::judgement::measure::Measured;
    use crate::replacement::moves::Moves;
    use crate::transaction::journal::{Baked, Begin, BootTime, FetchedImage, Holder};

    fn boot(ms: u64) -> BootTime {
        BootTime {
            boot_id: "b".to_owned(),
            ms,
        }
    }

    fn begin(what: &str) -> Event {
        Event::Begin(Box::new(Begin {
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
}
