//! Runs a program of the runner (docker, git) by its argument list. There is no shell.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};

/// A program of the runner that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
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
}

/// Lines of a failed program's output that an error repeats.
const LAST_LINES: usize = 15;

/// Runs a program to its end and returns what it printed; each line also goes to `tell` as it comes.
pub fn run_telling(argv: &[String], tell: &mut dyn FnMut(&[u8])) -> Result<Vec<u8>, ProgramError> {
    let start = |source| ProgramError::Start {
        program: argv[0].clone(),
        source,
    };
    let (mut reader, writer) = std::io::pipe().map_err(start)?;
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stderr(writer.try_clone().map_err(start)?)
        .stdout(writer);
    let mut child = command.spawn().map_err(start)?;
    // The writing ends that this process still holds would keep the pipe open for ever.
    drop(command);
    let mut printed = vec![];
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = reader.read(&mut buffer).map_err(start)?;
        if read == 0 {
            break;
        }
        tell(&buffer[..read]);
        printed.extend_from_slice(&buffer[..read]);
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

/// Runs a program quietly and returns its standard output.
pub fn run(argv: &[String]) -> Result<Vec<u8>, ProgramError> {
    let output = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProgramError::Start {
            program: argv[0].clone(),
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
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Words as an argument list.
pub fn argv<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
