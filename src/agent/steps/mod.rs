//! The steps of a transaction: what each does, and how it is undone.
//!
//! Runs on the host, called by the engine only. Both directions are absolute ("make it so"), so each finds its work
//! already done after a crash and can be repeated. A step reads what earlier steps recorded in the journal; it keeps
//! nothing in memory for later ones.

pub(super) mod backup;
mod bake;
mod candidates;
mod confirm;
mod copy;
mod cutover;
mod drain;
mod fetch;
mod files;
mod go_back;
pub(super) mod keep;
mod migrate;
mod mounted;
mod preflight;
mod probe;
pub(super) mod prune;
mod publish;
mod restore;
mod retire;
mod roll;
mod services;
mod start;
mod traffic;
pub(super) mod unpack;
mod watch;

use std::time::Duration;

use super::backup::BackupName;
use super::continuity::{self, Before, Candidate, Part, Verdict};
use super::host::{Composition, Container, Host};
use super::journal::{Journal, JournalError};
use super::layout::Layout;
use super::state;
use crate::error::AgentError;
use crate::records;
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::copying::Copying;
use belay_model::composition::data::Restoration;
use belay_model::composition::data_view::DataView;
use belay_model::replacement::moves::Moves;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::transaction::journal::{
    self, Begin, Entry, Event, KnownContainer, Output, PreflightOutput,
};
use belay_model::transaction::plan::{DeployWork, Plan, PlannedWork};
use belay_model::transaction::step::Step;
use belay_model::versions::release::{Release, ReleaseName};

pub(super) use preflight::rollback_target;
pub use preflight::settle_project;
pub(super) use services::name_image_again;

/// Performs a step.
pub fn perform(step: Step, work: &mut StepContext<'_>) -> Result<Output, AgentError> {
    match step {
        Step::Preflight => preflight::perform(work),
        Step::Unpack => unpack::perform(work),
        Step::Fetch => fetch::perform(work),
        Step::Backup => backup::perform(work),
        Step::Migrate => migrate::perform(work),
        Step::Start => start::perform(work),
        Step::Probe => probe::perform(work),
        Step::Cutover => cutover::perform(work),
        Step::Bake => bake::perform(work),
        Step::Confirm => confirm::perform(work),
        Step::Publish => publish::perform(work),
        Step::Drain => drain::perform(work),
        Step::Retire => retire::perform(work),
        Step::Prune => prune::perform(work),
    }
}

/// Undoes a step that was begun, whether or not it got far.
pub fn undo(step: Step, work: &mut StepContext<'_>) -> Result<(), AgentError> {
    match step {
        Step::Unpack => unpack::undo(work),
        Step::Fetch => fetch::undo(work),
        Step::Backup => backup::undo(work),
        Step::Migrate => migrate::undo(work),
        Step::Start => start::undo(work),
        Step::Cutover => cutover::undo(work),
        // The first four change nothing; the others come after the commit point and are only ever finished.
        Step::Preflight
        | Step::Probe
        | Step::Bake
        | Step::Confirm
        | Step::Publish
        | Step::Drain
        | Step::Retire
        | Step::Prune => Ok(()),
    }
}

/// What a step works with.
pub struct StepContext<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) layout: &'a Layout,
    pub(crate) plan: &'a Plan,
    journal: &'a mut Journal,
    journal_error: Option<JournalError>,
}

impl<'a> StepContext<'a> {
    /// What one step works with, once.
    pub fn new(
        host: &'a dyn Host,
        layout: &'a Layout,
        plan: &'a Plan,
        journal: &'a mut Journal,
    ) -> Self {
        StepContext {
            host,
            layout,
            plan,
            journal,
            journal_error: None,
        }
    }

    /// Whether every note reached the journal. One that did not ends the engine.
    pub fn into_result(self) -> Result<(), JournalError> {
        self.journal_error.map_or(Ok(()), Err)
    }

    #[must_use]
    pub(crate) fn entries(&self) -> &[Entry] {
        self.journal.entries()
    }

    /// Tells people how it goes.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.record(Event::Note { text: text.into() });
    }

    /// Tells people something that they should look at.
    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.record(Event::Warning { text: text.into() });
    }

    /// Tells what a look at the data came to, and ends the step when that speaks against it.
    fn heed(&mut self, verdict: Verdict) -> Result<(), AgentError> {
        for text in verdict.warnings {
            self.warn(text);
        }
        for text in verdict.notes {
            self.note(text);
        }
        verdict.refusal.map_or(Ok(()), Err)
    }

    /// Holds the data of the new version against that of the one before, if there is one.
    fn compare_data(
        &mut self,
        before: Option<&Before>,
        view: &DataView,
        part: Part,
    ) -> Result<(), AgentError> {
        let Some(before) = before else {
            return Ok(());
        };
        let tag = match self.deploy() {
            Some(deploy) => deploy.tag.clone(),
            None => self.candidate()?.tag,
        };
        let candidate = Candidate {
            tag: &tag,
            view,
            is_rollback: self.deploy().is_none(),
            rules: &self.plan.continuity,
        };
        let verdict = continuity::compare(self.host, self.layout, before, &candidate, part);
        self.heed(verdict)
    }

    fn record(&mut self, event: Event) {
        if self.journal_error.is_none() {
            self.journal_error = self.journal.append(self.host.now(), event).err();
        }
    }

    pub(crate) fn begin(&self) -> Result<&Begin, AgentError> {
        journal::begin(self.entries())
            .ok_or_else(|| AgentError::new("the journal has no beginning"))
    }

    pub(crate) fn seq(&self) -> Result<u64, AgentError> {
        self.begin().map(|begin| begin.seq)
    }

    /// The new release's plan, when the transaction is a deployment.
    #[must_use]
    pub(crate) fn deploy(&self) -> Option<&'a DeployWork> {
        match &self.plan.work {
            PlannedWork::Deploy(deploy) => Some(deploy),
            PlannedWork::Rollback { .. } => None,
        }
    }

    pub(crate) fn preflight(&self) -> Result<&PreflightOutput, AgentError> {
        match journal::output(self.entries(), Step::Preflight) {
            Some(Output::Preflight(output)) => Ok(output),
            _ => Err(AgentError::new(
                "the journal has no record of the preflight",
            )),
        }
    }

    /// The data that this transaction puts back, if any.
    pub(crate) fn restoration(&self) -> Option<Restoration> {
        match journal::output(self.entries(), Step::Preflight) {
            Some(Output::Preflight(output)) => output.restoration.clone(),
            _ => None,
        }
    }

    /// The data that this transaction copies to its new place, if any.
    pub(crate) fn copying(&self) -> Copying {
        match journal::output(self.entries(), Step::Fetch) {
            Some(Output::Fetched { copying, .. }) => copying.as_ref().clone(),
            _ => Copying::default(),
        }
    }

    /// Whether the version before has services stopped for that, which nobody must start on data that is left.
    pub(crate) fn is_stopped_for_a_copy(&self, service: &str) -> bool {
        let mut entries = self.entries().iter();
        let begins =
            |e: &Entry| matches!(e.event, Event::Started { step } if step == Step::Migrate);
        let is_over =
            |e: &Entry| matches!(e.event, Event::UndoDone { step } if step == Step::Migrate);
        let writers = || self.copying().writers;
        entries.any(begins) && !entries.any(is_over) && writers().iter().any(|w| w == service)
    }

    /// The name of the release that this transaction brings.
    pub(crate) fn candidate_name(&self) -> Result<ReleaseName, AgentError> {
        match &self.plan.work {
            PlannedWork::Deploy(deploy) => Ok(format!("{}-{}", self.seq()?, deploy.tag)),
            PlannedWork::Rollback { .. } => {
                let target = self.preflight()?.target.clone();
                target
                    .ok_or_else(|| AgentError::new("the journal does not say what to roll back to"))
            }
        }
    }

    /// The release that this transaction brings.
    pub(crate) fn candidate(&self) -> Result<Release, AgentError> {
        let name = self.candidate_name()?;
        self.release(&name)
    }

    /// The release that served when the transaction began.
    pub(crate) fn previous(&self) -> Result<Option<Release>, AgentError> {
        self.begin()?
            .previous
            .as_deref()
            .map(|name| self.release(name))
            .transpose()
    }

    fn release(&self, name: &str) -> Result<Release, AgentError> {
        let found = state::release(self.layout, name)?;
        found.ok_or_else(|| {
            AgentError::new(format!(
                "the record of release {name} is gone from the host"
            ))
        })
    }

    /// A release's Compose file as the user wrote it, normalised.
    pub(crate) fn normalised(&self, release: &str) -> Result<ComposeFile, AgentError> {
        let found = state::normalised(self.layout, release)?;
        found.ok_or_else(|| {
            AgentError::new(format!(
                "the Compose file of release {release} is gone from the host"
            ))
        })
    }

    /// Notes in a release's record what has become known of it, if anything has.
    pub(crate) fn note_in_record(
        &self,
        before: &Release,
        release: &Release,
    ) -> Result<(), AgentError> {
        if release == before {
            return Ok(());
        }
        self.may_act()?;
        let record = self.layout.release(&release.name).record();
        Ok(records::write_json_spared(self.layout, &record, release)?)
    }

    /// A release's rendered file, for Compose.
    #[must_use]
    pub(crate) fn composition(&self, release: &Release) -> Composition {
        Composition {
            project: release.project.clone(),
            directory: self.layout.root().to_owned(),
            file: self.layout.release(&release.name).compose(),
        }
    }

    /// What becomes of each service. A journal from before this was decided has all of them replaced in place.
    pub(crate) fn moves(&self) -> Moves {
        match journal::output(self.entries(), Step::Fetch) {
            Some(Output::Fetched { moves, .. }) => moves.clone(),
            _ => Moves::default(),
        }
    }

    /// Every container of the project.
    pub(crate) fn containers(&self) -> Result<Vec<Container>, AgentError> {
        let project = &self.preflight()?.project;
        Ok(self.host.containers(project)?)
    }

    /// Whether a container was there when the transaction began.
    #[must_use]
    pub(crate) fn was_there(&self, container: &Container) -> bool {
        self.known(container).is_some()
    }

    /// Whether it is of the version before: it was there, or somebody, or the undo, has made it anew.
    #[must_use]
    pub(crate) fn is_incumbent(&self, container: &Container) -> bool {
        // Before there is a record of the new version nobody can have made anything of it.
        self.was_there(container) || self.is_of_version_before(container).unwrap_or(false)
    }

    /// Told by the image; two versions with the same one cannot be told apart.
    fn is_of_version_before(&self, container: &Container) -> Result<bool, AgentError> {
        let image_in = |release: &Release| {
            let service = release.service(&container.service)?;
            Some(service.engine_id().to_owned())
        };
        let Some(before) = self.previous()?.as_ref().and_then(image_in) else {
            return Ok(false);
        };
        Ok(before == container.image_id && image_in(&self.candidate()?) != Some(before))
    }

    /// Whether it ran then.
    #[must_use]
    pub(crate) fn ran(&self, container: &Container) -> bool {
        self.known(container).is_some_and(|known| known.ran)
    }

    fn known(&self, container: &Container) -> Option<&KnownContainer> {
        let preflight = self.preflight().ok()?;
        preflight
            .before
            .iter()
            .find(|known| known.id == container.id)
    }

    /// The containers of a service: those that were there before, and those that the transaction made.
    pub(crate) fn sides(&self, service: &str) -> Result<Sides, AgentError> {
        let mut containers = self.containers()?;
        containers.retain(|c| c.service == service && !c.one_off);
        let (incumbents, candidates) = containers.into_iter().partition(|c| self.is_incumbent(c));
        Ok(Sides {
            incumbents,
            candidates,
        })
    }

    /// The containers that make up a service once the transaction is through (or undone): its candidates where there are
    /// some, else what is there.
    pub(crate) fn serving_or_candidates(
        &self,
        service: &str,
    ) -> Result<Vec<Container>, AgentError> {
        let Sides {
            incumbents,
            candidates,
        } = self.sides(service)?;
        if !candidates.is_empty() {
            return Ok(candidates);
        }
        // Compose 1.x may leave the container that it could not replace beside the one that it made, which is newer.
        let alive: Vec<Container> = incumbents
            .iter()
            .filter(|c| c.is_alive())
            .cloned()
            .collect();
        Ok(if alive.is_empty() {
            incumbents.into_iter().take(1).collect()
        } else {
            alive
        })
    }

    pub(crate) fn remove(&self, container: &Container) -> Result<(), AgentError> {
        Ok(self.host.remove_container(&container.id)?)
    }

    /// How long a service's containers get to end, as the file says that they were made from.
    pub(crate) fn grace(&self, service: &str) -> Result<Duration, AgentError> {
        let release = match self.previous()? {
            Some(previous) => previous.name,
            None => self.candidate_name()?,
        };
        Ok(Duration::from_millis(
            self.normalised(&release)?.stop_grace_ms(service),
        ))
    }

    /// Asked right before a file is changed, and in loops that wait: an engine that was overtaken ends here.
    pub(crate) fn may_act(&self) -> Result<(), AgentError> {
        Ok(self.host.may_act()?)
    }

    /// Why to stop waiting, if there is a reason: an abort, or the transaction's deadline.
    pub(crate) fn wish_to_stop(&self) -> Result<Option<String>, AgentError> {
        self.may_act()?;
        let begin = self.begin()?;
        if begin.deadline.has_passed(&self.host.boot_time()) {
            return Ok(Some("the transaction's deadline passed".to_owned()));
        }
        Ok(state::abort_wish(self.layout, begin.seq)?)
    }
}

/// The containers of a service.
#[derive(Debug)]
pub struct Sides {
    /// Those that were there when the transaction began.
    pub incumbents: Vec<Container>,
    /// Those that the transaction made.
    pub candidates: Vec<Container>,
}

/// The long-running services of a release, each after what it depends on. The gateway is not one of the user's.
fn long_running(release: &Release, file: &ComposeFile) -> Result<Vec<String>, AgentError> {
    let names: Vec<String> = release
        .services
        .iter()
        .filter(|s| !matches!(s.strategy, Strategy::OneShot | Strategy::Gateway))
        .map(|s| s.name.clone())
        .collect();
    Ok(file.in_order(&names)?)
}

/// The one-shot services of a release, each after what it depends on.
fn one_shots(release: &Release, file: &ComposeFile) -> Result<Vec<String>, AgentError> {
    let names: Vec<String> = release
        .services
        .iter()
        .filter(|s| s.strategy == Strategy::OneShot)
        .map(|s| s.name.clone())
        .collect();
    Ok(file.in_order(&names)?)
}

/// The newest container of a service.
fn container_of<'c>(containers: &'c [Container], service: &str) -> Option<&'c Container> {
    containers
        .iter()
        .find(|c| c.service == service && !c.one_off)
}

/// Removes a backup by its name.
fn remove_backup(layout: &Layout, name: &str) -> Result<(), AgentError> {
    let name: BackupName = name.parse()?;
    Ok(crate::backup::remove(layout.root(), &name)?)
}

/// The last lines of the candidate's containers, for people to see why it failed. Best effort: a container that is gone
/// has none.
pub fn candidate_logs(
    host: &dyn Host,
    layout: &Layout,
    entries: &[Entry],
    lines: u32,
) -> Vec<(String, String)> {
    let Some(release) = unpacked_release(layout, entries) else {
        return vec![];
    };
    let Ok(containers) = host.containers(&release.project) else {
        return vec![];
    };
    containers
        .iter()
        // Whether it lets anybody in is told elsewhere; where it runs, its own words are only noise.
        .filter(|c| c.service != GATEWAY_SERVICE || !c.is_alive())
        .filter(|c| {
            release
                .services
                .iter()
                .any(|s| s.name == c.service && s.engine_id() == c.image_id)
        })
        .filter_map(|c| {
            host.logs(&c.id, lines)
                .ok()
                .map(|text| (c.service.clone(), text))
        })
        .collect()
}

fn unpacked_release(layout: &Layout, entries: &[Entry]) -> Option<Release> {
    match journal::output(entries, Step::Unpack)? {
        Output::Unpacked { release, .. } => state::release(layout, release).ok()?,
        _ => None,
    }
}
