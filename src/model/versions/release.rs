//! What a tag becomes on the host, and which earlier one a rollback means.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::composition::compose::ReleaseFile;
use crate::composition::image::{Content, ImageStore};
use crate::config::Roll;
use crate::replacement::gateway::Front;
use crate::replacement::strategy::Strategy;
use crate::replacement::wishes::GatewayRule;
use crate::replacement::wishes::StrategyWish;

/// The name of a release's directory, `<seq>-<tag>`: unique on the host, and in order of deployment.
pub type ReleaseName = String;

/// The record of one release, written once into its directory. Only what the engine calls its images is changed later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The record's format.
    pub schema: u32,
    /// The same as its directory's name.
    pub name: ReleaseName,
    /// The transaction that made it; orders releases.
    pub seq: u64,
    /// The tag as pushed, or `adopted` for what ran on the host before Belay came.
    pub tag: String,
    /// The git revision, where there is one.
    pub revision: Option<String>,
    /// The Compose project's name.
    pub project: String,
    /// Every service, each with its image; the gateway among them.
    pub services: Vec<ReleaseService>,
    /// SHA-256 of the rendered Compose file.
    pub compose_sha256: String,
    /// Files that the release puts beside the Compose file.
    pub files: Vec<ReleaseFile>,
    /// When it was unpacked.
    pub created: Timestamp,
    /// Where the host's engine kept images when the release was made; not known of older ones.
    #[serde(default)]
    pub store: Option<ImageStore>,
    /// The published ports that the release's gateway has; none for a release without one.
    #[serde(default)]
    pub fronts: Vec<Front>,
    /// What belay.yml wanted for single services.
    #[serde(default)]
    pub wishes: Vec<StrategyWish>,
    /// Whether it has a gateway, and from which image.
    #[serde(default)]
    pub gateway: GatewayRule,
}

impl Release {
    /// What is recorded of a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ReleaseService> {
        self.services.iter().find(|service| service.name == name)
    }

    /// What belay.yml said of a service.
    #[must_use]
    pub fn wish(&self, service: &str) -> Option<&StrategyWish> {
        self.wishes.iter().find(|wish| wish.service == service)
    }

    /// Whether the replicas of a service take over one after the other.
    #[must_use]
    pub fn rolls(&self, service: &str) -> bool {
        let wish = self.wish(service);
        wish.is_some_and(|wish| wish.roll == Roll::OneByOne)
    }
}

/// One service of a release, with the image that it is pinned to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseService {
    /// The service's name in the Compose file.
    pub name: String,
    /// What the user's own file called the image (or `built` for one that Belay built).
    pub reference: String,
    /// The image's identity: the digest of its config ([`crate::composition::image`]). Empty where there was no container to tell it.
    #[serde(rename = "image_id")]
    pub config: String,
    /// The digests of its unpacked layers, the lowest one first; none in records of older versions.
    #[serde(default)]
    pub layers: Vec<String>,
    /// What this host's engine calls the image, when that is not its identity. Looked up anew by each transaction that
    /// brings the release; compared with nothing but what the same engine says.
    #[serde(default)]
    pub engine_id: Option<String>,
    /// The reference in the rendered file: `belay/<project>-<service>:<12 digits of the identity>`.
    pub pin: String,
    /// The image's layers when unpacked, in bytes.
    pub size: u64,
    /// How it was judged by itself when the release was made; what becomes of it is decided by each transaction.
    pub strategy: Strategy,
    /// Why this strategy, in words.
    pub reason: String,
    /// How long the service's own healthcheck may take until it can say "healthy", in milliseconds.
    pub healthcheck_needs_ms: Option<u64>,
    /// Paths that the image declares to hold data (`VOLUME`).
    #[serde(default)]
    pub image_volumes: Vec<String>,
}

impl ReleaseService {
    /// What this host's engine calls the image: what its containers are compared with. Empty where it is not known.
    #[must_use]
    pub fn engine_id(&self) -> &str {
        self.engine_id.as_deref().unwrap_or(&self.config)
    }

    /// What the image is.
    #[must_use]
    pub fn content(&self) -> Content {
        Content {
            config: self.config.clone(),
            layers: self.layers.clone(),
        }
    }
}

/// What serves, and how it came to: the content of `.belay/current`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// The record's format.
    pub schema: u32,
    /// The release's directory.
    pub release: ReleaseName,
    /// The release's tag.
    pub tag: String,
    /// The commit, where there is one.
    pub revision: Option<String>,
    /// The Compose project's name.
    pub project: String,
    /// The environment that this host serves; `None` for what was adopted.
    pub environment: Option<String>,
    /// The transaction that made it current.
    pub seq: u64,
    /// When it became current.
    pub since: Timestamp,
    /// By a deployment or a rollback: after one, a rollback without a name has nothing to do.
    pub how: How,
    /// What served before: the content of `docker-compose.yml.backup`.
    pub previous: Option<ReleaseName>,
    /// Releases that a rollback has left behind. A rollback without a name never goes to one of them.
    #[serde(default)]
    pub bad: Vec<ReleaseName>,
}

/// How a release became current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// A deployment brought it.
    Deploy,
    /// A rollback brought it back.
    Rollback,
}

/// What a person asked to roll back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RollbackTo {
    /// The version before the one that was deployed last.
    Previous,
    /// A version by its tag.
    Tag(String),
    /// What a backup was taken of, by the backup's name.
    Backup(String),
}

impl RollbackTo {
    /// Reads the words of the command line and of the workflow's input: nothing or `previous`, a backup's file name, a tag.
    #[must_use]
    pub fn parse(text: &str) -> RollbackTo {
        let text = text.trim();
        if text.is_empty() || text == "previous" {
            return RollbackTo::Previous;
        }
        match text.strip_suffix(".tar.gz").unwrap_or(text) {
            name if name.starts_with("backup_") => RollbackTo::Backup(name.to_owned()),
            _ => RollbackTo::Tag(text.to_owned()),
        }
    }
}

/// A release that can be rolled back to, as far as the decision needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownRelease {
    /// The release's directory.
    pub name: ReleaseName,
    /// The transaction that made it.
    pub seq: u64,
    /// The tag as pushed.
    pub tag: String,
    /// The commit, where there is one.
    pub revision: Option<String>,
    /// When it was unpacked.
    pub created: Timestamp,
    /// Images that are no longer on the host.
    pub missing_images: Vec<String>,
    /// Whether what is missing is needed by no service that runs for as long as the release serves.
    pub can_serve: bool,
}

/// A backup, as far as the decision needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownBackup {
    /// By which a rollback means it.
    pub name: String,
    /// The release that served then; `None` where nothing did.
    pub release: Option<ReleaseName>,
}

/// Where a rollback goes, or that it has nothing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum RollbackChoice {
    /// To this release.
    Go(KnownRelease),
    /// The wanted release serves already; the text says why nothing is done.
    Already(String),
    /// There is no such way.
    Impossible {
        /// Why.
        error: String,
        /// What to do instead.
        next: String,
    },
}

/// Decides which release a rollback means.
///
/// Without a name it is what served before the last *deployment*; asked twice in a row it has nothing to do the second
/// time, rather than going one version too far.
#[must_use]
pub fn choose_rollback(
    to: &RollbackTo,
    current: Option<&Current>,
    releases: &[KnownRelease],
    backups: &[KnownBackup],
) -> RollbackChoice {
    let Some(current) = current else {
        return impossible(
            "nothing is deployed here, so there is nothing to roll back",
            "push a release tag first",
        );
    };
    let wanted = match wanted(to, current, releases, backups) {
        Ok(wanted) => wanted,
        Err(choice) => return *choice,
    };
    match wanted {
        None => impossible(
            &format!("{} is no longer kept on this host", describe(to)),
            "choose a kept version (see `belay status`), or deploy that tag again",
        ),
        Some(release) if release.can_serve && release.name == current.release => {
            RollbackChoice::Already(format!("{} is what serves now", release.tag))
        }
        // Also of the version that is recorded as serving: it cannot run without them.
        Some(release) if !release.missing_images.is_empty() => impossible(
            &format!(
                "the images of {} are gone from this host: {}",
                release.tag,
                release.missing_images.join(", ")
            ),
            "choose another version, or deploy that tag again",
        ),
        Some(release) => RollbackChoice::Go(release.clone()),
    }
}

/// The release that is meant, if it is still kept; or the choice that is made before that matters.
fn wanted<'r>(
    to: &RollbackTo,
    current: &Current,
    releases: &'r [KnownRelease],
    backups: &[KnownBackup],
) -> Result<Option<&'r KnownRelease>, Box<RollbackChoice>> {
    let named = |name: &ReleaseName| releases.iter().find(|r| &r.name == name);
    match to {
        RollbackTo::Previous if current.how == How::Rollback => {
            Err(Box::new(RollbackChoice::Already(format!(
                "{} was already rolled back to; name a version to go further back",
                current.tag
            ))))
        }
        RollbackTo::Previous => match &current.previous {
            Some(name) => Ok(named(name)),
            None => Err(Box::new(impossible(
                &format!(
                    "{} is the first version here, so there is none before it",
                    current.tag
                ),
                "deploy a corrected version with a new tag",
            ))),
        },
        // The newest release of a tag is meant: a development tag may have been deployed more than once.
        RollbackTo::Tag(tag) => Ok(releases
            .iter()
            .filter(|r| &r.tag == tag)
            .max_by_key(|r| r.seq)),
        RollbackTo::Backup(name) => {
            let Some(backup) = backups.iter().find(|b| &b.name == name) else {
                return Err(Box::new(impossible(
                    &format!("there is no backup {name} on this host"),
                    "list them with `belay backups`",
                )));
            };
            let release = backup.release.as_ref().ok_or_else(|| {
                Box::new(impossible(
                    &format!("backup {name} was taken when nothing was deployed"),
                    "choose a later one; list them with `belay backups`",
                ))
            })?;
            Ok(named(release))
        }
    }
}

/// What a rollback that also puts data back is to: the version that serves is as good as any other then.
#[must_use]
pub fn choose_restore(
    to: &RollbackTo,
    current: Option<&Current>,
    releases: &[KnownRelease],
    backups: &[KnownBackup],
) -> RollbackChoice {
    match choose_rollback(to, current, releases, backups) {
        RollbackChoice::Already(why) => {
            let serving = current.map(|c| &c.release);
            match releases.iter().find(|r| Some(&r.name) == serving) {
                Some(release) => RollbackChoice::Go(release.clone()),
                None => impossible(
                    &format!("{why}, and its record is gone from this host"),
                    "deploy a version first, then put the data back",
                ),
            }
        }
        other => other,
    }
}

fn impossible(error: &str, next: &str) -> RollbackChoice {
    RollbackChoice::Impossible {
        error: error.to_owned(),
        next: next.to_owned(),
    }
}

fn describe(to: &RollbackTo) -> String {
    match to {
        RollbackTo::Previous => "the version before".to_owned(),
        RollbackTo::Tag(tag) => tag.clone(),
        RollbackTo::Backup(name) => format!("what backup {name} was taken of"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(seq: u64, tag: &str) -> KnownRelease {
        KnownRelease {
            name: format!("{seq}-{tag}"),
            seq,
            tag: tag.to_owned(),
            revision: None,
            created: Timestamp::UNIX_EPOCH,
            missing_images: vec![],
            can_serve: true,
        }
    }

    fn current(seq: u64, tag: &str, how: How, previous: Option<&str>) -> Current {
        Current {
            schema: 1,
            release: format!("{seq}-{tag}"),
            tag: tag.to_owned(),
            revision: None,
            project: "app".to_owned(),
            environment: None,
            seq,
            since: Timestamp::UNIX_EPOCH,
            how,
            previous: previous.map(str::to_owned),
            bad: vec![],
        }
    }

    fn go(choice: RollbackChoice) -> String {
        match choice {
            RollbackChoice::Go(release) => release.name,
            other => panic!("not a rollback: {other:?}"),
        }
    }

    #[test]
    fn without_a_name_it_is_the_version_before() {
        let releases = [release(9, "v1.0.0"), release(10, "v1.1.0")];
        let now = current(10, "v1.1.0", How::Deploy, Some("9-v1.0.0"));
        assert_eq!(
            go(choose_rollback(
                &RollbackTo::Previous,
                Some(&now),
                &releases,
                &[]
            )),
            "9-v1.0.0"
        );
    }

    #[test]
    fn twice_in_a_row_is_not_one_too_far() {
        let releases = [
            release(1, "v1.0.0"),
            release(2, "v1.1.0"),
            release(3, "v1.2.0"),
        ];
        let now = current(2, "v1.1.0", How::Rollback, Some("3-v1.2.0"));
        let choice = choose_rollback(&RollbackTo::Previous, Some(&now), &releases, &[]);
        assert!(matches!(choice, RollbackChoice::Already(_)), "{choice:?}");
    }

    #[test]
    fn the_newest_release_of_a_tag_is_meant() {
        let releases = [
            release(99, "dev-20241215"),
            release(100, "dev-20241215"),
            release(101, "v1.0.0"),
        ];
        let now = current(101, "v1.0.0", How::Deploy, None);
        let to = RollbackTo::parse("dev-20241215");
        assert_eq!(
            go(choose_rollback(&to, Some(&now), &releases, &[])),
            "100-dev-20241215"
        );
    }

    #[test]
    fn a_release_without_its_images_is_refused_before_anything_is_touched() {
        let mut old = release(1, "v1.0.0");
        old.missing_images = vec!["belay/app-web:0123".to_owned()];
        let now = current(2, "v1.1.0", How::Deploy, Some("1-v1.0.0"));
        let choice = choose_rollback(
            &RollbackTo::Previous,
            Some(&now),
            &[old, release(2, "v1.1.0")],
            &[],
        );
        assert!(
            matches!(choice, RollbackChoice::Impossible { .. }),
            "{choice:?}"
        );
    }

    #[test]
    fn a_version_without_its_images_does_not_serve_whatever_is_recorded() {
        let mut recorded = release(2, "v1.1.0");
        let now = current(2, "v1.1.0", How::Deploy, None);
        let to = RollbackTo::Tag("v1.1.0".to_owned());
        let choice = |recorded: &KnownRelease| {
            choose_rollback(&to, Some(&now), std::slice::from_ref(recorded), &[])
        };
        assert!(matches!(choice(&recorded), RollbackChoice::Already(_)));
        // A migration's image may go; it has run.
        recorded.missing_images = vec!["migrate".to_owned()];
        assert!(matches!(choice(&recorded), RollbackChoice::Already(_)));
        recorded.can_serve = false;
        let choice = choice(&recorded);
        assert!(
            matches!(choice, RollbackChoice::Impossible { .. }),
            "{choice:?}"
        );
    }

    #[test]
    fn a_backup_means_the_release_that_it_was_taken_of() {
        let releases = [release(1, "v1.0.0"), release(2, "v1.1.0")];
        let backups = [KnownBackup {
            name: "backup_20241215_143022".to_owned(),
            release: Some("1-v1.0.0".to_owned()),
        }];
        let now = current(2, "v1.1.0", How::Deploy, Some("1-v1.0.0"));
        let to = RollbackTo::parse("backup_20241215_143022.tar.gz");
        assert_eq!(
            go(choose_rollback(&to, Some(&now), &releases, &backups)),
            "1-v1.0.0"
        );
        let other = RollbackTo::parse("backup_20200101_000000");
        assert!(matches!(
            choose_rollback(&other, Some(&now), &releases, &backups),
            RollbackChoice::Impossible { .. }
        ));
    }
}
