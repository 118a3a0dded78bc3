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
