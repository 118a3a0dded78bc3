//! The kill matrix: every fault at every step, just before its work and just after it, while requests come.
//!
//! Each cell is one deployment with one fault. Whatever happened, the host decides by itself for the old version or the
//! new one; that one serves; journal, run and last step of the job tell the same; the lock is free; nothing is left over;
//! no request failed where Docker lived; and the next deployment needs nobody's help. `BELAY_FULL=1` plays every cell on
//! every host, which takes hours; `BELAY_FULL=each` every fault once at each step, by turns before and after, by turns on
//! either host; `BELAY_CELL` names the cells to look at. Without it only the faults that leave Docker and the disk alone are
//! played like that, at one step in three and on one kind of host, so that six runs come by all of them: which ones is told,
//! and `BELAY_SAMPLE` brings them again. The table of all cells that were played is in target/kill-matrix.md.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use belay_model::transaction::step::Step;

use crate::faults::{Fault, Moment, Trap, Wire, give_a_small_disk};
use crate::lab::{App, Flavour, ROOT, Run, Running, checkout, say};
use crate::load::{Load, Report, Shape};
use crate::sample::{all_is_wanted, sample};

on_every_host!(
    always:
    the_runner_may_be_killed,
    the_engine_may_be_killed,
    both_may_be_killed,
    the_link_may_be_reset,
    the_link_may_fall_silent,
    docker_may_be_killed,
    docker_may_be_restarted,
    the_disk_may_be_full,
    the_power_may_be_cut;
);

fn the_runner_may_be_killed(app: App) {
    play_all(app, Fault::RunnerKilled);
}

fn the_engine_may_be_killed(app: App) {
    play_all(app, Fault::EngineKilled);
}

fn both_may_be_killed(app: App) {
    play_all(app, Fault::BothKilled);
}

fn the_link_may_be_reset(app: App) {
    play_all(app, Fault::LinkReset);
}

fn the_link_may_fall_silent(app: App) {
    play_all(app, Fault::LinkSilent);
}

fn docker_may_be_killed(app: App) {
    play_all(app, Fault::DockerKilled);
}

fn docker_may_be_restarted(app: App) {
    play_all(app, Fault::DockerRestarted);
}

fn the_disk_may_be_full(app: App) {
    play_all(app, Fault::DiskFull);
}

fn the_power_may_be_cut(app: App) {
    play_all(app, Fault::PowerCut);
}

/// Requests a second in the meantime: enough to notice, and little work for the machine.
const RATE: u32 = 50;
/// How long a host may take to decide, with nobody to ask, however busy the machine is: a whole transaction and the
/// confirmation's time are in it.
const DECIDED_WITHIN: Duration = Duration::from_secs(120);
/// How long until it serves, from when the host has decided; where Docker died, from its return.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// How long a last process may take to put away its own file.
const TIDY_WITHIN: Duration = Duration::from_secs(5);
const LOCK_WITHIN: Duration = Duration::from_secs(1);
/// From Docker's death until something starts it again: the lab does that at once.
const RESTARTED_WITHIN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    fault: Fault,
    step: Step,
    moment: Moment,
}

/// How much is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Short,
    Each,
    Full,
}

impl Tier {
    fn wanted() -> Tier {
        match std::env::var("BELAY_FULL").as_deref() {
            _ if all_is_wanted() => Tier::Full,
            Ok("each") => Tier::Each,
            _ => Tier::Short,
        }
    }

    fn plays(
        self,
        sample: usize,
        fault: Fault,
        number: usize,
        moment: Moment,
        flavour: Flavour,
    ) -> bool {
        let is_its_turn = is_its_turn(fault, number, moment, flavour);
        match self {
            Tier::Full => true,
            Tier::Each => is_its_turn,
            Tier::Short => {
                let is_sampled = number % STEPS_OF == sample % STEPS_OF;
                let is_its_host = (sample / STEPS_OF + fault as usize) % 2 == flavour as usize;
                is_its_turn && is_sampled && is_its_host && fault <= Fault::LinkReset
            }
        }
    }
}

/// Of how many steps a usual run plays one.
const STEPS_OF: usize = 7;
/// After how many samples that follow each other every cell of the usual runs was played: each on one kind of host, which
/// changes when the steps are through.
const SAMPLES: usize = 2 * STEPS_OF;

/// What is played on this kind of host.
fn cells(fault: Fault, flavour: Flavour, tier: Tier, sample: usize) -> Vec<Cell> {
    let steps = Step::ALL.into_iter().enumerate();
    steps
        .flat_map(|(number, step)| {
            Moment::ALL
                .into_iter()
                .map(move |moment| (number, step, moment))
        })
        .filter(|(number, _, moment)| tier.plays(sample, fault, *number, *moment, flavour))
        .map(|(_, step, moment)| Cell {
            fault,
            step,
            moment,
        })
        .filter(is_asked_for)
        .collect()
}

/// `BELAY_CELL="after probe"` plays that one alone, to look at it; there may be several, with commas between.
fn is_asked_for(cell: &Cell) -> bool {
    let name = format!("{} {}", cell.moment.name(), cell.step);
    std::env::var("BELAY_CELL").map_or(true, |wanted| wanted.split(',').any(|w| w == name))
}

/// Each step once: by turns before and after, by turns on either host, and the next fault the other way round.
fn is_its_turn(fault: Fault, number: usize, moment: Moment, flavour: Flavour) -> bool {
    let fault_number = fault as usize;
    let turn = Moment::ALL[(number + fault_number) % 2];
    let host = [Flavour::Debian13, Flavour::Debian12][(number / 2 + fault_number) % 2];
    (moment, flavour) == (turn, host)
}

/// One cell, played.
#[derive(Clone, Debug)]
struct Row {
    cell: Cell,
    flavour: Flavour,
    told: String,
    serving: String,
    decided: Duration,
    requests: Option<Report>,
    troubles: Vec<String>,
}

fn play_all(mut app: App, fault: Fault) {
    let tier = Tier::wanted();
    let cells = cells(fault, app.host.flavour, tier, sample());
    let Some(last) = cells.last().copied() else {
        return say(&format!(
            "SKIPPED, NOTHING WAS RUN: {} on {} needs BELAY_FULL=1",
            fault.name(),
            app.host.name
        ));
    };
    match tier {
        Tier::Full | Tier::Each => {}
        Tier::Short => say(&format!(
            "{} on {}: {} cells, one step in {STEPS_OF} (BELAY_SAMPLE={})",
            fault.name(),
            app.host.name,
            cells.len(),
            sample() % SAMPLES
        )),
    }
    if fault == Fault::DiskFull {
        give_a_small_disk(&app.host);
    }
    if fault.takes_the_runner() {
        app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    }
    let wire = Wire::of(&mut app);
    let mut serving = deployed(&mut app, "v1.0.0").expect("the first deployment works");
    let mut failed = vec![];
    for (number, cell) in cells.into_iter().enumerate() {
        let tag = format!("v1.{}.0", 2 * number + 1);
        let mut row = play(&mut app, &wire, cell, &serving, &tag);
        serving = row.serving.clone();
        // The next cell begins with a deployment anyway; but its own fault could hide what this one left.
        if tier == Tier::Full || cell == last || !row.troubles.is_empty() {
            match deployed(&mut app, &format!("v1.{}.0", 2 * number + 2)) {
                Ok(next) => serving = next,
                Err(why) => row.troubles.push(format!("the next deployment: {why}")),
            }
        }
        if !row.troubles.is_empty() {
            failed.push(row.clone());
        }
        write_down(row);
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A deployment that nothing happens to.
fn deployed(app: &mut App, tag: &str) -> Result<String, String> {
    app.release(tag, "");
    let running = app.begin_push(tag);
    let run = app.wait(running);
    let (outcome, serving) = (run.output("outcome"), run.serving.as_deref());
    match (outcome, serving) {
        ("deployed", Some(serving)) if serving == tag => Ok(tag.to_owned()),
        other => Err(format!("{other:?}\n{}", run.log)),
    }
}

fn play(app: &mut App, wire: &Wire, cell: Cell, old: &str, tag: &str) -> Row {
    app.release(tag, "");
    let seq = app.host.run(&format!("cat {ROOT}/.belay/seq"));
    let seq = seq.parse::<u64>().expect("a number") + 1;
    let mut troubles = vec![];
    let load = start_load(app).map_err(|why| troubles.push(why)).ok();
    let mut trap = Trap::set(&app.host, cell.step, cell.moment, cell.fault);
    let mut running = app.begin_push(tag);
    let sprung = trap.sprung();
    if sprung {
        cell.fault.outside_the_host(&app.host, &mut running, wire);
    } else {
        troubles.push("its moment never came".to_owned());
    }
    let dead = sprung && cell.fault.takes_the_runner();
    let run = (!dead).then(|| running.ended());
    cell.fault.heal(&app.host, wire);
    let (end, decided) = within(DECIDED_WITHIN, || end_of(app, seq));
    let expected = if end.as_deref() == Some("committed") {
        tag
    } else {
        old
    };
    let serves = || {
        let _ = within(SERVES_WITHIN, || {
            (app.serving().as_deref() == Some(expected)).then_some(())
        });
    };
    if cell.fault.takes_docker() {
        // What is promised counts from Docker's return, for which it may take its time.
        app.host.await_docker();
        // What starts the containers that Docker left stopped has the lock until the last of them runs.
        serves();
        let _ = within(SERVES_WITHIN, || nothing_is_down(app).then_some(()));
        troubles.extend(lock_is_held(app));
    } else {
        troubles.extend(lock_is_held(app));
        serves();
    }
    let serving = app.serving().unwrap_or_default();
    let requests = load.map(Load::stop);
    let run = run.or_else(|| last_step(app, cell.fault, &running));
    match end.as_deref() {
        Some(end) => troubles.extend(
            run.as_ref()
                .and_then(|run| is_untrue(run, end, expected, dead)),
        ),
        // A host whose disk was full may need the next contact, which the next deployment is.
        None if cell.fault == Fault::DiskFull => {}
        None => troubles.push(format!("it did not decide within {DECIDED_WITHIN:?}")),
    }
    if serving != expected {
        troubles.push(format!("{expected} should serve, and it is {serving:?}"));
    }
    if cell.fault.takes_docker() {
        // A container without a restart policy stays as Docker left it: it is not Belay's to start.
        app.strangers = app.host.strangers();
        let allowed = SERVES_WITHIN + RESTARTED_WITHIN + start_of_docker(app);
        troubles.extend(requests.as_ref().and_then(|r| too_long_a_gap(r, allowed)));
    } else {
        troubles.extend(requests.as_ref().and_then(failed_requests));
    }
    if end.is_some() {
        let mut left = vec![];
        let _ = within(TIDY_WITHIN, || {
            left = app.troubles();
            left.is_empty().then_some(())
        });
        troubles.extend(left);
    }
    if !troubles.is_empty() {
        troubles.push(running.log());
        let told = app.host.try_run(&format!(
            "cd {ROOT}/.belay && tail -n 20 engine.log; cat journal/{seq:08}.log; docker ps -a; tail -n 60 /var/log/lab/dockerd.log"
        ));
        troubles.push(String::from_utf8_lossy(&told.stdout).into_owned());
    }
    Row {
        cell,
        flavour: app.host.flavour,
        told: run
            .map(|run| run.output("outcome").to_owned())
            .unwrap_or_default(),
        serving,
        decided,
        requests,
        troubles,
    }
}

fn start_load(app: &App) -> Result<Load, String> {
    Load::start(app.addr(), Shape::stream(RATE, Duration::from_secs(300)))
        .map_err(|e| e.to_string())
}

/// What the job's last step says of a runner that is gone; nothing where the whole machine is.
fn last_step(app: &App, fault: Fault, running: &Running) -> Option<Run> {
    match fault {
        Fault::RunnerKilled => Some(app.wait(app.begin_finalize(running))),
        _ => None,
    }
}

/// How the journal of this transaction ends, when it does.
fn end_of(app: &App, seq: u64) -> Option<String> {
    let said = app.host.try_run(&format!(
        "tail -n 1 {ROOT}/.belay/journal/{seq:08}.log | sed -n 's/.*\"event\":\"end\",\"end\":\"\\([a-z]*\\)\".*/\\1/p'"
    ));
    let end = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    Some(end).filter(|end| !end.is_empty())
}

/// Whether a run told something else than what is so.
fn is_untrue(run: &Run, end: &str, expected: &str, is_last_step: bool) -> Option<String> {
    let outcome = run.output("outcome");
    let fits = match (outcome, end) {
        ("deployed", "committed") => run.exit == 0,
        // The last step has done its own work when it has told.
        ("refused" | "rolled-back", "unwound") => run.exit != 0 || is_last_step,
        // What was settled after the run had lost sight of it.
        ("unknown", _) => return None,
        _ => false,
    };
    let version = run.output("version");
    (!fits || version != expected).then(|| {
        let exit = run.exit;
        format!(
            "it told {outcome}, exit {exit}, version {version}; it is {end}, {expected}\n{}",
            run.log
        )
    })
}

/// Whether no container of the application's has ended.
fn nothing_is_down(app: &App) -> bool {
    let project = app.host.project;
    let ended = app.host.run(&format!(
        "docker ps --quiet --filter status=exited --filter label=com.docker.compose.project={project}"
    ));
    ended.is_empty()
}

fn lock_is_held(app: &App) -> Option<String> {
    let script = format!(
        "cd {ROOT} && flock -w {} .belay/lock true",
        LOCK_WITHIN.as_secs()
    );
    let free = app.host.try_run(&script).status.success();
    (!free).then(|| format!("the lock is not free after {LOCK_WITHIN:?}"))
}

fn failed_requests(report: &Report) -> Option<String> {
    (report.failed > 0).then(|| {
        format!(
            "{} of {} requests failed: {:?}",
            report.failed, report.total, report.failures
        )
    })
}

fn too_long_a_gap(report: &Report, allowed: Duration) -> Option<String> {
    let gap = report.longest_gap_ms;
    (gap > allowed.as_secs_f64() * 1000.0)
        .then(|| format!("nobody was served for {gap} ms, and {allowed:?} are allowed"))
}

/// How long Docker took from its start until it was ready, the last time. Sometimes it waits twice ten seconds for the end
/// of a container that has ended already ("failed to exit within 10s of kill"), and answers nobody meanwhile.
fn start_of_docker(app: &App) -> Duration {
    let times = app.host.run(
        "grep -E 'Starting up|has completed initialization' /var/log/lab/dockerd.log | tail -n 2 \
         | sed -E 's/^time=\"([^\"]*)\".*/\\1/'",
    );
    let times: Vec<jiff::Timestamp> = times.lines().filter_map(|t| t.parse().ok()).collect();
    match times[..] {
        [from, until] => Duration::try_from(until.duration_since(from)).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Looks until there is something, and tells how long that took.
pub(crate) fn within<T>(
    time: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> (Option<T>, Duration) {
    let began = Instant::now();
    loop {
        let found = look();
        if found.is_some() || began.elapsed() > time {
            return (found, began.elapsed());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

// --- the table -------------------------------------------------------------------------------------------------------

/// Adds a cell to the table, which is whole after each.
fn write_down(row: Row) {
    static ROWS: Mutex<Vec<Row>> = Mutex::new(vec![]);
    say(&format!("e2e: kill matrix {}", line(&row)));
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.push(row);
    rows.sort_by_key(|row| (row.flavour.name(), row.cell));
    fs::write(checkout().join("target/kill-matrix.md"), table(&rows)).expect("written");
}

fn table(rows: &[Row]) -> String {
    let wrong = rows.iter().filter(|row| !row.troubles.is_empty()).count();
    let mut text = format!("# Kill matrix: {} cells, {wrong} wrong\n\n", rows.len());
    text.push_str("| host | fault | when | told | serves | decided after | requests | failed | longest gap | |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let Cell {
        fault,
        step,
        moment,
    } = row.cell;
    let [total, failed, gap] = match &row.requests {
        Some(report) => [
            report.total.to_string(),
            report.failed.to_string(),
            format!("{:.0} ms", report.longest_gap_ms),
        ],
        None => Default::default(),
    };
    let verdict = match row.troubles.first() {
        None => "right".to_owned(),
        Some(trouble) => format!(
            "**{}**",
            trouble.lines().next().unwrap_or_default().replace('|', "/")
        ),
    };
    format!(
        "| {} | {} | {} {} | {} | {} | {} ms | {total} | {failed} | {gap} | {verdict} |",
        row.flavour.name(),
        fault.name(),
        moment.name(),
        step.name(),
        row.told,
        row.serving,
        row.decided.as_millis(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many samples as it takes to come by all of them.
    #[test]
    fn each_step_has_each_fault_once_by_turns() {
        for (tier, faults, samples) in [(Tier::Short, 4, SAMPLES), (Tier::Each, 9, 1)] {
            let of = |fault| {
                [Flavour::Debian13, Flavour::Debian12].map(|flavour| {
                    let cells = |sample| cells(fault, flavour, tier, sample);
                    (0..samples).flat_map(cells).collect::<Vec<Cell>>()
                })
            };
            let mut played = 0;
            for hosts in Fault::ALL.map(of) {
                let mut steps: Vec<Step> = hosts.iter().flatten().map(|cell| cell.step).collect();
                steps.sort();
                if steps.is_empty() {
                    continue;
                }
                played += 1;
                assert_eq!(steps, Step::ALL);
                for moment in Moment::ALL {
                    let has = |host: &Vec<Cell>| host.iter().any(|cell| cell.moment == moment);
                    assert!(hosts.iter().all(has), "{hosts:?}");
                }
            }
            assert_eq!(played, faults, "{tier:?}");
        }
        assert_eq!(
            cells(Fault::DiskFull, Flavour::Debian13, Tier::Full, 0).len(),
            28
        );
    }
}
