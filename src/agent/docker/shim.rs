//! The process between Docker and a container (containerd's shim), which tells Docker when the container ends.
//!
//! A shim holds that news back while it starts another process in the container: a healthcheck, say, or a line for the
//! gateway's runtime API. When Docker dies in the middle of that, nobody opens that process's pipes any more, and the shim
//! gives up only after half a minute. A Docker that is back by then takes the container for ended without the news. Started
//! at once, the container is taken down by the late news of the end before, started by its restart policy, taken down by the
//! news of *that* end, and so on for ever, until Docker can neither stop nor remove it (seen with Docker 26.1 and containerd
//! 1.7.24; why shims hold the news back: containerd's issue 9719 and pull request 10651). So nobody starts a container whose
//! old shim is still there.
//!
//! Runs on the host. Reads `/proc` and nothing else, and cannot fail: when the time is over, Docker is asked all the same.

use std::path::Path;
use std::time::{Duration, Instant};

/// How long a shim may take to give up: half a minute from Docker's death on.
const PATIENCE: Duration = Duration::from_secs(35);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until nothing is left of the run of this container, whose full ID this is, that Docker says has ended; not for one
/// that runs or is paused. Where processes of others cannot be seen, there is nothing to wait for.
pub(super) fn await_end(container: &str) {
    let began = Instant::now();
    while is_there(Path::new("/proc"), container) && began.elapsed() < PATIENCE {
        std::thread::sleep(LOOK);
    }
}

fn is_there(proc: &Path, container: &str) -> bool {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| is_shim_of(&line, container))
}

/// Whether this command line, as `/proc` has it, is that of the container's shim: `containerd-shim-runc-v2 -namespace moby
/// -id ID -address …`, and the same with shims of other runtimes.
fn is_shim_of(line: &[u8], container: &str) -> bool {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = words.first().copied().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.starts_with(b"containerd-shim"))
        && words
            .windows(2)
            .any(|pair| pair == [b"-id".as_slice(), container.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        b"/usr/bin/containerd-shim-runc-v2\0-namespace\0moby\0-id\0f00d\0-address\0/run/c.sock\0";

    #[test]
    fn a_shim_is_known_by_its_name_and_its_container() {
        assert!(is_shim_of(LINE, "f00d"));
        assert!(!is_shim_of(LINE, "f00"));
        assert!(!is_shim_of(LINE, "moby"));
        assert!(!is_shim_of(b"grep\0-id\0f00d\0", "f00d"));
        assert!(!is_shim_of(b"", "f00d"));
    }

    #[test]
    fn it_is_found_among_all_processes() {
        let proc = tempfile::tempdir().expect("a directory");
        let process = |pid: &str, line: &[u8]| {
            let dir = proc.path().join(pid);
            std::fs::create_dir(&dir).expect("made");
            std::fs::write(dir.join("cmdline"), line).expect("written");
        };
        process("1", b"/sbin/init\0");
        assert!(!is_there(proc.path(), "f00d"));
        process("812", LINE);
        assert!(is_there(proc.path(), "f00d"));
        assert!(!is_there(&proc.path().join("nothing"), "f00d"));
    }
}
