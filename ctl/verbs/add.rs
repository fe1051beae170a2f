//! `add`: one job from the command line.

use super::submit::{AfterSubmit, batch_name};
use super::{Run, Session};
use crate::failure::{Ending, Failure};
use crate::policy::PolicyOptions;
use crate::submission::{Sender, directory, environment, random_key};
use pushpull::client::Head;
use pushpull::wire::control::{Limits, SubmitReply};
use pushpull::wire::job::{self, Defaults, JobError};
use pushpull::wire::object::{Object, string};
use serde::de::IgnoredAny;

/// Submits one job: a command, or data for a pool's workers.
#[derive(clap::Args)]
pub struct Add {
    /// Gives this JSON to a worker, untouched; for pools with a command.
    #[arg(long, value_name = "JSON", requires = "pool", conflicts_with = "command")]
    data: Option<String>,
    /// Calls the job so, for people.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Returns the job with this key, if one is kept, instead of another.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Joins the newest unfinished batch of this name, or makes one.
    #[arg(long, value_name = "NAME", value_parser = batch_name)]
    batch: Option<String>,
    #[command(flatten)]
    after: AfterSubmit,
    /// Runs this: one word is a shell's to read, several are executed directly.
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "data")]
    command: Vec<String>,
    // Last, for its heading would stand over what follows.
    #[command(flatten)]
    policy: PolicyOptions,
}

/// One job goes in one request, so the daemon's limits need not be asked for.
const NO_LIMITS: Limits =
    Limits { request_bytes_max: u64::MAX, chunk_jobs_max: 1, batch_jobs_max: 1, job_bytes_max: u64::MAX };

impl Run for Add {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let defaults = self.policy.defaults()?;
        let job = self.job(&defaults)?;
        let has_command = self.data.is_none() && !self.policy.no_env;
        let head = Head {
            into: self.batch,
            defaults: (defaults != Defaults::default()).then(|| defaults.to_json()),
            environment: has_command.then(environment),
            directory: has_command.then(directory).transpose()?,
            ..Head::default()
        };
        let mut sender = Sender::new(&mut session.client, &random_key()?, &head, &NO_LIMITS);
        sender.push(&job)?;
        let reply = sender.finish()?;
        let submitted: SubmitReply = reply.as_type()?;
        let id = submitted.ids.first().map(|(first, _)| *first);
        let id = id.ok_or_else(|| Failure::Answer("the daemon's answer has no id".to_owned()))?;
        let line = match (self.after.quiet, submitted.known) {
            (true, _) => id.to_string(),
            (false, 0) => format!("job {id} in batch @{}", submitted.batch),
            (false, _) => format!("job {id}, known before by its key"),
        };
        self.after.finish(session, &reply, &submitted, &line)
    }
}

impl Add {
    /// The job as it goes to the daemon, checked.
    fn job(&self, defaults: &Defaults) -> Result<String, Failure> {
        let wrong = |error: JobError| Failure::usage(error.message, error.hint.unwrap_or_default());
        let mut object = Object::with_capacity(128);
        match (&self.data, &self.command[..]) {
            (Some(data), _) => {
                // By itself first: as a part of the job, `1,"priority":5` would pass.
                serde_json::from_str::<IgnoredAny>(data)
                    .map_err(|error| Failure::usage(format!("--data is not JSON: {error}"), ""))?;
                object.raw("data", data.trim_ascii());
            }
            (None, [shell]) => object.text("run", shell),
            (None, words) => {
                let words: Vec<String> = words.iter().map(|word| string(word)).collect();
                object.raw("run", &format!("[{}]", words.join(",")));
            }
        }
        for (field, text) in [("name", &self.name), ("key", &self.key)] {
            if let Some(text) = text {
                object.text(field, text);
            }
        }
        let job = object.finish();
        job::parse(&job, defaults).map_err(wrong)?;
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use crate::verbs::Verb;
    use clap::Parser;

    fn job(words: &[&str]) -> Result<String, u8> {
        let cli = Cli::try_parse_from(["pushpullctl", "add"].iter().chain(words)).map_err(|_| 2)?;
        let Verb::Add(add) = cli.verb else { panic!("add is add") };
        add.job(&Defaults::default()).map_err(|failure| failure.exit_status())
    }

    #[test]
    fn one_word_is_for_the_shell_and_several_are_executed() {
        assert_eq!(job(&["--", "a | b"]).as_deref(), Ok(r#"{"run":"a | b"}"#));
        assert_eq!(job(&["--", "grep", "-q", "x y"]).as_deref(), Ok(r#"{"run":["grep","-q","x y"]}"#));
        let named = job(&["--name", "n", "--key", "k", "--", "x"]);
        assert_eq!(named.as_deref(), Ok(r#"{"run":"x","name":"n","key":"k"}"#));
    }

    #[test]
    fn data_goes_byte_for_byte_and_is_one_value() {
        assert_eq!(
            job(&["--pool", "p", "--data", "{\"a\": 1.50}"]).as_deref(),
            Ok("{\"data\":{\"a\": 1.50}}")
        );
        for wrong in ["1,\"priority\":5", "x", "", "1 2"] {
            assert_eq!(job(&["--pool", "p", "--data", wrong]), Err(2), "{wrong}");
        }
        assert_eq!(job(&["--data", "1"]), Err(2));
    }
}
