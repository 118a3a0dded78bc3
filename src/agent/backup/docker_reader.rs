//! Reads volumes, bind mounts and logs through the Docker engine, so that no sudo is needed.
//!
//! Runs on the host, as a user of the docker group. This very program, in a helper container that mounts the data read-only,
//! writes a tar of it ([`pack`](super::pack)).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::calls::{SHORT, docker, docker_command, settled, stream};
use super::helper::{Helpers, MOUNTED, MountAccess, check_presence};
use super::{DataKind, DataReader, LogSource, ReadError, Sink};
use crate::command::wait;
use crate::sizes::{first, wide};

/// How long Docker may take to count what volumes hold, before we count ourselves.
const COUNTING: Duration = Duration::from_secs(30);
/// How long a helper may say nothing: while it lists what there is, and a slow disk may take its time for a million files.
const LISTING: Duration = Duration::from_mins(10);
/// The most lines of a container's logs.
const MOST_LINES: &str = "200000";

/// Reads an application's data through the engine.
#[derive(Debug)]
pub struct DockerReader {
    helpers: Helpers,
    /// Bytes in each volume, as the engine counted them.
    volumes: OnceLock<BTreeMap<String, u64>>,
}

impl DockerReader {
    /// A reader for a project's data. `program` is this one, or of the same commands.
    #[must_use]
    pub fn new(program: &Path, project: &str) -> DockerReader {
        DockerReader {
            helpers: Helpers::of(program, project),
            volumes: OnceLock::new(),
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
        let words = ["agent", "pack", "--dir", MOUNTED];
        let helper = self.helpers.create(source, MountAccess::Read, &words)?;
        let start = ["start", "--attach", &helper.id];
        stream(docker_command(start), sink, LISTING)
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
        self.helpers.sweep()
    }

    fn logs(&self, source: &LogSource, most: u64) -> Result<Vec<u8>, ReadError> {
        let share = most / wide(source.containers.len().max(1));
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
    let (number, unit) = text.split_at_checked(digits)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let power = ["B", "kB", "MB", "GB", "TB", "PB"]
        .iter()
        .position(|known| *known == unit)?;
    let unit = 1000u64.checked_pow(u32::try_from(power).ok()?)?;
    let parts = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let mut bytes = whole.parse::<u64>().ok()?.saturating_mul(unit);
    if !fraction.is_empty() {
        let fraction = fraction.parse::<u64>().ok()?.saturating_mul(unit);
        bytes = bytes.saturating_add(fraction.div_ceil(parts));
    }
    Some(
        bytes
            .saturating_add(bytes.div_ceil(500))
            .saturating_add(4096),
    )
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
    let end = text.get(text.len().saturating_sub(500)..);
    let said = String::from_utf8_lossy(end.unwrap_or_default()).into_owned();
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
        kept.extend_from_slice(first(&buffer, count));
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
}
