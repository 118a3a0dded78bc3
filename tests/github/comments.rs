//! The one comment on a pull request: made once, changed only when it says something else, with people's ticks and words.

use std::sync::Mutex;

use belay_model::reviewing::checklist::{Item, ItemJudge, boxes, mark, tick};
use belay_model::reviewing::sticky::{Around, Mark, compose};
use belay_runner::github::{CommentChange, GitHubClient, GitHubError, RetryPolicy, Sticky};

use crate::fake_github::world::{Comment, Fault};
use crate::ledger::Stage;

const PULL_REQUEST: u64 = 7;

fn sticky(run: u64) -> Sticky {
    Sticky {
        pull_request: PULL_REQUEST,
        environment: "production".to_owned(),
        run,
        author: None,
        is_release: false,
    }
}

/// A comment with one box of a person's, whose tick stands for `what`.
fn says(what: &'static str) -> impl Fn(Option<&str>) -> Option<String> + Sync {
    move |old| {
        let (item, judge) = (Item::LogsReviewed, ItemJudge::Person(what.to_owned()));
        let tick = tick(item, &judge, &old.map(boxes).unwrap_or_default());
        let sign = if tick.is_ticked { 'x' } else { ' ' };
        Some(format!(
            "## Checklist\n\n- [{sign}] {} {what}",
            mark(item, &judge, tick)
        ))
    }
}

/// A comment that is there already.
fn planted(stage: &Stage, author: &str, body: &str) {
    stage.fake.change(|world| {
        let id = 500 + world.comments.len() as u64;
        world.comments.push(Comment {
            id,
            repository: "octo-org/shop".to_owned(),
            issue: PULL_REQUEST,
            body: body.to_owned(),
            author: author.to_owned(),
            edits: 0,
            created_at: "2026-11-01T00:00:00Z".to_owned(),
        });
    });
}

fn comments(stage: &Stage) -> Vec<Comment> {
    stage.fake.look(|world| world.comments.clone())
}

fn marked(run: u64, text: &str) -> String {
    let mark = Mark {
        environment: "production".to_owned(),
        run,
        revision: 1,
        is_release: false,
    };
    compose(&mark, text, &Around::default())
}

#[tokio::test]
async fn it_is_made_once_and_changed_only_when_it_says_something_else() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    let kept = client.keep_comment(&sticky(1), &says("a")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Written);
    let kept = client.keep_comment(&sticky(2), &says("a")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Unchanged);
    let kept = client.keep_comment(&sticky(3), &says("b")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Written);
    let all = comments(&stage);
    assert_eq!((all.len(), all[0].edits), (1, 1), "{all:?}");
    let mark = Mark::read(&all[0].body).expect("ours");
    assert_eq!((mark.run, mark.revision), (3, 2));
    stage.assert_lawful();
}

#[tokio::test]
async fn ticks_and_words_of_people_stay() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    client
        .keep_comment(&sticky(1), &says("a"))
        .await
        .expect("kept");
    stage.fake.change(|world| {
        let body = &mut world.comments[0].body;
        *body =
            format!("{}\n\nMind the database!", body.replace("[ ]", "[x]")).replace('\n', "\r\n");
    });
    let kept = client.keep_comment(&sticky(2), &says("a")).await;
    assert_eq!(
        kept.expect("kept"),
        CommentChange::Unchanged,
        "the tick stands for the same"
    );
    client
        .keep_comment(&sticky(3), &says("b"))
        .await
        .expect("kept");
    let body = &comments(&stage)[0].body;
    assert!(
        body.contains("- [ ]") && body.contains("taken-back"),
        "{body}"
    );
    assert!(body.ends_with("Mind the database!"), "{body}");
}

#[tokio::test]
async fn of_two_that_were_made_at_once_the_older_stays() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    client
        .keep_comment(&sticky(1), &says("a"))
        .await
        .expect("kept");
    planted(&stage, "github-actions[bot]", &marked(2, "another"));
    client
        .keep_comment(&sticky(3), &says("b"))
        .await
        .expect("kept");
    let all = comments(&stage);
    assert_eq!(all.len(), 1);
    assert!(all[0].id < 500, "{all:?}");
}

#[tokio::test]
async fn a_comment_with_our_mark_by_somebody_else_is_not_ours() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    planted(&stage, "mallory", &marked(1, "- [x] everything"));
    planted(&stage, "github-actions[bot]", "<!-- another action's -->");
    client
        .keep_comment(&sticky(2), &says("a"))
        .await
        .expect("kept");
    let all = comments(&stage);
    assert_eq!(all.len(), 3);
    assert_eq!(all.iter().map(|c| c.edits).sum::<u32>(), 0);
    // A person's own token writes under the person's name.
    let personal = Sticky {
        author: Some("mallory".to_owned()),
        ..sticky(3)
    };
    client
        .keep_comment(&personal, &says("b"))
        .await
        .expect("kept");
    assert_eq!(comments(&stage)[0].edits, 1);
}

#[tokio::test]
async fn a_newer_runs_comment_is_left_alone() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    client
        .keep_comment(&sticky(5), &says("new"))
        .await
        .expect("kept");
    let kept = client.keep_comment(&sticky(4), &says("old")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Newer);
    assert!(comments(&stage)[0].body.contains("new"));
}

#[tokio::test]
async fn what_a_deployment_has_written_is_left_to_deployments() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    let released = |run: u64| Sticky {
        is_release: true,
        ..sticky(run)
    };
    client
        .keep_comment(&sticky(9), &says("a"))
        .await
        .expect("kept");
    // Its run began before the event's, and ends after it.
    let kept = client.keep_comment(&released(5), &says("live")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Written);
    let kept = client.keep_comment(&sticky(10), &says("merged")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Newer);
    let kept = client.keep_comment(&released(6), &says("gone")).await;
    assert_eq!(kept.expect("kept"), CommentChange::Written);
    assert!(comments(&stage)[0].body.contains("gone"));
    stage.assert_lawful();
}

#[tokio::test]
async fn nothing_to_say_writes_nothing() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    let kept = client.keep_comment(&sticky(1), &|_| None).await;
    assert_eq!(kept.expect("kept"), CommentChange::Unchanged);
    assert_eq!(comments(&stage).len(), 0);
    client
        .keep_comment(&sticky(1), &says("a"))
        .await
        .expect("kept");
    let kept = client.keep_comment(&sticky(2), &|_| None).await;
    assert_eq!(kept.expect("kept"), CommentChange::Unchanged);
    assert_eq!(comments(&stage)[0].edits, 0);
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_comment() {
    let Some(stage) = Stage::new() else { return };
    for method in ["POST", "PATCH"] {
        stage.fake.fault(Fault {
            method: method.to_owned(),
            times: Some(1),
            drop: true,
            after: true,
            ..Fault::default()
        });
    }
    let client = stage.client();
    client
        .keep_comment(&sticky(1), &says("a"))
        .await
        .expect("kept");
    client
        .keep_comment(&sticky(2), &says("b"))
        .await
        .expect("kept");
    let all = comments(&stage);
    assert_eq!((all.len(), all[0].edits), (1, 1), "{all:?}");
}

#[tokio::test]
async fn it_is_found_on_a_later_page() {
    let Some(stage) = Stage::new() else { return };
    for n in 0..130 {
        planted(&stage, "octocat", &format!("comment {n}"));
    }
    planted(&stage, "github-actions[bot]", &marked(1, "old"));
    stage
        .client()
        .keep_comment(&sticky(2), &says("a"))
        .await
        .expect("kept");
    let all = comments(&stage);
    assert_eq!((all.len(), all[130].edits), (131, 1));
}

#[tokio::test]
async fn a_token_that_may_not_write_is_told_with_the_line_to_add() {
    let Some(stage) = Stage::new() else { return };
    let connection = stage.connection("ghs_read-only");
    let client = GitHubClient::new(&connection, RetryPolicy::default()).expect("a client");
    let refused = client.keep_comment(&sticky(1), &says("a")).await;
    let error = refused.expect_err("refused");
    assert!(matches!(error, GitHubError::Forbidden { .. }), "{error:?}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("pull-requests: write"))
    );
}

/// A person clicks between the look and the writing, and the next look finds what was written over; this cannot be told
/// apart, but a click before the look never is lost.
#[tokio::test]
async fn a_click_before_the_look_is_never_lost() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    client
        .keep_comment(&sticky(1), &says("a"))
        .await
        .expect("kept");
    let seen: Mutex<Vec<bool>> = Mutex::default();
    stage.fake.change(|world| {
        let body = &mut world.comments[0].body;
        *body = body.replace("[ ]", "[x]");
    });
    let write = |old: Option<&str>| {
        let ticked = boxes(old.expect("a comment"))[0].is_ticked;
        seen.lock().expect("no panic").push(ticked);
        says("a")(old).map(|text| text + "\nmore")
    };
    client.keep_comment(&sticky(2), &write).await.expect("kept");
    assert!(seen.lock().expect("no panic").iter().all(|ticked| *ticked));
    assert!(comments(&stage)[0].body.contains("[x]"));
}
