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
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK, RETRY_AFTER, USER_AGENT};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::percent::percent_encode;
use belay_model::request::event::Repository;
use belay_model::secret::Secret;
use belay_model::text::log_lines;
use belay_model::transaction::outcome::with_causes;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The query of a list in pages as large as they may be.
pub(super) const LARGE_PAGES: &str = "?per_page=100";
/// The most pages of a list that are read, of 100 each.
const PAGES: usize = 30;
/// Longest text of an answer that is repeated in an error.
const MAX_MESSAGE: usize = 300;

/// Where GitHub is and who asks.
#[derive(Debug, Clone)]
pub struct Connection {
    /// As the runner gives it in `GITHUB_API_URL`, with the base path of an enterprise server.
    pub api_url: String,
    pub token: Secret,
    pub repository: Repository,
}

/// How long to wait for GitHub to become well again.
#[derive(Clone)]
pub struct Patience {
    /// How often a read is sent at most.
    pub tries: u32,
    /// A longer pause than this is not waited for.
    pub longest_pause: Duration,
    /// How long the answer to one request may take.
    pub answer_timeout: Duration,
    pause: Pause,
}

type Pause = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Default for Patience {
    fn default() -> Self {
        Self::with_pause(|length| Box::pin(tokio::time::sleep(length)))
    }
}

impl Patience {
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

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("tries", &self.tries)
            .field("longest_pause", &self.longest_pause)
            .finish_non_exhaustive()
    }
}

/// What is asked of GitHub, for messages and for the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    CreateDeployment,
    ListDeployments,
    SetStatus,
    ListStatuses,
    ReadRun,
    ResolveTag,
    ReadComments,
    WriteComment,
    ReadReviews,
    ReadChecks,
    ReadTags,
    Compare,
    ReadPulls,
    ReadEnvironment,
    ReadRulesets,
}

impl Call {
    /// The line that the workflow's `permissions:` needs for it, where there is one for it.
    pub fn permission(self) -> Option<&'static str> {
        Some(match self {
            Self::CreateDeployment
            | Self::SetStatus
            | Self::ListDeployments
            | Self::ListStatuses => "deployments: write",
            Self::ReadRun | Self::ReadEnvironment => "actions: read",
            Self::ResolveTag | Self::ReadTags | Self::Compare => "contents: read",
            Self::ReadReviews | Self::ReadPulls => "pull-requests: read",
            Self::ReadChecks => "checks: read",
            Self::ReadComments | Self::WriteComment => "pull-requests: write",
            // Part of what every token may ("metadata").
            Self::ReadRulesets => return None,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateDeployment => "create the deployment on GitHub",
            Self::ListDeployments => "list the deployments on GitHub",
            Self::SetStatus => "set the status of the deployment on GitHub",
            Self::ListStatuses => "read the statuses of a deployment on GitHub",
            Self::ReadRun => "read a workflow run on GitHub",
            Self::ResolveTag => "resolve the tag on GitHub",
            Self::ReadComments => "read the comments of the pull request on GitHub",
            Self::WriteComment => "write the comment on the pull request on GitHub",
            Self::ReadReviews => "read the reviews of the pull request on GitHub",
            Self::ReadChecks => "read the checks of the commit on GitHub",
            Self::ReadTags => "read the tags on GitHub",
            Self::Compare => "compare two commits on GitHub",
            Self::ReadPulls => "read the pull requests of a commit on GitHub",
            Self::ReadEnvironment => "read the rules of the environment on GitHub",
            Self::ReadRulesets => "read the rulesets on GitHub",
        })
    }
}

/// The cause of an error, reduced to words that may be shown.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(String);

/// What went wrong between Belay and GitHub. It never contains the token.
#[derive(Debug, Error)]
pub enum GitHubError {
    #[error("could not set up the connection to GitHub")]
    Setup {
        #[source]
        source: Cause,
    },
    /// Whether GitHub did what was asked is not known.
    #[error("could not {call}: no answer")]
    NoAnswer {
        call: Call,
        #[source]
        source: Cause,
    },
    /// GitHub's own failure, status 5xx. Whether it did what was asked is not known either.
    #[error("could not {call}: GitHub has a problem (status {status})")]
    Outage {
        call: Call,
        status: u16,
        wait: Option<Duration>,
    },
    #[error("could not {call}: too many requests (status {status})")]
    Limited {
        call: Call,
        status: u16,
        wait: Option<Duration>,
    },
    #[error("could not {call}: the token is not allowed to (status {status})")]
    Forbidden {
        call: Call,
        status: u16,
        #[source]
        source: Cause,
    },
    #[error("could not {call}: refused (status {status})")]
    Refused {
        call: Call,
        status: u16,
        #[source]
        source: Cause,
    },
    #[error("could not {call}: its answer makes no sense")]
    Unreadable {
        call: Call,
        #[source]
        source: Cause,
    },
}

impl GitHubError {
    /// GitHub cannot be reached or cannot answer at present; nothing was said about the request itself.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer { .. } | Self::Outage { .. } | Self::Limited { .. }
        )
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Forbidden { status: 401, .. } => {
                Some("the token is wrong or has expired".to_owned())
            }
            Self::Forbidden { call, .. } => Some(format!(
                "add \"{}\" under \"permissions:\" in the workflow",
                call.permission()?
            )),
            Self::Limited {
                wait: Some(wait), ..
            } => Some(format!("GitHub asks to wait {} s", wait.as_secs())),
            _ => None,
        }
    }

    /// The error with its causes and its hint, in one line.
    pub fn in_words(&self) -> String {
        let words = with_causes(self);
        match self.hint() {
            Some(hint) => format!("{words} ({hint})"),
            None => words,
        }
    }

    /// How long to pause before another try, or `None` when another try is useless.
    fn pause_before_retry(&self, tried: u32, longest: Duration) -> Option<Duration> {
        let backoff = Duration::from_secs(1 << tried.min(4));
        match self {
            Self::NoAnswer { .. } => Some(backoff),
            Self::Outage { wait, .. } => {
                Some(wait.unwrap_or(backoff)).filter(|wait| *wait <= longest)
            }
            // Without a time GitHub means at least a minute, which no deployment should spend here.
            Self::Limited { wait, .. } => wait.filter(|wait| *wait <= longest),
            Self::Setup { .. }
            | Self::Forbidden { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    text: String,
    next: Option<String>,
}

impl Answer {
    /// Reads the answer, tolerantly by way of the type.
    pub(super) fn read<T: DeserializeOwned>(&self, call: Call) -> Result<T, GitHubError> {
        serde_json::from_str(&self.text).map_err(|error| GitHubError::Unreadable {
            call,
            source: Cause(error.to_string()),
        })
    }

    /// The text that GitHub put into an answer that is not what was asked for.
    pub(super) fn refusal(&self, call: Call) -> GitHubError {
        GitHubError::Refused {
            call,
            status: self.status,
            source: Cause(message_of(&self.text)),
        }
    }

    /// Where the next page is, as path and query.
    pub(super) fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

/// One repository on GitHub. Cheap to clone.
#[derive(Clone)]
pub struct GitHubClient {
    crab: Octocrab,
    api_url: String,
    repository: Repository,
    patience: Patience,
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
    pub fn new(connection: &Connection, patience: Patience) -> Result<Self, GitHubError> {
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
        let after_scheme = self.api_url.find("://").map_or(0, |at| at + 3);
        self.api_url[after_scheme..]
            .find('/')
            .map_or("", |at| &self.api_url[after_scheme + at..])
    }

    /// Reads, several times when need be.
    pub(super) async fn get(&self, call: Call, path: &str) -> Result<Answer, GitHubError> {
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
        call: Call,
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
        call: Call,
        path: &str,
        body: &Value,
    ) -> Result<Answer, GitHubError> {
        self.once(call, Method::POST, path, Some(body)).await
    }

    /// Changes what is there, once.
    pub(super) async fn patch(
        &self,
        call: Call,
        path: &str,
        body: &Value,
    ) -> Result<Answer, GitHubError> {
        self.once(call, Method::PATCH, path, Some(body)).await
    }

    /// Takes something away, once.
    pub(super) async fn delete(&self, call: Call, path: &str) -> Result<Answer, GitHubError> {
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
        call: Call,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, GitHubError> {
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
            return Ok(Answer { status, text, next });
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

/// The innermost cause: octocrab's own words carry backtraces, reqwest's repeat the address.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let words = log_lines(cause.to_string().as_bytes());
    words
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(MAX_MESSAGE)
        .collect()
}

fn classify(call: Call, status: u16, headers: &HeaderMap, text: &str) -> GitHubError {
    let wait = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let used_up = headers
        .get("x-ratelimit-remaining")
        .is_some_and(|left| left == "0");
    let source = Cause(message_of(text));
    match status {
        500.. => GitHubError::Outage { call, status, wait },
        429 => GitHubError::Limited { call, status, wait },
        403 if wait.is_some() || used_up || source.0.to_lowercase().contains("rate limit") => {
            GitHubError::Limited { call, status, wait }
        }
        401 | 403 => GitHubError::Forbidden {
            call,
            status,
            source,
        },
        _ => GitHubError::Refused {
            call,
            status,
            source,
        },
    }
}

/// The words of an error answer: its message, and what exactly was wrong where GitHub tells. Foreign text, so cleaned.
fn message_of(text: &str) -> String {
    let Ok(body) = serde_json::from_str::<Value>(text) else {
        return shorten(text);
    };
    let message = body
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("no reason was given");
    let details: Vec<String> = body
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(detail_of)
        .collect();
    match details.is_empty() {
        true => shorten(message),
        false => shorten(&format!("{message} ({})", details.join("; "))),
    }
}

/// One entry of `errors`: a text, a rule of a field, or the checks that are not green.
fn detail_of(error: &Value) -> Option<String> {
    if let Some(text) = error.as_str() {
        return Some(text.to_owned());
    }
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    if let Some(contexts) = error.get("contexts").and_then(Value::as_array) {
        let red: Vec<String> = contexts
            .iter()
            .filter_map(|check| {
                let state = check
                    .get("state")
                    .and_then(Value::as_str)
                    .unwrap_or("unknown");
                Some(format!("{} is {state}", check.get("context")?.as_str()?))
            })
            .collect();
        return Some(red.join(", ")).filter(|red| !red.is_empty());
    }
    match (text("message"), text("field"), text("code")) {
        (Some(message), _, _) => Some(message.to_owned()),
        (None, Some(field), Some(code)) => Some(format!("{field}: {code}")),
        (None, field, code) => field.or(code).map(str::to_owned),
    }
}

fn shorten(text: &str) -> String {
    let clean = log_lines(text.as_bytes()).replace('\n', " ");
    clean.chars().take(MAX_MESSAGE).collect()
}

/// The address of the next page, when it is on the same server: the token goes nowhere else.
fn next_page(headers: &HeaderMap, api_url: &str) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let entry = link
        .split(',')
        .find(|entry| entry.contains("rel=\"next\""))?;
    let address = entry.split_once('<')?.1.split_once('>')?.0;
    let (scheme, rest) = api_url.split_once("://")?;
    let server = rest.split('/').next()?;
    let path = address
        .strip_prefix(scheme)?
        .strip_prefix("://")?
        .strip_prefix(server)?;
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(api_url: &str) -> GitHubClient {
        let connection = Connection {
            api_url: api_url.to_owned(),
            token: Secret::new("ghs_x"),
            repository: Repository::parse("octo-org/shop").expect("a repository"),
        };
        GitHubClient::new(&connection, Patience::default()).expect("a client")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    reqwest::header::HeaderName::from_static(name),
                    value.parse().expect("a header"),
                )
            })
            .collect()
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
            let connection = Connection {
                api_url: "https://api.github.com".to_owned(),
                token: Secret::new(token),
                repository: Repository::parse("octo-org/shop").expect("a repository"),
            };
            let refused = GitHubClient::new(&connection, Patience::default());
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

    #[test]
    fn the_next_page_is_followed_only_on_the_same_server() {
        let next = |link: &str, api: &str| next_page(&headers(&[("link", link)]), api);
        let link = "<https://api.github.com/repositories/1/deployments?page=3>; rel=\"last\", \
                    <https://api.github.com/repositories/1/deployments?page=2>; rel=\"next\"";
        assert_eq!(
            next(link, "https://api.github.com").as_deref(),
            Some("/repositories/1/deployments?page=2")
        );
        assert_eq!(next(link, "https://git.example.com/api/v3"), None);
        let imposter = "<https://api.github.com.example.com/x?page=2>; rel=\"next\"";
        assert_eq!(next(imposter, "https://api.github.com"), None);
        assert_eq!(
            next(
                "<https://api.github.com/x>; rel=\"prev\"",
                "https://api.github.com"
            ),
            None
        );
    }

    #[test]
    fn a_403_is_a_limit_only_when_it_says_so() {
        let of = |pairs: &[(&'static str, &str)], text: &str| {
            classify(Call::SetStatus, 403, &headers(pairs), text)
        };
        let refusal = r#"{"message":"Resource not accessible by integration"}"#;
        assert!(matches!(of(&[], refusal), GitHubError::Forbidden { .. }));
        assert!(matches!(
            of(&[("retry-after", "7")], refusal),
            GitHubError::Limited { .. }
        ));
        assert!(matches!(
            of(&[("x-ratelimit-remaining", "0")], refusal),
            GitHubError::Limited { .. }
        ));
        let secondary = r#"{"message":"You have exceeded a secondary rate limit"}"#;
        assert!(matches!(of(&[], secondary), GitHubError::Limited { .. }));
    }

    #[test]
    fn a_missing_permission_is_named() {
        let refusal = r#"{"message":"Resource not accessible by integration"}"#;
        let error = classify(Call::CreateDeployment, 403, &HeaderMap::new(), refusal);
        assert_eq!(
            error.in_words(),
            "could not create the deployment on GitHub: the token is not allowed to (status 403): Resource not \
             accessible by integration (add \"deployments: write\" under \"permissions:\" in the workflow)"
        );
    }

    #[test]
    fn a_conflict_names_the_checks_that_are_not_green() {
        let text = r#"{"message":"Conflict: Commit status checks failed for v1.",
            "errors":[{"contexts":[{"context":"ci/build","state":"pending"},{"context":"review","state":"failure"}],
            "resource":"Deployment","field":"required_contexts","code":"invalid"}]}"#;
        assert_eq!(
            message_of(text),
            "Conflict: Commit status checks failed for v1. (ci/build is pending, review is failure)"
        );
    }

    #[test]
    fn an_answer_of_another_kind_is_shown_cleaned_and_short() {
        assert_eq!(
            message_of("<html>\u{1b}[1m::error::x\nbad gateway"),
            "<html>::error::x bad gateway"
        );
        assert!(message_of(&"x".repeat(5_000)).len() <= MAX_MESSAGE);
    }

    #[test]
    fn only_a_short_pause_is_waited_for() {
        let longest = Duration::from_secs(20);
        let limited = |wait: Option<u64>| GitHubError::Limited {
            call: Call::SetStatus,
            status: 429,
            wait: wait.map(Duration::from_secs),
        };
        assert_eq!(
            limited(Some(7)).pause_before_retry(0, longest),
            Some(Duration::from_secs(7))
        );
        assert_eq!(limited(Some(3600)).pause_before_retry(0, longest), None);
        assert_eq!(limited(None).pause_before_retry(0, longest), None);
    }
}
