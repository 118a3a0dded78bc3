//! Values of `belay.yml` that have more than one form: a word or a map, a list with rules of its own, one of two keys.
//!
//! Pure; runs on the runner.

use std::collections::BTreeSet;

use super::document::{Entries, Field, Node};
use super::problems::{Problems, entries, shown};
use super::setting::{KeyMap, Setting, Shape};
use super::settings::{
    BackupData, DataKeys, DataPlace, DataStrategy, DataToCopy, DataWord, FileEntry, FileToShip,
    Gateway, GatewaySettings, GatewayWord, VersionKeys, VersionSource,
};
use crate::request::tag::TagKind;

fn is_map(field: &Field<'_>) -> bool {
    matches!(field.item.node, Node::Map(_))
}

/// `off`, or a map.
impl Setting for Gateway {
    fn shape() -> Shape {
        Shape::Either(vec![GatewayWord::shape(), GatewaySettings::shape()])
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Gateway> {
        match &field.item.node {
            Node::Text(word) if word == "off" => Some(Gateway::Off),
            Node::Map(_) => GatewaySettings::read_field(problems, field).map(Gateway::from),
            _ => {
                let hint = "leave it out for the usual one, or write `gateway: off` or {image: \"haproxy:3.0\"}";
                problems.wrong_type(field, "off, or a map", hint);
                None
            }
        }
    }
}

/// The kinds of tag that go to an environment.
impl Setting for BTreeSet<TagKind> {
    fn shape() -> Shape {
        Shape::List(Box::new(Shape::choice::<TagKind>()))
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<BTreeSet<TagKind>> {
        let listed = problems.list(field);
        let kinds = listed.iter().filter_map(|kind| problems.choice(kind));
        Some(kinds.collect())
    }
}

// ---- files ----------------------------------------------------------------------------------------------------------

/// What Belay writes below the root itself.
const OWN_FOLDERS: [&str; 2] = ["backups", ".belay"];
const OWN_FILES: [&str; 2] = ["docker-compose.yml", "docker-compose.yml.backup"];

impl Setting for Vec<FileToShip> {
    fn shape() -> Shape {
        Shape::List(Box::new(FileEntry::shape().requiring(&["from"])))
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<Vec<FileToShip>> {
        let mut files: Vec<FileToShip> = Vec::new();
        for entry in problems.list(field) {
            let Some(file) = file_to_ship(problems, &entry) else {
                continue;
            };
            let to = file.to.as_str();
            let is_own = OWN_FOLDERS.iter().any(|folder| file.to.is_within(folder));
            if is_own || OWN_FILES.contains(&to) {
                let message = format!("files: {} is Belay's own on the host", shown(to));
                let hint = "choose another name with {from: a.conf, to: b.conf}";
                problems.add(entry.item.at, message, hint);
            } else if files.iter().any(|other| other.to == file.to) {
                let message = format!("files: {} is written twice", shown(to));
                let hint = "give each file a place of its own with {from: a.conf, to: b.conf}";
                problems.add(entry.item.at, message, hint);
            } else {
                files.push(file);
            }
        }
        Some(files)
    }
}

fn file_to_ship(problems: &mut Problems, field: &Field<'_>) -> Option<FileToShip> {
    let given = FileEntry::read_field(problems, field)?;
    let entries = entries(field);
    if is_map(field) && !entries.has("from") {
        let hint = "write {from: .env.production, to: .env}";
        problems.add(field.item.at, "files: an entry has no from", hint);
    }
    let from = given.from?;
    match given.to {
        Some(to) => Some(FileToShip { from, to }),
        // It is there, and was found to be wrong.
        None if entries.has("to") => None,
        None => Some(FileToShip {
            to: from.clone(),
            from,
        }),
    }
}

// ---- one of two keys ------------------------------------------------------------------------------------------------

/// Exactly one of the two; `what` names them, as in `header or json`.
fn one_of<A, B, T>(
    problems: &mut Problems,
    field: &Field<'_>,
    keys: [&str; 2],
    values: (Option<A>, Option<B>),
    (of_first, of_second): (impl FnOnce(A) -> T, impl FnOnce(B) -> T),
    hint: &str,
) -> Option<T> {
    let entries = entries(field);
    let [first, second] = keys;
    match (entries.has(first), entries.has(second)) {
        (true, false) => values.0.map(of_first),
        (false, true) => values.1.map(of_second),
        // That it is no map has been said.
        (false, false) if !is_map(field) => None,
        (false, false) | (true, true) => {
            let message = format!("{} needs either {first} or {second}", field.name);
            problems.add(field.item.at, message, hint);
            None
        }
    }
}

impl Setting for VersionSource {
    fn shape() -> Shape {
        Shape::OneKey(VersionKeys::keys())
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<VersionSource> {
        let given = VersionKeys::read_field(problems, field)?;
        one_of(
            problems,
            field,
            ["header", "json"],
            (given.header, given.json),
            (VersionSource::Header, VersionSource::Json),
            "write {header: X-App-Version} or {json: version}",
        )
    }
}

// ---- the data of a backup -------------------------------------------------------------------------------------------

impl Setting for BackupData {
    fn shape() -> Shape {
        let list = Shape::List(Box::new(DataKeys::shape()));
        Shape::Either(vec![DataWord::shape(), list])
    }

    fn read_field(problems: &mut Problems, field: &Field<'_>) -> Option<BackupData> {
        match field.item.node {
            Node::List(_) => Some(BackupData::These(data_to_copy(problems, field))),
            Node::Text(_) => problems.choice(field).map(|word| match word {
                DataWord::Auto => BackupData::Auto,
                DataWord::None => BackupData::None,
            }),
            _ => {
                let hint = "write auto, none or [{volume: data, strategy: stop}]";
                problems.wrong_type(field, "auto, none or a list", hint);
                None
            }
        }
    }
}

fn data_to_copy(problems: &mut Problems, field: &Field<'_>) -> Vec<DataToCopy> {
    let mut all: Vec<DataToCopy> = Vec::new();
    for entry in problems.list(field) {
        let Some(data) = one_data(problems, &entry) else {
            continue;
        };
        if all.iter().any(|other| other.place == data.place) {
            let message = format!("{} is listed twice", entry.name);
            problems.add(entry.item.at, message, "keep one of the two");
        }
        all.push(data);
    }
    all
}

fn one_data(problems: &mut Problems, field: &Field<'_>) -> Option<DataToCopy> {
    let given = DataKeys::read_field(problems, field)?;
    let place = one_of(
        problems,
        field,
        ["volume", "path"],
        (given.volume, given.path),
        (DataPlace::Volume, DataPlace::Path),
        "write {volume: data} or {path: ./data}",
    );
    check_dump(problems, &entries(field), given.strategy);
    Some(DataToCopy {
        place: place?,
        strategy: given.strategy,
        service: given.service,
        command: given.command,
    })
}

fn check_dump(problems: &mut Problems, data: &Entries<'_>, strategy: DataStrategy) {
    let is_dump = strategy == DataStrategy::Dump;
    if is_dump && !(data.has("service") && data.has("command")) {
        let name = data.name_of("strategy");
        let message = format!("{name}: a dump needs a service and a command");
        let hint = "add service and command, as in [\"pg_dump\", \"-U\", \"app\"]";
        problems.add(data.place_of("strategy"), message, hint);
    }
    if !is_dump && data.has("command") {
        let name = data.name_of("command");
        let message = format!("{name} is only for a dump, and the strategy is {strategy}");
        let hint = "remove it, or set strategy: dump";
        problems.add(data.place_of("command"), message, hint);
    }
}
