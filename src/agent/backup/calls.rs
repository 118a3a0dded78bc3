//! Docker called by argument lists, with a limit on its silence.
//!
//! Runs on the host. A call that fails is told with what Docker said.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Feed, ReadError, Sink};
use crate::command::{Call, drain, kill, run_within, wait};

/// How long a call may take that has little to do.
pub(super) const SHORT: Duration = Duration::from_mins(1);
/// How long a stream may say nothing.
pub(super) const SILENCE: Duration = Duration::from_mins(2);
/// How often a stream is looked at, whether it stands still.
const LOOK: Duration = Duration::from_millis(20);

/// The most that is kept of what a program says.
const MOST_WORDS: u64 = 1024 * 1024;

/// Docker's client, called so.
pub(super) fn docker_command<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    Call::new(std::iter::once("docker").chain(words)).command()
}

/// Runs Docker to its end and returns what it printed.
pub(super) fn docker<'a>(
    words: impl IntoIterator<Item = &'a str>,
    limit: Duration,
) -> Result<String, ReadError> {
    let mut command = docker_command(words);
    let (status, printed) =
        run_within(&mut command, limit, MOST_WORDS).map_err(ReadError::Start)?;
    settled(&command, Ok(status), &text(&printed.stderr), limit)?;
    Ok(text(&printed.stdout))
}

/// Runs a command and hands what it prints to `sink`, unless it stays silent for too long.
pub(super) fn stream(
    mut command: Command,
    sink: Sink<'_>,
    silence: Duration,
) -> Result<(), ReadError> {
    let take = |child: &mut Child| child.stdout.take();
    let ended = attend(&mut command, silence, SHORT, take, |output| {
        sink(output).and_then(|()| io::copy(output, &mut io::sink()).map(drop))
    })?;
    ended.worked.map_err(ReadError::Sink)?;
    settled(&command, ended.status, &ended.stderr, SHORT)
}

/// Runs a command and gives it what `source` writes, unless it takes nothing for too long. Returns what it printed.
pub(super) fn feed(
    mut command: Command,
    source: Feed<'_>,
    silence: Duration,
) -> Result<String, ReadError> {
    command.stdin(Stdio::piped());
    let take = |child: &mut Child| child.stdin.take();
    let ended = attend(&mut command, silence, silence, take, |input| source(input))?;
    // A program that gave up says why; that its input broke off then is no news.
    settled(&command, ended.status, &ended.stderr, silence)?;
    ended.worked.map_err(ReadError::Sink)?;
    Ok(ended.stdout)
}

/// What came of a command whose stream was worked on.
struct Attended {
    /// What the work at the stream came to.
    worked: io::Result<()>,
    status: io::Result<Option<ExitStatus>>,
    /// Nothing when that is the stream.
    stdout: String,
    stderr: String,
}

/// Runs a command while somebody works on one of its streams, which it may leave alone for so long; once that is done, it
/// has until `limit` to end.
fn attend<S>(
    command: &mut Command,
    silence: Duration,
    limit: Duration,
    take: impl FnOnce(&mut Child) -> Option<S>,
    work: impl FnOnce(&mut TimedStream<'_, S>) -> io::Result<()>,
) -> Result<Attended, ReadError> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ReadError::Start)?;
    let stream = take(&mut child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Mutex::new(child);
    let waiting_since = Mutex::new(None);
    let (done, is_done) = channel::<()>();
    let (ended, was_silent) = thread::scope(|scope| {
        let out = scope.spawn(|| text(&drain(stdout, MOST_WORDS)));
        let err = scope.spawn(|| text(&drain(stderr, MOST_WORDS)));
        let (child_seen, since_seen) = (&child, &waiting_since);
        let watchdog =
            scope.spawn(move || kill_when_silent(child_seen, since_seen, silence, &is_done));
        let mut timed = TimedStream {
            stream,
            waiting_since: &waiting_since,
        };
        let worked = work(&mut timed);
        // A program that reads waits for the end of its input; one that still writes learns that nobody reads.
        drop(timed);
        let status = wait(&child, limit);
        drop(done);
        let was_silent = watchdog.join().unwrap_or(false);
        let ended = Attended {
            worked,
            status,
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        };
        (ended, was_silent)
    });
    match was_silent {
        true => Err(too_long(command, silence)),
        false => Ok(ended),
    }
}

/// Watches over a stream until it is done; true when it had to be ended.
fn kill_when_silent(
    child: &Mutex<Child>,
    waiting_since: &Mutex<Option<Instant>>,
    silence: Duration,
    is_done: &Receiver<()>,
) -> bool {
    while let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(LOOK) {
        let since = *waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some_and(|since| since.elapsed() > silence) {
            kill(child);
            return true;
        }
    }
    false
}

/// A program's input or output, with the time since when we wait for it.
struct TimedStream<'a, S> {
    stream: Option<S>,
    waiting_since: &'a Mutex<Option<Instant>>,
}

impl<S> TimedStream<'_, S> {
    fn wait_for(
        &mut self,
        work: impl FnOnce(&mut S) -> io::Result<usize>,
        without: usize,
    ) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else {
            return Ok(without);
        };
        let note = |since| {
            *self
                .waiting_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = since;
        };
        note(Some(Instant::now()));
        let result = work(stream);
        note(None);
        result
    }
}

impl Read for TimedStream<'_, ChildStdout> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for(|stream| stream.read(buffer), 0)
    }
}

impl Write for TimedStream<'_, ChildStdin> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.wait_for(|stream| stream.write(buffer), buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error of a command that ended so, if it is one.
pub(super) fn settled(
    command: &Command,
    status: io::Result<Option<ExitStatus>>,
    said: &str,
    limit: Duration,
) -> Result<(), ReadError> {
    match status.map_err(ReadError::Start)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let said = if said.trim().is_empty() {
                status.to_string()
            } else {
                said.trim().to_owned()
            };
            Err(ReadError::said(described(command), said))
        }
        None => Err(too_long(command, limit)),
    }
}

fn too_long(command: &Command, limit: Duration) -> ReadError {
    ReadError::TooLong {
        what: described(command),
        seconds: limit.as_secs(),
    }
}

/// A call as messages name it: the program and its first words, which hold nobody's data.
fn described(command: &Command) -> String {
    let words = command
        .get_args()
        .take(2)
        .filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    let mut text = command.get_program().to_string_lossy().into_owned();
    for word in words {
        text.push(' ');
        text.push_str(&word.to_string_lossy());
    }
    text
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_stays_silent_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut sink = |stream: &mut dyn Read| io::copy(stream, &mut io::sink()).map(drop);
        let began = Instant::now();
        let result = stream(command, &mut sink, Duration::from_millis(100));
        assert!(
            matches!(result, Err(ReadError::TooLong { .. })),
            "{result:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_failure_after_the_stream_is_a_failure() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo half; echo no space >&2; exit 3"]);
        let mut sink = |stream: &mut dyn Read| io::copy(stream, &mut io::sink()).map(drop);
        let result = stream(command, &mut sink, SILENCE);
        assert!(
            matches!(&result, Err(ReadError::Docker { said, .. }) if said == "no space"),
            "{result:?}"
        );
    }
}
