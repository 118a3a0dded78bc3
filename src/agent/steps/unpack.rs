//! Unpack: lays out the release's directory and lets the host's own Compose read the user's files.

use std::path::{Component, Path};

use serde_json::Value;

use super::{StepContext, files};
use crate::continuity::{Before, Part, redefined_volumes};
use crate::durable;
use crate::error::AgentError;
use crate::host::{Composition, Host};
use crate::layout::{BACKUPS, Layout, STATE};
use crate::records;
use crate::rendering::Rendering;
use crate::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::data_view::DataView;
use belay_model::composition::definitions::redefined_networks;
use belay_model::docker_versions::changes_networks;
use belay_model::transaction::journal::Output;
use belay_model::transaction::plan::{DeployWork, ShippedFile};

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let name = work.candidate_name()?;
    match work.deploy() {
        Some(deploy) => lay_out(work, deploy, &name)?,
        // An earlier release is there already; it must be what it was.
        None => files::verify(work, &work.candidate()?)?,
    }
    let file = work.normalised(&name)?;
    refuse_redefined(work, &file)?;
    refuse_lost_data(work, &file)?;
    let services = file.service_names();
    Ok(Output::Unpacked {
        release: name,
        services,
    })
}

/// Docker could change a network that runs only by taking everything off it, at no time that Belay chose. A Compose that
/// leaves it as it is is told of.
fn refuse_redefined(work: &mut StepContext<'_>, file: &ComposeFile) -> Result<(), AgentError> {
    let Some(previous) = work.previous()? else {
        return Ok(());
    };
    let before = work.normalised(&previous.name)?;
    let preflight = work.preflight()?;
    let mut networks = redefined_networks(&preflight.project, &before, file);
    networks.retain(|network| preflight.networks.contains(&network.name));
    if let Some(network) = networks.first() {
        let is_heeded = changes_networks(&work.host.engine()?.compose);
        let is_lost = network.works_otherwise() && work.deploy().is_some();
        if is_heeded || is_lost {
            return Err(AgentError::new(format!(
                "the network {} is defined otherwise than in {} ({}), and Docker changes a network only by taking every \
                 container off it",
                network.key,
                previous.tag,
                network.fields.join(", ")
            ))
            .next(
                "give it another name (a new key under `networks:` and in the services), so that both are there while the \
                 new version takes over; or, with a gap, run `docker compose down` on the host and deploy again",
            ));
        }
    }
    for network in networks {
        work.warn(format!(
            "the network {} is defined otherwise than in {} ({}); it stays as it is",
            network.key,
            previous.tag,
            network.fields.join(", ")
        ));
    }
    Ok(())
}

/// Refuses a version that would start without data that what serves has, unless belay.yml says that this is meant; and one
/// whose volumes are not what it thinks.
fn refuse_lost_data(work: &mut StepContext<'_>, file: &ComposeFile) -> Result<(), AgentError> {
    let project = work.preflight()?.project.clone();
    let previous = work.previous()?;
    let view = DataView::of_file(file, &project);
    let is_rollback = work.deploy().is_none();
    let redefined = redefined_volumes(work.host, &project, file, is_rollback)?;
    work.heed(redefined)?;
    let (before, part) = match &previous {
        Some(previous) => (
            Before::serving(work.host, work.layout, previous)?,
            Part::Named,
        ),
        None => (
            Before::elsewhere(work.host, work.layout, &project, work.plan, &view)?,
            Part::All,
        ),
    };
    work.compare_data(before.as_ref(), &view, part)
}

pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    if work.deploy().is_none() {
        return Ok(());
    }
    let Ok(name) = work.candidate_name() else {
        return Ok(());
    };
    work.may_act()?;
    Ok(state::remove_release(work.layout, &name)?)
}

fn lay_out(work: &StepContext<'_>, deploy: &DeployWork, name: &str) -> Result<(), AgentError> {
    work.may_act()?;
    // What an interrupted engine left is of this very transaction; it starts afresh.
    state::remove_release(work.layout, name)?;
    let release = work.layout.release(name);
    for file in deploy.files.iter().filter(|file| file.placed) {
        work.may_act()?;
        write_shipped(&release.files(), file)?;
        if let Some(spare) = work.layout.spare(&release.files()) {
            write_shipped(&spare, file)?;
        }
    }
    work.may_act()?;
    let project = &work.preflight()?.project;
    let document = read(
        work.host,
        work.layout,
        deploy,
        project,
        &release.rendering(),
    )?;
    let file = ComposeFile::new(document.clone())?;
    super::backup::check_names(work.plan, &file, project)?;
    work.may_act()?;
    records::write_json_spared(work.layout, &release.normalised(), &document)?;
    Ok(records::remove_dir(&release.rendering())?)
}

/// Lets Compose read the shipped files in a place that stands for the root, and then moves the paths in the result there.
/// `top` is a directory of its own for that place.
pub(crate) fn read(
    host: &dyn Host,
    layout: &Layout,
    deploy: &DeployWork,
    project: &str,
    top: &Path,
) -> Result<Value, AgentError> {
    let place = Rendering::new(top, layout.root());
    let directory = place.directory();
    for file in &deploy.files {
        write_shipped(&directory, file)?;
    }
    place
        .link()
        .map_err(|e| AgentError::doing(format!("could not lay out {}", top.display()), e))?;
    let variables = [
        ("BELAY_TAG".to_owned(), deploy.tag.clone()),
        ("BELAY_REVISION".to_owned(), deploy.revision.clone()),
        // What a shell in the root would say.
        ("PWD".to_owned(), directory.display().to_string()),
    ];
    let composition = Composition {
        project: project.to_owned(),
        file: directory.join(&deploy.compose_path),
        directory,
    };
    let mut document = host.render(&composition, &variables).map_err(|e| {
        AgentError::from(e.reworded(|text| place.said_of_root(text)))
            .next("`docker compose config` shows the same problem in a checkout of this tag")
    })?;
    place
        .moved_to_root(&mut document)
        .map_err(|e| AgentError::new(e.to_string()).next("write that path as an absolute one"))?;
    Ok(document)
}

fn write_shipped(dir: &Path, file: &ShippedFile) -> Result<(), AgentError> {
    let path = checked(&file.path)?;
    let bytes = files::content(file)?;
    let to = dir.join(path);
    if let Some(parent) = to.parent() {
        records::make_dir(parent)?;
    }
    durable::replace(&to, &bytes, file.mode & 0o777)
        .map_err(|e| AgentError::doing(format!("could not write {}", to.display()), e))
}

/// A path from the runner may only lead to a place under the root, and not into what is Belay's.
fn checked(path: &str) -> Result<&Path, AgentError> {
    let path = Path::new(path);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    let first = path.components().next().map(|c| c.as_os_str().to_owned());
    if plain && first.is_some_and(|first| first != STATE && first != BACKUPS) {
        return Ok(path);
    }
    Err(AgentError::new(format!(
        "{} is no place for a shipped file",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_file_stays_under_the_root_and_out_of_belays_own() {
        for path in [
            "../x",
            "/etc/passwd",
            "a/../../b",
            ".belay/current",
            "backups/x",
            "",
            ".",
        ] {
            assert!(checked(path).is_err(), "{path}");
        }
        for path in [".env", "nginx/conf.d/site.conf", "a..b"] {
            assert!(checked(path).is_ok(), "{path}");
        }
    }
}
