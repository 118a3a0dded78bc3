//! A host that settles by itself: everything dies at once, Docker dies, the machine is cut off, an engine is suspended and
//! woken when its time is over. An engine that dies alone or with its runner is the kill matrix's.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{App, Flavour, ROOT, say};
use crate::sample::all_is_wanted;

on_every_host!(
    by turns:
    dockers_death_in_the_middle_is_settled_without_anybody;
    one run in four:
    what_docker_left_stopped_when_it_died_is_started_at_the_next_contact,
    containers_that_docker_died_busy_with_come_back_to_stay,
    dockers_death_while_a_stop_first_cutover_is_undone_is_no_outage,
    an_engine_that_is_woken_when_its_time_is_over_changes_nothing,
    what_dies_all_at_once_is_settled_at_the_next_contact,
    a_power_cut_in_the_middle_is_settled_at_boot;
);

/// How long a host may take to decide once its engine is gone.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
/// How late the news of a container's end may be, when Docker died.
const NEWS_WITHIN: Duration = Duration::from_secs(8);
/// How long Docker and a machine may take to come up.
pub(crate) const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long an engine may take that goes on and waits for a confirmation in vain: on a busy machine it may see Docker only
/// when it is back, whatever the test meant.
const ALONE_WITHIN: Duration = Duration::from_secs(180);

const NEWEST: &str = "newest=$(ls .belay/journal/*.log | tail -n 1)";

/// Looks until it is so; tells how long that took.
#[track_caller]
pub(crate) fn within(time: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < time, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    began.elapsed()
}

/// Whether the newest transaction has ended.
pub(crate) fn is_decided(app: &App) -> bool {
    let script =
        format!("cd {ROOT} && {NEWEST} && tail -n 1 $newest | grep -q '\"event\":\"end\"'");
    app.host.try_run(&script).status.success()
}

/// Suspends processes of the agent as soon as the next transaction has begun this step, and takes the runner away. Nothing
/// of it is left on the host then but what is suspended, and nobody will come.
pub(crate) fn suspend(app: &mut App, tag: &str, step: &str, whom: &str) {
    let script = format!(
        "cd {ROOT}
         journal=$(printf '.belay/journal/%08d.log' $(($(cat .belay/seq) + 1)))
         for i in $(seq 20000); do
             if grep -q '\"event\":\"started\",\"step\":\"{step}\"' $journal 2>/dev/null; then
                 pkill -STOP -f '{whom}' && exit 0
             fi
             sleep 0.002
         done
         exit 1"
    );
    let mut trap = Command::new("docker")
        .args(["exec", app.host.get("LAB_CONTAINER"), "sh", "-c", &script])
        .spawn()
        .expect("docker runs");
    let mut running = app.begin_push(tag);
    let caught = trap.wait().expect("it ends").success();
    running.kill();
    assert!(caught, "nobody was there at {step}: {}", running.log());
    within(DECIDED_WITHIN, "the runner's last call ends", || {
        !app.host
            .try_run("pgrep -f '[a]gent (follow|confirm|begin)'")
            .status
            .success()
    });
}

pub(crate) fn deployed(app: &mut App, tag: &str) {
    app.release(tag, "");
    app.push(tag).ends("deployed", tag);
}

fn what_dies_all_at_once_is_settled_at_the_next_contact(mut app: App) {
    deployed(&mut app, "v1.0.0");
    app.release("v1.1.0", "");
    suspend(&mut app, "v1.1.0", "cutover", "[a]gent (engine|watch)");
    app.host.run("pkill -KILL -f '[a]gent (engine|watch)'");
    assert!(!is_decided(&app), "who decided?");
    let status = app.belay(&["status"]);
    assert!(status.status.success());
    assert!(is_decided(&app));
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        told.contains("reboot:") && told.contains("at the next contact"),
        "{told}"
    );
    within(DECIDED_WITHIN, "it serves", || {
        app.serving().as_deref() == Some("v1.0.0")
    });
    app.check("");
}

/// The machine loses its power in the middle, and what cron or systemd run at its start is run.
fn a_power_cut_in_the_middle_is_settled_at_boot(mut app: App) {
    deployed(&mut app, "v1.0.0");
    for (number, step) in ["migrate", "cutover", "bake", "publish"].iter().enumerate() {
        let tag = format!("v1.{}.0", number + 1);
        app.release(&tag, "");
        suspend(&mut app, &tag, step, "[a]gent (engine|watch)");
        app.host.lose_power();
        // At once: the recovery itself waits for Docker.
        let recovery = app.host.run_as_user(&format!(
            "env -i HOME=$HOME PATH=/usr/bin:/bin sh {ROOT}/.belay/recover.sh"
        ));
        assert!(recovery.status.success(), "{recovery:?}");
        assert!(
            recovery.stdout.is_empty(),
            "cron would send mail: {recovery:?}"
        );
        assert!(is_decided(&app), "{step}");
        what_docker_did_to_others(&mut app);
        let serving = if *step == "publish" { &tag } else { "v1.0.0" };
        within(UP_WITHIN, "it serves", || {
            app.serving().as_deref() == Some(serving)
        });
        app.check("");
    }
    app.host.run(&format!("mv {ROOT}/.belay /tmp/.belay-gone"));
    let nothing = app.host.run_as_user("sh /tmp/.belay-gone/recover.sh");
    assert!(nothing.status.success(), "{nothing:?}");
    app.host.run(&format!("mv /tmp/.belay-gone {ROOT}/.belay"));
}

fn what_docker_left_stopped_when_it_died_is_started_at_the_next_contact(mut app: App) {
    deployed(&mut app, "v1.0.0");
    let running = |app: &App| {
        let project = app.host.project;
        app.host.run(&format!(
            "docker ps -q --filter label=com.docker.compose.project={project} | wc -l"
        ))
    };
    let before = running(&app);
    docker_dies(&mut app);
    assert_eq!(
        running(&app),
        "0",
        "this Docker starts them by itself: the recovery is not needed"
    );
    let status = app.belay(&["status"]);
    let told = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(told.contains("which Docker had stopped"), "{told}");
    assert_eq!(running(&app), before);
    within(DECIDED_WITHIN, "it serves", || {
        app.serving().as_deref() == Some("v1.0.0")
    });

    // A person's word counts, whether it came before Docker's death or after it.
    let worker = format!(
        "docker ps -aq --filter label=com.docker.compose.project={} --filter label=com.docker.compose.service=worker",
        app.host.project
    );
    let is_down = |app: &App| {
        app.host.run(&format!(
            "docker inspect -f '{{{{.State.Running}}}}' $({worker})"
        )) == "false"
    };
    app.host.run(&format!("docker stop $({worker})"));
    app.belay(&["status"]);
    assert!(is_down(&app), "stopped while Docker lived");
    docker_dies(&mut app);
    app.belay(&["status"]);
    assert!(is_down(&app), "stopped before Docker died");
    assert_eq!(app.serving().as_deref(), Some("v1.0.0"));
    deployed(&mut app, "v1.1.0");
}

/// Docker dies as it starts other processes in the containers, as it does for every healthcheck: what tells it that they
/// have ended is late then, and a container that was started before the news came would be taken down again, for ever.
fn containers_that_docker_died_busy_with_come_back_to_stay(mut app: App) {
    if is_left_out_on(&app) {
        return;
    }
    deployed(&mut app, "v1.0.0");
    let of_project = format!(
        "docker ps -aq --filter label=com.docker.compose.project={}",
        app.host.project
    );
    app.host.run(&format!(
        "touch /run/busy
         for container in $({of_project}); do
             for n in 1 2 3; do
                 (while [ -e /run/busy ]; do docker exec $container /app --self-test; done) >/dev/null 2>&1 &
             done
         done
         sleep 1"
    ));
    docker_dies(&mut app);
    app.host.run("rm /run/busy");
    app.belay(&["status"]);
    within(DECIDED_WITHIN, "it serves", || {
        app.serving().as_deref() == Some("v1.0.0")
    });
    std::thread::sleep(NEWS_WITHIN);
    let states = app.host.run(&format!(
        "docker inspect -f '{{{{.State.Status}}}} {{{{.RestartCount}}}}' $({of_project}) | sort -u"
    ));
    assert_eq!(states, "running 0");
    deployed(&mut app, "v1.1.0");
}

/// What takes long and hardly differs there.
fn is_left_out_on(app: &App) -> bool {
    let left_out = app.host.flavour == Flavour::Debian12 && !all_is_wanted();
    if left_out {
        say("SKIPPED, NOTHING WAS RUN: Docker's death on debian12 needs BELAY_FULL=1");
    }
    left_out
}

fn docker_dies(app: &mut App) {
    let old = app.host.run("pgrep -x dockerd");
    app.host.run("pkill -KILL -x dockerd");
    within(UP_WITHIN, "Docker is back", || {
        let new = app.host.try_run(&format!(
            "[ \"$(pgrep -x dockerd)\" != \"{old}\" ] && docker version"
        ));
        new.status.success()
    });
    what_docker_did_to_others(app);
}

/// A container without a restart policy stays as Docker's death left it: it is not Belay's to start.
pub(crate) fn what_docker_did_to_others(app: &mut App) {
    app.strangers = app.host.strangers();
    assert!(app.strangers.contains("exited"), "{}", app.strangers);
}

/// Docker dies under a transaction, and nobody is there: the engine fails, and its watch settles the host once Docker is
/// back. An engine that Docker's death passed by goes on with the new Docker, and back when nobody confirms.
fn dockers_death_in_the_middle_is_settled_without_anybody(mut app: App) {
    if is_left_out_on(&app) {
        return;
    }
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    deployed(&mut app, "v1.0.0");
    for (tag, step, is_noticed) in [
        ("v1.1.0", "backup", true),
        ("v1.2.0", "bake", true),
        ("v1.3.0", "backup", false),
    ] {
        app.release(tag, "");
        suspend(&mut app, tag, step, "[a]gent engine");
        if is_noticed {
            app.host.run("pkill -KILL -x dockerd");
        } else {
            docker_dies(&mut app);
        }
        app.host.run("pkill -CONT -f '[a]gent engine'");
        let decided = within(ALONE_WITHIN, step, || is_decided(&app));
        what_docker_did_to_others(&mut app);
        let took = within(UP_WITHIN, "it serves", || {
            app.serving().as_deref() == Some("v1.0.0")
        });
        say(&format!(
            "e2e: Docker killed at {step}, decided after {decided:.1?}, serving {took:.1?} later"
        ));
        app.host
            .run(&format!("flock -w 20 {ROOT}/.belay/watch true"));
        app.check("");
    }
    deployed(&mut app, "v1.4.0");
}

/// What a woken engine could have changed.
fn look(app: &App) -> String {
    app.host.run(&format!(
        "docker ps -a --no-trunc --format '{{{{.ID}}}} {{{{.State}}}}' | sort
         docker ps -aq | xargs docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}} {{{{.HostConfig.RestartPolicy.Name}}}}' | sort
         docker images --no-trunc --format '{{{{.Repository}}}}:{{{{.Tag}}}} {{{{.ID}}}}' | sort
         cd {ROOT} && find . -type f ! -name engine.log -exec sha256sum {{}} + | sort -k 2"
    ))
}

fn an_engine_that_is_woken_when_its_time_is_over_changes_nothing(mut app: App) {
    deployed(&mut app, "v1.0.0");
    // The others are as well, with the time that they take: `dist-scripts/test --full`.
    let steps: &[&str] = match all_is_wanted() {
        true => &[
            "preflight",
            "unpack",
            "fetch",
            "backup",
            "migrate",
            "cutover",
            "bake",
            "confirm",
            "publish",
        ],
        false => &["cutover", "publish"],
    };
    let mut woken = 0;
    for (number, step) in steps.iter().enumerate() {
        let tag = format!("v1.{}.0", 2 * number + 1);
        app.release(&tag, "");
        suspend(&mut app, &tag, step, "[a]gent engine");
        let engine = app.host.run("pgrep -f '[a]gent engine --root'");
        let state = format!("cut -d' ' -f3 /proc/{engine}/stat");
        // What it had begun before it was suspended goes on in other processes, and is over before the next one comes.
        within(UP_WITHIN, "its children end", || {
            let children = app.host.run(&format!(
                "for child in $(pgrep -P {engine}); do grep -qa watch /proc/$child/cmdline || \
                 grep -q '^State:.Z' /proc/$child/status || echo $child; done"
            ));
            children.is_empty()
        });
        // A lock file that is removed: the one way in while an engine is suspended.
        app.host.run(&format!("rm {ROOT}/.belay/lock"));
        let next = format!("v1.{}.0", 2 * number + 2);
        deployed(&mut app, &next);
        assert_eq!(app.host.run(&state), "T", "it slept through all of it");
        let before = look(&app);
        app.host.run(&format!("kill -CONT {engine}"));
        within(DECIDED_WITHIN, "it ends", || {
            !app.host
                .try_run(&format!("grep -q '^State:.[RSDT]' /proc/{engine}/status"))
                .status
                .success()
        });
        woken += 1;
        assert_eq!(look(&app), before, "woken in {step}");
        assert_eq!(app.serving().as_deref(), Some(next.as_str()));
        let log = app.host.run(&format!("tail -n 1 {ROOT}/.belay/engine.log"));
        assert!(log.contains("may not act any more"), "{step}: {log}");
        app.check("");
    }
    assert_eq!(woken, steps.len());
    deployed(&mut app, "v1.30.0");
}

/// Docker dies while a stop-first cutover is undone, at several moments of it: it may keep the port of a container that is
/// no more, or a container whose process it has lost. What serves comes back by itself.
fn dockers_death_while_a_stop_first_cutover_is_undone_is_no_outage(mut app: App) {
    app.edit("belay.yml", |text| {
        let text = text.replace(
            "web: {strategy: start-first}",
            "web: {strategy: stop-first}",
        );
        format!("{text}confirm: 10s\n")
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let moments: &[u32] = match all_is_wanted() {
        true => &[
            100, 200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1500, 2000,
        ],
        false => &[500],
    };
    let mut worst = Duration::ZERO;
    for (number, moment) in moments.iter().enumerate() {
        let tag = format!("v1.{}.0", number + 1);
        app.release(&tag, "status500-after:1");
        let script = format!(
            "cd {ROOT}
             journal=$(printf '.belay/journal/%08d.log' $(($(cat .belay/seq) + 1)))
             for i in $(seq 60000); do
                 if grep -q '\"event\":\"undo-started\",\"step\":\"cutover\"' $journal 2>/dev/null; then
                     sleep $(awk 'BEGIN {{ print {moment} / 1000 }}')
                     pkill -KILL -x dockerd && exit 0
                 fi
                 sleep 0.002
             done
             exit 1"
        );
        let mut trap = Command::new("docker")
            .args(["exec", app.host.get("LAB_CONTAINER"), "sh", "-c", &script])
            .spawn()
            .expect("docker runs");
        let run = app.begin_push(&tag).ended();
        assert!(
            trap.wait().expect("it ends").success(),
            "no undo: {}",
            run.log
        );
        app.host.await_docker();
        let took = within(ALONE_WITHIN, "it is decided", || is_decided(&app))
            + within(ALONE_WITHIN, "it serves", || {
                app.serving().as_deref() == Some("v1.0.0")
            });
        worst = worst.max(took);
        say(&format!(
            "e2e: Docker killed {moment} ms into the undo of a stop-first cutover: {} ({took:.1?} after the job)",
            run.output("outcome")
        ));
        what_docker_did_to_others(&mut app);
        app.check("");
    }
}
