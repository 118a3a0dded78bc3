//! Containers that exist to have data mounted.
//!
//! Runs on the host, as a user of the docker group: what runs in a helper is root there, and reads and writes what is
//! mounted. A helper is removed in every case; what a crash leaves, `sweep` finds by its label.

use std::fs;
use std::io;
use std::path::Path;

use super::calls::{SHORT, docker};
use super::helper_image::{HelperImage, PROGRAM};
use super::names::checked_part;
use super::{DataKind, ReadError};
use crate::trouble::Trouble;

/// Marks helpers; its value is the project whose data they read.
const LABEL: &str = "dev.belay.helper";
/// Where a helper has the data.
pub(super) const MOUNTED: &str = "/belay-data";

/// What a helper may do with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MountAccess {
    Read,
    Write,
}

/// Makes helpers for one project's data.
#[derive(Debug)]
pub(super) struct Helpers {
    image: HelperImage,
    project: String,
}

impl Helpers {
    /// Helpers that run the program at a path.
    pub(super) fn of(program: &Path, project: &str) -> Helpers {
        Helpers {
            image: HelperImage::of(program),
            project: project.to_owned(),
        }
    }

    /// Creates a helper that has data mounted at [`MOUNTED`]. Started, it runs this program with `arguments`.
    pub(super) fn create(
        &self,
        source: &DataKind,
        access: MountAccess,
        arguments: &[&str],
    ) -> Result<Helper, ReadError> {
        check_presence(source)?;
        let image = self.image.ready()?;
        let program = format!("/{PROGRAM}");
        let label = format!("{LABEL}={}", self.project);
        let mount = mount_of(source, access);
        let options = [
            "create",
            "--pull=never",
            // One that is started reads what it is given.
            "--interactive",
            "--label",
            &label,
            "--network",
            "none",
            // What it prints is the data: Docker would keep a copy of it among its logs.
            "--log-driver",
            "none",
            "--user",
            "0:0",
            // Root as the host knows it: `userns-remap` and SELinux would hide an owner's files.
            "--userns",
            "host",
            "--security-opt",
            "label=disable",
            "--mount",
            &mount,
            image,
            &program,
        ];
        let words = options.into_iter().chain(arguments.iter().copied());
        let created = docker(words, SHORT);
        match created {
            Ok(printed) => Ok(Helper {
                id: printed.trim().to_owned(),
            }),
            Err(error) if error.trouble() == Trouble::NoPath => Err(ReadError::Absent),
            Err(error) => Err(error),
        }
    }

    /// Ends and removes every helper that somebody left.
    pub(super) fn sweep(&self) -> Result<(), ReadError> {
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
}

/// A container that exists to have data mounted; removed when dropped.
pub(super) struct Helper {
    pub(super) id: String,
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
pub(super) fn check_presence(source: &DataKind) -> Result<(), ReadError> {
    match source {
        DataKind::Volume { name } => {
            if checked_part(name).is_err() {
                return Err(ReadError::Absent);
            }
            match docker(["volume", "inspect", "--format", "{{.Name}}", name], SHORT) {
                Err(error) if error.trouble() == Trouble::NoVolume => Err(ReadError::Absent),
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
fn mount_of(source: &DataKind, access: MountAccess) -> String {
    let (kind, from, more) = match source {
        // Without the option Docker would fill an empty volume from the helper's image.
        DataKind::Volume { name } => ("volume", name.clone(), ",volume-nocopy"),
        DataKind::Bind { path } => ("bind", path.to_string_lossy().into_owned(), ""),
    };
    let access = match access {
        MountAccess::Read => ",readonly",
        MountAccess::Write => "",
    };
    let field = format!("src={from}");
    let field = match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    };
    format!("type={kind},{field},dst={MOUNTED}{access}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_does_not_end_it() {
        let bind = |path: &str| mount_of(&DataKind::Bind { path: path.into() }, MountAccess::Read);
        let plain = bind("/srv/a b");
        assert_eq!(plain, "type=bind,src=/srv/a b,dst=/belay-data,readonly");
        let odd = bind("/srv/a,readonly=false,\"b");
        assert_eq!(
            odd,
            "type=bind,\"src=/srv/a,readonly=false,\"\"b\",dst=/belay-data,readonly"
        );
    }
}
