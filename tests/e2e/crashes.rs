//! A runner that dies: the host goes back by itself, and the last step of the job tells the truth on GitHub. What dies at
//! which step is the kill matrix's.

use crate::lab::App;

on_every_host!(
    one run in four:
    a_host_left_alone_goes_back_and_the_last_step_says_so;
);

fn a_host_left_alone_goes_back_and_the_last_step_says_so(mut app: App) {
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let (tag, step) = ("v1.2.0", "bake");
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
    app.release("v1.3.0", "");
    app.push("v1.3.0").ends("deployed", "v1.3.0");
}
