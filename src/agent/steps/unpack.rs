//! Unpack: lays out the release's directory and lets the host's own Compose read the user's files.

use std::path::{Component, Path};

use serde_json::Value;

use super::{StepContext, files};
use crate::durable;
use crate::error::AgentError;
use crate::host::Composition;
use crate::layout::{BACKUPS, STATE};
use crate::records;
use crate::rendering::Rendering;
use crate::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::definitions::{Section, redefined};
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
    let (project, there) = (preflight.project.clone(), preflight.networks.clone());
    let find = |section| redefined(&project, &before, file, section);
    let mut networks = find(Section::Networks);
    networks.retain(|network| there.contains(&network.name));
    if let Some(network) = networks.first() {
        let compose = work.host.engine()?.compose;
        if changes_networks(&compose) {
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
    let volumes = find(Section::Volumes).into_iter().map(|v| ("volume", v));
    for (what, thing) in networks.into_iter().map(|n| ("network", n)).chain(volumes) {
        work.warn(format!(
            "the {what} {} is defined otherwise than in {} ({}); it stays as it is",
            thing.key,
            previous.tag,
            thing.fields.join(", ")
        ));
    }
    Ok(())
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
    let place = Rendering::new(&release.rendering(), work.layout.root());
    for file in &deploy.files {
        work.may_act()?;
        write_shipped(&place.directory(), file)?;
        if file.placed {
            write_shipped(&release.files(), file)?;
            if let Some(spare) = work.layout.spare(&release.files()) {
                write_shipped(&spare, file)?;
            }
        }
    }
    place.link().map_err(|e| {
        AgentError::doing(format!("could not lay out {}", release.dir().display()), e)
    })?;
    let document = render(work, deploy, &place)?;
    let file = ComposeFile::new(document.clone())?;
    super::backup::check_names(work.plan, &file, &work.preflight()?.project)?;
    work.may_act()?;
    records::write_json_spared(work.layout, &release.normalised(), &document)?;
    Ok(records::remove_dir(&release.rendering())?)
}

/// Lets Compose read the shipped files in a place that stands for the root, and then moves the paths in the result there.
fn render(
    work: &StepContext<'_>,
    deploy: &DeployWork,
    place: &Rendering,
) -> Result<Value, AgentError> {
    let directory = place.directory();
    let variables = [
        ("BELAY_TAG".to_owned(), deploy.tag.clone()),
        ("BELAY_REVISION".to_owned(), deploy.revision.clone()),
        // What a shell in the root would say.
        ("PWD".to_owned(), directory.display().to_string()),
    ];
    let composition = Composition {
        project: work.preflight()?.project.clone(),
        file: directory.join(&deploy.compose_path),
        directory,
    };
    let mut document = work.host.render(&composition, &variables).map_err(|e| {
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
