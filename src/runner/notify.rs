//! Tells a webhook of an outcome.
//!
//! Runs on the runner, when everything else is done. It is tried a few times and never fails a run: what was deployed is
//! deployed, whether or not the chat heard of it. The address is a secret, so it is in no message of this file.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Client;
use serde_json::Value;

use belay_model::reviewing::notification::{NotificationWishes, Tongue};
use belay_model::secret::Secret;
use belay_model::transaction::outcome::Outcome;
use belay_report::notification::message;

const TRIES: u32 = 4;
const ANSWER: Duration = Duration::from_secs(10);
/// The first pause; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// A longer pause than this is not waited for, even when it is asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What kept a notification from arriving.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// Not said which: the text is a secret even so.
    #[error("notify-url is no address")]
    Address,
    /// No HTTP client could be made.
    #[error("{0}")]
    Client(reqwest::Error),
    /// The last of the answers.
    #[error("it answered {}", .0.as_u16())]
    Answered(StatusCode),
    /// The last of the attempts, in a few words.
    #[error("{}", belay_prober::why(.0))]
    NotReached(reqwest::Error),
}

/// Sends the outcome where it is wanted.
pub(crate) fn notify(
    url: &Secret,
    wishes: NotificationWishes,
    outcome: &Outcome,
) -> Result<(), NotifyError> {
    if !wishes.want(outcome) {
        return Ok(());
    }
    let parsed: url::Url = url
        .expose()
        .trim()
        .parse()
        .map_err(|_| NotifyError::Address)?;
    let body = message(outcome, Tongue::of(&parsed));
    send(&parsed, &body, PAUSE)
}

fn send(url: &url::Url, body: &Value, first_pause: Duration) -> Result<(), NotifyError> {
    let client = Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("belay/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| NotifyError::Client(error.without_url()))?;
    let mut pause = first_pause;
    let mut tried = 0;
    loop {
        tried += 1;
        let (trouble, wait) = match client.post(url.clone()).json(body).send() {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let wait = asked_to_wait(&answer).unwrap_or(pause);
                let is_final = !may_become_better(answer.status());
                let trouble = NotifyError::Answered(answer.status());
                (trouble, Some(wait).filter(|_| !is_final))
            }
            Err(error) => (NotifyError::NotReached(error.without_url()), Some(pause)),
        };
        match wait {
            Some(wait) if tried < TRIES && wait <= LONGEST_PAUSE => std::thread::sleep(wait),
            Some(_) | None => return Err(trouble),
        }
        pause *= 2;
    }
}

fn may_become_better(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn asked_to_wait(answer: &reqwest::blocking::Response) -> Option<Duration> {
    let header = answer.headers().get(reqwest::header::RETRY_AFTER)?;
    let seconds: f64 = header.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use serde_json::json;

    use super::*;

    /// Answers one connection after the other as told, and hands over the bodies that came.
    fn webhook(answers: Vec<&'static str>) -> (url::Url, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!(
            "http://{}/secret-part",
            listener.local_addr().expect("bound")
        );
        let (bodies, received) = channel();
        std::thread::spawn(move || {
            for (answer, stream) in answers.into_iter().zip(listener.incoming().flatten()) {
                let mut reader = BufReader::new(stream);
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    let lower = line.to_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                let _ = reader.read_exact(&mut body);
                let _ = bodies.send(String::from_utf8_lossy(&body).into_owned());
                let _ = write!(
                    reader.into_inner(),
                    "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        (url.parse().expect("an address"), received)
    }

    fn sent(answers: Vec<&'static str>) -> (Result<(), String>, usize) {
        let (url, received) = webhook(answers);
        let done = send(&url, &json!({"text": "x"}), Duration::from_millis(1));
        let done = done.map_err(|error| error.to_string());
        let bodies: Vec<String> = received.try_iter().collect();
        assert!(bodies.iter().all(|body| body == r#"{"text":"x"}"#));
        (done, bodies.len())
    }

    #[test]
    fn what_may_become_better_is_tried_again() {
        assert_eq!(sent(vec!["200 OK"]), (Ok(()), 1));
        assert_eq!(sent(vec!["503 No", "429 Slow", "204 Done"]), (Ok(()), 3));
        let (done, tries) = sent(vec!["500 No"; 9]);
        assert_eq!((done, tries), (Err("it answered 500".to_owned()), 4));
        assert_eq!(sent(vec!["404 Gone"; 9]).1, 1);
    }

    #[test]
    fn a_long_pause_is_not_waited_for() {
        let (done, tries) = sent(vec!["429 Slow\r\nRetry-After: 3600"; 9]);
        assert_eq!((done, tries), (Err("it answered 429".to_owned()), 1));
    }

    #[test]
    fn no_message_has_the_address() {
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/secret-part", closed.local_addr().expect("bound"));
        drop(closed);
        let url = url.parse().expect("an address");
        let error = send(&url, &json!({}), Duration::from_millis(1)).expect_err("nobody listens");
        let error = format!("{error} {error:?}");
        assert!(!error.contains("secret-part"), "{error}");
    }
}
