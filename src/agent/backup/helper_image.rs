//! The image that helpers are made of: this program as its only file.
//!
//! Runs on the host, as a user of the docker group. It is named by its content and made when it is not there, so it does not
//! matter who removes it, or when; nothing of the application has to be on the host for its data to be read or written. Other
//! versions of it go when one is made.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::ReadError;
use super::calls::{SHORT, SILENCE, docker, docker_command, feed};
use super::tar_out::{Kind, Meta, write_end, write_header, write_padding};
use crate::sizes::first;
use belay_model::digest::hex;

/// The name of the images, without a tag.
const REPOSITORY: &str = "belay-helper";
/// Where the program is in them.
pub(super) const PROGRAM: &str = "belay";

/// An image for helpers, made when it is first asked for.
#[derive(Debug)]
pub(super) struct HelperImage {
    program: PathBuf,
    name: OnceLock<String>,
}

impl HelperImage {
    /// Of the program at a path.
    pub(super) fn of(program: &Path) -> HelperImage {
        HelperImage {
            program: program.to_owned(),
            name: OnceLock::new(),
        }
    }

    /// Its name, once it is on the host.
    pub(super) fn ready(&self) -> Result<&str, ReadError> {
        let name = if let Some(name) = self.name.get() {
            name
        } else {
            let name = name_of(&self.program).map_err(ReadError::Program)?;
            self.name.get_or_init(|| name)
        };
        if !is_there(name)? {
            self.import(name)?;
            forget_others(name);
        }
        Ok(name)
    }

    fn import(&self, name: &str) -> Result<(), ReadError> {
        let mut write = |out: &mut dyn Write| write_layer(&self.program, out);
        feed(docker_command(["import", "-", name]), &mut write, SILENCE).map(drop)
    }
}

fn name_of(program: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(program)?, &mut hash)?;
    let hash = hex(&hash.finalize());
    let short = first(hash.as_bytes(), 12);
    Ok(format!("{REPOSITORY}:{}", String::from_utf8_lossy(short)))
}

fn is_there(name: &str) -> Result<bool, ReadError> {
    let found = docker(["images", "--quiet", name], SHORT)?;
    Ok(!found.trim().is_empty())
}

/// Those of other versions. One that a helper has, or that cannot be removed, is left for the next time.
fn forget_others(name: &str) {
    let format = "{{.Repository}}:{{.Tag}}";
    let listed = docker(["images", "--format", format, REPOSITORY], SHORT).unwrap_or_default();
    for other in listed.split_whitespace().filter(|other| *other != name) {
        let _ = docker(["rmi", other], SHORT);
    }
}

/// A tar with the program in it.
fn write_layer(program: &Path, mut out: &mut dyn Write) -> io::Result<()> {
    let mut file = File::open(program)?;
    let size = file.metadata()?.len();
    let meta = Meta {
        mode: 0o755,
        ..Meta::default()
    };
    write_header(&mut out, PROGRAM.as_bytes(), &Kind::File, &meta, size)?;
    let copied = io::copy(&mut file, &mut out)?;
    if copied != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    write_padding(&mut out, size)?;
    write_end(&mut out)
}
