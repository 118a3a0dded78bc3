//! `belay init`: writes the configuration and the workflows into a repository that has a Compose file.
//!
//! Runs on a laptop, in the repository. It contacts nobody, and changes no file that is there unless somebody says so.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde_json::Value;

use belay_model::composition::ports::{Protocol, Published, ports};
use belay_model::composition::project::project_from_directory;
use belay_model::config::{COMPOSE_FILES, Config, reference, render_problems};
use belay_model::transaction::outcome::Failure;
use belay_model::yaml;

/// The workflows, as this version of Belay has them.
const WORKFLOWS: [(&str, &str); 3] = [
    (
        "release.yml",
        include_str!("../../examples/workflows/release.yml"),
    ),
    (
        "rollback.yml",
        include_str!("../../examples/workflows/rollback.yml"),
    ),
    (
        "checklist.yml",
        include_str!("../../examples/workflows/checklist.yml"),
    ),
];
/// What stands in them for the action and its commit.
const PLACEHOLDER: &str = "OWNER/belay@0000000000000000000000000000000000000000 # v0.1.0";

/// What the user wants, as far as it was said.
#[derive(Clone, Debug, Default)]
pub struct InitWishes {
    /// The application's name. `None`: made from the folder's name.
    pub app: Option<String>,
    /// The host's address. `None`: belay.yml names no host, and GitHub's variables `BELAY_HOST` and `BELAY_USER` have to.
    pub host: Option<String>,
    /// The user to log in as. `None`: the default of `host.user`. Without a host it is not used.
    pub user: Option<String>,
    /// `OWNER/belay@COMMIT`, for the workflows.
    pub action: Option<String>,
    /// Overwrite files that are there.
    pub force: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Written,
    Unchanged,
    /// It is there and says something else.
    Left,
}

/// Writes the files, and returns what to tell.
pub fn init(wishes: &InitWishes, dir: &Path) -> Result<String, Failure> {
    let compose = find_compose(dir)?;
    let wishes = &asked(wishes, dir);
    let app = app_name(wishes, dir)?;
    let action = action_line(wishes)?;
    let config = configuration(wishes, &app, &compose, endpoint(&dir.join(&compose)));
    // Whatever was typed has to be a configuration before it is written down as one.
    Config::load(&config, "belay.yml").map_err(|problems| {
        Failure::new(format!(
            "this would be no good configuration:\n{}",
            render_problems(&problems)
        ))
        .host("nothing was written")
        .next("give --app, --host and --user as belay.yml takes them")
    })?;
    let mut told = String::new();
    let mut write = |name: &str, text: &str| -> Result<(), Failure> {
        let done = put(&dir.join(name), text, wishes.force, &mut |question| {
            ask(question)
        })?;
        let words = match done {
            Done::Written => "written",
            Done::Unchanged => "there already, and the same",
            Done::Left => "there already, and left as it is (--force overwrites it)",
        };
        told.push_str(&format!("{name}: {words}\n"));
        Ok(())
    };
    write("belay.yml", &config)?;
    for (name, text) in WORKFLOWS {
        let text = match &action {
            Some(action) => text.replace(PLACEHOLDER, action),
            None => text.to_owned(),
        };
        write(&format!(".github/workflows/{name}"), &text)?;
    }
    Ok(told + "\n" + &next_steps(wishes, action.is_some()))
}

/// On a terminal, what was not said is asked for; an empty answer takes what stands in the brackets.
fn asked(wishes: &InitWishes, dir: &Path) -> InitWishes {
    let mut wishes = wishes.clone();
    if !is_terminal() {
        return wishes;
    }
    if wishes.app.is_none() {
        let usual = app_name(&wishes, dir).unwrap_or_default();
        wishes.app = answer(&format!("Name of the application [{usual}]: "));
    }
    if wishes.host.is_none() {
        wishes.host = answer("Address of the host [GitHub's variable BELAY_HOST says it]: ");
    }
    if wishes.host.is_some() && wishes.user.is_none() {
        wishes.user = answer(&format!("User on the host [{}]: ", usual_user()));
    }
    wishes
}

fn usual_user() -> String {
    reference::default_of("host.user").unwrap_or_default()
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn answer(question: &str) -> Option<String> {
    let mut answer = String::new();
    let mut out = io::stdout();
    let asked = out
        .write_all(question.as_bytes())
        .and_then(|()| out.flush())
        .and_then(|()| io::stdin().read_line(&mut answer));
    let answer = answer.trim();
    (asked.is_ok() && !answer.is_empty()).then(|| answer.to_owned())
}

fn find_compose(dir: &Path) -> Result<String, Failure> {
    let found = COMPOSE_FILES.iter().find(|name| dir.join(name).is_file());
    let found = found.map(|name| (*name).to_owned());
    found.ok_or_else(|| {
        Failure::new(format!(
            "there is no Compose file here: {}",
            COMPOSE_FILES.join(", ")
        ))
        .host("nothing was written")
        .next("run this in the folder of the application's repository")
    })
}

fn app_name(wishes: &InitWishes, dir: &Path) -> Result<String, Failure> {
    if let Some(app) = &wishes.app {
        return Ok(app.clone());
    }
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = full.file_name().and_then(|name| name.to_str());
    name.and_then(project_from_directory).ok_or_else(|| {
        Failure::new("this folder's name makes no name of an application")
            .host("nothing was written")
            .next("give one: belay init --app myapp")
    })
}

/// `uses:` of the workflows. A tag could change its content, so it has to be a commit.
fn action_line(wishes: &InitWishes) -> Result<Option<String>, Failure> {
    let Some(action) = &wishes.action else {
        return Ok(None);
    };
    let is_name = |text: &str| {
        let sound = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        text.contains('/') && text.chars().all(sound)
    };
    let is_commit = |text: &str| text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit());
    match action.split_once('@') {
        Some((name, commit)) if is_name(name) && is_commit(commit) => Ok(Some(action.clone())),
        _ => Err(Failure::new(format!("{action:?} is no action at a commit"))
            .host("nothing was written")
            .next("give --action OWNER/belay@COMMIT, with all 40 digits of the commit")),
    }
}

/// Where the application most likely answers: the first port that it publishes.
fn endpoint(compose: &Path) -> Option<String> {
    let document = yaml::read(&fs::read(compose).ok()?).ok()?;
    let services = document.get("services")?.as_object()?;
    let all = services
        .values()
        .flat_map(|service: &Value| ports(service).unwrap_or_default());
    let mut tcp = all.filter(|port| port.protocol == Protocol::Tcp);
    tcp.find_map(|port| match port.published {
        Published::Fixed(port) => Some(format!("http://127.0.0.1:{port}/")),
        Published::Random | Published::Range(..) => None,
    })
}

fn configuration(
    wishes: &InitWishes,
    app: &str,
    compose: &str,
    endpoint: Option<String>,
) -> String {
    let mut text = format!(
        "# How Belay deploys this application. Every setting that is not here has a default; Belay's\n\
         # docs/configuration.md lists them.\n\n\
         app: {app}\nroot: /opt/{app}\ncompose: {compose}\n"
    );
    if let Some(host) = &wishes.host {
        let user = wishes.user.clone().unwrap_or_else(usual_user);
        text.push_str(&format!("\nhost:\n  address: {host}\n  user: {user}\n"));
    }
    if let Some(url) = endpoint {
        let about = reference::in_short("health.primary").unwrap_or_default();
        text.push_str(&format!("\nhealth:\n  # {about}.\n  primary: {url}\n"));
    }
    text
}

/// Writes a file that is not there. One that is, only when somebody agrees.
fn put(
    path: &Path,
    text: &str,
    force: bool,
    agree: &mut dyn FnMut(&str) -> bool,
) -> Result<Done, Failure> {
    let unwritable = |e: io::Error| {
        Failure::new(format!("could not write {}: {e}", path.display()))
            .next("check the folder's permissions")
    };
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => return Ok(Done::Unchanged),
        Ok(_)
            if !force
                && !agree(&format!(
                    "{} is there already. Overwrite it?",
                    path.display()
                )) =>
        {
            return Ok(Done::Left);
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritable(error)),
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(unwritable)?;
    }
    fs::write(path, text).map_err(unwritable)?;
    Ok(Done::Written)
}

/// Nobody to ask is a no.
fn ask(question: &str) -> bool {
    is_terminal()
        && answer(&format!("{question} [y/N] ")).is_some_and(|a| a.eq_ignore_ascii_case("y"))
}

fn next_steps(wishes: &InitWishes, has_action: bool) -> String {
    let mut steps = vec![];
    if !has_action {
        steps.push(format!(
            "put Belay's repository and commit behind `uses:` in the workflows, where {PLACEHOLDER} stands"
        ));
    }
    steps
        .push("on GitHub, Settings > Environments: make `production` and `development`".to_owned());
    if wishes.host.is_none() {
        steps.push("in each, the variables BELAY_HOST and BELAY_USER".to_owned());
    }
    steps.extend([
        "in each, the secrets BELAY_SSH_KEY (a private key for this alone) and BELAY_KNOWN_HOSTS (ssh-keyscan HOST, \
         compared with the host's own key)"
            .to_owned(),
        "on the host, that user in the group docker, and the root its own (docs/first-deployment.md, \"The host\")".to_owned(),
        "try it: belay doctor --ssh-key FILE --known-hosts FILE".to_owned(),
        "commit, and push a tag: v1.0.0".to_owned(),
    ]);
    let mut text = "Next:\n".to_owned();
    for (n, step) in steps.iter().enumerate() {
        text.push_str(&format!("  {}. {step}\n", n + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(compose: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("compose.yaml"), compose).expect("written");
        dir
    }

    fn wishes() -> InitWishes {
        InitWishes {
            app: Some("shop".to_owned()),
            ..InitWishes::default()
        }
    }

    const COMPOSE: &str = "services:\n  dns: {image: a, ports: [\"53:53/udp\"]}\n  web: {image: b, ports: [\"8080:80\"]}\n";

    #[test]
    fn it_writes_a_configuration_that_loads_and_the_workflows() {
        let dir = repository(COMPOSE);
        let asked = InitWishes {
            host: Some("203.0.113.10".to_owned()),
            action: Some(format!("octo/belay@{}", "a1".repeat(20))),
            ..wishes()
        };
        let told = init(&asked, dir.path()).expect("written");
        assert!(!told.contains("0000000000"), "{told}");
        let text = fs::read_to_string(dir.path().join("belay.yml")).expect("there");
        let config = Config::load(&text, "belay.yml").expect("a good file");
        let settings = config.for_environment("production").expect("settings");
        assert_eq!(settings.app.as_str(), "shop");
        assert_eq!(settings.host.expect("a host").user.as_str(), "deploy");
        let primary = settings.health.primary.expect("an endpoint").to_string();
        assert_eq!(primary, "http://127.0.0.1:8080/");
        for (name, _) in WORKFLOWS {
            let path = dir.path().join(".github/workflows").join(name);
            let text = fs::read_to_string(path).expect("there");
            assert!(text.contains("uses: octo/belay@a1a1"), "{name}");
            assert!(!text.contains("OWNER/belay"), "{name}");
        }
    }

    #[test]
    fn what_is_there_is_left_unless_somebody_says_so() {
        let dir = repository(COMPOSE);
        let path = dir.path().join("belay.yml");
        fs::write(&path, "app: mine\n").expect("written");
        let told = init(&wishes(), dir.path()).expect("done");
        assert!(
            told.contains("belay.yml: there already, and left"),
            "{told}"
        );
        assert_eq!(fs::read_to_string(&path).expect("there"), "app: mine\n");
        let forced = InitWishes {
            force: true,
            ..wishes()
        };
        init(&forced, dir.path()).expect("done");
        let told = init(&wishes(), dir.path()).expect("done");
        assert_eq!(
            told.matches("there already, and the same").count(),
            4,
            "{told}"
        );
    }

    #[test]
    fn an_answer_decides_over_a_file_that_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        fs::write(&path, "old").expect("written");
        let say = |answer: bool| put(&path, "new", false, &mut |_| answer).expect("done");
        assert_eq!((say(false), say(true)), (Done::Left, Done::Written));
        assert_eq!(fs::read_to_string(&path).expect("there"), "new");
    }

    #[test]
    fn what_cannot_be_is_refused_and_writes_nothing() {
        let bad = |change: fn(&mut InitWishes)| {
            let dir = repository(COMPOSE);
            let mut asked = wishes();
            change(&mut asked);
            let failure = init(&asked, dir.path()).expect_err("refused");
            assert_eq!(failure.host.as_deref(), Some("nothing was written"));
            assert!(!dir.path().join("belay.yml").exists());
            failure.error
        };
        assert!(bad(|w| w.app = Some("a b: c".to_owned())).contains("no good configuration"));
        assert!(bad(|w| w.host = Some("x\ny".to_owned())).contains("no good configuration"));
        assert!(
            bad(|w| w.action = Some("octo/belay@v1".to_owned())).contains("no action at a commit")
        );
        let empty = tempfile::tempdir().expect("a directory");
        let failure = init(&wishes(), empty.path()).expect_err("refused");
        assert!(
            failure.error.contains("no Compose file"),
            "{}",
            failure.error
        );
    }
}
