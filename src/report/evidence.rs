//! What each item of a pull request's checklist says before the pull request is released.
//!
//! Runs anywhere; pure. What could not be looked at is said so, and leaves its box open.

use jiff::Timestamp;

use belay_model::judgement::health::TimedAnswer;
use belay_model::reviewing::checklist::{Item, ItemJudge};
use belay_model::reviewing::review::Reviewed;

use super::checklist::ChecklistEntry;
use super::sentence::Sentence;
use super::status::backup_in;
use super::words;

/// Why something could not be looked at, in words for the comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen(pub String);

impl Unseen {
    /// Because of this error, without its causes: a comment has room for a clause.
    #[must_use]
    pub fn because(error: impl std::fmt::Display) -> Self {
        Unseen(error.to_string())
    }
}

/// Everything that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The newest commit of the pull request.
    pub commit: String,
    /// The reviews and checks of that commit.
    pub reviewed: Result<Reviewed, Unseen>,
    /// The names that the release could have.
    pub next_tags: Result<Vec<String>, Unseen>,
    /// What the host has.
    pub host: Result<HostSeen, Unseen>,
    /// The last words of the deployment that is live, for when the host was not looked at.
    pub words_of_live: Option<String>,
    /// The application's, each with its answer.
    pub endpoints: Vec<Endpoint>,
    /// What belay.yml says.
    pub settings: SettingsSeen,
}

/// What the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSeen {
    /// The host's clock.
    pub now: Timestamp,
    /// The tag that serves; `None` before the first deployment.
    pub serving: Option<String>,
    /// How many there are.
    pub backups: usize,
    /// The newest of them.
    pub last_backup: Option<LastBackup>,
}

/// The newest backup on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBackup {
    /// By which a rollback means it.
    pub name: String,
    /// When it was begun.
    pub at: Timestamp,
    /// The archive's size.
    pub bytes: u64,
    /// Whether it was read back and found whole.
    pub is_verified: bool,
}

/// An endpoint of the application and how it answered, if it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub url: String,
    /// What it said, and how soon.
    pub answer: Result<TimedAnswer, Unseen>,
}

/// What belay.yml says of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsSeen {
    /// `backup.keep`.
    pub backups_kept: u32,
    /// `images.keep`.
    pub versions_kept: u32,
    /// `images.budget`, in bytes.
    pub image_budget: u64,
    /// Whether `images.test` has a command.
    pub images_are_tested: bool,
    /// `health.successes`.
    pub good_answers: u32,
    /// Whose answers decide.
    pub endpoints: Vec<String>,
}

/// The twelve items, before the release.
#[must_use]
pub fn before_release(seen: &Evidence) -> Vec<ChecklistEntry> {
    let mut entries = vec![
        code_reviewed(&seen.reviewed, &seen.commit),
        version_tagged(seen),
        backup_confirmed(seen),
        endpoints_verified(seen),
    ];
    entries.extend(to_come(seen));
    entries
}

pub(super) fn entry(item: Item, judge: ItemJudge, evidence: Sentence) -> ChecklistEntry {
    ChecklistEntry {
        item,
        judge,
        evidence,
    }
}

fn unknown(item: Item, why: &str) -> ChecklistEntry {
    let evidence = Sentence::new("not looked at: ").text(why);
    entry(item, ItemJudge::Machine(false), evidence)
}

/// The same before and after the release.
pub(super) fn code_reviewed(reviewed: &Result<Reviewed, Unseen>, commit: &str) -> ChecklistEntry {
    let item = Item::CodeReviewed;
    let reviewed = match reviewed {
        Ok(reviewed) => reviewed,
        Err(Unseen(why)) => return unknown(item, why),
    };
    let mut evidence = match reviewed.approved_by.is_empty() {
        true => Sentence::new("nobody has approved it yet"),
        false => names("approved by ", &reviewed.approved_by),
    };
    if !reviewed.refused_by.is_empty() {
        evidence = evidence.then(names("; changes requested by ", &reviewed.refused_by));
    }
    let passed = words::count(reviewed.passed, "check passed", "checks passed");
    evidence = match reviewed.passed {
        0 => evidence.say("; no check has passed"),
        _ => evidence.say("; ").text(&passed),
    };
    if !reviewed.failed.is_empty() {
        evidence = evidence.then(names(", failed: ", &reviewed.failed));
    }
    if !reviewed.running.is_empty() {
        evidence = evidence.then(names(", not over yet: ", &reviewed.running));
    }
    let judge = reviewed.judge(commit);
    if let ItemJudge::Person(_) = judge {
        evidence = evidence
            .say(". Tick this when ")
            .name(commit.get(..7).unwrap_or(commit))
            .say(" was tested");
    }
    entry(item, judge, evidence)
}

/// A few names, and how many more there are.
fn names(before: &'static str, all: &[String]) -> Sentence {
    const SHOWN: usize = 10;
    let mut sentence = Sentence::new(before);
    for (n, name) in all.iter().take(SHOWN).enumerate() {
        sentence = if n == 0 { sentence } else { sentence.say(", ") };
        sentence = sentence.name(name);
    }
    match all.len().saturating_sub(SHOWN) {
        0 => sentence,
        more => sentence.say(" and ").text(&format!("{more} more")),
    }
}

fn version_tagged(seen: &Evidence) -> ChecklistEntry {
    let item = Item::VersionTagged;
    let evidence = match &seen.next_tags {
        Err(Unseen(why)) => return unknown(item, why),
        Ok(next) => match next.as_slice() {
            [] => Sentence::new("no tag has it yet"),
            [release] => Sentence::new("no tag has it yet; the next release is ").name(release),
            [release, hotfix, ..] => Sentence::new("no tag has it yet; the next release is ")
                .name(release)
                .say(", the next hotfix ")
                .name(hotfix),
        },
    };
    entry(item, ItemJudge::Machine(false), evidence)
}

fn backup_confirmed(seen: &Evidence) -> ChecklistEntry {
    let item = Item::BackupConfirmed;
    let host = match &seen.host {
        Ok(host) => host,
        Err(Unseen(why)) => return backup_on_record(seen, why),
    };
    let Some(last) = &host.last_backup else {
        let evidence = Sentence::new(
            "there is none yet; the first deployment of something that runs takes one",
        );
        // Where nothing serves there is nothing to lose.
        return entry(item, ItemJudge::Machine(host.serving.is_none()), evidence);
    };
    let verified = match last.is_verified {
        true => ", verified when it was taken",
        false => ", and it cannot be read back",
    };
    let kept = format!("{} of {} kept", host.backups, seen.settings.backups_kept);
    let evidence = Sentence::new("the last one is ")
        .name(&last.name)
        .say(", ")
        .text(&words::ago(last.at, host.now))
        .say(", ")
        .text(&words::size(last.bytes))
        .say(verified)
        .say("; ")
        .text(&kept);
    entry(item, ItemJudge::Machine(last.is_verified), evidence)
}

/// A deployment that is live has taken its backup and read it back.
fn backup_on_record(seen: &Evidence, why: &str) -> ChecklistEntry {
    let item = Item::BackupConfirmed;
    let Some(backup) = seen.words_of_live.as_deref().and_then(backup_in) else {
        return unknown(item, why);
    };
    let evidence = Sentence::new("the last deployment took ")
        .name(backup)
        .say("; the host itself was not looked at: ")
        .text(why);
    entry(item, ItemJudge::Machine(true), evidence)
}

fn endpoints_verified(seen: &Evidence) -> ChecklistEntry {
    let item = Item::EndpointsVerified;
    if seen.endpoints.is_empty() {
        let evidence = Sentence::new(
            "belay.yml names no endpoint, so the containers' own healthchecks decide",
        );
        return entry(item, ItemJudge::Machine(false), evidence);
    }
    let mut evidence = Sentence::default();
    for (n, endpoint) in seen.endpoints.iter().enumerate() {
        evidence = if n == 0 { evidence } else { evidence.say("; ") };
        evidence = evidence.name(&endpoint.url).say(" ");
        evidence = match &endpoint.answer {
            Ok(answer) => evidence
                .text(&answer.answer.describe())
                .say(" in ")
                .text(&words::duration(answer.ms)),
            Err(Unseen(why)) => evidence.say("was not asked: ").text(why),
        };
    }
    let is_good = |e: &Endpoint| {
        e.answer
            .as_ref()
            .is_ok_and(|timed| timed.answer.is_success())
    };
    let judge = ItemJudge::Machine(seen.endpoints.iter().all(is_good));
    entry(item, judge, evidence)
}

/// What a deployment will look at.
fn to_come(seen: &Evidence) -> Vec<ChecklistEntry> {
    let SettingsSeen {
        backups_kept,
        versions_kept,
        image_budget,
        images_are_tested,
        good_answers,
        endpoints: _,
    } = &seen.settings;
    let serving = seen
        .host
        .as_ref()
        .ok()
        .and_then(|host| host.serving.clone());
    let rollback = match &serving {
        Some(tag) => Sentence::new("back to ")
            .name(tag)
            .say(", which serves now"),
        None => Sentence::new("back to what serves when the deployment begins"),
    };
    let built = Sentence::new("built by the run, at most ").text(&words::size(*image_budget));
    let built = match images_are_tested {
        true => built.say(", and tested before it is sent"),
        false => built.say("; belay.yml names no test for it"),
    };
    let good = words::count(
        usize::try_from(*good_answers).unwrap_or(usize::MAX),
        "good answer",
        "good answers in a row",
    );
    let told = [
        (
            Item::BackupCreated,
            Sentence::new("before anything is changed; the last ")
                .text(&backups_kept.to_string())
                .say(" are kept"),
        ),
        (Item::ImageBuilt, built),
        (Item::HealthPassing, Sentence::new("").text(&good)),
        (Item::RollbackReady, rollback),
        (
            Item::ServiceVerified,
            Sentence::new("asked again before the deployment is confirmed"),
        ),
        (
            Item::PerformanceNormal,
            Sentence::new(
                "start-up time, image size and answers beside those of earlier deployments",
            ),
        ),
        (
            Item::LogsReviewed,
            Sentence::new("lines of errors since the new version took over"),
        ),
        (
            Item::ImagesCleaned,
            Sentence::new("the last ")
                .text(&versions_kept.to_string())
                .say(" versions are kept"),
        ),
    ];
    told.map(|(item, evidence)| entry(item, ItemJudge::Machine(false), evidence))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checklist::{Checklist, PullRequestState, checklist};
    use crate::{deployment_status, examples};
    use belay_model::judgement::health::HealthAnswer;
    use belay_model::reviewing::checklist::boxes;

    fn answered(code: u16, ms: u64) -> Result<TimedAnswer, Unseen> {
        let version = None;
        let answer = HealthAnswer::Status { code, version };
        Ok(TimedAnswer { answer, ms })
    }

    fn seen() -> Evidence {
        Evidence {
            commit: "6113728f27ae82c7b1a177c8d03f9e96e0adf246".to_owned(),
            reviewed: Ok(Reviewed {
                approved_by: vec!["ann".to_owned()],
                refused_by: vec![],
                passed: 3,
                failed: vec![],
                running: vec![],
            }),
            next_tags: Ok(vec!["v1.3.0".to_owned(), "v1.2.1".to_owned()]),
            host: Ok(HostSeen {
                now: Timestamp::from_second(1_790_000_000).expect("a time"),
                serving: Some("v1.2.0".to_owned()),
                backups: 5,
                last_backup: Some(LastBackup {
                    name: "backup_20260921_120000".to_owned(),
                    at: Timestamp::from_second(1_789_990_000).expect("a time"),
                    bytes: 12_345_678,
                    is_verified: true,
                }),
            }),
            endpoints: vec![Endpoint {
                url: "http://127.0.0.1:8080/api/status".to_owned(),
                answer: answered(200, 12),
            }],
            settings: SettingsSeen {
                backups_kept: 5,
                versions_kept: 3,
                image_budget: 300_000_000,
                images_are_tested: true,
                good_answers: 3,
                endpoints: vec!["http://127.0.0.1:8080/api/status".to_owned()],
            },
            words_of_live: None,
        }
    }

    fn page(seen: &Evidence) -> String {
        let list = Checklist {
            environment: "production".to_owned(),
            standing: PullRequestState::Open {
                next: seen.next_tags.clone().unwrap_or_default(),
            },
            entries: before_release(seen),
            logs: vec![],
        };
        checklist(&list, &[])
    }

    fn ticked(seen: &Evidence) -> Vec<String> {
        let boxes = boxes(&page(seen)).into_iter();
        boxes.filter(|b| b.is_ticked).map(|b| b.id).collect()
    }

    #[test]
    fn before_the_release_the_first_list_is_judged_and_the_others_are_announced() {
        insta::assert_snapshot!(page(&seen()));
        assert_eq!(
            ticked(&seen()),
            ["code-reviewed", "backup-confirmed", "endpoints-verified"]
        );
    }

    #[test]
    fn what_was_not_looked_at_ticks_nothing() {
        let why = || Err(Unseen("this workflow gives no SSH key".to_owned()));
        let blind = Evidence {
            reviewed: Err(Unseen("the token may not".to_owned())),
            next_tags: Err(Unseen("the token may not".to_owned())),
            host: Err(Unseen("this workflow gives no SSH key".to_owned())),
            endpoints: vec![Endpoint {
                url: "http://127.0.0.1:8080/".to_owned(),
                answer: why(),
            }],
            ..seen()
        };
        assert_eq!(ticked(&blind), Vec::<String>::new());
        insta::assert_snapshot!(page(&blind));
    }

    #[test]
    fn without_the_host_the_last_deployments_record_is_what_there_is() {
        let mut seen = seen();
        seen.host = Err(Unseen("this workflow gives no SSH key".to_owned()));
        assert!(!ticked(&seen).contains(&"backup-confirmed".to_owned()));
        let (_, words) = deployment_status(&examples::deployed());
        seen.words_of_live = Some(words);
        assert!(ticked(&seen).contains(&"backup-confirmed".to_owned()));
        assert!(page(&seen).contains("took `backup_20261124_031402 (12.3 MB)`; the host itself"));
    }

    #[test]
    fn one_bad_answer_leaves_the_endpoints_open() {
        let mut bad = seen();
        bad.endpoints.push(Endpoint {
            url: "https://shop.example.com/".to_owned(),
            answer: answered(502, 3),
        });
        assert!(!ticked(&bad).contains(&"endpoints-verified".to_owned()));
    }
}
