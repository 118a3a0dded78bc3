//! The gateway's runtime API: `HAProxy` is asked and told from within its own container.
//!
//! Runs on the host.

use super::super::host::HostError;
use super::RealHost;
use belay_model::replacement::gateway;

impl RealHost {
    /// Sends a line to the gateway's runtime API.
    pub(super) fn runtime(&self, gateway: &str, line: &str) -> Result<String, HostError> {
        let port = gateway::RUNTIME_PORT.to_string();
        self.api()?.exec(gateway, &["sh", "-c", SPEAK, line, &port])
    }
}

/// Sends a line to `HAProxy`'s runtime API. It listens inside the gateway's container alone, where nobody else can reach it,
/// so a program in there has to speak to it: bash in Debian's images, busybox's `nc` in Alpine's.
const SPEAK: &str = r#"if command -v bash >/dev/null 2>&1; then
exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/$1 && printf "%s\n" "$0" >&3 &&
while IFS= read -r line <&3; do printf "%s\n" "$line"; done' "$0" "$1"
else printf "%s\n" "$0" | nc 127.0.0.1 "$1"
fi"#;
