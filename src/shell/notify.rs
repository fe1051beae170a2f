//! What the service manager is told: ready, stopping, how things stand, and that the loop still turns.
//!
//! The protocol is that of `sd_notify(3)`: datagrams to the socket that `NOTIFY_SOCKET` names. Nobody who does not
//! listen is waited for. Workers do not get these variables (`crew`): what they say is not ours.

use crate::model::Mono;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variables by which a service manager speaks to one process, and not to its children.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Between two lines about how things stand.
const STATUS_AGAIN: Duration = Duration::from_secs(1);

/// Who is told, if anybody.
pub struct Notify(Option<Manager>);

struct Manager {
    socket: UnixDatagram,
    /// How often it wants to hear that we live.
    beat: Option<Duration>,
    next_beat: Mono,
    status: String,
    /// When the next line about how things stand may be sent, if something has happened since the last.
    status_due: Mono,
    is_stale: bool,
    has_said_stopping: bool,
}

impl Notify {
    /// Tells whoever this process's environment names.
    pub fn of_this_process() -> Notify {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(name) = variable("NOTIFY_SOCKET") else {
            return Notify::nobody();
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = variable("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
        let watchdog_us = number("WATCHDOG_USEC").filter(|_| is_ours);
        Notify::to(&name, watchdog_us).unwrap_or_else(|error| {
            log::warn!("the service manager cannot be told anything at {}: {error}", name.to_string_lossy());
            Notify::nobody()
        })
    }

    pub fn nobody() -> Notify {
        Notify(None)
    }

    /// Tells the socket `name`, a path, or with an `@` in front a name that is in no directory. It hears that we live
    /// twice in `watchdog_us` microseconds.
    fn to(name: &OsStr, watchdog_us: Option<u64>) -> std::io::Result<Notify> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(std::io::Error::other("it is neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let beat = watchdog_us.filter(|us| *us > 0).map(|us| Duration::from_micros((us / 2).max(1_000)));
        Ok(Notify(Some(Manager {
            socket,
            beat,
            next_beat: Mono(0),
            status: String::new(),
            status_due: Mono(0),
            is_stale: false,
            has_said_stopping: false,
        })))
    }

    /// Locks, store and sockets are up.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The configuration is being read again; [`Notify::ready`] says when that is over.
    pub fn reloading(&self) {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it fills in what it is given, and every Linux has this clock.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// The loop has turned: tells what is due.
    pub fn turn(&mut self, now: Mono, is_stopping: bool, status: impl FnOnce() -> String) {
        let Some(manager) = &mut self.0 else {
            return;
        };
        manager.is_stale = true;
        let mut words = Vec::new();
        if is_stopping && !manager.has_said_stopping {
            manager.has_said_stopping = true;
            words.push("STOPPING=1".to_owned());
        }
        if let Some(beat) = manager.beat.filter(|_| manager.next_beat <= now) {
            manager.next_beat = now + beat;
            words.push("WATCHDOG=1".to_owned());
        }
        if manager.status_due <= now {
            manager.status_due = now + STATUS_AGAIN;
            manager.is_stale = false;
            let status = status();
            if status != manager.status {
                words.push(format!("STATUS={status}"));
                manager.status = status;
            }
        }
        if !words.is_empty() {
            self.say(&words.join("\n"));
        }
    }

    /// When the loop is to turn although nothing happens.
    pub fn next_deadline(&self) -> Option<Mono> {
        let manager = self.0.as_ref()?;
        let beat = manager.beat.map(|_| manager.next_beat);
        beat.into_iter().chain(manager.is_stale.then_some(manager.status_due)).min()
    }

    fn say(&self, words: &str) {
        if let Some(manager) = &self.0 {
            if let Err(error) = manager.socket.send(words.as_bytes()) {
                log::debug!("the service manager does not hear {words:?}: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).expect("a plain option");
        let mut words = Vec::new();
        let mut bytes = [0; 1_000];
        while let Ok(count) = socket.recv(&mut bytes) {
            words.push(String::from_utf8(bytes[..count].to_vec()).expect("text"));
        }
        words
    }

    #[test]
    fn each_thing_is_said_when_it_is_due_and_the_status_only_when_it_is_another() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a free path");
        let mut notify = Notify::to(path.as_os_str(), Some(20_000_000)).expect("somebody listens");
        notify.ready();
        notify.turn(Mono(S), false, || "idle".to_owned());
        assert_eq!(heard(&socket), ["READY=1", "WATCHDOG=1\nSTATUS=idle"]);
        assert_eq!(
            notify.next_deadline(),
            Some(Mono(11 * S)),
            "nothing but the watchdog wakes an idle daemon"
        );
        notify.turn(Mono(S + 1), false, || panic!("too soon"));
        assert_eq!(notify.next_deadline(), Some(Mono(2 * S)), "something happened: how do things stand?");
        notify.turn(Mono(2 * S), false, || "idle".to_owned());
        assert_eq!(heard(&socket), [""; 0]);
        notify.turn(Mono(11 * S), true, || "stopping".to_owned());
        notify.turn(Mono(12 * S), true, || "stopping".to_owned());
        assert_eq!(heard(&socket), ["STOPPING=1\nWATCHDOG=1\nSTATUS=stopping"]);
        notify.reloading();
        let words = heard(&socket).concat();
        let us = words.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|us| us.parse::<u64>().ok());
        assert!(us.is_some_and(|us| us > 0), "{words}");
    }

    #[test]
    fn a_name_that_is_none_is_an_error_and_nobody_is_no_deadline() {
        assert!(Notify::to(OsStr::new("relative"), None).is_err());
        assert!(Notify::to(OsStr::new("/nowhere/notify"), None).is_err());
        let mut nobody = Notify::nobody();
        nobody.turn(Mono(S), true, || panic!("nobody asks"));
        assert_eq!(nobody.next_deadline(), None);
    }
}
