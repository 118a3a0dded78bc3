//! What a Compose file says of one service, as far as its replacement hangs on it. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::wishes::{GatewayRule, StrategyWish};
use crate::composition::compose::{ComposeFile, Condition, Kept};
use crate::composition::ports::{Port, PortProblem, ports};

/// One service, with what the rules look at.
pub(super) struct ServiceFacts<'a> {
    pub(super) file: &'a ComposeFile,
    pub(super) wish: &'a StrategyWish,
    pub(super) name: &'a str,
    pub(super) definition: &'a Value,
    pub(super) ports: Result<Vec<Port>, PortProblem>,
}

impl<'a> ServiceFacts<'a> {
    pub(super) fn new(file: &'a ComposeFile, wish: &'a StrategyWish) -> Self {
        let definition = file.service(&wish.service).unwrap_or(&Value::Null);
        ServiceFacts {
            file,
            wish,
            name: &wish.service,
            definition,
            ports: ports(definition),
        }
    }

    /// Ports that cannot be read are an obstacle before anybody asks which they are.
    pub(super) fn known_ports(&self) -> &[Port] {
        self.ports.as_deref().unwrap_or_default()
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let text = self.definition.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    }
}

/// Whether another service waits until this one has done its work and ended.
pub(super) fn is_awaited(file: &ComposeFile, name: &str) -> bool {
    let services = file.service_names().into_iter();
    let mut dependencies = services.flat_map(|service| file.dependencies(&service));
    dependencies.any(|(of, condition)| of == name && condition == Condition::CompletedSuccessfully)
}

/// The volumes of another container.
pub(super) struct Borrowed<'a> {
    pub(super) from: &'a str,
    pub(super) is_service: bool,
    pub(super) is_writable: bool,
}

/// Whose volumes a service has. Compose 1.x prints `service:NAME:rw` for the `NAME` that a user writes.
pub(super) fn volumes_from(definition: &Value) -> impl Iterator<Item = Borrowed<'_>> {
    let list = definition.get("volumes_from").and_then(Value::as_array);
    let entries = list.into_iter().flatten().filter_map(Value::as_str);
    entries.map(|entry| {
        let is_writable = !entry.ends_with(":ro");
        let entry = entry.trim_end_matches(":ro").trim_end_matches(":rw");
        let container = entry.strip_prefix("container:");
        Borrowed {
            from: container.unwrap_or(entry.strip_prefix("service:").unwrap_or(entry)),
            is_service: container.is_none(),
            is_writable,
        }
    })
}

/// Whether something is said there: an empty list or text says nothing.
pub(super) fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => true,
    }
}

/// Data that two containers would write to at once, or that the second would not have.
pub(super) fn keeps_data(seen: &ServiceFacts<'_>) -> Option<String> {
    let shared = "`strategy: start-first` if two containers may share it";
    let kept = seen.file.kept_data(seen.name).into_iter().next();
    match kept {
        Some(Kept::Volume(name)) => Some(format!("it keeps data in the volume {name} ({shared})")),
        Some(Kept::Bind(path)) => Some(format!(
            "it can write to {path} (mount it `:ro`, or {shared})"
        )),
        Some(Kept::Anonymous(path)) => Some(format!(
            "it keeps data in a volume without a name at {path} (`strategy: start-first` if a new container may start \
             without it)"
        )),
        None => {
            let borrowed = volumes_from(seen.definition).find(|b| b.is_writable)?;
            Some(format!(
                "it has the volumes of {} ({shared})",
                borrowed.from
            ))
        }
    }
}

/// Whether requests can reach it through the gateway: it publishes a port, and the gateway is not turned off.
pub(super) fn is_behind_the_gateway(seen: &ServiceFacts<'_>, gateway: &GatewayRule) -> bool {
    !seen.known_ports().is_empty() && *gateway != GatewayRule::Off
}

/// A proxy of the user's that looks for containers by itself.
pub(super) fn own_proxy(seen: &ServiceFacts<'_>) -> Option<&'static str> {
    let labels = pairs(seen.definition.get("labels"));
    let is_off = labels.contains(&("traefik.enable", "false".to_owned()));
    let is_traefik = |(key, value): &(&str, String)| {
        (*key == "traefik.enable" && value == "true")
            || key.starts_with("traefik.http.routers.")
            || key.starts_with("traefik.tcp.")
    };
    let is_caddy =
        |key: &str| key == "caddy" || key.starts_with("caddy.") || key.starts_with("caddy_");
    if !is_off && labels.iter().any(is_traefik) {
        return Some("Traefik finds it by its labels");
    }
    if labels.iter().any(|(key, _)| is_caddy(key)) {
        return Some("Caddy finds it by its labels");
    }
    let environment = pairs(seen.definition.get("environment"));
    let has_name = environment.iter().any(|(key, _)| *key == "VIRTUAL_HOST");
    has_name.then_some("nginx-proxy finds it by its VIRTUAL_HOST")
}

/// The names and values of a map, or of a list of `NAME=VALUE`.
pub(super) fn pairs(value: Option<&Value>) -> Vec<(&str, String)> {
    match value {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| {
                (
                    key.as_str(),
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key, value.to_owned()))
            .collect(),
        _ => vec![],
    }
}

/// Other services of the file that say that they need this one.
pub(super) fn needed_by(seen: &ServiceFacts<'_>) -> BTreeSet<String> {
    let others = seen.file.service_names().into_iter();
    others
        .filter(|other| {
            let depends = seen
                .file
                .dependencies(other)
                .into_iter()
                .any(|(of, _)| of == seen.name);
            depends || links(seen.file.service(other)).any(|(of, _)| of == seen.name)
        })
        .collect()
}

/// The services that a service is linked to, each with the name that it has there.
pub(super) fn links(definition: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let links = definition.and_then(|d| d.get("links"));
    let links = links.and_then(Value::as_array).into_iter().flatten();
    let links = links.filter_map(Value::as_str);
    links.map(|link| link.split_once(':').unwrap_or((link, link)))
}

/// Whether anybody may ask it something. Without a port, data or a place in other services it is a worker.
pub(super) fn is_asked(seen: &ServiceFacts<'_>) -> bool {
    seen.ports.as_ref().map_or(true, |ports| !ports.is_empty())
        || seen.text("network_mode").is_some_and(|mode| mode != "none")
        || own_proxy(seen).is_some()
        || keeps_data(seen).is_some()
        || !needed_by(seen).is_empty()
}
