//! What an image is, whatever an engine calls it.
//!
//! An image's identity is the digest of its config, which names the digests of its unpacked layers in turn
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md>, "`ImageID`"). An engine that keeps images by a graph
//! driver has that digest for its ID of the image. One with the containerd store has the digest of the manifest, or of the
//! index, that the image came with: packed once more, the same image gets another ID. So IDs of two engines say nothing
//! about each other, and each is only ever compared with others of the engine that gave it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::sha256;

/// Where an engine keeps its images; decides what it calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageStore {
    /// Docker's own, by a graph driver (`overlay2`): an image's ID is the digest of its config.
    #[default]
    Graph,
    /// containerd's, by a snapshotter: an image's ID is the digest of its manifest or index.
    Containerd,
}

impl ImageStore {
    /// Reads `DriverStatus` of the engine's `/info`. The word is the one that Docker documents:
    /// <https://docs.docker.com/engine/storage/containerd/>.
    #[must_use]
    pub fn of(driver_status: &[Vec<String>]) -> ImageStore {
        let is_containerd = |pair: &Vec<String>| {
            matches!(pair.as_slice(), [key, value]
                if key == "driver-type" && value.starts_with("io.containerd.snapshotter"))
        };
        match driver_status.iter().any(is_containerd) {
            true => ImageStore::Containerd,
            false => ImageStore::Graph,
        }
    }

    /// As messages call it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            ImageStore::Graph => "Docker's own image store",
            ImageStore::Containerd => "the containerd image store",
        }
    }
}

/// What an image is: the same on every engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The digest of its config: its identity.
    pub config: String,
    /// The digests of its layers as they are when unpacked ("diff IDs"), the lowest one first.
    pub layers: Vec<String>,
}

/// Whether an engine's image is one that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Its ID is the digest of the config or of the manifest that the image was sent with.
    Same,
    /// Its layers are not the ones wanted.
    Other,
    /// The layers are the same, and its ID does not tell about the config: the engine has to be asked for that.
    SameLayers,
}

impl Content {
    /// Compares with what an engine says of an image. `manifest` is the one that this content was sent with.
    #[must_use]
    pub fn likeness(&self, manifest: Option<&str>, id: &str, layers: &[String]) -> Likeness {
        // Records of older versions have no layers.
        let other_layers = !self.layers.is_empty() && self.layers != layers;
        match () {
            () if other_layers => Likeness::Other,
            () if id == self.config || Some(id) == manifest => Likeness::Same,
            () => Likeness::SameLayers,
        }
    }
}

/// One image in an archive, for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its identity, by which it is found again on an engine.
    pub content: Content,
    /// As images name it: `amd64`, `arm64`.
    pub architecture: String,
    /// How this archive packs it; another archive may pack the same image differently.
    pub manifest: Manifest,
}

/// How an image is packed: its manifest, and what that names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Of the manifest itself. The containerd store can use it as the image's ID.
    pub digest: String,
    /// In bytes.
    pub size: usize,
    /// OCI's type for manifests where the document does not name one.
    pub media_type: String,
    /// Whether every layer is compressed.
    pub is_compressed: bool,
    config: String,
    layers: Vec<String>,
}

/// Why no image could be read from an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// A document that another one names is not there, or has not arrived yet.
    #[error("{digest} is not in the image's archive")]
    Missing {
        /// Of the missing document.
        digest: String,
    },
    /// A document is there and is not the expected JSON.
    #[error("the image's archive has no document {digest} that could be understood: {why}")]
    Unreadable {
        /// Of that document.
        digest: String,
        /// The parser's message.
        why: String,
    },
    /// The index has no image for the host's architecture.
    #[error("the image is made for {there}, and not for {wanted}")]
    OtherPlatform {
        /// The platforms that the index names, with commas between; `no platform` when it names none.
        there: String,
        /// The host's architecture, such as `amd64`.
        wanted: String,
    },
}

/// The small documents of an image archive (indexes, manifests and configs), by their digests.
#[derive(Clone, Debug, Default)]
pub struct Documents(BTreeMap<String, Vec<u8>>);

/// No document of an image is larger: registries refuse manifests above 4 MiB
/// (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>, "Pushing Manifests").
pub const LARGEST_DOCUMENT: u64 = 4 * 1024 * 1024;

impl Documents {
    /// Keeps the content of a file of an archive if it may be such a document, under its own digest. Whether it was kept.
    pub fn keep(&mut self, content: Vec<u8>) -> bool {
        let may_be = content.first() == Some(&b'{');
        if may_be {
            self.0.insert(digest(&content), content);
        }
        may_be
    }

    /// All of them together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0
            .values()
            .map(|content| u64::try_from(content.len()).unwrap_or(u64::MAX))
            .sum()
    }

    /// The image that an engine with the containerd store calls `id`, for a host of this architecture.
    pub fn image(&self, id: &str, architecture: &str) -> Result<Packed, PackingError> {
        let document: Index = self.read(id)?;
        let Some(entries) = document.manifests else {
            return self.of_manifest(id);
        };
        // What BuildKit attaches to an image (provenance, SBOM) is in the index as if it were one.
        let images = entries.iter().filter(|entry| !entry.is_attached());
        let mut fitting: Vec<&IndexEntry> = images.filter(|e| e.may_run_on(architecture)).collect();
        // A variant may ask for more than the host's processor can do.
        fitting.sort_by_key(|entry| entry.has_variant());
        for entry in fitting {
            // An index may be in an index, and an entry may not say what it is for.
            match self.image(&entry.digest, architecture) {
                Ok(packed) if packed.architecture != architecture => {}
                Err(PackingError::OtherPlatform { .. }) => {}
                found => return found,
            }
        }
        let platforms: Vec<String> = entries.iter().filter_map(IndexEntry::describe).collect();
        Err(PackingError::OtherPlatform {
            there: match platforms.is_empty() {
                true => "no platform".to_owned(),
                false => platforms.join(", "),
            },
            wanted: architecture.to_owned(),
        })
    }

    fn of_manifest(&self, digest: &str) -> Result<Packed, PackingError> {
        let manifest: ManifestDocument = self.read(digest)?;
        let config: ConfigDocument = self.read(&manifest.config.digest)?;
        let is_compressed = |layer: &Descriptor| {
            let media_type = layer.media_type.as_deref().unwrap_or_default();
            media_type.ends_with("gzip") || media_type.ends_with("zstd")
        };
        Ok(Packed {
            content: Content {
                config: manifest.config.digest.clone(),
                layers: config.rootfs.diff_ids,
            },
            architecture: config.architecture,
            manifest: Manifest {
                digest: digest.to_owned(),
                size: self.0.get(digest).map_or(0, Vec::len),
                media_type: manifest
                    .media_type
                    .unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned()),
                is_compressed: manifest.layers.iter().all(is_compressed),
                config: manifest.config.digest,
                layers: manifest.layers.into_iter().map(|l| l.digest).collect(),
            },
        })
    }

    /// The manifest that packs this image, where the archive has one.
    #[must_use]
    pub fn manifest_of(&self, content: &Content) -> Option<String> {
        self.0.keys().find_map(|digest| {
            let packed = self.of_manifest(digest).ok()?;
            (packed.content == *content).then(|| digest.clone())
        })
    }

    fn read<T: serde::de::DeserializeOwned>(&self, digest: &str) -> Result<T, PackingError> {
        let content = self.0.get(digest).ok_or_else(|| PackingError::Missing {
            digest: digest.to_owned(),
        })?;
        serde_json::from_slice(content).map_err(|error| PackingError::Unreadable {
            digest: digest.to_owned(),
            why: error.to_string(),
        })
    }
}

impl Manifest {
    /// The files of an archive that this image needs.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let digests = [&self.digest, &self.config];
        digests.into_iter().chain(&self.layers).map(|d| blob(d))
    }
}

/// A name under which an archive brings an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The repository and tag that the engine gives the image when it loads the archive.
    pub reference: String,
    /// The image that gets the name.
    pub manifest: Manifest,
}

/// The files that come last in an archive of these images: path and content. Engines with a graph driver read
/// `manifest.json`, those with the containerd store `index.json`.
pub fn closing_files(named: &[Naming]) -> Vec<(&'static str, Vec<u8>)> {
    let index: Vec<Value> = named.iter().map(entry_of_index).collect();
    let list: Vec<Value> = named.iter().map(entry_of_list).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": index,
    });
    vec![
        ("index.json", index.to_string().into_bytes()),
        ("manifest.json", Value::from(list).to_string().into_bytes()),
        (
            "oci-layout",
            json!({"imageLayoutVersion": "1.0.0"})
                .to_string()
                .into_bytes(),
        ),
    ]
}

fn entry_of_index(
    Naming {
        reference,
        manifest,
    }: &Naming,
) -> Value {
    let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "annotations": {
            // What containerd names the image; Docker's short names are of docker.io.
            "io.containerd.image.name": format!("docker.io/{reference}"),
            "org.opencontainers.image.ref.name": tag,
        },
    })
}

fn entry_of_list(
    Naming {
        reference,
        manifest,
    }: &Naming,
) -> Value {
    let layers: Vec<String> = manifest.layers.iter().map(|d| blob(d)).collect();
    json!({"Config": blob(&manifest.config), "RepoTags": [reference], "Layers": layers})
}

/// Where an OCI image layout has the content of this digest.
fn blob(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The digest of some content.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", sha256(content))
}

/// An index, or a manifest: the first one alone has a list of manifests.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<IndexEntry>>,
}

#[derive(Deserialize)]
struct IndexEntry {
    digest: String,
    platform: Option<PlatformDocument>,
}

#[derive(Deserialize)]
struct PlatformDocument {
    architecture: String,
    os: String,
    variant: Option<String>,
}

impl IndexEntry {
    fn is_attached(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|platform| platform.architecture == "unknown")
    }

    fn may_run_on(&self, architecture: &str) -> bool {
        let platform = self.platform.as_ref();
        platform.is_none_or(|p| p.architecture == architecture && p.os == "linux")
    }

    /// `v8` is every 64-bit ARM.
    fn has_variant(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|p| p.variant.as_deref().is_some_and(|variant| variant != "v8"))
    }

    fn describe(&self) -> Option<String> {
        let platform = self.platform.as_ref().filter(|_| !self.is_attached())?;
        Some(format!("{}/{}", platform.os, platform.architecture))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDocument {
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    media_type: Option<String>,
}

#[derive(Deserialize)]
struct ConfigDocument {
    #[serde(default)]
    architecture: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The name that images use for a machine's architecture, as the kernel and Docker's engine call it (GOARCH).
#[must_use]
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps a document and returns its digest.
    fn keep(documents: &mut Documents, document: &Value) -> String {
        let content = document.to_string().into_bytes();
        documents.keep(content.clone());
        digest(&content)
    }

    /// Keeps an image of one layer and returns the digests of its config and manifest.
    fn image(documents: &mut Documents, architecture: &str) -> (String, String) {
        let config = json!({"architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:diff-{architecture}")]}});
        let config = keep(documents, &config);
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config, "size": 1},
            "layers": [{"digest": format!("sha256:layer-{architecture}"), "size": 1}]});
        let manifest = keep(documents, &manifest);
        (config, manifest)
    }

    /// An index of two platforms, with what `BuildKit` attaches to one of them.
    fn index(documents: &mut Documents) -> String {
        let (_, amd64) = image(documents, "amd64");
        let (_, arm64) = image(documents, "arm64");
        let entry = |digest: &str, architecture: &str| json!({"digest": digest, "platform": {"architecture": architecture, "os": "linux"}});
        let mut entries = vec![entry(&amd64, "amd64"), entry(&arm64, "arm64")];
        entries.insert(0, json!({"digest": "sha256:attached", "platform": {"architecture": "unknown", "os": "unknown"}}));
        // Neither of these is there, and neither is wanted before the plain one.
        let other = json!({"architecture": "amd64", "os": "windows"});
        entries.insert(0, json!({"digest": "sha256:other", "platform": other}));
        let faster = json!({"architecture": "amd64", "os": "linux", "variant": "v3"});
        entries.insert(0, json!({"digest": "sha256:faster", "platform": faster}));
        keep(
            documents,
            &json!({"schemaVersion": 2, "manifests": entries}),
        )
    }

    #[test]
    fn identity_is_the_config_whatever_it_is_packed_in() {
        let mut documents = Documents::default();
        let (config, manifest) = image(&mut documents, "amd64");
        let index = index(&mut documents);
        let alone = documents.image(&manifest, "amd64").expect("it is there");
        let in_index = documents.image(&index, "amd64").expect("it is there");
        assert_eq!(alone, in_index);
        assert_eq!(alone.content.config, config);
        assert_eq!(alone.content.layers, ["sha256:diff-amd64"]);
        assert_eq!(documents.manifest_of(&alone.content), Some(manifest));
    }

    #[test]
    fn of_several_platforms_the_hosts_is_taken() {
        let mut documents = Documents::default();
        let index = index(&mut documents);
        let packed = documents.image(&index, "arm64").expect("it is there");
        assert_eq!(packed.content.layers, ["sha256:diff-arm64"]);
        let error = documents.image(&index, "s390x").expect_err("there is none");
        assert_eq!(
            error.to_string(),
            "the image is made for linux/amd64, windows/amd64, linux/amd64, linux/arm64, and not for s390x"
        );
    }

    #[test]
    fn an_engines_image_is_compared_by_what_it_is() {
        let layers = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let sent = Content {
            config: "sha256:config".to_owned(),
            layers: layers(&["a", "b"]),
        };
        let like = |id: &str, of: &[&str]| sent.likeness(Some("sha256:manifest"), id, &layers(of));
        assert_eq!(like("sha256:config", &["a", "b"]), Likeness::Same);
        assert_eq!(like("sha256:manifest", &["a", "b"]), Likeness::Same);
        assert_eq!(like("sha256:index", &["a", "b"]), Likeness::SameLayers);
        assert_eq!(like("sha256:manifest", &["a"]), Likeness::Other);
        assert_eq!(like("sha256:config", &["b", "a"]), Likeness::Other);
    }

    #[test]
    fn what_has_not_come_yet_is_missing() {
        let documents = Documents::default();
        let error = documents.image("sha256:1", "amd64").expect_err("nothing");
        assert!(matches!(error, PackingError::Missing { .. }), "{error:?}");
    }

    #[test]
    fn an_archive_is_closed_for_both_kinds_of_engines() {
        let mut documents = Documents::default();
        let (config, manifest) = image(&mut documents, "amd64");
        let packed = documents.image(&manifest, "amd64").expect("it is there");
        let reference = "belay/shop/web:v1.2.0".to_owned();
        let paths: Vec<String> = packed.manifest.paths().collect();
        assert_eq!(paths[2], "blobs/sha256/layer-amd64");
        let files = closing_files(&[Naming {
            reference,
            manifest: packed.manifest,
        }]);
        let read = |name: &str| -> Value {
            let (_, content) = files.iter().find(|(n, _)| *n == name).expect("it is there");
            serde_json::from_slice(content).expect("JSON")
        };
        assert_eq!(read("manifest.json")[0]["Config"], paths[1]);
        assert_eq!(config.replacen(':', "/", 1), paths[1]["blobs/".len()..]);
        let entry = &read("index.json")["manifests"][0];
        assert_eq!(entry["digest"], manifest);
        assert_eq!(
            entry["annotations"]["io.containerd.image.name"],
            "docker.io/belay/shop/web:v1.2.0"
        );
    }

    #[test]
    fn the_store_is_told_by_the_engines_own_word() {
        let pair = |key: &str, value: &str| vec![key.to_owned(), value.to_owned()];
        let graph = [
            pair("Backing Filesystem", "extfs"),
            pair("Supports d_type", "true"),
        ];
        assert_eq!(ImageStore::of(&graph), ImageStore::Graph);
        let containerd = [pair("driver-type", "io.containerd.snapshotter.v1")];
        assert_eq!(ImageStore::of(&containerd), ImageStore::Containerd);
        assert_eq!(ImageStore::of(&[]), ImageStore::Graph);
    }
}
