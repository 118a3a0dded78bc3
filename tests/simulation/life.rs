//! A host lives through a story: engines and verbs run as they do in production, on one thread, on a clock that only
//! sleeping moves; every call of the host and every operation on the disk is an event, and anything may break before any
//! of them.
//!
//! A process that ends is an unwinding with [`Crashed`]; from that moment the disk refuses it everything, so nothing that
//! is dropped on the way can tidy up as no killed process could.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use belay_agent::disk::{self, Op, Tape};
use belay_agent::error::AgentError;
use belay_agent::host::Host;
use belay_agent::layout::Layout;
use belay_agent::{durable, engine_process, journal, lock, records, state, transactions};
use belay_model::transaction::outcome::with_causes;
use belay_wire::{Confirmed, Staged};

use crate::disk::Disk;
use crate::rng::Rng;
use crate::story::{Break, Fault, Kind, Message, Story};
use crate::support::fake_host::{Crashed, FakeHost, Outage, listen};
use crate::support::site::{NO_GUARDS, Site};

/// No story has so many events, however much goes wrong.
const MOST_EVENTS: u64 = 50_000;

/// What the record that commits has in it.
const COMMITS: &str = r#""event":"done","step":"confirm""#;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Killed,
    PowerLost,
}

/// A process that is running, or one that waits below it on the stack.
struct Process {
    name: String,
    /// The transaction whose journal it wrote last.
    seq: Option<u64>,
}

/// A record that is written to a journal.
struct Record {
    seq: u64,
    line: String,
    /// How long the journal is with it.
    length: usize,
}

/// What somebody was told about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Committed,
    Unwound,
}

/// A transaction, as it was seen from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) runner: Option<usize>,
    /// On the clock of the simulation, in milliseconds.
    pub(crate) began: u64,
    pub(crate) unwinding: Option<u64>,
    /// How long its journal was when a record was last written.
    length: usize,
}

/// A right confirmation that was left for an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) runner: usize,
    pub(crate) boot: u32,
    pub(crate) ms: u64,
}

/// What came to light on the way.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) claims: Vec<(usize, Claim)>,
    pub(crate) left: Vec<Left>,
    pub(crate) seen: BTreeMap<u64, Seen>,
    /// Transactions that were over when an engine of theirs was still stopped.
    closed: BTreeSet<u64>,
    pub(crate) overtaken: bool,
    pub(crate) boots: u32,
    /// How often what happened.
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

impl Facts {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }
}

pub(crate) struct Life {
    pub(crate) site: Site,
    pub(crate) story: Story,
    host: FakeHost,
    layout: Layout,
    rng: RefCell<Rng>,
    disk: RefCell<Disk>,
    pub(crate) facts: RefCell<Facts>,
    processes: RefCell<Vec<Process>>,
    dying: Cell<Option<Death>>,
    faults: RefCell<Vec<Fault>>,
    counts: RefCell<[u32; Kind::COUNT]>,
    baked: Cell<bool>,
    committed: Cell<bool>,
    full: Cell<u32>,
    /// Messages on their way.
    armed: Cell<usize>,
    events: Cell<u64>,
    trace: Option<RefCell<Vec<String>>>,
}

thread_local! {
    static LIFE: RefCell<Option<Rc<Life>>> = const { RefCell::new(None) };
}

/// A message on its way. It may be lost with whoever was to hear it.
struct Sent(Message);

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(life) = LIFE.with_borrow(Clone::clone) {
            life.armed.set(life.armed.get() - 1);
        }
    }
}

/// Takes every ear off this thread, whatever became of the life.
struct Deaf;

impl Drop for Deaf {
    fn drop(&mut self) {
        disk::listen(None);
        listen(None);
        LIFE.set(None);
    }
}

struct Ear(Rc<Life>);

impl Tape for Ear {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        self.0.disk_event(op)
    }
}

impl Life {
    pub(crate) fn new(site: Site, story: Story, rng: Rng, traced: bool) -> Rc<Self> {
        site.host.world().compose = story.compose;
        let mut faults = story.faults.clone();
        faults.sort_by_key(|fault| fault.n);
        Rc::new(Life {
            host: site.host.clone(),
            layout: site.layout.clone(),
            disk: RefCell::new(Disk::new(site.root())),
            rng: RefCell::new(rng),
            facts: RefCell::default(),
            processes: RefCell::default(),
            dying: Cell::default(),
            faults: RefCell::new(faults),
            counts: RefCell::default(),
            baked: Cell::default(),
            committed: Cell::default(),
            full: Cell::default(),
            armed: Cell::default(),
            events: Cell::default(),
            trace: traced.then(RefCell::default),
            site,
            story,
        })
    }

    /// From the first message to the moment at which everything is settled and nobody has anything to say any more.
    pub(crate) fn live(self: &Rc<Self>) {
        let _deaf = Deaf;
        LIFE.set(Some(Rc::clone(self)));
        disk::listen(Some(Rc::new(Ear(Rc::clone(self)))));
        let life = Rc::clone(self);
        listen(Some(Rc::new(move |call| life.host_event(call))));
        self.arrive();
        for (after_ms, message) in self.story.messages.clone() {
            self.send(after_ms, message);
        }
        self.begin(0);
        for _ in 0..30 {
            self.power_returns();
            if self.armed.get() == 0 {
                break;
            }
            self.pass_time();
        }
        self.settle();
    }

    /// The images of every runner's version arrive before the story begins.
    fn arrive(&self) {
        for runner in &self.story.runners {
            let Some(version) = &runner.version else {
                continue;
            };
            self.site.bring(version);
            let references = version.built.keys().map(|s| version.reference(s)).collect();
            let staged = Staged {
                references,
                since: self.host.now(),
            };
            let path = self.layout.staged(&runner.plan.tx);
            records::write_json(&path, &staged).expect("written");
        }
    }

    /// No engine works for a while.
    fn pass_time(&self) {
        let (ms, contact, power) = {
            let mut rng = self.rng.borrow_mut();
            let ms = rng.between(50, 1500);
            let roll = rng.below(100);
            let power = roll < self.story.power;
            (
                ms,
                !power && roll < self.story.power + self.story.contacts,
                power,
            )
        };
        self.host.sleep(Duration::from_millis(ms));
        self.power_returns();
        if power {
            self.tell(|| "the power fails while no engine works".to_owned());
            self.dying.set(Some(Death::PowerLost));
        } else if contact {
            self.engine("contact", None);
        }
    }

    /// Nothing breaks any more; what is still on its way arrives, and a contact settles the rest.
    fn settle(&self) {
        self.tell(|| "nothing breaks any more".to_owned());
        self.power_returns();
        self.faults.borrow_mut().clear();
        self.full.set(0);
        self.host.calm();
        self.let_all_arrive();
        self.engine("the last contact", None);
        // It may have come upon a bake that a runner had not heard of.
        self.let_all_arrive();
    }

    fn let_all_arrive(&self) {
        for _ in 0..100 {
            if self.armed.get() == 0 {
                return;
            }
            self.host.sleep(Duration::from_millis(500));
        }
        panic!("somebody never comes to an end");
    }

    // --- messages -------------------------------------------------------------------------------------------------

    fn send(&self, after_ms: u64, message: Message) {
        self.armed.set(self.armed.get() + 1);
        let sent = Sent(message);
        self.host.after_ms(after_ms, move || {
            let life = LIFE.with_borrow(Clone::clone);
            life.expect("it is its own thread").receive(sent.0.clone());
        });
    }

    fn receive(&self, message: Message) {
        if self.dying.get().is_some() {
            // Nobody is there to hear it. A runner tries again; a person may not.
            if matches!(
                message,
                Message::Begin(_) | Message::Confirm { .. } | Message::Poll { .. }
            ) {
                self.send(700, message);
            }
            return;
        }
        self.tell(|| format!("message: {message:?}"));
        match message {
            Message::Begin(who) => self.begin(who),
            Message::Confirm { who, nonce_of } => self.confirm(who, nonce_of),
            Message::Stray => self.stray(),
            Message::Extend(who, by_ms) => {
                let tx = &self.story.runners[who].plan.tx;
                let asked = self.process(&format!("runner {who} asks for time"), || {
                    transactions::leave_extension(&self.layout, tx, by_ms)
                });
                drop(asked);
            }
            Message::Abort(who) => self.abort(who),
            Message::Look(who) => self.look(who),
            Message::Poll { who, left } => self.poll(who, left),
            Message::Contact => self.contact(),
            Message::Wall(offset) => {
                self.count("jumps of the wall clock");
                self.host.world().wall_offset_ms = offset;
            }
            Message::Outage { calls, when } => {
                self.count("outages of Docker");
                let first = 1;
                self.host.fail_at(Outage { first, calls, when });
            }
            Message::Overtake => self.overtake(),
        }
    }

    /// `belay agent begin`: leaves the plan, waits for the lock, and starts an engine.
    fn begin(&self, who: usize) {
        let runner = &self.story.runners[who];
        let (tx, patience) = (runner.plan.tx.clone(), runner.plan.limits.lock_wait_ms);
        if self.seq_of(who).is_some() {
            return;
        }
        let text = serde_json::to_vec(&runner.plan).expect("a plan is JSON");
        let path = self.layout.incoming_plan(&tx);
        let left = self.process(&format!("begin of runner {who}"), || {
            durable::replace(&path, &text, 0o600)
        });
        match left {
            Some(Ok(())) => {}
            // The disk is full: the runner is told so, and goes.
            Some(Err(_)) => return self.give_up(who, "its plan was not taken"),
            None => return self.send(700, Message::Begin(who)),
        }
        if !self.is_busy() {
            return self.begin_engine(who, &tx);
        }
        if self.host.now_ms() > patience {
            self.give_up(who, "the host is busy");
        } else {
            self.send(500, Message::Begin(who));
        }
    }

    fn begin_engine(&self, who: usize, tx: &str) {
        let ended = self.engine(&format!("engine of runner {who}"), Some(tx));
        match ended {
            // Another one holds the lock, or the engine was killed before it had a number.
            Some(Ok(engine_process::EXIT_BUSY)) | None => {
                if self.seq_of(who).is_none() {
                    self.send(300, Message::Begin(who));
                }
            }
            Some(Ok(_)) => {}
            Some(Err(failure)) if self.seq_of(who).is_none() => {
                self.give_up(who, &failure.to_string())
            }
            Some(Err(_)) => {}
        }
    }

    /// What a runner's `begin` does when its transaction is not going to begin.
    fn give_up(&self, who: usize, why: &str) {
        self.tell(|| format!("runner {who} gives up: {why}"));
        self.count("runners that gave up");
        let tx = &self.story.runners[who].plan.tx;
        let done = self.process(&format!("end of runner {who}"), || {
            transactions::forget_staged(&self.host, &self.layout, tx)?;
            records::remove(&self.layout.incoming_plan(tx)).map_err(AgentError::from)
        });
        drop(done);
    }

    /// `belay agent confirm`, as far as leaving the confirmation; what it came to is asked for later.
    fn confirm(&self, who: usize, nonce_of: usize) {
        let tx = &self.story.runners[who].plan.tx;
        let nonce = &self.story.runners[nonce_of.min(self.story.runners.len() - 1)].nonce;
        if who == nonce_of {
            let ms = self.host.now_ms();
            let mut facts = self.facts.borrow_mut();
            let (runner, boot) = (who, facts.boots);
            facts.left.push(Left { runner, boot, ms });
        }
        let left = self.process(&format!("confirmation for runner {who}"), || {
            transactions::leave_confirmation(&self.layout, tx, nonce)
        });
        match left {
            None => self.send(400, Message::Confirm { who, nonce_of }),
            Some(Err(_)) => {}
            Some(Ok(())) => self.send(100, Message::Poll { who, left: 40 }),
        }
    }

    fn poll(&self, who: usize, left: u32) {
        match self.ask(who) {
            Some(Ok(Some(_))) | Some(Err(_)) => {}
            Some(Ok(None)) | None if left == 0 => {}
            Some(Ok(None)) if !self.is_busy() => {
                self.engine(&format!("engine of runner {who}'s confirmation"), None);
                self.send(
                    100,
                    Message::Poll {
                        who,
                        left: left - 1,
                    },
                );
            }
            Some(Ok(None)) | None => self.send(
                500,
                Message::Poll {
                    who,
                    left: left - 1,
                },
            ),
        }
    }

    /// Asks the host what it decided. What it says is a promise.
    fn ask(&self, who: usize) -> Option<Result<Option<Confirmed>, AgentError>> {
        let tx = &self.story.runners[who].plan.tx;
        let told = self.process(&format!("question of runner {who}"), || {
            transactions::decided(&self.layout, tx)
        })?;
        if let Ok(Some(decided)) = &told {
            self.claim(who, decided);
        }
        Some(told)
    }

    fn claim(&self, who: usize, decided: &Confirmed) {
        self.tell(|| format!("runner {who} is told: {decided:?}"));
        let claim = match decided {
            Confirmed::Committed => Claim::Committed,
            Confirmed::Unwound { .. } => Claim::Unwound,
        };
        let mut facts = self.facts.borrow_mut();
        facts.count(match claim {
            Claim::Committed => "answers: committed",
            Claim::Unwound => "answers: unwound",
        });
        facts.claims.push((who, claim));
    }

    fn look(&self, who: usize) {
        let _ = self.ask(who);
    }

    fn abort(&self, who: usize) {
        let known = self.ask(who);
        if matches!(known, Some(Err(_))) {
            // A runner that takes its plan back does not hand it over again, as this one may.
            return;
        }
        let undecided = matches!(known, Some(Ok(None)));
        let tx = &self.story.runners[who].plan.tx;
        let told = self.process("abort", || {
            transactions::try_abort(&self.host, &self.layout, tx, "cancelled")
        });
        if let Some(Ok(decided)) = told
            && !undecided
        {
            self.claim(who, &decided);
        }
    }

    /// Something else lies where the confirmation of the newest transaction belongs.
    fn stray(&self) {
        let newest = self.facts.borrow().seen.keys().next_back().copied();
        if let Some(seq) = newest {
            let path = self.layout.confirmation(seq);
            let _ = self.process("a stranger", || durable::replace(&path, b"yes", 0o600));
        }
    }

    fn contact(&self) {
        if !self.is_busy() {
            self.engine("contact", None);
        }
    }

    /// While an engine is stopped, its lock is broken and another transaction begins and ends.
    fn overtake(&self) {
        if !self.is_busy() {
            return self.begin(1);
        }
        self.facts.borrow_mut().overtaken = true;
        self.count("engines that were overtaken");
        fs::remove_file(self.layout.lock()).expect("there is a lock");
        self.begin(1);
        self.engine("contact", None);
        for seq in journal::sequence_numbers(&self.layout).expect("readable") {
            let open = state::open_transactions(&self.layout).expect("readable");
            if !open.contains(&seq) {
                self.facts.borrow_mut().closed.insert(seq);
            }
        }
        self.tell(|| "the engine that was stopped is woken".to_owned());
    }

    fn count(&self, what: &'static str) {
        self.facts.borrow_mut().count(what);
    }

    fn is_busy(&self) -> bool {
        lock::holder(&self.layout)
            .expect("the lock works")
            .is_some()
    }

    /// The number of a runner's transaction, while the host has a record of it.
    pub(crate) fn seq_of(&self, who: usize) -> Option<u64> {
        let facts = self.facts.borrow();
        let mut found = facts.seen.iter().filter(|(_, s)| s.runner == Some(who));
        let begun = |seq: &u64| fs::metadata(self.layout.journal(*seq)).is_ok_and(|m| m.len() > 0);
        found.rfind(|(seq, _)| begun(seq)).map(|(seq, _)| *seq)
    }

    // --- processes ------------------------------------------------------------------------------------------------

    fn engine(&self, name: &str, tx: Option<&str>) -> Option<Result<u8, AgentError>> {
        let ended = self.process(name, || {
            engine_process::engine_on(&self.host, &self.layout, tx, &NO_GUARDS)
        });
        self.tell(|| match &ended {
            None => format!("{name}: gone"),
            Some(Ok(code)) => format!("{name}: ended with {code}"),
            Some(Err(failure)) => format!("{name}: failed, {}", with_causes(failure)),
        });
        if let Some(Err(failure)) = &ended {
            let excused = self.story.has_outages() || self.facts.borrow().overtaken;
            assert!(excused, "{name} failed: {}", with_causes(failure));
        }
        ended
    }

    /// Runs something that may be ended. Nothing: it was.
    fn process<T>(&self, name: &str, work: impl FnOnce() -> T) -> Option<T> {
        self.processes.borrow_mut().push(Process {
            name: name.to_owned(),
            seq: None,
        });
        let ended = catch_unwind(AssertUnwindSafe(work));
        self.processes.borrow_mut().pop();
        match ended {
            Ok(value) => Some(value),
            Err(panic) if panic.is::<Crashed>() => {
                let below = !self.processes.borrow().is_empty();
                if self.dying.get() == Some(Death::Killed) {
                    self.dying.set(None);
                } else if below {
                    // The power takes every process with it.
                    panic::resume_unwind(Box::new(Crashed));
                }
                None
            }
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    fn power_returns(&self) {
        if self.dying.get() != Some(Death::PowerLost) {
            return;
        }
        let told = self.disk.borrow_mut().fail(&mut self.rng.borrow_mut());
        self.host.calm();
        self.host.reboot();
        self.full.set(0);
        self.facts.borrow_mut().boots += 1;
        self.count("losses of power");
        if !told.is_empty() {
            self.count("losses of power that lost writes");
        }
        if told.iter().any(|line| line.starts_with("torn")) {
            self.count("losses of power that tore a file");
        }
        self.dying.set(None);
        for line in told {
            self.tell(|| line);
        }
        self.tell(|| "the power is back".to_owned());
    }

    // --- events ---------------------------------------------------------------------------------------------------

    fn host_event(&self, call: &str) {
        let Some((name, seq)) = self.at_work() else {
            return;
        };
        if self.dying.get().is_some() {
            panic::resume_unwind(Box::new(Crashed));
        }
        let mutates = is_mutation(call);
        self.tell(|| format!("{name}: {call}"));
        if let (true, Some(seq)) = (mutates, seq) {
            self.check_mutation(seq, &name, call);
        }
        let kinds = [mutates.then_some(Kind::Mutation), None, None];
        self.maybe_break(&kinds, None);
    }

    fn disk_event(&self, op: &Op<'_>) -> io::Result<()> {
        let Some((name, seq)) = self.at_work() else {
            self.disk.borrow_mut().before(op);
            return Ok(());
        };
        if self.dying.get().is_some() {
            return Err(io::Error::other("this process is gone"));
        }
        self.tell(|| format!("{name}: {}", told(op, self.site.root())));
        if let Some(seq) = seq {
            self.check_mutation(seq, &name, &format!("{op:?}"));
        }
        let record = match op {
            Op::Sync(path) => self.record_of(path),
            _ => None,
        };
        let decides = |record: &Record| record.line.contains(COMMITS);
        let kinds = [
            kind_of(op),
            record.is_some().then_some(Kind::Record),
            record
                .as_ref()
                .is_some_and(decides)
                .then_some(Kind::Decision),
        ];
        self.maybe_break(&kinds, Some(op));
        self.fill_up(op)?;
        if let Op::Create(path) = op
            && let Some(seq) = seq_of_journal(path)
        {
            self.number_given(seq);
        }
        if let Some(record) = &record {
            self.record_written(record);
        }
        self.disk.borrow_mut().before(op);
        Ok(())
    }

    fn at_work(&self) -> Option<(String, Option<u64>)> {
        let processes = self.processes.borrow();
        processes.last().map(|p| (p.name.clone(), p.seq))
    }

    fn maybe_break(&self, kinds: &[Option<Kind>; 3], op: Option<&Op<'_>>) {
        self.events.set(self.events.get() + 1);
        assert!(self.events.get() < MOST_EVENTS, "an engine waits for ever");
        let mut all = vec![Kind::Any];
        all.extend(kinds.iter().flatten());
        all.extend(self.baked.get().then_some(Kind::AfterBake));
        all.extend(self.committed.get().then_some(Kind::AfterCommit));
        let mut due = None;
        {
            let mut counts = self.counts.borrow_mut();
            for kind in all {
                counts[kind as usize] += 1;
                let n = counts[kind as usize];
                let mut faults = self.faults.borrow_mut();
                let found = faults.iter().position(|f| f.kind == kind && f.n <= n);
                due = due.or(found.map(|index| faults.remove(index).what));
            }
        }
        match due {
            None => {}
            Some(Break::Full(operations)) => self.full.set(operations),
            Some(Break::Kill) => {
                self.tell(|| "killed".to_owned());
                self.count("kills");
                if let Some(Op::Sync(path)) = op
                    && self.rng.borrow_mut().percent(50)
                {
                    self.disk.borrow().tear(path, &mut self.rng.borrow_mut());
                }
                self.die(Death::Killed);
            }
            Some(Break::Power) => {
                self.tell(|| "the power fails".to_owned());
                self.die(Death::PowerLost);
            }
        }
    }

    fn die(&self, death: Death) -> ! {
        self.dying.set(Some(death));
        panic::resume_unwind(Box::new(Crashed))
    }

    /// What takes space fails while there is none. A write that failed may have been a part of what was to be written.
    fn fill_up(&self, op: &Op<'_>) -> io::Result<()> {
        let takes_space = matches!(
            op,
            Op::Create(_) | Op::Link { .. } | Op::MakeDir(_) | Op::Sync(_) | Op::Rename { .. }
        );
        let left = self.full.get();
        if left == 0 || !takes_space {
            return Ok(());
        }
        self.full.set(left - 1);
        if let Op::Sync(path) = op {
            self.disk.borrow().tear(path, &mut self.rng.borrow_mut());
        }
        self.tell(|| "no space is left".to_owned());
        self.count("operations on a full disk");
        Err(io::ErrorKind::StorageFull.into())
    }

    /// The record that a journal's sync is about, as text, if nobody has heard of it yet.
    fn record_of(&self, path: &Path) -> Option<Record> {
        let seq = seq_of_journal(path)?;
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().next_back().unwrap_or_default().to_owned();
        let length = text.len();
        let known = self.facts.borrow().seen.get(&seq)?.length;
        (length != known).then_some(Record { seq, line, length })
    }

    fn number_given(&self, seq: u64) {
        let mut facts = self.facts.borrow_mut();
        let known = facts.seen.keys().next_back().copied();
        assert!(known.is_none_or(|known| known < seq), "{seq} comes again");
        facts.seen.insert(seq, Seen::default());
        drop(facts);
        self.now_works_on(seq);
    }

    fn now_works_on(&self, seq: u64) {
        if let Some(process) = self.processes.borrow_mut().last_mut() {
            process.seq = Some(seq);
        }
    }

    fn record_written(&self, record: &Record) {
        let Record { seq, line, length } = record;
        self.now_works_on(*seq);
        let now = self.host.now_ms();
        let has = |word: &str| line.contains(word);
        self.tell(|| format!("    {}", line.split_once(' ').map_or("", |(_, json)| json)));
        let mut facts = self.facts.borrow_mut();
        let Some(seen) = facts.seen.get_mut(seq) else {
            return;
        };
        seen.length = *length;
        if has(r#""event":"begin""#) {
            let mut runners = self.story.runners.iter();
            seen.runner = runners.position(|r| line.contains(&r.plan.tx));
            seen.began = now;
        } else if has(r#""event":"undo-started""#) {
            seen.unwinding = seen.unwinding.or(Some(now));
        } else if has(r#""event":"done","step":"bake""#) {
            self.baked.set(true);
            let runner = seen.runner;
            drop(facts);
            if let Some(who) = runner {
                for after_ms in &self.story.runners[who].confirms_after {
                    let nonce_of = who;
                    self.send(*after_ms, Message::Confirm { who, nonce_of });
                }
            }
        } else if has(COMMITS) {
            self.committed.set(true);
        }
    }

    /// Only the newest transaction changes the host, and only while it is open.
    fn check_mutation(&self, seq: u64, name: &str, call: &str) {
        let facts = self.facts.borrow();
        let newest = facts.seen.keys().next_back().copied();
        assert!(
            newest.is_none_or(|newest| newest <= seq),
            "{name}: `{call}` of transaction {seq}, though {newest:?} has begun"
        );
        assert!(
            !facts.closed.contains(&seq),
            "{name}: `{call}` of transaction {seq}, which is over"
        );
    }

    // --- the trace ------------------------------------------------------------------------------------------------

    fn tell(&self, text: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let text = text();
            let (ms, event) = (self.host.now_ms(), self.events.get());
            trace
                .borrow_mut()
                .push(format!("{ms:>6} ms {event:>5}  {text}"));
        }
    }

    pub(crate) fn take_trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|t| t.take()).unwrap_or_default()
    }
}

fn is_mutation(call: &str) -> bool {
    const CHANGES: [&str; 11] = [
        "up ",
        "create ",
        "start",
        "stop",
        "set_restart_policy",
        "run_in",
        "change_gateway",
        "remove_",
        "name_image",
        "forget_image",
        "pull ",
    ];
    CHANGES.iter().any(|change| call.starts_with(change))
}

fn kind_of(op: &Op<'_>) -> Option<Kind> {
    match op {
        Op::Sync(_) => Some(Kind::Sync),
        Op::Rename { .. } => Some(Kind::Rename),
        Op::SyncDir(_) => Some(Kind::SyncDir),
        Op::Remove(_) | Op::RemoveDir(_) | Op::RemoveTree(_) => Some(Kind::Remove),
        Op::Create(_) | Op::Link { .. } | Op::MakeDir(_) | Op::Cut(..) => None,
    }
}

fn seq_of_journal(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".log")?.parse().ok()
}

/// An operation for people, with names from the root on.
fn told(op: &Op<'_>, root: &Path) -> String {
    format!("{op:?}").replace(&format!("{}/", root.display()), "")
}
