//! The checklist of a pull request as a comment: where it stands, the three lists, and what does not fit into a line.
//!
//! Runs anywhere; pure. GitHub takes 65,536 characters; this one sheds whole parts until it has 60,000 at most.

use jiff::Timestamp;

use crate::model::checklist::{Item, Judge, KnownBox, Stage, mark, tick};

use super::markdown::{Document, Inline, Task};
use super::sentence::Sentence;
use super::words;

/// The longest comment, in characters, with the frame around it.
pub const MAX_CHARS: usize = 60_000;

/// Where a pull request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not merged, and which tags could bring it once it is.
    Open { next: Vec<String> },
    /// Merged, and waiting for a tag.
    Merged { next: Vec<String> },
    /// Closed without being merged.
    Closed,
    /// In production, or another environment.
    Live { tag: String, at: Timestamp },
    /// It was live, and what serves now does not have it.
    RolledBack {
        tag: String,
        to: String,
        at: Timestamp,
    },
}

/// An item, who judges it, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub item: Item,
    pub judge: Judge,
    pub evidence: Sentence,
}

/// Everything that the comment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checklist {
    pub environment: String,
    pub standing: Standing,
    pub entries: Vec<Entry>,
    /// Names and their logs, to be folded.
    pub logs: Vec<(String, String)>,
}

/// Belay's part of the comment, with the ticks that people made in the one that is there.
pub fn checklist(list: &Checklist, boxes: &[KnownBox]) -> String {
    let text = render(list, boxes, true);
    match text.chars().count() > MAX_CHARS {
        true => render(list, boxes, false),
        false => text,
    }
}

fn render(list: &Checklist, boxes: &[KnownBox], with_logs: bool) -> String {
    let mut page = Document::new();
    page.heading(
        2,
        &Inline::own("Deployment checklist: ").then(Inline::code(&list.environment)),
    );
    page.paragraph(&standing(&list.standing, &list.environment));
    for stage in Stage::ALL {
        page.heading(3, &Inline::own(stage.title()));
        let of_stage = list.entries.iter().filter(|e| e.item.stage() == stage);
        let tasks: Vec<Task> = of_stage.map(|entry| task(entry, boxes)).collect();
        page.tasks(&tasks);
    }
    for (name, log) in list.logs.iter().filter(|_| with_logs) {
        let mut body = Document::new();
        body.fence("text", log);
        page.folded("Log lines of", name, &body);
    }
    // Nothing here may differ from one run to the next: a comment that says the same is not written again.
    page.paragraph(&Inline::own(
        "A box with a hand (✋) is yours to tick; the others are ticked by what Belay saw.",
    ));
    page.into_string()
}

fn standing(standing: &Standing, environment: &str) -> Inline {
    let place = Inline::code(environment);
    let at = |at: &Timestamp| Inline::text(&words::utc(*at));
    match standing {
        Standing::Open { next } => Inline::own("Not merged yet.").then(tags(next)),
        Standing::Merged { next } => Inline::own("Merged, and not released yet.").then(tags(next)),
        Standing::Closed => Inline::own("Closed without being merged: nothing of it is deployed."),
        Standing::Live { tag, at: since } => Inline::own("🟢 **Live in** ")
            .then(place)
            .say(" **with** ")
            .then(Inline::code(tag))
            .say(", since ")
            .then(at(since))
            .say("."),
        Standing::RolledBack { tag, to, at: since } => Inline::own("↩️ **Rolled back to** ")
            .then(Inline::code(to))
            .say(" at ")
            .then(at(since))
            .say("; it was live with ")
            .then(Inline::code(tag))
            .say("."),
    }
}

fn tags(next: &[String]) -> Inline {
    if next.is_empty() {
        return Inline::default();
    }
    let tags = next.iter().map(|tag| Inline::code(tag)).collect();
    Inline::own(" The next tag could be ")
        .then(Inline::joined(tags, " or "))
        .say(".")
}

fn task(entry: &Entry, boxes: &[KnownBox]) -> Task {
    let tick = tick(entry.item, &entry.judge, boxes);
    let hand = match entry.judge {
        Judge::Person(_) => "✋ ",
        Judge::Machine(_) => "",
    };
    let title = Inline::own(entry.item.title()).strong();
    let mut words = Inline::own(hand).then(title).say(": ");
    words = words.then(entry.evidence.inline());
    if tick.was_taken_back {
        words = words.say(" (the tick was taken back: what it stood for has changed)");
    }
    Task {
        is_ticked: tick.is_ticked,
        mark: mark(entry.item, &entry.judge, tick),
        words,
    }
}
