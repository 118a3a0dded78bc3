//! What GitHub answered: read when it is good, classified when it is not. Runs on the runner; pure.

use std::time::Duration;

use reqwest::header::{HeaderMap, LINK, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ApiCall, Cause, GitHubError};
use belay_model::text::log_lines;

/// Longest text of an answer that is repeated in an error.
const MAX_MESSAGE: usize = 300;

/// A successful answer.
#[derive(Debug)]
pub(super) struct ApiAnswer {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) next: Option<String>,
}

impl ApiAnswer {
    /// Reads the answer, tolerantly by way of the type.
    pub(super) fn read<T: DeserializeOwned>(&self, call: ApiCall) -> Result<T, GitHubError> {
        serde_json::from_str(&self.text).map_err(|error| GitHubError::Unreadable {
            call,
            source: Cause(error.to_string()),
        })
    }

    /// The text that GitHub put into an answer that is not what was asked for.
    pub(super) fn refusal(&self, call: ApiCall) -> GitHubError {
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

/// What an answer with another status than 2xx means.
pub(super) fn classify(call: ApiCall, status: u16, headers: &HeaderMap, text: &str) -> GitHubError {
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
pub(super) fn next_page(headers: &HeaderMap, api_url: &str) -> Option<String> {
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

/// The innermost cause: octocrab's own words carry backtraces, reqwest's repeat the address.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            classify(ApiCall::SetStatus, 403, &headers(pairs), text)
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
        let error = classify(ApiCall::CreateDeployment, 403, &HeaderMap::new(), refusal);
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
}
