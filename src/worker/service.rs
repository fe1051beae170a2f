//! The loop: take orders, run one command after another, report.
//!
//! Orders are read ahead while a command runs, so that a cancel finds its job, waiting or running. A report is
//! handed to the socket's own thread, and the next command starts while it travels.

use super::command::Failure;
use super::link::Link;
use super::outcome::{cancelled_report, report, start_report};
use super::running::{Interest, Running, Stop};
use super::surroundings::Surroundings;
use super::sweep::Stubborn;
use super::wake::Wake;
use crate::model::JobId;
use crate::wire::pipeline::{Command, JobOrder, Order, Report, parse_order};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Jobs that are read ahead. The daemon's credit stays below; above it, orders wait in their socket.
const WAITING_JOBS_MAX: usize = 4096;

/// How long a command has to end when the worker leaves, within its own time to stop.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A job that waits for the ones before it.
struct Waiting {
    id: JobId,
    attempt: u32,
    command: Result<Command, String>,
    around: Result<Arc<Surroundings>, String>,
}

/// The worker at work.
pub struct Service {
    link: Link,
    wake: Wake,
    own: Surroundings,
    /// Those of the job that was received last, hence of the next one that does not bring its own.
    around: Result<Arc<Surroundings>, String>,
    waiting: VecDeque<Waiting>,
    running: Option<(JobId, Running)>,
    stubborn: Stubborn,
    leaving: bool,
    parent: nix::unistd::Pid,
    buffer: Vec<u8>,
}

impl Service {
    pub fn new(link: Link, wake: Wake) -> Service {
        let own = Surroundings::own();
        Service {
            link,
            wake,
            around: Ok(Arc::new(own.clone())),
            own,
            waiting: VecDeque::new(),
            running: None,
            stubborn: Stubborn::new(),
            leaving: false,
            parent: nix::unistd::getppid(),
            buffer: vec![0; READ_BUFFER_BYTES],
        }
    }

    /// Works until the worker is told to leave, and leaves nothing running behind.
    pub fn serve(&mut self) -> zmq::Result<()> {
        self.link.send(&Report::Ready)?;
        loop {
            let now = Instant::now();
            if self.wake.leave_asked() {
                self.leave(now);
            }
            if !self.leaving {
                self.take_orders(now)?;
            }
            self.work(now)?;
            if self.leaving && self.running.is_none() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    fn leave(&mut self, now: Instant) {
        let orphaned = nix::unistd::getppid() != self.parent;
        if orphaned {
            // A linger that cannot be set only costs time.
            let _ = self.link.give_up();
        }
        self.leaving = true;
        self.waiting.clear();
        if let Some((_, running)) = &mut self.running {
            let patience = if orphaned { Duration::ZERO } else { LEAVE_PATIENCE };
            running.stop(Stop::Leaving, now, patience);
        }
    }

    fn take_orders(&mut self, now: Instant) -> zmq::Result<()> {
        while self.waiting.len() < WAITING_JOBS_MAX {
            let Some(frame) = self.link.receive()? else { break };
            match parse_order(&frame) {
                Ok(Order::Job(order)) => self.take_job(*order),
                Ok(Order::Cancel(id)) => self.cancel(id, now)?,
                Err(error) => eprintln!("a message that is no order: {error}"),
            }
        }
        Ok(())
    }

    fn take_job(&mut self, order: JobOrder) {
        if let Some(context) = order.context {
            self.around = Surroundings::of(context.as_ref(), &self.own).map(Arc::new);
        }
        let (id, attempt, command) = (order.id, order.attempt, order.command);
        self.waiting.push_back(Waiting { id, attempt, command, around: self.around.clone() });
    }

    /// Every job is answered once, also one that never began: the daemon counts on that.
    fn cancel(&mut self, id: JobId, now: Instant) -> zmq::Result<()> {
        if let Some(place) = self.waiting.iter().position(|waiting| waiting.id == id) {
            self.waiting.remove(place);
            return self.link.send(&cancelled_report(id));
        }
        if let Some((running_id, running)) = &mut self.running {
            if *running_id == id {
                running.stop(Stop::Cancelled, now, Duration::MAX);
            }
        }
        Ok(())
    }

    /// Lets the running command have its turn and starts the next one when it has ended.
    fn work(&mut self, now: Instant) -> zmq::Result<()> {
        if let Some((id, running)) = &mut self.running {
            let Some(ended) = running.turn(now, &mut self.buffer, &mut self.stubborn) else { return Ok(()) };
            for survivor in &ended.survivors {
                eprintln!("job {id} left process {survivor} behind, which cannot be killed");
            }
            if let Some(report) = report(*id, ended) {
                self.link.send(&report)?;
            }
            self.running = None;
        }
        while let Some(next) = self.waiting.pop_front() {
            let id = next.id;
            match start(next) {
                Ok(running) => {
                    self.running = Some((id, running));
                    return Ok(());
                }
                Err(failure) => self.link.send(&start_report(id, failure))?,
            }
        }
        Ok(())
    }

    /// Waits for an order, a signal, the command or the next deadline.
    fn wait(&self) -> zmq::Result<()> {
        let mut items = Vec::with_capacity(5);
        items.push(zmq::PollItem::from_fd(self.wake.descriptor(), zmq::POLLIN));
        if !self.leaving && self.waiting.len() < WAITING_JOBS_MAX {
            items.push(self.link.poll_item());
        }
        let mut deadline = None;
        if let Some((_, running)) = &self.running {
            deadline = running.deadline();
            items.extend(running.interests().map(|interest| match interest {
                Interest::Read(fd) => zmq::PollItem::from_fd(fd, zmq::POLLIN),
                Interest::Write(fd) => zmq::PollItem::from_fd(fd, zmq::POLLOUT),
            }));
        }
        match zmq::poll(&mut items, timeout_ms(deadline, Instant::now())) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn start(job: Waiting) -> Result<Running, Failure> {
    let for_good = |error| Failure { error, retry: false };
    let command = job.command.map_err(for_good)?;
    let around = job.around.map_err(for_good)?;
    Running::start(job.id, job.attempt, command, &around, Instant::now())
}

/// Milliseconds until `deadline`, rounded up, for rounded down the loop would spin; -1 is for ever.
fn timeout_ms(deadline: Option<Instant>, now: Instant) -> i64 {
    deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_duration_since(now);
        i64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_rounded_up() {
        let now = Instant::now();
        assert_eq!(timeout_ms(None, now), -1);
        assert_eq!(timeout_ms(Some(now), now + Duration::from_secs(1)), 0);
        assert_eq!(timeout_ms(Some(now + Duration::from_nanos(1)), now), 1);
        assert_eq!(timeout_ms(Some(now + Duration::from_nanos(1_000_001)), now), 2);
    }
}
