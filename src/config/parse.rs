//! From TOML to settings: one table of keys for the daemon, one for a pool.

use super::{
    Config, ConfigError, DaemonSettings, Message, OnRestartLimit, PoolSettings, Restart, Spending,
    WORKERS_MAX,
};
use crate::model::PoolName;
use crate::wire::{duration, nearest};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const DAEMON_KEYS: [&str; 14] = [
    "keep",
    "keep_size",
    "jobs_max",
    "batch_jobs_max",
    "job_bytes_max",
    "result_bytes_max",
    "request_bytes_max",
    "window_jobs_max",
    "window_bytes_max",
    "drain_timeout",
    "log_max_bytes",
    "log_backups",
    "control_group",
    "pools",
];

const POOL_KEYS: [&str; 35] = [
    "command",
    "workers",
    "message",
    "credit",
    "timeout",
    "retries",
    "backoff",
    "max_crashes",
    "min_ready",
    "max_unready",
    "start_timeout",
    "stop_signal",
    "stop_timeout",
    "restart",
    "restart_delay",
    "restart_delay_max",
    "restart_reset",
    "restart_limit",
    "restart_limit_period",
    "on_restart_limit",
    "max_jobs",
    "max_age",
    "max_rss",
    "max_unavailable",
    "watchdog",
    "directory",
    "environment",
    "umask",
    "user",
    "group",
    "nice",
    "limit_nofile",
    "limit_core",
    "limit_as",
    "limit_nproc",
];

/// Where one value stands, for its error.
struct Place<'a> {
    text: &'a str,
    file: &'a str,
}

impl Place<'_> {
    fn error(&self, at: usize, message: impl Into<String>) -> ConfigError {
        let line = self.text[..at.min(self.text.len())].matches('\n').count() + 1;
        ConfigError { place: format!("{}:{line}", self.file), message: message.into() }
    }
}

pub(super) fn parse(text: &str, file: &str, cpus: u32) -> Result<Config, ConfigError> {
    let place = Place { text, file };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place.error(at, format!("this is not TOML: {}", error.message()))
    })?;
    let mut daemon = DaemonSettings::default();
    let mut pools = Vec::new();
    for (key, value) in table.get_ref() {
        let entry = Entry { place: &place, key: key.get_ref(), at: key.span().start, value };
        if entry.key == "pools" {
            pools = parse_pools(&entry, cpus)?;
        } else {
            set_daemon(&mut daemon, &entry)?;
        }
    }
    // The map is sorted by name; people see pools in the order in which they wrote them.
    pools.sort_by_key(|(at, _)| *at);
    let mut pools: Vec<PoolSettings> = pools.into_iter().map(|(_, pool)| pool).collect();
    if pools.is_empty() {
        pools.push(PoolSettings::new(PoolName::default(), cpus));
    }
    Ok(Config { daemon, pools })
}

fn parse_pools(entry: &Entry, cpus: u32) -> Result<Vec<(usize, PoolSettings)>, ConfigError> {
    let mut pools = Vec::new();
    for (name, table) in entry.table()? {
        let at = name.span().start;
        let Some(pool_name) = PoolName::new(name.get_ref()) else {
            let message = format!(
                "{:?} is no pool name: up to 32 of a-z, 0-9, _ and -, the first a letter or a digit",
                name.get_ref()
            );
            return Err(entry.place.error(at, message));
        };
        let pool = Entry { place: entry.place, key: name.get_ref(), at, value: table };
        let mut settings = PoolSettings::new(pool_name, cpus);
        for (key, value) in pool.table()? {
            let setting = Entry { place: entry.place, key: key.get_ref(), at: key.span().start, value };
            set_pool(&mut settings, &setting)?;
        }
        pools.push((at, settings));
    }
    Ok(pools)
}

fn set_daemon(daemon: &mut DaemonSettings, entry: &Entry) -> Result<(), ConfigError> {
    match entry.key {
        "keep" => daemon.keep = Some(entry.duration()?).filter(|keep| !keep.is_zero()),
        "keep_size" => daemon.keep_size = Some(entry.size_bytes()?).filter(|size| *size > 0),
        "jobs_max" => daemon.jobs_max = entry.integer(1, i64::MAX)?,
        "batch_jobs_max" => daemon.batch_jobs_max = entry.integer(1, i64::MAX)?,
        "job_bytes_max" => daemon.job_bytes_max = entry.bytes(64, 32 << 20)?,
        "result_bytes_max" => daemon.result_bytes_max = entry.bytes(64, 32 << 20)?,
        "request_bytes_max" => daemon.request_bytes_max = entry.bytes(64 << 10, 256 << 20)?,
        "window_jobs_max" => daemon.window_jobs_max = entry.size(1, 1 << 24)?,
        "window_bytes_max" => daemon.window_bytes_max = entry.bytes(1 << 10, 1 << 40)?,
        "drain_timeout" => {
            let timeout = entry.duration()?;
            daemon.drain_timeout = (!timeout.is_zero()).then_some(timeout);
        }
        "log_max_bytes" => daemon.log_max_bytes = entry.bytes(64 << 10, 1 << 40)? as u64,
        "log_backups" => daemon.log_backups = entry.size(0, 1_000)?,
        "control_group" => daemon.control_group = Some(entry.text()?.to_owned()),
        unknown => {
            let hint = nearest::did_you_mean(unknown, DAEMON_KEYS);
            return Err(entry.error(format!("unknown key {unknown:?}.{hint}")));
        }
    }
    Ok(())
}

fn set_pool(pool: &mut PoolSettings, entry: &Entry) -> Result<(), ConfigError> {
    match entry.key {
        "command" => pool.command = Some(entry.words()?),
        "workers" => pool.workers = entry.integer(0, i64::from(WORKERS_MAX))?,
        "message" => {
            pool.message = entry.choice(&[("envelope", Message::Envelope), ("bare", Message::Bare)])?;
        }
        "credit" => pool.credit = entry.credit()?,
        "timeout" => pool.timeout = Some(entry.duration()?).filter(|timeout| !timeout.is_zero()),
        "retries" => pool.retries = entry.integer(0, 1_000_000)?,
        "backoff" => pool.backoff = entry.duration()?,
        "max_crashes" => pool.max_crashes = entry.integer(1, 1_000)?,
        "min_ready" => pool.min_ready = entry.integer(0, i64::from(WORKERS_MAX))?,
        "max_unready" => pool.max_unready = entry.integer(1, i64::from(WORKERS_MAX))?,
        "start_timeout" => pool.start_timeout = entry.positive_duration()?,
        "stop_signal" => pool.stop_signal = entry.signal()?,
        "stop_timeout" => pool.stop_timeout = entry.duration()?,
        "restart" => {
            pool.restart = entry.choice(&[("always", Restart::Always), ("never", Restart::Never)])?;
        }
        "restart_delay" => pool.restart_delay = entry.duration()?,
        "restart_delay_max" => pool.restart_delay_max = entry.duration()?,
        "restart_reset" => pool.restart_reset = entry.duration()?,
        "restart_limit" => pool.restart_limit = Some(entry.integer(0, 1_000_000)?),
        "restart_limit_period" => pool.restart_limit_period = entry.positive_duration()?,
        "on_restart_limit" => {
            let choices = [("probe", OnRestartLimit::Probe), ("exit", OnRestartLimit::Exit)];
            pool.on_restart_limit = Some(entry.choice(&choices)?);
        }
        "max_jobs" => pool.max_jobs = Some(entry.integer(0, i64::MAX)?).filter(|jobs| *jobs > 0),
        "max_age" => pool.max_age = Some(entry.duration()?).filter(|age| !age.is_zero()),
        "max_rss" => pool.max_rss = Some(entry.size_bytes()?).filter(|bytes| *bytes > 0),
        "max_unavailable" => pool.max_unavailable = entry.integer(1, i64::from(WORKERS_MAX))?,
        "watchdog" => pool.watchdog = Some(entry.duration()?).filter(|span| !span.is_zero()),
        "directory" => pool.directory = Some(entry.text()?.into()),
        "environment" => pool.environment = entry.environment()?,
        "umask" => pool.umask = Some(entry.octal()?),
        "user" => pool.user = Some(entry.text()?.to_owned()),
        "group" => pool.group = Some(entry.text()?.to_owned()),
        "nice" => pool.nice = Some(entry.integer(-20, 19)?),
        "limit_nofile" => pool.limit_nofile = Some(entry.integer(0, i64::MAX)?),
        "limit_core" => pool.limit_core = Some(entry.size_bytes()?),
        "limit_as" => pool.limit_as = Some(entry.size_bytes()?),
        "limit_nproc" => pool.limit_nproc = Some(entry.integer(0, i64::MAX)?),
        unknown => {
            let hint = nearest::did_you_mean(unknown, POOL_KEYS);
            return Err(entry.error(format!("unknown key {unknown:?} of a pool.{hint}")));
        }
    }
    Ok(())
}

/// One key with its value.
struct Entry<'a> {
    place: &'a Place<'a>,
    key: &'a str,
    at: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    fn error(&self, message: impl Into<String>) -> ConfigError {
        self.place.error(self.at, message)
    }

    fn wrong(&self, wanted: &str) -> ConfigError {
        self.error(format!("{} takes {wanted}", self.key))
    }

    fn table(&self) -> Result<&'a DeTable<'a>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.wrong("a table")),
        }
    }

    fn text(&self) -> Result<&'a str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
            _ => Err(self.wrong("a text")),
        }
    }

    fn integer<T: TryFrom<i64>>(&self, min: i64, max: i64) -> Result<T, ConfigError> {
        let wanted = || {
            if max == i64::MAX {
                format!("a whole number from {min}")
            } else {
                format!("a whole number from {min} to {max}")
            }
        };
        let DeValue::Integer(integer) = self.value.get_ref() else {
            return Err(self.wrong(&wanted()));
        };
        i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong(&wanted()))
    }

    fn size(&self, min: i64, max: i64) -> Result<usize, ConfigError> {
        self.integer(min, max)
    }

    /// A number of bytes, or digits with KiB, MiB or GiB.
    fn size_bytes(&self) -> Result<u64, ConfigError> {
        if let DeValue::String(text) = self.value.get_ref() {
            return parse_bytes(text).ok_or_else(|| self.wrong("a number of bytes, as 1048576 or \"1MiB\""));
        }
        self.integer(0, i64::MAX)
    }

    fn bytes(&self, min: u64, max: u64) -> Result<usize, ConfigError> {
        let bytes = self.size_bytes()?;
        let fits = (min..=max).contains(&bytes).then(|| usize::try_from(bytes).ok()).flatten();
        fits.ok_or_else(|| self.wrong(&format!("from {min} to {max} bytes")))
    }

    fn duration(&self) -> Result<Duration, ConfigError> {
        let parsed = match self.value.get_ref() {
            DeValue::String(text) => duration::parse(text),
            DeValue::Integer(integer) => duration::parse(integer.as_str()),
            DeValue::Float(float) => duration::parse(float.as_str()),
            _ => Err("it is no duration".to_owned()),
        };
        parsed.map_err(|why| self.error(format!("{}: {why}", self.key)))
    }

    fn positive_duration(&self) -> Result<Duration, ConfigError> {
        let span = self.duration()?;
        if span.is_zero() { Err(self.wrong("a duration above zero")) } else { Ok(span) }
    }

    fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let chosen = match self.value.get_ref() {
            DeValue::String(text) => choices.iter().find(|(word, _)| word == text),
            _ => None,
        };
        chosen.map(|(_, value)| *value).ok_or_else(|| self.wrong(&format!("one of {}", words.join(", "))))
    }

    fn credit(&self) -> Result<Spending, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) if text == "auto" => Ok(Spending::Auto),
            DeValue::Integer(_) => Ok(Spending::Fixed(self.integer(1, 65_536)?)),
            _ => Err(self.wrong("\"auto\" or a whole number from 1 to 65536")),
        }
    }

    fn words(&self) -> Result<Vec<String>, ConfigError> {
        let wanted = "an array of words, as [\"node\", \"worker.js\"]";
        let DeValue::Array(array) = self.value.get_ref() else {
            return Err(self.wrong(wanted));
        };
        let words: Option<Vec<String>> = array
            .iter()
            .map(|word| match word.get_ref() {
                DeValue::String(text) if !text.contains('\0') => Some(text.to_string()),
                _ => None,
            })
            .collect();
        words
            .filter(|words| words.first().is_some_and(|word| !word.is_empty()))
            .ok_or_else(|| self.wrong(wanted))
    }

    fn environment(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut pairs = Vec::new();
        for (name, value) in self.table()? {
            let DeValue::String(text) = value.get_ref() else {
                return Err(self.place.error(name.span().start, "environment takes a table of texts"));
            };
            let name = name.get_ref();
            if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
                return Err(self.error(format!("{name:?} cannot be set in an environment")));
            }
            pairs.push((name.to_string(), text.to_string()));
        }
        Ok(pairs)
    }

    /// A umask, written as an octal text ("027") or as TOML's 0o27.
    fn octal(&self) -> Result<u32, ConfigError> {
        let mask = match self.value.get_ref() {
            DeValue::String(text) => u32::from_str_radix(text, 8).ok(),
            DeValue::Integer(integer) => u32::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        mask.filter(|mask| *mask <= 0o777).ok_or_else(|| self.wrong("an octal mask, as \"027\""))
    }

    /// A signal's name, with or without SIG, or its number.
    fn signal(&self) -> Result<i32, ConfigError> {
        use nix::sys::signal::Signal;
        let wanted = "a signal's name, as TERM or INT";
        let signal = match self.value.get_ref() {
            DeValue::String(text) => {
                let bare = text.strip_prefix("SIG").unwrap_or(text);
                Signal::from_str(&format!("SIG{bare}")).ok()
            }
            DeValue::Integer(_) => {
                self.integer(1, 64).ok().and_then(|number: i32| Signal::try_from(number).ok())
            }
            _ => None,
        };
        signal.map(|signal| signal as i32).ok_or_else(|| self.wrong(wanted))
    }
}

/// `4096`, `64KiB`, `1MiB`, `10GiB`; a missing `i` and lower case are forgiven.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().ok()?;
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Config, String> {
        parse(text, "pools.toml", 2).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_one_pool_of_built_in_workers() {
        let config = parse_text("").unwrap();
        assert_eq!(config, Config::without_file(2));
    }

    #[test]
    fn pools_stand_in_the_order_of_the_file() {
        let config = parse_text("[pools.zeta]\n[pools.alpha]\nworkers = 3\n[pools.mid]\n").unwrap();
        let names: Vec<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
        assert_eq!(names, ["zeta", "alpha", "mid"]);
        assert_eq!(config.pools[1].workers, 3);
    }

    #[test]
    fn settings_are_read() {
        let text = "drain_timeout = 0\nkeep = \"7d\"\nkeep_size = \"1GiB\"\njob_bytes_max = \"2MiB\"\n[pools.gpu]\ncommand = [\"node\", \"w.js\"]\n\
                    message = \"bare\"\ncredit = 8\ntimeout = \"1m30s\"\nstop_signal = \"INT\"\numask = \"027\"\n\
                    restart = \"never\"\nenvironment = { A = \"1\" }\n";
        let config = parse_text(text).unwrap();
        assert_eq!(config.daemon.drain_timeout, None);
        assert_eq!(config.daemon.keep, Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(config.daemon.keep_size, Some(1 << 30));
        let for_ever = parse_text("keep = 0\nkeep_size = 0\n").unwrap().daemon;
        assert_eq!((for_ever.keep, for_ever.keep_size), (None, None));
        assert_eq!(config.daemon.job_bytes_max, 2 << 20);
        let pool = &config.pools[0];
        assert_eq!(pool.command.as_deref(), Some(&["node".to_owned(), "w.js".to_owned()][..]));
        assert_eq!((pool.message, pool.credit), (Message::Bare, Spending::Fixed(8)));
        assert_eq!(pool.timeout, Some(Duration::from_secs(90)));
        assert_eq!((pool.stop_signal, pool.umask, pool.restart), (2, Some(0o27), Restart::Never));
        assert_eq!(pool.environment, [("A".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn errors_name_the_line_and_the_nearest_key() {
        let unknown = parse_text("[pools.a]\nworker = 3\n").unwrap_err();
        assert!(unknown.starts_with("pools.toml:2: ") && unknown.contains("\"workers\""), "{unknown}");
        let daemon = parse_text("drain_timeot = 3\n").unwrap_err();
        assert!(daemon.contains("drain_timeout"), "{daemon}");
        for bad in [
            "[pools.a]\nworkers = -1\n",
            "[pools.a]\nworkers = \"two\"\n",
            "[pools.A]\n",
            "[pools.a]\ncommand = []\n",
            "[pools.a]\ncommand = \"node\"\n",
            "[pools.a]\nstop_signal = \"NOPE\"\n",
            "[pools.a]\nmessage = \"json\"\n",
            "[pools.a]\nstart_timeout = 0\n",
            "[pools.a]\ntimeout = \"soon\"\n",
            "[pools]\na = 3\n",
            "x = [",
        ] {
            assert!(parse_text(bad).unwrap_err().starts_with("pools.toml:"), "{bad}");
        }
    }
}
