//! Long answers, page by page: each request goes on where the reply before it ended.

use crate::client::Client;
use crate::failure::Failure;
use crate::reply::Reply;
use pushpull::wire::control::Ask;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A part of a long answer.
#[derive(Debug, Deserialize)]
pub struct Page {
    #[serde(alias = "rows")]
    pub records: Vec<Box<RawValue>>,
    pub next: Value,
    pub done: bool,
}

/// Asks for one page after another and hands each to `take`, which says whether to go on.
pub fn each(
    client: &mut Client,
    ask: Ask,
    mut take: impl FnMut(&Page) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut ask = ask;
    loop {
        let reply: Reply = client.ask_again(&ask)?;
        let page: Page = reply.as_type()?;
        if !take(&page)? {
            return Ok(());
        }
        ask.after = Some(page.next);
    }
}

/// The rows as a type of the protocol.
pub fn parse<'a, T: Deserialize<'a>>(records: &'a [Box<RawValue>]) -> Result<Vec<T>, Failure> {
    records
        .iter()
        .map(|raw| serde_json::from_str(raw.get()))
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::Answer(format!("the daemon's answer is not what was asked for: {error}")))
}
