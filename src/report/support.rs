//! The report of `belay doctor --report`: what somebody who helps has to know, as Markdown for a public page.
//!
//! Runs anywhere; pure. Nothing private can be in it, and not because it was searched for: a value of the report is a
//! [`Public`], and there is no way to make one of a text from outside but [`Public::version`], which keeps numbers alone.
//! So there are no names of hosts or users, no addresses, no paths, no tokens and no values of an environment.

use std::time::Duration;

use super::doctor::{Finding, Grade};
use super::markdown::{Document, Inline};
use super::words;
use belay_model::config::{
    BackupData, Degraded, Excess, Gateway, ImageSource, Settings, VersionSource,
};

/// A value that strangers may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public(String);

impl Public {
    /// One of Belay's own words.
    #[must_use]
    pub fn word(word: &'static str) -> Self {
        Public(word.to_owned())
    }

    /// Whether it is so.
    #[must_use]
    pub fn flag(is_so: bool) -> Self {
        Public::word(if is_so { "yes" } else { "no" })
    }

    /// Whether something is set, never to what.
    #[must_use]
    pub fn is_set<T>(value: Option<&T>) -> Self {
        Public::word(if value.is_some() { "set" } else { "not set" })
    }

    /// A number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Public(number.to_string())
    }

    /// How many there are.
    #[must_use]
    pub fn count(number: usize) -> Self {
        Public(number.to_string())
    }

    /// A size in bytes.
    #[must_use]
    pub fn size(bytes: u64) -> Self {
        Public(words::size(bytes))
    }

    /// A length of time.
    #[must_use]
    pub fn duration(length: Duration) -> Self {
        let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Public(words::duration(ms))
    }

    /// The version of a program, as it tells it: the first word that is two or three numbers with dots between them. What
    /// comes after (`-rc.1`, `+dfsg1`) is left out, and so is a word of four numbers, which could be an address.
    #[must_use]
    pub fn version(said: &str) -> Self {
        let found = said.split_whitespace().find_map(numbers);
        Public(found.unwrap_or_else(|| "unknown".to_owned()))
    }

    fn words(words: &[&'static str]) -> Self {
        match words.is_empty() {
            true => Public::word("none"),
            false => Public(words.join(", ")),
        }
    }
}

/// `v29.0.1-rc.1` as `29.0.1`; nothing for what is no version.
fn numbers(word: &str) -> Option<String> {
    let word = word.strip_prefix('v').unwrap_or(word);
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (kept, rest) = word.split_at(end.unwrap_or(word.len()));
    let is_suffix = rest.is_empty() || rest.starts_with(['-', '+', '~', ',']);
    let parts: Vec<&str> = kept.split('.').collect();
    let is_number = |part: &&str| (1..=6).contains(&part.len());
    let is_version = (2..=3).contains(&parts.len()) && parts.iter().all(is_number);
    (is_suffix && is_version).then(|| kept.to_owned())
}

/// Facts of one subject, in the order in which they are shown.
pub type Facts = Vec<(&'static str, Public)>;

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportReport {
    /// Belay's own version.
    pub belay: Public,
    /// The machine that the report was made on.
    pub machine: Facts,
    /// The host; what is known without it when it could not be reached.
    pub host: Facts,
    /// The configuration; `None` when it could not be understood.
    pub configuration: Option<Facts>,
    /// What the doctor looked at, and how it is. Its words stay at home.
    pub findings: Vec<Finding>,
}

/// The report as Markdown, to be pasted into a form.
#[must_use]
pub fn support_markdown(report: &SupportReport) -> String {
    let mut page = Document::new();
    page.paragraph(&fact("Belay", &report.belay));
    section(&mut page, "This machine", &report.machine);
    section(&mut page, "The host", &report.host);
    if let Some(facts) = &report.configuration {
        section(&mut page, "The configuration, as it was understood", facts);
    } else {
        page.heading(3, &Inline::own("The configuration, as it was understood"));
        page.paragraph(&Inline::own("It has problems; `belay doctor` shows them."));
    }
    page.heading(3, &Inline::own("The checks"));
    let checks: Vec<Inline> = report.findings.iter().map(check).collect();
    page.list(&checks);
    page.into_string()
}

fn section(page: &mut Document, title: &'static str, facts: &Facts) {
    page.heading(3, &Inline::own(title));
    let facts: Vec<Inline> = facts
        .iter()
        .map(|(name, value)| fact(name, value))
        .collect();
    page.list(&facts);
}

fn fact(name: &'static str, value: &Public) -> Inline {
    Inline::own(name).say(": ").then(Inline::code(&value.0))
}

/// What was looked at is named by Belay itself.
fn check(finding: &Finding) -> Inline {
    let grade = match finding.grade {
        Grade::Good => "ok",
        Grade::Careful => "to be looked at",
        Grade::Bad => "bad",
        Grade::Unknown => "not looked at",
    };
    Inline::code(&finding.what).say(": ").say(grade)
}

/// The settings of an environment. Names, addresses, paths and commands are only said to be set.
#[must_use]
pub fn configuration_facts(settings: &Settings) -> Facts {
    let kinds: Vec<&str> = settings.tags.iter().map(|kind| kind.word()).collect();
    let mut facts = vec![
        ("tag kinds of the environment", Public::words(&kinds)),
        ("host", Public::is_set(settings.host.as_ref())),
        ("url", Public::is_set(settings.url.as_ref())),
        ("compose", Public::is_set(settings.compose.as_ref())),
        ("project", Public::is_set(settings.project.as_ref())),
        ("files", Public::count(settings.files.len())),
        (
            "services with settings",
            Public::count(settings.services.len()),
        ),
        ("bake", Public::duration(settings.bake.get())),
        ("confirm", Public::duration(settings.confirm.get())),
        ("lock wait", Public::duration(settings.lock_wait.get())),
    ];
    facts.extend(images(settings));
    facts.extend(traffic(settings));
    facts.extend(health(settings));
    facts.extend(backup(settings));
    facts
}

fn images(settings: &Settings) -> Facts {
    let images = &settings.images;
    vec![
        ("images.source", source(images.source)),
        ("images.budget", Public::size(images.budget.get())),
        ("images.over-budget", excess(images.over_budget)),
        ("images.growth", Public(images.growth.to_string())),
        ("images.over-growth", excess(images.over_growth)),
        ("images.test", Public::flag(!images.test.is_empty())),
        ("images.keep", Public::number(images.keep.into())),
        ("images.given", Public::count(images.given.len())),
        ("images.platform", Public::is_set(images.platform.as_ref())),
    ]
}

fn traffic(settings: &Settings) -> Facts {
    let requests = &settings.requests;
    let gateway = match &settings.gateway {
        Gateway::Off => Public::word("off"),
        Gateway::On { source: from, .. } => source(*from),
    };
    vec![
        ("gateway.source", gateway),
        ("requests.rate", Public::number(requests.rate.into())),
        ("requests.over", excess(requests.over)),
    ]
}

fn health(settings: &Settings) -> Facts {
    let health = &settings.health;
    let version = match &health.version {
        None => "not set",
        Some(VersionSource::Header(_)) => "a header",
        Some(VersionSource::Json(_)) => "a JSON field",
    };
    vec![
        ("health.primary", Public::is_set(health.primary.as_ref())),
        ("health.backup", Public::is_set(health.backup.as_ref())),
        ("health.public", Public::is_set(health.public.as_ref())),
        ("health.successes", Public::number(health.successes.into())),
        ("health.interval", Public::duration(health.interval.get())),
        ("health.timeout", Public::duration(health.timeout.get())),
        ("health.deadline", Public::duration(health.deadline.get())),
        (
            "health.degraded",
            Public::word(match health.degraded {
                Degraded::Accept => "accept",
                Degraded::Refuse => "refuse",
            }),
        ),
        ("health.version", Public::word(version)),
    ]
}

fn backup(settings: &Settings) -> Facts {
    let backup = &settings.backup;
    let data = match &backup.data {
        BackupData::Auto => Public::word("auto"),
        BackupData::None => Public::word("none"),
        BackupData::These(sources) => Public::count(sources.len()),
    };
    vec![
        ("backup.keep", Public::number(backup.keep.into())),
        ("backup.logs", Public::number(backup.logs.into())),
        ("backup.data", data),
    ]
}

fn source(source: ImageSource) -> Public {
    Public::word(match source {
        ImageSource::Stream => "stream",
        ImageSource::Registry => "registry",
    })
}

fn excess(rule: Excess) -> Public {
    Public::word(match rule {
        Excess::Warn => "warn",
        Excess::Fail => "fail",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use belay_model::config::Config;

    fn settings() -> Settings {
        let config = Config::load(
            "app: shop\nhost: 203.0.113.10\nimages:\n  keep: 4\n",
            "belay.yml",
        )
        .expect("a good file");
        config.for_environment("production").expect("settings")
    }

    #[test]
    fn the_report_is_as_it_was_reviewed() {
        let report = SupportReport {
            belay: Public::version("0.1.0"),
            machine: vec![(
                "Docker",
                Public::version("Docker version 28.5.1, build e180ab8"),
            )],
            host: vec![
                ("engine", Public::version("29.0.1-rc.2")),
                ("free space", Public::size(12_345_678_901)),
            ],
            configuration: Some(configuration_facts(&settings())),
            findings: vec![
                Finding::good("Git history", "whole"),
                Finding::bad("SSH", "deploy@203.0.113.10 refused the key", "give the key"),
                Finding::unknown("disk", "the host was not reached"),
            ],
        };
        insta::assert_snapshot!(support_markdown(&report));
    }

    #[test]
    fn a_version_is_numbers_and_nothing_else() {
        let version = |said: &str| Public::version(said).0;
        assert_eq!(version("v2.40.0"), "2.40.0");
        assert_eq!(version("git version 2.47.3"), "2.47.3");
        assert_eq!(version("29.0.1-rc.2"), "29.0.1");
        assert_eq!(version("26.1.5+dfsg1"), "26.1.5");
        for private in [
            "203.0.113.10",
            "app.example.com",
            "/home/somebody/1.2.3",
            "1.2.3/secret",
            "1.2.3.example.com",
            "ghs_16C7e42F292c6912E7",
            "1234567.1",
            "1..2",
            "",
        ] {
            assert_eq!(version(private), "unknown", "{private}");
        }
    }
}
