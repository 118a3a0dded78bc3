//! The main job: pushed tags are deployed, the button goes back, and GitHub is told.

use serde_json::json;

use crate::fake_github::world::Deployment;
use crate::lab::{App, ROOT};
use crate::recording::is_as_recorded;

on_every_host!(
    by turns:
    tags_are_deployed_and_the_button_goes_back,
    what_is_not_new_is_refused_or_left;
    one run in four:
    a_tag_that_is_moved_on_its_way_is_refused;
);

fn tags_are_deployed_and_the_button_goes_back(mut app: App) {
    let addr = app.addr();
    app.edit("belay.yml", |text| {
        let public = format!("health:\n  public: http://{addr}/api/status\n");
        text.replace("health:\n", &public)
    });
    app.release("v1.0.0", "");
    let first = app.push("v1.0.0");
    first.ends("deployed", "v1.0.0");
    is_as_recorded(&app, "first");
    assert_eq!(first.output("previous-version"), "");
    assert_eq!(first.output("rolled-back"), "false");
    assert_eq!(first.output("revision"), app.commit_of("v1.0.0"));

    app.release("v1.1.0", "");
    let next = app.push("v1.1.0");
    next.ends("deployed", "v1.1.0");
    assert_eq!(next.output("previous-version"), "v1.0.0");
    assert!(next.output("backup").starts_with("backup_"), "{}", next.log);
    assert!(next.summary.contains("v1.1.0") && next.summary.contains("v1.0.0"));
    // As users see it, through the host's own port.
    let seen = "Downtime at the public URL | 0 of ";
    assert!(next.summary.contains(seen), "{}", next.summary);

    app.release("v1.1.1", "");
    app.push("v1.1.1").ends("deployed", "v1.1.1");
    let hotfix_backup = next.output("backup").to_owned();

    // Back to the version before; once more is not one too far.
    app.rollback("").ends("deployed", "v1.1.0");
    app.rollback("").ends("unchanged", "v1.1.0");
    // To a version by its name, and to what served when a backup was taken.
    app.rollback("v1.1.1").ends("deployed", "v1.1.1");
    app.rollback(&hotfix_backup).ends("deployed", "v1.0.0");

    let deployments = app.deployments();
    let told: Vec<_> = deployments
        .iter()
        .map(|d| {
            let states = app.states(d);
            let first = states.first().cloned().unwrap_or_default();
            let last = states.last().cloned().unwrap_or_default();
            assert!(states.contains(&"success".to_owned()), "{states:?}");
            (d.ref_.as_str(), d.task.as_str(), first, last)
        })
        .collect();
    let tasks: Vec<&str> = told.iter().map(|(_, task, _, _)| *task).collect();
    assert_eq!(
        tasks,
        [
            "deploy", "deploy", "deploy", "rollback", "rollback", "rollback"
        ],
        "{told:?}"
    );
    for (_, _, first, last) in &told[..told.len() - 1] {
        assert_eq!(
            (first.as_str(), last.as_str()),
            ("in_progress", "inactive"),
            "{told:?}"
        );
    }
    assert_eq!(
        told.last().map(|t| t.3.as_str()),
        Some("success"),
        "{told:?}"
    );
}

fn what_is_not_new_is_refused_or_left(mut app: App) {
    app.release("v1.0.0", "");
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    let before = app.host.run(&format!(
        "cd {ROOT} && find . -path ./.belay/bin -prune -o -type f -print | sort"
    ));
    app.push("v1.1.0").ends("unchanged", "v1.1.0");
    app.push("v1.0.0")
        .ends("refused", "v1.1.0")
        .says("rollback");
    // A deployment by hand of something that is no version.
    app.press(json!({"command": "deploy", "tag": "v1.2"}))
        .ends("refused", "v1.1.0");
    app.press(json!({"command": "deploy", "tag": "v1.2.0$(id)"}))
        .ends("refused", "v1.1.0");
    app.press(json!({"command": "deploy", "tag": "v9.0.0"}))
        .ends("refused", "v1.1.0");
    app.rollback("v0.9.0").ends("refused", "v1.1.0");
    // A hotfix of a release that does not exist.
    app.release("v1.4.1", "");
    app.push("v1.4.1").ends("refused", "v1.1.0");
    let after = app.host.run(&format!(
        "cd {ROOT} && find . -path ./.belay/bin -prune -o -type f -print | sort"
    ));
    assert_eq!(before, after);
    for deployment in app.deployments() {
        let last = deployment
            .statuses
            .last()
            .map(|s| s.state.clone())
            .unwrap_or_default();
        assert!(
            !["in_progress", "queued", "pending", ""].contains(&last.as_str()),
            "{deployment:?}"
        );
    }
}

fn a_tag_that_is_moved_on_its_way_is_refused(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "");
    let running = app.begin_push("v1.1.0");
    // While the run builds, somebody has pushed the tag again, for another commit.
    app.github.change(|world| {
        let other = "f".repeat(40);
        world.refs.insert("tags/v1.1.0".to_owned(), other);
    });
    let run = app.wait(running);
    run.ends("refused", "v1.0.0").says("v1.1.0 was moved from");
    let words = app.github.look(|world| {
        let statuses = |row: &Deployment| row.statuses.iter().map(|s| s.state.clone()).collect();
        let newest = world.deployments.iter().rev().take(2).map(statuses);
        newest.collect::<Vec<Vec<String>>>()
    });
    assert_eq!(
        words[0].last().map(String::as_str),
        Some("failure"),
        "{words:?}"
    );
    assert_eq!(
        words[1].last().map(String::as_str),
        Some("success"),
        "{words:?}"
    );
    // The same commit under a tag of its own is deployed.
    app.release("v1.1.1", "");
    app.push("v1.1.1").ends("deployed", "v1.1.1");
}
