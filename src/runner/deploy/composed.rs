//! The user's Compose file at the commit that is deployed, and what of it has to be built.

use std::path::PathBuf;

use serde_json::Value;

use super::error::DeployError;
use super::resolved::Resolved;
use crate::images::{self, ImageError};
use crate::session::{Session, compose_file};
use belay_model::composition::build::{Build, builds, inherit_builds, project_name};
use belay_model::composition::near_miss;
use belay_model::config::{self, Settings};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::outcome::Outcome;
use belay_model::yaml;

/// The Compose file, read.
pub(super) struct Composed {
    pub(super) path: PathBuf,
    /// The directory that its paths are relative to.
    pub(super) directory: PathBuf,
    pub(super) document: Value,
    /// The project's name, where belay.yml or the file gives one.
    pub(super) project: Option<String>,
    pub(super) builds: Vec<Build>,
}

impl Composed {
    /// Reads the file, and what its services inherit of their builds.
    pub(super) fn read(
        session: &Session<'_>,
        resolved: &Resolved<'_>,
        outcome: &mut Outcome,
    ) -> Result<Self, DeployError> {
        let Resolved {
            source, settings, ..
        } = resolved;
        let path = compose_file(source.dir(), settings)?;
        let directory = path.parent().unwrap_or(source.dir()).to_owned();
        let text = std::fs::read(&path).map_err(|source| DeployError::ComposeFile {
            path: path.clone(),
            source,
        })?;
        let document = yaml::read(&text).map_err(|e| session.file_problem(&path, e))?;
        let unpinned = near_miss::unpinned_images(&document);
        outcome.warnings.extend(unpinned);
        let document = inherit_builds(document, &mut |path| {
            let text = std::fs::read(directory.join(path)).ok()?;
            yaml::read(&text).ok()
        });
        refuse_gateway_name(&document, settings)?;
        let variables = images::variables(resolved.tag.as_str(), &resolved.revision);
        Ok(Composed {
            project: wanted_project(settings, &document),
            builds: builds(&document, &variables).map_err(ImageError::Builds)?,
            path,
            directory,
            document,
        })
    }
}

fn wanted_project(settings: &Settings, document: &Value) -> Option<String> {
    let set = settings
        .project
        .as_ref()
        .map(belay_model::config::ProjectName::as_str);
    set.or_else(|| project_name(document)).map(str::to_owned)
}

/// The gateway would take the place of a service that has its name.
fn refuse_gateway_name(document: &Value, settings: &Settings) -> Result<(), DeployError> {
    let is_taken = document
        .get("services")
        .is_some_and(|services| services.get(GATEWAY_SERVICE).is_some());
    match is_taken && settings.gateway != config::Gateway::Off {
        true => Err(DeployError::GatewayName),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use belay_model::config::Config;

    fn settings(belay_yml: &str) -> Settings {
        let config = Config::load(belay_yml, "belay.yml").expect("a good file");
        config.for_environment("production").expect("settings")
    }

    #[test]
    fn a_service_with_the_name_of_the_gateway_is_refused_while_there_is_one() {
        let taken = json!({"services": {"web": {}, "belay-gateway": {}}});
        let free = json!({"services": {"web": {}}});
        let (on, off) = (settings("app: shop"), settings("app: shop\ngateway: off"));
        let error = refuse_gateway_name(&taken, &on).expect_err("refused");
        assert!(error.to_string().contains("belay-gateway"), "{error}");
        assert!(refuse_gateway_name(&taken, &off).is_ok());
        assert!(refuse_gateway_name(&free, &on).is_ok());
    }
}
