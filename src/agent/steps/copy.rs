//! Copy: takes data along to the place where the new version has it.
//!
//! Part of Migrate, before the one-shot services run. What writes to the data stops first, and stays so until the new
//! version takes over; the data itself stays where it is, for the version before to come back to. The new place is the
//! transaction's own: it is empty or not there when the transaction begins, and is so again when that is undone.

use super::{StepContext, go_back, restore, services};
use crate::backup::{Content, Relayed, content, relay};
use crate::continuity::overlap;
use crate::durable;
use crate::error::AgentError;
use crate::host::{Container, HostError};
use crate::records;
use crate::sizes::wide;
use belay_model::composition::copying::{CopiedData, Copying, DataCopy, NewPlace};
use belay_model::composition::data::{DataKind, RestoredSource};
use belay_model::text::size;
use belay_model::transaction::outcome::with_causes;

pub(super) fn perform(
    work: &mut StepContext<'_>,
    copying: &Copying,
) -> Result<Vec<CopiedData>, AgentError> {
    make_places(work, copying)?;
    let filling = work.layout.filling(work.seq()?);
    let is_again = filling.exists();
    if !is_again {
        refuse_taken_places(work, copying)?;
    }
    stop(work, copying)?;
    work.may_act()?;
    records::write(&filling, b"", 0o600)?;
    let mut copied = vec![];
    for copy in &copying.copies {
        if let Some(reason) = work.wish_to_stop()? {
            return Err(AgentError::new(reason));
        }
        copied.push(copy_one(work, copy, is_again)?);
    }
    // Compose would start them again beside the candidates.
    restore::remove_start_first(work, |service| is_writer(copying, service))?;
    Ok(copied)
}

/// The version before serves again on its own data, and what was made for the copy goes.
pub(super) fn undo(work: &mut StepContext<'_>, copying: &Copying) -> Result<(), AgentError> {
    go_back::go_back(work)?;
    start_again(work, copying)?;
    if work.layout.filling(work.seq()?).exists() {
        for copy in &copying.copies {
            clear(work, copy)
                .map_err(|e| AgentError::doing(format!("could not empty {} again", copy.to), e))?;
        }
    }
    for copy in &copying.copies {
        remove_path(copy)?;
    }
    Ok(())
}

/// Has Compose make its volumes, so that they are Compose's own, and makes directories.
fn make_places(work: &StepContext<'_>, copying: &Copying) -> Result<(), AgentError> {
    let candidate = work.candidate()?;
    for copy in &copying.copies {
        match (&copy.before, &copy.to) {
            (NewPlace::Empty { .. }, _) | (NewPlace::NoVolume, DataKind::Bind { .. }) => {}
            (NewPlace::NoVolume, DataKind::Volume { name }) => {
                if work.host.volume(name)?.is_none() {
                    let there = work.sides(&copy.service)?;
                    let containers = there.incumbents.len() + there.candidates.len();
                    services::create(work, &candidate, &copy.service, containers)?;
                }
            }
            (NewPlace::NoPath(_), to) => make_path(work, to, copy.is_file)?,
        }
    }
    Ok(())
}

fn make_path(work: &StepContext<'_>, to: &DataKind, is_file: bool) -> Result<(), AgentError> {
    let DataKind::Bind { path } = to else {
        return Ok(());
    };
    let dir = match is_file {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    work.may_act()?;
    durable::make_dirs(dir, 0o777)
        .map_err(|e| AgentError::doing(format!("could not make {}", dir.display()), e))
}

/// Somebody may have put something there since it was looked at.
fn refuse_taken_places(work: &StepContext<'_>, copying: &Copying) -> Result<(), AgentError> {
    let project = work.preflight()?.project.clone();
    let reader = work.host.data_reader(&project);
    for DataCopy {
        from, to, is_file, ..
    } in &copying.copies
    {
        let taken = match (to, is_file) {
            (DataKind::Bind { path }, true) => path.exists().then(|| "a file".to_owned()),
            _ => match content(reader.as_ref(), to)? {
                Content::Empty { .. } => None,
                Content::Some(name) => Some(name),
            },
        };
        if let Some(name) = taken {
            let text = format!("{from} cannot be copied to {to}: {name} has come there meanwhile");
            return Err(AgentError::new(text).next("see what else uses it, and deploy again"));
        }
    }
    Ok(())
}

fn is_writer(copying: &Copying, service: &str) -> bool {
    copying.writers.iter().any(|writer| writer == service)
}

fn stop(work: &mut StepContext<'_>, copying: &Copying) -> Result<(), AgentError> {
    let has_it = |container: &Container| {
        let mut mounts = container.mounts.iter();
        mounts.any(|m| {
            copying
                .copies
                .iter()
                .any(|copy| overlap(&copy.from, &m.data))
        })
    };
    restore::stop(work, |c| is_writer(copying, &c.service) || has_it(c))?;
    match &copying.elsewhere {
        None => {
            let names = copying.writers.join(", ");
            work.note(format!(
                "{names} stopped, while the data is copied to its new place"
            ));
        }
        Some(other) => {
            for container in &other.containers {
                work.host.stop(container)?;
            }
            work.warn(format!(
                "{} is stopped, and stays so once this version has taken its place; its data stays, too. `docker compose \
                 down` there removes its containers",
                other.name
            ));
        }
    }
    Ok(())
}

fn start_again(work: &mut StepContext<'_>, copying: &Copying) -> Result<(), AgentError> {
    let Some(other) = &copying.elsewhere else {
        return Ok(());
    };
    for container in &other.containers {
        match work.host.start(container) {
            Err(error @ HostError::Gone { .. }) => work.warn(format!(
                "a container of {} could not be started again: {}",
                other.name,
                with_causes(&error)
            )),
            done => done?,
        }
    }
    Ok(())
}

fn copy_one(
    work: &mut StepContext<'_>,
    copy: &DataCopy,
    is_again: bool,
) -> Result<CopiedData, AgentError> {
    let (from, to) = (copy.from.to_string(), copy.to.to_string());
    let relayed = fill(work, copy, is_again).map_err(|e| {
        AgentError::doing(format!("could not copy {from} to {to}"), e)
            .next("see what stands in the way; the data is where it was, and as it was")
    })?;
    for left in &relayed.left_out {
        work.note(format!("{} was not copied: {}", left.path, left.why));
    }
    let copied = CopiedData {
        entries: wide(relayed.entries.len()),
        bytes: relayed.bytes,
        from,
        to,
    };
    work.note(format!(
        "{} is copied to {} and compared: {} files and directories, {}",
        copied.from,
        copied.to,
        copied.entries,
        size(copied.bytes)
    ));
    Ok(copied)
}

fn fill(work: &StepContext<'_>, copy: &DataCopy, is_again: bool) -> Result<Relayed, AgentError> {
    let project = work.preflight()?.project.clone();
    let mark = work.seq()?.to_string();
    let place = place_of(copy);
    let reader = work.host.data_reader(&project);
    restore::with_writer(work, |writer| {
        if is_again {
            writer.set_aside(&place, &mark)?;
            writer.forget(&place, &mark)?;
        }
        let mut relayed = Relayed::default();
        writer.fill(&place, &mut |out| {
            let done = relay(reader.as_ref(), &copy.from, &place, out);
            relayed = done.map_err(std::io::Error::other)?;
            Ok(())
        })?;
        writer.check(&place, &mark, &relayed.entries)?;
        Ok(relayed)
    })
}

fn place_of(copy: &DataCopy) -> RestoredSource {
    RestoredSource {
        kind: copy.to.clone(),
        path: String::new(),
        is_file: copy.is_file,
    }
}

/// Makes a place as empty as it was. A volume that Compose made goes with all that the transaction made.
fn clear(work: &StepContext<'_>, copy: &DataCopy) -> Result<(), AgentError> {
    let mark = work.seq()?.to_string();
    let place = place_of(copy);
    match (&copy.before, &copy.to) {
        (NewPlace::NoVolume, _) => Ok(()),
        // An undo that was cut off has removed it.
        (NewPlace::NoPath(_), DataKind::Bind { path }) if !path.exists() => Ok(()),
        (NewPlace::NoPath(_), _) => restore::with_writer(work, |writer| {
            writer.set_aside(&place, &mark)?;
            writer.forget(&place, &mark)
        }),
        (NewPlace::Empty { mode, uid, gid }, _) => restore::with_writer(work, |writer| {
            writer.set_aside(&place, &mark)?;
            writer.forget(&place, &mark)?;
            writer.fill(&place, &mut |out| {
                Content::directory(*mode, *uid, *gid, out)
            })
        }),
    }
}

/// Removes the directories that were made, but for what somebody has put there.
fn remove_path(copy: &DataCopy) -> Result<(), AgentError> {
    let (NewPlace::NoPath(first), DataKind::Bind { path }) = (&copy.before, &copy.to) else {
        return Ok(());
    };
    for dir in path.ancestors().take_while(|dir| dir.starts_with(first)) {
        match durable::remove_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => break,
            Err(error) if !is_gone(&error) => {
                return Err(AgentError::doing(
                    format!("could not remove {}", dir.display()),
                    error,
                ));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}
