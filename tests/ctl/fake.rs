//! A daemon that follows a script: what it says to each request, what it leaves unanswered, when it starts anew.

use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

/// What the fake does with a request.
pub enum Act {
    Say(Value),
    /// Raw bytes.
    SayText(&'static str),
    /// Ends without an answer, and starts again at the same place.
    StartAnew,
    /// No answer, now or ever.
    Ignore,
}

/// A fake daemon in a directory of its own.
pub struct Fake {
    directory: tempfile::TempDir,
    context: zmq::Context,
    thread: Option<JoinHandle<Vec<Value>>>,
}

const STOP: &[u8] = b"stop";

impl Fake {
    /// Starts one; `script` sees each request and its number.
    pub fn start(script: impl FnMut(usize, &Value) -> Act + Send + 'static) -> Fake {
        let directory = tempfile::tempdir().expect("a directory");
        let context = zmq::Context::new();
        let socket = directory.path().join("control.ipc");
        let router = bind(&context, &socket);
        let inner = context.clone();
        let thread = std::thread::spawn(move || serve(&inner, &socket, router, script));
        Fake { directory, context, thread: Some(thread) }
    }

    pub fn runtime_dir(&self) -> &Path {
        self.directory.path()
    }

    /// pushpullctl with these words, on this daemon.
    pub fn ctl(&self, words: &[&str]) -> Command {
        let mut command = ctl(words);
        command.env("PUSHPULL_RUNTIME_DIR", self.runtime_dir());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.ctl(words).output().expect("it runs")
    }

    /// Ends it; all requests that came.
    pub fn stop(mut self) -> Vec<Value> {
        self.end()
    }

    fn end(&mut self) -> Vec<Value> {
        let Some(thread) = self.thread.take() else { return Vec::new() };
        let dealer = self.context.socket(zmq::DEALER).expect("a socket");
        dealer.connect(&endpoint(&self.directory.path().join("control.ipc"))).expect("a path");
        dealer.send_multipart([b"", STOP], 0).expect("room");
        thread.join().expect("the script does not panic")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// pushpullctl in a terminal-less, quiet world.
pub fn ctl(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushpullctl"));
    command.args(words).stdin(Stdio::null()).env_remove("COLUMNS");
    command
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("pids fit"))
}

fn serve(
    context: &zmq::Context,
    socket: &Path,
    mut router: zmq::Socket,
    mut script: impl FnMut(usize, &Value) -> Act,
) -> Vec<Value> {
    let mut heard = Vec::new();
    loop {
        let frames = router.recv_multipart(0).expect("a request");
        let (request, envelope) = frames.split_last().expect("frames");
        if request == STOP {
            return heard;
        }
        let request: Value = serde_json::from_slice(request).expect("a request is JSON");
        let act = script(heard.len(), &request);
        heard.push(request);
        let text = match act {
            Act::Say(value) => value.to_string(),
            Act::SayText(text) => text.to_owned(),
            Act::Ignore => continue,
            Act::StartAnew => {
                drop(router);
                router = bind(context, socket);
                continue;
            }
        };
        let mut frames = envelope.to_vec();
        frames.push(text.into_bytes());
        router.send_multipart(frames, 0).expect("a client");
    }
}

fn bind(context: &zmq::Context, socket: &Path) -> zmq::Socket {
    loop {
        let router = context.socket(zmq::ROUTER).expect("a socket");
        router.set_linger(0).expect("a setting");
        // The old one is closed in the background and may still hold the path for a moment.
        match router.bind(&endpoint(socket)) {
            Ok(()) => return router,
            Err(zmq::Error::EADDRINUSE) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn endpoint(socket: &Path) -> String {
    format!("ipc://{}", socket.display())
}
