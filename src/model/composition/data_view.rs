//! What a version's containers have mounted where: volumes, folders of the host, memory.
//!
//! Pure. Two mounts are the same data when Docker would give the same, whatever a file calls it: a volume by the engine's
//! name, or by the folder or the other machine's file system that it stands for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compose::ComposeFile;
use super::data::is_data;

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
    pub(super) fn is_meant_by(&self, entry: &str, root: &str) -> bool {
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
    pub(super) service: String,
    pub(super) target: String,
    pub(super) source: Source,
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
    pub(super) fn is_data(&self) -> bool {
        self.is_writable
            && match &self.identity {
                Identity::Path(path) => is_data(path),
                Identity::Volume(_) | Identity::Device(_) | Identity::Unnamed(..) => true,
                Identity::Memory => false,
            }
    }

    /// Whether all of a volume is mounted, not a folder in it.
    pub(super) fn is_all(&self) -> bool {
        self.folder.is_empty()
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

    pub(super) fn has_the_same(&self, other: &DataMount) -> bool {
        self.identity == other.identity && self.folder == other.folder
    }

    /// Whether all data of the other one is in this, perhaps with more.
    pub(super) fn holds(&self, other: &DataMount) -> bool {
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
    pub(super) fn at(&self, service: &str, target: &str) -> Option<DataMount> {
        let mounts = self.mounts.iter().filter(|m| m.service == service);
        let around = mounts.filter(|m| below(target, &m.target).is_some());
        let innermost = around.max_by_key(|m| m.target.len())?;
        innermost.inside(target)
    }

    /// Whether a mount is one that a file says, and not a folder in it ([`DataView::at`]).
    pub(super) fn has_all_of(&self, mount: &DataMount) -> bool {
        mount.is_all() && self.mounts.contains(mount)
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

    /// The services that have data of these sources.
    pub fn services_with(&self, is_meant: impl Fn(&Source) -> bool) -> Vec<String> {
        let mounts = self.mounts.iter().filter(|mount| is_meant(&mount.source));
        mounts.map(|mount| mount.service.clone()).collect()
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
pub(super) fn below<'p>(path: &'p str, above: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(above.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}
