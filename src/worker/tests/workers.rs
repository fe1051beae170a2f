//! Whole workers: the test program starts itself again, as the worker.

use super::this_test;
use crate::model::{Cause, JobId};
use crate::wire::pipeline::{Report, Style, parse_report};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A place for a command to say that it runs: reading it waits for that.
fn fifo() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    (directory, fifo)
}

/// The daemon's side of one worker's sockets, and the worker.
struct Daemon {
    jobs: zmq::Socket,
    results: zmq::Socket,
    worker: std::process::Child,
    _context: zmq::Context,
    _directory: tempfile::TempDir,
}

impl Daemon {
    /// Starts the test `name` again, as a worker.
    fn start(name: &str) -> Daemon {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let context = zmq::Context::new();
        let bound = |kind, file: &str| {
            let socket = context.socket(kind).expect("a socket");
            socket.set_linger(0).expect("a linger");
            let endpoint = format!("ipc://{}", directory.path().join(file).display());
            socket.bind(&endpoint).expect("an endpoint");
            (socket, endpoint)
        };
        let (jobs, jobs_endpoint) = bound(zmq::PUSH, "jobs");
        let (results, results_endpoint) = bound(zmq::PULL, "results");
        let worker = this_test(&format!("workers::{name}"))
            .env("PUSHPULL_JOBS", jobs_endpoint)
            .env("PUSHPULL_RESULTS", results_endpoint)
            .env("PUSHPULL_WORKER", "default.0.1")
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the test program starts again");
        let mut daemon = Daemon { jobs, results, worker, _context: context, _directory: directory };
        assert_eq!(daemon.next(), Report::Ready);
        daemon
    }

    fn send(&self, frame: &str) {
        self.jobs.send(frame, 0).expect("the worker is connected");
    }

    fn send_job(&self, id: u64, data: &str) {
        self.send(&format!(r#"{{"type":"job","id":{id},"attempt":1,"data":{data}}}"#));
    }

    /// The next report. A worker that died instead fails the test.
    fn next(&mut self) -> Report {
        loop {
            if self.results.poll(zmq::POLLIN, 100).expect("a poll") > 0 {
                let frame = self.results.recv_bytes(0).expect("a frame");
                return parse_report(&frame, Style::Envelope).expect("a message");
            }
            assert_eq!(self.worker.try_wait().expect("a child"), None, "the worker has ended");
        }
    }

    fn next_stdout(&mut self) -> (u64, String) {
        match self.next() {
            Report::Result { id: Some(JobId(id)), data } => {
                let outcome: serde_json::Value = serde_json::from_str(&data).expect("an outcome");
                (id, outcome["stdout"].as_str().expect("text").to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.worker.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it has not been reaped");
        self.worker.wait().expect("a child")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failure; one that has ended is not signalled.
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

/// Whether this process is the worker that [`Daemon::start`] started. Then it works until it is told to leave.
fn work_if_worker() -> bool {
    let is_worker = std::env::var_os("PUSHPULL_JOBS").is_some();
    if is_worker {
        crate::worker::serve().expect("a worker leaves in peace");
    }
    is_worker
}

#[test]
fn a_worker_runs_jobs_in_order_and_answers_for_cancelled_ones() {
    if work_if_worker() {
        return;
    }
    let mut daemon = Daemon::start("a_worker_runs_jobs_in_order_and_answers_for_cancelled_ones");
    daemon.send_job(1, r#"{"run":"echo one; echo $PUSHPULL_WORKER $PUSHPULL_JOBS"}"#);
    daemon.send_job(2, r#"{"run":7}"#);
    daemon.send_job(3, r#"{"run":["no-such-program"]}"#);
    daemon.send("not even JSON");
    assert_eq!(daemon.next_stdout(), (1, "one\ndefault.0.1\n".to_owned()));
    for (id, text) in [(2, "this is no command"), (3, "cannot execute no-such-program")] {
        match daemon.next() {
            Report::Error { id: Some(JobId(of)), cause: Some(Cause::Start), error, retry: false, .. } => {
                assert!(of == id && error.contains(text), "{of} {error}");
            }
            other => panic!("{other:?}"),
        }
    }
    // 4 runs until it is cancelled, 5 never begins, 6 has the context that came with 5.
    let (_directory, fifo) = fifo();
    daemon.send_job(4, &format!(r#"{{"run":"echo >{}; exec sleep 1000"}}"#, fifo.display()));
    daemon.send(
        r#"{"type":"job","id":5,"attempt":1,"context":{"environment":{"X":"1"},"directory":"/"},"data":{"run":"echo no"}}"#,
    );
    daemon.send_job(6, r#"{"run":"echo $X; pwd"}"#);
    assert_eq!(std::fs::read_to_string(&fifo).expect("4 writes when it runs"), "\n");
    daemon.send(r#"{"type":"cancel","id":5}"#);
    daemon.send(r#"{"type":"cancel","id":4}"#);
    daemon.send(r#"{"type":"cancel","id":99}"#);
    match daemon.next() {
        Report::Error { id: Some(JobId(5)), cause: Some(Cause::Cancelled), data: None, .. } => {}
        other => panic!("{other:?}"),
    }
    match daemon.next() {
        Report::Error { id: Some(JobId(4)), cause: Some(Cause::Cancelled), data: Some(_), .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(daemon.next_stdout(), (6, "1\n/\n".to_owned()));
    daemon.send_job(7, r#"{"run":"echo $X"}"#);
    daemon.send(r#"{"type":"job","id":8,"attempt":1,"context":null,"data":{"run":"echo ${X-none}"}}"#);
    assert_eq!(daemon.next_stdout(), (7, "1\n".to_owned()));
    assert_eq!(daemon.next_stdout(), (8, "none\n".to_owned()));
    assert!(daemon.terminate().success());
}

#[test]
fn a_worker_that_is_told_to_leave_kills_its_command_and_answers_nothing() {
    if work_if_worker() {
        return;
    }
    let mut daemon = Daemon::start("a_worker_that_is_told_to_leave_kills_its_command_and_answers_nothing");
    let (_directory, fifo) = fifo();
    let line = format!("setsid sh -c 'echo $$ >{}; exec sleep 1000' & exec sleep 1000", fifo.display());
    daemon.send_job(1, &serde_json::json!({ "run": line }).to_string());
    daemon.send_job(2, r#"{"run":"true"}"#);
    let leftover = std::fs::read_to_string(&fifo).expect("a fifo is read until its writer is gone");
    let results =
        std::mem::replace(&mut daemon.results, zmq::Context::new().socket(zmq::PULL).expect("a socket"));
    assert!(daemon.terminate().success());
    assert!(!is_alive(&leftover));
    assert_eq!(results.recv_bytes(zmq::DONTWAIT), Err(zmq::Error::EAGAIN));
}

#[test]
fn reports_of_finished_jobs_are_delivered_before_the_worker_ends() {
    if work_if_worker() {
        return;
    }
    let mut daemon = Daemon::start("reports_of_finished_jobs_are_delivered_before_the_worker_ends");
    for id in 1..=20 {
        daemon.send_job(id, r#"{"run":["true"]}"#);
    }
    // The last job tells its worker to leave; whatever was reported before must arrive.
    daemon.send_job(21, r#"{"run":"kill -TERM $PPID; exec sleep 1000"}"#);
    let mut ids = Vec::new();
    while ids.len() < 20 {
        if daemon.results.poll(zmq::POLLIN, 10_000).expect("a poll") == 0 {
            break;
        }
        ids.push(daemon.next_stdout().0);
    }
    assert_eq!(ids, (1..=20).collect::<Vec<u64>>());
    assert!(daemon.worker.wait().expect("a child").success());
}

fn is_alive(pid: &str) -> bool {
    kill(Pid::from_raw(pid.trim().parse().expect("a pid")), None).is_ok()
}
