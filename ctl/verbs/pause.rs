//! `pause`: of a pool, or of all.

use super::{Run, Session};
use crate::client::request;
use crate::failure::{Ending, Failure};
use crate::policy::pool;
use pushpull::model::PoolName;
use pushpull::wire::control::{Ask, OneOrMany};

/// Sends no more jobs to the workers of a pool, or of all pools.
#[derive(clap::Args)]
pub struct Pause {
    /// Means this pool [default: all].
    #[arg(value_parser = pool)]
    pool: Option<PoolName>,
}

impl Run for Pause {
    fn run(self, session: &mut Session) -> Result<Ending, Failure> {
        let pool = self.pool.as_ref().map(|pool| OneOrMany::One(pool.to_string()));
        let reply = session.client.ask(&Ask { pool, ..request("pause") })?;
        if session.screen.json {
            session.screen.line(&reply.document())?;
        } else {
            let what = self.pool.map_or("all pools are".to_owned(), |pool| format!("pool {pool} is"));
            session.screen.line(&format!("{what} paused"))?;
        }
        Ok(Ending::Done)
    }
}
