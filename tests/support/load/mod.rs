//! An open-loop load generator: proves, or disproves, that a deployment cost nobody an answer.
//!
//! Runs in a test, or as the example `load`, on one thread of its own. Requests are due at fixed times whatever the
//! answers do, and an answer's time is counted from when its request was due: a server that stalls is not spared the
//! requests that users would have made meanwhile. Beside that stream, as long as asked for, there is always one slow
//! request, one download and one WebSocket open, because those are what a change of versions cuts first.
//!
//! It speaks only to an address on 127.0.0.1 that has just shown, with one request, that it is the lab's application.
//! It ends by itself at its limit. What counts as failed is told in [`report`], and nothing is repeated but the one case
//! in which HTTP lets a client do so ([`Run::over_kept_connection`]).
//!
//! A report that cannot be trusted shows it: `rate` below the one asked for, or `late_*`, the generator's own lateness
//! (up to 1 ms is its timer).

// Each program that includes this uses another part of it.
#![allow(dead_code, unreachable_pub)]

mod client;
mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};

use client::{Answer, Broken, Socket, Wire};
use report::{Echo, Lasting, Log, Mark, Sample};
pub use report::{Kind, Report};

/// How long a client waits for an answer of the stream, from when its request was due, and for an echo; a slow request and
/// a download get as much more as they last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that keep their connection; they take turns.
const KEPT_CONNECTIONS: usize = 20;
const ECHO_EVERY: Duration = Duration::from_millis(100);
/// Before a long request that failed at once is made again: a server that is down is not to be hammered.
const BREATH: Duration = Duration::from_millis(100);
/// More than this is no load for a lab.
const HIGHEST_RATE: u32 = 2000;
const LONGEST: Duration = Duration::from_secs(2 * 60 * 60);

/// What is asked: not the health endpoint, which an application may fail while it answers everybody else.
const PATH: &str = "/version";

/// What the load is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Requests a second, every other one over a new connection.
    pub rate: u32,
    /// No request begins later than this after the start; the last answers are waited for.
    pub limit: Duration,
    /// What is always open beside the stream, and how long each lasts: a request that is answered after this time, a
    /// download in whole seconds, and a WebSocket until its own client closes it.
    pub slow: Option<Duration>,
    pub download: Option<Duration>,
    pub websocket: Option<Duration>,
}

impl Shape {
    /// 300 requests a second and everything beside them, for at most this long.
    pub fn usual(limit: Duration) -> Shape {
        Shape {
            rate: 300,
            limit,
            slow: Some(Duration::from_secs(5)),
            download: Some(Duration::from_secs(20)),
            websocket: Some(Duration::from_secs(60)),
        }
    }

    /// The stream alone.
    pub fn stream(rate: u32, limit: Duration) -> Shape {
        Shape {
            rate,
            limit,
            slow: None,
            download: None,
            websocket: None,
        }
    }
}

/// Why no load was put on an address.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Refused {
    #[error("{0} is not on 127.0.0.1")]
    NotHere(SocketAddr),
    #[error("{rate} requests a second for {limit:?} is out of bounds")]
    OutOfBounds { rate: u32, limit: Duration },
    #[error("{0} does not answer: {1}")]
    NoAnswer(SocketAddr, String),
    #[error("{0} answers, but not as the lab's application")]
    NotOurs(SocketAddr),
}

/// A load that runs in the background. One that is dropped ends soon, without a report.
pub struct Load {
    run: Arc<Run>,
    thread: JoinHandle<()>,
    _end: EndOnDrop,
}

impl Load {
    /// Begins, when one request has shown that this is the lab's application.
    pub fn start(addr: SocketAddr, shape: Shape) -> Result<Load, Refused> {
        if addr.ip() != Ipv4Addr::LOCALHOST {
            return Err(Refused::NotHere(addr));
        }
        let Shape { rate, limit, .. } = shape;
        if !(1..=HIGHEST_RATE).contains(&rate) || limit > LONGEST {
            return Err(Refused::OutOfBounds { rate, limit });
        }
        allow_many_connections();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                match prove_ours(addr).await {
                    Err(refused) => tell.send(Err(refused)).expect("the starter waits"),
                    Ok(()) => {
                        let run = Arc::new(Run::begin(addr, shape));
                        tell.send(Ok(Arc::clone(&run))).expect("the starter waits");
                        run.carry_out().await;
                    }
                }
            });
        });
        let run = told.recv().expect("the thread answers")?;
        let _end = EndOnDrop(Arc::clone(&run));
        Ok(Load { run, thread, _end })
    }

    /// Remembers this moment, for [`Report::between`]. A label is used once.
    pub fn mark(&self, label: &str) {
        let at = self.run.now();
        let label = label.to_owned();
        self.run.log(|log| log.marks.push(Mark { label, at }));
    }

    /// Makes no more requests, waits for the answers to those that were made, and tells what happened.
    pub fn stop(self) -> Report {
        self.run.ending.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// The same when the limit has been reached.
    pub fn finish(self) -> Report {
        self.thread
            .join()
            .expect("the generator itself does not fail");
        let log = self.run.log(std::mem::take);
        Report::whole(Arc::new(log))
    }
}

struct EndOnDrop(Arc<Run>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.ending.store(true, Ordering::Relaxed);
    }
}

/// A server that stalls has many clients at once, and they must not fail for want of descriptors.
fn allow_many_connections() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    // With the lower limit a failure names its reason.
    let _ = setrlimit(Resource::Nofile, limits);
}

/// The lab's application says so in every answer, its errors included.
async fn prove_ours(addr: SocketAddr) -> Result<(), Refused> {
    let ask = async { Wire::open(addr).await?.get("/health").await };
    match timeout(PATIENCE, ask).await {
        Err(_) => Err(Refused::NoAnswer(addr, "in time".into())),
        Ok(Err(broken)) => Err(Refused::NoAnswer(addr, broken.to_string())),
        Ok(Ok(answer)) if answer.ours => Ok(()),
        Ok(Ok(_)) => Err(Refused::NotOurs(addr)),
    }
}

/// Everything that the parts of one load share.
struct Run {
    addr: SocketAddr,
    shape: Shape,
    began: Instant,
    ending: AtomicBool,
    /// The kept connections, each in its place while it is idle.
    kept: Mutex<Vec<Option<Wire>>>,
    log: Mutex<Log>,
}

impl Run {
    fn begin(addr: SocketAddr, shape: Shape) -> Run {
        Run {
            addr,
            shape,
            began: Instant::now(),
            ending: AtomicBool::new(false),
            kept: Mutex::new((0..KEPT_CONNECTIONS).map(|_| None).collect()),
            log: Mutex::default(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn log<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        change(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn over(&self) -> bool {
        self.ending.load(Ordering::Relaxed) || self.now() >= self.shape.limit
    }

    async fn carry_out(self: Arc<Self>) {
        let used = thread_time();
        let mut lasting = JoinSet::new();
        let kinds = [
            (Kind::Slow, self.shape.slow),
            (Kind::Download, self.shape.download),
            (Kind::WebSocket, self.shape.websocket),
        ];
        for (kind, time) in kinds {
            if let Some(time) = time {
                lasting.spawn(Arc::clone(&self).keep_open(kind, time));
            }
        }
        self.stream().await;
        let share = (thread_time() - used).as_secs_f64() / self.now().as_secs_f64();
        self.log(|log| log.processor = (share * 1000.0).round() / 1000.0);
        while let Some(ended) = lasting.join_next().await {
            ended.expect("a client does not panic");
        }
    }

    // --- the stream ---

    async fn stream(self: &Arc<Self>) {
        let mut asked = JoinSet::new();
        for number in 0_u64.. {
            let due = Duration::from_secs_f64(number as f64 / f64::from(self.shape.rate));
            sleep_until((self.began + due).into()).await;
            if self.over() {
                break;
            }
            asked.spawn(Arc::clone(self).ask(number, due));
            while let Some(ended) = asked.try_join_next() {
                ended.expect("a client does not panic");
            }
        }
        let ended = self.now();
        while let Some(ended) = asked.join_next().await {
            ended.expect("a client does not panic");
        }
        self.log(|log| log.ended = ended);
    }

    async fn ask(self: Arc<Self>, number: u64, due: Duration) {
        let sent = self.now();
        let deadline = (self.began + due + PATIENCE).into();
        let (kind, answer) = if number.is_multiple_of(2) {
            let client = (number / 2) as usize % KEPT_CONNECTIONS;
            let answer = timeout_at(deadline, self.over_kept_connection(client)).await;
            (Kind::KeepAlive, answer)
        } else {
            let answer = timeout_at(deadline, self.over_new_connection(PATH)).await;
            (Kind::NewConnection, answer)
        };
        let version = judge(answer.unwrap_or(Err(Broken::Timeout)), "");
        let done = self.now();
        self.log(|log| {
            let version = version.map(|version| log.version(version));
            log.samples.push(Sample {
                kind,
                due,
                sent,
                done,
                version,
            });
        });
    }

    async fn over_new_connection(&self, path: &str) -> Result<Answer, Broken> {
        Wire::open(self.addr).await?.get(path).await
    }

    /// One that the server has closed meanwhile is followed by a new one, once, and counted. RFC 9112 §9.3.1 lets a
    /// client do so for an idempotent request, when not one byte of an answer has come over a connection that has
    /// answered before. In every other case the failure stands.
    async fn over_kept_connection(&self, client: usize) -> Result<Answer, Broken> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner)[client].take();
        let (wire, answer) = match kept {
            // Its client is still waiting for an answer, or it was not open yet: a user more.
            None => self.first_request().await?,
            Some(mut wire) => match wire.get_and_keep(PATH).await {
                Err(Broken::NothingCame(_)) => {
                    let at = self.now();
                    self.log(|log| log.reused_closed.push(at));
                    self.first_request().await?
                }
                answer => (wire, answer?),
            },
        };
        if answer.keeps && wire.is_clean() {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner)[client].get_or_insert(wire);
        }
        Ok(answer)
    }

    async fn first_request(&self) -> Result<(Wire, Answer), Broken> {
        let mut wire = Wire::open(self.addr).await?;
        let answer = wire.get_and_keep(PATH).await?;
        Ok((wire, answer))
    }

    // --- what lasts ---

    /// One after the other, without a pause unless one failed.
    async fn keep_open(self: Arc<Self>, kind: Kind, time: Duration) {
        while !self.over() {
            let began = self.now();
            let result = match kind {
                Kind::WebSocket => self.talk(time).await,
                Kind::Download => {
                    let path = format!("/download?seconds={}", time.as_secs());
                    self.long(&path, time, "end of the download from ").await
                }
                _ => {
                    let path = format!("/slow?ms={}", time.as_millis());
                    self.long(&path, time, "slow, from ").await
                }
            };
            let ended = self.now();
            if result.is_err() {
                sleep(BREATH).await;
            }
            self.log(|log| {
                log.lasting.push(Lasting {
                    kind,
                    began,
                    ended,
                    result,
                })
            });
        }
    }

    async fn long(&self, path: &str, time: Duration, last_line: &str) -> Result<(), String> {
        let asked = self.over_new_connection(path);
        let answer = timeout(time + PATIENCE, asked).await;
        judge(answer.unwrap_or(Err(Broken::Timeout)), last_line).map(drop)
    }

    /// A WebSocket from its opening until its own client closes it.
    async fn talk(&self, life: Duration) -> Result<(), String> {
        let mut socket = patiently(Socket::open(self.addr)).await?;
        let opened = Instant::now();
        for number in 0_u32.. {
            sleep_until((opened + ECHO_EVERY * number).into()).await;
            if opened.elapsed() >= life || self.over() {
                break;
            }
            let at = self.now();
            patiently(socket.echo(&format!("echo {number}"))).await?;
            let took = self.now() - at;
            self.log(|log| log.echoes.push(Echo { at, took }));
        }
        patiently(socket.close()).await
    }
}

async fn patiently<T>(doing: impl Future<Output = Result<T, Broken>>) -> Result<T, String> {
    let result = timeout(PATIENCE, doing)
        .await
        .unwrap_or(Err(Broken::Timeout));
    result.map_err(|broken| broken.to_string())
}

/// The version that gave a full and valid answer, or why it is none.
fn judge(answer: Result<Answer, Broken>, last_line: &str) -> Result<String, String> {
    let answer = answer.map_err(|broken| broken.to_string())?;
    let body = String::from_utf8_lossy(&answer.body);
    let version = &answer.version;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    if !answer.ours {
        return Err("an answer that is not the lab application's".into());
    }
    let whole = match last_line {
        "" => body.trim_end() == version || body.contains(&format!("\"version\":\"{version}\"")),
        line => body.ends_with(&format!("{line}{version}\n")),
    };
    if !whole {
        return Err(format!("a body that does not fit version {version}"));
    }
    Ok(answer.version)
}

/// What this thread has used of a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
