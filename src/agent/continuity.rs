//! Whether a version would leave data behind: what the pure comparison finds, held against what is on this host.
//!
//! Runs on the host; changes nothing. The same look answers a plan, `belay doctor` and the steps of a transaction, so that
//! all of them say the same. Data that is not there cannot be left behind, so what only a file knows of is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::backup::ReadError;
use super::error::AgentError;
use super::host::{Container, ContainerMount, Host};
use super::layout::Layout;
use super::state;
use belay_model::composition::compose::ComposeFile;
use belay_model::composition::continuity::{Finding, Judged, Unsaid, changes, judge, lines};
use belay_model::composition::copying::OtherProject;
use belay_model::composition::data::DataKind;
use belay_model::composition::data_view::{DataMount, DataView, Source};
use belay_model::composition::definitions::{DefinedVolume, volumes};
use belay_model::config::DataMeaning;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::text::size;
use belay_model::transaction::plan::{ContinuityRules, Plan};
use belay_model::versions::release::Release;

/// A version whose data is compared with that of the next one.
pub(crate) struct Before {
    /// As messages call it.
    name: String,
    view: DataView,
    containers: Vec<Container>,
    project: String,
    /// It is another project, and will not be replaced by itself.
    is_elsewhere: bool,
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Why not to go on.
    pub(crate) refusal: Option<AgentError>,
    /// What should be looked at.
    pub(crate) warnings: Vec<String>,
    /// What went as it was meant.
    pub(crate) notes: Vec<String>,
}

impl Verdict {
    /// Both; of two refusals the first.
    pub(crate) fn add(&mut self, other: Verdict) {
        if self.refusal.is_none() {
            self.refusal = other.refusal;
        }
        self.warnings.extend(other.warnings);
        self.notes.extend(other.notes);
    }
}

/// Which data a comparison is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Data that has a name: known from the Compose files alone.
    Named,
    /// Data without one: known once the images are.
    Unnamed,
    /// All of it.
    All,
}

impl Part {
    fn has(self, source: &Source) -> bool {
        let is_unnamed = matches!(source, Source::Unnamed { .. });
        match self {
            Part::Named => !is_unnamed,
            Part::Unnamed => is_unnamed,
            Part::All => true,
        }
    }
}

impl Before {
    /// What serves: its file, and the volumes without a name that its containers have.
    pub(crate) fn serving(
        host: &dyn Host,
        layout: &Layout,
        release: &Release,
    ) -> Result<Option<Before>, AgentError> {
        let Some(file) = state::normalised(layout, &release.name)? else {
            return Ok(None);
        };
        let mut view = DataView::of_file(&file, &release.project);
        let mut containers = containers(host, &release.project)?;
        // What one that has run leaves in a volume without a name, nothing finds again.
        containers.retain(|container| {
            let service = release.service(&container.service);
            service.is_none_or(|service| service.strategy != Strategy::OneShot)
        });
        // Whoever has the volumes of another container has none of its own.
        let borrows = |c: &&Container| {
            let service = file.service(&c.service);
            service.is_some_and(|service| service.get("volumes_from").is_some())
        };
        let owners = containers.iter().filter(|c| !borrows(c));
        let undeclared = undeclared(&view, owners);
        view.mounts.extend(undeclared);
        Ok(Some(Before {
            name: release.tag.clone(),
            project: release.project.clone(),
            view,
            containers,
            is_elsewhere: false,
        }))
    }

    /// What runs in this folder and Belay has no record of yet.
    pub(crate) fn running(host: &dyn Host, project: &str) -> Result<Option<Before>, AgentError> {
        let containers = containers(host, project)?;
        Ok((!containers.is_empty()).then(|| Before {
            name: "what runs now".to_owned(),
            project: project.to_owned(),
            view: seen(project, &containers),
            containers,
            is_elsewhere: false,
        }))
    }

    /// Compose's name for it.
    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    /// Docker's names of the volumes that it has mounted.
    pub(crate) fn volumes(&self) -> BTreeSet<String> {
        self.view.volumes()
    }

    /// Another project that is the same application: what a first deployment under another name or in another folder would
    /// leave behind. `app`: the application's name, which its images bear.
    pub(crate) fn elsewhere(
        host: &dyn Host,
        layout: &Layout,
        project: &str,
        plan: &Plan,
        after: &DataView,
    ) -> Result<Option<Before>, AgentError> {
        for other in host.projects()?.into_iter().filter(|p| p != project) {
            let containers = containers(host, &other)?;
            let view = seen(&other, &containers);
            if is_same_app(layout, plan, &containers, after.looks_like(&view)) {
                let folder = containers.first().map_or("", |c| c.working_dir.as_str());
                return Ok(Some(Before {
                    name: format!("the project {other} in {folder}"),
                    project: other,
                    view,
                    containers,
                    is_elsewhere: true,
                }));
            }
        }
        Ok(None)
    }

    /// The services that have data mounted, by the file or by their containers.
    pub(crate) fn writers(&self, kinds: &[DataKind]) -> Vec<String> {
        let has_it = |mount: &ContainerMount| kinds.iter().any(|k| overlap(k, &mount.data));
        let users = self
            .containers
            .iter()
            .filter(|c| c.mounts.iter().any(has_it));
        let of_file = |source: &Source| self.kind(source).is_some_and(|k| kinds.contains(&k));
        let of_file = self.view.services_with(of_file);
        let all: BTreeSet<String> = users.map(|c| c.service.clone()).chain(of_file).collect();
        all.into_iter().collect()
    }

    /// The containers of another project that run, for it to make room.
    pub(crate) fn other_project(&self) -> Option<OtherProject> {
        let running = self.containers.iter().filter(|c| c.is_under_way());
        self.is_elsewhere.then(|| OtherProject {
            name: self.name.clone(),
            containers: running.map(|c| c.id.clone()).collect(),
        })
    }

    /// Where data is for Docker; nothing for what cannot be looked at as such.
    pub(crate) fn kind(&self, source: &Source) -> Option<DataKind> {
        match source {
            Source::Volume { name, .. } => Some(DataKind::Volume { name: name.clone() }),
            Source::Path(path) => Some(DataKind::Bind { path: path.into() }),
            Source::Unnamed { service, target } => {
                let of_service = self.containers.iter().filter(|c| c.service == *service);
                let mut mounts = of_service.flat_map(|c| &c.mounts);
                let mount = mounts.find(|mount| mount.target == *target)?;
                Some(mount.data.clone())
            }
            Source::Memory => None,
        }
    }

    /// How data is called, with its size; nothing when it is not there.
    fn describe(&self, host: &dyn Host, source: &Source) -> Option<String> {
        let kind = self.kind(source)?;
        match host.data_reader(&self.project).size(&kind) {
            Ok(bytes) => Some(format!("{source} ({})", size(bytes))),
            Err(ReadError::Absent) => None,
            // That it cannot be measured does not make it less.
            Err(_) => Some(source.to_string()),
        }
    }
}

/// Whether two are the same data, or one is inside the other.
pub(crate) fn overlap(one: &DataKind, other: &DataKind) -> bool {
    match (one, other) {
        (DataKind::Bind { path: one }, DataKind::Bind { path: other }) => {
            one.starts_with(other) || other.starts_with(one)
        }
        (one, other) => one == other,
    }
}

fn containers(host: &dyn Host, project: &str) -> Result<Vec<Container>, AgentError> {
    let mut containers = host.containers(project)?;
    containers.retain(|c| !c.one_off && c.service != GATEWAY_SERVICE);
    Ok(containers)
}

/// Volumes that containers have where their file mounts nothing: what their images declare.
fn undeclared<'a>(
    view: &DataView,
    containers: impl Iterator<Item = &'a Container>,
) -> Vec<DataMount> {
    let mut found: Vec<DataMount> = vec![];
    for container in containers {
        for mount in container.mounts.iter().filter(|m| m.is_unnamed()) {
            let source = Source::Unnamed {
                service: container.service.clone(),
                target: mount.target.clone(),
            };
            let is_mounted = view
                .mounts
                .iter()
                .chain(&found)
                .any(|known| known.is_at(&container.service, &mount.target));
            if !is_mounted {
                let of = &container.service;
                found.push(DataMount::of_container(
                    of,
                    &mount.target,
                    source,
                    mount.is_writable,
                ));
            }
        }
    }
    found
}

/// What the containers of a project have mounted, whatever their file said.
fn seen(project: &str, containers: &[Container]) -> DataView {
    let mut view = DataView::default();
    for container in containers {
        let service = &container.service;
        view.services.insert(service.clone());
        for mount in &container.mounts {
            let source = match &mount.data {
                DataKind::Bind { path } => Source::Path(path.display().to_string()),
                DataKind::Volume { name } => match name.strip_prefix(&format!("{project}_")) {
                    Some(key) => Source::Volume {
                        key: key.to_owned(),
                        name: name.clone(),
                    },
                    None if mount.is_unnamed() => Source::Unnamed {
                        service: service.clone(),
                        target: mount.target.clone(),
                    },
                    None => Source::Volume {
                        key: name.clone(),
                        name: name.clone(),
                    },
                },
            };
            let mount = DataMount::of_container(service, &mount.target, source, mount.is_writable);
            if !view.mounts.contains(&mount) {
                view.mounts.push(mount);
            }
        }
    }
    view
}

/// Whether a project is this application under another name: what runs in this very folder; what was built for an
/// application of this name; and of what Belay did not build, what has the same services with data in the same places.
/// What another environment of Belay's has is not.
fn is_same_app(layout: &Layout, plan: &Plan, containers: &[Container], looks_alike: bool) -> bool {
    let Some(first) = containers.first() else {
        return false;
    };
    let folder = Path::new(&first.working_dir);
    if folder == layout.root() {
        return true;
    }
    let apps = containers.iter().map(|c| c.app.as_str());
    let apps: BTreeSet<&str> = apps.filter(|app| !app.is_empty()).collect();
    let is_alike = match apps.first() {
        Some(_) => apps.iter().all(|app| *app == plan.app),
        None => looks_alike,
    };
    // A folder of somebody else's may not be ours to read; then its looks decide.
    let serving = state::current(&Layout::new(folder)).ok().flatten();
    let environment = serving.and_then(|current| current.environment);
    is_alike && environment.is_none_or(|environment| environment == plan.environment)
}

/// A version that is about to take over.
pub(crate) struct Candidate<'a> {
    /// As messages call it.
    pub(crate) tag: &'a str,
    pub(crate) view: &'a DataView,
    /// A rollback is not refused: a person has asked for it, and data stays where it is.
    pub(crate) is_rollback: bool,
    pub(crate) rules: &'a ContinuityRules,
}

/// Holds a version's data against that of the one before.
pub(crate) fn compare(
    host: &dyn Host,
    layout: &Layout,
    before: &Before,
    candidate: &Candidate<'_>,
    part: Part,
) -> Verdict {
    let Found { names, judged } = find(host, layout, before, candidate, part);
    let said = |finding: &Finding| {
        let name = names.get(&finding.source).map_or("", String::as_str);
        finding.describe(name)
    };
    let mut verdict = Verdict::default();
    verdict.add(unsaid(&before.name, candidate, &judged, &said));
    let meant = judged.meant.iter();
    let notes = meant.map(|(finding, meaning)| {
        format!("{}: belay.yml says that it is {meaning}", said(finding))
    });
    verdict.notes.extend(notes);
    verdict.notes.extend(judged.told.iter().map(said));
    if part != Part::Unnamed && !candidate.is_rollback {
        let idle = judged.idle.iter().map(|entry| {
            format!(
                "belay.yml says under `data` what becomes of {entry}, and nothing becomes of it here: take the line out once \
                 every environment has this version, or it will hide a mistake later"
            )
        });
        verdict.warnings.extend(idle);
    }
    verdict
}

/// What is mounted otherwise and is on this host, judged by what belay.yml says.
pub(crate) struct Found {
    /// How each is called, with its size.
    pub(crate) names: BTreeMap<Source, String>,
    pub(crate) judged: Judged,
}

pub(crate) fn find(
    host: &dyn Host,
    layout: &Layout,
    before: &Before,
    candidate: &Candidate<'_>,
    part: Part,
) -> Found {
    let mut names: BTreeMap<Source, String> = BTreeMap::new();
    let mut findings = changes(&before.view, candidate.view);
    findings.retain(|finding| part.has(&finding.source));
    let sources: BTreeSet<Source> = findings.iter().map(|f| f.source.clone()).collect();
    for source in sources {
        if let Some(name) = before.describe(host, &source) {
            names.insert(source, name);
        }
    }
    findings.retain(|finding| names.contains_key(&finding.source));
    let mut meant = candidate.rules.meant.clone();
    // A rollback brings a version back to its own data, and copies nothing over it.
    meant.retain(|meant| !candidate.is_rollback || meant.meaning != DataMeaning::Copied);
    let root = layout.root().display().to_string();
    Found {
        judged: judge(findings, &meant, &root),
        names,
    }
}

/// What there is to say of data for which belay.yml says nothing.
fn unsaid(
    before: &str,
    candidate: &Candidate<'_>,
    judged: &Judged,
    said: &dyn Fn(&Finding) -> String,
) -> Verdict {
    let mut verdict = Verdict::default();
    if judged.unsaid.is_empty() {
        return verdict;
    }
    let tag = candidate.tag;
    let clauses: Vec<String> = judged.unsaid.iter().map(said).collect();
    let clauses = clauses.join("; ");
    let left = lines(&judged.unsaid, DataMeaning::Left);
    let moved = lines(&judged.unsaid, DataMeaning::Moved);
    let copied = lines(&judged.unsaid, DataMeaning::Copied);
    match (candidate.is_rollback, candidate.rules.unsaid) {
        (true, _) => verdict.warnings.push(format!(
            "{tag} has its data elsewhere than {before}: {clauses}; what {before} wrote stays where it is"
        )),
        (false, Unsaid::Warn) => verdict.warnings.push(format!(
            "{tag} leaves data of {before} behind: {clauses}; production refuses this until belay.yml says `{copied}`, \
             `{moved}` or `{left}`"
        )),
        (false, Unsaid::Refuse) => {
            let error = format!("{tag} would leave data of {before} behind: {clauses}");
            verdict.refusal = Some(AgentError::new(error).next(format!(
                "mount it as before; or say in belay.yml what is meant: `{copied}` to have it copied to its new place within \
                 the deployment (what writes to it stops meanwhile), `{moved}` when you have brought it there yourself, \
                 `{left}` if it may stay behind (it is kept on the host)"
            )));
        }
    }
    verdict
}

/// Volumes that are there and that the file of a project defines otherwise.
pub(crate) fn redefined_volumes(
    host: &dyn Host,
    project: &str,
    file: &ComposeFile,
    is_rollback: bool,
) -> Result<Verdict, AgentError> {
    let mut verdict = Verdict::default();
    for defined in volumes(project, file) {
        let Some(there) = host.volume(&defined.name)? else {
            continue;
        };
        let found = defined.differences(&there.driver, &there.options);
        if found.is_empty() {
            continue;
        }
        let what = format!(
            "the volume {} is defined otherwise than it was made ({})",
            there.name,
            found.join("; ")
        );
        if is_rollback {
            verdict.warnings.push(format!("{what}; it stays as it is"));
        } else if verdict.refusal.is_none() {
            verdict.refusal = Some(refused_definition(&defined, &what));
        }
    }
    Ok(verdict)
}

fn refused_definition(defined: &DefinedVolume, what: &str) -> AgentError {
    let error = format!("{what}, and Docker cannot change a volume");
    AgentError::new(error).next(format!(
        "define it as it is; or give it another name (a new key under `volumes:` and in the services), which makes a new \
         volume, and say `data: {{{0}: copied}}` in belay.yml to take its data along; or copy its data elsewhere, run `docker compose down` \
         and `docker volume rm {1}` on the host, and deploy again",
        defined.key, defined.name
    ))
}
