//! Fetch: makes sure that every image is on the host, by what it is, gives each a name of Belay's, and writes the release's
//! record and its rendered file.

use std::collections::BTreeMap;

use super::{StepContext, files, mounted, prune};
use crate::continuity::{Before, Candidate, Part};
use crate::copying::examine;
use crate::error::AgentError;
use crate::host::{Image, ImageContent, ImageName};
use crate::images::{Images, Wanted};
use crate::records;
use crate::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::compose::ReleaseFile;
use belay_model::composition::copying::{Copying, GAP_FOR_A_COPY};
use belay_model::composition::data_view::DataView;
use belay_model::composition::image::Content;
use belay_model::composition::project::{pin, repository_prefix};
use belay_model::digest::sha256;
use belay_model::replacement::gateway::{fronts, with_gateway};
use belay_model::replacement::moves::{Moves, Rendered, gateway_gap, moves};
use belay_model::replacement::nginx::heed_nginx;
use belay_model::replacement::strategy::{ServiceStrategy, Strategy, classify};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::replacement::wishes::GatewayRule;
use belay_model::transaction::journal::{FetchedImage, Output};
use belay_model::transaction::plan::{DeployWork, PlannedImage};
use belay_model::versions::release::{Release, ReleaseService};
use belay_model::yaml;

pub(super) fn perform(work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    let (images, release) = if let Some(deploy) = work.deploy() {
        let images = fetch_all(work, deploy)?;
        let release = record(work, deploy, &images)?;
        (images, release)
    } else {
        let mut release = work.candidate()?;
        (check_all(work, &mut release)?, release)
    };
    files::keep_displaced(work, &release)?;
    let previous = work.previous()?;
    refuse_lost_data(work, &release, previous.as_ref())?;
    let serving = previous.as_ref().map(|p| rendered(work, p)).transpose()?;
    let mut moves = moves(
        &rendered(work, &release)?,
        by_itself(work, &release)?,
        serving.as_ref(),
    );
    warn_of_data_beside(work, &release, &moves)?;
    if work.restoration().is_some() {
        moves.announce_a_gap("everything stops while its data is put back");
    }
    let copying = copying(work, &release, previous.as_ref())?;
    moves.announce_a_gap_of(&copying.writers, GAP_FOR_A_COPY);
    if let Some(gap) = gateway_gap(&moves.gateway, previous.is_none()) {
        work.note(format!("a gap is to be expected {gap}"));
    }
    Ok(Output::Fetched {
        images,
        strategies: strategies(&moves, previous.is_none()),
        moves,
        copying: Box::new(copying),
    })
}

/// What is copied to its new place; refused here, before anything changes, when it cannot be.
fn copying(
    work: &StepContext<'_>,
    release: &Release,
    previous: Option<&Release>,
) -> Result<Copying, AgentError> {
    if work.deploy().is_none() || !work.plan.continuity.may_copy() {
        return Ok(Copying::default());
    }
    let (host, layout) = (work.host, work.layout);
    let view = DataView::of_file(&with_image_volumes(work, release)?, &release.project);
    let before = match previous {
        Some(previous) => Before::serving(host, layout, previous)?,
        None => Before::elsewhere(host, layout, &release.project, work.plan, &view)?,
    };
    let Some(before) = before else {
        return Ok(Copying::default());
    };
    let candidate = Candidate {
        tag: &release.tag,
        view: &view,
        is_rollback: false,
        rules: &work.plan.continuity,
    };
    let besides = work.preflight()?.backup_estimate_bytes;
    examine(host, layout, &before, &candidate, besides)
}

/// Now that the images are known: data of what serves that is in volumes without a name.
fn refuse_lost_data(
    work: &mut StepContext<'_>,
    release: &Release,
    previous: Option<&Release>,
) -> Result<(), AgentError> {
    let view = DataView::of_file(&with_image_volumes(work, release)?, &release.project);
    if work.deploy().is_some() {
        let is_lasting = |service: &str| {
            let service = release.service(service);
            service.is_none_or(|service| service.strategy != Strategy::OneShot)
        };
        for volume in view.unnamed().iter().filter(|v| is_lasting(&v.service)) {
            work.note(format!("{}; {}", volume.describe(), volume.advice()));
        }
    }
    let Some(previous) = previous else {
        return Ok(());
    };
    let before = Before::serving(work.host, work.layout, previous)?;
    work.compare_data(before.as_ref(), &view, Part::Unnamed)
}

/// A rollback brings a version back as it was. One that starts beside what serves has none of its data in volumes without a
/// name; a deployment of such a one is refused where its strategy is decided.
fn warn_of_data_beside(
    work: &mut StepContext<'_>,
    release: &Release,
    moves: &Moves,
) -> Result<(), AgentError> {
    if work.deploy().is_some() {
        return Ok(());
    }
    let view = DataView::of_file(&with_image_volumes(work, release)?, &release.project);
    let is_beside = |service: &str| moves.start_first().any(|beside| beside == service);
    for volume in view.unnamed().iter().filter(|v| is_beside(&v.service)) {
        work.warn(format!(
            "{} starts beside what serves, so {} begins there with an empty volume at {}",
            release.tag, volume.service, volume.target
        ));
    }
    Ok(())
}

/// A release's file, with what its images declare to be data.
fn with_image_volumes(
    work: &StepContext<'_>,
    release: &Release,
) -> Result<ComposeFile, AgentError> {
    let volumes = release
        .services
        .iter()
        .map(|s| (s.name.as_str(), s.image_volumes.as_slice()));
    Ok(work.normalised(&release.name)?.with_image_volumes(volumes))
}

fn strategies(moves: &Moves, is_first: bool) -> Vec<ServiceStrategy> {
    let mut told = moves.services.clone();
    if is_first {
        for service in &mut told {
            service.gap = None;
        }
    }
    if let Some(gap) = gateway_gap(&moves.gateway, is_first) {
        told.push(ServiceStrategy {
            service: GATEWAY_SERVICE.to_owned(),
            strategy: Strategy::Gateway,
            reason: "it takes over the published ports".to_owned(),
            gap: Some(gap),
        });
    }
    told
}

/// A release as it runs: pinned, and behind its gateway.
fn rendered(work: &StepContext<'_>, release: &Release) -> Result<Rendered, AgentError> {
    let pins: BTreeMap<String, String> = release
        .services
        .iter()
        .filter(|s| !s.pin.is_empty())
        .map(|s| (s.name.clone(), s.pin.clone()))
        .collect();
    let file = work
        .normalised(&release.name)?
        .pinned(&pins)
        .with_files_labelled(work.layout.root(), &release.files);
    let gateway = pins.get(GATEWAY_SERVICE).map_or("", String::as_str);
    Ok(Rendered {
        file: with_gateway(&file, &release.fronts, gateway),
        fronts: release.fronts.clone(),
    })
}

/// What each service of a release is by itself, whatever served before it.
fn by_itself(
    work: &StepContext<'_>,
    release: &Release,
) -> Result<Vec<ServiceStrategy>, AgentError> {
    let file = with_image_volumes(work, release)?;
    let mut wishes = release.wishes.clone();
    if work.deploy().is_none() {
        // An earlier version is brought back as it was, by rules of its time.
        for wish in &mut wishes {
            wish.leave_all(&file);
        }
    }
    let judged = classify(&file, &wishes, &release.gateway, None);
    let texts = mounted::nginx_texts(work, release, &file);
    judged
        .and_then(|judged| heed_nginx(&file, judged, &release.wishes, &texts))
        .map_err(AgentError::from)
}

pub(super) fn undo(work: &mut StepContext<'_>) -> Result<(), AgentError> {
    let Some(deploy) = work.deploy() else {
        return Ok(());
    };
    let preflight = work.preflight()?;
    let candidate = work.candidate_name()?;
    let needed_elsewhere: Vec<String> = state::releases(work.layout)?
        .into_iter()
        .filter(|release| release.name != candidate)
        .flat_map(|release| release.services)
        .flat_map(|service| [service.engine_id().to_owned(), service.pin])
        .collect();
    let prefix = repository_prefix(&preflight.project);
    let mut names = work.host.image_names(&prefix)?;
    let arriving = prune::staged_references(work, Some(&work.plan.tx))?;
    names.retain(|name| {
        !preflight.images.contains(&name.reference) && !arriving.contains(&name.reference)
    });
    names.extend(arrival_names(work, deploy)?);
    for name in names {
        let needed = needed_elsewhere.contains(&name.reference)
            || needed_elsewhere.contains(&name.id) && is_the_last_name(work, &name)?;
        if !needed {
            work.host.forget_image(&name.reference)?;
        }
    }
    Ok(())
}

/// The names under which the runner sent images for this transaction.
fn arrival_names(
    work: &StepContext<'_>,
    deploy: &DeployWork,
) -> Result<Vec<ImageName>, AgentError> {
    let mut names = vec![];
    for planned in &deploy.images {
        let image = work.host.image(&planned.reference)?;
        names.extend(image.map(|image| ImageName {
            reference: planned.reference.clone(),
            id: image.id,
        }));
    }
    Ok(names)
}

/// Whether the image goes when this name goes.
fn is_the_last_name(work: &StepContext<'_>, name: &ImageName) -> Result<bool, AgentError> {
    let image = work.host.image(&name.id)?;
    Ok(image.is_none_or(|image| image.tags.len() < 2))
}

fn fetch_all(
    work: &mut StepContext<'_>,
    deploy: &DeployWork,
) -> Result<Vec<FetchedImage>, AgentError> {
    let file = work.normalised(&work.candidate_name()?)?;
    let releases = state::releases(work.layout)?;
    let mut images = vec![];
    for service in file.service_names() {
        let planned = deploy.images.iter().find(|image| image.service == service);
        images.push(fetch(work, &releases, &file, &service, planned)?);
    }
    Ok(images)
}

fn fetch(
    work: &mut StepContext<'_>,
    releases: &[Release],
    file: &ComposeFile,
    service: &str,
    planned: Option<&PlannedImage>,
) -> Result<FetchedImage, AgentError> {
    if let Some(planned) = planned {
        let (image, content) = arrived(work, releases, planned)?;
        return named(work, releases, service, &planned.reference, image, content);
    }
    let reference = file.image(service).ok_or_else(|| {
        AgentError::new(format!(
            "service {service} has no image, and none was built for it"
        ))
    })?;
    let (image, content) = pulled(work, releases, reference)?;
    named(work, releases, service, reference, image, content)
}

/// Gives an image its name of Belay's. Where another packing of the same image has the name already, that one is taken:
/// containers run from it, and Compose would replace them if the name led elsewhere.
fn named(
    work: &StepContext<'_>,
    releases: &[Release],
    service: &str,
    reference: &str,
    image: Image,
    content: ImageContent,
) -> Result<FetchedImage, AgentError> {
    let pin = pin(&work.preflight()?.project, service, &content.config);
    let pinned = Wanted {
        content: Content {
            config: content.config.clone(),
            layers: image.layers.clone(),
        },
        manifest: None,
        names: vec![&pin],
    };
    let image = if let Some(there) = Images::new(work.host, releases).find(&pinned)? {
        there
    } else {
        work.host.name_image(&image.id, &pin)?;
        image
    };
    Ok(FetchedImage {
        service: service.to_owned(),
        reference: reference.to_owned(),
        id: content.config,
        layers: image.layers,
        engine_id: image.id,
        pin,
        size: content.size,
        volumes: image.volumes,
    })
}

/// An image that the runner sent, or knows to be here already, must be exactly that.
fn arrived(
    work: &StepContext<'_>,
    releases: &[Release],
    planned: &PlannedImage,
) -> Result<(Image, ImageContent), AgentError> {
    let wanted = Wanted::planned(planned, releases);
    let found = Images::new(work.host, releases).find(&wanted);
    let image = found?.ok_or_else(|| {
        AgentError::new(format!(
            "the image of {} ({}) did not arrive on the host",
            planned.service, planned.id
        ))
        .next("deploy again; the image is sent anew")
    })?;
    take_over_name(work, &planned.reference, &image)?;
    let content = ImageContent {
        config: planned.id.clone(),
        size: planned.size,
    };
    Ok((image, content))
}

/// What came in another packing is of no use beside the image that is there already; its name is the version's.
fn take_over_name(
    work: &StepContext<'_>,
    reference: &str,
    image: &Image,
) -> Result<(), AgentError> {
    let arrived = work.host.image(reference)?;
    if arrived.is_none_or(|arrived| arrived.id == image.id) {
        return Ok(());
    }
    let forgotten = work.host.forget_image(reference);
    forgotten
        .and_then(|()| work.host.name_image(&image.id, reference))
        .map_err(AgentError::from)
}

/// An image that the user's file names: the host's own, else from its registry.
fn pulled(
    work: &mut StepContext<'_>,
    releases: &[Release],
    reference: &str,
) -> Result<(Image, ImageContent), AgentError> {
    let mut image = work.host.image(reference)?;
    if image.is_none() {
        work.note(format!("pulling {reference}"));
        work.host.pull(reference).map_err(|e| {
            AgentError::from(e).next(format!(
                "make sure that the host can `docker pull {reference}`"
            ))
        })?;
        image = work.host.image(reference)?;
    }
    let image = image.ok_or_else(|| {
        AgentError::new(format!(
            "{reference} was pulled, yet the host does not have it"
        ))
    })?;
    let content = Images::new(work.host, releases).content(&image.id);
    Ok((image, content?))
}

fn record(
    work: &mut StepContext<'_>,
    deploy: &DeployWork,
    images: &[FetchedImage],
) -> Result<Release, AgentError> {
    let name = work.candidate_name()?;
    let layout = work.layout.release(&name);
    let file = work.normalised(&name)?;
    let mut release = Release {
        schema: 1,
        seq: work.seq()?,
        tag: deploy.tag.clone(),
        revision: Some(deploy.revision.clone()),
        project: work.preflight()?.project.clone(),
        services: images.iter().map(|image| service(image, &file)).collect(),
        compose_sha256: String::new(),
        files: shipped_files(deploy)?,
        created: work.host.now(),
        store: Some(work.host.engine()?.store),
        fronts: vec![],
        wishes: deploy.strategies.clone(),
        gateway: work.plan.gateway.clone(),
        name,
    };
    let by_itself = by_itself(work, &release)?;
    release.fronts = fronts(&file, &behind_the_gateway(&by_itself), &release.wishes);
    for classified in by_itself {
        let mut services = release.services.iter_mut();
        if let Some(service) = services.find(|s| s.name == classified.service) {
            service.strategy = classified.strategy;
            service.reason = classified.reason;
        }
    }
    if !release.fronts.is_empty() {
        let gateway = fetch_gateway(work, deploy)?;
        release.services.push(gateway);
    }
    let text = rendered_text(deploy, &rendered(work, &release)?.file);
    release.compose_sha256 = sha256(text.as_bytes());
    work.may_act()?;
    records::write_spared(work.layout, &layout.compose(), text.as_bytes(), 0o600)?;
    work.may_act()?;
    records::write_json_spared(work.layout, &layout.record(), &release)?;
    Ok(release)
}

fn behind_the_gateway(services: &[ServiceStrategy]) -> Vec<String> {
    let behind = services
        .iter()
        .filter(|c| c.strategy == Strategy::StartFirstGateway);
    behind.map(|c| c.service.clone()).collect()
}

/// A service of the new release; its strategy is settled once all of them are known.
fn service(image: &FetchedImage, file: &ComposeFile) -> ReleaseService {
    ReleaseService {
        name: image.service.clone(),
        reference: image.reference.clone(),
        config: image.id.clone(),
        layers: image.layers.clone(),
        engine_id: Some(image.engine_id.clone()),
        pin: image.pin.clone(),
        size: image.size,
        strategy: Strategy::StopFirst,
        reason: String::new(),
        healthcheck_needs_ms: file.healthcheck_needs_ms(&image.service),
        image_volumes: image.volumes.clone(),
    }
}

/// The gateway's own image, sent like the application's, or the host's own, or pulled.
fn fetch_gateway(
    work: &mut StepContext<'_>,
    deploy: &DeployWork,
) -> Result<ReleaseService, AgentError> {
    let planned = deploy
        .images
        .iter()
        .find(|image| image.service == GATEWAY_SERVICE);
    let releases = state::releases(work.layout)?;
    let (reference, (image, content)) = match (planned, &work.plan.gateway) {
        (Some(planned), _) => (&planned.reference, arrived(work, &releases, planned)?),
        (None, GatewayRule::On { image }) => (image, pulled(work, &releases, image)?),
        (None, GatewayRule::Off) => return Err(AgentError::new("the plan has no gateway")),
    };
    let fetched = named(work, &releases, GATEWAY_SERVICE, reference, image, content)?;
    Ok(ReleaseService {
        strategy: Strategy::Gateway,
        reason: "it stands in front of the services that publish ports".to_owned(),
        healthcheck_needs_ms: None,
        ..service(&fetched, &work.normalised(&work.candidate_name()?)?)
    })
}

fn rendered_text(deploy: &DeployWork, file: &ComposeFile) -> String {
    format!(
        "# Written by Belay for {} ({}). Change the file in the repository and push a tag; this one is replaced.\n{}",
        deploy.tag,
        deploy.revision,
        yaml::write(file.document())
    )
}

fn shipped_files(deploy: &DeployWork) -> Result<Vec<ReleaseFile>, AgentError> {
    deploy
        .files
        .iter()
        .filter(|file| file.placed)
        .map(|file| {
            Ok(ReleaseFile {
                path: file.path.clone(),
                mode: file.mode,
                sha256: sha256(&files::content(file)?),
            })
        })
        .collect()
}

/// An earlier release's images must all still be here, before anything is touched. What the engine calls them now is
/// recorded: it may keep them in another store than when the release was made.
fn check_all(
    work: &StepContext<'_>,
    release: &mut Release,
) -> Result<Vec<FetchedImage>, AgentError> {
    let before = release.clone();
    let releases = state::releases(work.layout)?;
    let found = Images::new(work.host, &releases).refresh(release);
    let mut fetched = vec![];
    for (name, image) in found? {
        let image = image.ok_or_else(|| {
            AgentError::new(format!(
                "the image of {name} in {} is gone from the host",
                release.tag
            ))
            .next("choose another version, or deploy that tag again")
        })?;
        let service = release
            .service(&name)
            .ok_or_else(|| AgentError::new(format!("{} has no service {name}", release.tag)))?;
        if !service.pin.is_empty() {
            work.host.name_image(&image.id, &service.pin)?;
        }
        fetched.push(FetchedImage {
            service: name,
            reference: service.reference.clone(),
            id: service.config.clone(),
            layers: image.layers,
            engine_id: image.id,
            pin: service.pin.clone(),
            size: service.size,
            volumes: image.volumes,
        });
    }
    release.store = Some(work.host.engine()?.store);
    work.note_in_record(&before, release)?;
    Ok(fetched)
}
