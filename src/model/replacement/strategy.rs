//! How each service goes from the old version to the new one, and why.
//!
//! Pure; decides on the runner for a dry run, and on the host for the real one. The rules are in one order and are all
//! here: what must not run twice is stopped first, and a wish against that is refused with the way out, because two
//! containers that fight over a port, an address or a file are worse than a gap. Every reason is a clause that its
//! reader can check in the Compose file.

use serde::{Deserialize, Serialize};

use super::obstacles::{Obstacle, data_without_a_name, obstacle};
use super::service::{
    ServiceFacts, is_asked, is_awaited, is_behind_the_gateway, keeps_data, needed_by, own_proxy,
};
use super::wishes::{DrainWish, GatewayRule, StrategyWish};
use crate::composition::compose::{ComposeFile, ComposeProblem};
use crate::config::WishedStrategy;

/// How a service goes from the old version to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The new container serves before the old one stops; the gateway moves the requests.
    StartFirstGateway,
    /// The same behind a proxy of the user's, which finds containers by itself.
    StartFirstProxy,
    /// The old container stops before the new one starts.
    StopFirst,
    /// Its container stays.
    Untouched,
    /// It runs once and ends.
    OneShot,
    /// The gateway itself, which no rule is for.
    Gateway,
}

impl Strategy {
    /// Every one, for who looks one up by its words.
    const ALL: [Strategy; 6] = [
        Strategy::StartFirstGateway,
        Strategy::StartFirstProxy,
        Strategy::StopFirst,
        Strategy::Untouched,
        Strategy::OneShot,
        Strategy::Gateway,
    ];

    /// Whether the new container runs beside the old one for a while.
    #[must_use]
    pub fn is_start_first(self) -> bool {
        match self {
            Strategy::StartFirstGateway | Strategy::StartFirstProxy => true,
            Strategy::StopFirst | Strategy::Untouched | Strategy::OneShot | Strategy::Gateway => {
                false
            }
        }
    }

    /// The strategy in words, which journals keep.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Strategy::StartFirstGateway => "start-first through the gateway",
            Strategy::StartFirstProxy => "start-first behind your proxy",
            Strategy::StopFirst => "stop-first",
            Strategy::Untouched => "untouched",
            Strategy::OneShot => "one-shot",
            Strategy::Gateway => "the gateway itself",
        }
    }
}

impl DrainWish {
    /// No command, and a moment for the proxy to notice.
    #[must_use]
    pub fn usual() -> Self {
        DrainWish {
            command: vec![],
            wait_ms: 5000,
        }
    }
}

/// How one service is replaced, and why: decided once, kept in the journal, and told in every report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStrategy {
    /// The service's name in the Compose file, or the gateway's.
    pub service: String,
    /// The way of it.
    pub strategy: Strategy,
    /// Why this way: a clause that its reader can check in the Compose file.
    pub reason: String,
    /// The time without the service that is to be expected, in words; `None` when there is none, or none is known.
    #[serde(default)]
    pub gap: Option<String>,
}

/// Strategies as journals and outcomes have them for people: by their words, not by their names.
pub mod in_words {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ServiceStrategy, Strategy};

    #[derive(Serialize, Deserialize)]
    struct InWords {
        service: String,
        strategy: String,
        reason: String,
        #[serde(default)]
        gap: Option<String>,
    }

    /// For `#[serde(with)]`: writes each strategy as [`Strategy::words`] has it.
    pub fn serialize<S: Serializer>(list: &[ServiceStrategy], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().cloned().map(|one| InWords {
            service: one.service,
            strategy: one.strategy.words().to_owned(),
            reason: one.reason,
            gap: one.gap,
        }))
    }

    /// For `#[serde(with)]`: reads the words back. Words of no strategy that this version knows are an error.
    pub fn deserialize<'de, D>(from: D) -> Result<Vec<ServiceStrategy>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let list = Vec::<InWords>::deserialize(from)?;
        let read = |one: InWords| {
            let known = Strategy::ALL.into_iter();
            let mut known = known.filter(|strategy| strategy.words() == one.strategy);
            let unknown = || D::Error::custom(format!("`{}` is no strategy", one.strategy));
            Ok(ServiceStrategy {
                strategy: known.next().ok_or_else(unknown)?,
                service: one.service,
                reason: one.reason,
                gap: one.gap,
            })
        };
        list.into_iter().map(read).collect()
    }
}

/// Decides the strategy of every service, given what serves now, both files as the user wrote them.
pub fn classify(
    file: &ComposeFile,
    wishes: &[StrategyWish],
    gateway: &GatewayRule,
    serving: Option<&ComposeFile>,
) -> Result<Vec<ServiceStrategy>, ComposeProblem> {
    if let Some(wish) = wishes.iter().find(|w| file.service(&w.service).is_none()) {
        return Err(ComposeProblem::UnknownService(wish.service.clone()));
    }
    let services = file.service_names().into_iter();
    services
        .map(|service| {
            let wish = wishes.iter().find(|wish| wish.service == service);
            let wish = wish.cloned().unwrap_or_else(|| StrategyWish::of(&service));
            let seen = ServiceFacts::new(file, &wish);
            let (strategy, reason) = decide(&seen, gateway, serving)?;
            Ok(ServiceStrategy {
                gap: (strategy == Strategy::StopFirst)
                    .then(|| gap(&seen))
                    .flatten(),
                service,
                strategy,
                reason,
            })
        })
        .collect()
}

const SAID: &str = "belay.yml says so";

fn decide(
    seen: &ServiceFacts<'_>,
    gateway: &GatewayRule,
    serving: Option<&ComposeFile>,
) -> Result<(Strategy, String), ComposeProblem> {
    let served = serving.and_then(|s| s.service(seen.name));
    let is_same = served == Some(seen.definition);
    let is_awaited = is_awaited(seen.file, seen.name);
    match seen.wish.strategy {
        WishedStrategy::OneShot => Ok((Strategy::OneShot, SAID.to_owned())),
        WishedStrategy::StopFirst => Ok((Strategy::StopFirst, SAID.to_owned())),
        WishedStrategy::StartFirst => start_first(seen, gateway, is_awaited),
        WishedStrategy::Auto | WishedStrategy::Untouched if is_awaited => Ok((
            Strategy::OneShot,
            "another service waits for it to complete".to_owned(),
        )),
        WishedStrategy::Auto | WishedStrategy::Untouched if is_same => Ok((
            Strategy::Untouched,
            "it is the same in both versions".to_owned(),
        )),
        WishedStrategy::Auto => Ok(by_rule(seen, gateway)),
        WishedStrategy::Untouched => {
            let (strategy, reason) = by_rule(seen, gateway);
            let changed = served.map_or("", |_| "it changed, so it cannot stay untouched; ");
            Ok((strategy, format!("{changed}{reason}")))
        }
    }
}

fn by_rule(seen: &ServiceFacts<'_>, gateway: &GatewayRule) -> (Strategy, String) {
    if let Some(obstacle) = obstacle(seen, gateway) {
        return (Strategy::StopFirst, obstacle.reason);
    }
    if let Some(reason) = keeps_data(seen) {
        return (Strategy::StopFirst, reason);
    }
    if is_behind_the_gateway(seen, gateway) {
        return (
            Strategy::StartFirstGateway,
            "it publishes its port and can run twice".to_owned(),
        );
    }
    match own_proxy(seen) {
        Some(reason) => (Strategy::StartFirstProxy, reason.to_owned()),
        None => (Strategy::StopFirst, why_alone(seen)),
    }
}

/// A wish for start-first, which overrides what is only caution, and nothing that cannot be.
fn start_first(
    seen: &ServiceFacts<'_>,
    gateway: &GatewayRule,
    is_awaited: bool,
) -> Result<(Strategy, String), ComposeProblem> {
    let ends = is_awaited.then(|| {
        Obstacle::new(
            "another service waits for it to complete",
            "leave its strategy out, and it runs once",
        )
    });
    let obstacle = ends
        .or_else(|| obstacle(seen, gateway))
        .or_else(|| data_without_a_name(seen));
    if let Some(obstacle) = obstacle {
        return Err(ComposeProblem::CannotStartFirst {
            service: seen.name.to_owned(),
            reason: format!("{}; {}", obstacle.reason, obstacle.way_out),
        });
    }
    let strategy = if is_behind_the_gateway(seen, gateway) {
        Strategy::StartFirstGateway
    } else {
        Strategy::StartFirstProxy
    };
    Ok((strategy, SAID.to_owned()))
}

/// Why a service that nothing speaks against is not started first all the same.
fn why_alone(seen: &ServiceFacts<'_>) -> String {
    let users: Vec<String> = needed_by(seen).into_iter().collect();
    if !seen.known_ports().is_empty() {
        return "Docker gives each container another port, and the gateway is off".to_owned();
    }
    if users.is_empty() {
        return "it publishes no port (a worker), so nobody waits for its answer, and two at once could do work twice"
            .to_owned();
    }
    format!(
        "it publishes no port, so nothing that Belay knows of could choose between two of it ({} needs it)",
        users.join(" and ")
    )
}

/// How long the service is away; nothing for one that is not there before or after either.
fn gap(seen: &ServiceFacts<'_>) -> Option<String> {
    if seen.file.replicas(seen.name) == 0 {
        return None;
    }
    if !is_asked(seen) {
        return Some("none that users see".to_owned());
    }
    Some(time_away(seen.file, seen.name))
}

/// How long a service that is stopped first is away, in words.
pub(super) fn time_away(file: &ComposeFile, service: &str) -> String {
    let seconds = file.stop_grace_ms(service).div_ceil(1000);
    format!("up to {seconds} s while it stops, then until the new one has started")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use serde_json::Value;

    use super::*;
    use crate::config::{Mode, Roll};

    fn file(services: Value) -> ComposeFile {
        ComposeFile::new(json!({ "services": services })).expect("a valid file")
    }

    fn on() -> GatewayRule {
        GatewayRule::On {
            image: "haproxy:3.0".to_owned(),
        }
    }

    fn wish(service: &str, strategy: WishedStrategy) -> StrategyWish {
        StrategyWish {
            strategy,
            ..StrategyWish::of(service)
        }
    }

    /// Of the one service `web`.
    #[test]
    fn journals_have_strategies_by_their_words() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Told(#[serde(with = "in_words")] Vec<ServiceStrategy>);

        let all = Strategy::ALL.map(|strategy| ServiceStrategy {
            service: "web".to_owned(),
            strategy,
            reason: "so".to_owned(),
            gap: None,
        });
        let told = Told(all.to_vec());
        let text = serde_json::to_value(&told).expect("JSON");
        assert_eq!(
            text[2],
            json!({"service": "web", "strategy": "stop-first", "reason": "so", "gap": null})
        );
        assert_eq!(serde_json::from_value::<Told>(text).expect("read"), told);
        let unknown = json!([{"service": "web", "strategy": "stop", "reason": "so"}]);
        assert!(serde_json::from_value::<Told>(unknown).is_err());
    }

    fn web(definition: Value, wished: WishedStrategy) -> Result<ServiceStrategy, ComposeProblem> {
        let file = file(json!({ "web": definition }));
        let all = classify(&file, &[wish("web", wished)], &on(), None)?;
        Ok(all.into_iter().next().expect("one service"))
    }

    fn refused(definition: Value) -> String {
        let problem = web(definition, WishedStrategy::StartFirst).expect_err("refused");
        assert!(matches!(problem, ComposeProblem::CannotStartFirst { .. }));
        problem.to_string()
    }

    #[test]
    fn a_wish_for_an_unknown_service_is_refused() {
        let wishes = [wish("wbe", WishedStrategy::StopFirst)];
        assert_eq!(
            classify(&file(json!({"web": {}})), &wishes, &on(), None),
            Err(ComposeProblem::UnknownService("wbe".to_owned()))
        );
    }

    #[test]
    fn a_wish_that_cannot_be_is_refused_with_the_way_out() {
        assert_eq!(
            refused(json!({"container_name": "shop", "ports": ["80:80"]})),
            "service web cannot be started first: its container_name is shop, which only one container can have; take \
             container_name out of the Compose file"
        );
        assert!(refused(json!({"ports": ["443:443"]})).contains("`mode: tcp`"));
    }

    #[test]
    fn the_gateway_has_room_for_both_versions() {
        let of = |replicas: u32, roll: Roll| {
            let file = file(json!({"web": {"ports": ["80:80"], "scale": replicas}}));
            let wish = StrategyWish {
                roll,
                ..StrategyWish::of("web")
            };
            classify(&file, &[wish], &on(), None).expect("classified")[0].strategy
        };
        for (replicas, roll, strategy) in [
            (10, Roll::Together, Strategy::StartFirstGateway),
            (11, Roll::Together, Strategy::StopFirst),
            (19, Roll::OneByOne, Strategy::StartFirstGateway),
            (20, Roll::OneByOne, Strategy::StopFirst),
        ] {
            assert_eq!(of(replicas, roll), strategy, "{replicas} {roll:?}");
        }
        assert!(refused(json!({"ports": ["80:80"], "scale": 11})).contains("one-by-one"));
    }

    #[test]
    fn a_wish_overrides_caution() {
        let database = json!({"ports": ["80:80"], "volumes": ["data:/data"]});
        let auto = web(database.clone(), WishedStrategy::Auto).expect("classified");
        assert_eq!(auto.strategy, Strategy::StopFirst);
        assert!(
            auto.reason
                .contains("the volume data (`strategy: start-first`")
        );
        let wished = web(database, WishedStrategy::StartFirst).expect("classified");
        assert_eq!(wished.strategy, Strategy::StartFirstGateway);
        let worker = web(json!({}), WishedStrategy::StartFirst).expect("classified");
        assert_eq!(worker.strategy, Strategy::StartFirstProxy);
    }

    #[test]
    fn a_changed_service_that_was_to_stay_is_replaced_by_its_rule() {
        let (old, new) = (
            json!({"image": "a"}),
            json!({"image": "b", "ports": ["80"]}),
        );
        let serving = file(json!({ "web": old }));
        let wishes = [wish("web", WishedStrategy::Untouched)];
        let new = file(json!({ "web": new }));
        let changed = classify(&new, &wishes, &on(), Some(&serving)).expect("classified");
        assert_eq!(changed[0].strategy, Strategy::StartFirstGateway);
        assert!(changed[0].reason.starts_with("it changed"));
        let same = classify(&new, &wishes, &on(), Some(&new)).expect("classified");
        assert_eq!(same[0].strategy, Strategy::Untouched);
    }

    #[test]
    fn tcp_passes_whatever_the_port_is_known_for() {
        let file = file(json!({"web": {"ports": ["443:8443"]}}));
        let of = |mode| {
            let wish = StrategyWish {
                mode,
                ..StrategyWish::of("web")
            };
            classify(&file, &[wish], &on(), None).expect("classified")[0].strategy
        };
        assert_eq!(of(Mode::Http), Strategy::StopFirst);
        assert_eq!(of(Mode::Tcp), Strategy::StartFirstGateway);
    }

    #[test]
    fn the_gap_is_named_for_stop_first_alone() {
        let gap = |definition| {
            web(definition, WishedStrategy::Auto)
                .expect("classified")
                .gap
        };
        assert_eq!(gap(json!({"ports": ["80:80"]})), None);
        let named =
            json!({"ports": ["80:80"], "container_name": "x", "stop_grace_period": "1m30s"});
        assert_eq!(
            gap(named).as_deref(),
            Some("up to 90 s while it stops, then until the new one has started")
        );
        let host = json!({"network_mode": "host"});
        assert_eq!(
            gap(host).as_deref(),
            Some("up to 10 s while it stops, then until the new one has started")
        );
        assert_eq!(gap(json!({})).as_deref(), Some("none that users see"));
        assert_eq!(gap(json!({"ports": ["80:80"], "scale": 0})), None);
    }

    #[test]
    fn a_service_that_others_need_is_missed_while_it_is_away() {
        let file = file(json!({"web": {"ports": ["80:80"], "depends_on": ["app"]}, "app": {}}));
        let all = classify(&file, &[], &on(), None).expect("classified");
        assert!(all[0].reason.contains("web needs it"), "{:?}", all[0]);
        assert!(
            all[0]
                .gap
                .as_ref()
                .is_some_and(|gap| gap.starts_with("up to 10 s"))
        );
    }

    #[test]
    fn strategies_are_kept_as_before() {
        let names = json!([
            "start-first-gateway",
            "start-first-proxy",
            "stop-first",
            "untouched",
            "one-shot",
            "gateway"
        ]);
        let strategies: Vec<Strategy> = serde_json::from_value(names.clone()).expect("known");
        assert_eq!(serde_json::to_value(strategies).expect("written"), names);
    }
}
