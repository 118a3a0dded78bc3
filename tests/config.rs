//! belay.yml: what is accepted, what it means, and what is said about everything that is wrong.
//!
//! `BELAY_BLESS=1 cargo test --test config` rewrites docs/belay.schema.json, the tables of docs/configuration.md and the
//! expected problems beside each file of tests/fixtures/config/bad.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use belay_model::composition::continuity::Unsaid;
use belay_model::config::{
    BackupData, Bytes, Config, DataMeaning, DataPlace, DataStrategy, Excess, Gateway, ImageSource,
    Overrides, Percent, Period, Problem, RequestSettings, Settings, Text, VersionSource,
    WishedStrategy, keys, reference, render_problems, schema, values,
};
use belay_model::config::{Mode, ProxyProtocol, Roll};
use belay_model::replacement::wishes::GatewayRule;
use belay_model::replacement::wishes::{DrainWish, StrategyWish};
use belay_model::request::tag::TagKind;
use belay_model::transaction::journal::Holder;
use belay_model::transaction::plan::{
    self, ConfirmRule, OverLimit, Plan, PlannedWork, RequestRules, Run,
};
use belay_model::versions::release::RollbackTo;
use serde_json::{Value, json};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = repository().join("tests/fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    Config::load(text, "belay.yml")
}

fn good(text: &str) -> Config {
    load(text).unwrap_or_else(|problems| panic!("{}\n{text}", render_problems(&problems)))
}

fn named(text: &str) -> Config {
    good(text)
        .with(&Overrides {
            repository: Some("example/shop".into()),
            ..Overrides::default()
        })
        .unwrap()
}

fn settings(text: &str, environment: &str) -> Settings {
    named(text).for_environment(environment).unwrap()
}

fn bless() -> bool {
    std::env::var_os("BELAY_BLESS").is_some()
}

/// Compares with a committed file, or writes it.
fn assert_golden(path: &Path, actual: &str) {
    if bless() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} is out of date (BELAY_BLESS=1 rewrites it):\n{actual}",
        path.display()
    );
}

// ---- what is accepted -----------------------------------------------------------------------------------------------

#[test]
fn every_good_file_is_accepted() {
    for file in fixtures("good") {
        good(&fs::read_to_string(&file).unwrap());
    }
}

#[test]
fn an_empty_file_has_every_default() {
    for text in ["", "# only a comment\n", "---\n", "{}"] {
        let settings = settings(text, "production");
        assert_eq!(settings.app.as_str(), "shop");
        assert_eq!(settings.root.as_str(), "/opt/shop");
        assert_eq!(settings.host, None);
        assert_eq!(settings.compose, None);
        assert_eq!(settings.images.source, ImageSource::Stream);
        assert_eq!(
            (settings.images.budget, settings.images.keep),
            (Bytes::megabytes(300), 3)
        );
        assert_eq!(settings.images.growth, Percent::new(20));
        assert_eq!((settings.backup.keep, settings.backup.logs), (5, 1000));
        assert_eq!(settings.backup.data, BackupData::Auto);
        assert_eq!(
            (settings.health.successes, settings.health.primary),
            (3, None)
        );
        assert_eq!(settings.health.deadline, Period::seconds(60));
        assert_eq!(
            (settings.bake, settings.confirm),
            (Period::seconds(10), Period::seconds(120))
        );
        assert_eq!(settings.lock_wait, Period::seconds(600));
        assert_eq!(
            settings.gateway,
            gateway("haproxy:3.0", ImageSource::Registry)
        );
        let requests = RequestSettings {
            rate: 50,
            max_failed: None,
            max_gap: None,
            over: Excess::Warn,
        };
        assert_eq!(settings.requests, requests);
    }
}

fn gateway(image: &str, source: ImageSource) -> Gateway {
    Gateway::On {
        image: Text::read(image).expect("an image"),
        source,
    }
}

#[test]
fn a_gateway_is_on_unless_it_is_off() {
    for (text, expected) in [
        ("gateway: off", Gateway::Off),
        ("gateway: \"off\"", Gateway::Off),
        ("gateway: {}", gateway("haproxy:3.0", ImageSource::Registry)),
        (
            "gateway: {source: stream}",
            gateway("haproxy:3.0", ImageSource::Stream),
        ),
        (
            "gateway: {image: \"example.com/haproxy:2.8\"}",
            gateway("example.com/haproxy:2.8", ImageSource::Registry),
        ),
    ] {
        assert_eq!(settings(text, "production").gateway, expected, "{text}");
    }
}

#[test]
fn the_example_is_the_application_of_the_strategy() {
    let text = fs::read_to_string(repository().join("examples/ntplatform/belay.yml")).unwrap();
    let settings = settings(&text, "production");
    assert_eq!(
        (settings.app.as_str(), settings.root.as_str()),
        ("ntplatform", "/opt/ntplatform")
    );
    let host = settings.host.unwrap();
    assert_eq!(
        (host.address.as_str(), host.port, host.user.as_str()),
        ("203.0.113.10", 22, "deploy")
    );
    assert_eq!(
        settings.health.primary.unwrap().as_str(),
        "http://127.0.0.1:8080/api/status"
    );
    assert_eq!(
        settings.health.backup.unwrap().as_str(),
        "http://127.0.0.1:8080/health"
    );
    assert!(
        matches!(settings.health.version, Some(VersionSource::Header(name)) if name.as_str() == "X-App-Version")
    );
    assert_eq!((settings.backup.keep, settings.images.keep), (5, 3));
    assert_eq!(settings.images.budget.get(), 300_000_000);
    assert_eq!(settings.images.test, ["/app", "--self-test"]);
}

#[test]
fn a_full_file_means_what_it_says() {
    let text =
        fs::read_to_string(repository().join("tests/fixtures/config/good/full.yml")).unwrap();
    let production = settings(&text, "production");
    assert_eq!(production.root.as_str(), "/opt/ntplatform");
    assert_eq!(
        production.compose.as_ref().unwrap().as_str(),
        "deploy/docker-compose.yml"
    );
    let files: Vec<_> = production
        .files
        .iter()
        .map(|file| (file.from.as_str(), file.to.as_str()))
        .collect();
    assert_eq!(
        files,
        [
            ("nginx.conf", "nginx.conf"),
            (".env.production", ".env"),
            ("config/my settings.json", "config/my settings.json")
        ]
    );
    let strategies: Vec<_> = production
        .services
        .iter()
        .map(|(name, service)| (name.as_str(), service.strategy))
        .collect();
    assert_eq!(
        strategies,
        [
            ("cache", WishedStrategy::Untouched),
            ("db", WishedStrategy::StopFirst),
            ("migrate", WishedStrategy::OneShot),
            ("web", WishedStrategy::StartFirst),
            ("worker", WishedStrategy::Auto)
        ]
    );
    assert_eq!(production.images.budget.get(), 1_500_000_000);
    let BackupData::These(data) = &production.backup.data else {
        panic!("a list")
    };
    assert!(matches!(&data[0].place, DataPlace::Volume(name) if name.as_str() == "uploads"));
    assert_eq!(data[0].strategy, DataStrategy::Live);
    assert!(matches!(&data[1].place, DataPlace::Path(path) if path.as_str() == "data"));
    assert_eq!(data[3].command, ["pg_dump", "-U", "app"]);
    assert_eq!(production.confirm, Period::seconds(300));
    assert_eq!(production.health.deadline, Period::seconds(120));

    let staging = settings(&text, "staging");
    assert_eq!(staging.confirm, Period::seconds(180));
    assert_eq!(staging.health.deadline, Period::seconds(30));
    assert_eq!(
        staging.health.primary, production.health.primary,
        "health is overridden key by key"
    );
    let host = staging.host.unwrap();
    assert_eq!((host.address.as_str(), host.port), ("2001:db8::10", 2222));
    assert_eq!(
        staging.tags,
        BTreeSet::from([TagKind::Prerelease, TagKind::Dev, TagKind::Feature])
    );
}

#[test]
fn settings_survive_the_way_to_the_host() {
    let text =
        fs::read_to_string(repository().join("tests/fixtures/config/good/full.yml")).unwrap();
    let settings = settings(&text, "staging");
    let json = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
    let hostile = json.replace("/opt/ntplatform-staging", "/opt/../etc");
    assert!(serde_json::from_str::<Settings>(&hostile).is_err());
}

// ---- what the host is told ------------------------------------------------------------------------------------------

fn planned(settings: &Settings) -> Plan {
    let work = PlannedWork::Rollback {
        to: RollbackTo::Previous,
        reason: None,
        restore: None,
    };
    let run = Run {
        tx: "0".repeat(32),
        confirm: ConfirmRule::Host,
        holder: Holder {
            what: String::new(),
            run_url: None,
            actor: None,
            since: None,
            pid: None,
        },
    };
    plan::compose(work, settings, None, run)
}

#[test]
fn the_plan_has_the_gateway_and_the_limits_of_the_file() {
    let usual = planned(&settings("", "production"));
    let image = "haproxy:3.0".to_owned();
    assert_eq!(usual.gateway, GatewayRule::On { image });
    let unlimited = RequestRules {
        per_second: 50,
        ..RequestRules::default()
    };
    assert_eq!(usual.requests, unlimited);

    let off = planned(&settings("gateway: off\nrequests: {rate: 0}", "production"));
    assert_eq!(off.gateway, GatewayRule::Off);
    assert_eq!(off.requests.per_second, 0);

    let text =
        fs::read_to_string(repository().join("tests/fixtures/config/good/full.yml")).unwrap();
    let full = planned(&settings(&text, "production"));
    let image = "haproxy:2.8-alpine".to_owned();
    assert_eq!(full.gateway, GatewayRule::On { image });
    let limited = RequestRules {
        per_second: 20,
        max_failed: Some(0),
        max_gap_ms: Some(250),
        over: OverLimit::Fail,
    };
    assert_eq!(full.requests, limited);
}

#[test]
fn a_plan_from_before_the_gateway_has_none_and_measures_nothing() {
    let mut plan = serde_json::to_value(planned(&settings("", "production"))).unwrap();
    let members = plan.as_object_mut().unwrap();
    assert!(members.remove("gateway").is_some() && members.remove("requests").is_some());
    let plan: Plan = serde_json::from_value(plan).unwrap();
    assert_eq!(plan.gateway, GatewayRule::Off);
    assert_eq!(plan.requests, RequestRules::default());
    assert_eq!(plan.requests.per_second, 0);
}

#[test]
fn what_is_meant_for_data_travels_and_production_is_where_releases_go() {
    let text = "data: {uploads: left, ./files: moved, \"web:/data\": left}";
    let of = |more: &str, environment: &str| {
        planned(&settings(&format!("{text}\n{more}"), environment)).continuity
    };
    let rules = of("", "production");
    let meant = rules.meant.iter().map(|m| (m.source.as_str(), m.meaning));
    assert_eq!(
        meant.collect::<Vec<_>>(),
        [
            ("./files", DataMeaning::Moved),
            ("uploads", DataMeaning::Left),
            ("web:/data", DataMeaning::Left)
        ]
    );
    assert_eq!(rules.unsaid, Unsaid::Refuse);
    assert_eq!(of("", "development").unsaid, Unsaid::Warn);
    let live = "environments: {live: {tags: [release, hotfix]}, production: {tags: []}}";
    assert_eq!(of(live, "live").unsaid, Unsaid::Refuse);
    assert_eq!(of(live, "production").unsaid, Unsaid::Refuse);
    let mut plan = serde_json::to_value(planned(&settings("", "production"))).unwrap();
    plan.as_object_mut().unwrap().remove("continuity");
    let plan: Plan = serde_json::from_value(plan).unwrap();
    assert_eq!(plan.continuity.unsaid, Unsaid::Warn);
}

#[test]
fn the_wishes_say_how_each_service_is_spoken_to_and_drained() {
    let text =
        fs::read_to_string(repository().join("tests/fixtures/config/good/full.yml")).unwrap();
    let wishes = plan::strategy_wishes(&settings(&text, "production"));
    let of = |name: &str| wishes.iter().find(|w| w.service == name).cloned();
    let web = StrategyWish {
        service: "web".into(),
        strategy: WishedStrategy::StartFirst,
        mode: Mode::Http,
        proxy_protocol: ProxyProtocol::V2,
        roll: Roll::OneByOne,
        drain: Some(DrainWish {
            command: vec!["/app".into(), "--drain".into()],
            wait_ms: 20_000,
        }),
        left: vec!["/var/cache".into()],
    };
    assert_eq!(of("web"), Some(web));
    let db = StrategyWish {
        strategy: WishedStrategy::StopFirst,
        mode: Mode::Tcp,
        drain: Some(DrainWish::usual()),
        ..StrategyWish::of("db")
    };
    assert_eq!(of("db"), Some(db));
    let v1 = settings("services: {web: {proxy-protocol: v1}}", "production");
    assert_eq!(
        plan::strategy_wishes(&v1)[0].proxy_protocol,
        ProxyProtocol::V1
    );
}

// ---- environments and inputs ----------------------------------------------------------------------------------------

#[test]
fn tags_go_to_the_environment_that_lists_them() {
    let usual = named("");
    assert_eq!(usual.environment_of(TagKind::Hotfix), Some("production"));
    assert_eq!(
        usual.environment_of(TagKind::Prerelease),
        Some("development")
    );
    let own = named(
        "environments: {live: {tags: [release]}, production: {tags: [hotfix]}, development: {}}",
    );
    assert_eq!(own.environment_of(TagKind::Release), Some("live"));
    assert_eq!(own.environment_of(TagKind::Hotfix), Some("production"));
    assert_eq!(own.environment_of(TagKind::Feature), Some("development"));
    let closed = named("environments: {production: {tags: [release]}}");
    assert_eq!(closed.environment_of(TagKind::Hotfix), None);
    assert_eq!(
        closed.for_environment("production").unwrap().tags,
        BTreeSet::from([TagKind::Release])
    );
}

#[test]
fn inputs_win_over_the_file() {
    let file = "host: 203.0.113.10\nroot: /opt/a\nlock-wait: 1m\n\
                environments: {staging: {host: {address: 203.0.113.11, user: ops}, root: /opt/b}}\n";
    let overrides = Overrides {
        environment: Some("staging".into()),
        host: Some("203.0.113.12".into()),
        port: Some("2200".into()),
        user: Some(String::new()),
        root: Some("/opt/c".into()),
        lock_wait: Some("5m".into()),
        repository: Some("example/shop".into()),
    };
    let config = good(file).with(&overrides).unwrap();
    assert_eq!(config.environment_of(TagKind::Release), Some("staging"));
    let settings = config.for_environment("staging").unwrap();
    let host = settings.host.unwrap();
    assert_eq!(
        (host.address.as_str(), host.port, host.user.as_str()),
        ("203.0.113.12", 2200, "ops")
    );
    assert_eq!(
        (settings.root.as_str(), settings.app.as_str()),
        ("/opt/c", "c")
    );
    assert_eq!(settings.lock_wait, Period::seconds(300));
}

#[test]
fn every_bad_input_is_reported() {
    let overrides = Overrides {
        environment: Some("a b".into()),
        host: Some("-oProxyCommand=id".into()),
        port: Some("+22".into()),
        user: Some("root;id".into()),
        root: Some("/".into()),
        lock_wait: Some("10".into()),
        repository: None,
    };
    let problems = good("").with(&overrides).unwrap_err();
    assert_eq!(problems.len(), 6, "{}", render_problems(&problems));
    assert!(
        problems
            .iter()
            .all(|problem| problem.file == "inputs" && problem.line == 0 && problem.hint.is_some())
    );
}

#[test]
fn an_environment_that_is_not_described_is_refused_when_others_are() {
    assert!(named("").for_environment("anything").is_ok());
    let config = named("environments: {production: {}, staging: {}}");
    assert!(config.for_environment("development").is_ok());
    let problems = config.for_environment("stagin").unwrap_err();
    assert_eq!(
        render_problems(&problems),
        "inputs: environment: \"stagin\" is not an environment of belay.yml\n  hint: did you mean staging?\n"
    );
    assert!(named("").for_environment("../x").is_err());
}

#[test]
fn something_has_to_name_the_app() {
    assert!(good("").for_environment("production").is_err());
    assert_eq!(
        good("app: shop")
            .for_environment("production")
            .unwrap()
            .root
            .as_str(),
        "/opt/shop"
    );
    assert_eq!(
        good("root: /srv/shop")
            .for_environment("production")
            .unwrap()
            .app
            .as_str(),
        "shop"
    );
}

#[test]
fn limits_that_can_be_kept_are_accepted() {
    for text in [
        "health: {primary: \"http://a/\"}\nrequests: {max-gap: 40ms}",
        "health: {primary: \"http://a/\"}\nrequests: {rate: 1000, max-gap: 2ms}",
        "environments: {production: {health: {primary: \"http://a/\"}}}\nrequests: {max-failed: 0}",
    ] {
        good(text);
    }
}

// ---- what is wrong --------------------------------------------------------------------------------------------------

/// A line, a column, and how the message there begins.
type Place = (u64, u64, &'static str);

/// Each file of tests/fixtures/config/bad has its problems beside it.
#[test]
fn bad_files_are_explained_as_recorded() {
    for file in fixtures("bad") {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let problems = Config::load(&text, name).expect_err(name);
        assert_golden(&file.with_extension("txt"), &render_problems(&problems));
    }
}

#[test]
fn a_problem_points_to_its_line_and_column() {
    let table: &[(&str, &[Place])] = &[
        ("- a\n", &[(1, 1, "the file is a list, not a map")]),
        ("text\n", &[(1, 1, "the file is text, not a map")]),
        ("rooot: /opt/a\n", &[(1, 1, "rooot is not a setting")]),
        ("app: a\n  b: c\n", &[(2, 4, "not valid YAML")]),
        ("app: [a\n", &[(1, 6, "not valid YAML")]),
        ("app: \"a\n", &[(1, 6, "not valid YAML")]),
        ("app: a\n---\napp: b\n", &[(3, 1, "not valid YAML")]),
        ("app: *a\n", &[(1, 6, "not valid YAML")]),
        (
            "app: a\napp: b\n",
            &[(2, 1, "app is given twice; first in line 1")],
        ),
        (
            "1: a\n",
            &[(1, 1, "the file has a key that is a number, not text")],
        ),
        (
            "? [a]\n: b\n",
            &[(1, 3, "the file has a key that is a list, not text")],
        ),
        ("app:\n", &[(1, 4, "app has no value")]),
        ("app: 12\n", &[(1, 6, "app is a number, not an app name")]),
        ("app: a/b\n", &[(1, 6, "app: \"a/b\" is not an app name")]),
        (
            "root: opt/a\n",
            &[(
                1,
                7,
                "root: \"opt/a\" is not a folder of its own on the host",
            )],
        ),
        ("root: /opt/../etc\n", &[(1, 7, "root:")]),
        ("root: /\n", &[(1, 7, "root:")]),
        ("root: /etc\n", &[(1, 7, "root:")]),
        ("root: /proc/self\n", &[(1, 7, "root:")]),
        ("root: /opt\n", &[(1, 7, "root:")]),
        ("root: /opt/a;id\n", &[(1, 7, "root:")]),
        ("compose: ../docker-compose.yml\n", &[(1, 10, "compose:")]),
        ("compose: /docker-compose.yml\n", &[(1, 10, "compose:")]),
        ("project: NT\n", &[(1, 10, "project:")]),
        (
            "host: deploy@203.0.113.10\n",
            &[(1, 7, "host: \"deploy@203.0.113.10\" is not a host address")],
        ),
        ("host: 203.0.113.300\n", &[(1, 7, "host:")]),
        (
            "host: {address: -oProxyCommand=id}\n",
            &[(1, 17, "host.address:")],
        ),
        (
            "host:\n  port: 0\n",
            &[(2, 9, "host.port: 0 is out of range")],
        ),
        (
            "host:\n  port: \"22\"\n",
            &[(2, 9, "host.port is text, not a whole number")],
        ),
        (
            "host:\n  port: 70000\n",
            &[(2, 9, "host.port: 70000 is out of range")],
        ),
        ("host:\n  user: a b\n", &[(2, 9, "host.user:")]),
        (
            "host:\n  adress: example.com\n",
            &[(2, 3, "host.adress is not a setting")],
        ),
        (
            "files: nginx.conf\n",
            &[(1, 8, "files is text, not a list")],
        ),
        ("files:\n  - /etc/passwd\n", &[(2, 5, "files:")]),
        (
            "files:\n  - backups/a\n",
            &[(2, 5, "files: backups/a is Belay's own on the host")],
        ),
        (
            "files:\n  - {from: a, to: .belay/lock}\n",
            &[(2, 5, "files: .belay/lock is Belay's own")],
        ),
        (
            "files:\n  - {from: a, to: docker-compose.yml.backup}\n",
            &[(2, 5, "files:")],
        ),
        (
            "files:\n  - a\n  - {from: b, to: a}\n",
            &[(3, 5, "files: a is written twice")],
        ),
        (
            "files:\n  - {to: a}\n",
            &[(2, 5, "files: an entry has no from")],
        ),
        (
            "services:\n  web: start-first\n",
            &[(2, 8, "services.web is text, not a map")],
        ),
        (
            "services:\n  web: {strategy: start_first}\n",
            &[(2, 19, "services.web.strategy: \"start_first\"")],
        ),
        (
            "services:\n  web site: {}\n",
            &[(2, 3, "services: \"web site\" is not a service name")],
        ),
        (
            "services:\n  web: {mode: https}\n",
            &[(2, 15, "services.web.mode: \"https\" is not known")],
        ),
        (
            "services:\n  web: {proxy-protocol: false}\n",
            &[(2, 25, "services.web.proxy-protocol is true or false")],
        ),
        (
            "services:\n  web: {drain: 5s}\n",
            &[(2, 16, "services.web.drain is text, not a map")],
        ),
        (
            "services:\n  web: {drain: {command: /app --drain, wait: 5}}\n",
            &[
                (2, 26, "services.web.drain.command is text, not a list"),
                (2, 46, "services.web.drain.wait is a number, not a duration"),
            ],
        ),
        (
            "services:\n  belay-gateway: {}\n",
            &[(2, 3, "services.belay-gateway is the gateway")],
        ),
        (
            "images:\n  given: {belay-gateway: \"a:1\"}\n",
            &[(2, 3, "images.given.belay-gateway is the gateway")],
        ),
        (
            "gateway: false\n",
            &[(1, 10, "gateway is true or false, not off, or a map")],
        ),
        (
            "gateway: on\n",
            &[(1, 10, "gateway is text, not off, or a map")],
        ),
        (
            "gateway:\n  image: -x\n  source: copy\n",
            &[
                (2, 10, "gateway.image: \"-x\" is not an image name"),
                (3, 11, "gateway.source: \"copy\" is not known"),
            ],
        ),
        (
            "gateway:\n  ship: true\n",
            &[(2, 3, "gateway.ship is not a setting")],
        ),
        (
            "requests:\n  rate: 1001\n",
            &[(2, 9, "requests.rate: 1001 is out of range")],
        ),
        (
            "requests:\n  max-failed: -1\n",
            &[(2, 15, "requests.max-failed")],
        ),
        (
            "health: {primary: \"http://a/\"}\nrequests: {max-gap: 1, over: rollback}\n",
            &[
                (2, 21, "requests.max-gap is a number, not a duration"),
                (2, 30, "requests.over: \"rollback\" is not known"),
            ],
        ),
        (
            "health: {primary: \"http://a/\"}\nrequests:\n  rate: 0\n  max-failed: 1\n",
            &[(3, 3, "requests: a limit is set, but with a rate of 0")],
        ),
        (
            "requests:\n  max-gap: 1s\n",
            &[(
                2,
                3,
                "requests: a limit is set, but there is no health.primary",
            )],
        ),
        (
            "health: {primary: \"http://a/\"}\nrequests:\n  max-gap: 39ms\n",
            &[(
                3,
                3,
                "requests.max-gap (39ms) is too short for a rate of 50",
            )],
        ),
        (
            "images:\n  budget: 300\n",
            &[(2, 11, "images.budget is a number, not a size")],
        ),
        (
            "images:\n  budget: 300 MB\n",
            &[(2, 11, "images.budget: \"300 MB\" is not a size")],
        ),
        (
            "images:\n  budget: 0MB\n",
            &[(2, 11, "images.budget: no image fits into nothing")],
        ),
        (
            "images:\n  budget: 99999999999999TB\n",
            &[(2, 11, "images.budget:")],
        ),
        (
            "images:\n  growth: 20\n",
            &[(2, 11, "images.growth is a number, not a percentage")],
        ),
        (
            "images:\n  over_budget: warn\n",
            &[(2, 3, "images.over_budget is not a setting")],
        ),
        (
            "images:\n  test: /app --self-test\n",
            &[(2, 9, "images.test is text, not a list of arguments")],
        ),
        (
            "images:\n  test: [/app, 1]\n",
            &[(2, 16, "images.test is a number, not text")],
        ),
        (
            "images:\n  keep: 1\n",
            &[(2, 9, "images.keep: 1 is out of range")],
        ),
        (
            "images:\n  keep: 2.5\n",
            &[(2, 9, "images.keep is a number, not a whole number")],
        ),
        (
            "images:\n  given:\n    web: -x\n",
            &[(3, 10, "images.given.web:")],
        ),
        (
            "images:\n  platform: windows/amd64\n",
            &[(2, 13, "images.platform:")],
        ),
        (
            "health:\n  primary: ftp://example.com\n",
            &[(2, 12, "health.primary:")],
        ),
        (
            "health:\n  primary: http://user:pass@example.com/\n",
            &[(2, 12, "health.primary:")],
        ),
        (
            "health:\n  primary: http://\n",
            &[(2, 12, "health.primary:")],
        ),
        (
            "health:\n  primary: 127.0.0.1:8080/health\n",
            &[(2, 12, "health.primary:")],
        ),
        (
            "health:\n  backup: http://a/\n",
            &[(2, 11, "health.backup has no primary beside it")],
        ),
        (
            "health:\n  version: {header: X}\n",
            &[(2, 12, "health.version has no primary to ask")],
        ),
        (
            "health: {primary: \"http://a/\", version: {header: X, json: v}}\n",
            &[(1, 41, "health.version needs")],
        ),
        (
            "health:\n  timeout: 2m\n",
            &[(
                2,
                12,
                "health.timeout (120s) is longer than the deadline (60s)",
            )],
        ),
        (
            "health:\n  successes: 100\n  interval: 1s\n",
            &[(2, 3, "health.deadline: 100 answers")],
        ),
        (
            "health:\n  interval: 1ms\n",
            &[(2, 13, "health.interval: 1ms is too short")],
        ),
        ("bake: 10\n", &[(1, 7, "bake is a number, not a duration")]),
        (
            "bake: ten seconds\n",
            &[(1, 7, "bake: \"ten seconds\" is not a duration")],
        ),
        ("bake: -1s\n", &[(1, 7, "bake: \"-1s\" is not a duration")]),
        ("bake: 25h\n", &[(1, 7, "bake: \"25h\" is not a duration")]),
        ("bake: yes\n", &[(1, 7, "bake: \"yes\" is not a duration")]),
        (
            "bake: true\n",
            &[(1, 7, "bake is true or false, not a duration")],
        ),
        (
            "bake: .inf\n",
            &[(1, 7, "bake: \".inf\" is not a duration")],
        ),
        ("confirm: 1s\n", &[(1, 10, "confirm: 1s is too short")]),
        (
            "backup:\n  keep: 0\n",
            &[(2, 9, "backup.keep: 0 is out of range")],
        ),
        (
            "backup:\n  data: all\n",
            &[(2, 9, "backup.data: \"all\" is not known")],
        ),
        (
            "backup:\n  data: {volume: a}\n",
            &[(2, 9, "backup.data is a map, not auto, none or a list")],
        ),
        (
            "backup:\n  data: [{strategy: live}]\n",
            &[(2, 10, "backup.data needs either volume or path")],
        ),
        (
            "backup:\n  data: [{volume: a}, {volume: a}]\n",
            &[(2, 23, "backup.data is listed twice")],
        ),
        (
            "backup:\n  data: [{volume: a, strategy: dump}]\n",
            &[(2, 32, "backup.data.strategy: a dump needs")],
        ),
        (
            "backup:\n  data: [{volume: a, command: [x]}]\n",
            &[(2, 31, "backup.data.command is only for a dump")],
        ),
        (
            "backup:\n  data: [{path: ../a}]\n",
            &[(2, 17, "backup.data.path:")],
        ),
        (
            "environments:\n  production:\n",
            &[(2, 13, "environments.production has no value")],
        ),
        (
            "environments:\n  pro duction: {}\n",
            &[(2, 3, "environments: \"pro duction\"")],
        ),
        (
            "environments:\n  a: {tags: [relase]}\n",
            &[(2, 14, "environments.a.tags: \"relase\" is not known")],
        ),
        (
            "environments:\n  a: {tags: [dev]}\n  b: {tags: [dev]}\n",
            &[(3, 14, "environments.b.tags: dev tags already go to a")],
        ),
        (
            "host: example.com\nenvironments:\n  a: {}\n  b: {}\n",
            &[(
                4,
                3,
                "environments: a and b are the same folder of the same host",
            )],
        ),
        (
            "ssh-key: abc\n",
            &[(
                1,
                1,
                "ssh-key looks like a secret, and belay.yml keeps none",
            )],
        ),
        (
            "host:\n  password: abc\n",
            &[(2, 3, "host.password looks like a secret")],
        ),
        (
            "GITHUB_TOKEN: abc\n",
            &[(1, 1, "GITHUB_TOKEN looks like a secret")],
        ),
        (
            "services: {web: {strategy: untouched}}\nimages: {given: {web: \"a:1\"}}\n",
            &[(
                1,
                11,
                "services.web is untouched, but images.given has a new image for it",
            )],
        ),
        // One wrong value hides no other.
        (
            "rot: /opt/a\nbake: 10\nhost:\n  port: no\n  usr: x\nimages: {keep: many}\n",
            &[
                (1, 1, "rot is not a setting"),
                (2, 7, "bake is a number"),
                (4, 9, "host.port is text"),
                (5, 3, "host.usr is not a setting"),
                (6, 16, "images.keep is text"),
            ],
        ),
    ];
    for (text, expected) in table {
        let problems = load(text).expect_err(text);
        let rendered = render_problems(&problems);
        assert_eq!(problems.len(), expected.len(), "{text}\n{rendered}");
        for (problem, (line, column, message)) in problems.iter().zip(*expected) {
            assert_eq!(
                (problem.line, problem.column),
                (*line, *column),
                "{text}\n{rendered}"
            );
            assert!(problem.message.starts_with(message), "{text}\n{rendered}");
            let hint = problem.hint.as_deref().expect(text);
            assert!(!hint.is_empty() && !hint.contains('\n') && !problem.message.contains('\n'));
        }
    }
}

#[test]
fn hints_suggest_what_was_meant() {
    let table = [
        ("rooot: /opt/a", "did you mean root?"),
        ("lock_wait: 1m", "did you mean lock-wait?"),
        ("images: {over_budget: warn}", "did you mean over-budget?"),
        ("port: 22", "port belongs under host"),
        ("keep: 3", "keep belongs under images"),
        ("tags: [dev]", "tags belongs under environments.NAME"),
        ("strategy: auto", "strategy belongs under services.NAME"),
        (
            "host: {root: /opt/a}",
            "root belongs at the top of the file",
        ),
        (
            "health: {endpoint: x}",
            "known here: primary, backup, public",
        ),
        (
            "images: {source: streem}",
            "did you mean stream? It may be stream, registry",
        ),
        ("password: x", "pass it as an input of the action"),
    ];
    for (text, hint) in table {
        let problems = load(text).expect_err(text);
        assert!(
            problems[0].hint.as_ref().unwrap().contains(hint),
            "{text}\n{}",
            render_problems(&problems)
        );
    }
}

#[test]
fn aliases_and_depth_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let deep = format!("a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let large = format!("app: {}", "a".repeat(300 * 1024));
    let many = (0..30_000)
        .map(|n| format!("k{n}: 1\n"))
        .collect::<String>();
    for text in [bomb, deep, large, many] {
        let problems = load(&text).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].message.len() < 300, "{}", problems[0].message);
    }
}

#[test]
fn no_text_makes_it_panic_or_print_raw_bytes() {
    let hostile = [
        "\0",
        "\u{1b}[31m: 1",
        "a: \u{202e}",
        "\u{202e}: a",
        "::error::x: y",
        "app: \"\\e[2J\"",
        "!!binary a",
        "<<: a",
    ];
    for text in hostile {
        if let Err(problems) = load(text) {
            let rendered = render_problems(&problems);
            assert!(
                !rendered.contains(['\u{1b}', '\u{202e}', '\0']),
                "{rendered:?}"
            );
        }
    }
}

// ---- the schema -----------------------------------------------------------------------------------------------------

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&schema::schema()).unwrap()
}

/// The file as the schema sees it in an editor that reads YAML 1.2, where `off` is a word; an empty one is an empty map.
fn as_json(text: &str) -> Option<Value> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).ok()?;
    Some(if value.is_null() { json!({}) } else { value })
}

#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("docs/belay.schema.json");
    let schema = schema::schema();
    if bless() {
        fs::write(&path, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
    }
    let committed: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        committed == schema,
        "docs/belay.schema.json is out of date (BELAY_BLESS=1 rewrites it)"
    );
}

#[test]
fn the_schema_accepts_every_good_file() {
    let validator = validator();
    let example = repository().join("examples/ntplatform/belay.yml");
    for file in fixtures("good").into_iter().chain([example]) {
        let value = as_json(&fs::read_to_string(&file).unwrap()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", file.display());
    }
}

/// Wrong shapes are refused by both; combinations only by the reader.
#[test]
fn the_schema_refuses_what_the_reader_refuses_about_shapes() {
    let validator = validator();
    let refused = [
        "rooot: /opt/a",
        "app: 12",
        "app:",
        "root: opt/a",
        "root: /opt/../etc",
        "compose: ../x.yml",
        "project: NT",
        "host: deploy@203.0.113.10",
        "host: {port: 0}",
        "host: {port: \"22\"}",
        "host: {port: 70000}",
        "host: {adress: a}",
        "host: {password: a}",
        "files: a",
        "files: [/etc/passwd]",
        "files: [{to: a}]",
        "files: [-a]",
        "services: {web: start-first}",
        "services: {web: {strategy: start_first}}",
        "services: {web site: {}}",
        "services: {web: {mode: https}}",
        "services: {web: {proxy-protocol: false}}",
        "services: {web: {drain: 5s}}",
        "services: {web: {drain: {command: /app}}}",
        "services: {web: {drain: {wait: 5}}}",
        "gateway: on",
        "gateway: false",
        "gateway:",
        "gateway: {image: -x}",
        "gateway: {source: copy}",
        "gateway: {ship: true}",
        "requests: {rate: 1001}",
        "requests: {rate: -1}",
        "requests: {max-failed: none}",
        "requests: {max-gap: 1}",
        "requests: {over: rollback}",
        "images: {budget: 300}",
        "images: {budget: 300 MB}",
        "images: {growth: 20}",
        "images: {test: /app}",
        "images: {test: [1]}",
        "images: {test: [\"\"]}",
        "images: {keep: 1}",
        "images: {keep: 101}",
        "images: {given: {web: -x}}",
        "images: {platform: windows/amd64}",
        "images: {over-budget: maybe}",
        "health: {primary: \"ftp://example.com\"}",
        "health: {primary: \"http://user@example.com/\"}",
        "health: {primary: \"http://\"}",
        "health: {successes: 0}",
        "health: {version: X}",
        "health: {version: {}}",
        "health: {version: {header: X, json: v}}",
        "bake: 10",
        "bake: ten",
        "bake: true",
        "backup: {keep: 0}",
        "backup: {data: all}",
        "backup: {data: {volume: a}}",
        "backup: {data: [{path: ../a}]}",
        "backup: {logs: -1}",
        "data: {uploads: kept}",
        "data: {../uploads: left}",
        "data: [uploads]",
        "environments: {a: {tags: [relase]}}",
        "environments: {a: {tags: dev}}",
        "environments: {a b: {}}",
        "environments: {a: }",
        "- a",
    ];
    for text in refused {
        assert!(load(text).is_err(), "the reader accepts {text}");
        assert!(
            !validator.is_valid(&as_json(text).unwrap()),
            "the schema accepts {text}"
        );
    }
}

/// A pattern may accept more than the reader (it cannot know the calendar of periods), never less.
#[test]
fn patterns_agree_with_the_readers() {
    fn check<T: Text>(accepted: &[&str], refused: &[&str]) {
        let schema =
            jsonschema::validator_for(&json!({"type": "string", "pattern": T::PATTERN})).unwrap();
        for text in accepted {
            assert!(T::read(text).is_some(), "{} refuses {text:?}", T::WHAT);
            assert!(
                schema.is_valid(&json!(text)),
                "the pattern of {} refuses {text:?}",
                T::WHAT
            );
        }
        for text in refused
            .iter()
            .chain(&["", " ", "\n", "a\n", "$(id)", "a\0"])
        {
            assert!(T::read(text).is_none(), "{} accepts {text:?}", T::WHAT);
            assert!(
                !schema.is_valid(&json!(text)),
                "the pattern of {} accepts {text:?}",
                T::WHAT
            );
        }
    }
    let long = "a".repeat(64);
    check::<values::AppName>(&["a", "A.b-c_1"], &["-a", ".a", "a b", &long]);
    check::<values::EnvironmentName>(&["production"], &["-a", "a/b"]);
    check::<values::ServiceName>(&["web", "web_1"], &["-a"]);
    check::<values::ProjectName>(&["a", "0a_b-"], &["A", "_a", "a.b", &long]);
    check::<values::DataSource>(
        &[
            "uploads",
            "a.b-c_d",
            "./files",
            "/srv/files",
            "/srv/it's here",
            "web:/var/lib/data",
        ],
        &[
            "", "-a", ".", "/", "./", "../x", "web:", "web:data", "web:/", "a b", "a\tb", "/a\nb",
            ":/data",
        ],
    );
    check::<values::VolumeName>(&["data"], &["/data", "-a"]);
    check::<values::ImageName>(&["nginx", "a/b:c@sha256:0"], &["-a", "a b", "/a"]);
    check::<values::HeaderName>(&["X-App-Version"], &["X App", "-X", "X:"]);
    check::<values::JsonField>(&["version", "a.b-c._d"], &[".", "a.", "a..b", "a b"]);
    check::<values::Platform>(
        &["linux/amd64", "linux/arm/v7"],
        &["linux", "linux/", "windows/amd64", "linux/arm/v7/x"],
    );
    check::<values::UserName>(&["root", "_a", "a.b-c"], &["-a", "1a", "a b", &long]);
    check::<values::HostAddress>(
        &[
            "example.com",
            "203.0.113.10",
            "2001:db8::1",
            "[2001:db8::1]",
            "a_b",
        ],
        &[
            "-a",
            "a-",
            "a..b",
            "a b",
            "user@example.com",
            "example.com:22",
            "a/b",
            ".a",
        ],
    );
    check::<values::Url>(
        &[
            "http://a",
            "https://a.example.com:8443/x?y=z",
            "http://127.0.0.1:8080/@",
        ],
        &[
            "a",
            "ftp://a",
            "http://",
            "http:///a",
            "http://a b",
            "http://u@a",
            "http://a/#b",
            "HTTP://a",
        ],
    );
    check::<values::AbsolutePath>(
        &["/opt/a", "/opt/a/", "/home/u/.a", "/opt/..a"],
        &[
            "/",
            "opt/a",
            "/opt//a",
            "/opt/../a",
            "/opt/./a",
            "/opt/a b",
            "/opt/a/..",
            "//a",
        ],
    );
    check::<values::RelativePath>(
        &["a", "./a", "a/b c/\u{e9}", ".env", "..a"],
        &[
            "/a", "-a", "../a", "a/../b", "a//b", "a/", ".", "..", "a\\b", "./",
        ],
    );
    check::<values::DataPath>(
        &["./data", "data", "/srv/data"],
        &["../a", "/", "/../a", "/./a", "//a", "-a"],
    );
    check::<values::Period>(
        &["0s", "10s", "500ms", "24h"],
        &["10", "s", "1.5s", "10 s", "-1s", "1d", "1234567890s"],
    );
    check::<values::Bytes>(
        &["300MB", "1.44GB", "64KiB", "0B", "1kB"],
        &[
            "300", "MB", "300 MB", "1.MB", ".5MB", "1.2345MB", "1.1.1MB", "300mb",
        ],
    );
    check::<values::Percent>(
        &["0%", "20%", "9999%"],
        &["20", "%", "1.5%", "12345%", "-1%"],
    );
}

#[test]
fn values_are_written_as_they_are_read() {
    for text in ["0s", "500ms", "90s", "86400s"] {
        assert_eq!(Period::read(text).unwrap().to_string(), text);
    }
    for (text, bytes, again) in [
        ("300MB", 300_000_000, "300MB"),
        ("1.44GB", 1_440_000_000, "1440MB"),
        ("64KiB", 65_536, "64KiB"),
        ("1.001KiB", 1_025, "1025B"),
        ("0B", 0, "0B"),
    ] {
        let size = Bytes::read(text).unwrap();
        assert_eq!((size.get(), size.to_string().as_str()), (bytes, again));
        assert_eq!(Bytes::read(again), Some(size));
    }
}

/// Every map that the schema describes, by its path; `*` stands for a name of the user's own and `-` for a list.
fn maps(schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, Vec<String>)>) {
    let below = |part: &str| {
        path.iter()
            .cloned()
            .chain([part.to_owned()])
            .collect::<Vec<_>>()
    };
    let alternatives = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|key| schema[key].as_array())
        .flatten();
    alternatives.for_each(|alternative| maps(alternative, path, found));
    if let Some(properties) = schema["properties"].as_object() {
        found.push((path.to_vec(), properties.keys().cloned().collect()));
        properties
            .iter()
            .for_each(|(key, schema)| maps(schema, &below(key), found));
    }
    for (part, key) in [("*", "additionalProperties"), ("-", "items")] {
        if schema[key].is_object() {
            maps(&schema[key], &below(part), found);
        }
    }
    if let Some(patterns) = schema["patternProperties"].as_object() {
        patterns
            .values()
            .for_each(|schema| maps(schema, &below("*"), found));
    }
}

fn described_maps() -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    maps(&schema::schema(), &[], &mut found);
    assert!(found.len() > 10);
    found
}

/// A file with this value at this path.
fn at_path(path: &[String], value: Value) -> Value {
    path.iter()
        .rev()
        .fold(value, |value, part| match part.as_str() {
            "*" => json!({"name": value}),
            "-" => json!([value]),
            key => json!({key: value}),
        })
}

#[test]
fn the_reader_knows_exactly_the_keys_of_the_schema() {
    for (path, keys) in described_maps() {
        for key in &keys {
            let file = at_path(&path, json!({key: [[]]})).to_string();
            let problems = load(&file).map(|_| ()).unwrap_err();
            let rendered = render_problems(&problems);
            assert!(
                !rendered.contains("is not a setting") && !rendered.contains("secret"),
                "{file}\n{rendered}"
            );
        }
        let file = at_path(&path, json!({"zzzzzzzzzz": 1})).to_string();
        let problems = load(&file).unwrap_err();
        let hints: Vec<&str> = problems
            .iter()
            .filter_map(|problem| problem.hint.as_deref())
            .collect();
        let Some(known) = hints
            .iter()
            .find_map(|hint| hint.strip_prefix("known here: "))
        else {
            panic!("{file}: {hints:?}")
        };
        let known: BTreeSet<&str> = known.split(", ").collect();
        // A choice between two keys is described as two maps.
        let described: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let is_choice = path.last().is_some_and(|part| part == "version");
        assert!(
            known == described || (is_choice && described.is_subset(&known)),
            "{file}: {known:?} {described:?}"
        );
    }
}

/// Every default that the schema tells, with the path of its map and its key.
fn defaults(schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, String, Value)>) {
    let below = |part: &str| [path, &[part.to_owned()]].concat();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        if !property["default"].is_null() {
            found.push((path.to_vec(), key.clone(), property["default"].clone()));
        }
        defaults(property, &below(key), found);
    }
    for alternative in schema["anyOf"].as_array().into_iter().flatten() {
        defaults(alternative, path, found);
    }
    for schema in schema["patternProperties"]
        .as_object()
        .into_iter()
        .flatten()
    {
        defaults(schema.1, &below("*"), found);
    }
    if schema["items"].is_object() {
        defaults(&schema["items"], &below("-"), found);
    }
}

#[test]
fn a_default_is_what_holds_without_its_key() {
    let mut told = Vec::new();
    defaults(&schema::schema(), &[], &mut told);
    assert!(told.len() > 25, "{told:?}");
    for (path, key, value) in told {
        // An entry of backup.data is nothing without its place.
        let mut unsaid = match path.last().map(String::as_str) {
            Some("-") => json!({"volume": "uploads"}),
            _ => json!({}),
        };
        let without = at_path(&path, unsaid.clone()).to_string();
        unsaid[&key] = value;
        let with = at_path(&path, unsaid).to_string();
        assert_eq!(good(&with), good(&without), "{with}");
    }
    let host = settings(
        "host: {address: example.com, port: 22, user: deploy}",
        "production",
    )
    .host;
    assert_eq!(settings("host: example.com", "production").host, host);
}

// ---- the documentation ----------------------------------------------------------------------------------------------

#[test]
fn the_tables_of_the_documentation_are_the_declared_keys() {
    let path = repository().join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    assert_golden(&path, &reference::fill(&text).unwrap());
}

#[test]
fn a_document_without_a_table_for_each_key_is_refused() {
    let marks = |keys: &str| format!("<!-- keys: {keys} -->\n<!-- /keys -->\n");
    let all: Vec<String> = keys().into_iter().map(|key| key.name).collect();
    let filled = reference::fill(&marks(&all.join(" "))).unwrap();
    assert_eq!(reference::fill(&filled), Ok(filled.clone()));
    let (last, others) = all.split_last().unwrap();
    for (document, problem) in [
        (
            marks(&others.join(" ")),
            reference::Unfillable::Missing(last.clone()),
        ),
        (
            marks("rooot"),
            reference::Unfillable::Unknown("rooot".to_owned()),
        ),
        (
            "<!-- keys: app -->\n".to_owned(),
            reference::Unfillable::Open,
        ),
    ] {
        assert_eq!(reference::fill(&document), Err(problem), "{document}");
    }
}

#[test]
fn a_template_can_tell_a_key_in_short() {
    assert_eq!(
        reference::default_of("host.user").as_deref(),
        Some("deploy")
    );
    assert_eq!(reference::default_of("images.keep").as_deref(), Some("3"));
    assert_eq!(reference::default_of("root"), None);
    let short = reference::in_short("images.over-budget");
    assert_eq!(short.as_deref(), Some("What a larger image means"));
    let short = reference::in_short("root").unwrap();
    assert_eq!(short, "The folder of the app on the host");
    assert_eq!(reference::in_short("images.nothing"), None);
}

/// The blocks of this language in a document.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let opening = format!("\n```{language}\n");
    let after = text.split(opening.as_str()).skip(1);
    after
        .filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block))
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let in_docs = fs::read_dir(repository().join("docs")).unwrap();
    let mut files: Vec<PathBuf> = in_docs.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.push(repository().join("README.md"));
    files
}

/// In the documents a block of the language yaml is a belay.yml; everything else is yml (tests/docs_test.py).
#[test]
fn every_example_in_the_documents_is_accepted() {
    let mut read = 0;
    for file in documents() {
        for example in blocks(&fs::read_to_string(&file).unwrap(), "yaml") {
            let problems =
                load(example).map_or_else(|problems| render_problems(&problems), |_| String::new());
            assert!(
                problems.is_empty(),
                "{}: {problems}\n{example}",
                file.display()
            );
            read += 1;
        }
    }
    assert!(read >= 8, "only {read} examples were found");
}
