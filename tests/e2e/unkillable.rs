//! Processes that no signal can end, because they hang in the kernel: here, in a write to a file system that is frozen.

use crate::disk::{Disk, mount_image, run, with_own_mounts};
use crate::fifo::Fifo;
use crate::harness::Daemon;
use crate::process::{Handle, PATIENCE};
use crate::site::Site;
use crate::worker::pool;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// A file system that holds up whoever writes to it, until it is thawed.
struct Ice {
    disk: Disk,
    is_frozen: bool,
}

/// A daemon beside such a file system.
struct Scene {
    /// Thawed and unmounted before the directories are removed, which go with the daemon.
    ice: Ice,
    daemon: Daemon,
}

impl Scene {
    fn new(settings: &str) -> Scene {
        let site = Site::new(&pool("default", "echo", settings));
        Scene { ice: Ice::new(&site), daemon: Daemon::start_at(site) }
    }
}

impl Ice {
    fn new(site: &Site) -> Ice {
        let image = site.path().join("image");
        File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("it is sparse");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let disk = mount_image(&image, site.path().join("ice"));
        fs::write(disk.place.join("file"), "").expect("it is ours");
        let mut ice = Ice { disk, is_frozen: false };
        run(Command::new("fsfreeze").arg("--freeze").arg(&ice.disk.place));
        ice.is_frozen = true;
        ice
    }

    fn file(&self) -> PathBuf {
        self.disk.place.join("file")
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.disk.place));
        }
    }
}

impl Drop for Ice {
    /// Else nobody could unmount it, or end who writes to it.
    fn drop(&mut self) {
        self.thaw();
    }
}

/// Waits until a process hangs in the kernel.
fn await_hanging(pid: i32) {
    let deadline = Instant::now() + PATIENCE;
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    while !stat().rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" D")) {
        assert!(Instant::now() < deadline, "{}", stat());
        std::thread::yield_now();
    }
}

/// The rows of workers, when they are as they are to be.
fn await_rows(daemon: &Daemon, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = daemon.workers();
        if is_so(&rows) {
            return rows;
        }
        assert!(Instant::now() < deadline, "{rows:?}\n{}", daemon.site.log());
    }
}

fn is_stuck(rows: &[Value]) -> bool {
    rows.iter().any(|row| row["state"] == "stuck")
}

#[test]
#[ignore = "needs root"]
fn what_a_dead_worker_left_hanging_in_the_kernel_holds_up_its_slot_and_not_its_job() {
    with_own_mounts(|| {
        let mut scene = Scene::new("workers = 2\nstop_timeout = \"1s\"");
        let Scene { ice, daemon } = &mut scene;
        let mut started = Fifo::new(daemon.site.path(), "started");
        let mut haunted = Fifo::new(daemon.site.path(), "haunted");
        let wish =
            json!({"do": "haunt", "path": ice.file(), "haunted": haunted.path(), "say": started.path()});
        let id = daemon.submit(&json!([{ "data": wish }]));
        let worker = Handle::open(started.pid()).expect("it lives");
        let ghost = haunted.pid();
        await_hanging(ghost);
        assert!(worker.signal(libc::SIGKILL));
        started.pid();
        let record = daemon.record(id);
        assert_eq!(
            (&record["state"], &record["result"]),
            (&json!("succeeded"), &json!("elsewhere")),
            "{record}"
        );
        let first = &daemon.show(id)["history"][0];
        assert_eq!(
            (&first["cause"], &first["evidence"]["survivor_pid"]),
            (&json!("crash"), &json!(ghost)),
            "{first}"
        );
        let rows = await_rows(daemon, is_stuck);
        let slot =
            rows.iter().find(|row| row["state"] == "stuck").expect("it was just seen")["worker"].clone();
        let warnings = daemon.ask(&json!({"op": "status"}))["warnings"].to_string();
        assert!(warnings.contains(&ghost.to_string()) && warnings.contains("survives"), "{warnings}");
        let why = daemon.ask(&json!({"op": "explain", "worker": slot}))["text"].to_string();
        assert!(why.contains(&ghost.to_string()) && why.contains("stuck"), "{why}");
        daemon.assert_audit();

        ice.thaw();
        await_rows(daemon, |rows| rows.iter().all(|row| row["state"] == "idle"));
        assert_eq!(daemon.ask(&json!({"op": "status"}))["warnings"], json!([]));
        daemon.stop();
    });
}

#[test]
#[ignore = "needs root"]
fn a_worker_that_hangs_in_the_kernel_loses_its_job_and_cannot_hold_up_a_stop() {
    with_own_mounts(|| {
        let mut scene = Scene::new("workers = 1\nstop_timeout = \"100ms\"\ntimeout = \"200ms\"");
        let Scene { ice, daemon } = &mut scene;
        let mut started = Fifo::new(daemon.site.path(), "started");
        let wish = json!({"do": "write", "path": ice.file(), "say": started.path()});
        let id = daemon.submit(&json!([{ "data": wish }]));
        let pid = started.pid();
        let worker = Handle::open(pid).expect("it hangs");
        let record = daemon.record(id);
        assert_eq!((&record["state"], &record["cause"]), (&json!("failed"), &json!("timeout")), "{record}");
        assert_eq!(daemon.show(id)["history"][0]["evidence"]["survivor_pid"], pid);
        await_rows(daemon, is_stuck);
        daemon.signal(libc::SIGTERM);
        assert_eq!(daemon.exit().code(), Some(0));
        assert!(!worker.has_ended(), "it still hangs");
        ice.thaw();
        worker.await_end();
    });
}
