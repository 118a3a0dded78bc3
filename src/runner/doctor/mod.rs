//! `belay doctor`: looks at everything that a deployment needs, from the configuration to the host, and says what to do
//! about what is wrong.
//!
//! Runs on a laptop or the runner. Changes nothing that serves; it brings the agent to the host, as any contact does. What
//! depends on something that is wrong is not looked at, and says so.

mod github;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::link::Link;
use super::session::{Session, compose_file, runtime};
use super::{git, source::Source};
use belay_model::composition::near_miss;
use belay_model::composition::ports::{Published, ports};
use belay_model::config::Settings;
use belay_model::docker_versions::{Remark, misfit, remarks};
use belay_model::request::tag::{History, Tag, next_tags};
use belay_model::transaction::outcome::{Failure, with_causes};
use belay_model::yaml;
use belay_prober::ask_timed;
use belay_report::doctor::Finding;
use belay_report::words;
use belay_wire::{EngineFacts, Examined, HostFacts, ServiceImage, Supervisor, Verb};

/// A clock that is further off than this confuses whoever compares logs, and certificates.
const CLOCK_OFF: Duration = Duration::from_secs(30);

/// Looks at everything.
pub fn examine(session: &Session<'_>) -> Vec<Finding> {
    let (mut findings, next) = history(&session.dir);
    let settings = match session.release_settings() {
        Ok(settings) => {
            findings.push(Finding::good("configuration", describe(&settings)));
            settings
        }
        Err(failure) => {
            findings.push(of_failure("configuration", failure));
            return findings;
        }
    };
    let published = match published_ports(session, &settings) {
        Ok((finding, ports)) => {
            findings.push(finding);
            ports
        }
        Err(failure) => {
            findings.push(of_failure("Compose file", failure));
            vec![]
        }
    };
    findings.extend(github(session, &settings, &next));
    match session.link(&settings) {
        Ok(link) => {
            findings.push(Finding::good(
                "SSH",
                format!(
                    "{} lets us in, with the key that was pinned",
                    link.describe()
                ),
            ));
            findings.extend(host(&link, &settings, &published));
        }
        Err(failure) => {
            findings.push(of_failure("SSH", failure));
            let why = "the host was not reached";
            findings.extend(
                ["Docker", "disk", "clock", "endpoints"].map(|what| Finding::unknown(what, why)),
            );
        }
    }
    findings.extend(public_endpoint(&settings));
    findings.extend(key(session));
    findings
}

fn key(session: &Session<'_>) -> Option<Finding> {
    let weak = near_miss::weak_key(session.public_key()?.as_str())?;
    Some(Finding::careful(
        "SSH key",
        weak,
        "ssh-keygen -t ed25519, and its public half into authorized_keys",
    ))
}

fn of_failure(what: &str, failure: impl Into<Failure>) -> Finding {
    let failure: Failure = failure.into();
    let fix = failure.next;
    Finding::bad(
        what,
        failure.error,
        fix.unwrap_or_else(|| "see docs/when-it-goes-wrong.md".to_owned()),
    )
}

fn describe(settings: &Settings) -> String {
    format!("{} in {}", settings.app, settings.environment)
}

/// Whether the order of versions can be judged, and the tags that could come next.
fn history(dir: &Path) -> (Vec<Finding>, Vec<Tag>) {
    let what = "Git history";
    let facts = match git::repository_facts(dir, "HEAD") {
        Ok(facts) => facts,
        Err(error) => {
            let finding = Finding::bad(
                what,
                with_causes(&error),
                "run this in a checkout of the application's repository",
            );
            return (vec![finding], vec![]);
        }
    };
    let whole = match facts.history {
        History::Shallow => Finding::careful(
            what,
            "this checkout has no history, so a tag's place in it cannot be judged",
            "check out with fetch-depth: 0",
        ),
        History::Complete => Finding::good(what, "whole"),
    };
    let next = next_tags(facts.tags.keys().map(String::as_str));
    let names: Vec<&str> = next.iter().map(Tag::as_str).collect();
    let count = words::count(facts.tags.len(), "version tag", "version tags");
    let tags = format!("{count}; the next could be {}", names.join(" or "));
    (vec![whole, Finding::good("tags", tags)], next)
}

/// The Compose file, and the TCP ports that it takes on the host.
fn published_ports(
    session: &Session<'_>,
    settings: &Settings,
) -> Result<(Finding, Vec<u16>), Failure> {
    let source = Source::here(&session.dir);
    let path = compose_file(source.dir(), settings)?;
    let text = std::fs::read(&path)
        .map_err(|e| Failure::new(format!("could not read {}: {e}", path.display())))?;
    let document = yaml::read(&text).map_err(|e| session.file_problem(&path, e))?;
    let services = document.get("services").and_then(Value::as_object);
    let mut found = vec![];
    for service in services.into_iter().flat_map(|services| services.values()) {
        // A port behind a variable is known on the host only.
        for port in ports(service).unwrap_or_default() {
            if let Published::Fixed(port) = port.published {
                found.push(port);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    let count = services.map_or(0, serde_json::Map::len);
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let text = format!("{name}: {}", words::count(count, "service", "services"));
    Ok((Finding::good("Compose file", text), found))
}

/// What GitHub says, where there is one.
fn github(session: &Session<'_>, settings: &Settings, next: &[Tag]) -> Vec<Finding> {
    if session.origin().is_none() {
        return vec![];
    }
    let Ok(runtime) = runtime() else {
        return vec![];
    };
    let client = session.github(&runtime);
    github::examine(
        &runtime,
        client.as_ref(),
        settings.environment.as_str(),
        next,
    )
}

fn host(link: &Link, settings: &Settings, published: &[u16]) -> Vec<Finding> {
    let facts: HostFacts = match link.ask(Verb::Facts, &[], None::<&()>) {
        Ok(facts) => facts,
        Err(error) => return vec![of_failure("Docker", error)],
    };
    let mut findings = vec![
        engine(&facts),
        disk(&facts),
        clock(&facts),
        recovery(&facts),
    ];
    findings.extend(versions(&facts));
    findings.extend(images(&facts));
    findings.extend(transaction(&facts));
    let mut words: Vec<String> = vec![];
    for port in published {
        words.extend(["--port".to_owned(), port.to_string()]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match link.ask::<Examined>(Verb::Examine, &words, None::<&()>) {
        Ok(examined) => findings.extend(taken_ports(&examined, &facts)),
        Err(error) => findings.push(of_failure("ports", error)),
    }
    findings.push(backups(&facts, settings));
    findings.extend(endpoints(link, settings, &facts));
    findings
}

fn engine(facts: &HostFacts) -> Finding {
    let engine = &facts.engine;
    let text = format!(
        "engine {}, Compose {}, {}, images in {}",
        engine.engine,
        engine.compose,
        engine.architecture,
        engine.store.describe()
    );
    match engine.live_restore {
        true => Finding::good("Docker", text + ", live-restore is on"),
        false => Finding::careful(
            "Docker",
            text + "; live-restore is off, so an update of Docker stops the containers",
            "put {\"live-restore\": true} into /etc/docker/daemon.json and reload Docker",
        ),
    }
}

/// What is known of the host's versions.
fn versions(facts: &HostFacts) -> Vec<Finding> {
    let EngineFacts {
        engine,
        compose,
        oldest_api,
        ..
    } = &facts.engine;
    let what = "versions";
    let bad = |Remark { text, next }| Finding::bad(what, text, next);
    let careful = |Remark { text, next }| Finding::careful(what, text, next);
    let misfit = misfit(engine, oldest_api, compose).map(bad);
    let remarks = remarks(engine, compose).into_iter().map(careful);
    misfit.into_iter().chain(remarks).collect()
}

/// Images that are recorded and not there any more: they were removed, or Docker keeps its images elsewhere now.
fn images(facts: &HostFacts) -> Option<Finding> {
    let is_gone = |image: &&ServiceImage| !image.is_there && !image.id.is_empty();
    let gone: Vec<&str> = facts
        .images
        .iter()
        .filter(is_gone)
        .map(|i| i.service.as_str())
        .collect();
    (!gone.is_empty()).then(|| {
        Finding::careful(
            "images",
            format!(
                "Docker on the host has no images of the version that was deployed last any more ({}); it keeps them in {}",
                gone.join(", "),
                facts.engine.store.describe()
            ),
            "deploy that tag again: its images are sent once more",
        )
    })
}

fn clock(facts: &HostFacts) -> Finding {
    let off = jiff::Timestamp::now()
        .duration_since(facts.now)
        .unsigned_abs();
    let text = format!(
        "{} apart from this machine's",
        words::duration(u64::try_from(off.as_millis()).unwrap_or(u64::MAX))
    );
    match off > CLOCK_OFF {
        true => Finding::careful(
            "clock",
            text,
            "set up time synchronisation: timedatectl set-ntp true",
        ),
        false => Finding::good("clock", text),
    }
}

fn recovery(facts: &HostFacts) -> Finding {
    let text = facts.supervisor.describe();
    match facts.supervisor {
        Supervisor::NextContact => Finding::careful(
            "recovery",
            text,
            "on the host: loginctl enable-linger USER, or install cron",
        ),
        Supervisor::SystemUnit { .. }
        | Supervisor::UserUnit { .. }
        | Supervisor::Crontab { .. } => Finding::good("recovery", text),
    }
}

fn transaction(facts: &HostFacts) -> Option<Finding> {
    let open = facts.open.as_ref()?;
    let since = words::utc(open.since);
    Some(match open.stuck {
        true => Finding::bad(
            "transaction",
            format!("{} is stuck since {since}", open.what),
            "see `belay status`",
        ),
        false => Finding::careful(
            "transaction",
            format!("{} goes on since {since}", open.what),
            "wait for it to end",
        ),
    })
}

fn disk(facts: &HostFacts) -> Finding {
    let (free, total) = (facts.free_bytes, facts.total_bytes);
    let text = format!("{} free of {}", words::size(free), words::size(total));
    match near_miss::low_disk(free, total) {
        Some(low) => Finding::careful(
            "disk",
            format!("{low}: {text}"),
            "make room: docker system df shows what takes it",
        ),
        None => Finding::good("disk", text),
    }
}

/// Where nothing of ours serves, a port that somebody has is somebody else's.
fn taken_ports(examined: &Examined, facts: &HostFacts) -> Option<Finding> {
    if facts.current.is_some() || examined.taken.is_empty() {
        return None;
    }
    let ports: Vec<String> = examined.taken.iter().map(u16::to_string).collect();
    Some(Finding::careful(
        "ports",
        format!(
            "in use on the host, where Belay has deployed nothing: {}",
            ports.join(", ")
        ),
        "fine if it is this application, which is then taken over; else free them or publish others",
    ))
}

fn backups(facts: &HostFacts, settings: &Settings) -> Finding {
    match facts.backups.last() {
        Some(last) => Finding::good(
            "backups",
            format!(
                "{} of {}, the last {} ({})",
                facts.backups.len(),
                settings.backup.keep,
                last.name,
                words::size(last.bytes)
            ),
        ),
        None => Finding::good(
            "backups",
            "none yet; the first deployment of something that runs takes one",
        ),
    }
}

fn endpoints(link: &Link, settings: &Settings, facts: &HostFacts) -> Vec<Finding> {
    let what = "endpoint";
    let timeout = settings.health.timeout.get().as_millis().to_string();
    let urls = [&settings.health.primary, &settings.health.backup];
    let ask = |url: String| {
        if facts.current.is_none() {
            return Finding::unknown(what, format!("{url}: nothing is deployed yet"));
        }
        let words = ["--url", &url, "--timeout", &timeout];
        match link.ask::<belay_model::judgement::health::TimedAnswer>(
            Verb::Ask,
            &words,
            None::<&()>,
        ) {
            Ok(timed) => answered(&url, &timed),
            Err(error) => of_failure(what, error),
        }
    };
    let urls = urls.into_iter().flatten().map(ToString::to_string);
    urls.map(ask).collect()
}

fn answered(url: &str, timed: &belay_model::judgement::health::TimedAnswer) -> Finding {
    let text = format!(
        "{url} {} in {}",
        timed.answer.describe(),
        words::duration(timed.ms)
    );
    match timed.answer.is_success() {
        true => Finding::good("endpoint", text),
        false => Finding::bad(
            "endpoint",
            text,
            "check `health` in belay.yml, and `belay logs`",
        ),
    }
}

fn public_endpoint(settings: &Settings) -> Option<Finding> {
    let url = settings.health.public.as_ref()?.to_string();
    let timed = ask_timed(&url, settings.health.timeout.get(), true);
    Some(answered(&url, &timed))
}
