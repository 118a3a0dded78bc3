//! Whether somebody wants to hear of an outcome, and in which language the place speaks that hears it.
//!
//! Runs anywhere; pure.

use crate::transaction::outcome::{Failure, Outcome, Word, Work};

/// What is told. Failures and rollbacks unless something else is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationWishes {
    /// A deployment that went live.
    pub success: bool,
    /// Whatever did not end as it was asked for.
    pub failure: bool,
    /// A rollback that a person asked for.
    pub rollback: bool,
}

impl Default for NotificationWishes {
    fn default() -> Self {
        NotificationWishes {
            success: false,
            failure: true,
            rollback: true,
        }
    }
}

impl NotificationWishes {
    /// Reads `failure, rollback` and the like.
    pub fn parse(text: &str) -> Result<NotificationWishes, Failure> {
        let mut wishes = NotificationWishes {
            success: false,
            failure: false,
            rollback: false,
        };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "success" => wishes.success = true,
                "failure" => wishes.failure = true,
                "rollback" => wishes.rollback = true,
                other => {
                    let error = format!("notify-on has {other:?}, which is none of its words");
                    return Err(Failure::new(error)
                        .host("nothing was changed")
                        .next("use success, failure and rollback, with commas between"));
                }
            }
        }
        Ok(wishes)
    }

    /// Whether to send a message. A rollback that went live follows `rollback` alone; a run that changed nothing sends
    /// none.
    #[must_use]
    pub fn want(&self, outcome: &Outcome) -> bool {
        match (outcome.word, outcome.work) {
            (Word::Deployed, Work::Rollback) => self.rollback,
            (Word::Deployed, _) => self.success,
            (Word::Unchanged, _) => false,
            (Word::Refused | Word::RolledBack | Word::Stuck | Word::Unknown, _) => self.failure,
        }
    }
}

/// The language of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// An incoming webhook of Slack.
    Slack,
    /// A webhook of a Discord channel.
    Discord,
    /// A workflow or an older connector of Microsoft Teams.
    Teams,
    /// Belay's own fields, for everything else.
    Json,
}

impl Tongue {
    /// By the webhook's address: <https://api.slack.com/messaging/webhooks>,
    /// <https://discord.com/developers/docs/resources/webhook>, and for Teams the addresses of its workflows and of its
    /// older connectors.
    #[must_use]
    pub fn of(url: &url::Url) -> Tongue {
        let host = url.host_str().unwrap_or_default();
        let is = |name: &str| host == name || host.ends_with(&format!(".{name}"));
        if is("slack.com") || is("slack-gov.com") {
            Tongue::Slack
        } else if is("discord.com") || is("discordapp.com") {
            Tongue::Discord
        } else if is("webhook.office.com") || is("logic.azure.com") || is("powerplatform.com") {
            Tongue::Teams
        } else {
            Tongue::Json
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tongue(url: &str) -> Tongue {
        Tongue::of(&url.parse().expect("an address"))
    }

    #[test]
    fn the_address_says_the_language() {
        for (url, expected) in [
            ("https://hooks.slack.com/services/T0/B0/x", Tongue::Slack),
            ("https://discord.com/api/webhooks/1/x", Tongue::Discord),
            (
                "https://canary.discord.com/api/webhooks/1/x",
                Tongue::Discord,
            ),
            (
                "https://example.webhook.office.com/webhookb2/x",
                Tongue::Teams,
            ),
            (
                "https://prod-1.westeurope.logic.azure.com/workflows/x",
                Tongue::Teams,
            ),
            ("https://chat.example.com/hook", Tongue::Json),
            ("https://notslack.com/x", Tongue::Json),
            ("https://slack.com.example.com/x", Tongue::Json),
        ] {
            assert_eq!(tongue(url), expected, "{url}");
        }
    }

    #[test]
    fn wishes_are_words_with_commas() {
        let wishes = NotificationWishes::parse("success, rollback").expect("words");
        assert!(wishes.success && wishes.rollback && !wishes.failure);
        let error = NotificationWishes::parse("always").expect_err("no word");
        assert!(error.error.contains("always"), "{}", error.error);
        assert_eq!(
            NotificationWishes::parse("failure,rollback"),
            Ok(NotificationWishes::default())
        );
    }
}
