//! Faults of every kind at random moments of deployments, under load: one in half of the rounds, two in the others.
//!
//! After each round somebody serves, `belay status` names the version that answers, what was written is there, and if the
//! deployment did not go through, the next one does with nobody's help. Where no fault forces more, nobody is without an
//! answer for longer than Belay promises. `BELAY_CHAOS=N` plays N rounds on each host, else a few; the seed is told, and
//! `BELAY_SAMPLE` brings the same rounds again. Every round is a line of target/chaos.md.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::faults::{Fault, Wire, give_a_small_disk};
use crate::hands::typed_in;
use crate::lab::{App, Host, ROOT, Running, checkout, say};
use crate::load::{Load, Report, Shape};
use crate::matrix::within;
use crate::sample::sample;

on_every_host!(
    one run in four:
    random_faults_lose_nothing_and_leave_a_way_on;
);

/// Rounds of a usual run.
const ROUNDS: u32 = 3;
/// Requests a second in the meantime.
const RATE: u32 = 50;
/// The time of a deployment, in which its faults come.
const DEPLOYMENT_MS: u64 = 9_000;
/// How long a host may take to decide, and to serve.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// How long a disk stays full.
const FULL_FOR: Duration = Duration::from_secs(3);
/// How long it is looked whether a host still serves to which something happened after its deployment.
const AT_REST: Duration = Duration::from_secs(5);
/// How long nobody may be served for each fault that forces nothing, in milliseconds: two seconds for Belay, and the start
/// of a container by Docker or Compose on a busy machine.
const LONGEST_GAP_MS: f64 = 4_000.0;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    /// A line that somebody types as root; whether it takes the application away by itself for longer.
    Typed(&'static str, bool),
    Fault(Fault),
}

const MISHAPS: &[Mishap] = &[
    Mishap::Typed("docker kill $(of web | head -n 1)", false),
    Mishap::Typed("docker kill $(of web | tail -n 1)", false),
    Mishap::Typed("docker stop -t 1 $(of web | head -n 1)", false),
    Mishap::Typed("docker stop -t 1 $(of web | tail -n 1)", false),
    Mishap::Typed("docker restart -t 1 $(of web | head -n 1)", false),
    Mishap::Typed("docker rm -f $(of web | head -n 1)", false),
    Mishap::Typed("docker rm -f $(of web | tail -n 1)", false),
    Mishap::Typed("docker kill $(of worker)", false),
    Mishap::Typed("docker rm -f $(of worker)", false),
    Mishap::Typed("docker kill $(of belay-gateway)", false),
    Mishap::Typed("docker stop -t 1 $(of belay-gateway)", false),
    Mishap::Typed("docker restart -t 1 $(of belay-gateway)", false),
    Mishap::Typed("docker rm -f $(of belay-gateway)", false),
    Mishap::Typed("docker-compose up -d", true),
    Mishap::Typed("docker-compose down", true),
    Mishap::Typed("docker-compose stop", true),
    Mishap::Typed("docker image prune --all --force", false),
    Mishap::Typed("docker container prune --force", false),
    Mishap::Typed(
        "docker-compose down; cp docker-compose.yml.backup docker-compose.yml; docker-compose up -d",
        true,
    ),
    Mishap::Typed("sh .belay/rollback.sh", true),
    Mishap::Fault(Fault::EngineKilled),
    Mishap::Fault(Fault::RunnerKilled),
    Mishap::Fault(Fault::LinkReset),
    Mishap::Fault(Fault::DiskFull),
    Mishap::Fault(Fault::DockerKilled),
    Mishap::Fault(Fault::PowerCut),
];

impl Mishap {
    fn name(self) -> String {
        match self {
            Mishap::Typed(line, _) => format!("`{line}`"),
            Mishap::Fault(fault) => fault.name().to_owned(),
        }
    }

    /// Whether nobody could be served for a while, whatever Belay did.
    fn forces_a_gap(self) -> bool {
        match self {
            Mishap::Typed(_, forces) => forces,
            Mishap::Fault(fault) => fault.takes_docker(),
        }
    }

    fn happens(self, host: &Host, running: &mut Running, wire: &Wire) {
        let script = match self {
            Mishap::Typed(line, _) => format!("{}; {line}", typed_in(host)),
            Mishap::Fault(fault) => fault.on_the_host().to_owned(),
        };
        // Whether it does anything depends on the moment.
        let _ = host.try_run(&format!("cd {ROOT}; {script}"));
        if let Mishap::Fault(fault) = self {
            fault.outside_the_host(host, running, wire);
            if fault == Fault::DiskFull {
                thread::sleep(FULL_FOR);
            }
            fault.heal(host, wire);
        }
    }
}

/// Numbers that a seed always gives (xorshift64*, Marsaglia 2003).
struct Dice {
    state: u64,
    /// A host whose application has a small disk of its own loses it with its power.
    never: Mishap,
}

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn mishap(&mut self) -> Mishap {
        loop {
            let n = self.below(u64::try_from(MISHAPS.len()).expect("a few"));
            let fault = MISHAPS[usize::try_from(n).expect("a few")];
            if fault != self.never {
                return fault;
            }
        }
    }
}

fn random_faults_lose_nothing_and_leave_a_way_on(mut app: App) {
    let wanted = std::env::var("BELAY_CHAOS").ok();
    let rounds = wanted.and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let seed = u64::try_from(sample()).expect("a number") * 2 + app.host.flavour as u64 + 1;
    say(&format!(
        "e2e: chaos on {} has the seed {seed}",
        app.host.name
    ));
    let never = match seed.is_multiple_of(4) || seed % 4 == 3 {
        true => Mishap::Fault(Fault::PowerCut),
        false => Mishap::Fault(Fault::DiskFull),
    };
    let mut dice = Dice {
        state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        never,
    };
    if never == Mishap::Fault(Fault::PowerCut) {
        give_a_small_disk(&app.host);
    }
    app.edit("belay.yml", |text| format!("{text}confirm: 10s\n"));
    let wire = Wire::of(&mut app);
    let mut version = 0;
    for _ in 0..2 {
        version += 1;
        plainly(&mut app, version).expect("the first deployments work");
    }
    let mut failed = vec![];
    for round in 1..=rounds {
        version += 1;
        let (line, troubles) = play(&mut app, &wire, &mut dice, round, version);
        let mut troubles = troubles;
        if !troubles.is_empty() || !line.contains("deployed") || app.serving().is_none() {
            version += 1;
            troubles.extend(plainly(&mut app, version).err());
            let written = format!("round {round}");
            let found = app.http("GET", "/data", "").map(|(_, text)| text);
            if found.as_ref() != Some(&written) {
                troubles.push(format!("{written:?} was written, and it is {found:?}"));
            }
        }
        say(&format!("e2e: chaos on {}: {line}", app.host.name));
        write_down(&app, round, &line, &troubles);
        if !troubles.is_empty() {
            failed.push(format!("{line}\n{}", troubles.join("\n")));
        }
        // The next rounds would only tell the same.
        if app.serving().is_none() {
            break;
        }
    }
    assert!(failed.is_empty(), "seed {seed}: {}", failed.join("\n\n"));
}

fn tag(version: u32) -> String {
    format!("v1.{version}.0")
}

/// A deployment that nothing happens to.
fn plainly(app: &mut App, version: u32) -> Result<(), String> {
    let tag = tag(version);
    app.release(&tag, "");
    let running = app.begin_push(&tag);
    let run = app.wait(running);
    match (run.output("outcome"), app.serving().as_deref()) {
        ("deployed", Some(serving)) if serving == tag => Ok(()),
        other => Err(format!("a plain deployment: {other:?}\n{}", run.log)),
    }
}

fn play(
    app: &mut App,
    wire: &Wire,
    dice: &mut Dice,
    round: u32,
    version: u32,
) -> (String, Vec<String>) {
    let mut troubles = vec![];
    let written = format!("round {round}");
    if app.http("POST", "/data", &written).is_none() {
        troubles.push("nobody took what was to be written".to_owned());
    }
    let tag = tag(version);
    app.release(&tag, "");
    let load = Load::start(app.addr(), Shape::stream(RATE, Duration::from_secs(400)));
    let load = load.map_err(|e| troubles.push(e.to_string())).ok();
    let mut faults: Vec<(u64, Mishap)> = (0..=round % 2)
        .map(|_| (dice.below(DEPLOYMENT_MS), dice.mishap()))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    let began = Instant::now();
    let mut running = app.begin_push(&tag);
    let mut last_done = Timestamp::now();
    let mut first = None;
    for (at, fault) in &faults {
        thread::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed()));
        first = first.or(Some(Timestamp::now()));
        fault.happens(&app.host, &mut running, wire);
        last_done = Timestamp::now();
    }
    let run = running.ended();
    wire.heal();
    app.host.await_docker();
    until(SETTLED_WITHIN, || is_settled(app));
    // What was stopped before the deployment looked, or after its end, only the next one brings back.
    let looked = time_of(app, "\"event\":\"done\",\"step\":\"preflight\"");
    let ended = time_of(app, "\"event\":\"end\"");
    let at_rest = ended.is_none_or(|ended| last_done >= ended)
        || first.is_some_and(|first| looked.is_none_or(|looked| first <= looked));
    let patience = if at_rest { AT_REST } else { SETTLED_WITHIN };
    // A contact, which is what people do next.
    let told = status(app);
    let truth = until(patience, || {
        let (version, down) = status(app);
        match app.serving() {
            Some(serving) => version == Some(serving),
            None => at_rest && down > 0,
        }
    });
    let is_down = app.serving().is_none();
    let report = load.map(Load::stop);
    if !truth {
        let serving = app.serving();
        troubles.push(format!("{serving:?} answers, and status says {told:?}"));
    }
    match app.http("GET", "/data", "") {
        Some((_, text)) if text == written => {}
        // The next deployment brings it back, and is looked at.
        _ if at_rest && is_down => {}
        other => troubles.push(format!("{written:?} was written, and it is {other:?}")),
    }
    if !at_rest {
        troubles.extend(report.as_ref().and_then(|report| too_long(report, &faults)));
    }
    if !troubles.is_empty() {
        troubles.push(run.log.clone());
        let told = app.host.try_run(&format!(
            "cd {ROOT}/.belay && tail -n 20 engine.log; cat $(ls journal/*.log | tail -n 1); docker ps -a"
        ));
        troubles.push(String::from_utf8_lossy(&told.stdout).into_owned());
    }
    let named: Vec<String> = faults
        .iter()
        .map(|(at, fault)| format!("{} at {at} ms", fault.name()))
        .collect();
    let line = format!(
        "{round} | {} | {} | {} | {} of {} | {:.0} ms",
        named.join(", "),
        run.output("outcome"),
        app.serving().unwrap_or_default(),
        report.as_ref().map_or(0, |r| r.failed),
        report.as_ref().map_or(0, |r| r.total),
        report.as_ref().map_or(0.0, |r| r.longest_gap_ms),
    );
    (line, troubles)
}

fn too_long(report: &Report, faults: &[(u64, Mishap)]) -> Option<String> {
    let count = u32::try_from(faults.len()).expect("a few");
    let allowed = LONGEST_GAP_MS * f64::from(count);
    let forced = faults.iter().any(|(_, fault)| fault.forces_a_gap());
    (!forced && report.longest_gap_ms > allowed)
        .then(|| format!("nobody was served for {} ms", report.longest_gap_ms))
}

/// Whether the newest transaction is over and nobody works.
fn is_settled(app: &App) -> bool {
    let script = format!(
        "cd {ROOT} && flock -n .belay/lock true && tail -n 1 $(ls .belay/journal/*.log | tail -n 1) | grep -q '\"event\":\"end\"'"
    );
    app.host.try_run(&script).status.success()
}

/// When the newest transaction wrote down such a record.
fn time_of(app: &App, record: &str) -> Option<Timestamp> {
    let newest = format!("cat $(ls {ROOT}/.belay/journal/*.log | tail -n 1)");
    let said = app.host.try_run(&newest).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    let (_, record) = said
        .lines()
        .find(|line| line.contains(record))?
        .split_once(' ')?;
    let record: Value = serde_json::from_str(record).ok()?;
    record["at"].as_str()?.parse().ok()
}

/// The version that `belay status` says was deployed last, and how many of its services do not run.
fn status(app: &App) -> (Option<String>, usize) {
    let said = app.belay(&["status", "--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    let version = said["current"]["version"].as_str().map(str::to_owned);
    (version, said["down"].as_array().map_or(0, Vec::len))
}

/// Looks until it is so; false when that did not come in time.
fn until(time: Duration, is_so: impl Fn() -> bool) -> bool {
    within(time, || is_so().then_some(())).0.is_some()
}

fn write_down(app: &App, round: u32, line: &str, troubles: &[String]) {
    let file = checkout().join("target/chaos.md");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("writable");
    let what = if troubles.is_empty() {
        "right"
    } else {
        "WRONG"
    };
    writeln!(file, "| {} | {line} | {what} |", app.host.name).expect("written");
    if !troubles.is_empty() {
        let place = checkout().join(format!("target/chaos-{}-{round}.log", app.host.name));
        fs::write(place, troubles.join("\n")).expect("written");
    }
}
