//! Which pull requests are in a release.

use belay_runner::github::GitHubError;

use crate::fake_github::world::Pull;
use crate::ledger::Stage;

fn sha(n: usize) -> String {
    format!("{n:040x}")
}

fn pull(number: u64, merged: bool, commits: &[usize]) -> Pull {
    Pull {
        number,
        title: format!("Change {number}"),
        merged,
        head: sha(900),
        commits: commits.iter().map(|n| sha(*n)).collect(),
    }
}

/// A merge commit and its two, one that was squashed, one that was rebased as two, one that nobody asked for, and one that
/// lies in an open pull request, too.
#[tokio::test]
async fn merged_ones_are_found_once_however_they_were_merged() {
    let Some(stage) = Stage::new() else { return };
    let between = format!("{}...{}", sha(1), sha(9));
    stage.fake.change(|world| {
        let commits = (2..=9).map(sha).collect();
        world.between.insert(between, commits);
        world.pulls = vec![
            pull(12, true, &[2, 3, 4]),
            pull(11, true, &[5]),
            pull(13, true, &[6, 7]),
            pull(14, false, &[9, 8]),
            pull(10, true, &[500]),
        ];
    });
    let client = stage.client();
    let compared = client.pull_requests_between(&sha(1), &sha(9)).await;
    let compared = compared.expect("compared");
    let numbers: Vec<u64> = compared.pull_requests.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [11, 12, 13]);
    assert_eq!((compared.commits, compared.left_out), (8, 0));
    let first = &compared.pull_requests[0];
    assert_eq!(
        (first.title.as_str(), first.head.clone()),
        ("Change 11", Some(sha(900)))
    );
    stage.assert_lawful();
}

#[tokio::test]
async fn of_very_many_commits_the_newest_are_looked_at() {
    let Some(stage) = Stage::new() else { return };
    let between = format!("{}...{}", sha(1), sha(2));
    stage.fake.change(|world| {
        let commits = (1000..1260).map(sha).collect();
        world.between.insert(between, commits);
        world.pulls = vec![pull(1, true, &[1000]), pull(2, true, &[1259])];
    });
    let client = stage.client();
    let compared = client.pull_requests_between(&sha(1), &sha(2)).await;
    let compared = compared.expect("compared");
    assert_eq!((compared.commits, compared.left_out), (260, 10));
    let numbers: Vec<u64> = compared.pull_requests.iter().map(|p| p.number).collect();
    assert_eq!(numbers, [2]);
    stage.assert_lawful();
}

#[tokio::test]
async fn commits_that_github_does_not_know_are_told() {
    let Some(stage) = Stage::new() else { return };
    let client = stage.client();
    let refused = client.pull_requests_between(&sha(1), &sha(2)).await;
    let error = refused.expect_err("refused");
    assert!(matches!(error, GitHubError::Refused { status: 404, .. }));
    stage.assert_lawful();
}
