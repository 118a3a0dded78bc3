//! The composite action itself, run by a real workflow runner (nektos/act): a pushed tag, and the rollback button.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{App, binary, checkout, dispatch_event, push_event};

/// Runs a workflow and returns what the action gave out.
fn act(app: &App, event: &str, payload: &Value, workflow: &str) -> Value {
    let box_ = app.dir.path().join(format!("act-{event}"));
    fs::create_dir_all(&box_).expect("a directory");
    let file = |name: &str, text: &str| -> PathBuf {
        let path = box_.join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let read = |name: &str| fs::read_to_string(app.host.get(name)).expect("the lab's file");
    let secrets = format!(
        "BELAY_TEST_SSH_KEY=\"{}\"\nBELAY_TEST_KNOWN_HOSTS=\"{}\"\nGITHUB_TOKEN=\"ghs_token\"\n",
        read("LAB_KEY").trim_end(),
        read("LAB_KNOWN_HOSTS").trim_end()
    );
    let results = box_.join("results");
    let status = Command::new(checkout().join("tests/action/act_run.sh"))
        .arg(event)
        .arg(file("event.json", &payload.to_string()))
        .arg(checkout().join("tests/action/workflows").join(workflow))
        .arg(app.repository())
        .arg(file("secrets", &secrets))
        .arg(binary())
        .arg(&results)
        .args([
            "--var",
            &format!("BELAY_TEST_HOST={}", app.host.get("LAB_HOST")),
        ])
        .args([
            "--var",
            &format!("BELAY_TEST_PORT={}", app.host.get("LAB_PORT")),
        ])
        .args([
            "--var",
            &format!("BELAY_TEST_USER={}", app.host.get("LAB_USER")),
        ])
        .args(["--env", &format!("GITHUB_API_URL={}", app.github.api_url())])
        .status()
        .expect("the script starts");
    let result = |name: &str| fs::read_to_string(results.join(name)).unwrap_or_default();
    assert!(status.success(), "act failed:\n{}", result("log.txt"));
    assert!(
        !result("log.txt").contains("BEGIN OPENSSH"),
        "the key is in the log"
    );
    app.check(&result("log.txt"));
    assert!(!result("summary.md").is_empty());
    serde_json::from_str(&result("outputs.json")).expect("the outputs are JSON")
}

#[test]
fn a_real_workflow_deploys_and_rolls_back() {
    let Some(mut app) = App::start("a_real_workflow_deploys_and_rolls_back") else {
        return;
    };
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "");
    app.git(&["checkout", "--quiet", "-B", "main"]);
    let pushed = push_event("v1.1.0", &app.commit_of("v1.1.0"));
    let deployed = act(&app, "push", &pushed, "push.yml");
    assert_eq!(
        (&deployed["outcome"], &deployed["version"]),
        (&json!("deployed"), &json!("v1.1.0")),
        "{deployed:#}"
    );
    assert_eq!(app.serving().as_deref(), Some("v1.1.0"));

    let inputs = json!({
        "command": "rollback", "rollback": "", "tag": "", "environment": "production", "dry-run": "false",
    });
    let back = act(
        &app,
        "workflow_dispatch",
        &dispatch_event(&inputs),
        "dispatch.yml",
    );
    assert_eq!(
        (&back["outcome"], &back["version"]),
        (&json!("deployed"), &json!("v1.0.0")),
        "{back:#}"
    );
    assert_eq!(app.serving().as_deref(), Some("v1.0.0"));
    let tasks: Vec<String> = app.deployments().into_iter().map(|d| d.task).collect();
    assert_eq!(tasks, ["deploy", "deploy", "rollback"]);
}
