//! What a plan would mean for the application's data: the look that a transaction takes, without a transaction.
//!
//! Runs on the host; changes nothing but a place of its own, where Compose reads the plan's files.

use std::collections::BTreeSet;

use super::continuity::{Before, Candidate, Part, Verdict, compare, redefined_volumes};
use super::copying::examine;
use super::error::AgentError;
use super::host::Host;
use super::layout::Layout;
use super::records::remove_dir;
use super::state;
use super::steps::{rollback_target, settle_project, unpack};
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::data::DataKind;
use belay_model::composition::data_view::DataView;
use belay_model::transaction::plan::{DeployWork, Plan, PlannedWork};
use belay_model::versions::release::{Current, Release};
use belay_wire::{DataOutlook, UnusedVolume};

/// Looks at the data of what serves, and at what the plan would make of it.
pub(crate) fn outlook(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
) -> Result<DataOutlook, AgentError> {
    let current = state::current(layout)?;
    let project = settle_project(layout, plan.project.as_deref(), current.as_ref())?;
    let next = next_version(host, layout, plan, &project, current.as_ref())?;
    let before = before(host, layout, plan, &project, current.as_ref(), &next.view)?;
    let mut verdict = redefined_volumes(host, &project, &next.file, next.is_rollback)?;
    let mut stops = vec![];
    if let Some(before) = &before {
        let candidate = Candidate {
            tag: &next.tag,
            view: &next.view,
            is_rollback: next.is_rollback,
            rules: &plan.continuity,
        };
        verdict.add(compare(host, layout, before, &candidate, Part::All));
        match examine(host, layout, before, &candidate, 0) {
            Ok(copying) => stops = copying.writers,
            Err(error) => drop(verdict.refusal.get_or_insert(error)),
        }
    }
    let Verdict {
        refusal,
        mut warnings,
        notes,
    } = verdict;
    warnings.extend(notes);
    let mut used = next.view.volumes();
    used.extend(before.iter().flat_map(Before::volumes));
    Ok(DataOutlook {
        refusal: refusal.map(AgentError::into_failure),
        warnings,
        unnamed: next.view.unnamed(),
        unused: unused(host, &project, &used)?,
        stops,
    })
}

/// The version that the plan would bring.
struct NextVersion {
    tag: String,
    file: ComposeFile,
    view: DataView,
    is_rollback: bool,
}

fn next_version(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
    project: &str,
    current: Option<&Current>,
) -> Result<NextVersion, AgentError> {
    match &plan.work {
        PlannedWork::Deploy(deploy) => {
            let place = layout.looked_at(&plan.tx);
            let document = unpack::read(host, layout, deploy, project, &place.join("rendering"));
            // What cannot be removed is in nobody's way, and the answer is worth more.
            let _ = remove_dir(&place);
            let file = ComposeFile::new(document?)?;
            Ok(NextVersion {
                tag: deploy.tag.clone(),
                view: view(host, deploy, &file, project)?,
                file,
                is_rollback: false,
            })
        }
        PlannedWork::Rollback { .. } => {
            let name = rollback_target(host, layout, plan, current)?;
            let release = name
                .map(|name| state::release(layout, &name))
                .transpose()?
                .flatten();
            let gone = || AgentError::new("the version to roll back to is gone from the host");
            let release = release.ok_or_else(gone)?;
            let file = state::normalised(layout, &release.name)?.ok_or_else(gone)?;
            Ok(NextVersion {
                view: DataView::of_file(&with_image_volumes(&release, &file), project),
                tag: release.tag,
                file,
                is_rollback: true,
            })
        }
    }
}

fn with_image_volumes(release: &Release, file: &ComposeFile) -> ComposeFile {
    let services = release.services.iter();
    file.with_image_volumes(services.map(|s| (s.name.as_str(), s.image_volumes.as_slice())))
}

/// The data of a version that is not there yet. What an image declares is known of those that were built, and of those that
/// the host has already; of the others it is known once they are fetched.
fn view(
    host: &dyn Host,
    deploy: &DeployWork,
    file: &ComposeFile,
    project: &str,
) -> Result<DataView, AgentError> {
    let mut declared: Vec<(String, Vec<String>)> = vec![];
    for service in file.service_names() {
        let planned = deploy.images.iter().find(|image| image.service == service);
        let volumes = match (planned, file.image(&service)) {
            (Some(planned), _) => planned.volumes.clone(),
            (None, Some(reference)) => {
                let image = host.image(reference)?;
                image.map_or(vec![], |image| image.volumes)
            }
            (None, None) => vec![],
        };
        declared.push((service, volumes));
    }
    let declared = declared
        .iter()
        .map(|(service, volumes)| (service.as_str(), volumes.as_slice()));
    Ok(DataView::of_file(
        &file.with_image_volumes(declared),
        project,
    ))
}

/// What the next version's data is compared with.
fn before(
    host: &dyn Host,
    layout: &Layout,
    plan: &Plan,
    project: &str,
    current: Option<&Current>,
    next: &DataView,
) -> Result<Option<Before>, AgentError> {
    let Some(current) = current else {
        return match Before::running(host, project)? {
            Some(running) => Ok(Some(running)),
            None => Before::elsewhere(host, layout, project, plan, next),
        };
    };
    match state::release(layout, &current.release)? {
        Some(serving) => Before::serving(host, layout, &serving),
        None => Ok(None),
    }
}

/// Volumes of the project that neither version has mounted, with their size and age.
fn unused(
    host: &dyn Host,
    project: &str,
    used: &BTreeSet<String>,
) -> Result<Vec<UnusedVolume>, AgentError> {
    let reader = host.data_reader(project);
    let mut unused = vec![];
    for name in host.volumes(project)? {
        if used.contains(&name) {
            continue;
        }
        let created = host.volume(&name)?.and_then(|volume| volume.created);
        let kind = DataKind::Volume { name: name.clone() };
        unused.push(UnusedVolume {
            bytes: reader.size(&kind).ok(),
            created,
            name,
        });
    }
    Ok(unused)
}
