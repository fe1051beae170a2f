//! The daemon's sockets, each with the options that keep it from harm.
//!
//! Every bound socket has a linger, a limit for frames, a limit for handshakes and a ZAP domain: without the last,
//! random bytes are taken for a peer of an old protocol version, and an HTTP request for a worker.

use super::context::Context;
use crate::config::{CREDIT_MAX, FRAME_RECEIVED_BYTES_MAX, Spending};
use crate::model::Generation;
use nix::sys::stat::{Mode, umask};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The control socket's file in the runtime directory.
pub const CONTROL: &str = "control.ipc";
/// The folder of the workers' sockets.
pub const WORKERS: &str = "w";
/// A peer that has not said hello after so many milliseconds is cut off.
const HANDSHAKE_MS: i32 = 2_000;
/// How long the last replies may take at the end, in milliseconds.
const REPLY_LINGER_MS: i32 = 500;

/// The two files of one worker generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerPaths {
    pub jobs: PathBuf,
    pub results: PathBuf,
}

/// The files of a worker's sockets. `nonce` differs from one start of the daemon to the next, so a survivor of an
/// earlier daemon reaches nobody.
#[must_use]
pub fn worker_paths(runtime: &Path, nonce: &str, generation: Generation) -> WorkerPaths {
    let folder = runtime.join(WORKERS);
    WorkerPaths {
        jobs: folder.join(format!("{nonce}.{}.jobs.ipc", generation.0)),
        results: folder.join(format!("{nonce}.{}.results.ipc", generation.0)),
    }
}

/// What ZeroMQ calls the socket at `path`.
#[must_use]
pub fn endpoint(path: &Path) -> String {
    format!("ipc://{}", path.display())
}

/// Binds the control socket.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_control(context: &Context, path: &Path, request_bytes_max: usize) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::ROUTER)?;
    harden(&socket, REPLY_LINGER_MS)?;
    bind_control_again(&socket, path, request_bytes_max)?;
    Ok(socket)
}

/// Binds the control socket to a further path. The limit holds for those who connect from now on.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_control_again(socket: &zmq::Socket, path: &Path, request_bytes_max: usize) -> zmq::Result<()> {
    // A little above the limit, so that a request slightly too large gets a reply that says so.
    socket.set_maxmsgsize(i64::try_from(request_bytes_max + (1 << 20)).unwrap_or(i64::MAX))?;
    bind(socket, path)
}

/// Lets a group use the socket at `path`, which its owner alone could until now.
///
/// # Errors
/// When we are neither root nor a member of it.
pub fn open_to_group(path: &Path, group: u32) -> std::io::Result<()> {
    // The group before the mode: the one that it had so far gets nothing.
    std::os::unix::fs::lchown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}

/// Binds the PUSH socket by which one worker gets its jobs.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_jobs(context: &Context, path: &Path, credit: Spending) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::PUSH)?;
    harden(&socket, 0)?;
    socket.set_sndhwm(high_water(credit))?;
    bind(&socket, path)?;
    Ok(socket)
}

/// Binds the PULL socket by which one worker answers.
///
/// # Errors
/// When it cannot be bound.
pub fn bind_results(context: &Context, path: &Path, credit: Spending) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(zmq::PULL)?;
    harden(&socket, 0)?;
    // Well above the limit, so that a frame that is too large is seen, and its worker ended.
    socket.set_maxmsgsize(i64::try_from(FRAME_RECEIVED_BYTES_MAX).unwrap_or(i64::MAX))?;
    socket.set_rcvhwm(high_water(credit))?;
    bind(&socket, path)?;
    Ok(socket)
}

/// Makes a worker's sockets those of the user that it runs as: they are open to their owner alone.
///
/// # Errors
/// When we are not root and the user is another.
pub fn give_to(paths: &WorkerPaths, user: u32) -> std::io::Result<()> {
    [&paths.jobs, &paths.results]
        .into_iter()
        .try_for_each(|path| std::os::unix::fs::lchown(path, Some(user), None))
}

/// Messages that a socket may hold: four times the credit, so that the credit is what limits.
fn high_water(credit: Spending) -> i32 {
    let jobs = match credit {
        Spending::Auto => CREDIT_MAX,
        Spending::Fixed(jobs) => jobs.max(16),
    };
    i32::try_from(jobs.saturating_mul(4)).unwrap_or(i32::MAX)
}

fn harden(socket: &zmq::Socket, linger_ms: i32) -> zmq::Result<()> {
    socket.set_linger(linger_ms)?;
    socket.set_handshake_ivl(HANDSHAKE_MS)?;
    socket.set_zap_domain("pushpull")
}

/// Binds with a mask that leaves the file to its owner. The path was checked: libzmq would delete whatever is there.
fn bind(socket: &zmq::Socket, path: &Path) -> zmq::Result<()> {
    let before = umask(Mode::from_bits_truncate(0o077));
    let bound = socket.bind(&endpoint(path));
    umask(before);
    bound
}
