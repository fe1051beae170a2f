//! What a changed configuration is checked for before anything of it is used: that what it names is there.
//!
//! The parser has checked the text. A pool whose workers would be started just as now is not looked at again: what is
//! wrong with it was wrong before, and must not keep others from being mended.

use super::access::Access;
use super::account;
use super::crew::Crew;
use super::limits;
use super::program::candidates;
use crate::config::{Config, PoolSettings};
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// # Errors
/// What is missing, and where it is asked for.
pub(super) fn check(config: &Config, crew: &Crew) -> Result<Access, String> {
    limits::check(config).map_err(|error| error.to_string())?;
    for pool in &config.pools {
        let is_as_before = crew.settings(&pool.name).is_some_and(|before| before.starts_alike(pool));
        if !is_as_before {
            check_pool(pool).map_err(|why| format!("pool {}: {why}", pool.name))?;
        }
    }
    Access::of(config).map_err(|error| error.to_string())
}

fn check_pool(pool: &PoolSettings) -> Result<(), String> {
    account::resolve(pool.user.as_deref(), pool.group.as_deref()).map_err(|error| error.to_string())?;
    // Another user may see what we do not, and the reverse.
    let is_us = pool.user.is_none();
    if let Some(directory) = pool.directory.as_ref().filter(|directory| is_us && !directory.is_dir()) {
        return Err(format!("there is no directory {}", directory.display()));
    }
    let Some(command) = pool.command.as_ref().and_then(|words| words.first()).filter(|_| is_us) else {
        return Ok(());
    };
    let said = pool.environment.iter().find(|(name, _)| name == "PATH");
    let path = said.map(|(_, path)| OsString::from(path)).or_else(|| std::env::var_os("PATH"));
    let here = pool.directory.as_deref().unwrap_or(Path::new(""));
    let files = candidates(OsStr::new(command), path.as_deref());
    if files.iter().any(|file| here.join(file).is_file()) {
        Ok(())
    } else {
        Err(format!("there is no program {command}: give its whole path, or one that is in PATH"))
    }
}
