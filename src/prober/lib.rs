//! Asks an endpoint at a steady rate, beside everything else that goes on, and counts what comes of it.
//!
//! Runs on the host, in the engine, and on the runner. Requests are due at fixed times whether or not earlier ones have
//! been answered, so a server that stalls cannot slow its own measurement down. Each has a connection of its own: a
//! client that comes just then. It measures; it never decides, and a prober that cannot start measures nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Interval, MissedTickBehavior};

use belay_model::judgement::health::{HealthAnswer, TimedAnswer, VersionCheck};
use belay_model::judgement::measure::{Measured, Recorder};

/// Most of an answer that is read for the version, in bytes.
const BODY_LIMIT: u64 = 64 * 1024;
/// Most requests that wait for an answer at a time. Each has a connection, and a process has 1,024 files by default: an
/// engine that has none left could not even read its own lock.
const WAITING_LIMIT: usize = 256;

/// What is asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `health.primary` when the host asks, `health.public` when the runner does.
    pub url: String,
    /// Requests per second, due at fixed times. Callers start no prober for 0; here it counts as 1.
    pub per_second: u32,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Where an answer tells its version. `None` without `health.version`: answers are then counted without versions.
    pub version: Option<VersionCheck>,
    /// Whether requests go by the machine's HTTP proxy, where its environment names one.
    pub by_proxy: bool,
}

/// A measurement that is going on. It ends when this is dropped.
pub trait Prober {
    /// What was measured since the last call.
    fn take(&mut self) -> Measured;
}

/// Starts to measure.
#[must_use]
pub fn start(target: &Target) -> Box<dyn Prober> {
    let shared = Arc::new(Mutex::new(Recorder::default()));
    let began = Instant::now();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn({
        let (target, shared) = (target.clone(), Arc::clone(&shared));
        move || measure(&target, &shared, began, stopped)
    });
    Box::new(Running {
        shared,
        began,
        stop: Some(stop),
        thread: Some(thread),
    })
}

struct Running {
    shared: Arc<Mutex<Recorder>>,
    began: Instant,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober for Running {
    fn take(&mut self) -> Measured {
        let mut recorder = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.take(ms_since(self.began))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A measurement that came to a bad end has measured less; nothing depends on it.
            let _ = thread.join();
        }
    }
}

fn ms_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn measure(
    target: &Target,
    shared: &Arc<Mutex<Recorder>>,
    began: Instant,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (Ok(runtime), Ok(client)) = (runtime, client(target)) else {
        return;
    };
    runtime.block_on(async {
        tokio::select! {
            () = ask_for_ever(target, client, shared, began) => {}
            _ = stopped => {}
        }
    });
}

fn client(target: &Target) -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .timeout(target.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("belay/", env!("CARGO_PKG_VERSION")));
    match target.by_proxy {
        true => client.build(),
        false => client.no_proxy().build(),
    }
}

async fn ask_for_ever(
    target: &Target,
    client: reqwest::Client,
    shared: &Arc<Mutex<Recorder>>,
    began: Instant,
) {
    let mut due = due(target.per_second);
    let places = Arc::new(Semaphore::new(WAITING_LIMIT));
    loop {
        due.tick().await;
        let (client, target, shared) = (client.clone(), target.clone(), Arc::clone(shared));
        let place = Arc::clone(&places).try_acquire_owned();
        tokio::spawn(async move {
            let asked_at = Instant::now();
            let asked = match &place {
                Ok(_) => ask(&client, &target).await,
                Err(_) => Err(Unanswered::TooMany),
            };
            let mut recorder = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match asked {
                Ok(version) => {
                    recorder.good(ms_since(began), ms_since(asked_at), version.as_deref());
                }
                Err(unanswered) => recorder.bad(&unanswered.to_string()),
            }
        });
    }
}

/// Why a request counts as failed.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("answered {0}")]
    ServerError(u16),
    #[error("{WAITING_LIMIT} requests had no answer yet")]
    TooMany,
    #[error("{}", why(.0))]
    Unreachable(#[from] reqwest::Error),
}

/// When requests are due. Those that a suspended process did not send are not made up for when it wakes: nobody was
/// refused anything, and all of them at once would be an attack.
fn due(per_second: u32) -> Interval {
    let mut due = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    due
}

/// Asks once. A failure is one of the server: what a client did wrong (4xx) is an answer like any other.
async fn ask(client: &reqwest::Client, target: &Target) -> Result<Option<String>, Unanswered> {
    let mut answer = client.get(&target.url).send().await?;
    if answer.status().is_server_error() {
        return Err(Unanswered::ServerError(answer.status().as_u16()));
    }
    if let Some(VersionCheck::Header(name)) = &target.version {
        let header = answer.headers().get(name).and_then(|v| v.to_str().ok());
        let version = header.map(str::to_owned);
        read(&mut answer).await?;
        return Ok(version);
    }
    let body = read(&mut answer).await?;
    Ok(match &target.version {
        Some(VersionCheck::Json(path)) => json_field(&body, path),
        Some(VersionCheck::Header(_)) | None => None,
    })
}

/// Reads the answer to its end: one that is cut off has failed.
async fn read(answer: &mut reqwest::Response) -> reqwest::Result<Vec<u8>> {
    let mut body = vec![];
    while let Some(chunk) = answer.chunk().await? {
        let limit = usize::try_from(BODY_LIMIT).unwrap_or(usize::MAX);
        let room = limit.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
    }
    Ok(body)
}

/// Asks an endpoint once and waits for the answer. Never fails: an endpoint that cannot be reached is an answer.
#[must_use]
pub fn ask_once(
    url: &str,
    timeout: Duration,
    version: Option<&VersionCheck>,
    by_proxy: bool,
) -> HealthAnswer {
    try_ask_once(url, timeout, version, by_proxy)
        .unwrap_or_else(|error| HealthAnswer::Unreachable(why(&error)))
}

/// The same, with the time that it took.
#[must_use]
pub fn ask_timed(url: &str, timeout: Duration, by_proxy: bool) -> TimedAnswer {
    let began = Instant::now();
    let answer = ask_once(url, timeout, None, by_proxy);
    TimedAnswer {
        answer,
        ms: ms_since(began),
    }
}

fn try_ask_once(
    url: &str,
    timeout: Duration,
    version: Option<&VersionCheck>,
    by_proxy: bool,
) -> reqwest::Result<HealthAnswer> {
    use std::io::Read;

    // A redirect is an answer of its own: following one could leave the host, or hide that the endpoint moved.
    let client = reqwest::blocking::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("belay/", env!("CARGO_PKG_VERSION")));
    let client = match by_proxy {
        true => client.build()?,
        false => client.no_proxy().build()?,
    };
    let response = client.get(url).send()?;
    let code = response.status().as_u16();
    let version = match version {
        None => None,
        Some(VersionCheck::Header(name)) => response
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned),
        Some(VersionCheck::Json(path)) => {
            let mut body = vec![];
            let read = response.take(BODY_LIMIT).read_to_end(&mut body);
            read.ok().and_then(|_| json_field(&body, path))
        }
    };
    Ok(HealthAnswer::Status { code, version })
}

/// A field of a JSON answer, by its path (`build.version`).
pub fn json_field(body: &[u8], path: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let found = path
        .split('.')
        .try_fold(&value, |value, key| value.get(key))?;
    Some(
        found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned),
    )
}

/// Why an endpoint could not be reached, in the words that people know.
#[must_use]
pub fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    // The innermost cause is the one that people know: "connection refused".
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers every connection with what `answer` says, until the test's process ends.
    fn server(answer: impl Fn(u64) -> &'static str + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().flatten()) {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer(number).as_bytes());
            }
        });
        url
    }

    fn target(url: String) -> Target {
        Target {
            url,
            per_second: 100,
            timeout: Duration::from_secs(2),
            version: Some(VersionCheck::Header("x-version".to_owned())),
            by_proxy: false,
        }
    }

    fn measured_until(prober: &mut dyn Prober, enough: impl Fn(&Measured) -> bool) -> Measured {
        let began = Instant::now();
        let mut all = Measured::default();
        while !enough(&all) {
            assert!(began.elapsed() < Duration::from_secs(20), "{all:?}");
            std::thread::sleep(Duration::from_millis(10));
            all.add(&prober.take());
        }
        all
    }

    const GOOD: &str =
        "HTTP/1.1 200 OK\r\nx-version: v1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

    #[test]
    fn good_answers_are_counted_with_their_version() {
        let mut prober = start(&target(server(|_| GOOD)));
        let measured = measured_until(&mut *prober, |m| m.total >= 30);
        assert_eq!(measured.failed, 0, "{measured:?}");
        assert_eq!(measured.versions[0].version, "v1");
    }

    #[test]
    fn errors_cut_answers_and_closed_doors_are_failures() {
        let wrong = |number| match number % 3 {
            0 => "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            1 => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\ncut off",
            _ => "",
        };
        let mut prober = start(&target(server(wrong)));
        let measured = measured_until(&mut *prober, |m| m.total >= 30);
        assert_eq!(measured.failed, measured.total, "{measured:?}");
        let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", closed.local_addr().expect("bound"));
        drop(closed);
        let mut prober = start(&target(url));
        let measured = measured_until(&mut *prober, |m| m.total >= 10);
        assert_eq!(measured.failed, measured.total, "{measured:?}");
    }

    #[test]
    fn a_server_that_never_answers_is_not_flooded() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        // Kept open and never answered; the kernel accepts a few more by itself.
        let kept = std::thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .take(WAITING_LIMIT)
                .collect::<Vec<_>>()
        });
        let mut prober = start(&Target {
            per_second: 1_000,
            timeout: Duration::from_mins(1),
            ..target(url)
        });
        let measured = measured_until(&mut *prober, |m| m.total >= 100);
        assert_eq!(measured.failed, measured.total);
        assert_eq!(measured.reasons, ["256 requests had no answer yet"]);
        assert_eq!(kept.join().expect("it listened").len(), WAITING_LIMIT);
    }

    #[test]
    fn a_process_that_slept_does_not_make_up_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let mut due = due(50);
            due.tick().await;
            std::thread::sleep(Duration::from_millis(300));
            let began = Instant::now();
            for _ in 0..3 {
                due.tick().await;
            }
            assert!(
                began.elapsed() >= Duration::from_millis(15),
                "{:?}",
                began.elapsed()
            );
        });
    }

    #[test]
    fn a_client_error_is_an_answer() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let mut prober = start(&target(server(move |_| answer)));
        let measured = measured_until(&mut *prober, |m| m.total >= 10);
        assert_eq!(measured.failed, 0, "{measured:?}");
    }
}
