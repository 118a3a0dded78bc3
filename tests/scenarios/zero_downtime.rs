//! Not one failed request: beside every transaction somebody asks all the time, and is always answered, whatever dies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use belay_agent::engine::Ending;
use belay_agent::host::Host;
use belay_model::config::WishedStrategy;
use belay_model::judgement::measure::Measured;
use belay_model::replacement::moves::GatewayMove;
use belay_model::replacement::strategy::Strategy;
use belay_model::replacement::wishes::GatewayRule;
use belay_model::replacement::wishes::StrategyWish;
use belay_model::transaction::journal::{self, End, Event, Output};
use belay_model::transaction::plan::Plan;
use belay_model::transaction::step::Step;
use belay_model::versions::release::RollbackTo;
use belay_prober::{Prober, Target};

use crate::cases::sampled;
use crate::support::fake_host::{Behaviour, Crash, FakeImage, When};
use crate::support::site::{PRIMARY_URL, Site, Version, deployment_of};

/// A user who asks all the time, also while nobody of Belay's works.
fn user(site: &Site) -> Box<dyn Prober> {
    site.host.prober(&Target {
        url: PRIMARY_URL.to_owned(),
        per_second: 50,
        timeout: Duration::from_secs(1),
        version: Some(belay_model::judgement::health::VersionCheck::Header(
            crate::support::fake_host::VERSION_HEADER.to_owned(),
        )),
        by_proxy: false,
    })
}

#[track_caller]
fn never_failed(measured: &Measured, what: &str) {
    assert!(measured.total > 50, "{what}: {measured:?}");
    assert_eq!(measured.failed, 0, "{what}: {measured:?}");
}

fn versions(measured: &Measured) -> Vec<&str> {
    measured
        .versions
        .iter()
        .map(|s| s.version.as_str())
        .collect()
}

fn strategy_of(site: &Site, service: &str) -> Strategy {
    match journal::output(&site.entries(), Step::Fetch) {
        Some(Output::Fetched { moves, .. }) => moves.strategy(service),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deployment_is_not_noticed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let mut user = user(&site);
    site.must_deploy(&Version::first("v1.1.0"));
    let seen = user.take();
    never_failed(&seen, "a deployment");
    assert_eq!(versions(&seen), ["v1.0.0", "v1.1.0"]);
    assert_eq!(strategy_of(&site, "web"), Strategy::StartFirstGateway);
    let told = journal::measured(&site.entries()).expect("measured");
    never_failed(&told, "as Belay tells it");
}

#[test]
fn a_candidate_gets_no_request_before_the_cutover() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::first("v1.1.0"));
    let beside = |wanted: &[Step]| {
        let mut all = Measured::default();
        for entry in site.entries() {
            if let Event::Measured { step, measured } = entry.event
                && wanted.contains(&step)
            {
                all.add(&measured);
            }
        }
        all
    };
    let before = beside(&[Step::Start, Step::Probe]);
    never_failed(&before, "before the cutover");
    assert_eq!(versions(&before), ["v1.0.0"]);
    assert_eq!(versions(&beside(&[Step::Cutover, Step::Bake])), ["v1.1.0"]);
}

#[test]
fn a_bad_candidate_is_never_noticed() {
    for behaviour in [
        Behaviour::Status500,
        Behaviour::Exits(1),
        Behaviour::NeverListens,
        Behaviour::WrongVersion,
        Behaviour::WontStart,
        Behaviour::DockerUnhealthy,
    ] {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let mut user = user(&site);
        let bad = Version::first("v1.1.0").with("web", behaviour.clone());
        assert_eq!(site.deploy(&bad), Ending::Ended(End::Unwound));
        let seen = user.take();
        never_failed(&seen, &format!("{behaviour:?}"));
        assert_eq!(versions(&seen), ["v1.0.0"], "{behaviour:?}");
        site.check();
    }
}

#[test]
fn going_back_from_what_serves_already_is_not_noticed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let mut user = user(&site);
    // The worker turns bad while the release bakes; what users ask is well all the time.
    let bad = Version::first("v1.1.0").with("worker", Behaviour::Exits(1));
    assert_eq!(site.deploy(&bad), Ending::Ended(End::Unwound));
    let seen = user.take();
    never_failed(&seen, "an automatic rollback");
    assert_eq!(versions(&seen), ["v1.0.0", "v1.1.0", "v1.0.0"]);
    site.check();
}

#[test]
fn a_rollback_by_hand_is_not_noticed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::first("v1.1.0"));
    let mut user = user(&site);
    let ending = site.roll_back(RollbackTo::Previous);
    assert_eq!(ending, Ending::Ended(End::Committed));
    let seen = user.take();
    never_failed(&seen, "a rollback");
    assert_eq!(versions(&seen), ["v1.1.0", "v1.0.0"]);
    site.check();
}

#[test]
fn answers_that_take_long_are_written_to_their_end() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    // Less than the ten seconds that a service has by default to end.
    site.host.world().answers_last_ms = 7_000;
    let mut user = user(&site);
    site.must_deploy(&Version::first("v1.1.0"));
    let bad = Version::first("v1.2.0").with("worker", Behaviour::Exits(1));
    assert_eq!(site.deploy(&bad), Ending::Ended(End::Unwound));
    let ending = site.roll_back(RollbackTo::Previous);
    assert_eq!(ending, Ending::Ended(End::Committed));
    never_failed(&user.take(), "slow answers");
    assert_eq!(site.host.world().cut_off, 0);
}

#[test]
fn the_gateway_comes_with_one_gap_and_goes_on_without() {
    let site = Site::new();
    site.handmade();
    let mut user = user(&site);
    site.must_deploy(&Version::first("v1.0.0"));
    let moves = match journal::output(&site.entries(), Step::Fetch) {
        Some(Output::Fetched {
            moves, strategies, ..
        }) => {
            assert!(
                strategies.iter().any(|s| s.gap.is_some()),
                "the gap is announced"
            );
            moves.clone()
        }
        other => panic!("{other:?}"),
    };
    let freed_by = vec!["web".to_owned()];
    assert_eq!(moves.gateway, GatewayMove::Comes { freed_by });
    assert!(user.take().failed > 0, "two cannot have one port");
    site.must_deploy(&Version::first("v1.1.0"));
    never_failed(&user.take(), "after the gateway came");
}

#[test]
fn an_engine_that_dies_anywhere_is_not_noticed() {
    let calls = {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let version = Version::first("v1.1.0");
        site.bring(&version);
        site.host.calm();
        site.engine(&deployment_of(&version)).expect("it ends");
        site.host.counted().0
    };
    for call in sampled("an engine that dies", calls, 3) {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let version = Version::first("v1.1.0");
        site.bring(&version);
        let mut user = user(&site);
        site.host.crash_at(Crash {
            call,
            when: When::After,
        });
        let crashed = catch_unwind(AssertUnwindSafe(|| site.engine(&deployment_of(&version))));
        assert!(crashed.is_err(), "call {call} was never made");
        site.host.calm();
        // Nobody is there for a while.
        site.host.sleep(Duration::from_secs(5));
        site.recover().expect("it ends");
        let seen = user.take();
        assert_eq!(seen.failed, 0, "gone after call {call}: {seen:?}");
        site.check();
    }
}

#[test]
fn a_reboot_brings_back_the_version_before_until_it_is_confirmed() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    let version = Version::first("v1.1.0");
    site.bring(&version);
    site.host.calm();
    let host = site.host.clone();
    // In the middle of the bake.
    site.host.after_ms(3500, move || {
        host.reboot();
        panic_as_a_crash()
    });
    let crashed = catch_unwind(AssertUnwindSafe(|| site.engine(&deployment_of(&version))));
    assert!(crashed.is_err());
    site.host.sleep(Duration::from_secs(2));
    // With nothing of Belay's running.
    assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
    site.recover().expect("it ends");
    site.check();
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
}

fn panic_as_a_crash() {
    std::panic::resume_unwind(Box::new(crate::support::fake_host::Crashed));
}

#[test]
fn after_the_commit_the_new_version_is_what_a_reboot_brings_back() {
    let site = Site::new();
    site.must_deploy(&Version::first("v1.0.0"));
    site.must_deploy(&Version::first("v1.1.0"));
    site.host.reboot();
    site.host.sleep(Duration::from_secs(2));
    assert_eq!(site.answered().as_deref(), Some("v1.1.0"));
}

#[test]
fn a_limit_that_is_exceeded_undoes_the_deployment_or_says_so() {
    use belay_model::transaction::plan::OverLimit;
    for over in [OverLimit::Fail, OverLimit::Warn] {
        let site = Site::new();
        site.must_deploy(&Version::first("v1.0.0"));
        let version = Version::first("v1.1.0").stop_first("web");
        site.bring(&version);
        let mut plan = deployment_of(&version);
        plan.requests.max_failed = Some(0);
        plan.requests.over = over;
        let ending = site.engine(&plan).expect("it ends");
        match over {
            OverLimit::Fail => {
                assert_eq!(ending, Ending::Ended(End::Unwound));
                assert!(
                    site.cause().error.contains("0 are allowed"),
                    "{:?}",
                    site.cause()
                );
            }
            OverLimit::Warn => {
                assert_eq!(ending, Ending::Ended(End::Committed));
                let warned = |event: &Event| matches!(event, Event::Warning { text } if text.contains("0 are allowed"));
                assert!(site.entries().iter().any(|e| warned(&e.event)));
            }
        }
        site.check();
    }
}

/// Three containers of web, which take over one after the other.
fn rolling(tag: &str) -> Version {
    use belay_model::config::Roll;
    use belay_model::replacement::wishes::StrategyWish;
    let mut version = Version::first(tag);
    version.compose["services"]["web"]["deploy"] = serde_json::json!({"replicas": 3});
    version.wishes.push(StrategyWish {
        roll: Roll::OneByOne,
        ..StrategyWish::of("web")
    });
    version
}

/// The most containers of a service that were there at once, judged by the calls that make and start them.
fn most_started_at_once(site: &Site) -> usize {
    let (mut now, mut most) = (0_i32, 0);
    for call in &site.host.world().calls {
        match call.split(' ').next() {
            Some("start") => now += 1,
            Some("stop") => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or(0)
}

#[test]
fn replicas_that_roll_take_over_one_after_the_other() {
    let site = Site::new();
    site.must_deploy(&rolling("v1.0.0"));
    assert_eq!(site.running_of("web"), 3);
    site.host.world().answers_last_ms = 3_000;
    site.host.world().calls.clear();
    let mut user = user(&site);
    site.must_deploy(&rolling("v1.1.0"));
    assert_eq!(site.running_of("web"), 3);
    assert_eq!(most_started_at_once(&site), 1, "one more than before");
    let ending = site.roll_back(RollbackTo::Previous);
    assert_eq!(ending, Ending::Ended(End::Committed));
    never_failed(&user.take(), "rolling");
    assert_eq!(site.host.world().cut_off, 0);
    site.check();
}

#[test]
fn a_roll_that_goes_wrong_half_way_brings_every_replica_back() {
    // Well for long enough that the first one serves, and not for long enough that the last one comes.
    let mut half_way = 0;
    for bad_after in [1_500, 2_500, 3_500, 4_500] {
        let site = Site::new();
        site.must_deploy(&rolling("v1.0.0"));
        let bad = rolling("v1.1.0").with("web", Behaviour::BadAfter(bad_after));
        assert_eq!(
            site.deploy(&bad),
            Ending::Ended(End::Unwound),
            "{bad_after}"
        );
        assert_eq!(site.running_of("web"), 3, "{bad_after}");
        site.check();
        let rolled = |event: &Event| matches!(event, Event::Note { text } if text.contains("of 3 new containers"));
        half_way += usize::from(site.entries().iter().any(|e| rolled(&e.event)));
    }
    assert!(half_way > 0, "none of them came so far");
}

/// An nginx of the user's, which asks for the worker's address only once.
fn behind_nginx(tag: &str) -> Version {
    let mut version = Version::first(tag);
    version.compose["services"]["proxy"] = serde_json::json!({"image": "nginx:1", "restart": "unless-stopped",
        "ports": ["127.0.0.1:9191:80"], "volumes": ["./nginx.conf:/etc/nginx/nginx.conf:ro"]});
    let conf = "server { location / { proxy_pass http://worker:9000; } }";
    version
        .files
        .push(("nginx.conf".to_owned(), 0o644, conf.to_owned()));
    version
}

#[test]
fn what_a_plain_nginx_would_lose_is_not_started_first() {
    let site = Site::new();
    let image = FakeImage::new("nginx:1", "1", Behaviour::Healthy);
    site.host
        .world()
        .registry
        .insert("nginx:1".to_owned(), image);
    site.must_deploy(&behind_nginx("v1.0.0"));
    let mut wished = behind_nginx("v1.1.0");
    wished.wishes.push(StrategyWish {
        strategy: WishedStrategy::StartFirst,
        ..StrategyWish::of("worker")
    });
    assert_eq!(site.deploy(&wished), Ending::Ended(End::Unwound));
    let cause = site.cause().error;
    assert!(
        cause.contains("nginx in proxy") && cause.contains("resolver"),
        "{cause}"
    );
    assert_eq!(site.serving().as_deref(), Some("v1.0.0"));
}

/// A site with a proxy of the user's in front of `web`, which finds it by itself.
fn site_with_a_proxy() -> Site {
    let site = Site::new();
    let proxy = FakeImage::new("proxy:1", "1", Behaviour::Proxy("web"));
    let mut world = site.host.world();
    world.registry.insert("proxy:1".to_owned(), proxy);
    drop(world);
    site
}

fn behind_a_proxy(tag: &str, web: Behaviour) -> Plan {
    let mut version = Version::first(tag).with("web", web);
    let services = &mut version.compose["services"];
    let ports = services["web"]
        .as_object_mut()
        .and_then(|web| web.remove("ports"));
    services["proxy"] =
        serde_json::json!({"image": "proxy:1", "restart": "unless-stopped", "ports": ports});
    version.wishes.push(StrategyWish {
        strategy: WishedStrategy::StartFirst,
        ..StrategyWish::of("web")
    });
    let mut plan = deployment_of(&version);
    plan.gateway = GatewayRule::Off;
    plan
}

/// Deploys behind the proxy, from the first record to the end.
fn deploy_behind_a_proxy(site: &Site, tag: &str, web: Behaviour) -> Ending {
    site.bring(&Version::first(tag).with("web", web.clone()));
    site.engine(&behind_a_proxy(tag, web)).expect("it ends")
}

#[test]
fn behind_a_proxy_of_the_user_both_versions_answer_until_the_old_one_goes() {
    let site = site_with_a_proxy();
    let ending = deploy_behind_a_proxy(&site, "v1.0.0", Behaviour::Healthy);
    assert_eq!(ending, Ending::Ended(End::Committed));
    let mut user = user(&site);
    let ending = deploy_behind_a_proxy(&site, "v1.1.0", Behaviour::Healthy);
    assert_eq!(
        ending,
        Ending::Ended(End::Committed),
        "{:?}",
        site.failures()
    );
    assert_eq!(strategy_of(&site, "web"), Strategy::StartFirstProxy);
    let seen = user.take();
    never_failed(&seen, "a deployment behind a proxy");
    assert!(versions(&seen).len() > 2, "{seen:?}");
    assert_eq!(site.answered().as_deref(), Some("v1.1.0"));
    site.check();
}

#[test]
fn a_bad_candidate_behind_a_proxy_is_noticed_and_ends_like_an_incumbent() {
    let site = site_with_a_proxy();
    deploy_behind_a_proxy(&site, "v1.0.0", Behaviour::Healthy);
    for bad in [Behaviour::PrimaryFails, Behaviour::WrongVersion] {
        site.host.calm();
        let ending = deploy_behind_a_proxy(&site, "v1.1.0", bad);
        assert_eq!(ending, Ending::Ended(End::Unwound));
        let calls = site.host.world().calls.clone();
        let at = |name: &str| calls.iter().rposition(|call| call == name);
        assert!(at("stop") < at("remove_container") && at("stop").is_some());
        assert_eq!(site.answered().as_deref(), Some("v1.0.0"));
        site.check();
    }
}
