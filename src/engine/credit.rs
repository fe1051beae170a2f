//! How many unanswered jobs a worker may hold.
//!
//! A deep window saves wake-ups but makes jobs wait behind a worker that turns out slow. So a window aims to hold
//! a few milliseconds of work: the service time is smoothed over some answers, a window grows by at most doubling,
//! and one slow job shrinks it at once.

use crate::config::{CREDIT_MAX, Spending, WINDOW_TIME};
use std::time::Duration;

/// One worker's credit.
#[derive(Clone, Debug)]
pub(super) struct Credit {
    rule: Spending,
    cap: u32,
    window: u32,
    /// Smoothed service time in nanoseconds; 0 before the first answer.
    service_ns: u64,
}

impl Credit {
    /// The credit of a new worker: 1 until it has shown how fast it is, unless the setting fixes it. A built-in
    /// worker reads one job ahead at most: commands are never so short that more would help.
    pub(super) fn new(rule: Spending, builtin: bool) -> Credit {
        let cap = if builtin { 2 } else { CREDIT_MAX };
        let window = match rule {
            Spending::Auto => 1,
            Spending::Fixed(jobs) => jobs,
        };
        Credit { rule, cap, window, service_ns: 0 }
    }

    /// Unanswered jobs that the worker may hold.
    pub(super) fn jobs(&self) -> u32 {
        self.window
    }

    /// An answer came `took` after its job became the oldest.
    pub(super) fn on_answer(&mut self, took: Duration) {
        if self.rule != Spending::Auto {
            return;
        }
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let target = u64::try_from(WINDOW_TIME.as_nanos()).unwrap_or(u64::MAX);
        if self.service_ns == 0 || took_ns > target {
            self.service_ns = took_ns.max(1);
        } else {
            // Answers come in bunches, the first with all of the time: an eighth evens them out.
            self.service_ns = (self.service_ns - self.service_ns / 8 + took_ns / 8).max(1);
        }
        let wanted = u32::try_from(target / self.service_ns).unwrap_or(u32::MAX).clamp(1, self.cap);
        self.window = wanted.min(self.window.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(answers: u32, took: Duration) -> Credit {
        let mut credit = Credit::new(Spending::Auto, false);
        for _ in 0..answers {
            credit.on_answer(took);
        }
        credit
    }

    #[test]
    fn tiny_jobs_get_deep_windows_step_by_step() {
        assert_eq!(after(0, Duration::ZERO).jobs(), 1);
        assert_eq!(after(3, Duration::from_micros(1)).jobs(), 8);
        assert_eq!(after(100, Duration::from_micros(1)).jobs(), CREDIT_MAX);
        assert_eq!(after(100, Duration::from_micros(100)).jobs(), 50);
    }

    #[test]
    fn long_jobs_go_one_at_a_time() {
        assert_eq!(after(100, Duration::from_millis(6)).jobs(), 1);
    }

    #[test]
    fn one_slow_job_shrinks_the_window_at_once() {
        let mut credit = after(100, Duration::from_micros(1));
        credit.on_answer(Duration::from_secs(1));
        assert_eq!(credit.jobs(), 1);
    }

    #[test]
    fn a_fixed_credit_stays() {
        let mut credit = Credit::new(Spending::Fixed(7), false);
        credit.on_answer(Duration::from_secs(9));
        assert_eq!(credit.jobs(), 7);
    }
}
