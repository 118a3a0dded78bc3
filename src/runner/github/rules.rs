//! What a repository's settings on GitHub allow: to the token, to an environment's deployments, and to tags. Runs on the
//! runner, for `belay doctor`; changes nothing.

use serde::Deserialize;
use serde_json::json;

use super::client::{GitHubClient, LARGE_PAGES};
use super::error::{ApiCall, GitHubError};
use belay_model::request::tag_rules::{
    EnvironmentRules, MayDeploy, NameRule, Operator, Ruleset, TagRule,
};

#[derive(Deserialize)]
struct SeenEnvironment {
    #[serde(default)]
    protection_rules: Vec<ProtectionRule>,
    #[serde(default)]
    deployment_branch_policy: Option<BranchPolicy>,
}

#[derive(Deserialize)]
struct ProtectionRule {
    #[serde(default)]
    reviewers: Vec<serde_json::Value>,
    #[serde(default)]
    wait_timer: u64,
}

#[derive(Deserialize)]
struct BranchPolicy {
    #[serde(default)]
    protected_branches: bool,
}

#[derive(Deserialize)]
struct Policies {
    #[serde(default)]
    branch_policies: Vec<Policy>,
}

#[derive(Deserialize)]
struct Policy {
    #[serde(default)]
    name: String,
    /// Policies from before there were any for tags have none.
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct ListedRuleset {
    id: u64,
    #[serde(default)]
    enforcement: String,
}

#[derive(Deserialize)]
struct SeenRuleset {
    #[serde(default)]
    name: String,
    #[serde(default)]
    conditions: Option<Conditions>,
    #[serde(default)]
    rules: Vec<SeenRule>,
}

#[derive(Deserialize, Default)]
struct Conditions {
    #[serde(default)]
    ref_name: RefName,
}

#[derive(Deserialize, Default)]
struct RefName {
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
}

#[derive(Deserialize)]
struct SeenRule {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Deserialize, Default)]
struct Parameters {
    #[serde(default)]
    operator: String,
    #[serde(default)]
    pattern: String,
    #[serde(default)]
    negate: bool,
}

impl GitHubClient {
    /// Whether the token may create deployments. GitHub has no question for that, so this asks for a deployment of
    /// nothing: without its `ref` GitHub can only refuse it, with 422 after it has found that the token would have been
    /// allowed to, and with 403 or 404 before.
    pub async fn may_deploy(&self) -> Result<(), GitHubError> {
        let call = ApiCall::CreateDeployment;
        let refused = match self
            .post(call, &self.path(&["deployments"]), &json!({}))
            .await
        {
            Ok(answer) => answer.refusal(call),
            Err(error) => error,
        };
        match refused {
            GitHubError::Refused { status: 422, .. } => Ok(()),
            GitHubError::Refused {
                call,
                status: status @ 404,
                source,
            } => Err(GitHubError::Forbidden {
                call,
                status,
                source,
            }),
            error => Err(error),
        }
    }

    /// The rules of an environment; `None` when GitHub knows no such environment.
    pub async fn environment_rules(
        &self,
        environment: &str,
    ) -> Result<Option<EnvironmentRules>, GitHubError> {
        let path = self.path(&["environments", environment]);
        let call = ApiCall::ReadEnvironment;
        let answer = match self.get(call, &path).await {
            Err(GitHubError::Refused { status: 404, .. }) => return Ok(None),
            answer => answer?,
        };
        let seen: SeenEnvironment = answer.read(call)?;
        let may_deploy = match seen.deployment_branch_policy {
            None => MayDeploy::Everything,
            Some(policy) if policy.protected_branches => MayDeploy::ProtectedBranches,
            Some(_) => self.admitted(&path).await?,
        };
        let rules = &seen.protection_rules;
        Ok(Some(EnvironmentRules {
            may_deploy,
            reviewers: rules.iter().map(|rule| rule.reviewers.len()).sum(),
            wait_minutes: rules.iter().map(|rule| rule.wait_timer).max().unwrap_or(0),
        }))
    }

    async fn admitted(&self, environment: &str) -> Result<MayDeploy, GitHubError> {
        let path = format!("{environment}/deployment-branch-policies{LARGE_PAGES}");
        let unwrap = |page: Policies| page.branch_policies;
        let policies: Vec<Policy> = self.all(ApiCall::ReadEnvironment, path, unwrap).await?;
        let (tags, branches): (Vec<_>, Vec<_>) = policies
            .into_iter()
            .partition(|policy| policy.kind.as_deref() == Some("tag"));
        let names = |policies: Vec<Policy>| policies.into_iter().map(|policy| policy.name);
        Ok(MayDeploy::Matching {
            tags: names(tags).collect(),
            branches: names(branches).collect(),
        })
    }

    /// The active rulesets for tags, those of the organization included.
    pub async fn tag_rulesets(&self) -> Result<Vec<Ruleset>, GitHubError> {
        let path = self.path(&["rulesets"]) + LARGE_PAGES + "&targets=tag";
        let call = ApiCall::ReadRulesets;
        let listed: Vec<ListedRuleset> = self.all(call, path, |page| page).await?;
        let mut rulesets = vec![];
        for listed in listed.iter().filter(|seen| seen.enforcement == "active") {
            let path = self.path(&["rulesets", &listed.id.to_string()]);
            rulesets.push(ruleset(self.get(call, &path).await?.read(call)?));
        }
        Ok(rulesets)
    }
}

fn ruleset(seen: SeenRuleset) -> Ruleset {
    let names = seen.conditions.unwrap_or_default().ref_name;
    Ruleset {
        name: seen.name,
        include: names.include,
        exclude: names.exclude,
        rules: seen.rules.into_iter().filter_map(rule).collect(),
    }
}

/// `None` for rules that matter to no release.
fn rule(seen: SeenRule) -> Option<TagRule> {
    Some(match seen.kind.as_str() {
        "creation" => TagRule::Creation,
        "update" => TagRule::Update,
        "deletion" => TagRule::Deletion,
        "tag_name_pattern" => TagRule::Name(NameRule {
            operator: match seen.parameters.operator.as_str() {
                "starts_with" => Operator::StartsWith,
                "ends_with" => Operator::EndsWith,
                "contains" => Operator::Contains,
                _ => Operator::Regex,
            },
            pattern: seen.parameters.pattern,
            negate: seen.parameters.negate,
        }),
        _ => return None,
    })
}
