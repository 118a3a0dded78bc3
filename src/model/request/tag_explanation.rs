//! What `belay tag` says of a name.

use serde::Serialize;

use super::tag::{Tag, TagKind, TagRefusal};
use super::tag_ancestry::{Ancestry, RepositoryFacts, check_ancestry};

/// What `belay tag` answers; serialised, it is the one object of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name as it was given.
    pub tag: String,
    /// Whether Belay would deploy it.
    pub accepted: bool,
    /// Its kind, if it has the shape of one.
    pub kind: Option<TagKind>,
    /// Where it goes; nothing when it is refused.
    pub environment: Option<String>,
    /// Why it is refused, or what could not be checked.
    pub reason: Option<String>,
    /// The nearest name that is accepted, when this one is not.
    pub nearest: Option<String>,
}

/// Explains any text. Without `facts` (outside a repository) only the grammar is judged. A kind that no environment
/// takes is refused.
pub fn explain(
    text: &str,
    facts: Option<&RepositoryFacts>,
    environment_of: impl FnOnce(TagKind) -> Option<String>,
) -> Explanation {
    let tag = match Tag::parse(text) {
        Ok(tag) => tag,
        Err(refusal) => return refused(text, None, refusal),
    };
    let kind = tag.kind();
    let reason = match facts.map(|facts| check_ancestry(&tag, facts)) {
        Some(Err(refusal)) => return refused(text, Some(kind), refusal),
        Some(Ok(Ancestry::Unknown(reason))) => Some(reason),
        Some(Ok(Ancestry::Holds)) | None => None,
    };
    let Some(environment) = environment_of(kind) else {
        let reason = format!("no environment of belay.yml takes {kind} tags");
        return refused(
            text,
            Some(kind),
            TagRefusal {
                reason,
                nearest: None,
            },
        );
    };
    Explanation {
        tag: tag.to_string(),
        accepted: true,
        kind: Some(kind),
        environment: Some(environment),
        reason,
        nearest: None,
    }
}

fn refused(text: &str, kind: Option<TagKind>, refusal: TagRefusal) -> Explanation {
    Explanation {
        tag: text.to_owned(),
        accepted: false,
        kind,
        environment: None,
        reason: Some(refusal.reason),
        nearest: refusal.nearest,
    }
}
