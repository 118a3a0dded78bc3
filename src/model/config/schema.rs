//! The JSON schema of `belay.yml`, for editors and for `docs/belay.schema.json`.
//!
//! Pure. The types here only describe the shape of the file (`read` does the reading, and gives better messages than a
//! schema could); tests hold the two to the same keys, defaults and verdicts.

#![expect(
    dead_code,
    reason = "the fields exist to be described, not to be filled"
)]

use std::collections::BTreeMap;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::settings::{
    DataStrategy, Degraded, Excess, ImageSource, Mode, ProxyProtocol, Roll, Strategy,
};
use super::values::{
    AbsolutePath, AppName, Bytes, DataPath, EnvironmentName, HeaderName, HostAddress, ImageName,
    JsonField, Percent, Period, Platform, ProjectName, RelativePath, ServiceName, Url, UserName,
    VolumeName,
};
use crate::request::tag::TagKind;

/// How Belay deploys this repository: belay.yml. Every setting has a default.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case", title = "belay.yml")]
struct Document {
    /// The name of the app. Default: the last part of root, else the repository's name.
    app: Option<AppName>,
    /// The folder of the app on the host. Default: /opt/ and the name of the app.
    root: Option<AbsolutePath>,
    /// The Compose file. Default: the first of compose.yaml, compose.yml, docker-compose.yaml and docker-compose.yml.
    compose: Option<RelativePath>,
    /// The Compose project. Default: the one that Compose derives from root.
    project: Option<ProjectName>,
    /// The host to deploy to; the action's inputs may give it instead.
    host: Option<HostDocument>,
    /// Files shipped beside the Compose file: one path, or where it comes from and where it goes.
    files: Option<Vec<FileDocument>>,
    /// How single services are replaced, by their names in the Compose file.
    services: Option<BTreeMap<ServiceName, ServiceDocument>>,
    /// How images are made, measured, shipped and kept.
    images: Option<ImagesDocument>,
    /// The proxy in front of services that are replaced without a gap: off, or its image.
    gateway: Option<GatewayDocument>,
    /// How downtime is measured, and how much of it is allowed.
    requests: Option<RequestsDocument>,
    /// How health is judged. Without endpoints, by the containers and their own health checks.
    health: Option<HealthDocument>,
    /// How long the new version is watched after it took over.
    #[schemars(extend("default" = "10s"))]
    bake: Option<Period>,
    /// How long the host waits for the runner's confirmation before it goes back by itself.
    #[schemars(extend("default" = "120s"))]
    confirm: Option<Period>,
    /// How long a deployment waits for another one to end.
    #[schemars(extend("default" = "10m"))]
    lock_wait: Option<Period>,
    /// What is backed up before each deployment.
    backup: Option<BackupDocument>,
    /// What differs from one environment to the next, by the environment's name on GitHub.
    environments: Option<BTreeMap<EnvironmentName, EnvironmentDocument>>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum HostDocument {
    /// Its name or IP address.
    Address(HostAddress),
    /// Its parts.
    Parts(HostParts),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct HostParts {
    /// Its name or IP address.
    address: Option<HostAddress>,
    /// The port of its SSH server.
    #[schemars(range(min = 1), extend("default" = 22))]
    port: Option<u16>,
    /// The user that deploys.
    #[schemars(extend("default" = "deploy"))]
    user: Option<UserName>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum FileDocument {
    /// The same path in the repository and below the root.
    Path(RelativePath),
    /// Another place on the host.
    Pair(FilePair),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct FilePair {
    /// Where it is in the repository.
    from: RelativePath,
    /// Where it goes below the root. Default: the same path.
    to: Option<RelativePath>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case", inline)]
struct ServiceDocument {
    /// How it is replaced.
    #[schemars(extend("default" = "auto"))]
    strategy: Option<Strategy>,
    /// What the gateway speaks with it.
    #[schemars(extend("default" = "http"))]
    mode: Option<Mode>,
    /// The PROXY protocol that the gateway speaks to it.
    #[schemars(extend("default" = "off"))]
    proxy_protocol: Option<ProxyProtocol>,
    /// How its replicas are replaced.
    #[schemars(extend("default" = "together"))]
    roll: Option<Roll>,
    /// How your own proxy takes an old container out before it stops.
    drain: Option<DrainDocument>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct DrainDocument {
    /// A command run inside the old container. Default: none.
    command: Option<Vec<Argument>>,
    /// How long the proxy gets to notice.
    #[schemars(extend("default" = "5s"))]
    wait: Option<Period>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum GatewayDocument {
    Word(GatewayWordDocument),
    Parts(GatewayParts),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
enum GatewayWordDocument {
    Off,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct GatewayParts {
    /// HAProxy 2.6 or newer, with a shell.
    #[schemars(extend("default" = "haproxy:3.0"))]
    image: Option<ImageName>,
    /// How the image reaches the host: pulled by it, or sent by the runner like the app's own.
    #[schemars(extend("default" = "registry"))]
    source: Option<ImageSource>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case", inline)]
struct RequestsDocument {
    /// How often the primary endpoint is asked during a deployment, in questions a second; 0 measures nothing.
    #[schemars(range(max = 1000), extend("default" = 50))]
    rate: Option<u32>,
    /// How many may fail. Default: not limited.
    #[schemars(range(max = 1_000_000))]
    max_failed: Option<u32>,
    /// How long there may be no good answer. Default: not limited.
    max_gap: Option<Period>,
    /// What more of either means: a warning, or a rollback.
    #[schemars(extend("default" = "warn"))]
    over: Option<Excess>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case", inline)]
struct ImagesDocument {
    /// How images reach the host.
    #[schemars(extend("default" = "stream"))]
    source: Option<ImageSource>,
    /// The size that an image should stay below.
    #[schemars(extend("default" = "300MB"))]
    budget: Option<Bytes>,
    /// What a larger image means.
    #[schemars(extend("default" = "warn"))]
    over_budget: Option<Excess>,
    /// How much an image may grow from one version to the next.
    #[schemars(extend("default" = "20%"))]
    growth: Option<Percent>,
    /// What more growth means.
    #[schemars(extend("default" = "warn"))]
    over_growth: Option<Excess>,
    /// A command run inside each built image before it ships. Default: none.
    test: Option<Vec<Argument>>,
    /// How many versions stay on the host.
    #[schemars(range(min = 2, max = 100), extend("default" = 3))]
    keep: Option<u32>,
    /// Images that are not built here, by service.
    given: Option<BTreeMap<ServiceName, ImageName>>,
    /// The platform to build for. Default: the host's own.
    platform: Option<Platform>,
}

/// One argument of a command; no shell takes part.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
struct Argument(#[schemars(length(min = 1))] String);

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct HealthDocument {
    /// The endpoint that decides, asked on the host.
    primary: Option<Url>,
    /// The endpoint that is asked when the primary cannot be reached at all.
    backup: Option<Url>,
    /// The endpoint as users reach it, asked from the runner.
    public: Option<Url>,
    /// How many answers in a row must be good.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    successes: Option<u32>,
    /// The pause between two questions.
    #[schemars(extend("default" = "1s"))]
    interval: Option<Period>,
    /// How long one answer may take.
    #[schemars(extend("default" = "5s"))]
    timeout: Option<Period>,
    /// How long the app may take to become healthy.
    #[schemars(extend("default" = "60s"))]
    deadline: Option<Period>,
    /// Whether it is enough when only the backup endpoint answers.
    #[schemars(extend("default" = "accept"))]
    degraded: Option<Degraded>,
    /// Where the primary endpoint says which version it is; it has to be the deployed one. Default: not asked.
    version: Option<VersionDocument>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
enum VersionDocument {
    /// In this response header.
    Header(HeaderName),
    /// In this field of the JSON body.
    Json(JsonField),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct BackupDocument {
    /// How many verified backups stay.
    #[schemars(range(min = 1, max = 1000), extend("default" = 5))]
    keep: Option<u32>,
    /// How many lines of log are kept of each service.
    #[schemars(range(max = 1_000_000), extend("default" = 1000))]
    logs: Option<u32>,
    /// Which data is included: auto (named volumes, and bind mounts below root), none, or a list.
    #[schemars(extend("default" = "auto"))]
    data: Option<DataDocument>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
enum DataDocument {
    Word(DataWordDocument),
    These(Vec<DataSourceDocument>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
enum DataWordDocument {
    Auto,
    None,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, inline)]
struct DataSourceDocument {
    /// A Docker volume, by its name in the Compose file.
    volume: Option<VolumeName>,
    /// A folder or file of the host, below root or from /.
    path: Option<DataPath>,
    /// How it is copied.
    #[schemars(extend("default" = "live"))]
    strategy: Option<DataStrategy>,
    /// The service that is paused, stopped or asked for the dump.
    service: Option<ServiceName>,
    /// The command whose output is the dump.
    command: Option<Vec<Argument>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case", inline)]
struct EnvironmentDocument {
    /// The kinds of tag that go here. Default: release and hotfix to production, the others to development.
    tags: Option<Vec<TagKind>>,
    /// Where people find the app; shown on GitHub.
    url: Option<Url>,
    /// Instead of the host above.
    host: Option<HostDocument>,
    /// Instead of the root above.
    root: Option<AbsolutePath>,
    /// Instead of the Compose file above.
    compose: Option<RelativePath>,
    /// Instead of the project above.
    project: Option<ProjectName>,
    /// Instead of the files above.
    files: Option<Vec<FileDocument>>,
    /// Instead of the same keys of health above.
    health: Option<HealthDocument>,
    /// Instead of the time above.
    bake: Option<Period>,
    /// Instead of the time above.
    confirm: Option<Period>,
    /// Instead of the time above.
    lock_wait: Option<Period>,
}

/// The schema, as it is committed.
pub fn schema() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Document>()
        .to_value();
    without_null(&mut schema);
    schema
}

/// A setting is left out, not null: `bake:` with nothing behind it is an unfinished line.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in ["type", "enum", "anyOf"] {
                let Some(Value::Array(options)) = object.get_mut(key) else {
                    continue;
                };
                options.retain(|option| !is_null(option));
                if key != "enum" && options.len() == 1 {
                    unwrap_only(object, key);
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_null(option: &Value) -> bool {
    option.is_null() || option == "null" || option.get("type").is_some_and(|kind| kind == "null")
}

/// Puts the only option that is left in the place of the choice.
fn unwrap_only(object: &mut serde_json::Map<String, Value>, key: &str) {
    let Some(Value::Array(mut options)) = object.remove(key) else {
        return;
    };
    match options.pop() {
        Some(Value::Object(only)) if key == "anyOf" => {
            // What the field says about itself counts for more than what its type says.
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
        Some(only) => drop(object.insert(key.to_owned(), only)),
        None => {}
    }
}
