//! Docker's engine, asked by its own API: for looks, and for what requests wait for. An answer takes a millisecond or two,
//! where a process of Docker's client takes fifty.
//!
//! Runs on the host. Paths have no version, so the engine speaks its newest; what is used here is in every one since
//! 1.41 (Docker 20.10): <https://docs.docker.com/reference/api/engine/>.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::host::HostError;
use super::{SHORT, docker};

/// A client of the engine that Docker's own client would ask.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    /// As Docker's client writes it, for errors.
    address: String,
}

impl Api {
    /// Asks Docker's client where its engine is, because a context or a variable may say so.
    pub(super) fn find() -> Result<Self, HostError> {
        let words = [
            "context",
            "inspect",
            "--format",
            "{{.Endpoints.docker.Host}}",
        ];
        let printed = docker(words).run()?;
        let address = String::from_utf8_lossy(&printed.stdout).trim().to_owned();
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
        Ok(Api { client, address })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HostError> {
        let what = format!("Docker's GET {path}");
        let response = self.send(&what, self.client.get(url(path)), SHORT)?;
        let bytes = response.bytes();
        let bytes = bytes.map_err(|error| self.unanswered(&what, &error, SHORT))?;
        serde_json::from_slice(&bytes).map_err(|source| HostError::Answer { what, source })
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
        let mut request = self.client.post(url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(&format!("Docker's POST {path}"), request, deadline)
            .map(drop)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), HostError> {
        let request = self.client.delete(url(path));
        self.send(&format!("Docker's DELETE {path}"), request, SHORT)
            .map(drop)
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
            _ => HostError::Command { what, said },
        })
    }

    /// An engine that takes too long is there; one that cannot be reached may come back.
    fn unanswered(&self, what: &str, error: &reqwest::Error, deadline: Duration) -> HostError {
        match error.is_timeout() {
            true => HostError::TooLong {
                what: what.to_owned(),
                seconds: deadline.as_secs(),
            },
            false => {
                HostError::NoEngine(format!("{}: {}", self.address, crate::prober::why(error)))
            }
        }
    }
}

/// The host's name in it is of no use to anybody.
fn url(path: &str) -> String {
    format!("http://docker{path}")
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
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("filters", &filters)
        .finish();
    format!("?{query}")
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
    fn a_filter_is_one_word_of_a_query() {
        assert_eq!(
            filter("label", "a=b&c"),
            "?filters=%7B%22label%22%3A%5B%22a%3Db%26c%22%5D%7D"
        );
    }
}
