//! `submit`: the jobs of a file.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::policy::PolicyOptions;
use crate::reply::Reply;
use crate::submission::{FileSubmit, Input, directory, environment, random_key};
use crate::waiting;
use crate::words::{grouped, jobs};
use pushpull::client::Head;
use pushpull::wire::control::{Ask, OneOrMany, PingReply, SubmitReply};
use pushpull::wire::jobfile::Format;
use pushpull::wire::select::check_batch_name;
use std::path::PathBuf;

/// Submits the jobs of a file: all of them or, if one is wrong, none.
#[derive(clap::Args)]
pub struct Submit {
    /// Reads a JSON array, JSON Lines, or an object with name, defaults and jobs; - is standard input.
    file: PathBuf,
    /// Takes every line of the file for one shell command.
    #[arg(long)]
    lines: bool,
    /// Takes every element of the file for one job's data.
    #[arg(long, conflicts_with = "lines")]
    raw: bool,
    /// Calls the batch so, to be found as @NAME.
    #[arg(long, value_name = "NAME", value_parser = batch_name)]
    name: Option<String>,
    /// Repeats a submit: one with a known key is not accepted twice.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    after: AfterSubmit,
    // Last, for its heading would stand over what follows.
    #[command(flatten)]
    policy: PolicyOptions,
}

/// What happens when the jobs are accepted.
#[derive(clap::Args)]
pub(super) struct AfterSubmit {
    /// Waits until the jobs are finished; exit status 1 if one failed.
    #[arg(long)]
    pub wait: bool,
    /// Prints only what names the jobs.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Run for Submit {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let defaults = self.policy.defaults()?;
        let has_commands = !self.raw && !self.policy.no_env;
        let head = Head {
            name: self.name,
            environment: has_commands.then(environment),
            directory: has_commands.then(directory).transpose()?,
            ..Head::default()
        };
        let key = self.key.map_or_else(random_key, Ok)?;
        let PingReply { limits, .. } = session.client.ask(&request("ping"))?.as_type()?;
        let format = match (self.raw, self.lines) {
            (true, _) => Format::Raw,
            (false, true) => Format::Lines,
            (false, false) => Format::Json,
        };
        let file = FileSubmit {
            input: &Input::new(self.file),
            format,
            key: &key,
            head: &head,
            defaults: &defaults,
            limits: &limits,
        };
        let reply = file.send(&mut session.client)?;
        let submitted: SubmitReply = reply.as_type()?;
        let line = if self.after.quiet {
            format!("@{}", submitted.batch)
        } else {
            let known = match submitted.known {
                0 => String::new(),
                known => format!(", {} of them known before", grouped(known)),
            };
            let ids = ids(&submitted.ids);
            format!("batch @{}: {}{ids}{known}", submitted.batch, jobs(submitted.jobs))
        };
        self.after.finish(session, &reply, &submitted, &line)
    }
}

impl AfterSubmit {
    /// Says what was accepted, and waits for it if that is wanted.
    pub(super) fn finish(
        &self,
        session: &mut Session,
        reply: &Reply,
        submitted: &SubmitReply,
        line: &str,
    ) -> Result<Ending, Failure> {
        let Session { client, screen } = session;
        if !self.wait {
            let document = screen.json.then(|| reply.document());
            screen.line(document.as_deref().unwrap_or(line))?;
            return Ok(Ending::Done);
        }
        screen.people(line)?;
        screen.flush()?;
        let select = select(submitted);
        let again = format!("pushpullctl wait {}", select.words().join(" "));
        let ask = Ask { select: Some(select), ..request("wait") };
        let waited = waiting::wait(client, screen, &ask, None, &again)?;
        if screen.json {
            let done = waited.wait.done.to_string();
            let counts = serde_json::to_string(&waited.wait.counts).expect("counts are numbers");
            screen.line(&reply.document_with(&[("done", &done), ("counts", &counts)]))?;
        } else if !self.quiet {
            screen.line(&waited.summary())?;
        }
        Ok(waited.ending())
    }
}

/// Known jobs belong to older batches, and a batch that was joined has others: then the ids say it, if they are
/// few. The daemon counts a batch at once and ids one by one.
fn select(submitted: &SubmitReply) -> OneOrMany {
    const RANGES_MAX: usize = 1_000;
    let counted: u64 = submitted.ids.iter().map(|(first, last)| last.saturating_sub(*first) + 1).sum();
    let is_batch = submitted.known == 0 && counted > 1;
    if is_batch || submitted.ids.is_empty() || submitted.ids.len() > RANGES_MAX {
        return OneOrMany::One(format!("@{}", submitted.batch));
    }
    let words: Vec<String> = submitted.ids.iter().map(range).collect();
    OneOrMany::One(words.join(","))
}

fn range((first, last): &(u64, u64)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `, ids 101-400`; of many ranges only the first ones.
fn ids(ranges: &[(u64, u64)]) -> String {
    const SHOWN_MAX: usize = 5;
    match ranges {
        [] => String::new(),
        [(first, last)] if first == last => format!(", id {first}"),
        many => {
            let shown: Vec<String> = many.iter().take(SHOWN_MAX).map(range).collect();
            let more = if many.len() > SHOWN_MAX { ",..." } else { "" };
            format!(", ids {}{more}", shown.join(","))
        }
    }
}

/// A batch's name, for clap.
pub(super) fn batch_name(text: &str) -> Result<String, String> {
    check_batch_name(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(known: u64, ids: &[(u64, u64)]) -> SubmitReply {
        SubmitReply { batch: 3, jobs: 300, known, ids: ids.to_vec() }
    }

    #[test]
    fn ids_are_ranges_and_many_are_cut() {
        assert_eq!(ids(&[(101, 400)]), ", ids 101-400");
        assert_eq!(ids(&[(7, 7)]), ", id 7");
        assert_eq!(ids(&[(1, 2), (4, 4)]), ", ids 1-2,4");
        assert_eq!(ids(&[(1, 1); 9]), ", ids 1,1,1,1,1,...");
        assert_eq!(ids(&[]), "");
    }

    #[test]
    fn known_jobs_are_waited_for_by_id_and_a_batch_as_a_whole() {
        assert_eq!(select(&submitted(0, &[(101, 400)])).words(), ["@3"]);
        assert_eq!(select(&submitted(1, &[(5, 5), (101, 399)])).words(), ["5,101-399"]);
        assert_eq!(select(&submitted(0, &[(17, 17)])).words(), ["17"]);
        let scattered: Vec<(u64, u64)> = (0..2_000).map(|at| (at * 2, at * 2)).collect();
        assert_eq!(select(&submitted(1, &scattered)).words(), ["@3"]);
    }
}
