//! Not one failed request: deployments, automatic rollbacks and rollbacks by hand while clients ask all the time, with
//! connections that they keep, new ones each time, slow answers, downloads and WebSockets.
//!
//! The short tier plays each kind once or twice; with `BELAY_FULL=1` there are 20 deployments, 10 automatic rollbacks and
//! 10 by hand, with a slow answer of 5 s, a download of 20 s and a WebSocket of 20 s. The figures are printed and kept in
//! target/zero-downtime.md, beside those of `docker-compose up -d` ([`crate::plain_compose`]).

use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{App, ROOT, checkout, say};
use crate::load::{Kind, Load, Report, Shape};
use crate::sample::all_is_wanted;

on_every_host!(
    by turns:
    deployments_and_rollbacks_cost_no_request;
    one run in four:
    a_rollback_by_hand_takes_seconds;
);

/// Until the load runs evenly, and again after the last change.
const EVENLY: Duration = Duration::from_secs(3);

/// The worst kinds of new version: one that never answers well, and one that turns bad when it serves already.
#[derive(Clone, Copy, Debug)]
enum Bad {
    Candidate,
    InBake,
}

fn deployments_and_rollbacks_cost_no_request(mut app: App) {
    let full = all_is_wanted();
    let (rounds, shape): (Vec<&[Bad]>, Shape) = match full {
        true => ([&[Bad::Candidate][..], &[Bad::InBake]].repeat(5), long()),
        false => (vec![&[Bad::Candidate, Bad::InBake]], short()),
    };
    if full {
        // Longer than what lasts: the old containers are drained for this time at most.
        app.edit("docker-compose.yml", |text| {
            text.replace(
                "restart: unless-stopped",
                "restart: unless-stopped\n  stop_grace_period: 30s",
            )
        });
    }
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let load = Load::start(app.addr(), shape).expect("it is ours");
    thread::sleep(EVENLY);
    let mut played = Played::default();
    for round in rounds {
        play(&mut app, &mut played, round);
    }
    thread::sleep(EVENLY);
    let report = load.stop();
    write_down(&app, &played.in_words(), &report);
    assert_eq!(report.failed, 0, "{report:#?}");
    for kind in [Kind::Slow, Kind::Download, Kind::WebSocket] {
        let lasting = &report.lasting[&kind];
        assert!(lasting.completed > 0 && lasting.cut == 0, "{report:#?}");
    }
}

fn long() -> Shape {
    Shape {
        websocket: Some(Duration::from_secs(20)),
        ..Shape::usual(Duration::from_secs(2 * 60 * 60))
    }
}

fn short() -> Shape {
    Shape {
        slow: Some(Duration::from_secs(2)),
        download: Some(Duration::from_secs(4)),
        websocket: Some(Duration::from_secs(3)),
        ..Shape::stream(300, Duration::from_secs(600))
    }
}

/// How often what was played.
#[derive(Clone, Copy, Debug, Default)]
struct Played {
    rounds: u32,
    deployments: u32,
    automatic: u32,
    by_hand: u32,
}

impl Played {
    fn in_words(self) -> String {
        format!(
            "{} deployments, {} automatic rollbacks, {} by hand",
            self.deployments, self.automatic, self.by_hand
        )
    }
}

/// Two deployments, bad versions that go back by themselves, and a rollback by hand.
fn play(app: &mut App, played: &mut Played, bad: &[Bad]) {
    played.rounds += 1;
    let major = played.rounds + 1;
    let tag = |number: usize| format!("v{major}.{number}.0");
    for number in [0, 1] {
        app.release(&tag(number), "");
        app.push(&tag(number)).ends("deployed", &tag(number));
        played.deployments += 1;
    }
    let serving = tag(1);
    for (number, bad) in bad.iter().enumerate() {
        go_wrong(app, *bad, &tag(2 + number), &serving);
        played.automatic += 1;
    }
    app.rollback("").ends("deployed", &tag(0));
    played.by_hand += 1;
}

fn go_wrong(app: &mut App, bad: Bad, tag: &str, serving: &str) {
    if let Bad::Candidate = bad {
        app.release(tag, "status500");
        app.push(tag).ends("rolled-back", serving);
        return;
    }
    app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 8s"));
    app.release(tag, "status500-after:4000");
    let turned = app.push(tag);
    turned.ends("rolled-back", serving).says("bake failed");
    // Belay asks the primary endpoint, which is what turned bad; its own count says that it noticed.
    let counted = turned.output("failed-requests");
    assert!(
        counted.parse::<u64>().is_ok_and(|n| n > 0),
        "{}",
        turned.log
    );
    app.edit("belay.yml", |text| text.replace("bake: 8s", "bake: 1s"));
    app.git(&["commit", "--quiet", "--all", "--message", "bake as before"]);
}

/// From the command's arrival on the host until the version before has the requests; and the same where it has to stop
/// what serves first. Printed for both; the limit is for a very busy machine.
fn a_rollback_by_hand_takes_seconds(mut app: App) {
    for strategy in ["start-first", "stop-first"] {
        app.edit("belay.yml", |text| {
            text.replace(
                "web: {strategy: start-first}",
                &format!("web: {{strategy: {strategy}}}"),
            )
        });
        let (old, new) = match strategy {
            "start-first" => ("v1.0.0", "v1.1.0"),
            _ => ("v1.2.0", "v1.3.0"),
        };
        for tag in [old, new] {
            app.release(tag, "");
            app.push(tag).ends("deployed", tag);
        }
        let run = app.rollback("");
        run.ends("deployed", old);
        let took = until_cutover(&app);
        say(&format!(
            "e2e: a rollback on {}, {strategy}: cut over {took} ms after its begin; {} requests failed, longest gap {} ms",
            app.host.flavour.name(),
            run.output("failed-requests"),
            run.output("longest-gap-ms"),
        ));
        assert!(took < 20_000, "{}", run.log);
    }
}

/// From the newest journal's first record to when the requests were given to the other version, in milliseconds. Where they
/// cannot be given, it is when everything was replaced.
fn until_cutover(app: &App) -> i64 {
    let journal = app.host.run(&format!(
        "cd {ROOT}/.belay/journal && cat $(ls *.log | tail -n 1)"
    ));
    let at = |wanted: &dyn Fn(&Value) -> bool| -> Option<jiff::Timestamp> {
        // A checksum, and the record.
        let records = journal.lines().filter_map(|line| line.split_once(' '));
        let mut records = records.filter_map(|(_, text)| serde_json::from_str::<Value>(text).ok());
        records.find(wanted)?["at"].as_str()?.parse().ok()
    };
    let began = at(&|record| record["n"] == 0).expect("a beginning");
    let given = at(&|record| {
        let text = record["text"].as_str();
        text.is_some_and(|text| text.ends_with("gets the requests"))
    });
    let replaced = at(&|record| record["event"] == "done" && record["step"] == "cutover");
    let cut_over = given.or(replaced).expect("a cutover");
    i64::try_from(cut_over.duration_since(began).as_millis()).expect("a short time")
}

/// Adds a line to the table, which is begun anew with each run of the tests.
pub(crate) fn write_down(app: &App, what: &str, report: &Report) {
    static LINES: Mutex<Vec<String>> = Mutex::new(vec![]);
    let line = line(app, what, report);
    say(&line);
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.push(line);
    lines.sort();
    let mut text = String::from(
        "| host | what changed | requests | failed | longest gap | p99 | slow | downloads | WebSockets |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for line in lines.iter() {
        let _ = writeln!(text, "{line}");
    }
    fs::write(checkout().join("target/zero-downtime.md"), text).expect("written");
}

fn line(app: &App, what: &str, report: &Report) -> String {
    let lasting = |kind: Kind| match report.lasting.get(&kind) {
        Some(found) => format!("{} whole, {} cut", found.completed, found.cut),
        None => "none".to_owned(),
    };
    format!(
        "| {} | {what} | {} | {} | {:.0} ms | {:.0} ms | {} | {} | {} |",
        app.host.flavour.name(),
        report.total,
        report.failed,
        report.longest_gap_ms,
        report.p99_ms,
        lasting(Kind::Slow),
        lasting(Kind::Download),
        lasting(Kind::WebSocket),
    )
}
