//! Versions that do not work: each ends with the old version serving, exit 20, `failure` on GitHub and nothing left.

use crate::lab::{App, ROOT};

on_every_host!(
    by turns:
    versions_that_do_not_answer_go_back;
    one run in four:
    wrong_or_late_failures_go_back,
    a_degraded_version_is_accepted_with_a_warning,
    a_first_deployment_that_fails_leaves_nothing,
    an_image_that_fails_its_test_never_travels;
);

/// Deploys v1.0.0, then whatever `v1.1.0` prepares, and checks all that must hold when that was no good.
fn goes_back(app: &mut App, prepare: impl FnOnce(&App)) -> crate::lab::Run {
    if app.serving().is_none() {
        app.release("v1.0.0", "");
        app.push("v1.0.0").ends("deployed", "v1.0.0");
        // The first failure's backup is the last thing that a failed deployment may leave.
        app.http("POST", "/data", "precious")
            .expect("the application answers");
    }
    let before = (app.images(), app.belongings());
    let file = app.host.run(&format!("cat {ROOT}/docker-compose.yml"));
    prepare(app);
    let tags = app.git(&["tag", "--sort=-creatordate"]);
    let tag = tags.lines().next().expect("a tag").to_owned();
    let run = app.push(&tag);
    run.ends("rolled-back", "v1.0.0");
    assert_eq!(run.output("rolled-back"), "true");
    assert_eq!(run.output("version"), "v1.0.0");
    assert_eq!((app.images(), app.belongings()), before, "{}", run.log);
    assert_eq!(
        app.host.run(&format!("cat {ROOT}/docker-compose.yml")),
        file
    );
    let (_, note) = app
        .http("GET", "/data", "")
        .expect("the application answers");
    assert_eq!(note, "precious");
    let sha = app.commit_of(&tag);
    let failed = app
        .deployments()
        .into_iter()
        .find(|d| d.sha == sha && d.task == "deploy");
    let failed = failed.expect("GitHub has a record");
    assert!(
        app.states(&failed).contains(&"failure".to_owned()),
        "{failed:?}"
    );
    assert!(run.log.contains("::error"), "{}", run.log);
    run
}

fn versions_that_do_not_answer_go_back(mut app: App) {
    goes_back(&mut app, |app| app.release("v1.1.0", "all500"));
    goes_back(&mut app, |app| app.release("v1.2.0", "exit"));
    goes_back(&mut app, |app| app.release("v1.3.0", "status500")).says("500");
    goes_back(&mut app, |app| app.release("v1.4.0", "hang"));
}

fn wrong_or_late_failures_go_back(mut app: App) {
    let wrong = [("APP_REPORT_VERSION", "v0.0.9")];
    goes_back(&mut app, |app| app.release_with("v1.1.0", &wrong)).says("v0.0.9");
    goes_back(&mut app, |app| {
        app.edit("belay.yml", |text| text.replace("bake: 1s", "bake: 4s"));
        app.release("v1.2.0", "bad-after:2500");
    });
    goes_back(&mut app, |app| {
        app.edit("belay.yml", |text| {
            text.replace("  test: [\"/app\", \"--self-test\"]\n", "  keep: 3\n")
        });
        app.edit("Dockerfile", |text| {
            text.replace("ENTRYPOINT [\"/app\"]", "ENTRYPOINT [\"/missing\"]")
        });
        app.release("v1.3.0", "");
    });
}

fn a_degraded_version_is_accepted_with_a_warning(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    app.release("v1.1.0", "hang-primary");
    let run = app.push("v1.1.0");
    run.ends("deployed", "v1.1.0").says("degraded");
    assert!(run.log.contains("::warning"), "{}", run.log);
}

fn a_first_deployment_that_fails_leaves_nothing(mut app: App) {
    app.release("v1.0.0", "all500");
    let run = app.push("v1.0.0");
    run.ends("rolled-back", "");
    assert_eq!(app.belongings(), Vec::<String>::new());
    assert_eq!(app.images(), Vec::<String>::new());
    assert_eq!(app.host.run(&format!("ls -A {ROOT}")), ".belay");
    assert_eq!(app.host.run(&format!("ls -A {ROOT}/.belay/releases")), "");
    app.release("v1.1.0", "");
    app.push("v1.1.0").ends("deployed", "v1.1.0");
}

fn an_image_that_fails_its_test_never_travels(mut app: App) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let images = app.images();
    app.release_with("v1.1.0", &[("APP_SELF_TEST", "fail")]);
    app.push("v1.1.0")
        .ends("refused", "v1.0.0")
        .says("self-test");
    assert_eq!(app.images(), images);
}
