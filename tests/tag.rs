//! What is and is not a tag, judged by tables, by generated hostile names and by real repositories.

use std::path::Path;
use std::process::Command;

use belay_model::config::Config;
use belay_model::request::tag::{Tag, TagKind, TagRefusal};
use belay_model::request::tag_ancestry::check_newer;
use belay_runner::git::{GitError, repository_facts};
use belay_runner::tag_command;
use proptest::prelude::*;

fn tag(text: &str) -> Tag {
    Tag::parse(text).expect("a valid tag")
}

fn refusal(text: &str) -> TagRefusal {
    Tag::parse(text).expect_err("a refused tag")
}

/// The grammar once more, written as a machine over bytes and sharing nothing with the parser.
mod independent {
    pub(crate) fn accepts(text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.len() <= 128
            && match bytes {
                [b'd', b'e', b'v', b'-', date @ ..] => is_date(date),
                [b'f', b'e', b'a', b't', b'u', b'r', b'e', b'-', slug @ ..] => is_slug(slug),
                [b'v', version @ ..] => is_version(version),
                _ => false,
            }
    }

    fn is_date(bytes: &[u8]) -> bool {
        if bytes.len() != 8 || !bytes.iter().all(u8::is_ascii_digit) {
            return false;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to]
                .iter()
                .fold(0u32, |sum, b| sum * 10 + u32::from(b - b'0'))
        };
        let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let days = [
            31,
            if leap { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ];
        year > 0 && (1..=12).contains(&month) && (1..=days[month as usize - 1]).contains(&day)
    }

    fn is_slug(bytes: &[u8]) -> bool {
        let mut after_hyphen = true;
        for b in bytes {
            match b {
                b'a'..=b'z' | b'0'..=b'9' => after_hyphen = false,
                b'-' if !after_hyphen => after_hyphen = true,
                _ => return false,
            }
        }
        !after_hyphen && bytes.len() <= 63
    }

    fn is_version(mut bytes: &[u8]) -> bool {
        for place in 0..3 {
            if place > 0 {
                let [b'.', rest @ ..] = bytes else {
                    return false;
                };
                bytes = rest;
            }
            let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > 9 || (digits > 1 && bytes[0] == b'0') {
                return false;
            }
            bytes = &bytes[digits..];
        }
        match bytes {
            [] => true,
            [b'-', prerelease @ ..] => {
                prerelease.len() <= 64
                    && prerelease.split(|b| *b == b'.').all(|part| {
                        let numeric = part.iter().all(u8::is_ascii_digit);
                        !part.is_empty()
                            && part.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
                            && !(numeric && part.len() > 1 && part[0] == b'0')
                    })
            }
            _ => false,
        }
    }
}

// ---- the grammar ----------------------------------------------------------------------------------------------------

#[test]
fn every_kind_is_recognised() {
    let table = [
        ("v1.0.0", TagKind::Release),
        ("v0.0.0", TagKind::Release),
        ("v1.10.0", TagKind::Release),
        ("v999999999.999999999.0", TagKind::Release),
        ("v1.0.1", TagKind::Hotfix),
        ("v1.2.30", TagKind::Hotfix),
        ("v1.2.0-rc.1", TagKind::Prerelease),
        ("v1.2.3-RC-1", TagKind::Prerelease),
        ("v1.2.3-0.3.7", TagKind::Prerelease),
        ("v1.2.3--", TagKind::Prerelease),
        ("dev-20241215", TagKind::Dev),
        ("dev-20240229", TagKind::Dev),
        ("feature-xyz", TagKind::Feature),
        ("feature-login-2", TagKind::Feature),
    ];
    for (text, kind) in table {
        assert_eq!(tag(text).kind(), kind, "{text}");
        assert_eq!(tag(text).as_str(), text);
    }
}

#[test]
fn a_refused_tag_comes_with_the_nearest_valid_one() {
    let table = [
        ("v01.2.3", Some("v1.2.3")),
        ("V1.0.0", Some("v1.0.0")),
        ("v1.0", Some("v1.0.0")),
        ("v1", Some("v1.0.0")),
        ("1.2.3", Some("v1.2.3")),
        ("v1.2.3.4", Some("v1.2.3")),
        ("v1.2.3+build.5", Some("v1.2.3")),
        ("v1.2.0-rc.01", Some("v1.2.0-rc.1")),
        ("v1.2.0-rc..1", Some("v1.2.0-rc.1")),
        ("v1.2.0-", Some("v1.2.0")),
        ("v1.0-beta", Some("v1.0.0-beta")),
        ("v1_2_3", Some("v1.2.3")),
        ("release-1.4.0", Some("v1.4.0")),
        ("dev-20241315", Some("dev-20241215")),
        ("dev-20230229", Some("dev-20230228")),
        ("dev-20241200", Some("dev-20241201")),
        ("dev-2024-12-15", Some("dev-20241215")),
        ("dev_20241215", Some("dev-20241215")),
        ("DEV-20241215", Some("dev-20241215")),
        ("dev-00001215", Some("dev-00011215")),
        ("dev-2024121", None),
        ("refs/tags/v1.0.0", Some("v1.0.0")),
        ("refs/tags/refs/tags/v1.0.0", Some("v1.0.0")),
        ("refs/tags/dev-20241215", Some("dev-20241215")),
        ("release/v1.0.0", Some("v1.0.0")),
        ("feature/login", Some("feature-login")),
        ("Feature_Login Page", Some("feature-login-page")),
        ("feature-a--b", Some("feature-a-b")),
        ("feature-", None),
        ("v1.0.0\n", Some("v1.0.0")),
        ("v1.0.0\r\nv2.0.0", Some("v1.0.0")),
        (" v1.0.0", Some("v1.0.0")),
        ("v1.0.0$(id)", Some("v1.0.0")),
        ("v1.0.0`id`", Some("v1.0.0")),
        ("'v1.0.0'", None),
        ("v\u{ff11}.0.0", Some("v1.0.0")),
        ("\u{202e}v1.0.0", Some("v1.0.0")),
        ("v1.0.0\0", Some("v1.0.0")),
        ("v1000000000.0.0", None),
        ("", None),
        ("main", None),
        ("latest", None),
        ("-v1.0.0", None),
        ("--help", None),
    ];
    for (text, nearest) in table {
        assert_eq!(refusal(text).nearest.as_deref(), nearest, "{text:?}");
    }
}

#[test]
fn the_reason_names_what_is_wrong() {
    let table = [
        ("", "the tag is empty"),
        (
            "v1.0",
            "a version has three numbers, as in v1.2.0; this one has 2",
        ),
        ("v01.2.3", "a number of the version has a leading zero"),
        ("V1.0.0", "a version tag begins with a lower-case v"),
        ("1.0.0", "a version tag begins with v"),
        (
            "v1.0.0\n",
            "the tag contains a line feed; only ASCII letters, digits, . and - are allowed",
        ),
        (
            "v1.0.\u{661}",
            "the tag contains U+0661, which is not ASCII; only ASCII letters, digits, . and - are allowed",
        ),
        (
            "v1.0.0$(id)",
            "the tag contains a dollar sign; only ASCII letters, digits, . and - are allowed",
        ),
        (
            "refs/tags/v1.0.0",
            "the tag contains a slash; give its name without refs/tags/ or any folder",
        ),
        ("dev-20241315", "the date does not exist in the calendar"),
        (
            "v1.0.0+1",
            "the tag has build metadata (a plus sign); two builds of one version would be one tag",
        ),
    ];
    for (text, reason) in table {
        assert_eq!(refusal(text).reason, reason, "{text:?}");
    }
    assert_eq!(
        refusal(&"v".repeat(300)).reason,
        "the tag is 300 bytes long; the limit is 128"
    );
}

#[test]
fn limits_are_exact() {
    assert!(Tag::parse(&format!("feature-{}", "a".repeat(63))).is_ok());
    assert!(Tag::parse(&format!("feature-{}", "a".repeat(64))).is_err());
    assert!(Tag::parse(&format!("v1.0.0-{}", "a".repeat(64))).is_ok());
    assert!(Tag::parse(&format!("v1.0.0-{}", "a".repeat(65))).is_err());
    assert!(Tag::parse("v1.999999999.0").is_ok());
    assert!(Tag::parse("v1.1000000000.0").is_err());
}

#[test]
fn deserialising_checks_again() {
    assert_eq!(
        serde_json::from_str::<Tag>("\"v1.0.0\"").unwrap(),
        tag("v1.0.0")
    );
    assert!(serde_json::from_str::<Tag>("\"v1.0.0;id\"").is_err());
    assert_eq!(
        serde_json::to_string(&tag("dev-20241215")).unwrap(),
        "\"dev-20241215\""
    );
}

#[test]
fn versions_are_ordered_as_numbers() {
    for (low, high) in [
        (9, 10),
        (99, 100),
        (255, 256),
        (65_535, 65_536),
        (999_999_998, 999_999_999),
    ] {
        for (low, high) in [
            (format!("v{low}.0.0"), format!("v{high}.0.0")),
            (format!("v1.{low}.0"), format!("v1.{high}.0")),
            (format!("v1.1.{low}"), format!("v1.1.{high}")),
        ] {
            assert!(tag(&low).version() < tag(&high).version(), "{low} {high}");
            assert_eq!(check_newer(&tag(&high), Some(&tag(&low))), Ok(()));
            assert!(check_newer(&tag(&low), Some(&tag(&high))).is_err());
        }
    }
    assert!(tag("v1.2.0-rc.9").version() < tag("v1.2.0-rc.10").version());
    assert!(tag("v1.2.0-rc.10").version() < tag("v1.2.0").version());
}

#[test]
fn a_downgrade_is_refused_and_called_a_rollback() {
    let refusal = check_newer(&tag("v1.0.0"), Some(&tag("v1.1.0"))).unwrap_err();
    assert_eq!(
        refusal.reason,
        "v1.0.0 is older than v1.1.0, which is serving; going back is a rollback: belay rollback v1.0.0"
    );
    assert_eq!(refusal.nearest.as_deref(), Some("v1.2.0"));
    let refusal = check_newer(&tag("v1.0.1"), Some(&tag("v1.1.4"))).unwrap_err();
    assert_eq!(refusal.nearest.as_deref(), Some("v1.1.5"));
}

#[test]
fn order_is_asked_only_of_releases_and_hotfixes() {
    for (new, serving) in [
        ("v1.1.0", "v1.1.0"),
        ("v1.1.0", "v1.1.0-rc.1"),
        ("v1.0.0", "dev-20241215"),
        ("v1.0.0-rc.1", "v1.1.0"),
        ("dev-20241214", "dev-20241215"),
        ("feature-a", "v9.0.0"),
    ] {
        assert_eq!(
            check_newer(&tag(new), Some(&tag(serving))),
            Ok(()),
            "{new} after {serving}"
        );
    }
    assert_eq!(check_newer(&tag("v1.0.0"), None), Ok(()));
}

// ---- generated names ------------------------------------------------------------------------------------------------

/// Names near the grammar, and names far from it.
fn hostile_name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("v".to_owned()),
        Just("V".to_owned()),
        Just(".".to_owned()),
        Just("-".to_owned()),
        Just("dev-".to_owned()),
        Just("feature-".to_owned()),
        Just("rc.1".to_owned()),
        Just("+".to_owned()),
        Just("0".to_owned()),
        Just("refs/tags/".to_owned()),
        Just("$(touch canary)".to_owned()),
        Just("`id`".to_owned()),
        Just("\n".to_owned()),
        Just("\u{202e}".to_owned()),
        Just("\u{ff11}".to_owned()),
        Just("\u{0435}".to_owned()),
        Just("::error::".to_owned()),
        Just("../".to_owned()),
        "[0-9]{1,10}",
        "[0-9]{8}",
        "(19|20)[0-9]{2}[01][0-9][0-3][0-9]",
        "[a-z0-9]{1,70}",
        any::<char>().prop_map(String::from),
    ];
    let soup = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    let version = "v[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}(-[0-9A-Za-z.-]{0,8})?";
    prop_oneof![3 => soup, 2 => version, 1 => "dev-[0-9]{8}", 1 => "feature-[a-z0-9-]{1,12}", 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_the_grammar_is_accepted(text in hostile_name()) {
        match Tag::parse(&text) {
            Ok(tag) => {
                prop_assert!(independent::accepts(&text), "accepted {:?}", text);
                prop_assert_eq!(tag.as_str(), text);
            }
            Err(refusal) => {
                prop_assert!(!independent::accepts(&text), "refused {:?}: {}", text, refusal.reason);
                prop_assert!(refusal.reason.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
                prop_assert!(!refusal.reason.contains("$(") && !refusal.reason.contains('`'));
                if let Some(nearest) = refusal.nearest {
                    prop_assert!(independent::accepts(&nearest), "nearest {:?} of {:?}", nearest, text);
                }
            }
        }
    }
}

// ---- real repositories ----------------------------------------------------------------------------------------------

struct Repository(tempfile::TempDir);

impl Repository {
    fn new() -> Repository {
        let repository = Repository(tempfile::tempdir().unwrap());
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    fn git(&self, arguments: &[&str]) {
        git(self.0.path(), arguments);
    }

    fn commit(&self, message: &str) {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }

    fn tagged(&self, tags: &[&str]) {
        for tag in tags {
            self.commit(tag);
            self.git(&["tag", tag]);
        }
    }

    fn explain(&self, text: &str) -> (serde_json::Value, u8) {
        explain(self.0.path(), text)
    }
}

fn git(dir: &Path, arguments: &[&str]) {
    let identity = [
        "-c",
        "user.name=Belay",
        "-c",
        "user.email=belay@example.com",
        "-c",
        "tag.gpgSign=false",
    ];
    let status = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(identity)
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

fn explain(dir: &Path, text: &str) -> (serde_json::Value, u8) {
    let (output, exit) = tag_command::run(text, true, dir, &Config::default());
    assert!(output.is_ascii() && output.matches('\n').count() == 1);
    (serde_json::from_str(&output).unwrap(), exit)
}

#[test]
fn the_json_answer_has_exactly_the_promised_fields() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0"]);
    let (answer, exit) = repository.explain("v1.0.0");
    assert_eq!(exit, 0);
    assert_eq!(
        answer,
        serde_json::json!({"tag": "v1.0.0", "accepted": true, "kind": "release", "environment": "production",
            "reason": null, "nearest": null})
    );
    let (answer, exit) = repository.explain("v1.0\u{202e}\n");
    assert_eq!(exit, 10);
    assert_eq!(answer["tag"], "v1.0\u{202e}\n");
    assert_eq!(answer["accepted"], false);
    assert_eq!(answer["nearest"], "v1.0.0");
}

#[test]
fn a_hotfix_descends_from_its_release() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0", "v1.0.1", "v1.1.0"]);
    assert_eq!(repository.explain("v1.0.1").1, 0);
    repository.git(&["checkout", "--quiet", "--orphan", "elsewhere"]);
    repository.tagged(&["v1.1.1"]);
    let (answer, exit) = repository.explain("v1.1.1");
    assert_eq!(exit, 10);
    assert_eq!(
        answer["reason"],
        "a hotfix descends from its release, and v1.1.1 does not descend from v1.1.0"
    );
    assert_eq!(answer["kind"], "hotfix");
    assert_eq!(answer["nearest"], "v1.2.0");
}

#[test]
fn a_hotfix_needs_its_release() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0", "v2.3.1"]);
    for text in ["v2.3.1", "v7.0.2"] {
        assert_eq!(repository.explain(text).1, 10, "{text}");
    }
    let (answer, _) = repository.explain("v2.3.1");
    assert_eq!(
        answer["reason"],
        "a hotfix needs its release, and the repository has no tag v2.3.0"
    );
    assert_eq!(answer["nearest"], "v2.3.0");
}

#[test]
fn an_annotated_release_counts() {
    let repository = Repository::new();
    repository.commit("one");
    repository.git(&["tag", "-a", "v1.0.0", "-m", "annotated"]);
    repository.git(&["tag", "-a", "v1.1.0", "-m", "a tag of a tag", "v1.0.0"]);
    repository.commit("two");
    repository.git(&["tag", "-a", "v1.1.1", "-m", "annotated"]);
    assert_eq!(repository.explain("v1.1.1").1, 0);
    let facts = repository_facts(repository.0.path(), "v1.0.0").unwrap();
    assert_eq!(
        facts.commit_of(&tag("v1.0.0")),
        facts.commit_of(&tag("v1.1.0"))
    );
    assert_eq!(facts.commit_of(&tag("v1.0.0")).map(str::len), Some(40));
}

#[test]
fn an_older_version_on_top_of_a_newer_one_is_refused() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0", "v1.10.0", "v1.9.0"]);
    assert_eq!(repository.explain("v1.0.0").1, 0);
    assert_eq!(repository.explain("v1.10.0").1, 0);
    assert_eq!(
        repository.explain("v1.11.0").1,
        0,
        "not made yet, and newer"
    );
    let (answer, exit) = repository.explain("v1.9.0");
    assert_eq!(exit, 10);
    assert_eq!(
        answer["reason"],
        "v1.9.0 is older than v1.10.0, which its commit already contains"
    );
    assert_eq!(answer["nearest"], "v1.11.0");
    assert_eq!(
        repository.explain("v0.9.0").1,
        10,
        "not made yet, and older"
    );
    assert_eq!(
        repository.explain("v1.0.0-rc.1").1,
        0,
        "development tags have no order"
    );
}

#[test]
fn tags_on_one_commit_do_not_contradict_each_other() {
    let repository = Repository::new();
    repository.commit("one");
    for text in ["v1.0.0", "v1.0.1", "v1.1.0"] {
        repository.git(&["tag", text]);
    }
    for text in ["v1.0.0", "v1.0.1", "v1.1.0"] {
        assert_eq!(repository.explain(text).1, 0, "{text}");
    }
}

#[test]
fn a_shallow_clone_says_that_it_cannot_tell() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0", "v1.0.1"]);
    let clones = tempfile::tempdir().unwrap();
    let from = format!("file://{}", repository.0.path().display());
    git(
        clones.path(),
        &[
            "clone",
            "--quiet",
            "--depth=1",
            "--branch=v1.0.1",
            &from,
            "clone",
        ],
    );
    let (answer, exit) = explain(&clones.path().join("clone"), "v1.0.1");
    assert_eq!(exit, 0);
    let reason = answer["reason"].as_str().unwrap();
    assert!(
        reason.contains("shallow clone") && reason.contains("fetch-depth: 0"),
        "{reason}"
    );
}

#[test]
fn outside_a_repository_only_the_grammar_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        repository_facts(dir.path(), "v1.0.1"),
        Err(GitError::OutsideRepository)
    ));
    assert_eq!(explain(dir.path(), "v1.0.1").1, 0);
    assert_eq!(explain(dir.path(), "v1.0").1, 10);
    let (output, _) = tag_command::run("v1.0.1", false, dir.path(), &Config::default());
    assert_eq!(
        output,
        "accepted: v1.0.1 is a hotfix tag\ngoes to: production\n\
         checked: its name only; this folder is not in a git repository\n"
    );
}

#[test]
fn a_kind_that_no_environment_takes_is_refused() {
    let config =
        Config::load("environments: {production: {tags: [release]}}", "belay.yml").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (output, exit) = tag_command::run("v1.0.1", true, dir.path(), &config);
    assert_eq!(exit, 10);
    assert!(
        output.contains("no environment of belay.yml takes hotfix tags"),
        "{output}"
    );
}

#[test]
fn an_empty_repository_has_facts_too() {
    let repository = Repository::new();
    assert_eq!(repository.explain("v1.0.0").1, 0);
    assert_eq!(repository.explain("v1.0.1").1, 10);
}

#[test]
fn a_hostile_name_reaches_no_shell_and_no_terminal() {
    let repository = Repository::new();
    repository.tagged(&["v1.0.0"]);
    let canary = repository.0.path().join("canary");
    for text in [
        format!("v1.0.0$(touch {})", canary.display()),
        format!("`touch {}`", canary.display()),
        format!("--output={}", canary.display()),
        format!("v1.0.0;touch {}", canary.display()),
        format!("\n::error::{}", "x".repeat(10_000)),
        "\u{1b}[2J\u{202e}".to_owned(),
    ] {
        assert_eq!(repository.explain(&text).1, 10, "{text:?}");
        let (output, exit) =
            tag_command::run(&text, false, repository.0.path(), &Config::default());
        assert_eq!((exit, output.lines().count()), (10, 3), "{output}");
        assert!(
            output.is_ascii() && !output.contains('\u{1b}') && output.len() < 1_000,
            "{output:?}"
        );
        assert!(output.lines().all(|line| !line.starts_with("::")));
    }
    assert!(!canary.exists());
}
