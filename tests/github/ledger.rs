//! The life of a deployment's record, as sequences of requests. The stand-in checks each of them, and each of its own
//! answers, against GitHub's description of its API.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use belay_model::request::event::Repository;
use belay_model::secret::Secret;
use belay_runner::github::{
    ApiAccess, DeploymentTask, FinalStatus, GitHubClient, GitHubError, Ledger, Opening,
    RecordPolicy, Restored, RetryPolicy, State, WorkflowState, finalize,
};
use serde_json::json;

use crate::contract;
use crate::fake_github::FakeGitHub;
use crate::fake_github::world::{Fault, Seed, SeedDeployment};

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";
const RUN: u64 = 77;
const LOG: &str = "https://github.com/octo-org/shop/actions/runs/77/job/5";

fn final_status(state: State, description: String) -> FinalStatus {
    FinalStatus {
        state,
        description,
        environment_url: None,
    }
}

fn deployed(tag: &str, environment_url: Option<String>) -> FinalStatus {
    FinalStatus {
        environment_url,
        ..final_status(State::Success, format!("{tag} is live"))
    }
}

fn rolled_back(cause: &str, previous: &str) -> FinalStatus {
    final_status(
        State::Failure,
        format!("{cause}; rolled back to {previous}"),
    )
}

fn lost_sight(settled_by: &str) -> FinalStatus {
    let text = format!("lost sight of the host; it settles itself by {settled_by}");
    final_status(State::Error, text)
}

fn refused(cause: &str) -> FinalStatus {
    final_status(State::Failure, format!("refused, nothing changed: {cause}"))
}

/// A stand-in and everything to talk to it.
pub(crate) struct Stage {
    pub(crate) fake: FakeGitHub,
    dir: tempfile::TempDir,
    pauses: Arc<Mutex<Vec<Duration>>>,
    base: &'static str,
}

impl Stage {
    pub(crate) fn new() -> Option<Self> {
        let fake = FakeGitHub::start(Some(contract()?), 0, None).expect("a free port");
        Some(Self {
            fake,
            dir: tempfile::tempdir().expect("a directory"),
            pauses: Arc::default(),
            base: "",
        })
    }

    pub(crate) fn connection(&self, token: &str) -> ApiAccess {
        ApiAccess {
            api_url: format!("{}{}", self.fake.api_url(), self.base),
            token: Secret::new(token),
            repository: Repository::parse("octo-org/shop").expect("a repository"),
        }
    }

    /// Pauses are noted instead of waited for.
    pub(crate) fn patience(&self) -> RetryPolicy {
        let pauses = Arc::clone(&self.pauses);
        RetryPolicy::with_pause(move |length| {
            pauses.lock().expect("no panic").push(length);
            Box::pin(async {})
        })
    }

    pub(crate) fn client(&self) -> GitHubClient {
        GitHubClient::new(&self.connection("ghs_token"), self.patience()).expect("a client")
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("record.json")
    }

    async fn open(&self, opening: Opening) -> Ledger {
        Ledger::open(
            Some(self.client()),
            opening,
            &self.file(),
            State::InProgress,
            "1/3 backup",
        )
        .await
    }

    fn seed(&self, deployments: Vec<SeedDeployment>) {
        self.fake.seed(Seed {
            deployments,
            ..Seed::default()
        });
    }

    /// What was asked, one line each, without what all lines share.
    fn told(&self) -> Vec<String> {
        self.fake.look(|world| {
            let line = |seen: &crate::fake_github::world::Seen| {
                let path = seen
                    .path
                    .trim_start_matches("/repos/octo-org/shop/")
                    .replace("&per_page=100", "");
                let path = path.replace("?per_page=100", "");
                let body = seen.body.as_ref().map_or_else(String::new, |body| {
                    let what = body
                        .get("state")
                        .or_else(|| body.get("task"))
                        .and_then(|what| what.as_str());
                    format!(
                        " {} \"{}\"",
                        what.unwrap_or_default(),
                        body["description"].as_str().unwrap_or_default()
                    )
                });
                format!("{} {path}{body} -> {}", seen.method, seen.status)
            };
            world.requests.iter().map(line).collect()
        })
    }

    fn posts(&self) -> Vec<String> {
        self.told()
            .into_iter()
            .filter(|line| line.starts_with("POST"))
            .collect()
    }

    /// The last word on each deployment, oldest first.
    fn last_words(&self) -> Vec<String> {
        self.fake.look(|world| {
            let word = |row: &crate::fake_github::world::Deployment| {
                let state = row
                    .statuses
                    .last()
                    .map_or("nothing", |status| status.state.as_str());
                format!("{} {} {state}", row.task, &row.sha[..4])
            };
            world.deployments.iter().map(word).collect()
        })
    }

    /// What has to hold after every story.
    pub(crate) fn assert_lawful(&self) {
        assert_eq!(self.fake.violations(), Vec::<String>::new());
        self.fake.look(|world| {
            for statuses in world.deployments.iter().map(|row| &row.statuses) {
                for pair in statuses.windows(2) {
                    let said = |status: &crate::fake_github::world::Status| {
                        (status.state.clone(), status.description.clone())
                    };
                    assert_ne!(said(&pair[0]), said(&pair[1]), "a status was set twice");
                }
            }
            for (at, first) in world.requests.iter().enumerate() {
                let same = |other: &&crate::fake_github::world::Seen| {
                    (&other.method, &other.path, &other.body)
                        == (&first.method, &first.path, &first.body)
                };
                if first.method == "GET" {
                    continue;
                }
                let Some(again) = world.requests[at + 1..]
                    .iter()
                    .position(|other| same(&other))
                else {
                    continue;
                };
                let between = &world.requests[at + 1..at + 1 + again];
                assert!(
                    between.iter().any(|seen| seen.method == "GET"),
                    "{} {} was repeated without a look",
                    first.method,
                    first.path
                );
            }
        });
    }
}

fn opening(tag: &str, sha: &str) -> Opening {
    Opening {
        record: RecordPolicy::Auto,
        task: DeploymentTask::Deploy,
        environment: "production".into(),
        production: true,
        sha: sha.into(),
        tag: tag.into(),
        seq: Some(2),
        run_id: RUN,
        run_attempt: 1,
        log_url: LOG.into(),
    }
}

/// A deployment that Belay made in another run.
fn earlier(sha: &str, run_id: u64, statuses: &[&str]) -> SeedDeployment {
    SeedDeployment {
        sha: sha.into(),
        payload: json!({"belay": {"run_id": run_id, "attempt": 1, "tag": "v1.1.0"}}),
        statuses: statuses.iter().map(|state| (*state).to_owned()).collect(),
        log_url: format!("https://github.com/octo-org/shop/actions/runs/{run_id}"),
        ..SeedDeployment::default()
    }
}

fn live() -> Option<String> {
    Some("https://shop.example.com".to_owned())
}

/// A whole deployment that goes well.
async fn deploy(stage: &Stage) -> Ledger {
    let mut ledger = stage.open(opening("v1.2.0", NEW)).await;
    ledger.phase("2/3 health check").await;
    ledger.phase("2/3 health check").await;
    ledger.phase("3/3 confirm").await;
    ledger.finish(&deployed("v1.2.0", live())).await;
    ledger
}

/// A whole deployment that fails and is rolled back.
async fn fail(stage: &Stage) -> Ledger {
    let mut ledger = stage.open(opening("v1.2.0", NEW)).await;
    ledger.phase("2/3 health check").await;
    ledger
        .finish(&rolled_back("health check failed", "v1.1.0"))
        .await;
    let restored = Restored {
        sha: OLD.into(),
        tag: "v1.1.0".into(),
        seq: Some(1),
        environment_url: live(),
    };
    ledger.record_rollback(&restored).await;
    ledger
}

#[tokio::test]
async fn a_first_deployment_tells_each_phase_once() {
    let Some(stage) = Stage::new() else { return };
    let ledger = deploy(&stage).await;
    assert_eq!(
        stage.told(),
        [
            "GET deployments?environment=production -> 200",
            &format!("GET deployments?environment=production&sha={NEW} -> 200"),
            "POST deployments deploy \"deploy v1.2.0\" -> 201",
            "POST deployments/1/statuses in_progress \"1/3 backup\" -> 201",
            "POST deployments/1/statuses in_progress \"2/3 health check\" -> 201",
            "POST deployments/1/statuses in_progress \"3/3 confirm\" -> 201",
            "POST deployments/1/statuses success \"v1.2.0 is live\" -> 201",
        ]
    );
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    assert_eq!(ledger.deployment_id(), Some(1));
    stage.fake.look(|world| {
        let made = &world.deployments[0];
        assert_eq!(
            made.payload,
            json!({"belay": {"run_id": RUN, "attempt": 1, "tag": "v1.2.0", "seq": 2}})
        );
        let last = made.statuses.last().expect("a status");
        assert_eq!(
            (last.environment_url.as_str(), last.log_url.as_str()),
            ("https://shop.example.com", LOG)
        );
    });
    stage.assert_lawful();
}

#[tokio::test]
async fn the_next_deployment_retires_the_one_before() {
    let Some(stage) = Stage::new() else { return };
    stage.seed(vec![earlier(OLD, 70, &["in_progress", "success"])]);
    let ledger = deploy(&stage).await;
    let told = stage.told();
    assert_eq!(told[1], "GET deployments/1/statuses -> 200");
    assert_eq!(
        told.last().map(String::as_str),
        Some("POST deployments/1/statuses inactive \"replaced by v1.2.0\" -> 201")
    );
    assert_eq!(
        stage.last_words(),
        ["deploy 1111 inactive", "deploy 2222 success"]
    );
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    stage.assert_lawful();
}

#[tokio::test]
async fn outside_production_github_itself_retires_the_one_before() {
    let Some(stage) = Stage::new() else { return };
    let staging = SeedDeployment {
        environment: "development".into(),
        production: false,
        ..earlier(OLD, 70, &["success"])
    };
    stage.seed(vec![staging]);
    let opening = Opening {
        environment: "development".into(),
        production: false,
        ..opening("dev-20261124", NEW)
    };
    let mut ledger = stage.open(opening).await;
    ledger.finish(&deployed("dev-20261124", None)).await;
    assert_eq!(
        stage.last_words(),
        ["deploy 1111 inactive", "deploy 2222 success"]
    );
    assert!(stage.posts().iter().all(|post| !post.contains("inactive")));
    stage.assert_lawful();
}

#[tokio::test]
async fn after_a_rollback_the_version_before_is_what_github_shows() {
    let Some(stage) = Stage::new() else { return };
    stage.seed(vec![earlier(OLD, 70, &["success"])]);
    let ledger = fail(&stage).await;
    let first = stage.fake.look(|world| world.deployments[1].id);
    let posts = stage.posts();
    assert_eq!(
        posts,
        [
            "POST deployments deploy \"deploy v1.2.0\" -> 201".to_owned(),
            format!("POST deployments/{first}/statuses in_progress \"1/3 backup\" -> 201"),
            format!("POST deployments/{first}/statuses in_progress \"2/3 health check\" -> 201"),
            format!(
                "POST deployments/{first}/statuses failure \"health check failed; rolled back to v1.1.0\" -> 201"
            ),
            "POST deployments rollback \"rolled back from v1.2.0 to v1.1.0\" -> 201".to_owned(),
            format!(
                "POST deployments/{}/statuses success \"v1.1.0 is live again\" -> 201",
                first + 4
            ),
            format!(
                "POST deployments/1/statuses inactive \"v1.1.0 goes on as deployment {}\" -> 201",
                first + 4
            ),
        ]
    );
    assert_eq!(
        stage.last_words(),
        [
            "deploy 1111 inactive",
            "deploy 2222 failure",
            "rollback 1111 success"
        ]
    );
    let rollback_of = stage
        .fake
        .look(|world| world.deployments[2].payload["belay"]["rollback_of"].as_u64());
    assert_eq!(rollback_of, Some(first));
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    let shown = stage
        .client()
        .latest_successful("production")
        .await
        .expect("readable")
        .expect("one is live");
    assert_eq!((shown.sha.as_str(), shown.task.as_str()), (OLD, "rollback"));
    stage.assert_lawful();
}

#[tokio::test]
async fn a_killed_run_is_settled_by_finalize_once() {
    let Some(stage) = Stage::new() else { return };
    drop(stage.open(opening("v1.2.0", NEW)).await);
    let (file, cancelled) = (stage.file(), FinalStatus::cut_short());
    let settle = || finalize(Some(stage.client()), &file, &cancelled);
    assert_eq!(settle().await, Vec::<String>::new());
    assert_eq!(stage.last_words(), ["deploy 2222 error"]);
    let before = stage.told().len();
    assert_eq!(settle().await, Vec::<String>::new());
    assert_eq!(
        stage.told().len(),
        before,
        "the second time there is nothing to settle"
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn what_is_said_for_now_is_followed_by_a_last_word() {
    let Some(stage) = Stage::new() else { return };
    let mut left = stage.open(opening("v1.2.0", NEW)).await;
    left.leave(&lost_sight("12:30 UTC")).await;
    assert!(!left.is_finished());
    assert_eq!(stage.last_words(), ["deploy 2222 error"]);
    drop(left);
    let resumed = Ledger::resume(Some(stage.client()), &stage.file()).expect("readable");
    let mut resumed = resumed.expect("there is a last word to say");
    resumed.finish(&deployed("v1.2.0", None)).await;
    assert!(resumed.is_finished());
    assert_eq!(stage.last_words(), ["deploy 2222 success"]);
    stage.assert_lawful();
}

#[tokio::test]
async fn finalize_after_a_proper_end_tells_nothing() {
    let Some(stage) = Stage::new() else { return };
    deploy(&stage).await;
    let before = stage.told().len();
    assert!(
        finalize(
            Some(stage.client()),
            &stage.file(),
            &FinalStatus::cut_short()
        )
        .await
        .is_empty()
    );
    let nowhere = stage.dir.path().join("none.json");
    assert!(
        finalize(Some(stage.client()), &nowhere, &FinalStatus::cut_short())
            .await
            .is_empty()
    );
    assert_eq!(
        (stage.told().len(), stage.last_words()),
        (before, vec!["deploy 2222 success".to_owned()])
    );
}

#[tokio::test]
async fn finalize_finds_a_deployment_whose_creation_was_cut_off() {
    let Some(stage) = Stage::new() else { return };
    let file = stage.file();
    // The step is killed between the request and the answer: everything after it is lost.
    stage.fake.fault(Fault {
        method: "POST".into(),
        drop: true,
        after: true,
        times: Some(1),
        ..Fault::default()
    });
    stage.fake.fault(Fault {
        method: "GET".into(),
        skip: 2,
        status: 503,
        ..Fault::default()
    });
    drop(stage.open(opening("v1.2.0", NEW)).await);
    assert_eq!(
        stage.last_words(),
        ["deploy 2222 nothing"],
        "it was created, but nobody was told"
    );
    stage.fake.clear_faults();
    assert_eq!(
        finalize(Some(stage.client()), &file, &FinalStatus::cut_short()).await,
        Vec::<String>::new()
    );
    assert_eq!(stage.last_words(), ["deploy 2222 error"]);
    stage.assert_lawful();
}

#[tokio::test]
async fn an_unreadable_record_is_a_warning() {
    let Some(stage) = Stage::new() else { return };
    std::fs::write(stage.file(), "{\"half").expect("written");
    let warnings = finalize(
        Some(stage.client()),
        &stage.file(),
        &FinalStatus::cut_short(),
    )
    .await;
    assert!(
        warnings[0].starts_with("could not read what GitHub was told"),
        "{warnings:?}"
    );
}

/// How a fault looks, and whether what was asked is done all the same.
fn outages() -> Vec<Fault> {
    let lost = |fault: Fault| Fault {
        after: true,
        ..fault
    };
    let broken = Fault {
        status: 502,
        ..Fault::default()
    };
    let dropped = Fault {
        drop: true,
        ..Fault::default()
    };
    vec![broken.clone(), lost(broken), dropped.clone(), lost(dropped)]
}

#[tokio::test]
async fn github_going_down_at_any_call_only_costs_warnings() {
    for story in [Story::Deploy, Story::Fail] {
        let Some(calls) = story.calls().await else {
            return;
        };
        for outage in outages() {
            for skip in 0..calls {
                let Some(stage) = Stage::new() else { return };
                stage.seed(vec![earlier(OLD, 70, &["success"])]);
                stage.fake.fault(Fault {
                    skip,
                    ..outage.clone()
                });
                let ledger = story.play(&stage).await;
                assert!(
                    !ledger.warnings().is_empty(),
                    "{story:?} without GitHub from call {skip} on"
                );
                stage.assert_lawful();
            }
        }
    }
}

#[tokio::test]
async fn github_failing_once_at_any_call_loses_at_most_a_phase() {
    for story in [Story::Deploy, Story::Fail] {
        let Some(calls) = story.calls().await else {
            return;
        };
        for outage in outages() {
            for skip in 0..calls {
                let Some(stage) = Stage::new() else { return };
                stage.seed(vec![earlier(OLD, 70, &["success"])]);
                stage.fake.fault(Fault {
                    skip,
                    times: Some(1),
                    ..outage.clone()
                });
                story.play(&stage).await;
                assert_eq!(
                    stage.last_words(),
                    story.ends(),
                    "{story:?}, {outage:?} at call {skip}"
                );
                stage.assert_lawful();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Story {
    Deploy,
    Fail,
}

impl Story {
    async fn play(self, stage: &Stage) -> Ledger {
        match self {
            Self::Deploy => deploy(stage).await,
            Self::Fail => fail(stage).await,
        }
    }

    /// How many requests it takes when nothing goes wrong.
    async fn calls(self) -> Option<u32> {
        let stage = Stage::new()?;
        stage.seed(vec![earlier(OLD, 70, &["success"])]);
        self.play(&stage).await;
        u32::try_from(stage.told().len()).ok()
    }

    fn ends(self) -> Vec<&'static str> {
        match self {
            Self::Deploy => vec!["deploy 1111 inactive", "deploy 2222 success"],
            Self::Fail => vec![
                "deploy 1111 inactive",
                "deploy 2222 failure",
                "rollback 1111 success",
            ],
        }
    }
}

#[tokio::test]
async fn a_github_that_is_gone_is_told_nothing_and_nothing_breaks() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    let Stage {
        fake, dir, pauses, ..
    } = stage;
    drop(fake);
    let file = dir.path().join("record.json");
    let mut ledger = Ledger::open(
        Some(client),
        opening("v1.2.0", NEW),
        &file,
        State::Queued,
        "waiting",
    )
    .await;
    ledger.phase("1/3 backup").await;
    ledger.finish(&deployed("v1.2.0", None)).await;
    assert_eq!(ledger.deployment_id(), None);
    let last = ledger.warnings().last().expect("a warning");
    assert!(
        last.contains("could not be told how the deployment ended: \"v1.2.0 is live\""),
        "{last}"
    );
    let waited: Duration = pauses.lock().expect("no panic").iter().sum();
    assert!(waited <= Duration::from_secs(20), "{waited:?}");
}

#[tokio::test]
async fn a_slow_github_is_not_waited_for() {
    let Some(stage) = Stage::new() else { return };
    let mut patience = stage.patience();
    patience.answer_timeout = Duration::from_millis(50);
    let client = GitHubClient::new(&stage.connection("ghs_token"), patience).expect("a client");
    stage.fake.fault(Fault {
        delay_ms: 60_000,
        ..Fault::default()
    });
    let error = client.survey("production").await.expect_err("too slow");
    assert!(matches!(error, GitHubError::NoAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn a_record_that_could_not_be_opened_is_made_up_at_the_end() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.fault(Fault {
        status: 503,
        ..Fault::default()
    });
    let mut ledger = stage.open(opening("v1.2.0", NEW)).await;
    ledger.phase("2/3 health check").await;
    stage.fake.clear_faults();
    ledger.finish(&deployed("v1.2.0", live())).await;
    assert_eq!(stage.last_words(), ["deploy 2222 success"]);
    stage.assert_lawful();
}

#[tokio::test]
async fn a_missing_permission_is_named_once_and_asked_for_no_more() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.fault(Fault {
        status: 403,
        ..Fault::default()
    });
    let ledger = deploy(&stage).await;
    assert_eq!(stage.told().len(), 1);
    let [warning] = ledger.warnings() else {
        panic!("{:?}", ledger.warnings())
    };
    assert!(
        warning.contains("add \"deployments: write\" under \"permissions:\""),
        "{warning}"
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn a_token_that_may_only_read_ends_in_one_warning() {
    let Some(stage) = Stage::new() else { return };
    let client =
        GitHubClient::new(&stage.connection("read-only"), stage.patience()).expect("a client");
    let mut ledger = Ledger::open(
        Some(client),
        opening("v1.2.0", NEW),
        &stage.file(),
        State::InProgress,
        "1/3 backup",
    )
    .await;
    ledger.finish(&deployed("v1.2.0", None)).await;
    assert_eq!(stage.posts().len(), 1);
    assert_eq!(ledger.warnings().len(), 1, "{:?}", ledger.warnings());
    stage.assert_lawful();
}

#[tokio::test]
async fn what_github_refuses_is_explained() {
    for (status, message, words) in [
        (
            422,
            Some("No ref found for: v1.2.0"),
            "refused (status 422): No ref found for: v1.2.0",
        ),
        (
            409,
            None,
            "refused (status 409): Conflict: Commit status checks failed for v1.2.0. (ci/build is pending)",
        ),
        (
            202,
            None,
            "refused (status 202): Auto-merged main into v1.2.0 on deployment.",
        ),
    ] {
        let Some(stage) = Stage::new() else { return };
        stage.fake.fault(Fault {
            method: "POST".into(),
            status,
            message: message.map(str::to_owned),
            ..Fault::default()
        });
        let ledger = deploy(&stage).await;
        assert!(
            ledger.warnings()[0].contains(words),
            "{:?}",
            ledger.warnings()
        );
        assert_eq!(stage.last_words(), Vec::<String>::new());
        stage.assert_lawful();
    }
}

#[tokio::test]
async fn a_short_pause_that_github_asks_for_is_made() {
    let Some(stage) = Stage::new() else { return };
    for method in ["GET", "POST"] {
        stage.fake.fault(Fault {
            method: method.into(),
            status: 429,
            retry_after: Some(7),
            times: Some(1),
            ..Fault::default()
        });
    }
    let ledger = deploy(&stage).await;
    assert_eq!(
        *stage.pauses.lock().expect("no panic"),
        [Duration::from_secs(7), Duration::from_secs(7)]
    );
    assert_eq!(stage.last_words(), ["deploy 2222 success"]);
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    stage.assert_lawful();
}

#[tokio::test]
async fn a_long_pause_that_github_asks_for_is_not_made() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.fault(Fault {
        status: 403,
        retry_after: Some(3600),
        ..Fault::default()
    });
    let ledger = stage.open(opening("v1.2.0", NEW)).await;
    assert!(stage.pauses.lock().expect("no panic").is_empty());
    assert!(
        ledger.warnings()[0].contains("GitHub asks to wait 3600 s"),
        "{:?}",
        ledger.warnings()
    );
}

#[tokio::test]
async fn the_live_deployment_is_found_behind_more_than_a_page_of_failed_ones() {
    let Some(stage) = Stage::new() else { return };
    let mut rows = vec![earlier(OLD, 70, &["success"])];
    rows.extend((0..105).map(|_| earlier(NEW, 71, &["failure"])));
    stage.seed(rows);
    let survey = stage.client().survey("production").await.expect("readable");
    assert_eq!(survey.live.map(|live| live.id), Some(1));
    let told = stage.told();
    let pages: Vec<&String> = told
        .iter()
        .filter(|line| line.contains("deployments?"))
        .collect();
    assert_eq!(pages.len(), 2, "{pages:?}");
    stage.assert_lawful();
}

#[tokio::test]
async fn the_pages_of_an_enterprise_server_are_followed_under_its_base_path() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    stage.base = "/api/v3";
    stage.seed((0..101).map(|_| earlier(NEW, 71, &["failure"])).collect());
    let survey = stage.client().survey("production").await.expect("readable");
    assert_eq!(survey.live, None);
    assert_eq!(
        stage
            .told()
            .iter()
            .filter(|line| line.contains("statuses"))
            .count(),
        101
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn a_deployment_that_waits_for_a_reviewer_is_read() {
    let Some(stage) = Stage::new() else { return };
    stage.seed(vec![
        earlier(OLD, 70, &["success"]),
        earlier(NEW, 71, &["waiting"]),
        earlier(NEW, 72, &["levitating"]),
    ]);
    let survey = stage.client().survey("production").await.expect("readable");
    assert_eq!(survey.live.map(|live| live.id), Some(1));
    assert_eq!(survey.unfinished.len(), 1);
    let open = stage
        .client()
        .unfinished("production")
        .await
        .expect("readable");
    assert_eq!(open.len(), 1);
}

#[tokio::test]
async fn what_dead_runs_left_open_gets_its_last_word() {
    let Some(stage) = Stage::new() else { return };
    stage.seed(vec![
        earlier(OLD, 70, &["in_progress"]),
        earlier(OLD, 71, &["success"]),
        earlier(OLD, 72, &["in_progress"]),
        earlier(OLD, 73, &[]),
        earlier(OLD, RUN, &["queued"]),
        SeedDeployment {
            payload: json!(""),
            ..earlier(OLD, 74, &["in_progress"])
        },
    ]);
    stage.fake.seed(Seed {
        runs: [(70, "completed"), (72, "in_progress")]
            .map(|(id, status)| (id, status.to_owned()))
            .into(),
        ..Seed::default()
    });
    let second_attempt = Opening {
        run_attempt: 2,
        ..opening("v1.2.0", NEW)
    };
    let ledger = stage.open(second_attempt).await;
    assert_eq!(
        stage.last_words(),
        [
            "deploy 1111 error",
            "deploy 1111 success",
            "deploy 1111 in_progress",
            "deploy 1111 error",
            "deploy 1111 error",
            "deploy 1111 in_progress",
            "deploy 2222 in_progress",
        ],
        "dead; live; goes on; its run is gone; this run's first attempt; not Belay's; this one"
    );
    assert!(
        stage
            .posts()
            .last()
            .is_some_and(|post| post.contains("error \"abandoned"))
    );
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    stage.assert_lawful();
}

#[tokio::test]
async fn the_deployment_that_actions_made_for_the_job_is_adopted() {
    let Some(stage) = Stage::new() else { return };
    let made_by_actions = |run: u64| SeedDeployment {
        payload: json!(""),
        ..earlier(NEW, run, &["in_progress"])
    };
    stage.seed(vec![
        made_by_actions(7),
        made_by_actions(RUN),
        made_by_actions(778),
    ]);
    let ledger = deploy(&stage).await;
    assert_eq!(
        stage.last_words(),
        [
            "deploy 2222 in_progress",
            "deploy 2222 success",
            "deploy 2222 in_progress"
        ]
    );
    assert_eq!(ledger.warnings(), Vec::<String>::new());
    stage.assert_lawful();
}

#[tokio::test]
async fn when_it_is_unknown_whether_there_is_one_to_adopt_none_is_created() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.fault(Fault {
        method: "GET".into(),
        path: "&sha=".into(),
        status: 500,
        ..Fault::default()
    });
    let ledger = deploy(&stage).await;
    assert_eq!(stage.posts(), Vec::<String>::new());
    assert!(!ledger.warnings().is_empty());
}

#[tokio::test]
async fn a_record_is_only_kept_as_the_input_says() {
    let Some(stage) = Stage::new() else { return };
    let with = |record| Opening {
        record,
        ..opening("v1.2.0", NEW)
    };
    let mut silent = stage.open(with(RecordPolicy::None)).await;
    silent.finish(&deployed("v1.2.0", None)).await;
    assert_eq!((stage.told().len(), silent.warnings().len()), (0, 0));
    let mut adopting = stage.open(with(RecordPolicy::Adopt)).await;
    adopting.phase("2/3 health check").await;
    assert_eq!(stage.posts(), Vec::<String>::new());
    assert_eq!(
        adopting.warnings(),
        ["no deployment that Actions made for this job was found to adopt"]
    );
}

#[tokio::test]
async fn without_a_token_nothing_is_told_and_that_is_said_once() {
    let Some(stage) = Stage::new() else { return };
    let file = stage.file();
    let mut ledger = Ledger::open(
        None,
        opening("v1.2.0", NEW),
        &file,
        State::InProgress,
        "1/3 backup",
    )
    .await;
    ledger.phase("2/3 health check").await;
    ledger.finish(&deployed("v1.2.0", None)).await;
    assert_eq!(ledger.warnings().len(), 1);
    assert!(!file.exists());
}

#[tokio::test]
async fn a_long_description_is_cut_before_it_is_sent() {
    let Some(stage) = Stage::new() else { return };
    let mut ledger = stage.open(opening("v1.2.0", NEW)).await;
    ledger.finish(&refused(&"é".repeat(300))).await;
    assert_eq!(stage.last_words(), ["deploy 2222 failure"]);
    stage.assert_lawful();
}

#[tokio::test]
async fn a_tag_is_resolved_whatever_its_name() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    stage.base = "/api/v3";
    let odd = "v1.2.0#x?y=z%2F";
    stage.fake.seed(Seed {
        refs: [
            ("tags/v1.2.0".to_owned(), NEW.to_owned()),
            (format!("tags/{odd}"), OLD.to_owned()),
        ]
        .into(),
        ..Seed::default()
    });
    let client = stage.client();
    assert_eq!(
        client
            .resolve_tag("v1.2.0")
            .await
            .expect("readable")
            .as_deref(),
        Some(NEW)
    );
    assert_eq!(
        client.resolve_tag(odd).await.expect("readable").as_deref(),
        Some(OLD)
    );
    assert_eq!(client.resolve_tag("v9.9.9").await.expect("readable"), None);
    stage.assert_lawful();
}

#[tokio::test]
async fn a_run_goes_on_until_it_is_completed_or_gone() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.seed(Seed {
        runs: [(1, "completed"), (2, "in_progress")]
            .map(|(id, status)| (id, status.to_owned()))
            .into(),
        ..Seed::default()
    });
    let client = stage.client();
    assert_eq!(
        client.run_is_over(1).await.expect("readable"),
        WorkflowState::Over
    );
    assert_eq!(
        client.run_is_over(2).await.expect("readable"),
        WorkflowState::GoesOn
    );
    assert_eq!(
        client.run_is_over(3).await.expect("readable"),
        WorkflowState::Over
    );
    stage.assert_lawful();
}
