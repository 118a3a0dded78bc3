//! What a run is to do: the event and the inputs, decided.

use super::event::{Dispatch, PullRequest, Trigger};
use super::tag::Tag;
use crate::transaction::outcome::Failure;
use crate::versions::release::RollbackTo;

/// What a run is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    Deploy {
        tag: Tag,
        /// The commit that the tag stands for, where the event says so; else it is looked up in the repository.
        revision: Option<String>,
    },
    Rollback(RollbackWish),
    Command(Command),
    /// Keep the checklist of a pull request up to date.
    Checklist(PullRequest),
    /// The event is known and asks for nothing; the text says why.
    Nothing(String),
}

/// Which version to go back to, and what with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackWish {
    pub to: RollbackTo,
    pub reason: Option<String>,
    /// The backup whose data is put back as well.
    pub restore: Option<String>,
}

/// Work that leaves the version that serves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Backup,
    Backups,
    Status,
    Logs,
    /// Gives the containers of what serves a new start.
    Restart,
    /// Looks at everything that a deployment needs.
    Doctor,
}

impl Command {
    pub fn name(self) -> &'static str {
        match self {
            Command::Backup => "backup",
            Command::Backups => "backups",
            Command::Status => "status",
            Command::Logs => "logs",
            Command::Restart => "restart",
            Command::Doctor => "doctor",
        }
    }
}

/// What the inputs of the action (or the command line) ask for; empty ones are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub command: Option<String>,
    pub tag: Option<String>,
    pub rollback: Option<String>,
    pub reason: Option<String>,
    /// For a rollback, the backup whose data is put back as well.
    pub restore_data: Option<String>,
    /// What was typed to confirm that.
    pub confirm: Option<String>,
    pub dry_run: DryRun,
}

/// Whether to stop after the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    #[default]
    No,
    Yes,
}

impl Asked {
    /// Lays the inputs of a dispatched workflow under those of the action: the action's win.
    #[must_use]
    pub fn or_dispatch(self, dispatch: &Dispatch) -> Asked {
        Asked {
            command: self.command.or_else(|| dispatch.command.clone()),
            tag: self.tag.or_else(|| dispatch.tag.clone()),
            rollback: self.rollback.or_else(|| dispatch.rollback.clone()),
            reason: self.reason.or_else(|| dispatch.reason.clone()),
            restore_data: self.restore_data.or_else(|| dispatch.restore_data.clone()),
            confirm: self.confirm.or_else(|| dispatch.confirm.clone()),
            dry_run: match (self.dry_run, dispatch.dry_run) {
                (DryRun::Yes, _) | (_, true) => DryRun::Yes,
                (DryRun::No, false) => DryRun::No,
            },
        }
    }

    /// Everything that was asked for, the event's own inputs included. The command `plan` is a dry run by another name.
    #[must_use]
    pub fn with(self, trigger: Option<&Trigger>) -> Asked {
        let mut asked = match trigger {
            Some(Trigger::Dispatch(dispatch)) => self.or_dispatch(dispatch),
            _ => self,
        };
        if asked.command.as_deref() == Some("plan") {
            asked.dry_run = DryRun::Yes;
        }
        asked
    }
}

/// Decides what to do. Without an event (on a laptop) the inputs alone say it.
pub fn decide(trigger: Option<&Trigger>, asked: Asked) -> Result<Intent, Failure> {
    let asked = asked.with(trigger);
    let names_a_version = asked.rollback.is_some() || asked.restore_data.is_some();
    match asked.command.as_deref() {
        Some("rollback") => rollback(asked),
        None | Some("plan") if names_a_version => rollback(asked),
        Some(other) if asked.restore_data.is_some() => Err(Failure::new(format!(
            "restore-data belongs to a rollback, and the command is {other}"
        ))
        .host("nothing was changed")
        .next("use the command rollback, or leave restore-data empty")),
        None | Some("deploy" | "plan") => deploy(trigger, asked.tag),
        Some("backup") => Ok(Intent::Command(Command::Backup)),
        Some("backups") => Ok(Intent::Command(Command::Backups)),
        Some("status") => Ok(Intent::Command(Command::Status)),
        Some("logs") => Ok(Intent::Command(Command::Logs)),
        Some("restart") => Ok(Intent::Command(Command::Restart)),
        Some("doctor") => Ok(Intent::Command(Command::Doctor)),
        Some(other) => Err(Failure::new(format!("there is no command {other:?}"))
            .host("nothing was changed")
            .next("use deploy, rollback, backup, backups, status, logs, restart, doctor or plan")),
    }
}

/// Without a version, data goes to the one that it was taken of.
fn rollback(asked: Asked) -> Result<Intent, Failure> {
    let restore = match asked.restore_data {
        Some(text) => Some(backup_of(&text)?),
        None => None,
    };
    let to = match (&asked.rollback, &restore) {
        (None, Some(backup)) => RollbackTo::Backup(backup.clone()),
        (to, _) => RollbackTo::parse(to.as_deref().unwrap_or_default()),
    };
    Ok(Intent::Rollback(RollbackWish {
        to,
        reason: asked.reason,
        restore,
    }))
}

fn backup_of(text: &str) -> Result<String, Failure> {
    match RollbackTo::parse(text) {
        RollbackTo::Backup(name) => Ok(name),
        RollbackTo::Previous | RollbackTo::Tag(_) => Err(Failure::new(format!(
            "restore-data is {text:?}, which is not the name of a backup"
        ))
        .host("nothing was changed")
        .next("list the backups with the command backups; one looks like backup_20241215_143022")),
    }
}

fn deploy(trigger: Option<&Trigger>, tag: Option<String>) -> Result<Intent, Failure> {
    let (text, revision) = match (tag, trigger) {
        (Some(tag), _) => (tag, None),
        (None, Some(Trigger::TagPush(push))) => (push.tag.clone(), Some(push.sha.clone())),
        (None, Some(Trigger::Dispatch(dispatch))) => match dispatch.tag_of_ref() {
            Some(tag) => (tag.to_owned(), Some(dispatch.sha.clone())),
            None => return Err(nothing_named()),
        },
        (None, Some(Trigger::TagDeleted { tag })) => {
            return Ok(Intent::Nothing(format!(
                "the tag {tag} was deleted; what serves stays"
            )));
        }
        (None, Some(Trigger::PullRequest(pull))) => return Ok(Intent::Checklist(pull.clone())),
        (None, Some(Trigger::Other { reason, .. })) => return Ok(Intent::Nothing(reason.clone())),
        (None, None) => return Err(nothing_named()),
    };
    let tag = Tag::parse(&text).map_err(|refusal| {
        let next = refusal.nearest.map_or_else(
            || "see `belay tag`".to_owned(),
            |nearest| format!("push {nearest} instead"),
        );
        Failure::new(refusal.reason).next(next)
    })?;
    Ok(Intent::Deploy { tag, revision })
}

fn nothing_named() -> Failure {
    Failure::new("neither a tag nor a version to roll back to was named")
        .host("nothing was changed")
        .next("push a tag, or set one of the inputs tag, rollback or command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::event::TagPush;

    fn push(tag: &str) -> Trigger {
        Trigger::TagPush(TagPush {
            tag: tag.to_owned(),
            sha: "a".repeat(40),
            moved: false,
        })
    }

    fn back_to(to: RollbackTo, restore: Option<&str>) -> Intent {
        Intent::Rollback(RollbackWish {
            to,
            reason: None,
            restore: restore.map(str::to_owned),
        })
    }

    fn asked(command: &str, rollback: &str) -> Asked {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Asked {
            command: some(command),
            rollback: some(rollback),
            ..Asked::default()
        }
    }

    #[test]
    fn a_pushed_tag_is_deployed_at_its_commit() {
        let intent = decide(Some(&push("v1.2.0")), Asked::default()).expect("decided");
        match intent {
            Intent::Deploy { tag, revision } => {
                assert_eq!((tag.as_str(), revision), ("v1.2.0", Some("a".repeat(40))));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_outside_the_grammar_is_refused_with_the_nearest_one() {
        let failure = decide(Some(&push("v1.0")), Asked::default()).expect_err("refused");
        assert!(failure.next.is_some_and(|next| next.contains("v1.0.0")));
    }

    #[test]
    fn the_rollback_input_wins_over_the_pushed_tag() {
        let intent = decide(Some(&push("v1.2.0")), asked("", "v1.1.0")).expect("decided");
        assert_eq!(intent, back_to(RollbackTo::Tag("v1.1.0".to_owned()), None));
    }

    #[test]
    fn the_rollback_command_without_a_version_means_the_version_before() {
        let dispatch = Trigger::Dispatch(Dispatch {
            command: Some("rollback".to_owned()),
            ..Dispatch::default()
        });
        let intent = decide(Some(&dispatch), Asked::default()).expect("decided");
        assert_eq!(intent, back_to(RollbackTo::Previous, None));
    }

    #[test]
    fn data_goes_to_the_version_that_it_was_taken_of_unless_another_is_named() {
        let backup = "backup_20241215_143022";
        let with = |command: &str, rollback: &str, data: &str| {
            let restore_data = Some(data.to_owned());
            let asked = Asked {
                restore_data,
                ..asked(command, rollback)
            };
            decide(None, asked)
        };
        let to_its_own = back_to(RollbackTo::Backup(backup.to_owned()), Some(backup));
        for command in ["rollback", "plan", ""] {
            let intent = with(command, "", "backup_20241215_143022.tar.gz").expect("decided");
            assert_eq!(intent, to_its_own, "{command}");
        }
        let other = with("rollback", "v1.1.0", backup).expect("decided");
        assert_eq!(
            other,
            back_to(RollbackTo::Tag("v1.1.0".to_owned()), Some(backup))
        );
        assert!(with("rollback", "", "v1.1.0").is_err());
        let failure = with("status", "", backup).expect_err("refused");
        assert!(failure.error.contains("belongs to a rollback"));
    }

    #[test]
    fn the_plan_command_and_a_dispatched_dry_run_change_nothing() {
        assert_eq!(asked("plan", "").with(None).dry_run, DryRun::Yes);
        let dry = Trigger::Dispatch(Dispatch {
            dry_run: true,
            ..Dispatch::default()
        });
        assert_eq!(
            asked("rollback", "v1.0.0").with(Some(&dry)).dry_run,
            DryRun::Yes
        );
        assert_eq!(asked("rollback", "v1.0.0").with(None).dry_run, DryRun::No);
    }

    #[test]
    fn an_unknown_command_is_refused_by_name() {
        let failure = decide(None, asked("destroy", "")).expect_err("refused");
        assert!(failure.error.contains("destroy"));
    }

    #[test]
    fn a_pull_request_has_its_checklist_unless_something_else_is_asked_for() {
        let pull = PullRequest {
            number: 7,
            action: "opened".to_owned(),
            title: String::new(),
            head_sha: "a".repeat(40),
            head_ref: "change".to_owned(),
            base_ref: "main".to_owned(),
            is_open: true,
            merged: false,
        };
        let event = Trigger::PullRequest(pull.clone());
        let intent = decide(Some(&event), Asked::default()).expect("decided");
        assert_eq!(intent, Intent::Checklist(pull));
        let intent = decide(Some(&event), asked("status", "")).expect("decided");
        assert_eq!(intent, Intent::Command(Command::Status));
    }

    #[test]
    fn nothing_named_is_refused() {
        assert!(decide(None, Asked::default()).is_err());
    }
}
