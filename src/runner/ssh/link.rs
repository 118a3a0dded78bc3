//! A TCP connection with an SSH session on it, driven without ever blocking.
//!
//! Runs on the runner; I/O. Every call of the SSH library returns at once with "would block" when it cannot go on; the
//! waiting is done here, on the socket, bounded by a deadline and stopped by an [`Interrupt`]. (The library's own
//! blocking mode does not notice a remote command that has ended while it still writes to it.)

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, ErrorCode, Session};

use super::error::ConnectStage;
use super::{ConnectLimits, Interrupt, SshError, SshTarget};

/// The longest single wait, so that an interrupt is noticed.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The code of libssh2 for "would block".
const EAGAIN: i32 = -37;

/// Why an operation was given up.
#[derive(Debug)]
pub(super) enum Stop {
    Interrupted,
    TimedOut,
    Failed(ssh2::Error),
    /// The socket could not even be waited for.
    Broken(io::Error),
}

/// What the socket is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) input: bool,
    pub(super) output: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Input,
    Output,
    Both,
}

pub(super) struct Transport {
    pub(super) session: Session,
    socket: Arc<TcpStream>,
}

impl Transport {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        // Without this every small packet waits for the acknowledgement of the one before: nine times slower.
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(socket);
        let mut session = Session::new()?;
        session.set_blocking(false);
        session.set_tcp_stream(Arc::clone(&socket));
        Ok(Self { session, socket })
    }

    /// Repeats `operation` until it no longer would block.
    pub(super) fn drive<T>(
        &self,
        until: Instant,
        interrupt: &Interrupt,
        mut operation: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, Stop> {
        loop {
            match operation() {
                Ok(done) => return Ok(done),
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(Stop::Failed(error)),
            }
            if interrupt.is_raised() {
                return Err(Stop::Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Stop::TimedOut);
            }
            self.wait(self.wanted(), left.min(TICK))
                .map_err(Stop::Broken)?;
        }
    }

    /// What the last operation that would have blocked is waiting for. Input is always of interest.
    pub(super) fn wanted(&self) -> Want {
        match self.session.block_directions() {
            BlockDirections::None | BlockDirections::Inbound => Want::Input,
            BlockDirections::Outbound | BlockDirections::Both => Want::Both,
        }
    }

    pub(super) fn wait(&self, want: Want, longest: Duration) -> io::Result<Ready> {
        let flags = match want {
            Want::Input => PollFlags::IN,
            Want::Output => PollFlags::OUT,
            Want::Both => PollFlags::IN | PollFlags::OUT,
        };
        let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
        let mut sockets = [PollFd::new(&*self.socket, flags)];
        match poll(&mut sockets, Some(&longest)) {
            // After a signal the caller looks at its interrupt.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let seen = sockets[0].revents();
        let gone = seen.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
        Ok(Ready {
            input: gone || seen.contains(PollFlags::IN),
            output: gone || seen.contains(PollFlags::OUT),
        })
    }

    /// Whether a small packet can be sent now, in one piece. Some packets of libssh2 live on its stack and cannot be
    /// finished later: end-of-file and keepalive must only be sent when this is so.
    pub(super) fn can_send(&self) -> bool {
        self.wait(Want::Output, Duration::ZERO)
            .is_ok_and(|ready| ready.output)
    }

    /// Cuts the connection, so that nothing that follows can wait for the other side.
    pub(super) fn cut(&self) {
        // It fails only when the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

pub(super) fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(EAGAIN)
}

/// Opens the TCP connection. Name lookup and connecting can only be bounded from outside, so they run in a thread of
/// their own, which is left behind when the time is up.
pub(super) fn dial(target: &SshTarget, limits: &ConnectLimits) -> Result<TcpStream, SshError> {
    let (report, reports) = mpsc::sync_channel(1);
    let (wanted, patience) = (target.clone(), limits.connect);
    thread::Builder::new()
        .name("ssh-dial".into())
        .spawn(move || {
            // Nobody listens any more when the time is up.
            let _ = report.send(resolve_and_connect(&wanted, patience));
        })
        .map_err(|source| SshError::Setup {
            target: target.clone(),
            source,
        })?;
    let until = Instant::now() + limits.connect;
    loop {
        match reports.recv_timeout(TICK / 2) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => {
                let source = io::Error::other("the connecting thread ended early");
                return Err(SshError::Setup {
                    target: target.clone(),
                    source,
                });
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if limits.interrupt.is_raised() {
            return Err(SshError::Interrupted {
                target: target.clone(),
            });
        }
        if Instant::now() >= until {
            return Err(SshError::TimedOut {
                target: target.clone(),
                stage: ConnectStage::Connecting,
                limit: limits.connect,
            });
        }
    }
}

fn resolve_and_connect(target: &SshTarget, patience: Duration) -> Result<TcpStream, SshError> {
    let until = Instant::now() + patience;
    let addresses = resolve(target).map_err(|source| SshError::Unresolved {
        target: target.clone(),
        source,
    })?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (index, address) in addresses.iter().enumerate() {
        // The addresses share the time, so that one that swallows packets leaves some for the next.
        let share = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let left = until.saturating_duration_since(Instant::now()) / share;
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(SshError::Unreachable {
        target: target.clone(),
        source: last,
    })
}

fn resolve(target: &SshTarget) -> io::Result<Vec<SocketAddr>> {
    let host = target.address.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let addresses: Vec<SocketAddr> = (host, target.port).to_socket_addrs()?.collect();
    if addresses.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(addresses)
    }
}
