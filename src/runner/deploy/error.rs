//! Why a run ends before the host was handed a plan, and the three lines for each of these reasons.

use std::path::PathBuf;

use crate::git::GitError;
use crate::images::ImageError;
use crate::link::LinkError;
use crate::session::SessionError;
use crate::ship::ShipError;
use crate::source::SourceError;
use belay_model::composition::compose::ComposeProblem;
use belay_model::docker_versions::Remark;
use belay_model::replacement::wishes::GATEWAY_SERVICE;
use belay_model::request::tag::{Tag, TagKind};
use belay_model::transaction::outcome::{Failure, with_causes};

/// Why a deployment or a rollback was refused. Nothing that serves was touched.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeployError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Ship(#[from] ShipError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Compose(#[from] ComposeProblem),
    #[error("could not get random numbers")]
    Random(#[source] std::io::Error),
    #[error("no environment takes {} tags", .0.word())]
    NoEnvironment(TagKind),
    #[error("images.source: registry is not in this version of Belay")]
    Registry,
    #[error(
        "the Compose file has a service {GATEWAY_SERVICE}, which is the name of Belay's gateway"
    )]
    GatewayName,
    #[error("there is no tag {0} in this repository")]
    NoTag(Tag),
    /// The tag is not where one of its kind may be in the history.
    #[error("{reason}")]
    History {
        reason: String,
        nearest: Option<String>,
    },
    /// An older version than the one that serves.
    #[error("{0}")]
    Older(String),
    #[error("the tag {tag} was moved from {from} to {to} while this run was on its way")]
    Moved { tag: Tag, from: String, to: String },
    /// Versions on the host that do not go together with this Belay.
    #[error("{}", .0.text)]
    Versions(Remark),
    #[error("could not read {}", path.display())]
    ComposeFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("could not read {}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the files to ship weigh {} MB, more than 16", bytes / 1_000_000)]
    FilesTooLarge { bytes: usize },
    /// The environment's name was not typed, or another one was.
    #[error(transparent)]
    Consent(#[from] crate::consent::ConsentError),
    #[error(transparent)]
    Backup(#[from] UnusableBackup),
    /// There is no such version to roll back to.
    #[error("{error}")]
    NoRollback { error: String, next: String },
}

/// Why the data of a backup cannot be put back.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableBackup {
    #[error("there is no backup {0} on this host")]
    Missing(String),
    #[error("{name} cannot be used: {problem}")]
    Damaged { name: String, problem: String },
    #[error("{0} holds no data")]
    WithoutData(String),
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Failure {
        let lines = Failure::new(with_causes(&error));
        let untouched = || lines.clone().host("it was not contacted");
        match error {
            DeployError::Session(error) => error.into(),
            DeployError::Link(error) => error.into(),
            DeployError::Image(error) => error.into(),
            DeployError::Ship(error) => error.into(),
            DeployError::Consent(error) => error.into(),
            DeployError::Compose(_) | DeployError::Random(_) | DeployError::ComposeFile { .. } => {
                lines
            }
            DeployError::Source(_) => lines.next(
                "check the repository out with its history (fetch-depth: 0) before this step",
            ),
            DeployError::Git(_) => untouched().next(
                "check the repository out before this step (actions/checkout with fetch-depth: 0)",
            ),
            DeployError::NoEnvironment(_) => {
                lines.next("list this kind under `environments.NAME.tags` in belay.yml")
            }
            DeployError::Registry => untouched().next(
                "use `source: stream`; images that the Compose file only names are pulled by the host as before",
            ),
            DeployError::GatewayName => lines
                .next("give the service another name, or set `gateway: off` in belay.yml"),
            DeployError::NoTag(_) => untouched().next(
                "push the tag first, and check the repository out with its tags (fetch-depth: 0)",
            ),
            DeployError::History { nearest, .. } => untouched().next(nearest.map_or_else(
                || "see `belay tag`".to_owned(),
                |tag| format!("push {tag} instead"),
            )),
            DeployError::Older(_) => lines.next("start a rollback instead"),
            DeployError::Moved { .. } => {
                lines.next("never move a version's tag: push a new one")
            }
            DeployError::Versions(remark) => lines.next(remark.next),
            DeployError::File { .. } => lines.next("check `files:` in belay.yml"),
            DeployError::FilesTooLarge { .. } => {
                lines.next("put large files into the image; `files:` is for configuration")
            }
            DeployError::Backup(_) => {
                lines.next("choose another one; list them with `belay backups`")
            }
            DeployError::NoRollback { next, .. } => lines.next(next),
        }
    }
}
