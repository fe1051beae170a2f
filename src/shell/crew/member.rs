//! One living worker: its process, its sockets and its output.

use super::inbox::Inbox;
use crate::config::PoolSettings;
use crate::engine::{Death, ToWorker};
use crate::model::{Context, Exit, Mono, WorkerName};
use crate::shell::child::Child;
use crate::shell::endpoints::WorkerPaths;
use crate::shell::logs::Pen;
use crate::shell::output::{Output, ReadState};
use crate::wire::pipeline::{self, Delivery};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) struct Member {
    pub(super) name: WorkerName,
    pub(super) pool: Arc<PoolSettings>,
    pub(super) child: Child,
    pub(super) jobs: zmq::Socket,
    pub(super) inbox: Inbox,
    pub(super) paths: WorkerPaths,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    /// What its socket did not take, in order.
    pub(super) backlog: VecDeque<Vec<u8>>,
    /// The context of the job that it was sent last.
    pub(super) context: Option<Arc<Context>>,
    /// It has ended, and what it left is being ended.
    pub(super) settling: Option<Settling>,
    /// Whether we have sent it SIGKILL.
    pub(super) killed: bool,
    /// The kernel's count of out-of-memory kills at its start.
    pub(super) oom_kills: u64,
}

/// How far the end of a worker has come.
pub(super) struct Settling {
    pub(super) since: Mono,
    /// When to look again.
    pub(super) again: Mono,
    /// The engine was told that something outlives it.
    pub(super) is_given_up: bool,
}

impl Member {
    /// What is known of its end.
    pub(super) fn death(
        &self,
        exit: Exit,
        max_rss_kib: u64,
        last_output: Vec<String>,
        survivor: Option<u32>,
    ) -> Death {
        let killed = exit == Exit::Signal(libc::SIGKILL) && !self.killed;
        let perhaps_out_of_memory = killed && oom_kills() > self.oom_kills;
        Death { exit, max_rss_kib, last_output, perhaps_out_of_memory, survivor }
    }

    pub(super) fn encode(&mut self, message: &ToWorker, buffer: &mut Vec<u8>) {
        match message {
            ToWorker::Cancel(id) => pipeline::encode_cancel(*id, buffer),
            ToWorker::Job { job, attempt, timeout } => {
                // A submitter's whole environment travels only when it is another than the last job's.
                let same = match (&self.context, &job.context) {
                    (None, None) => true,
                    (Some(last), Some(next)) => Arc::ptr_eq(last, next) || last == next,
                    (None, Some(_)) | (Some(_), None) => false,
                };
                let context = (!same).then_some(job.context.as_deref());
                let delivery = Delivery {
                    job,
                    attempt: *attempt,
                    timeout: *timeout,
                    stop_timeout: Some(self.pool.stop_timeout),
                    context,
                };
                pipeline::encode_job(&delivery, self.inbox.style, buffer);
                self.context.clone_from(&job.context);
            }
        }
    }

    /// Reads what the worker printed before its end, without waiting for whoever may keep the pipe open, and
    /// returns the last lines of both streams.
    pub(super) fn last_output(&mut self, now: Mono, pen: &Pen) -> Vec<String> {
        let name = &self.name;
        let mut lines = Vec::new();
        for (stream, label) in [(&mut self.stdout, "stdout"), (&mut self.stderr, "stderr")] {
            let Some(output) = stream else {
                continue;
            };
            let mut page = pen.page(name, label);
            let mut sink = |line: &[u8]| page.line(line);
            // A pipe holds 64 KiB unless somebody made it larger: a few turns empty it.
            for _ in 0..64 {
                if !matches!(output.read_some(now, &mut sink), Ok(ReadState::More)) {
                    break;
                }
            }
            output.finish(now, &mut sink);
            lines.extend(output.tail().map(str::to_owned));
        }
        lines
    }
}

/// How many processes the kernel has killed for want of memory since it started.
pub(super) fn oom_kills() -> u64 {
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// How much memory a process has at present.
pub(in crate::shell) fn resident_kib(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()? / 1_024)
}
