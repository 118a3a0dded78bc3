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
    #[default]
    Off,
    /// HAProxy, from this image.
    On { image: String },
}

/// What belay.yml wants for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyWish {
    pub service: String,
    pub strategy: WishedStrategy,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    #[serde(default)]
    pub roll: Roll,
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
    #[default]
    Auto,
    StartFirst,
    StopFirst,
    Untouched,
    OneShot,
}

/// What the gateway speaks with a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Http,
    /// Bytes, whatever they mean: TLS, databases, anything.
    Tcp,
}

/// Whether the gateway tells a service the client's address ahead of a connection, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    #[default]
    Off,
    V1,
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
