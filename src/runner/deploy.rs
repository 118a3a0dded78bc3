//! A deployment or a rollback, from what was asked for to the outcome.
//!
//! Runs on the runner. Everything before [`transaction::carry_out`] leaves what serves on the host alone, so a failure
//! there is a refusal.

use std::cell::OnceCell;
use std::path::Path;

use base64::Engine as _;
use serde_json::Value;

use super::choices::rollback_choices;
use super::consent;
use super::git;
use super::images::{self, Making};
use super::link::Link;
use super::random;
use super::session::{Session, compose_file, untouched};
use super::ship;
use super::source::Source;
use super::ssh::Interrupt;
use super::transaction::{self, Nonce, Watcher};
use belay_model::composition::build::{builds, inherit_builds, project_name};
use belay_model::composition::compose::{ComposeFile, project_from_directory};
use belay_model::composition::near_miss;
use belay_model::config::{self, Config, Settings};
use belay_model::docker_versions::misfit;
use belay_model::replacement::strategy::{Classified, classify};
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::request::intent::{DryRun, RollbackWish};
use belay_model::request::tag::{self, Ancestry, Tag};
use belay_model::transaction::journal::Holder;
use belay_model::transaction::outcome::{
    Durations, Failure, ImageReport, Outcome, Requests, Urls, Word, Work,
};
use belay_model::transaction::plan::{
    self, DeployWork, Plan, PlannedWork, Run, ShippedFile, confirm_within_ms, strategy_wishes,
};
use belay_model::versions::release::{RollbackChoice, RollbackTo, choose_restore, choose_rollback};
use belay_model::yaml;
use belay_wire::{EngineFacts, HostFacts, LookBack, ServiceImage, Verb};

/// Most that all shipped files together may weigh, in bytes.
const SHIPPED_LIMIT: usize = 16 * 1024 * 1024;

/// Everybody who wants to know how it goes, besides the log: GitHub's record of the deployment.
pub trait Record {
    /// It is known what is deployed where; nothing has been done yet.
    fn opened(&mut self, outcome: &Outcome, settings: &Settings);
    /// The transaction is about to begin, under this name.
    fn beginning(&mut self, outcome: &Outcome, tx: &str);
    /// Whether the tag still stands for the commit; `None` when that cannot be told.
    fn tag_stands_at(&mut self, tag: &str) -> Option<String>;
}

/// The plan of a dry run.
pub struct Planned {
    pub plan: Plan,
    pub facts: HostFacts,
    pub settings: Settings,
    pub services: Vec<Classified>,
    pub images: Vec<ImageReport>,
    pub warnings: Vec<String>,
}

/// What a run came to.
pub enum Concluded {
    Outcome(Box<Outcome>),
    Planned(Box<Planned>),
}

/// What is common to a deployment and a rollback.
pub struct Desk<'a, 's> {
    pub session: &'a Session<'s>,
    pub record: &'a mut dyn Record,
    pub watcher: &'a mut dyn Watcher,
}

/// Deploys a tag.
pub fn deploy(desk: &mut Desk<'_, '_>, tag: &Tag, revision: Option<&str>) -> Concluded {
    let mut outcome = blank(Work::Deploy, tag.as_str());
    let planned = try_deploy(desk, tag, revision, &mut outcome);
    conclude(outcome, planned, &desk.session.interrupt)
}

/// Rolls back to an earlier version.
pub fn rollback(desk: &mut Desk<'_, '_>, wish: &RollbackWish) -> Concluded {
    let mut outcome = blank(Work::Rollback, &describe(&wish.to));
    outcome.reason.clone_from(&wish.reason);
    let planned = try_rollback(desk, wish, &mut outcome);
    conclude(outcome, planned, &desk.session.interrupt)
}

fn conclude(
    mut outcome: Outcome,
    planned: Result<Option<Planned>, Failure>,
    interrupt: &Interrupt,
) -> Concluded {
    match planned {
        Ok(Some(planned)) => return Concluded::Planned(Box::new(planned)),
        Ok(None) => {}
        Err(failure) => {
            outcome.word = Word::Refused;
            outcome.serving = outcome.previous.clone();
            // Whatever an interrupt made fail, the interrupt is why.
            outcome.failure = Some(if interrupt.is_raised() {
                transaction::cancelled()
            } else {
                failure
            });
        }
    }
    let total = jiff::Timestamp::now()
        .duration_since(outcome.started)
        .as_millis();
    outcome.durations.total_ms = u64::try_from(total).unwrap_or(0);
    Concluded::Outcome(Box::new(outcome))
}

fn describe(to: &RollbackTo) -> String {
    match to {
        RollbackTo::Previous => "the version before".to_owned(),
        RollbackTo::Tag(tag) => tag.clone(),
        RollbackTo::Backup(name) => name.clone(),
    }
}

/// An outcome of which nothing is known yet.
pub fn blank(work: Work, asked: &str) -> Outcome {
    Outcome {
        word: Word::Unknown,
        work,
        app: String::new(),
        environment: String::new(),
        host: String::new(),
        asked: asked.to_owned(),
        reason: None,
        revision: None,
        host_was_read: false,
        previous: None,
        previous_revision: None,
        serving: None,
        started: jiff::Timestamp::now(),
        durations: Durations::default(),
        steps: vec![],
        images: vec![],
        verdict: None,
        backup: None,
        restored: None,
        removed: vec![],
        strategies: vec![],
        warnings: vec![],
        failure: None,
        failed_step: None,
        logs: vec![],
        rollback_targets: vec![],
        rollback_backups: vec![],
        settles_by: None,
        cancelled: false,
        urls: Urls::default(),
        requests: Requests::default(),
        cut_over: None,
        history: vec![],
        errors: None,
        service_changes: vec![],
        changes: None,
    }
}

fn try_deploy(
    desk: &mut Desk<'_, '_>,
    tag: &Tag,
    revision: Option<&str>,
    outcome: &mut Outcome,
) -> Result<Option<Planned>, Failure> {
    let revision = resolve(desk.session, tag, revision, outcome)?;
    outcome.revision = Some(revision.clone());
    let source = Source::at(&desk.session.dir, &revision).map_err(|e| {
        Failure::of(&e)
            .next("check the repository out with its history (fetch-depth: 0) before this step")
    })?;
    let config = desk.session.config(source.dir())?;
    let environment = config.environment_of(tag.kind()).ok_or_else(|| {
        Failure::new(format!("no environment takes {} tags", tag.kind().word()))
            .next("list this kind under `environments.NAME.tags` in belay.yml")
    })?;
    let settings = desk.session.settings(&config, environment)?;
    refuse_registry(&settings)?;
    describe_place(desk.session, &settings, outcome);
    desk.record.opened(outcome, &settings);
    let key = desk.session.public_key();
    outcome
        .warnings
        .extend(key.as_deref().and_then(near_miss::weak_key));

    let mut link = desk.session.link(&settings)?;
    let facts = ask_facts(&link, outcome)?;
    if serves_already(&facts, tag, &revision) {
        outcome.word = Word::Unchanged;
        outcome.serving = Some(tag.as_str().to_owned());
        return Ok(None);
    }
    let serving = facts.current.as_ref().and_then(|c| Tag::parse(&c.tag).ok());
    tag::check_newer(tag, serving.as_ref())
        .map_err(|r| Failure::new(r.reason).next("start a rollback instead"))?;

    let compose = compose_file(source.dir(), &settings)?;
    let directory = compose.parent().unwrap_or(source.dir()).to_owned();
    let text = std::fs::read(&compose)
        .map_err(|e| Failure::new(format!("could not read {}: {e}", compose.display())))?;
    let document = yaml::read(&text).map_err(|e| desk.session.file_problem(&compose, &e))?;
    outcome
        .warnings
        .extend(near_miss::unpinned_images(&document));
    let document = inherit_builds(document, &mut |path| {
        let text = std::fs::read(directory.join(path)).ok()?;
        yaml::read(&text).ok()
    });
    refuse_gateway_name(&document, &settings)?;
    let project = settings
        .project
        .as_ref()
        .map(|p| p.as_str())
        .or_else(|| project_name(&document))
        .map(str::to_owned);
    let wanted = builds(&document, &images::variables(tag.as_str(), &revision))
        .map_err(|e| images::build_failure(&e))?;
    let image_project = image_project(&facts, project.as_deref(), &settings);
    let repository_url = desk.session.repository_url();
    let making = Making {
        settings: &settings,
        project: &image_project,
        tag: tag.as_str(),
        revision: &revision,
        repository_url: repository_url.as_deref(),
        directory: &directory,
        facts: &facts,
        engine: OnceCell::new(),
        interrupt: &desk.session.interrupt,
    };
    let watcher = &mut *desk.watcher;
    watcher.section("build and test the images");
    let made = images::make(&making, &wanted, &mut |bytes| watcher.remote(bytes))?;
    outcome.durations.build_ms = made.build_ms;
    outcome.durations.test_ms = made.test_ms;
    outcome.images = made.reports;
    outcome.warnings.extend(made.warnings);

    let nonce =
        Nonce::new().map_err(|e| Failure::new(format!("could not get random numbers: {e}")))?;
    let work = PlannedWork::Deploy(Box::new(DeployWork {
        tag: tag.as_str().to_owned(),
        revision: revision.clone(),
        compose_path: file_name(&compose),
        files: shipped_files(source.dir(), &compose, &settings)?,
        images: made.images.clone(),
        strategies: strategy_wishes(&settings),
    }));
    let mut plan = plan::compose(
        work,
        &settings,
        project,
        new_run(desk.session, &nonce, &settings)?,
    );
    if desk.session.inputs.asked.dry_run == DryRun::Yes {
        let file = ComposeFile::new(document).map_err(|e| Failure::of(&e))?;
        let services = classify(&file, &strategy_wishes(&settings), &plan.gateway, None)
            .map_err(|e| Failure::of(&e))?;
        let (images, warnings) = (outcome.images.clone(), outcome.warnings.clone());
        return Ok(Some(Planned {
            plan,
            facts,
            settings,
            services,
            images,
            warnings,
        }));
    }
    let shipped =
        ship::ship(&link, &plan.tx, &made.images, &made.packing, &facts).inspect_err(|_| {
            match desk.session.interrupt.is_raised() {
                true => transaction::take_back(&mut link, &plan.tx),
                // What has arrived is of no use without the rest. What stays is removed by a later Prune.
                false => drop(transaction::withdraw(&link, &plan.tx, NOT_SENT)),
            }
        })?;
    if let Some(shipped) = shipped {
        outcome.durations.transfer_ms = Some(shipped.ms);
        outcome.durations.transfer_bytes = Some(shipped.bytes);
        plan.note_manifests(&shipped.manifests);
    }
    refuse_moved_tag(desk, tag, &revision).inspect_err(|moved| {
        // What was sent for it goes again. What stays is removed by a later Prune.
        let _ = transaction::withdraw(&link, &plan.tx, &moved.error);
    })?;
    finish(desk, &mut link, &plan, &nonce, outcome);
    Ok(None)
}

fn try_rollback(
    desk: &mut Desk<'_, '_>,
    wish: &RollbackWish,
    outcome: &mut Outcome,
) -> Result<Option<Planned>, Failure> {
    let RollbackWish {
        to,
        reason,
        restore,
    } = wish;
    let is_dry = desk.session.inputs.asked.dry_run == DryRun::Yes;
    let source = Source::here(&desk.session.dir);
    let config = desk.session.config(source.dir())?;
    let settings = desk
        .session
        .settings(&config, &rollback_environment(&config, to))?;
    describe_place(desk.session, &settings, outcome);
    if let Some(backup) = restore.as_ref().filter(|_| !is_dry) {
        consent::check(desk.session, settings.environment.as_str(), backup)?;
    }
    let mut link = desk.session.link(&settings)?;
    let facts = ask_facts(&link, outcome)?;
    if let Some(name) = restore {
        check_data(name, &facts)?;
    }
    let choose = match restore {
        Some(_) => choose_restore,
        None => choose_rollback,
    };
    let backups: Vec<_> = facts
        .backups
        .iter()
        .map(|b| belay_model::versions::release::KnownBackup {
            name: b.name.clone(),
            release: b.release.clone(),
        })
        .collect();
    match choose(to, facts.current.as_ref(), &facts.releases, &backups) {
        RollbackChoice::Go(release) => {
            outcome.asked = release.tag;
            outcome.revision = release.revision;
        }
        RollbackChoice::Already(why) => {
            outcome.word = Word::Unchanged;
            outcome.serving = facts.current.as_ref().map(|c| c.tag.clone());
            outcome.asked = outcome.serving.clone().unwrap_or_default();
            outcome.warnings.push(why);
            return Ok(None);
        }
        RollbackChoice::Impossible { error, next } => return Err(Failure::new(error).next(next)),
    }
    desk.record.opened(outcome, &settings);
    let nonce =
        Nonce::new().map_err(|e| Failure::new(format!("could not get random numbers: {e}")))?;
    // The host is told the version by name: what it means was decided here, and must not change under the lock.
    let to = match to {
        RollbackTo::Backup(name) => RollbackTo::Backup(name.clone()),
        RollbackTo::Previous | RollbackTo::Tag(_) => RollbackTo::Tag(outcome.asked.clone()),
    };
    let work = PlannedWork::Rollback {
        to,
        reason: reason.clone(),
        restore: restore.clone(),
    };
    let project = settings.project.as_ref().map(|p| p.as_str().to_owned());
    let plan = plan::compose(
        work,
        &settings,
        project,
        new_run(desk.session, &nonce, &settings)?,
    );
    if is_dry {
        let warnings = outcome.warnings.clone();
        return Ok(Some(Planned {
            plan,
            facts,
            settings,
            services: vec![],
            images: vec![],
            warnings,
        }));
    }
    finish(desk, &mut link, &plan, &nonce, outcome);
    Ok(None)
}

/// Checks that a backup whose data is wanted is there and holds some.
fn check_data(name: &str, facts: &HostFacts) -> Result<(), Failure> {
    let found = facts.backups.iter().find(|b| b.name == name);
    let error = match found {
        None => format!("there is no backup {name} on this host"),
        Some(backup) => match &backup.problem {
            Some(problem) => format!("{name} cannot be used: {problem}"),
            None if backup.data.is_empty() => format!("{name} holds no data"),
            None => return Ok(()),
        },
    };
    Err(Failure::new(error).next("choose another one; list them with `belay backups`"))
}

/// The environment of a rollback: the input's, else that of the version's kind, else production.
fn rollback_environment(config: &Config, to: &RollbackTo) -> String {
    let kind = match to {
        RollbackTo::Tag(text) => Tag::parse(text)
            .map(|tag| tag.kind())
            .unwrap_or(tag::TagKind::Release),
        RollbackTo::Previous | RollbackTo::Backup(_) => tag::TagKind::Release,
    };
    config
        .environment_of(kind)
        .unwrap_or("production")
        .to_owned()
}

/// The commit of a tag, resolved once, and the rules about its place in the history.
fn resolve(
    session: &Session<'_>,
    tag: &Tag,
    revision: Option<&str>,
    outcome: &mut Outcome,
) -> Result<String, Failure> {
    let facts = match git::repository_facts(&session.dir, tag.as_str()) {
        Ok(facts) => facts,
        Err(error) => {
            return Err(Failure::of(&error).host("it was not contacted").next(
                "check the repository out before this step (actions/checkout with fetch-depth: 0)",
            ));
        }
    };
    match tag::check_ancestry(tag, &facts) {
        Ok(Ancestry::Holds) => {}
        Ok(Ancestry::Unknown(reason)) => outcome.warnings.push(reason),
        Err(refusal) => {
            let next = refusal.nearest.map_or_else(
                || "see `belay tag`".to_owned(),
                |t| format!("push {t} instead"),
            );
            return Err(Failure::new(refusal.reason)
                .host("it was not contacted")
                .next(next));
        }
    }
    match (revision, facts.commit_of(tag)) {
        // The event and the checkout disagree: the tag was moved while the run waited.
        (Some(event), Some(here)) if event != here => Err(moved(tag, event, here)),
        (Some(revision), _) | (None, Some(revision)) => Ok(revision.to_owned()),
        (None, None) => Err(Failure::new(format!("there is no tag {tag} in this repository"))
            .host("it was not contacted")
            .next("push the tag first, and check the repository out with its tags (fetch-depth: 0)")),
    }
}

fn refuse_registry(settings: &Settings) -> Result<(), Failure> {
    match settings.images.source {
        config::ImageSource::Stream => Ok(()),
        config::ImageSource::Registry => Err(untouched("images.source: registry is not in this version of Belay")
            .next("use `source: stream`; images that the Compose file only names are pulled by the host as before")),
    }
}

/// The gateway would take the place of a service that has its name.
fn refuse_gateway_name(document: &Value, settings: &Settings) -> Result<(), Failure> {
    let is_taken = document
        .get("services")
        .is_some_and(|services| services.get(GATEWAY_SERVICE).is_some());
    if !is_taken || settings.gateway == config::Gateway::Off {
        return Ok(());
    }
    let error = format!(
        "the Compose file has a service {GATEWAY_SERVICE}, which is the name of Belay's gateway"
    );
    Err(Failure::new(error)
        .next("give the service another name, or set `gateway: off` in belay.yml"))
}

fn moved(tag: &Tag, from: &str, to: &str) -> Failure {
    Failure::new(format!(
        "the tag {tag} was moved from {from} to {to} while this run was on its way"
    ))
    .next("never move a version's tag: push a new one")
}

fn refuse_moved_tag(desk: &mut Desk<'_, '_>, tag: &Tag, revision: &str) -> Result<(), Failure> {
    match desk.record.tag_stands_at(tag.as_str()) {
        Some(now) if now != revision => Err(moved(tag, revision, &now)),
        Some(_) | None => Ok(()),
    }
}

fn describe_place(session: &Session<'_>, settings: &Settings, outcome: &mut Outcome) {
    outcome.app = settings.app.as_str().to_owned();
    outcome.environment = settings.environment.as_str().to_owned();
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

fn ask_facts(link: &Link, outcome: &mut Outcome) -> Result<HostFacts, Failure> {
    let facts: HostFacts = link
        .ask(Verb::Facts, &[], None::<&()>)
        .map_err(|e| e.failure())?;
    outcome.host_was_read = true;
    let low = near_miss::low_disk(facts.free_bytes, facts.total_bytes);
    outcome.warnings.extend(low);
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
        None => Ok(facts),
        Some(remark) => Err(Failure::new(remark.text).next(remark.next)),
    }
}

/// Why a transaction is not going to begin.
const NOT_SENT: &str = "the images could not be sent";

fn serves_already(facts: &HostFacts, tag: &Tag, revision: &str) -> bool {
    let is_current = facts
        .current
        .as_ref()
        .is_some_and(|c| c.tag == tag.as_str() && c.revision.as_deref() == Some(revision));
    // What is recorded cannot be what serves when its images are gone, as after a switch to another image store.
    let serves = |image: &&ServiceImage| image.serves && !image.id.is_empty();
    is_current && facts.images.iter().filter(serves).all(|i| i.is_there)
}

/// The project in the names of images: the one that serves has settled it.
fn image_project(facts: &HostFacts, wanted: Option<&str>, settings: &Settings) -> String {
    let from_root = || {
        Path::new(settings.root.as_str())
            .file_name()?
            .to_str()
            .and_then(project_from_directory)
    };
    facts
        .current
        .as_ref()
        .map(|c| c.project.clone())
        .or_else(|| wanted.map(str::to_owned))
        .or_else(from_root)
        .unwrap_or_else(|| settings.app.as_str().to_owned())
}

fn new_run(session: &Session<'_>, nonce: &Nonce, settings: &Settings) -> Result<Run, Failure> {
    Ok(Run {
        tx: random::hex()
            .map_err(|e| Failure::new(format!("could not get random numbers: {e}")))?,
        confirm: nonce.rule(confirm_within_ms(settings)),
        holder: Holder {
            what: String::new(),
            run_url: session.origin().map(|o| o.run_url.clone()),
            actor: session.origin().map(|o| o.actor.clone()),
            since: None,
            pid: None,
        },
    })
}

fn finish(
    desk: &mut Desk<'_, '_>,
    link: &mut Link,
    plan: &Plan,
    nonce: &Nonce,
    outcome: &mut Outcome,
) {
    desk.record.beginning(outcome, &plan.tx);
    transaction::carry_out(link, plan, nonce, outcome, desk.watcher);
    let startup = outcome.durations.startup_ms;
    let slow = startup.and_then(|ms| near_miss::slow_health(ms, plan.health.deadline_ms));
    outcome.warnings.extend(slow);
    after(link, outcome);
}

/// What the host says when it is over: what can be rolled back to now, and how it went beside earlier deployments. Best
/// effort; the outcome stands without it.
pub fn after(link: &mut Link, outcome: &mut Outcome) {
    let facts = link
        .reconnect()
        .ok()
        .and_then(|()| link.ask::<HostFacts>(Verb::Facts, &[], None::<&()>).ok());
    let Some(facts) = facts else { return };
    let choices = rollback_choices(&facts).into_iter();
    let names = choices.map(|(name, _)| name);
    let is_version = |name: &String| facts.releases.iter().any(|r| r.tag == *name);
    (outcome.rollback_targets, outcome.rollback_backups) = names.partition(is_version);
    let since = outcome.cut_over.unwrap_or(outcome.started).to_string();
    let words = ["--since", &since];
    if let Ok(seen) = link.ask::<LookBack>(Verb::LookBack, &words, None::<&()>) {
        outcome.history = seen.deployments;
        if outcome.word == Word::Deployed {
            outcome.errors = Some(seen.errors);
            outcome.service_changes = seen.changes;
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The Compose file and everything that belay.yml ships beside it.
fn shipped_files(
    dir: &Path,
    compose: &Path,
    settings: &Settings,
) -> Result<Vec<ShippedFile>, Failure> {
    let mut files = vec![shipped(compose, &file_name(compose), false)?];
    for file in &settings.files {
        ship_path(&dir.join(file.from.as_str()), file.to.as_str(), &mut files)?;
    }
    let weight: usize = files.iter().map(|f| f.base64.len() / 4 * 3).sum();
    if weight > SHIPPED_LIMIT {
        return Err(Failure::new(format!(
            "the files to ship weigh {} MB, more than 16",
            weight / 1_000_000
        ))
        .next("put large files into the image; `files:` is for configuration"));
    }
    Ok(files)
}

fn ship_path(from: &Path, to: &str, files: &mut Vec<ShippedFile>) -> Result<(), Failure> {
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("could not read {}: {e}", from.display()))
            .next("check `files:` in belay.yml")
    };
    if !from.is_dir() {
        files.push(shipped(from, to, true)?);
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(from)
        .map_err(unreadable)?
        .collect::<std::io::Result<_>>()
        .map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        ship_path(
            &entry.path(),
            &format!("{to}/{}", name.to_string_lossy()),
            files,
        )?;
    }
    Ok(())
}

fn shipped(from: &Path, to: &str, placed: bool) -> Result<ShippedFile, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("could not read {}: {e}", from.display()))
            .next("check `files:` in belay.yml")
    };
    let bytes = std::fs::read(from).map_err(unreadable)?;
    let mode = std::fs::metadata(from)
        .map_err(unreadable)?
        .permissions()
        .mode()
        & 0o777;
    Ok(ShippedFile {
        path: to.to_owned(),
        mode,
        placed,
        base64: base64::engine::general_purpose::STANDARD.encode(bytes),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(belay_yml: &str) -> Settings {
        let config = Config::load(belay_yml, "belay.yml").expect("a good file");
        config.for_environment("production").expect("settings")
    }

    #[test]
    fn an_interrupt_is_the_cause_of_whatever_it_made_fail() {
        let concluded = |interrupt: &Interrupt| {
            let mut outcome = blank(Work::Deploy, "v1.1.0");
            outcome.previous = Some("v1.0.0".to_owned());
            let failed = Err(Failure::new("docker save failed"));
            match conclude(outcome, failed, interrupt) {
                Concluded::Outcome(outcome) => *outcome,
                Concluded::Planned(_) => panic!("nothing was planned"),
            }
        };
        let raised = Interrupt::default();
        raised.raise();
        for (interrupt, error) in [
            (Interrupt::default(), "docker save failed"),
            (raised, "the run was cancelled"),
        ] {
            let outcome = concluded(&interrupt);
            assert_eq!(outcome.word, Word::Refused);
            assert_eq!(outcome.serving.as_deref(), Some("v1.0.0"));
            assert_eq!(outcome.failure.expect("it failed").error, error);
        }
    }

    #[test]
    fn a_service_with_the_name_of_the_gateway_is_refused_while_there_is_one() {
        let taken = json!({"services": {"web": {}, "belay-gateway": {}}});
        let free = json!({"services": {"web": {}}});
        let (on, off) = (settings("app: shop"), settings("app: shop\ngateway: off"));
        let failure = refuse_gateway_name(&taken, &on).expect_err("refused");
        assert!(failure.error.contains("belay-gateway"), "{}", failure.error);
        assert!(refuse_gateway_name(&taken, &off).is_ok());
        assert!(refuse_gateway_name(&free, &on).is_ok());
    }
}
