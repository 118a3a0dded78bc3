//! The checklist of a pull request, with what a real host says.

use belay_model::reviewing::checklist::Item;
use serde_json::{Value, json};

use crate::fake_github::world::{CheckRun, Pull};
use crate::lab::{App, REPOSITORY, keep_page};

on_every_host!(
    by turns:
    a_release_completes_the_checklists_of_what_is_in_it;
    one run in four:
    a_pull_requests_comment_says_what_the_host_has,
    without_rights_and_secrets_the_checklist_is_in_the_summary;
);

/// The event of an opened pull request.
pub(crate) fn opened(app: &App) -> Value {
    let repository = json!({"full_name": REPOSITORY});
    json!({
        "action": "opened",
        "number": 7,
        "pull_request": {
            "number": 7,
            "title": "A change",
            "state": "open",
            "merged": false,
            "head": {"sha": app.commit_of("HEAD"), "ref": "change", "repo": repository},
            "base": {"ref": "main", "repo": repository},
        },
    })
}

fn bodies(app: &App) -> Vec<String> {
    app.github
        .look(|world| world.comments.iter().map(|c| c.body.clone()).collect())
}

fn is_ticked(page: &str, item: &str) -> bool {
    let line = page
        .lines()
        .find(|line| line.contains(&format!("belay:item={item}")));
    line.expect("the item").starts_with("- [x]")
}

fn a_pull_requests_comment_says_what_the_host_has(mut app: App) {
    app.release("v1.0.0", "");
    let event = opened(&app);
    let first = app.pull_request(&event);
    assert_eq!(
        (first.exit, first.output("comment-posted")),
        (0, "true"),
        "{}",
        first.log
    );
    let page = bodies(&app).remove(0);
    assert!(
        !is_ticked(&page, "endpoints-verified"),
        "nothing serves: {page}"
    );
    assert!(page.contains("could not be reached"), "{page}");

    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.github.change(|world| {
        world
            .reviews
            .push(("ann".to_owned(), "APPROVED".to_owned()));
        world.check_runs.push(CheckRun {
            name: "unit tests".to_owned(),
            conclusion: Some("success".to_owned()),
            details_url: "https://github.com/example/ntplatform/actions/runs/5/job/6".to_owned(),
        });
    });
    let second = app.pull_request(&event);
    assert_eq!(second.exit, 0, "{}", second.log);
    let all = bodies(&app);
    assert_eq!(all.len(), 1, "{all:?}");
    let page = &all[0];
    for item in ["code-reviewed", "backup-confirmed", "endpoints-verified"] {
        assert!(is_ticked(page, item), "{item}: {page}");
    }
    assert!(!is_ticked(page, "version-tagged"), "{page}");
    for words in [
        "`v1.1.0`",
        "`v1.0.1`",
        "back to `v1.0.0`",
        "approved by `ann`",
        "1 of 5 kept",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(
        app.serving().as_deref(),
        Some("v1.0.0"),
        "nothing was deployed"
    );
}

/// Tells the stand-in which commits lie between two versions, either way.
pub(crate) fn compared(app: &App, from: &str, to: &str, commits: &[&str]) {
    let (from, to) = (app.commit_of(from), app.commit_of(to));
    let commits = commits.iter().map(|tag| app.commit_of(tag)).collect();
    app.github.change(|world| {
        world.between.insert(format!("{to}...{from}"), vec![]);
        world.between.insert(format!("{from}...{to}"), commits);
    });
}

fn a_release_completes_the_checklists_of_what_is_in_it(mut app: App) {
    app.release("v1.0.0", "");
    let event = opened(&app);
    app.pull_request(&event);
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "");
    let commit = app.commit_of("v1.1.0");
    app.github.change(|world| {
        world.pulls.push(Pull {
            number: 7,
            title: "A change".to_owned(),
            merged: true,
            head: commit.clone(),
            commits: vec![commit],
        });
        let approved = ("ann".to_owned(), "APPROVED".to_owned());
        world.reviews.push(approved);
    });
    compared(&app, "v1.0.0", "v1.1.0", &["v1.1.0"]);
    let live = app.push("v1.1.0");
    live.ends("deployed", "v1.1.0");
    live.says("the checklist of pull request 7 is completed");
    let page = bodies(&app).remove(0);
    keep_page("checklist.md", &page);
    assert!(
        page.contains("**Live in** `production` **with** `v1.1.0`"),
        "{page}"
    );
    for item in Item::ALL {
        // There is no check, so that it was tested is a person's to say.
        let expected = item != Item::CodeReviewed;
        assert_eq!(is_ticked(&page, item.id()), expected, "{item:?}: {page}");
    }
    // An event of the pull request comes too late to say less.
    let late = app.pull_request(&event);
    assert_eq!(late.exit, 0, "{}", late.log);
    assert_eq!(bodies(&app), std::slice::from_ref(&page));

    app.rollback("").ends("deployed", "v1.0.0");
    let page = bodies(&app).remove(0);
    assert!(page.contains("**Rolled back to** `v1.0.0`"), "{page}");
    assert!(page.contains("It was live with `v1.1.0`"), "{page}");

    app.release("v1.2.0", "bad-after:2500");
    compared(&app, "v1.0.0", "v1.2.0", &["v1.1.0", "v1.2.0"]);
    let undone = app.push("v1.2.0");
    undone.ends("rolled-back", "v1.0.0");
    keep_page("summary-rolled-back.md", &undone.summary);
    let page = bodies(&app).remove(0);
    assert!(
        page.contains("`v1.2.0` **failed in** `production`"),
        "{page}"
    );
    assert!(!is_ticked(&page, "health-passing"), "{page}");

    app.release("v1.3.0", "");
    compared(&app, "v1.0.0", "v1.3.0", &["v1.1.0", "v1.2.0", "v1.3.0"]);
    let live = app.push("v1.3.0");
    live.ends("deployed", "v1.3.0");
    assert!(live.summary.contains("A change"), "{}", live.summary);
    keep_page("summary-deployed.md", &live.summary);
    let deployments = app
        .github
        .look(|world| serde_json::to_string_pretty(&world.deployments));
    keep_page("deployments.json", &deployments.expect("JSON"));
    let all = bodies(&app);
    assert_eq!(all.len(), 1);
    assert!(all[0].contains("**with** `v1.3.0`"), "{}", all[0]);
    assert!(is_ticked(&all[0], "performance-normal"), "{}", all[0]);
}

fn without_rights_and_secrets_the_checklist_is_in_the_summary(mut app: App) {
    app.release("v1.0.0", "");
    app.env.insert("BELAY_SSH_KEY".to_owned(), String::new());
    app.env
        .insert("BELAY_TOKEN".to_owned(), "ghs_read-only".to_owned());
    let event = opened(&app);
    let run = app.pull_request(&event);
    assert_eq!(
        (run.exit, run.output("comment-posted")),
        (0, "false"),
        "{}",
        run.log
    );
    run.says("pull-requests: write");
    assert!(run.summary.contains("gives no SSH key"), "{}", run.summary);
    assert_eq!(bodies(&app), Vec::<String>::new());
}
