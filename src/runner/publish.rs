//! An outcome, told everywhere it is to be seen: the log, the outputs, the summary, checklists and a webhook.
//!
//! Runs on the runner, when the outcome stands: nothing here changes it.

use std::time::{Duration, Instant};

use super::actions::{Actions, Annotation};
use super::completion;
use super::inputs::Inputs;
use super::session::Session;
use belay_model::transaction::outcome::Outcome;

/// Longest that a run goes on for what follows its outcome.
const FOLLOW_UP: Duration = Duration::from_secs(90);
/// How often a run that goes on asks whether it should.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Looks up what came and what went, and completes the checklists of those pull requests. The outcome stands already, so
/// nobody waits for long, and whoever cancels the run not at all.
pub(super) fn follow_up(
    session: &Session<'_>,
    runtime: &tokio::runtime::Runtime,
    outcome: &mut Outcome,
) {
    let (Some(client), Some(origin)) = (session.github(runtime), session.origin()) else {
        return;
    };
    let enough = async {
        let deadline = Instant::now() + FOLLOW_UP;
        while !session.interrupt.is_raised() && Instant::now() < deadline {
            tokio::time::sleep(POLL_INTERVAL).await;
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
        session.actions.say(&line);
    }
}

/// Writes the outcome everywhere but to GitHub's deployments.
pub(super) fn publish(actions: &Actions, outcome: &Outcome, deployment_id: Option<u64>) {
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
            actions.say(&format!("could not write the output {name}: {error}"));
        }
    }
    if let Err(error) = actions.summary(&belay_report::summary(outcome)) {
        actions.say(&format!("could not write the summary: {error}"));
    }
    for line in belay_report::console(outcome).lines() {
        actions.say(line);
    }
}

/// Tells the webhook, where there is one.
pub(super) fn notify(actions: &Actions, inputs: &Inputs, outcome: &Outcome) {
    let Some(url) = &inputs.notify_url else {
        return;
    };
    if let Err(why) = super::notify::notify(url, inputs.notify_on, outcome) {
        let text = format!("the notification was not delivered: {why}");
        let _ = actions.warning(&Annotation::new("Belay", text));
    }
}
