//! Fetch: makes sure that every image is on the host, by ID, gives each a name of Belay's, and writes the release's record
//! and its rendered file.

use std::collections::BTreeMap;

use super::{Work, files};
use crate::agent::host::{Image, ImageName};
use crate::agent::state;
use crate::model::compose::{ComposeFile, pin, repository_prefix, sha256};
use crate::model::journal::{FetchedImage, Output};
use crate::model::outcome::{Failure, StrategyReport};
use crate::model::plan::{DeployWork, PlannedImage};
use crate::model::release::{Release, ReleaseFile, ReleaseService};
use crate::model::yaml;

pub(super) fn perform(work: &mut Work<'_>) -> Result<Output, Failure> {
    match work.deploy() {
        Some(deploy) => {
            let images = fetch_all(work, deploy)?;
            let release = record(work, deploy, &images)?;
            files::keep_displaced(work, &release)?;
            Ok(Output::Fetched {
                images,
                strategies: strategies(&release),
            })
        }
        None => {
            let release = work.candidate()?;
            let images = check_all(work, &release)?;
            files::keep_displaced(work, &release)?;
            Ok(Output::Fetched {
                images,
                strategies: strategies(&release),
            })
        }
    }
}

fn strategies(release: &Release) -> Vec<StrategyReport> {
    release
        .services
        .iter()
        .map(|s| StrategyReport {
            service: s.name.clone(),
            strategy: s.strategy.name().to_owned(),
            reason: s.reason.clone(),
        })
        .collect()
}

pub(super) fn undo(work: &mut Work<'_>) -> Result<(), Failure> {
    let Some(deploy) = work.deploy() else {
        return Ok(());
    };
    let preflight = work.preflight()?;
    let candidate = work.candidate_name()?;
    let needed_elsewhere: Vec<String> = state::releases(work.layout)
        .map_err(|e| Failure::of(&e))?
        .into_iter()
        .filter(|release| release.name != candidate)
        .flat_map(|release| release.services)
        .flat_map(|service| [service.pin, service.image_id])
        .collect();
    let prefix = repository_prefix(&preflight.project);
    let mut names = work
        .host
        .image_names(&prefix)
        .map_err(|e| Failure::of(&e))?;
    names.retain(|name| !preflight.images.contains(&name.reference));
    names.extend(arrival_names(work, deploy)?);
    for name in names {
        let needed = needed_elsewhere.contains(&name.reference)
            || needed_elsewhere.contains(&name.id) && is_the_last_name(work, &name)?;
        if !needed {
            work.host
                .forget_image(&name.reference)
                .map_err(|e| Failure::of(&e))?;
        }
    }
    Ok(())
}

/// The names under which the runner sent images for this transaction.
fn arrival_names(work: &Work<'_>, deploy: &DeployWork) -> Result<Vec<ImageName>, Failure> {
    let mut names = vec![];
    for planned in &deploy.images {
        let image = work
            .host
            .image(&planned.reference)
            .map_err(|e| Failure::of(&e))?;
        names.extend(image.map(|image| ImageName {
            reference: planned.reference.clone(),
            id: image.id,
        }));
    }
    Ok(names)
}

/// Whether the image goes when this name goes.
fn is_the_last_name(work: &Work<'_>, name: &ImageName) -> Result<bool, Failure> {
    let image = work.host.image(&name.id).map_err(|e| Failure::of(&e))?;
    Ok(image.is_none_or(|image| image.tags.len() < 2))
}

fn fetch_all(work: &mut Work<'_>, deploy: &DeployWork) -> Result<Vec<FetchedImage>, Failure> {
    let file = work.normalised(&work.candidate_name()?)?;
    let mut images = vec![];
    for service in file.service_names() {
        let planned = deploy.images.iter().find(|image| image.service == service);
        images.push(fetch(work, &file, &service, planned)?);
    }
    Ok(images)
}

fn fetch(
    work: &mut Work<'_>,
    file: &ComposeFile,
    service: &str,
    planned: Option<&PlannedImage>,
) -> Result<FetchedImage, Failure> {
    let project = work.preflight()?.project.clone();
    let (reference, image) = match planned {
        Some(planned) => (planned.reference.clone(), arrived(work, planned)?),
        None => {
            let reference = file.image(service).ok_or_else(|| {
                Failure::new(format!(
                    "service {service} has no image, and none was built for it"
                ))
            })?;
            (reference.to_owned(), pulled(work, reference)?)
        }
    };
    let pin = pin(&project, service, &image.id);
    work.host
        .name_image(&image.id, &pin)
        .map_err(|e| Failure::of(&e))?;
    Ok(FetchedImage {
        service: service.to_owned(),
        reference,
        id: image.id,
        pin,
        size: image.size,
    })
}

/// An image that the runner sent must be here by exactly its ID.
fn arrived(work: &Work<'_>, planned: &PlannedImage) -> Result<Image, Failure> {
    let image = work.host.image(&planned.id).map_err(|e| Failure::of(&e))?;
    image.ok_or_else(|| {
        Failure::new(format!(
            "the image of {} ({}) did not arrive on the host",
            planned.service, planned.id
        ))
        .next("deploy again; the image is sent anew")
    })
}

/// An image that the user's file names: the host's own, else from its registry.
fn pulled(work: &mut Work<'_>, reference: &str) -> Result<Image, Failure> {
    if let Some(image) = work.host.image(reference).map_err(|e| Failure::of(&e))? {
        return Ok(image);
    }
    work.note(format!("pulling {reference}"));
    work.host.pull(reference).map_err(|e| {
        Failure::of(&e).next(format!(
            "make sure that the host can `docker pull {reference}`"
        ))
    })?;
    let image = work.host.image(reference).map_err(|e| Failure::of(&e))?;
    image.ok_or_else(|| {
        Failure::new(format!(
            "{reference} was pulled, yet the host does not have it"
        ))
    })
}

fn record(
    work: &Work<'_>,
    deploy: &DeployWork,
    images: &[FetchedImage],
) -> Result<Release, Failure> {
    let name = work.candidate_name()?;
    let layout = work.layout.release(&name);
    let file = work.normalised(&name)?;
    let serving = work
        .previous()?
        .map(|previous| pinned(work, &previous))
        .transpose()?;
    let pins: BTreeMap<String, String> = images
        .iter()
        .map(|i| (i.service.clone(), i.pin.clone()))
        .collect();
    let pinned = file.pinned(&pins);
    let text = rendered_text(deploy, &pinned);
    state::write(&layout.compose(), text.as_bytes(), 0o600).map_err(|e| Failure::of(&e))?;
    let classified = pinned
        .classify(&deploy.strategies, serving.as_ref())
        .map_err(|e| Failure::of(&e))?;
    let services = classified.into_iter().filter_map(|classified| {
        let image = images
            .iter()
            .find(|image| image.service == classified.service)?;
        Some(ReleaseService {
            name: classified.service.clone(),
            reference: image.reference.clone(),
            image_id: image.id.clone(),
            pin: image.pin.clone(),
            size: image.size,
            strategy: classified.strategy,
            reason: classified.reason,
            healthcheck_needs_ms: file.healthcheck_needs_ms(&classified.service),
        })
    });
    let release = Release {
        schema: 1,
        seq: work.seq()?,
        tag: deploy.tag.clone(),
        revision: Some(deploy.revision.clone()),
        project: work.preflight()?.project.clone(),
        services: services.collect(),
        compose_sha256: sha256(text.as_bytes()),
        files: shipped_files(deploy)?,
        created: work.host.now(),
        name,
    };
    state::write_json(&layout.record(), &release).map_err(|e| Failure::of(&e))?;
    Ok(release)
}

/// A release's file with its pins, to compare services with.
fn pinned(work: &Work<'_>, release: &Release) -> Result<ComposeFile, Failure> {
    let pins = release
        .services
        .iter()
        .filter(|s| !s.pin.is_empty())
        .map(|s| (s.name.clone(), s.pin.clone()))
        .collect();
    Ok(work.normalised(&release.name)?.pinned(&pins))
}

fn rendered_text(deploy: &DeployWork, file: &ComposeFile) -> String {
    format!(
        "# Written by Belay for {} ({}). Change the file in the repository and push a tag; this one is replaced.\n{}",
        deploy.tag,
        deploy.revision,
        yaml::write(file.document())
    )
}

fn shipped_files(deploy: &DeployWork) -> Result<Vec<ReleaseFile>, Failure> {
    use base64::Engine as _;
    deploy
        .files
        .iter()
        .filter(|file| file.placed)
        .map(|file| {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(&file.base64)
                .map_err(|e| {
                    Failure::new(format!("the file {} did not arrive whole: {e}", file.path))
                })?;
            Ok(ReleaseFile {
                path: file.path.clone(),
                mode: file.mode,
                sha256: sha256(&bytes),
            })
        })
        .collect()
}

/// An earlier release's images must all still be here, before anything is touched.
fn check_all(work: &Work<'_>, release: &Release) -> Result<Vec<FetchedImage>, Failure> {
    release
        .services
        .iter()
        .filter(|service| !service.image_id.is_empty())
        .map(|service| {
            let image = work
                .host
                .image(&service.image_id)
                .map_err(|e| Failure::of(&e))?
                .ok_or_else(|| {
                    Failure::new(format!(
                        "the image of {} in {} is gone from the host",
                        service.name, release.tag
                    ))
                    .next("choose another version, or deploy that tag again")
                })?;
            if !service.pin.is_empty() {
                work.host
                    .name_image(&image.id, &service.pin)
                    .map_err(|e| Failure::of(&e))?;
            }
            Ok(FetchedImage {
                service: service.name.clone(),
                reference: service.reference.clone(),
                id: image.id,
                pin: service.pin.clone(),
                size: image.size,
            })
        })
        .collect()
}
