//! Reads volumes, bind mounts and logs through the Docker engine, so that no sudo is needed.
//!
//! Runs on the host, as a user of the docker group. A helper container that mounts the data read-only is created and
//! never started: `docker cp` has the engine, which is root, make a tar of what is mounted there, and any image will
//! do, an empty one included. Docker is called by argument lists, with a limit on its silence. The helper is removed
//! in every case; what a crash leaves, [`DockerReader::sweep`] finds by its label.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::manifest::DataKind;
use super::names::checked_part;
use super::{DataReader, LogSource, ReadError, Sink};

/// Marks helpers; its value is the project whose data they read.
const LABEL: &str = "dev.belay.helper";
/// Where a helper has the data.
const MOUNTED: &str = "/belay-data";

/// How long a call may take that has little to do.
const SHORT: Duration = Duration::from_secs(60);
/// How long a stream may say nothing.
const SILENCE: Duration = Duration::from_secs(120);
/// How long Docker may take to count what volumes hold, before we count ourselves.
const COUNTING: Duration = Duration::from_secs(30);
/// The longest pause between two looks at a child.
const LOOK: Duration = Duration::from_millis(20);

/// The most that is kept of what a program says.
const MOST_WORDS: u64 = 1024 * 1024;
/// The most lines of a container's logs.
const MOST_LINES: &str = "200000";

/// Where programs are looked for: SSH gives a session without login a short PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";
/// Variables that Docker needs of ours.
const PASSED_ON: [&str; 7] = [
    "HOME",
    "USER",
    "LANG",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "XDG_RUNTIME_DIR",
];

/// Reads an application's data through the engine.
#[derive(Debug)]
pub struct DockerReader {
    /// An image that the host has.
    image: Option<String>,
    project: String,
    /// Bytes in each volume, as the engine counted them.
    volumes: OnceLock<BTreeMap<String, u64>>,
}

impl DockerReader {
    /// A reader for a project's data, through any image that the host has.
    pub fn new(image: Option<&str>, project: &str) -> DockerReader {
        DockerReader {
            image: image.map(str::to_owned),
            project: project.to_owned(),
            volumes: OnceLock::new(),
        }
    }

    /// Creates a helper that has the data mounted.
    fn helper(&self, source: &DataKind) -> Result<Helper, ReadError> {
        let image = self.image.as_deref().ok_or(ReadError::NoImage)?;
        check_presence(source)?;
        let (label, mount) = (format!("{LABEL}={}", self.project), mount_of(source));
        let words = [
            "create",
            "--pull=never",
            "--label",
            &label,
            "--network",
            "none",
            "--mount",
            &mount,
        ];
        // The helper never runs, but must have a command that it would run.
        let created = docker(words.into_iter().chain([image, "x"]), SHORT);
        match created {
            Ok(printed) => Ok(Helper {
                id: printed.trim().to_owned(),
            }),
            Err(ReadError::Docker { said, .. }) if said.contains("path does not exist") => {
                Err(ReadError::Absent)
            }
            Err(error) => Err(error),
        }
    }

    fn volume_sizes(&self) -> &BTreeMap<String, u64> {
        self.volumes.get_or_init(|| {
            let printed = docker(
                ["system", "df", "--verbose", "--format", "{{json .Volumes}}"],
                COUNTING,
            );
            // Without an answer the volumes are counted one by one.
            printed.map(|text| parse_sizes(&text)).unwrap_or_default()
        })
    }

    fn count(&self, source: &DataKind) -> Result<u64, ReadError> {
        let mut total = 0;
        self.read(source, &mut |stream| {
            total += io::copy(stream, &mut io::sink())?;
            Ok(())
        })?;
        Ok(total)
    }
}

impl DataReader for DockerReader {
    fn read(&self, source: &DataKind, sink: Sink<'_>) -> Result<(), ReadError> {
        let helper = self.helper(source)?;
        let from = format!("{}:{MOUNTED}", helper.id);
        stream(docker_command(["cp", &from, "-"]), sink, SILENCE)
    }

    fn size(&self, source: &DataKind) -> Result<u64, ReadError> {
        let known = match source {
            DataKind::Volume { name } => {
                check_presence(source)?;
                self.volume_sizes().get(name).copied()
            }
            DataKind::Bind { path } => tree_size(path)?,
        };
        match known {
            Some(size) => Ok(size),
            None => self.count(source),
        }
    }

    fn sweep(&self) -> Result<(), ReadError> {
        let filter = format!("label={LABEL}={}", self.project);
        let listed = docker(
            ["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter],
            SHORT,
        )?;
        for id in listed.split_whitespace() {
            remove_helper(id)?;
        }
        Ok(())
    }

    fn logs(&self, source: &LogSource, most: u64) -> Result<Vec<u8>, ReadError> {
        let share = most / (source.containers.len().max(1) as u64);
        let mut all = vec![];
        for container in &source.containers {
            if source.containers.len() > 1 {
                all.extend_from_slice(format!("==> {container} <==\n").as_bytes());
            }
            all.extend_from_slice(&container_logs(container, source.lines, share)?);
        }
        Ok(all)
    }
}

/// A container that exists to have data mounted; removed when dropped.
struct Helper {
    id: String,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // What could not be removed is found by its label later.
        let _ = remove_helper(&self.id);
    }
}

fn remove_helper(id: &str) -> Result<(), ReadError> {
    // `--volumes` takes those without a name, which an image's VOLUME has made for the helper; never named ones.
    docker(["rm", "--force", "--volumes", id], SHORT).map(drop)
}

/// Docker would make a volume that does not exist.
fn check_presence(source: &DataKind) -> Result<(), ReadError> {
    match source {
        DataKind::Volume { name } => {
            if checked_part(name).is_err() {
                return Err(ReadError::Absent);
            }
            match docker(["volume", "inspect", "--format", "{{.Name}}", name], SHORT) {
                Err(ReadError::Docker { said, .. })
                    if said.to_lowercase().contains("no such volume") =>
                {
                    Err(ReadError::Absent)
                }
                other => other.map(drop),
            }
        }
        DataKind::Bind { path } => match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Absent),
            // Only root may be able to look.
            Ok(_) | Err(_) => Ok(()),
        },
    }
}

/// The words after `--mount`: a line of comma-separated values, where a comma in a path needs quotes.
fn mount_of(source: &DataKind) -> String {
    let (kind, from, more) = match source {
        DataKind::Volume { name } => ("volume", name.clone(), ",volume-nocopy"),
        DataKind::Bind { path } => ("bind", path.to_string_lossy().into_owned(), ""),
    };
    let field = format!("src={from}");
    let field = match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    format!("type={kind},{field},dst={MOUNTED},readonly{more}")
}

/// The bytes below a path; nothing when this user may not see them all.
fn tree_size(path: &Path) -> Result<Option<u64>, ReadError> {
    let mut total = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        match look_at(&path) {
            Ok((size, mut inside)) => {
                // Each has a header, and is padded.
                total += size + 1024;
                waiting.append(&mut inside);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && total == 0 => {
                return Err(ReadError::Absent);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(total))
}

fn look_at(path: &Path) -> io::Result<(u64, Vec<std::path::PathBuf>)> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok((
            if metadata.is_file() {
                metadata.len()
            } else {
                0
            },
            vec![],
        ));
    }
    let inside = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    Ok((0, inside))
}

/// What `docker system df` says of volumes.
fn parse_sizes(text: &str) -> BTreeMap<String, u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Volume {
        name: String,
        size: String,
    }
    let volumes: Vec<Volume> = serde_json::from_str(text).unwrap_or_default();
    volumes
        .into_iter()
        .filter_map(|volume| Some((volume.name, parse_size(&volume.size)?)))
        .collect()
}

/// A size like `1.674MB`, rounded up: four digits were kept of it.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..digits].parse().ok()?;
    let power = ["B", "kB", "MB", "GB", "TB", "PB"]
        .iter()
        .position(|unit| *unit == &text[digits..])?;
    let bytes = number * 1000f64.powi(i32::try_from(power).ok()?);
    // The cast saturates.
    Some((bytes * 1.002).ceil() as u64 + 4096)
}

fn docker_command<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new("docker");
    command
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null());
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs Docker to its end and returns what it printed.
fn docker<'a>(
    words: impl IntoIterator<Item = &'a str>,
    limit: Duration,
) -> Result<String, ReadError> {
    let mut command = docker_command(words);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ReadError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| words_of(stdout));
        let err = scope.spawn(|| words_of(stderr));
        let status = wait(&Mutex::new(child), limit);
        let (out, err) = (
            out.join().unwrap_or_default(),
            err.join().unwrap_or_default(),
        );
        settled(&command, status, &err, limit).map(|()| out)
    })
}

/// Runs a command and hands what it prints to `sink`, unless it stays silent for too long.
fn stream(mut command: Command, sink: Sink<'_>, silence: Duration) -> Result<(), ReadError> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ReadError::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let child = Mutex::new(child);
    let waiting_since = Mutex::new(None);
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        let err = scope.spawn(|| words_of(stderr));
        let (child_seen, since_seen) = (&child, &waiting_since);
        let watchdog =
            scope.spawn(move || kill_when_silent(child_seen, since_seen, silence, &is_done));
        let mut output = Watched {
            stdout,
            waiting_since: &waiting_since,
        };
        let taken = sink(&mut output).and_then(|()| io::copy(&mut output, &mut io::sink()));
        // A program that still writes is told that nobody reads.
        drop(output);
        let status = wait(&child, SHORT);
        drop(done);
        let silent = watchdog.join().unwrap_or(false);
        let err = err.join().unwrap_or_default();
        if silent {
            return Err(too_long(&command, silence));
        }
        taken.map_err(ReadError::Sink)?;
        settled(&command, status, &err, SHORT)
    })
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

/// A program's output, with the time since when we wait for more of it.
struct Watched<'a> {
    stdout: Option<ChildStdout>,
    waiting_since: &'a Mutex<Option<Instant>>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.stdout else {
            return Ok(0);
        };
        let note = |since| {
            *self
                .waiting_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = since
        };
        note(Some(Instant::now()));
        let result = stdout.read(buffer);
        note(None);
        result
    }
}

/// Waits for a child's end; nothing when it took too long and was killed.
fn wait(child: &Mutex<Child>, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let status = child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait()?;
        if status.is_some() {
            return Ok(status);
        }
        if began.elapsed() > limit {
            kill(child);
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn settled(
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
            Err(ReadError::Docker {
                what: described(command),
                said,
            })
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

fn words_of(stream: Option<impl Read>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut words = vec![];
    // What could not be read is missing from a message; the exit status decides.
    let _ = (&mut stream).take(MOST_WORDS).read_to_end(&mut words);
    let _ = io::copy(&mut stream, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

/// The end of a container's logs, of both its outputs in the order in which they came.
fn container_logs(container: &str, lines: Option<u32>, most: u64) -> Result<Vec<u8>, ReadError> {
    let lines = lines.map_or_else(|| MOST_LINES.to_owned(), |lines| lines.to_string());
    let words = ["logs", "--timestamps", "--tail", &lines, container];
    let (mut output, input) = io::pipe().map_err(ReadError::Start)?;
    let mut command = docker_command(words);
    let both = input.try_clone().map_err(ReadError::Start)?;
    let child = Mutex::new(
        command
            .stdout(input)
            .stderr(both)
            .spawn()
            .map_err(ReadError::Start)?,
    );
    // Else our own ends of the pipe would keep it open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (text, status) = thread::scope(|scope| {
        let text = scope.spawn(|| last_bytes(&mut output, most));
        let status = wait(&child, SHORT);
        (text.join().unwrap_or_else(|_| Ok(vec![])), status)
    });
    let text = text.map_err(ReadError::Start)?;
    let said = String::from_utf8_lossy(&text[text.len().saturating_sub(500)..]).into_owned();
    settled(&command, status, &said, SHORT).map(|()| text)
}

/// The last `most` bytes of a stream, from the beginning of a line on.
fn last_bytes(stream: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut kept: Vec<u8> = vec![];
    let mut cut = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        let ended = count == 0;
        kept.extend_from_slice(&buffer[..count]);
        // Not at every read, which would move all of it each time.
        if kept.len() > most.saturating_mul(2) || (ended && kept.len() > most) {
            kept.drain(..kept.len() - most);
            cut = true;
        }
        if ended {
            break;
        }
    }
    if let (true, Some(line)) = (cut, kept.iter().position(|b| *b == b'\n')) {
        kept.drain(..=line);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        let plain = mount_of(&DataKind::Bind {
            path: "/srv/a b".into(),
        });
        assert_eq!(plain, "type=bind,src=/srv/a b,dst=/belay-data,readonly");
        let odd = mount_of(&DataKind::Bind {
            path: "/srv/a,readonly=false,\"b".into(),
        });
        assert_eq!(
            odd,
            "type=bind,\"src=/srv/a,readonly=false,\"\"b\",dst=/belay-data,readonly"
        );
    }

    #[test]
    fn sizes_are_rounded_up_never_down() {
        assert!(parse_size("1.674MB").is_some_and(|size| (1_674_999..1_700_000).contains(&size)));
        assert!(parse_size("0B").is_some());
        assert_eq!(parse_size("N/A"), None);
        assert_eq!(parse_size(""), None);
    }

    #[test]
    fn the_end_of_logs_begins_with_a_line() {
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        let kept = last_bytes(&mut text.as_bytes(), 1000).expect("read");
        let kept = String::from_utf8(kept).expect("text");
        assert!(kept.len() <= 1000 && kept.starts_with("line ") && kept.ends_with("line 19999\n"));
        assert_eq!(
            last_bytes(&mut "short".as_bytes(), 1000).expect("read"),
            b"short"
        );
    }

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
