//! What the stand-in for GitHub knows and how it answers: deployments, statuses, revisions, runs and comments. Runs in
//! tests; no I/O here.
//!
//! It behaves like GitHub where Belay depends on it: newest first, pages with `Link`, `""` for addresses that are not
//! set, retirement of replaced deployments except in production, refusal of long descriptions and unknown states.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The whole state, as it is dumped for scripts.
#[derive(Debug, Default, Serialize)]
pub(crate) struct World {
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) comments: Vec<Comment>,
    /// Of every pull request: who, and what as GitHub calls it.
    pub(crate) reviews: Vec<(String, String)>,
    /// Of every commit.
    pub(crate) check_runs: Vec<CheckRun>,
    pub(crate) pulls: Vec<Pull>,
    /// The commits that one has and another has not, oldest first, by `from...to`.
    pub(crate) between: BTreeMap<String, Vec<String>>,
    /// `tags/v1.0.0` or `heads/main` to the commit.
    pub(crate) refs: BTreeMap<String, String>,
    /// Workflow runs and their status, `completed` or another.
    pub(crate) runs: BTreeMap<u64, String>,
    pub(crate) environments: BTreeMap<String, Environment>,
    pub(crate) rulesets: Vec<Ruleset>,
    pub(crate) requests: Vec<Seen>,
    pub(crate) violations: Vec<String>,
    pub(crate) faults: Vec<Fault>,
    /// Counts seconds from a fixed start, so that every run of a test sees the same times.
    #[serde(skip)]
    clock: i64,
    #[serde(skip)]
    last_id: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Deployment {
    pub(crate) id: u64,
    pub(crate) repository: String,
    pub(crate) sha: String,
    #[serde(rename = "ref")]
    pub(crate) ref_: String,
    pub(crate) task: String,
    pub(crate) environment: String,
    pub(crate) description: Option<String>,
    pub(crate) payload: Value,
    pub(crate) transient: bool,
    pub(crate) production: bool,
    pub(crate) creator: String,
    pub(crate) created_at: String,
    /// Oldest first.
    pub(crate) statuses: Vec<Status>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckRun {
    pub(crate) name: String,
    /// `success` and the like; nothing while it runs.
    pub(crate) conclusion: Option<String>,
    pub(crate) details_url: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pull {
    pub(crate) number: u64,
    pub(crate) title: String,
    pub(crate) merged: bool,
    /// The newest of its own commits.
    pub(crate) head: String,
    /// Those that GitHub knows it by, on any branch.
    pub(crate) commits: Vec<String>,
}

/// The settings of an environment: as in GitHub's own example, but for what is said here.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Environment {
    /// As in its answer: `null`, or which kind of policy there is.
    pub(crate) policy: Value,
    /// `branch` or `tag`, and the pattern.
    pub(crate) admitted: Vec<(String, String)>,
}

/// A ruleset for tags.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ruleset {
    pub(crate) name: String,
    pub(crate) enforcement: String,
    pub(crate) include: Vec<String>,
    /// As in its answer.
    pub(crate) rules: Value,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) id: u64,
    pub(crate) state: String,
    pub(crate) description: String,
    pub(crate) environment_url: String,
    pub(crate) log_url: String,
    pub(crate) created_at: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comment {
    pub(crate) id: u64,
    pub(crate) repository: String,
    pub(crate) issue: u64,
    pub(crate) body: String,
    pub(crate) author: String,
    pub(crate) edits: u32,
    pub(crate) created_at: String,
}

/// One request and how it was answered.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path as sent, without the base path, with its query.
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    /// 0 when the connection was dropped.
    pub(crate) status: u16,
}

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fault {
    /// Empty: any.
    pub(crate) method: String,
    /// A part of the path; empty: any.
    pub(crate) path: String,
    /// So many requests pass before it strikes.
    pub(crate) skip: u32,
    /// How often it strikes; `null`: for ever.
    pub(crate) times: Option<u32>,
    pub(crate) delay_ms: u64,
    /// The answer; 0 answers as usual (after the delay).
    pub(crate) status: u16,
    pub(crate) message: Option<String>,
    pub(crate) retry_after: Option<u64>,
    /// Closes the connection instead of answering.
    pub(crate) drop: bool,
    /// Does what was asked before it goes wrong: the answer is lost, not the request.
    pub(crate) after: bool,
}

/// An answer on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A request, taken apart. `segments` are decoded and start with `repos`.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) segments: Vec<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: Option<Value>,
    /// How the asker reached the API, such as `http://127.0.0.1:4010/api/v3`.
    pub(crate) api_url: String,
    /// The token may read only.
    pub(crate) read_only: bool,
}

/// What a script or a test puts in beforehand.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Seed {
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) runs: BTreeMap<u64, String>,
    pub(crate) deployments: Vec<SeedDeployment>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SeedDeployment {
    pub(crate) repository: String,
    pub(crate) environment: String,
    pub(crate) sha: String,
    pub(crate) task: String,
    pub(crate) payload: Value,
    pub(crate) creator: String,
    pub(crate) production: bool,
    pub(crate) statuses: Vec<String>,
    pub(crate) log_url: String,
}

impl Default for SeedDeployment {
    fn default() -> Self {
        Self {
            repository: "octo-org/shop".into(),
            environment: "production".into(),
            sha: "6113728f27ae82c7b1a177c8d03f9e96e0adf246".into(),
            task: "deploy".into(),
            payload: json!({}),
            creator: ACTIONS_BOT.into(),
            production: true,
            statuses: Vec::new(),
            log_url: String::new(),
        }
    }
}

const DOCS: &str = "https://docs.github.com/rest";
pub(crate) const ACTIONS_BOT: &str = "github-actions[bot]";
/// 2026-11-24T00:00:00Z
const START: i64 = 1_795_478_400;

impl Reply {
    fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            headers: Vec::new(),
        }
    }

    pub(crate) fn error(status: u16, message: &str) -> Self {
        Self::new(
            status,
            json!({"message": message, "documentation_url": DOCS, "status": status.to_string()}),
        )
    }

    fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    fn invalid(resource: &str, field: &str, code: &str) -> Self {
        Self::new(
            422,
            json!({
                "message": "Validation Failed",
                "errors": [{"resource": resource, "field": field, "code": code}],
                "documentation_url": "https://docs.github.com/rest",
                "status": "422",
            }),
        )
    }
}

impl World {
    pub(crate) fn seed(&mut self, seed: Seed) {
        self.refs.extend(seed.refs);
        self.runs.extend(seed.runs);
        for wanted in seed.deployments {
            let deployment = Deployment {
                id: self.next_id(),
                repository: wanted.repository,
                ref_: wanted.sha.clone(),
                sha: wanted.sha,
                task: wanted.task,
                environment: wanted.environment,
                description: None,
                payload: wanted.payload,
                transient: false,
                production: wanted.production,
                creator: wanted.creator,
                created_at: self.now(),
                statuses: Vec::new(),
            };
            self.deployments.push(deployment);
            let at = self.deployments.len() - 1;
            for state in wanted.statuses {
                let status = Status {
                    id: self.next_id(),
                    state,
                    description: String::new(),
                    environment_url: String::new(),
                    log_url: wanted.log_url.clone(),
                    created_at: self.now(),
                };
                self.deployments[at].statuses.push(status);
            }
        }
    }

    /// The fault that strikes this request, if any; it is used up by that.
    pub(crate) fn strike(&mut self, method: &str, path: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|fault| {
            (fault.method.is_empty() || fault.method == method)
                && (fault.path.is_empty() || path.contains(&fault.path))
        })?;
        let fault = &mut self.faults[at];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let struck = fault.clone();
        match &mut fault.times {
            Some(left) if *left <= 1 => {
                self.faults.remove(at);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Some(struck)
    }

    /// Does what is asked and answers.
    pub(crate) fn answer(&mut self, ask: &Ask, example: impl Fn(&str) -> Option<Value>) -> Reply {
        let segments: Vec<&str> = ask.segments.iter().map(String::as_str).collect();
        let ["repos", owner, repo, rest @ ..] = segments.as_slice() else {
            return Reply::not_found();
        };
        let repository = format!("{owner}/{repo}");
        if ask.read_only && ask.method != "GET" {
            return Reply::error(403, "Resource not accessible by integration");
        }
        match (ask.method.as_str(), rest) {
            ("GET", ["deployments"]) => self.list_deployments(ask, &repository),
            ("POST", ["deployments"]) => self.create_deployment(ask, &repository),
            ("GET", ["deployments", id]) => self.get_deployment(ask, id),
            ("GET", ["deployments", id, "statuses"]) => self.list_statuses(ask, id),
            ("POST", ["deployments", id, "statuses"]) => self.create_status(ask, id),
            ("GET", ["commits", reference]) => {
                self.get_commit(reference, example("/repos/{owner}/{repo}/commits/{ref}"))
            }
            ("GET", ["commits", _, "check-runs"]) => self.list_check_runs(
                ask,
                example("/repos/{owner}/{repo}/commits/{ref}/check-runs"),
            ),
            ("GET", ["commits", sha, "pulls"]) => self.list_pulls(
                ask,
                sha,
                example("/repos/{owner}/{repo}/commits/{commit_sha}/pulls"),
            ),
            ("GET", ["compare", between]) => self.compare(
                ask,
                between,
                example("/repos/{owner}/{repo}/compare/{basehead}"),
            ),
            ("GET", ["pulls", _, "reviews"]) => self.list_reviews(
                ask,
                example("/repos/{owner}/{repo}/pulls/{pull_number}/reviews"),
            ),
            ("GET", ["git", "matching-refs", prefix]) => {
                self.matching_refs(ask, &repository, prefix)
            }
            ("GET", ["actions", "runs", id]) => {
                self.get_run(id, example("/repos/{owner}/{repo}/actions/runs/{run_id}"))
            }
            ("GET", ["environments", name]) => self.get_environment(
                name,
                example("/repos/{owner}/{repo}/environments/{environment_name}"),
            ),
            ("GET", ["environments", name, "deployment-branch-policies"]) => {
                self.list_policies(ask, name)
            }
            ("GET", ["rulesets"]) => {
                self.list_rulesets(ask, example("/repos/{owner}/{repo}/rulesets"))
            }
            ("GET", ["rulesets", id]) => {
                self.get_ruleset(id, example("/repos/{owner}/{repo}/rulesets/{ruleset_id}"))
            }
            ("GET", ["issues", number, "comments"]) => self.list_comments(ask, &repository, number),
            ("POST", ["issues", number, "comments"]) => {
                self.create_comment(ask, &repository, number)
            }
            ("PATCH", ["issues", "comments", id]) => self.update_comment(ask, id),
            ("DELETE", ["issues", "comments", id]) => self.delete_comment(id),
            _ => Reply::not_found(),
        }
    }

    fn list_deployments(&self, ask: &Ask, repository: &str) -> Reply {
        let wanted =
            |name: &str, value: &str| ask.query.get(name).is_none_or(|query| query == value);
        let rows: Vec<Value> = self
            .deployments
            .iter()
            .rev()
            .filter(|row| {
                row.repository == repository
                    && wanted("environment", &row.environment)
                    && wanted("sha", &row.sha)
                    && wanted("ref", &row.ref_)
                    && wanted("task", &row.task)
            })
            .map(|row| deployment_json(row, &ask.api_url))
            .collect();
        paged(ask, rows)
    }

    fn create_deployment(&mut self, ask: &Ask, repository: &str) -> Reply {
        let body = ask.body.clone().unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let flag = |name: &str| body.get(name).and_then(Value::as_bool);
        let Some(ref_) = text("ref") else {
            return Reply::error(422, "Invalid request.\n\n\"ref\" wasn't supplied.");
        };
        let Some(sha) = self.resolve(&ref_) else {
            return Reply::error(422, &format!("No ref found for: {ref_}"));
        };
        if text("description").unwrap_or_default().chars().count() > 140 {
            return Reply::invalid("Deployment", "description", "invalid");
        }
        let environment = text("environment").unwrap_or_else(|| "production".to_owned());
        let deployment = Deployment {
            id: self.next_id(),
            repository: repository.to_owned(),
            sha,
            ref_,
            task: text("task").unwrap_or_else(|| "deploy".to_owned()),
            production: flag("production_environment").unwrap_or(environment == "production"),
            environment,
            description: text("description"),
            payload: body.get("payload").cloned().unwrap_or_else(|| json!("")),
            transient: flag("transient_environment").unwrap_or(false),
            creator: ACTIONS_BOT.to_owned(),
            created_at: self.now(),
            statuses: Vec::new(),
        };
        let reply = Reply::new(201, deployment_json(&deployment, &ask.api_url));
        self.deployments.push(deployment);
        reply
    }

    fn get_deployment(&self, ask: &Ask, id: &str) -> Reply {
        match self.position(id) {
            Some(at) => Reply::new(200, deployment_json(&self.deployments[at], &ask.api_url)),
            None => Reply::not_found(),
        }
    }

    fn list_statuses(&self, ask: &Ask, id: &str) -> Reply {
        let Some(at) = self.position(id) else {
            return Reply::not_found();
        };
        let row = &self.deployments[at];
        let statuses = row.statuses.iter().rev();
        paged(
            ask,
            statuses
                .map(|status| status_json(row, status, &ask.api_url))
                .collect(),
        )
    }

    fn create_status(&mut self, ask: &Ask, id: &str) -> Reply {
        const STATES: [&str; 7] = [
            "error",
            "failure",
            "inactive",
            "in_progress",
            "queued",
            "pending",
            "success",
        ];
        let Some(at) = self.position(id) else {
            return Reply::not_found();
        };
        let body = ask.body.clone().unwrap_or_default();
        let text = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if !STATES.contains(&text("state").as_str()) {
            return Reply::invalid("DeploymentStatus", "state", "invalid");
        }
        if text("description").chars().count() > 140 {
            return Reply::invalid("DeploymentStatus", "description", "invalid");
        }
        let log_url = Some(text("log_url"))
            .filter(|url| !url.is_empty())
            .unwrap_or_else(|| text("target_url"));
        self.push_status(
            at,
            &text("state"),
            &text("description"),
            &text("environment_url"),
            &log_url,
        );
        if text("state") == "success"
            && body.get("auto_inactive").and_then(Value::as_bool) != Some(false)
        {
            self.retire_before(at);
        }
        let row = &self.deployments[at];
        let newest = row
            .statuses
            .last()
            .map(|status| status_json(row, status, &ask.api_url));
        Reply::new(201, newest.unwrap_or_default())
    }

    /// GitHub's rule: earlier ones of the environment that are neither transient nor production and were successful.
    fn retire_before(&mut self, at: usize) {
        let (repository, environment) = (
            self.deployments[at].repository.clone(),
            self.deployments[at].environment.clone(),
        );
        for earlier in 0..at {
            let row = &self.deployments[earlier];
            let same = row.repository == repository && row.environment == environment;
            let live = row
                .statuses
                .last()
                .is_some_and(|status| status.state == "success");
            if same && live && !row.transient && !row.production {
                self.push_status(earlier, "inactive", "", "", "");
            }
        }
    }

    fn push_status(
        &mut self,
        at: usize,
        state: &str,
        description: &str,
        environment_url: &str,
        log_url: &str,
    ) {
        let status = Status {
            id: self.next_id(),
            state: state.to_owned(),
            description: description.to_owned(),
            environment_url: environment_url.to_owned(),
            log_url: log_url.to_owned(),
            created_at: self.now(),
        };
        self.deployments[at].statuses.push(status);
    }

    fn get_commit(&self, reference: &str, example: Option<Value>) -> Reply {
        let Some(sha) = self.resolve(reference) else {
            return Reply::error(422, &format!("No commit found for SHA: {reference}"));
        };
        let mut commit = example.unwrap_or_default();
        commit["sha"] = json!(sha);
        // GitHub's own example lists a file without two properties that its schema requires.
        commit["files"] = json!([]);
        Reply::new(200, commit)
    }

    fn list_check_runs(&self, ask: &Ask, example: Option<Value>) -> Reply {
        let pattern = example.unwrap_or_default()["check_runs"][0].clone();
        let row = |run: &CheckRun| {
            let mut row = pattern.clone();
            row["name"] = json!(run.name);
            row["details_url"] = json!(run.details_url);
            row["conclusion"] = json!(run.conclusion);
            row["status"] = match run.conclusion {
                Some(_) => json!("completed"),
                None => json!("in_progress"),
            };
            row
        };
        let mut reply = paged(ask, self.check_runs.iter().map(row).collect());
        reply.body = json!({"total_count": self.check_runs.len(), "check_runs": reply.body});
        reply
    }

    fn list_reviews(&self, ask: &Ask, example: Option<Value>) -> Reply {
        let pattern = example.unwrap_or_default()[0].clone();
        let row = |(author, state): &(String, String)| {
            let mut row = pattern.clone();
            row["user"] = user_json(author);
            row["state"] = json!(state);
            row
        };
        paged(ask, self.reviews.iter().map(row).collect())
    }

    fn list_pulls(&self, ask: &Ask, sha: &str, example: Option<Value>) -> Reply {
        let pattern = example.unwrap_or_default()[0].clone();
        let row = |pull: &Pull| {
            let mut row = pattern.clone();
            row["number"] = json!(pull.number);
            row["title"] = json!(pull.title);
            row["html_url"] = json!(format!("https://github.com/example/x/pull/{}", pull.number));
            row["head"]["sha"] = json!(pull.head);
            // GitHub's own example has a team without a property that its schema requires.
            row["requested_teams"] = json!([]);
            row["merged_at"] = match pull.merged {
                true => json!("2026-11-24T00:00:00Z"),
                false => Value::Null,
            };
            row
        };
        let knows = |pull: &&Pull| pull.commits.iter().any(|commit| commit == sha);
        paged(ask, self.pulls.iter().filter(knows).map(row).collect())
    }

    fn compare(&self, ask: &Ask, between: &str, example: Option<Value>) -> Reply {
        let Some(commits) = self.between.get(between) else {
            return Reply::not_found();
        };
        let mut comparison = example.unwrap_or_default();
        let pattern = comparison["commits"][0].clone();
        let row = |sha: &String| {
            let mut row = pattern.clone();
            row["sha"] = json!(sha);
            row
        };
        let mut reply = paged(ask, commits.iter().map(row).collect());
        comparison["total_commits"] = json!(commits.len());
        comparison["ahead_by"] = json!(commits.len());
        comparison["commits"] = reply.body;
        comparison["files"] = json!([]);
        reply.body = comparison;
        reply
    }

    fn matching_refs(&self, ask: &Ask, repository: &str, prefix: &str) -> Reply {
        let refs = self
            .refs
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        let rows: Vec<Value> = refs
            .map(|(name, sha)| {
                json!({
                    "ref": format!("refs/{name}"),
                    "node_id": "REF",
                    "url": format!("{}/repos/{repository}/git/refs/{name}", ask.api_url),
                    "object": {
                        "type": "commit",
                        "sha": sha,
                        "url": format!("{}/repos/{repository}/git/commits/{sha}", ask.api_url),
                    },
                })
            })
            .collect();
        Reply::new(200, json!(rows))
    }

    fn get_run(&self, id: &str, example: Option<Value>) -> Reply {
        let Some((id, status)) = id.parse().ok().and_then(|id| self.runs.get_key_value(&id)) else {
            return Reply::not_found();
        };
        let mut run = example.unwrap_or_default();
        run["id"] = json!(id);
        run["status"] = json!(status);
        run["conclusion"] = if status == "completed" {
            json!("success")
        } else {
            Value::Null
        };
        Reply::new(200, run)
    }

    fn get_environment(&self, name: &str, example: Option<Value>) -> Reply {
        let Some(environment) = self.environments.get(name) else {
            return Reply::not_found();
        };
        let mut shown = example.unwrap_or_default();
        shown["name"] = json!(name);
        shown["deployment_branch_policy"] = environment.policy.clone();
        Reply::new(200, shown)
    }

    fn list_policies(&self, ask: &Ask, name: &str) -> Reply {
        let Some(environment) = self.environments.get(name) else {
            return Reply::not_found();
        };
        let row = |(kind, pattern): &(String, String)| json!({"id": 1, "node_id": "POLICY", "name": pattern, "type": kind});
        let mut reply = paged(ask, environment.admitted.iter().map(row).collect());
        reply.body = json!({
            "total_count": environment.admitted.len(), "branch_policies": reply.body,
        });
        reply
    }

    /// Rulesets are known by their place in the list.
    fn list_rulesets(&self, ask: &Ask, example: Option<Value>) -> Reply {
        let pattern = example.unwrap_or_default()[0].clone();
        let row = |(at, ruleset): (usize, &Ruleset)| {
            let mut row = pattern.clone();
            row["id"] = json!(at);
            row["name"] = json!(ruleset.name);
            row["enforcement"] = json!(ruleset.enforcement);
            row["target"] = json!("tag");
            row
        };
        paged(ask, self.rulesets.iter().enumerate().map(row).collect())
    }

    fn get_ruleset(&self, id: &str, example: Option<Value>) -> Reply {
        let at = id.parse().unwrap_or(usize::MAX);
        let Some(ruleset) = self.rulesets.get(at) else {
            return Reply::not_found();
        };
        let mut shown = example.unwrap_or_default();
        shown["id"] = json!(at);
        shown["name"] = json!(ruleset.name);
        shown["target"] = json!("tag");
        shown["enforcement"] = json!(ruleset.enforcement);
        shown["conditions"]["ref_name"] = json!({"include": ruleset.include, "exclude": []});
        shown["rules"] = ruleset.rules.clone();
        Reply::new(200, shown)
    }

    fn list_comments(&self, ask: &Ask, repository: &str, number: &str) -> Reply {
        let rows = self
            .comments
            .iter()
            .filter(|row| row.repository == repository && row.issue.to_string() == number);
        paged(
            ask,
            rows.map(|row| comment_json(row, &ask.api_url)).collect(),
        )
    }

    fn create_comment(&mut self, ask: &Ask, repository: &str, number: &str) -> Reply {
        let Ok(issue) = number.parse() else {
            return Reply::not_found();
        };
        let comment = Comment {
            id: self.next_id(),
            repository: repository.to_owned(),
            issue,
            body: comment_body(ask),
            author: ACTIONS_BOT.to_owned(),
            edits: 0,
            created_at: self.now(),
        };
        if comment.body.chars().count() > 65_536 {
            return Reply::invalid("IssueComment", "body", "too_long");
        }
        let reply = Reply::new(201, comment_json(&comment, &ask.api_url));
        self.comments.push(comment);
        reply
    }

    fn update_comment(&mut self, ask: &Ask, id: &str) -> Reply {
        let Some(comment) = self
            .comments
            .iter_mut()
            .find(|row| row.id.to_string() == id)
        else {
            return Reply::not_found();
        };
        comment.body = comment_body(ask);
        comment.edits += 1;
        Reply::new(200, comment_json(comment, &ask.api_url))
    }

    fn delete_comment(&mut self, id: &str) -> Reply {
        let before = self.comments.len();
        self.comments.retain(|row| row.id.to_string() != id);
        match self.comments.len() < before {
            true => Reply::new(204, Value::Null),
            false => Reply::not_found(),
        }
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.deployments
            .iter()
            .position(|row| row.id.to_string() == id)
    }

    /// A full revision stands for itself; a branch or a tag is looked up.
    fn resolve(&self, reference: &str) -> Option<String> {
        let known = ["", "tags/", "heads/"]
            .iter()
            .find_map(|kind| self.refs.get(&format!("{kind}{reference}")));
        let full = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        known
            .cloned()
            .or_else(|| full.then(|| reference.to_owned()))
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn now(&mut self) -> String {
        self.clock += 1;
        jiff::Timestamp::from_second(START + self.clock)
            .map(|time| time.to_string())
            .unwrap_or_default()
    }
}

fn comment_body(ask: &Ask) -> String {
    let body = ask
        .body
        .as_ref()
        .and_then(|body| body.get("body"))
        .and_then(Value::as_str);
    body.unwrap_or_default().to_owned()
}

/// Cuts a list into pages and links them the way GitHub does, by the number of the repository.
fn paged(ask: &Ask, rows: Vec<Value>) -> Reply {
    let number = |name: &str, usual: usize| {
        ask.query
            .get(name)
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 0)
            .unwrap_or(usual)
    };
    let (size, page) = (number("per_page", 30).min(100), number("page", 1));
    let last = rows.len().div_ceil(size).max(1);
    let shown: Vec<Value> = rows
        .into_iter()
        .skip((page - 1) * size)
        .take(size)
        .collect();
    let mut reply = Reply::new(200, json!(shown));
    if page < last {
        let link = |page: usize, rel: &str| {
            let query: Vec<String> = ask
                .query
                .iter()
                .filter(|(name, _)| *name != "page")
                .map(|(name, value)| format!("{name}={value}"))
                .chain([format!("page={page}")])
                .collect();
            let [_, owner, name, rest @ ..] = ask.segments.as_slice() else {
                return String::new();
            };
            let id = super::server::repository_id(&format!("{owner}/{name}"));
            let mut url = url::Url::parse(&ask.api_url).expect("the asker reached it");
            url.path_segments_mut()
                .expect("it is http")
                .extend(["repositories", &id])
                .extend(rest);
            format!("<{url}?{}>; rel=\"{rel}\"", query.join("&"))
        };
        reply.headers.push((
            "link",
            format!("{}, {}", link(page + 1, "next"), link(last, "last")),
        ));
    }
    reply
}

fn deployment_json(row: &Deployment, api_url: &str) -> Value {
    let url = format!("{api_url}/repos/{}/deployments/{}", row.repository, row.id);
    json!({
        "url": url,
        "id": row.id,
        "node_id": format!("DE_{}", row.id),
        "sha": row.sha,
        "ref": row.ref_,
        "task": row.task,
        "payload": row.payload,
        "original_environment": row.environment,
        "environment": row.environment,
        "description": row.description,
        "creator": user_json(&row.creator),
        "created_at": row.created_at,
        "updated_at": row.created_at,
        "statuses_url": format!("{url}/statuses"),
        "repository_url": format!("{api_url}/repos/{}", row.repository),
        "transient_environment": row.transient,
        "production_environment": row.production,
        "performed_via_github_app": null,
    })
}

fn status_json(row: &Deployment, status: &Status, api_url: &str) -> Value {
    let url = format!("{api_url}/repos/{}/deployments/{}", row.repository, row.id);
    json!({
        "url": format!("{url}/statuses/{}", status.id),
        "id": status.id,
        "node_id": format!("DES_{}", status.id),
        "state": status.state,
        "creator": user_json(&row.creator),
        "description": status.description,
        "environment": row.environment,
        "target_url": status.log_url,
        "created_at": status.created_at,
        "updated_at": status.created_at,
        "deployment_url": url,
        "repository_url": format!("{api_url}/repos/{}", row.repository),
        "environment_url": status.environment_url,
        "log_url": status.log_url,
        "performed_via_github_app": null,
    })
}

fn comment_json(row: &Comment, api_url: &str) -> Value {
    let issue = format!("{api_url}/repos/{}/issues", row.repository);
    json!({
        "id": row.id,
        "node_id": format!("IC_{}", row.id),
        "url": format!("{issue}/comments/{}", row.id),
        "html_url": format!("https://github.com/{}/issues/{}#issuecomment-{}", row.repository, row.issue, row.id),
        "body": row.body,
        "user": user_json(&row.author),
        "created_at": row.created_at,
        "updated_at": row.created_at,
        "issue_url": format!("{issue}/{}", row.issue),
        "author_association": "NONE",
        "performed_via_github_app": null,
    })
}

fn user_json(login: &str) -> Value {
    let url = format!(
        "https://api.github.com/users/{}",
        login.replace('[', "%5B").replace(']', "%5D")
    );
    json!({
        "login": login,
        "id": 41_898_282,
        "node_id": "MDM6Qm90NDE4OTgyODI=",
        "avatar_url": "https://avatars.githubusercontent.com/in/15368?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": "https://github.com/apps/github-actions",
        "followers_url": format!("{url}/followers"),
        "following_url": format!("{url}/following{{/other_user}}"),
        "gists_url": format!("{url}/gists{{/gist_id}}"),
        "starred_url": format!("{url}/starred{{/owner}}{{/repo}}"),
        "subscriptions_url": format!("{url}/subscriptions"),
        "organizations_url": format!("{url}/orgs"),
        "repos_url": format!("{url}/repos"),
        "events_url": format!("{url}/events{{/privacy}}"),
        "received_events_url": format!("{url}/received_events"),
        "type": if login.ends_with("[bot]") { "Bot" } else { "User" },
        "site_admin": false,
    })
}
