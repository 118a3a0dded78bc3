//! What has to fit together in a `belay.yml`: the checks that need more than one value.
//!
//! Pure; runs on the runner. They look at what could be read: a value with a problem of its own counts as not given.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Entries, Field, Node};
use super::problems::{Problems, entries};
use super::settings::{
    EnvironmentSettings, File, Gateway, HealthSettings, RequestSettings, SharedSettings,
    WishedStrategy,
};
use super::values::{AbsolutePath, Bytes, EnvironmentName, HostAddress, ServiceName, Text};
use crate::replacement::wishes::GATEWAY_SERVICE;
use crate::request::tag::TagKind;

/// All checks. `top` are the entries from which `file` was read.
pub(super) fn check(problems: &mut Problems, top: &Entries<'_>, file: &File) {
    check_budget(problems, top, file);
    check_given_services(problems, top, file);
    check_gateway_name(problems, top, file);
    check_limits(problems, top, file);
    check_health(problems, top, &health_somewhere(file));
    let Some(field) = top.get("environments") else {
        return;
    };
    let environments = entries(&field);
    for (name, environment) in &file.environments {
        if let Some(field) = environments.get(name.as_str()) {
            let health = &environment.shared.health;
            check_health(problems, &entries(&field), health);
        }
    }
    check_tags(problems, &environments, file);
    check_places(problems, &environments, file);
}

fn check_budget(problems: &mut Problems, top: &Entries<'_>, file: &File) {
    if file.images.budget.get() > 0 {
        return;
    }
    if let Some(images) = top.get("images") {
        let images = entries(&images);
        let message = format!("{}: no image fits into nothing", images.name_of("budget"));
        problems.add(images.place_of("budget"), message, Bytes::HINT);
    }
}

/// A service cannot both be left alone and be given a new image.
fn check_given_services(problems: &mut Problems, top: &Entries<'_>, file: &File) {
    let untouched = file
        .services
        .iter()
        .filter(|(_, service)| service.strategy == WishedStrategy::Untouched)
        .map(|(name, _)| name);
    for name in untouched.filter(|name| file.images.given.contains_key(name)) {
        let message =
            format!("services.{name} is untouched, but images.given has a new image for it");
        problems.add(top.place_of("services"), message, "remove one of the two");
    }
}

/// The gateway's name among the services of a project is its own.
fn check_gateway_name(problems: &mut Problems, top: &Entries<'_>, file: &File) {
    if file.gateway == Gateway::Off {
        return;
    }
    let is_gateway = |name: &ServiceName| name.as_str() == GATEWAY_SERVICE;
    let in_services = file.services.keys().any(is_gateway);
    let in_given = file.images.given.keys().any(is_gateway);
    for (section, path, is_there) in [
        ("services", "services", in_services),
        ("images", "images.given", in_given),
    ] {
        if is_there {
            let message = format!("{path}.{GATEWAY_SERVICE} is the gateway, which is Belay's own");
            let hint = "its image is `gateway.image`; a service of yours needs another name";
            problems.add(top.place_of(section), message, hint);
        }
    }
}

/// Limits that nothing would be held against, or that no deployment could ever keep.
fn check_limits(problems: &mut Problems, top: &Entries<'_>, file: &File) {
    let RequestSettings {
        rate,
        max_failed,
        max_gap,
        ..
    } = file.requests;
    if max_failed.is_none() && max_gap.is_none() {
        return;
    }
    let at = top.place_of("requests");
    if rate == 0 {
        let message = "requests: a limit is set, but with a rate of 0 nothing is measured";
        problems.add(at, message, "remove rate, or the limits");
    } else if health_somewhere(file).primary.is_none() {
        let message = "requests: a limit is set, but there is no health.primary to ask";
        let hint = "add health.primary: that is the endpoint whose answers are measured";
        problems.add(at, message, hint);
    }
    // One answer that is a little late is no gap: two questions have to fit in.
    let pauses = Duration::from_secs(2).checked_div(rate);
    if let (Some(gap), Some(pauses)) = (max_gap, pauses)
        && gap.get() < pauses
    {
        let message = format!(
            "requests.max-gap ({gap}) is too short for a rate of {rate}: two questions take {} ms",
            pauses.as_millis()
        );
        problems.add(at, message, "lengthen max-gap, or raise rate");
    }
}

// ---- health ---------------------------------------------------------------------------------------------------------

/// The health of the whole file. What an environment adds may be just what it is waiting for.
fn health_somewhere(file: &File) -> HealthSettings {
    let whole = &file.shared.health;
    let mut environments = file.environments.values();
    let added = || environments.find_map(|environment| environment.shared.health.primary.clone());
    HealthSettings {
        primary: whole.primary.clone().or_else(added),
        ..whole.clone()
    }
}

/// Combinations that could never become healthy, or that ask for what is not there. `parent` is where `health` stands.
fn check_health(problems: &mut Problems, parent: &Entries<'_>, health: &HealthSettings) {
    let Some(field) = parent.get("health") else {
        return;
    };
    let Node::Map(_) = field.item.node else {
        return;
    };
    let places = entries(&field);
    check_primary(problems, &places, health);
    check_times(problems, &places, health);
}

fn check_primary(problems: &mut Problems, places: &Entries<'_>, health: &HealthSettings) {
    // A primary that was no good has its own problem.
    if health.primary.is_some() || places.has("primary") {
        return;
    }
    if health.backup.is_some() {
        let message = format!("{} has no primary beside it", places.name_of("backup"));
        let hint = "add primary: the backup endpoint is asked only when that one cannot be reached";
        problems.add(places.place_of("backup"), message, hint);
    }
    if health.version.is_some() {
        let message = format!("{} has no primary to ask", places.name_of("version"));
        let hint = "add primary: that is the endpoint whose answer carries the version";
        problems.add(places.place_of("version"), message, hint);
    }
}

fn check_times(problems: &mut Problems, places: &Entries<'_>, health: &HealthSettings) {
    let HealthSettings {
        successes,
        interval,
        timeout,
        deadline,
        ..
    } = health;
    if timeout > deadline {
        let name = places.name_of("timeout");
        let message = format!("{name} ({timeout}) is longer than the deadline ({deadline})");
        let hint = "shorten timeout or lengthen deadline";
        problems.add(places.place_of("timeout"), message, hint);
    }
    // The first answer needs no pause before it.
    let pauses = interval.get().saturating_mul(successes.saturating_sub(1));
    if pauses > deadline.get() {
        let name = places.name_of("deadline");
        let message = format!(
            "{name}: {successes} answers every {interval} take longer than the deadline ({deadline})"
        );
        let hint = "lengthen deadline, or ask for fewer successes";
        problems.add(places.place_of("deadline"), message, hint);
    }
}

// ---- environments ---------------------------------------------------------------------------------------------------

/// A kind of tag goes to one environment.
fn check_tags(problems: &mut Problems, environments: &Entries<'_>, file: &File) {
    let mut taken: BTreeMap<TagKind, &EnvironmentName> = BTreeMap::new();
    for name in file.environments.keys() {
        for (kind, field) in listed_tags(environments, name) {
            if let Some(other) = taken.insert(kind, name) {
                let message = format!("{}: {kind} tags already go to {other}", field.name);
                let hint = "each kind of tag goes to one environment";
                problems.add(field.item.at, message, hint);
            }
        }
    }
}

/// The tags of an environment as they stand in the file, those that are known.
fn listed_tags<'a>(
    environments: &Entries<'a>,
    name: &EnvironmentName,
) -> Vec<(TagKind, Field<'a>)> {
    let tags = environments.get(name.as_str());
    let tags = tags.and_then(|field| entries(&field).get("tags"));
    let Some(tags) = tags else {
        return Vec::new();
    };
    let mut again = Problems::ignored();
    let listed = again.list(&tags).into_iter();
    listed
        .filter_map(|field| Some((again.choice(&field)?, field)))
        .collect()
}

/// Two environments in one folder of one host would replace each other at every deployment.
fn check_places(problems: &mut Problems, environments: &Entries<'_>, file: &File) {
    let mut taken: BTreeMap<HostFolder, &EnvironmentName> = BTreeMap::new();
    for (name, EnvironmentSettings { shared, .. }) in &file.environments {
        let Some(folder) = host_folder(shared) else {
            continue;
        };
        let Some(other) = taken.insert(folder, name) else {
            continue;
        };
        let message =
            format!("environments: {other} and {name} are the same folder of the same host");
        let hint = format!("give {name} a host or a root of its own");
        problems.add(environments.place_of_key(name.as_str()), message, hint);
    }
}

/// A host, the port of its SSH server, and a folder, which may be the usual one.
type HostFolder = (HostAddress, u16, Option<AbsolutePath>);

fn host_folder(settings: &SharedSettings) -> Option<HostFolder> {
    let host = &settings.host;
    Some((host.address.clone()?, host.port, settings.root.clone()))
}
