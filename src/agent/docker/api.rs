//! Docker's engine, asked by its own API: for looks, and for what requests wait for. An answer takes a millisecond or two,
//! where a process of Docker's client takes fifty.
//!
//! Runs on the host. One version of the API is spoken with every engine that knows it, so that a newer engine answers like
//! an older one (<https://docs.docker.com/reference/api/engine/#versioned-api-and-sdk>); what is used here is in every one
//! since 1.41 (Docker 20.10).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::host::HostError;
use super::super::sizes::at_most;
use super::client::{SHORT, docker};

/// Where Docker's client looks when nothing says otherwise.
const USUAL_ADDRESS: &str = "unix:///var/run/docker.sock";

/// A client of the engine that Docker's own client would ask.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    /// As Docker's client writes it, for errors.
    address: String,
    versions: Versions,
}

/// The version that is spoken: Docker 25's, the oldest that Docker 29.0 knows.
const SPOKEN: &str = "1.44";

/// Which versions of its API an engine speaks.
#[derive(Debug, Default, Deserialize)]
struct Versions {
    #[serde(rename = "ApiVersion", default)]
    newest: String,
    #[serde(rename = "MinAPIVersion", default)]
    oldest: String,
}

impl Versions {
    /// What comes before each path. An engine that has not said anything is spoken to without.
    fn prefix(&self) -> String {
        let number = |version: &str| {
            let (major, minor) = version.split_once('.')?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        };
        let (Some(newest), Some(spoken)) = (number(&self.newest), number(SPOKEN)) else {
            return String::new();
        };
        let oldest = number(&self.oldest).unwrap_or_default();
        let (major, minor) = spoken.clamp(oldest.min(newest), newest);
        format!("/v{major}.{minor}")
    }
}

impl Api {
    /// Finds the engine. Docker's client is asked where it is when a context or a variable may say so.
    pub(super) fn find() -> Result<Self, HostError> {
        let variable = |name: &str| std::env::var(name).ok();
        let address = match is_where_it_usually_is(variable) {
            true => USUAL_ADDRESS.to_owned(),
            false => asked_address()?,
        };
        let Some(socket) = address.strip_prefix("unix://") else {
            return Err(HostError::NoEngine(format!(
                "it is at {address}, and Belay needs the engine of this machine, at a socket"
            )));
        };
        let client = Client::builder()
            .unix_socket(socket)
            // An engine that was restarted has closed what was open.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| HostError::NoEngine(error.to_string()))?;
        let mut api = Api {
            client,
            address,
            versions: Versions::default(),
        };
        // One that does not answer says so to whoever asks next.
        api.versions = api.get("/version").unwrap_or_default();
        Ok(api)
    }

    /// The oldest version of the API that the engine speaks.
    pub(super) fn oldest(&self) -> String {
        self.versions.oldest.clone()
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HostError> {
        let what = format!("Docker's GET {path}");
        let response = self.send(&what, self.client.get(self.url(path)), SHORT)?;
        let bytes = response.bytes();
        let bytes = bytes.map_err(|error| self.unanswered(&what, &error, SHORT))?;
        serde_json::from_slice(&bytes).map_err(|source| HostError::Answer { what, source })
    }

    /// An answer that is too long to be kept, as it comes. `deadline` is for all of it.
    pub(super) fn stream(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<impl io::Read + use<>, HostError> {
        self.send(
            &format!("Docker's GET {path}"),
            self.client.get(self.url(path)),
            deadline,
        )
    }

    /// The same for what may be gone, or may go away while it is asked for.
    pub(super) fn get_if_there<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, HostError> {
        match self.get(path) {
            Err(HostError::Gone { .. }) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Makes something so. `deadline` is for what may take longer than a look.
    pub(super) fn post(
        &self,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<(), HostError> {
        let mut request = self.client.post(self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(&format!("Docker's POST {path}"), request, deadline)
            .map(drop)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), HostError> {
        let request = self.client.delete(self.url(path));
        self.send(&format!("Docker's DELETE {path}"), request, SHORT)
            .map(drop)
    }

    /// Runs a program in a container to its end, and returns what it printed.
    pub(super) fn exec(&self, container: &str, argv: &[&str]) -> Result<String, HostError> {
        #[derive(Deserialize)]
        struct CreatedExec {
            #[serde(rename = "Id")]
            id: String,
        }
        #[derive(Deserialize)]
        struct EndedExec {
            /// The engine may not know it yet when the program's output has just ended.
            #[serde(rename = "ExitCode")]
            exit_code: Option<i64>,
        }
        let what = format!("docker exec {container} {}", argv.first().unwrap_or(&""));
        let ask = |path: &str, body: &Value| {
            let request = self.client.post(self.url(path)).json(body);
            let answer = self.send(&what, request, SHORT)?.bytes();
            answer.map_err(|error| self.unanswered(&what, &error, SHORT))
        };
        let made = ask(
            &format!("/containers/{container}/exec"),
            &json!({"Cmd": argv, "AttachStdout": true, "AttachStderr": true}),
        )?;
        let made: CreatedExec =
            serde_json::from_slice(&made).map_err(|source| HostError::Answer {
                what: what.clone(),
                source,
            })?;
        let start = json!({"Detach": false, "Tty": false});
        let printed = ask(&format!("/exec/{}/start", made.id), &start)?;
        let [stdout, stderr] = streams(&printed);
        let ended: EndedExec = self.get(&format!("/exec/{}/json", made.id))?;
        match ended.exit_code {
            None | Some(0) => Ok(stdout),
            Some(code) => {
                let said = match stderr.trim() {
                    "" => format!("exit code {code}"),
                    said => said.to_owned(),
                };
                Err(HostError::said(what, said))
            }
        }
    }

    /// The host's name in it is of no use to anybody.
    fn url(&self, path: &str) -> String {
        format!("http://docker{}{path}", self.versions.prefix())
    }

    fn send(
        &self,
        what: &str,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Response, HostError> {
        let response = request.timeout(deadline).send();
        let response = response.map_err(|error| self.unanswered(what, &error, deadline))?;
        let status = response.status();
        // 304 says that it was so already.
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let said = said(&response.text().unwrap_or_default());
        let what = what.to_owned();
        Err(match status {
            StatusCode::NOT_FOUND => HostError::Gone { what, said },
            _ => HostError::said(what, said),
        })
    }

    /// An engine that takes too long is there; one that cannot be reached may come back.
    fn unanswered(&self, what: &str, error: &reqwest::Error, deadline: Duration) -> HostError {
        match error.is_timeout() {
            true => HostError::TooLong {
                what: what.to_owned(),
                seconds: deadline.as_secs(),
            },
            false => HostError::NoEngine(format!("{}: {}", self.address, belay_prober::why(error))),
        }
    }
}

/// Whether nothing chooses another engine than the usual one: no variable, and no context in the client's own settings
/// (<https://docs.docker.com/engine/manage-resources/contexts/>).
fn is_where_it_usually_is(variable: impl Fn(&str) -> Option<String>) -> bool {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    if given("DOCKER_HOST")
        .or_else(|| given("DOCKER_CONTEXT"))
        .is_some()
    {
        return false;
    }
    let of_home = || Some(Path::new(&given("HOME")?).join(".docker"));
    let settings = given("DOCKER_CONFIG").map(PathBuf::from).or_else(of_home);
    let Some(settings) = settings else {
        return false;
    };
    match std::fs::read_to_string(settings.join("config.json")) {
        Ok(text) => !text.contains("currentContext"),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn asked_address() -> Result<String, HostError> {
    let words = [
        "context",
        "inspect",
        "--format",
        "{{.Endpoints.docker.Host}}",
    ];
    let printed = docker(words).run()?;
    Ok(String::from_utf8_lossy(&printed.stdout).trim().to_owned())
}

/// Takes apart what a program without a terminal printed: pieces of standard output (1) and standard error (2), each after
/// its stream, three zeros and its length (<https://docs.docker.com/reference/api/engine/>, "Attach to a container").
fn streams(mut bytes: &[u8]) -> [String; 2] {
    let (mut stdout, mut stderr) = (vec![], vec![]);
    while let Some((&[stream, _, _, _, a, b, c, d], rest)) = bytes.split_first_chunk() {
        let length = at_most(u32::from_be_bytes([a, b, c, d]).into(), rest.len());
        let (piece, rest) = rest.split_at(length);
        match stream {
            2 => stderr.extend_from_slice(piece),
            _ => stdout.extend_from_slice(piece),
        }
        bytes = rest;
    }
    [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What the engine said, which is JSON with one field.
fn said(body: &str) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    match serde_json::from_str(body) {
        Ok(Said { message }) => message,
        Err(_) => body.trim().to_owned(),
    }
}

/// The query for things that have a value of something, as the engine's lists take it.
pub(super) fn filter(by: &str, value: &str) -> String {
    let filters = json!({ by: [value] }).to_string();
    query(&[("filters", &filters)])
}

/// A query of names and values, whatever is in them.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    format!("?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_said_is_told_without_its_braces() {
        assert_eq!(
            said(r#"{"message":"port is already allocated"}"#),
            "port is already allocated"
        );
        assert_eq!(said("bad gateway\n"), "bad gateway");
    }

    #[test]
    fn the_client_is_asked_only_where_something_may_choose_another_engine() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join(".docker");
        let usual = |name: &str, value: &str| {
            let home = home.path().display().to_string();
            is_where_it_usually_is(|asked| match asked {
                _ if asked == name => Some(value.to_owned()),
                "HOME" => Some(home.clone()),
                _ => None,
            })
        };
        assert!(usual("DOCKER_HOST", ""));
        assert!(!usual("DOCKER_HOST", "tcp://203.0.113.9:2375"));
        assert!(!usual("DOCKER_CONTEXT", "other"));
        assert!(!usual("HOME", ""));
        std::fs::create_dir(&folder).expect("a directory");
        std::fs::write(folder.join("config.json"), r#"{"auths": {}}"#).expect("written");
        assert!(usual("", ""));
        let chosen = r#"{"currentContext": "rootless"}"#;
        std::fs::write(folder.join("config.json"), chosen).expect("written");
        assert!(!usual("", ""));
        assert!(usual("DOCKER_CONFIG", "/nowhere"));
    }

    #[test]
    fn what_a_program_printed_is_taken_apart() {
        let mut bytes = vec![];
        for (stream, text) in [(1, "ab"), (2, "no\n"), (1, ""), (1, "c\n")] {
            let length = u8::try_from(text.len()).expect("short");
            bytes.extend([stream, 0, 0, 0, 0, 0, 0, length]);
            bytes.extend(text.as_bytes());
        }
        assert_eq!(streams(&bytes), ["abc\n", "no\n"]);
        // Cut off, and nothing at all.
        assert_eq!(streams(&bytes[..9]), ["a", ""]);
        assert_eq!(streams(&bytes[..5]), ["", ""]);
    }

    #[test]
    fn one_version_is_spoken_with_every_engine_that_knows_it() {
        let prefix = |newest: &str, oldest: &str| {
            let (newest, oldest) = (newest.to_owned(), oldest.to_owned());
            Versions { newest, oldest }.prefix()
        };
        // Docker 20.10, 26.1, 28.5 and 29.0, and one that knows it no more.
        assert_eq!(prefix("1.41", "1.12"), "/v1.41");
        assert_eq!(prefix("1.45", "1.24"), "/v1.44");
        assert_eq!(prefix("1.51", "1.24"), "/v1.44");
        assert_eq!(prefix("1.52", "1.44"), "/v1.44");
        assert_eq!(prefix("1.70", "1.60"), "/v1.60");
        assert_eq!(prefix("", ""), "");
    }

    #[test]
    fn a_filter_is_one_word_of_a_query() {
        assert_eq!(
            filter("label", "a=b&c"),
            "?filters=%7B%22label%22%3A%5B%22a%3Db%26c%22%5D%7D"
        );
    }
}
