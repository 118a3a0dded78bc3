//! How each service goes from the old version to the new one, and why.
//!
//! Pure; decides on the runner for a dry run, and on the host for the real one. The rules are in one order and are all
//! here: what must not run twice is stopped first, and a wish against that is refused with the way out, because two
//! containers that fight over a port, an address or a file are worse than a gap. Every reason is a clause that its
//! reader can check in the Compose file.

use super::wishes::{DrainWish, Mode, Roll, StrategyWish, WishedStrategy};
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wishes::GatewayRule;
use super::wishes::SERVERS;
use crate::composition::compose::{ComposeFile, ComposeProblem, Condition, Kept};
use crate::composition::ports::{Port, PortProblem, Protocol, Published, ports};

/// How a service goes from the old version to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The new container serves before the old one stops; the gateway moves the requests.
    StartFirstGateway,
    /// The same behind a proxy of the user's, which finds containers by itself.
    StartFirstProxy,
    /// The old container stops before the new one starts.
    StopFirst,
    /// Its container stays.
    Untouched,
    /// It runs once and ends.
    OneShot,
    /// The gateway itself, which no rule is for.
    Gateway,
}

impl Strategy {
    /// Every one, for who looks one up by its words.
    const ALL: [Strategy; 6] = [
        Strategy::StartFirstGateway,
        Strategy::StartFirstProxy,
        Strategy::StopFirst,
        Strategy::Untouched,
        Strategy::OneShot,
        Strategy::Gateway,
    ];

    /// Whether the new container runs beside the old one for a while.
    #[must_use]
    pub fn is_start_first(self) -> bool {
        match self {
            Strategy::StartFirstGateway | Strategy::StartFirstProxy => true,
            Strategy::StopFirst | Strategy::Untouched | Strategy::OneShot | Strategy::Gateway => {
                false
            }
        }
    }

    /// The strategy in words, which journals keep.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Strategy::StartFirstGateway => "start-first through the gateway",
            Strategy::StartFirstProxy => "start-first behind your proxy",
            Strategy::StopFirst => "stop-first",
            Strategy::Untouched => "untouched",
            Strategy::OneShot => "one-shot",
            Strategy::Gateway => "the gateway itself",
        }
    }
}

impl DrainWish {
    /// No command, and a moment for the proxy to notice.
    #[must_use]
    pub fn usual() -> Self {
        DrainWish {
            command: vec![],
            wait_ms: 5000,
        }
    }
}

/// How one service is replaced, and why: decided once, kept in the journal, and told in every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStrategy {
    /// The service's name in the Compose file, or the gateway's.
    pub service: String,
    /// The way of it.
    pub strategy: Strategy,
    /// Why this way: a clause that its reader can check in the Compose file.
    pub reason: String,
    /// The time without the service that is to be expected, in words; `None` when there is none, or none is known.
    #[serde(default)]
    pub gap: Option<String>,
}

/// Strategies as journals and outcomes have them for people: by their words, not by their names.
pub mod in_words {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ServiceStrategy, Strategy};

    #[derive(Serialize, Deserialize)]
    struct InWords {
        service: String,
        strategy: String,
        reason: String,
        #[serde(default)]
        gap: Option<String>,
    }

    /// For `#[serde(with)]`: writes each strategy as [`Strategy::words`] has it.
    pub fn serialize<S: Serializer>(list: &[ServiceStrategy], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().cloned().map(|one| InWords {
            service: one.service,
            strategy: one.strategy.words().to_owned(),
            reason: one.reason,
            gap: one.gap,
        }))
    }

    /// For `#[serde(with)]`: reads the words back. Words of no strategy that this version knows are an error.
    pub fn deserialize<'de, D>(from: D) -> Result<Vec<ServiceStrategy>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let list = Vec::<InWords>::deserialize(from)?;
        let read = |one: InWords| {
            let known = Strategy::ALL.into_iter();
            let mut known = known.filter(|strategy| strategy.words() == one.strategy);
            let unknown = || D::Error::custom(format!("`{}` is no strategy", one.strategy));
            Ok(ServiceStrategy {
                strategy: known.next().ok_or_else(unknown)?,
                service: one.service,
                reason: one.reason,
                gap: one.gap,
            })
        };
        list.into_iter().map(read).collect()
    }
}

/// Decides the strategy of every service, given what serves now, both files as the user wrote them.
pub fn classify(
    file: &ComposeFile,
    wishes: &[StrategyWish],
    gateway: &GatewayRule,
    serving: Option<&ComposeFile>,
) -> Result<Vec<ServiceStrategy>, ComposeProblem> {
    if let Some(wish) = wishes.iter().find(|w| file.service(&w.service).is_none()) {
        return Err(ComposeProblem::UnknownService(wish.service.clone()));
    }
    let services = file.service_names().into_iter();
    services
        .map(|service| {
            let wish = wishes.iter().find(|wish| wish.service == service);
            let wish = wish.cloned().unwrap_or_else(|| StrategyWish::of(&service));
            let seen = Seen::new(file, &wish);
            let (strategy, reason) = decide(&seen, gateway, serving)?;
            Ok(ServiceStrategy {
                gap: (strategy == Strategy::StopFirst)
                    .then(|| gap(&seen))
                    .flatten(),
                service,
                strategy,
                reason,
            })
        })
        .collect()
}

/// One service, with what the rules look at.
struct Seen<'a> {
    file: &'a ComposeFile,
    wish: &'a StrategyWish,
    name: &'a str,
    definition: &'a Value,
    ports: Result<Vec<Port>, PortProblem>,
}

impl<'a> Seen<'a> {
    fn new(file: &'a ComposeFile, wish: &'a StrategyWish) -> Self {
        let definition = file.service(&wish.service).unwrap_or(&Value::Null);
        Seen {
            file,
            wish,
            name: &wish.service,
            definition,
            ports: ports(definition),
        }
    }

    /// Ports that cannot be read are an obstacle before anybody asks which they are.
    fn known_ports(&self) -> &[Port] {
        self.ports.as_deref().unwrap_or_default()
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        let text = self.definition.get(key).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    }
}

const SAID: &str = "belay.yml says so";

fn decide(
    seen: &Seen<'_>,
    gateway: &GatewayRule,
    serving: Option<&ComposeFile>,
) -> Result<(Strategy, String), ComposeProblem> {
    let served = serving.and_then(|s| s.service(seen.name));
    let is_same = served == Some(seen.definition);
    let is_awaited = is_awaited(seen.file, seen.name);
    match seen.wish.strategy {
        WishedStrategy::OneShot => Ok((Strategy::OneShot, SAID.to_owned())),
        WishedStrategy::StopFirst => Ok((Strategy::StopFirst, SAID.to_owned())),
        WishedStrategy::StartFirst => start_first(seen, gateway, is_awaited),
        WishedStrategy::Auto | WishedStrategy::Untouched if is_awaited => Ok((
            Strategy::OneShot,
            "another service waits for it to complete".to_owned(),
        )),
        WishedStrategy::Auto | WishedStrategy::Untouched if is_same => Ok((
            Strategy::Untouched,
            "it is the same in both versions".to_owned(),
        )),
        WishedStrategy::Auto => Ok(by_rule(seen, gateway)),
        WishedStrategy::Untouched => {
            let (strategy, reason) = by_rule(seen, gateway);
            let changed = served.map_or("", |_| "it changed, so it cannot stay untouched; ");
            Ok((strategy, format!("{changed}{reason}")))
        }
    }
}

fn by_rule(seen: &Seen<'_>, gateway: &GatewayRule) -> (Strategy, String) {
    if let Some(obstacle) = obstacle(seen, gateway) {
        return (Strategy::StopFirst, obstacle.reason);
    }
    if let Some(reason) = keeps_data(seen) {
        return (Strategy::StopFirst, reason);
    }
    if let Some(strategy) = through_the_gateway(seen, gateway) {
        return (
            strategy,
            "it publishes its port and can run twice".to_owned(),
        );
    }
    match own_proxy(seen) {
        Some(reason) => (Strategy::StartFirstProxy, reason.to_owned()),
        None => (Strategy::StopFirst, why_alone(seen)),
    }
}

/// A wish for start-first, which overrides what is only caution, and nothing that cannot be.
fn start_first(
    seen: &Seen<'_>,
    gateway: &GatewayRule,
    is_awaited: bool,
) -> Result<(Strategy, String), ComposeProblem> {
    let ends = is_awaited.then(|| {
        Obstacle::new(
            "another service waits for it to complete",
            "leave its strategy out, and it runs once",
        )
    });
    if let Some(obstacle) = ends.or_else(|| obstacle(seen, gateway)) {
        return Err(ComposeProblem::CannotStartFirst {
            service: seen.name.to_owned(),
            reason: format!("{}; {}", obstacle.reason, obstacle.way_out),
        });
    }
    let strategy = through_the_gateway(seen, gateway).unwrap_or(Strategy::StartFirstProxy);
    Ok((strategy, SAID.to_owned()))
}

fn through_the_gateway(seen: &Seen<'_>, gateway: &GatewayRule) -> Option<Strategy> {
    let is_published = !seen.known_ports().is_empty();
    (is_published && *gateway != GatewayRule::Off).then_some(Strategy::StartFirstGateway)
}

fn is_awaited(file: &ComposeFile, name: &str) -> bool {
    let services = file.service_names().into_iter();
    let mut dependencies = services.flat_map(|service| file.dependencies(&service));
    dependencies.any(|(of, condition)| of == name && condition == Condition::CompletedSuccessfully)
}

/// Why a service cannot run twice, and what its owner can do about it.
struct Obstacle {
    reason: String,
    way_out: String,
}

impl Obstacle {
    fn new(reason: impl Into<String>, way_out: impl Into<String>) -> Self {
        Obstacle {
            reason: reason.into(),
            way_out: way_out.into(),
        }
    }
}

fn obstacle(seen: &Seen<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
    container_name(seen)
        .or_else(|| network_mode(seen))
        .or_else(|| lent_to_others(seen))
        .or_else(|| static_address(seen))
        .or_else(|| devices(seen))
        .or_else(|| no_replicas(seen))
        .or_else(|| too_many_replicas(seen, gateway))
        .or_else(|| published(seen, gateway))
}

fn container_name(seen: &Seen<'_>) -> Option<Obstacle> {
    let name = seen.text("container_name")?;
    Some(Obstacle::new(
        format!("its container_name is {name}, which only one container can have"),
        "take container_name out of the Compose file",
    ))
}

fn network_mode(seen: &Seen<'_>) -> Option<Obstacle> {
    let mode = seen.text("network_mode")?;
    let reason = match mode {
        "host" => "it uses the host's own network, where two would want the same ports".to_owned(),
        "none" => "it has no network".to_owned(),
        mode if mode.starts_with("service:") || mode.starts_with("container:") => {
            let of = mode.split_once(':').map_or(mode, |(_, of)| of);
            format!("it is in the network of the container of {of}")
        }
        // Docker's names for containers, by which a gateway finds them, are only in a project's own networks.
        _ if seen.known_ports().is_empty() => return None,
        mode => format!("it is outside the project's networks (network_mode: {mode})"),
    };
    let way_out = "take network_mode out of the Compose file, and let it publish its port";
    Some(Obstacle::new(reason, way_out))
}

/// Somebody else lives in this very container's network, processes or volumes.
fn lent_to_others(seen: &Seen<'_>) -> Option<Obstacle> {
    let this = format!("service:{}", seen.name);
    let others = seen.file.service_names();
    let (key, other) = others.iter().find_map(|other| {
        let definition = seen.file.service(other)?;
        let shared = ["network_mode", "pid", "ipc"].into_iter();
        let mut shared =
            shared.filter(|key| definition.get(*key).and_then(Value::as_str) == Some(&this));
        let volumes = volumes_from(definition).any(|b| b.is_service && b.from == seen.name);
        let key = shared.next().or(volumes.then_some("volumes_from"))?;
        Some((key, other))
    })?;
    Some(Obstacle::new(
        format!("{other} is attached to its container (`{key}`)"),
        format!("take {key} out of {other}"),
    ))
}

/// The volumes of another container.
struct Borrowed<'a> {
    from: &'a str,
    is_service: bool,
    is_writable: bool,
}

/// Whose volumes a service has. Compose 1.x prints `service:NAME:rw` for the `NAME` that a user writes.
fn volumes_from(definition: &Value) -> impl Iterator<Item = Borrowed<'_>> {
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

const ADDRESSES: [&str; 4] = [
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
];

fn static_address(seen: &Seen<'_>) -> Option<Obstacle> {
    let networks = seen.definition.get("networks").and_then(Value::as_object);
    let networks = networks.into_iter().flat_map(|networks| networks.values());
    let key = std::iter::once(seen.definition)
        .chain(networks)
        .find_map(|place| ADDRESSES.into_iter().find(|key| is_there(place.get(key))))?;
    Some(Obstacle::new(
        format!("it has an address of its own ({key}), which only one container can have"),
        format!("take {key} out of the Compose file"),
    ))
}

fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => true,
    }
}

fn devices(seen: &Seen<'_>) -> Option<Obstacle> {
    let reserved = seen
        .definition
        .pointer("/deploy/resources/reservations/devices");
    let reason = if is_there(seen.definition.get("devices")) {
        "it has a device of the host, which two may not be able to share"
    } else if is_there(reserved) || is_there(seen.definition.get("gpus")) {
        "it reserves a GPU or another device, which two may not be able to share"
    } else {
        return None;
    };
    Some(Obstacle::new(
        reason,
        "take the device out of the Compose file",
    ))
}

fn no_replicas(seen: &Seen<'_>) -> Option<Obstacle> {
    (seen.file.replicas(seen.name) == 0)
        .then(|| Obstacle::new("it has no replicas", "give it at least one"))
}

/// While one version takes over from the other, the containers of both stand behind the gateway.
fn too_many_replicas(seen: &Seen<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
    through_the_gateway(seen, gateway)?;
    let replicas = seen.file.replicas(seen.name);
    let at_once = match seen.wish.roll {
        Roll::Together => replicas.saturating_mul(2),
        Roll::OneByOne => replicas.saturating_add(1),
    };
    (at_once > SERVERS).then(|| {
        Obstacle::new(
            format!("{at_once} of its containers would run at once, and the gateway has room for {SERVERS}"),
            "let it `roll: one-by-one` in belay.yml, or give it fewer replicas",
        )
    })
}

/// What is published has to be something that a gateway can stand in front of.
fn published(seen: &Seen<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
    let ports = match &seen.ports {
        Ok(ports) => ports,
        Err(problem) => {
            return Some(Obstacle::new(
                problem.to_string(),
                "write it as in the Compose specification",
            ));
        }
    };
    let protocol = ports.iter().find_map(|port| match port.protocol {
        Protocol::Tcp => None,
        Protocol::Udp => Some("UDP"),
        Protocol::Sctp => Some("SCTP"),
    });
    if let Some(protocol) = protocol {
        return Some(Obstacle::new(
            format!("it publishes a port over {protocol}, which the gateway does not speak"),
            "let a service of its own publish that port",
        ));
    }
    ports
        .iter()
        .find_map(|port| one_published(seen, port, gateway))
}

fn one_published(seen: &Seen<'_>, port: &Port, gateway: &GatewayRule) -> Option<Obstacle> {
    match (&port.published, gateway) {
        (Published::Range(first, last), _) => Some(Obstacle::new(
            format!("it leaves its port to Docker, from {first} to {last}"),
            "publish it at one port",
        )),
        (Published::Fixed(fixed), GatewayRule::Off) => Some(Obstacle::new(
            format!("only one container can have the port {fixed}, and the gateway is off"),
            "take `gateway: off` out of belay.yml",
        )),
        (Published::Fixed(_) | Published::Random, GatewayRule::On { .. }) => {
            let speaks = (seen.wish.mode == Mode::Http).then(|| not_http(port))??;
            Some(Obstacle::new(
                format!(
                    "its port {speaks} is none for plain HTTP, as which the gateway would treat it"
                ),
                "say `mode: tcp` for it in belay.yml, and the gateway passes on whatever it speaks",
            ))
        }
        (Published::Random, GatewayRule::Off) => None,
    }
}

/// Ports by which TLS, mail, databases, brokers and the like are known. In front of one of them, a gateway that expects
/// HTTP would break what works without it.
const NOT_HTTP: [u16; 32] = [
    21, 22, 25, 53, 110, 143, 389, 443, 465, 587, 636, 853, 993, 995, 1433, 1521, 1883, 2222, 3306,
    4222, 5432, 5671, 5672, 6379, 6443, 8443, 8883, 9042, 9092, 11211, 27017, 50051,
];

/// The port by which it is known that no plain HTTP is spoken there. The host's own counts for TLS alone: whoever
/// publishes 443 ends TLS inside, at whatever port.
fn not_http(port: &Port) -> Option<u16> {
    match port.published {
        _ if NOT_HTTP.contains(&port.target) => Some(port.target),
        Published::Fixed(fixed @ (443 | 8443)) if port.target != 80 => Some(fixed),
        Published::Fixed(_) | Published::Random | Published::Range(..) => None,
    }
}

/// Data that two containers would write to at once, or that the second would not have.
fn keeps_data(seen: &Seen<'_>) -> Option<String> {
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

/// A proxy of the user's that looks for containers by itself.
fn own_proxy(seen: &Seen<'_>) -> Option<&'static str> {
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
fn pairs(value: Option<&Value>) -> Vec<(&str, String)> {
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
fn needed_by(seen: &Seen<'_>) -> BTreeSet<String> {
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

/// Why a service that nothing speaks against is not started first all the same.
fn why_alone(seen: &Seen<'_>) -> String {
    let users: Vec<String> = needed_by(seen).into_iter().collect();
    if !seen.known_ports().is_empty() {
        return "Docker gives each container another port, and the gateway is off".to_owned();
    }
    if users.is_empty() {
        return "it publishes no port (a worker), so nobody waits for its answer, and two at once could do work twice"
            .to_owned();
    }
    format!(
        "it publishes no port, so nothing that Belay knows of could choose between two of it ({} needs it)",
        users.join(" and ")
    )
}

/// How long the service is away; nothing for one that is not there before or after either.
fn gap(seen: &Seen<'_>) -> Option<String> {
    if seen.file.replicas(seen.name) == 0 {
        return None;
    }
    if !is_asked(seen) {
        return Some("none that users see".to_owned());
    }
    Some(time_away(seen.file, seen.name))
}

/// How long a service that is stopped first is away, in words.
pub(super) fn time_away(file: &ComposeFile, service: &str) -> String {
    let seconds = file.stop_grace_ms(service).div_ceil(1000);
    format!("up to {seconds} s while it stops, then until the new one has started")
}

/// Whether anybody may ask it something. Without a port, data or a place in other services it is a worker.
fn is_asked(seen: &Seen<'_>) -> bool {
    seen.ports.as_ref().map_or(true, |ports| !ports.is_empty())
        || seen.text("network_mode").is_some_and(|mode| mode != "none")
        || own_proxy(seen).is_some()
        || keeps_data(seen).is_some()
        || !needed_by(seen).is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(services: Value) -> ComposeFile {
        ComposeFile::new(json!({ "services": services })).expect("a valid file")
    }

    fn on() -> GatewayRule {
        GatewayRule::On {
            image: "haproxy:3.0".to_owned(),
        }
    }

    fn wish(service: &str, strategy: WishedStrategy) -> StrategyWish {
        StrategyWish {
            strategy,
            ..StrategyWish::of(service)
        }
    }

    /// Of the one service `web`.
    #[test]
    fn journals_have_strategies_by_their_words() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Told(#[serde(with = "in_words")] Vec<ServiceStrategy>);

        let all = Strategy::ALL.map(|strategy| ServiceStrategy {
            service: "web".to_owned(),
            strategy,
            reason: "so".to_owned(),
            gap: None,
        });
        let told = Told(all.to_vec());
        let text = serde_json::to_value(&told).expect("JSON");
        assert_eq!(
            text[2],
            json!({"service": "web", "strategy": "stop-first", "reason": "so", "gap": null})
        );
        assert_eq!(serde_json::from_value::<Told>(text).expect("read"), told);
        let unknown = json!([{"service": "web", "strategy": "stop", "reason": "so"}]);
        assert!(serde_json::from_value::<Told>(unknown).is_err());
    }

    fn web(definition: Value, wished: WishedStrategy) -> Result<ServiceStrategy, ComposeProblem> {
        let file = file(json!({ "web": definition }));
        let all = classify(&file, &[wish("web", wished)], &on(), None)?;
        Ok(all.into_iter().next().expect("one service"))
    }

    fn refused(definition: Value) -> String {
        let problem = web(definition, WishedStrategy::StartFirst).expect_err("refused");
        assert!(matches!(problem, ComposeProblem::CannotStartFirst { .. }));
        problem.to_string()
    }

    #[test]
    fn a_wish_for_an_unknown_service_is_refused() {
        let wishes = [wish("wbe", WishedStrategy::StopFirst)];
        assert_eq!(
            classify(&file(json!({"web": {}})), &wishes, &on(), None),
            Err(ComposeProblem::UnknownService("wbe".to_owned()))
        );
    }

    #[test]
    fn a_wish_that_cannot_be_is_refused_with_the_way_out() {
        assert_eq!(
            refused(json!({"container_name": "shop", "ports": ["80:80"]})),
            "service web cannot be started first: its container_name is shop, which only one container can have; take \
             container_name out of the Compose file"
        );
        assert!(refused(json!({"ports": ["443:443"]})).contains("`mode: tcp`"));
    }

    #[test]
    fn the_gateway_has_room_for_both_versions() {
        let of = |replicas: u32, roll: Roll| {
            let file = file(json!({"web": {"ports": ["80:80"], "scale": replicas}}));
            let wish = StrategyWish {
                roll,
                ..StrategyWish::of("web")
            };
            classify(&file, &[wish], &on(), None).expect("classified")[0].strategy
        };
        for (replicas, roll, strategy) in [
            (10, Roll::Together, Strategy::StartFirstGateway),
            (11, Roll::Together, Strategy::StopFirst),
            (19, Roll::OneByOne, Strategy::StartFirstGateway),
            (20, Roll::OneByOne, Strategy::StopFirst),
        ] {
            assert_eq!(of(replicas, roll), strategy, "{replicas} {roll:?}");
        }
        assert!(refused(json!({"ports": ["80:80"], "scale": 11})).contains("one-by-one"));
    }

    #[test]
    fn a_wish_overrides_caution() {
        let database = json!({"ports": ["80:80"], "volumes": ["data:/data"]});
        let auto = web(database.clone(), WishedStrategy::Auto).expect("classified");
        assert_eq!(auto.strategy, Strategy::StopFirst);
        assert!(
            auto.reason
                .contains("the volume data (`strategy: start-first`")
        );
        let wished = web(database, WishedStrategy::StartFirst).expect("classified");
        assert_eq!(wished.strategy, Strategy::StartFirstGateway);
        let worker = web(json!({}), WishedStrategy::StartFirst).expect("classified");
        assert_eq!(worker.strategy, Strategy::StartFirstProxy);
    }

    #[test]
    fn a_changed_service_that_was_to_stay_is_replaced_by_its_rule() {
        let (old, new) = (
            json!({"image": "a"}),
            json!({"image": "b", "ports": ["80"]}),
        );
        let serving = file(json!({ "web": old }));
        let wishes = [wish("web", WishedStrategy::Untouched)];
        let new = file(json!({ "web": new }));
        let changed = classify(&new, &wishes, &on(), Some(&serving)).expect("classified");
        assert_eq!(changed[0].strategy, Strategy::StartFirstGateway);
        assert!(changed[0].reason.starts_with("it changed"));
        let same = classify(&new, &wishes, &on(), Some(&new)).expect("classified");
        assert_eq!(same[0].strategy, Strategy::Untouched);
    }

    #[test]
    fn tcp_passes_whatever_the_port_is_known_for() {
        let file = file(json!({"web": {"ports": ["443:8443"]}}));
        let of = |mode| {
            let wish = StrategyWish {
                mode,
                ..StrategyWish::of("web")
            };
            classify(&file, &[wish], &on(), None).expect("classified")[0].strategy
        };
        assert_eq!(of(Mode::Http), Strategy::StopFirst);
        assert_eq!(of(Mode::Tcp), Strategy::StartFirstGateway);
    }

    #[test]
    fn the_gap_is_named_for_stop_first_alone() {
        let gap = |definition| {
            web(definition, WishedStrategy::Auto)
                .expect("classified")
                .gap
        };
        assert_eq!(gap(json!({"ports": ["80:80"]})), None);
        let named =
            json!({"ports": ["80:80"], "container_name": "x", "stop_grace_period": "1m30s"});
        assert_eq!(
            gap(named).as_deref(),
            Some("up to 90 s while it stops, then until the new one has started")
        );
        let host = json!({"network_mode": "host"});
        assert_eq!(
            gap(host).as_deref(),
            Some("up to 10 s while it stops, then until the new one has started")
        );
        assert_eq!(gap(json!({})).as_deref(), Some("none that users see"));
        assert_eq!(gap(json!({"ports": ["80:80"], "scale": 0})), None);
    }

    #[test]
    fn a_service_that_others_need_is_missed_while_it_is_away() {
        let file = file(json!({"web": {"ports": ["80:80"], "depends_on": ["app"]}, "app": {}}));
        let all = classify(&file, &[], &on(), None).expect("classified");
        assert!(all[0].reason.contains("web needs it"), "{:?}", all[0]);
        assert!(
            all[0]
                .gap
                .as_ref()
                .is_some_and(|gap| gap.starts_with("up to 10 s"))
        );
    }

    #[test]
    fn strategies_are_kept_as_before() {
        let names = json!([
            "start-first-gateway",
            "start-first-proxy",
            "stop-first",
            "untouched",
            "one-shot",
            "gateway"
        ]);
        let strategies: Vec<Strategy> = serde_json::from_value(names.clone()).expect("known");
        assert_eq!(serde_json::to_value(strategies).expect("written"), names);
    }
}
