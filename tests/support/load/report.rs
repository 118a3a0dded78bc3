//! What a load came to: pure, from the list of everything that happened to numbers.
//!
//! **Failed** is every request without a full and valid answer: no connection, a connection that ended early, a body that
//! is cut or does not fit the version that the headers name, a status other than 200, no answer within 10 s (of a slow
//! request and a download: 10 s longer than they last), an answer that is not the lab application's; and a WebSocket
//! that did not echo or that its own client did not close.
//!
//! What touches a window of time belongs to it with its whole length: a gap that begins before a mark is not halved.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// How many failures, and how many changes of the version, a report lists.
const LISTED: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    KeepAlive,
    NewConnection,
    Slow,
    Download,
    #[serde(rename = "websocket")]
    WebSocket,
}

/// A request of the stream. All times are since the start of the load.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) kind: Kind,
    pub(super) due: Duration,
    pub(super) sent: Duration,
    pub(super) done: Duration,
    /// The number of the version that gave a good answer, or why there is none.
    pub(super) version: Result<usize, String>,
}

/// A slow request, a download or a WebSocket.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) kind: Kind,
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) result: Result<(), String>,
}

#[derive(Debug)]
pub(super) struct Echo {
    pub(super) at: Duration,
    pub(super) took: Duration,
}

#[derive(Debug)]
pub(super) struct Mark {
    pub(super) label: String,
    pub(super) at: Duration,
}

/// Everything that happened.
#[derive(Default)]
pub(super) struct Log {
    pub(super) samples: Vec<Sample>,
    pub(super) lasting: Vec<Lasting>,
    pub(super) echoes: Vec<Echo>,
    pub(super) reused_closed: Vec<Duration>,
    pub(super) marks: Vec<Mark>,
    /// When the last request had been made.
    pub(super) ended: Duration,
    /// The generator's share of one processor.
    pub(super) processor: f64,
    versions: Vec<String>,
}

impl fmt::Debug for Log {
    /// Nobody reads some thousand samples in the message of a test.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log of {} samples", self.samples.len())
    }
}

impl Log {
    /// The number of a version; there are few of them, and many answers.
    pub(super) fn version(&mut self, version: String) -> usize {
        let known = self.versions.iter().position(|known| *known == version);
        known.unwrap_or_else(|| {
            self.versions.push(version);
            self.versions.len() - 1
        })
    }
}

/// What is told of a load, or of a window of it. Milliseconds are since the start of the load.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub from_ms: f64,
    pub to_ms: f64,
    /// Requests of the stream that were made in a second, on average.
    pub rate: f64,
    /// Requests of the stream, and each slow request, download and WebSocket.
    pub total: u64,
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Longest time without a good answer of the stream.
    pub longest_gap_ms: f64,
    /// Of the good answers of the stream, from when their requests were due.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// How much later than due the generator itself made its requests.
    pub late_p99_ms: f64,
    pub late_max_ms: f64,
    /// Kept connections that were closed between two requests, whose request was made once more.
    pub reused_closed: u64,
    /// The first changes of the version that answers, the first version included.
    pub versions: Vec<Change>,
    /// How often it changed back to a version that had answered before.
    pub interleavings: u64,
    /// The stream.
    pub requests: BTreeMap<Kind, Requests>,
    /// What lasts longer.
    pub lasting: BTreeMap<Kind, Long>,
    pub echoes: u64,
    pub longest_echo_ms: f64,
    /// The generator's share of one processor, while it made requests.
    pub processor: f64,
    pub marks: Vec<(String, f64)>,
    #[serde(skip)]
    log: Arc<Log>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// When the request was due.
    pub ms: f64,
    /// When it had failed.
    pub until_ms: f64,
    pub kind: Kind,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    pub ms: f64,
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Requests {
    pub total: u64,
    pub failed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Long {
    pub completed: u64,
    pub cut: u64,
}

impl Report {
    pub(super) fn whole(log: Arc<Log>) -> Report {
        let last = log.lasting.iter().map(|lasting| lasting.ended);
        let last = last
            .chain(log.samples.iter().map(|sample| sample.done))
            .max();
        let ended = log.ended;
        Report::of(
            log,
            Window {
                from: Duration::ZERO,
                to: last.unwrap_or_default().max(ended),
            },
        )
    }

    /// The same load, but only what touches the time between two marks.
    ///
    /// # Panics
    /// When one of them was never set: a test that asks for it is wrong.
    pub fn between(&self, from: &str, to: &str) -> Report {
        let at = |label: &str| {
            let mark = self.log.marks.iter().find(|mark| mark.label == label);
            mark.unwrap_or_else(|| panic!("nobody marked {label:?}")).at
        };
        Report::of(
            Arc::clone(&self.log),
            Window {
                from: at(from),
                to: at(to),
            },
        )
    }

    fn of(log: Arc<Log>, window: Window) -> Report {
        let samples: Vec<&Sample> = log
            .samples
            .iter()
            .filter(|s| window.touches(s.due, s.done))
            .collect();
        let lasting: Vec<&Lasting> = log
            .lasting
            .iter()
            .filter(|l| window.touches(l.began, l.ended))
            .collect();
        let failures = failures(&samples, &lasting);
        let mut good: Vec<(&Sample, usize)> = samples
            .iter()
            .filter_map(|sample| Some((*sample, *sample.version.as_ref().ok()?)))
            .collect();
        good.sort_by_key(|(sample, _)| sample.done);
        let latencies = sorted(good.iter().map(|(sample, _)| sample.done - sample.due));
        let late = sorted(samples.iter().map(|sample| sample.sent - sample.due));
        let (versions, interleavings) = changes(&good, &log.versions);
        let echoes = log
            .echoes
            .iter()
            .filter(|echo| window.touches(echo.at, echo.at + echo.took));
        let echoes = sorted(echoes.map(|echo| echo.took));
        Report {
            from_ms: ms(window.from),
            to_ms: ms(window.to),
            rate: rate(&log, window),
            total: (samples.len() + lasting.len()) as u64,
            failed: failures.len() as u64,
            failures: failures.into_iter().take(LISTED).collect(),
            longest_gap_ms: ms(longest_gap(&log, window)),
            p50_ms: quantile(&latencies, 0.5),
            p99_ms: quantile(&latencies, 0.99),
            max_ms: quantile(&latencies, 1.0),
            late_p99_ms: quantile(&late, 0.99),
            late_max_ms: quantile(&late, 1.0),
            reused_closed: log
                .reused_closed
                .iter()
                .filter(|at| window.touches(**at, **at))
                .count() as u64,
            versions,
            interleavings,
            requests: requests(&samples),
            lasting: long(&lasting),
            echoes: echoes.len() as u64,
            longest_echo_ms: quantile(&echoes, 1.0),
            processor: log.processor,
            marks: log
                .marks
                .iter()
                .map(|mark| (mark.label.clone(), ms(mark.at)))
                .collect(),
            log,
        }
    }
}

#[derive(Clone, Copy)]
struct Window {
    from: Duration,
    to: Duration,
}

impl Window {
    fn touches(self, began: Duration, ended: Duration) -> bool {
        began <= self.to && ended >= self.from
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times
}

/// The smallest value that is not exceeded by this share of them.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().map_or(0.0, ms)
}

fn rate(log: &Log, window: Window) -> f64 {
    let to = window.to.min(log.ended);
    let made = log
        .samples
        .iter()
        .filter(|s| (window.from..to).contains(&s.sent))
        .count();
    let seconds = to.saturating_sub(window.from).as_secs_f64();
    if seconds == 0.0 {
        0.0
    } else {
        (made as f64 / seconds * 10.0).round() / 10.0
    }
}

/// Between two good answers, and between them and the ends of the load: nothing before the first or after the last one
/// is a gap, too.
fn longest_gap(log: &Log, window: Window) -> Duration {
    let good = log.samples.iter().filter(|sample| sample.version.is_ok());
    let mut times = sorted(good.map(|sample| sample.done.min(log.ended)));
    times.insert(0, Duration::ZERO);
    times.push(log.ended);
    let gaps = times.windows(2).map(|pair| (pair[0], pair[1]));
    let gaps = gaps.filter(|(from, to)| window.touches(*from, *to));
    gaps.map(|(from, to)| to - from).max().unwrap_or_default()
}

fn failures(samples: &[&Sample], lasting: &[&Lasting]) -> Vec<Failure> {
    let failure = |kind, began, ended, reason: &String| Failure {
        ms: ms(began),
        until_ms: ms(ended),
        kind,
        reason: reason.clone(),
    };
    let of_stream = samples
        .iter()
        .filter_map(|s| Some(failure(s.kind, s.due, s.done, s.version.as_ref().err()?)));
    let of_lasting = lasting
        .iter()
        .filter_map(|l| Some(failure(l.kind, l.began, l.ended, l.result.as_ref().err()?)));
    let mut failures: Vec<Failure> = of_stream.chain(of_lasting).collect();
    failures.sort_by(|one, other| one.until_ms.total_cmp(&other.until_ms));
    failures
}

/// The changes of the version in the order of the answers, and how many of them led back.
fn changes(good: &[(&Sample, usize)], names: &[String]) -> (Vec<Change>, u64) {
    let (mut changes, mut seen, mut last, mut back) = (Vec::new(), Vec::new(), None, 0);
    for (sample, version) in good {
        if last == Some(*version) {
            continue;
        }
        last = Some(*version);
        match seen.contains(version) {
            true => back += 1,
            false => seen.push(*version),
        }
        if changes.len() < LISTED {
            changes.push(Change {
                ms: ms(sample.done),
                version: names[*version].clone(),
            });
        }
    }
    (changes, back)
}

fn requests(samples: &[&Sample]) -> BTreeMap<Kind, Requests> {
    let mut requests: BTreeMap<Kind, Requests> = BTreeMap::new();
    for sample in samples {
        let of_kind = requests.entry(sample.kind).or_default();
        of_kind.total += 1;
        of_kind.failed += u64::from(sample.version.is_err());
    }
    requests
}

fn long(lasting: &[&Lasting]) -> BTreeMap<Kind, Long> {
    let mut long: BTreeMap<Kind, Long> = BTreeMap::new();
    for one in lasting {
        let of_kind = long.entry(one.kind).or_default();
        match one.result {
            Ok(()) => of_kind.completed += 1,
            Err(_) => of_kind.cut += 1,
        }
    }
    long
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one thing that no test of a whole load can bring about: a generator that itself is late.
    #[test]
    fn a_late_generator_does_not_make_the_server_look_faster() {
        let sample = |due| Sample {
            kind: Kind::KeepAlive,
            due: Duration::from_millis(due),
            sent: Duration::from_millis(due + 700),
            done: Duration::from_millis(due + 701),
            version: Ok(0),
        };
        let mut log = Log {
            samples: [0, 100, 200].map(sample).into(),
            ended: Duration::from_secs(1),
            ..Log::default()
        };
        log.version("v1".into());
        let report = Report::whole(Arc::new(log));
        assert_eq!((report.p50_ms, report.late_p99_ms), (701.0, 700.0));
        assert_eq!(report.longest_gap_ms, 701.0);
    }
}
