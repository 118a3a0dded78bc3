//! Takes an application that ran before Belay came as release 0, so that the first deployment has something to go back to.
//!
//! Runs on the host, under the lock, before a transaction begins. It changes nothing that serves: the user's file is
//! copied as it is, and the images that its containers run are written down.

use super::host::{Composition, Host};
use super::layout::{Layout, RIVAL_FILES};
use super::lock::HostLock;
use super::state;
use super::steps::settle_project;
use crate::model::compose::{ComposeFile, Strategy, sha256};
use crate::model::outcome::Failure;
use crate::model::plan::Plan;
use crate::model::release::{Current, How, Release, ReleaseService};

/// The tag of an adopted release. It is no valid tag, so no pushed one can be mistaken for it.
pub const ADOPTED: &str = "adopted";

/// Adopts what is there, if there is something and Belay has no record of what serves.
pub fn adopt(
    host: &dyn Host,
    layout: &Layout,
    _lock: &HostLock,
    plan: &Plan,
) -> Result<(), Failure> {
    let nothing_known = state::current(layout)
        .map_err(|e| Failure::of(&e))?
        .is_none();
    let rivals = RIVAL_FILES
        .iter()
        .any(|name| layout.root().join(name).exists());
    if !nothing_known || rivals || !layout.compose().exists() {
        return Ok(());
    }
    let project = settle_project(layout, plan.project.as_deref(), None)?;
    let text = state::read_optional(&layout.compose())
        .map_err(|e| Failure::of(&e))?
        .unwrap_or_default();
    let composition = Composition {
        project: project.clone(),
        directory: layout.root().to_owned(),
        file: layout.compose(),
    };
    let document = host.render(&composition, &[]).map_err(|e| {
        Failure::of(&e).next("mend (or remove) the docker-compose.yml on the host; `docker compose config` checks it")
    })?;
    let file = ComposeFile::new(document.clone()).map_err(|e| Failure::of(&e))?;
    let release = Release {
        schema: 1,
        name: format!("0-{ADOPTED}"),
        seq: 0,
        tag: ADOPTED.to_owned(),
        revision: None,
        services: services(host, layout, &project, &file)?,
        compose_sha256: sha256(&text),
        files: vec![],
        created: host.now(),
        project,
    };
    let place = layout.release(&release.name);
    state::make_dir(place.dir()).map_err(|e| Failure::of(&e))?;
    state::write(&place.compose(), &text, 0o600).map_err(|e| Failure::of(&e))?;
    state::write_json(&place.normalised(), &document).map_err(|e| Failure::of(&e))?;
    state::write_json(&place.record(), &release).map_err(|e| Failure::of(&e))?;
    state::set_current(layout, &pointer(host, &release)).map_err(|e| Failure::of(&e))
}

fn services(
    host: &dyn Host,
    layout: &Layout,
    project: &str,
    file: &ComposeFile,
) -> Result<Vec<ReleaseService>, Failure> {
    let root = layout.root().display().to_string();
    let containers = host.containers(project).map_err(|e| Failure::of(&e))?;
    let classified = file.classify(&[], None).map_err(|e| Failure::of(&e))?;
    let mut services = vec![];
    for classified in classified {
        let container = containers
            .iter()
            .find(|c| c.service == classified.service && c.working_dir == root);
        let image_id = container.map(|c| c.image_id.clone()).unwrap_or_default();
        let image = if image_id.is_empty() {
            None
        } else {
            host.image(&image_id).map_err(|e| Failure::of(&e))?
        };
        services.push(ReleaseService {
            reference: file
                .image(&classified.service)
                .unwrap_or("built")
                .to_owned(),
            image_id,
            pin: String::new(),
            size: image.map_or(0, |image| image.size),
            strategy: match classified.strategy {
                Strategy::OneShot => Strategy::OneShot,
                _ => Strategy::StopFirst,
            },
            reason: "it ran before Belay came".to_owned(),
            healthcheck_needs_ms: file.healthcheck_needs_ms(&classified.service),
            name: classified.service,
        });
    }
    Ok(services)
}

fn pointer(host: &dyn Host, release: &Release) -> Current {
    Current {
        schema: 1,
        release: release.name.clone(),
        tag: release.tag.clone(),
        revision: None,
        project: release.project.clone(),
        environment: None,
        seq: 0,
        since: host.now(),
        how: How::Deploy,
        previous: None,
        bad: vec![],
    }
}
