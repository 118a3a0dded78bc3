//! A machine that systemd runs: what Belay installs there settles the host when it starts, and starts what a crash of
//! Docker has left stopped, with nobody there.

use crate::lab::{App, Flavour, Often, ROOT, run};
use crate::recovery::{
    UP_WITHIN, deployed, is_decided, suspend, what_docker_did_to_others, within,
};

#[test]
fn a_unit_of_the_users_settles_a_power_cut() {
    run(
        Flavour::Systemd,
        Often::OneRunInFour,
        "a_unit_of_the_users",
        users_unit,
    );
}

#[test]
fn a_unit_of_the_system_settles_a_power_cut_and_a_crash_of_docker() {
    run(
        Flavour::Systemd,
        Often::OneRunInFour,
        "a_unit_of_the_system",
        system_unit,
    );
}

fn users_unit(mut app: App) {
    forget_units(&app);
    deployed(&mut app, "v1.0.0");
    // Without the right to run anything while nobody is logged in, and without cron.
    says(&app, "at the next contact");
    app.host.run("loginctl enable-linger deploy");
    deployed(&mut app, "v1.1.0");
    says(&app, "systemd user unit");
    survives_power_cuts(&mut app, "v1.1.0");
}

fn system_unit(mut app: App) {
    forget_units(&app);
    app.host.log_in_as("root");
    deployed(&mut app, "v1.1.0");
    says(&app, "systemd unit");
    survives_power_cuts(&mut app, "v1.1.0");

    app.host.run("pkill -KILL -x dockerd");
    app.host.await_docker();
    what_docker_did_to_others(&mut app);
    within(UP_WITHIN, "it serves, and nobody came", || {
        app.serving().as_deref() == Some("v1.1.0")
    });
}

/// A cut before the commit brings the old version back, one after it leaves the new one.
fn survives_power_cuts(app: &mut App, old: &str) {
    for (tag, step, serving) in [("v1.2.0", "cutover", old), ("v1.3.0", "publish", "v1.3.0")] {
        app.release(tag, "");
        suspend(app, tag, step, "[a]gent (engine|watch)");
        app.host.lose_power();
        within(UP_WITHIN, step, || is_decided(app));
        what_docker_did_to_others(app);
        within(UP_WITHIN, "it serves", || {
            app.serving().as_deref() == Some(serving)
        });
        app.check("");
    }
    app.rollback(old).ends("deployed", old);
}

#[track_caller]
fn says(app: &App, words: &str) {
    let status = app.belay(&["status"]);
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(told.contains(words), "{told}");
}

/// What the test before has installed.
fn forget_units(app: &App) {
    app.host.run(&format!(
        "loginctl disable-linger deploy; rm -rf /home/deploy/.config/systemd /var/lib/systemd/linger/deploy
         rm -f $(find /etc/systemd/system -name 'belay-*')
         systemctl daemon-reload
         test ! -e {ROOT}/.belay"
    ));
}
