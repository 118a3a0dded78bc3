//! Reads what a service publishes, in every notation of `ports` that Compose knows.
//!
//! Pure. The short notation is `[[IP:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL]`, the long one a map; `docker compose config`
//! prints one or the other, with numbers as numbers or as text, depending on its version. What cannot be read is an
//! error, never a port less: a port that was overlooked would be taken twice.

use serde_json::{Map, Value};

/// A port that a service publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The address of the host that it is bound to; all of them when `None`.
    pub host_ip: Option<String>,
    /// Where the host has it.
    pub published: Published,
    /// The port of the container.
    pub target: u16,
    /// TCP where the file does not name one.
    pub protocol: Protocol,
}

/// Where the host has a published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// At exactly this port.
    Fixed(u16),
    /// Wherever Docker finds a free one.
    Random,
    /// Wherever Docker finds a free one from the first to the last.
    Range(u16, u16),
}

/// What is spoken below the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The only one that the gateway can take over.
    Tcp,
    /// Such a port belongs to one container at a time, so its service is replaced stop-first.
    Udp,
    /// Treated like UDP.
    Sctp,
}

/// Why a service's ports could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortProblem {
    /// The value of `ports` is not an array.
    #[error("`ports` is no list")]
    NoList,
    /// An entry in neither notation, as the file has it.
    #[error("the port {0} is in no notation that Belay can read")]
    Unreadable(String),
    /// An entry that publishes a range of the host as a longer or shorter range of the container.
    #[error("the ranges of the port {0} differ in length")]
    Lengths(String),
}

/// Every port that a service publishes, in the file's order.
pub fn ports(service: &Value) -> Result<Vec<Port>, PortProblem> {
    let entries = match service.get("ports") {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(PortProblem::NoList),
    };
    let mut ports = vec![];
    for entry in entries {
        match entry {
            Value::String(text) => ports.extend(short(text)?),
            Value::Number(number) => ports.extend(short(&number.to_string())?),
            Value::Object(map) => ports.push(long(map).ok_or_else(|| unreadable(entry))?),
            Value::Null | Value::Bool(_) | Value::Array(_) => return Err(unreadable(entry)),
        }
    }
    Ok(ports)
}

fn unreadable(entry: &Value) -> PortProblem {
    PortProblem::Unreadable(entry.to_string())
}

/// The parts of the short notation, from the end: an IPv6 address has colons of its own.
fn short(text: &str) -> Result<Vec<Port>, PortProblem> {
    let problem = || PortProblem::Unreadable(text.to_owned());
    let (place, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol_named(protocol).ok_or_else(problem)?;
    let (host, target) = match place.rsplit_once(':') {
        Some((host, target)) => (Some(host), target),
        None => (None, place),
    };
    let (host_ip, published) = match host.and_then(|host| host.rsplit_once(':')) {
        Some((ip, published)) => (Some(address(ip).ok_or_else(problem)?), published),
        None => (None, host.unwrap_or_default()),
    };
    let targets = range(target).filter(|(first, _)| *first != 0);
    let targets = targets.ok_or_else(problem)?;
    let published = match published {
        "" => None,
        published => Some(range(published).ok_or_else(problem)?),
    };
    let places = places(published, targets).ok_or_else(|| PortProblem::Lengths(text.to_owned()))?;
    let ports = places.into_iter().map(|(published, target)| Port {
        host_ip: host_ip.clone(),
        published,
        target,
        protocol,
    });
    Ok(ports.collect())
}

/// Ranges of one length belong together one by one; a range for a single port lets Docker choose from it.
fn places(published: Option<(u16, u16)>, targets: (u16, u16)) -> Option<Vec<(Published, u16)>> {
    let targets = targets.0..=targets.1;
    match published {
        None | Some((0, 0)) => Some(targets.map(|target| (Published::Random, target)).collect()),
        Some((first, last)) if usize::from(last - first) + 1 == targets.len() => {
            let published = (first..=last).map(Published::Fixed);
            Some(published.zip(targets).collect())
        }
        Some((first, last)) if targets.len() == 1 => {
            Some(vec![(Published::Range(first, last), *targets.start())])
        }
        Some(_) => None,
    }
}

fn long(map: &Map<String, Value>) -> Option<Port> {
    let target = number(map.get("target")?).filter(|port| *port != 0)?;
    let protocol = match map.get("protocol") {
        None | Some(Value::Null) => Protocol::Tcp,
        Some(name) => protocol_named(name.as_str()?)?,
    };
    let published = match map.get("published") {
        None | Some(Value::Null) => Published::Random,
        Some(Value::String(text)) if text.is_empty() => Published::Random,
        Some(Value::String(text)) => match range(text)? {
            (0, 0) => Published::Random,
            (first, last) if first == last => Published::Fixed(first),
            (first, last) => Published::Range(first, last),
        },
        Some(value) => match value.as_u64()? {
            0 => Published::Random,
            port => Published::Fixed(u16::try_from(port).ok()?),
        },
    };
    let host_ip = match map.get("host_ip") {
        None | Some(Value::Null) => None,
        Some(ip) if ip.as_str() == Some("") => None,
        Some(ip) => Some(address(ip.as_str()?)?),
    };
    Some(Port {
        host_ip,
        published,
        target,
        protocol,
    })
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::String(text) => port(text),
        value => u16::try_from(value.as_u64()?).ok(),
    }
}

/// `80` or `80-82`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some((first, last))
}

/// Digits alone: Rust would read `+80` as well.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// An address of the host, without the brackets that IPv6 has in the short notation.
fn address(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let address: std::net::IpAddr = bare.unwrap_or(text).parse().ok()?;
    Some(address.to_string())
}

fn protocol_named(name: &str) -> Option<Protocol> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" | "" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(entry: Value) -> Vec<Port> {
        ports(&json!({"ports": [entry]})).expect("readable")
    }

    fn tcp(host_ip: Option<&str>, published: Published, target: u16) -> Port {
        Port {
            host_ip: host_ip.map(str::to_owned),
            published,
            target,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn a_service_without_ports_publishes_none() {
        for service in [json!({}), json!({"ports": null}), json!({"ports": []})] {
            assert_eq!(ports(&service), Ok(vec![]));
        }
    }

    #[test]
    fn the_short_notation_is_read() {
        use Published::{Fixed, Random, Range};
        let local = Some("127.0.0.1");
        for (entry, expected) in [
            (json!("80"), tcp(None, Random, 80)),
            (json!(80), tcp(None, Random, 80)),
            (json!("8080:80"), tcp(None, Fixed(8080), 80)),
            (json!("8080:80/tcp"), tcp(None, Fixed(8080), 80)),
            (json!("8080:80/TCP"), tcp(None, Fixed(8080), 80)),
            (json!("0:80"), tcp(None, Random, 80)),
            (json!("8000-8010:80"), tcp(None, Range(8000, 8010), 80)),
            (json!("127.0.0.1:8080:80"), tcp(local, Fixed(8080), 80)),
            (json!("127.0.0.1::80"), tcp(local, Random, 80)),
            (
                json!("127.0.0.1:8000-8001:80"),
                tcp(local, Range(8000, 8001), 80),
            ),
            (json!("[::1]:8080:80"), tcp(Some("::1"), Fixed(8080), 80)),
            (json!("::1:8080:80"), tcp(Some("::1"), Fixed(8080), 80)),
            (json!("[::]::80"), tcp(Some("::"), Random, 80)),
        ] {
            assert_eq!(read(entry.clone()), [expected], "{entry}");
        }
    }

    #[test]
    fn ranges_of_one_length_belong_together_one_by_one() {
        let expected: Vec<Port> = [(8000, 80), (8001, 81), (8002, 82)]
            .map(|(published, target)| tcp(None, Published::Fixed(published), target))
            .into();
        assert_eq!(read(json!("8000-8002:80-82")), expected);
        let random = [80, 81].map(|target| tcp(None, Published::Random, target));
        assert_eq!(read(json!("80-81")), random);
    }

    #[test]
    fn the_long_notation_is_read() {
        use Published::{Fixed, Random, Range};
        for (entry, expected) in [
            (json!({"target": 80}), tcp(None, Random, 80)),
            (
                json!({"target": "80", "published": "8080"}),
                tcp(None, Fixed(8080), 80),
            ),
            (
                json!({"target": 80, "published": 8080, "mode": "ingress", "protocol": "tcp"}),
                tcp(None, Fixed(8080), 80),
            ),
            (
                json!({"target": 80, "published": null}),
                tcp(None, Random, 80),
            ),
            (
                json!({"target": 80, "published": ""}),
                tcp(None, Random, 80),
            ),
            (json!({"target": 80, "published": 0}), tcp(None, Random, 80)),
            (
                json!({"target": 80, "published": "8000-8010"}),
                tcp(None, Range(8000, 8010), 80),
            ),
            (
                json!({"target": 80, "published": 8080, "host_ip": "::1", "mode": "host"}),
                tcp(Some("::1"), Fixed(8080), 80),
            ),
        ] {
            assert_eq!(read(entry.clone()), [expected], "{entry}");
        }
    }

    #[test]
    fn protocols_are_told_apart() {
        assert_eq!(read(json!("53:53/udp"))[0].protocol, Protocol::Udp);
        let long = json!({"target": 53, "published": 53, "protocol": "sctp"});
        assert_eq!(read(long)[0].protocol, Protocol::Sctp);
    }

    #[test]
    fn what_is_in_no_notation_is_an_error() {
        for entry in [
            json!("http"),
            json!(""),
            json!("80:"),
            json!("70000:80"),
            json!("+80:80"),
            json!("90-80:80"),
            json!("host:8080:80"),
            json!("80/http"),
            json!("${PORT}:80"),
            json!(-1),
            json!(1.5),
            json!(true),
            json!(null),
            json!([80]),
            json!({"published": 80}),
            json!({"target": 0}),
            json!("8080:0"),
            json!({"target": 80, "published": 70_000}),
            json!({"target": 80, "published": true}),
            json!({"target": 80, "protocol": 6}),
            json!({"target": 80, "host_ip": "localhost"}),
        ] {
            let problem = ports(&json!({"ports": [entry]}));
            assert!(
                matches!(problem, Err(PortProblem::Unreadable(_))),
                "{entry}: {problem:?}"
            );
        }
        assert_eq!(
            ports(&json!({"ports": "8080:80"})),
            Err(PortProblem::NoList)
        );
    }

    #[test]
    fn ranges_of_two_lengths_are_an_error() {
        let problem = ports(&json!({"ports": ["8000-8002:80-81"]}));
        assert_eq!(problem, Err(PortProblem::Lengths("8000-8002:80-81".into())));
    }
}
