//! Whether what runs is healthy: samples in, verdict out.
//!
//! The agent takes samples; this file judges them. Docker's own word and the exit of a container come first, then the
//! primary endpoint; the backup endpoint speaks only when the primary cannot be reached at all.

use serde::{Deserialize, Serialize};

/// What "healthy" means for an application. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRules {
    /// Asked from the host.
    pub primary: Option<String>,
    /// Asked from the host when the primary cannot be reached at all.
    pub backup: Option<String>,
    /// Asked from the runner, as users see it.
    pub public: Option<String>,
    /// Good answers in a row that make a version healthy.
    pub successes: u32,
    /// Between two looks.
    pub interval_ms: u64,
    /// How long one answer may take.
    pub timeout_ms: u64,
    /// How long a version may take to become healthy; never shorter than the services' own healthchecks need.
    pub deadline_ms: u64,
    /// What becomes of a version that is degraded.
    pub degraded: DegradedRule,
    /// Where an answer tells its version; `None` when nobody asks which version answered.
    pub version: Option<VersionCheck>,
    /// How long a healthy version must stay so before it is confirmed.
    pub bake_ms: u64,
}

impl HealthRules {
    /// How long the public URL may give bad answers to a runner that is about to confirm, in milliseconds. The host's own
    /// watch was well a moment ago, so it is a third of what a new version gets.
    #[must_use]
    pub fn public_patience_ms(&self) -> u64 {
        self.deadline_ms / 3
    }

    /// The longest that a runner's look at the public URL takes, in milliseconds.
    #[must_use]
    pub fn public_check_ms(&self) -> u64 {
        if self.public.is_none() {
            return 0;
        }
        let each = self.timeout_ms + self.interval_ms;
        self.public_patience_ms() + each * (u64::from(self.successes) + 1)
    }
}

/// What a degraded verdict leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DegradedRule {
    /// The version stays, with a warning.
    Accept,
    /// The version is taken back.
    Fail,
}

/// Where an endpoint tells its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionCheck {
    /// A header of the answer, by its name.
    Header(String),
    /// A field of the JSON answer; inner fields are separated by dots.
    Json(String),
}

/// One look at the containers and the endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since the watch began.
    pub at_ms: u64,
    /// Every container of the candidate that is to run.
    pub containers: Vec<ContainerSample>,
    /// What the primary endpoint said; `None` when it was not asked.
    pub primary: Option<HealthAnswer>,
    /// What the backup endpoint said; `None` when it was not asked.
    pub backup: Option<HealthAnswer>,
}

/// One container of the candidate version.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSample {
    /// The service's name in the Compose file.
    pub service: String,
    /// How it is.
    pub state: ContainerState,
    /// Times that Docker itself started it again.
    pub restarts: u32,
}

/// The states that matter for health.
#[derive(Clone, Debug, PartialEq)]
pub enum ContainerState {
    /// Running, and its healthcheck (if it has one) says it is well.
    Well,
    /// Running; its healthcheck has not decided yet.
    Starting,
    /// Running; nothing accepts connections at a port that it is to serve.
    NotListening,
    /// Running; its healthcheck says it is not well.
    Unhealthy(String),
    /// Ended and about to be restarted by Docker.
    Restarting,
    /// Ended for good.
    Exited(i32),
    /// Not there at all.
    Missing,
}

/// What an endpoint answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthAnswer {
    /// An answer came.
    Status {
        /// The HTTP status.
        code: u16,
        /// What it told of its version; `None` when it told none, or nobody wanted to know.
        version: Option<String>,
    },
    /// No answer came, for this reason.
    Unreachable(String),
}

impl HealthAnswer {
    /// The answer as the end of a sentence that begins with the URL.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            HealthAnswer::Status { code, .. } => format!("answered {code}"),
            HealthAnswer::Unreachable(why) => format!("could not be reached ({why})"),
        }
    }

    /// Whether an answer came with a status of 200 to 299; a redirect is no success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, HealthAnswer::Status { code, .. } if is_success(*code))
    }
}

/// An answer, and how long it took in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedAnswer {
    /// What came.
    pub answer: HealthAnswer,
    /// From the question until then.
    pub ms: u64,
}

/// Who answers at an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answering {
    /// The version that is judged, alone.
    #[default]
    Candidate,
    /// The incumbents as well, because a proxy of the user's asks all of them in turn.
    IncumbentsToo,
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// Not yet, for this reason.
    Undecided(String),
    /// It has given as many good answers in a row as are wanted.
    Healthy,
    /// Serves, though the primary endpoint cannot be reached.
    Degraded(String),
    /// It will not do, for this reason.
    Unhealthy(String),
}

/// Restarts after which a container counts as crash-looping. A service may lose a race with its database once or twice.
const CRASH_LOOP: u32 = 3;

/// Judges samples of one version, in the order in which they were taken.
#[derive(Debug)]
pub struct Judge<'a> {
    rules: &'a HealthRules,
    /// The version that the endpoint must report, when the rules ask for it.
    expected: &'a str,
    answering: Answering,
    deadline_ms: u64,
    good_in_a_row: u32,
    backup_in_a_row: u32,
    /// When it became healthy.
    healthy_since: Option<u64>,
    bad_in_a_row: u32,
    /// When there was the last answer that tells something of it.
    heard_at: u64,
    last_trouble: String,
}

impl<'a> Judge<'a> {
    /// `needs_ms` is what the slowest of the services' own healthchecks may take.
    #[must_use]
    pub fn new(rules: &'a HealthRules, expected: &'a str, needs_ms: u64) -> Self {
        Judge {
            rules,
            expected,
            answering: Answering::Candidate,
            deadline_ms: rules.deadline_ms.max(needs_ms),
            good_in_a_row: 0,
            backup_in_a_row: 0,
            healthy_since: None,
            bad_in_a_row: 0,
            heard_at: 0,
            last_trouble: "it was not asked yet".to_owned(),
        }
    }

    /// The same judge, told who answers.
    #[must_use]
    pub fn of(self, answering: Answering) -> Self {
        Judge { answering, ..self }
    }

    /// The time within which a version must become healthy, in milliseconds.
    #[must_use]
    pub fn deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    /// When the version became healthy, in milliseconds since the watch began.
    #[must_use]
    pub fn healthy_since(&self) -> Option<u64> {
        self.healthy_since
    }

    /// Takes one sample into account. `Undecided` means: look again.
    pub fn judge(&mut self, sample: &Sample) -> Verdict {
        if let Some(reason) = definite_failure(&sample.containers) {
            return Verdict::Unhealthy(reason);
        }
        match self.trouble(sample) {
            Some(trouble) if self.is_of_an_incumbent(sample) => self.unheard(trouble, sample),
            None => self.good(sample.at_ms),
            Some(trouble) => self.bad(trouble, sample),
        }
    }

    /// Whether somebody else gave the answer. It says nothing then, be it good or bad.
    fn is_of_an_incumbent(&self, sample: &Sample) -> bool {
        let is_another = |seen: &str| !same_version(seen, self.expected);
        self.answering == Answering::IncumbentsToo
            && self.rules.version.is_some()
            && containers_trouble(sample).is_none()
            && matches!(&sample.primary, Some(HealthAnswer::Status { version: Some(seen), .. }) if is_another(seen))
    }

    /// Waits for an answer of its own, for as long as it may take to become healthy.
    fn unheard(&mut self, trouble: String, sample: &Sample) -> Verdict {
        if self.bad_in_a_row == 0 {
            self.last_trouble = trouble;
        }
        let is_late = sample.at_ms >= self.heard_at + self.deadline_ms;
        match self.healthy_since {
            None if is_late => self.at_the_deadline(sample),
            Some(_) if is_late => {
                Verdict::Unhealthy(format!("it was healthy, then {}", self.last_trouble))
            }
            Some(_) | None if self.good_in_a_row > 0 => self.so_far(),
            Some(_) | None => Verdict::Undecided(self.last_trouble.clone()),
        }
    }

    fn good(&mut self, at_ms: u64) -> Verdict {
        self.heard_at = at_ms;
        self.bad_in_a_row = 0;
        self.good_in_a_row += 1;
        if self.healthy_since.is_none() && self.good_in_a_row >= self.rules.successes {
            self.healthy_since = Some(at_ms);
        }
        match self.healthy_since {
            Some(since) if at_ms >= since + self.rules.bake_ms => Verdict::Healthy,
            Some(_) | None => self.so_far(),
        }
    }

    fn so_far(&self) -> Verdict {
        Verdict::Undecided(match self.healthy_since {
            Some(_) => "healthy; watching that it stays so".to_owned(),
            None => format!(
                "good answer {} of {} in a row",
                self.good_in_a_row, self.rules.successes
            ),
        })
    }

    fn bad(&mut self, trouble: String, sample: &Sample) -> Verdict {
        self.heard_at = sample.at_ms;
        self.good_in_a_row = 0;
        self.bad_in_a_row += 1;
        self.count_backup(sample);
        self.last_trouble = trouble;
        if self.healthy_since.is_some() {
            // One lost answer is no verdict; as many in a row as make it healthy are.
            return if self.bad_in_a_row >= self.rules.successes.max(2) {
                Verdict::Unhealthy(format!("it was healthy, then {}", self.last_trouble))
            } else {
                Verdict::Undecided(self.last_trouble.clone())
            };
        }
        if sample.at_ms < self.deadline_ms {
            return Verdict::Undecided(self.last_trouble.clone());
        }
        self.at_the_deadline(sample)
    }

    fn at_the_deadline(&self, sample: &Sample) -> Verdict {
        let reason = format!("{} after {} s", self.last_trouble, self.deadline_ms / 1000);
        let primary_is_gone = matches!(sample.primary, Some(HealthAnswer::Unreachable(_)));
        if primary_is_gone
            && self.backup_in_a_row >= self.rules.successes
            && containers_trouble(sample).is_none()
        {
            return match self.rules.degraded {
                DegradedRule::Accept => {
                    Verdict::Degraded(format!("{reason}; the backup endpoint answers"))
                }
                DegradedRule::Fail => {
                    Verdict::Unhealthy(format!("{reason}; only the backup endpoint answers"))
                }
            };
        }
        Verdict::Unhealthy(reason)
    }

    fn count_backup(&mut self, sample: &Sample) {
        match &sample.backup {
            Some(answer) if answer.is_success() => self.backup_in_a_row += 1,
            Some(_) | None => self.backup_in_a_row = 0,
        }
    }

    fn trouble(&self, sample: &Sample) -> Option<String> {
        containers_trouble(sample).or_else(|| match (&self.rules.primary, &sample.primary) {
            (None, _) => None,
            (Some(url), None) => Some(format!("{url} was not asked")),
            (Some(url), Some(HealthAnswer::Unreachable(why))) => {
                Some(format!("{url} could not be reached ({why})"))
            }
            (Some(url), Some(HealthAnswer::Status { code, .. })) if !is_success(*code) => {
                Some(format!("{url} answered {code}"))
            }
            (Some(url), Some(HealthAnswer::Status { version, .. })) => {
                self.version_trouble(url, version.as_deref())
            }
        })
    }

    fn version_trouble(&self, url: &str, seen: Option<&str>) -> Option<String> {
        self.rules.version.as_ref()?;
        match seen {
            Some(seen) if same_version(seen, self.expected) => None,
            Some(seen) => Some(format!(
                "{url} reports version {seen:?} instead of {}",
                self.expected
            )),
            None => Some(format!(
                "{url} reports no version, {} is expected",
                self.expected
            )),
        }
    }
}

/// `1.2.0` and `v1.2.0` are one version: applications rarely report the tag's `v`.
fn same_version(seen: &str, expected: &str) -> bool {
    seen.strip_prefix('v').unwrap_or(seen) == expected.strip_prefix('v').unwrap_or(expected)
}

fn is_success(code: u16) -> bool {
    (200..300).contains(&code)
}

fn definite_failure(containers: &[ContainerSample]) -> Option<String> {
    containers.iter().find_map(|c| match &c.state {
        ContainerState::Exited(code) => Some(format!(
            "the container of {} exited with code {code}",
            c.service
        )),
        ContainerState::Unhealthy(why) if why.is_empty() => Some(format!(
            "Docker's healthcheck of {} says unhealthy",
            c.service
        )),
        ContainerState::Unhealthy(why) => Some(format!(
            "Docker's healthcheck of {} says unhealthy: {why}",
            c.service
        )),
        _ if c.restarts >= CRASH_LOOP => Some(format!(
            "the container of {} keeps crashing ({} restarts)",
            c.service, c.restarts
        )),
        ContainerState::Well
        | ContainerState::Starting
        | ContainerState::NotListening
        | ContainerState::Restarting
        | ContainerState::Missing => None,
    })
}

fn containers_trouble(sample: &Sample) -> Option<String> {
    sample.containers.iter().find_map(|c| match c.state {
        ContainerState::Well => None,
        ContainerState::Starting => Some(format!(
            "the healthcheck of {} is still starting",
            c.service
        )),
        ContainerState::NotListening => Some(format!("{} does not accept connections", c.service)),
        ContainerState::Restarting => Some(format!("the container of {} is restarting", c.service)),
        ContainerState::Missing => Some(format!("the container of {} is missing", c.service)),
        ContainerState::Unhealthy(_) | ContainerState::Exited(_) => {
            Some(format!("{} is not well", c.service))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> HealthRules {
        HealthRules {
            primary: Some("http://127.0.0.1:8080/api/status".to_owned()),
            backup: Some("http://127.0.0.1:8080/health".to_owned()),
            public: None,
            successes: 3,
            interval_ms: 1000,
            timeout_ms: 5000,
            deadline_ms: 10_000,
            degraded: DegradedRule::Accept,
            version: None,
            bake_ms: 0,
        }
    }

    fn status(code: u16) -> Option<HealthAnswer> {
        Some(HealthAnswer::Status {
            code,
            version: None,
        })
    }

    fn gone() -> Option<HealthAnswer> {
        Some(HealthAnswer::Unreachable("connection refused".to_owned()))
    }

    fn sample(
        at_ms: u64,
        state: ContainerState,
        primary: Option<HealthAnswer>,
        backup: Option<HealthAnswer>,
    ) -> Sample {
        let containers = vec![ContainerSample {
            service: "web".to_owned(),
            state,
            restarts: 0,
        }];
        Sample {
            at_ms,
            containers,
            primary,
            backup,
        }
    }

    /// Judges the same look once a second until there is a verdict.
    fn settle(rules: &HealthRules, expected: &str, look: impl Fn(u64) -> Sample) -> (u64, Verdict) {
        let mut judge = Judge::new(rules, expected, 0);
        for at in (0..100_000).step_by(1000) {
            match judge.judge(&look(at)) {
                Verdict::Undecided(_) => {}
                verdict => return (at, verdict),
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn as_many_good_answers_in_a_row_as_asked_for_are_healthy() {
        let (at, verdict) = settle(&rules(), "v1.0.0", |at| {
            sample(at, ContainerState::Well, status(200), None)
        });
        assert_eq!((at, verdict), (2000, Verdict::Healthy));
    }

    #[test]
    fn a_bad_answer_between_starts_the_count_again() {
        let (at, _) = settle(&rules(), "v1.0.0", |at| {
            sample(
                at,
                ContainerState::Well,
                status(if at == 1000 { 503 } else { 200 }),
                None,
            )
        });
        assert_eq!(at, 4000);
    }

    #[test]
    fn a_definite_error_of_the_primary_is_unhealthy_though_the_backup_answers() {
        let (at, verdict) = settle(&rules(), "v1.0.0", |at| {
            sample(at, ContainerState::Well, status(500), status(200))
        });
        assert_eq!(at, 10_000);
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.contains("answered 500")),
            "{verdict:?}"
        );
    }

    #[test]
    fn an_unreachable_primary_with_an_answering_backup_is_degraded() {
        let (_, verdict) = settle(&rules(), "v1.0.0", |at| {
            sample(at, ContainerState::Well, gone(), status(200))
        });
        assert!(matches!(verdict, Verdict::Degraded(_)), "{verdict:?}");
        let strict = HealthRules {
            degraded: DegradedRule::Fail,
            ..rules()
        };
        let (_, verdict) = settle(&strict, "v1.0.0", |at| {
            sample(at, ContainerState::Well, gone(), status(200))
        });
        assert!(matches!(verdict, Verdict::Unhealthy(_)), "{verdict:?}");
    }

    #[test]
    fn nothing_reachable_is_unhealthy() {
        let (_, verdict) = settle(&rules(), "v1.0.0", |at| {
            sample(at, ContainerState::Well, gone(), gone())
        });
        assert!(matches!(verdict, Verdict::Unhealthy(_)), "{verdict:?}");
    }

    #[test]
    fn an_exit_and_a_crash_loop_are_told_at_once() {
        let (at, verdict) = settle(&rules(), "v1.0.0", |at| {
            sample(at, ContainerState::Exited(1), gone(), gone())
        });
        assert_eq!(at, 0);
        assert!(matches!(verdict, Verdict::Unhealthy(_)));
        let (at, _) = settle(&rules(), "v1.0.0", |at| {
            let mut look = sample(at, ContainerState::Restarting, gone(), gone());
            look.containers[0].restarts = (at / 1000) as u32;
            look
        });
        assert_eq!(at, 3000);
    }

    #[test]
    fn the_wrong_version_never_becomes_healthy() {
        let rules = HealthRules {
            version: Some(VersionCheck::Header("X-App-Version".to_owned())),
            ..rules()
        };
        let answer = |version: &str| {
            Some(HealthAnswer::Status {
                code: 200,
                version: Some(version.to_owned()),
            })
        };
        let (_, verdict) = settle(&rules, "v1.2.0", |at| {
            sample(at, ContainerState::Well, answer("v1.1.0"), status(200))
        });
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.contains("v1.1.0")),
            "{verdict:?}"
        );
        let (_, verdict) = settle(&rules, "v1.2.0", |at| {
            sample(at, ContainerState::Well, answer("1.2.0"), None)
        });
        assert_eq!(verdict, Verdict::Healthy);
    }

    /// Judges one answer a second, each of a version with a status, while incumbents answer as well.
    fn settle_beside_incumbents(look: impl Fn(u64) -> (&'static str, u16)) -> (u64, Verdict) {
        let rules = HealthRules {
            version: Some(VersionCheck::Header("X-App-Version".to_owned())),
            bake_ms: 6000,
            ..rules()
        };
        let mut judge = Judge::new(&rules, "v1.2.0", 0).of(Answering::IncumbentsToo);
        for at in (0..100_000).step_by(1000) {
            let (version, code) = look(at);
            let answer = HealthAnswer::Status {
                code,
                version: Some(version.to_owned()),
            };
            match judge.judge(&sample(at, ContainerState::Well, Some(answer), None)) {
                Verdict::Undecided(_) => {}
                verdict => return (at, verdict),
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn what_an_incumbent_answers_is_neither_good_nor_bad() {
        let in_turn = |at: u64| match at % 2000 {
            0 => ("1.2.0", 200),
            _ => ("1.1.0", if at == 3000 { 500 } else { 200 }),
        };
        // Its third answer is at 4 s, and it bakes for 6 s.
        assert_eq!(
            settle_beside_incumbents(in_turn),
            (10_000, Verdict::Healthy)
        );
    }

    #[test]
    fn a_bad_version_is_noticed_among_good_answers_of_incumbents() {
        let (at, verdict) = settle_beside_incumbents(|at| match at % 2000 {
            0 => ("1.2.0", 500),
            _ => ("1.1.0", 200),
        });
        assert_eq!(at, 10_000);
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.contains("answered 500")),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_version_of_which_nothing_is_heard_is_unhealthy() {
        let (at, verdict) = settle_beside_incumbents(|_| ("1.1.0", 200));
        assert_eq!(at, 10_000);
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.contains("1.1.0")),
            "{verdict:?}"
        );
        let turns_silent = |at: u64| (if at < 5000 { "1.2.0" } else { "1.1.0" }, 200);
        let (at, verdict) = settle_beside_incumbents(turns_silent);
        assert_eq!(at, 14_000);
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.starts_with("it was healthy")),
            "{verdict:?}"
        );
    }

    #[test]
    fn the_deadline_is_never_shorter_than_the_services_own_healthchecks() {
        let mut judge_rules = rules();
        judge_rules.deadline_ms = 1000;
        assert_eq!(
            Judge::new(&judge_rules, "v1.0.0", 45_000).deadline_ms(),
            45_000
        );
    }

    #[test]
    fn a_version_that_turns_bad_while_it_bakes_is_unhealthy() {
        let rules = HealthRules {
            bake_ms: 10_000,
            ..rules()
        };
        let (at, verdict) = settle(&rules, "v1.0.0", |at| {
            sample(
                at,
                ContainerState::Well,
                status(if at < 6000 { 200 } else { 500 }),
                None,
            )
        });
        assert_eq!(at, 8000);
        assert!(
            matches!(&verdict, Verdict::Unhealthy(why) if why.starts_with("it was healthy")),
            "{verdict:?}"
        );
    }

    #[test]
    fn without_endpoints_the_containers_decide() {
        let rules = HealthRules {
            primary: None,
            backup: None,
            ..rules()
        };
        let (at, verdict) = settle(&rules, "v1.0.0", |at| {
            let state = if at < 4000 {
                ContainerState::Starting
            } else {
                ContainerState::Well
            };
            sample(at, state, None, None)
        });
        assert_eq!((at, verdict), (6000, Verdict::Healthy));
    }
}
