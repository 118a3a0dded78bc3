//! On a terminal, a rollback without a version lists the choices and asks.

use std::io::{self, IsTerminal};

use belay_model::transaction::outcome::Failure;
use belay_runner::actions::Actions;
use belay_runner::inputs::{Env, Inputs};
use belay_runner::run;

/// The version or backup that the user chose. Without a terminal there is no one to ask, so none.
pub(super) fn choose(
    env: &Env,
    inputs: &Inputs,
    actions: &Actions,
) -> Result<Option<String>, Failure> {
    if !io::stdin().is_terminal() || actions.in_actions() {
        return Ok(None);
    }
    let choices = run::rollback_choices(env, inputs, actions)?;
    if choices.is_empty() {
        return Err(Failure::new("there is no version to roll back to").host("nothing was changed"));
    }
    show(&choices, actions).map_err(|error| Failure::new(format!("could not ask: {error}")))?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer).ok();
    read.and_then(|_| meant(&answer, &choices))
        .map(Some)
        .ok_or_else(|| {
            Failure::new("nothing was chosen")
                .host("nothing was changed")
                .next("name a version")
        })
}

fn show(choices: &[(String, String)], actions: &Actions) -> io::Result<()> {
    actions.line("Roll back to which version?")?;
    for (number, (name, about)) in (1..).zip(choices) {
        actions.line(&format!("  {number}) {name}  {about}"))?;
    }
    actions.line("number, version or backup (empty: none):")
}

/// What an answer names: one of the choices by its number, or anything by its name.
fn meant(answer: &str, choices: &[(String, String)]) -> Option<String> {
    let answer = answer.trim();
    match answer.parse::<usize>() {
        Ok(number) => {
            let (name, _) = choices.get(number.checked_sub(1)?)?;
            Some(name.clone())
        }
        Err(_) => (!answer.is_empty()).then(|| answer.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn an_answer_is_a_number_of_the_list_or_a_name() {
        let choices = ["v1.1.0", "v1.0.0"].map(|name| (name.to_owned(), String::new()));
        let meant = |answer| meant(answer, &choices);
        assert_eq!(meant(" 2\n").as_deref(), Some("v1.0.0"));
        assert_eq!(meant("v0.9.0\n").as_deref(), Some("v0.9.0"));
        for nothing in ["\n", "0", "3"] {
            assert_eq!(meant(nothing), None, "{nothing:?}");
        }
    }
}
