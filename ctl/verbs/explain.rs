//! `explain`: in one sentence, why.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::words::plain;
use pushpull::wire::control::Ask;
use serde::Deserialize;

/// Says why a job does not run or ended as it did, what a worker is at, or why nothing moves.
#[derive(clap::Args)]
pub struct Explain {
    /// Means this job (17) or worker (default.0.17, or its slot default.0) [default: the whole daemon].
    #[arg(value_name = "ID|WORKER")]
    what: Option<String>,
}

#[derive(Deserialize)]
struct Explained {
    text: String,
}

impl Run for Explain {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let reply = session.client.ask(&self.ask()?)?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            for line in reply.as_type::<Explained>()?.text.lines() {
                session.screen.line(&plain(line))?;
            }
        }
        Ok(Ending::Done)
    }
}

impl Explain {
    fn ask(&self) -> Result<Ask, Failure> {
        let ask = request("explain");
        match &self.what {
            None => Ok(ask),
            Some(what) if what.contains('.') => Ok(Ask { worker: Some(what.clone()), ..ask }),
            Some(what) => match what.parse() {
                Ok(id) => Ok(Ask { id: Some(id), ..ask }),
                Err(_) => Err(Failure::usage(
                    format!("{:?} is neither a job nor a worker", plain(what)),
                    "Write 17 for a job, default.0.17 for a worker, default.0 for its slot",
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_number_is_a_job_and_a_dot_makes_a_worker() {
        let ask = |what: Option<&str>| -> Result<Value, u8> {
            let explain = Explain { what: what.map(str::to_owned) };
            let ask = explain.ask().map_err(|failure| failure.exit_status())?;
            Ok(serde_json::to_value(ask).expect("JSON"))
        };
        assert_eq!(ask(None), Ok(json!({"v": 1, "op": "explain"})));
        assert_eq!(ask(Some("17")), Ok(json!({"v": 1, "op": "explain", "id": 17})));
        assert_eq!(ask(Some("default.0")), Ok(json!({"v": 1, "op": "explain", "worker": "default.0"})));
        assert_eq!(ask(Some("seventeen")), Err(2));
    }
}
