//! From the located tree of `belay.yml`, and from inputs, to typed layers; and the checks that need more than one
//! value.
//!
//! Pure; runs on the runner. Reads everything that can be read and leaves out what cannot, so that one wrong value
//! hides no other problem.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::document::{Field, Item, Node, Position, Problem, Reader, Section, parse, shown};
use super::settings::{
    Backup, BackupData, Config, DataPlace, DataSource, DataStrategy, Drain, Environment, Gateway,
    Health, HealthLayer, HostLayer, Images, Inputs, Layer, Overrides, Requests, Service,
    ShippedFile, VersionSource,
};
use super::values::{
    AbsolutePath, Bytes, EnvironmentName, HostAddress, ImageName, Period, RelativePath,
    ServiceName, Text, Url, Word,
};
use crate::replacement::wishes::GATEWAY_SERVICE;
use crate::request::tag::TagKind;

// ---- the keys -------------------------------------------------------------------------------------------------------

const TOP: [&str; 16] = [
    "app",
    "root",
    "compose",
    "project",
    "host",
    "files",
    "services",
    "images",
    "gateway",
    "requests",
    "health",
    "bake",
    "confirm",
    "lock-wait",
    "backup",
    "environments",
];
const ENVIRONMENT: [&str; 11] = [
    "tags",
    "url",
    "host",
    "root",
    "compose",
    "project",
    "files",
    "health",
    "bake",
    "confirm",
    "lock-wait",
];
const HOST: [&str; 3] = ["address", "port", "user"];
const FILE: [&str; 2] = ["from", "to"];
const SERVICE: [&str; 5] = ["strategy", "mode", "proxy-protocol", "roll", "drain"];
const DRAIN: [&str; 2] = ["command", "wait"];
const GATEWAY: [&str; 2] = ["image", "source"];
const REQUESTS: [&str; 4] = ["rate", "max-failed", "max-gap", "over"];
const IMAGES: [&str; 9] = [
    "source",
    "budget",
    "over-budget",
    "growth",
    "over-growth",
    "test",
    "keep",
    "given",
    "platform",
];
const HEALTH: [&str; 9] = [
    "primary",
    "backup",
    "public",
    "successes",
    "interval",
    "timeout",
    "deadline",
    "degraded",
    "version",
];
const VERSION: [&str; 2] = ["header", "json"];
const BACKUP: [&str; 3] = ["keep", "logs", "data"];
const DATA: [&str; 5] = ["volume", "path", "strategy", "service", "command"];

/// Every section and its keys; for the hint that a key belongs elsewhere.
const KNOWN: [(&str, &[&str]); 8] = [
    ("", &TOP),
    ("host", &HOST),
    ("images", &IMAGES),
    ("gateway", &GATEWAY),
    ("requests", &REQUESTS),
    ("health", &HEALTH),
    ("backup", &BACKUP),
    ("environments.production", &ENVIRONMENT),
];

// ---- the file -------------------------------------------------------------------------------------------------------

impl Config {
    /// Reads a `belay.yml`. `file` is its name in messages. An empty file is valid: every setting has a default.
    pub fn load(text: &str, file: &str) -> Result<Config, Vec<Problem>> {
        load(text, file)
    }

    /// Lays the inputs of a run over the file; they win over everything that it says.
    pub fn with(self, overrides: &Overrides) -> Result<Config, Vec<Problem>> {
        let inputs = inputs(overrides)?;
        Ok(Config { inputs, ..self })
    }
}

fn load(text: &str, file: &str) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(file, &KNOWN);
    match parse(text) {
        Ok(item) if is_empty(&item) => Ok(Config::default()),
        Ok(item) => {
            let config = read_config(
                &mut reader,
                &Field {
                    name: String::new(),
                    item: &item,
                },
            );
            reader.finish(config)
        }
        Err((at, message)) => {
            reader.problem(
                at,
                message,
                "indent with spaces, close every quote and bracket, keep it to one document",
            );
            reader.finish(Config::default())
        }
    }
}

fn is_empty(item: &Item) -> bool {
    matches!(item.node, Node::Nothing)
}

fn read_config(reader: &mut Reader<'_>, file: &Field<'_>) -> Config {
    let top = reader.section(file, &TOP);
    let base = read_layer(reader, &top);
    let environments = read_environments(reader, top.get("environments"), &base);
    // What an environment adds may be just what the base is waiting for.
    let added = environments
        .values()
        .map(|found| &found.layer.health)
        .find(|health| health.primary.is_some());
    check_health(
        reader,
        &top,
        &Health::from_layers(
            &base.health,
            &HealthLayer {
                primary: added.and_then(|health| health.primary.clone()),
                ..HealthLayer::default()
            },
        ),
    );
    let config = Config {
        app: reader.text(top.get("app")),
        services: read_services(reader, top.get("services")),
        images: read_images(reader, top.get("images")),
        gateway: read_gateway(reader, top.get("gateway")),
        requests: read_requests(reader, top.get("requests")),
        backup: read_backup(reader, top.get("backup")),
        environments,
        base,
        inputs: Inputs::default(),
    };
    check_given_services(reader, &top, &config);
    check_gateway_name(reader, &top, &config);
    check_limits(reader, &top, &config);
    if let Some(environments) = top.get("environments") {
        check_places(reader, &environments, &config);
    }
    config
}

fn read_layer(reader: &mut Reader<'_>, section: &Section<'_>) -> Layer {
    Layer {
        host: read_host(reader, section.get("host")),
        root: reader.text(section.get("root")),
        compose: reader.text(section.get("compose")),
        project: reader.text(section.get("project")),
        files: section.get("files").map(|files| read_files(reader, &files)),
        health: read_health(reader, section.get("health")),
        bake: reader.text(section.get("bake")),
        confirm: read_at_least(reader, section.get("confirm"), Period::seconds(10)),
        lock_wait: reader.text(section.get("lock-wait")),
    }
}

fn read_host(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> HostLayer {
    let Some(field) = field else {
        return HostLayer::default();
    };
    if let Node::Text(_) = field.item.node {
        return HostLayer {
            address: reader.text(Some(field)),
            ..HostLayer::default()
        };
    }
    let Node::Map(_) = field.item.node else {
        reader.wrong_type(
            &field,
            "an address or a map",
            "write an address, or {address: example.com, user: deploy}",
        );
        return HostLayer::default();
    };
    let host = reader.section(&field, &HOST);
    HostLayer {
        address: reader.text(host.get("address")),
        port: reader
            .count(host.get("port"), 1..=65_535)
            .and_then(|port| u16::try_from(port).ok()),
        user: reader.text(host.get("user")),
    }
}

/// A period that makes sense only from a certain length on.
fn read_at_least(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
    least: Period,
) -> Option<Period> {
    let (name, at) = field
        .as_ref()
        .map(|field| (field.name.clone(), field.item.at))?;
    let period: Period = reader.text(field)?;
    if period >= least {
        return Some(period);
    }
    reader.problem(
        at,
        format!("{name}: {period} is too short"),
        format!("give it at least {least}"),
    );
    None
}

// ---- files ----------------------------------------------------------------------------------------------------------

/// What Belay writes below the root itself.
const OWN_FOLDERS: [&str; 2] = ["backups", ".belay"];
const OWN_FILES: [&str; 2] = ["docker-compose.yml", "docker-compose.yml.backup"];

fn read_files(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<ShippedFile> {
    let mut files: Vec<ShippedFile> = Vec::new();
    for field in reader.list(field) {
        let at = field.item.at;
        let Some(file) = read_file(reader, field) else {
            continue;
        };
        if OWN_FOLDERS.iter().any(|folder| file.to.is_within(folder))
            || OWN_FILES.contains(&file.to.as_str())
        {
            let message = format!(
                "files: {} is Belay's own on the host",
                shown(file.to.as_str())
            );
            reader.problem(
                at,
                message,
                "choose another name with {from: a.conf, to: b.conf}",
            );
        } else if files.iter().any(|other| other.to == file.to) {
            let message = format!("files: {} is written twice", shown(file.to.as_str()));
            reader.problem(
                at,
                message,
                "give each file a place of its own with {from: a.conf, to: b.conf}",
            );
        } else {
            files.push(file);
        }
    }
    files
}

fn read_file(reader: &mut Reader<'_>, field: Field<'_>) -> Option<ShippedFile> {
    if let Node::Text(_) = field.item.node {
        let path: RelativePath = reader.text(Some(field))?;
        return Some(ShippedFile {
            from: path.clone(),
            to: path,
        });
    }
    let Node::Map(_) = field.item.node else {
        reader.wrong_type(
            &field,
            "a path or a map",
            "write a path, or {from: a.conf, to: b.conf}",
        );
        return None;
    };
    let section = reader.section(&field, &FILE);
    if !section.has("from") {
        reader.problem(
            field.item.at,
            "files: an entry has no from",
            "write {from: .env.production, to: .env}",
        );
    }
    let from: RelativePath = reader.text(section.get("from"))?;
    let to = if section.has("to") {
        reader.text(section.get("to"))?
    } else {
        from.clone()
    };
    Some(ShippedFile { from, to })
}

// ---- services and images --------------------------------------------------------------------------------------------

fn read_services(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
) -> BTreeMap<ServiceName, Service> {
    let mut services = BTreeMap::new();
    for (name, field) in named::<ServiceName>(reader, field) {
        let section = reader.section(&field, &SERVICE);
        let default = Service::default();
        let service = Service {
            strategy: reader
                .word(section.get("strategy"))
                .unwrap_or(default.strategy),
            mode: reader.word(section.get("mode")).unwrap_or(default.mode),
            proxy_protocol: reader
                .word(section.get("proxy-protocol"))
                .unwrap_or(default.proxy_protocol),
            roll: reader.word(section.get("roll")).unwrap_or(default.roll),
            drain: read_drain(reader, section.get("drain")),
        };
        services.insert(name, service);
    }
    services
}

fn read_drain(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Drain {
    let default = Drain::default();
    let Some(field) = field else { return default };
    let section = reader.section(&field, &DRAIN);
    Drain {
        command: read_command(reader, section.get("command")),
        wait: reader.text(section.get("wait")).unwrap_or(default.wait),
    }
}

/// `off`, or a map.
fn read_gateway(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Gateway {
    let default = Gateway::default();
    let Some(field) = field else { return default };
    match &field.item.node {
        Node::Text(word) if word == "off" => return Gateway::Off,
        Node::Map(_) => {}
        _ => {
            reader.wrong_type(
                &field,
                "off, or a map",
                "leave it out for the usual one, or write `gateway: off` or {image: \"haproxy:3.0\"}",
            );
            return default;
        }
    }
    let section = reader.section(&field, &GATEWAY);
    let image: Option<ImageName> = reader.text(section.get("image"));
    let source = reader.word(section.get("source"));
    match default {
        Gateway::On {
            image: usual,
            source: usually,
        } => Gateway::On {
            image: image.unwrap_or(usual),
            source: source.unwrap_or(usually),
        },
        Gateway::Off => Gateway::Off,
    }
}

fn read_requests(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Requests {
    let default = Requests::default();
    let Some(field) = field else { return default };
    let section = reader.section(&field, &REQUESTS);
    Requests {
        rate: reader
            .count(section.get("rate"), 0..=1000)
            .unwrap_or(default.rate),
        max_failed: reader.count(section.get("max-failed"), 0..=1_000_000),
        max_gap: reader.text(section.get("max-gap")),
        over: reader.word(section.get("over")).unwrap_or(default.over),
    }
}

/// The entries of a table whose keys are names of this type.
fn named<'a, T: Text>(reader: &mut Reader<'_>, field: Option<Field<'a>>) -> Vec<(T, Field<'a>)> {
    let Some(field) = field else {
        return Vec::new();
    };
    let table = reader.table(&field);
    let mut entries = Vec::new();
    for (key, at, entry) in table.fields() {
        match T::read(key) {
            Some(name) => entries.push((name, entry)),
            None => {
                reader.problem(
                    at,
                    format!("{}: \"{}\" is not {}", field.name, shown(key), T::WHAT),
                    T::HINT,
                );
            }
        }
    }
    entries
}

fn read_images(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Images {
    let default = Images::default();
    let Some(field) = field else { return default };
    let images = reader.section(&field, &IMAGES);
    Images {
        source: reader.word(images.get("source")).unwrap_or(default.source),
        budget: read_budget(reader, &images).unwrap_or(default.budget),
        over_budget: reader
            .word(images.get("over-budget"))
            .unwrap_or(default.over_budget),
        growth: reader.text(images.get("growth")).unwrap_or(default.growth),
        over_growth: reader
            .word(images.get("over-growth"))
            .unwrap_or(default.over_growth),
        test: read_command(reader, images.get("test")),
        // Two, so that there is always one to go back to.
        keep: reader
            .count(images.get("keep"), 2..=100)
            .unwrap_or(default.keep),
        given: read_given(reader, images.get("given")),
        platform: reader.text(images.get("platform")),
    }
}

fn read_budget(reader: &mut Reader<'_>, images: &Section<'_>) -> Option<Bytes> {
    let budget: Bytes = reader.text(images.get("budget"))?;
    if budget.get() == 0 {
        let at = images.place_of("budget");
        reader.problem(
            at,
            format!("{}: no image fits into nothing", images.name_of("budget")),
            Bytes::HINT,
        );
    }
    Some(budget)
}

fn read_given(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
) -> BTreeMap<ServiceName, ImageName> {
    let mut given = BTreeMap::new();
    for (service, field) in named::<ServiceName>(reader, field) {
        if let Some(image) = reader.text(Some(field)) {
            given.insert(service, image);
        }
    }
    given
}

/// A command as a list of arguments: no shell ever splits it.
fn read_command(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Vec<String> {
    let Some(field) = field else {
        return Vec::new();
    };
    if let Node::Text(_) = field.item.node {
        reader.wrong_type(
            &field,
            "a list of arguments",
            "write it as in [\"/app\", \"--self-test\"]",
        );
        return Vec::new();
    }
    let arguments = reader.list(&field);
    arguments
        .iter()
        .filter_map(|argument| reader.any_text(argument))
        .collect()
}

/// A service cannot both be left alone and be given a new image.
fn check_given_services(reader: &mut Reader<'_>, top: &Section<'_>, config: &Config) {
    let untouched = config
        .services
        .iter()
        .filter(|(_, service)| service.strategy == super::settings::Strategy::Untouched)
        .map(|(name, _)| name);
    for name in untouched.filter(|name| config.images.given.contains_key(name)) {
        let message =
            format!("services.{name} is untouched, but images.given has a new image for it");
        reader.problem(top.place_of("services"), message, "remove one of the two");
    }
}

/// The gateway's name among the services of a project is its own.
fn check_gateway_name(reader: &mut Reader<'_>, top: &Section<'_>, config: &Config) {
    if config.gateway == Gateway::Off {
        return;
    }
    let is_gateway = |name: &ServiceName| name.as_str() == GATEWAY_SERVICE;
    let in_services = config.services.keys().any(is_gateway);
    let in_given = config.images.given.keys().any(is_gateway);
    for (section, path, is_there) in [
        ("services", "services", in_services),
        ("images", "images.given", in_given),
    ] {
        if is_there {
            let message = format!("{path}.{GATEWAY_SERVICE} is the gateway, which is Belay's own");
            let hint = "its image is `gateway.image`; a service of yours needs another name";
            reader.problem(top.place_of(section), message, hint);
        }
    }
}

/// Limits that nothing would be held against, or that no deployment could ever keep.
fn check_limits(reader: &mut Reader<'_>, top: &Section<'_>, config: &Config) {
    let Requests {
        rate,
        max_failed,
        max_gap,
        ..
    } = config.requests;
    if max_failed.is_none() && max_gap.is_none() {
        return;
    }
    let at = top.place_of("requests");
    let environments = config.environments.values();
    let mut layers = environments
        .map(|environment| &environment.layer)
        .chain([&config.base]);
    if rate == 0 {
        let message = "requests: a limit is set, but with a rate of 0 nothing is measured";
        reader.problem(at, message.to_owned(), "remove rate, or the limits");
    } else if layers.all(|layer| layer.health.primary.is_none()) {
        let message = "requests: a limit is set, but there is no health.primary to ask";
        let hint = "add health.primary: that is the endpoint whose answers are measured";
        reader.problem(at, message.to_owned(), hint);
    }
    // One answer that is a little late is no gap: two questions have to fit in.
    let pauses = Duration::from_secs(2).checked_div(rate);
    if let (Some(gap), Some(pauses)) = (max_gap, pauses)
        && gap.get() < pauses
    {
        let message = format!(
            "requests.max-gap ({gap}) is too short for a rate of {rate}: two questions take {} ms",
            pauses.as_millis()
        );
        reader.problem(at, message, "lengthen max-gap, or raise rate");
    }
}

// ---- health ---------------------------------------------------------------------------------------------------------

fn read_health(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> HealthLayer {
    let Some(field) = field else {
        return HealthLayer::default();
    };
    let health = reader.section(&field, &HEALTH);
    let shortest = Period::read("100ms").unwrap_or(Period::seconds(1));
    HealthLayer {
        primary: reader.text(health.get("primary")),
        backup: reader.text(health.get("backup")),
        public: reader.text(health.get("public")),
        successes: reader.count(health.get("successes"), 1..=100),
        interval: read_at_least(reader, health.get("interval"), shortest),
        timeout: read_at_least(reader, health.get("timeout"), shortest),
        deadline: read_at_least(reader, health.get("deadline"), Period::seconds(1)),
        degraded: reader.word(health.get("degraded")),
        version: read_version(reader, health.get("version")),
    }
}

fn read_version(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Option<VersionSource> {
    let field = field?;
    let version = reader.section(&field, &VERSION);
    match (version.get("header"), version.get("json")) {
        (Some(header), None) => reader.text(Some(header)).map(VersionSource::Header),
        (None, Some(json)) => reader.text(Some(json)).map(VersionSource::Json),
        (None, None) if !matches!(field.item.node, Node::Map(_)) => None,
        (None, None) | (Some(_), Some(_)) => {
            let hint = "write {header: X-App-Version} or {json: version}";
            reader.problem(
                field.item.at,
                format!("{} needs either header or json", field.name),
                hint,
            );
            None
        }
    }
}

/// Combinations that could never become healthy, or that ask for what is not there. `parent` is where `health` stands.
fn check_health(reader: &mut Reader<'_>, parent: &Section<'_>, health: &Health) {
    let Some(field) = parent.get("health") else {
        return;
    };
    let Node::Map(_) = field.item.node else {
        return;
    };
    // The keys were judged when the values were read; here only their places matter.
    let places = Reader::new("", &[]).section(&field, &HEALTH);
    let needs_primary = |has: bool| has && health.primary.is_none() && !places.has("primary");
    if needs_primary(health.backup.is_some()) {
        let hint = "add primary: the backup endpoint is asked only when that one cannot be reached";
        reader.problem(
            places.place_of("backup"),
            format!("{} has no primary beside it", places.name_of("backup")),
            hint,
        );
    }
    if needs_primary(health.version.is_some()) {
        let hint = "add primary: that is the endpoint whose answer carries the version";
        reader.problem(
            places.place_of("version"),
            format!("{} has no primary to ask", places.name_of("version")),
            hint,
        );
    }
    if health.timeout > health.deadline {
        let message = format!(
            "{} ({}) is longer than the deadline ({})",
            places.name_of("timeout"),
            health.timeout,
            health.deadline
        );
        reader.problem(
            places.place_of("timeout"),
            message,
            "shorten timeout or lengthen deadline",
        );
    }
    let pauses = health
        .interval
        .get()
        .saturating_mul(health.successes.saturating_sub(1));
    if pauses > health.deadline.get() {
        let message = format!(
            "{}: {} answers every {} take longer than the deadline ({})",
            places.name_of("deadline"),
            health.successes,
            health.interval,
            health.deadline
        );
        reader.problem(
            places.place_of("deadline"),
            message,
            "lengthen deadline, or ask for fewer successes",
        );
    }
}

// ---- backup ---------------------------------------------------------------------------------------------------------

fn read_backup(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Backup {
    let default = Backup::default();
    let Some(field) = field else { return default };
    let backup = reader.section(&field, &BACKUP);
    Backup {
        keep: reader
            .count(backup.get("keep"), 1..=1000)
            .unwrap_or(default.keep),
        logs: reader
            .count(backup.get("logs"), 0..=1_000_000)
            .unwrap_or(default.logs),
        data: read_data(reader, backup.get("data")).unwrap_or(default.data),
    }
}

/// `auto` or `none`; a list is read apart.
#[derive(Clone, Copy)]
enum DataWord {
    Auto,
    None,
}

impl Word for DataWord {
    fn words() -> Vec<(&'static str, DataWord)> {
        vec![("auto", DataWord::Auto), ("none", DataWord::None)]
    }
}

fn read_data(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Option<BackupData> {
    let field = field?;
    match field.item.node {
        Node::List(_) => Some(BackupData::These(read_sources(reader, &field))),
        Node::Text(_) => reader.word(Some(field)).map(|word| match word {
            DataWord::Auto => BackupData::Auto,
            DataWord::None => BackupData::None,
        }),
        _ => {
            reader.wrong_type(
                &field,
                "auto, none or a list",
                "write auto, none or [{volume: data, strategy: stop}]",
            );
            None
        }
    }
}

fn read_sources(reader: &mut Reader<'_>, field: &Field<'_>) -> Vec<DataSource> {
    let mut sources: Vec<DataSource> = Vec::new();
    for field in reader.list(field) {
        let at = field.item.at;
        let Some(source) = read_source(reader, &field) else {
            continue;
        };
        if sources.iter().any(|other| other.place == source.place) {
            reader.problem(
                at,
                format!("{} is listed twice", field.name),
                "keep one of the two",
            );
        }
        sources.push(source);
    }
    sources
}

fn read_source(reader: &mut Reader<'_>, field: &Field<'_>) -> Option<DataSource> {
    let source = reader.section(field, &DATA);
    let place = read_place(reader, field, &source);
    let strategy = reader
        .word(source.get("strategy"))
        .unwrap_or(DataStrategy::Live);
    let service = reader.text(source.get("service"));
    let command = read_command(reader, source.get("command"));
    check_dump(reader, &source, strategy);
    Some(DataSource {
        place: place?,
        strategy,
        service,
        command,
    })
}

fn read_place(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    source: &Section<'_>,
) -> Option<DataPlace> {
    match (source.get("volume"), source.get("path")) {
        (Some(volume), None) => reader.text(Some(volume)).map(DataPlace::Volume),
        (None, Some(path)) => reader.text(Some(path)).map(DataPlace::Path),
        (None, None) if !matches!(field.item.node, Node::Map(_)) => None,
        (None, None) | (Some(_), Some(_)) => {
            let hint = "write {volume: data} or {path: ./data}";
            reader.problem(
                field.item.at,
                format!("{} needs either volume or path", field.name),
                hint,
            );
            None
        }
    }
}

fn check_dump(reader: &mut Reader<'_>, source: &Section<'_>, strategy: DataStrategy) {
    let complete = source.has("service") && source.has("command");
    if strategy == DataStrategy::Dump && !complete {
        let hint = "add service and command, as in [\"pg_dump\", \"-U\", \"app\"]";
        let message = format!(
            "{}: a dump needs a service and a command",
            source.name_of("strategy")
        );
        reader.problem(source.place_of("strategy"), message, hint);
    }
    if strategy != DataStrategy::Dump && source.has("command") {
        let message = format!(
            "{} is only for a dump, and the strategy is {strategy}",
            source.name_of("command")
        );
        reader.problem(
            source.place_of("command"),
            message,
            "remove it, or set strategy: dump",
        );
    }
}

// ---- environments ---------------------------------------------------------------------------------------------------

fn read_environments(
    reader: &mut Reader<'_>,
    field: Option<Field<'_>>,
    base: &Layer,
) -> BTreeMap<EnvironmentName, Environment> {
    let mut environments = BTreeMap::new();
    let mut taken: BTreeMap<TagKind, String> = BTreeMap::new();
    for (name, field) in named::<EnvironmentName>(reader, field) {
        let section = reader.section(&field, &ENVIRONMENT);
        let layer = read_layer(reader, &section);
        check_health(
            reader,
            &section,
            &Health::from_layers(&layer.health, &base.health),
        );
        let tags = section
            .get("tags")
            .map(|tags| read_tags(reader, &tags, &name, &mut taken));
        let url: Option<Url> = reader.text(section.get("url"));
        environments.insert(name, Environment { tags, url, layer });
    }
    environments
}

fn read_tags(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    environment: &EnvironmentName,
    taken: &mut BTreeMap<TagKind, String>,
) -> BTreeSet<TagKind> {
    let mut kinds = BTreeSet::new();
    for field in reader.list(field) {
        let (at, name) = (field.item.at, field.name.clone());
        let Some(kind) = reader.word::<TagKind>(Some(field)) else {
            continue;
        };
        if let Some(other) = taken.insert(kind, environment.to_string()) {
            let message = format!("{name}: {kind} tags already go to {other}");
            reader.problem(at, message, "each kind of tag goes to one environment");
        }
        kinds.insert(kind);
    }
    kinds
}

/// Two environments in one folder of one host would replace each other at every deployment.
fn check_places(reader: &mut Reader<'_>, field: &Field<'_>, config: &Config) {
    let mut places: BTreeMap<(HostAddress, u16, Option<AbsolutePath>), &EnvironmentName> =
        BTreeMap::new();
    let found: Vec<(&str, Position)> = match &field.item.node {
        Node::Map(entries) => entries
            .iter()
            .filter_map(|(key, _)| match &key.node {
                Node::Text(text) => Some((text.as_str(), key.at)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    for (name, environment) in &config.environments {
        let Some(host) = config.host_of(&environment.layer) else {
            continue;
        };
        let root = environment
            .layer
            .root
            .clone()
            .or_else(|| config.base.root.clone());
        let Some(other) = places.insert((host.address, host.port, root), name) else {
            continue;
        };
        let at = found
            .iter()
            .find(|(key, _)| *key == name.as_str())
            .map_or(field.item.at, |(_, at)| *at);
        let message =
            format!("environments: {other} and {name} are the same folder of the same host");
        reader.problem(
            at,
            message,
            format!("give {name} a host or a root of its own"),
        );
    }
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

fn inputs(overrides: &Overrides) -> Result<Inputs, Vec<Problem>> {
    let mut reader = Reader::new("inputs", &[]);
    let inputs = Inputs {
        environment: input(&mut reader, "environment", &overrides.environment),
        host: HostLayer {
            address: input(&mut reader, "host", &overrides.host),
            port: input_port(&mut reader, &overrides.port),
            user: input(&mut reader, "user", &overrides.user),
        },
        root: input(&mut reader, "root", &overrides.root),
        lock_wait: input(&mut reader, "lock-wait", &overrides.lock_wait),
        repository: overrides.repository.as_deref().and_then(repository_name),
    };
    reader.finish(inputs)
}

/// The value of an input; an empty one is one that was not given.
fn given(value: &Option<String>) -> Option<&str> {
    value
        .as_deref()
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

fn input<T: Text>(reader: &mut Reader<'_>, name: &str, value: &Option<String>) -> Option<T> {
    let text = given(value)?;
    let read = T::read(text);
    if read.is_none() {
        reader.problem(
            Position::NONE,
            format!("{name}: \"{}\" is not {}", shown(text), T::WHAT),
            T::HINT,
        );
    }
    read
}

fn input_port(reader: &mut Reader<'_>, value: &Option<String>) -> Option<u16> {
    let text = given(value)?;
    let port = text
        .parse()
        .ok()
        .filter(|port| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    if port.is_none() {
        let message = format!("port: \"{}\" is not a port", shown(text));
        reader.problem(Position::NONE, message, "write a number from 1 to 65535");
    }
    port
}

/// The name without its owner. One that cannot name an app is no name; then the root or `app` has to.
fn repository_name(repository: &str) -> Option<super::values::AppName> {
    super::values::AppName::read(repository.trim().rsplit('/').next()?)
}
