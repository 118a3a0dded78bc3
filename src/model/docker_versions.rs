//! What is known of versions of Docker and Compose that a deployment depends on. The reading that it comes from, with the
//! sources, is docs/engines.md.

/// The newest major versions that something here is known of: Docker 29 (November 2025), Compose 5 (December 2025).
const NEWEST_ENGINE: u32 = 29;
const NEWEST_COMPOSE: u32 = 5;
/// The one version of Docker's API that the Compose written in Python speaks (`compose/const.py` of 1.29.2).
const API_OF_PYTHONS_COMPOSE: (u32, u32) = (1, 38);

/// Something about a host's versions that people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What is wrong, with the versions that were found.
    pub text: String,
    /// What to install or change.
    pub next: String,
}

impl Remark {
    fn new(text: String, next: &str) -> Remark {
        Remark {
            text,
            next: next.to_owned(),
        }
    }
}

/// Why a Compose cannot work with an engine at all. It would print files and fail when it is to start something.
#[must_use]
pub fn misfit(engine: &str, oldest_api: &str, compose: &str) -> Option<Remark> {
    let (oldest, speaks) = (pair(oldest_api)?, API_OF_PYTHONS_COMPOSE);
    (is_pythons(compose) && oldest > speaks).then(|| {
        Remark::new(
            format!(
                "docker-compose {compose} cannot speak with Docker {engine}: it knows version {}.{} of Docker's API, \
                 and the oldest that this engine knows is {oldest_api}",
                speaks.0, speaks.1
            ),
            "install the Compose plugin: the package docker-compose-plugin, or docker-compose-v2",
        )
    })
}

/// Whether this Compose acts on a network that is defined otherwise than it was made: 1.x fails, and those since 2.31, which
/// keep the definition's hash with the network, make it anew (docker/compose#12267). Those between leave it as it is.
#[must_use]
pub fn changes_networks(compose: &str) -> bool {
    match numbers(compose).as_slice() {
        [2, minor, ..] => *minor >= 31,
        _ => true,
    }
}

/// What is worth a look about versions that work.
#[must_use]
pub fn remarks(engine: &str, compose: &str) -> Vec<Remark> {
    let mut remarks = vec![];
    let docker = numbers(engine);
    if is_pythons(compose) && docker.first().is_some_and(|major| *major >= 26) {
        remarks.push(Remark::new(
            format!(
                "docker-compose {compose} is not kept up any more, and fails with Docker {engine} when it replaces some \
                 containers (KeyError: 'ContainerConfig', docker/compose#11742)"
            ),
            "install the Compose plugin: the package docker-compose-plugin, or docker-compose-v2",
        ));
    }
    if docker.starts_with(&[29, 1, 0]) {
        remarks.push(Remark::new(
            "Docker 29.1.0 finds no names outside in networks of one's own (moby/moby#51615)"
                .to_owned(),
            "update Docker to 29.1.1 or later",
        ));
    }
    if docker.first().is_some_and(|major| *major > NEWEST_ENGINE) {
        remarks.push(Remark::new(
            format!("Docker {engine} is newer than any that this version of Belay knows of"),
            "look for a newer version of Belay; nothing speaks against this one yet",
        ));
    }
    if numbers(compose)
        .first()
        .is_some_and(|major| *major > NEWEST_COMPOSE)
    {
        remarks.push(Remark::new(
            format!("Compose {compose} is newer than any that this version of Belay knows of"),
            "look for a newer version of Belay; nothing speaks against this one yet",
        ));
    }
    remarks
}

fn is_pythons(compose: &str) -> bool {
    compose.starts_with("1.")
}

/// The numbers that a version begins with; distributions add words of their own (`28.5.2+dfsg4`).
fn numbers(version: &str) -> Vec<u32> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.');
    let version = version
        .get(..end.unwrap_or(version.len()))
        .unwrap_or_default();
    version.split('.').map_while(|n| n.parse().ok()).collect()
}

fn pair(version: &str) -> Option<(u32, u32)> {
    match numbers(version).as_slice() {
        [major, minor, ..] => Some((*major, *minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_compose_cannot_speak_with_docker_29() {
        let misfit = |oldest: &str, compose: &str| misfit("29.1.5", oldest, compose);
        let said = misfit("1.44", "1.29.2").expect("it is refused").text;
        assert!(said.contains("1.29.2") && said.contains("1.44"), "{said}");
        assert!(misfit("1.40", "1.29.2").is_some());
        assert_eq!(misfit("1.44", "2.40.3"), None);
        assert_eq!(misfit("1.24", "1.29.2"), None);
        assert_eq!(misfit("", "1.29.2"), None);
    }

    #[test]
    fn some_versions_of_compose_leave_a_network_as_it_is() {
        for (compose, changes) in [
            ("1.29.2", true),
            ("2.26.1-4", false),
            ("2.31.0", true),
            ("2.40.3-3", true),
            ("5.0.0", true),
            ("dev", true),
        ] {
            assert_eq!(changes_networks(compose), changes, "{compose}");
        }
    }

    #[test]
    fn what_is_known_of_a_version_is_said_and_the_usual_ones_pass() {
        let said = |engine: &str, compose: &str| remarks(engine, compose).len();
        for (engine, compose) in [
            ("20.10.24+dfsg1", "1.29.2"),
            ("26.1.5+dfsg1", "2.26.1-4"),
            ("28.5.2+dfsg4", "2.40.3-3"),
            ("29.1.5", "5.0.0"),
            ("29.1.5", "dev"),
        ] {
            assert_eq!(said(engine, compose), 0, "{engine} {compose}");
        }
        assert_eq!(said("26.1.5", "1.29.2"), 1);
        assert_eq!(said("29.1.0", "5.0.0"), 1);
        assert_eq!(said("30.0.0", "6.1.0"), 2);
    }
}
