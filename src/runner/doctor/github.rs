//! What the doctor asks GitHub: whether the token may do what a deployment needs, and whether the repository's own rules
//! let the next tags through.
//!
//! Runs on the runner; changes nothing on GitHub. What the token may not see is no problem of a deployment, and is told as
//! not looked at.

use tokio::runtime::Runtime;

use crate::github::{GitHubClient, GitHubError};
use belay_model::request::tag::Tag;
use belay_model::request::tag_rules::{EnvironmentRules, MayDeploy, Ruleset, TagVerdict, judge};
use belay_report::doctor::Finding;
use belay_report::words;

const TOKEN: &str = "GitHub token";
const ENVIRONMENT: &str = "GitHub environment";
const TAG_RULES: &str = "tag rules";

/// Asks about one environment and the tags that could come next.
pub(super) fn examine(
    runtime: &Runtime,
    client: Option<&GitHubClient>,
    environment: &str,
    next: &[Tag],
) -> Vec<Finding> {
    let Some(client) = client else {
        return vec![Finding::careful(
            TOKEN,
            "there is none, so GitHub is told nothing",
            "leave the input `token` as it is",
        )];
    };
    let seen = runtime.block_on(client.latest_successful(environment));
    let seen = match seen {
        Ok(Some(live)) => format!("sees deployment {} of {environment}", live.id),
        Ok(None) => format!("sees that {environment} has no deployment yet"),
        Err(error) => return vec![refused(&error)],
    };
    let mut findings = vec![match runtime.block_on(client.may_deploy()) {
        Ok(()) => Finding::good(TOKEN, format!("{seen}, and may create deployments")),
        Err(error) => refused(&error),
    }];
    if next.is_empty() {
        // There is no repository here to tell which tags could come; that is said elsewhere.
        return findings;
    }
    findings.extend(
        match runtime.block_on(client.environment_rules(environment)) {
            Ok(rules) => of_environment(environment, rules.as_ref(), next),
            Err(error) => vec![Finding::unknown(ENVIRONMENT, error.in_words())],
        },
    );
    findings.extend(match runtime.block_on(client.tag_rulesets()) {
        Ok(rulesets) => of_rulesets(&rulesets, next),
        Err(error) => vec![Finding::unknown(TAG_RULES, error.in_words())],
    });
    findings
}

fn refused(error: &GitHubError) -> Finding {
    let hint = error.hint();
    Finding::bad(
        TOKEN,
        error.in_words(),
        hint.unwrap_or_else(|| "see githubstatus.com".to_owned()),
    )
}

/// What stops a job with `environment:` before it begins.
fn of_environment(name: &str, rules: Option<&EnvironmentRules>, next: &[Tag]) -> Vec<Finding> {
    let Some(rules) = rules else {
        let text = format!("{name} is made by GitHub with its first deployment");
        return vec![Finding::good(ENVIRONMENT, text)];
    };
    let place = format!("Settings > Environments > {name} > Deployment branches and tags");
    let mut findings = vec![];
    if let Some(tag) = next.iter().find(|tag| !rules.admits(tag)) {
        let why = match rules.may_deploy {
            MayDeploy::ProtectedBranches => "only protected branches may, and a tag is none",
            _ => "no tag rule matches it",
        };
        findings.push(Finding::bad(
            ENVIRONMENT,
            format!("{tag} may not deploy to {name}: {why}"),
            format!("{place}: \"Selected branches and tags\", with a tag rule such as v*"),
        ));
    }
    if !rules.admits_a_branch() {
        findings.push(Finding::careful(
            ENVIRONMENT,
            format!("no branch may deploy to {name}, and the button that rolls back runs on one"),
            format!("{place}: add a rule for the default branch"),
        ));
    }
    if findings.is_empty() {
        let text = format!("{name} takes these tags{}", conditions(rules));
        findings.push(Finding::good(ENVIRONMENT, text));
    }
    findings
}

fn conditions(rules: &EnvironmentRules) -> String {
    let mut text = String::new();
    if rules.reviewers > 0 {
        let who = words::count(rules.reviewers, "reviewer", "reviewers");
        text += &format!("; each deployment needs the approval of one of {who}");
    }
    if rules.wait_minutes > 0 {
        text += &format!("; each deployment waits {} min", rules.wait_minutes);
    }
    text
}

/// Whether the next tags can be pushed, and whether they then stay what they are.
fn of_rulesets(rulesets: &[Ruleset], next: &[Tag]) -> Vec<Finding> {
    let place = "Settings > Rules > Rulesets";
    let verdicts: Vec<TagVerdict> = next.iter().map(|tag| judge(rulesets, tag)).collect();
    let mut findings = vec![];
    for (tag, verdict) in next.iter().zip(&verdicts) {
        if let Some(ruleset) = verdict.name_refused_by {
            findings.push(Finding::bad(
                TAG_RULES,
                format!("the ruleset {ruleset} refuses a tag called {tag}"),
                format!("{place} > {ruleset}: change its rule for tag names"),
            ));
        }
    }
    if let Some(ruleset) = verdicts.iter().find_map(|verdict| verdict.name_not_judged) {
        let text = format!("the ruleset {ruleset} has a regular expression for tag names");
        findings.push(Finding::unknown(TAG_RULES, text));
    }
    if let Some(ruleset) = verdicts
        .iter()
        .find_map(|verdict| verdict.creation_reserved_by)
    {
        findings.push(Finding::careful(
            TAG_RULES,
            format!("the ruleset {ruleset} reserves the creation of version tags"),
            format!("{place} > {ruleset}: whoever releases has to be on its bypass list"),
        ));
    }
    let stays = |verdict: &TagVerdict<'_>| {
        verdict.kept_in_place_by.is_some() && verdict.kept_from_deletion_by.is_some()
    };
    findings.push(match verdicts.iter().all(stays) {
        true => Finding::good(TAG_RULES, "a version tag can be neither moved nor deleted"),
        false => Finding::careful(
            TAG_RULES,
            "whoever may push can move or delete a version tag",
            format!("{place} > New tag ruleset: refs/tags/v*, restrict updates and deletions"),
        ),
    });
    findings
}
