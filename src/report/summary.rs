//! The step summary: one page of GitHub-flavoured Markdown with what was, what is, how long it took and how to go back.
//!
//! Runs anywhere; pure. GitHub drops a summary of more than 1 MiB as a whole, so this one sheds until it fits: logs first.

use belay_model::replacement::strategy::{ServiceStrategy, Strategy};
use belay_model::shell;
use belay_model::transaction::outcome::{ImageReport, Outcome, StepResult, Word, Work};

use super::changed::{beside_earlier, what_changed};
use super::charts;
use super::console;
use super::failure::FailureLines;
use super::markdown::{Document, Inline};
use super::moved_data;
use super::story;
use super::words;

/// The largest summary. GitHub's limit is for the whole step, and `finalize` may add a page.
pub const MAX_BYTES: usize = 900_000;

/// How much of the unbounded parts is shown.
#[derive(Clone, Copy, Debug)]
struct Detail {
    /// Of all logs together.
    log_bytes: usize,
    /// Of each table and list.
    rows: usize,
}

/// From everything that could be useful down to what always fits.
const DETAILS: [Detail; 4] = [
    Detail {
        log_bytes: 256_000,
        rows: 100,
    },
    Detail {
        log_bytes: 32_000,
        rows: 100,
    },
    Detail {
        log_bytes: 0,
        rows: 100,
    },
    Detail {
        log_bytes: 0,
        rows: 20,
    },
];

/// The summary of a run; always less than [`MAX_BYTES`].
#[must_use]
pub fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for detail in DETAILS {
        text = render(outcome, detail);
        if text.len() < MAX_BYTES {
            break;
        }
    }
    text
}

fn render(outcome: &Outcome, detail: Detail) -> String {
    let mut page = Document::new();
    banner(&mut page, outcome);
    failure(&mut page, outcome);
    facts(&mut page, outcome, detail);
    warnings(&mut page, outcome, detail);
    what_changed(&mut page, outcome, detail.rows);
    logs(&mut page, outcome, detail);
    durations(&mut page, outcome, detail);
    images(&mut page, outcome, detail);
    beside_earlier(&mut page, outcome);
    complaints(&mut page, outcome, detail);
    strategies(&mut page, outcome, detail);
    removed(&mut page, outcome, detail);
    way_back(&mut page, outcome, detail);
    page.into_string()
}

fn banner(page: &mut Document, outcome: &Outcome) {
    let sign = Inline::own(story::sign(outcome.word));
    page.heading(2, &sign.say(" ").then(story::headline(outcome).inline()));
}

/// The three lines of a failure.
fn failure(page: &mut Document, outcome: &Outcome) {
    let Some(lines) = FailureLines::of(outcome) else {
        return;
    };
    page.list(&[
        Inline::own("**error:** ").then(Inline::text(&lines.error)),
        Inline::own("**host:** ").then(Inline::text(&lines.host)),
        Inline::own("**next:** ").then(Inline::text(&lines.next)),
    ]);
}

/// What was and what is, and everything else that is one line.
fn facts(page: &mut Document, outcome: &Outcome, detail: Detail) {
    let mut rows: Vec<(&'static str, Inline)> = vec![
        ("Was", story::was(outcome).inline()),
        ("Is", story::is(outcome).inline().strong()),
    ];
    if !story::serves_what_was_asked(outcome) || outcome.serving.as_ref() != Some(&outcome.asked) {
        rows.push(("Asked for", Inline::code(&outcome.asked)));
    }
    let whose = match story::serves_what_was_asked(outcome) {
        true => "Revision",
        false => "Its revision",
    };
    rows.extend(
        outcome
            .revision
            .as_deref()
            .map(|r| (whose, revision(outcome, r))),
    );
    rows.extend(
        outcome
            .reason
            .as_deref()
            .map(|reason| ("Why", Inline::text(reason))),
    );
    rows.push(("Application", Inline::code(&outcome.app)));
    rows.push(("Environment", environment(outcome)));
    rows.push(("Host", Inline::code(&outcome.host)));
    rows.extend(
        outcome
            .verdict
            .as_ref()
            .map(|v| ("Health", story::verdict(v).inline())),
    );
    rows.extend(downtime(outcome).map(|text| ("Downtime", text)));
    rows.extend(answered_by(outcome).map(|text| ("Answered by", text)));
    rows.extend(public_downtime(outcome).map(|text| ("Downtime at the public URL", text)));
    rows.extend(backup(outcome).map(|text| ("Backup", text)));
    rows.extend(moved_data::restored(outcome).map(|text| ("Data", text)));
    rows.extend(copied(outcome, detail).map(|text| ("Data", text)));
    rows.push(("Started", Inline::text(&words::utc(outcome.started))));
    if outcome.durations.total_ms > 0 {
        rows.push(("Took", time(outcome.durations.total_ms)));
    }
    rows.extend(
        outcome
            .urls
            .run
            .as_deref()
            .map(|url| ("Run", Inline::link(Inline::own("log"), url))),
    );
    let rows: Vec<Vec<Inline>> = rows
        .into_iter()
        .map(|(name, value)| vec![Inline::own(name), value])
        .collect();
    page.table(&["", ""], &rows);
}

fn revision(outcome: &Outcome, revision: &str) -> Inline {
    let is_sha =
        (7..=64).contains(&revision.len()) && revision.chars().all(|c| c.is_ascii_hexdigit());
    match &outcome.urls.repository {
        Some(repository) if is_sha => {
            let url = format!("{}/commit/{revision}", repository.trim_end_matches('/'));
            Inline::link(Inline::code(revision.get(..7).unwrap_or(revision)), &url)
        }
        _ => Inline::code(revision),
    }
}

fn environment(outcome: &Outcome) -> Inline {
    let name = Inline::code(&outcome.environment);
    match &outcome.urls.environment {
        Some(url) => Inline::link(name, url),
        None => name,
    }
}

/// Measured, not claimed: without a measurement there is no line.
fn downtime(outcome: &Outcome) -> Option<Inline> {
    let failed = outcome.requests.failed?;
    let told = without_answer(
        failed,
        outcome.requests.total,
        outcome.requests.longest_gap_ms,
    );
    Some(Inline::text(&told))
}

/// The versions that answered, in order, and since when.
fn answered_by(outcome: &Outcome) -> Option<Inline> {
    let seen = outcome.requests.versions.iter().map(|seen| {
        let since = Inline::text(&words::duration(seen.at_ms));
        Inline::code(&seen.version).say(" from ").then(since)
    });
    let seen: Vec<Inline> = seen.collect();
    (!seen.is_empty()).then(|| Inline::joined(seen, ", ").say(" on"))
}

/// The same as users see it, measured by the runner at the public URL.
fn public_downtime(outcome: &Outcome) -> Option<Inline> {
    let seen = outcome.requests.public.as_ref()?;
    let told = without_answer(seen.failed, Some(seen.total), Some(seen.longest_gap_ms));
    Some(Inline::text(&told))
}

fn without_answer(failed: u64, total: Option<u64>, longest_gap_ms: Option<u64>) -> String {
    let failed = match total {
        Some(total) => format!("{failed} of {total} requests"),
        None => words::count(
            usize::try_from(failed).unwrap_or(usize::MAX),
            "request",
            "requests",
        ),
    };
    let gap = longest_gap_ms.map_or(String::new(), |ms| {
        format!(
            "; longest time without a good answer: {}",
            words::duration(ms)
        )
    });
    format!("{failed} failed{gap}")
}

fn backup(outcome: &Outcome) -> Option<Inline> {
    let backup = outcome.backup.as_ref()?;
    let size = Inline::text(&words::size(backup.bytes));
    Some(Inline::code(&backup.path).say(", ").then(size))
}

/// What is at two places now, of which the application writes to one.
fn copied(outcome: &Outcome, detail: Detail) -> Option<Inline> {
    let each = moved_data::copies(outcome);
    let count = each.len();
    let shown = first(each.into_iter(), count, detail);
    (count > 0).then(|| Inline::joined(shown, ", ").say(moved_data::STAYS))
}

fn time(ms: u64) -> Inline {
    Inline::text(&words::duration(ms))
}

fn warnings(page: &mut Document, outcome: &Outcome, detail: Detail) {
    if outcome.warnings.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("Warnings"));
    let items = outcome.warnings.iter().map(|text| Inline::text(text));
    page.list(&first(items, outcome.warnings.len(), detail));
}

/// The first so many, and how many more there are.
fn first(items: impl Iterator<Item = Inline>, count: usize, detail: Detail) -> Vec<Inline> {
    let mut shown: Vec<Inline> = items.take(detail.rows).collect();
    shown.extend(more(count, detail));
    shown
}

fn more(count: usize, detail: Detail) -> Option<Inline> {
    let left_out = count.checked_sub(detail.rows).filter(|n| *n > 0)?;
    Some(Inline::text(&format!("… and {left_out} more")))
}

fn first_rows(
    rows: impl Iterator<Item = Vec<Inline>>,
    count: usize,
    detail: Detail,
) -> Vec<Vec<Inline>> {
    let mut shown: Vec<Vec<Inline>> = rows.take(detail.rows).collect();
    shown.extend(more(count, detail).map(|text| vec![text]));
    shown
}

/// The failed containers' last words, each folded. Of a long one the end is kept, because that is where it failed.
fn logs(page: &mut Document, outcome: &Outcome, detail: Detail) {
    if outcome.logs.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("Last logs"));
    if detail.log_bytes == 0 {
        page.paragraph(&Inline::own(
            "They were too long for this page; the log of the run has them.",
        ));
        return;
    }
    let each = detail.log_bytes / outcome.logs.len().min(detail.rows);
    for log in outcome.logs.iter().take(detail.rows) {
        let mut body = Document::new();
        let (skipped, tail) = end_of(&log.text, each);
        if skipped {
            body.paragraph(&Inline::own(
                "Only the end is shown; the log of the run has the rest.",
            ));
        }
        body.fence("text", tail);
        page.folded("Logs of", &log.service, &body);
    }
    page.paragraph(&more(outcome.logs.len(), detail).unwrap_or_default());
}

/// The last so many bytes, from the beginning of a line where there is one.
fn end_of(text: &str, bytes: usize) -> (bool, &str) {
    let Some(from) = text.len().checked_sub(bytes).filter(|from| *from > 0) else {
        return (false, text);
    };
    let from = (from..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let (_, tail) = text.split_at(from);
    let whole_lines = tail
        .split_once('\n')
        .map(|(_, rest)| rest)
        .filter(|rest| !rest.trim().is_empty());
    (true, whole_lines.unwrap_or(tail))
}

fn durations(page: &mut Document, outcome: &Outcome, detail: Detail) {
    let d = &outcome.durations;
    let part =
        |name, ms: Option<u64>, note: Inline| ms.map(|ms| vec![Inline::own(name), time(ms), note]);
    let mut rows: Vec<Vec<Inline>> = [
        part("build", d.build_ms, Inline::default()),
        part("test", d.test_ms, Inline::default()),
        part("transfer", d.transfer_ms, transferred(outcome)),
        part(
            "start-up",
            d.startup_ms,
            Inline::own("until the first good answer"),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let steps = outcome.steps.iter().map(|step| {
        let result = Inline::own(console::result(step.result));
        let result = match step.result {
            StepResult::Done | StepResult::Undone => result,
            StepResult::Failed | StepResult::UndoFailed => result.strong(),
        };
        vec![
            Inline::own("step ").say(step.step.name()),
            time(step.ms),
            result,
        ]
    });
    rows.extend(first_rows(steps, outcome.steps.len(), detail));
    if rows.is_empty() {
        return;
    }
    rows.push(vec![Inline::own("**total**"), time(d.total_ms).strong()]);
    page.heading(3, &Inline::own("Durations"));
    if let Some(picture) = charts::timeline(&outcome.steps) {
        page.fence("mermaid", &picture);
    }
    page.table(&["What", "Time", "Result"], &rows);
}

fn transferred(outcome: &Outcome) -> Inline {
    let d = &outcome.durations;
    let Some(bytes) = d.transfer_bytes else {
        return Inline::default();
    };
    let speed = d.transfer_ms.and_then(|ms| words::speed(bytes, ms));
    let speed = speed.map_or(String::new(), |speed| format!(" at {speed}"));
    Inline::text(&format!("{}{speed}", words::size(bytes)))
}

fn images(page: &mut Document, outcome: &Outcome, detail: Detail) {
    if outcome.images.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("Images"));
    let rows = outcome.images.iter().map(image);
    page.table(
        &["Service", "Image", "Size", "Before", "Difference", "Budget"],
        &first_rows(rows, outcome.images.len(), detail),
    );
    size_chart(page, outcome);
}

fn size_chart(page: &mut Document, outcome: &Outcome) {
    let Some(sizes) = charts::sizes(outcome) else {
        return;
    };
    let what = Inline::own("The largest image, that of ")
        .then(Inline::code(sizes.service))
        .say(", over the last releases, in MB")
        .say(match sizes.shows_budget() {
            true => "; the line is its budget:",
            false => ":",
        });
    page.paragraph(&what);
    page.fence("mermaid", &charts::size_chart(&sizes));
}

/// Log lines of the new version that tell of errors; the deployment is good all the same.
fn complaints(page: &mut Document, outcome: &Outcome, detail: Detail) {
    let with_errors = || outcome.errors.iter().flatten().filter(|e| e.count > 0);
    if with_errors().next().is_none() {
        return;
    }
    page.heading(3, &Inline::own("Log lines that tell of errors"));
    page.paragraph(&Inline::own(
        "Since the cutover. They were counted for you to look at, and decided nothing.",
    ));
    for errors in with_errors().take(detail.rows) {
        let mut body = Document::new();
        if detail.log_bytes > 0 {
            body.fence("text", &errors.first.join("\n"));
        }
        let count = usize::try_from(errors.count).unwrap_or(usize::MAX);
        let count = words::count(count, "line", "lines");
        body.paragraph(&Inline::text(&format!("{count} in all.")));
        page.folded("Of", &errors.service, &body);
    }
}

fn image(image: &ImageReport) -> Vec<Inline> {
    let before = image.previous_size;
    vec![
        Inline::code(&image.service),
        Inline::code(&image.reference),
        Inline::text(&words::size(image.size)),
        before.map_or(Inline::own("–"), |size| Inline::text(&words::size(size))),
        before.map_or(Inline::own("new"), |size| {
            Inline::text(&words::difference(image.size, size))
        }),
        budget(image),
    ]
}

fn budget(image: &ImageReport) -> Inline {
    let Some(budget) = image.budget else {
        return Inline::own("–");
    };
    let of = words::size(budget);
    if image.is_over_budget() {
        let over = words::size(image.size.saturating_sub(budget));
        Inline::text(&format!("over {of} by {over}")).strong()
    } else {
        Inline::text(&format!("within {of}"))
    }
}

fn strategies(page: &mut Document, outcome: &Outcome, detail: Detail) {
    if outcome.strategies.is_empty() {
        return;
    }
    page.heading(3, &Inline::own("How each service was replaced"));
    let rows = outcome.strategies.iter().map(|report| {
        vec![
            Inline::code(&report.service),
            Inline::own(report.strategy.words()),
            Inline::text(&report.reason),
            gap(report, outcome),
        ]
    });
    page.table(
        &["Service", "Strategy", "Why", "Expected gap"],
        &first_rows(rows, outcome.strategies.len(), detail),
    );
}

/// Stop-first is named honestly: the service is gone from its stop until it answers again. The gateway has a gap of its
/// own when it comes or goes.
fn gap(report: &ServiceStrategy, outcome: &Outcome) -> Inline {
    let is_stop_first = report.strategy == Strategy::StopFirst;
    let said = match &report.gap {
        Some(gap) => Inline::text(gap),
        None if is_stop_first => Inline::own("its start-up"),
        None => return Inline::own("none"),
    };
    match outcome.durations.startup_ms {
        Some(ms) if is_stop_first => said.say(", this time ").then(time(ms)),
        _ => said,
    }
}

fn removed(page: &mut Document, outcome: &Outcome, detail: Detail) {
    if outcome.removed.is_empty() {
        return;
    }
    let mut body = Document::new();
    let items = outcome.removed.iter().map(|removal| {
        Inline::code(&removal.name)
            .say(": ")
            .then(Inline::text(&removal.reason))
    });
    body.list(&first(items, outcome.removed.len(), detail));
    page.folded(
        "Removed to keep the number of versions and backups",
        "",
        &body,
    );
}

/// How to go back, by button, by command, and by hand on the host. Refused and planned runs left nothing to go back from.
fn way_back(page: &mut Document, outcome: &Outcome, detail: Detail) {
    let has_target = outcome.previous.is_some() || !outcome.rollback_targets.is_empty();
    let changed =
        outcome.word != Word::Refused && matches!(outcome.work, Work::Deploy | Work::Rollback);
    if !changed || !has_target {
        return;
    }
    page.heading(3, &Inline::own("How to roll back"));
    page.numbered(&[button(outcome), command(outcome), by_hand(outcome)]);
    page.fence("sh", &emergency(outcome));
    targets(page, outcome, detail);
}

/// What a person would most likely go back to.
fn likely_target(outcome: &Outcome) -> Option<&str> {
    let not_serving = |version: &&str| Some(*version) != outcome.serving.as_deref();
    let previous = outcome.previous.as_deref().filter(not_serving);
    previous.or_else(|| {
        outcome
            .rollback_targets
            .iter()
            .map(String::as_str)
            .find(not_serving)
    })
}

fn button(outcome: &Outcome) -> Inline {
    let actions = outcome
        .urls
        .repository
        .as_ref()
        .map(|url| format!("{}/actions", url.trim_end_matches('/')));
    let place = match &actions {
        Some(url) => Inline::link(Inline::own("Actions"), url),
        None => Inline::own("Actions"),
    };
    let button = Inline::own("On GitHub: ")
        .then(place)
        .say(", your rollback workflow, *Run workflow*");
    match likely_target(outcome) {
        Some(version) => button
            .say(", with `version` set to ")
            .then(Inline::code(version)),
        None => button.say(", with the version as `version`"),
    }
}

fn command(outcome: &Outcome) -> Inline {
    let any = Inline::own("From a machine with the configuration and the key: ");
    let named = |version: &str| Inline::code(&format!("belay rollback {version}"));
    match (likely_target(outcome), outcome.work) {
        // After a rollback the version before is the one that was left, so one has to be named.
        (Some(version), Work::Rollback) => any.then(named(version)),
        (Some(version), Work::Deploy | Work::Backup | Work::Plan) => any
            .say("`belay rollback` (the version before) or ")
            .then(named(version)),
        (None, _) => any.say("`belay rollback`"),
    }
}

fn by_hand(outcome: &Outcome) -> Inline {
    let what = Inline::own("On the host, with nothing of Belay's");
    match (outcome.word, &outcome.previous) {
        (Word::Deployed, Some(version)) => what
            .say(" (")
            .then(Inline::code(version))
            .say(" serves then):"),
        _ => what.say(" (what `docker-compose.yml.backup` says serves then):"),
    }
}

/// The emergency procedure, to be typed as it is.
fn emergency(outcome: &Outcome) -> String {
    let root = story::root(outcome).map_or(
        "\"$ROOT\"  # the application's directory".to_owned(),
        shell::path,
    );
    format!(
        "cd {root}\n\
         docker-compose down\n\
         cp docker-compose.yml.backup docker-compose.yml\n\
         docker-compose up -d"
    )
}

fn targets(page: &mut Document, outcome: &Outcome, detail: Detail) {
    let lists = [
        (
            "Versions to go back to, newest first: ",
            &outcome.rollback_targets,
        ),
        ("Backups of them, newest first: ", &outcome.rollback_backups),
    ];
    for (title, all) in lists {
        let names = first(all.iter().map(|name| Inline::code(name)), all.len(), detail);
        if !names.is_empty() {
            page.paragraph(&Inline::own(title).then(Inline::joined(names, ", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use belay_model::transaction::outcome::ServiceLog;

    #[test]
    fn the_end_of_a_log_begins_with_a_line() {
        assert_eq!(end_of("one\ntwo\nthree", 100), (false, "one\ntwo\nthree"));
        assert_eq!(end_of("one\ntwo\nthree", 7), (true, "three"));
        assert_eq!(end_of("ääää", 3), (true, "ä"));
    }

    #[test]
    fn logs_are_the_first_thing_to_go() {
        let mut outcome = examples::rolled_back();
        outcome.logs = vec![ServiceLog {
            service: "web".to_owned(),
            text: "`".repeat(2_000_000),
        }];
        let text = summary(&outcome);
        assert!(text.len() < MAX_BYTES);
        assert!(text.contains("Durations") && text.contains("How to roll back"));
    }

    #[test]
    fn the_largest_outcome_still_fits() {
        for nasty in ["`", "<", "😀", "@ ", "|", "a\n", "` @"] {
            let mut outcome = examples::rolled_back();
            examples::fill(&mut outcome, &nasty.repeat(2_500), 120);
            let text = summary(&outcome);
            assert!(text.len() < MAX_BYTES, "{nasty:?}: {}", text.len());
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut outcome = examples::deployed();
        outcome.warnings = vec!["careful".to_owned(); 130];
        assert!(summary(&outcome).contains("… and 30 more"));
    }

    #[test]
    fn a_gap_is_told_for_whatever_has_one() {
        let mut outcome = examples::deployed();
        outcome.strategies[0].gap = Some("up to 10 s while it stops".to_owned());
        outcome.strategies[1].strategy = Strategy::Gateway;
        outcome.strategies[1].gap = Some("about a second".to_owned());
        let text = summary(&outcome);
        assert!(
            text.contains("| up to 10 s while it stops, this time 1.2 s |"),
            "{text}"
        );
        assert!(text.contains("| about a second |"), "{text}");
    }

    #[test]
    fn a_start_up_is_the_expected_gap_of_stop_first_only() {
        let text = summary(&examples::deployed());
        assert!(text.contains("| its start-up, this time 1.2 s |"), "{text}");
        assert!(text.contains("| `cache` | untouched |"), "{text}");
    }

    #[test]
    fn a_refused_run_offers_no_way_back() {
        assert!(!summary(&examples::refused_tag()).contains("How to roll back"));
        assert!(summary(&examples::stuck()).contains("cd /opt/ntplatform"));
    }
}
