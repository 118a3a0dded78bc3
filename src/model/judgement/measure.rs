//! Downtime, measured: what became of requests that were asked at a steady rate while a transaction was at work.
//!
//! Pure; runs on the host and on the runner, fed by the prober.

use serde::{Deserialize, Serialize};

/// Reasons of failed requests that are kept, the first ones.
const KEPT_REASONS: usize = 5;
/// Changes of the version that are kept.
const KEPT_CHANGES: usize = 20;

/// What was measured in some stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests that were made, failed ones included.
    pub total: u64,
    /// No answer, or one that says that the server failed (5xx).
    pub failed: u64,
    /// The longest time between two good answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// How long all good answers together took, in milliseconds.
    #[serde(default)]
    pub answering_ms: u64,
    /// The version that answered, each time that it was another one than before.
    pub versions: Vec<Seen>,
    /// Why they failed, each reason once: the first few.
    pub reasons: Vec<String>,
}

/// A version that began to answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Since the measuring began, in milliseconds.
    pub at_ms: u64,
    /// What the application's own answer says; it need not be a tag.
    pub version: String,
}

impl Measured {
    /// Adds what was measured right afterwards.
    pub fn add(&mut self, next: &Measured) {
        self.total += next.total;
        self.failed += next.failed;
        self.longest_gap_ms = self.longest_gap_ms.max(next.longest_gap_ms);
        self.answering_ms += next.answering_ms;
        for seen in &next.versions {
            let known = self.versions.last().map(|last| &last.version);
            if known != Some(&seen.version) && self.versions.len() < KEPT_CHANGES {
                self.versions.push(seen.clone());
            }
        }
        for reason in &next.reasons {
            self.note_reason(reason);
        }
    }

    /// How long a good answer took on average, in milliseconds; nothing when there was none.
    #[must_use]
    pub fn answer_ms(&self) -> Option<u64> {
        self.answering_ms
            .checked_div(self.total.saturating_sub(self.failed))
    }

    fn note_reason(&mut self, reason: &str) {
        if self.reasons.len() < KEPT_REASONS && !self.reasons.iter().any(|known| known == reason) {
            self.reasons.push(reason.to_owned());
        }
    }
}

/// Takes note of one answer after the other. Times are milliseconds since the measuring began.
#[derive(Debug, Default)]
pub struct Recorder {
    measured: Measured,
    /// The last good answer; the beginning, before there was one.
    last_good_ms: u64,
    failing: bool,
    version: Option<String>,
}

impl Recorder {
    /// A good answer, how long it took, and the version that gave it where one was asked for.
    pub fn good(&mut self, at_ms: u64, took_ms: u64, version: Option<&str>) {
        self.measured.total += 1;
        self.measured.answering_ms += took_ms;
        self.note_gap(at_ms);
        self.last_good_ms = at_ms;
        self.failing = false;
        if let Some(version) = version.filter(|v| self.version.as_deref() != Some(*v)) {
            self.version = Some(version.to_owned());
            if self.measured.versions.len() < KEPT_CHANGES {
                let version = version.to_owned();
                self.measured.versions.push(Seen { at_ms, version });
            }
        }
    }

    /// A failed request, and why. The gap that it belongs to is counted once it is over, or at the next
    /// [`Recorder::take`].
    pub fn bad(&mut self, reason: &str) {
        self.measured.total += 1;
        self.measured.failed += 1;
        self.failing = true;
        self.measured.note_reason(reason);
    }

    /// What was measured since the last time that this was asked. A gap that is not over counts as far as it has come, and
    /// the next time from its beginning.
    pub fn take(&mut self, now_ms: u64) -> Measured {
        if self.failing {
            self.note_gap(now_ms);
        }
        std::mem::take(&mut self.measured)
    }

    fn note_gap(&mut self, now_ms: u64) {
        let gap = now_ms.saturating_sub(self.last_good_ms);
        self.measured.longest_gap_ms = self.measured.longest_gap_ms.max(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_the_time_between_two_good_answers() {
        let mut recorder = Recorder::default();
        recorder.good(20, 5, Some("v1"));
        recorder.bad("refused");
        recorder.bad("refused");
        recorder.good(1020, 5, Some("v2"));
        recorder.good(1040, 5, Some("v2"));
        let measured = recorder.take(1050);
        assert_eq!(
            (measured.total, measured.failed, measured.longest_gap_ms),
            (5, 2, 1000)
        );
        let versions: Vec<_> = measured
            .versions
            .iter()
            .map(|s| (s.at_ms, s.version.as_str()))
            .collect();
        assert_eq!(versions, [(20, "v1"), (1020, "v2")]);
    }

    #[test]
    fn a_gap_that_is_not_over_counts_in_both_stretches() {
        let mut recorder = Recorder::default();
        recorder.good(0, 5, None);
        recorder.bad("refused");
        assert_eq!(recorder.take(400).longest_gap_ms, 400);
        recorder.good(900, 5, None);
        assert_eq!(recorder.take(900).longest_gap_ms, 900);
        recorder.good(920, 5, None);
        assert_eq!(recorder.take(5000).longest_gap_ms, 20);
    }

    #[test]
    fn stretches_add_up() {
        let mut recorder = Recorder::default();
        recorder.good(10, 5, Some("v1"));
        let mut all = recorder.take(10);
        recorder.bad("no answer in time");
        recorder.good(300, 5, Some("v1"));
        all.add(&recorder.take(310));
        assert_eq!((all.total, all.failed, all.longest_gap_ms), (3, 1, 290));
        assert_eq!(all.versions.len(), 1);
        assert_eq!(all.reasons, ["no answer in time"]);
    }
}
