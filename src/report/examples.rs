//! Outcomes that tests look at: one for each way in which a run can end.

use jiff::Timestamp;

use belay_model::composition::copying::CopiedData;
use belay_model::composition::service_changes::{ChangeKind, ServiceChange};
use belay_model::judgement::error_lines::ErrorLines;
use belay_model::judgement::health::Verdict;
use belay_model::judgement::measure::{Measured, Seen};
use belay_model::replacement::strategy::{ServiceStrategy, Strategy};
use belay_model::transaction::outcome::*;
use belay_model::transaction::step::Step;
use belay_model::versions::changes::{Changes, Compared, PullRequestOf};
use belay_model::versions::history::{PastDeployment, PastImage};
use belay_model::versions::retention::Removal;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn done(step: Step, ms: u64) -> StepTime {
    StepTime {
        step,
        ms,
        result: StepResult::Done,
    }
}

fn steps_to(last: Step) -> Vec<StepTime> {
    Step::ALL
        .into_iter()
        .filter(|step| *step <= last)
        .map(|step| {
            done(
                step,
                match step {
                    Step::Fetch => 4_200,
                    Step::Backup => 3_100,
                    Step::Cutover => 2_400,
                    Step::Bake => 6_050,
                    _ => 40,
                },
            )
        })
        .collect()
}

fn image(previous: Option<u64>) -> ImageReport {
    ImageReport {
        service: "web".to_owned(),
        reference: "belay/ntplatform-web:v1.1.0".to_owned(),
        id: format!("sha256:{}", "4c".repeat(32)),
        size: 287_100_000,
        previous_size: previous,
        budget: Some(300_000_000),
    }
}

fn backup() -> BackupReport {
    BackupReport {
        name: "backup_20261124_031402".to_owned(),
        path: "/opt/ntplatform/backups/backup_20261124_031402.tar.gz".to_owned(),
        bytes: 12_345_678,
    }
}

fn strategy(service: &str, strategy: Strategy, reason: &str) -> ServiceStrategy {
    ServiceStrategy {
        service: service.to_owned(),
        strategy,
        reason: reason.to_owned(),
        gap: None,
    }
}

/// v1.1.0 over v1.0.0.
pub(super) fn deployed() -> Outcome {
    Outcome {
        word: Word::Deployed,
        work: Work::Deploy,
        app: "ntplatform".to_owned(),
        environment: "production".to_owned(),
        host: "deploy@203.0.113.10:22".to_owned(),
        asked: "v1.1.0".to_owned(),
        reason: None,
        host_was_read: true,
        down: vec![],
        revision: Some("3f2a91c0de".repeat(4)),
        previous: Some("v1.0.0".to_owned()),
        previous_revision: Some("0a1b2c3d4e".repeat(4)),
        serving: Some("v1.1.0".to_owned()),
        started: at("2026-11-24T03:14:00Z"),
        durations: Durations {
            build_ms: Some(130_000),
            test_ms: Some(3_200),
            transfer_ms: Some(12_000),
            transfer_bytes: Some(84_300_000),
            startup_ms: Some(1_200),
            total_ms: 182_000,
        },
        steps: steps_to(Step::Prune),
        images: vec![
            image(Some(343_000_000)),
            ImageReport {
                service: "worker".to_owned(),
                reference: "belay/ntplatform-worker:v1.1.0".to_owned(),
                size: 312_300_000,
                id: format!("sha256:{}", "5d".repeat(32)),
                ..image(None)
            },
            ImageReport {
                service: "cache".to_owned(),
                reference: "redis:7".to_owned(),
                id: format!("sha256:{}", "6e".repeat(32)),
                size: 41_000_000,
                previous_size: Some(41_000_000),
                budget: None,
            },
        ],
        verdict: Some(Verdict::Healthy),
        backup: Some(backup()),
        restored: None,
        copied: vec![],
        removed: vec![Removal {
            name: "backup_20261101_090000".to_owned(),
            reason: "the last 5 backups are kept".to_owned(),
        }],
        strategies: vec![
            strategy("web", Strategy::StopFirst, "services are replaced in place"),
            strategy(
                "cache",
                Strategy::Untouched,
                "it is the same in both versions",
            ),
            strategy(
                "migrate",
                Strategy::OneShot,
                "another service waits for it to complete",
            ),
        ],
        warnings: vec!["the image of worker is over its budget".to_owned()],
        failure: None,
        failed_step: None,
        logs: vec![],
        rollback_targets: vec!["v1.0.0".to_owned(), "v0.9.0".to_owned()],
        rollback_backups: vec!["backup_20261124_031402".to_owned()],
        settles_by: None,
        cancelled: false,
        urls: Urls {
            environment: Some("https://app.example.com/".to_owned()),
            run: Some("https://github.example.com/octo/app/actions/runs/7/job/9".to_owned()),
            repository: Some("https://github.example.com/octo/app".to_owned()),
        },
        requests: Requests {
            total: Some(2400),
            versions: vec![],
            public: Some(Measured {
                total: 2_310,
                failed: 2,
                longest_gap_ms: 1_380,
                answering_ms: 23_080,
                versions: vec![],
                reasons: vec![],
            }),
            failed: Some(3),
            longest_gap_ms: Some(1_350),
        },
        cut_over: Some(at("2026-11-24T03:16:40Z")),
        history: vec![past(4, "v1.0.0", 1_100), past(5, "v1.1.0", 1_200)],
        errors: Some(vec![error_lines("web", 2), error_lines("worker", 0)]),
        service_changes: vec![ServiceChange {
            service: "web".to_owned(),
            kind: ChangeKind::Changed {
                keys: vec!["image".to_owned(), "ports".to_owned()],
                environment: vec!["+CACHE_URL".to_owned(), "~SESSION_KEY".to_owned()],
            },
        }],
        changes: Some(Changes {
            came: Compared {
                commits: 3,
                left_out: 0,
                pull_requests: vec![pull_request("Sessions outlive a restart")],
            },
            ..Changes::default()
        }),
    }
}

fn past(seq: u64, tag: &str, startup_ms: u64) -> PastDeployment {
    PastDeployment {
        seq,
        tag: tag.to_owned(),
        at: at("2026-11-24T03:17:00Z"),
        startup_ms,
        answer_ms: Some(12),
        images: [("web", 287_100_000), ("worker", 312_300_000)]
            .map(|(service, bytes)| PastImage {
                service: service.to_owned(),
                id: format!("sha256:{service}"),
                bytes,
            })
            .into(),
    }
}

fn error_lines(service: &str, count: u64) -> ErrorLines {
    ErrorLines {
        service: service.to_owned(),
        count,
        first: (0..count)
            .map(|n| format!("[error] upstream {n} is away"))
            .collect(),
    }
}

fn pull_request(title: &str) -> PullRequestOf {
    PullRequestOf {
        number: 41,
        title: title.to_owned(),
        url: "https://github.example.com/octo/app/pull/41".to_owned(),
        head: None,
    }
}

pub(super) fn first_deploy() -> Outcome {
    Outcome {
        asked: "v1.0.0".to_owned(),
        previous: None,
        serving: Some("v1.0.0".to_owned()),
        images: vec![image(None)],
        removed: vec![],
        warnings: vec![],
        rollback_targets: vec![],
        requests: Requests::default(),
        ..without_look_back(deployed())
    }
}

pub(super) fn hotfix() -> Outcome {
    Outcome {
        asked: "v1.1.1".to_owned(),
        previous: Some("v1.1.0".to_owned()),
        serving: Some("v1.1.1".to_owned()),
        verdict: Some(Verdict::Degraded(
            "http://127.0.0.1:8080/api/status could not be reached; the backup endpoint answers"
                .to_owned(),
        )),
        rollback_targets: vec!["v1.1.0".to_owned(), "v1.0.0".to_owned()],
        copied: vec![copied("volume app_data", "volume app_store")],
        ..deployed()
    }
}

fn copied(from: &str, to: &str) -> CopiedData {
    CopiedData {
        from: from.to_owned(),
        to: to.to_owned(),
        entries: 311,
        bytes: 48_300_000,
    }
}

pub(super) fn unchanged() -> Outcome {
    Outcome {
        word: Word::Unchanged,
        previous: Some("v1.1.0".to_owned()),
        durations: Durations {
            total_ms: 1_900,
            ..Durations::default()
        },
        steps: vec![],
        images: vec![],
        verdict: None,
        backup: None,
        removed: vec![],
        strategies: vec![],
        warnings: vec![],
        requests: Requests::default(),
        ..without_look_back(deployed())
    }
}

/// As of a run that did not get so far.
fn without_look_back(outcome: Outcome) -> Outcome {
    Outcome {
        cut_over: None,
        history: vec![],
        errors: None,
        service_changes: vec![],
        changes: None,
        ..outcome
    }
}

fn refused(asked: &str, failure: Failure) -> Outcome {
    Outcome {
        word: Word::Refused,
        asked: asked.to_owned(),
        failure: Some(failure),
        serving: Some("v1.1.0".to_owned()),
        ..unchanged()
    }
}

pub(super) fn refused_tag() -> Outcome {
    let failure = Failure::new("tag v1.02.0 is not valid: a number must not begin with 0")
        .next("push v1.2.0 instead");
    Outcome {
        revision: None,
        host_was_read: false,
        previous: None,
        serving: None,
        ..refused("v1.02.0", failure)
    }
}

pub(super) fn refused_disk() -> Outcome {
    let failure = Failure::new("the host has 1.2 GB free, and this deployment needs 3.4 GB");
    Outcome {
        steps: vec![StepTime {
            step: Step::Preflight,
            ms: 320,
            result: StepResult::Failed,
        }],
        failed_step: Some(Step::Preflight),
        ..refused("v1.2.0", failure)
    }
}

pub(super) fn rolled_back() -> Outcome {
    let undone = |step, ms| StepTime {
        step,
        ms,
        result: StepResult::Undone,
    };
    let mut steps = steps_to(Step::Cutover);
    steps.push(StepTime {
        step: Step::Bake,
        ms: 3_050,
        result: StepResult::Failed,
    });
    steps.extend([
        undone(Step::Bake, 10),
        undone(Step::Cutover, 2_800),
        undone(Step::Unpack, 30),
    ]);
    let why = "the container of web exited with code 1";
    Outcome {
        word: Word::RolledBack,
        asked: "v1.2.0".to_owned(),
        previous: Some("v1.1.1".to_owned()),
        serving: Some("v1.1.1".to_owned()),
        steps,
        verdict: Some(Verdict::Unhealthy(why.to_owned())),
        removed: vec![],
        warnings: vec![],
        failure: Some(Failure::new(format!("v1.2.0 is not healthy: {why}"))),
        failed_step: Some(Step::Bake),
        logs: vec![ServiceLog {
            service: "web".to_owned(),
            text: "starting\n\u{1b}[31mpanic:\u{1b}[0m no such table: users\n```\n</details>\n"
                .to_owned(),
        }],
        rollback_targets: vec!["v1.1.0".to_owned(), "v1.0.0".to_owned()],
        errors: None,
        service_changes: vec![],
        ..deployed()
    }
}

pub(super) fn first_deployment_failed() -> Outcome {
    Outcome {
        asked: "v1.0.0".to_owned(),
        previous: None,
        serving: None,
        failure: Some(Failure::new(
            "v1.0.0 is not healthy: the container of web exited with code 1",
        )),
        rollback_targets: vec![],
        ..rolled_back()
    }
}

pub(super) fn rollback() -> Outcome {
    Outcome {
        work: Work::Rollback,
        restored: Some(RestoredReport {
            backup: "backup_20241214_102030".to_owned(),
            sources: vec!["volume app_data".to_owned(), "/opt/app/uploads".to_owned()],
            safety: "backup_20241215_143025".to_owned(),
        }),
        asked: "v1.0.0".to_owned(),
        reason: Some("the cart forgets @everybody".to_owned()),
        previous: Some("v1.1.0".to_owned()),
        serving: Some("v1.0.0".to_owned()),
        durations: Durations {
            startup_ms: Some(900),
            total_ms: 14_000,
            ..Durations::default()
        },
        warnings: vec![],
        rollback_targets: vec!["v1.1.0".to_owned(), "v0.9.0".to_owned()],
        ..deployed()
    }
}

pub(super) fn stuck() -> Outcome {
    let mut outcome = rolled_back();
    outcome.word = Word::Stuck;
    outcome.serving = None;
    outcome.failure = Some(Failure::new(
        "cutover could not be undone: the image of v1.1.1 is gone from the host",
    ));
    outcome.failed_step = Some(Step::Cutover);
    if let Some(step) = outcome.steps.iter_mut().rfind(|s| s.step == Step::Cutover) {
        step.result = StepResult::UndoFailed;
    }
    outcome
}

pub(super) fn unknown() -> Outcome {
    Outcome {
        word: Word::Unknown,
        asked: "v1.2.0".to_owned(),
        previous: Some("v1.1.1".to_owned()),
        serving: Some("v1.1.1".to_owned()),
        steps: steps_to(Step::Cutover),
        verdict: None,
        failure: Some(Failure::new(
            "the connection to 203.0.113.10:22 was lost and did not come back",
        )),
        settles_by: Some(at("2026-11-24T03:29:30Z")),
        removed: vec![],
        warnings: vec![],
        ..deployed()
    }
}

/// The run was cancelled after the cutover.
pub(super) fn cancelled() -> Outcome {
    Outcome {
        cancelled: true,
        failure: Some(Failure::new("the run was cancelled after the cutover")),
        ..unknown()
    }
}

/// Every example by its name.
pub(super) fn all() -> Vec<(&'static str, Outcome)> {
    vec![
        ("first_deploy", first_deploy()),
        ("deploy", deployed()),
        ("hotfix", hotfix()),
        ("unchanged", unchanged()),
        ("refused_tag", refused_tag()),
        ("refused_disk", refused_disk()),
        ("rolled_back", rolled_back()),
        ("first_deployment_failed", first_deployment_failed()),
        ("rollback", rollback()),
        ("stuck", stuck()),
        ("unknown", unknown()),
        ("cancelled", cancelled()),
    ]
}

/// Puts a text into every field that can come from outside, and makes every list so long.
pub(super) fn fill(outcome: &mut Outcome, text: &str, count: usize) {
    let text = || text.to_owned();
    outcome.app = text();
    outcome.environment = text();
    outcome.host = text();
    outcome.asked = text();
    outcome.reason = Some(text());
    outcome.revision = Some(text());
    outcome.previous = Some(text());
    outcome.serving = Some(format!("{} ", text()));
    outcome.verdict = Some(Verdict::Degraded(text()));
    outcome.failure = Some(Failure::new(text()).host(text()).next(text()));
    outcome.warnings = vec![text(); count];
    outcome.rollback_targets = vec![text(); count];
    outcome.rollback_backups = vec![text(); count];
    outcome.images = vec![
        ImageReport {
            service: text(),
            reference: text(),
            ..image(Some(1))
        };
        count
    ];
    outcome.copied = vec![copied(&text(), &text()); count];
    outcome.strategies = vec![strategy(&text(), Strategy::StopFirst, &text()); count];
    outcome.removed = vec![
        Removal {
            name: text(),
            reason: text()
        };
        count
    ];
    outcome.logs = vec![
        ServiceLog {
            service: text(),
            text: text()
        };
        count
    ];
    outcome.history = vec![past(1, &text(), 1); count];
    outcome.errors = Some(vec![
        ErrorLines {
            service: text(),
            count: 1,
            first: vec![text()],
        };
        count
    ]);
    outcome.service_changes = vec![
        ServiceChange {
            service: text(),
            kind: ChangeKind::Changed {
                keys: vec![text()],
                environment: vec![text()],
            },
        };
        count
    ];
    let came = Compared {
        pull_requests: vec![pull_request(&text()); count],
        ..Compared::default()
    };
    outcome.changes = Some(Changes {
        came,
        ..Changes::default()
    });
    outcome.requests.versions = vec![
        Seen {
            at_ms: 1,
            version: text(),
        };
        count
    ];
    let path = format!("/srv/{}/backups/{}", text(), text());
    outcome.backup = Some(BackupReport {
        name: text(),
        path,
        bytes: 1,
    });
    outcome.urls = Urls {
        environment: Some(text()),
        run: Some(text()),
        repository: Some(text()),
    };
}
