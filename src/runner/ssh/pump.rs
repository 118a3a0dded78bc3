//! Runs one command: pumps its input in and its output out until its end is seen.
//!
//! Runs on the runner; I/O. One loop does everything without blocking: it writes what the host will take, reads what
//! has come, and only when neither moved waits on the socket. So it notices a command that ends while its input is
//! still being written (a blocking write never would), a host that has fallen silent, a deadline, and an interrupt. It
//! promises that an [`Exit`] with a status is only returned when output, end of file and close of the channel were all
//! received and the status was confirmed; everything else is an error or a status of `None`.

use std::io::{self, ErrorKind, Read, Write as _};
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use ssh2::Channel;

use super::command::{ExitMark, Tail};
use super::error::{ConnectStage, Loss};
use super::link::{Stop, TICK, Want, would_block};
use super::{Interrupt, RemoteCommand, SshConnection, SshError};
use crate::random;

/// How long a command may run.
#[derive(Debug, Clone)]
pub struct ExecLimits {
    /// From the call to the end of the command.
    pub deadline: Duration,
    /// The longest time in which the command neither takes input nor gives output. Time spent waiting for the local
    /// input does not count.
    pub idle: Duration,
    /// Stops the command's transfer, within about a tenth of a second.
    pub interrupt: Interrupt,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The status, if the host truly sent one. `None` never means success. A status above 128 is a signal plus 128.
    pub status: Option<i32>,
    /// The signal that ended the session's shell, without `SIG`, if the host reported one.
    pub signal: Option<String>,
    /// Whether all the output was received; not when the caller asked to stop.
    pub eof: bool,
    /// The end of what the command wrote to stderr, at most 64 KiB.
    pub stderr: String,
}

impl Exit {
    /// Whether the command is known to have ended well.
    #[must_use]
    pub fn success(&self) -> bool {
        self.eof && self.status == Some(0)
    }
}

/// Per turn and direction at most this many packets, so that neither direction starves the other.
const TURN: usize = 64;
/// libssh2 sends at most 32,700 bytes at a time; larger pieces save reads of the input.
const INPUT_BUFFER: usize = 256 * 1024;
const OUTPUT_BUFFER: usize = 64 * 1024;
/// What the host may send before it must wait for us: enough for fast downloads over long distances.
const RECEIVE_WINDOW: u32 = 8 * 1024 * 1024;
const LARGEST_PACKET: u32 = 32 * 1024;
/// How long to wait for the goodbye of a command whose end is known.
const GOODBYE: Duration = Duration::from_secs(2);
/// A wait shorter than this was none.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How soon to look again at something that cannot be waited for, such as an input that had nothing yet.
const PAUSE: Duration = Duration::from_millis(5);

impl SshConnection {
    /// Runs one command. `input` becomes its stdin and may be gigabytes; an input that has nothing yet may answer
    /// [`ErrorKind::WouldBlock`] and is asked again soon, so that the link is looked after meanwhile. `on_stdout` sees
    /// the output in chunks as it comes and may stop the transfer.
    ///
    /// After a stop, and after an error, the connection is of no more use, save after [`SshError::ExecRefused`].
    pub fn exec(
        &self,
        command: &RemoteCommand,
        input: &mut dyn Read,
        on_stdout: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
        limits: ExecLimits,
    ) -> Result<Exit, SshError> {
        if self.abandoned.get() {
            return Err(self.lost(Loss::Earlier));
        }
        let result = self.run(command, input, on_stdout, &limits);
        match &result {
            Ok(_) | Err(SshError::ExecRefused { .. }) => {}
            Err(_) => self.abandon(),
        }
        result
    }

    fn run(
        &self,
        command: &RemoteCommand,
        input: &mut dyn Read,
        on_stdout: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
        limits: &ExecLimits,
    ) -> Result<Exit, SshError> {
        let until = Instant::now() + limits.deadline;
        let mark = ExitMark::new(random::number());
        let channel = self.start(&command.line(&mark), until, limits)?;
        let mut pump = Pump {
            connection: self,
            channel,
            limits,
            until,
            feed: InputFeed::Open,
            input: vec![0; INPUT_BUFFER],
            unsent: 0..0,
            output: vec![0; OUTPUT_BUFFER],
            stderr: Tail::default(),
            calm: QuietTime::default(),
        };
        let end = pump.pump(input, on_stdout)?;
        match end {
            CommandEnd::Closed => pump.say_goodbye(),
            // A command that is silent just now would only notice with its next word that nobody listens.
            CommandEnd::Enough => self.abandon(),
        }
        Ok(pump.into_exit(end, &mark))
    }

    fn start(&self, line: &str, until: Instant, limits: &ExecLimits) -> Result<Channel, SshError> {
        // A host that is this slow to start a command counts as silent.
        let patience = until.min(Instant::now() + self.limits.silence);
        let stopped = |stop| self.start_error(stop, limits);
        let session = &self.link.session;
        let open = || session.channel_open("session", RECEIVE_WINDOW, LARGEST_PACKET, None);
        let mut channel = self
            .link
            .drive(patience, &limits.interrupt, open)
            .map_err(stopped)?;
        self.link
            .drive(patience, &limits.interrupt, || channel.exec(line))
            .map_err(stopped)?;
        Ok(channel)
    }

    fn start_error(&self, stop: Stop, limits: &ExecLimits) -> SshError {
        let target = self.target.clone();
        match stop {
            Stop::Interrupted => SshError::Interrupted { target },
            Stop::TimedOut => SshError::TimedOut {
                target,
                stage: ConnectStage::Starting,
                limit: self.limits.silence.min(limits.deadline),
            },
            Stop::Broken(error) => self.lost(Loss::Broken(error)),
            Stop::Failed(source) if refused(&source) => SshError::ExecRefused { target, source },
            Stop::Failed(source) => self.lost(Loss::Broken(source.into())),
        }
    }

    /// Gives the connection up, with whatever runs on it.
    fn abandon(&self) {
        self.abandoned.set(true);
        self.link.cut();
    }
}

/// Whether the host said no to a channel or a command, as opposed to saying nothing.
fn refused(error: &ssh2::Error) -> bool {
    const CHANNEL_FAILURE: i32 = -21;
    const CHANNEL_REQUEST_DENIED: i32 = -22;
    const REQUEST_DENIED: i32 = -32;
    matches!(
        error.code(),
        ssh2::ErrorCode::Session(CHANNEL_FAILURE | CHANNEL_REQUEST_DENIED | REQUEST_DENIED)
    )
}

/// How far the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputFeed {
    Open,
    /// The last answer was "nothing yet".
    Starved,
    /// All of it was sent; the host does not know yet.
    Ended,
    Done,
}

/// Why the pump stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandEnd {
    /// The host closed the channel after all its output.
    Closed,
    /// The caller has seen enough.
    Enough,
}

/// Whether a step got anything done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    Something,
    Nothing,
}

/// For how long nothing has happened. Only time spent waiting on the socket counts: while the runner itself is busy, or
/// blocked in the local input, the host is not to blame.
#[derive(Debug, Default)]
struct QuietTime {
    /// Nothing was heard from the host, not even a sign of life.
    link: Duration,
    /// The command did nothing.
    command: Duration,
    since_keepalive: Duration,
    /// How many waits in a row ended at once and had no effect.
    fruitless: u32,
}

struct Pump<'a> {
    connection: &'a SshConnection,
    channel: Channel,
    limits: &'a ExecLimits,
    until: Instant,
    feed: InputFeed,
    input: Vec<u8>,
    unsent: std::ops::Range<usize>,
    output: Vec<u8>,
    stderr: Tail,
    calm: QuietTime,
}

impl Pump<'_> {
    fn pump(
        &mut self,
        input: &mut dyn Read,
        on_stdout: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<CommandEnd, SshError> {
        loop {
            self.check()?;
            // Sending comes first: a packet of which only a part was taken must be completed before libssh2 can send
            // anything else, and it may have to send before it can receive.
            let sent = self.send(input)?;
            let received = match self.receive(on_stdout)? {
                ControlFlow::Continue(moved) => moved,
                ControlFlow::Break(()) => return Ok(CommandEnd::Enough),
            };
            if self.closed()? {
                return Ok(CommandEnd::Closed);
            }
            if sent == Moved::Nothing && received == Moved::Nothing {
                self.wait()?;
            } else {
                self.calm = QuietTime {
                    since_keepalive: self.calm.since_keepalive,
                    ..QuietTime::default()
                };
            }
        }
    }

    fn check(&self) -> Result<(), SshError> {
        let target = || self.connection.target.clone();
        if self.limits.interrupt.is_raised() {
            return Err(SshError::Interrupted { target: target() });
        }
        if Instant::now() >= self.until {
            return Err(SshError::Deadline {
                target: target(),
                limit: self.limits.deadline,
            });
        }
        if self.calm.link >= self.connection.limits.silence {
            return Err(self
                .connection
                .lost(Loss::Silent(self.connection.limits.silence)));
        }
        if self.calm.command >= self.limits.idle {
            return Err(SshError::Idle {
                target: target(),
                limit: self.limits.idle,
            });
        }
        Ok(())
    }

    fn send(&mut self, input: &mut dyn Read) -> Result<Moved, SshError> {
        let mut moved = Moved::Nothing;
        for _ in 0..TURN {
            if self.unsent.is_empty() && matches!(self.feed, InputFeed::Open | InputFeed::Starved) {
                self.refill(input)?;
            }
            if self.unsent.is_empty() {
                break;
            }
            let unsent = self.input.get(self.unsent.clone()).unwrap_or_default();
            match self.channel.write(unsent) {
                Ok(0) => break,
                Ok(count) => {
                    self.unsent.start += count;
                    moved = Moved::Something;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.connection.lost(Loss::Broken(error))),
            }
        }
        self.finish_input()?;
        Ok(moved)
    }

    fn refill(&mut self, input: &mut dyn Read) -> Result<(), SshError> {
        match input.read(&mut self.input) {
            Ok(0) => self.feed = InputFeed::Ended,
            Ok(count) => {
                self.unsent = 0..count;
                self.feed = InputFeed::Open;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.feed = InputFeed::Starved,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(SshError::Input {
                    target: self.connection.target.clone(),
                    source,
                });
            }
        }
        Ok(())
    }

    /// Tells the host that there is no more input, once that can be done in one piece.
    fn finish_input(&mut self) -> Result<(), SshError> {
        if self.feed != InputFeed::Ended
            || !self.unsent.is_empty()
            || !self.connection.link.can_send()
        {
            return Ok(());
        }
        match self.channel.send_eof() {
            Ok(()) => self.feed = InputFeed::Done,
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(self.connection.lost(Loss::Broken(error.into()))),
        }
        Ok(())
    }

    fn receive(
        &mut self,
        on_stdout: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Moved>, SshError> {
        let mut moved = Moved::Nothing;
        for _ in 0..TURN {
            let out = self.channel.read(&mut self.output);
            let count = self.received(out)?;
            let printed = self.output.get(..count).unwrap_or_default();
            if !printed.is_empty() && on_stdout(printed).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let err = self.channel.stderr().read(&mut self.output);
            let complaint = self.received(err)?;
            let complained = self.output.get(..complaint).unwrap_or_default();
            self.stderr.push(complained);
            if count + complaint == 0 {
                break;
            }
            moved = Moved::Something;
        }
        Ok(ControlFlow::Continue(moved))
    }

    /// The number of bytes that a read gave; none both when there is nothing yet and when there is nothing more.
    fn received(&self, read: io::Result<usize>) -> Result<usize, SshError> {
        match read {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(self.connection.lost(Loss::Broken(error))),
        }
    }

    /// Whether the host has sent everything and closed the channel.
    fn closed(&mut self) -> Result<bool, SshError> {
        // This is false as long as there is output that was not read.
        if !self.channel.eof() {
            return Ok(false);
        }
        match self.channel.wait_close() {
            Ok(()) => Ok(true),
            Err(error) if would_block(&error) => Ok(false),
            Err(error) => Err(self.connection.lost(Loss::Broken(error.into()))),
        }
    }

    fn wait(&mut self) -> Result<(), SshError> {
        // Right before waiting, so that the answer wakes the wait. An answer that comes while something is read would
        // be swallowed by libssh2 without a trace.
        self.keep_alive()?;
        let link = &self.connection.link;
        let left = self.until.saturating_duration_since(Instant::now());
        let longest = left.min(if self.feed == InputFeed::Starved {
            PAUSE
        } else {
            TICK
        });
        let want = if self.feed == InputFeed::Ended {
            Want::Both
        } else {
            link.wanted()
        };
        let begun = Instant::now();
        let ready = if self.calm.fruitless < 3 {
            link.wait(want, longest)
        } else {
            // The socket is ready for something that libssh2 cannot do yet (input while output has to go first, say),
            // so waiting on it would spin.
            thread::sleep(PAUSE);
            link.wait(want, Duration::ZERO)
        };
        let ready = ready.map_err(|error| self.connection.lost(Loss::Broken(error)))?;
        // A runner that was suspended meanwhile must not hold that time against the host.
        self.calm
            .pass(begun.elapsed().min(longest), ready.input, self.feed);
        Ok(())
    }

    /// Asks for a sign of life now and then; the answer counts as being heard from.
    fn keep_alive(&mut self) -> Result<(), SshError> {
        let link = &self.connection.link;
        if self.calm.since_keepalive < self.connection.limits.keepalive || !link.can_send() {
            return Ok(());
        }
        self.calm.since_keepalive = Duration::ZERO;
        match link.session.keepalive_send() {
            Ok(_) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(self.connection.lost(Loss::Broken(error.into()))),
        }
    }

    /// Closes the channel politely, so that the connection can run the next command. When that does not work soon the
    /// connection is given up instead; what is known of the command stays known.
    fn say_goodbye(&mut self) {
        let until = Instant::now() + GOODBYE;
        if self.complete_packet(until).is_none() || self.close(until).is_none() {
            self.connection.abandon();
        }
    }

    /// Sends the rest of a packet of which only a part was taken; nothing else can be sent before.
    fn complete_packet(&mut self, until: Instant) -> Option<()> {
        let link = &self.connection.link;
        while !self.unsent.is_empty() && link.wanted() == Want::Both {
            let unsent = self.input.get(self.unsent.clone()).unwrap_or_default();
            match self.channel.write(unsent) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) => return Some(()),
                Err(_) => return None,
            }
            if Instant::now() >= until {
                return None;
            }
            link.wait(Want::Output, TICK).ok()?;
        }
        Some(())
    }

    fn close(&mut self, until: Instant) -> Option<()> {
        let link = &self.connection.link;
        while !link.can_send() {
            if Instant::now() >= until || self.limits.interrupt.is_raised() {
                return None;
            }
            link.wait(Want::Output, TICK).ok()?;
        }
        link.drive(until, &self.limits.interrupt, || self.channel.close())
            .ok()
    }

    fn into_exit(self, end: CommandEnd, mark: &ExitMark) -> Exit {
        let (stderr, marked) = mark.split(&self.stderr.text());
        match end {
            CommandEnd::Enough => Exit {
                status: None,
                signal: None,
                eof: false,
                stderr,
            },
            CommandEnd::Closed => {
                let sent = self.channel.exit_status().ok();
                let signal = self
                    .channel
                    .exit_signal()
                    .ok()
                    .and_then(|signal| signal.exit_signal);
                Exit {
                    status: status(sent, marked, signal.as_deref()),
                    signal,
                    eof: true,
                    stderr,
                }
            }
        }
    }
}

/// The status of a command, from what the SSH library says and what the command's shell wrote. The library says 0 also
/// when the host sent nothing, so its 0 needs the other to agree; anything else was sent for certain.
fn status(library: Option<i32>, shell: Option<i32>, signal: Option<&str>) -> Option<i32> {
    match (library, shell, signal) {
        (_, _, Some(_)) => None,
        (Some(0), shell, None) => shell,
        (library, _, None) => library,
    }
}

impl QuietTime {
    fn pass(&mut self, waited: Duration, heard: bool, feed: InputFeed) {
        self.since_keepalive += waited;
        if heard {
            self.link = Duration::ZERO;
        } else {
            self.link += waited;
        }
        if feed != InputFeed::Starved {
            self.command += waited;
        }
        self.fruitless = if waited < AT_ONCE {
            self.fruitless.saturating_add(1)
        } else {
            0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_that_nobody_confirms_is_no_status() {
        assert_eq!(status(Some(0), None, None), None);
        assert_eq!(status(Some(0), Some(0), None), Some(0));
        assert_eq!(status(None, None, None), None);
    }

    #[test]
    fn a_failure_is_a_status_however_it_is_told() {
        assert_eq!(status(Some(3), None, None), Some(3));
        assert_eq!(status(Some(3), Some(3), None), Some(3));
        assert_eq!(status(Some(0), Some(3), None), Some(3));
    }

    #[test]
    fn a_signal_leaves_no_status() {
        assert_eq!(status(Some(0), Some(0), Some("KILL")), None);
    }

    #[test]
    fn waiting_for_the_local_input_is_not_the_commands_silence() {
        let mut calm = QuietTime::default();
        calm.pass(TICK, false, InputFeed::Starved);
        assert_eq!((calm.command, calm.link), (Duration::ZERO, TICK));
        calm.pass(TICK, false, InputFeed::Open);
        assert_eq!((calm.command, calm.link), (TICK, 2 * TICK));
    }

    #[test]
    fn a_sign_of_life_resets_the_link_but_not_the_command() {
        let mut calm = QuietTime::default();
        calm.pass(TICK, false, InputFeed::Done);
        calm.pass(TICK, true, InputFeed::Done);
        assert_eq!((calm.command, calm.link), (2 * TICK, Duration::ZERO));
    }
}
