//! Deterministic simulation: thousands of seeds, each a host, its runners and everything that can break.
//!
//! Runs on a developer's machine and in CI, on every core, without Docker, network or a real clock. One seed decides a
//! whole story (`story.rs`): what serves, one or two runners with their deployments and rollbacks, what they say and how
//! late it arrives (confirmations that come early, late, twice, for another transaction or from nobody; aborts), kills and
//! losses of power before any call of the host and any operation on the disk, full disks, outages of Docker, a wall clock
//! that somebody sets to 1970 or 2106, and engines that are stopped while another one breaks their lock. `life.rs` lives it
//! with the very engine, journal, lock and verbs that run in production; `disk.rs` keeps what a loss of power may take;
//! `oracle.rs` says what must be true in the end.
//!
//! Taken away one at a time, each of these is noticed within an ordinary run, most within a hundred seeds: the sync of a
//! record, of a file aside, of a directory after a rename, a removal or a new directory, and of the journal before somebody
//! is told of it; the fence; the deadline's clock; the look at the confirmation, and at whose it is; the undo of each step;
//! numbers that never come again; a torn record that is no damage.
//!
//! A failure prints the line that replays it, with every call, record and fault:
//! `BELAY_SEED=123 cargo test --test simulation`. `BELAY_SEEDS=100000` lives more of them, `BELAY_FIRST=10001` others.

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod life;
mod oracle;
mod rng;
mod story;

use std::collections::BTreeMap;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use life::Life;
use rng::Rng;
use story::{Base, Story};
use support::sample::{all_is_wanted, sample};
use support::site::{Photo, Saved};

/// Seeds of an ordinary run, which one of as many blocks has: the sample decides which. `BELAY_FULL=1` lives them all.
const SEEDS: u64 = 2_500;
const BLOCKS: u64 = 40;
/// Failures after which there is no point in going on.
const ENOUGH: usize = 5;

/// What must have happened in an ordinary run: a simulation in which nothing breaks proves nothing.
const MUST_HAPPEN: [&str; 15] = [
    "transactions that were committed",
    "transactions that were unwound",
    "transactions that nobody confirmed in time",
    "engines that were overtaken",
    "runners that gave up",
    "answers: committed",
    "answers: unwound",
    "kills",
    "losses of power",
    "losses of power that lost writes",
    "losses of power that tore a file",
    "operations on a full disk",
    "outages of Docker",
    "jumps of the wall clock",
    "deployments that followed",
];

/// What has to happen in a whole sweep: a block of it comes by this three times, or not at all.
const MUST_HAPPEN_IN_ALL: &str = "undos that failed at first";

type Tally = BTreeMap<&'static str, u64>;

/// A host on which a base serves, to begin a story on.
struct Prepared {
    saved: Saved,
    photo: Photo,
    release: Option<String>,
}

impl Prepared {
    fn new(base: Base) -> Self {
        let site = story::arrange(base);
        Prepared {
            photo: site.photo(),
            release: site.current().map(|current| current.release),
            saved: site.save(),
        }
    }
}

/// The bases that a thread has prepared.
#[derive(Default)]
struct Shelf(BTreeMap<Base, Prepared>);

impl Shelf {
    fn get(&mut self, base: Base) -> &Prepared {
        self.0.entry(base).or_insert_with(|| Prepared::new(base))
    }
}

/// A seed that was lived through.
struct Lived {
    /// What was not as it must be.
    failure: Option<String>,
    tally: Tally,
    trace: Vec<String>,
}

fn live(seed: u64, shelf: &mut Shelf, traced: bool) -> Lived {
    let mut rng = Rng::new(seed);
    let story = Story::new(&mut rng);
    let prepared = shelf.get(story.base);
    let life = Life::new(prepared.saved.restore(), story, rng, traced);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        life.live();
        oracle::check(&life, &prepared.photo, prepared.release.as_deref());
    }));
    let mut trace = vec![];
    if traced {
        trace.push(format!("{:#?}", life.story));
        trace.extend(life.take_trace());
    }
    Lived {
        failure: lived.err().map(|panic| words(panic.as_ref())),
        tally: life.facts.take().tally,
        trace,
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it ended without a word").to_owned()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number")),
    )
}

#[test]
fn whatever_breaks_the_old_version_serves_or_the_new_one() {
    match number("BELAY_SEED") {
        Some(seed) => replay(seed),
        None => {
            let (first, seeds) = block();
            sweep(
                number("BELAY_FIRST").unwrap_or(first),
                number("BELAY_SEEDS").unwrap_or(seeds),
            );
        }
    }
}

#[test]
fn one_seed_is_one_story() {
    let mut shelf = Shelf::default();
    for seed in [3, 11, 42] {
        let (one, other) = (story_of(seed, &mut shelf), story_of(seed, &mut shelf));
        let different = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(different, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

/// A seed's trace, without what has another number each time and decides nothing: the names of files aside and of test
/// directories, and how far an archive can be compressed, which holds the real times of its files.
fn story_of(seed: u64, shelf: &mut Shelf) -> Vec<String> {
    let without = |line: &String, before: &str| {
        let mut parts = line.split(before);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text.push_str(before);
            text.push_str(part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'));
        }
        text
    };
    let trace = live(seed, shelf, true).trace;
    let trace = trace.iter().filter(|line| !line.contains("torn: "));
    let trace = trace.map(|line| without(line, ".belay-new."));
    let trace = trace.map(|line| without(&line, "\"bytes\":"));
    trace.map(|line| without(&line, "/.tmp")).collect()
}

/// The first seed of this run, and how many there are from there.
fn block() -> (u64, u64) {
    match all_is_wanted() {
        true => (1, BLOCKS * SEEDS),
        false => (1 + sample() as u64 % BLOCKS * SEEDS, SEEDS),
    }
}

fn replay(seed: u64) {
    let lived = live(seed, &mut Shelf::default(), true);
    say(&lived.trace.join("\n"));
    if let Some(failure) = lived.failure {
        panic!("seed {seed}: {failure}");
    }
}

/// Past the test harness, which would keep it to itself.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What a whole run came to.
#[derive(Default)]
struct Run {
    seeds: u64,
    failures: BTreeMap<u64, String>,
    tally: Tally,
}

fn sweep(first: u64, seeds: u64) {
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let run = Mutex::new(Run::default());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&next, first + seeds, &run));
        }
    });
    let run = run.into_inner().expect("whole");
    tell(&run, first, began);
    assert!(
        run.failures.is_empty(),
        "{} seeds failed",
        run.failures.len()
    );
    let in_a_block = MUST_HAPPEN.iter().filter(|_| seeds >= SEEDS);
    let in_all = iter::once(&MUST_HAPPEN_IN_ALL).filter(|_| seeds >= BLOCKS * SEEDS);
    let missing = in_a_block
        .chain(in_all)
        .find(|what| !run.tally.contains_key(*what));
    assert_eq!(missing, None, "it never happened");
}

fn work(next: &AtomicU64, end: u64, run: &Mutex<Run>) {
    let mut shelf = Shelf::default();
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || run.lock().expect("whole").failures.len() >= ENOUGH {
            return;
        }
        let lived = live(seed, &mut shelf, false);
        let mut run = run.lock().expect("whole");
        run.seeds += 1;
        run.failures
            .extend(lived.failure.map(|failure| (seed, failure)));
        for (what, count) in lived.tally {
            *run.tally.entry(what).or_default() += count;
        }
    }
}

fn tell(run: &Run, first: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    say(&format!(
        "{} seeds from {first} on in {seconds:.1} s",
        run.seeds
    ));
    for (what, count) in &run.tally {
        say(&format!("{count:>9} {what}"));
    }
    for (seed, failure) in &run.failures {
        say(&format!(
            "BELAY_SEED={seed} cargo test --test simulation\n{failure}"
        ));
    }
}
