//! Limits that are not settings. Units stand last in every name.

use std::time::Duration;

/// Jobs in one chunk of a submit.
pub const CHUNK_JOBS_MAX: usize = 2_000;
/// Rows in one reply.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Finished jobs that a list shows when it is told nothing.
pub const RECENT_JOBS: usize = 20;
/// Jobs that one step of a cancel, retry or remove looks at.
pub const SWEEP_JOBS_MAX: usize = 1_000;
/// A frame above this, in bytes, ends its worker.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Frames above this are not even received: their connection is cut, which nobody is told.
pub const FRAME_RECEIVED_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Lines in the log about what one worker says wrong; the rest is counted.
pub const COMPLAINTS_MAX: u64 = 10;
/// Unanswered jobs of one worker.
pub const CREDIT_MAX: u32 = 1_024;
/// Data in one worker's window, in bytes; one job may be larger.
pub const CREDIT_BYTES_MAX: usize = 1 << 20;
/// Workers of one pool.
pub const WORKERS_MAX: u32 = 4_096;
/// Deliveries to workers that leave without an answer, after which a job is given up as `lost`.
pub const DELIVERIES_MAX: u32 = 10;
/// Delayed jobs that one commit queues.
pub const PROMOTE_JOBS_MAX: usize = 1_000;
/// Ends of jobs that one commit passes on to their successors.
pub const RELEASE_JOBS_MAX: usize = 1_000;
/// Finished jobs that one commit forgets.
pub const EXPIRE_JOBS_MAX: usize = 2_000;
/// Generations reserved by one commit.
pub const GENERATIONS_PER_COMMIT: u64 = 1_000;
/// Records handed to the store and not yet durable, above which nothing is dispatched.
pub const UNWRITTEN_RECORDS_MAX: usize = 16_384;
/// The same in bytes of jobs and results.
pub const UNWRITTEN_BYTES_MAX: usize = 64 << 20;
/// Submits in progress at once.
pub const SUBMITS_MAX: usize = 1_024;
/// Requests that wait for something at once.
pub const WAITERS_MAX: usize = 4_096;
/// Complete submits whose last chunk may be repeated alone.
pub const RECENT_SUBMITS_MAX: usize = 256;

/// A submit whose client is silent for so long is discarded.
pub const SUBMIT_SILENCE: Duration = Duration::from_secs(60);
/// How long a dead worker's results are still read.
pub const LATE_RESULTS: Duration = Duration::from_secs(1);
/// A foreign worker whose oldest job has been cancelled for so long is stopped.
pub const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// A start that failed, as that of a command that cannot be executed, is tried again no sooner than after so long,
/// whatever `restart_delay` says.
pub const START_AGAIN: Duration = Duration::from_millis(100);
/// Between two SIGKILLs.
pub const KILL_AGAIN: Duration = Duration::from_secs(5);
/// SIGKILLs after which a worker is called stuck.
pub const KILLS_MAX: u32 = 3;
/// A daemon that looks at a timer so much too late was itself stopped, or the machine was.
pub const PAUSED_MIN: Duration = Duration::from_secs(2);
/// From the ABRT of a hung worker to its SIGKILL.
pub const ABORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the memory of workers, where it is limited.
pub const MEASURE_AGAIN: Duration = Duration::from_secs(5);
/// Records that could not be written are tried again after so long.
pub const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// The longest time that a request may wait for something.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// The shortest time between two looks of one waiting request at the store, where a look is not cheap.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The longest pause before a retry.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3_600);
/// Between two looks for finished jobs that have been kept long enough: no less, and while jobs finish and while
/// none does no more.
pub const EXPIRE_AGAIN_MIN: Duration = Duration::from_secs(1);
pub const EXPIRE_AGAIN_MAX: Duration = Duration::from_secs(10);
pub const EXPIRE_IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Work that an adaptive window aims to hold.
pub const WINDOW_TIME: Duration = Duration::from_millis(5);
