//! What is read of a pull request.

use belay_model::reviewing::review::{CheckState, Opinion};

use crate::fake_github::world::CheckRun;
use crate::ledger::Stage;

const COMMIT: &str = "1111111111111111111111111111111111111111";

#[tokio::test]
async fn reviews_are_read_in_their_order() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.change(|world| {
        for (author, state) in [
            ("ann", "CHANGES_REQUESTED"),
            ("bob", "APPROVED"),
            ("eve", "DISMISSED"),
            ("joe", "COMMENTED"),
        ] {
            world.reviews.push((author.to_owned(), state.to_owned()));
        }
    });
    let reviews = stage.client().reviews(7).await.expect("read");
    let seen: Vec<(&str, Opinion)> = reviews
        .iter()
        .map(|review| (review.author.as_str(), review.opinion))
        .collect();
    assert_eq!(
        seen,
        [
            ("ann", Opinion::ChangesRequested),
            ("bob", Opinion::Approved),
            ("eve", Opinion::Dismissed),
            ("joe", Opinion::Commented),
        ]
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn all_checks_are_read_but_for_the_runs_own() {
    let Some(stage) = Stage::new() else { return };
    let run = |name: &str, conclusion: Option<&str>, run: u64| CheckRun {
        name: name.to_owned(),
        conclusion: conclusion.map(str::to_owned),
        details_url: format!("https://github.com/octo-org/shop/actions/runs/{run}/job/5"),
    };
    stage.fake.change(|world| {
        world.check_runs = (0..120)
            .map(|n| run(&format!("test {n}"), Some("success"), 12))
            .collect();
        world.check_runs.push(run("skipped", Some("skipped"), 12));
        world.check_runs.push(run("red", Some("timed_out"), 12));
        world.check_runs.push(run("slow", None, 12));
        world.check_runs.push(run("belay itself", None, 1));
    });
    let checks = stage.client().checks(COMMIT, 1).await.expect("read");
    let count = |state: CheckState| checks.iter().filter(|c| c.state == state).count();
    assert_eq!(
        (
            count(CheckState::Passed),
            count(CheckState::Failed),
            count(CheckState::Running)
        ),
        (121, 1, 1)
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn tags_that_begin_like_a_version_are_read() {
    let Some(stage) = Stage::new() else { return };
    stage.fake.change(|world| {
        for name in [
            "tags/v1.0.0",
            "tags/v1.1.0",
            "tags/dev-20261126",
            "heads/v2",
        ] {
            world.refs.insert(name.to_owned(), COMMIT.to_owned());
        }
    });
    let tags = stage.client().version_tags().await.expect("read");
    assert_eq!(tags, ["v1.0.0", "v1.1.0"]);
    stage.assert_lawful();
}
