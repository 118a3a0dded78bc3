//! How each service is replaced, for a sweep of Compose files: `fixtures/strategy/NAME.yml`, each with what is expected of
//! it in its first lines, and `serving/NAME.yml` where something serves already.
//!
//! Each file is judged as it is written, and, when `BELAY_TEST_DOCKER=1`, as this machine's own Compose prints it: the
//! notation changes on that way, and the judgement must not. Lines of an expectation:
//!
//! ```text
//! # SERVICE: STRATEGY (words of the reason)      the words may be left out
//! # gap SERVICE: words of the gap
//! # refused: words of the refusal
//! # wish SERVICE: STRATEGY                       as in belay.yml
//! # mode SERVICE: tcp                            as in belay.yml
//! # gateway: off                                 as in belay.yml
//! # only raw | only rendered                     where Compose changes what is said, and not only how
//! # needs compose 2                              docker-compose 1.x refuses the file
//! ```

#[path = "support/sample.rs"]
mod sample;

use std::fs;
use std::path::{Path, PathBuf};

use belay_agent::docker::RealHost;
use belay_agent::host::{Composition, Host as _};
use belay_model::composition::compose::{ComposeFile, ComposeProblem};
use belay_model::composition::ports::{Port, Protocol, Published, ports};
use belay_model::config::{Mode, WishedStrategy};
use belay_model::replacement::strategy::{ServiceStrategy, Strategy, classify};
use belay_model::replacement::wishes::{GatewayRule, StrategyWish};
use belay_model::yaml;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use sample::has_its_turn;

/// How many files there are: one that is not found would be one that is not judged.
const FIXTURES: usize = 120;

struct Fixture {
    name: String,
    text: String,
    serving: Option<PathBuf>,
    services: Vec<Expected>,
    gaps: Vec<(String, String)>,
    refused: Option<String>,
    wishes: Vec<StrategyWish>,
    gateway: GatewayRule,
    only: Option<Way>,
    needs_compose_2: bool,
}

struct Expected {
    service: String,
    strategy: Strategy,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Raw,
    Rendered,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/strategy")
}

fn fixtures() -> Vec<Fixture> {
    let entries = fs::read_dir(directory()).expect("the fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "yml"));
    paths.sort();
    paths.iter().map(|path| Fixture::read(path)).collect()
}

impl Fixture {
    fn read(path: &Path) -> Fixture {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let serving = directory().join(format!("serving/{name}.yml"));
        let mut fixture = Fixture {
            text: fs::read_to_string(path).expect("readable"),
            serving: serving.exists().then_some(serving),
            services: vec![],
            gaps: vec![],
            refused: None,
            wishes: vec![],
            gateway: on(),
            only: None,
            needs_compose_2: false,
            name,
        };
        let text = fixture.text.clone();
        for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
            fixture.expect(line);
        }
        let says_something = !fixture.services.is_empty() || fixture.refused.is_some();
        assert!(says_something, "{} expects nothing", fixture.name);
        fixture
    }

    fn expect(&mut self, line: &str) {
        match line {
            "only raw" => return self.only = Some(Way::Raw),
            "only rendered" => return self.only = Some(Way::Rendered),
            "needs compose 2" => return self.needs_compose_2 = true,
            "gateway: off" => return self.gateway = GatewayRule::Off,
            _ => {}
        }
        let (what, said) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        match what.split_once(' ') {
            Some(("wish", service)) => self.wish(service).strategy = named(said),
            Some(("mode", service)) => self.wish(service).mode = named(said),
            Some(("gap", service)) => self.gaps.push((service.to_owned(), said.to_owned())),
            None if what == "refused" => self.refused = Some(said.to_owned()),
            None => self.services.push(expected(what, said)),
            Some(_) => panic!("{}: nobody knows what `{line}` means", self.name),
        }
    }

    fn wish(&mut self, service: &str) -> &mut StrategyWish {
        if !self.wishes.iter().any(|wish| wish.service == service) {
            self.wishes.push(StrategyWish::of(service));
        }
        let mut wishes = self.wishes.iter_mut();
        wishes
            .find(|wish| wish.service == service)
            .expect("just made")
    }

    /// Judges the file, and compares.
    fn judge(&self, way: Way, read: &dyn Fn(&Path) -> Value) {
        let file = |path: &Path| ComposeFile::new(read(path)).expect("it has services");
        let candidate = file(&directory().join(format!("{}.yml", self.name)));
        let serving = self.serving.as_deref().map(file);
        let judged = classify(&candidate, &self.wishes, &self.gateway, serving.as_ref());
        let name = format!("{} ({way:?})", self.name);
        match (&self.refused, judged) {
            (None, Ok(judged)) => self.compare(&name, way, &judged),
            (Some(words), Err(problem)) => {
                assert!(
                    matches!(problem, ComposeProblem::CannotStartFirst { .. }),
                    "{name}: {problem}"
                );
                assert!(problem.to_string().contains(words), "{name}: {problem}");
            }
            (_, judged) => panic!("{name}: {judged:?}"),
        }
    }

    fn compare(&self, name: &str, way: Way, judged: &[ServiceStrategy]) {
        for expected in &self.services {
            let Some(found) = judged.iter().find(|c| c.service == expected.service) else {
                let is_left_out = way == Way::Rendered && self.text.contains("profiles:");
                assert!(is_left_out, "{name} has no {}", expected.service);
                continue;
            };
            assert_eq!(found.strategy, expected.strategy, "{name}: {found:?}");
            assert!(found.reason.contains(&expected.reason), "{name}: {found:?}");
            assert_eq!(found.gap.is_some(), has_gap(found), "{name}: {found:?}");
        }
        for found in judged {
            let is_expected = self.services.iter().any(|e| e.service == found.service);
            assert!(
                is_expected,
                "{name} does not say what becomes of {}",
                found.service
            );
        }
        for (service, words) in &self.gaps {
            let found = judged.iter().find(|c| &c.service == service);
            let gap = found.and_then(|c| c.gap.as_deref()).unwrap_or_default();
            assert!(gap.contains(words), "{name}: {service} has the gap {gap:?}");
        }
    }
}

/// Whoever is stopped first has a gap, but for one that never was there.
fn has_gap(found: &ServiceStrategy) -> bool {
    found.strategy == Strategy::StopFirst && found.reason != "it has no replicas"
}

fn on() -> GatewayRule {
    GatewayRule::On {
        image: "haproxy:3.0".to_owned(),
    }
}

/// A name as in belay.yml, in a plan or in a record.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(json!(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn expected(service: &str, said: &str) -> Expected {
    let (strategy, reason) = said.split_once(' ').unwrap_or((said, "()"));
    let reason = reason.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
    Expected {
        service: service.to_owned(),
        strategy: named(strategy),
        reason: reason.unwrap_or_else(|| panic!("{said}")).to_owned(),
    }
}

#[test]
fn every_file_is_judged_as_it_is_written() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), FIXTURES);
    for fixture in fixtures.iter().filter(|f| f.only != Some(Way::Rendered)) {
        fixture.judge(Way::Raw, &|path| {
            yaml::read(&fs::read(path).expect("readable")).expect("YAML")
        });
    }
}

#[test]
fn every_file_is_judged_the_same_as_compose_prints_it() {
    if std::env::var("BELAY_TEST_DOCKER").as_deref() != Ok("1") {
        return;
    }
    let host = RealHost::new();
    let is_old = host.engine().expect("an engine").compose.starts_with("1.");
    let render = |path: &Path| {
        let composition = Composition {
            project: "sweep".to_owned(),
            directory: directory(),
            file: path.to_owned(),
        };
        let name = path.display();
        host.render(&composition, &[])
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let mut fixtures = fixtures();
    fixtures.retain(|f| f.only != Some(Way::Raw) && !(is_old && f.needs_compose_2));
    let known = fixtures.len();
    assert!(known >= 100, "only {known} files would be judged");
    fixtures.retain(|fixture| has_its_turn(&fixture.name, 3));
    let judged = fixtures.len();
    assert!(judged >= 20, "only {judged} files were judged");
    // Compose takes a second for each, which is mostly its own start.
    std::thread::scope(|scope| {
        for some in fixtures.chunks(judged.div_ceil(4)) {
            scope.spawn(|| some.iter().for_each(|f| f.judge(Way::Rendered, &render)));
        }
    });
}

/// Every strategy is somewhere in the sweep, and every one that is refused has a way out.
#[test]
fn the_sweep_leaves_no_strategy_out() {
    let fixtures = fixtures();
    for strategy in [
        Strategy::StartFirstGateway,
        Strategy::StartFirstProxy,
        Strategy::StopFirst,
        Strategy::Untouched,
        Strategy::OneShot,
    ] {
        let mut expected = fixtures.iter().flat_map(|f| &f.services);
        assert!(expected.any(|e| e.strategy == strategy), "{strategy:?}");
    }
    assert!(fixtures.iter().filter(|f| f.refused.is_some()).count() >= 8);
}

/// Texts that mean something somewhere in a Compose file.
const WORDS: [&str; 30] = [
    "80",
    "8080:80",
    "1-3:1-3",
    "1-3:1",
    "127.0.0.1::80",
    "[::1]:1:1",
    "99999:1",
    "53/udp",
    ":",
    "-",
    "/",
    "host",
    "none",
    "service:a",
    "container:a",
    "a",
    "b",
    "a:/a",
    "/a",
    "./a:/b:ro",
    "x.sock:/y",
    "true",
    "traefik.enable=true",
    "=",
    "",
    "service_completed_successfully",
    "10s",
    "1h",
    "0",
    "ünïcode:é",
];

const KEYS: [&str; 30] = [
    "ports",
    "image",
    "container_name",
    "network_mode",
    "pid",
    "ipc",
    "networks",
    "volumes",
    "volumes_from",
    "devices",
    "gpus",
    "deploy",
    "resources",
    "reservations",
    "replicas",
    "mode",
    "scale",
    "labels",
    "environment",
    "depends_on",
    "condition",
    "links",
    "stop_grace_period",
    "target",
    "published",
    "protocol",
    "host_ip",
    "type",
    "source",
    "read_only",
];

fn any_json() -> impl Strategy_<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..70_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(&WORDS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = prop_oneof![
            4 => prop::sample::select(&KEYS[..]).prop_map(str::to_owned),
            1 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

use proptest::strategy::Strategy as Strategy_;

fn any_wish() -> impl Strategy_<Value = StrategyWish> {
    let strategy = prop::sample::select(vec![
        WishedStrategy::Auto,
        WishedStrategy::StartFirst,
        WishedStrategy::StopFirst,
        WishedStrategy::Untouched,
        WishedStrategy::OneShot,
    ]);
    let mode = prop::sample::select(vec![Mode::Http, Mode::Tcp]);
    (strategy, mode).prop_map(|(strategy, mode)| StrategyWish {
        strategy,
        mode,
        ..StrategyWish::of("a")
    })
}

fn written_short(port: &Port) -> String {
    let ip = port
        .host_ip
        .as_ref()
        .map_or(String::new(), |ip| match ip.contains(':') {
            true => format!("[{ip}]:"),
            false => format!("{ip}:"),
        });
    let published = match port.published {
        Published::Fixed(fixed) => format!("{fixed}:"),
        Published::Range(first, last) => format!("{first}-{last}:"),
        Published::Random if ip.is_empty() => String::new(),
        Published::Random => ":".to_owned(),
    };
    format!("{ip}{published}{}/{}", port.target, word(port.protocol))
}

fn written_long(port: &Port) -> Value {
    let mut long =
        json!({"target": port.target, "protocol": word(port.protocol), "mode": "ingress"});
    if let Some(ip) = &port.host_ip {
        long["host_ip"] = json!(ip);
    }
    match port.published {
        Published::Fixed(fixed) => long["published"] = json!(fixed.to_string()),
        Published::Range(first, last) => long["published"] = json!(format!("{first}-{last}")),
        Published::Random => {}
    }
    long
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn any_port() -> impl Strategy_<Value = Port> {
    let published = prop_oneof![
        Just(Published::Random),
        (1_u16..).prop_map(Published::Fixed),
        (1_u16..60_000, 1_u16..100).prop_map(|(first, more)| Published::Range(first, first + more)),
    ];
    let ip = prop::sample::select(vec![
        None,
        Some("127.0.0.1"),
        Some("0.0.0.0"),
        Some("::1"),
        Some("fd00::7"),
    ]);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    (ip, published, 1_u16.., protocol).prop_map(|(ip, published, target, protocol)| Port {
        host_ip: ip.map(str::to_owned),
        published,
        target,
        protocol,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_makes_it_panic(a in any_json(), b in any_json(), wish in any_wish(), gateway: bool, serves: bool) {
        let _ = ports(&a);
        let file = ComposeFile::new(json!({"services": {"a": a, "b": b}})).expect("services");
        let gateway = if gateway { on() } else { GatewayRule::Off };
        let serving = serves.then_some(&file);
        if let Ok(judged) = classify(&file, std::slice::from_ref(&wish), &gateway, serving) {
            for found in judged {
                let definition = file.service(&found.service).expect("there");
                if found.strategy.is_start_first() {
                    prop_assert!(definition.get("container_name").and_then(Value::as_str).unwrap_or("").is_empty());
                    let published = ports(definition).expect("only what is known runs twice");
                    prop_assert!(published.iter().all(|p| p.protocol == Protocol::Tcp));
                }
                if found.strategy == Strategy::StartFirstGateway {
                    prop_assert!(gateway != GatewayRule::Off);
                    prop_assert!(!ports(definition).expect("readable").is_empty());
                }
            }
        }
    }

    #[test]
    fn what_serves_already_stays(a in any_json(), b in any_json()) {
        let file = ComposeFile::new(json!({"services": {"a": a, "b": b}})).expect("services");
        for found in classify(&file, &[], &on(), Some(&file)).expect("no wishes") {
            prop_assert!(matches!(found.strategy, Strategy::Untouched | Strategy::OneShot), "{found:?}");
        }
    }

    #[test]
    fn a_port_is_the_same_in_both_notations(port in any_port()) {
        let both = json!({"ports": [written_short(&port), written_long(&port)]});
        prop_assert_eq!(ports(&both), Ok(vec![port.clone(), port]), "{}", both);
    }
}
