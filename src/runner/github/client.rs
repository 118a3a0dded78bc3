//! The transport to GitHub's REST API: one request in, one answer or one classified error out. Runs on the runner.
//!
//! octocrab sends (with its proxy support and its care for where the token goes), but nothing of its typed API is
//! used: its types refuse answers that GitHub really gives. Every request has a deadline. Reads are repeated a few
//! times, with the pause that GitHub asks for when that is short; writes are sent exactly once by this file.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use octocrab::service::middleware::auth_header::AuthHeaderLayer;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::service::middleware::extra_headers::ExtraHeadersLayer;
use octocrab::service::middleware::reqwest_connector::ReqwestConnector;
use octocrab::{AuthState, Octocrab, OctocrabBuilder};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue, USER_AGENT};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::{ApiAnswer, classify, next_page, root_cause};
use super::error::{ApiCall, Cause, GitHubError};
use crate::percent::percent_encode;
use belay_model::request::event::Repository;
use belay_model::secret::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The query of a list in pages as large as they may be.
pub(super) const LARGE_PAGES: &str = "?per_page=100";
/// The most pages of a list that are read, of 100 each.
const PAGES: usize = 30;
/// Where GitHub is and who asks.
#[derive(Debug, Clone)]
pub struct ApiAccess {
    /// As the runner gives it in `GITHUB_API_URL`, with the base path of an enterprise server.
    pub api_url: String,
    /// Of the job, or of a person.
    pub token: Secret,
    /// Whose API is asked.
    pub repository: Repository,
}

/// How long to wait for GitHub to become well again.
#[derive(Clone)]
pub struct RetryPolicy {
    /// How often a read is sent at most.
    pub tries: u32,
    /// A longer pause than this is not waited for.
    pub longest_pause: Duration,
    /// How long the answer to one request may take.
    pub answer_timeout: Duration,
    pause: Pause,
}

type Pause = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::with_pause(|length| Box::pin(tokio::time::sleep(length)))
    }
}

impl RetryPolicy {
    /// The usual patience with another way to wait; tests do not.
    pub fn with_pause(
        pause: impl Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            tries: 3,
            longest_pause: Duration::from_secs(20),
            answer_timeout: ANSWER_TIMEOUT,
            pause: Arc::new(pause),
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("tries", &self.tries)
            .field("longest_pause", &self.longest_pause)
            .finish_non_exhaustive()
    }
}

/// One repository on GitHub. Cheap to clone.
#[derive(Clone)]
pub struct GitHubClient {
    crab: Octocrab,
    api_url: String,
    repository: Repository,
    patience: RetryPolicy,
}

impl fmt::Debug for GitHubClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubClient")
            .field("api_url", &self.api_url)
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

impl GitHubClient {
    /// Makes the client, without a request. To be called inside a tokio runtime.
    pub fn new(connection: &ApiAccess, patience: RetryPolicy) -> Result<Self, GitHubError> {
        let api_url = connection.api_url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(patience.answer_timeout)
            .build()
            .map_err(|error| setup(root_cause(&error)))?;
        let crab = stack(http, &api_url, &connection.token)?;
        Ok(Self {
            crab,
            api_url,
            repository: connection.repository.clone(),
            patience,
        })
    }

    /// The address of something in the repository. `segments` are encoded, so that no text can leave its place.
    pub(super) fn path(&self, segments: &[&str]) -> String {
        let Repository { owner, name } = &self.repository;
        let encoded: Vec<String> = [owner.as_str(), name.as_str()]
            .iter()
            .chain(segments)
            .map(|segment| encode(segment))
            .collect();
        format!("{}/repos/{}", self.base_path(), encoded.join("/"))
    }

    /// The path of the API's address: empty on github.com, `/api/v3` on an enterprise server.
    fn base_path(&self) -> &str {
        let parts = self.api_url.split_once("://");
        let after_scheme = parts.map_or(self.api_url.as_str(), |(_, rest)| rest);
        let path = after_scheme.find('/').map(|at| after_scheme.split_at(at));
        path.map_or("", |(_, path)| path)
    }

    /// Reads, several times when need be.
    pub(super) async fn get(&self, call: ApiCall, path: &str) -> Result<ApiAnswer, GitHubError> {
        let mut tried = 0;
        loop {
            let error = match self.once(call, Method::GET, path, None).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tried += 1;
            if tried >= self.patience.tries || !self.pause_after(&error, tried - 1).await {
                return Err(error);
            }
        }
    }

    /// Everything in a list that comes in pages, or in one.
    pub(super) async fn all<Page: DeserializeOwned, T>(
        &self,
        call: ApiCall,
        path: String,
        unwrap: impl Fn(Page) -> Vec<T>,
    ) -> Result<Vec<T>, GitHubError> {
        let mut found = vec![];
        let mut page = Some(path);
        for _ in 0..PAGES {
            let Some(path) = page else { break };
            let answer = self.get(call, &path).await?;
            found.extend(unwrap(answer.read(call)?));
            page = answer.next().map(str::to_owned);
        }
        Ok(found)
    }

    /// Writes, once.
    pub(super) async fn post(
        &self,
        call: ApiCall,
        path: &str,
        body: &Value,
    ) -> Result<ApiAnswer, GitHubError> {
        self.once(call, Method::POST, path, Some(body)).await
    }

    /// Changes what is there, once.
    pub(super) async fn patch(
        &self,
        call: ApiCall,
        path: &str,
        body: &Value,
    ) -> Result<ApiAnswer, GitHubError> {
        self.once(call, Method::PATCH, path, Some(body)).await
    }

    /// Takes something away, once.
    pub(super) async fn delete(&self, call: ApiCall, path: &str) -> Result<ApiAnswer, GitHubError> {
        self.once(call, Method::DELETE, path, None).await
    }

    /// Waits as long as the error asks for. `false`: there is no point in trying again.
    pub(super) async fn pause_after(&self, error: &GitHubError, tried: u32) -> bool {
        match error.pause_before_retry(tried, self.patience.longest_pause) {
            Some(pause) => {
                (self.patience.pause)(pause).await;
                true
            }
            None => false,
        }
    }

    async fn once(
        &self,
        call: ApiCall,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ApiAnswer, GitHubError> {
        let no_answer = |error: octocrab::Error| GitHubError::NoAnswer {
            call,
            source: Cause(root_cause(&error)),
        };
        let response = match method {
            Method::POST => self.crab._post(path, body).await,
            Method::PATCH => self.crab._patch(path, body).await,
            Method::DELETE => self.crab._delete(path, body).await,
            _ => self.crab._get(path).await,
        };
        let response = response.map_err(no_answer)?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = self
            .crab
            .body_to_string(response)
            .await
            .map_err(no_answer)?;
        if (200..300).contains(&status) {
            let next = next_page(&headers, &self.api_url);
            return Ok(ApiAnswer { status, text, next });
        }
        Err(classify(call, status, &headers, &text))
    }
}

/// octocrab's layers around our own HTTP client. Its usual builder would send two User-Agent headers, panic over a
/// token that cannot be a header, and (with its `retry` feature) repeat writes.
fn stack(http: reqwest::Client, api_url: &str, token: &Secret) -> Result<Octocrab, GitHubError> {
    let base = || {
        api_url
            .parse()
            .map_err(|_| setup("the address of the API cannot be read"))
    };
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| setup("the token has characters that no token has"))?;
    if token.is_empty() {
        return Err(setup("the token is empty"));
    }
    authorization.set_sensitive(true);
    let headers = vec![
        (
            USER_AGENT,
            HeaderValue::from_static(concat!("belay/", env!("CARGO_PKG_VERSION"))),
        ),
        (
            ACCEPT,
            HeaderValue::from_static("application/vnd.github+json"),
        ),
    ];
    let built = OctocrabBuilder::new_empty()
        .with_service(ReqwestConnector::new(http))
        .with_layer(&ExtraHeadersLayer::new(Arc::new(headers)))
        .with_layer(&BaseUriLayer::new(base()?))
        .with_layer(&AuthHeaderLayer::new(Some(authorization), base()?, base()?))
        .with_auth(AuthState::None)
        .build();
    match built {
        Ok(crab) => Ok(crab),
        Err(never) => match never {},
    }
}

fn setup(cause: impl Into<String>) -> GitHubError {
    GitHubError::Setup {
        source: Cause(cause.into()),
    }
}

/// Encodes one segment of a path: octocrab would end the path at a `#` or `?` in it and ask for something else.
fn encode(segment: &str) -> String {
    percent_encode(segment, b"-_.~")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api_url: &str) -> GitHubClient {
        let connection = ApiAccess {
            api_url: api_url.to_owned(),
            token: Secret::new("ghs_x"),
            repository: Repository::parse("octo-org/shop").expect("a repository"),
        };
        GitHubClient::new(&connection, RetryPolicy::default()).expect("a client")
    }

    #[tokio::test]
    async fn no_text_can_leave_its_segment() {
        let client = client("https://api.github.com");
        let path = client.path(&["commits", "tags/v1#x?y=../%2e"]);
        assert_eq!(
            path,
            "/repos/octo-org/shop/commits/tags%2Fv1%23x%3Fy%3D..%2F%252e"
        );
    }

    #[tokio::test]
    async fn the_base_path_of_an_enterprise_server_is_kept() {
        let client = client("https://git.example.com/api/v3/");
        assert_eq!(
            client.path(&["deployments"]),
            "/api/v3/repos/octo-org/shop/deployments"
        );
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_one_is_refused() {
        for token in ["", "ghs\nx", "ghs\0x"] {
            let connection = ApiAccess {
                api_url: "https://api.github.com".to_owned(),
                token: Secret::new(token),
                repository: Repository::parse("octo-org/shop").expect("a repository"),
            };
            let refused = GitHubClient::new(&connection, RetryPolicy::default());
            assert!(
                matches!(refused, Err(GitHubError::Setup { .. })),
                "{token:?}"
            );
        }
    }

    /// OpenSSL built without threads (see dist-scripts/openssl-perl) does not survive this.
    #[test]
    fn many_threads_may_use_tls_at_once() {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(async {
                        for _ in 0..10 {
                            client("https://api.github.com");
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no thread fails");
        }
    }
}
