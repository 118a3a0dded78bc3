//! Secrets stay where they belong: 12 of them, each in 15 encodings, are looked for in everything that a run leaves and
//! shows, on both sides.
//!
//! What holds a secret by its purpose is not looked at: the environment of Belay's own step, which GitHub fills; on the host
//! the files that serve (`docker-compose.yml`, releases, shipped files, backups), which only their owner may read; and the
//! containers of the application.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::lab::{App, ROOT, Run};

on_every_host!(
    by turns:
    no_secret_is_found_anywhere;
);

const WRITTEN: [&str; 9] = [
    "canary-passphrase-Zx81",
    "ghs_canaryTokenQ7w2Lk9",
    "canary-hook-path-8Hj3",
    "canary of .env & <more> 5tR",
    "canary'of\"compose$$4Fd",
    "canary-of-a-shipped-file-9Lm",
    "canary-of-an-env-file-2Wq",
    "canary-of-the-data-7Yp",
    "canary-of-a-registry-login-6Bn",
];

/// A secret as programs might write it.
fn encodings(secret: &str) -> [String; 15] {
    let bytes = secret.as_bytes();
    let each = |form: fn(u8) -> String| bytes.iter().map(|b| form(*b)).collect::<String>();
    // In a longer text, base64 looks different at each of three places; the middle is what they have in common.
    let at = |offset: usize| {
        let all = STANDARD.encode([&vec![b' '; offset], bytes].concat());
        all[4..all.len() - 4].to_owned()
    };
    [
        secret.to_owned(),
        at(0),
        at(1),
        at(2),
        URL_SAFE_NO_PAD.encode(bytes),
        STANDARD.encode(STANDARD.encode(bytes)),
        each(|b| format!("{b:02x}")),
        each(|b| format!("{b:02X}")),
        each(|b| format!("%{b:02X}")),
        each(|b| format!("\\u{b:04x}")),
        each(|b| format!("\\x{b:02x}")),
        each(|b| format!("&#{b};")),
        secret.chars().rev().collect::<String>(),
        // UTF-16, which for these letters is every one with a zero behind it.
        secret.chars().flat_map(|c| [c, '\0']).collect(),
        json!(secret).to_string().trim_matches('"').to_owned(),
    ]
}

struct Canaries(Vec<String>);

impl Canaries {
    /// The first secret that is in a text, and its encoding.
    fn found_in(&self, bytes: &[u8]) -> Option<(&str, usize)> {
        let text = String::from_utf8_lossy(bytes);
        let is_in = |needle: &String| text.contains(needle.as_str());
        self.0.iter().find_map(|secret| {
            let number = encodings(secret).iter().position(is_in)?;
            Some((secret.as_str(), number))
        })
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, bytes: &[u8]) {
        let bytes = &as_shown(bytes);
        let found = self.found_in(bytes);
        assert_eq!(found, None, "{place}:\n{}", String::from_utf8_lossy(bytes));
    }

    fn are_not_in_files(&self, dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => self.are_not_in_files(&path),
                false => {
                    let bytes = fs::read(&path).unwrap_or_default();
                    self.are_not_in(&path.display().to_string(), &bytes);
                }
            }
        }
    }
}

/// Without what tells the runner which secrets to hide, which it shows to nobody.
fn as_shown(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|b| *b == b'\n');
    let shown = lines.filter(|line| !line.starts_with(b"::add-mask::"));
    shown.collect::<Vec<&[u8]>>().join(&b'\n')
}

/// The first and the last line of the key, without the armour that every key has.
fn lines_of_key(app: &App) -> [String; 2] {
    let key = fs::read_to_string(app.host.get("LAB_KEY")).expect("the key");
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    // Its first characters are the same in every key.
    let last = lines.last().expect("a line");
    [lines[1].to_owned(), (*last).to_owned()]
}

/// Command lines and environments of all processes that come by, on both sides: a host is a container of this machine.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<Vec<u8>>>,
}

impl Watch {
    fn begin() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_stop, own) = (Arc::clone(&stop), std::process::id());
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !seen_stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    look_at(&entry.path(), own, &mut seen);
                }
                std::thread::sleep(Duration::from_millis(15));
            }
            seen
        });
        Watch { stop, thread }
    }

    fn end(self) -> BTreeSet<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it looked")
    }
}

/// Belay's own programs and everything that they start; not what Docker starts, and not the step itself, whose environment
/// is GitHub's doing.
fn look_at(process: &Path, own: u32, seen: &mut BTreeSet<Vec<u8>>) {
    const THEIRS: [&str; 9] = [
        "belay",
        "docker",
        "docker-compose",
        "docker-buildx",
        "git",
        "ssh",
        "sh",
        "python3",
        "curl",
    ];
    let read = |name: &str| {
        let mut bytes = vec![];
        let file = fs::File::open(process.join(name));
        let _ = file.and_then(|mut file| file.read_to_end(&mut bytes));
        bytes
    };
    let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    if !THEIRS.contains(&name.as_str()) {
        return;
    }
    let status = String::from_utf8_lossy(&read("status")).into_owned();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    let command_line = read("cmdline");
    // Between fork and exec, a child of the step still is the step.
    let is_step = [&b"run\0"[..], b"finalize\0"]
        .iter()
        .any(|end| command_line.ends_with(end));
    let environment = match parent == Some(own.to_string().as_str()) || is_step {
        true => vec![],
        false => read("environ"),
    };
    seen.insert([command_line, environment].concat());
}

fn hook() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // Nobody answers, so the run has something to say about it.
    let url = format!(
        "http://{}/{}",
        listener.local_addr().expect("bound"),
        WRITTEN[2]
    );
    drop(listener);
    url
}

fn lay_out(app: &mut App) -> Canaries {
    let [_, token, _, dot_env, compose, shipped, env_file, _, login] = WRITTEN;
    for (name, value) in [
        ("BELAY_SSH_KEY_PASSPHRASE", WRITTEN[0].to_owned()),
        ("BELAY_TOKEN", token.to_owned()),
        ("BELAY_NOTIFY_URL", hook()),
        (
            "DOCKER_CONFIG",
            app.dir.path().join("docker").display().to_string(),
        ),
    ] {
        app.env.insert(name.to_owned(), value);
    }
    fs::create_dir_all(app.dir.path().join("docker")).expect("a directory");
    let auth = STANDARD.encode(format!("robot:{login}"));
    let config = json!({"auths": {"registry.example.com": {"auth": auth}}});
    fs::write(
        app.dir.path().join("docker/config.json"),
        config.to_string(),
    )
    .expect("written");
    app.host.run(&format!(
        "cat >>{ROOT}/.env <<'END'\nSESSION_KEY='{dot_env}'\nEND\nchown deploy: {ROOT}/.env && chmod 0600 {ROOT}/.env"
    ));
    app.write("settings.env", &format!("MAIL_PASSWORD={env_file}\n"));
    app.write("license.txt", &format!("{shipped}\n"));
    app.edit("belay.yml", |text| {
        text + "files:\n  - {from: settings.env, to: settings.env}\n  - {from: license.txt, to: license.txt}\n"
    });
    let literal = json!(compose).to_string();
    app.edit("docker-compose.yml", |text| {
        text.replacen(
            "    environment:\n",
            &format!(
                "    env_file: [settings.env]\n    environment:\n      SESSION_KEY: ${{SESSION_KEY}}\n      API_PASSWORD: {literal}\n"
            ),
            1,
        )
    });
    let mut all: Vec<String> = WRITTEN.map(str::to_owned).into();
    // As the container has it: Compose writes one dollar for two.
    all[4] = compose.replace("$$", "$");
    all.extend(lines_of_key(app));
    all.push(format!("robot:{login}"));
    assert_eq!(all.len(), 12);
    Canaries(all)
}

fn look_through(app: &App, canaries: &Canaries, run: &Run) {
    canaries.are_not_in("the log", run.log.as_bytes());
    canaries.are_not_in("the summary", run.summary.as_bytes());
    canaries.are_not_in("the outputs", format!("{:?}", run.outputs).as_bytes());
    let told = app
        .github
        .look(|world| serde_json::to_vec(world).expect("JSON"));
    canaries.are_not_in("what GitHub was told", &told);
    let journal = app.host.run(&format!(
        "cd {ROOT}/.belay && cat journal/* engine.log lock.json watch/* recover.sh rollback.sh current seq 2>/dev/null; true"
    ));
    assert!(journal.len() > 1_000, "{journal}");
    canaries.are_not_in("the journal", journal.as_bytes());
    for entry in fs::read_dir(app.dir.path()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("run-"))
        {
            canaries.are_not_in_files(&path);
        }
    }
}

fn no_secret_is_found_anywhere(mut app: App) {
    let canaries = lay_out(&mut app);
    let watch = Watch::begin();
    app.release("v1.0.0", "");
    let first = app.push("v1.0.0");
    first.ends("deployed", "v1.0.0");
    app.http("POST", "/data", WRITTEN[7]).expect("it answers");
    let inside = app.host.run(&format!(
        "docker exec $(docker ps -q --filter label=com.docker.compose.service=web --filter label=com.docker.compose.project={}) /app --help 2>&1; docker inspect $(docker ps -q --filter label=com.docker.compose.service=web) | grep -c canary",
        app.host.project
    ));
    assert!(inside.trim().ends_with(char::is_numeric), "{inside}");
    let count = inside.trim().lines().last().expect("a count");
    assert_ne!(count, "0", "the containers have their secrets: {inside}");

    app.release("v1.1.0", "bad-after:2500");
    let undone = app.push("v1.1.0");
    undone.ends("rolled-back", "v1.0.0");
    undone.says("the notification was not delivered");
    app.release("v1.2.0", "");
    let next = app.push("v1.2.0");
    next.ends("deployed", "v1.2.0");
    let back = app.rollback("");
    back.ends("deployed", "v1.0.0");
    let listed = app.pull_request(&crate::checklist::opened(&app));
    assert_eq!(listed.exit, 0, "{}", listed.log);
    let status = app.press(json!({"command": "status"}));
    let doctor = app.press(json!({"command": "doctor"}));
    let processes = watch.end();
    assert!(processes.len() > 50, "{}", processes.len());
    for process in &processes {
        canaries.are_not_in("a process", process);
    }
    for run in [first, undone, next, back, listed, status, doctor] {
        look_through(&app, &canaries, &run);
    }
}

#[test]
fn every_encoding_is_found() {
    let secret = "canary's <secret>\n";
    let canaries = Canaries(vec![secret.to_owned()]);
    for (number, needle) in encodings(secret).into_iter().enumerate() {
        let hidden = format!("before {needle} after");
        assert!(
            canaries.found_in(hidden.as_bytes()).is_some(),
            "encoding {number}"
        );
    }
    assert_eq!(canaries.found_in(b"nothing of the kind"), None);
}
