//! The checklist of a pull request as a comment: where it stands, the three lists, and what does not fit into a line.
//!
//! Runs anywhere; pure. GitHub takes 65,536 characters; this one sheds whole parts until it has 60,000 at most.

use jiff::Timestamp;

use belay_model::reviewing::checklist::{Item, ItemJudge, KnownBox, Stage, mark, tick};
use belay_model::reviewing::sticky;

use super::markdown::{Document, Inline, Task};
use super::sentence::Sentence;
use super::words;

/// The longest comment, in characters, with the frame around it.
pub const MAX_CHARS: usize = 60_000;

/// Where a pull request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullRequestState {
    /// Not merged, and which tags could bring it once it is.
    Open {
        /// Tags that could come next, by the repository's tags; empty when these could not be read.
        next: Vec<String>,
    },
    /// Merged, and waiting for a tag.
    Merged {
        /// As for an open one.
        next: Vec<String>,
    },
    /// Closed without being merged.
    Closed,
    /// In production, or another environment.
    Live(Deployed),
    /// The deployment that should have brought it failed and was undone.
    Undone {
        /// The run that failed, and the version that it tried.
        deployed: Deployed,
        /// The version that was restored; `None` after a first deployment, when there was no running version before.
        serving: Option<String>,
    },
    /// It was live, and what serves now does not have it.
    RolledBack {
        /// The version that was live with it, and the run that replaced that version.
        deployed: Deployed,
        /// The running version now.
        to: String,
    },
}

/// The run that changed where a pull request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The version that has the pull request.
    pub tag: String,
    /// The cutover; the start of the run when it did not get that far.
    pub at: Timestamp,
    /// The run's page.
    pub run: Option<String>,
}

/// An item, who judges it, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecklistEntry {
    /// Which of the twelve.
    pub item: Item,
    /// For a person, also what the tick stands for: the tick is taken back when that changes.
    pub judge: ItemJudge,
    /// What follows the item's title; also says why something could not be looked at.
    pub evidence: Sentence,
}

/// Everything that the comment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checklist {
    /// As belay.yml names it. A pull request has one comment for each environment.
    pub environment: String,
    /// The line below the comment's title. Later runs may replace it alone, see [`standing_elsewhere`].
    pub standing: PullRequestState,
    /// Shown under their stages, in this order within each.
    pub entries: Vec<ChecklistEntry>,
    /// Names and their logs, to be folded.
    pub logs: Vec<(String, String)>,
}

/// Belay's part of the comment, with the ticks that people made in the one that is there.
#[must_use]
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

/// One line. Its mark is at its end: at its beginning it would make the line raw HTML.
fn standing(standing: &PullRequestState, environment: &str) -> Inline {
    let place = Inline::code(environment);
    let said = match standing {
        PullRequestState::Open { next } => Inline::own("Not merged yet.").then(tags(next)),
        PullRequestState::Merged { next } => {
            Inline::own("Merged, and not released yet.").then(tags(next))
        }
        PullRequestState::Closed => {
            Inline::own("Closed without being merged: nothing of it is deployed.")
        }
        PullRequestState::Live(deployed) => Inline::own("🟢 **Live in** ")
            .then(place)
            .say(" **with** ")
            .then(Inline::code(&deployed.tag))
            .say(", since ")
            .then(by(deployed)),
        PullRequestState::Undone { deployed, serving } => Inline::own("↩️ ")
            .then(Inline::code(&deployed.tag))
            .say(" **failed in** ")
            .then(place)
            .say(" at ")
            .then(by(deployed))
            .then(match serving {
                Some(tag) => Inline::own(" ")
                    .then(Inline::code(tag))
                    .say(" serves again."),
                None => Inline::own(" Nothing serves, as before."),
            }),
        PullRequestState::RolledBack { deployed, to } => Inline::own("↩️ **Rolled back to** ")
            .then(Inline::code(to))
            .say(" in ")
            .then(place)
            .say(" at ")
            .then(by(deployed))
            .say(" It was live with ")
            .then(Inline::code(&deployed.tag))
            .say("."),
    };
    said.say(STANDING)
}

const STANDING: &str = " <!-- belay:standing -->";

fn by(deployed: &Deployed) -> Inline {
    let at = Inline::text(&words::utc(deployed.at));
    match &deployed.run {
        Some(run) => at
            .say(" (")
            .then(Inline::link(Inline::own("run"), run))
            .say(")."),
        None => at.say("."),
    }
}

/// Belay's part of a comment that is there, standing elsewhere now; everything else stays as it was. Nothing for a comment in
/// which somebody has broken the line.
pub fn standing_elsewhere(
    comment: &str,
    new: &PullRequestState,
    environment: &str,
) -> Option<String> {
    let body = sticky::body(comment)?.replace("\r\n", "\n");
    let mut lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let line = lines.iter_mut().find(|line| line.ends_with(STANDING))?;
    *line = standing(new, environment).to_string();
    Some(lines.join("\n"))
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

fn task(entry: &ChecklistEntry, boxes: &[KnownBox]) -> Task {
    let tick = tick(entry.item, &entry.judge, boxes);
    let hand = match entry.judge {
        ItemJudge::Person(_) => "✋ ",
        ItemJudge::Machine(_) => "",
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
