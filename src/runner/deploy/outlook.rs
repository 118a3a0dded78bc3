//! What deploying this checkout would mean for the data on the host, for `belay doctor`.

use super::error::DeployError;
use super::planned::Planned;
use super::shipped_files::{file_name, shipped_files};
use crate::link::Link;
use crate::session::{Session, compose_file};
use belay_model::composition::build::project_name;
use belay_model::config::{ProjectName, Settings};
use belay_model::transaction::outcome::Failure;
use belay_model::transaction::plan::{DeployWork, PlannedWork, strategy_wishes};
use belay_model::yaml;
use belay_wire::{DataOutlook, Verb};

/// What stands for a version that has no tag yet.
const CHECKOUT: &str = "HEAD";

/// Asks the host. What images declare is known of those that it has.
pub(crate) fn outlook_of_checkout(
    session: &Session<'_>,
    settings: &Settings,
    link: &Link,
) -> Result<DataOutlook, Failure> {
    Ok(ask(session, settings, link)?)
}

fn ask(
    session: &Session<'_>,
    settings: &Settings,
    link: &Link,
) -> Result<DataOutlook, DeployError> {
    let path = compose_file(&session.dir, settings)?;
    let text = std::fs::read(&path).map_err(|source| DeployError::ComposeFile {
        path: path.clone(),
        source,
    })?;
    let document = yaml::read(&text).map_err(|e| session.file_problem(&path, e))?;
    let work = PlannedWork::Deploy(Box::new(DeployWork {
        tag: CHECKOUT.to_owned(),
        revision: CHECKOUT.to_owned(),
        compose_path: file_name(&path),
        files: shipped_files(&session.dir, &path, settings)?,
        images: vec![],
        strategies: strategy_wishes(settings),
    }));
    let wanted = settings.project.as_ref().map(ProjectName::as_str);
    let project = wanted.or_else(|| project_name(&document));
    let planned = Planned::of(session, settings, project.map(str::to_owned), work)?;
    Ok(link.ask(Verb::Outlook, &[], Some(&planned.plan))?)
}
