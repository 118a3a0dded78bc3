//! Plays what real runs left (`tests/fixtures/recorded`): what is written down today has to be what was recorded.
//!
//! Each journal is read and gives the outcome, the log, the summary and the outputs that the run had; each answer of
//! the agent is understood, and written again is the same. So a change of the words, or of a format on the host or on
//! the wire, is red here until it is recorded from real runs, by `dist-scripts/record`.

#[path = "support/normalised.rs"]
mod normalised;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use belay_model::judgement::health::TimedAnswer;
use belay_model::reviewing::checklist::boxes;
use belay_model::reviewing::review::Reviewed;
use belay_model::transaction::journal::{End, Entry, Event};
use belay_model::transaction::outcome::{Durations, Outcome, ServiceLog, Urls, Word};
use belay_model::transaction::phase::Next;
use belay_model::transaction::phase::Phase;
use belay_model::transaction::recall::past_deployment;
use belay_model::transaction::settle::settle;
use belay_model::versions::changes::{Changes, Compared, PullRequestOf};
use belay_model::versions::history::PastDeployment;
use belay_report::checklist::{Checklist, checklist};
use belay_report::evidence::SettingsSeen;
use belay_report::released::{Released, after_release, error_logs, standing_after};
use belay_report::{Narrator, StatusReport};
use belay_runner::choices::rollback_choices;
use belay_runner::present;
use belay_wire::{Answer, BackupFacts, Examined, HostFacts, LookBack};

/// The runs that have a journal, and what each came to.
const RUNS: [(&str, Word); 6] = [
    ("first", Word::Deployed),
    ("deployed", Word::Deployed),
    ("refused", Word::Refused),
    ("rolled-back", Word::RolledBack),
    ("stuck", Word::Stuck),
    ("rollback", Word::Deployed),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/recorded")
        .join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| {
        panic!("tests/fixtures/recorded/{name}: {error}; record with: dist-scripts/record")
    })
}

/// Compares with a recording, line by line, and says what to do when they differ.
#[track_caller]
fn same(name: &str, now: &str, recorded: &str) {
    let (mut now, mut recorded) = (now.lines(), recorded.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (new, old) = (now.next(), recorded.next());
        assert!(
            new == old,
            "tests/fixtures/recorded/{name}, line {number}:\n  recorded: {}\n  now:      {}\n\
             If it is meant to be so, record again with: dist-scripts/record",
            old.unwrap_or("(nothing more)"),
            new.unwrap_or("(nothing more)"),
        );
        if new.is_none() {
            return;
        }
    }
}

/// A document as the type that it is one of. Written again it has to be the same, with nothing lost and nothing added.
#[track_caller]
fn document<T: DeserializeOwned + Serialize>(name: &str) -> T {
    understood(name, &read(name))
}

#[track_caller]
fn understood<T: DeserializeOwned + Serialize>(name: &str, text: &str) -> T {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| {
        panic!(
            "tests/fixtures/recorded/{name} is not understood any more: {error}\n\
             Hosts that an older version was on have such files. If that is dealt with, record again with: \
             dist-scripts/record"
        )
    });
    let pretty = |value: &Value| serde_json::to_string_pretty(value).expect("JSON");
    let recorded: Value = serde_json::from_str(text).expect("JSON");
    let again = serde_json::to_value(&value).expect("JSON");
    same(name, &pretty(&again), &pretty(&recorded));
    value
}

fn ok<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Ok(value) => value,
        Answer::Failed(failure) => panic!("{failure:?}"),
    }
}

fn entries(run: &str) -> Vec<Entry> {
    let name = format!("{run}/journal.jsonl");
    let text = read(&name);
    text.lines().map(|line| understood(&name, line)).collect()
}

/// The outcome of a run: what the runner knew when it handed the plan over, what the journal says, and what the runner
/// asks the host afterwards.
fn outcome(run: &str) -> Outcome {
    let mut outcome: Outcome = document(&format!("{run}/known.json"));
    settle(&mut outcome, &entries(run));
    // A host that is stuck answers no question.
    if run != "stuck" {
        look_around(run, &mut outcome);
    }
    outcome.durations.total_ms = 1_000;
    outcome.changes = match run {
        "deployed" => Some(Changes {
            came: pull_request(&outcome.revision),
            ..Changes::default()
        }),
        "rollback" => Some(Changes {
            went: pull_request(&outcome.previous_revision),
            ..Changes::default()
        }),
        _ => None,
    };
    outcome
}

/// As the runner does it over its link.
fn look_around(run: &str, outcome: &mut Outcome) {
    let facts: HostFacts = ok(document(&format!("{run}/facts.json")));
    let seen: LookBack = ok(document(&format!("{run}/look-back.json")));
    let names = rollback_choices(&facts).into_iter().map(|(name, _)| name);
    let is_version = |name: &String| facts.releases.iter().any(|r| r.tag == *name);
    (outcome.rollback_targets, outcome.rollback_backups) = names.partition(is_version);
    outcome.history = seen.deployments;
    if outcome.word == Word::Deployed {
        outcome.errors = Some(seen.errors);
        outcome.service_changes = seen.changes;
    }
}

/// What GitHub's stand-in was told of v1.1.0.
fn pull_request(head: &Option<String>) -> Compared {
    Compared {
        commits: 1,
        left_out: 0,
        pull_requests: vec![PullRequestOf {
            number: 7,
            title: "A change".to_owned(),
            url: "https://github.com/example/x/pull/7".to_owned(),
            head: head.clone(),
        }],
    }
}

#[test]
fn journals_give_the_outcomes_of_their_runs() {
    for (run, word) in RUNS {
        assert_eq!(outcome(run).word, word, "{run}");
    }
    let next = |run: &str| Phase::of(&entries(run)).expect("each follows").next();
    assert_eq!(next("deployed"), Next::Closed(End::Committed));
    assert_eq!(next("rolled-back"), Next::Closed(End::Unwound));
    assert!(matches!(next("stuck"), Next::Stuck(_)));
}

/// The engine that comes after one that got stuck goes on with its journal.
#[test]
fn recovered_journal_goes_on_where_the_stuck_one_ended() {
    let (stuck, recovered) = (entries("stuck"), entries("recovered"));
    let events = |entries: &[Entry]| -> Vec<Event> {
        entries.iter().map(|entry| entry.event.clone()).collect()
    };
    assert_eq!(events(&stuck), events(&recovered[..stuck.len()]));
    assert!(matches!(
        recovered[stuck.len()].event,
        Event::Interrupted { .. }
    ));
    assert_eq!(
        Phase::of(&recovered).map(Phase::next),
        Ok(Next::Closed(End::Unwound))
    );
}

/// What the host answers of its past is read from these journals. Their numbers were replaced one by one.
#[test]
fn look_back_is_what_the_journals_recall() {
    let seen: LookBack = ok(document("rolled-back/look-back.json"));
    let names = |past: &PastDeployment| (past.seq, past.tag.clone(), past.images.clone());
    let answered: Vec<_> = seen.deployments.iter().map(names).collect();
    let runs = ["first", "deployed", "refused", "rolled-back"];
    let recalled = runs.iter().filter_map(|run| past_deployment(&entries(run)));
    let recalled: Vec<_> = recalled.map(|past| names(&past)).collect();
    assert_eq!(recalled, answered, "record again with: dist-scripts/record");
}

#[test]
fn journals_are_told_as_their_runs_told_them() {
    for (run, _) in RUNS {
        let name = format!("{run}/console.txt");
        let mut narrator = Narrator::new();
        let told = entries(run)
            .into_iter()
            .filter_map(|entry| narrator.tell(&entry));
        let told: String = told.map(|progress| progress.text() + "\n").collect();
        let told = normalised::text(&told);
        let console = read(&name);
        let log = console.lines().filter(|line| !is_frame(line));
        let log = log.map(|line| line.strip_prefix("::group::").unwrap_or(line));
        let begun = log.skip_while(|line| !line.contains(" begins; "));
        let recorded: Vec<&str> = begun.take(told.lines().count()).collect();
        same(&name, &told, &recorded.join("\n"));
    }
}

/// Lines that only a runner of GitHub's reads, and the one that is not from the journal.
fn is_frame(line: &str) -> bool {
    let is_mark = line.starts_with("::") && line.ends_with("::");
    is_mark || line.starts_with("::stop-commands::") || line == "confirmed"
}

fn ends_with(name: &str, text: &str, end: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(end.lines().count());
    same(name, end, &lines[from..].join("\n"));
}

#[test]
fn logs_end_with_the_words_for_the_outcome() {
    for (run, _) in RUNS {
        let end = normalised::text(&belay_report::console(&outcome(run)));
        let name = format!("{run}/console.txt");
        ends_with(&name, &read(&name), &end);
    }
}

#[test]
fn summaries_are_those_of_the_runs() {
    for (run, _) in RUNS {
        let name = format!("{run}/summary.md");
        let summary = normalised::text(&belay_report::summary(&outcome(run)));
        same(&name, &summary, &read(&name));
    }
}

/// A run without a transaction: what it knew, the host's facts say.
#[test]
fn unchanged_run_says_so() {
    let facts: HostFacts = ok(document("unchanged/facts.json"));
    let serving = facts.current.expect("something serves").tag;
    let known: Outcome = document("deployed/known.json");
    let run = known
        .urls
        .run
        .as_ref()
        .map(|url| url.replace("1003", "1004"));
    let outcome = Outcome {
        word: Word::Unchanged,
        previous: Some(serving.clone()),
        serving: Some(serving),
        previous_revision: known.revision.clone(),
        images: vec![],
        durations: Durations {
            total_ms: 1_000,
            ..Default::default()
        },
        urls: Urls {
            run,
            ..known.urls.clone()
        },
        ..known
    };
    let summary = normalised::text(&belay_report::summary(&outcome));
    same(
        "unchanged/summary.md",
        &summary,
        &read("unchanged/summary.md"),
    );
    let console = normalised::text(&belay_report::console(&outcome));
    ends_with(
        "unchanged/console.txt",
        &read("unchanged/console.txt"),
        &console,
    );
}

/// Numbers that differ from run to run are written as 1.
#[test]
fn outputs_are_those_of_the_runs() {
    for (run, _) in RUNS {
        let name = format!("{run}/outputs.json");
        let recorded: BTreeMap<String, String> = document(&name);
        let id = recorded["deployment-id"].parse().ok();
        let now = belay_report::outputs(&outcome(run), id).into_iter();
        let now: BTreeMap<String, String> = now
            .map(|(key, value)| (key.to_owned(), normalised::output(key, &value)))
            .collect();
        let pretty = |map: &BTreeMap<_, _>| serde_json::to_string_pretty(map).expect("JSON");
        same(&name, &pretty(&now), &pretty(&recorded));
    }
}

/// The last word of each deployment on GitHub. What was retired later has one more.
#[test]
fn deployments_on_github_were_told_the_outcome() {
    let recorded: Value = serde_json::from_str(&read("deployments.json")).expect("JSON");
    for (run, word) in RUNS {
        let outcome = outcome(run);
        let (state, description) = belay_report::deployment_status(&outcome);
        let id: u64 = read_outputs(run)["deployment-id"]
            .parse()
            .expect("a number");
        let all = recorded.as_array().expect("a list");
        let found = all.iter().find(|one| one["id"] == id);
        let statuses = found.expect("its deployment")["statuses"].clone();
        let statuses = statuses.as_array().expect("a list");
        let last = statuses
            .iter()
            .rfind(|status| status["state"] != "inactive");
        let last = last.expect("a status");
        assert_eq!(last["state"], state.name(), "{run}: {word}");
        let now = normalised::text(&description);
        same(
            "deployments.json",
            &now,
            last["description"].as_str().expect("text"),
        );
    }
}

fn read_outputs(run: &str) -> BTreeMap<String, String> {
    document(&format!("{run}/outputs.json"))
}

#[test]
fn completed_checklist_is_the_comments() {
    let outcome = outcome("deployed");
    let released = Released {
        outcome: &outcome,
        commit: outcome.revision.clone().expect("a commit"),
        reviewed: Ok(Reviewed {
            approved_by: vec!["ann".to_owned()],
            ..Reviewed::default()
        }),
        // As in the recording's belay.yml.
        settings: SettingsSeen {
            backups_kept: 5,
            versions_kept: 3,
            image_budget: 300_000_000,
            images_are_tested: true,
            good_answers: 2,
            endpoints: ["api/status", "health"]
                .map(|path| format!("http://127.0.0.1:8080/{path}"))
                .into(),
        },
    };
    let list = Checklist {
        environment: outcome.environment.clone(),
        standing: standing_after(&outcome).expect("it is live"),
        entries: after_release(&released),
        logs: error_logs(&outcome),
    };
    let comment = read("comment.md");
    let now = normalised::text(&checklist(&list, &boxes(&comment)));
    let (_, rest) = comment
        .split_once("<!-- belay:begin -->\n")
        .expect("its frame");
    let (recorded, _) = rest.split_once("<!-- belay:end -->").expect("its frame");
    same("comment.md", now.trim(), recorded.trim());
}

#[test]
fn answers_of_the_agent_are_understood() {
    for run in [
        "first",
        "deployed",
        "refused",
        "unchanged",
        "rolled-back",
        "rollback",
        "recovered",
    ] {
        document::<Answer<HostFacts>>(&format!("{run}/facts.json"));
        document::<Answer<LookBack>>(&format!("{run}/look-back.json"));
    }
    document::<Answer<Vec<BackupFacts>>>("answers/backups.json");
    document::<Answer<Examined>>("answers/examine.json");
    document::<Answer<Vec<ServiceLog>>>("answers/logs.json");
    document::<Answer<TimedAnswer>>("answers/ask.json");
    document::<Answer<HostFacts>>("answers/recover.json");
    document::<BackupFacts>("answers/backup.json");
}

#[test]
fn status_and_backups_are_shown_as_they_were() {
    let report: StatusReport = document("status.json");
    same(
        "status.txt",
        &normalised::status(&normalised::text(&belay_report::status_text(&report))),
        &read("status.txt"),
    );
    let facts: HostFacts = ok(document("answers/recover.json"));
    let place = [&report.app, &report.environment, &report.host, &report.root];
    let [app, environment, host, root] = place.map(String::as_str);
    let again = present::status(app, environment, host, root, &facts);
    let pretty = |report: &StatusReport| serde_json::to_string_pretty(report).expect("JSON");
    same("status.json", &pretty(&again), &pretty(&report));
    let backups: Vec<BackupFacts> = ok(document("answers/backups.json"));
    let text = belay_report::backups_text(&present::backups(&backups), report.at);
    same(
        "backups.txt",
        &normalised::text(&text),
        &read("backups.txt"),
    );
}

/// A recording is of no machine and of no moment.
#[test]
fn nothing_of_the_machine_is_in_it() {
    let mut folders = vec![path("")];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(&folder).expect("a folder") {
            let file = file.expect("a file").path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let text = fs::read_to_string(&file).expect("text");
            for word in ["/tmp/", "/root", "ghs_", "BEGIN OPENSSH", "ntplatform13"] {
                assert!(!text.contains(word), "{}: {word}", file.display());
            }
        }
    }
}

#[test]
fn what_differs_is_replaced() {
    for (real, replaced) in [
        (
            "bake done in 1.5 s (healthy)",
            "bake done in 1.0 s (healthy)",
        ),
        (
            "took 40 ms, 1 m 23 s or 2 h 5 m",
            "took 1.0 s, 1.0 s or 1.0 s",
        ),
        ("866.0 kB at 3.5 MB/s", "1.0 MB at 1.0 MB/s"),
        (
            "since 2026-11-29 20:20:26 UTC",
            "since 2026-12-01 00:00:00 UTC",
        ),
        ("by 20:21 UTC", "by 00:00 UTC"),
        (
            "2026-11-29T20:21:18.045Z listening",
            "2026-12-01T00:00:00Z listening",
        ),
        ("<!-- x for=6b03c1703072 -->", "<!-- x for=000000000000 -->"),
        ("62 of 346 requests failed", "1 of 100 requests failed"),
        ("0 of 346 requests failed", "0 of 100 requests failed"),
        ("    bake :crit, 3534, 5323", "    bake :crit, 0, 1000\n"),
        (
            "v1.3.0 of 14 steps on port 8080, answered 500",
            "v1.3.0 of 14 steps on port 8080, answered 500",
        ),
    ] {
        assert_eq!(normalised::text(real), replaced);
    }
}

#[test]
fn identities_are_numbered_as_they_come() {
    let mut names = normalised::Names::default();
    let (one, other) = ("3f2a91c0de".repeat(4), "b0f1b8a2c9".repeat(4));
    names.learn(&format!(
        "{one} backup_20261129_202023 {other} 105089261568"
    ));
    let text = format!(
        "{}, {other}, backup_20261129_202023.tar.gz, 105089261568",
        &one[..7]
    );
    let expected = format!(
        "0101010, {}, backup_20261201_000000.tar.gz, 105089261568",
        "02".repeat(20)
    );
    assert_eq!(names.text(&text), expected);
}
