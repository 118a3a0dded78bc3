//! The host, as it was when it was asked, and the line to it.

use std::path::Path;

use super::error::DeployError;
use crate::link::{Link, LinkError};
use crate::session::Session;
use belay_model::composition::near_miss;
use belay_model::composition::project::project_from_directory;
use belay_model::config::Settings;
use belay_model::docker_versions::misfit;
use belay_model::request::tag::Tag;
use belay_model::request::tag_ancestry;
use belay_model::transaction::outcome::Outcome;
use belay_model::transaction::plan::Plan;
use belay_wire::{DataOutlook, EngineFacts, HostFacts, ServiceImage, Verb};

/// A host that answered.
pub(super) struct Reached {
    pub(super) link: Link,
    pub(super) facts: HostFacts,
}

impl Reached {
    /// Enters the host and asks what it is like.
    pub(super) fn open(
        session: &Session<'_>,
        settings: &Settings,
        outcome: &mut Outcome,
    ) -> Result<Self, DeployError> {
        let link = session.link(settings)?;
        let facts: HostFacts = link.ask(Verb::Facts, &[], None::<&()>)?;
        outcome.host_was_read = true;
        let low = near_miss::low_disk(facts.free_bytes, facts.total_bytes);
        outcome.warnings.extend(low);
        outcome.down.clone_from(&facts.down);
        outcome.previous = facts.current.as_ref().map(|c| c.tag.clone());
        outcome.previous_revision = facts.current.as_ref().and_then(|c| c.revision.clone());
        // Preflight would find the same, after everything was built and sent.
        let EngineFacts {
            engine,
            oldest_api,
            compose,
            ..
        } = &facts.engine;
        match misfit(engine, oldest_api, compose) {
            None => Ok(Reached { link, facts }),
            Some(remark) => Err(DeployError::Versions(remark)),
        }
    }

    /// What the plan would mean for the data on the host.
    pub(super) fn outlook(&self, plan: &Plan) -> Result<DataOutlook, LinkError> {
        self.link.ask(Verb::Outlook, &[], Some(plan))
    }

    /// Whether this very commit serves under this tag.
    pub(super) fn serves_already(&self, tag: &Tag, revision: &str) -> bool {
        let is_current = self
            .facts
            .current
            .as_ref()
            .is_some_and(|c| c.tag == tag.as_str() && c.revision.as_deref() == Some(revision));
        // What is recorded cannot be what serves when its images are gone, as after a switch to another image store.
        let serves = |image: &&ServiceImage| image.serves && !image.id.is_empty();
        is_current
            && self.facts.down.is_empty()
            && self.facts.images.iter().filter(serves).all(|i| i.is_there)
    }

    /// Going back to an older version is a rollback, and has other rules.
    pub(super) fn refuse_older(&self, tag: &Tag) -> Result<(), DeployError> {
        let current = self.facts.current.as_ref();
        let serving = current.and_then(|c| Tag::parse(&c.tag).ok());
        tag_ancestry::check_newer(tag, serving.as_ref()).map_err(|r| DeployError::Older(r.reason))
    }

    /// The project in the names of images: the one that serves has settled it.
    pub(super) fn image_project(&self, wanted: Option<&str>, settings: &Settings) -> String {
        let from_root = || {
            Path::new(settings.root.as_str())
                .file_name()?
                .to_str()
                .and_then(project_from_directory)
        };
        let current = self.facts.current.as_ref();
        current
            .map(|c| c.project.clone())
            .or_else(|| wanted.map(str::to_owned))
            .or_else(from_root)
            .unwrap_or_else(|| settings.app.as_str().to_owned())
    }
}
