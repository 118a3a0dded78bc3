//! Pictures in a summary, as mermaid's text: what a deployment took its time for, and how large its images are beside
//! earlier ones.
//!
//! Runs anywhere; pure. Only names that cannot be read as mermaid's own words get in; a table beside each picture says the
//! same, for whoever sees no picture.

use belay_model::transaction::outcome::{Outcome, StepResult, StepTime};
use belay_model::versions::history::PastDeployment;

/// Releases that a chart of sizes shows, the newest ones.
const SHOWN_RELEASES: usize = 10;

/// The steps on the host, one after the other, in seconds since the first began.
#[must_use]
pub fn timeline(steps: &[StepTime]) -> Option<String> {
    if steps.is_empty() {
        return None;
    }
    // Seconds since 1970 do not depend on where the reader is, as hours and minutes do.
    let total: u64 = steps.iter().map(|step| step.ms).sum();
    // Left to itself it may choose parts of a second, which the axis cannot show.
    let tick = match total / 1000 {
        0..20 => "1second",
        20..200 => "10second",
        _ => "1minute",
    };
    let mut text = format!(
        "gantt\n    dateFormat x\n    axisFormat %s s\n    tickInterval {tick}\n    todayMarker off\n"
    );
    let mut at = 0;
    let mut section = "";
    for step in steps {
        let (of, sign) = match step.result {
            StepResult::Done => ("Forward", "done"),
            StepResult::Failed => ("Forward", "crit"),
            StepResult::Undone => ("Back", "active"),
            StepResult::UndoFailed => ("Back", "crit"),
        };
        if of != section {
            text.push_str(&format!("    section {of}\n"));
            section = of;
        }
        // What took no time would not be drawn.
        let end = at + step.ms.max(1);
        text.push_str(&format!("    {} :{sign}, {at}, {end}\n", step.step.name()));
        at = end;
    }
    Some(text)
}

/// The sizes of one service's image over the last releases, with its budget.
pub struct Sizes<'a> {
    /// The service's name in the Compose file.
    pub service: &'a str,
    /// Tags and sizes in bytes, oldest first; at least two, and at most the last ten.
    pub releases: Vec<(&'a str, u64)>,
    /// `images.budget`, in bytes.
    pub budget: u64,
}

impl Sizes<'_> {
    /// Whether the largest image is at least half as large as it may be.
    #[must_use]
    pub fn shows_budget(&self) -> bool {
        let largest = self.releases.iter().map(|(_, bytes)| *bytes).max();
        largest.unwrap_or(0) >= self.budget / 2
    }
}

/// Of the images with a budget the largest one; nothing while there is only one release.
#[must_use]
pub fn sizes(outcome: &Outcome) -> Option<Sizes<'_>> {
    let budgeted = outcome.images.iter().filter(|i| i.budget.is_some());
    let image = budgeted.max_by_key(|image| image.size)?;
    let size_in = |past: &PastDeployment| {
        let mut images = past.images.iter();
        images.find(|i| i.service == image.service).map(|i| i.bytes)
    };
    let all = outcome.history.iter();
    let mut releases: Vec<(&str, u64)> = all
        .filter_map(|past| Some((past.tag.as_str(), size_in(past)?)))
        .collect();
    let oldest = releases.len().saturating_sub(SHOWN_RELEASES);
    releases.drain(..oldest);
    (releases.len() > 1).then_some(Sizes {
        service: &image.service,
        releases,
        budget: image.budget?,
    })
}

/// Bars, and the budget as a line where it is near enough to leave anything of the bars.
#[must_use]
pub fn size_chart(sizes: &Sizes<'_>) -> String {
    let megabytes = |bytes: u64| crate::words::tenths(bytes, 1_000_000);
    let names: Vec<String> = sizes
        .releases
        .iter()
        .map(|(tag, _)| format!("\"{}\"", plain(tag)))
        .collect();
    let bars: Vec<String> = sizes
        .releases
        .iter()
        .map(|(_, bytes)| megabytes(*bytes))
        .collect();
    let largest = sizes.releases.iter().map(|(_, bytes)| *bytes).max();
    let largest = largest.unwrap_or(0);
    let (top, line) = match sizes.shows_budget() {
        true => {
            let line = vec![megabytes(sizes.budget); sizes.releases.len()].join(", ");
            (largest.max(sizes.budget), format!("    line [{line}]\n"))
        }
        false => (largest, String::new()),
    };
    format!(
        "xychart-beta\n    x-axis [{}]\n    y-axis \"MB\" 0 --> {}\n    bar [{}]\n{line}",
        names.join(", "),
        megabytes(top + top / 10),
        bars.join(", "),
    )
}

/// A tag as a word of a chart. Every valid one is this already; one from a journal that somebody changed may not be.
fn plain(tag: &str) -> String {
    tag.chars()
        .filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c))
        .take(40)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use belay_model::transaction::step::Step;
    use belay_model::versions::history::PastImage;

    #[test]
    fn steps_follow_each_other_and_the_way_back_is_apart() {
        let step = |step, ms, result| StepTime { step, ms, result };
        let text = timeline(&[
            step(Step::Preflight, 320, StepResult::Done),
            step(Step::Bake, 0, StepResult::Failed),
            step(Step::Cutover, 500, StepResult::Undone),
        ]);
        assert_eq!(
            text.expect("a picture"),
            "gantt\n    dateFormat x\n    axisFormat %s s\n    tickInterval 1second\n    todayMarker off\n    \
             section Forward\n    preflight :done, 0, 320\n    bake :crit, 320, 321\n    \
             section Back\n    cutover :active, 321, 821\n"
        );
        assert_eq!(timeline(&[]), None);
    }

    #[test]
    fn sizes_are_those_of_one_service_over_the_last_releases() {
        let mut outcome = examples::deployed();
        let past = |seq: u64| PastDeployment {
            seq,
            tag: format!("v1.{seq}.0\"]"),
            at: outcome.started,
            startup_ms: 1,
            answer_ms: None,
            images: [("web", seq * 1_000_000), ("worker", 5)]
                .map(|(service, bytes)| PastImage {
                    service: service.to_owned(),
                    id: String::new(),
                    bytes,
                })
                .into(),
        };
        let history = (1..=12).map(past).collect();
        outcome.history = history;
        outcome.images.truncate(1);
        let sizes = sizes(&outcome).expect("a chart");
        assert_eq!((sizes.service, sizes.releases.len()), ("web", 10));
        let text = size_chart(&sizes);
        assert!(text.contains("x-axis [\"v1.3.0\", \"v1.4.0\""), "{text}");
        assert!(text.contains("bar [3.0, 4.0"), "{text}");
        assert!(
            text.contains("0 --> 13.2\n") && !text.contains("line"),
            "{text}"
        );
        let near = Sizes {
            budget: 20_000_000,
            ..sizes
        };
        let text = size_chart(&near);
        assert!(text.contains("0 --> 22.0\n"), "{text}");
        assert!(text.contains("line [20.0, 20.0"), "{text}");
    }
}
