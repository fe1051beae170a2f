//! Workers of every kind and the daemon itself, killed and stopped at random moments, while clients go on submitting.
//!
//! One loop waits for replies: those of the clients that submit, and the pages of results. Every page is an occasion
//! to do harm, so the harm is spread over the whole run without a clock. What a client was told is all that counts:
//! in the end every acknowledged job has exactly one outcome, that of its own data or that it was cancelled, and nothing
//! else is there.

use crate::dice::Dice;
use crate::harness::{Daemon, ids};
use crate::process::{Handle, PATIENCE};
use crate::worker;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// What is to happen.
struct Plan {
    seed: u64,
    /// Of tiny jobs with deep windows, of the ancestor's and of commands.
    jobs: [usize; 3],
    /// Settings of a fourth pool, named `more`, and how many jobs it gets.
    more: Option<(String, usize)>,
    /// How often the daemon is killed.
    deaths: usize,
    /// Records in one page at most: fewer are more occasions.
    page: usize,
}

#[test]
fn deaths_of_workers_and_daemon_lose_nothing() {
    let jobs = [16_000, 1_500, 200];
    run(Plan { seed: 1, jobs, more: None, deaths: 3, page: 200 });
}

#[test]
#[ignore = "takes long"]
fn many_deaths_of_workers_and_daemon_lose_nothing() {
    let jobs = [80_000, 6_000, 1_500];
    for seed in 2..5 {
        run(Plan { seed, jobs, more: None, deaths: 12, page: 300 });
    }
}

#[test]
#[ignore = "needs pyzmq"]
fn deaths_of_python_workers_lose_nothing() {
    let command = json!(["python3", format!("{}/tests/workers/worker.py", env!("CARGO_MANIFEST_DIR"))]);
    let more = format!("command = {command}\nworkers = 2");
    run(Plan { seed: 5, jobs: [20_000, 2_000, 300], more: Some((more, 20_000)), deaths: 6, page: 300 });
}

/// Pools that forgive every crash and put up with every start.
fn config(plan: &Plan) -> String {
    let tough = "max_crashes = 1000\nrestart_delay = \"1ms\"\nrestart_delay_max = \"10ms\"";
    let pools = [
        format!("[pools.default]\nworkers = 2\n{tough}\n"),
        worker::pool("fast", "echo", &format!("workers = 2\ncredit = \"auto\"\n{tough}")),
        worker::pool("bare", "bare", &format!("workers = 2\nmessage = \"bare\"\ncredit = 4\n{tough}")),
        plan.more.as_ref().map_or(String::new(), |(more, _)| format!("[pools.more]\n{more}\n{tough}\n")),
    ];
    pools.concat()
}

fn run(plan: Plan) {
    println!("seed {}", plan.seed);
    let mut chaos = Chaos::begin(plan);
    while !chaos.is_over() {
        chaos.turn();
    }
    chaos.judge();
}

/// A submit that is not yet acknowledged, or that is made a second time.
struct Asked {
    request: Value,
    socket: zmq::Socket,
    /// What it was answered the first time.
    before: Option<Value>,
}

struct Chaos {
    daemon: Daemon,
    plan: Plan,
    dice: Dice,
    /// Descriptors of a daemon of which nobody wants anything.
    descriptors: Vec<String>,
    ahead: VecDeque<Value>,
    asked: Vec<Asked>,
    /// What was acknowledged: each job by its id.
    acknowledged: BTreeMap<u64, Value>,
    told: BTreeMap<u64, Value>,
    /// What was cancelled before it had ended.
    cancelled: BTreeSet<u64>,
    /// The question for the next page, and where the pages stand.
    page: Option<zmq::Socket>,
    cursor: Value,
    stopped: Vec<Handle>,
    deaths: usize,
    kills: usize,
    total: usize,
}

/// Clients that submit at the same time.
const CLIENTS: usize = 3;

impl Chaos {
    fn begin(plan: Plan) -> Chaos {
        let daemon = Daemon::start(&config(&plan));
        let mut dice = Dice::new(plan.seed);
        let ahead = submits(&plan, &mut dice);
        let total = ahead.iter().map(|request| jobs_of(request).len()).sum();
        daemon.await_workers();
        let mut chaos = Chaos {
            // Whatever is opened on first use is open then.
            descriptors: Vec::new(),
            dice,
            ahead,
            asked: Vec::new(),
            acknowledged: BTreeMap::new(),
            told: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            page: None,
            cursor: Value::Null,
            stopped: Vec::new(),
            deaths: 0,
            kills: 0,
            total,
            plan,
            daemon,
        };
        chaos.daemon.assert_audit();
        chaos.descriptors = chaos.daemon.descriptors();
        for _ in 0..CLIENTS {
            chaos.submit_next();
        }
        chaos.ask_page();
        chaos
    }

    fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.asked.is_empty() && self.page.is_none()
    }

    /// Waits until somebody is answered.
    fn turn(&mut self) {
        let sockets = self.asked.iter().map(|asked| &asked.socket).chain(&self.page);
        let mut items: Vec<zmq::PollItem> = sockets.map(|socket| socket.as_poll_item(zmq::POLLIN)).collect();
        let patience = i64::try_from(PATIENCE.as_millis()).expect("a minute");
        let ready = zmq::poll(&mut items, patience).expect("they can be polled");
        assert!(ready > 0, "nobody is answered; the daemon says:\n{}", self.daemon.site.log());
        let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        for (place, asked) in std::mem::take(&mut self.asked).into_iter().enumerate() {
            if ready[place] {
                self.on_submitted(asked);
            } else {
                self.asked.push(asked);
            }
        }
        if ready.last() == Some(&true) {
            if let Some(socket) = self.page.take() {
                self.on_page(&self.daemon.finish(&socket));
            }
        }
    }

    fn submit_next(&mut self) {
        if let Some(request) = self.ahead.pop_front() {
            let socket = self.daemon.begin(&request);
            self.asked.push(Asked { request, socket, before: None });
        }
    }

    /// Some replies are taken for lost: the same submit again is answered the same.
    fn on_submitted(&mut self, asked: Asked) {
        let reply = self.daemon.finish(&asked.socket);
        assert_eq!(reply["ok"], true, "{reply}");
        if let Some(before) = asked.before {
            assert_eq!(reply, before, "the same submit is another batch");
            return;
        }
        for (id, job) in ids(&reply).into_iter().zip(jobs_of(&asked.request)) {
            let known = self.acknowledged.insert(id, job.clone());
            assert_eq!(known, None, "job {id} was given out twice");
        }
        self.submit_next();
        if self.dice.below(8) == 0 {
            let socket = self.daemon.begin(&asked.request);
            self.asked.push(Asked { request: asked.request, socket, before: Some(reply) });
        }
        if self.page.is_none() {
            self.ask_page();
        }
    }

    fn ask_page(&mut self) {
        // An empty page is an occasion as well: somebody who was stopped may be what everybody waits for.
        let mut request =
            json!({"op": "results", "select": "all", "limit": self.plan.page, "timeout_ms": 300});
        if !self.cursor.is_null() {
            request["after"] = self.cursor.clone();
        }
        self.page = Some(self.daemon.begin(&request));
    }

    fn on_page(&mut self, page: &Value) {
        assert_eq!(page["ok"], true, "{page}");
        for record in page["records"].as_array().expect("records") {
            let id = record["id"].as_u64().expect("an id");
            assert_eq!(self.told.insert(id, record.clone()), None, "two outcomes of job {id}");
        }
        self.cursor = page["next"].clone();
        for worker in self.stopped.drain(..) {
            worker.signal(libc::SIGCONT);
        }
        let due = self.total * (self.deaths + 1) / (self.plan.deaths + 1);
        if self.deaths < self.plan.deaths && self.told.len() >= due {
            self.kill_daemon();
        } else if page["done"] != true {
            self.do_harm();
        }
        if page["done"] != true || self.told.len() < self.acknowledged.len() {
            self.ask_page();
        }
    }

    fn kill_daemon(&mut self) {
        self.deaths += 1;
        self.daemon.kill();
        if self.dice.below(2) == 0 {
            // One more that does not even get up.
            self.daemon.start_and_kill();
        }
        self.daemon.start_again();
        for asked in &mut self.asked {
            asked.socket = self.daemon.begin(&asked.request);
        }
    }

    fn do_harm(&mut self) {
        match self.dice.below(12) {
            10 | 11 => self.cancel_some(),
            0 => {
                self.daemon.freeze();
                self.kill_worker();
                self.daemon.thaw();
            }
            1 | 2 => {
                if let Some(worker) = self.some_worker() {
                    worker.signal(libc::SIGSTOP);
                    self.stopped.push(worker);
                }
            }
            3 => {
                // Its own end does not wait for the one that is stopped.
                if let Some(worker) = self.some_worker() {
                    worker.signal(libc::SIGSTOP);
                    self.kills += usize::from(worker.signal(libc::SIGKILL));
                }
            }
            _ => self.kill_worker(),
        }
    }

    /// Cancels jobs that wait, run or have ended.
    fn cancel_some(&mut self) {
        let known = self.acknowledged.len();
        let first = self.acknowledged.keys().nth(self.dice.below(known.max(1))).copied().unwrap_or(1);
        for id in (first..first + 5).filter(|id| self.acknowledged.contains_key(id)) {
            let reply = self.daemon.ask(&json!({"op": "cancel", "select": id.to_string()}));
            if reply["cancelled"] == 1 {
                assert!(self.cancelled.insert(id), "job {id} was cancelled twice");
            } else {
                assert_eq!(reply["already_finished"], 1, "{reply}");
            }
        }
    }

    fn kill_worker(&mut self) {
        if let Some(worker) = self.some_worker() {
            self.kills += usize::from(worker.signal(libc::SIGKILL));
        }
    }

    /// Of the processes that carry the daemon's mark, for the daemon cannot be asked while it is stopped. A command
    /// of the built-in worker is none: its own end would be told as such.
    fn some_worker(&mut self) -> Option<Handle> {
        let workers = self.daemon.children();
        let pid = *self.dice.pick(&workers)?;
        Handle::open(pid)
    }

    fn judge(mut self) {
        assert_eq!(self.deaths, self.plan.deaths, "the daemon was to die more often");
        assert!(self.kills >= 10, "only {} workers were killed", self.kills);
        assert_eq!(self.acknowledged.len(), self.total);
        let told: BTreeSet<&u64> = self.told.keys().collect();
        assert_eq!(told, self.acknowledged.keys().collect(), "what has an outcome is what was acknowledged");
        for (id, record) in &self.told {
            if self.cancelled.contains(id) {
                assert_eq!((&record["state"], &record["cause"]), (&json!("cancelled"), &json!("cancelled")));
                continue;
            }
            assert_eq!(record["state"], "succeeded", "{record}");
            assert_own_result(&self.acknowledged[id], record);
        }
        let kept = self.daemon.results("all");
        assert!(kept == self.told, "what was told is not what is kept");
        let audit = self.daemon.site.ctl(&["audit"]);
        assert_eq!(audit.status.code(), Some(0), "{audit:?}");
        self.assert_tidy();
        self.daemon.stop();
    }

    /// Nothing of the dead is left: no process, no socket file, no descriptor.
    fn assert_tidy(&self) {
        let daemon = &self.daemon;
        daemon.await_workers();
        let workers = daemon.workers().len();
        let deadline = Instant::now() + PATIENCE;
        // Nobody asks meanwhile: a connection just closed is a descriptor for a moment longer.
        loop {
            let (files, processes) = (daemon.worker_files().len(), daemon.marked().len());
            let descriptors = daemon.descriptors();
            if (files, processes) == (2 * workers, workers) && descriptors.len() <= self.descriptors.len() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{files} socket files, {processes} processes of {workers} workers, {descriptors:?} instead of {:?}",
                self.descriptors
            );
            std::thread::yield_now();
        }
    }
}

/// All submits of the plan, in a random order, each of a random size and with a key of its own.
fn submits(plan: &Plan, dice: &mut Dice) -> VecDeque<Value> {
    let more = plan.more.as_ref().map_or(0, |(_, jobs)| *jobs);
    let mut left = [plan.jobs[0], plan.jobs[1], plan.jobs[2], more];
    let mut submits = VecDeque::new();
    let mut number = 0;
    while left.iter().any(|left| *left > 0) {
        let mut jobs = Vec::new();
        for (kind, left) in left.iter_mut().enumerate() {
            let most = [1_000, 100, 15, 1_000][kind];
            let some = (1 + dice.below(most)).min(*left);
            *left -= some;
            jobs.extend((number..number + some).map(|n| job(kind, n)));
            number += some;
        }
        submits.push_back(json!({"op": "submit", "key": format!("key {number}"), "jobs": jobs}));
    }
    submits
}

fn job(kind: usize, n: usize) -> Value {
    match kind {
        0 => json!({"pool": "fast", "data": {"n": n}}),
        1 => json!({"pool": "bare", "data": {"jobId": n, "timestamp": 7}}),
        2 => json!({"run": format!("echo {n}")}),
        3 => json!({"pool": "more", "data": [n]}),
        _ => unreachable!("there are four kinds"),
    }
}

fn assert_own_result(job: &Value, record: &Value) {
    let result = &record["result"];
    match (job["pool"].as_str(), job["run"].as_str()) {
        (Some("bare"), _) => assert_eq!(result["jobId"], job["data"]["jobId"], "{record}"),
        (Some(_), _) => assert_eq!(*result, job["data"], "{record}"),
        (None, Some(line)) => {
            let word = line.strip_prefix("echo ").expect("all of them echo");
            assert_eq!(result["stdout"], format!("{word}\n"), "{record}");
        }
        (None, None) => unreachable!("a job has a pool or a command"),
    }
}

fn jobs_of(request: &Value) -> &Vec<Value> {
    request["jobs"].as_array().expect("a submit has jobs")
}
