//! The deployment checklist of a pull request: its items, who judges each, and what becomes of the ticks that people made.
//!
//! Runs anywhere; pure. The lists and their words are those of the deployment strategy. A machine's item is ticked as the
//! machine sees it, whatever somebody clicked; a person's keeps the person's tick for as long as what it stood for is the
//! same.

use crate::digest::sha256;

/// One box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Reviews and checks of the newest commit.
    CodeReviewed,
    /// The tag that the version has, or could have.
    VersionTagged,
    /// There is a backup that can be relied on.
    BackupConfirmed,
    /// The endpoints answer.
    EndpointsVerified,
    /// The deployment took its own backup.
    BackupCreated,
    /// The images were built, within their budget.
    ImageBuilt,
    /// The new version became healthy.
    HealthPassing,
    /// There is a way back.
    RollbackReady,
    /// The services serve.
    ServiceVerified,
    /// Times and sizes are as before.
    PerformanceNormal,
    /// No new errors in the logs, or a person has read them.
    LogsReviewed,
    /// What is not needed any more is gone.
    ImagesCleaned,
}

/// The three lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the deployment.
    Before,
    /// While it is at work.
    During,
    /// After it.
    After,
}

impl Stage {
    /// In the order of the comment.
    pub const ALL: [Stage; 3] = [Stage::Before, Stage::During, Stage::After];

    /// The list's heading in the comment.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Stage::Before => "Pre-deployment",
            Stage::During => "During deployment",
            Stage::After => "Post-deployment",
        }
    }
}

impl Item {
    /// In the order of the comment.
    pub const ALL: [Item; 12] = [
        Item::CodeReviewed,
        Item::VersionTagged,
        Item::BackupConfirmed,
        Item::EndpointsVerified,
        Item::BackupCreated,
        Item::ImageBuilt,
        Item::HealthPassing,
        Item::RollbackReady,
        Item::ServiceVerified,
        Item::PerformanceNormal,
        Item::LogsReviewed,
        Item::ImagesCleaned,
    ];

    /// Its name in a comment; never changes.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Item::CodeReviewed => "code-reviewed",
            Item::VersionTagged => "version-tagged",
            Item::BackupConfirmed => "backup-confirmed",
            Item::EndpointsVerified => "endpoints-verified",
            Item::BackupCreated => "backup-created",
            Item::ImageBuilt => "image-built",
            Item::HealthPassing => "health-passing",
            Item::RollbackReady => "rollback-ready",
            Item::ServiceVerified => "service-verified",
            Item::PerformanceNormal => "performance-normal",
            Item::LogsReviewed => "logs-reviewed",
            Item::ImagesCleaned => "images-cleaned",
        }
    }

    /// The text next to the box. Boxes are recognised by [`Item::id`], so it may be reworded.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Item::CodeReviewed => "Code reviewed and tested",
            Item::VersionTagged => "Version tagged in Git",
            Item::BackupConfirmed => "Backup strategy confirmed",
            Item::EndpointsVerified => "Health check endpoints verified",
            Item::BackupCreated => "Automatic backup created",
            Item::ImageBuilt => "New image built and tested",
            Item::HealthPassing => "Health checks passing",
            Item::RollbackReady => "Rollback plan ready",
            Item::ServiceVerified => "Service health verified",
            Item::PerformanceNormal => "Performance metrics normal",
            Item::LogsReviewed => "Logs reviewed for errors",
            Item::ImagesCleaned => "Old images cleaned up",
        }
    }

    /// The list that shows the item.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Item::CodeReviewed
            | Item::VersionTagged
            | Item::BackupConfirmed
            | Item::EndpointsVerified => Stage::Before,
            Item::BackupCreated | Item::ImageBuilt | Item::HealthPassing | Item::RollbackReady => {
                Stage::During
            }
            Item::ServiceVerified
            | Item::PerformanceNormal
            | Item::LogsReviewed
            | Item::ImagesCleaned => Stage::After,
        }
    }
}

/// Who says whether an item is fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemJudge {
    /// The machine, and what it says.
    Machine(bool),
    /// A person, whose tick stands for this: a commit, a set of log lines.
    Person(String),
}

/// A line of a comment that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBox {
    /// The item's name in the comment.
    pub id: String,
    /// It has a cross.
    pub is_ticked: bool,
    /// What the tick stands for, shortened.
    pub stamp: Option<String>,
    /// A person's tick was taken back here, and nobody has ticked it since.
    pub was_taken_back: bool,
}

/// A box as it is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// It has a cross.
    pub is_ticked: bool,
    /// A person's tick stood for something that is different now.
    pub was_taken_back: bool,
}

/// The hidden words that begin a line, by which the next run finds it.
#[must_use]
pub fn mark(item: Item, judge: &ItemJudge, tick: Tick) -> String {
    let mut mark = format!("{MARK}{}", item.id());
    if let ItemJudge::Person(stands_for) = judge {
        mark.push_str(&format!(" for={}", stamp(stands_for)));
    }
    if tick.was_taken_back {
        mark.push_str(" taken-back");
    }
    mark + END
}

const MARK: &str = "<!-- belay:item=";
const END: &str = " -->";

fn stamp(stands_for: &str) -> String {
    let mut hash = sha256(stands_for.as_bytes());
    hash.truncate(12);
    hash
}

/// The boxes of a comment. Only a line that begins with a box and our mark is one, and only before the first fold or
/// fence: what comes there was written by programs.
#[must_use]
pub fn boxes(comment: &str) -> Vec<KnownBox> {
    let is_ours = |line: &&str| !line.starts_with("<details") && !line.starts_with("```");
    let mut found: Vec<KnownBox> = vec![];
    for line in comment.lines().take_while(is_ours) {
        if let Some(read) = read_box(line)
            && !found.iter().any(|known| known.id == read.id)
        {
            found.push(read);
        }
    }
    found
}

fn read_box(line: &str) -> Option<KnownBox> {
    let rest = line.strip_prefix("- [")?;
    let (tick, rest) = rest.split_once("] ")?;
    let (words, _) = rest.strip_prefix(MARK)?.split_once(END)?;
    let mut words = words.split(' ');
    let id = words.next()?.to_owned();
    let mut read = KnownBox {
        id,
        is_ticked: tick.eq_ignore_ascii_case("x"),
        stamp: None,
        was_taken_back: false,
    };
    for word in words {
        match word.strip_prefix("for=") {
            Some(stamp) => read.stamp = Some(stamp.to_owned()),
            None => read.was_taken_back |= word == "taken-back",
        }
    }
    Some(read)
}

/// How an item is to be shown, given the boxes that are there.
#[must_use]
pub fn tick(item: Item, judge: &ItemJudge, boxes: &[KnownBox]) -> Tick {
    let before = boxes.iter().find(|b| b.id == item.id());
    let (is_ticked, was_taken_back) = match (judge, before) {
        (ItemJudge::Machine(says), _) => (*says, false),
        (ItemJudge::Person(_), None) => (false, false),
        (ItemJudge::Person(stands_for), Some(before)) => person(stands_for, before),
    };
    Tick {
        is_ticked,
        was_taken_back,
    }
}

fn person(stands_for: &str, before: &KnownBox) -> (bool, bool) {
    let is_the_same = before.stamp.as_deref() == Some(stamp(stands_for).as_str());
    match before.is_ticked {
        true if is_the_same => (true, false),
        // A box that was the machine's had its tick from the machine.
        true => (false, before.stamp.is_some()),
        false => (false, before.was_taken_back),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next line for an item, and its tick.
    fn next(judge: &ItemJudge, comment: &str) -> (Tick, String) {
        let item = Item::LogsReviewed;
        let tick = tick(item, judge, &boxes(comment));
        let sign = if tick.is_ticked { 'x' } else { ' ' };
        let line = format!("- [{sign}] {} words", mark(item, judge, tick));
        (tick, line)
    }

    fn logs(digest: &str) -> ItemJudge {
        ItemJudge::Person(digest.to_owned())
    }

    #[test]
    fn what_is_shown_is_read_back() {
        let (_, persons) = next(&logs("a"), "");
        let (_, machines) = next(&ItemJudge::Machine(true), "");
        let machines = machines.replace("logs-reviewed", "backup-created");
        let read = boxes(&format!("{persons}\n{machines}"));
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[0].id.as_str(), read[0].is_ticked),
            ("logs-reviewed", false)
        );
        assert_eq!(read[0].stamp, Some(stamp("a")));
        assert!(read[1].is_ticked && read[1].stamp.is_none());
    }

    #[test]
    fn a_persons_tick_stays_until_what_it_stood_for_changes() {
        let (_, fresh) = next(&logs("a"), "");
        let ticked = fresh.replace("[ ]", "[X]");
        assert!(next(&logs("a"), &ticked).0.is_ticked);
        let (tick, changed) = next(&logs("b"), &ticked);
        assert!(!tick.is_ticked && tick.was_taken_back);
        // It is said until somebody ticks it again.
        let (tick, again) = next(&logs("b"), &changed);
        assert!(!tick.is_ticked && tick.was_taken_back);
        let (tick, _) = next(&logs("b"), &again.replace("[ ]", "[x]"));
        assert!(tick.is_ticked && !tick.was_taken_back);
        // One that was never ticked has nothing to take back.
        assert!(!next(&logs("b"), &fresh).0.was_taken_back);
    }

    #[test]
    fn a_machines_box_is_the_machines() {
        for says in [true, false] {
            let judge = ItemJudge::Machine(says);
            let (_, shown) = next(&judge, "");
            for clicked in ["[x]", "[ ]"] {
                let shown = shown.replace("[x]", clicked).replace("[ ]", clicked);
                assert_eq!(next(&judge, &shown).0.is_ticked, says);
            }
        }
        let (_, machines) = next(&ItemJudge::Machine(true), "");
        let (handed_over, _) = next(&logs("a"), &machines);
        assert!(!handed_over.is_ticked && !handed_over.was_taken_back);
    }

    #[test]
    fn only_our_own_lines_are_boxes() {
        let ours = next(&logs("a"), "").1.replace("[ ]", "[x]");
        for text in [
            format!("> {ours}"),
            format!("  {ours}"),
            format!("<details>\n{ours}"),
            format!("```text\n{ours}"),
            ours.replace("- [x]", "-"),
            ours.replace(" -->", ""),
            format!("- [x] words {ours}"),
        ] {
            assert!(!next(&logs("a"), &text).0.is_ticked, "{text}");
        }
        let second = format!("{}\n{ours}", ours.replace("[x]", "[ ]"));
        assert!(
            !next(&logs("a"), &second).0.is_ticked,
            "the first one counts"
        );
    }

    #[test]
    fn every_item_has_a_name_of_its_own() {
        for stage in Stage::ALL {
            let of_stage = Item::ALL.iter().filter(|i| i.stage() == stage);
            assert_eq!(of_stage.count(), 4);
        }
        let mut ids: Vec<&str> = Item::ALL.iter().map(|i| i.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Item::ALL.len());
    }
}
