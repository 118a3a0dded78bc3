//! What is to be built: the `build` sections of a Compose file, as argument lists for Docker.

use std::collections::BTreeMap;

use serde_json::Value;

/// What carries a build out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// `docker build`, whatever that is on the runner.
    Docker,
    /// The plugin, with whichever builder was chosen for it. One that runs in a container of its own keeps the image to
    /// itself unless it is told to give it to Docker.
    Buildx,
}

impl Builder {
    fn command(self) -> &'static [&'static str] {
        match self {
            Builder::Docker => &["docker", "build"],
            Builder::Buildx => &["docker", "buildx", "build", "--load"],
        }
    }
}

/// One image to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The service that runs the image, by its name in the Compose file.
    pub service: String,
    /// The directory that is sent to the builder, relative to the Compose file's.
    pub context: String,
    /// Relative to the context.
    pub dockerfile: Option<String>,
    /// The stage of the Dockerfile to build; its last one when `None`.
    pub target: Option<String>,
    /// Name and value, in order.
    pub args: Vec<(String, String)>,
}

/// A `build` section that cannot be carried out as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildProblem {
    /// The section, or a key of it, is of a type that Compose does not take. Names the service.
    #[error("could not read the build section of service {0}")]
    Unreadable(String),
    /// A variable without a default is not set on the runner.
    #[error(
        "the build section of service {service} uses ${{{variable}}}, which has no value on the runner"
    )]
    NoValue {
        /// The service whose section uses it.
        service: String,
        /// Its name, without `${` and `}`.
        variable: String,
    },
    /// The context is a URL or a Git address; Belay builds only from a directory of the repository.
    #[error("the build context {context} of service {service} is no directory of the repository")]
    Remote {
        /// The service that names it.
        service: String,
        /// The context as the Compose file has it, with its variables filled in.
        context: String,
    },
}

/// Reads every `build` section of a Compose file as the user wrote it. `variables` are what `${…}` may name.
pub fn builds(
    document: &Value,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Build>, BuildProblem> {
    let services = document.get("services").and_then(Value::as_object);
    services
        .into_iter()
        .flatten()
        .filter_map(|(name, service)| Some((name, service.get("build")?)))
        .map(|(name, section)| read_build(name, section, variables))
        .collect()
}

/// How far one service may extend another that extends another; more is a circle.
const EXTENDS_DEPTH: usize = 16;

/// Gives every service that `extends` another the `build` section that it inherits, unless it has its own. `read` gives
/// another Compose file by its path, relative to this one's directory; a file that is not there is the host's to refuse.
pub fn inherit_builds(mut document: Value, read: &mut dyn FnMut(&str) -> Option<Value>) -> Value {
    let names: Vec<String> = document
        .get("services")
        .and_then(Value::as_object)
        .map(|services| services.keys().cloned().collect())
        .unwrap_or_default();
    for name in names {
        if let Some(build) = inherited_build(&document, &name, "", read, EXTENDS_DEPTH)
            && let Some(service) = document.get_mut("services").and_then(|s| s.get_mut(&name))
            && let Some(service) = service.as_object_mut()
        {
            service.entry("build").or_insert(build);
        }
    }
    document
}

fn inherited_build(
    document: &Value,
    service: &str,
    directory: &str,
    read: &mut dyn FnMut(&str) -> Option<Value>,
    depth: usize,
) -> Option<Value> {
    let service = document.get("services")?.get(service)?;
    if let Some(build) = service.get("build") {
        return Some(placed(build, directory));
    }
    let depth = depth.checked_sub(1)?;
    let extends = service.get("extends")?;
    let base = extends
        .as_str()
        .or_else(|| extends.get("service")?.as_str())?;
    match extends.get("file").and_then(Value::as_str) {
        None => inherited_build(document, base, directory, read, depth),
        Some(file) => {
            let path = joined(directory, file);
            let other = read(&path)?;
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            inherited_build(&other, base, directory, read, depth)
        }
    }
}

/// A build section whose context counts from the directory of the file that it stands in.
fn placed(build: &Value, directory: &str) -> Value {
    let mut build = build.clone();
    if directory.is_empty() {
        return build;
    }
    match &mut build {
        Value::String(context) => *context = joined(directory, context),
        Value::Object(section) => {
            let context = section.get("context").and_then(Value::as_str);
            let context = joined(directory, context.unwrap_or("."));
            section.insert("context".to_owned(), Value::String(context));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
    }
    build
}

fn joined(directory: &str, path: &str) -> String {
    if directory.is_empty() || path.starts_with('/') || path.contains("://") {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    }
}

/// The name that a Compose file gives its project.
pub fn project_name(document: &Value) -> Option<&str> {
    document.get("name").and_then(Value::as_str)
}

fn read_build(
    service: &str,
    section: &Value,
    variables: &BTreeMap<String, String>,
) -> Result<Build, BuildProblem> {
    let unreadable = || BuildProblem::Unreadable(service.to_owned());
    let filled = |text: &str| {
        fill(text, variables).map_err(|NoValue(variable)| BuildProblem::NoValue {
            service: service.to_owned(),
            variable,
        })
    };
    let text = |key: &str| {
        section
            .get(key)
            .map(|v| v.as_str().ok_or_else(unreadable)?.pipe(filled))
            .transpose()
    };
    let build = match section {
        Value::String(context) => Build {
            service: service.to_owned(),
            context: filled(context)?,
            dockerfile: None,
            target: None,
            args: vec![],
        },
        Value::Object(_) => Build {
            service: service.to_owned(),
            context: text("context")?.unwrap_or_else(|| ".".to_owned()),
            dockerfile: text("dockerfile")?,
            target: text("target")?,
            args: read_args(section.get("args"), unreadable, filled)?,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(unreadable());
        }
    };
    if build.context.contains("://") || build.context.starts_with("git@") {
        return Err(BuildProblem::Remote {
            service: build.service,
            context: build.context,
        });
    }
    Ok(build)
}

/// Lets a value flow into a function, to keep a chain in reading order.
trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}

impl Pipe for &str {}

fn read_args(
    args: Option<&Value>,
    unreadable: impl Fn() -> BuildProblem,
    filled: impl Fn(&str) -> Result<String, BuildProblem>,
) -> Result<Vec<(String, String)>, BuildProblem> {
    let mut read = vec![];
    match args {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (name, value) in map {
                let value = match value {
                    Value::String(text) => filled(text)?,
                    Value::Number(_) | Value::Bool(_) => value.to_string(),
                    // A name without a value means the runner's own variable of that name.
                    Value::Null => filled(&format!("${{{name}}}"))?,
                    Value::Array(_) | Value::Object(_) => return Err(unreadable()),
                };
                read.push((name.clone(), value));
            }
        }
        Some(Value::Array(list)) => {
            for item in list {
                let item = item.as_str().ok_or_else(&unreadable)?;
                match item.split_once('=') {
                    Some((name, value)) => read.push((name.to_owned(), filled(value)?)),
                    None => read.push((item.to_owned(), filled(&format!("${{{item}}}"))?)),
                }
            }
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => return Err(unreadable()),
    }
    Ok(read)
}

/// A variable that has no value and no default.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NoValue(String);

/// Fills in `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME-default}` (Compose specification, interpolation); `$$` is a
/// dollar sign.
fn fill(text: &str, variables: &BTreeMap<String, String>) -> Result<String, NoValue> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let open = || NoValue(after.to_owned());
            let (expression, after) = after.split_once('}').ok_or_else(open)?;
            out.push_str(&value_of(expression, variables)?);
            rest = after;
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            out.push_str(&value_of(name, variables)?);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(expression: &str, variables: &BTreeMap<String, String>) -> Result<String, NoValue> {
    let (name, default, empty_counts) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default), false),
        None => match expression.split_once('-') {
            Some((name, default)) => (name, Some(default), true),
            None => (expression, None, true),
        },
    };
    match variables.get(name) {
        Some(value) if empty_counts || !value.is_empty() => Ok(value.clone()),
        Some(_) | None => {
            let default = default.map(str::to_owned);
            default.ok_or_else(|| NoValue(name.to_owned()))
        }
    }
}

impl Build {
    /// The argument list of the build. `declared` are the arguments that the Dockerfile names, to which Belay adds the tag
    /// and the revision when it asks for them.
    pub fn argv(
        &self,
        builder: Builder,
        directory: &str,
        reference: &str,
        platform: Option<&str>,
        labels: &[(String, String)],
        offered: &[(String, String)],
    ) -> Vec<String> {
        let command = builder.command().iter().copied();
        let mut argv: Vec<String> = command
            .chain(["--tag", reference])
            .map(str::to_owned)
            .collect();
        let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
        if let Some(platform) = platform {
            option("--platform", platform.to_owned());
        }
        for (name, value) in labels {
            option("--label", format!("{name}={value}"));
        }
        let own = offered
            .iter()
            .filter(|(name, _)| !self.args.iter().any(|(other, _)| other == name));
        for (name, value) in self.args.iter().chain(own) {
            option("--build-arg", format!("{name}={value}"));
        }
        if let Some(target) = &self.target {
            option("--target", target.clone());
        }
        let context = format!("{directory}/{}", self.context);
        option(
            "--file",
            format!(
                "{context}/{}",
                self.dockerfile.as_deref().unwrap_or("Dockerfile")
            ),
        );
        argv.push(context);
        argv
    }
}

/// The arguments that a Dockerfile declares with `ARG`, of those that are offered.
#[must_use]
pub fn declared(dockerfile: &str, offered: &[(String, String)]) -> Vec<(String, String)> {
    let names: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| {
            let (word, rest) = line.trim().split_once(char::is_whitespace)?;
            word.eq_ignore_ascii_case("ARG")
                .then(|| rest.trim().split('=').next().unwrap_or_default())
        })
        .collect();
    offered
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("BELAY_TAG".to_owned(), "v1.2.0".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ])
    }

    #[test]
    fn a_service_builds_what_the_service_that_it_extends_builds() {
        let document = serde_json::json!({"services": {
            "near": {"build": "./here"},
            "web": {"extends": "near"},
            "worker": {"extends": {"file": "base/common.yml", "service": "base"}},
            "own": {"extends": "near", "build": "./own"},
            "round": {"extends": "round"},
        }});
        let common = serde_json::json!({"services": {
            "base": {"extends": {"service": "deeper"}},
            "deeper": {"build": {"dockerfile": "Dockerfile.base"}},
        }});
        let document = inherit_builds(document, &mut |path| {
            (path == "base/common.yml").then(|| common.clone())
        });
        let build = |service: &str| document["services"][service]["build"].clone();
        assert_eq!(build("web"), "./here");
        assert_eq!(build("own"), "./own");
        assert_eq!(build("worker")["context"], "base/.");
        assert_eq!(build("worker")["dockerfile"], "Dockerfile.base");
        assert!(document["services"]["round"].get("build").is_none());
    }

    #[test]
    fn both_forms_of_a_build_section_are_read() {
        let document = json!({"services": {
            "web": {"build": "./web"},
            "api": {"build": {"context": "api", "dockerfile": "Dockerfile.prod", "target": "run",
                "args": {"VERSION": "${BELAY_TAG}", "N": 3, "EMPTY": null}}},
            "db": {"image": "postgres:16"},
        }});
        let builds = builds(&document, &variables()).expect("readable");
        assert_eq!(builds.len(), 2);
        let api = builds.iter().find(|b| b.service == "api").expect("api");
        assert_eq!(api.dockerfile.as_deref(), Some("Dockerfile.prod"));
        assert!(
            api.args
                .contains(&("VERSION".to_owned(), "v1.2.0".to_owned()))
        );
        assert!(api.args.contains(&("N".to_owned(), "3".to_owned())));
    }

    #[test]
    fn a_variable_without_a_value_is_refused_by_name() {
        let document = json!({"services": {"web": {"build": {"args": ["TOKEN"]}}}});
        let problem = builds(&document, &variables()).expect_err("no value");
        assert_eq!(
            problem,
            BuildProblem::NoValue {
                service: "web".to_owned(),
                variable: "TOKEN".to_owned()
            }
        );
    }

    #[test]
    fn a_context_from_elsewhere_is_refused() {
        let document = json!({"services": {"web": {"build": "https://example.com/x.git"}}});
        assert!(matches!(
            builds(&document, &variables()),
            Err(BuildProblem::Remote { .. })
        ));
    }

    #[test]
    fn interpolation_follows_the_compose_specification() {
        let filled = |text: &str| fill(text, &variables());
        assert_eq!(filled("a-$BELAY_TAG-b"), Ok("a-v1.2.0-b".to_owned()));
        assert_eq!(
            filled("${MISSING:-x}${EMPTY:-y}${EMPTY-z}$$"),
            Ok("xy$".to_owned())
        );
        assert_eq!(filled("${MISSING}"), Err(NoValue("MISSING".to_owned())));
    }

    #[test]
    fn only_declared_arguments_are_offered() {
        let offered = vec![
            ("BELAY_TAG".to_owned(), "v1".to_owned()),
            ("BELAY_REVISION".to_owned(), "r".to_owned()),
        ];
        let declared = declared("FROM scratch\narg BELAY_TAG=dev\nENV X=1\n", &offered);
        assert_eq!(declared, vec![("BELAY_TAG".to_owned(), "v1".to_owned())]);
    }
}
