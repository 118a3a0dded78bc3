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

use super::compose::ComposeFile;
use super::data::is_data;
use crate::config::DataMeaning;

/// Where data is, in the words of its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A volume with a name.
    Volume {
        /// Its key in the Compose file.
        key: String,
        /// Docker's name for it.
        name: String,
    },
    /// A folder or file of the host.
    Path(String),
    /// A volume without a name, which belongs to the containers of one service.
    Unnamed {
        /// Whose containers have it.
        service: String,
        /// Where they have it.
        target: String,
    },
    /// No data: it is gone when the container stops.
    Memory,
}

impl Source {
    /// How `belay.yml` names it under `data`.
    #[must_use]
    pub fn setting(&self) -> String {
        match self {
            Source::Volume { key, .. } => key.clone(),
            Source::Path(path) => path.clone(),
            Source::Unnamed { service, target } => format!("{service}:{target}"),
            Source::Memory => String::new(),
        }
    }

    /// Whether an entry of `data` means this. A path below the root may be written from there.
    fn is_meant_by(&self, entry: &str, root: &str) -> bool {
        match (self, entry.strip_prefix("./")) {
            (Source::Path(path), Some(below)) => *path == clean(&format!("{root}/{below}")),
            (Source::Path(path), None) => *path == clean(entry),
            (Source::Unnamed { service, target }, _) => {
                let named = entry.split_once(':');
                named.is_some_and(|(of, at)| of == service && clean(at) == *target)
            }
            (Source::Volume { .. } | Source::Memory, _) => self.setting() == entry,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Volume { name, .. } => write!(f, "the volume {name}"),
            Source::Path(path) => f.write_str(path),
            Source::Unnamed { service, target } => {
                write!(f, "the volume without a name of {service} at {target}")
            }
            Source::Memory => f.write_str("memory"),
        }
    }
}

/// What two mounts have in common when they have the same data.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    Volume(String),
    Path(String),
    /// A file system of another machine, by the options that its volume is made with.
    Device(String),
    Unnamed(String, String),
    Memory,
}

/// Data at a place in a service's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMount {
    service: String,
    target: String,
    source: Source,
    identity: Identity,
    /// The folder of a volume that is mounted; empty for all of it.
    folder: String,
    is_writable: bool,
}

impl DataMount {
    /// A mount as a container has it. `key`: the volume's in a Compose file, where it has one.
    #[must_use]
    pub fn of_container(service: &str, target: &str, source: Source, is_writable: bool) -> Self {
        DataMount {
            service: service.to_owned(),
            target: clean(target),
            identity: match &source {
                Source::Volume { name, .. } => Identity::Volume(name.clone()),
                Source::Path(path) => Identity::Path(clean(path)),
                Source::Unnamed { service, target } => {
                    Identity::Unnamed(service.clone(), target.clone())
                }
                Source::Memory => Identity::Memory,
            },
            source,
            folder: String::new(),
            is_writable,
        }
    }

    /// Whether it is this service's, at this place.
    #[must_use]
    pub fn is_at(&self, service: &str, target: &str) -> bool {
        self.service == service && self.target == clean(target)
    }

    /// Whether something is lost when this is.
    fn is_data(&self) -> bool {
        self.is_writable
            && match &self.identity {
                Identity::Path(path) => is_data(path),
                Identity::Volume(_) | Identity::Device(_) | Identity::Unnamed(..) => true,
                Identity::Memory => false,
            }
    }

    /// What is at a path inside of this mount.
    fn inside(&self, path: &str) -> Option<DataMount> {
        let rest = below(path, &self.target)?;
        let mut inner = self.clone();
        path.clone_into(&mut inner.target);
        match &mut inner.identity {
            Identity::Path(path) => *path = clean(&format!("{path}/{rest}")),
            Identity::Volume(_) | Identity::Device(_) | Identity::Unnamed(..) => {
                let folder = format!("{}/{rest}", self.folder);
                inner.folder = clean(folder.trim_start_matches('/'));
            }
            Identity::Memory => {}
        }
        Some(inner)
    }

    fn has_the_same(&self, other: &DataMount) -> bool {
        self.identity == other.identity && self.folder == other.folder
    }

    /// Whether all data of the other one is in this, perhaps with more.
    fn holds(&self, other: &DataMount) -> bool {
        match (&self.identity, &other.identity) {
            (Identity::Path(this), Identity::Path(other)) => below(other, this).is_some(),
            (this, that) => {
                let is_inside = below(&other.folder, &self.folder).is_some();
                this == that && (self.folder.is_empty() || is_inside)
            }
        }
    }
}

/// The data of a version, as its containers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataView {
    /// Its services, those without data too.
    pub services: BTreeSet<String>,
    /// What they have mounted.
    pub mounts: Vec<DataMount>,
}

impl DataView {
    /// What a normalised Compose file says for a project. Volumes that images declare have to be in it already
    /// ([`ComposeFile::with_image_volumes`]).
    #[must_use]
    pub fn of_file(file: &ComposeFile, project: &str) -> DataView {
        let services = file.service_names();
        let mounts = services.iter().flat_map(|service| {
            let volumes = listed(file.service(service), "volumes");
            let volumes = volumes.filter_map(|volume| mount(file, project, service, volume));
            volumes.chain(in_memory(file, service)).collect::<Vec<_>>()
        });
        DataView {
            mounts: mounts.collect(),
            services: services.iter().cloned().collect(),
        }
    }

    /// What a service has at a path: of the mounts around it, the innermost one counts.
    fn at(&self, service: &str, target: &str) -> Option<DataMount> {
        let mounts = self.mounts.iter().filter(|m| m.service == service);
        let around = mounts.filter(|m| below(target, &m.target).is_some());
        let innermost = around.max_by_key(|m| m.target.len())?;
        innermost.inside(target)
    }

    /// The volumes without a name.
    #[must_use]
    pub fn unnamed(&self) -> Vec<UnnamedVolume> {
        let unnamed = self.mounts.iter().filter_map(|mount| match &mount.source {
            Source::Unnamed { service, target } => Some(UnnamedVolume {
                service: service.clone(),
                target: target.clone(),
            }),
            Source::Volume { .. } | Source::Path(_) | Source::Memory => None,
        });
        unnamed.collect()
    }

    /// Docker's names of the volumes that have one.
    #[must_use]
    pub fn volumes(&self) -> BTreeSet<String> {
        let named = self.mounts.iter().filter_map(|mount| match &mount.source {
            Source::Volume { name, .. } => Some(name.clone()),
            Source::Path(_) | Source::Unnamed { .. } | Source::Memory => None,
        });
        named.collect()
    }

    /// Whether each of these services has data in the same places as here: what two versions of one application have in
    /// common, whatever their project is called. Never for one without data.
    #[must_use]
    pub fn looks_like(&self, other: &DataView) -> bool {
        let mut data = self.mounts.iter().filter(|m| m.is_data()).peekable();
        let is_there = |m: &DataMount| other.at(&m.service, &m.target).is_some();
        data.peek().is_some() && self.services == other.services && data.all(is_there)
    }
}

/// A volume that no file gives a name: of an image's `VOLUME`, or a mount of a place alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnnamedVolume {
    /// Whose containers have it.
    pub service: String,
    /// Where they have it.
    pub target: String,
}

impl UnnamedVolume {
    /// What it is, and how far it goes.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} keeps data at {} in a volume without a name, which goes from container to container as long as the service \
             is replaced stop-first",
            self.service, self.target
        )
    }

    /// What makes it the application's own.
    #[must_use]
    pub fn advice(&self) -> String {
        format!(
            "give it a name: `volumes: [\"{0}-data:{1}\"]` in the service, and `{0}-data:` under the file's `volumes`",
            self.service, self.target
        )
    }
}

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
            } => format!("{service} has only memory at {target}, where it had {data}"),
            Change::Replaced {
                service,
                target,
                by: Source::Unnamed { .. },
            } => format!("{service} has a volume without a name at {target}, where it had {data}"),
            Change::Replaced {
                service,
                target,
                by,
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
            let by = there.source;
            return Some(Change::Replaced {
                service,
                target,
                by,
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

// ---- what a file says -----------------------------------------------------------------------------------------------

fn listed<'a>(service: Option<&'a Value>, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = service.and_then(|service| service.get(key));
    let one = list.filter(|value| value.is_string());
    let many = list.and_then(Value::as_array).into_iter().flatten();
    many.chain(one)
}

fn mount(file: &ComposeFile, project: &str, service: &str, volume: &Value) -> Option<DataMount> {
    let (kind, source, target, is_writable, folder) = match volume {
        Value::String(short) => {
            let mut parts = short.splitn(3, ':');
            let (first, second, mode) = (parts.next()?, parts.next(), parts.next());
            let is_read_only = mode.is_some_and(|mode| mode.split(',').any(|m| m == "ro"));
            let (source, target) = match second {
                Some(target) => (Some(first), target),
                None => (None, first),
            };
            let is_path = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
            let kind = if is_path { "bind" } else { "volume" };
            (kind, source, target, !is_read_only, "")
        }
        long => {
            let text = |key: &str| long.get(key).and_then(Value::as_str);
            let folder = long.pointer("/volume/subpath").and_then(Value::as_str);
            let is_read_only = long.get("read_only").and_then(Value::as_bool) == Some(true);
            let source = text("source").filter(|source| !source.is_empty());
            (
                text("type")?,
                source,
                text("target")?,
                !is_read_only,
                folder.unwrap_or_default(),
            )
        }
    };
    let target = clean(target);
    let (source, identity) = match (kind, source) {
        ("volume", Some(key)) => volume_of(file, project, key),
        ("volume", None) => (
            Source::Unnamed {
                service: service.to_owned(),
                target: target.clone(),
            },
            Identity::Unnamed(service.to_owned(), target.clone()),
        ),
        ("bind", Some(path)) => (Source::Path(clean(path)), Identity::Path(clean(path))),
        ("tmpfs", _) => (Source::Memory, Identity::Memory),
        _ => return None,
    };
    Some(DataMount {
        service: service.to_owned(),
        target,
        source,
        identity,
        folder: clean(folder.trim_start_matches('/')),
        is_writable,
    })
}

/// A named volume, and what tells it from others: one that stands for a folder, or for another machine's, is that.
fn volume_of(file: &ComposeFile, project: &str, key: &str) -> (Source, Identity) {
    let definition = file.document().get("volumes").and_then(|v| v.get(key));
    let text = |path: &str| {
        let value = definition.and_then(|d| d.pointer(path));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    let name = match text("/name") {
        // docker-compose 1.x keeps the name of an external volume where its user wrote it.
        "" if !text("/external/name").is_empty() => text("/external/name").to_owned(),
        "" if is_external(definition) => key.to_owned(),
        "" => format!("{project}_{key}"),
        name => name.to_owned(),
    };
    let (kind, device, options) = (
        text("/driver_opts/type"),
        text("/driver_opts/device"),
        text("/driver_opts/o"),
    );
    let is_local = matches!(text("/driver"), "" | "local") && !is_external(definition);
    let mut words = options.split(',');
    let identity = match device {
        _ if is_local && kind == "tmpfs" => Identity::Memory,
        "" => Identity::Volume(name.clone()),
        _ if !is_local => Identity::Volume(name.clone()),
        folder if words.any(|word| matches!(word, "bind" | "rbind")) => {
            Identity::Path(clean(folder))
        }
        device => {
            let address = options.split(',').find(|word| word.starts_with("addr="));
            Identity::Device(format!("{kind} {device} {}", address.unwrap_or_default()))
        }
    };
    let key = key.to_owned();
    (Source::Volume { key, name }, identity)
}

fn is_external(definition: Option<&Value>) -> bool {
    match definition.and_then(|d| d.get("external")) {
        Some(Value::Bool(is)) => *is,
        Some(Value::Object(_)) => true,
        _ => false,
    }
}

/// The key `tmpfs` of a service.
fn in_memory(file: &ComposeFile, service: &str) -> impl Iterator<Item = DataMount> {
    let texts = listed(file.service(service), "tmpfs").filter_map(Value::as_str);
    texts.map(move |text| {
        let target = text.split(':').next().unwrap_or(text);
        DataMount::of_container(service, target, Source::Memory, true)
    })
}

/// A path without what says nothing; empty for none at all.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    match (path.is_empty(), path.starts_with('/')) {
        (true, _) => String::new(),
        (false, true) => format!("/{}", parts.join("/")),
        (false, false) => parts.join("/"),
    }
}

/// The rest of a clean path below another one, empty for itself; nothing when it is elsewhere.
fn below<'p>(path: &'p str, above: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(above.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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

    #[test]
    fn data_of_one_service_is_followed_through_every_notation() {
        let named = json!(["data:/data"]);
        let long = |more: &Value| {
            let mut mount = json!({"type": "volume", "source": "data", "target": "/data"});
            for (key, value) in more.as_object().expect("a map") {
                mount[key] = value.clone();
            }
            json!([mount])
        };
        let bind = json!([{"type": "bind", "source": "/opt/shop/data", "target": "/data"}]);
        let store = "web has the volume shop_store at /data, where it had the volume shop_data";
        let gone = "no service has the volume shop_data, which web had at /data";
        let moved = "web has the volume shop_data at /d, and nothing where it was, at /data";
        let table: [(&Value, &Value, &[&str]); 25] = [
            // The same, said otherwise.
            (&named, &named, &NONE),
            (&named, &json!(["data:/data/"]), &NONE),
            (&named, &json!(["data:/data:rw,z"]), &NONE),
            (&named, &long(&json!({})), &NONE),
            (&long(&json!({"volume": {}})), &named, &NONE),
            (&named, &long(&json!({"volume": {"nocopy": true}})), &NONE),
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
            // Another kind.
            (
                &named,
                &bind,
                &["web has /opt/shop/data at /data, where it had the volume shop_data"],
            ),
            (
                &bind,
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
            // A folder of a volume.
            (
                &named,
                &long(&json!({"volume": {"subpath": "a"}})),
                &["web has the volume shop_data at /data, where it had the volume shop_data"],
            ),
            (
                &long(&json!({"volume": {"subpath": "a"}})),
                &long(&json!({"volume": {"subpath": "./a/"}})),
                &NONE,
            ),
            // A mount around it, and one inside of it.
            (
                &json!(["/srv/app/files:/app/files"]),
                &json!(["/srv/app:/app"]),
                &NONE,
            ),
            (
                &json!(["data:/data"]),
                &json!(["data:/data", "cache:/data/cache"]),
                &NONE,
            ),
            (
                &json!(["/srv/app:/app"]),
                &json!(["/srv/app/files:/app/files"]),
                &["no service has /srv/app, which web had at /app"],
            ),
            (&json!(["/data"]), &json!(["/data"]), &NONE),
        ];
        for (before, after, expected) in table {
            assert_eq!(
                told(&web(before), &web(after)),
                expected,
                "{before} -> {after}"
            );
        }
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
