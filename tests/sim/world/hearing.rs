//! What clients make of their replies.

use super::World;
use super::happening::Happening;
use crate::oracles::Asked;
use pushpull::engine::Client;
use pushpull::model::FinishCursor;
use pushpull::wire::control::{Code, Refusal};
use pushpull::wire::reply::Reply;
use serde_json::Value;

impl World {
    pub(super) fn hear(&mut self, client: Client, reply: &Reply) -> Result<(), String> {
        let (oracles, mut seen) = self.watch();
        let asked = oracles.on_reply(client, reply, &mut seen)?;
        match (asked, reply) {
            (Asked::Submit(number), Reply::Expect(chunk)) => {
                self.submits[number].at = *chunk as usize;
                self.submits[number].turn += 1;
                self.later(0, Happening::ClientSends(number, self.submits[number].turn));
            }
            (Asked::Submit(number), Reply::Refused(refusal)) => self.begin_again(number, refusal),
            (Asked::Follow, Reply::Records { next, .. }) => self.follower = cursor(next)?,
            (
                Asked::Submit(_)
                | Asked::Follow
                | Asked::Repeat(_)
                | Asked::Conflict(_)
                | Asked::Forgotten(_)
                | Asked::Act(_)
                | Asked::Pause { .. }
                | Asked::Drain
                | Asked::Shutdown
                | Asked::Status
                | Asked::Audit
                | Asked::Wait(_)
                | Asked::Show
                | Asked::Browse,
                _,
            ) => {}
        }
        Ok(())
    }

    /// A submit was refused: it begins again, from the chunk that the daemon asks for, else from the first.
    fn begin_again(&mut self, number: usize, refusal: &Refusal) {
        self.submits[number].at = refusal.expect.unwrap_or(0) as usize;
        if refusal.code == Code::BadJob && refusal.field.as_deref() == Some("after") {
            // A job that it waits for was removed meanwhile: people would leave that out.
            self.submits[number].said.clear();
            let own = self.submits[number].tags();
            for tag in &own {
                let plan = self.plans.0.get_mut(tag).expect("every job was drawn");
                plan.after.retain(|before| own.contains(before));
            }
        }
    }
}

/// The place in the log of finishing that an opaque cursor stands for.
fn cursor(next: &Value) -> Result<FinishCursor, String> {
    let parts = next.as_str().and_then(|text| text.split_once('.'));
    let parsed = parts.and_then(|(commit, offset)| Some((commit.parse().ok()?, offset.parse().ok()?)));
    let (commit, offset) = parsed.ok_or_else(|| format!("results go on at {next}"))?;
    Ok(FinishCursor { commit, offset })
}
