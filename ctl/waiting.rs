//! Waits for jobs: a long-poll, asked again until they are done or the time is up.

use crate::client::Client;
use crate::failure::{Ending, Failure};
use crate::reply::Reply;
use crate::screen::Screen;
use crate::trouble::Trouble;
use crate::words;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pushpull::wire::control::{Ask, CountsJson, WaitReply};
use pushpull::wire::duration;
use std::fmt;
use std::time::{Duration, Instant};

/// How long the daemon may hold a poll. Nothing is lost by asking again.
const POLL: Duration = Duration::from_secs(5);

/// The same when somebody watches a bar.
const POLL_WATCHED: Duration = Duration::from_millis(250);

/// How a wait ended.
pub struct Waited {
    pub reply: Reply,
    pub wait: WaitReply,
    pub took: Duration,
    /// Jobs that had failed or been cancelled before anybody waited for them, and do not count.
    pub forgiven: u64,
}

impl Waited {
    pub fn ending(&self) -> Ending {
        let bad = self.wait.counts.failed + self.wait.counts.cancelled;
        match (self.wait.done, bad > self.forgiven) {
            (false, _) => Ending::TimedOut,
            (true, true) => Ending::Unsuccessful,
            (true, false) => Ending::Done,
        }
    }

    /// `300 jobs: 298 succeeded, 2 failed in 1m30s`.
    pub fn summary(&self) -> String {
        let counts = &self.wait.counts;
        if counts.total() == 0 {
            return words::jobs(0);
        }
        let took = duration::render(self.took);
        format!("{}: {} in {took}", words::jobs(counts.total()), words::counts(counts))
    }
}

/// Waits for what `ask` selects; `again` is a command that waits for the same.
pub fn wait(
    client: &mut Client,
    screen: &Screen,
    ask: &Ask,
    timeout: Option<Duration>,
    again: &str,
) -> Result<Waited, Failure> {
    let start = Instant::now();
    let selects_nothing = ask.select.is_none() && ask.state.is_none() && ask.pool.is_none();
    let bar = screen.bars.then(bar);
    let mut forgiven = None;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
        // Where it matters how far things are, the first answer comes at once; else it would be a round trip more.
        let poll = match (forgiven, &bar) {
            (None, None) if selects_nothing => Duration::ZERO,
            (None, Some(_)) => Duration::ZERO,
            (Some(_), Some(_)) => POLL_WATCHED,
            (None | Some(_), None) => POLL,
        };
        let poll_ms = poll.min(left.unwrap_or(poll)).as_nanos().div_ceil(1_000_000);
        let ask = Ask { timeout_ms: Some(u64::try_from(poll_ms).unwrap_or(u64::MAX)), ..ask.clone() };
        let reply =
            client.ask_again(&ask).map_err(|failure| left_behind(failure, again, forgiven.is_some()))?;
        let wait: WaitReply = reply.as_type()?;
        let bad = wait.counts.failed + wait.counts.cancelled;
        // Who waits for all that is unfinished does not mean what failed yesterday.
        let forgiven = *forgiven.get_or_insert(if selects_nothing { bad } else { 0 });
        if let Some(bar) = &bar {
            show(bar, &wait.counts);
        }
        if wait.done || left.is_some_and(|left| left.is_zero()) {
            if let Some(bar) = &bar {
                bar.finish_and_clear();
            }
            return Ok(Waited { reply, wait, took: start.elapsed(), forgiven });
        }
    }
}

/// Who leaves, or is left, should know how to come back.
fn left_behind(failure: Failure, again: &str, has_begun: bool) -> Failure {
    match failure {
        Failure::Trouble(trouble) if has_begun || matches!(trouble, Trouble::Interrupted(_)) => {
            Failure::Left { again: again.to_owned(), trouble }
        }
        other => other,
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{wide_bar} {human_pos}/{human_len} {msg} {rate}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is ours");
    bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
        // A bar that cannot be drawn is not worth an error.
        let _ = write!(text, "{:.0}/s", state.per_sec());
    }));
    bar
}

fn show(bar: &ProgressBar, counts: &CountsJson) {
    let bad = counts.failed + counts.cancelled;
    bar.set_length(counts.total());
    bar.set_message(format!(
        "done, {} failed, {} running,",
        words::grouped(bad),
        words::grouped(counts.running)
    ));
    if bar.position() == 0 {
        // What was done before we came is no measure of speed.
        bar.set_position(counts.finished());
        bar.reset_eta();
    } else {
        bar.set_position(counts.finished());
    }
}
