//! Runs a program of the host by its argument list, with a deadline and a clean environment. There is no shell.
//!
//! Runs on the host. The environment is emptied but for what Docker needs, so that a variable of the caller can never
//! change what a Compose file means.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::host::HostError;

/// Variables that a program of ours may see, besides those given to it.
pub(super) const PASSED_ON: [&str; 7] = [
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

/// What a program printed.
#[derive(Debug)]
pub struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// One call of a program.
#[derive(Clone, Debug)]
pub struct Call {
    argv: Vec<String>,
    variables: Vec<(String, String)>,
    deadline: Duration,
}

impl Call {
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(argv: I) -> Self {
        Call {
            argv: argv.into_iter().map(Into::into).collect(),
            variables: vec![],
            deadline: Duration::from_secs(60),
        }
    }

    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    #[must_use]
    pub fn variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    /// The call as people read it in an error.
    pub fn describe(&self) -> String {
        self.argv.join(" ")
    }

    /// The call as a process that has not been started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
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
    pub fn run(&self) -> Result<Printed, HostError> {
        let (status, printed) = self.run_to_end()?;
        if status.success() {
            return Ok(printed);
        }
        Err(HostError::Command {
            what: self.describe(),
            said: last_words(&printed, status),
        })
    }

    /// Runs the call to its end, whatever its exit code.
    pub fn run_to_end(&self) -> Result<(ExitStatus, Printed), HostError> {
        let start = |source| HostError::Start {
            program: self.argv[0].clone(),
            source,
        };
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        std::thread::scope(|scope| {
            let out = scope.spawn(|| drain(stdout));
            let err = scope.spawn(|| drain(stderr));
            let status = self.wait(&mut child);
            let printed = Printed {
                stdout: out.join().unwrap_or_default(),
                stderr: err.join().unwrap_or_default(),
            };
            Ok((status?, printed))
        })
    }

    fn wait(&self, child: &mut Child) -> Result<ExitStatus, HostError> {
        let start = |source| HostError::Start {
            program: self.argv[0].clone(),
            source,
        };
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait().map_err(start)? {
                return Ok(status);
            }
            if began.elapsed() > self.deadline {
                child.kill().map_err(start)?;
                child.wait().map_err(start)?;
                return Err(HostError::TooLong {
                    what: self.describe(),
                    seconds: self.deadline.as_secs(),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOK);
        }
    }
}

fn drain(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = vec![];
    if let Some(stream) = stream {
        // What could not be read is missing from a message; the exit status decides.
        let _ = stream.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
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
    let tail = lines[lines.len().saturating_sub(5)..].join("; ");
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
