//! What people type on the host: while a deployment is under way, under load, and at rest.
//!
//! Each hand comes just before a step's work or just after it. However it ends, somebody serves again within two seconds of
//! it and the time that a container takes to start, the run tells the truth, and the next deployment needs nobody's help.

use std::time::Duration;

use belay_model::transaction::step::Step;
use serde_json::json;

use crate::faults::{Moment, Trap};
use crate::lab::{App, Host, ROOT, say};
use crate::load::{Load, Shape};
use crate::matrix::within;
use crate::sample::{all_is_wanted, sample};

on_every_host!(
    by turns:
    what_is_taken_away_before_the_cutover_comes_back_at_once,
    what_is_taken_away_after_the_cutover_gives_the_requests_back_at_once,
    what_was_taken_down_by_hand_is_told_and_can_be_backed_up_deployed_and_brought_back;
);

/// A usual run plays one hand of so many.
const ONE_OF: usize = 3;
/// Requests a second in the meantime.
const RATE: u32 = 50;
/// How long nobody may be served, in milliseconds: two seconds for Belay, and the start of a container by Docker or Compose
/// on a busy machine.
const LONGEST_GAP_MS: f64 = 4_000.0;

/// How long until somebody answers for certain.
const SERVES_WITHIN: Duration = Duration::from_secs(10);

/// What somebody does, when, and how the deployment may end.
struct Hand {
    what: &'static str,
    step: Step,
    moment: Moment,
    typed: &'static str,
    ends: &'static [&'static str],
}

const fn hand(
    what: &'static str,
    (step, moment): (Step, Moment),
    typed: &'static str,
    ends: &'static [&'static str],
) -> Hand {
    Hand {
        what,
        step,
        moment,
        typed,
        ends,
    }
}

const GOES_ON: &[&str] = &["deployed"];
const GOES_BACK: &[&str] = &["rolled-back"];

fn what_is_taken_away_before_the_cutover_comes_back_at_once(app: App) {
    use Moment::{After, Before};
    let hands = [
        hand(
            "the gateway stopped",
            (Step::Backup, Before),
            "docker stop $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "the gateway killed",
            (Step::Fetch, After),
            "docker kill $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "the gateway removed",
            (Step::Start, After),
            "docker rm -f $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "the gateway restarted",
            (Step::Start, After),
            "docker restart -t 1 $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "web stopped",
            (Step::Backup, After),
            "docker stop -t 1 $(of web)",
            GOES_ON,
        ),
        hand(
            "web killed",
            (Step::Migrate, After),
            "docker kill $(of web)",
            GOES_ON,
        ),
        hand(
            "web removed",
            (Step::Unpack, After),
            "docker rm -f $(of web)",
            GOES_ON,
        ),
        hand(
            "old web removed beside the new one",
            (Step::Start, After),
            "docker rm -f $(of web | tail -n 1)",
            GOES_ON,
        ),
        hand(
            "web paused",
            (Step::Preflight, Before),
            "docker pause $(of web)",
            GOES_ON,
        ),
        hand(
            "web paused",
            (Step::Migrate, After),
            "docker pause $(of web)",
            GOES_ON,
        ),
        hand(
            "the gateway paused",
            (Step::Start, After),
            "docker pause $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "web restarted",
            (Step::Unpack, After),
            "docker restart -t 1 $(of web)",
            GOES_ON,
        ),
    ];
    play(app, &hands);
}

fn what_is_taken_away_after_the_cutover_gives_the_requests_back_at_once(app: App) {
    use Moment::{After, Before};
    let hands = [
        hand(
            "new web killed",
            (Step::Bake, Before),
            "docker kill $(of web | head -n 1)",
            GOES_BACK,
        ),
        hand(
            "new web removed",
            (Step::Bake, Before),
            "docker rm -f $(of web | head -n 1)",
            GOES_BACK,
        ),
        hand(
            "new web stopped",
            (Step::Bake, Before),
            "docker stop -t 1 $(of web | head -n 1)",
            GOES_BACK,
        ),
        hand(
            "new web paused",
            (Step::Bake, Before),
            "docker pause $(of web | head -n 1)",
            GOES_ON,
        ),
        hand(
            "the gateway killed",
            (Step::Bake, Before),
            "docker kill $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "the gateway removed",
            (Step::Bake, Before),
            "docker rm -f $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "the gateway restarted",
            (Step::Publish, Before),
            "docker restart -t 1 $(of belay-gateway)",
            GOES_ON,
        ),
        hand(
            "new web killed after the commit",
            (Step::Publish, After),
            "docker kill $(of web | head -n 1)",
            GOES_ON,
        ),
        hand(
            "new web removed after the commit",
            (Step::Drain, After),
            "docker rm -f $(of web)",
            GOES_ON,
        ),
    ];
    play(app, &hands);
}

/// With nothing of the application's left on the host but its data.
fn what_was_taken_down_by_hand_is_told_and_can_be_backed_up_deployed_and_brought_back(
    mut app: App,
) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.http("POST", "/data", "precious").expect("an answer");
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
    let note = |app: &App| app.http("GET", "/data", "").expect("an answer").1;

    let paused = format!("{}; docker pause $(of web)", typed_in(&app.host));
    app.host.run(&paused);
    let told = app.belay(&["status"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("but web does not run"), "{told}");
    let restarted = app.belay(&["restart", "web"]);
    assert!(restarted.status.success(), "{restarted:?}");
    assert_eq!(app.serving().as_deref(), Some("v1.1.0"));

    take_down(&mut app);
    let told = app.belay(&["status"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains("but web, worker and belay-gateway do not run"),
        "{told}"
    );
    // What refuses says what is so.
    app.host.run(&format!(
        "echo \"version: '3'\" >{ROOT}/docker-compose.override.yml"
    ));
    app.release("v1.2.0", "");
    let running = app.begin_push("v1.2.0");
    let refused = app.wait(running);
    assert_eq!(refused.output("outcome"), "refused");
    refused.says("v1.1.0 was deployed last, and web, worker and belay-gateway do not run");
    assert!(!refused.log.contains("still serves"), "{}", refused.log);
    app.host
        .run(&format!("rm {ROOT}/docker-compose.override.yml"));
    let saved = app.belay(&["backup"]);
    assert!(saved.status.success(), "{saved:?}");
    let inside = app.host.run(&format!(
        "cd {ROOT}/backups && tar -xzOf $(ls backup_*.tar.gz | tail -n 1) --wildcards 'data/volumes/*/note'"
    ));
    assert_eq!(inside, "precious");

    app.push("v1.1.0").ends("deployed", "v1.1.0");
    assert_eq!(note(&app), "precious");
    take_down(&mut app);
    let deployed = app.push("v1.2.0");
    deployed.ends("deployed", "v1.2.0");
    let backup = deployed.output("backup").to_owned();
    assert_eq!(note(&app), "precious");

    // The images of earlier versions stay where nobody prunes them.
    app.release("v1.3.0", "");
    app.push("v1.3.0").ends("deployed", "v1.3.0");
    app.http("POST", "/data", "spoilt").expect("an answer");
    app.host.run(&format!("cd {ROOT} && docker-compose down"));
    app.strangers = app.host.strangers();
    app.rollback("v1.2.0").ends("deployed", "v1.2.0");
    assert_eq!(note(&app), "spoilt");
    app.host.run(&format!("cd {ROOT} && docker-compose down"));
    app.press(json!({
        "command": "rollback", "restore-data": backup, "confirm": "production", "rollback": "v1.2.0",
    }))
    .ends("deployed", "v1.2.0");
    assert_eq!(note(&app), "precious");
}

/// Everything that Docker has of the application, but for its volumes.
fn take_down(app: &mut App) {
    app.host.run(&format!(
        "cd {ROOT} && docker-compose down && docker image prune --all --force"
    ));
    app.strangers = app.host.strangers();
}

/// What a line that is typed may say: `of SERVICE` are the service's containers, the newest one first.
pub(crate) fn typed_in(host: &Host) -> String {
    let project = host.project;
    format!(
        "of() {{ docker ps -aq --filter label=com.docker.compose.project={project} \
         --filter label=com.docker.compose.service=$1; }}"
    )
}

fn play(mut app: App, hands: &[Hand]) {
    app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 3s"));
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let mut serving = "v1.0.0".to_owned();
    let mut failed = vec![];
    let is_played = |number: &usize| all_is_wanted() || (number + sample()).is_multiple_of(ONE_OF);
    for (number, hand) in (0..).zip(hands).filter(|(number, _)| is_played(number)) {
        let tag = format!("v1.{}.0", number + 1);
        let (told, troubles) = play_one(&mut app, hand, &tag, &serving);
        say(&told);
        if !troubles.is_empty() {
            failed.push(format!("{told}\n{}", troubles.join("\n")));
        }
        serving = app.serving().unwrap_or_default();
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn play_one(app: &mut App, hand: &Hand, tag: &str, old: &str) -> (String, Vec<String>) {
    let mut troubles = vec![];
    app.release(tag, "");
    let load = Load::start(app.addr(), Shape::stream(RATE, Duration::from_secs(300)));
    let load = load.expect("the application answers");
    let typed = format!("{}; {} >/dev/null 2>&1", typed_in(&app.host), hand.typed);
    let mut trap = Trap::with(&app.host, hand.step, hand.moment, &typed);
    let running = app.begin_push(tag);
    if !trap.sprung() {
        troubles.push("its moment never came".to_owned());
    }
    let run = app.wait(running);
    let outcome = run.output("outcome").to_owned();
    let expected = if outcome == "deployed" { tag } else { old };
    let _ = within(SERVES_WITHIN, || {
        (app.serving().as_deref() == Some(expected)).then_some(())
    });
    let report = load.stop();
    if !hand.ends.contains(&outcome.as_str()) {
        troubles.push(format!("it ended as {outcome}"));
    }
    if app.serving().as_deref() != Some(expected) || run.output("version") != expected {
        let (serves, told) = (app.serving(), run.output("version"));
        troubles.push(format!(
            "{expected} should serve; {serves:?} does, and {told} was told"
        ));
    }
    if report.longest_gap_ms > LONGEST_GAP_MS {
        troubles.push(format!(
            "nobody was served for {} ms",
            report.longest_gap_ms
        ));
    }
    troubles.extend(app.troubles());
    if !troubles.is_empty() {
        troubles.push(run.log.clone());
        let told = app.host.try_run(&format!(
            "cd {ROOT}/.belay && tail -n 20 engine.log; cat $(ls journal/*.log | tail -n 1); docker ps -a"
        ));
        troubles.push(String::from_utf8_lossy(&told.stdout).into_owned());
    }
    let told = format!(
        "e2e: by hand on {}: {} ({:?} {:?}): {outcome}, {} of {} requests failed, longest gap {} ms",
        app.host.flavour.name(),
        hand.what,
        hand.moment,
        hand.step,
        report.failed,
        report.total,
        report.longest_gap_ms
    );
    (told, troubles)
}
