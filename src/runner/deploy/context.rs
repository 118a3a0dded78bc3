//! What a deployment and a rollback have in common: the run, and who wants to know how it goes.

use crate::session::Session;
use crate::transaction::Watcher;
use belay_model::composition::near_miss;
use belay_model::config::Settings;
use belay_model::request::intent::DryRun;
use belay_model::transaction::outcome::{Outcome, Urls};

/// GitHub's record of the deployment, as the story of a run sees it.
pub(crate) trait DeploymentRecord {
    /// It is known what is deployed where; nothing has been done yet.
    fn opened(&mut self, outcome: &Outcome, settings: &Settings);
    /// The transaction is about to begin, under this name.
    fn beginning(&mut self, outcome: &Outcome, tx: &str);
    /// Whether the tag still stands for the commit; `None` when that cannot be told.
    fn tag_stands_at(&mut self, tag: &str) -> Option<String>;
}

/// What is common to a deployment and a rollback.
pub(crate) struct RunContext<'a, 's> {
    /// The inputs, the event and the way to the host.
    pub(crate) session: &'a Session<'s>,
    /// Where GitHub is told.
    pub(crate) record: &'a mut dyn DeploymentRecord,
    /// The live log.
    pub(crate) watcher: &'a mut dyn Watcher,
}

impl RunContext<'_, '_> {
    /// Whether only the plan is wanted.
    pub(super) fn is_dry_run(&self) -> bool {
        self.session.inputs.asked.dry_run == DryRun::Yes
    }

    /// Warnings about the key that the run was given.
    pub(super) fn judge_key(&self, outcome: &mut Outcome) {
        let key = self.session.public_key();
        let weak = key.as_deref().and_then(near_miss::weak_key);
        outcome.warnings.extend(weak);
    }
}

/// Says in the outcome what is deployed where.
pub(super) fn describe_place(session: &Session<'_>, settings: &Settings, outcome: &mut Outcome) {
    settings.app.as_str().clone_into(&mut outcome.app);
    let environment = settings.environment.as_str();
    environment.clone_into(&mut outcome.environment);
    outcome.host = settings
        .host
        .as_ref()
        .map(|h| format!("{}@{}:{}", h.user.as_str(), h.address.as_str(), h.port))
        .unwrap_or_default();
    outcome.urls = Urls {
        environment: settings.url.as_ref().map(|u| u.as_str().to_owned()),
        run: session.origin().map(|o| o.run_url.clone()),
        repository: session.repository_url(),
    };
}
