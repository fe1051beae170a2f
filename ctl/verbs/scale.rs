//! `scale`: how many workers a pool has.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::policy::pool;
use pushpull::model::PoolName;
use pushpull::wire::control::{Ask, OneOrMany};

/// Gives a pool more or fewer workers, until the daemon is started again.
#[derive(clap::Args)]
pub struct Scale {
    /// Means this pool.
    #[arg(value_parser = pool)]
    pool: PoolName,
    /// Has so many workers from now on; those that go finish what they hold.
    #[arg(value_name = "N")]
    workers: u32,
}

impl Run for Scale {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let pool = Some(OneOrMany::One(self.pool.to_string()));
        let workers = Some(u64::from(self.workers));
        let reply = session.client.ask(&Ask { pool, workers, ..request("scale") })?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            session.screen.line(&format!("pool {} will have {} workers", self.pool, self.workers))?;
        }
        Ok(Ending::Done)
    }
}
