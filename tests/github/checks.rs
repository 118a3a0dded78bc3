//! The checks themselves bite: requests that GitHub would refuse or ignore, and answers that it could not give, are
//! noticed, so a stand-in without violations means something.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::contract;
use crate::fake_github::FakeGitHub;

fn segments(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(str::to_owned).collect()
}

/// What is wrong with a request.
fn wrong(
    method: &str,
    path: &str,
    query: &[(&str, &str)],
    body: Option<Value>,
) -> Option<Vec<String>> {
    let query: BTreeMap<String, String> = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Some(contract()?.check_request(method, &segments(path), &query, body.as_ref()))
}

const DEPLOYMENTS: &str = "/repos/octo-org/shop/deployments";
const STATUSES: &str = "/repos/octo-org/shop/deployments/1/statuses";

#[test]
fn requests_that_github_would_refuse_are_noticed() {
    let bad = [
        wrong(
            "POST",
            DEPLOYMENTS,
            &[],
            Some(json!({"environment": "production"})),
        ),
        wrong("POST", DEPLOYMENTS, &[], Some(json!({"ref": 1}))),
        wrong(
            "POST",
            DEPLOYMENTS,
            &[],
            Some(json!({"ref": "x", "required_contexts": "ci"})),
        ),
        wrong(
            "POST",
            DEPLOYMENTS,
            &[],
            Some(json!({"ref": "x", "sha": "ignored by GitHub"})),
        ),
        wrong("POST", DEPLOYMENTS, &[], None),
        wrong("POST", STATUSES, &[], Some(json!({"state": "waiting"}))),
        wrong(
            "POST",
            STATUSES,
            &[],
            Some(json!({"description": "no state"})),
        ),
        wrong(
            "POST",
            "/repos/octo-org/shop/deployments/one/statuses",
            &[],
            Some(json!({"state": "success"})),
        ),
        wrong("GET", DEPLOYMENTS, &[("state", "success")], None),
        wrong("GET", DEPLOYMENTS, &[("per_page", "all")], None),
        wrong("GET", DEPLOYMENTS, &[], Some(json!({}))),
        wrong(
            "POST",
            "/repos/octo-org/shop/issues/comments/1",
            &[],
            Some(json!({"body": "x"})),
        ),
        wrong("GET", "/repos/octo-org/shop/commits/tags/v1.2.0", &[], None),
        wrong("DELETE", "/repos/octo-org/shop", &[], None),
    ];
    for (at, found) in bad.into_iter().enumerate() {
        let Some(found) = found else { return };
        assert!(!found.is_empty(), "bad request {at} was let through");
    }
}

#[test]
fn requests_that_github_would_take_are_let_through() {
    let good = [
        wrong(
            "POST",
            DEPLOYMENTS,
            &[],
            Some(json!({"ref": "x", "payload": {"belay": {}}, "required_contexts": []})),
        ),
        wrong(
            "POST",
            DEPLOYMENTS,
            &[],
            Some(json!({"ref": "x", "payload": "{}", "description": null})),
        ),
        wrong(
            "POST",
            STATUSES,
            &[],
            Some(json!({"state": "success", "log_url": "https://example.com"})),
        ),
        wrong(
            "GET",
            DEPLOYMENTS,
            &[("environment", "production"), ("per_page", "100")],
            None,
        ),
        wrong("GET", "/repos/octo-org/shop/commits/v1.2.0", &[], None),
    ];
    for found in good {
        let Some(found) = found else { return };
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn answers_that_github_could_not_give_are_noticed() {
    let Some(contract) = contract() else { return };
    let answer = |status: u16, body: Value| {
        contract.check_answer("POST", &segments(DEPLOYMENTS), status, &body)
    };
    assert!(!answer(201, json!({"id": 1})).is_empty());
    assert!(!answer(418, json!({})).is_empty());
    assert!(
        answer(
            202,
            json!({"message": "Auto-merged main into v1 on deployment."})
        )
        .is_empty()
    );
}

/// Every route of the stand-in, asked over the wire: its answers are GitHub's.
#[tokio::test]
async fn every_route_answers_as_github_would() {
    let Some(contract) = contract() else { return };
    let fake = FakeGitHub::start(Some(contract), 0, None).expect("a free port");
    let http = reqwest::Client::new();
    let ask = async |method: reqwest::Method, path: &str, body: Option<Value>| {
        let mut request = http
            .request(
                method,
                format!("{}/repos/octo-org/shop/{path}", fake.api_url()),
            )
            .header("user-agent", "belay/test")
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28")
            .bearer_auth("ghs_token");
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.expect("JSON"),
        )
    };
    let order = async |command: &str, body: Value| {
        let sent = http
            .post(format!("{}/_fake/{command}", fake.api_url()))
            .json(&body)
            .send()
            .await;
        assert!(sent.expect("an answer").status().is_success());
    };
    let sha = "1111111111111111111111111111111111111111";
    order(
        "seed",
        json!({"refs": {"tags/v1.0.0": sha}, "runs": {"7": "completed"}}),
    )
    .await;
    use reqwest::Method;
    let explicit = json!({"ref": "v1.0.0", "auto_merge": false, "required_contexts": []});
    assert_eq!(
        ask(Method::POST, "deployments", Some(explicit)).await.1["sha"],
        sha
    );
    let update = json!({"state": "success", "description": "x"});
    assert_eq!(
        ask(Method::POST, "deployments/1/statuses", Some(update))
            .await
            .0,
        201
    );
    assert_eq!(
        ask(Method::GET, "deployments/1/statuses", None).await.1[0]["state"],
        "success"
    );
    assert_eq!(ask(Method::GET, "deployments/1", None).await.1["id"], 1);
    assert_eq!(
        ask(Method::GET, "deployments?environment=production", None)
            .await
            .1[0]["id"],
        1
    );
    assert_eq!(ask(Method::GET, "commits/v1.0.0", None).await.1["sha"], sha);
    assert_eq!(
        ask(Method::GET, "git/matching-refs/tags%2Fv1", None)
            .await
            .1[0]["ref"],
        "refs/tags/v1.0.0"
    );
    assert_eq!(
        ask(Method::GET, "actions/runs/7", None).await.1["status"],
        "completed"
    );
    let (status, comment) = ask(
        Method::POST,
        "issues/3/comments",
        Some(json!({"body": "one"})),
    )
    .await;
    assert_eq!(status, 201);
    let path = format!("issues/comments/{}", comment["id"]);
    assert_eq!(
        ask(Method::PATCH, &path, Some(json!({"body": "two"})))
            .await
            .1["body"],
        "two"
    );
    assert_eq!(
        ask(Method::GET, "issues/3/comments", None).await.1[0]["body"],
        "two"
    );
    assert_eq!(ask(Method::GET, "deployments/99", None).await.0, 404);
    assert_eq!(fake.violations(), Vec::<String>::new());
    order("faults", json!({"status": 503, "times": 1})).await;
    assert_eq!(ask(Method::GET, "deployments/1", None).await.0, 503);
    assert_eq!(
        ask(Method::POST, "deployments", Some(json!({"ref": "v1.0.0"})))
            .await
            .0,
        201
    );
    assert_eq!(
        fake.violations().len(),
        1,
        "auto_merge and required_contexts were left out"
    );
}
