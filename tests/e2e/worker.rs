//! A worker of another language than none: this test program, executed again by the daemon.
//!
//! It gives a job's data back byte for byte, unless the data is an object whose "do" says otherwise: `who`, `fail`,
//! `anon`, `flat`, `twice`, `big`, `die`, `exit`, `hang`, one of [`misdeeds`], `wait` (for a line of the FIFO "path"; its result has "bytes" if that is there). With "say" it
//! writes its pid to that FIFO first. Of its life as a whole `E2E_WORKER` says, in words with commas between them:
//! `echo`, `deaf` (to TERM), `mute` (never ready), `hasty` (answers before it is ready), `leave=N` (after N answers), `reverse=N` (answers N jobs
//! backwards), `late=FIFO` (in slot 2: ready after a line of it), `bare` (answers as the ancestor's workers do).

use crate::misdeeds;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Command;

/// Says that this process is to be a worker, and of which kind.
const VARIABLE: &str = "E2E_WORKER";

/// A pool of such workers, with further settings.
pub fn pool(name: &str, kind: &str, settings: &str) -> String {
    let own = std::env::current_exe().expect("our own file is there");
    let command = json!([own, "--exact", "worker::a_worker_needs_its_endpoints", "--nocapture"]);
    format!("[pools.{name}]\ncommand = {command}\nenvironment = {{ {VARIABLE} = \"{kind}\" }}\n{settings}\n")
}

/// The worker itself when the daemon runs it; else a test that it cannot be one without a daemon.
#[test]
fn a_worker_needs_its_endpoints() {
    if let Ok(kind) = std::env::var(VARIABLE) {
        Worker::new(&kind).serve();
        // The harness would wait for nothing more than its own farewell.
        std::process::exit(0);
    }
    let own = std::env::current_exe().expect("our own file is there");
    let mut command = Command::new(own);
    command.args(["--exact", "worker::a_worker_needs_its_endpoints"]).env(VARIABLE, "echo");
    command.env_remove("PUSHPULL_JOBS").env_remove("PUSHPULL_RESULTS");
    let output = command.output().expect("our own file can be executed");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("PUSHPULL_JOBS"));
}

#[derive(Deserialize)]
struct Order<'a> {
    id: u64,
    attempt: u32,
    #[serde(borrow)]
    data: &'a RawValue,
}

struct Worker {
    jobs: zmq::Socket,
    results: zmq::Socket,
    leave: usize,
    reverse: usize,
    bare: bool,
}

impl Worker {
    fn new(kind: &str) -> Worker {
        let words: Vec<&str> = kind.split(',').collect();
        let number = |name: &str| {
            let text = words.iter().find_map(|word| word.strip_prefix(name));
            text.map(|text| text.parse().expect("a number"))
        };
        let endpoint = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let context = zmq::Context::new();
        let jobs = context.socket(zmq::PULL).expect("a socket can be made");
        jobs.connect(&endpoint("PUSHPULL_JOBS")).expect("the daemon has bound it");
        let results = context.socket(zmq::PUSH).expect("a socket can be made");
        results.connect(&endpoint("PUSHPULL_RESULTS")).expect("the daemon has bound it");
        if words.contains(&"deaf") {
            // SAFETY: nothing of ours runs in a handler.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        }
        let worker = Worker {
            jobs,
            results,
            leave: number("leave=").unwrap_or(usize::MAX),
            reverse: number("reverse=").unwrap_or(1),
            bare: words.contains(&"bare"),
        };
        let is_last = std::env::var("PUSHPULL_SLOT").is_ok_and(|slot| slot == "2");
        if let Some(path) = words.iter().find_map(|word| word.strip_prefix("late=")).filter(|_| is_last) {
            read_line(path);
        }
        if words.contains(&"hasty") {
            // It holds nothing yet and is not even ready.
            worker.send(&json!({"type": "result", "id": 1, "data": "too early"}));
            worker.send(&json!({"type": "result", "data": "too early"}));
        }
        if !words.contains(&"mute") {
            worker.send(&json!({"type": "ready", "worker": std::process::id()}));
        }
        worker
    }

    fn send(&self, message: &Value) {
        self.results.send(message.to_string().as_bytes(), 0).expect("the daemon takes it");
    }

    fn serve(self) {
        let mut answered = 0;
        while answered < self.leave {
            let frames: Vec<Vec<u8>> =
                (0..self.reverse).map(|_| self.jobs.recv_bytes(0).expect("a job comes")).collect();
            for frame in frames.iter().rev() {
                if self.bare {
                    self.answer_as_the_ancestor(frame);
                } else {
                    let order: Order = serde_json::from_slice(frame).expect("a job is JSON");
                    self.work(&order);
                }
                answered += 1;
            }
        }
    }

    /// Its fields, and one named `id` that is nobody's business. A job may stop it at a gate.
    fn answer_as_the_ancestor(&self, frame: &[u8]) {
        let job: Value = serde_json::from_slice(frame).expect("a job is JSON");
        if let (Some(say), Some(gate)) = (job["say"].as_str(), job["gate"].as_str()) {
            write_line(say, &format!("{}\n", std::process::id()));
            read_line(gate);
        }
        self.send(&json!({
            "type": "result",
            "id": "the user's own",
            "workerId": std::process::id(),
            "jobId": job["jobId"],
            "createdAt": job["timestamp"],
            "respondedAt": 1,
        }));
    }

    fn work(&self, order: &Order) {
        let wishes: Value = if order.data.get().starts_with('{') {
            serde_json::from_str(order.data.get()).expect("data is JSON")
        } else {
            Value::Null
        };
        if let Some(path) = wishes["say"].as_str() {
            write_line(path, &format!("{}\n", std::process::id()));
        }
        let id = order.id;
        match wishes["do"].as_str() {
            None => {
                let answer = format!(r#"{{"type":"result","id":{id},"data":{}}}"#, order.data.get());
                self.results.send(answer.as_bytes(), 0).expect("the daemon takes it");
            }
            Some("who") => self.send(&json!({"type": "result", "id": id, "data": who(order.attempt)})),
            Some("fail") => {
                let retry = &wishes["retry"];
                self.send(&json!({"type": "error", "id": id, "error": "asked to fail", "detail": "line 7",
                    "retry": retry == true}));
            }
            Some("anon") => self.send(&json!({"type": "result", "data": wishes})),
            Some("flat") => self.send(&json!({"type": "result", "id": id, "one": 1, "two": [2]})),
            Some("twice") => {
                self.send(&json!({"type": "result", "id": id, "data": "first"}));
                self.send(&json!({"type": "result", "id": id, "data": "second"}));
            }
            Some("big") => {
                let bytes = wishes["bytes"].as_u64().expect("a number");
                let text = "x".repeat(usize::try_from(bytes).expect("a size"));
                self.send(&json!({"type": "result", "id": id, "data": text}));
            }
            Some("wait") => {
                read_line(wishes["path"].as_str().expect("a path"));
                let bytes = wishes["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                let data = bytes.map_or("waited".to_owned(), |bytes| "w".repeat(bytes));
                self.send(&json!({"type": "result", "id": id, "data": data}));
            }
            Some("die") => {
                eprintln!("last words of {}", std::process::id());
                let signal = wishes["signal"].as_i64().and_then(|signal| i32::try_from(signal).ok());
                let signal = signal.unwrap_or(libc::SIGKILL);
                // SAFETY: a signal to ourselves, past the handler with which Rust reports overflows of the stack.
                unsafe {
                    libc::signal(signal, libc::SIG_DFL);
                    libc::raise(signal);
                }
            }
            Some("exit") => {
                let status = wishes["status"].as_i64().and_then(|status| i32::try_from(status).ok());
                std::process::exit(status.unwrap_or(0));
            }
            Some("haunt") if order.attempt == 1 => {
                let (say, file) = (wishes["haunted"].as_str(), wishes["path"].as_str());
                let words = [
                    "-c",
                    r#"echo $$ >"$1"; echo x >>"$2""#,
                    "sh",
                    say.expect("a path"),
                    file.expect("a path"),
                ];
                let child = Command::new("sh").args(words).spawn();
                child.expect("there is a shell").wait().expect("it is ours");
            }
            Some("haunt") => self.send(&json!({"type": "result", "id": id, "data": "elsewhere"})),
            Some("write") => {
                write_line(wishes["path"].as_str().expect("a path"), "x");
                self.send(&json!({"type": "result", "id": id, "data": "written"}));
            }
            Some("hang") => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            Some(other) => {
                let result = misdeeds::commit(other, id, &wishes, &self.results);
                let data = result.unwrap_or_else(|| panic!("unknown wish {other}"));
                self.send(&json!({"type": "result", "id": id, "data": data}));
            }
        }
    }
}

fn who(attempt: u32) -> Value {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("PUSHPULL_"));
    let mut who: serde_json::Map<String, Value> =
        variables.map(|(name, value)| (name, Value::String(value))).collect();
    who.insert("pid".to_owned(), json!(std::process::id()));
    who.insert("cwd".to_owned(), json!(std::env::current_dir().expect("a directory")));
    who.insert("attempt".to_owned(), json!(attempt));
    Value::Object(who)
}

fn write_line(path: &str, line: &str) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("the test has made it");
    file.write_all(line.as_bytes()).expect("the test has it open");
}

fn read_line(path: &str) {
    let mut file = std::fs::File::open(path).expect("the test has made it");
    let mut byte = [0];
    while byte != *b"\n" {
        file.read_exact(&mut byte).expect("the test has it open");
    }
}
