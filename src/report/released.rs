//! What each item of a pull request's checklist says after the deployment that brought the pull request, or tried to.
//!
//! Runs anywhere; pure. Everything comes from the run's outcome, so the comment tells what the summary tells.

use belay_model::judgement::health::Verdict;
use belay_model::reviewing::checklist::{Item, ItemJudge};
use belay_model::reviewing::review::Reviewed;
use belay_model::transaction::outcome::{ImageReport, Outcome, StepResult, Word, Work};
use belay_model::transaction::step::Step;
use belay_model::versions::history::{Metric, MetricKind, PastDeployment, metrics};

use super::checklist::{ChecklistEntry, Deployed, PullRequestState};
use super::evidence::{SettingsSeen, Unseen, code_reviewed, entry};
use super::sentence::Sentence;
use super::story;
use super::words;

/// A pull request and the run that it was deployed by.
#[derive(Clone, Debug)]
pub struct Released<'a> {
    /// The run's outcome, also when it failed.
    pub outcome: &'a Outcome,
    /// The newest of the pull request's own commits.
    pub commit: String,
    /// Reviews and checks of that commit, or why GitHub could not be asked.
    pub reviewed: Result<Reviewed, Unseen>,
    /// From belay.yml as the run read it.
    pub settings: SettingsSeen,
}

/// The twelve items, after a deployment.
#[must_use]
pub fn after_release(seen: &Released<'_>) -> Vec<ChecklistEntry> {
    let outcome = seen.outcome;
    let mut entries = vec![
        code_reviewed(&seen.reviewed, &seen.commit),
        version_tagged(outcome),
        backup(Item::BackupConfirmed, seen),
        endpoints_verified(seen),
        backup(Item::BackupCreated, seen),
        image_built(seen),
        health_passing(outcome),
        rollback_ready(outcome),
    ];
    match outcome.word {
        Word::Deployed => entries.extend([
            service_verified(outcome),
            performance_normal(outcome),
            logs_reviewed(outcome),
            images_cleaned(seen),
        ]),
        _ => entries.extend(not_live(outcome)),
    }
    entries
}

/// Where the pull requests of a run stand after it; nothing when the run has changed nothing, or that is not known.
#[must_use]
pub fn standing_after(outcome: &Outcome) -> Option<PullRequestState> {
    let deployed = Deployed {
        tag: outcome.asked.clone(),
        at: outcome.cut_over.unwrap_or(outcome.started),
        run: outcome.urls.run.clone(),
    };
    match (outcome.word, outcome.work) {
        (Word::Deployed, Work::Deploy | Work::Rollback) => Some(PullRequestState::Live(deployed)),
        (Word::RolledBack, Work::Deploy) => Some(PullRequestState::Undone {
            deployed,
            serving: outcome.serving.clone(),
        }),
        _ => None,
    }
}

/// Where the pull requests stand that were live before a run and are not after it.
#[must_use]
pub fn standing_of_gone(outcome: &Outcome) -> Option<PullRequestState> {
    let deployed = Deployed {
        tag: outcome.previous.clone()?,
        at: outcome.cut_over.unwrap_or(outcome.started),
        run: outcome.urls.run.clone(),
    };
    let to = outcome.serving.clone()?;
    (outcome.word == Word::Deployed).then_some(PullRequestState::RolledBack { deployed, to })
}

/// The first lines that told of errors, by service, to be folded.
#[must_use]
pub fn error_logs(outcome: &Outcome) -> Vec<(String, String)> {
    let errors = outcome.errors.iter().flatten();
    errors
        .filter(|errors| errors.count > 0)
        .map(|errors| (errors.service.clone(), errors.first.join("\n")))
        .collect()
}

fn version_tagged(outcome: &Outcome) -> ChecklistEntry {
    let mut evidence = Sentence::with_name(&outcome.asked);
    if let Some(revision) = &outcome.revision {
        let short = revision.get(..7).unwrap_or(revision);
        evidence = match &outcome.urls.repository {
            Some(url) => evidence
                .say(" at ")
                .link(short, &format!("{url}/commit/{revision}")),
            None => evidence.say(" at ").name(short),
        };
    }
    entry(Item::VersionTagged, ItemJudge::Machine(true), evidence)
}

fn backup(item: Item, seen: &Released<'_>) -> ChecklistEntry {
    let Some(backup) = &seen.outcome.backup else {
        let evidence = Sentence::new("nothing served before, so there was nothing to back up");
        // Something that serves is backed up first, or the deployment does not begin.
        let judge = ItemJudge::Machine(seen.outcome.previous.is_none());
        return entry(item, judge, evidence);
    };
    let size = words::size(backup.bytes);
    let evidence = Sentence::with_name(&backup.name).say(", ").text(&size);
    let evidence = match item {
        Item::BackupConfirmed => evidence
            .say(", read back whole before anything was changed; the last ")
            .text(&seen.settings.backups_kept.to_string())
            .say(" are kept"),
        _ => evidence
            .say(", of what served before: ")
            .then(story::was(seen.outcome)),
    };
    entry(item, ItemJudge::Machine(true), evidence)
}

fn image_built(seen: &Released<'_>) -> ChecklistEntry {
    let budgeted = || seen.outcome.images.iter().filter(|i| i.budget.is_some());
    let mut evidence = Sentence::default();
    for (n, image) in budgeted().enumerate() {
        evidence = if n == 0 { evidence } else { evidence.say("; ") };
        evidence = evidence
            .name(&image.service)
            .say(" ")
            .text(&words::size(image.size));
        if let Some(budget) = image.budget {
            let within = match image.is_over_budget() {
                true => ", over its budget of ",
                false => ", within its budget of ",
            };
            evidence = evidence.say(within).text(&words::size(budget));
        }
    }
    let is_over = budgeted().any(ImageReport::is_over_budget);
    if budgeted().next().is_none() {
        evidence = Sentence::new("this version builds none of its own");
    }
    evidence = match seen.outcome.durations.test_ms {
        Some(ms) => evidence.say("; tested in ").text(&words::duration(ms)),
        None if seen.settings.images_are_tested => evidence,
        None => evidence.say("; belay.yml names no test for it"),
    };
    entry(Item::ImageBuilt, ItemJudge::Machine(!is_over), evidence)
}

fn endpoints_verified(seen: &Released<'_>) -> ChecklistEntry {
    let item = Item::EndpointsVerified;
    let Some(verdict) = verdict_of_live(seen.outcome) else {
        return entry(item, ItemJudge::Machine(false), why_not(seen.outcome));
    };
    let mut evidence = Sentence::default();
    for (n, endpoint) in seen.settings.endpoints.iter().enumerate() {
        evidence = if n == 0 { evidence } else { evidence.say(", ") };
        evidence = evidence.name(endpoint);
    }
    let evidence = match seen.settings.endpoints.is_empty() {
        true => Sentence::new("belay.yml names none; the containers' own healthchecks: "),
        false => evidence.say(": "),
    };
    let is_well = matches!(verdict, Verdict::Healthy);
    entry(
        item,
        ItemJudge::Machine(is_well),
        evidence.then(story::verdict(verdict)),
    )
}

fn health_passing(outcome: &Outcome) -> ChecklistEntry {
    let item = Item::HealthPassing;
    let Some(verdict) = verdict_of_live(outcome) else {
        return entry(item, ItemJudge::Machine(false), why_not(outcome));
    };
    let mut evidence = story::verdict(verdict);
    if let Some(ms) = outcome.durations.startup_ms {
        let after = words::duration(ms);
        evidence = evidence.say(", ").text(&after).say(" after the start");
    }
    let is_well = matches!(verdict, Verdict::Healthy);
    entry(item, ItemJudge::Machine(is_well), evidence)
}

/// A verdict on a version that did not stay says nothing of what serves.
fn verdict_of_live(outcome: &Outcome) -> Option<&Verdict> {
    let is_live = outcome.word == Word::Deployed;
    outcome.verdict.as_ref().filter(|_| is_live)
}

fn why_not(outcome: &Outcome) -> Sentence {
    match &outcome.failure {
        Some(failure) => Sentence::new("").text(&failure.error),
        None => Sentence::new("not known"),
    }
}

fn rollback_ready(outcome: &Outcome) -> ChecklistEntry {
    let item = Item::RollbackReady;
    if outcome.word != Word::Deployed {
        let evidence = match &outcome.serving {
            Some(tag) if outcome.down.is_empty() => {
                Sentence::new("used: ").name(tag).say(" serves again")
            }
            Some(tag) => Sentence::new("used: ")
                .name(tag)
                .say(" is back, but ")
                .text(&words::not_running(&outcome.down))
                .say(" not run"),
            None => Sentence::new("used: nothing serves, as before"),
        };
        return entry(item, ItemJudge::Machine(true), evidence);
    }
    let Some(back) = &outcome.previous else {
        let evidence = Sentence::new("this is the first version: there is none to go back to");
        return entry(item, ItemJudge::Machine(true), evidence);
    };
    let evidence = Sentence::new("back to ").name(back).say(" by ");
    let evidence = match &outcome.urls.repository {
        Some(url) => evidence.link("the rollback workflow", &format!("{url}/actions")),
        None => evidence.name("belay rollback"),
    };
    entry(item, ItemJudge::Machine(true), evidence)
}

fn service_verified(outcome: &Outcome) -> ChecklistEntry {
    let evidence = match (outcome.requests.total, outcome.requests.failed) {
        (Some(total), Some(failed)) => {
            let asked = usize::try_from(total).unwrap_or(usize::MAX);
            Sentence::new("")
                .text(&words::count(asked, "request", "requests"))
                .say(" while it went live, ")
                .text(&failed.to_string())
                .say(" failed")
        }
        _ => Sentence::new("watched until it was confirmed"),
    };
    let is_well = matches!(outcome.verdict, Some(Verdict::Healthy));
    entry(Item::ServiceVerified, ItemJudge::Machine(is_well), evidence)
}

fn performance_normal(outcome: &Outcome) -> ChecklistEntry {
    let item = Item::PerformanceNormal;
    let Some(now) = this_one(outcome) else {
        let evidence = Sentence::new("not looked at: the host has no record of it");
        return entry(item, ItemJudge::Machine(false), evidence);
    };
    let metrics = metrics(now, &outcome.history);
    let mut evidence = Sentence::default();
    for (n, metric) in metrics.iter().enumerate() {
        evidence = if n == 0 { evidence } else { evidence.say("; ") };
        evidence = evidence.then(in_words(metric));
    }
    if metrics.iter().all(|metric| metric.usual.is_none()) {
        evidence = evidence.say("; there is no earlier deployment to compare it with");
    }
    let is_normal = metrics.iter().all(Metric::is_normal);
    entry(item, ItemJudge::Machine(is_normal), evidence)
}

/// A rollback leaves no numbers of its own.
pub(super) fn this_one(outcome: &Outcome) -> Option<&PastDeployment> {
    let last = outcome.history.last()?;
    (last.tag == outcome.asked && outcome.work == Work::Deploy).then_some(last)
}

fn in_words(metric: &Metric) -> Sentence {
    let name = match metric.kind {
        MetricKind::StartUp => "start-up ",
        MetricKind::Answer => "an answer ",
        MetricKind::ImageSize => "images ",
    };
    let sentence = Sentence::new(name).text(&words::amount(metric.kind, metric.now));
    let Some(usual) = metric.usual else {
        return sentence;
    };
    let sentence = match metric.is_normal() {
        true => sentence.say(", usually "),
        false => sentence.say(", much more than the usual "),
    };
    sentence.text(&words::amount(metric.kind, usual))
}

fn logs_reviewed(outcome: &Outcome) -> ChecklistEntry {
    let item = Item::LogsReviewed;
    let Some(errors) = &outcome.errors else {
        let evidence = Sentence::new("not looked at: the host was out of reach");
        return entry(item, ItemJudge::Machine(false), evidence);
    };
    let with_errors = || errors.iter().filter(|errors| errors.count > 0);
    if with_errors().next().is_none() {
        let evidence = Sentence::new("no line tells of an error since the cutover");
        return entry(item, ItemJudge::Machine(true), evidence);
    }
    let mut evidence = Sentence::default();
    let mut stands_for = outcome.asked.clone();
    for (n, errors) in with_errors().enumerate() {
        let count = usize::try_from(errors.count).unwrap_or(usize::MAX);
        evidence = if n == 0 { evidence } else { evidence.say(", ") };
        evidence = evidence
            .text(&words::count(count, "line", "lines"))
            .say(" of ")
            .name(&errors.service);
        stands_for.push_str(&format!(
            "\n{}\n{}",
            errors.service,
            errors.first.join("\n")
        ));
    }
    let evidence = evidence.say(
        " tell of errors since the cutover; the first are below. Tick this when you have read them",
    );
    entry(item, ItemJudge::Person(stands_for), evidence)
}

fn images_cleaned(seen: &Released<'_>) -> ChecklistEntry {
    let outcome = seen.outcome;
    let is_done = outcome
        .steps
        .iter()
        .any(|step| step.step == Step::Prune && step.result == StepResult::Done);
    let evidence = match outcome.removed.len() {
        0 => Sentence::new("there was nothing to remove"),
        n => Sentence::new("")
            .text(&words::count(
                n,
                "version or backup",
                "versions and backups",
            ))
            .say(" removed"),
    };
    let evidence = evidence
        .say("; the last ")
        .text(&seen.settings.versions_kept.to_string())
        .say(" versions are kept");
    entry(Item::ImagesCleaned, ItemJudge::Machine(is_done), evidence)
}

fn not_live(outcome: &Outcome) -> Vec<ChecklistEntry> {
    let items = [
        Item::ServiceVerified,
        Item::PerformanceNormal,
        Item::LogsReviewed,
        Item::ImagesCleaned,
    ];
    let evidence = || Sentence::with_name(&outcome.asked).say(" is not live");
    items
        .map(|item| entry(item, ItemJudge::Machine(false), evidence()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checklist::{Checklist, checklist, standing_elsewhere};
    use crate::examples;
    use belay_model::judgement::error_lines::ErrorLines;
    use belay_model::reviewing::checklist::boxes;
    use belay_model::reviewing::sticky::{Around, Mark, compose};
    use belay_model::versions::history::PastImage;

    fn past(seq: u64, tag: &str, startup_ms: u64) -> PastDeployment {
        PastDeployment {
            seq,
            tag: tag.to_owned(),
            at: examples::deployed().started,
            startup_ms,
            answer_ms: Some(12),
            images: vec![PastImage {
                service: "web".to_owned(),
                id: "sha256:1".to_owned(),
                bytes: 287_100_000,
            }],
        }
    }

    fn deployed() -> Outcome {
        let mut outcome = examples::deployed();
        outcome.images.retain(|image| !image.is_over_budget());
        outcome.history = vec![past(1, "v1.0.0", 1_100), past(2, "v1.1.0", 1_200)];
        outcome.errors = Some(vec![ErrorLines {
            service: "web".to_owned(),
            ..ErrorLines::default()
        }]);
        outcome
    }

    fn page(outcome: &Outcome) -> String {
        let seen = Released {
            outcome,
            commit: "6113728f27ae82c7b1a177c8d03f9e96e0adf246".to_owned(),
            reviewed: Ok(Reviewed {
                approved_by: vec!["ann".to_owned()],
                passed: 3,
                ..Reviewed::default()
            }),
            settings: SettingsSeen {
                backups_kept: 5,
                versions_kept: 3,
                image_budget: 300_000_000,
                images_are_tested: true,
                good_answers: 3,
                endpoints: vec!["http://127.0.0.1:8080/api/status".to_owned()],
            },
        };
        let list = Checklist {
            environment: outcome.environment.clone(),
            standing: standing_after(outcome).expect("it changed something"),
            entries: after_release(&seen),
            logs: error_logs(outcome),
        };
        checklist(&list, &[])
    }

    fn open(outcome: &Outcome) -> Vec<String> {
        let boxes = boxes(&page(outcome)).into_iter();
        boxes.filter(|b| !b.is_ticked).map(|b| b.id).collect()
    }

    #[test]
    fn a_good_deployment_ticks_everything() {
        insta::assert_snapshot!(page(&deployed()));
        assert_eq!(open(&deployed()), Vec::<String>::new());
    }

    #[test]
    fn error_lines_are_a_persons_to_look_at() {
        let mut outcome = deployed();
        outcome.errors = Some(vec![ErrorLines {
            service: "web".to_owned(),
            count: 7,
            first: vec!["[error] upstream".to_owned()],
        }]);
        assert_eq!(open(&outcome), ["logs-reviewed"]);
        let page = page(&outcome);
        assert!(page.contains("7 lines of `web` tell of errors"), "{page}");
        assert!(page.contains("```text\n[error] upstream\n```"), "{page}");
    }

    #[test]
    fn what_is_far_from_usual_is_not_ticked() {
        let mut outcome = deployed();
        outcome.history[1].startup_ms = 60_000;
        assert_eq!(open(&outcome), ["performance-normal"]);
    }

    #[test]
    fn a_deployment_that_was_undone_says_why() {
        let outcome = examples::rolled_back();
        insta::assert_snapshot!(page(&outcome));
        let open = open(&outcome);
        for item in ["health-passing", "service-verified", "logs-reviewed"] {
            assert!(open.iter().any(|id| id == item), "{open:?}");
        }
        assert!(!open.iter().any(|id| id == "rollback-ready"), "{open:?}");
    }

    #[test]
    fn what_went_says_so_and_keeps_the_rest() {
        let mark = Mark {
            environment: "production".to_owned(),
            run: 5,
            revision: 2,
            is_release: true,
        };
        let old = compose(&mark, &page(&deployed()), &Around::default());
        let rollback = examples::rollback();
        let gone = standing_of_gone(&rollback).expect("it went");
        for comment in [old.clone(), old.replace('\n', "\r\n")] {
            let new = standing_elsewhere(&comment, &gone, "production").expect("a comment");
            assert!(new.contains("**Rolled back to**"), "{new}");
            assert!(!new.contains("**Live in**"), "{new}");
            assert_eq!(boxes(&new).len(), 12);
            // And again, which changes nothing.
            let again = compose(&mark, &new, &Around::default());
            assert_eq!(standing_elsewhere(&again, &gone, "production"), Some(new));
        }
        assert_eq!(standing_elsewhere("somebody's", &gone, "production"), None);
    }
}
