//! Death at any moment: of the host's engine, of the runner, of both. The old version or the new one serves, the run or
//! its last step tells the truth, and nobody has to unlock anything.

use std::process::{Child, Command, Stdio};

use crate::lab::{App, ROOT, Run};

const STEPS: [&str; 14] = [
    "preflight",
    "unpack",
    "fetch",
    "backup",
    "migrate",
    "start",
    "probe",
    "cutover",
    "bake",
    "confirm",
    "publish",
    "drain",
    "retire",
    "prune",
];

/// Kills the engine on the host as soon as its journal says that this step has started.
fn trap(app: &App, step: &str) -> Child {
    // The pattern does not match the shell that carries it.
    let script = format!(
        "cd {ROOT}; old=$(ls .belay/journal/*.log 2>/dev/null | tail -n 1)
         for i in $(seq 12000); do
             new=$(ls .belay/journal/*.log 2>/dev/null | tail -n 1)
             if [ \"$new\" != \"$old\" ] && grep -q '\"event\":\"started\",\"step\":\"{step}\"' \"$new\"; then
                 pkill -KILL -f '[a]gent engine' && echo killed
                 exit
             fi
             sleep 0.002
         done"
    );
    let mut command = Command::new("docker");
    command.args(["exec", app.host.get("LAB_CONTAINER"), "sh", "-c", &script]);
    command.stdout(Stdio::piped()).spawn().expect("docker runs")
}

fn was_killed(trap: Child) -> bool {
    let output = trap.wait_with_output().expect("the trap ends");
    String::from_utf8_lossy(&output.stdout).contains("killed")
}

/// The run said what is so; returns the version that serves now.
fn told_the_truth(run: &Run, old: &str, new: &str) -> String {
    match run.output("outcome") {
        "deployed" => run.ends("deployed", new),
        // It was killed before it had touched the application.
        "refused" => run.ends("refused", old),
        _ => run.ends("rolled-back", old),
    };
    run.output("version").to_owned()
}

#[test]
fn an_engine_may_be_killed_at_every_step() {
    let Some(mut app) = App::start("an_engine_may_be_killed_at_every_step") else {
        return;
    };
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let mut serving = "v1.0.0".to_owned();
    let mut kills = 0;
    for (number, step) in STEPS.iter().enumerate() {
        let tag = format!("v1.{}.0", number + 1);
        app.release(&tag, "");
        let trap = trap(&app, step);
        let run = app.push(&tag);
        let killed = was_killed(trap);
        kills += usize::from(killed);
        let old = serving.clone();
        serving = told_the_truth(&run, &old, &tag);
        // After the commit point there is no way back, and before its step there is no way on.
        if number > 9 {
            assert_eq!(serving, tag, "killed at {step}\n{}", run.log);
        }
        if killed && number < 9 {
            assert_eq!(serving, old, "killed at {step}\n{}", run.log);
        }
    }
    // The engine is quicker than the trap in the shortest steps, which is not the rule.
    assert!(kills >= 12, "only {kills} of 14 engines were killed");
    app.release("v1.20.0", "");
    app.push("v1.20.0").ends("deployed", "v1.20.0");
}

#[test]
fn what_a_dead_runner_and_a_dead_engine_left_is_settled_by_the_next_run() {
    let Some(mut app) =
        App::start("what_a_dead_runner_and_a_dead_engine_left_is_settled_by_the_next_run")
    else {
        return;
    };
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    for (number, step) in ["backup", "cutover", "bake", "publish"]
        .into_iter()
        .enumerate()
    {
        let broken = format!("v1.{}.0", 2 * number + 1);
        app.release(&broken, "");
        let trap = trap(&app, step);
        let mut running = app.begin_push(&broken);
        running.wait_for(&format!("14 {step}"));
        running.kill();
        was_killed(trap);
        let next = format!("v1.{}.0", 2 * number + 2);
        app.release(&next, "");
        app.push(&next).ends("deployed", &next);
    }
}

#[test]
fn a_host_left_alone_goes_back_and_the_last_step_says_so() {
    let Some(mut app) = App::start("a_host_left_alone_goes_back_and_the_last_step_says_so") else {
        return;
    };
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    for (tag, step) in [("v1.1.0", "backup"), ("v1.2.0", "bake")] {
        app.release(tag, "");
        let mut running = app.begin_push(tag);
        running.wait_for(&format!("14 {step}"));
        running.kill();
        let told = app.finalize(&running);
        assert_eq!(told.output("outcome"), "rolled-back", "{}", told.log);
        assert_eq!(
            (told.output("version"), told.serving.as_deref()),
            ("v1.0.0", Some("v1.0.0"))
        );
        let sha = app.commit_of(tag);
        let record = app
            .deployments()
            .into_iter()
            .find(|d| d.sha == sha)
            .expect("a record");
        assert!(
            app.states(&record).contains(&"failure".to_owned()),
            "{record:?}"
        );
    }
    app.release("v1.3.0", "");
    app.push("v1.3.0").ends("deployed", "v1.3.0");
}
