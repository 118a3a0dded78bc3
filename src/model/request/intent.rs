//! What a run is to do: the event and the action's inputs, or a command that was typed, decided.

use super::event::{Dispatch, PullRequest, Trigger};
use super::tag::{Tag, TagRefusal};
use crate::transaction::outcome::Failure;
use crate::versions::release::RollbackTo;

/// What a run is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Make the version of a tag the running one.
    Deploy {
        /// Names the version, and its kind decides the environment.
        tag: Tag,
        /// The commit that the tag stands for, where the event says so; else it is looked up in the repository.
        revision: Option<String>,
    },
    /// Make an earlier version the running one.
    Rollback(RollbackWish),
    /// Work that leaves the running version as it is.
    Operation(Operation),
    /// Keep the checklist of a pull request up to date.
    Checklist(PullRequest),
    /// The event is known and asks for nothing; the text says why.
    Nothing(String),
}

/// Which version to go back to, and what with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackWish {
    /// The version, by whatever name the user knows it.
    pub to: RollbackTo,
    /// Why, in the user's own words, for the record.
    pub reason: Option<String>,
    /// The backup whose data is put back as well, by its name.
    pub restore: Option<String>,
}

/// Work that leaves the running version as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Takes a backup.
    Backup,
    /// Lists the backups.
    Backups,
    /// Shows the running version and the host's state.
    Status,
    /// Shows the services' last log lines.
    Logs,
    /// Restarts the running version's containers.
    Restart,
    /// Checks everything that a deployment needs.
    Doctor,
    /// Rebuilds what is damaged of Belay's files on the host.
    Repair,
}

impl Operation {
    /// All of them, as the input `command` lists them.
    pub const ALL: [Operation; 7] = [
        Operation::Backup,
        Operation::Backups,
        Operation::Status,
        Operation::Logs,
        Operation::Restart,
        Operation::Doctor,
        Operation::Repair,
    ];

    /// As the input `command` and the command line call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Backup => "backup",
            Operation::Backups => "backups",
            Operation::Status => "status",
            Operation::Logs => "logs",
            Operation::Restart => "restart",
            Operation::Doctor => "doctor",
            Operation::Repair => "repair",
        }
    }

    fn from_name(name: &str) -> Option<Operation> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What a run is asked for, before the event has been looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Where the answer comes from.
    pub what: What,
    /// The environment's name, typed by a person who wants a backup's data put back.
    pub confirm: Option<String>,
    /// Whether to stop after the plan.
    pub dry_run: DryRun,
}

/// Who says what a run is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A command that was typed: nothing is left to decide.
    Typed(Intent),
    /// The inputs of the action; what they leave open, the event says.
    Inputs(ActionInputs),
}

impl Default for What {
    fn default() -> Self {
        What::Inputs(ActionInputs::default())
    }
}

/// The inputs of the action that name work; an empty one is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionInputs {
    /// `deploy`, `rollback`, `plan` or an operation's name.
    pub command: Option<String>,
    /// The tag to deploy.
    pub tag: Option<String>,
    /// The version or backup to go back to.
    pub rollback: Option<String>,
    /// Why, for the record.
    pub reason: Option<String>,
    /// For a rollback, the backup whose data is put back as well.
    pub restore_data: Option<String>,
}

/// Whether to stop after the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DryRun {
    /// Do what was asked for.
    #[default]
    No,
    /// Show the plan, and change nothing.
    Yes,
}

impl From<bool> for DryRun {
    fn from(dry: bool) -> Self {
        if dry { DryRun::Yes } else { DryRun::No }
    }
}

/// Why it cannot be decided what a run is to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// Data would be put back by something that is not a rollback.
    #[error("restore-data belongs to a rollback, and the command is {command}")]
    DataWithoutRollback {
        /// What the input `command` says.
        command: String,
    },
    /// The input `command` is none of its words.
    #[error("there is no command {0:?}")]
    UnknownCommand(String),
    /// What was named for its data is a version, or nothing that there could be.
    #[error("restore-data is {0:?}, which is not the name of a backup")]
    NotABackup(String),
    /// Neither the inputs nor the event name a version.
    #[error("neither a tag nor a version to roll back to was named")]
    NothingNamed,
    /// The tag is outside the grammar.
    #[error(transparent)]
    Tag(#[from] TagRefusal),
}

impl IntentError {
    /// As it is told to the user.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let failure = Failure::new(self.to_string());
        let next = match self {
            IntentError::DataWithoutRollback { .. } => {
                "use the command rollback, or leave restore-data empty".to_owned()
            }
            IntentError::UnknownCommand(_) => {
                "use deploy, rollback, backup, backups, status, logs, restart, doctor, repair or plan"
                    .to_owned()
            }
            IntentError::NotABackup(_) => {
                "list the backups with the command backups; one looks like backup_20241215_143022"
                    .to_owned()
            }
            IntentError::NothingNamed => {
                "push a tag, or set one of the inputs tag, rollback or command".to_owned()
            }
            IntentError::Tag(refusal) => return failure.next(instead_of(refusal)),
        };
        failure.host("nothing was changed").next(next)
    }
}

fn instead_of(refusal: &TagRefusal) -> String {
    match &refusal.nearest {
        Some(nearest) => format!("push {nearest} instead"),
        None => "see `belay tag`".to_owned(),
    }
}

impl Intent {
    /// To deploy the tag that a text names.
    pub fn deploy(tag: &str) -> Result<Intent, IntentError> {
        Self::deploy_at(tag, None)
    }

    fn deploy_at(tag: &str, revision: Option<String>) -> Result<Intent, IntentError> {
        let tag = Tag::parse(tag)?;
        Ok(Intent::Deploy { tag, revision })
    }

    /// To roll back. Without a version, data goes to the one that it was taken of.
    pub fn rollback(
        to: Option<&str>,
        reason: Option<String>,
        restore_data: Option<&str>,
    ) -> Result<Intent, IntentError> {
        let restore = restore_data.map(backup_of).transpose()?;
        let to = match (to, &restore) {
            (None, Some(backup)) => RollbackTo::Backup(backup.clone()),
            (to, _) => RollbackTo::parse(to.unwrap_or_default()),
        };
        Ok(Intent::Rollback(RollbackWish {
            to,
            reason,
            restore,
        }))
    }

    /// The version or the operation, for a report of a run that got no further.
    fn name(&self) -> String {
        match self {
            Intent::Deploy { tag, .. } => tag.as_str().to_owned(),
            Intent::Rollback(wish) => match &wish.to {
                RollbackTo::Previous => "rollback".to_owned(),
                RollbackTo::Tag(name) | RollbackTo::Backup(name) => name.clone(),
            },
            Intent::Operation(operation) => operation.name().to_owned(),
            Intent::Checklist(_) | Intent::Nothing(_) => String::new(),
        }
    }
}

fn backup_of(text: &str) -> Result<String, IntentError> {
    match RollbackTo::parse(text) {
        RollbackTo::Backup(name) => Ok(name),
        RollbackTo::Previous | RollbackTo::Tag(_) => Err(IntentError::NotABackup(text.to_owned())),
    }
}

impl Request {
    /// Everything that is asked for, the inputs of a dispatched workflow included: the action's own win over them. The
    /// command `plan` is a dry run by another name.
    #[must_use]
    pub fn with(mut self, trigger: Option<&Trigger>) -> Request {
        if let Some(Trigger::Dispatch(dispatch)) = trigger {
            self.confirm = self.confirm.or_else(|| dispatch.confirm.clone());
            if dispatch.dry_run {
                self.dry_run = DryRun::Yes;
            }
            if let What::Inputs(inputs) = &mut self.what {
                inputs.fill_from(dispatch);
            }
        }
        match &self.what {
            What::Inputs(inputs) if inputs.command.as_deref() == Some("plan") => {
                self.dry_run = DryRun::Yes;
            }
            What::Inputs(_) | What::Typed(_) => {}
        }
        self
    }

    /// The version or command that is asked for, for a report of a run that got no further; may be empty.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.what {
            What::Typed(intent) => intent.name(),
            What::Inputs(inputs) => {
                let named = [&inputs.tag, &inputs.rollback, &inputs.command];
                named
                    .into_iter()
                    .flatten()
                    .next()
                    .cloned()
                    .unwrap_or_default()
            }
        }
    }
}

impl ActionInputs {
    fn fill_from(&mut self, dispatch: &Dispatch) {
        let fill = |own: &mut Option<String>, theirs: &Option<String>| {
            if own.is_none() {
                own.clone_from(theirs);
            }
        };
        fill(&mut self.command, &dispatch.command);
        fill(&mut self.tag, &dispatch.tag);
        fill(&mut self.rollback, &dispatch.rollback);
        fill(&mut self.reason, &dispatch.reason);
        fill(&mut self.restore_data, &dispatch.restore_data);
    }
}

/// Decides what to do. Without an event (on a laptop) the request alone says it.
pub fn decide(trigger: Option<&Trigger>, request: Request) -> Result<Intent, IntentError> {
    match request.with(trigger).what {
        What::Typed(intent) => Ok(intent),
        What::Inputs(inputs) => from_inputs(trigger, inputs),
    }
}

fn from_inputs(trigger: Option<&Trigger>, inputs: ActionInputs) -> Result<Intent, IntentError> {
    let names_a_version = inputs.rollback.is_some() || inputs.restore_data.is_some();
    match inputs.command.as_deref() {
        Some("rollback") => rollback(inputs),
        None | Some("plan") if names_a_version => rollback(inputs),
        Some(other) if inputs.restore_data.is_some() => Err(IntentError::DataWithoutRollback {
            command: other.to_owned(),
        }),
        None | Some("deploy" | "plan") => match inputs.tag {
            Some(tag) => Intent::deploy(&tag),
            None => from_event(trigger),
        },
        Some(other) => Operation::from_name(other)
            .map(Intent::Operation)
            .ok_or_else(|| IntentError::UnknownCommand(other.to_owned())),
    }
}

fn rollback(inputs: ActionInputs) -> Result<Intent, IntentError> {
    let restore_data = inputs.restore_data.as_deref();
    Intent::rollback(inputs.rollback.as_deref(), inputs.reason, restore_data)
}

/// What an event means when the inputs name nothing.
fn from_event(trigger: Option<&Trigger>) -> Result<Intent, IntentError> {
    match trigger {
        Some(Trigger::TagPush(push)) => Intent::deploy_at(&push.tag, Some(push.sha.clone())),
        Some(Trigger::Dispatch(dispatch)) => {
            let tag = dispatch.tag_of_ref().ok_or(IntentError::NothingNamed)?;
            Intent::deploy_at(tag, Some(dispatch.sha.clone()))
        }
        Some(Trigger::TagDeleted { tag }) => Ok(Intent::Nothing(format!(
            "the tag {tag} was deleted; what serves stays"
        ))),
        Some(Trigger::PullRequest(pull)) => Ok(Intent::Checklist(pull.clone())),
        Some(Trigger::Other { reason, .. }) => Ok(Intent::Nothing(reason.clone())),
        None => Err(IntentError::NothingNamed),
    }
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

    fn some(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn request(inputs: ActionInputs) -> Request {
        Request {
            what: What::Inputs(inputs),
            ..Request::default()
        }
    }

    fn asked(command: &str, rollback: &str) -> Request {
        request(ActionInputs {
            command: some(command),
            rollback: some(rollback),
            ..ActionInputs::default()
        })
    }

    #[test]
    fn a_pushed_tag_is_deployed_at_its_commit() {
        let intent = decide(Some(&push("v1.2.0")), Request::default()).expect("decided");
        match intent {
            Intent::Deploy { tag, revision } => {
                assert_eq!((tag.as_str(), revision), ("v1.2.0", Some("a".repeat(40))));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_outside_the_grammar_is_refused_with_the_nearest_one() {
        let failure = decide(Some(&push("v1.0")), Request::default()).expect_err("refused");
        assert!(
            failure
                .failure()
                .next
                .is_some_and(|next| next.contains("v1.0.0"))
        );
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
        let intent = decide(Some(&dispatch), Request::default()).expect("decided");
        assert_eq!(intent, back_to(RollbackTo::Previous, None));
    }

    #[test]
    fn data_goes_to_the_version_that_it_was_taken_of_unless_another_is_named() {
        let backup = "backup_20241215_143022";
        let with = |command: &str, rollback: &str, data: &str| {
            let inputs = ActionInputs {
                command: some(command),
                rollback: some(rollback),
                restore_data: some(data),
                ..ActionInputs::default()
            };
            decide(None, request(inputs))
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
        assert!(matches!(failure, IntentError::DataWithoutRollback { .. }));
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
        assert_eq!(failure, IntentError::UnknownCommand("destroy".to_owned()));
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
        let intent = decide(Some(&event), Request::default()).expect("decided");
        assert_eq!(intent, Intent::Checklist(pull));
        let intent = decide(Some(&event), asked("status", "")).expect("decided");
        assert_eq!(intent, Intent::Operation(Operation::Status));
    }

    #[test]
    fn a_typed_command_wins_over_the_event_and_a_dispatched_dry_run_stays_one() {
        let typed = Request {
            what: What::Typed(back_to(RollbackTo::Previous, None)),
            ..Request::default()
        };
        let dispatch = Trigger::Dispatch(Dispatch {
            command: some("deploy"),
            tag: some("v1.2.0"),
            dry_run: true,
            ..Dispatch::default()
        });
        assert_eq!(typed.clone().with(Some(&dispatch)).dry_run, DryRun::Yes);
        let intent = decide(Some(&dispatch), typed).expect("decided");
        assert_eq!(intent, back_to(RollbackTo::Previous, None));
    }

    #[test]
    fn the_advice_for_an_unknown_command_lists_every_operation() {
        let next = IntentError::UnknownCommand(String::new()).failure().next;
        let next = next.expect("advice");
        for operation in Operation::ALL {
            assert!(next.contains(operation.name()), "{next}");
        }
    }

    #[test]
    fn nothing_named_is_refused() {
        assert!(decide(None, Request::default()).is_err());
    }
}
