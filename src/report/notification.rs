//! An outcome as the message of a webhook.
//!
//! Runs anywhere; pure. What comes from outside is text in all of them: it can mention nobody, and links lead only to the
//! run.

use serde_json::{Value, json};

use belay_model::reviewing::notification::Tongue;
use belay_model::text::{clip, one_line};
use belay_model::transaction::outcome::Outcome;

use super::failure::FailureLines;
use super::story;

/// Most characters of a message. Discord takes 2,000, the others more.
const MOST: usize = 1_500;

/// The body of the request.
#[must_use]
pub fn message(outcome: &Outcome, tongue: Tongue) -> Value {
    match tongue {
        Tongue::Slack => slack(outcome),
        Tongue::Discord => discord(outcome),
        Tongue::Teams => teams(outcome),
        Tongue::Json => fields(outcome),
    }
}

/// The headline, and for a failure its three lines.
fn text(outcome: &Outcome) -> String {
    let headline = one_line(&story::headline(outcome).plain());
    let mut text = format!("{} {headline}", story::sign(outcome.word));
    if !outcome.app.is_empty() {
        text.push_str(&format!(" ({})", one_line(&outcome.app)));
    }
    if let Some(reason) = &outcome.reason {
        text.push_str(&format!("\nwhy: {}", one_line(reason)));
    }
    if let Some(lines) = FailureLines::of(outcome) {
        text.push_str(&format!("\n{}", lines.to_string().trim_end()));
    }
    clip(&text, MOST)
}

/// `plain_text` is shown as it is: <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>.
fn slack(outcome: &Outcome) -> Value {
    let text = text(outcome);
    let section = json!({"type": "section", "text": {"type": "plain_text", "text": text}});
    let button = outcome.urls.run.as_ref().map(|url| {
        let label = json!({"type": "plain_text", "text": "Open the run"});
        let button = json!({"type": "button", "text": label, "url": url});
        json!({"type": "actions", "elements": [button]})
    });
    let blocks: Vec<Value> = std::iter::once(section).chain(button).collect();
    // The fallback of a notification is read as Slack's own markup, which these three signs begin.
    let plain = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    json!({"text": plain, "blocks": blocks})
}

/// `allowed_mentions` without anything lets nobody be mentioned:
/// <https://discord.com/developers/docs/resources/message#allowed-mentions-object>.
fn discord(outcome: &Outcome) -> Value {
    let mut content = format!("```\n{}\n```", text(outcome).replace("```", "'''"));
    if let Some(url) = &outcome.urls.run {
        content.push_str(&format!("\n<{url}>"));
    }
    json!({"content": content, "allowed_mentions": {"parse": []}})
}

/// An adaptive card: <https://adaptivecards.io/explorer/>. A `RichTextBlock` knows no Markdown.
fn teams(outcome: &Outcome) -> Value {
    let text = text(outcome);
    let run = |line: &str| json!({"type": "TextRun", "text": line});
    let paragraph = |line: &str| json!({"type": "RichTextBlock", "inlines": [run(line)]});
    let body: Vec<Value> = text.lines().map(paragraph).collect();
    let open =
        |url: &String| json!({"type": "Action.OpenUrl", "title": "Open the run", "url": url});
    let actions: Vec<Value> = outcome.urls.run.iter().map(open).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.2",
                "body": body,
                "actions": actions,
            },
        }],
    })
}

fn fields(outcome: &Outcome) -> Value {
    let lines = FailureLines::of(outcome);
    json!({
        "text": text(outcome),
        "outcome": outcome.word.name(),
        "work": outcome.work,
        "app": outcome.app,
        "environment": outcome.environment,
        "asked": outcome.asked,
        "reason": outcome.reason,
        "previous": outcome.previous,
        "serving": outcome.serving,
        "revision": outcome.revision,
        "error": lines.as_ref().map(|lines| &lines.error),
        "host": lines.as_ref().map(|lines| &lines.host),
        "next": lines.as_ref().map(|lines| &lines.next),
        "started": outcome.started,
        "duration_ms": outcome.durations.total_ms,
        "run_url": outcome.urls.run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn each_place_is_told_in_its_own_language() {
        let outcome = examples::rolled_back();
        let all = [Tongue::Slack, Tongue::Discord, Tongue::Teams, Tongue::Json];
        let all = all.map(|tongue| message(&outcome, tongue));
        insta::assert_snapshot!(serde_json::to_string_pretty(&all).expect("JSON"));
    }

    #[test]
    fn nobody_is_mentioned_and_nothing_is_longer_than_it_may_be() {
        for hostile in [
            "<!channel> <@U1>",
            "@everyone ```",
            "[x](https://example.com)",
        ] {
            let mut outcome = examples::rolled_back();
            examples::fill(&mut outcome, &hostile.repeat(500), 3);
            let slack = message(&outcome, Tongue::Slack);
            let fallback = slack["text"].as_str().expect("text");
            assert!(!fallback.contains('<'), "{fallback}");
            assert_eq!(slack["blocks"][0]["text"]["type"], "plain_text");
            let discord = message(&outcome, Tongue::Discord);
            assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
            outcome.urls.run = Some("https://example.com/run".to_owned());
            let content = message(&outcome, Tongue::Discord)["content"].clone();
            let content = content.as_str().expect("text");
            assert!(content.chars().count() < 2_000);
            assert_eq!(content.matches("```").count(), 2, "{content}");
        }
    }
}
