//! What is deployed: the tag's commit, resolved once, its files, and the settings of the environment that takes it.

use super::context::describe_place;
use super::error::DeployError;
use crate::git;
use crate::session::Session;
use crate::source::Source;
use belay_model::config::{self, Settings};
use belay_model::request::tag::{Tag, TagRefusal};
use belay_model::request::tag_ancestry::{self, Ancestry};
use belay_model::transaction::outcome::Outcome;

/// A tag with everything that it stands for.
pub(super) struct Resolved<'t> {
    pub(super) tag: &'t Tag,
    /// The full commit.
    pub(super) revision: String,
    /// The files at that commit.
    pub(super) source: Source,
    /// Of the environment that takes tags of this kind.
    pub(super) settings: Settings,
}

impl<'t> Resolved<'t> {
    /// Resolves a tag. `event`: the commit that the event says it stands for.
    pub(super) fn of(
        session: &Session<'_>,
        tag: &'t Tag,
        event: Option<&str>,
        outcome: &mut Outcome,
    ) -> Result<Self, DeployError> {
        let revision = revision_of(session, tag, event, outcome)?;
        outcome.revision = Some(revision.clone());
        let source = Source::at(&session.dir, &revision)?;
        let config = session.config(source.dir())?;
        let environment = config
            .environment_of(tag.kind())
            .ok_or(DeployError::NoEnvironment(tag.kind()))?;
        let settings = session.settings(&config, environment)?;
        match settings.images.source {
            config::ImageSource::Stream => {}
            config::ImageSource::Registry => return Err(DeployError::Registry),
        }
        describe_place(session, &settings, outcome);
        Ok(Resolved {
            tag,
            revision,
            source,
            settings,
        })
    }

    /// The tag was moved while this run was on its way.
    pub(super) fn moved_to(&self, now: String) -> DeployError {
        moved(self.tag, &self.revision, now)
    }
}

/// The commit of a tag, and the rules about its place in the history.
fn revision_of(
    session: &Session<'_>,
    tag: &Tag,
    event: Option<&str>,
    outcome: &mut Outcome,
) -> Result<String, DeployError> {
    let facts = git::repository_facts(&session.dir, tag.as_str())?;
    match tag_ancestry::check_ancestry(tag, &facts) {
        Ok(Ancestry::Holds) => {}
        Ok(Ancestry::Unknown(reason)) => outcome.warnings.push(reason),
        Err(TagRefusal { reason, nearest }) => {
            return Err(DeployError::History { reason, nearest });
        }
    }
    match (event, facts.commit_of(tag)) {
        // The event and the checkout disagree: the tag was moved while the run waited.
        (Some(event), Some(here)) if event != here => Err(moved(tag, event, here.to_owned())),
        (Some(revision), _) | (None, Some(revision)) => Ok(revision.to_owned()),
        (None, None) => Err(DeployError::NoTag(tag.clone())),
    }
}

fn moved(tag: &Tag, from: &str, to: String) -> DeployError {
    DeployError::Moved {
        tag: tag.clone(),
        from: from.to_owned(),
        to,
    }
}
