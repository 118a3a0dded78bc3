//! The composite action itself, run by a real workflow runner (nektos/act): a pushed tag, and the rollback button.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{App, binary, checkout, dispatch_event, push_event};

on_every_host!(
    by turns:
    a_real_workflow_deploys_and_rolls_back;
);

/// One run of a workflow of `examples/workflows`.
pub(crate) struct Workflow<'a> {
    pub(crate) event: &'a str,
    pub(crate) payload: &'a Value,
    pub(crate) file: &'a str,
    /// Of the directory that it leaves its results in.
    pub(crate) name: &'a str,
}

/// What a workflow left.
pub(crate) struct Results {
    pub(crate) log: String,
    pub(crate) summary: String,
    /// What the action gave out.
    pub(crate) outputs: Value,
    /// The result of each step.
    pub(crate) steps: Value,
}

impl Workflow<'_> {
    fn dir(&self, app: &App) -> PathBuf {
        app.dir.path().join(self.name)
    }

    /// What runs it, with the application's host and its GitHub.
    pub(crate) fn command(&self, app: &App) -> Command {
        let box_ = self.dir(app);
        fs::create_dir_all(&box_).expect("a directory");
        let file = |name: &str, text: &str| -> PathBuf {
            let path = box_.join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let read = |name: &str| fs::read_to_string(app.host.get(name)).expect("the lab's file");
        let secrets = format!(
            "BELAY_SSH_KEY=\"{}\"\nBELAY_KNOWN_HOSTS=\"{}\"\nGITHUB_TOKEN=\"ghs_token\"\n",
            read("LAB_KEY").trim_end(),
            read("LAB_KNOWN_HOSTS").trim_end()
        );
        let mut command = Command::new(checkout().join("tests/action/act_run.sh"));
        command
            .arg(self.event)
            .arg(file("event.json", &self.payload.to_string()))
            .arg(checkout().join("examples/workflows").join(self.file))
            .arg(app.repository())
            .arg(file("secrets", &secrets))
            .arg(binary())
            .arg(box_.join("results"))
            .args(["--env", &format!("GITHUB_API_URL={}", app.github.api_url())]);
        for (name, of) in [
            ("BELAY_HOST", "LAB_HOST"),
            ("BELAY_TEST_PORT", "LAB_PORT"),
            ("BELAY_USER", "LAB_USER"),
        ] {
            command.args(["--var", &format!("{name}={}", app.host.get(of))]);
        }
        command
    }

    /// Once it has ended, however it did.
    pub(crate) fn results(&self, app: &App) -> Results {
        let results = self.dir(app).join("results");
        let read = |name: &str| fs::read_to_string(results.join(name)).unwrap_or_default();
        let json = |name: &str| serde_json::from_str(&read(name)).expect("it is JSON");
        let log = read("log.txt");
        assert!(!log.contains("BEGIN OPENSSH"), "the key is in the log");
        Results {
            log,
            summary: read("summary.md"),
            outputs: json("outputs.json"),
            steps: json("steps.json"),
        }
    }
}

/// Runs a workflow and returns what it came to.
fn act(app: &App, event: &str, payload: &Value, file: &str) -> Results {
    let workflow = Workflow {
        event,
        payload,
        file,
        name: &format!("act-{event}"),
    };
    let status = workflow.command(app).status().expect("the script starts");
    let results = workflow.results(app);
    assert!(status.success(), "act failed:\n{}", results.log);
    app.check(&results.log);
    results
}

fn a_real_workflow_deploys_and_rolls_back(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "");
    app.git(&["checkout", "--quiet", "-B", "main"]);
    let pushed = push_event("v1.1.0", &app.commit_of("v1.1.0"));
    let deployed = act(&app, "push", &pushed, "release.yml");
    is_live(&app, &deployed, "v1.1.0");

    let inputs = json!({
        "command": "rollback", "version": "", "reason": "it forgets", "service": "", "tag": "",
        "environment": "production", "dry-run": "false",
    });
    let asked = dispatch_event(&inputs);
    let back = act(&app, "workflow_dispatch", &asked, "rollback.yml");
    is_live(&app, &back, "v1.0.0");
    assert!(back.summary.contains("it forgets"), "{}", back.summary);

    let opened = crate::checklist::opened(&app);
    let listed = act(&app, "pull_request", &opened, "checklist.yml");
    assert_eq!(listed.outputs["comment-posted"], "true", "{}", listed.log);
    let comments = app.github.look(|world| world.comments.len());
    assert_eq!(comments, 1);
    let tasks: Vec<String> = app.deployments().into_iter().map(|d| d.task).collect();
    assert_eq!(tasks, ["deploy", "deploy", "rollback"]);
}

#[track_caller]
fn is_live(app: &App, results: &Results, tag: &str) {
    let told = (&results.outputs["outcome"], &results.outputs["version"]);
    assert_eq!(told, (&json!("deployed"), &json!(tag)), "{}", results.log);
    assert!(results.summary.contains(tag), "{}", results.summary);
    assert_eq!(app.serving().as_deref(), Some(tag));
}
