//! The live log: one line for each journal entry as it arrives, with hints where a group of the log opens and closes.
//!
//! Runs anywhere; pure. The narrator remembers only when each step began, so following again from the first entry tells
//! the same story; following from a later one leaves out a duration, never a line.

use jiff::Timestamp;

use belay_model::text::{one_line, visible};
use belay_model::transaction::journal::{Begin, End, Entry, Event, Output};
use belay_model::transaction::step::Step;
use belay_model::versions::release::ReleaseName;

use super::story;
use super::words;

/// What to show for an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step (or its undo) began: a group may open under this title.
    StepBegan {
        /// The step that is done or undone.
        step: Step,
        /// Its position and name, as in `4/14 backup`; `undo backup` for an undo.
        title: String,
    },
    /// It ended: the group closes, and this line follows it.
    StepEnded {
        /// The step of the entry, which need not be the one that began last.
        step: Step,
        /// How it ended, and the duration when its beginning was seen.
        line: String,
    },
    /// A line by itself.
    Line(String),
    /// Something that belongs above the fold: an open group closes first.
    Warning(String),
    /// Lines of a container's log, each already marked as such.
    Block {
        /// Which service's log it is.
        title: String,
        /// Without control characters, and with runner commands (`##[`) broken up.
        lines: Vec<String>,
    },
}

impl Progress {
    /// The lines for a terminal, where nothing folds.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Progress::StepBegan { title, .. } => title.clone(),
            Progress::StepEnded { line, .. } | Progress::Line(line) | Progress::Warning(line) => {
                line.clone()
            }
            Progress::Block { title, lines } => {
                let mut all = vec![title.clone()];
                all.extend(lines.iter().cloned());
                all.join("\n")
            }
        }
    }
}

/// Tells a transaction entry by entry.
#[derive(Clone, Debug, Default)]
pub struct Narrator {
    began: Option<(Step, Timestamp)>,
}

impl Narrator {
    /// One that has seen no entry yet. A second transaction needs a new one.
    #[must_use]
    pub fn new() -> Self {
        Narrator::default()
    }

    /// What to show for the next entry; nothing for one that says nothing to people.
    pub fn tell(&mut self, entry: &Entry) -> Option<Progress> {
        Some(match &entry.event {
            Event::Begin(begin) => Progress::Line(beginning(begin)),
            Event::Started { step } => self.began(entry, *step, position(*step)),
            Event::Done { step, output } => self.ended(entry, *step, "done", &found(output)),
            Event::Failed { step, failure } => self.ended(
                entry,
                *step,
                "failed",
                &format!(": {}", one_line(&failure.error)),
            ),
            Event::Interrupted { reason } => {
                Progress::Warning(format!("interrupted: {}", one_line(reason)))
            }
            Event::UndoStarted { step } => self.began(entry, *step, format!("undo {step}")),
            Event::UndoDone { step } => self.ended(entry, *step, "undone", ""),
            Event::UndoFailed { step, failure } => {
                let why = format!(": {}", one_line(&failure.error));
                self.ended(entry, *step, "could not be undone", &why)
            }
            Event::Note { text } => Progress::Line(format!("  {}", one_line(text))),
            Event::Warning { text } => Progress::Warning(format!("warning: {}", one_line(text))),
            Event::Logs { service, text } => logs(service, text),
            Event::Extended { ms, .. } => Progress::Line(format!(
                "  the host waits {} more for the confirmation",
                words::duration(*ms)
            )),
            Event::Measured { measured, .. } if measured.failed == 0 => return None,
            Event::Measured { step, measured } => Progress::Warning(format!(
                "beside {step}, {} of {} requests failed ({}); {} without a good answer",
                measured.failed,
                measured.total,
                one_line(measured.reasons.first().map_or("", String::as_str)),
                words::duration(measured.longest_gap_ms)
            )),
            Event::End { end, .. } => Progress::Line(ending(*end).to_owned()),
        })
    }

    fn began(&mut self, entry: &Entry, step: Step, title: String) -> Progress {
        self.began = Some((step, entry.at));
        Progress::StepBegan { step, title }
    }

    fn ended(&mut self, entry: &Entry, step: Step, how: &str, rest: &str) -> Progress {
        let took = match self.began.take() {
            Some((began, at)) if began == step => {
                // The host's clock may have been set back meanwhile.
                let ms =
                    u64::try_from(entry.at.as_millisecond() - at.as_millisecond()).unwrap_or(0);
                format!(" in {}", words::duration(ms))
            }
            _ => String::new(),
        };
        Progress::StepEnded {
            step,
            line: format!("{step} {how}{took}{rest}"),
        }
    }
}

/// `4/14 backup`.
#[must_use]
pub fn position(step: Step) -> String {
    let index = Step::ALL.iter().position(|s| *s == step).unwrap_or(0);
    format!("{}/{} {step}", index + 1, Step::ALL.len())
}

fn beginning(begin: &Begin) -> String {
    let now = match &begin.previous_tag {
        Some(tag) => format!("{} was deployed last", one_line(tag)),
        None => "nothing was deployed before".to_owned(),
    };
    format!("{} begins; {now}", one_line(&begin.what))
}

fn ending(end: End) -> &'static str {
    match end {
        End::Committed => "finished: the new version stays",
        End::Unwound => "unwound: everything is as it was before",
    }
}

/// What a step found or made, in a few words.
fn found(output: &Output) -> String {
    let text = match output {
        Output::Nothing | Output::Confirmed { .. } => return String::new(),
        Output::Preflight(seen) => format!("{} free on the host", words::size(seen.free_bytes)),
        Output::Unpacked { release, .. } => {
            let name: &ReleaseName = release;
            one_line(name)
        }
        Output::Fetched { images, .. } => words::count(images.len(), "image", "images"),
        Output::BackedUp { name, bytes, .. } => {
            format!("{}, {}", one_line(name), words::size(*bytes))
        }
        Output::Migrated { services, copied } => {
            let copied = copied.iter().map(|c| format!("{} copied", c.from));
            let all: Vec<String> = copied.chain(services.iter().cloned()).collect();
            names(&all)
        }
        Output::Started { services } | Output::CutOver { services, .. } => names(services),
        Output::Restored {
            backup, sources, ..
        } => format!("from {}: {}", one_line(backup), names(sources)),
        Output::Probed {
            healthy_after_ms, ..
        } => {
            format!("well after {}", words::duration(*healthy_after_ms))
        }
        Output::Baked(baked) => {
            let verdict = story::verdict(&baked.verdict).plain();
            format!(
                "{verdict}, first good answer after {}",
                words::duration(baked.startup_ms)
            )
        }
        Output::Pruned { removed } => format!("{} removed", removed.len()),
    };
    format!(" ({text})")
}

fn names(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing to do".to_owned();
    }
    names
        .iter()
        .map(|n| one_line(n))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The mark in front of each line keeps it from being taken for anything but a log.
fn logs(service: &str, text: &str) -> Progress {
    let clean = visible(text);
    let lines = clean
        .lines()
        .map(|line| format!("  | {}", line.replace("##[", "## [")));
    Progress::Block {
        title: format!("last logs of {}", one_line(service)),
        lines: lines.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use belay_model::judgement::health::Verdict;
    use belay_model::transaction::journal::{Baked, BootTime};
    use belay_model::transaction::outcome::Failure;

    fn entry(ms: i64, event: Event) -> Entry {
        Entry {
            n: 0,
            at: Timestamp::from_millisecond(ms).unwrap(),
            event,
        }
    }

    fn tell(events: Vec<(i64, Event)>) -> Vec<String> {
        let mut narrator = Narrator::new();
        let entries = events.into_iter().map(|(ms, event)| entry(ms, event));
        entries
            .filter_map(|e| narrator.tell(&e))
            .map(|p| p.text())
            .collect()
    }

    fn done(step: Step, output: Output) -> Event {
        Event::Done { step, output }
    }

    #[test]
    fn a_step_is_told_with_its_place_and_its_seconds() {
        let backup = Output::BackedUp {
            name: "backup_20241215_143022".to_owned(),
            bytes: 12_300_000,
            path: String::new(),
        };
        assert_eq!(
            tell(vec![
                (0, Event::Started { step: Step::Backup }),
                (3100, done(Step::Backup, backup)),
            ]),
            [
                "4/14 backup",
                "backup done in 3.1 s (backup_20241215_143022, 12.3 MB)"
            ]
        );
    }

    #[test]
    fn an_unwind_is_told_step_by_step() {
        assert_eq!(
            tell(vec![
                (0, Event::Started { step: Step::Bake }),
                (
                    500,
                    Event::Failed {
                        step: Step::Bake,
                        failure: Failure::new("web\nexited")
                    }
                ),
                (500, Event::UndoStarted { step: Step::Bake }),
                (540, Event::UndoDone { step: Step::Bake }),
                (
                    600,
                    Event::End {
                        end: End::Unwound,
                        down: vec![],
                        by_hand: None
                    }
                ),
            ]),
            [
                "9/14 bake",
                "bake failed in 0.5 s: web exited",
                "undo bake",
                "bake undone in 40 ms",
                "unwound: everything is as it was before"
            ]
        );
    }

    #[test]
    fn following_from_the_middle_leaves_out_only_the_seconds() {
        let told = tell(vec![(0, done(Step::Fetch, Output::Nothing))]);
        assert_eq!(told, ["fetch done"]);
    }

    #[test]
    fn a_clock_that_was_set_back_does_no_harm() {
        let told = tell(vec![
            (5000, Event::Started { step: Step::Fetch }),
            (1000, done(Step::Fetch, Output::Nothing)),
        ]);
        assert_eq!(told[1], "fetch done in 0 ms");
    }

    #[test]
    fn no_line_of_a_log_becomes_a_command() {
        let mut narrator = Narrator::new();
        let text = "::error::x\r::set-output name=a::b\u{1b}[2J\n##[add-path]/x".to_owned();
        let service = "web\n::warning::".to_owned();
        let told = narrator
            .tell(&entry(0, Event::Logs { service, text }))
            .unwrap();
        for line in told.text().lines() {
            assert!(
                !line.trim_start().starts_with("::") && !line.contains("##["),
                "{line:?}"
            );
        }
        assert_eq!(told.text().lines().count(), 4);
    }

    #[test]
    fn a_bake_says_its_verdict() {
        let baked = Baked {
            verdict: Verdict::Healthy,
            startup_ms: 1200,
            samples: 3,
            confirm_by: BootTime {
                boot_id: String::new(),
                ms: 0,
            },
        };
        let told = tell(vec![(0, done(Step::Bake, Output::Baked(baked)))]);
        assert_eq!(told, ["bake done (healthy, first good answer after 1.2 s)"]);
    }
}
