//! What a service manager hears, and the journal.

use crate::harness::Daemon;
use crate::process::PATIENCE;
use crate::site::{PLAIN, Site};
use serde_json::json;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Instant;

/// A service manager that listens.
struct Manager(UnixDatagram);

impl Manager {
    /// At a path in the site.
    fn at_a_path(site: Site) -> (Manager, Site) {
        let path = site.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a free path");
        let name = path.to_str().expect("plain letters").to_owned();
        (Manager::new(socket), site.variable("NOTIFY_SOCKET", &name))
    }

    /// At a name that is in no directory.
    fn at_a_name(site: Site) -> (Manager, Site) {
        let name = format!("{}/notify", site.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&address).expect("a free name");
        (Manager::new(socket), site.variable("NOTIFY_SOCKET", &format!("@{name}")))
    }

    fn new(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(PATIENCE)).expect("a plain option");
        Manager(socket)
    }

    /// The next message, in lines.
    fn hear(&self) -> Vec<String> {
        let mut bytes = [0; 4_096];
        let count = self.0.recv(&mut bytes).expect("the daemon says nothing");
        let text = String::from_utf8(bytes[..count].to_vec()).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    /// All lines up to one that is wanted, which is the last.
    fn hear_until(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| wanted(line)) {
            assert!(Instant::now() < deadline, "only {lines:?}");
            lines.extend(self.hear());
        }
        lines
    }
}

#[test]
fn a_service_manager_hears_of_the_whole_life_at_both_kinds_of_address() {
    for of_kind in [Manager::at_a_path, Manager::at_a_name] {
        let (manager, site) = of_kind(Site::new(PLAIN));
        let mut daemon = Daemon::start_at(site);
        assert_eq!(manager.hear(), ["READY=1"]);
        manager.hear_until(|line| line == "STATUS=2 workers, 0 running, 0 queued");
        daemon.ask(&json!({"op": "pause"}));
        daemon.submit(&json!(["echo 1", "echo 2", "echo 3"]));
        manager.hear_until(|line| line == "STATUS=2 workers, 0 running, 3 queued");
        daemon.signal(libc::SIGHUP);
        let reload = manager.hear_until(|line| line == "READY=1");
        let begin = reload.iter().position(|line| line == "RELOADING=1").expect("it begins");
        let us = reload[begin + 1].strip_prefix("MONOTONIC_USEC=").and_then(|us| us.parse::<u64>().ok());
        assert!(us.is_some(), "{reload:?}");
        daemon.stop();
        let last = manager.hear_until(|line| line == "STOPPING=1");
        assert!(!last.iter().any(|line| line.starts_with("WATCHDOG")), "nobody asked for it: {last:?}");
    }
}

#[test]
fn the_watchdog_is_fed_by_the_process_that_it_means() {
    let (manager, site) = Manager::at_a_path(Site::new(PLAIN));
    let _daemon = Daemon::start_at(site.variable("WATCHDOG_USEC", "100000"));
    // An idle daemon turns for this alone.
    for _ in 0..3 {
        manager.hear_until(|line| line == "WATCHDOG=1");
    }

    let (manager, site) = Manager::at_a_path(Site::new(PLAIN));
    let site = site.variable("WATCHDOG_USEC", "2000").variable("WATCHDOG_PID", "1");
    let mut daemon = Daemon::start_at(site);
    manager.hear_until(|line| line.starts_with("STATUS=2 workers"));
    daemon.stop();
    let lines = manager.hear_until(|line| line == "STOPPING=1");
    assert!(!lines.iter().any(|line| line == "WATCHDOG=1"), "{lines:?}");
}

#[test]
fn workers_do_not_get_the_variables_of_their_parent() {
    let (_manager, site) = Manager::at_a_path(Site::new(PLAIN));
    let daemon = Daemon::start_at(site.variable("WATCHDOG_USEC", "60000000"));
    let record = daemon.run(json!("env"));
    let environment = record["result"]["stdout"].as_str().expect("text");
    assert!(environment.contains("PUSHPULL_WORKER="), "{environment}");
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
}

#[test]
fn lines_for_the_journal_have_priorities_and_no_time() {
    let site = Site::new(PLAIN);
    let log = site.path().join("log");
    fs::write(&log, "").expect("it is ours");
    let found = fs::metadata(&log).expect("it is there");
    let mut daemon =
        Daemon::start_at(site.variable("JOURNAL_STREAM", &format!("{}:{}", found.dev(), found.ino())));
    daemon.site.configure("wokers = 3\n");
    daemon.signal(libc::SIGHUP);
    // The signal is taken first.
    daemon.ask(&json!({"op": "ping"}));
    daemon.stop();
    let log = daemon.site.log();
    assert!(log.contains("<6>ready: pool default with 2 workers\n"), "{log}");
    assert!(log.contains("<3>reload: "), "{log}");
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    let own = fs::read_to_string(daemon.site.state().join("pushpulld.log")).expect("it is there");
    assert!(own.contains("Z error: reload: "), "its own log is as always: {own}");
}
