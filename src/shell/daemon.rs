//! The daemon: it opens everything in order, turns the loop, and closes everything in the reverse order.
//!
//! A turn waits in one poll until something is there or the engine's next deadline has come; takes what is there,
//! each kind bounded; lets the engine step for each event; and performs all effects. Few large turns, not many
//! small ones: a wake-up costs much more than the work behind it.

use super::access::Access;
use super::clients::Clients;
use super::clock::Clock;
use super::context::Context;
use super::crew::{Crew, resident_kib};
use super::dirs::{DirError, Directory};
use super::endpoints;
use super::kernel;
use super::limits;
use super::lock::{LockError, Locks};
use super::logs::{self, Pen, Scribe};
use super::notify::Notify;
use super::opening::{open_in_memory, open_store};
use super::reaper::Reaper;
use super::reload;
use super::runtime::Runtime;
use super::signals::{Signal, Signals};
use super::storekeeper::Storekeeper;
use super::sweep;
use super::watch::{Source, Watch};
use crate::config::Config;
use crate::engine::{Client, Effect, Effects, Engine, Event, Identity};
use crate::model::{Mono, Now};
use crate::store::StoreError;
use crate::wire::control::{Code, Refusal};
use crate::wire::logs::LogsAsk;
use crate::wire::reply::Reply;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The file of the store in the state directory.
pub const STORE_FILE: &str = "jobs.db";
/// How long the survivors of an earlier daemon may take to die.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Config,
    pub runtime: PathBuf,
    /// `None`: nothing on disk.
    pub state: Option<PathBuf>,
    /// Move a store aside that cannot be used.
    pub recover: bool,
    /// For one run and one client: it keeps no logs and has nobody to notify.
    pub is_private: bool,
}

/// Why a daemon does not start. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] DirError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    #[error(transparent)]
    Limits(#[from] limits::TooManyWorkers),
    #[error("{path}: {error}{}", next_step(error))]
    Store { path: PathBuf, error: StoreError },
    #[error(
        "{path}: {why}. It was left as it is. If it is not to be had back: pushpulld --recover moves it aside and \
         begins with no jobs"
    )]
    Refused { path: PathBuf, why: String },
    #[error("cannot bind {path}: {error}. Check the directory, or choose another one with --runtime-dir")]
    Socket { path: PathBuf, error: zmq::Error },
    #[error(
        "cannot open the control socket to group {group}: {error}. Run pushpulld as root or as a member of the group, or take control_group out of its configuration"
    )]
    Group { group: String, error: String },
    #[error("cannot {what}: {error}")]
    System { what: &'static str, error: io::Error },
}

impl StartError {
    /// The exit status that goes with it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            StartError::Directory(error) if error.is_setting() => 2,
            StartError::Limits(_) | StartError::Group { .. } => 2,
            StartError::Lock(LockError::InUse { .. }) => 5,
            StartError::Directory(_)
            | StartError::Lock(LockError::Io { .. })
            | StartError::Kernel(_)
            | StartError::Store { .. }
            | StartError::Refused { .. }
            | StartError::Socket { .. }
            | StartError::System { .. } => 6,
        }
    }
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The exit status.
    pub status: u8,
    /// The number of the signal that asked it to stop, if one did.
    pub signal: Option<u8>,
}

/// A daemon that is up: its locks, store and sockets are there, whatever its workers do.
pub struct Daemon {
    engine: Engine,
    effects: Effects,
    clock: Clock,
    watch: Watch,
    signals: Signals,
    storekeeper: Storekeeper,
    /// `None`: nothing that workers say is kept.
    scribe: Option<Scribe>,
    clients: Clients,
    crew: Crew,
    notify: Notify,
    access: Access,
    runtime: Runtime,
    /// When the runtime directory, which has gone, is to be made again.
    mend_at: Option<Mono>,
    /// When workers that are being settled are to be looked at again.
    settle_at: Option<Mono>,
    /// When streams of workers that were flooded are to be looked at again.
    dropped_at: Option<Mono>,
    /// Somebody had more than one turn takes.
    more: bool,
    /// The service manager was told that the configuration is being read again.
    is_reloading: bool,
    exit: Option<u8>,
    stopped_by: Option<u8>,
    // These come last: sockets are closed before their context, and locks are freed when all is done.
    _context: Arc<Context>,
    _locks: Locks,
}

impl Daemon {
    /// Opens everything. To be called on the main thread, which is the one that starts workers.
    ///
    /// # Errors
    /// When something that it needs is not there. Nothing is left behind.
    pub fn start(setup: &Setup) -> Result<Daemon, StartError> {
        kernel::check()?;
        let inherited = limits::raise_nofile(&setup.config)?;
        let state = setup.state.as_deref().map(Directory::state).transpose()?;
        let access = Access::of(&setup.config)?;
        let runtime = Directory::runtime(&setup.runtime, access.runtime)?;
        let mut locks = Locks::acquire(state.as_ref(), &runtime)?;
        // Only now: a daemon that is refused changes nothing of the first one's.
        access.open_directory(&runtime)?;
        locks.clean_sockets().map_err(|error| system("clean the runtime directory", error))?;
        access.open_workers(&runtime)?;
        let identity = state.as_ref().unwrap_or(&runtime).identity().to_owned();
        let scribe = start_scribe(setup, state.as_ref().unwrap_or(&runtime))?;
        sweep_survivors(&identity)?;
        let clock = Clock::new();
        let (store, recovered) = match &state {
            None => open_in_memory()?,
            Some(state) => open_store(&state.path().join(STORE_FILE), clock.now().wall, setup.recover)?,
        };
        let waiting: u64 = recovered.counts.values().map(crate::model::Counts::unfinished).sum();
        if waiting > 0 {
            log::info!("{waiting} jobs wait from before");
        }
        let context = Arc::new(Context::new());
        let request_bytes_max = setup.config.daemon.request_bytes_max;
        let clients = Clients::bind(&context, runtime.path(), request_bytes_max)
            .map_err(|error| StartError::Socket { path: runtime.path().join(endpoints::CONTROL), error })?;
        access.open_socket(&clients)?;
        let signals = Signals::new().map_err(|error| system("take signals", error))?;
        let storekeeper =
            Storekeeper::start(store).map_err(|error| system("start the storekeeper", error))?;
        let watch = Watch::new().map_err(|error| system("make an epoll descriptor", error))?;
        watch
            .add(&signals, Source::Signals)
            .and_then(|()| watch.add(storekeeper.wakeup(), Source::Store))
            .map_err(|error| system("watch descriptors", error))?;
        if let Some(scribe) = &scribe {
            let watched = watch.add(scribe.wakeup(), Source::Logs);
            watched.map_err(|error| system("watch descriptors", error))?;
        }
        let runtime_path = runtime.path().to_owned();
        let runtime = Runtime::new(&setup.runtime, runtime, locks.take_runtime(), &watch)
            .map_err(|error| system("watch the runtime directory", error))?;
        let reaper = Reaper::new(&identity).map_err(|error| system("become a subreaper", error))?;
        let random = random().map_err(|error| system("draw random bytes", error))?;
        let nonce = format!("{:08x}", random & 0xffff_ffff);
        let pen = scribe.as_ref().map_or_else(Pen::dry, Scribe::pen);
        let pools = &setup.config.pools;
        let crew = Crew::new(context.clone(), &runtime_path, nonce, pools, reaper, inherited, pen);
        let name = Identity { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() };
        let engine = Engine::new(setup.config.clone(), recovered, name, clock.now(), random);
        Ok(Daemon {
            engine,
            effects: Effects::default(),
            clock,
            watch,
            signals,
            storekeeper,
            scribe,
            clients,
            crew,
            access,
            runtime,
            mend_at: None,
            notify: if setup.is_private { Notify::nobody() } else { Notify::of_this_process() },
            settle_at: None,
            dropped_at: None,
            more: false,
            is_reloading: false,
            exit: None,
            stopped_by: None,
            _context: context,
            _locks: locks,
        })
    }

    /// Turns the loop until the engine says to leave. `read` reads the configuration again; its error is for people.
    pub fn run(mut self, mut read: impl FnMut() -> Result<Config, String>) -> Left {
        self.engine.start(self.clock.now(), &mut self.effects);
        self.perform(&mut read);
        self.notify.ready();
        let mut events = Vec::new();
        while self.exit.is_none() {
            self.wait();
            let now = self.clock.now();
            self.gather(now, &mut events);
            // Last, so that what lay there in time is heard before its time is over.
            events.push(Event::Tick);
            for event in events.drain(..) {
                self.engine.step(now, event, &mut self.effects);
            }
            self.perform(&mut read);
            let engine = &self.engine;
            self.notify.turn(self.clock.now().mono, engine.is_stopping(), || engine.in_a_line());
            if self.storekeeper.has_died() {
                log::error!(
                    "the storekeeper died; the daemon stops at once, and its jobs run again after a restart"
                );
                self.crew.kill_all();
                self.finish_logs();
                return Left { status: 6, signal: self.stopped_by };
            }
        }
        self.storekeeper.stop();
        self.finish_logs();
        Left { status: self.exit.unwrap_or(0), signal: self.stopped_by }
    }

    /// Whoever waits for lines is answered, and what was written is in its files.
    fn finish_logs(&mut self) {
        if let Some(scribe) = &mut self.scribe {
            scribe.finish();
        }
        self.answer_logs();
    }

    fn answer_logs(&mut self) {
        while let Some((client, reply)) = self.scribe.as_ref().and_then(Scribe::next_answer) {
            self.clients.reply(client, &reply);
        }
    }

    /// Waits until something is there or a deadline has come.
    fn wait(&mut self) {
        let mut items = vec![zmq::PollItem::from_fd(raw(&self.watch), zmq::POLLIN)];
        if !self.engine.is_choked() {
            items.push(self.clients.socket().as_poll_item(zmq::POLLIN));
        }
        self.crew.poll_items(&mut items);
        let timeout = if self.more { 0 } else { self.timeout_ms() };
        match zmq::poll(&mut items, timeout) {
            Ok(_) | Err(zmq::Error::EINTR) => {}
            Err(error) => log::error!("poll: {error}"),
        }
    }

    /// Milliseconds until the next deadline, rounded up so that the wait is not cut short again and again.
    fn timeout_ms(&self) -> i64 {
        let own = [self.settle_at, self.dropped_at, self.mend_at, self.notify.next_deadline()];
        let deadlines = own.into_iter().chain([self.engine.next_deadline()]);
        let Some(next) = deadlines.flatten().min() else {
            return -1;
        };
        let left = next.since(self.clock.now().mono);
        i64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
    }

    /// Takes what is there: signals, results, exits, what the store has done, requests.
    fn gather(&mut self, now: Now, events: &mut Vec<Event>) {
        let ready = self.watch.ready();
        self.more = false;
        let mut child_signal = false;
        if ready.contains(&Source::Signals) {
            for signal in self.signals.pending() {
                match signal {
                    Signal::Terminate | Signal::Interrupt => {
                        self.stopped_by = Some(if signal == Signal::Terminate { 15 } else { 2 });
                        events.push(Event::Stop);
                    }
                    Signal::Child => child_signal = true,
                    Signal::Hangup => events.push(Event::Hangup),
                }
            }
        }
        self.more |= self.crew.take_reports(events);
        for source in &ready {
            match source {
                Source::Process(worker) => self.crew.on_exit(*worker, now.mono, &self.watch),
                Source::Stdout(worker) | Source::Stderr(worker) => {
                    self.more |= self.crew.take_output(*worker, *source, now.mono, &self.watch);
                }
                Source::Signals | Source::Store | Source::Logs | Source::Runtime => {}
            }
        }
        if ready.contains(&Source::Runtime) {
            self.mend_at = Some(self.runtime.on_removal(now.mono));
        }
        if self.mend_at.is_some_and(|at| at <= now.mono) {
            self.mend_at = self.runtime.mend(now.mono, &self.access, &mut self.clients);
        }
        self.dropped_at = self.crew.say_dropped(now.mono);
        let settle_due = self.settle_at.is_some_and(|at| at <= now.mono);
        if child_signal || settle_due || self.crew.is_settling() {
            self.settle_at = self.crew.settle(now.mono, child_signal, events);
        }
        if ready.contains(&Source::Store) {
            self.storekeeper.wakeup().clear();
        }
        if ready.contains(&Source::Logs) {
            if let Some(scribe) = &self.scribe {
                scribe.wakeup().clear();
            }
            self.answer_logs();
        }
        self.storekeeper.take_events(events);
        // What has not been read waits in the clients' own sockets.
        if !self.engine.is_choked() {
            self.more |= self.clients.take(events);
        }
        self.crew.flush();
    }

    /// Does what the engine wants, and what it wants when it hears how that went.
    fn perform(&mut self, read: &mut impl FnMut() -> Result<Config, String>) {
        while !self.effects.is_empty() {
            let mut events = Vec::new();
            self.perform_once(&mut events, read);
            let now = self.clock.now();
            for event in events {
                self.engine.step(now, event, &mut self.effects);
            }
        }
        if std::mem::take(&mut self.is_reloading) {
            self.notify.ready();
        }
    }

    fn perform_once(&mut self, events: &mut Vec<Event>, read: &mut impl FnMut() -> Result<Config, String>) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            match effect {
                Effect::Spawn(name) => {
                    let worker = name.generation;
                    events.push(match self.crew.spawn(name, self.clock.now().mono, &self.watch) {
                        Ok(pid) => Event::Spawned { worker, pid },
                        Err(error) => Event::SpawnFailed { worker, error },
                    });
                }
                Effect::Kill { worker, with } => self.crew.hit(worker, with),
                Effect::Measure(workers) => events.extend(self.crew.measure(&workers)),
                Effect::Forget(worker) => self.crew.forget(worker),
                Effect::Send { worker, message } => self.crew.send(worker, &message),
                Effect::Write { ticket, record } => self.storekeeper.write(ticket, record),
                Effect::Fetch(fetch) => self.storekeeper.fetch(fetch),
                Effect::Rewind(jobs) => self.storekeeper.rewind(jobs),
                Effect::BeginAnew(pool) => self.storekeeper.begin_anew(pool),
                Effect::ReadConfig { client } => {
                    self.notify.reloading();
                    self.is_reloading = true;
                    let result = read().and_then(|config| self.prepare_config(config));
                    events.push(Event::Configured { client, result: result.map(Box::new) });
                }
                Effect::Configure(config) => self.configure(&config),
                Effect::Query { ticket, query, ordered } => self.storekeeper.query(ticket, query, ordered),
                Effect::Reply { client, mut reply } => {
                    add_memory(&mut reply);
                    self.clients.reply(client, &reply);
                }
                Effect::Logs { client, ask, is_known } => {
                    if let Err(refused) = ask_scribe(self.scribe.as_ref(), client, ask, is_known) {
                        self.clients.reply(client, &refused);
                    }
                }
                Effect::Log { level, text } => log::log!(target: "pushpulld", level, "{text}"),
                Effect::Exit(status) => self.exit = Some(status),
            }
        }
        self.storekeeper.flush();
        // Nobody has pushed anything meanwhile; this is for the room that it has.
        self.effects = effects;
    }

    /// Checks a configuration that was read again, and opens what it wants open: from here on nothing can fail.
    fn prepare_config(&mut self, config: Config) -> Result<Config, String> {
        let access = reload::check(&config, &self.crew)?;
        let bytes_max = config.daemon.request_bytes_max;
        if access == self.access && bytes_max == self.clients.request_bytes_max() {
            return Ok(config);
        }
        let before = (self.access.clone(), self.clients.request_bytes_max());
        if let Err(error) = self.open(&access, bytes_max) {
            if let Err(worse) = self.open(&before.0, before.1) {
                log::error!("the sockets are open to others than before: {worse}");
            }
            return Err(error);
        }
        self.access = access;
        Ok(config)
    }

    /// Opens the directories and the control socket as far as they are to be.
    fn open(&mut self, access: &Access, request_bytes_max: usize) -> Result<(), String> {
        let text = |error: StartError| error.to_string();
        access.open_directory(self.runtime.directory()).map_err(text)?;
        access.open_workers(self.runtime.directory()).map_err(|error| error.to_string())?;
        self.clients.bind_again(request_bytes_max).map_err(|error| format!("the control socket: {error}"))?;
        access.open_socket(&self.clients).map_err(text)
    }

    /// The engine has taken this configuration over.
    fn configure(&mut self, config: &Config) {
        self.crew.configure(&config.pools);
        if let Some(scribe) = &self.scribe {
            scribe.limit(log_limits(config));
        }
    }
}

fn raw(watch: &Watch) -> RawFd {
    watch.raw()
}

fn system(what: &'static str, error: io::Error) -> StartError {
    StartError::System { what, error }
}

/// What to do about a store that cannot be opened, where the error itself does not say.
fn next_step(error: &StoreError) -> &'static str {
    match error {
        StoreError::NoSpace => ". Free some space and start again; nothing is lost",
        StoreError::Io(_) | StoreError::Refused(_) => "",
    }
}

/// Opens the logs in the daemon's home.
fn start_scribe(setup: &Setup, home: &Directory) -> Result<Option<Scribe>, StartError> {
    if setup.is_private {
        return Ok(None);
    }
    let scribe =
        Scribe::start(home.path(), log_limits(&setup.config)).map_err(|error| system("keep logs", error))?;
    Ok(Some(scribe))
}

fn log_limits(config: &Config) -> logs::Limits {
    logs::Limits { file_bytes_max: config.daemon.log_max_bytes, backups: config.daemon.log_backups }
}

/// Asks for lines; an answer at once is a refusal.
fn ask_scribe(scribe: Option<&Scribe>, client: Client, ask: LogsAsk, is_known: bool) -> Result<(), Reply> {
    let Some(scribe) = scribe else {
        let refusal = Refusal::new(Code::WrongState, "this daemon keeps no logs");
        return Err(Reply::Refused(Box::new(refusal)));
    };
    scribe.ask(client, ask, is_known)
}

/// Kills and awaits what an earlier daemon of the same directory left behind, before anything is dispatched.
fn sweep_survivors(identity: &str) -> Result<(), StartError> {
    let swept = sweep::sweep(identity, Instant::now() + SWEEP_PATIENCE)
        .map_err(|error| system("look for survivors of an earlier daemon", error))?;
    if swept.killed > 0 {
        log::warn!("{} processes of an earlier daemon were still there and have been killed", swept.killed);
    }
    if !swept.survivors.is_empty() {
        log::error!("processes of an earlier daemon cannot be killed: pids {:?}", swept.survivors);
    }
    Ok(())
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The engine knows no process: how much memory each worker has is looked up here.
fn add_memory(reply: &mut Reply) {
    if let Reply::Workers(rows) = reply {
        for row in rows {
            row.rss_kib = row.pid.and_then(resident_kib);
        }
    }
}
