//! What a dry run shows: everything that a deployment or a rollback would do, and what it would be refused for.
//!
//! Runs anywhere; pure. One value, three readers: a console, a step summary, and a program (serde JSON).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use belay_model::config::{DataStrategy, ImageSource};
use belay_model::replacement::strategy::{ServiceStrategy, Strategy};
use belay_model::text::one_line;
use belay_model::transaction::outcome::Work;

use super::markdown::{Document, Inline};
use super::sentence::Sentence;
use super::words::{self, columns};

/// Everything that a dry run found out. Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// What a real run would do.
    pub work: Work,
    /// The application's name in belay.yml.
    pub app: String,
    /// The environment's name on GitHub.
    pub environment: String,
    /// `user@host:port`.
    pub host: String,
    /// The application's directory on the host.
    pub root: String,
    /// What was asked for.
    pub tag: String,
    /// The commit that the tag stands for.
    pub revision: Option<String>,
    /// What serves now.
    pub from: Option<String>,
    /// What would serve.
    pub to: String,
    /// Each, with what would become of it.
    pub services: Vec<PlannedService>,
    /// Each that would be built, sent or pulled.
    pub images: Vec<PlannedImageReport>,
    /// What would be saved before.
    pub backup: PlannedBackup,
    /// Data that would be put back, if any.
    #[serde(default)]
    pub restore: Option<PlannedRestore>,
    /// Files that would be put under the root.
    pub files: Vec<String>,
    /// When the new version would count as good.
    pub health: PlannedHealth,
    /// What can be rolled back to, with a few words about each: versions, then backups, newest first.
    #[serde(default)]
    pub choices: Vec<(String, String)>,
    /// Volumes of the project that neither version has mounted.
    #[serde(default)]
    pub unused: Vec<PlannedUnused>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Why it would be refused; empty when it would not.
    pub refusals: Vec<Refusal>,
}

/// The data of a backup, in the place of what is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRestore {
    /// The backup's name.
    pub backup: String,
    /// The version that it was taken of.
    pub version: Option<String>,
    /// When it was begun.
    pub taken: Timestamp,
    /// Which volumes and bind mounts it holds, in words.
    pub sources: Vec<String>,
}

impl PlannedRestore {
    fn sentence(&self) -> Sentence {
        let mut said = Sentence::new("put back from ").name(&self.backup);
        said = said.say(", taken ").text(&words::utc(self.taken));
        if let Some(version) = &self.version {
            said = said.say(" of ").name(version);
        }
        said.say("; everything stops meanwhile, and what is there now is backed up then")
    }
}

/// A service, and what would become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedService {
    /// What would become of it.
    #[serde(flatten)]
    pub planned: ServiceStrategy,
    /// How long its start-up took last time, where that is known.
    pub last_startup_ms: Option<u64>,
}

/// An image of the version that would come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedImageReport {
    /// The service's name in the Compose file.
    pub service: String,
    /// What the Compose file calls it, or the name that it would be built under.
    pub reference: String,
    /// Not known before it is built.
    pub size: Option<u64>,
    /// The same of what serves; `None` where that is not known.
    pub previous_size: Option<u64>,
    /// What belay.yml allows; `None` for an image that is not built here.
    pub budget: Option<u64>,
    /// `None` for an image that is on the host already.
    pub source: Option<ImageSource>,
}

/// The backup that would be taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedBackup {
    /// How many backups are kept.
    pub keep: usize,
    /// The data that it would hold.
    pub sources: Vec<PlannedSource>,
    /// The last one's size; `None` before the first.
    pub estimate_bytes: Option<u64>,
    /// What is free on the host; `None` where nobody looked.
    pub free_bytes: Option<u64>,
}

/// A volume or a folder that would be saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedSource {
    /// A volume's name, or a path on the host.
    pub source: String,
    /// How it would be brought to rest.
    pub strategy: DataStrategy,
    /// Those that have it mounted.
    pub services: Vec<String>,
}

/// A volume of the project that neither version has mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedUnused {
    /// Docker's name for it.
    pub name: String,
    /// What it holds, where that could be found out.
    pub bytes: Option<u64>,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
}

/// When the new version would count as good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlannedHealth {
    /// Those that would be asked.
    pub endpoints: Vec<PlannedEndpoint>,
    /// The most that it may take.
    pub deadline_ms: u64,
    /// Good answers in a row that it takes.
    pub successes: u32,
}

/// One that would be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedEndpoint {
    /// Which it is.
    pub role: EndpointRole,
    /// Where it is.
    pub url: String,
}

/// Which endpoint it is, and from where it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointRole {
    /// `health.primary`: its answers decide.
    Primary,
    /// `health.backup`: asked when the primary cannot be reached at all.
    Backup,
    /// `health.public`: as users reach it.
    Public,
}

impl EndpointRole {
    fn name(self) -> &'static str {
        match self {
            EndpointRole::Primary => "primary, from the host",
            EndpointRole::Backup => "backup, from the host",
            EndpointRole::Public => "public, from the runner",
        }
    }
}

/// One reason why the transaction would not begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub next: Option<String>,
}

impl PlanReport {
    /// Whether it would be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.refusals.is_empty()
    }

    fn headline(&self) -> Sentence {
        let verb = match (self.is_refused(), self.work) {
            (false, Work::Rollback) => "Would roll ",
            (true, Work::Rollback) => "Would refuse to roll ",
            (false, Work::Deploy | Work::Backup | Work::Plan) => "Would deploy ",
            (true, Work::Deploy | Work::Backup | Work::Plan) => "Would refuse to deploy ",
        };
        match self.work {
            Work::Rollback => Sentence::new(verb)
                .name(&self.environment)
                .say(" back to ")
                .name(&self.to),
            Work::Deploy | Work::Backup | Work::Plan => Sentence::new(verb)
                .name(&self.to)
                .say(" to ")
                .name(&self.environment),
        }
    }

    /// Names and values that are one line each.
    fn facts(&self) -> Vec<(&'static str, Sentence)> {
        let from = match &self.from {
            Some(version) => Sentence::with_name(version),
            None => Sentence::new("nothing"),
        };
        let mut facts = vec![
            ("version", from.say(" -> ").name(&self.to)),
            ("tag", Sentence::with_name(&self.tag)),
        ];
        facts.extend(
            self.revision
                .as_ref()
                .map(|r| ("revision", Sentence::with_name(r))),
        );
        facts.push(("app", Sentence::with_name(&self.app)));
        facts.push((
            "host",
            Sentence::with_name(&self.host).say(" at ").name(&self.root),
        ));
        facts.push(("backup", self.backup.sentence()));
        facts.extend(self.restore.as_ref().map(|r| ("data", r.sentence())));
        facts.push(("health", self.health.sentence()));
        facts
    }

    /// Tables of the plan: a title, the headers, the rows.
    fn tables(&self) -> Vec<Table> {
        vec![
            Table {
                title: "Services",
                headers: &["Service", "Strategy", "Why", "Expected gap"],
                rows: self.services.iter().map(PlannedService::row).collect(),
            },
            Table {
                title: "Images",
                headers: &["Service", "Image", "Size", "Difference", "Budget", "Comes"],
                rows: self.images.iter().map(PlannedImageReport::row).collect(),
            },
            Table {
                title: "Data in the backup",
                headers: &["Source", "Strategy", "Used by"],
                rows: self.backup.sources.iter().map(PlannedSource::row).collect(),
            },
            Table {
                title: "Data that is put back",
                headers: &["Source"],
                rows: self
                    .restore
                    .iter()
                    .flat_map(|restore| &restore.sources)
                    .map(|source| vec![Sentence::with_name(source)])
                    .collect(),
            },
            Table {
                title: "Volumes that nothing uses",
                headers: &["Volume", "Size", "Made"],
                rows: self.unused.iter().map(PlannedUnused::row).collect(),
            },
            Table {
                title: "Health endpoints",
                headers: &["Endpoint", "Asked as"],
                rows: self
                    .health
                    .endpoints
                    .iter()
                    .map(PlannedEndpoint::row)
                    .collect(),
            },
            Table {
                title: "What can be rolled back to",
                headers: &["Version or backup", "Which"],
                rows: self
                    .choices
                    .iter()
                    .map(|(name, about)| vec![Sentence::with_name(name), own_text(about)])
                    .collect(),
            },
            Table {
                title: "Files",
                headers: &["File"],
                rows: self
                    .files
                    .iter()
                    .map(|file| vec![Sentence::with_name(file)])
                    .collect(),
            },
        ]
    }
}

struct Table {
    title: &'static str,
    headers: &'static [&'static str],
    rows: Vec<Vec<Sentence>>,
}

fn own_text(text: &str) -> Sentence {
    Sentence::default().text(text)
}

impl PlannedService {
    fn row(&self) -> Vec<Sentence> {
        vec![
            Sentence::with_name(&self.planned.service),
            Sentence::new(self.planned.strategy.words()),
            own_text(&self.planned.reason),
            self.expected_gap(),
        ]
    }

    /// The time without the service that its strategy costs.
    fn expected_gap(&self) -> Sentence {
        let gap = match (&self.planned.gap, self.planned.strategy) {
            (Some(gap), _) => gap.as_str(),
            (None, Strategy::StopFirst) => "its start-up",
            (
                None,
                Strategy::StartFirstGateway
                | Strategy::StartFirstProxy
                | Strategy::Untouched
                | Strategy::Gateway
                | Strategy::OneShot,
            ) => return Sentence::new("none"),
        };
        match self.last_startup_ms {
            Some(ms) => own_text(&format!("{gap}, last time {}", words::duration(ms))),
            None => own_text(gap),
        }
    }
}

impl PlannedImageReport {
    fn row(&self) -> Vec<Sentence> {
        let size = |bytes: Option<u64>| {
            bytes.map_or(Sentence::new("not known yet"), |b| {
                own_text(&words::size(b))
            })
        };
        let difference = match (self.size, self.previous_size) {
            (Some(now), Some(before)) => own_text(&words::difference(now, before)),
            (_, None) => Sentence::new("new"),
            (None, Some(_)) => Sentence::new("-"),
        };
        vec![
            Sentence::with_name(&self.service),
            Sentence::with_name(&self.reference),
            size(self.size),
            difference,
            self.budget(),
            Sentence::new(match self.source {
                Some(ImageSource::Stream) => "from the runner",
                Some(ImageSource::Registry) => "from a registry",
                None => "is on the host",
            }),
        ]
    }

    fn budget(&self) -> Sentence {
        match (self.budget, self.size) {
            (None, _) => Sentence::new("-"),
            (Some(budget), Some(size)) if size > budget => own_text(&format!(
                "OVER {} by {}",
                words::size(budget),
                words::size(size - budget)
            )),
            (Some(budget), _) => own_text(&format!("within {}", words::size(budget))),
        }
    }
}

impl PlannedSource {
    fn row(&self) -> Vec<Sentence> {
        let strategy = match self.strategy {
            DataStrategy::Live => "live (marked as perhaps inconsistent)",
            DataStrategy::Pause => "pause",
            DataStrategy::Stop => "stop",
            DataStrategy::Dump => "dump",
        };
        vec![
            Sentence::with_name(&self.source),
            Sentence::new(strategy),
            own_text(&self.services.join(", ")),
        ]
    }
}

impl PlannedUnused {
    fn row(&self) -> Vec<Sentence> {
        let unknown = || Sentence::new("not known");
        vec![
            Sentence::with_name(&self.name),
            self.bytes
                .map_or_else(unknown, |bytes| own_text(&words::size(bytes))),
            self.created
                .map_or_else(unknown, |at| own_text(&words::utc(at))),
        ]
    }
}

impl PlannedEndpoint {
    fn row(&self) -> Vec<Sentence> {
        vec![
            Sentence::with_name(&self.url),
            Sentence::new(self.role.name()),
        ]
    }
}

impl PlannedBackup {
    fn sentence(&self) -> Sentence {
        let mut text = match self.estimate_bytes {
            Some(bytes) => format!("about {}", words::size(bytes)),
            None => "taken first".to_owned(),
        };
        if let Some(free) = self.free_bytes {
            text.push_str(&format!(", {} free on the host", words::size(free)));
        }
        own_text(&format!("{text}; the last {} are kept", self.keep))
    }
}

impl PlannedHealth {
    fn sentence(&self) -> Sentence {
        own_text(&format!(
            "{} in a row within {}",
            words::count(
                usize::try_from(self.successes).unwrap_or(usize::MAX),
                "good answer",
                "good answers"
            ),
            words::duration(self.deadline_ms)
        ))
    }
}

/// The plan on a console.
#[must_use]
pub fn plan_text(report: &PlanReport) -> String {
    let mut text = format!("{}\n", report.headline().plain());
    let facts: Vec<Vec<String>> = report
        .facts()
        .into_iter()
        .map(|(name, value)| vec![format!("{name}:"), value.plain()])
        .collect();
    text.push_str(&columns(&facts, "  "));
    for table in report
        .tables()
        .into_iter()
        .filter(|table| !table.rows.is_empty())
    {
        text.push_str(&format!("\n{}\n", table.title));
        text.push_str(&columns(&plain_rows(&table), "  "));
    }
    for warning in &report.warnings {
        text.push_str(&format!("\nwarning: {}", one_line(warning)));
    }
    for refusal in &report.refusals {
        text.push_str(&format!("\nrefused: {}", one_line(&refusal.error)));
        if let Some(next) = &refusal.next {
            text.push_str(&format!("\n   next: {}", one_line(next)));
        }
    }
    text.push_str("\nNothing was changed.\n");
    text
}

fn plain_rows(table: &Table) -> Vec<Vec<String>> {
    let rows = table.rows.iter();
    rows.map(|row| row.iter().map(Sentence::plain).collect())
        .collect()
}

/// The plan as a page of Markdown.
pub fn plan_markdown(report: &PlanReport) -> String {
    let mut page = Document::new();
    let sign = if report.is_refused() { "⛔ " } else { "➖ " };
    page.heading(2, &Inline::own(sign).then(report.headline().inline()));
    page.list(&report.refusals.iter().map(refusal).collect::<Vec<_>>());
    let facts = report.facts().into_iter();
    let facts: Vec<Vec<Inline>> = facts
        .map(|(name, value)| vec![Inline::own(name), value.inline()])
        .collect();
    page.table(&["", ""], &facts);
    if !report.warnings.is_empty() {
        page.heading(3, &Inline::own("Warnings"));
        page.list(
            &report
                .warnings
                .iter()
                .map(|text| Inline::text(text))
                .collect::<Vec<_>>(),
        );
    }
    for table in report
        .tables()
        .into_iter()
        .filter(|table| !table.rows.is_empty())
    {
        page.heading(3, &Inline::own(table.title));
        let rows = table.rows.iter();
        let rows: Vec<Vec<Inline>> = rows
            .map(|row| row.iter().map(Sentence::inline).collect())
            .collect();
        page.table(table.headers, &rows);
    }
    page.paragraph(&Inline::own("Nothing was changed."));
    page.into_string()
}

fn refusal(refusal: &Refusal) -> Inline {
    let error = Inline::own("**refused:** ").then(Inline::text(&refusal.error));
    match &refusal.next {
        Some(next) => error.say(" (next: ").then(Inline::text(next)).say(")"),
        None => error,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use insta::assert_snapshot;

    use super::*;

    pub(crate) fn example() -> PlanReport {
        PlanReport {
            work: Work::Deploy,
            app: "ntplatform".to_owned(),
            environment: "production".to_owned(),
            host: "deploy@203.0.113.10:22".to_owned(),
            root: "/opt/ntplatform".to_owned(),
            tag: "v1.2.0".to_owned(),
            revision: Some("3f2a91c0de".repeat(4)),
            from: Some("v1.1.1".to_owned()),
            to: "v1.2.0".to_owned(),
            services: vec![
                PlannedService {
                    planned: ServiceStrategy {
                        service: "web".to_owned(),
                        strategy: Strategy::StopFirst,
                        reason: "its container_name is web, which only one container can have"
                            .to_owned(),
                        gap: Some(
                            "up to 10 s while it stops, then until the new one has started"
                                .to_owned(),
                        ),
                    },
                    last_startup_ms: Some(1_200),
                },
                PlannedService {
                    planned: ServiceStrategy {
                        service: "cache".to_owned(),
                        strategy: Strategy::Untouched,
                        reason: "it is the same in both versions".to_owned(),
                        gap: None,
                    },
                    last_startup_ms: None,
                },
            ],
            images: vec![PlannedImageReport {
                service: "web".to_owned(),
                reference: "belay/ntplatform-web:v1.2.0".to_owned(),
                size: Some(343_000_000),
                previous_size: Some(287_100_000),
                budget: Some(300_000_000),
                source: Some(ImageSource::Stream),
            }],
            backup: PlannedBackup {
                keep: 5,
                sources: vec![PlannedSource {
                    source: "ntplatform_data".to_owned(),
                    strategy: DataStrategy::Live,
                    services: vec!["web".to_owned()],
                }],
                estimate_bytes: Some(12_300_000),
                free_bytes: Some(21_000_000_000),
            },
            files: vec![
                "docker-compose.yml".to_owned(),
                "config/app.toml".to_owned(),
            ],
            health: PlannedHealth {
                endpoints: vec![PlannedEndpoint {
                    role: EndpointRole::Primary,
                    url: "http://127.0.0.1:8080/api/status".to_owned(),
                }],
                deadline_ms: 90_000,
                successes: 3,
            },
            restore: Some(PlannedRestore {
                backup: "backup_20241214_102030".to_owned(),
                version: Some("v1.0.0".to_owned()),
                taken: "2024-12-14T10:20:30Z".parse().expect("a time"),
                sources: vec!["volume app_data".to_owned()],
            }),
            choices: vec![(
                "v1.0.0".to_owned(),
                "deployed 2026-11-24 09:30:00 UTC".to_owned(),
            )],
            unused: vec![PlannedUnused {
                name: "ntplatform_old".to_owned(),
                bytes: Some(4_200_000),
                created: "2024-11-02T08:00:00Z".parse().ok(),
            }],
            warnings: vec!["the image of web is over its budget".to_owned()],
            refusals: vec![],
        }
    }

    #[test]
    fn the_plan_is_as_it_was_reviewed() {
        let mut report = example();
        assert_snapshot!("plan_text", plan_text(&report));
        report.refusals = vec![Refusal {
            error: "v1.2.0 is not newer than v1.2.1, which serves".to_owned(),
            next: Some("to go back, run `belay rollback v1.2.0`".to_owned()),
        }];
        assert_snapshot!("plan_markdown", plan_markdown(&report));
    }

    #[test]
    fn a_program_reads_back_what_was_written() {
        let json = serde_json::to_string(&example()).unwrap();
        assert_eq!(
            serde_json::from_str::<PlanReport>(&json).unwrap(),
            example()
        );
    }

    #[test]
    fn a_plan_that_would_be_refused_says_so_first() {
        let mut report = example();
        report.refusals = vec![Refusal {
            error: "a\n::error::b".to_owned(),
            next: None,
        }];
        let text = plan_text(&report);
        assert!(text.starts_with("Would refuse to deploy v1.2.0"), "{text}");
        assert!(text.contains("\nrefused: a ::error::b\n"), "{text}");
    }

    #[test]
    fn a_service_cannot_speak_to_the_runner() {
        let mut report = example();
        report.services[0].planned.service = "::add-mask::x".to_owned();
        for line in plan_text(&report).lines() {
            assert!(!line.trim_start().starts_with("::"), "{line:?}");
        }
    }
}
