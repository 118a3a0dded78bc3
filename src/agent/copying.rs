//! Whether data can be copied to its new place, looked at before anything changes.
//!
//! Runs on the host; changes nothing. A plan, `belay doctor` and Fetch take the same look; the copy itself is
//! [`crate::steps`]'s, in Migrate.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::backup::{Content, content};
use super::continuity::{Before, Candidate, Found, Part, find};
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use belay_model::composition::continuity::Finding;
use belay_model::composition::copying::{
    Copying, DataCopy, NewPlace, NoCopy, WantedCopy, wanted_copies,
};
use belay_model::composition::data::DataKind;
use belay_model::composition::data_view::Source;
use belay_model::text::size;

/// What must stay free on a disk beyond what is copied there, in bytes.
const RESERVE: u64 = 64 * 1024 * 1024;

/// A copy that can be made, with the size of the data.
struct Sized {
    copy: DataCopy,
    bytes: u64,
}

/// What is copied when this version takes over; refused, with the reason, when that cannot be done. `besides`: what the
/// transaction writes below the root as well, in bytes.
pub(crate) fn examine(
    host: &dyn Host,
    layout: &Layout,
    before: &Before,
    candidate: &Candidate<'_>,
    besides: u64,
) -> Result<Copying, AgentError> {
    if candidate.is_rollback || !candidate.rules.may_copy() {
        return Ok(Copying::default());
    }
    let found = find(host, layout, before, candidate, Part::All);
    let wanted = wanted_copies(&found.judged.meant).map_err(|no| refused(&found, &no))?;
    let look = Look { host, before };
    let sized = wanted.iter().map(|wanted| look.at(wanted));
    let sized: Vec<Sized> = sized.collect::<Result<_, _>>()?;
    refuse_without_room(host, layout, &sized, besides)?;
    let copies: Vec<DataCopy> = sized.into_iter().map(|sized| sized.copy).collect();
    if copies.is_empty() {
        return Ok(Copying::default());
    }
    let sources: Vec<DataKind> = copies.iter().map(|copy| copy.from.clone()).collect();
    Ok(Copying {
        writers: before.writers(&sources),
        elsewhere: before.other_project(),
        copies,
    })
}

fn refused(found: &Found, no: &NoCopy) -> AgentError {
    let NoCopy {
        finding,
        why,
        instead,
    } = no;
    let Finding { source, .. } = finding;
    let name = found.names.get(source).map_or("", String::as_str);
    let said = finding.describe(name);
    AgentError::new(format!(
        "{said}: belay.yml says that it is copied, and it cannot be, because {why}"
    ))
    .next(*instead)
}

/// A look at the places of data.
struct Look<'a> {
    host: &'a dyn Host,
    before: &'a Before,
}

impl Look<'_> {
    fn at(&self, wanted: &WantedCopy) -> Result<Sized, AgentError> {
        let what = format!("{} cannot be copied to {}", wanted.from, wanted.to);
        let gone = || AgentError::new(format!("{what}: it is not on this host"));
        let from = self.before.kind(&wanted.from).ok_or_else(gone)?;
        let to = kind_of(&wanted.to).ok_or_else(gone)?;
        let is_file = is_a_file(&from);
        if is_file && matches!(to, DataKind::Volume { .. }) {
            let text = format!("{what}: it is a single file, and a volume is a directory");
            return Err(AgentError::new(text).next("mount a path there"));
        }
        let reader = self.host.data_reader(self.before.project());
        let bytes = reader.size(&from);
        let bytes = bytes.map_err(|e| AgentError::doing(&*what, e))?;
        let before = self.new_place(&to, is_file).map_err(|why| match why {
            Taken::By(name) => {
                let text = format!("{what}, which is not empty: {name} is there");
                AgentError::new(text).next(way_on(&to, &wanted.from))
            }
            Taken::Failed(error) => AgentError::doing(&*what, *error),
        })?;
        let copy = DataCopy {
            from,
            to,
            service: wanted.service.clone(),
            is_file,
            before,
        };
        Ok(Sized { copy, bytes })
    }

    fn new_place(&self, to: &DataKind, is_file: bool) -> Result<NewPlace, Taken> {
        match to {
            DataKind::Volume { name } => match self.host.volume(name)? {
                None => Ok(NewPlace::NoVolume),
                Some(_) => self.empty(to),
            },
            DataKind::Bind { path } => match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => no_path(path),
                Ok(found) if is_file || !found.is_dir() => Err(Taken::By("a file".to_owned())),
                // Only root may be able to look.
                Ok(_) | Err(_) => self.empty(to),
            },
        }
    }

    fn empty(&self, place: &DataKind) -> Result<NewPlace, Taken> {
        let reader = self.host.data_reader(self.before.project());
        match content(reader.as_ref(), place).map_err(AgentError::from)? {
            Content::Empty { mode, uid, gid } => Ok(NewPlace::Empty { mode, uid, gid }),
            Content::Some(name) => Err(Taken::By(name)),
        }
    }
}

/// Why a place cannot be used.
enum Taken {
    /// It holds something.
    By(String),
    Failed(Box<AgentError>),
}

impl<E: Into<AgentError>> From<E> for Taken {
    fn from(error: E) -> Self {
        Taken::Failed(Box::new(error.into()))
    }
}

fn kind_of(to: &Source) -> Option<DataKind> {
    match to {
        Source::Volume { name, .. } => Some(DataKind::Volume { name: name.clone() }),
        Source::Path(path) => Some(DataKind::Bind { path: path.into() }),
        Source::Unnamed { .. } | Source::Memory => None,
    }
}

fn is_a_file(kind: &DataKind) -> bool {
    match kind {
        DataKind::Bind { path } => fs::metadata(path).is_ok_and(|found| found.is_file()),
        DataKind::Volume { .. } => false,
    }
}

/// Belay makes the path as the user that it is on the host.
fn no_path(path: &Path) -> Result<NewPlace, Taken> {
    let missing = path.ancestors().take_while(|dir| !dir.exists());
    let first = missing.last().unwrap_or(path);
    let above = first.parent().unwrap_or(Path::new("/"));
    let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(above, wanted) {
        Ok(()) => Ok(NewPlace::NoPath(first.to_owned())),
        Err(_) => Err(AgentError::new(format!(
            "{} is not there, and this user may not make it",
            path.display()
        ))
        .next(format!(
            "make it on the host: sudo mkdir -p {}",
            belay_model::shell::quoted(&path.display().to_string())
        ))
        .into()),
    }
}

fn way_on(to: &DataKind, from: &Source) -> String {
    let setting = from.setting();
    let remove = match to {
        DataKind::Volume { name } => format!("docker volume rm {name}"),
        DataKind::Bind { .. } => "empty it".to_owned(),
    };
    format!(
        "if what is there is not needed: {remove}, on the host, and deploy again; if it is the data that is wanted, say \
         `moved` instead of `copied` for {setting} in belay.yml"
    )
}

/// A full disk in the middle of a copy would be undone, with a gap for nothing.
fn refuse_without_room(
    host: &dyn Host,
    layout: &Layout,
    sized: &[Sized],
    besides: u64,
) -> Result<(), AgentError> {
    // Of several copies each may go to the same disk.
    let bytes: u64 = sized.iter().map(|sized| sized.bytes).sum();
    for Sized { copy, .. } in sized {
        let dir = disk_of(host, &copy.to)?;
        let is_shared = device(&dir).is_none_or(|disk| Some(disk) == device(layout.root()));
        let needed = bytes + RESERVE + if is_shared { besides } else { 0 };
        // Docker's own directory may be hidden; the root is the best guess then.
        let free = host.free_bytes(&dir);
        let free = free.or_else(|_| host.free_bytes(layout.root()));
        let free = free.map_err(|e| AgentError::doing("could not read the free disk space", e))?;
        if free < needed {
            return Err(AgentError::new(format!(
                "not enough disk to copy {} to {}: with what the deployment needs besides {} may be taken there, and {} are \
                 free",
                copy.from,
                copy.to,
                size(needed),
                size(free)
            ))
            .next("free some space on the host; `belay doctor` lists volumes that nothing uses"));
        }
    }
    Ok(())
}

/// A directory on the disk that a place is on, or will be.
fn disk_of(host: &dyn Host, to: &DataKind) -> Result<PathBuf, AgentError> {
    Ok(match to {
        DataKind::Volume { .. } => host.data_root()?,
        DataKind::Bind { path } => {
            let there = path.ancestors().find(|dir| dir.is_dir());
            there.unwrap_or(Path::new("/")).to_owned()
        }
    })
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}
