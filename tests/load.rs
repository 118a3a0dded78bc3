//! The load generator tells the truth: each kind of trouble that a server can make is in the report, and nothing else.
//!
//! The server here makes exactly the trouble that a test asks for, and counts it. What lasts longer than a request is
//! tried with the lab's application, which is compiled for it (`dist-scripts/lab app`); how that ends on SIGTERM, the
//! proof of zero downtime depends on. Needs no Docker.

#[path = "support/load/mod.rs"]
mod load;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use load::{Kind, Load, Refused, Report, Shape};
use rustix::process::{Pid, Signal, kill_process};

const MINUTE: Duration = Duration::from_secs(60);
/// Longest that a test waits for something that has to come.
const PATIENCE: Duration = Duration::from_secs(20);

// --- a server that does as it is told --------------------------------------------------------------------------------

/// What the server is asked.
struct Asked {
    health: bool,
    /// The how-manieth request of the stream, from 0.
    number: u64,
    /// Whether its connection has answered before.
    reused: bool,
}

/// What it does.
#[derive(Clone, Copy)]
enum Deed {
    Answer(&'static str),
    /// The headers say another version than the body.
    Mix,
    Unmarked,
    Status(&'static str),
    /// Closes without a byte.
    Drop,
    /// Resets without a byte.
    Reset,
    CutHead,
    CutBody,
    /// Answers, says that the connection can be used again, and closes it.
    AnswerAndClose,
    /// Answers when the stall is over.
    Wait,
    Never,
}

type Script = dyn Fn(&Asked) -> Deed + Send + Sync;

struct Server {
    addr: SocketAddr,
    asked: AtomicU64,
    proofs: AtomicUsize,
    gone: AtomicBool,
    stalled: Mutex<bool>,
    goes_on: Condvar,
}

impl Server {
    fn start(script: impl Fn(&Asked) -> Deed + Send + Sync + 'static) -> Arc<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let server = Arc::new(Server {
            addr: listener.local_addr().expect("an address"),
            asked: AtomicU64::new(0),
            proofs: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            stalled: Mutex::new(false),
            goes_on: Condvar::new(),
        });
        let (script, accepting): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&server));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.gone.load(Ordering::SeqCst) {
                    return;
                }
                let (server, script) = (Arc::clone(&accepting), Arc::clone(&script));
                thread::spawn(move || server.converse(stream, &*script));
            }
        });
        server
    }

    /// Nobody listens any more, and every connection ends.
    fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }

    fn stall(&self, time: Duration) {
        *self.stalled.lock().expect("whole") = true;
        thread::sleep(time);
        *self.stalled.lock().expect("whole") = false;
        self.goes_on.notify_all();
    }

    fn wait_for(&self, requests: u64) {
        wait_until(|| self.asked.load(Ordering::SeqCst) >= requests);
    }

    fn converse(&self, mut stream: TcpStream, script: &Script) {
        let mut reused = false;
        while let Ok(request) = peek_request(&stream) {
            if self.gone.load(Ordering::SeqCst) {
                return;
            }
            let health = request.starts_with("GET /health ");
            let number = match health {
                true => self.proofs.fetch_add(1, Ordering::SeqCst) as u64,
                false => self.asked.fetch_add(1, Ordering::SeqCst),
            };
            let deed = script(&Asked {
                health,
                number,
                reused,
            });
            let keeps = request.contains("keep-alive");
            if !self.act(&mut stream, deed, request.len(), keeps) || !keeps {
                return;
            }
            reused = true;
        }
    }

    /// Says whether the connection goes on.
    fn act(&self, stream: &mut TcpStream, deed: Deed, request: usize, keeps: bool) -> bool {
        // The kernel resets a connection that is closed before everything was read.
        if matches!(deed, Deed::Reset) {
            return false;
        }
        stream
            .read_exact(&mut vec![0; request])
            .expect("it was there already");
        let whole = |status: &str, marked: &str, version: &str| {
            let body = format!("{{\"version\":\"{version}\"}}\n");
            let connection = if keeps { "keep-alive" } else { "close" };
            format!(
                "HTTP/1.1 {status}\r\n{marked}Connection: {connection}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let marks = |version: &str| format!("X-Belay-Lab: 1\r\nX-App-Version: {version}\r\n");
        let good = |version| whole("200 OK", &marks(version), version);
        let (bytes, goes_on) = match deed {
            Deed::Answer(version) => (good(version), true),
            Deed::Mix => (whole("200 OK", &marks("v1"), "v2"), true),
            Deed::Unmarked => (whole("200 OK", "X-App-Version: v1\r\n", "v1"), true),
            Deed::Status(status) => (whole(status, &marks("v1"), "v1"), true),
            Deed::AnswerAndClose => (good("v1"), false),
            Deed::CutHead => ("HTTP/1.1 200 OK\r\nX-Bel".into(), false),
            Deed::CutBody => (good("v1").trim_end_matches("\"}\n").into(), false),
            Deed::Drop | Deed::Reset => (String::new(), false),
            Deed::Wait => {
                // Not by looking again and again: hundreds wait at once, and the load has to be able to go on.
                let stalled = self.stalled.lock().expect("whole");
                drop(self.goes_on.wait_while(stalled, |stalled| *stalled));
                (good("v1"), true)
            }
            Deed::Never => {
                // Until the client has had enough.
                let _ = stream.read(&mut [0]);
                (String::new(), false)
            }
        };
        stream.write_all(bytes.as_bytes()).is_ok() && goes_on
    }
}

/// The next request, left where it is.
fn peek_request(stream: &TcpStream) -> io::Result<String> {
    let mut bytes = [0; 2048];
    loop {
        let have = stream.peek(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes[..have]).into_owned();
        match text.ends_with("\r\n\r\n") {
            true => return Ok(text),
            false if have == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            false => thread::yield_now(),
        }
    }
}

#[track_caller]
fn wait_until(mut true_now: impl FnMut() -> bool) {
    let began = Instant::now();
    while !true_now() {
        assert!(began.elapsed() < PATIENCE, "it did not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Loads the server until it was asked so often.
fn load_with(server: &Server, rate: u32, requests: u64) -> Report {
    let load = Load::start(server.addr, Shape::stream(rate, MINUTE)).expect("it is ours");
    server.wait_for(requests);
    load.stop()
}

/// A server that does something in every fiftieth request over a new connection and in every fiftieth over one that has
/// answered before, and how often it did so.
fn every_fiftieth(deed: Deed) -> (Report, [u64; 2]) {
    let seen: Arc<[AtomicU64; 2]> = Arc::default();
    let seeing = Arc::clone(&seen);
    let server = Server::start(move |asked| {
        if asked.health {
            return Deed::Answer("v1");
        }
        match seeing[usize::from(asked.reused)].fetch_add(1, Ordering::SeqCst) % 50 {
            49 => deed,
            _ => Deed::Answer("v1"),
        }
    });
    let report = load_with(&server, 600, 500);
    let struck = [0, 1].map(|kind| seen[kind].load(Ordering::SeqCst) / 50);
    assert!(struck[0] >= 2 && struck[1] >= 2, "{struck:?} were struck");
    (report, struck)
}

#[track_caller]
fn all_failed_with(report: &Report, count: u64, reason: &str) {
    assert_eq!(report.failed, count, "{report:#?}");
    assert!(
        report
            .failures
            .iter()
            .all(|failure| failure.reason == reason),
        "{:#?}",
        report.failures
    );
}

// --- the stream ------------------------------------------------------------------------------------------------------

#[test]
fn a_good_server_has_no_failures_and_gets_the_rate() {
    let server = Server::start(|_| Deed::Answer("v1"));
    let report = load_with(&server, 300, 900);
    assert_eq!(report.failed, 0, "{report:#?}");
    assert_eq!(report.total, server.asked.load(Ordering::SeqCst));
    assert!((285.0..=301.0).contains(&report.rate), "{report:#?}");
    let [kept, new] =
        [Kind::KeepAlive, Kind::NewConnection].map(|kind| report.requests[&kind].total);
    assert!(kept.abs_diff(new) <= 1, "{kept} and {new}");
    let versions: Vec<&str> = report
        .versions
        .iter()
        .map(|change| change.version.as_str())
        .collect();
    assert_eq!(
        (versions, report.interleavings, report.reused_closed),
        (vec!["v1"], 0, 0)
    );
}

#[test]
fn a_dropped_request_fails_and_only_a_reused_connection_is_given_another_try() {
    let (report, [new, reused]) = every_fiftieth(Deed::Drop);
    all_failed_with(&report, new, "closed before an answer");
    assert_eq!(report.reused_closed, reused);
}

#[test]
fn a_reset_fails_and_only_a_reused_connection_is_given_another_try() {
    let (report, [new, reused]) = every_fiftieth(Deed::Reset);
    all_failed_with(&report, new, "ConnectionReset before an answer");
    assert_eq!(report.reused_closed, reused);
}

#[test]
fn an_answer_that_began_is_never_asked_for_again() {
    let (report, [new, reused]) = every_fiftieth(Deed::CutHead);
    all_failed_with(&report, new + reused, "cut: closed in the head");
    let (report, [new, reused]) = every_fiftieth(Deed::CutBody);
    all_failed_with(&report, new + reused, "cut: closed after 14 of 17 bytes");
    assert_eq!(report.reused_closed, 0);
}

#[test]
fn answers_that_are_not_good_ones_fail() {
    let (report, struck) = every_fiftieth(Deed::Status("503 Service Unavailable"));
    all_failed_with(&report, struck.iter().sum(), "status 503");
    let (report, struck) = every_fiftieth(Deed::Mix);
    all_failed_with(
        &report,
        struck.iter().sum(),
        "a body that does not fit version v1",
    );
    let (report, struck) = every_fiftieth(Deed::Unmarked);
    all_failed_with(
        &report,
        struck.iter().sum(),
        "an answer that is not the lab application's",
    );
}

#[test]
fn a_connection_closed_between_requests_is_counted_apart() {
    let server = Server::start(|asked| match asked.number % 51 {
        7 => Deed::AnswerAndClose,
        _ => Deed::Answer("v1"),
    });
    let report = load_with(&server, 300, 600);
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!(report.reused_closed > 0);
}

#[test]
fn a_stall_is_told_as_long_as_it_was_and_by_every_request_that_met_it() {
    let server = Server::start(|asked| {
        if asked.health {
            Deed::Answer("v1")
        } else {
            Deed::Wait
        }
    });
    let load = Load::start(server.addr, Shape::stream(300, MINUTE)).expect("it is ours");
    server.wait_for(100);
    load.mark("stalls");
    let before = server.asked.load(Ordering::SeqCst);
    server.stall(Duration::from_secs(2));
    // Clients that wait for their answers would have sent only a handful meanwhile.
    let asked = server.asked.load(Ordering::SeqCst) - before;
    load.mark("stalled");
    server.wait_for(700);
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!(
        (1900.0..4000.0).contains(&report.longest_gap_ms),
        "{report:#?}"
    );
    let meanwhile = report.between("stalls", "stalled");
    assert!(
        asked >= 550 && meanwhile.total >= asked,
        "{asked}: {meanwhile:#?}"
    );
    assert!(
        meanwhile.p50_ms > 800.0 && report.p99_ms > 1700.0,
        "{meanwhile:#?}"
    );
}

#[test]
fn a_request_that_is_never_answered_fails_after_ten_seconds() {
    let server = Server::start(|asked| match (asked.health, asked.number) {
        (false, 30) => Deed::Never,
        _ => Deed::Answer("v1"),
    });
    let report = load_with(&server, 300, 100);
    all_failed_with(&report, 1, "no answer in time");
    let failure = &report.failures[0];
    assert!(
        (9_999.0..15_000.0).contains(&(failure.until_ms - failure.ms)),
        "{failure:?}"
    );
}

#[test]
fn a_server_that_leaves_is_a_gap_until_the_end() {
    let server = Server::start(|_| Deed::Answer("v1"));
    let load = Load::start(server.addr, Shape::stream(300, MINUTE)).expect("it is ours");
    server.wait_for(100);
    server.leave();
    load.mark("left");
    thread::sleep(Duration::from_secs(1));
    load.mark("over");
    let report = load.stop();
    let after = report.between("left", "over");
    assert!(
        after.failed >= 250 && after.longest_gap_ms >= 950.0,
        "{after:#?}"
    );
    assert_eq!(report.failures.len(), 20, "the first ones are listed");
}

#[test]
fn versions_are_told_in_the_order_in_which_they_answered() {
    let server = Server::start(|asked| match asked.number {
        0..200 => Deed::Answer("v1"),
        200..400 => Deed::Answer("v2"),
        _ => Deed::Answer("v1"),
    });
    // One at a time, nearly: two answers at once may overtake each other.
    let load = Load::start(server.addr, Shape::stream(100, MINUTE)).expect("it is ours");
    server.wait_for(600);
    let report = load.stop();
    let versions: Vec<&str> = report
        .versions
        .iter()
        .map(|change| change.version.as_str())
        .collect();
    assert_eq!(
        (versions, report.interleavings),
        (vec!["v1", "v2", "v1"], 1),
        "{report:#?}"
    );
}

#[test]
fn a_window_has_what_happened_in_it() {
    static BAD: AtomicBool = AtomicBool::new(false);
    let server = Server::start(|_| match BAD.load(Ordering::SeqCst) {
        true => Deed::Status("502 Bad Gateway"),
        false => Deed::Answer("v1"),
    });
    let load = Load::start(server.addr, Shape::stream(300, MINUTE)).expect("it is ours");
    load.mark("start");
    server.wait_for(100);
    load.mark("good");
    // Between a mark and the change, and the other way round, everything that was made before it has ended.
    server.wait_for(200);
    BAD.store(true, Ordering::SeqCst);
    server.wait_for(250);
    load.mark("amid");
    server.wait_for(300);
    BAD.store(false, Ordering::SeqCst);
    server.wait_for(400);
    load.mark("good again");
    server.wait_for(500);
    load.mark("end");
    let report = load.stop();
    let before = report.between("start", "good");
    let bad = report.between("good", "good again");
    let after = report.between("good again", "end");
    assert!(bad.failed > 50, "{bad:#?}");
    assert_eq!(
        (before.failed, bad.failed, after.failed),
        (0, report.failed, 0)
    );
    assert!(
        before.longest_gap_ms.max(after.longest_gap_ms) < bad.longest_gap_ms,
        "{bad:#?}"
    );
    // A gap that began before a mark belongs to both sides of it, as a whole.
    assert_eq!(
        report.between("amid", "good again").longest_gap_ms,
        bad.longest_gap_ms
    );
}

// --- what no load is put on ------------------------------------------------------------------------------------------

#[test]
fn what_does_not_say_that_it_is_ours_is_asked_once() {
    let server = Server::start(|_| Deed::Unmarked);
    let refused = Load::start(server.addr, Shape::usual(MINUTE)).err();
    assert_eq!(refused, Some(Refused::NotOurs(server.addr)));
    let asked = (
        server.proofs.load(Ordering::SeqCst),
        server.asked.load(Ordering::SeqCst),
    );
    assert_eq!(asked, (1, 0));
}

#[test]
fn another_address_is_not_asked_at_all() {
    for addr in ["192.0.2.1:80", "127.0.0.2:80", "[::1]:80"] {
        let addr: SocketAddr = addr.parse().expect("an address");
        assert_eq!(
            Load::start(addr, Shape::usual(MINUTE)).err(),
            Some(Refused::NotHere(addr))
        );
    }
}

#[test]
fn a_load_has_bounds() {
    let server = Server::start(|_| Deed::Answer("v1"));
    for (rate, limit) in [(0, MINUTE), (2001, MINUTE), (300, MINUTE * 121)] {
        let refused = Load::start(server.addr, Shape::stream(rate, limit)).err();
        assert_eq!(refused, Some(Refused::OutOfBounds { rate, limit }));
    }
    let began = Instant::now();
    let load = Load::start(server.addr, Shape::stream(300, Duration::from_secs(1)));
    let report = load.expect("it is ours").finish();
    assert!(
        began.elapsed() < PATIENCE && report.total <= 300,
        "{report:#?}"
    );
}

// --- what lasts, and the application ---------------------------------------------------------------------------------

/// The lab's application as a process of this machine; it is killed when this is dropped.
struct App {
    process: Child,
    addr: SocketAddr,
}

impl App {
    fn start(stop_ms: &str) -> App {
        // The port may be gone again until the application takes it; then once more.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let addr = listener.local_addr().expect("an address");
            drop(listener);
            let mut process = Command::new(app_binary())
                .env("PORT", addr.port().to_string())
                .env("APP_VERSION", "v1")
                .env("APP_STOP_MS", stop_ms)
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts");
            let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
            if lines
                .by_ref()
                .map_while(Result::ok)
                .any(|line| line.starts_with("listening"))
            {
                // What it says later has to go somewhere.
                thread::spawn(move || lines.for_each(drop));
                return App { process, addr };
            }
            process.wait().expect("it has ended");
        }
        panic!("the application does not listen");
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.process.id().try_into().expect("a pid")).expect("a pid");
        kill_process(pid, Signal::TERM).expect("it is ours");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(|| {
            status = self.process.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn app_binary() -> &'static str {
    static APP: OnceLock<String> = OnceLock::new();
    APP.get_or_init(|| {
        let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/dist-scripts/lab");
        let output = Command::new(lab)
            .arg("app")
            .output()
            .expect("the script runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

fn ask(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
}

/// Everything that comes until the server closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("the server closes, and does not reset");
    text
}

#[test]
fn the_application_answers_what_runs_closes_what_is_idle_and_exits_with_0() {
    let mut app = App::start("15000");
    let [mut idle, mut slow, mut download] = [app.connect(), app.connect(), app.connect()];
    ask(&mut idle, "/health");
    let mut bytes = [0; 4096];
    let have = idle.read(&mut bytes).expect("an answer");
    assert!(String::from_utf8_lossy(&bytes[..have]).contains("Connection: keep-alive"));
    ask(&mut slow, "/slow?ms=1500");
    ask(&mut download, "/download?seconds=2");
    assert!(download.read(&mut bytes).expect("it begins") > 0);

    app.terminate();
    let began = Instant::now();
    assert_eq!(rest(&mut idle), "");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "the idle one waited for the others"
    );
    wait_until(|| TcpStream::connect(app.addr).is_err());
    let answer = rest(&mut slow);
    assert!(
        answer.contains("Connection: close\r\n") && answer.ends_with("slow, from v1\n"),
        "{answer}"
    );
    assert!(rest(&mut download).ends_with("end of the download from v1\n"));
    assert_eq!(app.end().code(), Some(0));
}

#[test]
fn slow_requests_downloads_and_web_sockets_come_to_their_end() {
    let app = App::start("9000");
    let shape = Shape {
        slow: Some(Duration::from_millis(600)),
        download: Some(Duration::from_secs(1)),
        websocket: Some(Duration::from_secs(1)),
        ..Shape::usual(Duration::from_secs(3))
    };
    let report = Load::start(app.addr, shape).expect("it is ours").finish();
    assert_eq!(report.failed, 0, "{report:#?}");
    for kind in [Kind::Slow, Kind::Download, Kind::WebSocket] {
        let long = &report.lasting[&kind];
        assert!(long.completed >= 2 && long.cut == 0, "{kind:?}: {long:?}");
    }
    assert!((15..=33).contains(&report.echoes), "{report:#?}");
}

#[test]
fn a_slow_request_a_download_and_a_web_socket_that_are_cut_are_told() {
    let mut app = App::start("300");
    let load = Load::start(
        app.addr,
        Shape {
            rate: 1,
            ..Shape::usual(MINUTE)
        },
    )
    .expect("it is ours");
    load.mark("start");
    thread::sleep(Duration::from_secs(1));
    app.terminate();
    assert_eq!(app.end().code(), Some(0));
    load.mark("end");
    let report = load.stop().between("start", "end");
    let reason = |kind| {
        let failure = report.failures.iter().find(|failure| failure.kind == kind);
        failure.map_or("none", |failure| failure.reason.as_str())
    };
    assert_eq!(
        reason(Kind::WebSocket),
        "cut: the server closed the WebSocket with 1001"
    );
    assert_eq!(reason(Kind::Slow), "closed before an answer");
    let download = reason(Kind::Download);
    assert!(
        download.starts_with("cut: ") && download.ends_with(" bytes"),
        "{download}"
    );
}
