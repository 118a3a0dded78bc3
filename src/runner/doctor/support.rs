//! The facts of `belay doctor --report`: asked of this machine, taken from what the host said. What may be shown of each is
//! decided by its type ([`Public`]).

use super::Examination;
use crate::program::{argv, run};
use crate::session::Session;
use crate::ssh::{HostKeys, Key};
use belay_model::composition::image::ImageStore;
use belay_report::doctor::Finding;
use belay_report::support::{Facts, Public, SupportReport, configuration_facts};
use belay_wire::{HostFacts, Supervisor};

/// Puts the report together. Looks at this machine, and at nothing else.
pub(crate) fn support_report(session: &Session<'_>, seen: &Examination) -> SupportReport {
    let mut machine = programs();
    machine.extend(ssh(session));
    SupportReport {
        belay: Public::version(env!("CARGO_PKG_VERSION")),
        machine,
        host: seen.host.as_ref().map_or_else(unreached, host_facts),
        configuration: seen.settings.as_ref().map(configuration_facts),
        findings: seen.findings.iter().map(without_words).collect(),
    }
}

/// A finding's words name hosts, addresses and files.
fn without_words(finding: &Finding) -> Finding {
    Finding {
        text: String::new(),
        fix: None,
        ..finding.clone()
    }
}

fn programs() -> Facts {
    vec![
        ("architecture", Public::word(std::env::consts::ARCH)),
        (
            "in GitHub Actions",
            Public::flag(std::env::var_os("GITHUB_ACTIONS").is_some()),
        ),
        (
            "Docker client",
            said(["docker", "version", "--format", "{{.Client.Version}}"]),
        ),
        (
            "Docker engine",
            said(["docker", "version", "--format", "{{.Server.Version}}"]),
        ),
        ("Compose", said(["docker", "compose", "version"])),
        ("buildx", said(["docker", "buildx", "version"])),
        ("git", said(["git", "--version"])),
    ]
}

/// The version that a program tells. One that is missing, or cannot be asked, has none.
fn said<const N: usize>(words: [&str; N]) -> Public {
    match run(&argv(words)) {
        Ok(printed) => Public::version(&String::from_utf8_lossy(&printed)),
        Err(_) => Public::word("not found"),
    }
}

/// The runner's side of SSH: kinds, never keys.
fn ssh(session: &Session<'_>) -> Facts {
    let inputs = &session.inputs;
    let key = inputs.ssh_key.as_ref().map(|text| {
        let key = Key::parse(text, inputs.ssh_key_passphrase.clone());
        key.map(|key| key_kind(key.public()))
    });
    let pinned = inputs.known_hosts.as_deref().map(HostKeys::parse);
    vec![
        (
            "SSH key",
            Public::word(match key {
                None => "not given",
                Some(Err(_)) => "cannot be read",
                Some(Ok(kind)) => kind,
            }),
        ),
        (
            "SSH key's passphrase",
            Public::is_set(inputs.ssh_key_passphrase.as_ref()),
        ),
        (
            "pinned host keys",
            Public::word(match pinned {
                None => "not given",
                Some(Err(_)) => "cannot be read",
                Some(Ok(HostKeys::KnownHosts(_))) => "known_hosts",
                Some(Ok(HostKeys::Fingerprints(_))) => "fingerprints",
            }),
        ),
    ]
}

/// The kind at the beginning of a line for `authorized_keys`.
fn key_kind(public: Option<&str>) -> &'static str {
    match public.and_then(|line| line.split(' ').next()) {
        Some("ssh-ed25519") => "ed25519",
        Some("ssh-rsa") => "rsa",
        Some(kind) if kind.starts_with("ecdsa-") => "ecdsa",
        Some(_) => "of another kind",
        None => "of a kind that its file does not show",
    }
}

fn unreached() -> Facts {
    vec![("reached", Public::flag(false))]
}

fn host_facts(facts: &HostFacts) -> Facts {
    let engine = &facts.engine;
    let mut shown = vec![
        ("reached", Public::flag(true)),
        ("Docker engine", Public::version(&engine.engine)),
        (
            "oldest API of the engine",
            Public::version(&engine.oldest_api),
        ),
        ("Compose", Public::version(&engine.compose)),
        ("architecture", architecture(&engine.architecture)),
        ("image store", store(engine.store)),
        ("live-restore", Public::flag(engine.live_restore)),
        ("free space", Public::size(facts.free_bytes)),
        ("of", Public::size(facts.total_bytes)),
        ("recovery after a reboot", supervisor(&facts.supervisor)),
        ("releases", Public::count(facts.releases.len())),
        ("backups", Public::count(facts.backups.len())),
        ("services", Public::count(facts.services.len())),
        ("last transaction", last_transaction(facts)),
        (
            "the host acted by itself since",
            Public::flag(facts.note.is_some()),
        ),
        ("the lock is held", Public::flag(facts.holder.is_some())),
    ];
    let seq = facts.current.as_ref().map(|current| current.seq);
    shown.extend(seq.map(|seq| ("transaction of the running version", Public::number(seq))));
    shown
}

fn architecture(name: &str) -> Public {
    Public::word(match name {
        "amd64" => "amd64",
        "arm64" => "arm64",
        _ => "another one",
    })
}

fn store(store: ImageStore) -> Public {
    Public::word(match store {
        ImageStore::Graph => "Docker's own",
        ImageStore::Containerd => "containerd",
    })
}

fn supervisor(supervisor: &Supervisor) -> Public {
    Public::word(match supervisor {
        Supervisor::SystemUnit { .. } => "a systemd unit",
        Supervisor::UserUnit { .. } => "a systemd unit of the user",
        Supervisor::Crontab { .. } => "a crontab",
        Supervisor::NextContact => "the next contact",
    })
}

fn last_transaction(facts: &HostFacts) -> Public {
    Public::word(match &facts.open {
        Some(open) if open.stuck => "stuck",
        Some(_) => "not over",
        None if facts.current.is_none() => "none went live",
        None => "over",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use belay_model::config::{Config, Overrides, Settings};
    use belay_report::support::support_markdown;

    /// Nothing of these may be in a report, nor any part of them that tells something.
    const PRIVATE: [&str; 12] = [
        "203.0.113",
        "example.com",
        "secretapp",
        "deployer",
        "/srv",
        "/home",
        "hunter2",
        "tok3n",
        "ghs_",
        "s3cret",
        "http",
        "@",
    ];

    fn settings() -> Settings {
        let yml = "app: secretapp\nroot: /srv/secretapp\nproject: secretapp\n\
                   host:\n  address: 203.0.113.10\n  user: deployer\n\
                   environments:\n  production:\n    url: https://app.example.com\n\
                   compose: s3cret/compose.yml\n\
                   health:\n  primary: http://127.0.0.1:8080/hunter2\n  public: https://app.example.com/tok3n\n\
                   files:\n  - home/deployer.env\n\
                   images:\n  test: [hunter2, --token, ghs_tok3n]\n";
        let config = Config::load(yml, "belay.yml").expect("a good file");
        let overrides = Overrides {
            host: Some("app.example.com".to_owned()),
            ..Overrides::default()
        };
        let config = config.with(&overrides).expect("good inputs");
        config.for_environment("production").expect("settings")
    }

    /// Whatever a host may say, with something private in every text of it.
    fn host() -> HostFacts {
        let failed = "ghs_tok3n of deployer@203.0.113.10 in /srv/secretapp, see http://app.example.com/hunter2";
        let facts = json!({
            "language": 1, "now": "2026-11-24T03:14:05Z",
            "engine": {
                "engine": failed, "compose": "203.0.113.10", "architecture": "app.example.com",
                "live_restore": true, "store": "graph", "oldest_api": "/home/deployer/1.24",
            },
            "free_bytes": 1, "total_bytes": 2,
            "current": {
                "schema": 1, "release": "s3cret", "tag": "v1.0.0-tok3n", "revision": failed,
                "project": "secretapp", "environment": "s3cret", "seq": 7,
                "since": "2026-11-24T03:14:05Z", "how": "deploy", "previous": "s3cret",
            },
            "releases": [{
                "name": "s3cret", "seq": 7, "tag": failed, "revision": failed,
                "created": "2026-11-24T03:14:05Z", "missing_images": [failed], "can_serve": true,
            }],
            "down": [failed],
            "images": [{
                "service": "secretapp", "id": failed, "size": 1, "is_there": true, "serves": true,
            }],
            "services": [{
                "service": "secretapp", "container": "s3cret", "state": failed, "health": failed,
                "image_id": failed, "restarts": 0,
            }],
            "backups": [{
                "name": "s3cret", "seq": 1, "created": "2026-11-24T03:14:05Z", "release": "s3cret",
                "tag": failed, "reason": failed, "bytes": 1, "images": 1, "data": [failed],
                "inconsistent": [failed], "problem": failed, "verified": true,
            }],
            "holder": {
                "what": failed, "run_url": "http://app.example.com", "actor": "deployer",
                "since": null, "pid": 1,
            },
            "open": {
                "seq": 8, "what": failed, "since": "2026-11-24T03:14:05Z", "stuck": true,
            },
            "supervisor": {"crontab": {"user": "deployer"}},
            "note": failed,
        });
        serde_json::from_value(facts).expect("the facts of a host")
    }

    fn assert_public(text: &str) {
        for private in PRIVATE {
            assert!(!text.contains(private), "{private} is in:\n{text}");
        }
    }

    fn report(host: Facts) -> SupportReport {
        let finding = Finding::bad(
            "SSH",
            "deployer@203.0.113.10 refused /home/deployer/hunter2",
            "ssh deployer@app.example.com s3cret",
        );
        SupportReport {
            belay: Public::version("0.1.0"),
            machine: vec![(
                "git",
                Public::version("ghs_tok3n /home/deployer 203.0.113.10"),
            )],
            host,
            configuration: Some(configuration_facts(&settings())),
            findings: vec![without_words(&finding)],
        }
    }

    #[test]
    fn nothing_private_is_in_a_report() {
        let facts = host();
        let said = serde_json::to_string(&facts).expect("JSON");
        let leaked = PRIVATE.iter().filter(|private| said.contains(**private));
        assert!(
            leaked.count() >= 8,
            "the host of this test says too little: {said}"
        );
        let text = support_markdown(&report(host_facts(&facts)));
        assert_public(&text);
        assert!(
            text.contains("the host acted by itself since: `yes`"),
            "{text}"
        );
        assert!(text.contains("last transaction: `stuck`"), "{text}");
        assert_public(&support_markdown(&report(unreached())));
    }

    #[test]
    fn a_finding_keeps_its_name_and_its_grade() {
        let text = support_markdown(&report(unreached()));
        assert!(text.contains("- `SSH`: bad\n"), "{text}");
    }
}
