//! A path of a Compose file means on the host what it means when Compose is run in the application's directory: Compose itself
//! says so, of every form that a path has, wherever one can stand.
//!
//! Needs Compose, so it is played with `BELAY_TEST_DOCKER=1` alone.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use belay_agent::docker::RealHost;
use belay_agent::host::{Composition, Host};
use belay_agent::rendering::Rendering;
use serde_json::Value;

/// What a path can begin with: below the directory, out of it, beyond `/`, by a variable, at home, from `/`.
const BEGINNINGS: [&str; 16] = [
    ".",
    "./data",
    "..",
    "../shared",
    "../app",
    "../app-2",
    "../../shared",
    "../../..",
    "../../../../../../../../../../shared",
    "${PWD}",
    "${PWD}/conf",
    "${PWD}/../shared",
    "${BASE}",
    "${UNSET:-../unset}",
    "~",
    "/srv",
];
const ENDINGS: [&str; 5] = ["", "/x", "/./x", "/../x", "/x/../../y"];

/// A project in directories of its own, as deep as they are on a host.
struct Project {
    dir: tempfile::TempDir,
    host: RealHost,
}

impl Project {
    fn new() -> Project {
        let project = Project {
            dir: tempfile::tempdir().expect("a directory"),
            host: RealHost::new(),
        };
        let written = [
            ("srv/apps/app/.env", "BASE=../from-env\nOWN=own\n"),
            ("srv/apps/app/more.env", "MORE=more\n"),
            ("srv/apps/app/below/own.env", "BELOW=below\n"),
            ("srv/apps/beside.env", "BESIDE=beside\n"),
            ("srv/above.env", "ABOVE=above\n"),
            (
                "srv/apps/base/common.yml",
                "services:\n  base:\n    image: base\n    env_file: ./base.env\n    volumes: ['./d:/d', '../e:/e', '../../f:/f']\n",
            ),
            ("srv/apps/base/base.env", "OF_BASE=yes\n"),
            (
                "srv/apps/base/included.yml",
                "services:\n  included:\n    image: included\n    volumes: ['./d:/d', '../../e:/e', '~/h:/h']\n",
            ),
        ];
        for (path, text) in written {
            let path = project.dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        project
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("srv/apps/app")
    }

    /// What Compose makes of a file that lies in a directory.
    fn printed(&self, text: &str, directory: &Path) -> Result<Value, String> {
        let file = directory.join("docker-compose.yml");
        fs::write(&file, text).expect("written");
        let composition = Composition {
            project: "app".to_owned(),
            directory: directory.to_owned(),
            file,
        };
        let variables = [("PWD".to_owned(), directory.display().to_string())];
        let printed = self.host.render(&composition, &variables);
        printed.map_err(|e| e.to_string())
    }

    /// The file means the same in the root and in the place that stands for it.
    fn means_the_same(&self, text: &str) {
        let meant = self.printed(text, &self.root()).expect("a good file");
        fs::remove_file(self.root().join("docker-compose.yml")).expect("removed");
        let top = self.root().join(".belay/releases/7-v1.2.0/rendering");
        let place = Rendering::new(&top, &self.root());
        place.link().expect("linked");
        let mut printed = self.printed(text, &place.directory()).expect("a good file");
        place.moved_to_root(&mut printed).expect("moved");
        assert_eq!(printed, meant, "{text}");
        fs::remove_dir_all(&top).expect("removed");
    }

    fn is_old(&self) -> bool {
        let engine = self.host.engine().expect("an engine");
        engine.compose.starts_with("1.")
    }
}

fn is_asked_for() -> bool {
    std::env::var("BELAY_TEST_DOCKER").as_deref() == Ok("1")
}

fn forms() -> Vec<String> {
    let endings = |beginning| {
        ENDINGS
            .iter()
            .map(move |ending| format!("{beginning}{ending}"))
    };
    BEGINNINGS.iter().flat_map(endings).collect()
}

#[test]
fn a_path_means_what_it_means_in_the_root() {
    if !is_asked_for() {
        return;
    }
    let project = Project::new();
    let (mut short, mut long, mut secrets, mut volumes) =
        <(String, String, String, String)>::default();
    for (number, form) in forms().iter().enumerate() {
        let _ = writeln!(short, "      - '{form}:/short/{number}'");
        let _ = writeln!(
            long,
            "      - {{type: bind, source: '{form}', target: /long/{number}, read_only: true}}"
        );
        let _ = writeln!(secrets, "  s{number}: {{file: '{form}'}}");
        let _ = writeln!(
            volumes,
            "  v{number}: {{driver_opts: {{type: none, o: bind, device: '{form}'}}}}"
        );
    }
    project.means_the_same(&format!(
        "services:\n  web:\n    image: web\n    command: ['--config=${{PWD}}/c', '${{PWD}}']\n    environment: {{HERE: '${{PWD}}'}}\n    \
         volumes:\n{short}{long}secrets:\n{secrets}volumes:\n{volumes}"
    ));
}

#[test]
fn a_file_that_is_read_is_found_where_it_is() {
    if !is_asked_for() {
        return;
    }
    let project = Project::new();
    for path in [
        "more.env",
        "./below/own.env",
        "below/../more.env",
        "../beside.env",
        "../../above.env",
        "${PWD}/more.env",
        "${PWD}/../beside.env",
    ] {
        project.means_the_same(&format!(
            "services:\n  web:\n    image: web\n    env_file: '{path}'\n"
        ));
    }
    let extended = "services:\n  web:\n    extends: {file: ../base/common.yml, service: base}\n";
    project.means_the_same(extended);
    if !project.is_old() {
        let included = "include: [../base/included.yml]\nservices:\n  web:\n    image: web\n";
        project.means_the_same(included);
        let by_parts = "include:\n  - {path: ../base/included.yml, project_directory: .., env_file: ../beside.env}\nservices:\n  \
                        web:\n    image: web\n";
        project.means_the_same(by_parts);
    }
}
