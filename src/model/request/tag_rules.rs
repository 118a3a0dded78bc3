//! What a repository's own settings on GitHub mean for the tags that are deployed: the rules of an environment and the
//! rulesets for tags. For `belay doctor`, because both stop a release before Belay is even started.
//!
//! Runs anywhere; pure. Patterns are those of Ruby's `File.fnmatch` with `FNM_PATHNAME`: `*` matches no `/`
//! (docs.github.com, "Deployments and environments" and "Creating rulesets for a repository").

use glob::{MatchOptions, Pattern};

use super::tag::Tag;

const REFS_TAGS: &str = "refs/tags/";

/// What has to be so before a job with this `environment:` begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentRules {
    /// The environment's setting "Deployment branches and tags".
    pub may_deploy: MayDeploy,
    /// People and teams of whom one has to approve each deployment.
    pub reviewers: usize,
    /// How long each deployment waits first, in minutes.
    pub wait_minutes: u64,
}

/// Which branches and tags GitHub lets deploy to an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MayDeploy {
    /// The environment has no restriction, which is GitHub's default.
    #[default]
    Everything,
    /// A tag never is.
    ProtectedBranches,
    /// Only those whose names match a pattern of their kind.
    Matching {
        /// Patterns of tag names, without `refs/tags/`. With none, no tag is admitted.
        tags: Vec<String>,
        /// Patterns of branch names. With none, no branch is admitted.
        branches: Vec<String>,
    },
}

impl EnvironmentRules {
    /// Whether a job that runs for this tag may deploy. GitHub ends it before its first step otherwise.
    #[must_use]
    pub fn admits(&self, tag: &Tag) -> bool {
        match &self.may_deploy {
            MayDeploy::Everything => true,
            MayDeploy::ProtectedBranches => false,
            MayDeploy::Matching { tags, .. } => matches_any(tags, tag.as_str()),
        }
    }

    /// Workflows that somebody starts by hand, such as the rollback, run on a branch.
    #[must_use]
    pub fn admits_a_branch(&self) -> bool {
        match &self.may_deploy {
            MayDeploy::Everything | MayDeploy::ProtectedBranches => true,
            MayDeploy::Matching { branches, .. } => !branches.is_empty(),
        }
    }
}

/// An active ruleset for tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// As the repository's settings show it.
    pub name: String,
    /// Patterns of whole references, or `~ALL`.
    pub include: Vec<String>,
    /// Patterns like those of `include`; a tag that matches one is not covered.
    pub exclude: Vec<String>,
    /// Those that can affect a version tag; others of the ruleset are left out.
    pub rules: Vec<TagRule>,
}

/// A rule that matters here; whom it does not bind ("bypass") GitHub tells administrators only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagRule {
    /// Nobody may create such a tag.
    Creation,
    /// Nobody may move it to another commit.
    Update,
    /// Nobody may delete it.
    Deletion,
    /// A new tag must have, or must not have, a name like this.
    Name(NameRule),
}

/// How a tag has to be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// How the pattern is compared.
    pub operator: Operator,
    /// Plain text to compare with the tag's name, except for [`Operator::Regex`].
    pub pattern: String,
    /// The name must not be so.
    pub negate: bool,
}

/// How a ruleset compares a tag's name with its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// GitHub's `starts_with`.
    StartsWith,
    /// GitHub's `ends_with`.
    EndsWith,
    /// GitHub's `contains`.
    Contains,
    /// Not judged: its dialect (RE2) is GitHub's own.
    Regex,
}

impl NameRule {
    /// Whether a name is refused; `None` when that cannot be told.
    fn refuses(&self, name: &str) -> Option<bool> {
        let fits = match self.operator {
            Operator::StartsWith => name.starts_with(&self.pattern),
            Operator::EndsWith => name.ends_with(&self.pattern),
            Operator::Contains => name.contains(&self.pattern),
            Operator::Regex => return None,
        };
        Some(fits == self.negate)
    }
}

impl Ruleset {
    fn covers(&self, tag: &Tag) -> bool {
        let reference = format!("{REFS_TAGS}{tag}");
        let among = |patterns: &[String]| {
            patterns.iter().any(|pattern| pattern == "~ALL") || matches_any(patterns, &reference)
        };
        among(&self.include) && !among(&self.exclude)
    }
}

/// What all rulesets together mean for one tag; each name is that of the first ruleset that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagVerdict<'a> {
    /// GitHub would refuse to create the tag because of its name.
    pub name_refused_by: Option<&'a str>,
    /// It has a regular expression, so it is not known whether the name is accepted.
    pub name_not_judged: Option<&'a str>,
    /// Only users on its bypass list may create the tag.
    pub creation_reserved_by: Option<&'a str>,
    /// It stops the tag from being moved to another commit; `None` means that a push can move it.
    pub kept_in_place_by: Option<&'a str>,
    /// It stops the tag from being deleted; `None` means that a push can delete it.
    pub kept_from_deletion_by: Option<&'a str>,
}

/// Lays all rulesets over one tag.
#[must_use]
pub fn judge<'a>(rulesets: &'a [Ruleset], tag: &Tag) -> TagVerdict<'a> {
    let mut verdict = TagVerdict::default();
    for ruleset in rulesets.iter().filter(|ruleset| ruleset.covers(tag)) {
        for rule in &ruleset.rules {
            let said = match rule {
                TagRule::Creation => &mut verdict.creation_reserved_by,
                TagRule::Update => &mut verdict.kept_in_place_by,
                TagRule::Deletion => &mut verdict.kept_from_deletion_by,
                TagRule::Name(rule) => match rule.refuses(tag.as_str()) {
                    Some(true) => &mut verdict.name_refused_by,
                    Some(false) => continue,
                    None => &mut verdict.name_not_judged,
                },
            };
            said.get_or_insert(&ruleset.name);
        }
    }
    verdict
}

/// A pattern that cannot be read matches what is spelled like it.
fn matches_any(patterns: &[String], name: &str) -> bool {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    patterns
        .iter()
        .any(|pattern| match Pattern::new(&single_stars(pattern)) {
            Ok(read) => read.matches_with(name, options),
            Err(_) => pattern == name,
        })
}

/// For `fnmatch`, several `*` are as good as one unless they stand alone between two `/`.
fn single_stars(pattern: &str) -> String {
    let part = |part: &str| {
        if part == "**" {
            part.to_owned()
        } else {
            let mut chars: Vec<char> = part.chars().collect();
            chars.dedup_by(|a, b| (*a, *b) == ('*', '*'));
            chars.into_iter().collect()
        }
    };
    pattern
        .split('/')
        .map(part)
        .collect::<Vec<String>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).expect("a tag")
    }

    fn only(tags: &[&str], branches: &[&str]) -> EnvironmentRules {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        EnvironmentRules {
            may_deploy: MayDeploy::Matching {
                tags: owned(tags),
                branches: owned(branches),
            },
            ..EnvironmentRules::default()
        }
    }

    #[test]
    fn a_tag_is_no_branch_however_it_is_called() {
        let protected = EnvironmentRules {
            may_deploy: MayDeploy::ProtectedBranches,
            ..EnvironmentRules::default()
        };
        assert!(!protected.admits(&tag("v1.2.0")) && protected.admits_a_branch());
        let branches = only(&[], &["v*"]);
        assert!(!branches.admits(&tag("v1.2.0")) && branches.admits_a_branch());
        assert!(EnvironmentRules::default().admits(&tag("v1.2.0")));
    }

    #[test]
    fn a_tags_pattern_is_a_glob_of_the_whole_name() {
        for (pattern, admitted) in [
            ("v*", true),
            ("v*.*.*", true),
            ("v[0-9]*", true),
            ("v1.2.?", true),
            ("v1.2.0", true),
            ("*", true),
            ("v1", false),
            ("V*", false),
            ("v2*", false),
            ("release/*", false),
            ("refs/tags/v*", false),
            ("v***", true),
            ("**/v*", true),
            ("v[1", false),
        ] {
            let rules = only(&[pattern], &[]);
            assert_eq!(rules.admits(&tag("v1.2.0")), admitted, "{pattern}");
            assert!(!rules.admits_a_branch());
        }
    }

    fn ruleset(name: &str, include: &[&str], exclude: &[&str], rules: &[TagRule]) -> Ruleset {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Ruleset {
            name: name.to_owned(),
            include: owned(include),
            exclude: owned(exclude),
            rules: rules.to_vec(),
        }
    }

    #[test]
    fn only_rulesets_that_cover_the_tag_count() {
        let rules = [TagRule::Update, TagRule::Deletion];
        for (include, exclude, covered) in [
            (&["~ALL"][..], &[][..], true),
            (&["refs/tags/v*"], &[], true),
            (&["refs/tags/x", "refs/tags/v1.*"], &[], true),
            (&["refs/tags/v*"], &["refs/tags/v1.*"], false),
            (&["~ALL"], &["~ALL"], false),
            (&["refs/heads/v*"], &[], false),
            (&["v*"], &[], false),
            (&[], &[], false),
        ] {
            let rulesets = [ruleset("releases", include, exclude, &rules)];
            let verdict = judge(&rulesets, &tag("v1.2.0"));
            let said = covered.then_some("releases");
            assert_eq!(verdict.kept_in_place_by, said, "{include:?} {exclude:?}");
            assert_eq!(verdict.kept_from_deletion_by, said);
        }
    }

    #[test]
    fn a_rule_about_names_is_judged_where_it_can_be() {
        use Operator::{Contains, EndsWith, Regex, StartsWith};
        for (operator, pattern, negate, refused) in [
            (StartsWith, "v", false, Some(false)),
            (StartsWith, "v", true, Some(true)),
            (StartsWith, "release-", false, Some(true)),
            (EndsWith, ".0", false, Some(false)),
            (EndsWith, ".1", false, Some(true)),
            (Contains, "2", false, Some(false)),
            (Contains, "9", true, Some(false)),
            (Regex, "^v", false, None),
        ] {
            let rule = TagRule::Name(NameRule {
                operator,
                pattern: pattern.to_owned(),
                negate,
            });
            let rulesets = [ruleset("names", &["~ALL"], &[], &[rule])];
            let verdict = judge(&rulesets, &tag("v1.2.0"));
            let case = format!("{operator:?} {pattern} {negate}");
            let is_refused = verdict.name_refused_by.is_some();
            assert_eq!(is_refused, refused == Some(true), "{case}");
            assert_eq!(
                verdict.name_not_judged.is_some(),
                refused.is_none(),
                "{case}"
            );
        }
    }

    #[test]
    fn the_first_ruleset_that_says_so_is_named() {
        let rulesets = [
            ruleset("other tags", &["refs/tags/x*"], &[], &[TagRule::Creation]),
            ruleset("one", &["~ALL"], &[], &[TagRule::Creation]),
            ruleset("two", &["~ALL"], &[], &[TagRule::Creation]),
        ];
        let verdict = judge(&rulesets, &tag("v1.2.0"));
        assert_eq!(verdict.creation_reserved_by, Some("one"));
        assert_eq!(verdict.kept_in_place_by, None);
    }
}
