//! Runs a program of the runner (docker, git) by its argument list. There is no shell.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::ssh::Interrupt;

/// How often a program that says nothing is asked whether it should go on.
const TICK: Duration = Duration::from_millis(100);

/// A program of the runner that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("could not run {program}")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} failed ({status}): {said}")]
    Failed {
        what: String,
        status: ExitStatus,
        said: String,
    },
    #[error("could not understand what {what} printed")]
    Answer {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{what} was interrupted")]
    Interrupted { what: String },
}

/// What the action gives this process alone. A program that it starts, and whatever that starts (a credential helper, a
/// hook), has no use for it.
const SECRETS: [&str; 5] = [
    "BELAY_SSH_KEY",
    "BELAY_SSH_KEY_PASSPHRASE",
    "BELAY_TOKEN",
    "BELAY_NOTIFY_URL",
    "BELAY_KNOWN_HOSTS",
];

/// A program of the runner, with the job's environment but for Belay's own secrets.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in SECRETS {
        command.env_remove(name);
    }
    command
}

/// Lines of a failed program's output that an error repeats.
const LAST_LINES: usize = 15;

/// Runs a program to its end and returns what it printed; each line also goes to `tell` as it comes. An interrupt ends it.
pub(crate) fn run_telling(
    argv: &[String],
    interrupt: &Interrupt,
    tell: &mut dyn FnMut(&[u8]),
) -> Result<Vec<u8>, ProgramError> {
    let start = |source| ProgramError::Start {
        program: name(argv),
        source,
    };
    let (mut reader, writer) = std::io::pipe().map_err(start)?;
    let mut command = of_words(argv);
    command
        // A group of its own: docker lets other programs work, and all of them are to end.
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(writer.try_clone().map_err(start)?)
        .stdout(writer);
    let mut child = command.spawn().map_err(start)?;
    // The writing ends that this process still holds would keep the pipe open for ever.
    drop(command);
    let mut printed = vec![];
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while !is_readable(&reader).map_err(start)? {
            if interrupt.is_raised() {
                end(&mut child);
                return Err(ProgramError::Interrupted {
                    what: describe(argv),
                });
            }
        }
        let read = reader.read(&mut buffer).map_err(start)?;
        if read == 0 {
            break;
        }
        let (chunk, _) = buffer.split_at(read);
        tell(chunk);
        printed.extend_from_slice(chunk);
    }
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(printed);
    }
    let said = last_lines(&printed);
    Err(ProgramError::Failed {
        what: describe(argv),
        status,
        said,
    })
}

/// Waits a moment for something to read, or for the end of it.
fn is_readable(reader: &std::io::PipeReader) -> std::io::Result<bool> {
    let tick = Timespec::try_from(TICK).map_err(std::io::Error::other)?;
    match poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&tick)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Ends a program and what it has started, without waiting for what it would still like to do.
fn end(child: &mut Child) {
    // Whatever is gone already needs no end.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}

/// Runs a program quietly and returns its standard output.
pub(crate) fn run(argv: &[String]) -> Result<Vec<u8>, ProgramError> {
    let output = of_words(argv)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProgramError::Start {
            program: name(argv),
            source,
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = last_lines(&output.stderr);
    Err(ProgramError::Failed {
        what: describe(argv),
        status: output.status,
        said,
    })
}

/// The program that an argument list names first, with the others.
fn of_words(argv: &[String]) -> Command {
    let mut command = command(&name(argv));
    command.args(argv.iter().skip(1));
    command
}

fn name(argv: &[String]) -> String {
    argv.first().cloned().unwrap_or_default()
}

/// The program and its verb; the rest would hide what matters.
fn describe(argv: &[String]) -> String {
    argv.iter().take(3).cloned().collect::<Vec<_>>().join(" ")
}

fn last_lines(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let (_, last) = lines.split_at(lines.len().saturating_sub(LAST_LINES));
    last.join("\n")
}

/// Words as an argument list.
pub(crate) fn argv<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_interrupt_ends_a_program_and_what_it_started() {
        let argv = argv(["sh", "-c", "echo begun; sleep 60 & wait"]);
        let interrupt = Interrupt::default();
        let began = Instant::now();
        let ended = run_telling(&argv, &interrupt, &mut |_| interrupt.raise());
        assert!(matches!(ended, Err(ProgramError::Interrupted { .. })));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_is_not_interrupted_tells_all_it_has_to_say() {
        let argv = argv(["sh", "-c", "echo one; sleep 0.3; echo two >&2"]);
        let printed = run_telling(&argv, &Interrupt::default(), &mut |_| {});
        assert_eq!(printed.expect("it ends well"), b"one\ntwo\n");
    }
}
