//! `belay doctor`: looks at everything that a deployment needs, from the configuration to the host, and says what to do
//! about what is wrong.
//!
//! Runs on a laptop or the runner. Changes nothing that serves; it brings the agent to the host, as any contact does. What
//! depends on something that is wrong is not looked at, and says so.

mod data;
mod github;
mod host;
mod support;

pub(crate) use support::support_report;

use std::path::Path;

use serde_json::Value;

use super::session::{Session, compose_file, runtime};
use super::{git, source::Source};
use belay_model::composition::near_miss;
use belay_model::composition::ports::{Published, ports};
use belay_model::config::Settings;
use belay_model::request::tag::Tag;
use belay_model::request::tag_ancestry::{History, next_tags};
use belay_model::transaction::outcome::{Failure, with_causes};
use belay_model::yaml;
use belay_prober::ask_timed;
use belay_report::doctor::Finding;
use belay_report::words;
use belay_wire::HostFacts;

/// What was seen.
pub(crate) struct Examination {
    /// One for each thing that was looked at.
    pub(crate) findings: Vec<Finding>,
    /// `None` when the configuration has problems.
    settings: Option<Settings>,
    /// `None` when the host was not reached, or its Docker not.
    host: Option<HostFacts>,
}

/// Looks at everything.
pub(crate) fn examine(session: &Session<'_>) -> Examination {
    let (mut findings, next) = history(&session.dir);
    let settings = match session.release_settings() {
        Ok(settings) => {
            findings.push(Finding::good("configuration", describe(&settings)));
            settings
        }
        Err(failure) => {
            findings.push(of_failure("configuration", failure));
            return Examination {
                findings,
                settings: None,
                host: None,
            };
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
    let host = enter(session, &settings, &published, &mut findings);
    findings.extend(public_endpoint(&settings));
    findings.extend(key(session));
    Examination {
        findings,
        settings: Some(settings),
        host,
    }
}

/// Enters the host, and looks at it where that is possible.
fn enter(
    session: &Session<'_>,
    settings: &Settings,
    published: &[u16],
    findings: &mut Vec<Finding>,
) -> Option<HostFacts> {
    match session.link(settings) {
        Ok(link) => {
            let (at, how) = (link.describe(), "with the key that was pinned");
            findings.push(Finding::good("SSH", format!("{at} lets us in, {how}")));
            let (facts, seen) = host::examine(&link, settings, published);
            findings.extend(seen);
            if facts.is_some() {
                findings.extend(data::examine(session, settings, &link));
            }
            facts
        }
        Err(failure) => {
            findings.push(of_failure("SSH", failure));
            let why = "the host was not reached";
            findings.extend(
                ["Docker", "disk", "clock", "endpoints"].map(|what| Finding::unknown(what, why)),
            );
            None
        }
    }
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

fn public_endpoint(settings: &Settings) -> Option<Finding> {
    let url = settings.health.public.as_ref()?.to_string();
    let timed = ask_timed(&url, settings.health.timeout.get(), true);
    Some(host::answered(&url, &timed))
}
