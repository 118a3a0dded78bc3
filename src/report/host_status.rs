//! What `belay status` and `belay backups` say about a host.
//!
//! Runs anywhere; pure: the time "now" is a field. Both values are serde JSON for programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use belay_model::text::one_line;
use belay_model::transaction::journal::Holder;
use belay_model::transaction::step::Step;
use belay_model::versions::release::How;

use super::words::{self, columns};

/// The state of an application on its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The application's name in belay.yml.
    pub app: String,
    /// The environment's name on GitHub.
    pub environment: String,
    /// `user@host:port`.
    pub host: String,
    /// The application's folder on the host.
    pub root: String,
    /// When this was looked up.
    pub at: Timestamp,
    /// `None` when nothing is deployed.
    pub current: Option<CurrentReport>,
    /// Every container of the project.
    pub services: Vec<ServiceReport>,
    /// Who holds the lock.
    pub lock: Option<Holder>,
    /// A transaction that is not closed.
    pub open: Option<UnfinishedTransaction>,
    /// Newest first.
    pub backups: Vec<BackupLine>,
    /// What is free on the root's file system; `None` where nobody looked.
    pub free_bytes: Option<u64>,
    /// The services of what was deployed last that do not run now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
    /// Versions that can be rolled back to, newest first; the serving one among them.
    pub releases: Vec<KeptRelease>,
    /// Who settles the host after a reboot.
    #[serde(default)]
    pub recovery: Option<String>,
    /// What the last recovery did, or what a person should know.
    pub note: Option<String>,
}

/// The release that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurrentReport {
    /// Its tag.
    pub version: String,
    /// Its directory below `.belay/releases`.
    pub release: String,
    /// The commit, where there is one.
    pub revision: Option<String>,
    /// When it became current.
    pub since: Timestamp,
    /// By a deployment or a rollback.
    pub how: How,
    /// The version that served before.
    pub previous: Option<String>,
}

/// One container of the project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The service's name in the Compose file.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// Docker's word: `running`, `exited`, …
    pub state: String,
    /// Docker's word for its healthcheck, where it has one.
    pub health: Option<String>,
    /// The image's identity, or what the engine calls it.
    pub image: String,
}

/// A transaction that is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnfinishedTransaction {
    /// The name that the runner gave it.
    pub tx: String,
    /// `deploy v1.2.0`.
    pub what: String,
    /// When it began.
    pub since: Timestamp,
    /// Where it is; `None` where that is not known.
    pub step: Option<Step>,
    /// What it does there.
    pub state: OpenState,
}

/// What an open transaction is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenState {
    /// It goes forward.
    Running,
    /// The new version serves and is not confirmed.
    AwaitingConfirmation,
    /// It goes back.
    Unwinding,
    /// Its engine is gone; the next look or run recovers it.
    Interrupted,
    /// An undo failed: a person is needed.
    Stuck,
}

impl OpenState {
    fn name(self) -> &'static str {
        match self {
            OpenState::Running => "running",
            OpenState::AwaitingConfirmation => "waiting for its confirmation",
            OpenState::Unwinding => "undoing itself",
            OpenState::Interrupted => "interrupted; the next run settles it",
            OpenState::Stuck => "STUCK; a person is needed",
        }
    }
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupLine {
    /// By which a rollback means it.
    pub name: String,
    /// When it was begun.
    pub taken: Timestamp,
    /// The archive's size.
    pub bytes: u64,
    /// The version that served when it was taken.
    pub version: Option<String>,
    /// Whether it can be relied on.
    pub check: BackupCheck,
}

/// What is known about a backup's soundness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "check", content = "reason")]
pub enum BackupCheck {
    /// It was verified when it was taken, and not looked at since.
    Recorded,
    /// It was read back just now.
    Verified,
    /// It cannot be used, for this reason.
    Broken(String),
}

impl BackupCheck {
    fn text(&self) -> String {
        match self {
            BackupCheck::Recorded => "verified when taken".to_owned(),
            BackupCheck::Verified => "verified now".to_owned(),
            BackupCheck::Broken(reason) => format!("BROKEN: {}", one_line(reason)),
        }
    }
}

/// A version that the host keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptRelease {
    /// Its tag.
    pub version: String,
    /// Its directory below `.belay/releases`.
    pub release: String,
    /// When it was unpacked.
    pub created: Timestamp,
    /// Images that are gone from the host; with one missing it cannot be rolled back to.
    pub missing_images: Vec<String>,
}

/// The status on a console.
#[must_use]
pub fn status_text(report: &StatusReport) -> String {
    let mut text = format!(
        "{} in {} on {}\n",
        one_line(&report.app),
        one_line(&report.environment),
        one_line(&report.host)
    );
    text.push_str(&columns(&facts(report), "  "));
    section(&mut text, "Services", &services(report));
    section(
        &mut text,
        "Backups",
        &backup_rows(&report.backups, report.at),
    );
    section(&mut text, "Versions kept", &releases(report));
    text
}

fn section(text: &mut String, title: &str, rows: &[Vec<String>]) {
    if !rows.is_empty() {
        text.push_str(&format!("\n{title}\n{}", columns(rows, "  ")));
    }
}

fn facts(report: &StatusReport) -> Vec<Vec<String>> {
    let mut facts = vec![("serves:", serves(report))];
    let previous = report.current.as_ref().and_then(|c| c.previous.as_deref());
    facts.extend(previous.map(|version| ("before:", one_line(version))));
    let revision = report.current.as_ref().and_then(|c| c.revision.as_deref());
    facts.extend(revision.map(|revision| ("revision:", one_line(revision))));
    facts.push(("lock:", lock(report)));
    facts.extend(
        report
            .open
            .as_ref()
            .map(|open| ("open:", open_transaction(open, report.at))),
    );
    facts.extend(
        report
            .free_bytes
            .map(|bytes| ("disk:", format!("{} free", words::size(bytes)))),
    );
    facts.push(("root:", one_line(&report.root)));
    let recovery = report.recovery.as_deref();
    facts.extend(recovery.map(|text| ("reboot:", one_line(text))));
    facts.extend(report.note.as_deref().map(|note| ("note:", one_line(note))));
    facts
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect()
}

fn serves(report: &StatusReport) -> String {
    let Some(current) = &report.current else {
        return "nothing".to_owned();
    };
    let how = match current.how {
        How::Deploy => "deployed",
        How::Rollback => "rolled back to",
    };
    let since = format!(
        "{}, {how} {} ({})",
        one_line(&current.version),
        words::ago(current.since, report.at),
        words::utc(current.since)
    );
    match report.down.is_empty() {
        true => since,
        false => format!("{since}; but {} not run", words::not_running(&report.down)),
    }
}

fn lock(report: &StatusReport) -> String {
    let Some(holder) = &report.lock else {
        return "free".to_owned();
    };
    let mut text = format!("held by {}", one_line(&holder.what));
    if let Some(actor) = &holder.actor {
        text.push_str(&format!(" ({})", one_line(actor)));
    }
    if let Some(since) = holder.since {
        text.push_str(&format!(", since {}", words::utc(since)));
    }
    if let Some(url) = &holder.run_url {
        text.push_str(&format!(", {}", one_line(url)));
    }
    text
}

fn open_transaction(open: &UnfinishedTransaction, now: Timestamp) -> String {
    let step = open
        .step
        .map_or(String::new(), |step| format!(" in {step}"));
    format!(
        "{}{step}: {}, begun {}",
        one_line(&open.what),
        open.state.name(),
        words::ago(open.since, now)
    )
}

fn services(report: &StatusReport) -> Vec<Vec<String>> {
    let row = |s: &ServiceReport| {
        let health = s.health.as_deref().unwrap_or("no healthcheck");
        [s.service.as_str(), &s.container, &s.state, health, &s.image]
            .map(one_line)
            .to_vec()
    };
    report.services.iter().map(row).collect()
}

fn releases(report: &StatusReport) -> Vec<Vec<String>> {
    let serving = report.current.as_ref().map(|c| c.release.as_str());
    let row = |kept: &KeptRelease| {
        let note = if Some(kept.release.as_str()) == serving {
            "serves".to_owned()
        } else if kept.missing_images.is_empty() {
            format!("belay rollback {}", one_line(&kept.version))
        } else {
            let missing = kept.missing_images.len();
            format!("{} missing", words::count(missing, "image", "images"))
        };
        vec![one_line(&kept.version), words::utc(kept.created), note]
    };
    report.releases.iter().map(row).collect()
}

/// The backups on a console, as they are given.
#[must_use]
pub fn backups_text(backups: &[BackupLine], now: Timestamp) -> String {
    if backups.is_empty() {
        return "there are no backups yet\n".to_owned();
    }
    columns(&backup_rows(backups, now), "")
}

/// What a backup without a version is of.
fn unversioned(check: &BackupCheck) -> String {
    match check {
        BackupCheck::Broken(_) => "of an unknown version".to_owned(),
        BackupCheck::Verified | BackupCheck::Recorded => "of nothing".to_owned(),
    }
}

fn backup_rows(backups: &[BackupLine], now: Timestamp) -> Vec<Vec<String>> {
    let row = |backup: &BackupLine| {
        let of = backup.version.as_deref().map_or_else(
            || unversioned(&backup.check),
            |v| format!("of {}", one_line(v)),
        );
        vec![
            one_line(&backup.name),
            words::ago(backup.taken, now),
            words::size(backup.bytes),
            of,
            backup.check.text(),
        ]
    };
    backups.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::examples::at;

    fn backup(name: &str, taken: &str, check: BackupCheck) -> BackupLine {
        BackupLine {
            name: name.to_owned(),
            taken: at(taken),
            bytes: 12_345_678,
            version: Some("v1.1.0".to_owned()),
            check,
        }
    }

    fn example() -> StatusReport {
        StatusReport {
            app: "ntplatform".to_owned(),
            environment: "production".to_owned(),
            host: "deploy@203.0.113.10:22".to_owned(),
            root: "/opt/ntplatform".to_owned(),
            at: at("2026-11-24T12:00:00Z"),
            down: vec![],
            current: Some(CurrentReport {
                version: "v1.1.0".to_owned(),
                release: "2-v1.1.0".to_owned(),
                revision: Some("3f2a91c0de".repeat(4)),
                since: at("2026-11-24T09:30:00Z"),
                how: How::Rollback,
                previous: Some("v1.2.0".to_owned()),
            }),
            services: vec![ServiceReport {
                service: "web".to_owned(),
                container: "ntplatform-web-1".to_owned(),
                state: "running".to_owned(),
                health: Some("healthy".to_owned()),
                image: "belay/ntplatform-web:4c4c4c4c4c4c".to_owned(),
            }],
            lock: Some(Holder {
                what: "deploy v1.2.1".to_owned(),
                run_url: Some("https://github.example.com/octo/app/actions/runs/7".to_owned()),
                actor: Some("octo".to_owned()),
                since: Some(at("2026-11-24T11:59:00Z")),
                pid: None,
            }),
            open: Some(UnfinishedTransaction {
                tx: "0".repeat(32),
                what: "deploy v1.2.1".to_owned(),
                since: at("2026-11-24T11:58:00Z"),
                step: Some(Step::Bake),
                state: OpenState::Running,
            }),
            backups: vec![
                backup(
                    "backup_20261124_093000",
                    "2026-11-24T09:30:00Z",
                    BackupCheck::Recorded,
                ),
                backup(
                    "backup_20261122_090000",
                    "2026-11-22T09:00:00Z",
                    BackupCheck::Broken("its checksum differs".to_owned()),
                ),
            ],
            free_bytes: Some(21_000_000_000),
            releases: vec![
                KeptRelease {
                    version: "v1.1.0".to_owned(),
                    release: "2-v1.1.0".to_owned(),
                    created: at("2026-11-20T09:30:00Z"),
                    missing_images: vec![],
                },
                KeptRelease {
                    version: "v1.0.0".to_owned(),
                    release: "1-v1.0.0".to_owned(),
                    created: at("2026-11-10T09:30:00Z"),
                    missing_images: vec![],
                },
            ],
            recovery: Some(
                "recovers at boot: systemd user unit belay-ntplatform-0123456789ab.service"
                    .to_owned(),
            ),
            note: Some("the last transaction was interrupted and undone".to_owned()),
        }
    }

    #[test]
    fn the_status_is_as_it_was_reviewed() {
        assert_snapshot!("status_text", status_text(&example()));
    }

    #[test]
    fn an_empty_host_is_told_in_a_few_lines() {
        let report = StatusReport {
            current: None,
            services: vec![],
            lock: None,
            open: None,
            backups: vec![],
            free_bytes: None,
            releases: vec![],
            recovery: None,
            note: None,
            ..example()
        };
        let text = status_text(&report);
        assert!(text.contains("serves:  nothing\n"), "{text}");
        assert!(text.contains("lock:    free\n"), "{text}");
        assert_eq!(text.lines().count(), 4);
        assert_eq!(backups_text(&[], report.at), "there are no backups yet\n");
    }

    #[test]
    fn a_version_without_its_images_is_not_offered() {
        let mut report = example();
        report.releases[1].missing_images = vec!["belay/x:1".to_owned()];
        let text = status_text(&report);
        assert!(
            text.contains("1 image missing") && !text.contains("belay rollback v1.0.0"),
            "{text}"
        );
    }

    #[test]
    fn a_program_reads_back_what_was_written() {
        let json = serde_json::to_string(&example()).unwrap();
        assert_eq!(
            serde_json::from_str::<StatusReport>(&json).unwrap(),
            example()
        );
    }

    #[test]
    fn nothing_on_the_host_can_forge_a_line() {
        let mut report = example();
        let lines = status_text(&report).lines().count();
        report.services[0].service = "::error::x\nlock: free".to_owned();
        report.note = Some("a\r\nb".to_owned());
        let text = status_text(&report);
        assert_eq!(text.lines().count(), lines);
        assert!(
            text.lines()
                .all(|line| !line.trim_start().starts_with("::")),
            "{text}"
        );
    }
}
