//! What belay.yml wants of the replacement of services, as it travels in a plan, and what is fixed about the gateway.

use serde::{Deserialize, Serialize};

use crate::composition::compose::{ComposeFile, Kept};
use crate::config::{Mode, ProxyProtocol, Roll, WishedStrategy};

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
    /// Where it has volumes without a name that may be left behind.
    #[serde(default)]
    pub left: Vec<String>,
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
            left: vec![],
        }
    }

    /// Lets every volume without a name be left behind that the service has in this file.
    pub fn leave_all(&mut self, file: &ComposeFile) {
        let kept = file.kept_data(&self.service).into_iter();
        let unnamed = kept.filter_map(|kept| match kept {
            Kept::Anonymous(target) => Some(target),
            Kept::Volume(_) | Kept::Bind(_) => None,
        });
        self.left = unnamed
            .map(|target| target.trim_end_matches('/').to_owned())
            .collect();
    }
}

/// How the user's own proxy is told that a container is about to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainWish {
    /// Run inside the incumbent; nothing when empty.
    pub command: Vec<String>,
    /// How long the stop waits after it.
    pub wait_ms: u64,
}
