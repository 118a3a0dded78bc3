//! What serves and was not brought by Belay: an application that ran before Belay came, taken as release 0 so that the first
//! deployment has something to go back to; and a version that somebody brought back by the emergency path.
//!
//! Runs on the host, under the lock, before a transaction begins and at its end. Adopting changes nothing that serves: the
//! user's file is copied as it is, and the images that its containers run are written down.

use super::down::lasting;
use super::error::AgentError;
use super::host::{Composition, Container, Host, HostError, Image, ImageContent};
use super::layout::{Layout, RIVAL_FILES};
use super::lock::HostLock;
use super::records;
use super::state;
use super::steps::settle_project;
use belay_model::composition::compose::ComposeFile;
use belay_model::digest::sha256;
use belay_model::replacement::strategy::{Strategy, classify};
use belay_model::replacement::wishes::GatewayRule;
use belay_model::transaction::plan::Plan;
use belay_model::versions::release::{Current, How, Release, ReleaseService};

/// The tag of an adopted release. It is no valid tag, so no pushed one can be mistaken for it.
pub const ADOPTED: &str = "adopted";

/// Adopts what is there, if there is something and Belay has no record of what serves.
pub fn adopt(
    host: &dyn Host,
    layout: &Layout,
    _lock: &HostLock,
    plan: &Plan,
) -> Result<(), AgentError> {
    let nothing_known = state::current(layout)?.is_none();
    let rivals = RIVAL_FILES
        .iter()
        .any(|name| layout.root().join(name).exists());
    if !nothing_known || rivals || !layout.compose().exists() {
        return Ok(());
    }
    let project = settle_project(layout, plan.project.as_deref(), None)?;
    let text = records::read_optional(&layout.compose())?.unwrap_or_default();
    let composition = Composition {
        project: project.clone(),
        directory: layout.root().to_owned(),
        file: layout.compose(),
    };
    let document = host.render(&composition, &[]).map_err(|e| {
        AgentError::from(e).next("mend (or remove) the docker-compose.yml on the host; `docker compose config` checks it")
    })?;
    let file = ComposeFile::new(document.clone())?;
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
        fronts: vec![],
        wishes: vec![],
        gateway: GatewayRule::Off,
        store: Some(host.engine()?.store),
        project,
    };
    let place = layout.release(&release.name);
    records::make_dir(place.dir())?;
    records::write_spared(layout, &place.compose(), &text, 0o600)?;
    records::write_json_spared(layout, &place.normalised(), &document)?;
    records::write_json_spared(layout, &place.record(), &release)?;
    Ok(state::set_current(layout, &pointer(host, &release))?)
}

/// The release that `docker-compose.yml` is the file of, when that is another one than the records say: somebody took the
/// emergency path.
pub fn unrecorded(layout: &Layout) -> Result<Option<Release>, AgentError> {
    let Some(current) = state::current(layout)? else {
        return Ok(None);
    };
    let text = records::read_optional(&layout.compose())?;
    let Some(hash) = text.map(|text| sha256(&text)) else {
        return Ok(None);
    };
    let releases = state::releases(layout)?;
    // Two releases may have one and the same file; then the records are as right as the file is.
    let serving = releases.iter().find(|r| r.name == current.release);
    if serving.is_some_and(|serving| serving.compose_sha256 == hash) {
        return Ok(None);
    }
    Ok(releases
        .into_iter()
        .rev()
        .find(|r| r.compose_sha256 == hash))
}

/// A version that somebody brought back.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub release: Release,
    /// Why not all of it runs, if so.
    pub incomplete: Option<AgentError>,
}

/// How an emergency path that was taken is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By a contact, with nothing under way. Where nothing of the application runs somebody has stopped it, and it stays so.
    AtRest,
    /// At the end of a transaction, which took containers away and made some beside the person: it has to make good.
    BesideTransaction,
}

/// Takes note of an emergency path that was taken: what serves now is what the file says, the version that was left is bad,
/// and what of the one that was brought back is missing is made.
pub fn take_note(
    host: &dyn Host,
    layout: &Layout,
    _lock: &HostLock,
    found: Found,
) -> Result<Option<Taken>, AgentError> {
    let Some(release) = unrecorded(layout)? else {
        return Ok(None);
    };
    let Some(before) = state::current(layout)? else {
        return Ok(None);
    };
    let mut bad = before.bad;
    bad.retain(|name| *name != release.name);
    bad.push(before.release.clone());
    let current = Current {
        how: How::Rollback,
        previous: Some(before.release),
        environment: before.environment,
        seq: before.seq,
        bad,
        ..pointer(host, &release)
    };
    state::set_current(layout, &current)?;
    let incomplete = complete(host, layout, &release, found).err();
    Ok(Some(Taken {
        release,
        incomplete,
    }))
}

/// Makes a version that somebody brought back by hand the only one: beside a transaction, containers of another one may have
/// come back meanwhile, and some of its own may be missing.
fn complete(
    host: &dyn Host,
    layout: &Layout,
    release: &Release,
    found: Found,
) -> Result<(), AgentError> {
    let containers = host.containers(&release.project)?;
    if found == Found::AtRest && !containers.iter().any(Container::is_alive) {
        return Ok(());
    }
    let is_of_it = |c: &Container| {
        let service = release.service(&c.service);
        service.is_some_and(|s| s.engine_id().is_empty() || s.engine_id() == c.image_id)
    };
    for other in containers.iter().filter(|c| !c.one_off && !is_of_it(c)) {
        host.remove_container(&other.id)?;
    }
    let composition = Composition {
        project: release.project.clone(),
        directory: layout.root().to_owned(),
        file: layout.release(&release.name).compose(),
    };
    let file = state::normalised(layout, &release.name).ok().flatten();
    // Also what runs, as `docker-compose up -d` does it: the other version may have had it otherwise. What one lacks, a
    // port that the other version's gateway has, may be free when all the others are as they should be.
    let mut waiting: Vec<&str> = vec![];
    for service in lasting(release, file.as_ref()) {
        if host.up(&composition, &service.name).is_err() {
            waiting.push(&service.name);
        }
    }
    waiting
        .into_iter()
        .try_for_each(|service| host.up(&composition, service))?;
    Ok(())
}

fn services(
    host: &dyn Host,
    layout: &Layout,
    project: &str,
    file: &ComposeFile,
) -> Result<Vec<ReleaseService>, AgentError> {
    let root = layout.root().display().to_string();
    let containers = host.containers(project)?;
    let classified = classify(file, &[], &GatewayRule::Off, None)?;
    let mut services: Vec<ReleaseService> = vec![];
    for classified in classified {
        let container = containers
            .iter()
            .find(|c| c.service == classified.service && c.working_dir == root);
        let found = container.map(|c| identified(host, &c.image_id)).transpose();
        let found = found?.flatten();
        services.push(ReleaseService {
            reference: file
                .image(&classified.service)
                .unwrap_or("built")
                .to_owned(),
            size: found.as_ref().map_or(0, |(_, content)| content.size),
            layers: found
                .as_ref()
                .map_or(vec![], |(image, _)| image.layers.clone()),
            config: found.map_or(String::new(), |(_, content)| content.config),
            engine_id: container.map(|c| c.image_id.clone()),
            pin: String::new(),
            strategy: match classified.strategy {
                Strategy::OneShot => Strategy::OneShot,
                _ => Strategy::StopFirst,
            },
            reason: "it ran before Belay came".to_owned(),
            healthcheck_needs_ms: file.healthcheck_needs_ms(&classified.service),
            image_volumes: vec![],
            name: classified.service,
        });
    }
    Ok(services)
}

/// A container's image; nothing when it is gone although the container is not.
fn identified(host: &dyn Host, id: &str) -> Result<Option<(Image, ImageContent)>, HostError> {
    match host.image(id)? {
        Some(image) => Ok(Some((image, host.image_content(id)?))),
        None => Ok(None),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::RealHost;
    use crate::lock::{self, Locking};
    use belay_model::transaction::journal::Holder;

    fn release(layout: &Layout, seq: u64, file: &str) -> Release {
        let release = Release {
            schema: 1,
            name: format!("{seq}-v1.{seq}.0"),
            seq,
            tag: format!("v1.{seq}.0"),
            revision: None,
            project: "app".to_owned(),
            services: vec![],
            compose_sha256: sha256(file.as_bytes()),
            files: vec![],
            created: jiff::Timestamp::UNIX_EPOCH,
            fronts: vec![],
            wishes: vec![],
            gateway: GatewayRule::Off,
            store: None,
        };
        records::make_dir(layout.release(&release.name).dir()).expect("made");
        records::write_json(&layout.release(&release.name).record(), &release).expect("written");
        release
    }

    #[test]
    fn an_emergency_path_that_was_taken_is_taken_note_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::new(dir.path());
        state::prepare(&layout).expect("prepared");
        release(&layout, 1, "old");
        let serving = release(&layout, 2, "new");
        let host = RealHost::new();
        let previous = Some("1-v1.1.0".to_owned());
        let current = Current {
            seq: 2,
            previous,
            ..pointer(&host, &serving)
        };
        state::set_current(&layout, &current).expect("written");
        let Ok(Locking::Held(lock)) = lock::take(&layout, &Holder::default()) else {
            panic!("the lock is free")
        };

        std::fs::write(layout.compose(), "new").expect("written");
        take_note(&host, &layout, &lock, Found::AtRest).expect("looked");
        assert_eq!(state::current(&layout).expect("readable"), Some(current));

        std::fs::write(layout.compose(), "old").expect("written");
        take_note(&host, &layout, &lock, Found::AtRest).expect("looked");
        let noted = state::current(&layout).expect("readable").expect("there");
        assert_eq!(
            (noted.release.as_str(), noted.previous.as_deref()),
            ("1-v1.1.0", Some("2-v1.2.0"))
        );
        assert_eq!(noted.how, How::Rollback);

        std::fs::write(layout.compose(), "somebody's own").expect("written");
        assert_eq!(unrecorded(&layout).expect("looked"), None);
    }
}
