//! Start-first behind a proxy of the user's own: nginx and HAProxy as services of the same project, which find containers
//! by Docker's DNS, configured as docs/proxies.md says. Requests come all the time, and none may fail.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::lab::{App, ROOT, checkout, say, succeed};
use crate::load::{Load, Report, Shape};

on_every_host!(
    one run in four:
    behind_nginx_that_asks_dns_no_request_fails,
    behind_haproxy_that_asks_dns_no_request_fails,
    behind_nginx_that_asks_only_once_start_first_is_refused;
);

/// Until the load runs evenly, and again after the last change.
const EVENLY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(300);

fn behind_nginx_that_asks_dns_no_request_fails(app: App) {
    use_proxy(
        &app,
        &lab_image("nginx"),
        "nginx.conf",
        &documented("nginx"),
    );
    no_request_fails(app, "nginx");
}

fn behind_haproxy_that_asks_dns_no_request_fails(app: App) {
    use_proxy(
        &app,
        &lab_image("gateway"),
        "haproxy.cfg",
        &documented("haproxy"),
    );
    // The proxy's own check stands in for Docker's.
    app.edit("docker-compose.yml", |text| {
        let (before, rest) = text
            .split_once("    healthcheck:\n")
            .expect("a healthcheck");
        let (_, after) = rest.split_once("  proxy:\n").expect("the proxy");
        let command = "command: [\"haproxy\", \"-f\", \"/usr/local/etc/haproxy/haproxy.cfg\"]";
        format!("{before}  proxy:\n    {command}\n{after}").replace(
            "./nginx.conf:/etc/nginx/nginx.conf",
            "./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg",
        )
    });
    no_request_fails(app, "HAProxy");
}

fn behind_nginx_that_asks_only_once_start_first_is_refused(mut app: App) {
    let conf =
        "events {}\nhttp { server { listen 8080; location / { proxy_pass http://web:8080; } } }\n";
    use_proxy(&app, &lab_image("nginx"), "nginx.conf", conf);
    // It ends where the name is not known yet.
    app.edit("docker-compose.yml", |text| {
        text.replace("\n  proxy:\n", "\n  proxy:\n    depends_on: [web]\n")
    });
    let wish = "web: {strategy: start-first, drain: {wait: 1s}}";
    app.edit("belay.yml", |text| {
        text.replace(wish, "web: {strategy: auto}")
    });
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let looks = "docker ps --no-trunc --format '{{.ID}} {{.Image}}' | sort; sha256sum docker-compose.yml .belay/current";
    let look = |app: &App| app.host.run(&format!("cd {ROOT} && {looks}"));
    let before = look(&app);

    app.edit("belay.yml", |text| {
        text.replace("web: {strategy: auto}", wish)
    });
    app.release("v1.1.0", "");
    let refused = app.push("v1.1.0");
    refused.ends("refused", "v1.0.0");
    refused.says("nginx in proxy asks for the address of web only once");
    refused
        .says("resolver 127.0.0.11")
        .says("let the service publish its port");
    assert_eq!(look(&app), before);

    // One of them: its new file reaches it, although nothing else of it changed.
    app.write("nginx.conf", &documented("nginx"));
    app.release("v1.2.0", "");
    let deployed = app.push("v1.2.0");
    deployed.ends("deployed", "v1.2.0");
    let project = app.host.project;
    let proxy = format!(
        "docker ps -q --filter label=com.docker.compose.project={project} --filter label=com.docker.compose.service=proxy"
    );
    let conf = app.host.run(&format!("docker exec $({proxy}) nginx -T"));
    assert!(conf.contains("resolver 127.0.0.11"), "{conf}");
}

/// A configuration that users are told to copy.
fn documented(language: &str) -> String {
    let text = fs::read_to_string(checkout().join("docs/proxies.md")).expect("the document");
    let (_, after) = text
        .split_once(&format!("```{language}\n"))
        .expect("a block");
    after.split_once("```").expect("its end").0.to_owned()
}

/// An image that the lab makes, because its hosts can pull nothing.
fn lab_image(name: &str) -> String {
    succeed(Command::new(checkout().join("dist-scripts/lab")).arg(name))
}

/// The application behind this proxy, with nothing but its files.
fn use_proxy(app: &App, image: &str, file: &str, conf: &str) {
    app.write(file, conf);
    app.write(
        "docker-compose.yml",
        &documented("yml")
            .replace("nginx:stable", image)
            .replace("interval: 2s", "interval: 500ms")
            .replace("start_period: 5s", "start_period: 1s\n      retries: 2"),
    );
    app.edit("belay.yml", |text| {
        let settings = text.lines().filter(|line| !line.starts_with("gateway:"));
        let settings: Vec<&str> = settings.collect();
        let settings = settings.join("\n").replace(
            "web: {strategy: start-first}",
            "web: {strategy: start-first, drain: {wait: 1s}}",
        );
        settings.replace(
            "images:\n",
            &format!("images:\n  given: {{proxy: \"{image}\"}}\n"),
        ) + &format!("\ngateway: off\nfiles: [{file}]\n")
    });
}

/// Two deployments, a candidate that answers everything with 500, and a rollback by hand.
fn no_request_fails(mut app: App, proxy: &str) {
    app.release("v1.0.0", "");
    app.push("v1.0.0").ends("deployed", "v1.0.0");
    let load = Load::start(app.addr(), Shape::stream(100, PATIENCE)).expect("it is ours");
    thread::sleep(EVENLY);
    load.mark("good");
    for tag in ["v1.1.0", "v1.2.0"] {
        app.release(tag, "");
        let run = app.push(tag);
        run.ends("deployed", tag)
            .says("started beside what serves: web");
    }
    load.mark("bad");
    app.release("v1.3.0", "all500");
    app.push("v1.3.0").ends("rolled-back", "v1.2.0");
    load.mark("by hand");
    app.rollback("").ends("deployed", "v1.1.0");
    thread::sleep(EVENLY);
    load.mark("end");
    let report = load.stop();
    for (from, to) in [("good", "bad"), ("bad", "by hand"), ("by hand", "end")] {
        tell(&app, proxy, from, &report.between(from, to));
    }
    // A check of the proxy's own may be quicker than the first request; then it has nothing else to ask.
    let by_users = answers_of_the_bad_one(&app, "GET /version 500");
    let by_anybody = answers_of_the_bad_one(&app, " 500");
    say(&format!(
        "{proxy}: the bad container failed at least {by_users} requests and {by_anybody} of all that asked it"
    ));
    assert_eq!(report.failed, 0, "{report:#?}");
    assert!(by_anybody > 0, "nothing was shown");
}

/// How often the bad container answered like this, as far as its last lines tell.
fn answers_of_the_bad_one(app: &App, answer: &str) -> usize {
    let lines = format!("cat $(find {ROOT}/.belay/failed -type f)");
    let lines = app.host.run(&lines);
    lines.lines().filter(|line| line.contains(answer)).count()
}

fn tell(app: &App, proxy: &str, what: &str, report: &Report) {
    say(&format!(
        "behind {proxy} on {}, {what}: {} requests, {} failed, longest gap {:.0} ms, p99 {:.0} ms, longest {:.0} ms, {} \
         versions in turn",
        app.host.name,
        report.total,
        report.failed,
        report.longest_gap_ms,
        report.p99_ms,
        report.max_ms,
        report.interleavings,
    ));
}
