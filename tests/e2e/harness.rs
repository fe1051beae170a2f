//! A running daemon: asked, killed, started again, and looked after when the test is over.

use crate::process::{self, Handle, PATIENCE};
use crate::site::Site;
use pushpull::shell::sweep::sweep;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

pub struct Daemon {
    pub site: Site,
    child: Child,
    handle: Handle,
    mark: String,
    context: zmq::Context,
}

impl Daemon {
    pub fn start(config: &str) -> Daemon {
        Daemon::start_at(Site::new(config))
    }

    /// Starts one and waits until it answers.
    pub fn start_at(site: Site) -> Daemon {
        let child = site.logged_command().spawn().expect("the daemon can be executed");
        let handle = open(&child);
        let mut daemon =
            Daemon { site, child, handle, mark: "not known".to_owned(), context: zmq::Context::new() };
        daemon.await_readiness();
        daemon
    }

    fn await_readiness(&mut self) {
        let answer = self.ask(&json!({"op": "ping"}));
        assert_eq!(answer["pid"], self.pid(), "somebody else answers");
        let marked = if self.site.is_in_memory() { self.site.runtime() } else { self.site.state() };
        let found = std::fs::metadata(marked).expect("the daemon has made it");
        self.mark = format!("{}:{}", found.dev(), found.ino());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this daemon's workers carry in their environment.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    pub fn socket(&self, kind: zmq::SocketType) -> zmq::Socket {
        let socket = self.context.socket(kind).expect("a socket can be made");
        socket.set_linger(0).expect("a plain option");
        socket.set_reconnect_ivl(5).expect("a plain option");
        let endpoint = format!("ipc://{}/control.ipc", self.site.runtime().display());
        socket.connect(&endpoint).expect("the path is short");
        socket
    }

    /// Sends a request and gives back the socket that the reply will come to.
    pub fn begin(&self, request: &Value) -> zmq::Socket {
        let socket = self.socket(zmq::REQ);
        let mut request = request.clone();
        request["v"] = json!(1);
        socket.send(request.to_string().as_bytes(), 0).expect("a new REQ socket can send");
        socket
    }

    /// The reply; `None` if the daemon ends before it comes.
    pub fn try_finish(&self, socket: &zmq::Socket) -> Option<Value> {
        let fd = self.handle.fd();
        let mut items = [socket.as_poll_item(zmq::POLLIN), zmq::PollItem::from_fd(fd, zmq::POLLIN)];
        let patience = i64::try_from(PATIENCE.as_millis()).expect("a minute");
        let ready = zmq::poll(&mut items, patience).expect("both can be polled");
        assert!(ready > 0, "no reply; the daemon says:\n{}", self.site.log());
        items[0].is_readable().then(|| {
            let reply = socket.recv_bytes(0).expect("it is there");
            serde_json::from_slice(&reply).expect("a reply is JSON")
        })
    }

    pub fn finish(&self, socket: &zmq::Socket) -> Value {
        let reply = self.try_finish(socket);
        reply.unwrap_or_else(|| panic!("the daemon is gone; it said:\n{}", self.site.log()))
    }

    /// The reply, good or bad.
    pub fn ask_any(&self, request: &Value) -> Value {
        self.finish(&self.begin(request))
    }

    pub fn ask(&self, request: &Value) -> Value {
        let reply = self.ask_any(request);
        assert_eq!(reply["ok"], true, "{request} was refused: {reply}");
        reply
    }

    /// The error that a request is refused with.
    pub fn refusal(&self, request: &Value) -> Value {
        let reply = self.ask_any(request);
        assert_eq!(reply["ok"], false, "{request} was not refused: {reply}");
        reply["error"].clone()
    }

    /// Submits jobs, gives the id of the first.
    pub fn submit(&self, jobs: &Value) -> u64 {
        first_id(&self.ask(&json!({"op": "submit", "jobs": jobs})))
    }

    /// Waits until all selected jobs are finished; gives their counts.
    pub fn wait(&self, select: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(&json!({"op": "wait", "select": select, "timeout_ms": 20_000}));
            if reply["done"] == true {
                return reply["counts"].clone();
            }
            let in_time = Instant::now() < deadline;
            assert!(in_time, "{select} does not end: {reply}\n{}", self.site.log());
        }
    }

    /// The records of all selected jobs when they are finished, by id; each comes once.
    pub fn results(&self, select: &str) -> BTreeMap<u64, Value> {
        let mut records = BTreeMap::new();
        let mut after = Value::Null;
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(
                Instant::now() < deadline,
                "{select} does not end; the daemon says:\n{}",
                self.site.log()
            );
            let mut request = json!({"op": "results", "select": select, "timeout_ms": 20_000});
            if !after.is_null() {
                request["after"] = after;
            }
            let page = self.ask(&request);
            for record in page["records"].as_array().expect("records") {
                let id = record["id"].as_u64().expect("an id");
                assert_eq!(records.insert(id, record.clone()), None, "two outcomes of one job");
            }
            if page["done"] == true {
                return records;
            }
            after = page["next"].clone();
        }
    }

    /// Runs one job, gives its record.
    pub fn run(&self, job: Value) -> Value {
        let id = self.submit(&Value::Array(vec![job]));
        self.record(id)
    }

    /// A job's record when it is finished.
    pub fn record(&self, id: u64) -> Value {
        let mut records = self.results(&id.to_string());
        records.remove(&id).expect("it was asked for")
    }

    pub fn show(&self, id: u64) -> Value {
        self.ask(&json!({"op": "show", "id": id}))
    }

    /// The rows of all slots.
    pub fn workers(&self) -> Vec<Value> {
        self.ask(&json!({"op": "workers"}))["rows"].as_array().expect("rows").clone()
    }

    /// The counters are those of the jobs on disk.
    pub fn assert_audit(&self) {
        let mut audit = self.ask(&json!({"op": "audit"}));
        while audit["done"] != true {
            audit = self.ask(&json!({"op": "audit"}));
        }
        assert_eq!(audit["differences"], json!([]), "{audit}");
    }

    /// Waits until every slot has a ready worker.
    pub fn await_workers(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.workers().iter().any(|row| row["state"] != "idle" && row["state"] != "busy") {
            assert!(Instant::now() < deadline, "not all workers are ready: {:?}", self.workers());
        }
    }

    /// The daemon's own processes, its workers, as the kernel has them. A command of a worker's is none of them.
    pub fn children(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the daemon lives");
        let lists = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("children")));
        let lists: Vec<String> = lists.flatten().collect();
        let pids = lists.iter().flat_map(|list| list.split_whitespace());
        pids.map(|pid| pid.parse().expect("a pid")).filter(|pid| process::carries(*pid, &self.mark)).collect()
    }

    /// Everything that carries this daemon's mark.
    pub fn marked(&self) -> Vec<i32> {
        process::marked(&self.mark)
    }

    /// Files of workers' sockets.
    pub fn worker_files(&self) -> Vec<String> {
        let own = self.site.runtime().join("w").display().to_string();
        sockets(&self.site).into_iter().filter(|path| path.starts_with(&own)).collect()
    }

    /// What the daemon has open, as the kernel names it, without numbers.
    pub fn descriptors(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the daemon lives");
        let targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let mut names: Vec<String> = targets.map(|target| target.display().to_string()).collect();
        for name in &mut names {
            // A number tells apart what is the same.
            name.retain(|letter| !letter.is_ascii_digit());
        }
        names.sort();
        names
    }

    /// Handles of the living workers of a pool that are this daemon's beyond doubt, with their rows.
    pub fn living(&self, pool: &str) -> Vec<(Handle, Value)> {
        let rows = self.workers().into_iter().filter(|row| row["pool"] == pool);
        rows.filter_map(|row| {
            let pid = i32::try_from(row["pid"].as_i64()?).expect("a pid");
            let handle = Handle::open(pid)?;
            process::carries(pid, &self.mark).then_some((handle, row))
        })
        .collect()
    }

    pub fn signal(&self, signal: i32) {
        assert!(self.handle.signal(signal), "the daemon is gone; it said:\n{}", self.site.log());
    }

    /// Waits until the daemon has left.
    pub fn exit(&mut self) -> ExitStatus {
        let left = process::is_readable(self.handle.fd(), PATIENCE);
        assert!(left, "the daemon does not leave; it says:\n{}", self.site.log());
        self.child.wait().expect("it is our child")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        assert_eq!(self.exit().signal(), Some(libc::SIGKILL));
    }

    /// SIGSTOP; returns when all its threads stand still.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        // SAFETY: zeroes are a valid value of this plain structure, and it lives as long as the call.
        let (status, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let options = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
            (libc::waitid(libc::P_PID, self.pid(), &raw mut info, options), info)
        };
        assert_eq!((status, info.si_code), (0, libc::CLD_STOPPED), "the daemon does not stop");
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// TERM, and out it goes without a trace.
    pub fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        self.assert_clean_exit();
    }

    /// It leaves with 0, and neither a process nor a socket is left.
    pub fn assert_clean_exit(&mut self) {
        let status = self.exit();
        assert_eq!(status.code(), Some(0), "{status}; it said:\n{}", self.site.log());
        assert_eq!(process::marked(&self.mark), [0; 0], "processes are left");
        assert_eq!(sockets(&self.site), [""; 0], "sockets are left");
    }

    /// The daemon has left: starts another one and kills it at once, wherever it is by then.
    pub fn start_and_kill(&mut self) {
        assert!(self.handle.has_ended(), "the old one is still there");
        self.child = self.site.logged_command().spawn().expect("the daemon can be executed");
        self.handle = open(&self.child);
        self.kill();
    }

    /// The daemon has left: starts another one on the same directories.
    pub fn start_again(&mut self) {
        let started = self.try_start_again();
        started.unwrap_or_else(|status| panic!("{status}; the daemon said:\n{}", self.site.log()));
    }

    /// The same for one that may not come up; then it gives its exit status.
    pub fn try_start_again(&mut self) -> Result<(), ExitStatus> {
        assert!(self.handle.has_ended(), "the old one is still there");
        self.child = self.site.logged_command().spawn().expect("the daemon can be executed");
        self.handle = open(&self.child);
        let socket = self.begin(&json!({"op": "ping"}));
        if self.try_finish(&socket).is_none() {
            return Err(self.exit());
        }
        self.await_readiness();
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.handle.signal(libc::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- the daemon said:\n{}", self.site.log());
        }
        let _ = sweep(&self.mark, Instant::now() + Duration::from_secs(10));
    }
}

/// The first id of a submit's reply.
pub fn first_id(reply: &Value) -> u64 {
    reply["ids"][0][0].as_u64().unwrap_or_else(|| panic!("no ids: {reply}"))
}

/// All ids of a submit's reply, in the order of its jobs.
pub fn ids(reply: &Value) -> Vec<u64> {
    let ranges = reply["ids"].as_array().unwrap_or_else(|| panic!("no ids: {reply}"));
    let ends = ranges.iter().map(|range| (range[0].as_u64(), range[1].as_u64()));
    ends.flat_map(|(first, last)| first.expect("an id")..=last.expect("an id")).collect()
}

fn open(child: &Child) -> Handle {
    let pid = i32::try_from(child.id()).expect("a pid");
    Handle::open(pid).expect("our own child is there until it is waited for")
}

fn sockets(site: &Site) -> Vec<String> {
    let directories = [site.runtime(), site.runtime().join("w")];
    let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
    let paths = entries.flatten().map(|entry| entry.path());
    let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == "ipc"));
    sockets.map(|path| path.display().to_string()).collect()
}
