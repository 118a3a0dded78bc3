//! GitHub's own description of its API, reduced to the routes that the stand-in serves, as checks for both sides. Runs
//! in tests.
//!
//! The description is OpenAPI 3.0; its schemas are taken apart here into plain JSON Schema (references written out,
//! `nullable` turned into a type). A route that is not described, a request that breaks its schema or has a property
//! that GitHub would silently ignore, and an answer of the stand-in that GitHub could not give are all violations.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The routes that Belay uses or will use; everything else is a violation.
const ROUTES: [&str; 16] = [
    "/repos/{owner}/{repo}/deployments",
    "/repos/{owner}/{repo}/deployments/{deployment_id}",
    "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses",
    "/repos/{owner}/{repo}/commits/{ref}",
    "/repos/{owner}/{repo}/commits/{ref}/check-runs",
    "/repos/{owner}/{repo}/commits/{commit_sha}/pulls",
    "/repos/{owner}/{repo}/compare/{basehead}",
    "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "/repos/{owner}/{repo}/git/matching-refs/{ref}",
    "/repos/{owner}/{repo}/actions/runs/{run_id}",
    "/repos/{owner}/{repo}/environments/{environment_name}",
    "/repos/{owner}/{repo}/environments/{environment_name}/deployment-branch-policies",
    "/repos/{owner}/{repo}/rulesets",
    "/repos/{owner}/{repo}/rulesets/{ruleset_id}",
    "/repos/{owner}/{repo}/issues/{issue_number}/comments",
    "/repos/{owner}/{repo}/issues/comments/{comment_id}",
];

/// Answers that any route may give, without being described for each.
const GENERAL: [u16; 9] = [401, 403, 404, 422, 429, 500, 502, 503, 504];

/// Everything that is checked, by method and route.
pub(crate) struct Contract {
    routes: Vec<Route>,
}

struct Route {
    method: String,
    template: &'static str,
    path: BTreeMap<String, Check>,
    query: BTreeMap<String, Check>,
    body: Option<Check>,
    body_properties: BTreeSet<String>,
    answers: BTreeMap<u16, Option<Check>>,
    example: Option<Value>,
}

/// A schema that becomes a validator when it is first used.
struct Check {
    schema: Value,
    formats: bool,
    validator: OnceLock<Result<Validator, String>>,
}

impl Check {
    /// Requests are checked with their formats. Answers are not: GitHub sends `""` for an address that is not set.
    fn new(schema: Value, formats: bool) -> Self {
        Self {
            schema,
            formats,
            validator: OnceLock::new(),
        }
    }

    fn errors(&self, value: &Value) -> Vec<String> {
        let build = || {
            jsonschema::options()
                .should_validate_formats(self.formats)
                .build(&self.schema)
                .map_err(|error| error.to_string())
        };
        match self.validator.get_or_init(build) {
            Ok(validator) => validator
                .iter_errors(value)
                .map(|error| format!("{} at \"{}\"", error, error.instance_path()))
                .collect(),
            Err(error) => vec![format!("the schema cannot be used: {error}")],
        }
    }
}

impl Contract {
    /// Where the development dependency has put GitHub's description.
    pub(crate) fn usual_path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/github/node_modules/@octokit/openapi/generated/api.github.com.json")
    }

    /// Reads the description from a file.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let document: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        Self::from_openapi(&document).ok_or_else(|| {
            io::Error::other("the description of GitHub's API lacks a route that is used")
        })
    }

    fn from_openapi(document: &Value) -> Option<Self> {
        let mut routes = Vec::new();
        for template in ROUTES {
            for (method, operation) in document.get("paths")?.get(template)?.as_object()? {
                routes.push(Route::read(document, method, template, operation));
            }
        }
        Some(Self { routes })
    }

    fn route(&self, method: &str, segments: &[String]) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| route.method == method && route.matches(segments))
    }

    /// What is wrong with a request.
    pub(crate) fn check_request(
        &self,
        method: &str,
        segments: &[String],
        query: &BTreeMap<String, String>,
        body: Option<&Value>,
    ) -> Vec<String> {
        match self.route(method, segments) {
            Some(route) => route.check_request(segments, query, body),
            None => vec!["no such route".to_owned()],
        }
    }

    /// What is wrong with an answer.
    pub(crate) fn check_answer(
        &self,
        method: &str,
        segments: &[String],
        status: u16,
        body: &Value,
    ) -> Vec<String> {
        let Some(route) = self.route(method, segments) else {
            return Vec::new();
        };
        match route.answers.get(&status) {
            Some(Some(check)) => check.errors(body),
            Some(None) => Vec::new(),
            None if GENERAL.contains(&status) => Vec::new(),
            None => vec![format!("status {status} is not described")],
        }
    }

    /// GitHub's own example of a good answer to a read, to be filled in.
    pub(crate) fn example(&self, template: &str) -> Option<Value> {
        self.routes
            .iter()
            .find(|route| route.method == "GET" && route.template == template)?
            .example
            .clone()
    }
}

impl Route {
    fn read(document: &Value, method: &str, template: &'static str, operation: &Value) -> Self {
        let (mut path, mut query) = (BTreeMap::new(), BTreeMap::new());
        for parameter in operation
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let parameter = follow(document, parameter);
            let name = parameter
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let check = Check::new(
                schema(document, parameter.get("schema").unwrap_or(&Value::Null)),
                true,
            );
            match parameter.get("in").and_then(Value::as_str) {
                Some("path") => path.insert(name, check),
                _ => query.insert(name, check),
            };
        }
        let json = |node: &Value| node.pointer("/content/application~1json").cloned();
        let body = operation
            .get("requestBody")
            .and_then(|body| json(follow(document, body)))
            .map(|content| schema(document, &content["schema"]));
        let mut answers = BTreeMap::new();
        let mut example = None;
        for (status, answer) in operation
            .get("responses")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let content = json(follow(document, answer));
            if status == "200" {
                example = content
                    .as_ref()
                    .and_then(|content| first_example(document, content));
            }
            let check =
                content.map(|content| Check::new(schema(document, &content["schema"]), false));
            if let Ok(status) = status.parse() {
                answers.insert(status, check);
            }
        }
        Self {
            method: method.to_uppercase(),
            template,
            path,
            query,
            body_properties: body.as_ref().map(properties).unwrap_or_default(),
            body: body.map(|schema| Check::new(schema, true)),
            answers,
            example,
        }
    }

    fn matches(&self, segments: &[String]) -> bool {
        let template: Vec<&str> = self.template.split('/').skip(1).collect();
        template.len() == segments.len()
            && template
                .iter()
                .zip(segments)
                .all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
    }

    fn check_request(
        &self,
        segments: &[String],
        query: &BTreeMap<String, String>,
        body: Option<&Value>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (wanted, given) in self.template.split('/').skip(1).zip(segments) {
            let name = wanted.trim_start_matches('{').trim_end_matches('}');
            if let Some(check) = self.path.get(name).filter(|_| wanted.starts_with('{')) {
                wrong.extend(
                    text_errors(check, given).map(|error| format!("{name} in the path: {error}")),
                );
            }
        }
        for (name, given) in query {
            match self.query.get(name) {
                Some(check) => {
                    wrong.extend(text_errors(check, given).map(|error| format!("{name}: {error}")))
                }
                None => wrong.push(format!("the query {name} does not exist")),
            }
        }
        match (&self.body, body) {
            (Some(check), body) => wrong.extend(check.errors(body.unwrap_or(&Value::Null))),
            (None, Some(_)) => wrong.push("a body where none belongs".to_owned()),
            (None, None) => {}
        }
        for name in body
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
        {
            if !self.body_properties.contains(name) {
                wrong.push(format!("GitHub ignores the property {name}"));
            }
        }
        wrong
    }
}

/// A value of a path or query is a text; a number is tried first, as the server does.
fn text_errors(check: &Check, text: &str) -> impl Iterator<Item = String> {
    let errors = check.errors(&json!(text));
    let as_number = text
        .parse::<i64>()
        .map(|number| check.errors(&json!(number)));
    match as_number {
        Ok(none) if none.is_empty() => none.into_iter(),
        _ => errors.into_iter(),
    }
}

fn properties(schema: &Value) -> BTreeSet<String> {
    let own = schema.get("properties").and_then(Value::as_object);
    own.into_iter().flat_map(Map::keys).cloned().collect()
}

fn first_example(document: &Value, content: &Value) -> Option<Value> {
    let example = content.get("examples")?.as_object()?.values().next()?;
    follow(document, example).get("value").cloned()
}

/// Follows a reference inside the description, or returns the node itself.
fn follow<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    match node.get("$ref").and_then(Value::as_str) {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .map_or(node, |target| follow(document, target)),
        None => node,
    }
}

/// Writes an OpenAPI 3.0 schema as JSON Schema.
fn schema(document: &Value, node: &Value) -> Value {
    let node = follow(document, node);
    let Some(keywords) = node.as_object() else {
        return node.clone();
    };
    let mut plain = Map::new();
    for (keyword, value) in keywords {
        let value = match keyword.as_str() {
            "properties" => {
                let parts = value.as_object().into_iter().flatten();
                parts
                    .map(|(name, part)| (name.clone(), schema(document, part)))
                    .collect()
            }
            "items" | "additionalProperties" | "not" => schema(document, value),
            "allOf" | "anyOf" | "oneOf" => {
                let parts = value.as_array().into_iter().flatten();
                parts.map(|part| schema(document, part)).collect()
            }
            "type" | "enum" | "required" | "format" | "pattern" | "minLength" | "maxLength"
            | "minimum" | "maximum" | "minItems" | "maxItems" | "uniqueItems" => value.clone(),
            _ => continue,
        };
        plain.insert(keyword.clone(), value);
    }
    match node.get("nullable") {
        Some(Value::Bool(true)) => json!({"anyOf": [plain, {"type": "null"}]}),
        _ => Value::Object(plain),
    }
}
