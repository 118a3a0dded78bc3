//! Data that a version takes along: what `belay.yml` calls `copied`, with where it goes.
//!
//! Pure. What can be copied has a place of its own in both versions: a volume with a name, or a path. Anything else is
//! refused with what to say instead, because a copy of something else would be found out too late.

use serde::{Deserialize, Serialize};

use super::continuity::{Change, Finding};
use super::data::DataKind;
use super::data_view::{Source, below};
use crate::config::DataMeaning;

/// A copy that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCopy {
    /// Where the data is.
    pub from: Source,
    /// Where it is to be.
    pub to: Source,
    /// A service of the new version that has it there.
    pub service: String,
}

/// Why something cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCopy {
    /// What becomes of the data.
    pub finding: Finding,
    /// What stands in the way.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

/// The copies that findings come to, of those that are meant so; or the first that cannot be.
pub fn wanted_copies(meant: &[(Finding, DataMeaning)]) -> Result<Vec<WantedCopy>, Box<NoCopy>> {
    let is_copied = |(_, meaning): &&(Finding, DataMeaning)| *meaning == DataMeaning::Copied;
    let findings: Vec<&Finding> = meant.iter().filter(is_copied).map(|(f, _)| f).collect();
    let mut copies: Vec<WantedCopy> = vec![];
    for finding in &findings {
        let mut others = findings
            .iter()
            .filter(|other| other.source == finding.source);
        let is_left = matches!(finding.change, Change::LeftBehind { .. });
        if is_left && others.any(|other| matches!(other.change, Change::Replaced { .. })) {
            // Another service takes it along.
            continue;
        }
        let copy = wanted_copy(finding)?;
        let is_same = |known: &WantedCopy| known.from == copy.from && known.to == copy.to;
        if copies.iter().any(is_same) {
            continue;
        }
        if copies.iter().any(|known| known.to == copy.to) {
            return Err(no_copy(
                finding,
                "other data is copied there, too",
                "give each its own place, or put them together yourself and say `moved`",
            ));
        }
        copies.push(copy);
    }
    Ok(copies)
}

fn wanted_copy(finding: &Finding) -> Result<WantedCopy, Box<NoCopy>> {
    let refuse = |why, instead| Err(no_copy(finding, why, instead));
    let (service, by) = match &finding.change {
        Change::Replaced {
            by: Source::Memory, ..
        } => {
            return refuse(
                "memory keeps nothing",
                "mount a volume there, or say `left` if it may stay behind",
            );
        }
        Change::Replaced {
            by: Source::Unnamed { .. },
            ..
        } => {
            return refuse(
                "a volume without a name can only be filled once its container is there",
                "give the new volume a name, under the file's `volumes` and in the service",
            );
        }
        Change::Replaced {
            is_whole: false, ..
        } => {
            return refuse(
                "only a folder of a volume or of another mount is there, before or after",
                "mount the whole of both, or copy it yourself and say `moved`",
            );
        }
        Change::Replaced { service, by, .. } => (service, by),
        Change::Retargeted { .. } => {
            return refuse(
                "it is the same data in both versions, so there is nothing to copy",
                "say `moved` if the new place is meant, or mount it where it was",
            );
        }
        Change::LeftBehind { .. } | Change::Dropped { .. } => {
            return refuse(
                "no service has anything in its place",
                "mount at that place what it is to be copied to, or say `left` if it may stay behind",
            );
        }
    };
    if is_one_inside_the_other(&finding.source, by) {
        return refuse(
            "one is inside the other",
            "choose a place that is apart, or copy it yourself and say `moved`",
        );
    }
    Ok(WantedCopy {
        from: finding.source.clone(),
        to: by.clone(),
        service: service.clone(),
    })
}

fn no_copy(finding: &Finding, why: &'static str, instead: &'static str) -> Box<NoCopy> {
    Box::new(NoCopy {
        finding: finding.clone(),
        why,
        instead,
    })
}

fn is_one_inside_the_other(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Path(one), Source::Path(other)) => {
            below(one, other).is_some() || below(other, one).is_some()
        }
        (one, other) => one == other,
    }
}

/// How long a service is gone whose data is copied, in words.
pub const GAP_FOR_A_COPY: &str =
    "from when its data is copied until the new one has started, and longer the more data there is";

/// What a transaction copies, decided once, at Fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copying {
    /// Each volume or path with its new place.
    pub copies: Vec<DataCopy>,
    /// Services of the version before that have the data: they stop before it is copied.
    pub writers: Vec<String>,
    /// The project that has had the data, where it is another one.
    pub elsewhere: Option<OtherProject>,
}

impl Copying {
    /// Whether nothing is copied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}

/// Another project of the same application, which the new version takes the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherProject {
    /// As people are told of it, with its folder.
    pub name: String,
    /// The IDs of its containers that ran.
    pub containers: Vec<String>,
}

/// Data that is copied to its new place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataCopy {
    /// Where it is, and stays.
    pub from: DataKind,
    /// Where the new version has it.
    pub to: DataKind,
    /// A service of the new version that has it there.
    pub service: String,
    /// It is a single file, not a directory.
    pub is_file: bool,
    /// What was at the new place before.
    pub before: NewPlace,
}

/// What is at the place where data is copied to. Anything that holds something is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewPlace {
    /// It is there, and empty.
    Empty {
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u64,
        /// Its group.
        gid: u64,
    },
    /// A volume that Compose makes.
    NoVolume,
    /// A path that is made, with the directories above it that are missing; this is the first of them.
    NoPath(std::path::PathBuf),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedData {
    /// Where it was, in words.
    pub from: String,
    /// Where it is now, too.
    pub to: String,
    /// Files, directories and links.
    pub entries: u64,
    /// What the files hold together.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::composition::compose::ComposeFile;
    use crate::composition::continuity::{Meant, changes, judge};
    use crate::composition::data_view::DataView;

    fn view(services: &Value) -> DataView {
        let file = ComposeFile::new(json!({"services": services})).expect("a Compose file");
        DataView::of_file(&file, "shop")
    }

    fn web(volumes: &Value) -> Value {
        json!({"web": {"volumes": volumes}})
    }

    /// What comes of it when all of these are to be copied.
    fn copies(before: &Value, after: &Value, all: &[&str]) -> Result<Vec<String>, &'static str> {
        let meant: Vec<Meant> = all
            .iter()
            .map(|source| Meant {
                source: (*source).to_owned(),
                meaning: DataMeaning::Copied,
            })
            .collect();
        let judged = judge(changes(&view(before), &view(after)), &meant, "/opt/shop");
        let copies = wanted_copies(&judged.meant).map_err(|no| no.why)?;
        let told = copies
            .iter()
            .map(|copy| format!("{} -> {}", copy.from, copy.to));
        Ok(told.collect())
    }

    fn of_web(before: &Value, after: &Value, source: &str) -> Result<Vec<String>, &'static str> {
        copies(&web(before), &web(after), &[source])
    }

    #[test]
    fn data_goes_to_what_is_mounted_in_its_place() {
        let data = json!(["data:/data"]);
        let told = of_web(&data, &json!(["store:/data"]), "data");
        assert_eq!(
            told.unwrap(),
            ["the volume shop_data -> the volume shop_store"]
        );
        let told = of_web(&data, &json!(["/srv/store:/data"]), "data");
        assert_eq!(told.unwrap(), ["the volume shop_data -> /srv/store"]);
        let told = of_web(&json!(["./old:/data"]), &json!(["./new:/data"]), "./old");
        // Paths are made absolute before; these are not.
        assert_eq!(told.unwrap(), Vec::<String>::new());
        let told = of_web(&json!(["/srv/old:/data"]), &data, "/srv/old");
        assert_eq!(told.unwrap(), ["/srv/old -> the volume shop_data"]);
        let told = of_web(&json!(["/data"]), &data, "web:/data");
        assert_eq!(
            told.unwrap(),
            ["the volume without a name of web at /data -> the volume shop_data"]
        );
        let told = of_web(&data, &json!(["store:/data"]), "another");
        assert_eq!(told.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn services_that_share_data_share_the_copy() {
        let both =
            |volume: &str| json!({"web": {"volumes": [volume]}, "worker": {"volumes": [volume]}});
        let told = copies(&both("data:/data"), &both("store:/data"), &["data"]);
        assert_eq!(
            told.unwrap(),
            ["the volume shop_data -> the volume shop_store"]
        );
        // One service is gone, and the other one takes the data along.
        let told = copies(
            &both("data:/data"),
            &json!({"worker": {"volumes": ["store:/data"]}}),
            &["data"],
        );
        assert_eq!(
            told.unwrap(),
            ["the volume shop_data -> the volume shop_store"]
        );
    }

    #[test]
    fn what_has_no_place_of_its_own_is_refused_with_the_reason() {
        let data = json!(["data:/data"]);
        for (after, why) in [
            (
                json!([{"type": "tmpfs", "target": "/data"}]),
                "memory keeps nothing",
            ),
            (json!(["/data"]), "a volume without a name can only"),
            (json!(["data:/elsewhere"]), "it is the same data in both"),
            (json!([]), "no service has anything in its place"),
            (
                json!([{"type": "volume", "source": "store", "target": "/data", "volume": {"subpath": "a"}}]),
                "only a folder of",
            ),
            (
                json!([{"type": "volume", "source": "data", "target": "/data", "volume": {"subpath": "a"}}]),
                "only a folder of",
            ),
        ] {
            let refused = of_web(&data, &after, "data").expect_err("it cannot be");
            assert!(refused.starts_with(why), "{after}: {refused}");
        }
        let around = of_web(&json!(["data:/app/data"]), &json!(["app:/app"]), "data");
        assert!(around.expect_err("a part").starts_with("only a folder of"));
        let inside = of_web(
            &json!(["/srv/app:/data"]),
            &json!(["/srv/app/new:/data"]),
            "/srv/app",
        );
        assert_eq!(inside, Err("one is inside the other"));
    }

    #[test]
    fn two_sources_never_go_to_one_place() {
        let before = json!({"web": {"volumes": ["a:/a", "b:/b"]}});
        let after = json!({"web": {"volumes": ["one:/a", "one:/b"]}});
        let refused = copies(&before, &after, &["a", "b"]);
        assert_eq!(refused, Err("other data is copied there, too"));
    }
}
