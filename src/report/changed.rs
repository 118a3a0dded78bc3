//! What a deployment changed, as a part of its summary: pull requests, services, and how its numbers compare.
//!
//! Runs anywhere; pure. Of environments there are only names.

use belay_model::composition::service_changes::ChangeKind;
use belay_model::transaction::outcome::{Outcome, Word};
use belay_model::versions::changes::{Compared, PullRequestOf};
use belay_model::versions::history::{Metric, MetricKind, metrics};

use super::markdown::{Document, Inline};
use super::released::this_one;
use super::words;

/// Adds the part, where there is anything to say.
pub fn what_changed(page: &mut Document, outcome: &Outcome, rows: usize) {
    let mut items = vec![];
    items.extend(compared(outcome));
    items.extend(pull_requests(outcome, rows));
    let changes = &outcome.service_changes;
    items.extend(changes.iter().take(rows).map(|change| {
        let service = Inline::code(&change.service);
        match &change.kind {
            ChangeKind::Added => service.say(" is new"),
            ChangeKind::Removed => service.say(" is gone"),
            ChangeKind::Changed { keys, environment } => {
                let mut parts: Vec<Inline> = keys.iter().map(|key| Inline::code(key)).collect();
                parts.extend(environment.iter().map(|name| Inline::code(name)));
                service.say(": ").then(Inline::joined(parts, ", "))
            }
        }
    }));
    if items.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("What changed"));
    page.list(&items);
}

fn compared(outcome: &Outcome) -> Option<Inline> {
    let repository = outcome.urls.repository.as_deref()?;
    let (from, to) = (
        outcome.previous_revision.as_deref()?,
        outcome.revision.as_deref()?,
    );
    let is_sha = |text: &str| text.len() >= 7 && text.chars().all(|c| c.is_ascii_hexdigit());
    let is_comparable = from != to && is_sha(from) && is_sha(to) && repository.starts_with("http");
    if !is_comparable || outcome.word == Word::Refused {
        return None;
    }
    let url = format!("{}/compare/{from}...{to}", repository.trim_end_matches('/'));
    let commits = match &outcome.changes {
        Some(changes) if changes.came.commits > 0 => {
            words::count(changes.came.commits, "commit", "commits")
        }
        _ => "the difference in the code".to_owned(),
    };
    Some(Inline::link(Inline::text(&commits), &url))
}

fn pull_requests(outcome: &Outcome, rows: usize) -> Vec<Inline> {
    let Some(changes) = &outcome.changes else {
        return vec![];
    };
    let mut items: Vec<Inline> = vec![];
    for (sign, compared) in [("", &changes.came), ("taken back: ", &changes.went)] {
        let pulls = compared.pull_requests.iter().take(rows);
        items.extend(pulls.map(|pull| Inline::own(sign).then(pull_request(pull))));
        items.extend(left_out(compared, rows));
    }
    items
}

fn pull_request(pull: &PullRequestOf) -> Inline {
    let number = Inline::text(&format!("pull request {}", pull.number));
    Inline::link(number, &pull.url)
        .say(": ")
        .then(Inline::text(&pull.title))
}

fn left_out(compared: &Compared, rows: usize) -> Vec<Inline> {
    let more = compared.pull_requests.len().saturating_sub(rows);
    let mut items = vec![];
    if more > 0 {
        items.push(Inline::text(&format!("… and {more} more")));
    }
    if compared.left_out > 0 {
        items.push(Inline::text(&format!(
            "{} older commits were not looked at",
            compared.left_out
        )));
    }
    items
}

/// Adds how the deployment compares with those before it, where there are some.
pub fn beside_earlier(page: &mut Document, outcome: &Outcome) {
    let Some(now) = this_one(outcome) else { return };
    let all = metrics(now, &outcome.history);
    let rows: Vec<Vec<Inline>> = all.iter().filter_map(row).collect();
    if rows.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("Beside earlier deployments"));
    page.table(&["What", "Now", "Usually", ""], &rows);
}

fn row(metric: &Metric) -> Option<Vec<Inline>> {
    let usual = metric.usual?;
    let name = match metric.kind {
        MetricKind::StartUp => "start-up",
        MetricKind::Answer => "an answer, on average",
        MetricKind::ImageSize => "all images, each counted once",
    };
    let verdict = match metric.is_normal() {
        true => Inline::own("normal"),
        false => Inline::own("much more than usual").strong(),
    };
    Some(vec![
        Inline::own(name),
        Inline::text(&words::amount(metric.kind, metric.now)),
        Inline::text(&words::amount(metric.kind, usual)),
        verdict,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use belay_model::composition::service_changes::ServiceChange;
    use belay_model::versions::changes::Changes;

    fn part(outcome: &Outcome) -> String {
        let mut page = Document::new();
        what_changed(&mut page, outcome, 2);
        page.into_string()
    }

    #[test]
    fn it_names_pull_requests_and_services() {
        let mut outcome = examples::deployed();
        let pull = |number: u64| PullRequestOf {
            number,
            title: format!("Change @{number}"),
            url: format!("https://github.example.com/octo/app/pull/{number}"),
            head: None,
        };
        outcome.changes = Some(Changes {
            came: Compared {
                commits: 9,
                left_out: 4,
                pull_requests: (1..=3).map(pull).collect(),
            },
            went: Compared {
                commits: 1,
                left_out: 0,
                pull_requests: vec![pull(7)],
            },
            ..Changes::default()
        });
        outcome.service_changes = vec![
            ServiceChange {
                service: "web".to_owned(),
                kind: ChangeKind::Changed {
                    keys: vec!["image".to_owned()],
                    environment: vec!["+NEW".to_owned()],
                },
            },
            ServiceChange {
                service: "db".to_owned(),
                kind: ChangeKind::Added,
            },
        ];
        insta::assert_snapshot!(part(&outcome));
    }

    #[test]
    fn a_first_deployment_changed_nothing_that_was() {
        let mut outcome = examples::first_deploy();
        outcome.previous_revision = None;
        assert_eq!(part(&outcome), "");
    }
}
