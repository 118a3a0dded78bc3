//! Why a service cannot run twice, not even for a moment: two containers that fight over a name, a port, an address or a
//! device are worse than a gap. Pure; each obstacle has the way out of it.

use serde_json::Value;

use super::service::{ServiceFacts, is_behind_the_gateway, is_there, volumes_from};
use super::wishes::{GatewayRule, SERVERS};
use crate::composition::compose::Kept;
use crate::composition::ports::{Port, Protocol, Published};
use crate::config::{Mode, Roll};

const ADDRESSES: [&str; 4] = [
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
];

/// Why a service cannot run twice, and what its owner can do about it.
pub(super) struct Obstacle {
    pub(super) reason: String,
    pub(super) way_out: String,
}

impl Obstacle {
    pub(super) fn new(reason: impl Into<String>, way_out: impl Into<String>) -> Self {
        Obstacle {
            reason: reason.into(),
            way_out: way_out.into(),
        }
    }
}

pub(super) fn obstacle(seen: &ServiceFacts<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
    container_name(seen)
        .or_else(|| network_mode(seen))
        .or_else(|| lent_to_others(seen))
        .or_else(|| static_address(seen))
        .or_else(|| devices(seen))
        .or_else(|| no_replicas(seen))
        .or_else(|| too_many_replicas(seen, gateway))
        .or_else(|| published(seen, gateway))
}

/// Compose hands such a volume on to the container that takes the place of another, and to none beside it.
pub(super) fn data_without_a_name(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
    let kept = seen.file.kept_data(seen.name).into_iter();
    let target = kept
        .filter_map(|kept| match kept {
            Kept::Anonymous(target) => Some(target),
            Kept::Volume(_) | Kept::Bind(_) => None,
        })
        .find(|target| {
            !seen
                .wish
                .left
                .iter()
                .any(|left| left == target.trim_end_matches('/'))
        })?;
    let name = seen.name;
    Some(Obstacle::new(
        format!(
            "it keeps data in a volume without a name at {target}, which a container that starts beside the old one would \
             not have"
        ),
        format!(
            "give the volume a name (`volumes: [\"{name}-data:{target}\"]` in the service, and `{name}-data:` under the \
             file's `volumes`), leave its strategy out, or say `data: {{\"{name}:{target}\": left}}` in belay.yml"
        ),
    ))
}

fn container_name(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
    let name = seen.text("container_name")?;
    Some(Obstacle::new(
        format!("its container_name is {name}, which only one container can have"),
        "take container_name out of the Compose file",
    ))
}

fn network_mode(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
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
fn lent_to_others(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
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

fn static_address(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
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

fn devices(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
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

fn no_replicas(seen: &ServiceFacts<'_>) -> Option<Obstacle> {
    (seen.file.replicas(seen.name) == 0)
        .then(|| Obstacle::new("it has no replicas", "give it at least one"))
}

/// While one version takes over from the other, the containers of both stand behind the gateway.
fn too_many_replicas(seen: &ServiceFacts<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
    if !is_behind_the_gateway(seen, gateway) {
        return None;
    }
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
fn published(seen: &ServiceFacts<'_>, gateway: &GatewayRule) -> Option<Obstacle> {
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

fn one_published(seen: &ServiceFacts<'_>, port: &Port, gateway: &GatewayRule) -> Option<Obstacle> {
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
