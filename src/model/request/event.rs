//! What woke the workflow: the Actions environment and the webhook payload, read once into one value.
//!
//! Pure, so it runs anywhere: the runner passes in the environment and the parsed payload file. Payloads are read
//! tolerantly (only the fields that decide something are looked at, and every other one may be missing), but what
//! decides is strict: a flag is exactly `true` or `false`, a repository is `owner/name`, a revision is a full
//! hexadecimal one. Texts that people choose (tag, reason, environment) stay unchecked here; [`super::tag`] and the
//! configuration judge them. Fails only when the environment is not that of a workflow run, or when an input cannot
//! mean anything.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

/// The Actions environment, passed in so that nothing here reads the process.
pub type EventVariables = BTreeMap<String, String>;

/// Why a workflow is running, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubEvent {
    /// Where the run comes from.
    pub origin: Origin,
    /// What started it.
    pub trigger: Trigger,
}

/// What happened on GitHub. Branch pushes, issue comments and the rest are [`Trigger::Other`]: known, but not deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A tag was made or moved.
    TagPush(TagPush),
    /// A tag was deleted; nothing follows from that.
    TagDeleted {
        /// Its name, not checked.
        tag: String,
    },
    /// Somebody, or some program, asked for a run.
    Dispatch(Dispatch),
    /// Something happened to a pull request.
    PullRequest(PullRequest),
    /// Anything else.
    Other {
        /// GitHub's name of the event.
        name: String,
        /// Why this event deploys nothing, to be shown to the person who wrote the workflow.
        reason: String,
    },
}

/// A tag that was pushed. Its text comes from outside and is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPush {
    /// Its name, without `refs/tags/`.
    pub tag: String,
    /// The commit: for an annotated tag not the tag object, which is what the payload calls `after`.
    pub sha: String,
    /// The tag existed before and now names another commit.
    pub moved: bool,
}

/// A run started by hand or by another program, with its inputs. Empty inputs count as not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dispatch {
    /// The version or backup to go back to.
    pub rollback: Option<String>,
    /// The version to deploy.
    pub tag: Option<String>,
    /// One of the commands, by its word.
    pub command: Option<String>,
    /// The environment, where no tag decides it.
    pub environment: Option<String>,
    /// Why, in the words of who asked.
    pub reason: Option<String>,
    /// The backup whose data is to be put back.
    pub restore_data: Option<String>,
    /// The environment's name once more, as a person has to type it for some commands.
    pub confirm: Option<String>,
    /// Only to say what would be done.
    pub dry_run: bool,
    /// The commit of the branch or tag that the button was pressed on.
    pub sha: String,
    /// That branch or tag, as `refs/heads/…` or `refs/tags/…`.
    pub ref_: String,
}

impl Dispatch {
    /// The tag that the button was pressed on, when it was a tag.
    #[must_use]
    pub fn tag_of_ref(&self) -> Option<&str> {
        tag_of_ref(&self.ref_)
    }
}

/// A pull request, as far as a deployment tool cares about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// `opened`, `synchronize`, `closed`, …
    pub action: String,
    /// Its author's words; foreign text.
    pub title: String,
    /// Its newest commit.
    pub head_sha: String,
    /// Its own branch.
    pub head_ref: String,
    /// The branch that it is to go into.
    pub base_ref: String,
    /// Neither merged nor closed.
    pub is_open: bool,
    /// It was taken in.
    pub merged: bool,
}

/// Where a run comes from: what a report links to, and what every call to GitHub needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The repository that the workflow is in.
    pub repository: Repository,
    /// The run, as the API knows it.
    pub run_id: u64,
    /// 1, and one more for each time that it is run again.
    pub run_attempt: u32,
    /// The run's page.
    pub run_url: String,
    /// The page of this very job when the runner tells its id, else that of this attempt of the run.
    pub job_url: String,
    /// The login of who started it.
    pub actor: String,
    /// The pages' address: `https://github.com`, or that of an Enterprise server.
    pub server_url: String,
    /// The API's address.
    pub api_url: String,
    /// The commit that the workflow runs on.
    pub sha: String,
    /// The short name of the branch or tag that it runs on.
    pub ref_name: String,
    /// The workflow's name.
    pub workflow: String,
    /// `None` where the payload has no repository.
    pub default_branch: Option<String>,
    /// A pull request from another repository: the token is read-only and there are no secrets.
    pub is_fork: bool,
}

/// `owner/name`, in the characters that GitHub allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// A user or an organisation.
    pub owner: String,
    /// The name below the owner.
    pub name: String,
}

impl Repository {
    /// Reads `owner/name`; nothing that could leave its segment of a path is let through.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let sound = |part: &str| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        (sound(owner) && sound(name)).then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Why the environment or the payload cannot be read as an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// A variable that every run has is not there.
    #[error("could not find {name} in the environment: this is not a GitHub Actions run")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// A value that is not of its kind.
    #[error("could not read {name}: {value:?} is not {expected}")]
    Invalid {
        /// The variable, or the path of a value in the payload.
        name: &'static str,
        /// What is there instead.
        value: String,
        /// What it should be, to follow "is not": `a number`.
        expected: &'static str,
    },
    /// An input that is to be yes or no.
    #[error("could not read the input {name}: {value} is neither \"true\" nor \"false\"")]
    Flag {
        /// Which.
        name: &'static str,
        /// What is there instead.
        value: String,
    },
    /// An input that is to be a text.
    #[error("could not read the input {name}: {value} is not a text")]
    NotText {
        /// Which.
        name: &'static str,
        /// What is there instead.
        value: String,
    },
    /// The event's payload lacks a part.
    #[error("could not find {name} in the payload of the {event} event")]
    Payload {
        /// GitHub's name of the event, as in `on:` of a workflow.
        event: &'static str,
        /// The key that is absent or has the wrong type.
        name: &'static str,
    },
}

impl GitHubEvent {
    /// Reads the environment of the run and the payload of its event (`GITHUB_EVENT_PATH`, parsed).
    pub fn parse(env: &EventVariables, payload: &Value) -> Result<Self, EventError> {
        let origin = Origin::parse(env, payload)?;
        let trigger = match required(env, "GITHUB_EVENT_NAME")? {
            "push" => push(env, payload, &origin.sha)?,
            "workflow_dispatch" => Trigger::Dispatch(dispatch(env, payload, &origin.sha)?),
            "pull_request" | "pull_request_target" | "pull_request_review" => {
                Trigger::PullRequest(pull_request(payload)?)
            }
            name => other(name),
        };
        Ok(Self { origin, trigger })
    }
}

impl Origin {
    fn parse(env: &EventVariables, payload: &Value) -> Result<Self, EventError> {
        let text = required(env, "GITHUB_REPOSITORY")?;
        let repository = Repository::parse(text)
            .ok_or_else(|| invalid("GITHUB_REPOSITORY", text, "of the form owner/name"))?;
        let run_id = number::<u64>("GITHUB_RUN_ID", required(env, "GITHUB_RUN_ID")?)?;
        let run_attempt = match optional(env, "GITHUB_RUN_ATTEMPT") {
            Some(text) => number::<u32>("GITHUB_RUN_ATTEMPT", text)?,
            None => 1,
        };
        let server_url = base_url(env, "GITHUB_SERVER_URL", "https://github.com")?;
        let api_url = base_url(env, "GITHUB_API_URL", "https://api.github.com")?;
        let run_url = format!("{server_url}/{repository}/actions/runs/{run_id}");
        Ok(Self {
            job_url: job_url(
                &run_url,
                optional(env, "BELAY_JOB_CHECK_RUN_ID"),
                run_attempt,
            ),
            sha: revision("GITHUB_SHA", required(env, "GITHUB_SHA")?)?,
            actor: owned(env, "GITHUB_ACTOR"),
            ref_name: owned(env, "GITHUB_REF_NAME"),
            workflow: owned(env, "GITHUB_WORKFLOW"),
            default_branch: text_at(payload, "/repository/default_branch").map(str::to_owned),
            is_fork: is_fork(payload),
            repository,
            run_id,
            run_attempt,
            run_url,
            server_url,
            api_url,
        })
    }
}

/// The runner tells the job's id only behind a feature flag, so everything that is not a plain number is left unused.
fn job_url(run_url: &str, check_run_id: Option<&str>, attempt: u32) -> String {
    match check_run_id {
        Some(id) if id.bytes().all(|byte| byte.is_ascii_digit()) => format!("{run_url}/job/{id}"),
        _ => format!("{run_url}/attempts/{attempt}"),
    }
}

/// A head repository that is gone (`null`) was a fork: the base repository is where the workflow runs.
fn is_fork(payload: &Value) -> bool {
    if payload.get("pull_request").is_none() {
        return false;
    }
    let head = text_at(payload, "/pull_request/head/repo/full_name");
    let base = text_at(payload, "/pull_request/base/repo/full_name");
    head.is_none() || head != base
}

fn push(env: &EventVariables, payload: &Value, run_sha: &str) -> Result<Trigger, EventError> {
    let ref_ = text_at(payload, "/ref")
        .or_else(|| optional(env, "GITHUB_REF"))
        .ok_or(EventError::Payload {
            event: "push",
            name: "ref",
        })?;
    let Some(tag) = tag_of_ref(ref_) else {
        let branch = ref_.strip_prefix("refs/heads/").unwrap_or(ref_);
        return Ok(Trigger::Other {
            name: "push".to_owned(),
            reason: format!(
                "a push to the branch {branch} deploys nothing; only a pushed tag does"
            ),
        });
    };
    let tag = tag.to_owned();
    if payload.get("deleted").and_then(Value::as_bool) == Some(true) {
        return Ok(Trigger::TagDeleted { tag });
    }
    let existed =
        text_at(payload, "/before").is_some_and(|before| !before.bytes().all(|byte| byte == b'0'));
    let forced = payload.get("forced").and_then(Value::as_bool) == Some(true);
    let sha = text_at(payload, "/head_commit/id").unwrap_or(run_sha);
    Ok(Trigger::TagPush(TagPush {
        tag,
        sha: revision("head_commit.id", sha)?,
        moved: existed || forced,
    }))
}

fn dispatch(env: &EventVariables, payload: &Value, run_sha: &str) -> Result<Dispatch, EventError> {
    let ref_ = text_at(payload, "/ref")
        .or_else(|| optional(env, "GITHUB_REF"))
        .ok_or(EventError::Payload {
            event: "workflow_dispatch",
            name: "ref",
        })?;
    let inputs = payload.get("inputs").unwrap_or(&Value::Null);
    Ok(Dispatch {
        rollback: input(inputs, "rollback")?,
        tag: input(inputs, "tag")?,
        command: input(inputs, "command")?,
        environment: input(inputs, "environment")?,
        reason: input(inputs, "reason")?,
        restore_data: input(inputs, "restore-data")?,
        confirm: input(inputs, "confirm")?,
        dry_run: flag(inputs, "dry-run")? || flag(inputs, "dry_run")?,
        sha: run_sha.to_owned(),
        ref_: ref_.to_owned(),
    })
}

fn pull_request(payload: &Value) -> Result<PullRequest, EventError> {
    let missing = |name| EventError::Payload {
        event: "pull_request",
        name,
    };
    let number = payload
        .pointer("/pull_request/number")
        .or_else(|| payload.get("number"));
    let text = |path| text_at(payload, path).unwrap_or_default().to_owned();
    Ok(PullRequest {
        number: number
            .and_then(Value::as_u64)
            .ok_or_else(|| missing("number"))?,
        action: text("/action"),
        title: text("/pull_request/title"),
        head_sha: revision(
            "pull_request.head.sha",
            text_at(payload, "/pull_request/head/sha")
                .ok_or_else(|| missing("pull_request.head.sha"))?,
        )?,
        head_ref: text("/pull_request/head/ref"),
        base_ref: text("/pull_request/base/ref"),
        is_open: text("/pull_request/state") != "closed",
        merged: payload
            .pointer("/pull_request/merged")
            .and_then(Value::as_bool)
            == Some(true),
    })
}

fn other(name: &str) -> Trigger {
    let reason = match name {
        "create" | "release" => {
            format!(
                "the event {name} deploys nothing; let the workflow run `on: push: tags:` instead"
            )
        }
        _ => {
            format!("the event {name} deploys nothing; only a pushed tag or workflow_dispatch does")
        }
    };
    Trigger::Other {
        name: name.to_owned(),
        reason,
    }
}

fn tag_of_ref(ref_: &str) -> Option<&str> {
    ref_.strip_prefix("refs/tags/")
}

/// An input of `workflow_dispatch`. GitHub sends texts; a form that was left empty sends the empty one.
fn input(inputs: &Value, name: &'static str) -> Result<Option<String>, EventError> {
    match inputs.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim())
            .filter(|text| !text.is_empty())
            .map(str::to_owned)),
        Some(other) => Err(EventError::NotText {
            name,
            value: other.to_string(),
        }),
    }
}

/// Strict on purpose: a dry run that was asked for as `True` or `yes` must not become a real one.
fn flag(inputs: &Value, name: &'static str) -> Result<bool, EventError> {
    match inputs.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text == "true" => Ok(true),
        Some(Value::String(text)) if text == "false" || text.is_empty() => Ok(false),
        Some(other) => Err(EventError::Flag {
            name,
            value: other.to_string(),
        }),
    }
}

fn text_at<'a>(payload: &'a Value, path: &str) -> Option<&'a str> {
    payload.pointer(path).and_then(Value::as_str)
}

/// The runner sets some variables to the empty text rather than leaving them out.
fn optional<'a>(env: &'a EventVariables, name: &str) -> Option<&'a str> {
    env.get(name)
        .map(String::as_str)
        .filter(|text| !text.is_empty())
}

fn required<'a>(env: &'a EventVariables, name: &'static str) -> Result<&'a str, EventError> {
    optional(env, name).ok_or(EventError::Missing { name })
}

fn owned(env: &EventVariables, name: &str) -> String {
    optional(env, name).unwrap_or_default().to_owned()
}

fn number<N: std::str::FromStr>(name: &'static str, text: &str) -> Result<N, EventError> {
    text.parse().map_err(|_| invalid(name, text, "a number"))
}

fn revision(name: &'static str, text: &str) -> Result<String, EventError> {
    let full = text.len() == 40 || text.len() == 64;
    if full
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        return Ok(text.to_owned());
    }
    Err(invalid(name, text, "a full revision"))
}

/// Enterprise servers and data residency have their own addresses, and none may be derived from another.
fn base_url(env: &EventVariables, name: &'static str, usual: &str) -> Result<String, EventError> {
    let text = optional(env, name).unwrap_or(usual).trim_end_matches('/');
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = |host: &str| {
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match host {
        Some(host) if plain(host) => Ok(text.to_owned()),
        _ => Err(invalid(name, text, "an http(s) address")),
    }
}

fn invalid(name: &'static str, value: &str, expected: &'static str) -> EventError {
    EventError::Invalid {
        name,
        value: value.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHA: &str = "6113728f27ae82c7b1a177c8d03f9e96e0adf246";
    const OTHER_SHA: &str = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e";
    const ZEROS: &str = "0000000000000000000000000000000000000000";

    fn env(event: &str) -> EventVariables {
        [
            ("GITHUB_EVENT_NAME", event),
            ("GITHUB_REPOSITORY", "octo-org/shop"),
            ("GITHUB_RUN_ID", "1658821493"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_SHA", SHA),
            ("GITHUB_REF", "refs/tags/v1.2.0"),
            ("GITHUB_REF_NAME", "v1.2.0"),
            ("GITHUB_ACTOR", "octocat"),
            ("GITHUB_WORKFLOW", "release"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    fn trigger(event: &str, payload: &Value) -> Trigger {
        GitHubEvent::parse(&env(event), payload)
            .expect("a readable event")
            .trigger
    }

    fn tag_push(payload: &Value) -> TagPush {
        match trigger("push", payload) {
            Trigger::TagPush(push) => push,
            other => panic!("not a tag push: {other:?}"),
        }
    }

    fn dispatched(inputs: Value) -> Result<Dispatch, EventError> {
        let payload = json!({"ref": "refs/heads/main", "inputs": inputs});
        match GitHubEvent::parse(&env("workflow_dispatch"), &payload)?.trigger {
            Trigger::Dispatch(dispatch) => Ok(dispatch),
            other => panic!("not a dispatch: {other:?}"),
        }
    }

    #[test]
    fn a_new_tag_is_a_tag_push_that_did_not_move() {
        let push = tag_push(
            &json!({"ref": "refs/tags/v1.2.0", "before": ZEROS, "head_commit": {"id": SHA}}),
        );
        assert_eq!(
            push,
            TagPush {
                tag: "v1.2.0".into(),
                sha: SHA.into(),
                moved: false
            }
        );
    }

    #[test]
    fn a_tag_that_existed_before_has_moved() {
        assert!(tag_push(&json!({"ref": "refs/tags/v1.2.0", "before": OTHER_SHA})).moved);
        assert!(
            tag_push(&json!({"ref": "refs/tags/v1.2.0", "before": ZEROS, "forced": true})).moved
        );
    }

    #[test]
    fn an_annotated_tag_gives_the_commit_and_not_the_tag_object() {
        let payload =
            json!({"ref": "refs/tags/v1.2.0", "after": OTHER_SHA, "head_commit": {"id": SHA}});
        assert_eq!(tag_push(&payload).sha, SHA);
        let payload = json!({"ref": "refs/tags/v1.2.0", "after": OTHER_SHA, "head_commit": null});
        assert_eq!(
            tag_push(&payload).sha,
            SHA,
            "without a head commit the run's own revision counts"
        );
    }

    #[test]
    fn a_hostile_tag_is_passed_on_unread() {
        let push = tag_push(&json!({"ref": "refs/tags/refs/tags/$(id)\n::error::x"}));
        assert_eq!(push.tag, "refs/tags/$(id)\n::error::x");
    }

    #[test]
    fn a_deleted_tag_deploys_nothing() {
        let payload =
            json!({"ref": "refs/tags/v1.2.0", "before": SHA, "after": ZEROS, "deleted": true});
        assert_eq!(
            trigger("push", &payload),
            Trigger::TagDeleted {
                tag: "v1.2.0".into()
            }
        );
    }

    #[test]
    fn a_branch_push_says_why_it_deploys_nothing() {
        let Trigger::Other { name, reason } = trigger("push", &json!({"ref": "refs/heads/main"}))
        else {
            panic!("a branch push was taken for something else");
        };
        assert_eq!(name, "push");
        assert!(reason.contains("branch main"), "{reason}");
    }

    #[test]
    fn dispatch_inputs_are_read_and_empty_ones_are_not_given() {
        let inputs = json!({"rollback": "v1.1.0", "tag": "", "reason": " slow ", "dry-run": "true", "mine": "x"});
        let dispatch = dispatched(inputs).expect("readable");
        assert_eq!(dispatch.rollback.as_deref(), Some("v1.1.0"));
        assert_eq!(dispatch.tag, None);
        assert_eq!(dispatch.reason.as_deref(), Some("slow"));
        assert!(dispatch.dry_run);
        assert_eq!(dispatch.sha, SHA);
    }

    #[test]
    fn dispatch_without_inputs_is_empty() {
        for inputs in [json!(null), json!({})] {
            let dispatch = dispatched(inputs).expect("readable");
            assert_eq!((dispatch.rollback, dispatch.dry_run), (None, false));
        }
    }

    #[test]
    fn a_flag_that_is_not_exactly_true_or_false_is_refused() {
        for value in [
            json!("True"),
            json!("yes"),
            json!("1"),
            json!(1),
            json!(" true"),
            json!([]),
        ] {
            let refused = dispatched(json!({"dry-run": value}));
            assert!(
                matches!(
                    refused,
                    Err(EventError::Flag {
                        name: "dry-run",
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
        assert!(
            dispatched(json!({"dry_run": true}))
                .expect("readable")
                .dry_run
        );
        assert!(
            !dispatched(json!({"dry-run": "false"}))
                .expect("readable")
                .dry_run
        );
    }

    #[test]
    fn an_input_that_is_not_a_text_is_refused() {
        assert!(matches!(
            dispatched(json!({"tag": {"a": 1}})),
            Err(EventError::NotText { name: "tag", .. })
        ));
    }

    #[test]
    fn a_dispatch_on_a_tag_names_it() {
        let dispatch = Dispatch {
            ref_: "refs/tags/v1.2.0".into(),
            ..Dispatch::default()
        };
        assert_eq!(dispatch.tag_of_ref(), Some("v1.2.0"));
        assert_eq!(
            Dispatch {
                ref_: "refs/heads/v1.2.0".into(),
                ..Dispatch::default()
            }
            .tag_of_ref(),
            None
        );
    }

    #[test]
    fn a_pull_request_from_another_or_a_deleted_repository_is_a_fork() {
        let pull = |head: Value| {
            json!({"number": 7, "pull_request": {"head": {"sha": SHA, "repo": head},
                                        "base": {"repo": {"full_name": "octo-org/shop"}}}})
        };
        let is_fork = |payload: &Value| {
            GitHubEvent::parse(&env("pull_request"), payload)
                .expect("readable")
                .origin
                .is_fork
        };
        assert!(is_fork(&pull(json!({"full_name": "guest/shop"}))));
        assert!(is_fork(&pull(json!(null))));
        assert!(!is_fork(&pull(json!({"full_name": "octo-org/shop"}))));
        let bare = json!({"number": 7, "pull_request": {"head": {"sha": SHA}}});
        assert!(is_fork(&bare), "what cannot be told apart has no secrets");
    }

    #[test]
    fn the_job_is_linked_when_its_id_is_known() {
        let mut env = env("schedule");
        let url = |env: &EventVariables| {
            GitHubEvent::parse(env, &json!({}))
                .expect("readable")
                .origin
                .job_url
        };
        let run = "https://github.com/octo-org/shop/actions/runs/1658821493";
        assert_eq!(url(&env), format!("{run}/attempts/2"));
        env.insert("BELAY_JOB_CHECK_RUN_ID".into(), "399444496".into());
        assert_eq!(url(&env), format!("{run}/job/399444496"));
        env.insert("BELAY_JOB_CHECK_RUN_ID".into(), "1/../../evil".into());
        assert_eq!(url(&env), format!("{run}/attempts/2"));
    }

    #[test]
    fn an_enterprise_server_keeps_its_own_addresses() {
        let mut env = env("schedule");
        env.insert(
            "GITHUB_SERVER_URL".into(),
            "https://git.example.com/".into(),
        );
        env.insert(
            "GITHUB_API_URL".into(),
            "https://git.example.com/api/v3/".into(),
        );
        let origin = GitHubEvent::parse(&env, &json!({}))
            .expect("readable")
            .origin;
        assert_eq!(origin.api_url, "https://git.example.com/api/v3");
        assert!(
            origin
                .run_url
                .starts_with("https://git.example.com/octo-org/shop/actions/runs/")
        );
    }

    #[test]
    fn an_environment_that_is_not_of_a_run_is_refused_by_name() {
        for name in [
            "GITHUB_EVENT_NAME",
            "GITHUB_REPOSITORY",
            "GITHUB_RUN_ID",
            "GITHUB_SHA",
        ] {
            let mut env = env("push");
            env.insert(name.to_owned(), String::new());
            assert_eq!(
                GitHubEvent::parse(&env, &json!({})),
                Err(EventError::Missing { name })
            );
        }
    }

    #[test]
    fn broken_values_of_the_environment_are_refused() {
        let broken = [
            ("GITHUB_REPOSITORY", "octo-org"),
            ("GITHUB_REPOSITORY", "octo-org/../x"),
            ("GITHUB_REPOSITORY", "a/b/c"),
            ("GITHUB_REPOSITORY", "octo-org/.."),
            ("GITHUB_RUN_ID", "12x"),
            ("GITHUB_RUN_ATTEMPT", "-1"),
            ("GITHUB_SHA", "main"),
            ("GITHUB_SHA", "6113728"),
            ("GITHUB_API_URL", "ftp://example.com"),
            ("GITHUB_SERVER_URL", "https://"),
        ];
        for (name, value) in broken {
            let mut env = env("push");
            env.insert(name.to_owned(), value.to_owned());
            let read = GitHubEvent::parse(&env, &json!({"ref": "refs/tags/v1.0.0"}));
            assert!(
                matches!(read, Err(EventError::Invalid { name: wrong, .. }) if wrong == name),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn other_events_say_what_would_deploy() {
        for name in ["schedule", "release", "create", "issue_comment"] {
            let Trigger::Other { name: read, reason } = trigger(name, &json!({})) else {
                panic!("{name}")
            };
            assert_eq!(read, name);
            assert!(reason.contains("deploys nothing"), "{reason}");
        }
    }
}
