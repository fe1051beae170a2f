//! Which jobs a verb means: words, states and a pool, checked here so that a typing error costs no request.

use crate::failure::Failure;
use crate::policy::pool;
use pushpull::model::PoolName;
use pushpull::wire::control::{Ask, OneOrMany, Selection};
use pushpull::wire::select;

#[derive(clap::Args, Clone, Debug, Default)]
pub struct SelectOptions {
    /// Means these jobs: 17, 3-9, 3,5, @3 (a batch), @NAME, @last or all.
    #[arg(value_name = "SELECT")]
    pub select: Vec<String>,
    /// Means only jobs in these states, such as failed,cancelled.
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    pub state: Vec<String>,
    /// Means only jobs of this pool.
    #[arg(long, value_name = "POOL", value_parser = pool)]
    pub pool: Vec<PoolName>,
}

impl SelectOptions {
    pub fn is_empty(&self) -> bool {
        self.select.is_empty() && self.state.is_empty() && self.pool.is_empty()
    }

    /// `ask` for these jobs.
    pub fn fill(&self, ask: Ask) -> Result<Ask, Failure> {
        let pools: Vec<String> = self.pool.iter().map(ToString::to_string).collect();
        let selection = Selection {
            select: one_or_many(&self.select),
            state: one_or_many(&self.state),
            pool: one_or_many(&pools),
        };
        select::selection(&selection).map_err(|refusal| Failure::of_request(*Box::new(refusal)))?;
        Ok(Ask { select: selection.select, state: selection.state, pool: selection.pool, ..ask })
    }

    /// The same for verbs that change jobs: they must be told which.
    pub fn fill_said(&self, ask: Ask) -> Result<Ask, Failure> {
        if self.is_empty() {
            let message = format!("{} needs to know which jobs", ask.op);
            return Err(Failure::usage(message, format!("{}; or give --state or --pool", select::GRAMMAR)));
        }
        self.fill(ask)
    }

    /// As they stand on a command line.
    pub fn words(&self) -> String {
        let mut words = self.select.clone();
        if !self.state.is_empty() {
            words.push(format!("--state {}", self.state.join(",")));
        }
        words.extend(self.pool.iter().map(|pool| format!("--pool {pool}")));
        words.join(" ")
    }
}

fn one_or_many(words: &[String]) -> Option<OneOrMany> {
    match words {
        [] => None,
        [one] => Some(OneOrMany::One(one.clone())),
        many => Some(OneOrMany::Many(many.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request;

    fn options(select: &[&str], state: &[&str]) -> SelectOptions {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        SelectOptions { select: texts(select), state: texts(state), pool: Vec::new() }
    }

    #[test]
    fn one_word_goes_as_a_string_and_several_as_an_array() {
        let ask = options(&["@3"], &["failed", "queued"]).fill(request("list")).expect("good words");
        let json = serde_json::to_value(&ask).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({"v": 1, "op": "list", "select": "@3", "state": ["failed", "queued"]})
        );
    }

    #[test]
    fn wrong_words_are_usage_errors_before_anything_is_sent() {
        for wrong in [options(&["x"], &[]), options(&[], &["faild"]), options(&["9-3"], &[])] {
            assert_eq!(wrong.fill(request("list")).expect_err("wrong").exit_status(), 2);
        }
        assert_eq!(options(&[], &[]).fill_said(request("cancel")).expect_err("nothing").exit_status(), 2);
        assert!(options(&[], &["failed"]).fill_said(request("retry")).is_ok());
    }
}
