//! What is good today and may not be tomorrow: each a warning, none a reason to refuse.
//!
//! Runs anywhere; pure.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

/// Health that takes this much of its time, in percent, is one slow day away from failing.
const HEALTH_PERCENT: u64 = 90;
/// Less free disk than this, in percent, is soon none.
const DISK_PERCENT: u64 = 20;
/// RSA keys are to have 3,072 bits at least (NIST SP 800-57, part 1, for use beyond 2030). In a public key's blob that is
/// the modulus and what stands around it, in bytes.
const RSA_BLOB: usize = 4 + 7 + 4 + 3 + 4 + 3072 / 8;

/// A start-up that used most of the time that it is given, both in milliseconds.
#[must_use]
pub fn slow_health(took_ms: u64, deadline_ms: u64) -> Option<String> {
    let is_close = took_ms.saturating_mul(100) >= deadline_ms.saturating_mul(HEALTH_PERCENT);
    let (took, deadline) = (seconds(took_ms), seconds(deadline_ms));
    (is_close && deadline_ms > 0).then(|| {
        format!(
            "it took {took} until the new version was well, and `health.deadline` is {deadline}"
        )
    })
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

/// A disk that is almost full.
#[must_use]
pub fn low_disk(free_bytes: u64, total_bytes: u64) -> Option<String> {
    let percent = free_bytes.saturating_mul(100).checked_div(total_bytes)?;
    (percent < DISK_PERCENT).then(|| format!("the host's disk has {percent} % left"))
}

/// A key that is short, or of a kind that is going away, by its public half.
#[must_use]
pub fn weak_key(public: &str) -> Option<String> {
    let mut words = public.split_whitespace();
    let (kind, blob) = (words.next()?, words.next()?);
    let better = "make a new one: ssh-keygen -t ed25519";
    match kind {
        "ssh-dss" => Some(format!(
            "the SSH key is a DSA key, which OpenSSH no longer takes; {better}"
        )),
        "ssh-rsa" => {
            let blob = base64::engine::general_purpose::STANDARD
                .decode(blob)
                .ok()?;
            let is_short = blob.len() < RSA_BLOB;
            is_short.then(|| format!("the SSH key is an RSA key of less than 3072 bits; {better}"))
        }
        _ => None,
    }
}

/// Services whose image is named so that it can be another one tomorrow: without a tag, or with `latest`.
pub fn unpinned_images(compose: &Value) -> Vec<String> {
    let services = compose.get("services").and_then(Value::as_object);
    let unpinned = services
        .into_iter()
        .flatten()
        .filter_map(|(name, service)| {
            let image = service.get("image")?.as_str()?;
            // Belay builds and names it itself.
            let is_built = service.get("build").is_some();
            let is_variable = image.contains('$');
            (!is_built && !is_variable && is_unpinned(image)).then(|| {
                format!("the image {image} of {name} may be another one tomorrow: name a version")
            })
        });
    unpinned.collect()
}

fn is_unpinned(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    // A registry's port has a colon, too.
    let name = image.rsplit('/').next().unwrap_or(image);
    name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nine_tenths_of_the_deadline_are_close() {
        assert_eq!(slow_health(53_999, 60_000), None);
        let text = slow_health(54_000, 60_000).expect("a warning");
        assert!(text.contains("54.0 s") && text.contains("60.0 s"), "{text}");
        assert_eq!(slow_health(5, 0), None);
    }

    #[test]
    fn a_fifth_of_the_disk_is_enough() {
        assert_eq!(low_disk(20, 100), None);
        assert!(low_disk(19, 100).is_some_and(|text| text.contains("19 %")));
        assert_eq!(low_disk(0, 0), None);
    }

    #[test]
    fn short_and_old_keys_are_told() {
        let blob = |bytes: usize| base64::engine::general_purpose::STANDARD.encode(vec![0; bytes]);
        let rsa = |bits: usize| format!("ssh-rsa {}", blob(4 + 7 + 4 + 3 + 4 + bits / 8 + 1));
        assert!(weak_key(&rsa(2048)).is_some());
        assert_eq!(weak_key(&rsa(3072)), None);
        assert!(weak_key(&format!("ssh-dss {}", blob(400))).is_some());
        assert_eq!(weak_key(&format!("ssh-ed25519 {}", blob(51))), None);
    }

    #[test]
    fn images_without_a_version_are_told() {
        let compose = json!({"services": {
            "a": {"image": "redis"},
            "b": {"image": "registry.example.com:5000/redis"},
            "c": {"image": "redis:latest"},
            "d": {"image": "redis:7"},
            "e": {"image": "redis@sha256:00"},
            "f": {"image": "mine", "build": "."},
            "g": {"image": "mine:${TAG}"},
        }});
        let told = unpinned_images(&compose);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[1].contains("registry.example.com:5000/redis of b"),
            "{told:?}"
        );
    }
}
