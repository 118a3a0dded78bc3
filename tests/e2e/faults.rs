//! What may go wrong in the middle of a run, brought about at an exact moment: deaths on both machines, Docker's death, a
//! full disk, and a wire between runner and host that breaks, falls silent or is slow.
//!
//! Runs in the tests' process, and with `docker exec` on a lab host. A moment is a record of the host's journal, because
//! that is what decides what follows. Every fault is taken back by [`Fault::heal`], and touches nothing but its own host.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use belay_model::transaction::step::Step;
use tokio::net::TcpSocket;

use crate::lab::{App, Host, ROOT, Running};

/// When a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The step's work is just beginning.
    Before,
    /// It has just been done.
    After,
}

impl Moment {
    pub(crate) const ALL: [Moment; 2] = [Moment::Before, Moment::After];

    /// The record that says so.
    fn record(self) -> &'static str {
        match self {
            Moment::Before => "started",
            Moment::After => "done",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::After => "after",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    RunnerKilled,
    EngineKilled,
    BothKilled,
    LinkReset,
    LinkSilent,
    DockerKilled,
    DockerRestarted,
    DiskFull,
    PowerCut,
}

impl Fault {
    pub(crate) const ALL: [Fault; 9] = [
        Fault::RunnerKilled,
        Fault::EngineKilled,
        Fault::BothKilled,
        Fault::LinkReset,
        Fault::LinkSilent,
        Fault::DockerKilled,
        Fault::DockerRestarted,
        Fault::DiskFull,
        Fault::PowerCut,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::RunnerKilled => "runner killed",
            Fault::EngineKilled => "engine killed",
            Fault::BothKilled => "both killed",
            Fault::LinkReset => "link reset",
            Fault::LinkSilent => "link silent",
            Fault::DockerKilled => "dockerd killed",
            Fault::DockerRestarted => "dockerd restarted",
            Fault::DiskFull => "disk full",
            Fault::PowerCut => "power cut",
        }
    }

    pub(crate) fn takes_the_runner(self) -> bool {
        matches!(self, Fault::RunnerKilled | Fault::BothKilled)
    }

    /// Whether Docker ends, and every container with it.
    pub(crate) fn takes_docker(self) -> bool {
        matches!(
            self,
            Fault::DockerKilled | Fault::DockerRestarted | Fault::PowerCut
        )
    }

    /// The part of it that happens on the host, as a script. No pattern fits the shell that carries it.
    pub(crate) fn on_the_host(self) -> &'static str {
        match self {
            Fault::EngineKilled | Fault::BothKilled => "pkill -KILL -f '[a]gent engine'",
            Fault::DockerKilled => "pkill -KILL -x dockerd",
            Fault::DockerRestarted => {
                "old=$(pgrep -x dockerd); kill $old; while kill -0 $old 2>/dev/null; do sleep 0.02; done"
            }
            // First all at once, then the rest that no large piece fits in.
            Fault::DiskFull => {
                "fallocate -l $(df --output=avail -B1 . | tail -n 1) full; cat /dev/zero >>full 2>/dev/null"
            }
            // Nothing of Belay's goes on until the power is gone, a moment later.
            Fault::PowerCut => "pkill -STOP -f '[a]gent (engine|watch)'",
            Fault::RunnerKilled | Fault::LinkReset | Fault::LinkSilent => "",
        }
    }

    /// The part of it that happens outside the host.
    pub(crate) fn outside_the_host(self, host: &Host, running: &mut Running, wire: &Wire) {
        match self {
            Fault::RunnerKilled | Fault::BothKilled => running.kill(),
            Fault::LinkReset => wire.cut(),
            // What was connected stays dead; the wire itself works again at once.
            Fault::LinkSilent => {
                wire.silence();
                wire.heal();
            }
            Fault::PowerCut => host.lose_power(),
            Fault::EngineKilled
            | Fault::DockerKilled
            | Fault::DockerRestarted
            | Fault::DiskFull => {}
        }
    }

    /// Makes host and wire work again. Docker comes back by itself, as the lab's services do.
    pub(crate) fn heal(self, host: &Host, wire: &Wire) {
        wire.heal();
        match self {
            Fault::DiskFull => drop(host.run(&format!("rm -f {ROOT}/full"))),
            Fault::DockerKilled | Fault::DockerRestarted => host.await_docker(),
            Fault::PowerCut => {
                // What cron or systemd run at the start; it waits for Docker.
                let recovery = host.run_as_user(&format!("sh {ROOT}/.belay/recover.sh"));
                assert!(recovery.status.success(), "{recovery:?}");
                host.await_docker();
            }
            Fault::RunnerKilled
            | Fault::EngineKilled
            | Fault::BothKilled
            | Fault::LinkReset
            | Fault::LinkSilent => {}
        }
    }
}

/// The application gets a file system of its own, which a fault can fill without filling the machine's.
pub(crate) fn give_a_small_disk(host: &Host) {
    host.run(&format!(
        "mount -t tmpfs -o size=512m,uid=$(id -u deploy),gid=$(id -g deploy),mode=755 none {ROOT}"
    ));
    host.name_the_project();
}

/// Waits on the host for a record of the next transaction, and does its part of the fault in the same moment.
pub(crate) struct Trap {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Trap {
    /// Is set when this returns. One transaction at least has to have been there.
    pub(crate) fn set(host: &Host, step: Step, moment: Moment, fault: Fault) -> Trap {
        Trap::with(host, step, moment, fault.on_the_host())
    }

    /// The same with what a person might type there.
    pub(crate) fn with(host: &Host, step: Step, moment: Moment, fault: &str) -> Trap {
        let (record, step) = (moment.record(), step.name());
        let script = format!(
            "cd {ROOT} || exit 1
             journal=$(printf '.belay/journal/%08d.log' $(($(cat .belay/seq) + 1)))
             echo set
             for i in $(seq 6000); do [ -e $journal ] && break; sleep 0.01; done
             # Polling as well, because not every file system tells of its changes.
             grep -q -m 1 '\"event\":\"{record}\",\"step\":\"{step}\"' \
                 < <(exec timeout 60 tail -n +1 -s 0.005 -f $journal) || exit 1
             tail=$!
             {fault}
             echo sprung
             kill $tail 2>/dev/null"
        );
        let mut command = Command::new("docker");
        command.args(["exec", host.get("LAB_CONTAINER"), "bash", "-c", &script]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("docker runs");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut trap = Trap { child, said };
        assert!(trap.says("set"), "the trap could not be set");
        trap
    }

    /// Waits for the moment; false when it never came.
    pub(crate) fn sprung(&mut self) -> bool {
        self.says("sprung")
    }

    fn says(&mut self, word: &str) -> bool {
        let mut line = String::new();
        self.said.read_line(&mut line).is_ok() && line.trim() == word
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // The script on the host ends by itself; this is its messenger.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// --- the wire --------------------------------------------------------------------------------------------------------

/// How often the ends of a connection look whether the wire has been cut.
const LOOK: Duration = Duration::from_millis(10);

/// A wire between the runner and the host's sshd, on 127.0.0.1. It can be cut, fall silent, and be slow.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: Arc<Mutex<WireState>>,
}

#[derive(Default)]
struct WireState {
    /// Connections have numbers. Those below this one are cut: both ends see a reset.
    cut_below: u64,
    /// Those below this one carry nothing any more, and nobody is told.
    silent_below: u64,
    next: u64,
    /// Meanwhile no new connection carries anything either.
    silent: bool,
    /// Meanwhile new connections are reset at once.
    refusing: bool,
    delay: Duration,
}

impl Wire {
    /// A wire to an address.
    pub(crate) fn to(target: &str) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let state: Arc<Mutex<WireState>> = Arc::default();
        let (target, shared) = (target.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                connect(near, &target, &shared);
            }
        });
        Wire { port, state }
    }

    /// A wire to the host's sshd, that every later run of this application goes over.
    pub(crate) fn of(app: &mut App) -> Wire {
        let port = app.host.get("LAB_PORT").to_owned();
        let wire = Wire::to(&format!("{}:{port}", app.host.get("LAB_HOST")));
        let known = std::fs::read_to_string(app.host.get("LAB_KNOWN_HOSTS")).expect("a file");
        let known = known.replace(&format!("]:{port} "), &format!("]:{} ", wire.port));
        app.env.insert("BELAY_KNOWN_HOSTS".to_owned(), known);
        app.env
            .insert("BELAY_PORT".to_owned(), wire.port.to_string());
        wire
    }

    fn state(&self) -> MutexGuard<'_, WireState> {
        lock(&self.state)
    }

    /// Resets every connection that there is.
    pub(crate) fn cut(&self) {
        let mut state = self.state();
        state.cut_below = state.next;
    }

    /// Resets every connection, and every new one until [`Wire::heal`].
    pub(crate) fn refuse(&self) {
        self.cut();
        self.state().refusing = true;
    }

    /// Nothing passes any more and nobody is told, on new connections neither until [`Wire::heal`].
    pub(crate) fn silence(&self) {
        let mut state = self.state();
        state.silent_below = state.next;
        state.silent = true;
    }

    /// Everything that passes takes so much longer, one way.
    pub(crate) fn delay(&self, time: Duration) {
        self.state().delay = time;
    }

    /// New connections work. Those that lost something stay dead, or they would carry nonsense.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        if state.silent {
            state.silent_below = state.next;
        }
        state.silent = false;
        state.refusing = false;
        state.delay = Duration::ZERO;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.refuse();
    }
}

fn lock(state: &Mutex<WireState>) -> MutexGuard<'_, WireState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(near: TcpStream, target: &str, state: &Arc<Mutex<WireState>>) {
    let (number, refusing) = {
        let mut state = lock(state);
        state.next += 1;
        (state.next - 1, state.refusing)
    };
    let Ok(far) = TcpStream::connect(target) else {
        return;
    };
    if refusing {
        return reset(&near);
    }
    let (near, far) = (Arc::new(near), Arc::new(far));
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (from, to, state) = (Arc::clone(from), Arc::clone(to), Arc::clone(state));
        thread::spawn(move || carry(number, &from, &to, &state));
    }
}

/// Carries one direction of a connection until it ends. The connection is closed when both directions have let it go.
fn carry(number: u64, from: &TcpStream, to: &TcpStream, state: &Mutex<WireState>) {
    let mut buffer = [0; 64 * 1024];
    let _ = from.set_read_timeout(Some(LOOK));
    loop {
        let read = (&mut &*from).read(&mut buffer);
        let (cut, silent, delay) = {
            let state = lock(state);
            let silent = state.silent || number < state.silent_below;
            (number < state.cut_below, silent, state.delay)
        };
        match read {
            _ if cut => {
                reset(from);
                return reset(to);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) if silent => thread::sleep(LOOK),
            Ok(0) | Err(_) => {
                // It may be closed already.
                let _ = to.shutdown(std::net::Shutdown::Write);
                return;
            }
            Ok(_) if silent => {}
            Ok(bytes) => {
                thread::sleep(delay);
                if (&mut &*to).write_all(&buffer[..bytes]).is_err() {
                    let _ = from.shutdown(std::net::Shutdown::Both);
                    return;
                }
            }
        }
    }
}

/// Makes the last close of a connection a reset.
fn reset(stream: &TcpStream) {
    // The standard library has no stable way to say so. A connection that is gone already needs none.
    if let Ok(again) = stream.try_clone() {
        let _ = TcpSocket::from_std_stream(again).set_zero_linger();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, and a client of it over a wire.
    fn echo() -> (Wire, TcpStream) {
        let server = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let target = server.local_addr().expect("an address").to_string();
        thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                thread::spawn(move || {
                    let mut from = stream.try_clone().expect("a second handle");
                    std::io::copy(&mut from, &mut stream)
                });
            }
        });
        let wire = Wire::to(&target);
        let client = dial(&wire);
        (wire, client)
    }

    fn dial(wire: &Wire) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", wire.port)).expect("it listens");
        let patience = Some(Duration::from_millis(300));
        client.set_read_timeout(patience).expect("it is open");
        client
    }

    fn ask(client: &mut TcpStream) -> Result<u8, ErrorKind> {
        let mut answer = [0];
        client.write_all(b"?").map_err(|e| e.kind())?;
        client.read_exact(&mut answer).map_err(|e| e.kind())?;
        Ok(answer[0])
    }

    #[test]
    fn a_wire_that_is_cut_resets_what_there_is_and_lets_new_connections_pass() {
        let (wire, mut client) = echo();
        assert_eq!(ask(&mut client), Ok(b'?'));
        wire.cut();
        let mut rest = [0];
        let ended = client.read(&mut rest).map_err(|e| e.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset));
        assert_eq!(ask(&mut dial(&wire)), Ok(b'?'));
        wire.refuse();
        assert!(ask(&mut dial(&wire)).is_err());
        wire.heal();
        assert_eq!(ask(&mut dial(&wire)), Ok(b'?'));
    }

    #[test]
    fn a_wire_that_fell_silent_carries_nothing_and_tells_nobody() {
        let (wire, mut client) = echo();
        assert_eq!(ask(&mut client), Ok(b'?'));
        wire.silence();
        let mut meanwhile = dial(&wire);
        assert_eq!(ask(&mut client), Err(ErrorKind::WouldBlock));
        assert_eq!(ask(&mut meanwhile), Err(ErrorKind::WouldBlock));
        wire.heal();
        assert_eq!(ask(&mut client), Err(ErrorKind::WouldBlock));
        assert_eq!(ask(&mut meanwhile), Err(ErrorKind::WouldBlock));
        assert_eq!(ask(&mut dial(&wire)), Ok(b'?'));
    }

    #[test]
    fn a_slow_wire_takes_its_time() {
        let (wire, mut client) = echo();
        wire.delay(Duration::from_millis(60));
        let began = std::time::Instant::now();
        assert_eq!(ask(&mut client), Ok(b'?'));
        // There and back.
        assert!(began.elapsed() >= Duration::from_millis(120));
    }
}
