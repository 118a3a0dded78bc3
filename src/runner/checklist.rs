//! The checklist of a pull request: looks at what the strategy asks for, and keeps one comment that says it.
//!
//! Runs on the runner, on events of a pull request. Deploys nothing and changes nothing on the host. Whatever cannot be
//! looked at is said in the comment; a comment that may not be written goes to the step's summary, and the run is green:
//! a checklist must never stand in the way of a pull request.

use super::actions::Annotation;
use super::github::{CommentChange, GitHubClient, GitHubError, Sticky};
use super::link::LinkError;
use super::session::{Session, SessionError, runtime};
use belay_model::config::Settings;
use belay_model::request::event::{Origin, PullRequest};
use belay_model::request::tag_ancestry::next_tags;
use belay_model::reviewing::checklist::boxes;
use belay_model::reviewing::review::Reviewed;
use belay_model::transaction::outcome::{EXIT_BUG, Failure, Word};
use belay_prober::ask_timed;
use belay_report::checklist::{Checklist, PullRequestState, checklist};
use belay_report::evidence::{
    Endpoint, Evidence, HostSeen, LastBackup, SettingsSeen, Unseen, before_release,
};
use belay_report::three_lines;
use belay_wire::{HostFacts, Verb};

/// Looks, and keeps the comment. Returns the exit code.
pub(crate) fn run(session: &Session<'_>, pull: &PullRequest) -> u8 {
    let Some(origin) = session.origin() else {
        return EXIT_BUG;
    };
    // A configuration that cannot be read is red: it is the pull request's own.
    let settings = match session.release_settings() {
        Ok(settings) => settings,
        Err(error) => return refused(session, &error.into()),
    };
    let Ok(runtime) = runtime() else {
        return EXIT_BUG;
    };
    let host = look_at_host(session, &settings);
    let client = session.github(&runtime);
    let github = runtime.block_on(look_at_github(
        client.as_ref(),
        origin,
        pull,
        settings.environment.as_str(),
    ));
    let seen = Evidence {
        commit: pull.head_sha.clone(),
        reviewed: github.reviewed.map_err(Unseen::because),
        next_tags: github.next_tags.map_err(Unseen::because),
        endpoints: endpoints(&settings, &host),
        host: host.map(|host| host.seen).map_err(Unseen::because),
        words_of_live: github.words_of_live,
        settings: settings_seen(&settings),
    };
    let list = Checklist {
        environment: settings.environment.as_str().to_owned(),
        standing: standing(pull, seen.next_tags.clone().unwrap_or_default()),
        entries: before_release(&seen),
        logs: vec![],
    };
    let sticky = Sticky {
        pull_request: pull.number,
        environment: list.environment.clone(),
        run: origin.run_id,
        author: None,
        is_release: false,
    };
    let write = |old: Option<&str>| Some(checklist(&list, &old.map(boxes).unwrap_or_default()));
    let kept = match &client {
        Some(client) => runtime.block_on(client.keep_comment(&sticky, &write)),
        None => return instead(session, &list, "there is no token"),
    };
    match kept {
        Ok(kept) => posted(session, pull, kept),
        Err(error) => instead(session, &list, &error.in_words()),
    }
}

fn refused(session: &Session<'_>, failure: &Failure) -> u8 {
    for line in three_lines(failure, Word::Refused).lines() {
        let _ = session.actions.line(line);
    }
    Word::Refused.exit_code()
}

fn posted(session: &Session<'_>, pull: &PullRequest, kept: CommentChange) -> u8 {
    let what = match kept {
        CommentChange::Written => "written",
        CommentChange::Unchanged => "up to date already",
        CommentChange::Newer => "left to a newer run",
    };
    let line = format!("the checklist of pull request {} is {what}", pull.number);
    let _ = session.actions.line(&line);
    let _ = session.actions.output("comment-posted", "true");
    0
}

/// The comment goes where nobody can forbid it.
fn instead(session: &Session<'_>, list: &Checklist, why: &str) -> u8 {
    let text = format!("the checklist is in the summary, not on the pull request: {why}");
    let _ = session.actions.warning(&Annotation::new("Belay", text));
    let _ = session.actions.output("comment-posted", "false");
    if let Err(error) = session.actions.summary(&checklist(list, &[])) {
        let _ = session
            .actions
            .line(&format!("could not write the summary: {error}"));
    }
    0
}

fn standing(pull: &PullRequest, next: Vec<String>) -> PullRequestState {
    match (pull.is_open, pull.merged) {
        (_, true) => PullRequestState::Merged { next },
        (true, false) => PullRequestState::Open { next },
        (false, false) => PullRequestState::Closed,
    }
}

/// Why something could not be looked at. The comment says so in its place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSeen {
    #[error("there is no token")]
    NoToken,
    #[error("this workflow gives no SSH key")]
    NoKey,
    #[error("{}", .0.in_words())]
    GitHub(#[from] GitHubError),
    #[error("{}", .0.error)]
    Host(Failure),
}

impl From<SessionError> for NotSeen {
    fn from(error: SessionError) -> NotSeen {
        NotSeen::Host(error.into())
    }
}

impl From<LinkError> for NotSeen {
    fn from(error: LinkError) -> NotSeen {
        NotSeen::Host(error.into())
    }
}

struct GitHubSeen {
    reviewed: Result<Reviewed, NotSeen>,
    next_tags: Result<Vec<String>, NotSeen>,
    words_of_live: Option<String>,
}

async fn look_at_github(
    client: Option<&GitHubClient>,
    origin: &Origin,
    pull: &PullRequest,
    environment: &str,
) -> GitHubSeen {
    let Some(client) = client else {
        return GitHubSeen {
            reviewed: Err(NotSeen::NoToken),
            next_tags: Err(NotSeen::NoToken),
            words_of_live: None,
        };
    };
    let reviewed = reviewed(client, origin, pull.number, &pull.head_sha).await;
    let tags = client.version_tags().await;
    let next = |tags: Vec<String>| {
        let next = next_tags(tags.iter().map(String::as_str));
        next.iter().map(|tag| tag.as_str().to_owned()).collect()
    };
    GitHubSeen {
        reviewed,
        next_tags: tags.map(next).map_err(NotSeen::from),
        // Only of use when there is no other source, and then its absence says enough.
        words_of_live: client.words_of_live(environment).await.ok().flatten(),
    }
}

/// Who thinks what of a pull request, and how the checks of its newest commit went.
pub(super) async fn reviewed(
    client: &GitHubClient,
    origin: &Origin,
    pull_request: u64,
    commit: &str,
) -> Result<Reviewed, NotSeen> {
    let reviews = client.reviews(pull_request).await?;
    let checks = client.checks(commit, origin.run_id).await?;
    Ok(Reviewed::of(&reviews, &checks))
}

/// What was seen of the host, and how its endpoints answered there.
struct OnHost {
    seen: HostSeen,
    answers: Vec<Endpoint>,
}

fn look_at_host(session: &Session<'_>, settings: &Settings) -> Result<OnHost, NotSeen> {
    if session.inputs.ssh_key.is_none() {
        return Err(NotSeen::NoKey);
    }
    let link = session.link(settings)?;
    let facts: HostFacts = link.ask(Verb::Facts, &[], None::<&()>)?;
    let timeout = settings.health.timeout.get().as_millis().to_string();
    let urls = [&settings.health.primary, &settings.health.backup];
    let answers = urls.into_iter().flatten().map(|url| {
        let url = url.to_string();
        let answer = link.ask(
            Verb::Ask,
            &["--url", &url, "--timeout", &timeout],
            None::<&()>,
        );
        let answer = answer.map_err(|error| Unseen::because(NotSeen::from(error)));
        Endpoint { url, answer }
    });
    Ok(OnHost {
        answers: answers.collect(),
        seen: host_seen(&facts),
    })
}

fn host_seen(facts: &HostFacts) -> HostSeen {
    let last = facts.backups.iter().max_by_key(|backup| backup.seq);
    HostSeen {
        now: facts.now,
        serving: facts.current.as_ref().map(|current| current.tag.clone()),
        backups: facts.backups.len(),
        last_backup: last.map(|last| LastBackup {
            name: last.name.clone(),
            at: last.created,
            bytes: last.bytes,
            // One that is not verified when it is taken does not get a name.
            is_verified: last.problem.is_none(),
        }),
    }
}

/// The host's own endpoints, and the public one as users reach it.
fn endpoints(settings: &Settings, host: &Result<OnHost, NotSeen>) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = match host {
        Ok(host) => host.answers.clone(),
        Err(why) => [&settings.health.primary, &settings.health.backup]
            .into_iter()
            .flatten()
            .map(|url| Endpoint {
                url: url.to_string(),
                answer: Err(Unseen::because(why)),
            })
            .collect(),
    };
    endpoints.extend(settings.health.public.as_ref().map(|url| Endpoint {
        url: url.to_string(),
        answer: Ok(ask_timed(url.as_str(), settings.health.timeout.get(), true)),
    }));
    endpoints
}

pub(super) fn settings_seen(settings: &Settings) -> SettingsSeen {
    SettingsSeen {
        backups_kept: settings.backup.keep,
        versions_kept: settings.images.keep,
        image_budget: settings.images.budget.get(),
        images_are_tested: !settings.images.test.is_empty(),
        good_answers: settings.health.successes,
        endpoints: endpoints_of(settings),
    }
}

fn endpoints_of(settings: &Settings) -> Vec<String> {
    let health = &settings.health;
    let all = [&health.primary, &health.backup, &health.public];
    let named = all.into_iter().flatten();
    named.map(ToString::to_string).collect()
}
