//! The doctor's look at the host: what it says of itself, and what that means.

use std::time::Duration;

use super::of_failure;
use crate::link::Link;
use belay_model::composition::near_miss;
use belay_model::config::Settings;
use belay_model::docker_versions::{Remark, misfit, remarks};
use belay_model::judgement::health::TimedAnswer;
use belay_report::doctor::Finding;
use belay_report::words;
use belay_wire::{EngineFacts, Examined, FileFinding, HostFacts, ServiceImage, Supervisor, Verb};

/// A clock that is further off than this confuses whoever compares logs, and certificates.
const CLOCK_OFF: Duration = Duration::from_secs(30);

/// What the host itself says, and what its facts mean.
pub(super) fn examine(
    link: &Link,
    settings: &Settings,
    published: &[u16],
) -> (Option<HostFacts>, Vec<Finding>) {
    let facts: HostFacts = match link.ask(Verb::Facts, &[], None::<&()>) {
        Ok(facts) => facts,
        Err(error) => return (None, vec![of_failure("Docker", error)]),
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
    findings.extend(facts.files.iter().map(file));
    findings.extend(ports(link, published, &facts));
    findings.push(backups(&facts, settings));
    findings.extend(endpoints(link, settings, &facts));
    (Some(facts), findings)
}

/// Whether somebody listens on the ports that the Compose file publishes.
fn ports(link: &Link, published: &[u16], facts: &HostFacts) -> Option<Finding> {
    let numbers = published.iter().map(u16::to_string);
    let words: Vec<String> = numbers
        .flat_map(|port| ["--port".to_owned(), port])
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match link.ask::<Examined>(Verb::Examine, &words, None::<&()>) {
        Ok(examined) => taken_ports(&examined, facts),
        Err(error) => Some(of_failure("ports", error)),
    }
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

/// A file of Belay's that is, or was, damaged.
fn file(finding: &FileFinding) -> Finding {
    let nothing =
        "nothing: it is done, and the damaged file may be removed when nobody wants to look at it";
    let contact = "run `belay status`: a contact rebuilds it";
    let fix = match &finding.next {
        Some(next) => next,
        None if finding.is_mendable() => contact,
        None => nothing,
    };
    Finding::careful("files", finding.describe(), fix)
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
        match link.ask::<TimedAnswer>(Verb::Ask, &words, None::<&()>) {
            Ok(timed) => answered(&url, &timed),
            Err(error) => of_failure(what, error),
        }
    };
    let urls = urls.into_iter().flatten().map(ToString::to_string);
    urls.map(ask).collect()
}

/// How an endpoint answered.
pub(super) fn answered(url: &str, timed: &TimedAnswer) -> Finding {
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
