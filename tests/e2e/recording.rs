//! Plays a small story against one lab host and writes down what came of it: `dist-scripts/record` runs this, and
//! `tests/recorded.rs` plays what it wrote.
//!
//! Everything is the release binary's own: the journals as they lie on the host, the answers of the agent there, and
//! what the runner wrote into its log, its summary and to GitHub. What differs from run to run is replaced
//! (`tests/support/normalised.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checklist::{compared, opened};
use crate::fake_github::world::{Deployment, Pull};
use crate::lab::{self, App, Flavour, Often, ROOT, Run, Running, say};
use crate::normalised::{Names, by_service, columns, output, status, without_repeats};

/// A Dockerfile of few lines: each costs the older builder a container.
const DOCKERFILE: &str = "\
FROM scratch
COPY app /app
COPY VERSION /version
ARG APP_FAIL=
ENV APP_FAIL=$APP_FAIL
ENTRYPOINT [\"/app\"]
";

#[test]
fn recording() {
    if std::env::var("BELAY_RECORD").as_deref() != Ok("1") {
        return say("SKIPPED, NOTHING WAS RUN: recording: it is dist-scripts/record that runs it");
    }
    lab::run(Flavour::Debian13, Often::Always, "recording", record);
}

/// The files of a recording in the story's order, as they come.
#[derive(Default)]
struct Tape {
    files: Vec<(String, Kept)>,
}

enum Kept {
    Text(String),
    Document(Value),
    Journal(Vec<Value>),
}

impl Tape {
    fn text(&mut self, name: &str, text: impl Into<String>) {
        self.files.push((name.to_owned(), Kept::Text(text.into())));
    }

    /// What is one JSON document.
    fn document(&mut self, name: &str, text: &str) {
        let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
        self.files
            .push((name.to_owned(), Kept::Document(by_service(value))));
    }

    fn journal(&mut self, name: &str, records: Vec<Value>) {
        let records = records.into_iter().map(by_service).collect();
        self.files.push((name.to_owned(), Kept::Journal(records)));
    }

    /// Writes all of it, without what differs from run to run.
    fn write(self, names: &mut Names, dir: &std::path::Path) {
        for (_, kept) in &self.files {
            match kept {
                Kept::Text(text) => names.learn(text),
                Kept::Document(value) => names.learn(&value.to_string()),
                Kept::Journal(records) => names.learn(&json!(records).to_string()),
            }
        }
        for (name, kept) in self.files {
            let text = match kept {
                Kept::Text(text) => names.text(&text),
                Kept::Document(mut value) => {
                    names.document(&mut value);
                    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
                }
                Kept::Journal(mut records) => {
                    names.journal(&mut records);
                    records.iter().map(|record| format!("{record}\n")).collect()
                }
            };
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("written");
        }
    }
}

fn record(mut app: App) {
    let dir = std::env::var("BELAY_RECORD_TO").expect("BELAY_RECORD_TO names a folder");
    prepare(&app);
    let mut tape = Tape::default();
    deployments(&mut app, &mut tape);
    failures(&mut app, &mut tape);
    by_hand(&mut app, &mut tape);
    let all: Vec<Deployment> = app.deployments();
    tape.document("deployments.json", &json!(all).to_string());
    tape.write(&mut names(&app), &PathBuf::from(dir));
}

fn prepare(app: &App) {
    app.write("Dockerfile", DOCKERFILE);
    app.edit("belay.yml", |text| {
        text.replace("images:\n", "images:\n  budget: 300MB\n")
    });
    // A disk of its own: how full that of this machine is would be told, too.
    app.host.run(&format!(
        "mount -t tmpfs -o size=4g,mode=0755 recording {ROOT} && chown deploy:deploy {ROOT}"
    ));
}

/// What of this machine is known by name.
fn names(app: &App) -> Names {
    let mut names = Names::default();
    let port = app.host.get("LAB_PORT");
    names.replace(&format!("127.0.0.1:{port}"), "203.0.113.10:22");
    names.replace(&format!("[127.0.0.1]:{port}"), "[203.0.113.10]:22");
    names.replace(app.host.project, "ntplatform");
    names.replace(&app.dir.path().display().to_string(), "/home/runner");
    names.replace(&lab::checkout().display().to_string(), "/home/belay");
    names
}

fn deployments(app: &mut App, tape: &mut Tape) {
    app.release("v1.0.0", "");
    let event = opened(app);
    app.pull_request(&event);
    push(app, tape, "first", "v1.0.0").ends("deployed", "v1.0.0");

    app.release("v1.1.0", "");
    merge(app);
    push(app, tape, "deployed", "v1.1.0").ends("deployed", "v1.1.0");
    let comment = app.github.look(|world| world.comments[0].body.clone());
    tape.text("comment.md", comment + "\n");
    push(app, tape, "unchanged", "v1.1.0").ends("unchanged", "v1.1.0");
}

/// The pull request whose comment there is was merged, and is in v1.1.0.
fn merge(app: &App) {
    let commit = app.commit_of("v1.1.0");
    app.github.change(|world| {
        world.pulls.push(Pull {
            number: 7,
            title: "A change".to_owned(),
            merged: true,
            head: commit.clone(),
            commits: vec![commit],
        });
        world
            .reviews
            .push(("ann".to_owned(), "APPROVED".to_owned()));
    });
    compared(app, "v1.0.0", "v1.1.0", &["v1.1.0"]);
}

fn failures(app: &mut App, tape: &mut Tape) {
    // Compose would read this file besides the one that Belay writes.
    app.host.run(&format!("touch {ROOT}/compose.yaml"));
    app.release("v1.2.0", "");
    push(app, tape, "refused", "v1.2.0").ends("refused", "v1.1.0");
    app.host.run(&format!("rm {ROOT}/compose.yaml"));

    // The time lies in the bake, however slow the machine is.
    app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 20s"));
    app.release("v1.3.0", "bad-after:8000");
    push(app, tape, "rolled-back", "v1.3.0").ends("rolled-back", "v1.1.0");
    app.edit("belay.yml", |text| text.replace("bake: 20s", "bake: 1s"));

    app.release("v1.4.0", "");
    let trap = take_the_release_away(app, "v1.4.0");
    push(app, tape, "stuck", "v1.4.0").ends("stuck", "v1.1.0");
    sprung(trap);
    app.host
        .run(&format!("chown deploy {ROOT}/.belay/releases/*"));
    tape.text("recovered/status.txt", status(&typed(app, &["status"])));
    let records = without_repeats(newest_journal(app));
    tape.journal("recovered/journal.jsonl", records);
    keep_answers(app, tape, "recovered");
}

/// Makes the folder of a release root's, as soon as the backup that comes before it begins: only root can read or remove
/// it then.
fn take_the_release_away(app: &App, tag: &str) -> std::process::Child {
    let script = format!(
        "cd {ROOT}
         journal=$(printf '.belay/journal/%08d.log' $(($(cat .belay/seq) + 1)))
         until grep -q '\"event\":\"started\",\"step\":\"backup\"' $journal 2>/dev/null; do sleep 0.01; done
         chown root .belay/releases/*-{tag}"
    );
    Command::new("docker")
        .args(["exec", app.host.get("LAB_CONTAINER"), "sh", "-c", &script])
        .spawn()
        .expect("docker runs")
}

fn sprung(mut trap: std::process::Child) {
    assert!(
        trap.wait().expect("it ends").success(),
        "the folder is not root's"
    );
}

fn by_hand(app: &mut App, tape: &mut Tape) {
    let inputs = json!({"command": "rollback", "rollback": "v1.0.0", "reason": "the cart forgets"});
    let running = app.begin_press(&inputs);
    let run = follow(app, tape, "rollback", running);
    run.ends("deployed", "v1.0.0");

    tape.document("answers/backup.json", &typed(app, &["backup", "--json"]));
    tape.document("answers/backups.json", &ask(app, "backups", "--verify"));
    tape.document(
        "answers/examine.json",
        &ask(app, "examine", "--port 22 --port 8080 --port 9"),
    );
    tape.document(
        "answers/logs.json",
        &ask(app, "logs", "--service web --lines 1"),
    );
    tape.document(
        "answers/ask.json",
        &ask(
            app,
            "ask",
            "--url http://127.0.0.1:8080/version --timeout 1000",
        ),
    );
    tape.document("answers/recover.json", &ask(app, "recover", ""));
    tape.document("status.json", &typed(app, &["status", "--json"]));
    tape.text("status.txt", status(&typed(app, &["status"])));
    tape.text(
        "backups.txt",
        columns(&typed(app, &["backups", "--verify"])),
    );
}

fn push(app: &mut App, tape: &mut Tape, name: &str, tag: &str) -> Run {
    let running = app.begin_push(tag);
    follow(app, tape, name, running)
}

/// Waits for a run, and keeps everything that it left.
fn follow(app: &mut App, tape: &mut Tape, name: &str, mut running: Running) -> Run {
    let known = known_before(&mut running);
    let run = app.wait(running);
    if let Some(known) = known {
        tape.document(&format!("{name}/known.json"), &known.to_string());
        // What comes after an undo that failed, this run did not see.
        let records = newest_journal(app);
        let is_stuck = |record: &Value| record["event"] == "undo-failed";
        let seen = records
            .iter()
            .position(is_stuck)
            .map_or(records.len(), |n| n + 1);
        tape.journal(&format!("{name}/journal.jsonl"), records[..seen].to_vec());
    }
    // Any question has the host try again what got stuck.
    if run.output("outcome") != "stuck" {
        keep_answers(app, tape, name);
    }
    tape.text(&format!("{name}/console.txt"), without_build(&run.log));
    tape.text(&format!("{name}/summary.md"), run.summary.clone());
    let outputs = run.outputs.iter();
    let outputs: BTreeMap<&String, String> = outputs
        .map(|(name, value)| (name, output(name, value)))
        .collect();
    tape.document(&format!("{name}/outputs.json"), &json!(outputs).to_string());
    run
}

/// What the runner knew when it handed its plan over: it keeps that until the run is over, for `belay finalize`.
fn known_before(running: &mut Running) -> Option<Value> {
    loop {
        let found = fs::read_dir(running.dir.join("temp"))
            .into_iter()
            .flatten()
            .flatten();
        let mut paths = found.map(|file| file.path());
        let path = paths.find(|path| path.to_string_lossy().contains("belay-pending"));
        let text = path.and_then(|path| fs::read_to_string(path).ok());
        let value = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(value) = value {
            return Some(value["outcome"].clone());
        }
        if running
            .child
            .try_wait()
            .expect("the child is ours")
            .is_some()
        {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A job's log without what Docker says of a build, which is not Belay's and another thing with each of its versions.
fn without_build(log: &str) -> String {
    let mut is_build = false;
    let mut kept = String::new();
    for line in log.lines() {
        is_build &= !line.contains(" begins; ");
        if !is_build {
            kept.push_str(&format!("{line}\n"));
        }
        is_build |= line == "::group::build and test the images";
    }
    kept
}

/// The records of the newest transaction, without their checksums.
fn newest_journal(app: &App) -> Vec<Value> {
    let script = format!("cd {ROOT} && cat $(ls .belay/journal/*.log | tail -n 1)");
    let lines = app.host.run(&script);
    let record = |line: &str| {
        let (_, json) = line.split_once(' ').expect("a checksum and a record");
        serde_json::from_str(json).expect("a record")
    };
    lines.lines().map(record).collect()
}

/// What a run asks the host when it is over.
fn keep_answers(app: &App, tape: &mut Tape, name: &str) {
    tape.document(&format!("{name}/facts.json"), &ask(app, "facts", ""));
    let since = "--since 2020-01-01T00:00:00Z";
    let look_back = ask(app, "look-back", since);
    tape.document(&format!("{name}/look-back.json"), &look_back);
}

/// What the agent on the host answers to a verb.
fn ask(app: &App, verb: &str, words: &str) -> String {
    let agent = format!("{ROOT}/.belay/bin/*/belay");
    let output = app
        .host
        .run_as_user(&format!("{agent} agent {verb} --root {ROOT} {words}"));
    String::from_utf8(output.stdout).expect("text")
}

fn typed(app: &App, words: &[&str]) -> String {
    let output = app.belay(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Checks that a host's newest journal has the records that were recorded of such a run, each with the same fields:
/// what the tests without a host play has to be what hosts write.
#[track_caller]
pub(crate) fn is_as_recorded(app: &App, run: &str) {
    let name = format!("tests/fixtures/recorded/{run}/journal.jsonl");
    let recorded = fs::read_to_string(lab::checkout().join(&name)).expect("the recording");
    let recorded = recorded
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"));
    let (now, recorded) = (shape(newest_journal(app)), shape(recorded.collect()));
    assert_eq!(
        now, recorded,
        "{name}: if it is meant to be so, record again with: dist-scripts/record"
    );
}

/// The records in which a transaction goes on, by their kinds and fields. How many notes and measurements come between
/// them is a matter of time.
fn shape(records: Vec<Value>) -> Vec<String> {
    let between = ["note", "measured", "warning"];
    let goes_on = records
        .into_iter()
        .filter(|record| !between.iter().any(|event| record["event"] == *event));
    let fields = |value: &Value| {
        let names = value
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys().cloned());
        names.collect::<Vec<_>>().join(" ")
    };
    let shape = |record: Value| {
        let (event, step) = (&record["event"], &record["step"]);
        format!(
            "{event} {step}: {}, {}",
            fields(&record),
            fields(&record["output"])
        )
    };
    goes_on.map(shape).collect()
}
