//! The stand-in's front: takes requests apart, lets faults strike, checks both sides against the contract, records.
//! Runs in tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::contract::Contract;
use super::world::{Ask, Fault, Reply, Seed, Seen, World};

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) contract: Option<Arc<Contract>>,
    pub(crate) state_file: Option<PathBuf>,
    world: Mutex<World>,
}

impl Shared {
    pub(crate) fn new(contract: Option<Arc<Contract>>, state_file: Option<PathBuf>) -> Self {
        Self {
            contract,
            state_file,
            world: Mutex::default(),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the state for scripts, whole: they may read at any moment.
    fn dump(&self, world: &World) {
        let Some(path) = &self.state_file else { return };
        let aside = path.with_extension("new");
        let text = serde_json::to_vec_pretty(world).unwrap_or_default();
        if std::fs::write(&aside, text).is_ok() {
            // A script that waits for the file finds none, and says so.
            let _ = std::fs::rename(&aside, path);
        }
    }
}

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 16 * 1024 * 1024)
        .await
        .unwrap_or_default();
    let method = parts.method.as_str().to_owned();
    let path = parts.uri.path().to_owned();
    if let Some(command) = path.strip_prefix("/_fake/") {
        return control(&shared, &method, command, &bytes);
    }
    let (base, path) = match path.strip_prefix("/api/v3") {
        Some(rest) => ("/api/v3", rest.to_owned()),
        None => ("", path),
    };
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let host = parts
        .headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let ask = Ask {
        segments: segments(&path),
        query: pairs(&query),
        body: serde_json::from_slice(&bytes).ok(),
        api_url: format!("http://{host}{base}"),
        read_only: token(&parts.headers).is_some_and(|token| token.contains("read-only")),
        method,
    };
    let shown = if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    };
    let fault = shared.world().strike(&ask.method, &shown);
    if let Some(fault) = &fault {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    let reply = serve(&shared, &ask, &parts.headers, &bytes, shown, fault.as_ref());
    match reply {
        Some(reply) => respond(reply),
        // Ends the connection without an answer, and without the message that a panic would print.
        None => std::panic::resume_unwind(Box::new("the connection is dropped on purpose")),
    }
}

/// Checks, does, checks and records. `None`: no answer.
fn serve(
    shared: &Shared,
    ask: &Ask,
    headers: &HeaderMap,
    bytes: &Bytes,
    shown: String,
    fault: Option<&Fault>,
) -> Option<Reply> {
    let mut world = shared.world();
    let mut wrong = header_errors(headers, bytes, ask);
    // The doctor asks for a deployment of nothing, to be refused.
    let is_probe = creates_deployment(ask) && ask.body == Some(json!({}));
    if let Some(contract) = shared.contract.as_ref().filter(|_| !is_probe) {
        wrong.extend(contract.check_request(
            &ask.method,
            &ask.segments,
            &ask.query,
            ask.body.as_ref(),
        ));
    }
    wrong.extend(rule_errors(ask).into_iter().filter(|_| !is_probe));
    let broken = fault.filter(|fault| fault.status != 0 || fault.drop);
    let done = match (token(headers), broken.is_some_and(|fault| !fault.after)) {
        (None, _) => Some(Reply::error(401, "Requires authentication")),
        (Some(_), true) => None,
        (Some(_), false) => {
            let example = |template: &str| {
                shared
                    .contract
                    .as_ref()
                    .and_then(|contract| contract.example(template))
            };
            Some(world.answer(ask, example))
        }
    };
    if let (Some(contract), Some(reply)) = (&shared.contract, &done) {
        let errors = contract.check_answer(&ask.method, &ask.segments, reply.status, &reply.body);
        wrong.extend(
            errors
                .into_iter()
                .map(|error| format!("the stand-in's answer: {error}")),
        );
    }
    let reply = match broken {
        Some(fault) if fault.drop => None,
        Some(fault) => Some(fault_reply(fault)),
        None => done,
    };
    let label = format!("{} {shown}", ask.method);
    world
        .violations
        .extend(wrong.into_iter().map(|error| format!("{label}: {error}")));
    world.requests.push(Seen {
        method: ask.method.clone(),
        path: shown,
        body: ask.body.clone(),
        status: reply.as_ref().map_or(0, |reply| reply.status),
    });
    shared.dump(&world);
    reply
}

fn fault_reply(fault: &Fault) -> Reply {
    let usual = match fault.status {
        202 => "Auto-merged main into v1.2.0 on deployment.",
        403 => "Resource not accessible by integration",
        409 => "Conflict: Commit status checks failed for v1.2.0.",
        429 => "API rate limit exceeded",
        _ => "Something went wrong",
    };
    let mut reply = Reply::error(fault.status, fault.message.as_deref().unwrap_or(usual));
    if fault.status == 202 {
        reply.body = json!({"message": fault.message.as_deref().unwrap_or(usual)});
    }
    if fault.status == 409 {
        reply.body["errors"] = json!([{
            "contexts": [{"context": "ci/build", "state": "pending"}],
            "resource": "Deployment", "field": "required_contexts", "code": "invalid",
        }]);
    }
    if let Some(seconds) = fault.retry_after {
        reply.headers.push(("retry-after", seconds.to_string()));
    }
    reply
}

/// What GitHub asks of every request.
fn header_errors(headers: &HeaderMap, bytes: &Bytes, ask: &Ask) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |name: &str, fits: &dyn Fn(&str) -> bool| {
        let given: Vec<&str> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        if !matches!(given.as_slice(), [one] if fits(one)) {
            wrong.push(format!("header {name} is {given:?}"));
        }
    };
    expect("user-agent", &|text| {
        text.starts_with("belay/") || text.starts_with("curl/")
    });
    expect("accept", &|text| {
        text.contains("application/vnd.github+json")
    });
    expect("x-github-api-version", &|text| text == "2022-11-28");
    expect("authorization", &|text| text.starts_with("Bearer "));
    if !bytes.is_empty() {
        expect("content-type", &|text| text.starts_with("application/json"));
    }
    if !bytes.is_empty() && ask.body.is_none() {
        wrong.push("the body is not JSON".to_owned());
    }
    wrong
}

/// What the description of the API leaves out, or what Belay has promised for itself.
fn rule_errors(ask: &Ask) -> Vec<String> {
    let mut wrong = Vec::new();
    let body = ask.body.as_ref();
    let get = |name: &str| body.and_then(|body| body.get(name));
    if get("description")
        .and_then(Value::as_str)
        .is_some_and(|text| text.chars().count() > 140)
    {
        wrong.push("a description of more than 140 characters".to_owned());
    }
    if ask
        .query
        .get("per_page")
        .and_then(|text| text.parse::<u32>().ok())
        .is_some_and(|size| size > 100)
    {
        wrong.push("more than 100 on a page".to_owned());
    }
    if creates_deployment(ask)
        && (get("auto_merge") != Some(&json!(false))
            || get("required_contexts") != Some(&json!([])))
    {
        wrong.push("auto_merge and required_contexts must be said explicitly".to_owned());
    }
    wrong
}

fn creates_deployment(ask: &Ask) -> bool {
    let last = ask.segments.last();
    ask.method == "POST" && last.is_some_and(|last| last == "deployments")
}

fn respond(reply: Reply) -> Response {
    let mut response = Response::builder()
        .status(reply.status)
        .header("content-type", "application/json; charset=utf-8")
        .header("x-ratelimit-limit", "1000")
        .header("x-ratelimit-remaining", "999");
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response
        .body(Body::from(reply.body.to_string()))
        .unwrap_or_default()
}

/// Orders and questions from tests: what is seeded, what goes wrong, what was seen.
fn control(shared: &Shared, method: &str, command: &str, bytes: &Bytes) -> Response {
    let mut world = shared.world();
    let done = match (method, command) {
        ("GET", "state") => Ok(serde_json::to_value(&*world).unwrap_or_default()),
        ("GET", "violations") => Ok(json!(world.violations)),
        ("DELETE", "faults") => {
            world.faults.clear();
            Ok(json!({}))
        }
        ("POST", "faults") => serde_json::from_slice::<Fault>(bytes).map(|fault| {
            world.faults.push(fault);
            json!({})
        }),
        ("POST", "seed") => serde_json::from_slice::<Seed>(bytes).map(|seed| {
            world.seed(seed);
            json!({})
        }),
        _ => return respond(Reply::error(404, "no such order")),
    };
    shared.dump(&world);
    respond(match done {
        Ok(body) => Reply {
            status: 200,
            body,
            headers: Vec::new(),
        },
        Err(error) => Reply::error(400, &error.to_string()),
    })
}

fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("authorization")?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}

/// The decoded segments of a path. `/repositories/{id}/…`, as GitHub's links have it, is the repository's own address.
fn segments(path: &str) -> Vec<String> {
    let decoded: Vec<String> = path.split('/').skip(1).map(decode).collect();
    match decoded.as_slice() {
        [first, id, rest @ ..] if first == "repositories" => {
            let full_name = repository_of(id);
            let named = full_name.split('/').map(str::to_owned);
            ["repos".to_owned()]
                .into_iter()
                .chain(named)
                .chain(rest.iter().cloned())
                .collect()
        }
        _ => decoded,
    }
}

/// Repositories have no numbers here: the name itself, written in hexadecimal, is as good.
pub(crate) fn repository_id(full_name: &str) -> String {
    full_name
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn repository_of(id: &str) -> String {
    let bytes =
        (0..id.len() / 2).filter_map(|at| u8::from_str_radix(id.get(at * 2..at * 2 + 2)?, 16).ok());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
