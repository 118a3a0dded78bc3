//! Events read from payloads that GitHub really sent. Where no example exists (inputs of a dispatch, an annotated or
//! moved tag, a fork), the nearest one is changed in the one place that matters.

use std::collections::BTreeMap;
use std::path::Path;

use belay_model::request::event::{GitHubEvent, Trigger};
use serde_json::{Value, json};

use crate::found;

fn examples(event: &str) -> Option<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/github/node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    let bytes = found(std::fs::read(&path), &path)?;
    let all: Vec<Value> = serde_json::from_slice(&bytes).expect("the examples are JSON");
    let of_event = all
        .iter()
        .find(|entry| entry["name"] == event)
        .expect("the event has examples");
    of_event["examples"].as_array().cloned()
}

fn env(event: &str, sha: &str) -> BTreeMap<String, String> {
    [
        ("GITHUB_EVENT_NAME", event),
        ("GITHUB_REPOSITORY", "octo-org/octo-repo"),
        ("GITHUB_RUN_ID", "1658821493"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_SHA", sha),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

const SHA: &str = "6113728f27ae82c7b1a177c8d03f9e96e0adf246";

fn read(event: &str, payload: &Value) -> GitHubEvent {
    GitHubEvent::parse(&env(event, SHA), payload).expect("a real payload is readable")
}

#[test]
fn every_real_push_is_read() {
    let Some(pushes) = examples("push") else {
        return;
    };
    for payload in pushes {
        let is_tag = payload["ref"]
            .as_str()
            .is_some_and(|ref_| ref_.starts_with("refs/tags/"));
        let trigger = read("push", &payload).trigger;
        match (is_tag, payload["deleted"] == true) {
            (true, false) => assert!(matches!(trigger, Trigger::TagPush(_)), "{trigger:?}"),
            (true, true) => assert!(matches!(trigger, Trigger::TagDeleted { .. }), "{trigger:?}"),
            (false, _) => assert!(matches!(trigger, Trigger::Other { .. }), "{trigger:?}"),
        }
    }
}

#[test]
fn a_real_tag_push_gives_tag_and_commit() {
    let Some(mut pushes) = examples("push") else {
        return;
    };
    let new_tag =
        |payload: &Value| payload["created"] == true && payload["ref"] == "refs/tags/simple-tag";
    pushes.retain(new_tag);
    let mut payload = pushes.pop().expect("an example of a new tag");
    let pushed = |payload: &Value| match read("push", payload).trigger {
        Trigger::TagPush(push) => push,
        other => panic!("not a tag push: {other:?}"),
    };
    let push = pushed(&payload);
    assert_eq!(
        (push.tag.as_str(), push.sha.as_str(), push.moved),
        ("simple-tag", SHA, false)
    );
    assert_eq!(
        read("push", &payload).origin.default_branch.as_deref(),
        Some("master")
    );
    payload["forced"] = json!(true);
    assert!(pushed(&payload).moved);
    payload["after"] = json!("f95f852bd8fca8fcc58a9a2d6c842781e32a215e");
    assert_eq!(
        pushed(&payload).sha,
        SHA,
        "an annotated tag gives its commit"
    );
}

#[test]
fn real_dispatches_are_read_with_and_without_inputs() {
    let Some(dispatches) = examples("workflow_dispatch") else {
        return;
    };
    for mut payload in dispatches {
        let Trigger::Dispatch(empty) = read("workflow_dispatch", &payload).trigger else {
            panic!("not a dispatch")
        };
        assert_eq!(
            (empty.rollback, empty.tag, empty.dry_run),
            (None, None, false)
        );
        payload["inputs"] =
            json!({"rollback": "v1.1.0", "dry-run": "true", "reason": "checkout is slow"});
        let Trigger::Dispatch(given) = read("workflow_dispatch", &payload).trigger else {
            panic!("not a dispatch")
        };
        assert_eq!(given.rollback.as_deref(), Some("v1.1.0"));
        assert!(given.dry_run);
    }
}

#[test]
fn every_real_pull_request_is_read() {
    let Some(pulls) = examples("pull_request") else {
        return;
    };
    for mut payload in pulls {
        let event = read("pull_request", &payload);
        let Trigger::PullRequest(pull) = &event.trigger else {
            panic!("not a pull request")
        };
        assert_eq!(Some(pull.number), payload["number"].as_u64());
        assert!(!event.origin.is_fork);
        payload["pull_request"]["head"]["repo"]["full_name"] = json!("guest/octo-repo");
        assert!(read("pull_request", &payload).origin.is_fork);
    }
}

#[test]
fn every_other_real_payload_deploys_nothing() {
    for event in [
        "create",
        "delete",
        "release",
        "issue_comment",
        "deployment_status",
        "check_run",
    ] {
        let Some(payloads) = examples(event) else {
            return;
        };
        for payload in payloads {
            assert!(
                matches!(read(event, &payload).trigger, Trigger::Other { .. }),
                "{event}"
            );
        }
    }
}
