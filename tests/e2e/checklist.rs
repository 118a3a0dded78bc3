//! The checklist of a pull request, with what a real host says.

use serde_json::{Value, json};

use crate::fake_github::world::CheckRun;
use crate::lab::{App, REPOSITORY};

on_every_host!(;
    by turns:
    a_pull_requests_comment_says_what_the_host_has,
    without_rights_and_secrets_the_checklist_is_in_the_summary,
);

fn opened(app: &App) -> Value {
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
