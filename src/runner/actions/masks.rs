//! Secrets, starred out of the log in the forms in which they usually leak. Runs on the runner.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::Actions;
use super::command::command;
use crate::percent::percent_encode;
use belay_model::secret::Secret;

/// Shorter values would be starred out all over the log.
const MIN_MASK: usize = 8;

impl Actions {
    /// Tells the Actions runner to star out a secret. To be called before anything else is printed. Prints nothing
    /// outside Actions.
    pub fn mask(&self, secret: &Secret) -> io::Result<()> {
        if !self.in_actions() {
            return Ok(());
        }
        let commands: String = masks(secret.expose())
            .iter()
            .map(|form| command("add-mask", &[], form))
            .collect();
        self.write(&commands)
    }
}

/// The texts to star out for one secret. The runner compares line by line, so a key is masked by its lines; the fixed
/// first and last line of a key are no secret, and starring them out would spoil every help text that shows them.
fn masks(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.len() < MIN_MASK {
        return Vec::new();
    }
    let lines: Vec<&str> = secret
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut forms: Vec<String> = Vec::new();
    // The runner masks each line of a mask too, short ones included.
    if lines
        .iter()
        .all(|line| line.len() >= MIN_MASK && !line.starts_with("-----"))
    {
        forms.push(secret.to_owned());
    }
    forms.extend(
        lines
            .iter()
            .filter(|line| !line.starts_with("-----"))
            .map(|line| (*line).to_owned()),
    );
    // The last group of base64 depends on what follows the secret, so it is left out of the mask.
    let whole = secret
        .as_bytes()
        .get(..secret.len() - secret.len() % 3)
        .unwrap_or_default();
    forms.push(STANDARD_NO_PAD.encode(whole));
    forms.push(URL_SAFE_NO_PAD.encode(whole));
    forms.push(STANDARD_NO_PAD.encode(secret));
    forms.push(URL_SAFE_NO_PAD.encode(secret));
    forms.push(percent_encode(secret, b"-_.~"));
    forms.push(percent_encode(secret, b"-_.!~*'()"));
    forms.push(
        serde_json::Value::from(secret)
            .to_string()
            .trim_matches('"')
            .to_owned(),
    );
    forms.retain(|form| form.len() >= MIN_MASK);
    forms.sort();
    forms.dedup();
    // The longest first, so that no form is starred out in parts.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms
}

#[cfg(test)]
mod tests {
    use super::super::tests::in_actions;
    use super::*;

    #[test]
    fn a_key_is_masked_line_by_line_without_its_short_and_fixed_lines() {
        let (actions, shown) = in_actions();
        let key = "-----BEGIN KEY-----\r\nMIIEvQIBADANBgkq\r\nhkiG9w0BAQEFAASC\r\n==\r\n-----END KEY-----\r\n";
        actions.mask(&Secret::new(key)).expect("written");
        let text = shown.text();
        assert!(text.contains("::add-mask::MIIEvQIBADANBgkq\n"));
        assert!(text.contains("::add-mask::hkiG9w0BAQEFAASC\n"));
        for mask in text.lines() {
            assert!(
                mask.len() > "::add-mask::==".len() && !mask.ends_with("::-----BEGIN KEY-----"),
                "{mask}"
            );
        }
    }

    #[test]
    fn a_value_of_several_lines_is_masked_whole_too() {
        assert!(
            masks("first line here\nsecond line here")
                .contains(&"first line here\nsecond line here".to_owned())
        );
        let (actions, shown) = in_actions();
        actions
            .mask(&Secret::new("first line here\nsecond line here"))
            .expect("written");
        assert!(
            shown
                .text()
                .contains("::add-mask::first line here%0Asecond line here\n")
        );
    }

    #[test]
    fn encoded_forms_of_a_secret_are_masked() {
        let secret = "pass phrase/100%?\"~";
        let forms = masks(secret);
        for form in [
            "cGFzcyBwaHJhc2UvMTAwJT8i",
            "pass%20phrase%2F100%25%3F%22~",
            "pass phrase/100%?\\\"~",
            secret,
        ] {
            assert!(
                forms.iter().any(|known| known == form),
                "{form} is not in {forms:?}"
            );
        }
        let with_newline = STANDARD_NO_PAD.encode(format!("{secret}\n"));
        assert!(
            forms
                .iter()
                .any(|form| with_newline.contains(form.as_str()) && form.starts_with("cGFz"))
        );
    }

    #[test]
    fn a_short_secret_is_not_masked() {
        assert!(masks("=").is_empty());
        assert!(masks("").is_empty());
        assert!(masks("1234567").is_empty());
    }
}
