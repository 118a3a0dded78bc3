//! `belay run`: the whole story of one run, from the event to the reports.
//!
//! Runs on the runner, as the last command of the action's step, and on a laptop. Every path ends in an outcome, and every
//! outcome in a log line, the outputs, a summary and a terminal status on GitHub. GitHub is told what happens and never
//! decides it: an API that cannot be reached costs warnings.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::actions::{Actions, Annotation};
use super::choices;
use super::completion;
use super::deploy::{self, Concluded, Desk, Planned, Record};
use super::github::{Ending, Ledger, Opening, Restored, State, Task};
use super::inputs::{Env, Inputs};
use super::link::{Link, persistently};
use super::session::{Session, runtime};
use super::ssh::Interrupt;
use super::transaction::{self, Watcher};
use belay_model::config::Settings;
use belay_model::request::intent::{DryRun, Intent, decide};
use belay_model::request::tag::TagKind;
use belay_model::transaction::journal::{Entry, Event};
use belay_model::transaction::outcome::{EXIT_BUG, Failure, Outcome, Word, Work};
use belay_model::transaction::settle::settle;
use belay_model::transaction::step::Step;
use belay_report::status::DeploymentState;
use belay_report::{Narrator, Progress};
use belay_wire::{Confirmed, HostFacts, Verb};

/// Steps that GitHub's record of the deployment shows; one status each.
const SHOWN_PHASES: [Step; 4] = [Step::Backup, Step::Cutover, Step::Bake, Step::Confirm];

/// Longest that a run goes on for what follows its outcome.
const FOLLOW_UP: Duration = Duration::from_secs(90);
/// How often a run that goes on asks whether it should.
const LOOK: Duration = Duration::from_millis(100);

/// How long `finalize` waits for the host to decide.
const FINALIZE_PATIENCE: Duration = Duration::from_secs(240);

/// Runs what the event and the inputs ask for, and returns the exit code.
pub fn run(env: &Env, inputs: &Inputs, actions: &Actions) -> u8 {
    let interrupt = Interrupt::default();
    raise_on_signal(&interrupt);
    let session = match Session::open(env, inputs, actions, interrupt) {
        Ok(session) => session,
        Err(failure) => return refused(actions, inputs, failure),
    };
    match decide(session.trigger(), session.inputs.asked.clone()) {
        Err(error) => refused(actions, &session.inputs, error.failure()),
        Ok(Intent::Nothing(why)) => {
            say(actions, &format!("nothing to do: {why}"));
            0
        }
        Ok(Intent::Checklist(pull)) => super::checklist::run(&session, &pull),
        Ok(Intent::Operation(operation)) => super::commands::run(&session, operation),
        Ok(Intent::Deploy { tag, revision }) => with_record(&session, Work::Deploy, |desk| {
            deploy::deploy(desk, &tag, revision.as_deref())
        }),
        Ok(Intent::Rollback(wish)) => with_record(&session, Work::Rollback, |desk| {
            deploy::rollback(desk, &wish)
        }),
    }
}

/// Reports a run that ended before it knew more than what was asked.
fn refused(actions: &Actions, inputs: &Inputs, failure: Failure) -> u8 {
    let mut outcome = deploy::blank(Work::Deploy, &inputs.asked.name());
    outcome.word = Word::Refused;
    outcome.failure = Some(failure);
    publish(actions, &outcome, None);
    notify(actions, inputs, &outcome);
    outcome.word.exit_code()
}

fn with_record(
    session: &Session<'_>,
    work: Work,
    story: impl FnOnce(&mut Desk<'_, '_>) -> Concluded,
) -> u8 {
    let actions = session.actions;
    let Ok(runtime) = runtime() else {
        say(
            actions,
            "error: could not start the runtime for talking to GitHub",
        );
        return EXIT_BUG;
    };
    let telling = std::cell::RefCell::new(Telling {
        session,
        work,
        runtime,
        ledger: None,
    });
    let mut record = LedgerRecord(&telling);
    let mut watcher = Log {
        actions,
        narrator: Narrator::new(),
        telling: &telling,
        group: Group::Closed,
        unfinished: vec![],
    };
    let concluded = story(&mut Desk {
        session,
        record: &mut record,
        watcher: &mut watcher,
    });
    watcher.close_group();
    match concluded {
        Concluded::Planned(planned) => {
            show_plan(actions, &planned, session.inputs.json);
            0
        }
        Concluded::Outcome(mut outcome) => {
            let mut telling = telling.borrow_mut();
            telling.last_word(&outcome);
            outcome.warnings.extend(telling.warnings());
            follow_up(session, &telling.runtime, &mut outcome);
            publish(actions, &outcome, telling.deployment_id());
            // What is not known yet, `finalize` finds out and tells.
            if outcome.word != Word::Unknown || !actions.in_actions() {
                notify(actions, &session.inputs, &outcome);
            }
            // What is not known yet, `finalize` finds out; what GitHub does not know, it tells.
            if outcome.word != Word::Unknown && telling.is_finished() {
                forget_pending(session.env);
            }
            outcome.word.exit_code()
        }
    }
}

/// Looks up what came and what went, and completes the checklists of those pull requests. The outcome stands already, so
/// nobody waits for long, and whoever cancels the run not at all.
fn follow_up(session: &Session<'_>, runtime: &tokio::runtime::Runtime, outcome: &mut Outcome) {
    let (Some(client), Some(origin)) = (session.github(runtime), session.origin()) else {
        return;
    };
    let enough = async {
        let deadline = Instant::now() + FOLLOW_UP;
        while !session.interrupt.is_raised() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    };
    let told = runtime.block_on(async {
        tokio::select! {
            // Where there is nothing to look up, that is known at once.
            biased;
            told = completion::follow_up(session, &client, origin, outcome) => told,
            () = enough => vec!["not every checklist was completed: there was no time".to_owned()],
        }
    });
    for line in told {
        say(session.actions, &line);
    }
}

fn show_plan(actions: &Actions, planned: &Planned, json: bool) {
    let report = super::present::plan(planned);
    if json {
        // A plan is plain data and always serialises.
        return say(
            actions,
            &serde_json::to_string_pretty(&report).unwrap_or_default(),
        );
    }
    say(actions, &belay_report::plan_text(&report));
    // A dry run's summary is a convenience; the log has the same.
    let _ = actions.summary(&belay_report::plan_markdown(&report));
}

/// Writes the outcome everywhere but to GitHub's deployments.
fn publish(actions: &Actions, outcome: &Outcome, deployment_id: Option<u64>) {
    if let Some((title, message)) = belay_report::annotation(outcome)
        && actions.in_actions()
    {
        let _ = actions.error(&Annotation::new(title, message));
    }
    for warning in &outcome.warnings {
        let _ = actions.warning(&Annotation::new("Belay", warning));
    }
    for (name, value) in belay_report::outputs(outcome, deployment_id) {
        // The log is what remains when the runner's files cannot be written.
        if let Err(error) = actions.output(name, &value) {
            say(
                actions,
                &format!("could not write the output {name}: {error}"),
            );
        }
    }
    if let Err(error) = actions.summary(&belay_report::summary(outcome)) {
        say(actions, &format!("could not write the summary: {error}"));
    }
    for line in belay_report::console(outcome).lines() {
        say(actions, line);
    }
}

/// Tells the webhook, where there is one.
fn notify(actions: &Actions, inputs: &Inputs, outcome: &Outcome) {
    let Some(url) = &inputs.notify_url else {
        return;
    };
    if let Err(why) = super::notify::notify(url, inputs.notify_on, outcome) {
        let text = format!("the notification was not delivered: {why}");
        let _ = actions.warning(&Annotation::new("Belay", text));
    }
}

/// Standard output that is gone takes nobody's deployment with it.
fn say(actions: &Actions, text: &str) {
    for line in text.lines() {
        let _ = actions.line(line);
    }
}

/// The runner's SIGINT asks for an end within seconds: work in progress stops, and the host is left to decide.
fn raise_on_signal(interrupt: &Interrupt) {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let Ok(runtime) = runtime() else {
            return;
        };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let Ok(mut sigint) = signal(SignalKind::interrupt()) else {
                return;
            };
            sigint.recv().await;
            interrupt.raise();
        });
    });
}

/// GitHub's record of the deployment, and the file that lets `finalize` settle it.
struct Telling<'a, 's> {
    session: &'a Session<'s>,
    work: Work,
    runtime: tokio::runtime::Runtime,
    ledger: Option<Ledger>,
}

impl Telling<'_, '_> {
    fn open(&mut self, outcome: &Outcome, settings: &Settings) {
        let Some(origin) = self.session.origin() else {
            return;
        };
        let Some(sha) = outcome.revision.clone() else {
            return;
        };
        if self.session.inputs.asked.dry_run == DryRun::Yes {
            return;
        }
        let opening = Opening {
            record: super::github::Record::Auto,
            task: match self.work {
                Work::Rollback => Task::Rollback,
                Work::Deploy | Work::Backup | Work::Plan => Task::Deploy,
            },
            environment: settings.environment.as_str().to_owned(),
            production: settings.environment.as_str() == "production",
            sha,
            tag: outcome.asked.clone(),
            seq: None,
            run_id: origin.run_id,
            run_attempt: origin.run_attempt,
            log_url: origin.job_url.clone(),
        };
        let client = self.session.github(&self.runtime);
        let words = format!("deploying {}", outcome.asked);
        let file = ledger_file(self.session.env);
        self.ledger = Some(self.runtime.block_on(Ledger::open(
            client,
            opening,
            &file,
            State::InProgress,
            &words,
        )));
    }

    fn phase(&mut self, step: Step) {
        if let Some(ledger) = &mut self.ledger
            && SHOWN_PHASES.contains(&step)
        {
            let (_, words) = belay_report::status::phase(step);
            self.runtime.block_on(ledger.phase(&words));
        }
    }

    fn last_word(&mut self, outcome: &Outcome) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        self.runtime.block_on(tell_ending(ledger, outcome));
    }

    fn warnings(&self) -> Vec<String> {
        self.ledger
            .as_ref()
            .map(|ledger| ledger.warnings().to_vec())
            .unwrap_or_default()
    }

    fn is_finished(&self) -> bool {
        self.ledger.as_ref().is_none_or(Ledger::is_finished)
    }

    fn deployment_id(&self) -> Option<u64> {
        self.ledger.as_ref().and_then(Ledger::deployment_id)
    }
}

async fn tell_ending(ledger: &mut Ledger, outcome: &Outcome) {
    let (state, description) = belay_report::deployment_status(outcome);
    let ending = Ending {
        state: match state {
            DeploymentState::Success => State::Success,
            DeploymentState::Failure => State::Failure,
            DeploymentState::Error => State::Error,
            DeploymentState::Inactive => State::Inactive,
            DeploymentState::InProgress => State::InProgress,
            DeploymentState::Queued => State::Queued,
        },
        description,
        environment_url: outcome.urls.environment.clone(),
    };
    match outcome.word {
        Word::Unknown => ledger.leave(&ending).await,
        Word::Deployed | Word::Unchanged | Word::Refused | Word::RolledBack | Word::Stuck => {
            ledger.finish(&ending).await;
        }
    }
    // What serves again is live again: GitHub shows so only when it has a deployment that says it.
    if outcome.word == Word::RolledBack
        && let (Some(tag), Some(sha)) = (&outcome.serving, &outcome.previous_revision)
    {
        let restored = Restored {
            sha: sha.clone(),
            tag: tag.clone(),
            seq: None,
            environment_url: outcome.urls.environment.clone(),
        };
        ledger.record_rollback(&restored).await;
    }
}

struct LedgerRecord<'t, 'a, 's>(&'t std::cell::RefCell<Telling<'a, 's>>);

impl Record for LedgerRecord<'_, '_, '_> {
    fn opened(&mut self, outcome: &Outcome, settings: &Settings) {
        self.0.borrow_mut().open(outcome, settings);
    }

    fn beginning(&mut self, outcome: &Outcome, tx: &str) {
        let env = self.0.borrow().session.env;
        let pending = Pending {
            tx: tx.to_owned(),
            outcome: outcome.clone(),
        };
        // Without the file `finalize` finds nothing to settle; the next run then settles GitHub's record.
        let _ = serde_json::to_vec(&pending).map(|text| std::fs::write(pending_file(env), text));
    }

    fn tag_stands_at(&mut self, tag: &str) -> Option<String> {
        let telling = self.0.borrow();
        let client = telling.session.github(&telling.runtime)?;
        telling
            .runtime
            .block_on(client.resolve_tag(tag))
            .ok()
            .flatten()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
    Open,
    Closed,
}

/// The live log.
struct Log<'t, 'a, 's> {
    actions: &'a Actions,
    narrator: Narrator,
    telling: &'t std::cell::RefCell<Telling<'a, 's>>,
    group: Group,
    /// The beginning of a line of another program's output.
    unfinished: Vec<u8>,
}

impl Log<'_, '_, '_> {
    fn close_group(&mut self) {
        if !self.unfinished.is_empty() {
            self.remote(b"\n");
        }
        if self.group == Group::Open {
            let _ = self.actions.end_group();
            self.group = Group::Closed;
        }
    }

    fn open_group(&mut self, title: &str) {
        self.close_group();
        let _ = self.actions.group(title);
        self.group = Group::Open;
    }
}

impl Watcher for Log<'_, '_, '_> {
    fn entry(&mut self, entry: &Entry) {
        if let Event::Started { step } = entry.event {
            self.telling.borrow_mut().phase(step);
        }
        match self.narrator.tell(entry) {
            None => {}
            Some(Progress::StepBegan { title, .. }) => self.open_group(&title),
            Some(Progress::StepEnded { line, .. }) => {
                self.close_group();
                say(self.actions, &line);
            }
            Some(Progress::Line(line)) => say(self.actions, &line),
            Some(Progress::Warning(line)) => {
                self.close_group();
                say(self.actions, &line);
            }
            Some(Progress::Block { title, lines }) => {
                self.open_group(&title);
                let _ = self.actions.remote(lines.join("\n").as_bytes());
                self.close_group();
            }
        }
    }

    fn line(&mut self, text: &str) {
        say(self.actions, text);
    }

    fn remote(&mut self, bytes: &[u8]) {
        // Whole lines, each made harmless by itself: chunk by chunk a word could be hidden across two.
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let _ = self.actions.line(String::from_utf8_lossy(&line).trim_end());
        }
    }

    fn section(&mut self, title: &str) {
        self.open_group(title);
    }
}

/// What `finalize` needs to settle a run that was killed.
#[derive(Serialize, Deserialize)]
struct Pending {
    tx: String,
    outcome: Outcome,
}

fn state_dir(env: &Env) -> PathBuf {
    env.get("RUNNER_TEMP")
        .filter(|path| !path.is_empty())
        .map_or_else(std::env::temp_dir, PathBuf::from)
}

fn pending_file(env: &Env) -> PathBuf {
    state_dir(env).join(format!("belay-pending-{}.json", run_name(env)))
}

fn ledger_file(env: &Env) -> PathBuf {
    state_dir(env).join(format!("belay-ledger-{}.json", run_name(env)))
}

/// Several jobs of a run may share a temporary directory on a self-hosted runner.
fn run_name(env: &Env) -> String {
    let part = |name: &str| env.get(name).map(String::as_str).unwrap_or("local");
    let name = format!(
        "{}-{}-{}",
        part("GITHUB_RUN_ID"),
        part("GITHUB_RUN_ATTEMPT"),
        part("GITHUB_JOB")
    );
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn forget_pending(env: &Env) {
    // A file that stays behind is settled by `finalize`, which then finds the outcome unchanged.
    let _ = std::fs::remove_file(pending_file(env));
}

/// `belay finalize`: settles what a killed step left. Finds nothing to do after a run that ended by itself.
pub fn finalize(env: &Env, inputs: &Inputs, actions: &Actions) -> u8 {
    let pending = read_pending(&pending_file(env));
    let session = match Session::open(env, inputs, actions, Interrupt::default()) {
        Ok(session) => session,
        Err(failure) => {
            say(actions, &format!("could not finalize: {}", failure.error));
            return 0;
        }
    };
    let Some(pending) = pending else {
        // The file is written before the host is handed anything.
        return settle_ledger(&session, &Ending::cut_short());
    };
    let mut outcome = true_outcome(&session, pending);
    let Ok(runtime) = runtime() else {
        return EXIT_BUG;
    };
    let mut deployment_id = None;
    if let Ok(Some(mut ledger)) = Ledger::resume(session.github(&runtime), &ledger_file(env)) {
        runtime.block_on(tell_ending(&mut ledger, &outcome));
        deployment_id = ledger.deployment_id();
    }
    follow_up(&session, &runtime, &mut outcome);
    publish(actions, &outcome, deployment_id);
    notify(actions, &session.inputs, &outcome);
    forget_pending(env);
    // The job's result is the step's that was killed; this one only tells the truth about it.
    0
}

fn read_pending(file: &Path) -> Option<Pending> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn settle_ledger(session: &Session<'_>, ending: &Ending) -> u8 {
    let Ok(runtime) = runtime() else {
        return EXIT_BUG;
    };
    let warnings = runtime.block_on(super::github::finalize(
        session.github(&runtime),
        &ledger_file(session.env),
        ending,
    ));
    for warning in warnings {
        say(session.actions, &warning);
    }
    0
}

/// Asks the host what became of the transaction, and waits until it has decided.
fn true_outcome(session: &Session<'_>, pending: Pending) -> Outcome {
    let mut outcome = pending.outcome;
    let asked = ask_host(session, &pending.tx, &outcome);
    match asked {
        Ok((entries, _)) if entries.is_empty() => {
            outcome.word = Word::Refused;
            outcome.serving = outcome.previous.clone();
            outcome.failure = Some(transaction::cancelled());
        }
        Ok((entries, mut link)) => {
            settle(&mut outcome, &entries);
            deploy::after(&mut link, &mut outcome);
        }
        Err(failure) => {
            outcome.word = Word::Unknown;
            outcome.failure = Some(failure);
        }
    }
    outcome
}

/// The records of the transaction, once the host has decided; none when it was never begun, and then it never will be.
fn ask_host(
    session: &Session<'_>,
    tx: &str,
    outcome: &Outcome,
) -> Result<(Vec<Entry>, Link), Failure> {
    let config = session.config(&session.dir)?;
    let settings = session.settings(&config, &outcome.environment)?;
    let mut link = session.link(&settings)?;
    let mut entries: Vec<Entry> = vec![];
    let mut stopped = follow_to_its_end(&mut link, tx, &mut entries)?;
    if stopped.is_some() && entries.is_empty() {
        // The plan may wait for the lock on the host, with nobody left who would confirm it.
        let told = transaction::withdraw(&link, tx, "the run was ended before it began");
        if let Confirmed::Unwound { end: Some(_) } = told.map_err(|e| e.failure())? {
            return Ok((vec![], link));
        }
        stopped = follow_to_its_end(&mut link, tx, &mut entries)?;
    }
    match stopped {
        Some(failure) if entries.is_empty() => Err(failure),
        Some(_) | None => Ok((entries, link)),
    }
}

fn follow_to_its_end(
    link: &mut Link,
    tx: &str,
    entries: &mut Vec<Entry>,
) -> Result<Option<Failure>, Failure> {
    persistently(link, FINALIZE_PATIENCE, |link| {
        let from = entries.len() as u64;
        link.follow(tx, from, &mut |entry| {
            if entry.n == entries.len() as u64 {
                entries.push(entry);
            }
            std::ops::ControlFlow::Continue(())
        })
    })
    .map_err(|e| e.failure())
}

/// What can be rolled back to, newest first, each with a few words, for a person to choose from.
pub fn rollback_choices(
    env: &Env,
    inputs: &Inputs,
    actions: &Actions,
) -> Result<Vec<(String, String)>, Failure> {
    let session = Session::open(env, inputs, actions, Interrupt::default())?;
    let config = session.config(&session.dir)?;
    let environment = config
        .environment_of(TagKind::Release)
        .unwrap_or("production")
        .to_owned();
    let link = session.link(&session.settings(&config, &environment)?)?;
    let facts: HostFacts = link
        .ask(Verb::Facts, &[], None::<&()>)
        .map_err(|e| e.failure())?;
    Ok(choices::rollback_choices(&facts))
}
