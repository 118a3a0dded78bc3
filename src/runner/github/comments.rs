//! Belay's one comment on a pull request, kept up to date. Runs on the runner.
//!
//! GitHub knows no conditional update and no unique comment, so two runs at once can both find none, and each can write over
//! what the other, or a person, has just changed. Every writing is therefore looked at once more: of two comments the older
//! one stays, and who was overtaken merges again. A person's click in the moment between the last look and the writing is
//! the one thing that can be lost.

use serde::Deserialize;
use serde_json::json;

use super::client::{GitHubClient, LARGE_PAGES};
use super::error::{ApiCall, GitHubError};
use belay_model::reviewing::sticky::{Around, Mark, body, compose};

/// How often a comment is written at most until it says what it shall.
const WRITINGS: usize = 3;

/// A comment on a pull request, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<CommentAuthor>,
}

#[derive(Clone, Debug, Deserialize)]
struct CommentAuthor {
    #[serde(default)]
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What became of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommentChange {
    /// It is new, or says something new.
    Written,
    /// It says so already.
    Unchanged,
    /// A newer run has written it.
    Newer,
}

/// Which comment, and on whose behalf.
#[derive(Clone, Debug)]
pub struct Sticky {
    /// Its number.
    pub pull_request: u64,
    /// Each environment has a comment of its own.
    pub environment: String,
    /// The workflow run that writes it: of two, the newer counts.
    pub run: u64,
    /// The login of a person whose token it is; a token of a workflow or an app has a bot.
    pub author: Option<String>,
    /// It is written by a deployment, not by an event of the pull request.
    pub is_release: bool,
}

/// What Belay's part of a comment is to say, given the comment that is there, if there is one. Nothing leaves it as it is.
pub type Write<'a> = &'a (dyn Fn(Option<&str>) -> Option<String> + Sync);

impl Sticky {
    fn mark(&self, revision: u32) -> Mark {
        Mark {
            environment: self.environment.clone(),
            run: self.run,
            revision,
            is_release: self.is_release,
        }
    }
}

impl GitHubClient {
    /// Makes the comment say what `write` makes of the one that is there.
    pub async fn keep_comment(
        &self,
        sticky: &Sticky,
        write: Write<'_>,
    ) -> Result<CommentChange, GitHubError> {
        let mut kept = CommentChange::Unchanged;
        for tried in 0..WRITINGS {
            match self.keep_once(sticky, write).await {
                Ok(CommentChange::Written) => kept = CommentChange::Written,
                Ok(CommentChange::Unchanged) => return Ok(kept),
                Ok(CommentChange::Newer) => return Ok(CommentChange::Newer),
                // It may have arrived all the same, which the next look tells.
                Err(error) if error.is_outage() && tried + 1 < WRITINGS => {
                    if !self.pause_after(&error, 0).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    /// A look, and a writing where it is needed.
    async fn keep_once(
        &self,
        sticky: &Sticky,
        write: Write<'_>,
    ) -> Result<CommentChange, GitHubError> {
        let own = self.own_comments(sticky).await?;
        let Some((comment, later)) = own.split_first() else {
            return self.create(sticky, write).await;
        };
        // Another run was as quick; the older comment stays.
        for later in later {
            self.delete_comment(later.id).await?;
        }
        self.update(sticky, comment, write).await
    }

    async fn create(
        &self,
        sticky: &Sticky,
        write: Write<'_>,
    ) -> Result<CommentChange, GitHubError> {
        let Some(new) = write(None) else {
            return Ok(CommentChange::Unchanged);
        };
        let text = compose(&sticky.mark(1), &new, &Around::default());
        let path = self.comments_path(sticky);
        self.post(ApiCall::WriteComment, &path, &json!({"body": text}))
            .await
            .map(|_| CommentChange::Written)
    }

    async fn update(
        &self,
        sticky: &Sticky,
        comment: &Comment,
        write: Write<'_>,
    ) -> Result<CommentChange, GitHubError> {
        let old = comment.body.as_deref().unwrap_or_default();
        let Some(mark) = Mark::read(old) else {
            return Ok(CommentChange::Unchanged);
        };
        if mark.is_ahead_of(sticky.run, sticky.is_release) {
            return Ok(CommentChange::Newer);
        }
        let Some(new) = write(Some(old)) else {
            return Ok(CommentChange::Unchanged);
        };
        if body(old).map(unix_lines).as_deref() == Some(new.trim_matches('\n')) {
            return Ok(CommentChange::Unchanged);
        }
        let mark = sticky.mark(mark.revision.saturating_add(1));
        let text = compose(&mark, &new, &Around::read(old));
        let path = self.path(&["issues", "comments", &comment.id.to_string()]);
        self.patch(ApiCall::WriteComment, &path, &json!({"body": text}))
            .await?;
        Ok(CommentChange::Written)
    }

    async fn delete_comment(&self, id: u64) -> Result<(), GitHubError> {
        let path = self.path(&["issues", "comments", &id.to_string()]);
        match self.delete(ApiCall::WriteComment, &path).await {
            // The other run was quicker.
            Err(GitHubError::Refused { status: 404, .. }) => Ok(()),
            done => done.map(drop),
        }
    }

    /// The comments of ours on a pull request, oldest first. That a person puts our mark into a comment makes it no comment
    /// of ours.
    async fn own_comments(&self, sticky: &Sticky) -> Result<Vec<Comment>, GitHubError> {
        let path = self.comments_path(sticky) + LARGE_PAGES;
        let mut own: Vec<Comment> = self.all(ApiCall::ReadComments, path, |page| page).await?;
        own.retain(|comment| is_own(comment, sticky));
        own.sort_by_key(|comment| comment.id);
        Ok(own)
    }

    fn comments_path(&self, sticky: &Sticky) -> String {
        self.path(&["issues", &sticky.pull_request.to_string(), "comments"])
    }
}

fn is_own(comment: &Comment, sticky: &Sticky) -> bool {
    let mark = comment.body.as_deref().and_then(Mark::read);
    let is_marked = mark.is_some_and(|mark| mark.environment == sticky.environment);
    let is_by_us = comment
        .user
        .as_ref()
        .is_some_and(|user| match &sticky.author {
            Some(login) => user.login == *login,
            None => user.kind == "Bot",
        });
    is_marked && is_by_us
}

/// GitHub's own editor ends lines as Windows does.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}
