//! Runs a program of the host by its argument list, with a deadline and a clean environment. There is no shell.
//!
//! Runs on the host. The environment is emptied but for what Docker needs, so that a variable of the caller can never
//! change what a Compose file means.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::host::HostError;

/// Variables that a program of ours may see, besides those given to it.
const PASSED_ON: [&str; 7] = [
    "HOME",
    "USER",
    "LANG",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "XDG_RUNTIME_DIR",
];

/// Where programs are looked for: SSH gives a non-login session a short PATH.
pub(super) const PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";

/// The longest look at how a child is doing.
const LOOK: Duration = Duration::from_millis(10);

/// Most of what a program may print into memory, in bytes.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;

/// Lines of what a failed program said that go into the error.
const LAST_LINES: usize = 5;

/// What a program printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// One call of a program.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    program: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    deadline: Duration,
}

impl Call {
    /// A call of the first word with the others as its arguments, which may take a minute.
    pub(crate) fn new<I: IntoIterator<Item = S>, S: Into<String>>(argv: I) -> Self {
        let mut words = argv.into_iter().map(Into::into);
        Call {
            // Without a word there is no program of that name, and starting it says so.
            program: words.next().unwrap_or_default(),
            arguments: words.collect(),
            variables: vec![],
            deadline: Duration::from_mins(1),
        }
    }

    #[must_use]
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    #[must_use]
    pub(crate) fn variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// The call as people read it in an error.
    pub(crate) fn describe(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The call as a process that has not been started.
    #[must_use]
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .stdin(Stdio::null());
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.variables.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs the call and returns what it printed; anything but exit code 0 is an error with what it said.
    pub(crate) fn run(&self) -> Result<Printed, HostError> {
        let (status, printed) = self.run_to_end()?;
        match status.success() {
            true => Ok(printed),
            false => Err(self.failed(status, &printed)),
        }
    }

    /// The error of a call that ended so.
    #[must_use]
    pub(crate) fn failed(&self, status: ExitStatus, printed: &Printed) -> HostError {
        HostError::said(self.describe(), last_words(printed, status))
    }

    /// Runs the call to its end, whatever its exit code.
    pub(crate) fn run_to_end(&self) -> Result<(ExitStatus, Printed), HostError> {
        let (status, printed) = run_within(&mut self.command(), self.deadline, OUTPUT_LIMIT)
            .map_err(|source| HostError::Start {
                program: self.program.clone(),
                source,
            })?;
        match status {
            Some(status) => Ok((status, printed)),
            None => Err(HostError::TooLong {
                what: self.describe(),
                seconds: self.deadline.as_secs(),
            }),
        }
    }
}

/// Runs a command to its end and keeps `most` bytes of each of its outputs. There is no status when it took longer than
/// `limit` and was ended.
pub(super) fn run_within(
    command: &mut Command,
    limit: Duration,
    most: u64,
) -> io::Result<(Option<ExitStatus>, Printed)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let out = scope.spawn(|| drain(stdout, most));
        let err = scope.spawn(|| drain(stderr, most));
        let status = wait(&Mutex::new(child), limit);
        let printed = Printed {
            stdout: out.join().unwrap_or_default(),
            stderr: err.join().unwrap_or_default(),
        };
        Ok((status?, printed))
    })
}

/// Waits for a child's end; nothing when it took longer than `limit` and was ended.
pub(super) fn wait(child: &Mutex<Child>, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    // Most programs take a few milliseconds; the pause grows for those that do not.
    let mut pause = Duration::from_millis(1);
    loop {
        let status = locked(child).try_wait()?;
        if status.is_some() {
            return Ok(status);
        }
        if began.elapsed() > limit {
            kill(child);
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// Ends a child, which may have ended already.
pub(super) fn kill(child: &Mutex<Child>) {
    let mut child = locked(child);
    let _ = child.kill();
    let _ = child.wait();
}

fn locked(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a stream to its end, so that its program never waits for a reader, and keeps the first `most` bytes of it.
pub(super) fn drain(stream: Option<impl Read>, most: u64) -> Vec<u8> {
    let mut bytes = vec![];
    if let Some(mut stream) = stream {
        // What could not be read is missing from a message; the exit status decides.
        let _ = (&mut stream).take(most).read_to_end(&mut bytes);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    bytes
}

/// The last few lines of what a failed program said.
fn last_words(printed: &Printed, status: ExitStatus) -> String {
    let said = if printed.stderr.iter().all(u8::is_ascii_whitespace) {
        &printed.stdout
    } else {
        &printed.stderr
    };
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..);
    let tail = last.unwrap_or_default().join("; ");
    if tail.is_empty() {
        status.to_string()
    } else {
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_program_said_is_in_the_error() {
        let error = Call::new(["sh", "-c", "echo no such volume >&2; exit 3"])
            .run()
            .expect_err("it failed");
        assert!(error.to_string().contains("no such volume"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended() {
        let began = Instant::now();
        let call = Call::new(["sleep", "60"]).deadline(Duration::from_millis(100));
        assert!(matches!(call.run(), Err(HostError::TooLong { .. })));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_callers_variables_are_not_passed_on() {
        let printed = Call::new(["env"])
            .variables(&[("BELAY_TAG".into(), "v1".into())])
            .run()
            .expect("env runs");
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(text.contains("BELAY_TAG=v1"));
        assert!(!text.contains("CARGO"), "{text}");
    }
}
