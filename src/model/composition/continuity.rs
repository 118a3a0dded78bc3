//! Where data of the running version is in the next one: each mount of a service is compared with what is mounted at the
//! same place then. Data that would be left behind, or that a service would look for in vain, is found here; what
//! `belay.yml` says of it decides whether that is meant.
//!
//! Pure. Docker has volumes and folders by their own names, whatever a file calls them, so it is those that are compared:
//! a volume that another service has by now is not lost, and a volume of the same key in another project is another one.
//! What a service cannot write to is not its data, nor are memory, sockets and interfaces of the kernel.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data_view::{DataMount, DataView, Source};
use crate::config::DataMeaning;

/// Data that is mounted otherwise in the next version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which data.
    pub source: Source,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of data that a service had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The service has something else at the place.
    Replaced {
        /// Whose.
        service: String,
        /// The place in its containers.
        target: String,
        /// What is there then.
        by: Source,
        /// All of both is what is mounted there, not a folder in it.
        is_whole: bool,
    },
    /// The service has it, at another place.
    Retargeted {
        /// Whose, in the next version.
        service: String,
        /// Where it was.
        from: String,
        /// Where it is then.
        to: String,
    },
    /// No service has it.
    LeftBehind {
        /// Who had it.
        service: String,
        /// The place in its containers.
        target: String,
    },
    /// The service has it no more, and others have it still: told, and no reason to refuse.
    Dropped {
        /// Who had it.
        service: String,
        /// The place in its containers.
        target: String,
    },
}

impl Finding {
    /// Whether data would be missed.
    #[must_use]
    pub fn is_grave(&self) -> bool {
        !matches!(self.change, Change::Dropped { .. })
    }

    /// What becomes of it, in words. `data`: how it is called, and what is known of it.
    #[must_use]
    pub fn describe(&self, data: &str) -> String {
        match &self.change {
            Change::Replaced {
                service,
                target,
                by: Source::Memory,
                ..
            } => format!("{service} has only memory at {target}, where it had {data}"),
            Change::Replaced {
                service,
                target,
                by: Source::Unnamed { .. },
                ..
            } => format!("{service} has a volume without a name at {target}, where it had {data}"),
            Change::Replaced {
                service,
                target,
                by,
                ..
            } => format!("{service} has {by} at {target}, where it had {data}"),
            Change::Retargeted { service, from, to } => {
                format!("{service} has {data} at {to}, and nothing where it was, at {from}")
            }
            Change::LeftBehind { service, target } => {
                format!("no service has {data}, which {service} had at {target}")
            }
            Change::Dropped { service, target } => {
                format!(
                    "{service} has nothing at {target}, where it had {data}; others have it still"
                )
            }
        }
    }
}

/// What is mounted otherwise in the version after, in the order of the version before.
#[must_use]
pub fn changes(before: &DataView, after: &DataView) -> Vec<Finding> {
    let mut findings: Vec<Finding> = vec![];
    for mount in before.mounts.iter().filter(|mount| mount.is_data()) {
        let finding = change(mount, before, after).map(|change| Finding {
            source: mount.source.clone(),
            change,
        });
        findings.extend(finding.filter(|finding| !is_known(&findings, finding)));
    }
    findings
}

/// That nobody has it need not be said for each who had it.
fn is_known(findings: &[Finding], finding: &Finding) -> bool {
    matches!(finding.change, Change::LeftBehind { .. })
        && findings.iter().any(|known| known.source == finding.source)
}

fn change(mount: &DataMount, before: &DataView, after: &DataView) -> Option<Change> {
    let (service, target) = (mount.service.clone(), mount.target.clone());
    match after.at(&service, &target) {
        Some(there) if there.has_the_same(mount) => return None,
        Some(there) => {
            let is_whole = mount.is_all() && after.has_all_of(&there);
            let by = there.source;
            return Some(Change::Replaced {
                service,
                target,
                by,
                is_whole,
            });
        }
        None => {}
    }
    let takers: Vec<&DataMount> = after
        .mounts
        .iter()
        .filter(|other| other.holds(mount))
        .collect();
    if takers.is_empty() {
        return Some(Change::LeftBehind { service, target });
    }
    let is_new = |taker: &&&DataMount| {
        let then = before.at(&taker.service, &taker.target);
        !then.is_some_and(|then| then.holds(taker))
    };
    if after.services.contains(&service) {
        let own = takers.iter().filter(|taker| taker.service == service);
        return Some(match own.filter(|t| is_new(t)).copied().next() {
            Some(taker) => Change::Retargeted {
                service,
                from: target,
                to: taker.target.clone(),
            },
            None => Change::Dropped { service, target },
        });
    }
    // The service is gone, or has another name; whoever has its data at the same place is its successor.
    let is_at_the_place = |taker: &&DataMount| {
        let there = after.at(&taker.service, &target);
        there.is_some_and(|there| there.has_the_same(mount))
    };
    if takers.iter().any(is_at_the_place) {
        return None;
    }
    let newcomer = takers.iter().filter(|t| is_new(t)).copied().next()?;
    Some(Change::Retargeted {
        service: newcomer.service.clone(),
        from: target,
        to: newcomer.target.clone(),
    })
}

/// What `belay.yml` says of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meant {
    /// A volume's key, a path, or a service and the place of its volume without a name.
    pub source: String,
    /// What is meant to become of it.
    pub meaning: DataMeaning,
}

/// What a deployment does about data for which nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsaid {
    /// It goes on, and says so.
    #[default]
    Warn,
    /// It is refused before anything changes.
    Refuse,
}

/// Findings, by what `belay.yml` says of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Nothing is said, and data would be missed.
    pub unsaid: Vec<Finding>,
    /// It is meant so.
    pub meant: Vec<(Finding, DataMeaning)>,
    /// No data would be missed.
    pub told: Vec<Finding>,
    /// Entries for data of which nothing is to be said.
    pub idle: Vec<String>,
}

/// Sorts findings by what is meant. `root`: the application's folder, for paths that begin there.
#[must_use]
pub fn judge(findings: Vec<Finding>, meant: &[Meant], root: &str) -> Judged {
    let said_of = |source: &Source| {
        let mut entries = meant.iter();
        entries.find(|entry| source.is_meant_by(&entry.source, root))
    };
    let is_idle = |entry: &&Meant| {
        // A volume without a name is left behind at every deployment of a start-first service.
        !entry.source.contains(":/")
            && !findings
                .iter()
                .any(|finding| finding.source.is_meant_by(&entry.source, root))
    };
    let idle = meant.iter().filter(is_idle);
    let mut judged = Judged {
        idle: idle.map(|entry| entry.source.clone()).collect(),
        ..Judged::default()
    };
    for finding in findings {
        match said_of(&finding.source) {
            _ if !finding.is_grave() => judged.told.push(finding),
            Some(said) => judged.meant.push((finding, said.meaning)),
            None => judged.unsaid.push(finding),
        }
    }
    judged
}

/// What to write into `belay.yml` for these, all with one meaning: `data: {uploads: left}`.
#[must_use]
pub fn lines(findings: &[Finding], meaning: DataMeaning) -> String {
    let sources: BTreeSet<String> = findings.iter().map(|f| f.source.setting()).collect();
    let entries: Vec<String> = sources
        .iter()
        .map(
            |source| match source.contains([':', ' ', ',', '#', '{', '}']) {
                true => format!("{}: {meaning}", Value::String(source.clone())),
                false => format!("{source}: {meaning}"),
            },
        )
        .collect();
    format!("data: {{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::composition::compose::ComposeFile;

    fn view_in(project: &str, services: &Value, volumes: &Value) -> DataView {
        let document = json!({"services": services, "volumes": volumes});
        let file = ComposeFile::new(document).expect("a Compose file");
        DataView::of_file(&file, project)
    }

    fn web(volumes: &Value) -> DataView {
        view_in("shop", &json!({"web": {"volumes": volumes}}), &json!({}))
    }

    fn told(before: &DataView, after: &DataView) -> Vec<String> {
        let findings = changes(before, after);
        findings
            .iter()
            .map(|f| {
                let grave = if f.is_grave() { "" } else { "(told) " };
                format!("{grave}{}", f.describe(&f.source.to_string()))
            })
            .collect()
    }

    const NONE: [&str; 0] = [];

    fn long(more: &Value) -> Value {
        let mut mount = json!({"type": "volume", "source": "data", "target": "/data"});
        for (key, value) in more.as_object().expect("a map") {
            mount[key] = value.clone();
        }
        json!([mount])
    }

    fn hold(table: &[(&Value, &Value, &[&str])]) {
        for (before, after, expected) in table {
            assert_eq!(
                told(&web(before), &web(after)),
                *expected,
                "{before} -> {after}"
            );
        }
    }

    #[test]
    fn data_of_one_service_is_followed_through_every_notation() {
        let named = json!(["data:/data"]);
        let store = "web has the volume shop_store at /data, where it had the volume shop_data";
        let gone = "no service has the volume shop_data, which web had at /data";
        let moved = "web has the volume shop_data at /d, and nothing where it was, at /data";
        hold(&[
            // The same, said otherwise.
            (&named, &named, &NONE),
            (&named, &json!(["data:/data/"]), &NONE),
            (&named, &json!(["data:/data:rw,z"]), &NONE),
            (&named, &long(&json!({})), &NONE),
            (&long(&json!({"volume": {}})), &named, &NONE),
            (&named, &long(&json!({"volume": {"nocopy": true}})), &NONE),
            (&json!(["/data"]), &json!(["/data"]), &NONE),
            // It may only read now: the data is there.
            (&named, &json!(["data:/data:ro"]), &NONE),
            // Another name, another place, none.
            (&named, &json!(["store:/data"]), &[store]),
            (&long(&json!({})), &json!(["store:/data"]), &[store]),
            (&named, &json!(["data:/d"]), &[moved]),
            (&named, &json!(["data:/d", "data:/data"]), &NONE),
            (&named, &json!([]), &[gone]),
            (&named, &Value::Null, &[gone]),
            (&named, &json!(["store:/d"]), &[gone]),
        ]);
    }

    #[test]
    fn data_of_another_kind_is_other_data() {
        let named = json!(["data:/data"]);
        let folder = json!([{"type": "bind", "source": "/opt/shop/data", "target": "/data"}]);
        hold(&[
            (
                &named,
                &folder,
                &["web has /opt/shop/data at /data, where it had the volume shop_data"],
            ),
            (
                &folder,
                &named,
                &["web has the volume shop_data at /data, where it had /opt/shop/data"],
            ),
            (
                &named,
                &json!(["/data"]),
                &["web has a volume without a name at /data, where it had the volume shop_data"],
            ),
            (
                &json!(["/data"]),
                &named,
                &[
                    "web has the volume shop_data at /data, where it had the volume without a name of web at /data",
                ],
            ),
            (
                &named,
                &json!([{"type": "tmpfs", "target": "/data"}]),
                &["web has only memory at /data, where it had the volume shop_data"],
            ),
        ]);
    }

    #[test]
    fn a_mount_around_data_or_inside_of_it_is_seen_through() {
        let files = json!(["/srv/app/files:/app/files"]);
        let app = json!(["/srv/app:/app"]);
        let part = |folder: &str| long(&json!({"volume": {"subpath": folder}}));
        hold(&[
            (&files, &app, &NONE),
            (
                &app,
                &files,
                &["no service has /srv/app, which web had at /app"],
            ),
            (
                &json!(["data:/data"]),
                &json!(["data:/data", "cache:/data/cache"]),
                &NONE,
            ),
            (
                &long(&json!({})),
                &part("a"),
                &["web has the volume shop_data at /data, where it had the volume shop_data"],
            ),
            (&part("a"), &part("./a/"), &NONE),
        ]);
    }

    #[test]
    fn what_a_service_cannot_write_to_and_what_is_no_data_is_not_missed() {
        for mount in [
            json!("data:/data:ro"),
            json!("/srv/conf:/conf:ro,z"),
            json!({"type": "bind", "source": "/srv/conf", "target": "/conf", "read_only": true}),
            json!("/var/run/docker.sock:/var/run/docker.sock"),
            json!("/srv/app.sock:/app.sock"),
            json!("/proc:/host/proc"),
            json!("/sys/fs/cgroup:/cgroup"),
            json!("/etc/localtime:/etc/localtime"),
            json!({"type": "tmpfs", "target": "/tmp"}),
            json!({"type": "npipe", "source": "x", "target": "/x"}),
        ] {
            let before = web(&json!([mount]));
            assert_eq!(told(&before, &web(&json!([]))), NONE, "{mount}");
        }
        let memory = view_in(
            "shop",
            &json!({"web": {"tmpfs": ["/tmp:size=1m"]}}),
            &json!({}),
        );
        assert_eq!(told(&memory, &web(&json!([]))), NONE);
        let data = web(&json!(["data:/tmp"]));
        assert_eq!(
            told(&data, &memory),
            ["web has only memory at /tmp, where it had the volume shop_data"]
        );
    }

    #[test]
    fn data_goes_with_a_service_that_gets_another_name() {
        let of = |services: &Value| view_in("shop", services, &json!({}));
        let before = of(&json!({"db": {"volumes": ["data:/var/lib/db"]}, "web": {}}));
        let table: [(Value, &[&str]); 6] = [
            (json!({"base": {"volumes": ["data:/var/lib/db"]}}), &NONE),
            (
                json!({"base": {"volumes": ["data:/var/lib/base"]}}),
                &[
                    "base has the volume shop_data at /var/lib/base, and nothing where it was, at /var/lib/db",
                ],
            ),
            (
                json!({"base": {"volumes": ["store:/var/lib/db"]}}),
                &["no service has the volume shop_data, which db had at /var/lib/db"],
            ),
            (
                json!({"db": {}, "web": {"volumes": ["data:/var/lib/db"]}}),
                &[
                    "(told) db has nothing at /var/lib/db, where it had the volume shop_data; others have it still",
                ],
            ),
            (
                json!({"web": {}}),
                &["no service has the volume shop_data, which db had at /var/lib/db"],
            ),
            (
                json!({"db": {"volumes": ["data:/var/lib/db"]}, "more": {"volumes": ["data:/x"]}}),
                &NONE,
            ),
        ];
        for (after, expected) in table {
            assert_eq!(told(&before, &of(&after)), expected, "{after}");
        }
        let shared = of(&json!({"a": {"volumes": ["data:/d"]}, "b": {"volumes": ["data:/e"]}}));
        // Whoever has it still had it at that place before.
        assert_eq!(
            told(&shared, &of(&json!({"b": {"volumes": ["data:/e"]}}))),
            NONE
        );
        assert_eq!(
            told(&shared, &of(&json!({"a": {}, "b": {}}))),
            ["no service has the volume shop_data, which a had at /d"]
        );
        assert_eq!(
            told(
                &shared,
                &of(&json!({"a": {"volumes": ["store:/d"]}, "b": {}}))
            ),
            ["a has the volume shop_store at /d, where it had the volume shop_data",]
        );
    }

    #[test]
    fn a_volume_is_known_by_what_docker_calls_it() {
        let of = |key: &str, definition: &Value| {
            let services = json!({"web": {"volumes": [format!("{key}:/data")]}});
            view_in("shop", &services, &json!({ key: definition }))
        };
        let folder = json!({"driver_opts": {"type": "none", "o": "bind", "device": "/srv/data/"}});
        let share = |options: &str| json!({"driver": "local", "driver_opts": {"type": "nfs", "device": ":/data", "o": options}});
        let before = of("data", &Value::Null);
        for (key, definition, is_same) in [
            ("store", json!({"name": "shop_data"}), true),
            ("data", json!({"name": "data"}), false),
            ("data", json!({"external": true}), false),
            (
                "store",
                json!({"external": true, "name": "shop_data"}),
                true,
            ),
            ("store", json!({"external": {"name": "shop_data"}}), true),
            ("data", json!({"labels": {"a": "b"}}), true),
            ("data", folder.clone(), false),
        ] {
            let found = told(&before, &of(key, &definition));
            assert_eq!(found.is_empty(), is_same, "{key} {definition}: {found:?}");
        }
        // A folder of the host is that folder, by whichever way it is mounted.
        let by_path = web(&json!(["/srv/data:/data"]));
        assert_eq!(told(&of("data", &folder), &of("store", &folder)), NONE);
        assert_eq!(told(&of("data", &folder), &by_path), NONE);
        assert_eq!(told(&by_path, &of("data", &folder)), NONE);
        // And one of another machine is that one.
        let nfs = of("data", &share("addr=10.0.0.1,rw"));
        assert_eq!(told(&nfs, &of("store", &share("rw,addr=10.0.0.1"))), NONE);
        assert_eq!(told(&nfs, &of("store", &share("addr=10.0.0.2"))).len(), 1);
        let memory = json!({"driver_opts": {"type": "tmpfs", "device": "tmpfs"}});
        assert_eq!(told(&of("data", &memory), &web(&json!([]))), NONE);
    }

    #[test]
    fn another_project_and_another_folder_are_other_data() {
        let services = |folder: &str| json!({"db": {"volumes": ["data:/data", format!("{folder}/files:/files")]}});
        let old = view_in("old", &services("/opt/old"), &json!({}));
        let new = view_in("new", &services("/opt/new"), &json!({}));
        assert_eq!(
            told(&old, &new),
            [
                "db has the volume new_data at /data, where it had the volume old_data",
                "db has /opt/new/files at /files, where it had /opt/old/files",
            ]
        );
        assert!(new.looks_like(&old));
        let other = view_in(
            "blog",
            &json!({"db": {"volumes": ["data:/var/lib"]}}),
            &json!({}),
        );
        assert!(!new.looks_like(&other) && !other.looks_like(&new));
        let without = view_in("blog", &json!({"db": {}}), &json!({}));
        assert!(!without.looks_like(&without));
    }

    #[test]
    fn what_is_meant_settles_a_finding_and_an_entry_without_one_is_idle() {
        let before = web(&json!(["data:/data", "/opt/shop/files:/files", "/cache"]));
        let findings = changes(&before, &web(&json!([])));
        assert_eq!(findings.len(), 3);
        let meant = |source: &str, meaning| Meant {
            source: source.to_owned(),
            meaning,
        };
        for path in ["./files", "/opt/shop/files", "/opt/shop/files/"] {
            let judged = judge(
                findings.clone(),
                &[
                    meant("data", DataMeaning::Left),
                    meant(path, DataMeaning::Moved),
                    meant("dta", DataMeaning::Left),
                ],
                "/opt/shop",
            );
            let meanings: Vec<_> = judged.meant.iter().map(|(_, meaning)| *meaning).collect();
            assert_eq!(meanings, [DataMeaning::Left, DataMeaning::Moved], "{path}");
            assert_eq!(judged.idle, ["dta"]);
            assert_eq!(judged.unsaid.len(), 1);
            assert_eq!(
                lines(&judged.unsaid, DataMeaning::Left),
                "data: {\"web:/cache\": left}"
            );
        }
        assert_eq!(
            lines(&findings[..2], DataMeaning::Moved),
            "data: {/opt/shop/files: moved, data: moved}"
        );
        let all = [meant("web:/cache/", DataMeaning::Left)];
        assert_eq!(judge(findings, &all, "/opt/shop").meant.len(), 1);
    }
}
