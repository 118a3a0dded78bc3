//! What a program of the host complains of, as far as Belay acts on it.
//!
//! Docker has no codes for most of this, so its words are read: here, once, when a program's answer comes in. From then on
//! there is a kind, and nothing looks at the words of an error again.

/// What Docker, or Compose, stumbled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another container, or another program of the host, has a port that a container publishes.
    PortTaken,
    /// The engine is not there, or went away in the middle; it may come back.
    EngineAway,
    /// Another container has the name that Compose wants to give: somebody, or Compose itself, is just making or replacing it.
    NameTaken,
    /// Docker has lost a network, or the container's place in it.
    NetworkLost,
    /// There is no volume of this name.
    NoVolume,
    /// The host has nothing at the path of a bind mount.
    NoPath,
    /// A layer of an image that was sent could not be unpacked.
    NotUnpacked,
    /// Anything else: for people only.
    Other,
}

/// The words by which each kind is known, in lower case. They are the engine's and its client's (20.10 to 29) where nothing
/// else is said.
const KNOWN: [(Trouble, &str); 15] = [
    // `docker load` with the containerd store, which ends well all the same.
    (Trouble::NotUnpacked, "error unpacking image"),
    // The engine's own book of ports, and the kernel's answer to its proxy.
    (Trouble::PortTaken, "already allocated"),
    (Trouble::PortTaken, "address already in use"),
    (Trouble::EngineAway, "cannot connect to the docker daemon"),
    (Trouble::EngineAway, "error during connect"),
    // Compose 1.x, which is written in Python, takes a second to say so; the engine may be back by then.
    (Trouble::EngineAway, "connection refused"),
    (Trouble::EngineAway, "connection aborted"),
    // Programs written in Go, when the engine dies while it answers.
    (Trouble::EngineAway, "connection reset by peer"),
    (Trouble::EngineAway, "unexpected eof"),
    // `Conflict. The container name "/app-web-1" is already in use by container "…"`.
    (Trouble::NameTaken, "is already in use by container"),
    (Trouble::NetworkLost, "has active endpoints"),
    (Trouble::NetworkLost, "endpoint with name"),
    (
        Trouble::NetworkLost,
        "failed to get network during createendpoint",
    ),
    (Trouble::NoVolume, "no such volume"),
    (Trouble::NoPath, "path does not exist"),
];

impl Trouble {
    /// Whether it may be over in a moment, with nobody doing anything about it: Docker has just died or come back, or another
    /// call of Compose is at the same container.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Trouble::EngineAway
            | Trouble::PortTaken
            | Trouble::NameTaken
            | Trouble::NetworkLost => true,
            Trouble::NoVolume | Trouble::NoPath | Trouble::NotUnpacked | Trouble::Other => false,
        }
    }

    /// Reads what Docker, its client or Compose said when it failed.
    #[must_use]
    pub fn of(said: &str) -> Trouble {
        let said = said.to_lowercase();
        let known = KNOWN.iter().find(|(_, words)| said.contains(words));
        known.map_or(Trouble::Other, |(trouble, _)| *trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_says_has_a_kind() {
        for (said, trouble) in [
            (
                "driver failed programming external connectivity on endpoint web (ab): Bind for 0.0.0.0:80 failed: port is \
                 already allocated",
                Trouble::PortTaken,
            ),
            (
                "failed to bind host port 0.0.0.0:80/tcp: address already in use",
                Trouble::PortTaken,
            ),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                Trouble::EngineAway,
            ),
            (
                "('Connection aborted.', ConnectionRefusedError(111, 'Connection refused'))",
                Trouble::EngineAway,
            ),
            ("unexpected EOF", Trouble::EngineAway),
            (
                "Error response from daemon: get data: no such volume",
                Trouble::NoVolume,
            ),
            (
                "invalid mount config for type \"bind\": bind source path does not exist: /srv/x",
                Trouble::NoPath,
            ),
            (
                "Error unpacking image belay/app/web: apply layer error",
                Trouble::NotUnpacked,
            ),
            (
                "Conflict. The container name \"/app-web-1\" is already in use by container \"ab\". You have to remove (or \
                 rename) that container to be able to reuse that name.",
                Trouble::NameTaken,
            ),
            (
                "endpoint with name app-web-1 already exists in network app_default",
                Trouble::NetworkLost,
            ),
            ("manifest unknown", Trouble::Other),
            ("", Trouble::Other),
        ] {
            assert_eq!(Trouble::of(said), trouble, "{said}");
        }
    }
}
