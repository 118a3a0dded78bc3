//! What one seed decides before anything happens: what serves, who wants what, who says what when, and what breaks.

use std::collections::BTreeMap;
use std::fs;

use belay_agent::host::Host as _;
use belay_agent::journal;
use belay_model::composition::continuity::Unsaid;
use belay_model::digest::sha256;
use belay_model::judgement::health::DegradedRule;
use belay_model::transaction::plan::{ConfirmRule, Plan};
use belay_model::versions::release::RollbackTo;
use belay_model::yaml;
use serde_json::{Value, json};

use crate::rng::Rng;
use crate::support::fake_host::{Behaviour, ComposeKind, WALL_MS, When};
use crate::support::site::{Site, Version, copying_deployment_of, deployment_of, rollback_to};

/// What serves before the story begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Base {
    Nothing,
    /// An application of the user's, that ran before Belay came.
    Adopted,
    /// One version was deployed; with a database and a migration, or without.
    One(Rich),
    /// A second version was deployed over a first.
    Two(Rich),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rich {
    Yes,
    No,
}

/// Which parts a version of the application has besides `web`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    /// A database with a volume and a healthcheck.
    db: bool,
    /// A one-shot service.
    migrate: bool,
    /// A service with a network and a volume of its own, and a file in a directory of its own.
    cache: bool,
}

impl Parts {
    const ALL: Parts = Parts {
        db: true,
        migrate: true,
        cache: false,
    };
}

/// A runner, and the transaction that it wants.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) plan: Plan,
    /// Nothing for a rollback.
    pub(crate) version: Option<Version>,
    pub(crate) nonce: String,
    /// Confirms so long after Bake, each time anew.
    pub(crate) confirms_after: Vec<u64>,
}

/// What a runner says, or what befalls the host, at a time.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Begin(usize),
    /// A runner confirms, with the nonce of a runner.
    Confirm {
        who: usize,
        nonce_of: usize,
    },
    /// A confirmation that is no runner's lies where the newest transaction looks for its own.
    Stray,
    /// A runner asks for so many more milliseconds.
    Extend(usize, u64),
    Abort(usize),
    /// A runner asks how it went.
    Look(usize),
    /// Asks again for what a confirmation came to.
    Poll {
        who: usize,
        left: u32,
    },
    Contact,
    /// Somebody sets the wall clock.
    Wall(i64),
    /// Docker does not answer for a number of calls.
    Outage {
        calls: usize,
        when: When,
    },
    /// The engine is stopped, somebody removes the lock's file, and the second runner's transaction begins and ends
    /// before the first engine is woken.
    Overtake,
}

/// A kind of event, to choose where something breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    /// Any event after the first Bake was through.
    AfterBake,
    /// A record of a journal is written and not synced yet.
    Record,
    /// The same of the one that commits.
    Decision,
    Sync,
    Rename,
    SyncDir,
    Remove,
    Mutation,
    AfterCommit,
}

impl Kind {
    pub(crate) const COUNT: usize = 10;
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Break {
    /// The process is killed; what it wrote stays in the kernel's memory.
    Kill,
    /// The power fails, and comes back.
    Power,
    /// The disk is full for so many operations.
    Full(u32),
}

/// Something that breaks before the n-th event of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) n: u32,
    pub(crate) what: Break,
}

#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) base: Base,
    pub(crate) compose: ComposeKind,
    pub(crate) runners: Vec<Runner>,
    pub(crate) messages: Vec<(u64, Message)>,
    pub(crate) faults: Vec<Fault>,
    /// Chances in a hundred of a contact, and of a loss of power, whenever no engine works.
    pub(crate) contacts: usize,
    pub(crate) power: usize,
    /// Whether another deployment follows; it takes as long as the story did.
    pub(crate) is_followed: bool,
}

/// A message that the seed chooses.
type Saying = fn(&mut Rng) -> Message;

impl Story {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let base = *rng.pick(&[
            Base::Nothing,
            Base::Adopted,
            Base::One(Rich::Yes),
            Base::One(Rich::No),
            Base::One(Rich::No),
            Base::Two(Rich::Yes),
            Base::Two(Rich::No),
        ]);
        let mut story = Story {
            base,
            compose: *rng.pick(&[ComposeKind::Python, ComposeKind::Go]),
            runners: vec![runner(0, base, rng)],
            messages: vec![],
            faults: vec![],
            contacts: *rng.pick(&[5, 25]),
            power: 0,
            is_followed: rng.percent(35),
        };
        if rng.percent(30) {
            story.runners.push(runner(1, base, rng));
            story.second_runner(rng);
        }
        story.talk(rng);
        if rng.percent(75) {
            story.break_things(rng);
        }
        story
    }

    fn second_runner(&mut self, rng: &mut Rng) {
        let (at, what) = match rng.percent(20) {
            true => (rng.between(300, 6000), Message::Overtake),
            false => (rng.between(1, 8000), Message::Begin(1)),
        };
        self.messages.push((at, what));
        if rng.percent(30) {
            let (who, nonce_of) = *rng.pick(&[(0, 1), (1, 0)]);
            let at = rng.between(500, 9000);
            self.messages.push((at, Message::Confirm { who, nonce_of }));
        }
    }

    /// What is said out of turn.
    fn talk(&mut self, rng: &mut Rng) {
        let said: [(usize, Saying); 7] = [
            (15, |_| Message::Confirm {
                who: 0,
                nonce_of: 0,
            }),
            (10, |_| Message::Stray),
            (12, |rng| Message::Extend(0, rng.between(100, 20_000))),
            (12, |_| Message::Abort(0)),
            (15, |_| Message::Look(0)),
            (10, |_| Message::Contact),
            (20, |rng| Message::Wall(wall(rng))),
        ];
        for (percent, message) in said {
            while rng.percent(percent) {
                let at = rng.between(1, 9000);
                self.messages.push((at, message(rng)));
            }
        }
    }

    fn break_things(&mut self, rng: &mut Rng) {
        self.power = *rng.pick(&[0, 0, 15, 30]);
        for _ in 0..*rng.pick(&[0, 1, 1, 1, 2, 3]) {
            self.faults.push(fault(rng));
        }
        while rng.percent(20) {
            let outage = Message::Outage {
                calls: *rng.pick(&[1, 2, 5, 20, 60]),
                when: *rng.pick(&[When::Before, When::After]),
            };
            self.messages.push((rng.between(1, 6000), outage));
        }
    }

    /// Whether nothing happens but what the runners and the wall clock say.
    pub(crate) fn is_calm(&self) -> bool {
        let disturbs = |m: &Message| matches!(m, Message::Outage { .. } | Message::Overtake);
        self.faults.is_empty()
            && self.power == 0
            && !self.messages.iter().any(|(_, message)| disturbs(message))
    }

    pub(crate) fn has_strangers(&self) -> bool {
        let is_stray = |m: &Message| matches!(m, Message::Stray);
        self.messages.iter().any(|(_, message)| is_stray(message))
    }

    /// Whether a disk or an engine refuses what an undo needs.
    pub(crate) fn has_outages(&self) -> bool {
        let outage = |m: &Message| matches!(m, Message::Outage { .. });
        self.messages.iter().any(|(_, message)| outage(message))
            || self.faults.iter().any(|f| matches!(f.what, Break::Full(_)))
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let kind = *rng.pick(&[
        Kind::Any,
        Kind::Any,
        Kind::AfterBake,
        Kind::Record,
        Kind::Decision,
        Kind::Sync,
        Kind::Rename,
        Kind::SyncDir,
        Kind::Remove,
        Kind::Mutation,
        Kind::AfterCommit,
    ]);
    let most = match kind {
        Kind::Any => 900,
        Kind::AfterBake => 150,
        Kind::Record | Kind::AfterCommit => 60,
        Kind::Sync | Kind::SyncDir => 80,
        Kind::Rename => 40,
        Kind::Remove => 30,
        Kind::Mutation => 25,
        Kind::Decision => 1,
    };
    Fault {
        kind,
        n: rng.between(1, most) as u32,
        what: match rng.below(10) {
            0..4 => Break::Kill,
            4..9 => Break::Power,
            _ => Break::Full(*rng.pick(&[1, 3, 20])),
        },
    }
}

/// Where somebody sets the wall clock to, from where it should be.
fn wall(rng: &mut Rng) -> i64 {
    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;
    *rng.pick(&[
        HOUR,
        -HOUR,
        YEAR,
        -YEAR,
        // 1970, the end of 32 bits, and 2106.
        1000 - WALL_MS,
        2_147_483_646_000 - WALL_MS,
        4_294_967_295_000 - WALL_MS,
        0,
    ])
}

fn runner(number: usize, base: Base, rng: &mut Rng) -> Runner {
    let rollback = match base {
        Base::Two(_) => rng.percent(40),
        Base::One(_) | Base::Adopted => rng.percent(5),
        Base::Nothing => false,
    };
    let mut version = (!rollback).then(|| {
        let parts = Parts {
            db: rng.percent(40),
            migrate: rng.percent(30),
            cache: rng.percent(25),
        };
        let version = version(&format!("v1.{}.0", number + 2), parts);
        let version = version.with("web", behaviour(rng));
        match rng.percent(60) {
            true => version.stop_first("web"),
            false => version,
        }
    });
    let mut plan = match &version {
        Some(version) => deployment_of(version),
        None => rollback_to(RollbackTo::Previous),
    };
    let nonce = format!("nonce {number} {:x}", rng.next());
    let copies = sha256(nonce.as_bytes()).starts_with(['0', '1', '2', '3', '4', '5']);
    if let Some(version) = version.as_mut().filter(|_| copies) {
        plan = with_moved_data(version);
    }
    plan.tx = sha256(nonce.as_bytes())[32..].to_owned();
    vary(&mut plan, rng);
    let within_ms = rng.between(300, 4000);
    if rng.percent(80) {
        plan.confirm = ConfirmRule::Runner {
            nonce_sha256: sha256(nonce.as_bytes()),
            within_ms,
        };
    }
    plan.limits.lock_wait_ms = *rng.pick(&[0, 1000, 8000, 30_000]);
    let mut confirms_after = vec![];
    if rng.percent(80) {
        confirms_after.push(rng.between(0, within_ms * 5 / 4));
        if rng.percent(20) {
            confirms_after.push(rng.between(0, within_ms * 2));
        }
    }
    Runner {
        plan,
        version,
        nonce,
        confirms_after,
    }
}

/// Short watches: what is looked at is how a transaction ends, not how it judges health.
fn quick(plan: &mut Plan) {
    plan.health.successes = 1;
    plan.health.interval_ms = 700;
    plan.health.deadline_ms = 2500;
    plan.health.bake_ms = 0;
    plan.health.degraded = DegradedRule::Fail;
}

fn vary(plan: &mut Plan, rng: &mut Rng) {
    quick(plan);
    plan.health.successes = rng.between(1, 2) as u32;
    plan.health.bake_ms = *rng.pick(&[0, 700]);
    plan.requests.per_second = *rng.pick(&[0, 0, 10]);
    plan.keep_releases = *rng.pick(&[1, 2, 5]);
    plan.backup.keep = *rng.pick(&[1, 2, 5]);
    if rng.percent(15) {
        plan.limits.transaction_ms = rng.between(200, 6000);
    }
}

fn behaviour(rng: &mut Rng) -> Behaviour {
    if rng.percent(65) {
        return Behaviour::Healthy;
    }
    rng.pick(&[
        Behaviour::Status500,
        Behaviour::PrimaryHangs,
        Behaviour::Exits(1),
        Behaviour::DockerUnhealthy,
        Behaviour::NeverListens,
        Behaviour::BadAfter(900),
        Behaviour::WontStart,
        Behaviour::WrongVersion,
    ])
    .clone()
}

/// A small application.
fn version(tag: &str, parts: Parts) -> Version {
    let mut services = json!({
        "web": {"build": {"context": "."}, "restart": "unless-stopped", "ports": ["127.0.0.1:8080:8080"],
            "environment": {"RELEASE": "${BELAY_TAG}"}, "depends_on": {}},
    });
    let mut compose = json!({});
    let mut files = vec![
        (".env".to_owned(), 0o600, format!("RELEASE={tag}\n")),
        ("conf/app.conf".to_owned(), 0o644, format!("app {tag}\n")),
    ];
    let mut built = BTreeMap::from([("web".to_owned(), Behaviour::Healthy)]);
    if parts.db {
        services["db"] = json!({"image": "db:16", "restart": "unless-stopped", "volumes": ["data:/var/lib/db"],
            "healthcheck": {"test": ["CMD", "ready"], "interval": "1s", "timeout": "1s", "retries": 5}});
        services["web"]["depends_on"]["db"] = json!({"condition": "service_healthy"});
        compose["volumes"]["data"] = Value::Null;
    }
    if parts.migrate {
        services["migrate"] = json!({"build": {"context": "."}, "restart": "no"});
        services["web"]["depends_on"]["migrate"] =
            json!({"condition": "service_completed_successfully"});
        built.insert("migrate".to_owned(), Behaviour::OneShot(0));
    }
    if parts.cache {
        services["cache"] = json!({"image": "cache:7", "restart": "unless-stopped", "networks": ["back"],
            "volumes": ["cachedata:/data"]});
        compose["networks"] = json!({"back": null});
        compose["volumes"]["cachedata"] = Value::Null;
        files.push(("conf/cache/a.conf".to_owned(), 0o644, "cache\n".to_owned()));
    }
    compose["services"] = services;
    Version {
        tag: tag.to_owned(),
        compose,
        files,
        built,
        wishes: vec![],
    }
}

/// The database's data is in another volume than that of other versions, and goes along.
fn with_moved_data(version: &mut Version) -> Plan {
    if let Some(db) = version.compose["services"].get_mut("db") {
        db["volumes"] = json!(["store:/var/lib/db"]);
        let volumes = version.compose["volumes"].as_object_mut();
        let volumes = volumes.expect("there are volumes");
        volumes.remove("data");
        volumes.insert("store".to_owned(), Value::Null);
    }
    let mut plan = copying_deployment_of(version);
    plan.continuity.unsaid = Unsaid::Warn;
    plan
}

/// A version that must be deployable after everything.
pub(crate) fn last_version() -> Version {
    version("v9.0.0", Parts::default()).stop_first("web")
}

/// A host on which `base` serves.
pub(crate) fn arrange(base: Base) -> Site {
    let site = Site::new();
    let deployed = |tag: &str, rich: Rich| {
        // The poor one serves without a gateway.
        let version = match rich {
            Rich::Yes => version(tag, Parts::ALL),
            Rich::No => version(tag, Parts::default()).stop_first("web"),
        };
        site.bring(&version);
        let mut plan = deployment_of(&version);
        quick(&mut plan);
        site.engine(&plan).expect("it ends");
        site.check();
        assert_eq!(
            site.serving().as_deref(),
            Some(tag),
            "{:?}",
            site.failures()
        );
    };
    match base {
        Base::Nothing => {}
        Base::Adopted => adopted(&site),
        Base::One(rich) => deployed("v1.0.0", rich),
        Base::Two(rich) => {
            deployed("v1.0.0", rich);
            deployed("v1.1.0", rich);
        }
    }
    // Their records are history; reading them again and again would take most of the time.
    for seq in journal::sequence_numbers(&site.layout).expect("readable") {
        fs::remove_file(site.layout.journal(seq)).expect("removed");
    }
    site.host.calm();
    site
}

/// An application that ran before Belay came; the power may fail under it, so its own restart policies bring it back.
fn adopted(site: &Site) {
    site.handmade();
    let compose = json!({
        "services": {
            "db": {"image": "db:16", "volumes": ["data:/var/lib/db"], "restart": "always"},
            "web": {"image": "handmade/web", "ports": ["8080:8080"], "restart": "always"},
        },
        "volumes": {"data": null},
    });
    site.write("docker-compose.yml", 0o644, &yaml::write(&compose));
    for service in ["db", "web"] {
        let started = site.host.up(&site.composition(), service);
        started.expect("the user's application runs");
    }
    // What was there is adopted by any deployment, also by one that is refused at once.
    site.host.world().free_bytes = 0;
    site.deploy(&version("v1.0.0", Parts::default()));
    site.host.world().free_bytes = 1 << 40;
}
