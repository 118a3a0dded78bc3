//! What belay.yml wants of the replacement of services, as it travels in a plan, and what is fixed about the gateway.

use serde::{Deserialize, Serialize};

/// The gateway's name among the services of a project.
pub const GATEWAY_SERVICE: &str = "belay-gateway";

/// Containers that a service may have at once: twice its replicas during a cutover. A fixed number, because a changed
/// configuration would make a new gateway, and that is a gap.
pub const SERVERS: u32 = 20;

/// Whether services that publish ports get a gateway. A plan from before there was one has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayRule {
    /// They publish them themselves.
    #[default]
    Off,
    /// HAProxy, from this image.
    On {
        /// Its reference, as Docker knows it.
        image: String,
    },
}

/// What belay.yml wants for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyWish {
    /// The service's name in the Compose file.
    pub service: String,
    /// How it is to be replaced.
    pub strategy: WishedStrategy,
    /// What the gateway speaks with it.
    #[serde(default)]
    pub mode: Mode,
    /// Whether it is told the client's address.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// How its replicas are replaced.
    #[serde(default)]
    pub roll: Roll,
    /// For a service behind the user's own proxy; `None` for the usual way.
    #[serde(default)]
    pub drain: Option<DrainWish>,
}

impl StrategyWish {
    /// A service of which nothing is said.
    #[must_use]
    pub fn of(service: &str) -> Self {
        StrategyWish {
            service: service.to_owned(),
            strategy: WishedStrategy::Auto,
            mode: Mode::Http,
            proxy_protocol: ProxyProtocol::Off,
            roll: Roll::Together,
            drain: None,
        }
    }
}

/// The strategy that belay.yml names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WishedStrategy {
    /// By the rules; what a service of which nothing is said has.
    #[default]
    Auto,
    /// The new one before the old one stops, whatever caution says.
    StartFirst,
    /// The old one stops first.
    StopFirst,
    /// It stays, as long as it is the same.
    Untouched,
    /// It runs once and ends.
    OneShot,
}

/// What the gateway speaks with a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Requests, which can be moved one by one.
    #[default]
    Http,
    /// Bytes, whatever they mean: TLS, databases, anything.
    Tcp,
}

/// Whether the gateway tells a service the client's address ahead of a connection, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// It is not told.
    #[default]
    Off,
    /// As a line of text.
    V1,
    /// As bytes.
    V2,
}

/// How the replicas of a start-first service are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roll {
    /// All new ones beside all old ones: twice the memory for a while, and no two versions serve for long.
    #[default]
    Together,
    /// One after the other: one container more than usual, and both versions serve meanwhile.
    OneByOne,
}

/// How the user's own proxy is told that a container is about to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainWish {
    /// Run inside the incumbent; nothing when empty.
    pub command: Vec<String>,
    /// How long the stop waits after it.
    pub wait_ms: u64,
}
