//! The options that say how jobs are treated: the fields of a job, on the command line.

use crate::failure::Failure;
use pushpull::model::PoolName;
use pushpull::wire::duration;
use pushpull::wire::job::{Defaults, PRIORITY_MAX, PRIORITY_MIN, RETRIES_MAX};
use pushpull::wire::object::{Object, string};
use std::path::Path;
use std::time::Duration;

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "How jobs are treated, unless they say otherwise")]
pub struct PolicyOptions {
    /// Runs the jobs in this pool [default: default].
    #[arg(long, short, value_name = "POOL", value_parser = pool)]
    pub pool: Option<PoolName>,
    /// Sends jobs of a higher priority first, from -1000 to 1000.
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i16).range(i64::from(PRIORITY_MIN)..=i64::from(PRIORITY_MAX)))]
    pub priority: Option<i16>,
    /// Starts the jobs no sooner than this after the submit, such as 90s or 1h30m.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub delay: Option<Duration>,
    /// Stops an attempt that takes longer.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Tries a failed job again, so many times.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(RETRIES_MAX)))]
    pub retries: Option<u32>,
    /// Waits so long before the first retry; the pause doubles each time.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub backoff: Option<Duration>,
    /// Waits until this job has succeeded: an id, or a key or name of the same file.
    #[arg(long, value_name = "JOB")]
    pub after: Vec<String>,
    /// Also writes whole outputs of commands to this directory.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<String>,
    /// Sets a variable for commands, added to the environment.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Runs commands in this directory [default: this one].
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Gives commands this text to read.
    #[arg(long, value_name = "TEXT")]
    pub stdin: Option<String>,
    /// Leaves commands the daemon's environment and directory, not those of this shell.
    #[arg(long)]
    pub no_env: bool,
}

impl PolicyOptions {
    /// The options as a submit's defaults. Directories are made absolute: the daemon is elsewhere.
    pub fn defaults(&self) -> Result<Defaults, Failure> {
        let mut object = Object::with_capacity(64);
        if let Some(pool) = &self.pool {
            object.text("pool", pool.as_str());
        }
        if let Some(priority) = self.priority {
            object.number("priority", priority);
        }
        if let Some(retries) = self.retries {
            object.number("retries", retries);
        }
        for (field, span) in [("delay", self.delay), ("timeout", self.timeout), ("backoff", self.backoff)] {
            if let Some(span) = span {
                object.raw(field, &duration::seconds_json(span));
            }
        }
        for (field, directory) in [("output_dir", &self.output_dir), ("cwd", &self.cwd)] {
            if let Some(directory) = directory {
                object.text(field, &absolute(directory)?);
            }
        }
        if let Some(stdin) = &self.stdin {
            object.text("stdin", stdin);
        }
        if !self.after.is_empty() {
            let after: Vec<String> = self.after.iter().map(|word| after_json(word)).collect();
            object.raw("after", &format!("[{}]", after.join(",")));
        }
        if !self.env.is_empty() {
            let env: serde_json::Map<String, serde_json::Value> =
                self.env.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
            object.raw("env", &serde_json::Value::from(env).to_string());
        }
        Defaults::parse(&object.finish())
            .map_err(|error| Failure::usage(error.message, error.hint.unwrap_or_default()))
    }
}

/// Digits are an id, as in a job file; anything else is a key or a name.
fn after_json(word: &str) -> String {
    match word.parse::<u64>() {
        Ok(id) => id.to_string(),
        Err(_) => string(word),
    }
}

fn absolute(directory: &str) -> Result<String, Failure> {
    let path = std::path::absolute(Path::new(directory)).map_err(|error| {
        Failure::usage(format!("the directory {directory:?} cannot be used: {error}"), "")
    })?;
    path.into_os_string()
        .into_string()
        .map_err(|_| Failure::usage(format!("the path of the directory {directory:?} is not UTF-8"), ""))
}

/// A pool's name, for clap.
pub fn pool(text: &str) -> Result<PoolName, String> {
    PoolName::new(text).ok_or_else(|| {
        "a pool's name is up to 32 of a-z, 0-9, _ and -, and begins with a letter or digit".to_owned()
    })
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_fields_of_a_job() {
        let options = PolicyOptions {
            pool: PoolName::new("gpu"),
            priority: Some(-5),
            timeout: Some(Duration::from_secs(90)),
            after: vec!["17".into(), "prepare".into()],
            env: vec![("A".into(), "b=\"c\"".into())],
            cwd: Some("/x".into()),
            ..PolicyOptions::default()
        };
        let json: serde_json::Value =
            serde_json::from_str(&options.defaults().expect("good options").to_json()).expect("JSON");
        let expected = serde_json::json!({"pool": "gpu", "priority": -5, "timeout": 90,
            "after": [17, "prepare"], "env": {"A": "b=\"c\""}, "cwd": "/x"});
        assert_eq!(json, expected);
    }

    #[test]
    fn relative_directories_are_made_absolute_here() {
        let options = PolicyOptions { output_dir: Some("out".into()), ..PolicyOptions::default() };
        let defaults = options.defaults().expect("good options");
        let wanted = std::env::current_dir().expect("a directory").join("out");
        assert_eq!(defaults.policy.output_dir.as_deref(), wanted.to_str());
    }

    #[test]
    fn what_no_job_may_have_is_a_usage_error() {
        let options = PolicyOptions { timeout: Some(Duration::ZERO), ..PolicyOptions::default() };
        assert_eq!(options.defaults().expect_err("zero").exit_status(), 2);
    }
}
