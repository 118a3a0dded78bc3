//! What is read of a repository's settings, and how it is found out whether the token may write.

use belay_model::request::tag_rules::{
    EnvironmentRules, MayDeploy, NameRule, Operator, Ruleset as Read, TagRule,
};
use belay_runner::github::GitHubClient;
use serde_json::{Value, json};

use crate::fake_github::world::{Environment, Fault, Ruleset};
use crate::ledger::Stage;

#[tokio::test]
async fn a_token_that_may_write_deployments_is_found_out_without_making_one() {
    let Some(stage) = Stage::new() else { return };
    stage.client().may_deploy().await.expect("it may");
    assert_eq!(stage.fake.look(|world| world.deployments.len()), 0);
    assert_eq!(stage.fake.look(|world| world.requests.len()), 1);
    stage.assert_lawful();
}

#[tokio::test]
async fn a_token_that_may_not_is_told_the_line_that_is_missing() {
    let Some(stage) = Stage::new() else { return };
    let client = GitHubClient::new(&stage.connection("a-read-only-token"), stage.patience());
    let error = client.expect("a client").may_deploy().await;
    let error = error.expect_err("it may not");
    assert_eq!(
        error.hint().as_deref(),
        Some("add \"deployments: write\" under \"permissions:\" in the workflow")
    );
    // A personal token without the right is told that there is nothing.
    for status in [403, 404] {
        stage.fake.fault(Fault {
            status,
            times: Some(1),
            ..Fault::default()
        });
        let error = stage.client().may_deploy().await.expect_err("it may not");
        assert!(error.hint().is_some(), "{error}");
    }
    stage.fake.fault(Fault {
        status: 500,
        ..Fault::default()
    });
    let error = stage.client().may_deploy().await.expect_err("unknown");
    assert!(error.is_outage(), "{error}");
}

fn environment(policy: Value, admitted: &[(&str, &str)]) -> Environment {
    let owned = |(kind, pattern): &(&str, &str)| ((*kind).to_owned(), (*pattern).to_owned());
    Environment {
        policy,
        admitted: admitted.iter().map(owned).collect(),
    }
}

#[tokio::test]
async fn the_rules_of_an_environment_are_read() {
    let Some(stage) = Stage::new() else { return };
    let kind = |protected: bool| json!({"protected_branches": protected, "custom_branch_policies": !protected});
    let patterns = [("branch", "main"), ("tag", "v*"), ("tag", "dev-*")];
    stage.fake.change(|world| {
        let names = &mut world.environments;
        names.insert("open".to_owned(), environment(Value::Null, &[]));
        names.insert("protected".to_owned(), environment(kind(true), &[]));
        // More than fit on a page, and a name that has to be encoded.
        let many = [("branch", "x"); 120];
        let all = environment(kind(false), &[&patterns[..], &many[..]].concat());
        names.insert("eu/west 1".to_owned(), all);
    });
    let rules = |may_deploy: MayDeploy| {
        // The rest is GitHub's own example.
        Some(EnvironmentRules {
            may_deploy,
            reviewers: 2,
            wait_minutes: 30,
        })
    };
    let client = stage.client();
    for (name, expected) in [
        ("open", rules(MayDeploy::Everything)),
        ("protected", rules(MayDeploy::ProtectedBranches)),
        ("none", None),
    ] {
        let read = client.environment_rules(name).await.expect("read");
        assert_eq!(read, expected, "{name}");
    }
    let read = client.environment_rules("eu/west 1").await.expect("read");
    let Some(MayDeploy::Matching { tags, branches }) = read.map(|rules| rules.may_deploy) else {
        panic!("no patterns");
    };
    assert_eq!(tags, ["v*", "dev-*"]);
    assert_eq!(branches.len(), 121);
    stage.assert_lawful();
}

#[tokio::test]
async fn active_rulesets_for_tags_are_read_and_others_left() {
    let Some(stage) = Stage::new() else { return };
    let named = |name: &str, enforcement: &str, rules: Value| Ruleset {
        name: name.to_owned(),
        enforcement: enforcement.to_owned(),
        include: vec!["refs/tags/v*".to_owned()],
        rules,
    };
    let pattern = json!({"operator": "starts_with", "pattern": "v", "negate": false});
    stage.fake.change(|world| {
        world.rulesets = vec![
            named("tried", "evaluate", json!([{"type": "creation"}])),
            named("off", "disabled", json!([{"type": "creation"}])),
            named(
                "releases",
                "active",
                json!([
                    {"type": "creation"}, {"type": "update"}, {"type": "deletion"},
                    {"type": "required_signatures"},
                    {"type": "tag_name_pattern", "parameters": pattern},
                ]),
            ),
        ];
    });
    let rulesets = stage.client().tag_rulesets().await.expect("read");
    let name = NameRule {
        operator: Operator::StartsWith,
        pattern: "v".to_owned(),
        negate: false,
    };
    assert_eq!(
        rulesets,
        [Read {
            name: "releases".to_owned(),
            include: vec!["refs/tags/v*".to_owned()],
            exclude: vec![],
            rules: vec![
                TagRule::Creation,
                TagRule::Update,
                TagRule::Deletion,
                TagRule::Name(name),
            ],
        }]
    );
    stage.assert_lawful();
}
