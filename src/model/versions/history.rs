//! How deployments compare with those before them: start-up time, image size and the time of an answer.
//!
//! Runs anywhere; pure. The numbers are the host's own, from the journals that it keeps.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Deployments before this one that it is compared with, as the deployment strategy has it.
pub const COMPARED: usize = 3;

/// What is never worth a word, whatever the relation: milliseconds of start-up, and of an answer.
const STARTUP_NOISE_MS: u64 = 2_000;
const ANSWER_NOISE_MS: u64 = 50;

/// What a deployment that went live came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDeployment {
    /// The transaction's number on the host.
    pub seq: u64,
    /// The version that was deployed.
    pub tag: String,
    /// When the transaction's last record was written.
    pub at: Timestamp,
    /// From the cutover to the first good answer, in milliseconds.
    pub startup_ms: u64,
    /// A good answer's time on average, while the new version was watched; nothing where nothing was asked.
    pub answer_ms: Option<u64>,
    /// One for each service; empty where the journal has no record of the step Fetch.
    pub images: Vec<PastImage>,
}

/// The size of a service's image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastImage {
    /// Its name in the Compose file.
    pub service: String,
    /// The image's ID on the host. Services with the same image have the same ID.
    pub id: String,
    /// Of the unpacked layers.
    pub bytes: u64,
}

impl PastDeployment {
    /// All images together, in bytes.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        let images = self.images.iter();
        bytes_together(images.map(|image| (image.id.as_str(), image.bytes)))
    }
}

/// The size of images together, in bytes, by their IDs: each counts once though several services may share it.
pub fn bytes_together<'a>(images: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    let mut images: Vec<(&str, u64)> = images.collect();
    images.sort_unstable();
    images.dedup();
    images
        .iter()
        .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
}

/// One number of a deployment beside that of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What was measured, and so the unit of the numbers.
    pub kind: MetricKind,
    /// The value of the deployment itself.
    pub now: u64,
    /// The middle one of those before; nothing where there was none.
    pub usual: Option<u64>,
}

/// What is compared between deployments; each has its own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Milliseconds.
    StartUp,
    /// Bytes.
    ImageSize,
    /// Milliseconds.
    Answer,
}

impl Metric {
    /// Whether it is not much more than usual: at most twice as much, for images at most half as much again.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        let Some(usual) = self.usual else { return true };
        let most = match self.kind {
            MetricKind::StartUp => usual.saturating_mul(2).saturating_add(STARTUP_NOISE_MS),
            MetricKind::Answer => usual.saturating_mul(2).saturating_add(ANSWER_NOISE_MS),
            MetricKind::ImageSize => usual.saturating_add(usual / 2),
        };
        self.now <= most
    }
}

/// The metrics of a deployment, beside those of the last few before it. `all` may hold any, in any order.
#[must_use]
pub fn metrics(now: &PastDeployment, all: &[PastDeployment]) -> Vec<Metric> {
    let mut before: Vec<&PastDeployment> = all.iter().filter(|past| past.seq < now.seq).collect();
    before.sort_by_key(|past| std::cmp::Reverse(past.seq));
    before.truncate(COMPARED);
    let usual = |number: fn(&PastDeployment) -> Option<u64>| {
        let mut numbers: Vec<u64> = before.iter().filter_map(|past| number(past)).collect();
        numbers.sort_unstable();
        numbers.get(numbers.len() / 2).copied()
    };
    let metric = |kind, number: fn(&PastDeployment) -> Option<u64>| {
        let now = number(now)?;
        let usual = usual(number);
        Some(Metric { kind, now, usual })
    };
    let image_bytes = |past: &PastDeployment| Some(past.image_bytes()).filter(|bytes| *bytes > 0);
    [
        metric(MetricKind::StartUp, |past| Some(past.startup_ms)),
        metric(MetricKind::Answer, |past| past.answer_ms),
        metric(MetricKind::ImageSize, image_bytes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(seq: u64, startup_ms: u64, bytes: &[(&str, u64)]) -> PastDeployment {
        let image = |(id, bytes): &(&str, u64)| PastImage {
            service: "web".to_owned(),
            id: (*id).to_owned(),
            bytes: *bytes,
        };
        PastDeployment {
            seq,
            tag: format!("v1.{seq}.0"),
            at: Timestamp::UNIX_EPOCH,
            startup_ms,
            answer_ms: Some(20),
            images: bytes.iter().map(image).collect(),
        }
    }

    #[test]
    fn the_last_three_before_are_compared() {
        let all: Vec<PastDeployment> = [9_000, 100, 900, 500, 800]
            .iter()
            .zip(1..)
            .map(|(ms, seq)| past(seq, *ms, &[("a", 10)]))
            .collect();
        let metrics = metrics(&all[4], &all);
        assert_eq!(
            metrics[0],
            Metric {
                kind: MetricKind::StartUp,
                now: 800,
                usual: Some(500)
            }
        );
        assert!(metrics.iter().all(Metric::is_normal));
    }

    #[test]
    fn much_more_than_usual_is_not_normal() {
        let metric = |kind, now| Metric {
            kind,
            now,
            usual: Some(1_000),
        };
        assert!(metric(MetricKind::StartUp, 4_000).is_normal());
        assert!(!metric(MetricKind::StartUp, 4_001).is_normal());
        assert!(metric(MetricKind::Answer, 2_050).is_normal());
        assert!(!metric(MetricKind::Answer, 2_051).is_normal());
        assert!(metric(MetricKind::ImageSize, 1_500).is_normal());
        assert!(!metric(MetricKind::ImageSize, 1_501).is_normal());
    }

    #[test]
    fn the_first_has_nothing_beside_it_and_shared_images_count_once() {
        let first = past(1, 100, &[("a", 10), ("a", 10), ("b", 5)]);
        let metrics = metrics(&first, std::slice::from_ref(&first));
        assert_eq!(metrics[2].now, 15);
        assert!(metrics.iter().all(|m| m.usual.is_none() && m.is_normal()));
    }
}
