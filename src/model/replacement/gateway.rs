//! The gateway: HAProxy as one more service of the project, in front of the ports that start-first services publish.
//!
//! Pure; decides on the runner and on the host. It takes over the published ports, so the containers behind it can be two
//! for a while. Its whole configuration is in the rendered Compose file and holds nothing of any release: Docker's DNS
//! says which containers a service has, so a restart, a reboot or `docker-compose up -d` typed by hand just work, with or
//! without Belay. Only during a transaction are servers held back or drained, over HAProxy's runtime API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wishes::{GATEWAY_SERVICE, SERVERS, StrategyWish};
use crate::composition::compose::ComposeFile;
use crate::composition::ports::{Port, Protocol, Published, ports};
use crate::config::{Mode, ProxyProtocol};

/// Where the gateway listens inside its container; the first front has this port, the next ones those after it.
const FIRST_PORT: u16 = 10_001;
/// HAProxy's runtime API, inside the gateway's container alone.
pub const RUNTIME_PORT: u16 = 9_999;

/// One published port, and the service that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// The service behind the port, by its name in the Compose file.
    pub service: String,
    /// The address of the host that the port is bound to; all of them when `None`.
    pub host_ip: Option<String>,
    /// The port of the host; `None` when Docker chooses one.
    pub published: Option<u16>,
    /// The service's own port.
    pub target: u16,
    /// Whether HAProxy forwards requests or bytes; HTTP unless belay.yml says otherwise.
    pub mode: Mode,
    /// Off unless belay.yml asks for it: a service that does not expect the header cannot read the connection.
    pub proxy_protocol: ProxyProtocol,
}

impl Front {
    /// The HAProxy backend of the service's port. Two published ports of one target share it.
    #[must_use]
    pub fn backend(&self) -> String {
        format!("{}_{}", self.service, self.target)
    }
}

/// The published ports of these services, in a lasting order.
///
/// Only TCP ports that are fixed or left to Docker are among them: the strategy is start-first for no others.
#[must_use]
pub fn fronts(file: &ComposeFile, services: &[String], wishes: &[StrategyWish]) -> Vec<Front> {
    let mut fronts: Vec<Front> = services
        .iter()
        .flat_map(|service| {
            let wish = wishes.iter().find(|wish| &wish.service == service);
            let of_service = file.service(service).map(ports).and_then(Result::ok);
            let ports = of_service.unwrap_or_default().into_iter();
            ports.filter_map(move |port| front(service, wish, &port))
        })
        .collect();
    fronts.sort_by(|a, b| {
        (&a.service, a.target, a.published, &a.host_ip).cmp(&(
            &b.service,
            b.target,
            b.published,
            &b.host_ip,
        ))
    });
    fronts.dedup();
    fronts
}

fn front(service: &str, wish: Option<&StrategyWish>, port: &Port) -> Option<Front> {
    let published = match (port.protocol, &port.published) {
        (Protocol::Tcp, Published::Fixed(port)) => Some(*port),
        (Protocol::Tcp, Published::Random) => None,
        (Protocol::Tcp, Published::Range(..)) | (Protocol::Udp | Protocol::Sctp, _) => return None,
    };
    Some(Front {
        service: service.to_owned(),
        host_ip: port.host_ip.clone(),
        published,
        target: port.target,
        mode: wish.map_or(Mode::Http, |wish| wish.mode),
        proxy_protocol: wish.map_or(ProxyProtocol::Off, |wish| wish.proxy_protocol),
    })
}

/// The file with the gateway in it: the fronts' ports are the gateway's, and everything else is as it was.
#[must_use]
pub fn with_gateway(file: &ComposeFile, fronts: &[Front], image: &str) -> ComposeFile {
    if fronts.is_empty() {
        return file.clone();
    }
    let mut networks = BTreeMap::new();
    for front in fronts {
        networks.extend(networks_of(file, &front.service).map(|name| (name, Value::Null)));
    }
    let gateway = json!({
        "image": image,
        "restart": "unless-stopped",
        // It takes no new connections and lets the others end; the grace period bounds that.
        "stop_signal": "SIGUSR1",
        "stop_grace_period": "10s",
        "entrypoint": ["sh", "-c"],
        "command": [start_script(fronts)],
        "ports": fronts.iter().zip(FIRST_PORT..).map(|(front, port)| published(front, port)).collect::<Vec<_>>(),
        "networks": networks,
    });
    let fronted: Vec<&str> = fronts.iter().map(|front| front.service.as_str()).collect();
    file.without_ports(&fronted)
        .with_service(GATEWAY_SERVICE, gateway)
}

/// The short notation, which every Compose understands in a file of any version.
fn published(front: &Front, port: u16) -> String {
    let host_ip = front.host_ip.as_deref().map(|ip| match ip.contains(':') {
        true => format!("[{ip}]:"),
        false => format!("{ip}:"),
    });
    let host_port = match (front.published, &host_ip) {
        (Some(port), _) => format!("{port}:"),
        (None, Some(_)) => ":".to_owned(),
        (None, None) => String::new(),
    };
    format!("{}{host_port}{port}", host_ip.unwrap_or_default())
}

fn networks_of(file: &ComposeFile, service: &str) -> impl Iterator<Item = String> {
    let networks = file.service(service).and_then(|s| s.get("networks"));
    let names: Vec<String> = match networks {
        Some(Value::Object(map)) if !map.is_empty() => map.keys().cloned().collect(),
        Some(Value::Array(list)) if !list.is_empty() => {
            let names = list.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        }
        _ => vec!["default".to_owned()],
    };
    names.into_iter()
}

/// Writes the configuration where HAProxy reads it, and becomes HAProxy. Part of the Compose file, so that nothing on the
/// host has to be mounted, kept, or left in place. It holds no `$`, which Compose would read, and no single quote.
fn start_script(fronts: &[Front]) -> String {
    format!(
        "printf '%s' '{}' >/tmp/belay.cfg && exec haproxy -db -f /tmp/belay.cfg",
        configuration(fronts)
    )
}

/// HAProxy's configuration (HAProxy 2.6 or newer).
fn configuration(fronts: &[Front]) -> String {
    let mut text = preamble();
    for (front, port) in fronts.iter().zip(FIRST_PORT..) {
        text.push_str(&frontend(front, port));
    }
    let mut backends: Vec<&Front> = fronts.iter().collect();
    backends.dedup_by_key(|front| front.backend());
    for front in backends {
        text.push_str(&backend(front));
    }
    text
}

/// What holds for every front. Times are generous, because a published port has none of its own: a stream that worked
/// before the gateway came has to work behind it. An address that Docker's DNS does not confirm is kept for an hour, so
/// that the application outlives an engine that is away (`live-restore`).
fn preamble() -> String {
    format!(
        "global
    fd-hard-limit 50000
    stats socket ipv4@127.0.0.1:{RUNTIME_PORT} level admin
defaults
    timeout connect 2s
    timeout http-request 1m
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
    retries 4
    option redispatch 1
resolvers docker
    nameserver engine 127.0.0.11:53
    accepted_payload_size 8192
    resolve_retries 3
    timeout resolve 200ms
    timeout retry 200ms
    hold valid 200ms
    hold nx 200ms
    hold other 1h
    hold refused 1h
    hold timeout 1h
"
    )
}

/// A client address that somebody in front has passed on is believed when that is a proxy on a private address, such as
/// the user's own TLS proxy on this host; anybody else's claim is replaced.
const FORWARDED: &str =
    "    acl from_own_proxy src 127.0.0.0/8 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 ::1 fc00::/7
    http-request del-header X-Forwarded-For unless from_own_proxy
    http-request del-header X-Forwarded-Proto unless from_own_proxy
    http-request set-header X-Forwarded-Proto http unless { req.hdr(X-Forwarded-Proto) -m found }
    option forwardfor if-none
";

fn frontend(front: &Front, port: u16) -> String {
    let (mode, headers) = match front.mode {
        Mode::Http => ("http", FORWARDED),
        Mode::Tcp => ("tcp", ""),
    };
    let backend = front.backend();
    format!(
        "frontend port_{port}\n    mode {mode}\n    bind :{port}\n{headers}    default_backend {backend}\n"
    )
}

fn backend(front: &Front) -> String {
    let mode = match front.mode {
        Mode::Http => "http",
        Mode::Tcp => "tcp",
    };
    let proxy = match front.proxy_protocol {
        ProxyProtocol::Off => "",
        ProxyProtocol::V1 => " send-proxy",
        ProxyProtocol::V2 => " send-proxy-v2",
    };
    let (name, service, target) = (front.backend(), &front.service, front.target);
    format!(
        "backend {name}\n    mode {mode}\n    server-template s {SERVERS} {service}:{target} resolvers docker \
         resolve-prefer ipv4 init-addr none{proxy}\n"
    )
}

/// One server of a backend, as the runtime API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The HAProxy backend that it belongs to, as [`Front::backend`] names it.
    pub backend: String,
    /// HAProxy's name for its place in the backend; the place can get another container later.
    pub name: String,
    /// The container's address; `None` for a free place.
    pub address: Option<String>,
    /// How HAProxy treats it now.
    pub admission: Admission,
    /// Requests and connections that it has now.
    pub sessions: u64,
}

/// Whether the gateway gives a server new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It gets new requests.
    Ready,
    /// It finishes what it has.
    Drain,
    /// Nothing, as if it were not there.
    Maintenance,
}

impl Admission {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Admission::Ready => "ready",
            Admission::Drain => "drain",
            Admission::Maintenance => "maint",
        }
    }
}

/// A wish for one server of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The backend that the server belongs to.
    pub backend: String,
    /// The server's name within that backend.
    pub server: String,
    /// How it is to be treated from now on.
    pub to: Admission,
}

/// How the containers of a service are to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Containers of the running version.
    pub incumbents: Admission,
    /// Containers of the new version.
    pub candidates: Admission,
    /// Free places, which the next container that comes will take.
    pub free: Admission,
}

impl Traffic {
    /// Before the cutover: a container that comes gets nothing.
    pub const HELD: Traffic = Traffic {
        incumbents: Admission::Ready,
        candidates: Admission::Maintenance,
        free: Admission::Maintenance,
    };
    /// After the cutover.
    pub const MOVED: Traffic = Traffic {
        incumbents: Admission::Drain,
        candidates: Admission::Ready,
        free: Admission::Ready,
    };
    /// Replicas take over one after the other: "incumbents" are those that leave now, "candidates" all others that are
    /// well, and a container that comes gets nothing yet.
    pub const ROLLING: Traffic = Traffic {
        incumbents: Admission::Drain,
        candidates: Admission::Ready,
        free: Admission::Maintenance,
    };
    /// The cutover undone.
    pub const RETURNED: Traffic = Traffic {
        incumbents: Admission::Ready,
        candidates: Admission::Drain,
        free: Admission::Maintenance,
    };
    /// No transaction: every container of the service serves.
    pub const OPEN: Traffic = Traffic {
        incumbents: Admission::Ready,
        candidates: Admission::Ready,
        free: Admission::Ready,
    };
}

/// Whose address a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A container that the transaction replaces.
    Incumbent,
    /// A container that takes over from it.
    Candidate,
}

/// What has to change so that the servers are treated as wished; nothing when they are already.
///
/// Those that get requests come first: at no moment has a backend nobody.
pub fn changes(
    servers: &[Server],
    side_of: &dyn Fn(&str) -> Option<Side>,
    traffic: Traffic,
) -> Vec<Change> {
    let mut changes: Vec<Change> = servers
        .iter()
        .filter_map(|server| {
            let to = match server.address.as_deref().map(side_of) {
                Some(Some(Side::Candidate)) => traffic.candidates,
                Some(Some(Side::Incumbent)) => traffic.incumbents,
                // The address of a container that is gone: Docker's DNS is about to take it back.
                Some(None) => return None,
                None => traffic.free,
            };
            (server.admission != to).then(|| Change {
                backend: server.backend.clone(),
                server: server.name.clone(),
                to,
            })
        })
        .collect();
    changes.sort_by_key(|change| match change.to {
        Admission::Ready => 0,
        Admission::Drain => 1,
        Admission::Maintenance => 2,
    });
    changes
}

/// The runtime command of a change (HAProxy management guide, 9.3, `set server`).
#[must_use]
pub fn command(change: &Change) -> String {
    format!(
        "set server {}/{} state {}",
        change.backend,
        change.server,
        change.to.word()
    )
}

/// The runtime commands that tell the servers: [`servers`] reads what they print.
pub const LOOK: &str = "show servers state; show stat -1 4 -1";

/// Forced maintenance, and forced drain, among the bits of `srv_admin_state` (HAProxy management guide, 9.3).
const FORCED_MAINTENANCE: u32 = 0x01;
const FORCED_DRAIN: u32 = 0x08;

/// Reads the answer to [`LOOK`]. Columns are found by their names, because versions of HAProxy add some.
#[must_use]
pub fn servers(printed: &str) -> Vec<Server> {
    let sessions = sessions(printed);
    let mut columns = vec![];
    let mut servers = vec![];
    for line in printed.lines() {
        if let Some(names) = line.strip_prefix("# be_id ") {
            columns = std::iter::once("be_id").chain(names.split(' ')).collect();
            continue;
        }
        let values: Vec<&str> = line.split(' ').collect();
        let field = |name: &str| {
            let at = columns.iter().position(|column| *column == name)?;
            values.get(at).copied()
        };
        let found = (|| {
            let admin: u32 = field("srv_admin_state")?.parse().ok()?;
            let (backend, name) = (field("be_name")?.to_owned(), field("srv_name")?.to_owned());
            let address = field("srv_addr").filter(|address| *address != "-");
            let key = (backend.clone(), name.clone());
            Some(Server {
                sessions: sessions.get(&key).copied().unwrap_or(0),
                backend,
                name,
                address: address.map(str::to_owned),
                admission: if admin & FORCED_MAINTENANCE != 0 {
                    Admission::Maintenance
                } else if admin & FORCED_DRAIN != 0 {
                    Admission::Drain
                } else {
                    Admission::Ready
                },
            })
        })();
        servers.extend(found);
    }
    servers
}

/// The current sessions of every server, from the statistics' CSV.
fn sessions(printed: &str) -> BTreeMap<(String, String), u64> {
    let lines = printed
        .lines()
        .skip_while(|line| !line.starts_with("# pxname,"));
    let mut lines = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let Some(header) = lines.next() else {
        return BTreeMap::new();
    };
    let Some(at) = header.iter().position(|name| *name == "scur") else {
        return BTreeMap::new();
    };
    lines
        .filter_map(|row| {
            let key = ((*row.first()?).to_owned(), (*row.get(1)?).to_owned());
            Some((key, row.get(at)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> ComposeFile {
        ComposeFile::new(json!({"services": {
            "web": {"image": "w", "ports": ["8080:80", "127.0.0.1:8443:443"], "networks": {"front": null, "back": null}},
            "api": {"image": "a", "ports": [{"target": 80, "published": "9090", "protocol": "tcp"}]},
            "db": {"image": "d", "ports": ["5432:5432"]},
        }}))
        .expect("a file")
    }

    fn wish(service: &str, mode: Mode) -> StrategyWish {
        StrategyWish {
            mode,
            ..StrategyWish::of(service)
        }
    }

    fn both() -> Vec<Front> {
        let wishes = [wish("api", Mode::Tcp)];
        fronts(&file(), &["web".to_owned(), "api".to_owned()], &wishes)
    }

    #[test]
    fn the_gateway_takes_over_the_ports_and_leaves_the_rest() {
        let rendered = with_gateway(&file(), &both(), "haproxy:pinned");
        let services = &rendered.document()["services"];
        assert_eq!(services["web"].get("ports"), None);
        assert_eq!(services["db"]["ports"], json!(["5432:5432"]));
        let gateway = &services[GATEWAY_SERVICE];
        assert_eq!(
            gateway["ports"],
            json!(["9090:10001", "8080:10002", "127.0.0.1:8443:10003"])
        );
        assert_eq!(
            gateway["networks"],
            json!({"back": null, "default": null, "front": null})
        );
    }

    #[test]
    fn the_configuration_survives_the_shell_and_compose() {
        let rendered = with_gateway(&file(), &both(), "haproxy:pinned");
        let script = rendered.document()["services"][GATEWAY_SERVICE]["command"][0]
            .as_str()
            .expect("a script")
            .to_owned();
        assert!(!script.contains('$'), "{script}");
        assert_eq!(script.matches('\'').count(), 4, "{script}");
        assert!(script.contains("server-template s 20 web:443 resolvers docker"));
        assert!(script.contains("mode tcp\n    bind :10001\n    default_backend api_80"));
    }

    #[test]
    fn without_a_front_there_is_no_gateway() {
        assert_eq!(with_gateway(&file(), &[], "haproxy"), file());
    }

    #[test]
    fn two_published_ports_of_one_target_share_a_backend() {
        let file =
            ComposeFile::new(json!({"services": {"web": {"ports": ["80:8080", "8080:8080"]}}}));
        let fronts = fronts(&file.expect("a file"), &["web".to_owned()], &[]);
        let text = configuration(&fronts);
        assert_eq!(
            text.matches("backend web_8080\n    mode").count(),
            1,
            "{text}"
        );
        assert_eq!(
            text.matches("default_backend web_8080").count(),
            2,
            "{text}"
        );
    }

    #[test]
    fn a_port_is_published_as_the_user_wrote_it() {
        let front = |host_ip: Option<&str>, port| Front {
            host_ip: host_ip.map(str::to_owned),
            published: port,
            ..both()[0].clone()
        };
        let cases = [
            (front(None, Some(80)), "80:1"),
            (front(Some("127.0.0.1"), Some(80)), "127.0.0.1:80:1"),
            (front(Some("::1"), Some(80)), "[::1]:80:1"),
            (front(None, None), "1"),
            (front(Some("127.0.0.1"), None), "127.0.0.1::1"),
        ];
        for (front, text) in cases {
            assert_eq!(published(&front, 1), text);
        }
    }

    /// As HAProxy 3.0.11 printed it, shortened to three servers.
    const PRINTED: &str = "1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change
3 web_80 1 s1 172.21.0.3 2 8 1 1 3
3 web_80 2 s2 172.21.0.4 2 0 1 1 1
3 web_80 3 s3 - 0 33 1 1 1

# pxname,svname,qcur,qmax,scur,smax,slim,stot
web_80,s1,0,0,2,1,,2
web_80,s2,0,0,0,1,,2
";

    #[test]
    fn servers_are_read_with_their_sessions() {
        let servers = servers(PRINTED);
        let told: Vec<_> = servers
            .iter()
            .map(|s| {
                (
                    s.name.as_str(),
                    s.address.as_deref(),
                    s.admission,
                    s.sessions,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("s1", Some("172.21.0.3"), Admission::Drain, 2),
                ("s2", Some("172.21.0.4"), Admission::Ready, 0),
                ("s3", None, Admission::Maintenance, 0),
            ]
        );
    }

    #[test]
    fn a_cutover_lets_the_new_one_in_before_it_takes_the_old_one_out() {
        let side_of = |address: &str| match address {
            "172.21.0.3" => Some(Side::Incumbent),
            "172.21.0.4" => Some(Side::Candidate),
            _ => None,
        };
        let mut servers = servers(PRINTED);
        servers[0].admission = Admission::Ready;
        servers[1].admission = Admission::Maintenance;
        let commands: Vec<String> = changes(&servers, &side_of, Traffic::MOVED)
            .iter()
            .map(command)
            .collect();
        assert_eq!(
            commands,
            [
                "set server web_80/s2 state ready",
                "set server web_80/s3 state ready",
                "set server web_80/s1 state drain",
            ]
        );
        assert_eq!(changes(&servers, &side_of, Traffic::HELD), []);
    }
}
