//! The tables of `jobs.db`, and the marks of the file.
//!
//! `job` and `outcome` are appended to; a plain first-in-first-out job touches nothing else of its own. What
//! makes jobs visible to a fetch are the ranges in `run`. A job that is not plain (delayed, blocked, charged or
//! retried) has a row in `side` until it ends, and fetches pass it over in `run`.
//!
//! The view `jobs` is for people with the `sqlite3` tool.

/// What says that a file is ours: `PuPu`.
pub(super) const APPLICATION_ID: i32 = 0x5075_5075;
/// The layout below. A file with a higher number was written by a newer program.
pub(super) const VERSION: i32 = 1;

pub(super) const TABLES: &str = "
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_job INTEGER NOT NULL, next_batch INTEGER NOT NULL, next_generation INTEGER NOT NULL,
    finishes INTEGER NOT NULL,  -- the last seq in finish
    clock INTEGER NOT NULL);    -- the latest wall time seen, by which a clock set back is noticed
INSERT INTO meta VALUES (1, 1, 1, 1, 0, 0);
CREATE TABLE pool (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, paused INTEGER NOT NULL DEFAULT 0);
CREATE TABLE context (
    id INTEGER PRIMARY KEY AUTOINCREMENT, digest INTEGER NOT NULL, environment TEXT, directory TEXT,
    jobs INTEGER NOT NULL DEFAULT 0 CHECK (jobs >= 0));
CREATE INDEX context_digest ON context(digest);
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, name TEXT, key TEXT NOT NULL, submitted INTEGER NOT NULL,
    visible INTEGER NOT NULL DEFAULT 0,
    kept INTEGER NOT NULL DEFAULT 0 CHECK (kept >= 0),
    next_index INTEGER NOT NULL DEFAULT 0,
    born INTEGER NOT NULL);     -- the last seq in finish before this batch was made
CREATE INDEX batch_name ON batch(name, id) WHERE name IS NOT NULL;
CREATE INDEX batch_empty ON batch(submitted, id) WHERE kept = 0 AND visible = 1;
CREATE TABLE submit (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, ticket INTEGER NOT NULL, batch INTEGER NOT NULL,
    state INTEGER NOT NULL,     -- 0 open, 1 complete, 2 refused, 3 discarded, its jobs being deleted
    base INTEGER NOT NULL,      -- added to every job's place
    jobs INTEGER NOT NULL DEFAULT 0, known INTEGER NOT NULL DEFAULT 0, digest BLOB);
CREATE INDEX submit_batch ON submit(batch);
CREATE INDEX submit_open ON submit(state) WHERE state <> 1;
CREATE TABLE span (             -- the ids of a submit in file order; known: jobs of other submits
    submit INTEGER NOT NULL, seq INTEGER NOT NULL, batch INTEGER NOT NULL,
    first_id INTEGER NOT NULL, last_id INTEGER NOT NULL, known INTEGER NOT NULL,
    PRIMARY KEY (submit, seq)) WITHOUT ROWID;
CREATE INDEX span_batch ON span(batch, last_id, first_id) WHERE known = 0;
CREATE TABLE stage (            -- runs of a submit that is not complete
    submit INTEGER NOT NULL, pool INTEGER NOT NULL, priority INTEGER NOT NULL,
    first_id INTEGER NOT NULL, last_id INTEGER NOT NULL, jobs INTEGER NOT NULL,
    PRIMARY KEY (submit, pool, priority, last_id)) WITHOUT ROWID;
CREATE TABLE job (
    id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, idx INTEGER NOT NULL, pool INTEGER NOT NULL,
    priority INTEGER NOT NULL, name TEXT, key TEXT, kind INTEGER NOT NULL, work TEXT NOT NULL,
    policy TEXT, context INTEGER, after TEXT, submitted INTEGER NOT NULL);
CREATE INDEX job_key ON job(key, id) WHERE key IS NOT NULL;
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY, round INTEGER NOT NULL, attempts INTEGER NOT NULL, crashes INTEGER NOT NULL,
    alone INTEGER NOT NULL, state INTEGER NOT NULL, cause TEXT, worker TEXT, started INTEGER,
    finished INTEGER NOT NULL, error TEXT, result TEXT, evidence TEXT, finish INTEGER NOT NULL);
CREATE TABLE attempt (
    seq INTEGER PRIMARY KEY, id INTEGER NOT NULL, round INTEGER NOT NULL, attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL, alone INTEGER NOT NULL, worker TEXT NOT NULL, started INTEGER NOT NULL,
    finished INTEGER NOT NULL, cause TEXT NOT NULL, error TEXT, result TEXT, evidence TEXT);
CREATE INDEX attempt_id ON attempt(id);
CREATE TABLE run (              -- visible jobs of one pool and priority; ids of others may lie between
    pool INTEGER NOT NULL, priority INTEGER NOT NULL, last_id INTEGER NOT NULL, first_id INTEGER NOT NULL,
    PRIMARY KEY (pool, priority, last_id)) WITHOUT ROWID;
CREATE TABLE side (             -- unfinished jobs that are not plain
    id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, pool INTEGER NOT NULL, priority INTEGER NOT NULL,
    state INTEGER NOT NULL,     -- as in state, or 7: of a submit that is not complete
    due INTEGER, pause INTEGER NOT NULL DEFAULT 0,
    round INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0);
CREATE INDEX side_queued ON side(pool, -priority, id) WHERE state = 0;
CREATE INDEX side_delayed ON side(pool, due, id) WHERE state = 1;
CREATE TABLE edge (before INTEGER NOT NULL, after INTEGER NOT NULL, PRIMARY KEY (before, after)) WITHOUT ROWID;
CREATE INDEX edge_after ON edge(after, before);
CREATE TABLE passing (          -- ends of jobs on their way to those that wait for them
    before INTEGER PRIMARY KEY, what INTEGER NOT NULL, reopens INTEGER NOT NULL, upto INTEGER NOT NULL);
CREATE TABLE finish (           -- one row per commit: ids as inclusive ranges in the order of finishing
    seq INTEGER PRIMARY KEY, ids TEXT NOT NULL);
CREATE TABLE counter (          -- batch 0: the whole pool
    batch INTEGER NOT NULL, pool INTEGER NOT NULL, state INTEGER NOT NULL,
    jobs INTEGER NOT NULL CHECK (jobs >= 0),
    PRIMARY KEY (batch, pool, state)) WITHOUT ROWID;
CREATE TABLE state (id INTEGER PRIMARY KEY, word TEXT NOT NULL);
INSERT INTO state VALUES (0, 'queued'), (1, 'delayed'), (2, 'blocked'), (3, 'running'), (4, 'succeeded'),
    (5, 'failed'), (6, 'cancelled'), (7, 'staged');
CREATE VIEW jobs AS
    SELECT job.id, job.batch, job.idx AS \"index\", batch.name AS batch_name, job.name, job.key,
        pool.name AS pool, job.priority, job.work,
        (SELECT word FROM state WHERE id = coalesce(outcome.state, side.state, 0)) AS state,
        coalesce(outcome.attempts, side.attempts, 0) AS attempts,
        coalesce(outcome.crashes, side.crashes, 0) AS crashes,
        outcome.cause, outcome.error, outcome.result, outcome.worker,
        strftime('%Y-%m-%dT%H:%M:%fZ', job.submitted / 1000.0, 'unixepoch') AS submitted,
        strftime('%Y-%m-%dT%H:%M:%fZ', side.due / 1000.0, 'unixepoch') AS due,
        strftime('%Y-%m-%dT%H:%M:%fZ', outcome.started / 1000.0, 'unixepoch') AS started,
        strftime('%Y-%m-%dT%H:%M:%fZ', outcome.finished / 1000.0, 'unixepoch') AS finished
    FROM job JOIN pool ON pool.id = job.pool JOIN batch ON batch.id = job.batch
        LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN side ON side.id = job.id;
";
