//! What becomes of each service, and of the gateway, when one release takes over from another.
//!
//! Pure; runs on the host once both releases are laid out, and its result is kept in the journal: every later step, and
//! every undo, reads it there.

use serde::{Deserialize, Serialize};

use super::gateway::Front;
use super::strategy::{ServiceStrategy, Strategy};
use super::wishes::GATEWAY_SERVICE;
use crate::composition::compose::ComposeFile;

/// A release as it runs: the rendered file, and the ports that its gateway has.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// With every image pinned, and with the gateway where the release has one.
    pub file: ComposeFile,
    /// Empty for a release without a gateway.
    pub fronts: Vec<Front>,
}

/// What becomes of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMove {
    /// Neither release has one.
    #[default]
    None,
    /// It is the same in both releases, and stays as it is.
    Stays,
    /// It comes, or is made anew; these services of the release before have its ports until then.
    Comes {
        /// Names of services. Empty when the gateway's ports were free, as in a first deployment.
        freed_by: Vec<String>,
    },
    /// The release has none any more; its ports are the services' own again.
    Goes,
}

/// What becomes of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// How each service of the new release is replaced, with the reason.
    pub services: Vec<ServiceStrategy>,
    /// Decided apart from the services: it can change while they stay the same.
    pub gateway: GatewayMove,
    /// The ports of the new release's gateway; empty when it has none.
    pub fronts: Vec<Front>,
}

impl Moves {
    /// The strategy of a service; stop-first for one that is not known, which is right whatever it is.
    #[must_use]
    pub fn strategy(&self, service: &str) -> Strategy {
        let known = self.services.iter().find(|m| m.service == service);
        known.map_or(Strategy::StopFirst, |m| m.strategy)
    }

    /// Makes every service have a gap, for this reason, which the services themselves do not know of.
    pub fn announce_a_gap(&mut self, reason: &str) {
        for service in &mut self.services {
            service.gap = Some(reason.to_owned());
        }
    }

    /// The same for some of them.
    pub fn announce_a_gap_of(&mut self, services: &[String], reason: &str) {
        let all = self.services.iter_mut();
        for service in all.filter(|s| services.contains(&s.service)) {
            service.gap = Some(reason.to_owned());
        }
    }

    /// The ports of the services that get candidates.
    #[must_use]
    pub fn fronts_moved(&self) -> Vec<Front> {
        let moved: Vec<&str> = self.start_first().collect();
        let fronts = self
            .fronts
            .iter()
            .filter(|f| moved.contains(&f.service.as_str()));
        fronts.cloned().collect()
    }

    /// The services that are replaced in this way.
    pub fn of(&self, strategy: Strategy) -> impl Iterator<Item = &str> {
        let services = self.services.iter();
        services
            .filter(move |m| m.strategy == strategy)
            .map(|m| m.service.as_str())
    }

    /// The services that get candidates beside their incumbents.
    pub fn start_first(&self) -> impl Iterator<Item = &str> {
        let services = self.services.iter();
        services
            .filter(|m| m.strategy.is_start_first())
            .map(|m| m.service.as_str())
    }
}

/// Decides, from what each service is by itself and from what serves.
#[must_use]
pub fn moves(
    candidate: &Rendered,
    by_itself: Vec<ServiceStrategy>,
    serving: Option<&Rendered>,
) -> Moves {
    let gateway = gateway_move(candidate, serving);
    let services = by_itself
        .into_iter()
        .map(|c| service_move(candidate, c, serving))
        .collect();
    Moves {
        services,
        gateway,
        fronts: candidate.fronts.clone(),
    }
}

fn service_move(
    candidate: &Rendered,
    by_itself: ServiceStrategy,
    serving: Option<&Rendered>,
) -> ServiceStrategy {
    let service = by_itself.service.as_str();
    let now = serving.and_then(|s| s.file.service(service));
    let mut fronts = candidate.fronts.iter();
    let is_fronted = fronts.any(|front| front.service == service);
    match by_itself.strategy {
        Strategy::OneShot => by_itself,
        _ if now.is_some() && now == candidate.file.service(service) => ServiceStrategy {
            strategy: Strategy::Untouched,
            reason: "it is the same in both versions".to_owned(),
            gap: None,
            ..by_itself
        },
        // A release from before there was a gateway: the service has its port itself, and two cannot have it.
        Strategy::StartFirstGateway if !is_fronted => ServiceStrategy {
            strategy: Strategy::StopFirst,
            reason: "this version was deployed without the gateway and has its port itself"
                .to_owned(),
            gap: Some("until the new one has started".to_owned()),
            ..by_itself
        },
        _ => by_itself,
    }
}

fn gateway_move(candidate: &Rendered, serving: Option<&Rendered>) -> GatewayMove {
    let wanted = candidate.file.service(GATEWAY_SERVICE);
    let now = serving.and_then(|s| s.file.service(GATEWAY_SERVICE));
    match (wanted, now) {
        (None, None) => GatewayMove::None,
        (None, Some(_)) => GatewayMove::Goes,
        (Some(wanted), Some(now)) if wanted == now => GatewayMove::Stays,
        (Some(_), _) => GatewayMove::Comes {
            freed_by: serving.map_or_else(Vec::new, |s| holders(candidate, s)),
        },
    }
}

/// Services that publish ports themselves and will not any more.
fn holders(candidate: &Rendered, serving: &Rendered) -> Vec<String> {
    let publishes = |service: &String| {
        let ports = serving.file.service(service).and_then(|s| s.get("ports"));
        ports
            .and_then(|p| p.as_array())
            .is_some_and(|p| !p.is_empty())
    };
    let mut holders: Vec<String> = candidate.fronts.iter().map(|f| f.service.clone()).collect();
    holders.dedup();
    holders.retain(publishes);
    holders
}

/// What the gateway's coming means for those who watch, in words; nothing when there is no gap.
#[must_use]
pub fn gateway_gap(gateway: &GatewayMove, is_first: bool) -> Option<String> {
    match gateway {
        GatewayMove::Comes { .. } if is_first => None,
        GatewayMove::Comes { freed_by } if freed_by.is_empty() => {
            Some("about a second, once: the gateway changes".to_owned())
        }
        GatewayMove::Comes { freed_by } => Some(format!(
            "once: {} gives its port to the gateway, for as long as it takes to stop and about a second more",
            freed_by.join(", ")
        )),
        GatewayMove::Goes => {
            Some("once: the gateway gives its ports back to the services".to_owned())
        }
        GatewayMove::None | GatewayMove::Stays => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::replacement::gateway::{fronts, with_gateway};

    fn rendered(image: &str, fronted: bool) -> Rendered {
        let file = ComposeFile::new(json!({"services": {
            "web": {"image": image, "ports": ["8080:80"]}, "worker": {"image": "w"}}}));
        let file = file.expect("a file");
        let services = if fronted {
            vec!["web".to_owned()]
        } else {
            vec![]
        };
        let fronts = fronts(&file, &services, &[]);
        Rendered {
            file: with_gateway(&file, &fronts, "haproxy"),
            fronts,
        }
    }

    fn by_itself() -> Vec<ServiceStrategy> {
        [
            ("web", Strategy::StartFirstGateway),
            ("worker", Strategy::StopFirst),
        ]
        .map(|(service, strategy)| ServiceStrategy {
            service: service.to_owned(),
            strategy,
            reason: String::new(),
            gap: None,
        })
        .into()
    }

    fn strategies(moves: &Moves) -> Vec<Strategy> {
        moves.services.iter().map(|m| m.strategy).collect()
    }

    #[test]
    fn between_two_releases_behind_the_gateway_it_stays() {
        let now = rendered("v1", true);
        let moves = moves(&rendered("v2", true), by_itself(), Some(&now));
        assert_eq!(moves.gateway, GatewayMove::Stays);
        assert_eq!(
            strategies(&moves),
            [Strategy::StartFirstGateway, Strategy::Untouched]
        );
    }

    #[test]
    fn the_gateway_comes_where_the_application_has_its_port() {
        let now = rendered("v1", false);
        let moves = moves(&rendered("v1", true), by_itself(), Some(&now));
        let freed_by = vec!["web".to_owned()];
        assert_eq!(moves.gateway, GatewayMove::Comes { freed_by });
        // The same in the user's own file, and yet another container: it gives up its port.
        assert_eq!(moves.strategy("web"), Strategy::StartFirstGateway);
        assert!(gateway_gap(&moves.gateway, false).is_some());
    }

    #[test]
    fn an_old_release_without_the_gateway_takes_its_ports_back() {
        let now = rendered("v2", true);
        let moves = moves(&rendered("v1", false), by_itself(), Some(&now));
        assert_eq!(moves.gateway, GatewayMove::Goes);
        assert_eq!(moves.strategy("web"), Strategy::StopFirst);
    }

    #[test]
    fn a_first_deployment_frees_nothing() {
        let moves = moves(&rendered("v1", true), by_itself(), None);
        assert_eq!(moves.gateway, GatewayMove::Comes { freed_by: vec![] });
        assert_eq!(gateway_gap(&moves.gateway, true), None);
    }

    #[test]
    fn a_journal_from_before_the_gateway_has_no_moves() {
        let moves: Moves =
            serde_json::from_value(json!({"services": [], "gateway": "none", "fronts": []}))
                .expect("readable");
        assert_eq!(moves, Moves::default());
        assert_eq!(moves.strategy("web"), Strategy::StopFirst);
    }
}
