//! A run that is cancelled: before the cutover it goes back, after it the host decides, and everybody is told the truth.
//!
//! GitHub's runner sends SIGINT to the step's process, SIGTERM 7.5 s later, and ends it 2.5 s after that. The first tests
//! run the program itself, with the signal at a known moment. The last one runs the real action in a real workflow runner
//! (nektos/act), at moments that a number decides: `BELAY_SEED` plays those of an earlier run again, and `BELAY_FULL=1`
//! plays twelve instead of two.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use belay_model::transaction::step::Step;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::action::Workflow;
use crate::fake_github::world::{self, Deployment};
use crate::faults::{Fault, Moment, Trap, Wire};
use crate::lab::{App, ROOT, Run, Running, push_event, say};
use crate::sample::all_is_wanted;

on_every_host!(
    by turns:
    a_run_that_is_cancelled_before_the_cutover_goes_back;
    one run in four:
    a_run_that_is_cancelled_while_it_waits_for_the_lock_never_begins,
    a_run_that_is_cancelled_after_the_cutover_leaves_the_host_to_decide,
    a_run_that_is_terminated_ends_at_once,
    a_run_that_is_cancelled_after_its_end_leaves_only_the_checklists_undone,
    a_workflow_that_is_cancelled_at_any_moment_tells_the_truth;
);

/// How long a run may take to end, and to tell GitHub, from its SIGINT on.
const PARTED_WITHIN: Duration = Duration::from_secs(6);
/// How long one may take from its SIGTERM on.
const TERMINATED_WITHIN: Duration = Duration::from_secs(1);
/// When GitHub's runner loses its patience, from its SIGINT on.
const TERMINATED_AFTER: Duration = Duration::from_millis(7500);
const KILLED_AFTER: Duration = Duration::from_secs(10);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(120);

// --- a signal at a known moment --------------------------------------------------------------------------------------

fn a_run_that_is_cancelled_before_the_cutover_goes_back(mut app: App) {
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    deployed(&mut app, "v1.0.0");
    while_images_are_sent(&mut app);
    while_candidates_are_probed(&mut app);
    deployed(&mut app, "v1.9.0");
}

/// Of a larger program, over a slow wire, so that there is time to cancel it.
fn while_images_are_sent(app: &mut App) {
    let program = app.repository().join("app");
    let small = fs::read(&program).expect("the application is there");
    let large = [small.clone(), random_bytes(8 * 1024 * 1024)].concat();
    fs::write(&program, large).expect("written");
    app.release("v1.1.0", "");
    let (images, journals) = (app.images(), journals(app));
    let wire = Wire::of(app);
    wire.delay(Duration::from_millis(30));
    let mut running = app.begin_push("v1.1.0");
    waits_for_file(app, &mut running, "incoming/*.images");
    let parting = cancel(app, "v1.1.0", &mut running, Signal::INT);
    wire.heal();
    report("while images are sent", &parting);
    let run = app.finish(running);
    run.ends("refused", "v1.0.0").says("the run was cancelled");
    assert_eq!(parting.status.as_deref(), Some("failure"));
    // Nothing of it is left, not even what had arrived.
    assert_eq!(app.images(), images);
    assert_eq!(self::journals(app), journals);
    app.env.remove("BELAY_PORT");
    app.env.remove("BELAY_KNOWN_HOSTS");
    fs::write(&program, small).expect("written");
}

/// Candidates that take long to listen.
fn while_candidates_are_probed(app: &mut App) {
    app.edit("docker-compose.yml", |text| {
        text.replace("retries: 3", "retries: 20")
    });
    app.release_with("v1.2.0", &[("APP_START_DELAY_MS", "5000")]);
    let (mut running, parting) = cancelled_at(app, "v1.2.0", Step::Probe, Signal::INT);
    report("while candidates are probed", &parting);
    let run = running.ended();
    run.says("the run was cancelled");
    assert_ne!(parting.status.as_deref(), Some("success"));
    let told = app.finalize(&running);
    is_true(app, "v1.2.0", &after(&run, told), "rolled-back", "v1.0.0");
    // The host did not come to it by itself, either: it was asked to go back before.
    let cutovers = app.host.try_run(&format!(
        "cd {ROOT}/.belay/journal && grep '\"step\":\"cutover\"' $(ls *.log | tail -n 1)"
    ));
    assert!(!cutovers.status.success(), "it went on: {cutovers:?}");
}

fn a_run_that_is_cancelled_while_it_waits_for_the_lock_never_begins(mut app: App) {
    deployed(&mut app, "v1.0.0");
    for (tag, signal) in [("v1.1.0", Signal::INT), ("v1.2.0", Signal::TERM)] {
        app.release(tag, "");
        let journals = journals(&app);
        // Its child does not get the lock, or it would keep it.
        let holder = app.host.run(&format!(
            "setsid flock --close {ROOT}/.belay/lock sleep 600 >/dev/null 2>&1 & echo $!"
        ));
        let mut running = app.begin_push(tag);
        waits_for_file(&app, &mut running, "incoming/*.json");
        let parting = cancel(&app, tag, &mut running, signal);
        report(&format!("while it waits for the lock, {tag}"), &parting);
        let run = running.ended();
        let told = app.wait(app.begin_finalize(&running));
        if signal == Signal::INT {
            assert_eq!((run.exit, run.output("outcome")), (10, "refused"));
            assert_eq!(parting.status.as_deref(), Some("failure"));
        } else {
            assert!(run.output("outcome").is_empty(), "{}", run.log);
        }
        app.host.run(&format!("kill {holder}"));
        app.check(&told.log);
        let told = after(&run, told);
        is_true(&app, tag, &told, "refused", "v1.0.0");
        // Whoever waited there has had the time to begin.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(self::journals(&app), journals, "{}", told.log);
    }
    deployed(&mut app, "v1.9.0");
}

fn a_run_that_is_cancelled_after_the_cutover_leaves_the_host_to_decide(mut app: App) {
    takes_its_time(&app);
    deployed(&mut app, "v1.0.0");
    app.release("v1.1.0", "");
    let mut trap = Trap::set(&app.host, Step::Bake, Moment::Before, NO_FAULT);
    let mut running = app.begin_push("v1.1.0");
    assert!(trap.sprung(), "{}", running.log());
    running.wait_for("9/14 bake");
    // Somebody who presses the button twice does no harm.
    send(running.child.id(), Signal::INT);
    let parting = cancel(&app, "v1.1.0", &mut running, Signal::INT);
    report("while it bakes", &parting);
    let run = running.ended();
    assert_eq!((run.exit, run.output("outcome")), (40, "unknown"));
    run.says("the run was cancelled after the cutover")
        .says("without a confirmation it goes back, at the latest ");
    assert_eq!(parting.status.as_deref(), Some("error"));
    let words = &parting.words;
    assert!(
        words.starts_with("cancelled; the host settles itself by ") && words.ends_with(" UTC"),
        "{words}"
    );
    assert_eq!(app.serving().as_deref(), Some("v1.1.0"), "it still bakes");
    let told = app.finalize(&running);
    is_true(&app, "v1.1.0", &told, "rolled-back", "v1.0.0");
    deployed(&mut app, "v1.9.0");
}

fn a_run_that_is_terminated_ends_at_once(mut app: App) {
    takes_its_time(&app);
    deployed(&mut app, "v1.0.0");
    app.release("v1.1.0", "");
    let (mut running, parting) = cancelled_at(&mut app, "v1.1.0", Step::Bake, Signal::TERM);
    report("terminated while it bakes", &parting);
    let run = running.ended();
    assert!(run.output("outcome").is_empty(), "{}", run.log);
    assert_eq!(parting.status.as_deref(), Some("in_progress"));
    let told = app.finalize(&running);
    is_true(&app, "v1.1.0", &told, "rolled-back", "v1.0.0");

    app.release("v1.2.0", "");
    let (mut running, parting) = cancelled_at(&mut app, "v1.2.0", Step::Publish, Signal::TERM);
    report("terminated while it publishes", &parting);
    running.ended();
    let told = app.finalize(&running);
    is_true(&app, "v1.2.0", &told, "deployed", "v1.2.0");
}

/// GitHub has heard of the end, and then takes its time over which pull requests were in it.
fn a_run_that_is_cancelled_after_its_end_leaves_only_the_checklists_undone(mut app: App) {
    deployed(&mut app, "v1.0.0");
    app.release("v1.1.0", "");
    app.github.fault(world::Fault {
        path: "compare".to_owned(),
        delay_ms: 60_000,
        ..world::Fault::default()
    });
    let mut running = app.begin_push("v1.1.0");
    let began = Instant::now();
    while last_word(deployment_of(&app, "v1.1.0").as_ref()).0 != "success" {
        assert!(began.elapsed() < PATIENCE, "{}", running.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let parting = cancel(&app, "v1.1.0", &mut running, Signal::INT);
    report("after its end", &parting);
    let run = app.finish(running);
    run.ends("deployed", "v1.1.0")
        .says("not every checklist was completed");
    assert!(run.summary.contains("v1.1.0"), "{}", run.summary);
}

// --- the real action, at any moment ----------------------------------------------------------------------------------

fn a_workflow_that_is_cancelled_at_any_moment_tells_the_truth(mut app: App) {
    let mut dice = Dice::thrown(&app.host.name);
    let moments: u32 = if all_is_wanted() { 12 } else { 2 };
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    deployed(&mut app, "v1.0.0");
    let began = Instant::now();
    deployed(&mut app, "v1.1.0");
    let usual = began.elapsed();
    for number in 0..moments {
        // Each in a part of its own, so that a few see the whole of a deployment.
        let moment = usual.mul_f64((f64::from(number) + dice.fraction()) / f64::from(moments));
        cancel_a_workflow(&mut app, number, moment);
    }
}

/// Cancels one workflow, compares everything that was told with the host, and deploys the next version after it.
fn cancel_a_workflow(app: &mut App, number: u32, moment: Duration) {
    let old = app.serving().expect("something serves");
    let tag = format!("v1.{}.0", 2 * number + 2);
    app.release(&tag, "");
    app.git(&["checkout", "--quiet", "-B", "main"]);
    let before = journals(app);
    let payload = push_event(&tag, &app.commit_of(&tag));
    let workflow = Workflow {
        event: "push",
        payload: &payload,
        file: "release.yml",
        name: &format!("act-cancel-{number}"),
    };
    let run_id = format!("GITHUB_RUN_ID={}", 9000 + number);
    let mut act = workflow
        .command(app)
        .args(["--env", &run_id])
        .spawn()
        .expect("the script starts");
    let step = step_process(&mut act);
    std::thread::sleep(moment);
    let parting = cancel_as_github_does(app, &tag, step);
    let ended = act.wait().expect("it ends");
    let results = workflow.results(app);
    say(&format!(
        "e2e: {} cancelled {:.1} s into the step: {parting:?}, then {}",
        app.host.name,
        moment.as_secs_f64(),
        results.outputs["outcome"]
    ));
    let log = &results.log;
    let (outcome, version) = (
        text(&results.outputs["outcome"]),
        text(&results.outputs["version"]),
    );
    assert_eq!(
        results.steps["belay.finalize"], "success",
        "the last step of the action:\n{log}"
    );
    let expected = match end_of_newest(app, before).as_deref() {
        Some("committed") => tag.as_str(),
        Some("unwound") | None => old.as_str(),
        Some(end) => panic!("it ends {end}:\n{log}"),
    };
    assert_eq!(app.serving().as_deref(), Some(expected), "{log}");
    let committed = expected == tag;
    // A job that was cancelled as it confirmed is red though the version stays; green is never a lie.
    assert!(committed || !ended.success(), "{log}");
    let record = deployment_of(app, &tag);
    match (&record, outcome) {
        (Some(_), "deployed") => assert!(committed, "{log}"),
        (Some(_), "refused" | "rolled-back") => assert!(!committed, "{log}"),
        // The signal came before the program had begun to listen: nothing was done and nobody was told.
        (None, "unknown") => return app.check(log),
        other => panic!("told {other:?}:\n{log}"),
    }
    // Cancelled before it had looked at the host, a run does not guess.
    let never_looked = version.is_empty() && log.contains("| Is | **not known** |");
    assert!(
        version == expected || outcome == "refused" && never_looked,
        "{version}\n{log}"
    );
    let (state, words) = last_word(record.as_ref());
    assert_eq!(state == "success", committed, "{state} {words}\n{log}");
    assert_ne!(state, "in_progress", "{words}\n{log}");
    assert_eq!(live(app), app.commit_of(expected), "{log}");
    app.check(log);
    deployed(app, &format!("v1.{}.0", 2 * number + 3));
}

/// The process of the step, found as the child of act that it has to be: nobody else gets a signal.
fn step_process(act: &mut Child) -> u32 {
    let began = Instant::now();
    loop {
        if let Some(step) = descendants(act.id()).into_iter().find(|pid| is_run(*pid)) {
            assert_eq!(name_of(parent_of(step).unwrap_or(0)), "act");
            return step;
        }
        let ended = act.try_wait().expect("the child is ours");
        assert_eq!(ended, None, "it ended before its step began");
        assert!(began.elapsed() < PATIENCE, "its step never began");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Signals the step as GitHub's runner does. Not by a signal to act: it kills its steps at once when it is interrupted.
fn cancel_as_github_does(app: &App, tag: &str, step: u32) -> Parting {
    let began = Instant::now();
    let lives = || Path::new(&format!("/proc/{step}")).exists() && name_of(step) == "belay";
    send(step, Signal::INT);
    let mut signals = [
        (TERMINATED_AFTER, Signal::TERM),
        (KILLED_AFTER, Signal::KILL),
    ]
    .into_iter();
    let mut next = signals.next();
    let parting = watch_it_end(app, tag, began, || {
        if let Some((after, signal)) = next
            && began.elapsed() >= after
        {
            send(step, signal);
            next = signals.next();
        }
        !lives()
    });
    parting.is_in_time(PARTED_WITHIN);
    parting
}

fn descendants(of: u32) -> Vec<u32> {
    let all: Vec<u32> = fs::read_dir("/proc")
        .expect("readable")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let descends = |pid: &u32| {
        let mut at = *pid;
        while let Some(parent) = parent_of(at) {
            if parent == of {
                return true;
            }
            at = parent;
        }
        false
    };
    all.into_iter().filter(descends).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| *parent != 0)
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn is_run(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    name_of(pid) == "belay" && words.split(|b| *b == 0).nth(1) == Some(b"run")
}

// --- signals ---------------------------------------------------------------------------------------------------------

/// The trap only tells the moment.
const NO_FAULT: Fault = Fault::RunnerKilled;

/// What was seen of a run's end, from its signal on.
#[derive(Debug)]
struct Parting {
    ended: Duration,
    /// When GitHub was told something else than before; nothing when it had no record, or was not told.
    told: Option<Duration>,
    status: Option<String>,
    words: String,
}

impl Parting {
    #[track_caller]
    fn is_in_time(&self, limit: Duration) {
        assert!(self.ended < limit, "{self:?}");
        assert!(self.told.is_none_or(|told| told < limit), "{self:?}");
    }
}

fn report(when: &str, parting: &Parting) {
    say(&format!(
        "e2e: cancelled {when}: ended after {:.2} s, GitHub told after {}: {} {:?}",
        parting.ended.as_secs_f64(),
        parting.told.map_or("-".to_owned(), |told| format!(
            "{:.2} s",
            told.as_secs_f64()
        )),
        parting.status.as_deref().unwrap_or("nothing"),
        parting.words
    ));
}

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // One that is gone needs no signal.
    let _ = kill_process(pid.expect("a process"), signal);
}

/// Begins a deployment and cancels it when a step begins.
fn cancelled_at(app: &mut App, tag: &str, step: Step, signal: Signal) -> (Running, Parting) {
    let mut trap = Trap::set(&app.host, step, Moment::Before, NO_FAULT);
    let mut running = app.begin_push(tag);
    assert!(trap.sprung(), "{}", running.log());
    let parting = cancel(app, tag, &mut running, signal);
    (running, parting)
}

#[track_caller]
fn cancel(app: &App, tag: &str, running: &mut Running, signal: Signal) -> Parting {
    let began = Instant::now();
    send(running.child.id(), signal);
    let parting = watch_it_end(app, tag, began, || {
        running.child.try_wait().expect("it is ours").is_some()
    });
    parting.is_in_time(if signal == Signal::TERM {
        TERMINATED_WITHIN
    } else {
        PARTED_WITHIN
    });
    parting
}

/// Looks until a run has ended, and meanwhile at what GitHub is told.
fn watch_it_end(
    app: &App,
    tag: &str,
    began: Instant,
    mut has_ended: impl FnMut() -> bool,
) -> Parting {
    let is_word = |state: &str| state != "in_progress" && !state.is_empty();
    let mut told = None;
    loop {
        let over = has_ended();
        let (state, words) = last_word(deployment_of(app, tag).as_ref());
        if told.is_none() && is_word(&state) {
            told = Some(began.elapsed());
        }
        if over {
            return Parting {
                ended: began.elapsed(),
                told,
                status: Some(state).filter(|state| !state.is_empty()),
                words,
            };
        }
        assert!(began.elapsed() < PATIENCE, "it never ends");
        std::thread::sleep(Duration::from_millis(10));
    }
}

// --- looking ---------------------------------------------------------------------------------------------------------

fn deployed(app: &mut App, tag: &str) {
    app.release(tag, "");
    app.push(tag).ends("deployed", tag);
}

/// A bake that lasts, and a host that soon stops to wait for a confirmation.
fn takes_its_time(app: &App) {
    app.edit("belay.yml", |text| {
        text.replace("bake: 1s", "bake: 3s\nconfirm: 10s")
    });
}

/// What the action gives out, as action.yml has it: the last step's word, where it has one.
fn after(run: &Run, told: Run) -> Run {
    let mut outputs = run.outputs.clone();
    outputs.extend(told.outputs.clone());
    Run { outputs, ..told }
}

/// What the last step of the job said is what the host serves and what GitHub shows.
#[track_caller]
fn is_true(app: &App, tag: &str, told: &Run, outcome: &str, serving: &str) {
    let said = (told.exit, told.output("outcome"), told.output("version"));
    assert_eq!(said, (0, outcome, serving), "{}", told.log);
    assert_eq!(app.serving().as_deref(), Some(serving), "{}", told.log);
    let (state, words) = last_word(deployment_of(app, tag).as_ref());
    let expected = match outcome {
        "deployed" => "success",
        _ => "failure",
    };
    assert_eq!(state, expected, "{words}");
    assert_eq!(
        live(app),
        app.commit_of(serving),
        "what GitHub shows as live"
    );
}

fn deployment_of(app: &App, tag: &str) -> Option<Deployment> {
    let commit = app.commit_of(tag);
    let mut all = app.deployments().into_iter().rev();
    all.find(|d| d.sha == commit && d.task == "deploy")
}

/// The newest status of a deployment, and its words.
fn last_word(deployment: Option<&Deployment>) -> (String, String) {
    deployment
        .and_then(|d| d.statuses.last())
        .map(|status| (status.state.clone(), status.description.clone()))
        .unwrap_or_default()
}

/// The commit of the newest deployment that GitHub shows as live.
fn live(app: &App) -> String {
    let mut all = app.deployments().into_iter().rev();
    let live = all.find(|d| last_word(Some(d)).0 == "success");
    live.map(|d| d.sha).unwrap_or_default()
}

fn journals(app: &App) -> u64 {
    let counted = app
        .host
        .run(&format!("ls {ROOT}/.belay/journal | grep -c '\\.log$'"));
    counted.parse().expect("a number")
}

/// How the newest transaction ends, when there is one more than before. What comes after the commit may still go on when
/// the runner has told of it.
fn end_of_newest(app: &App, before: u64) -> Option<String> {
    if journals(app) == before {
        return None;
    }
    let began = Instant::now();
    let last_record = format!("cd {ROOT}/.belay/journal && tail -n 1 $(ls *.log | tail -n 1)");
    loop {
        let record = app.host.run(&last_record);
        if let Some((_, end)) = record.split_once("\"event\":\"end\",\"end\":\"") {
            return Some(end.split('"').next().unwrap_or_default().to_owned());
        }
        assert!(began.elapsed() < PATIENCE, "it does not end: {record}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the run has something lie on the host, below `.belay`.
fn waits_for_file(app: &App, running: &mut Running, pattern: &str) {
    let began = Instant::now();
    let script = format!("ls {ROOT}/.belay/{pattern}");
    while !app.host.try_run(&script).status.success() {
        let ended = running.child.try_wait().expect("the child is ours");
        let is_early = ended.is_some() || began.elapsed() > PATIENCE;
        assert!(!is_early, "there was no {pattern}:\n{}", running.log());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Bytes that no compression makes fewer of.
fn random_bytes(count: usize) -> Vec<u8> {
    let mut dice = Dice(1);
    (0..count).map(|_| dice.throw().to_le_bytes()[3]).collect()
}

/// Random numbers from one number (SplitMix64).
struct Dice(u64);

impl Dice {
    /// From `BELAY_SEED`, else from the clock; says which number it was.
    fn thrown(host: &str) -> Dice {
        let seed = std::env::var("BELAY_SEED")
            .ok()
            .and_then(|s| s.parse().ok());
        let now = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_secs())
        };
        let seed = seed.unwrap_or_else(now);
        say(&format!(
            "e2e: the moments on {host} are those of BELAY_SEED={seed}"
        ));
        Dice(seed)
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        f64::from((self.throw() >> 40) as u32) / f64::from(1_u32 << 24)
    }
}
