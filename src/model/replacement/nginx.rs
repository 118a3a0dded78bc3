//! Finds services that an nginx of the user's would lose when they are replaced start-first.
//!
//! Pure. A plain nginx asks for the address of a literal host name once, at its start. A candidate that takes over beside
//! its incumbent has another address, so nginx would go on asking a container that is gone. The configuration is read as
//! nginx reads it (words, quotes, comments, blocks); text that is none says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::net::IpAddr;
use std::str::Chars;

use serde_json::Value;

use super::service::links;
use super::strategy::{ServiceStrategy, Strategy, time_away};
use super::wishes::StrategyWish;
use crate::composition::compose::{ComposeFile, ComposeProblem};
use crate::config::WishedStrategy;

/// Directives whose argument is where a request goes.
const PASSES: [&str; 6] = [
    "proxy_pass",
    "uwsgi_pass",
    "fastcgi_pass",
    "grpc_pass",
    "scgi_pass",
    "memcached_pass",
];

const WAYS_OUT: &str = "give nginx `resolver 127.0.0.11 valid=5s;` and a variable in its proxy_pass, or let the service \
                        publish its port, so that the gateway stands in front of it";

/// Makes services stop-first that an nginx of the file would lose, and refuses a wish that they be started first.
///
/// `texts` are the configurations that each service mounts; all of one service belong together.
pub fn heed_nginx(
    file: &ComposeFile,
    judged: Vec<ServiceStrategy>,
    wishes: &[StrategyWish],
    texts: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<ServiceStrategy>, ComposeProblem> {
    let upstreams: BTreeMap<&str, Vec<String>> = texts
        .iter()
        .map(|(proxy, texts)| (proxy.as_str(), literal_upstreams(&texts.join("\n"))))
        .collect();
    let judged = judged.into_iter().map(|one| {
        let loser = upstreams.iter().find_map(|(proxy, hosts)| {
            let name = known_as(file, &one.service, proxy).find(|name| hosts.contains(name))?;
            Some(format!(
                "nginx in {proxy} asks for the address of {name} only once, at its start"
            ))
        });
        let is_wished = wishes
            .iter()
            .any(|w| w.service == one.service && w.strategy == WishedStrategy::StartFirst);
        match loser {
            Some(reason) if one.strategy.is_start_first() && is_wished => {
                Err(ComposeProblem::CannotStartFirst {
                    service: one.service,
                    reason: format!("{reason}; {WAYS_OUT}"),
                })
            }
            Some(reason) if one.strategy.is_start_first() => Ok(ServiceStrategy {
                strategy: Strategy::StopFirst,
                reason,
                gap: Some(time_away(file, &one.service)),
                ..one
            }),
            _ => Ok(one),
        }
    });
    judged.collect()
}

/// The names by which a container finds a service: its own, the aliases in its networks, and links of that container.
fn known_as(file: &ComposeFile, service: &str, asker: &str) -> impl Iterator<Item = String> {
    let networks = file.service(service).and_then(|s| s.get("networks"));
    let networks = networks.and_then(Value::as_object).into_iter().flatten();
    let aliases = networks.filter_map(|(_, network)| network.get("aliases")?.as_array());
    let aliases = aliases.flatten().filter_map(Value::as_str);
    let linked = links(file.service(asker)).filter(|(of, _)| *of == service);
    let names: Vec<String> = std::iter::once(service)
        .chain(aliases)
        .chain(linked.map(|(_, name)| name))
        .map(str::to_owned)
        .collect();
    names.into_iter()
}

/// The host names whose addresses a plain nginx with this configuration settles once, at its start: literal ones, without
/// a variable, and servers of an `upstream` without `resolve`. Sorted, each once.
#[must_use]
pub fn literal_upstreams(nginx_conf: &str) -> Vec<String> {
    let mut blocks: Vec<String> = vec![];
    let mut words: Vec<String> = vec![];
    let mut hosts = BTreeSet::new();
    let mut groups = BTreeSet::new();
    for token in Tokens::new(nginx_conf) {
        match token {
            Token::Word(word) => words.push(word),
            Token::End => {
                hosts.extend(settled_once(&blocks, &words));
                words.clear();
            }
            Token::Open => {
                if let [name, group] = &words[..]
                    && name == "upstream"
                {
                    groups.insert(Destination::Passed(group.clone()));
                }
                blocks.push(words.first().cloned().unwrap_or_default());
                words.clear();
            }
            Token::Close => {
                blocks.pop();
                words.clear();
            }
        }
    }
    let hosts: BTreeSet<String> = hosts
        .difference(&groups)
        .map(|(Destination::Passed(host) | Destination::Member(host))| host.clone())
        .collect();
    hosts.into_iter().collect()
}

/// A host that a configuration names. What requests are passed to may be the name of a group; a group's member is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    Passed(String),
    Member(String),
}

/// The host of one directive, when nginx settles its address once.
fn settled_once(blocks: &[String], words: &[String]) -> Option<Destination> {
    let (directive, arguments) = words.split_first()?;
    let (place, parameters) = arguments.split_first()?;
    if PASSES.contains(&directive.as_str()) {
        return literal_host(place).map(Destination::Passed);
    }
    let is_member = directive == "server" && blocks.last().is_some_and(|b| b == "upstream");
    let is_settled = is_member && !parameters.iter().any(|p| p == "resolve");
    let host = is_settled.then(|| literal_host(place))?;
    host.map(Destination::Member)
}

/// The host in `[SCHEME://]HOST[:PORT][/PATH]`, unless it is an address or a variable is in it.
fn literal_host(place: &str) -> Option<String> {
    if place.contains('$') {
        return None;
    }
    let after_scheme = place.split_once("://").map_or(place, |(_, rest)| rest);
    if after_scheme.starts_with("unix:") || after_scheme.starts_with('[') {
        return None;
    }
    let host = after_scheme.split([':', '/', '?']).next()?;
    let is_name = !host.is_empty() && host.parse::<IpAddr>().is_err();
    is_name.then(|| host.to_owned())
}

enum Token {
    Word(String),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// nginx's own way of cutting a configuration into words.
struct Tokens<'a> {
    rest: Peekable<Chars<'a>>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Tokens {
            rest: text.chars().peekable(),
        }
    }

    /// Up to the quote that ends it.
    fn quoted(&mut self, quote: char) -> String {
        let mut word = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => word.extend(self.rest.next()),
                c if c == quote => break,
                c => word.push(c),
            }
        }
        word
    }

    /// Up to a blank, `;` or `{`; the brace of `${name}` belongs to the word.
    fn bare(&mut self, first: char) -> String {
        let mut word = String::new();
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                '\\' => word.extend(self.rest.next()),
                c => word.push(c),
            }
            let is_variable = c == '$';
            next = self
                .rest
                .next_if(|c| !(c.is_whitespace() || *c == ';' || (*c == '{' && !is_variable)));
        }
        word
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            return Some(match self.rest.next()? {
                c if c.is_whitespace() => continue,
                '#' => {
                    while self.rest.next_if(|c| *c != '\n').is_some() {}
                    continue;
                }
                ';' => Token::End,
                '{' => Token::Open,
                '}' => Token::Close,
                quote @ ('"' | '\'') => Token::Word(self.quoted(quote)),
                first => Token::Word(self.bare(first)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::proptest;
    use serde_json::json;

    use super::*;
    use crate::replacement::strategy::classify;
    use crate::replacement::wishes::GatewayRule;

    #[test]
    fn literal_names_are_found_in_every_directive() {
        let conf = r#"
            events {}
            http {
                upstream shop { least_conn; server shop-a:8080 weight=2; server "shop-b"; server 10.0.0.7:80; }
                upstream unused { server [fd00::1]:80; server unix:/run/x.sock; server spare; }
                server {
                    listen 80;
                    location / { proxy_pass http://shop; }
                    location /api { proxy_pass https://api:8443/v1/; }
                    location ~ \.php$ { fastcgi_pass php:9000; }
                    location /py { uwsgi_pass uwsgi://py; }
                    location /rpc { grpc_pass grpc://rpc:50051; }
                    location /local { proxy_pass http://127.0.0.1:81; }
                    location /socket { proxy_pass http://unix:/run/y.sock:/; }
                }
            }
            stream { server { listen 5432; proxy_pass db:5432; } }
        "#;
        assert_eq!(
            literal_upstreams(conf),
            ["api", "db", "php", "py", "rpc", "shop-a", "shop-b", "spare"]
        );
    }

    #[test]
    fn what_is_asked_anew_is_left_out() {
        let conf = r"
            resolver 127.0.0.11 valid=5s;
            upstream shop { zone shop 64k; server shop-a:8080 resolve; }
            server {
                set $app http://app:80;
                location / { proxy_pass $app; }
                location /a { proxy_pass http://${app}; }
                location /b { proxy_pass http://app$request_uri; }
                location /c { proxy_pass http://shop; }
            }
        ";
        assert_eq!(literal_upstreams(conf), [""; 0]);
    }

    #[test]
    fn a_server_block_is_no_member_of_a_group() {
        assert_eq!(
            literal_upstreams("server { server_name app; } server app;"),
            [""; 0]
        );
    }

    #[test]
    fn a_group_may_have_the_name_of_its_member() {
        let conf =
            "upstream app { server app:8080; } server { location / { proxy_pass http://app; } }";
        assert_eq!(literal_upstreams(conf), ["app"]);
        let anew = "upstream app { server app:8080 resolve; } server { location / { proxy_pass http://app; } }";
        assert_eq!(literal_upstreams(anew), [""; 0]);
    }

    #[test]
    fn comments_and_strings_are_no_directives() {
        let conf = r#"
            # proxy_pass http://commented;
            location / {
                proxy_pass http://app; # proxy_pass http://after;
                return 200 "; proxy_pass http://quoted;";
                add_header X '} proxy_pass http://also\'quoted;';
                rewrite a#b proxy_pass;
            }
        "#;
        assert_eq!(literal_upstreams(conf), ["app"]);
    }

    #[test]
    fn other_text_says_nothing() {
        for text in [
            "",
            "}}}{;",
            "services:\n  web: {image: x}\n",
            "proxy_pass",
            "proxy_pass ;",
            "\"",
            "a\\",
        ] {
            assert_eq!(literal_upstreams(text), [""; 0], "{text}");
        }
    }

    fn heeded(
        app: Value,
        wished: WishedStrategy,
        conf: &str,
    ) -> Result<ServiceStrategy, ComposeProblem> {
        let services = json!({"app": app, "proxy": {"ports": ["80:80"], "links": ["app:backend"]}});
        let file = ComposeFile::new(json!({ "services": services })).expect("a valid file");
        let wishes = [StrategyWish {
            strategy: wished,
            ..StrategyWish::of("app")
        }];
        let gateway = GatewayRule::On {
            image: "haproxy:3.0".to_owned(),
        };
        let judged = classify(&file, &wishes, &gateway, None).expect("classified");
        let texts = BTreeMap::from([("proxy".to_owned(), vec![conf.to_owned()])]);
        let judged = heed_nginx(&file, judged, &wishes, &texts)?;
        assert_eq!(judged[1].strategy, Strategy::StartFirstGateway);
        Ok(judged.into_iter().next().expect("app"))
    }

    const LITERAL: &str = "location / { proxy_pass http://app:80; }";

    #[test]
    fn a_wish_against_a_literal_name_is_refused_with_both_ways_out() {
        let problem = heeded(json!({}), WishedStrategy::StartFirst, LITERAL).expect_err("refused");
        let text = problem.to_string();
        assert!(
            text.contains("nginx in proxy asks for the address of app only once"),
            "{text}"
        );
        assert!(
            text.contains("resolver 127.0.0.11") && text.contains("publish its port"),
            "{text}"
        );
    }

    #[test]
    fn a_wish_that_nginx_can_follow_is_granted() {
        let conf =
            "location / { proxy_pass http://$app; } location /other { proxy_pass http://other; }";
        let app = heeded(json!({}), WishedStrategy::StartFirst, conf).expect("granted");
        assert_eq!(app.strategy, Strategy::StartFirstProxy);
    }

    #[test]
    fn nobody_wished_and_nginx_would_lose_it_so_it_is_stopped_first() {
        for app in [
            json!({"labels": ["traefik.enable=true"]}),
            json!({"ports": ["8080:80"]}),
        ] {
            let app = heeded(app, WishedStrategy::Auto, LITERAL).expect("judged");
            assert_eq!(app.strategy, Strategy::StopFirst);
            assert!(app.gap.is_some_and(|gap| gap.starts_with("up to 10 s")));
        }
    }

    #[test]
    fn other_names_of_the_service_count_as_well() {
        let app = json!({"networks": {"default": {"aliases": ["shop"]}}});
        for name in ["shop", "backend"] {
            let conf = format!("location / {{ proxy_pass http://{name}; }}");
            assert!(
                heeded(app.clone(), WishedStrategy::StartFirst, &conf).is_err(),
                "{name}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([a-z_ ;{}$"'#\\\n]|proxy_pass |upstream |server |.){0,60}"#) {
            let _ = literal_upstreams(&text);
        }
    }
}
