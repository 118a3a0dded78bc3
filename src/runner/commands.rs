//! The commands that leave the version that serves alone: backup, backups, status, logs, restart, repair.
//!
//! Runs on the runner or a laptop. With `--json` the answer is one JSON document on standard output.

use super::actions::Actions;
use super::random;
use super::session::Session;
use super::{doctor, present};
use belay_model::config::Settings;
use belay_model::request::intent::Operation;
use belay_model::transaction::journal::Holder;
use belay_model::transaction::outcome::{Failure, ServiceLog, Word};
use belay_model::transaction::plan::{self, ConfirmRule, Plan, PlannedWork, Run};
use belay_model::versions::release::RollbackTo;
use belay_report::doctor::{doctor_text, is_bad};
use belay_report::support::support_markdown;
use belay_report::words;
use belay_wire::{BackupFacts, HostFacts, Repaired, Restarted, Verb};

/// Lines of each service's log to show.
const LOG_LINES: &str = "50";

/// Runs an operation and returns the exit code.
pub(crate) fn run(session: &Session<'_>, operation: Operation) -> u8 {
    match try_run(session, operation) {
        Ok(code) => code,
        Err(failure) => {
            let lines = belay_report::three_lines(&failure, Word::Refused);
            for line in lines.lines() {
                let _ = session.actions.line(line);
            }
            Word::Refused.exit_code()
        }
    }
}

fn try_run(session: &Session<'_>, operation: Operation) -> Result<u8, Failure> {
    let settings = || session.release_settings();
    match operation {
        Operation::Status => status(session, &settings()?),
        Operation::Backup => backup(session, &settings()?),
        Operation::Backups => backups(session, &settings()?),
        Operation::Logs => logs(session, &settings()?),
        Operation::Restart => restart(session, &settings()?),
        Operation::Repair => repair(session, &settings()?),
        // It looks at what keeps the others from working, so it needs nothing of what they need.
        Operation::Doctor => examine(session),
    }
}

fn examine(session: &Session<'_>) -> Result<u8, Failure> {
    let seen = doctor::examine(session);
    let findings = &seen.findings;
    if session.inputs.report {
        let report = doctor::support_report(session, &seen);
        print_lines(session.actions, &support_markdown(&report))?;
    } else {
        show(session, findings, || doctor_text(findings))?;
    }
    Ok(match is_bad(findings) {
        true => Word::Refused.exit_code(),
        false => 0,
    })
}

fn status(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let facts: HostFacts = link.ask(Verb::Facts, &[], None::<&()>)?;
    let report = present::status(
        settings.app.as_str(),
        settings.environment.as_str(),
        &link.describe(),
        settings.root.as_str(),
        &facts,
    );
    show(session, &report, || belay_report::status_text(&report))?;
    Ok(0)
}

fn backup(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let plan = plan_of(session, settings, "backup")?;
    let made: BackupFacts = link.ask(Verb::Backup, &[], Some(&plan))?;
    let lines = present::backups(std::slice::from_ref(&made));
    show(session, &made, || {
        belay_report::backups_text(&lines, jiff::Timestamp::now())
    })?;
    let _ = session.actions.output("backup", &made.name);
    Ok(0)
}

/// Work of its own runs under the rules of a plan, and changes nothing that a transaction would.
fn plan_of(session: &Session<'_>, settings: &Settings, what: &str) -> Result<Plan, Failure> {
    let random = |e: std::io::Error| Failure::new(format!("could not get random numbers: {e}"));
    let work = PlannedWork::Rollback {
        to: RollbackTo::Previous,
        reason: None,
        restore: None,
    };
    let run = Run {
        tx: random::hex().map_err(random)?,
        confirm: ConfirmRule::Host,
        holder: Holder {
            run_url: session.origin().map(|o| o.run_url.clone()),
            actor: session.origin().map(|o| o.actor.clone()),
            ..Holder::default()
        },
    };
    let project = settings.project.as_ref().map(|p| p.as_str().to_owned());
    let mut plan = plan::compose(work, settings, project, run);
    what.clone_into(&mut plan.holder.what);
    Ok(plan)
}

fn restart(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let plan = plan_of(session, settings, "restart")?;
    let words = match &session.inputs.service {
        Some(service) => vec!["--service", service],
        None => vec![],
    };
    let done: Vec<Restarted> = link.ask(Verb::Restart, &words, Some(&plan))?;
    show(session, &done, || restarted_text(&done))?;
    Ok(0)
}

fn restarted_text(done: &[Restarted]) -> String {
    let line = |one: &Restarted| {
        let took = belay_report::words::duration(one.ms);
        let name = belay_model::text::one_line(&one.service);
        match one.made {
            true => format!("{name} did not run; it runs again, and is well after {took}\n"),
            false => format!("{name} was restarted, and is well again after {took}\n"),
        }
    };
    match done.is_empty() {
        true => "no service runs\n".to_owned(),
        false => done.iter().map(line).collect(),
    }
}

fn repair(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let repaired: Repaired = link.ask(Verb::Repair, &[], None::<&()>)?;
    show(session, &repaired, || repaired_text(&repaired))?;
    Ok(match repaired.is_whole() {
        true => 0,
        false => Word::Refused.exit_code(),
    })
}

/// Each file that was not as it should be, with what is left to do, and what runs.
fn repaired_text(repaired: &Repaired) -> String {
    let mut lines = vec![];
    for finding in &repaired.files {
        lines.push(finding.describe());
        lines.extend(finding.next.as_ref().map(|next| format!("  next: {next}")));
    }
    lines.extend(repaired.open.as_ref().map(|open| {
        format!("{open}\n  next: see `belay status` for what stands in the way; each contact tries again")
    }));
    if !repaired.down.is_empty() {
        lines.push(format!("{} not run", words::not_running(&repaired.down)));
        lines.push("  next: run `docker-compose up -d` in the folder on the host".to_owned());
    }
    let damaged = repaired.files.len();
    let serving = repaired.serving.as_deref().unwrap_or("nothing");
    let found = match damaged {
        0 => "each is whole".to_owned(),
        1 => "1 was not as it should be".to_owned(),
        more => format!("{more} were not as they should be"),
    };
    lines.push(format!(
        "{} files looked at, {found}; by the records {serving} serves",
        repaired.looked_at
    ));
    let text: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    text.join("\n") + "\n"
}

/// Lines stay lines; nothing in them is more than text.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        format!(
            "{:indent$}{}",
            "",
            belay_model::text::one_line(line.trim_start())
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn backups(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let words: &[&str] = if session.inputs.verify {
        &["--verify"]
    } else {
        &[]
    };
    let all: Vec<BackupFacts> = link.ask(Verb::Backups, words, None::<&()>)?;
    let lines = present::backups(&all);
    show(session, &all, || {
        belay_report::backups_text(&lines, jiff::Timestamp::now())
    })?;
    let damaged = all.iter().any(|backup| backup.problem.is_some());
    Ok(if damaged {
        Word::Refused.exit_code()
    } else {
        0
    })
}

fn logs(session: &Session<'_>, settings: &Settings) -> Result<u8, Failure> {
    let link = session.link(settings)?;
    let mut words = vec!["--lines", LOG_LINES];
    if let Some(service) = &session.inputs.service {
        words.extend(["--service", service]);
    }
    let logs: Vec<ServiceLog> = link.ask(Verb::Logs, &words, None::<&()>)?;
    if session.inputs.json {
        return show(session, &logs, String::new).map(|()| 0);
    }
    for log in &logs {
        let _ = session.actions.group(&log.service);
        let _ = session.actions.remote(log.text.as_bytes());
        let _ = session.actions.end_group();
    }
    Ok(0)
}

fn show<T: serde::Serialize>(
    session: &Session<'_>,
    value: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if session.inputs.json {
        // What is shown is plain data, which always serialises.
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        return print_lines(session.actions, &json);
    }
    let text = text();
    let _ = session
        .actions
        .summary(&format!("```text\n{}\n```\n", text.replace("```", "'''")));
    print_lines(session.actions, &text)
}

fn print_lines(actions: &Actions, text: &str) -> Result<(), Failure> {
    for line in text.lines() {
        actions
            .line(line)
            .map_err(|e| Failure::new(format!("could not write the answer: {e}")))?;
    }
    Ok(())
}
