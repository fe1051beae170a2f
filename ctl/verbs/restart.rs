//! `restart`: replaces workers, a few at a time.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::policy::pool;
use crate::words::plain;
use pushpull::wire::control::{Ask, OneOrMany};

/// Replaces workers: of a pool, of all pools, or one.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Restart {
    /// Means this pool, worker (default.0.17) or slot (default.0).
    #[arg(value_name = "POOL|WORKER", group = "which")]
    what: Option<String>,
    /// Means all pools.
    #[arg(long, group = "which")]
    all: bool,
    /// Stops them at once; what they ran goes back to the queue.
    #[arg(long)]
    now: bool,
}

impl Run for Restart {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let ask = self.ask()?;
        let reply = session.client.ask(&ask)?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            let what = self.what.as_deref().map_or("all workers".to_owned(), plain);
            session
                .screen
                .line(&format!("{what}: being restarted; pushpullctl workers shows how far it is"))?;
        }
        Ok(Ending::Done)
    }
}

impl Restart {
    fn ask(&self) -> Result<Ask, Failure> {
        let ask = Ask { now: self.now.then_some(true), ..request("restart") };
        match &self.what {
            None => Ok(ask),
            Some(worker) if worker.contains('.') => Ok(Ask { worker: Some(worker.clone()), ..ask }),
            Some(name) => match pool(name) {
                Ok(pool) => Ok(Ask { pool: Some(OneOrMany::One(pool.to_string())), ..ask }),
                Err(_) => Err(Failure::usage(
                    format!("{:?} is neither a pool nor a worker", plain(name)),
                    "Write default for a pool, default.0.17 for a worker, default.0 for its slot",
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
    fn a_dot_makes_a_worker() {
        let ask = |what: Option<&str>, now: bool| -> Result<Value, u8> {
            let restart = Restart { what: what.map(str::to_owned), all: what.is_none(), now };
            let ask = restart.ask().map_err(|failure| failure.exit_status())?;
            Ok(serde_json::to_value(ask).expect("JSON"))
        };
        assert_eq!(ask(None, false), Ok(json!({"v": 1, "op": "restart"})));
        assert_eq!(ask(Some("gpu"), true), Ok(json!({"v": 1, "op": "restart", "pool": "gpu", "now": true})));
        assert_eq!(ask(Some("gpu.0"), false), Ok(json!({"v": 1, "op": "restart", "worker": "gpu.0"})));
        assert_eq!(ask(Some("GPU"), false), Err(2));
    }
}
