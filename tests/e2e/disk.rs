//! Disks that are full or fail.
//!
//! Each test has a small file system of its own as the state directory, mounted in a namespace of its thread's own:
//! nobody else sees it, and it goes with the thread and the daemon, also when the test fails or is killed.

use crate::fifo::Fifo;
use crate::harness::{Daemon, ids};
use crate::process::PATIENCE;
use crate::site::Site;
use crate::starting::refused;
use crate::worker::pool;
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::time::Instant;

/// Bytes of one submit: ten jobs.
const SUBMIT_BYTES: usize = 100_000;
/// Workers whose results are to be large.
const WORKERS: usize = 4;
const RESULT_BYTES: usize = 900_000;

/// A small file system, with a file that fills it.
pub struct Disk {
    pub place: PathBuf,
}

impl Disk {
    fn mount(place: &Path, bytes: u64) -> Disk {
        std::fs::create_dir_all(place).expect("it is ours");
        mount(place, 0, &format!("size={bytes},mode=0700"));
        Disk { place: place.to_owned() }
    }

    /// Leaves so many bytes.
    fn fill(&self, left: u64) {
        let ballast = self.place.join("ballast");
        let mut file = OpenOptions::new().append(true).create(true).open(ballast).expect("it is ours");
        while file.write_all(&[7; 4_096]).is_ok() {}
        let length = file.metadata().expect("it is open").len();
        file.set_len(length.saturating_sub(left)).expect("it becomes shorter");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.place.join("ballast")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let place = CString::new(self.place.to_str().expect("plain letters")).expect("no NUL");
        // SAFETY: a path that lives as long as the call.
        unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    }
}

fn mount(place: &Path, flags: libc::c_ulong, options: &str) {
    let (place, options) = (CString::new(place.to_str().expect("plain letters")), CString::new(options));
    let (place, options) = (place.expect("no NUL"), options.expect("no NUL"));
    let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
    // SAFETY: all of them live as long as the call.
    let done = unsafe { libc::mount(kind, place.as_ptr(), kind, flags, data) };
    assert_eq!(done, 0, "mount: {}", std::io::Error::last_os_error());
}

/// Runs a test in a thread whose mounts nobody else sees.
pub fn with_own_mounts(test: fn()) {
    let thread = std::thread::spawn(move || {
        // SAFETY: plain numbers and a path; only this thread and what it starts are concerned.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), private, ptr::null()), 0);
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A daemon whose disk is full, with running jobs whose outcomes cannot be written.
struct Full {
    /// Unmounted before the directories are removed, which go with the daemon.
    disk: Disk,
    daemon: Daemon,
    /// Acknowledged jobs of a pool that is paused.
    parked: Vec<u64>,
    /// Jobs that have been answered, perhaps without an outcome.
    answered: Vec<u64>,
    /// Kept open for those that run once more.
    _started: Fifo,
    gate: Fifo,
}

impl Full {
    fn new() -> Full {
        let site = Site::new(&format!(
            "{}\n{}",
            pool("default", "echo", &format!("workers = {WORKERS}\ncredit = 1")),
            pool("parked", "echo", "workers = 2")
        ));
        let disk = Disk::mount(&site.state(), 24 << 20);
        let daemon = Daemon::start_at(site);
        let place = daemon.site.path().to_owned();
        let (mut started, mut gate) = (Fifo::new(&place, "started"), Fifo::new(&place, "gate"));
        daemon.ask(&json!({"op": "pause", "pool": "parked"}));
        let wait = json!({"do": "wait", "path": gate.path(), "say": started.path(), "bytes": RESULT_BYTES});
        let jobs = vec![json!({"data": wait}); WORKERS];
        let answered = ids(&daemon.ask(&json!({"op": "submit", "jobs": jobs})));
        (0..WORKERS).for_each(|_| drop(started.line()));

        disk.fill(1 << 20);
        let mut parked = Vec::new();
        let refusal = submit_until_refused(&daemon, "key", &mut parked);
        assert_eq!(refusal["code"], "no_space", "{refusal}");
        assert!(refusal["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{refusal}");
        assert!(!parked.is_empty(), "not one submit was taken");

        disk.fill(0);
        gate.open_for(WORKERS);
        let full = Full { daemon, disk, parked, answered, _started: started, gate };
        full.await_trouble();
        full
    }

    /// All have answered, and the store refuses an outcome. The daemon tells it all the while.
    fn await_trouble(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.daemon.ask(&json!({"op": "status"}));
            let has_trouble = status["warnings"].to_string().contains("nothing is started");
            if has_trouble && self.daemon.workers().iter().all(|row| row["held"] == 0) {
                return;
            }
            assert!(Instant::now() < deadline, "everything is written: {status}");
        }
    }

    /// Everything that was acknowledged ends, once.
    fn assert_all_end(&mut self) {
        self.gate.open_for(WORKERS);
        self.daemon.ask(&json!({"op": "resume"}));
        let records = self.daemon.results("all");
        let mut acknowledged: Vec<u64> = self.answered.iter().chain(&self.parked).copied().collect();
        acknowledged.sort_unstable();
        assert_eq!(records.keys().copied().collect::<Vec<u64>>(), acknowledged);
        for record in records.values() {
            assert_eq!((&record["state"], &record["attempts"]), (&json!("succeeded"), &json!(1)), "{record}");
        }
        let audit = self.daemon.site.ctl(&["audit"]);
        assert_eq!(audit.status.code(), Some(0), "{audit:?}");
        self.daemon.stop();
    }
}

/// Submits until there is no room left; gives the refusal, and adds what was acknowledged.
fn submit_until_refused(daemon: &Daemon, key: &str, acknowledged: &mut Vec<u64>) -> Value {
    loop {
        let reply = daemon.ask_any(&submit(&format!("{key} {}", acknowledged.len())));
        if reply["ok"] != true {
            return reply["error"].clone();
        }
        acknowledged.extend(ids(&reply));
    }
}

fn submit(key: &str) -> Value {
    let job = json!({"pool": "parked", "data": "x".repeat(SUBMIT_BYTES / 10)});
    json!({"op": "submit", "key": key, "jobs": vec![job; 10]})
}

#[test]
fn a_state_directory_that_is_taken_away_accepts_nothing_until_it_is_back() {
    let mut daemon = Daemon::start(&pool("default", "echo", "workers = 1"));
    let place = daemon.site.path().to_owned();
    let (mut started, mut gate) = (Fifo::new(&place, "started"), Fifo::new(&place, "gate"));
    let wait = json!({"data": {"do": "wait", "path": gate.path(), "say": started.path()}});
    let first = daemon.submit(&json!([wait]));
    started.line();
    let (state, away) = (daemon.site.state(), place.join("away"));
    std::fs::rename(&state, &away).expect("it is ours");
    let submit = json!({"op": "submit", "key": "k", "jobs": [{"data": 1}]});
    let refusal = daemon.refusal(&submit);
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains("moved or removed")), "{refusal}");
    gate.open_for(1);
    let deadline = Instant::now() + PATIENCE;
    while daemon.workers()[0]["held"] != 0 {
        assert!(Instant::now() < deadline, "the worker does not answer");
    }
    assert_ne!(daemon.show(first)["state"], "succeeded", "it is told and not kept");
    std::fs::rename(&away, &state).expect("it is ours");
    assert_eq!(daemon.record(first)["state"], "succeeded");
    let second = ids(&daemon.ask(&submit))[0];
    assert_eq!(daemon.record(second)["result"], 1);
    daemon.assert_audit();
    daemon.stop();
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_refuses_submits_and_service_returns_by_itself() {
    with_own_mounts(|| {
        let mut full = Full::new();
        let daemon = &full.daemon;
        let file = daemon.site.path().join("jobs.json");
        let jobs = submit("")["jobs"].to_string();
        std::fs::write(&file, jobs).expect("it is ours");
        let refused = daemon.site.ctl(&["submit", file.to_str().expect("plain letters")]);
        let words = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(5), "{words}");
        assert!(words.contains("space"), "{words}");

        // What is not written is told to nobody, neither as an outcome nor as a count.
        let status = daemon.ask(&json!({"op": "status"}));
        assert!(status["jobs"]["succeeded"].as_u64() < Some(WORKERS as u64), "{status}");
        assert!(status["warnings"].to_string().contains("space"), "{status}");
        let page = daemon.ask(&json!({"op": "results", "select": "all"}));
        let told = page["records"].as_array().expect("records").len() as u64;
        assert_eq!(status["jobs"]["succeeded"], told, "{status}");

        full.disk.make_room();
        for id in &full.answered {
            assert_eq!(daemon.record(*id)["state"], "succeeded");
        }
        let reply = daemon.ask(&submit("with room"));
        full.parked.extend(ids(&reply));
        full.assert_all_end();
    });
}

#[test]
#[ignore = "needs root"]
fn a_daemon_that_is_killed_on_a_full_disk_loses_nothing_acknowledged() {
    with_own_mounts(|| {
        let mut full = Full::new();
        full.daemon.kill();
        full.disk.make_room();
        full.daemon.start_again();
        full.assert_all_end();
    });
}

#[test]
#[ignore = "needs root"]
fn a_start_on_a_full_disk_says_so_or_serves_when_there_is_room() {
    with_own_mounts(|| {
        let mut full = Full::new();
        full.daemon.kill();
        full.disk.fill(0);
        // It depends on what the dead one has left whether a start needs room at all.
        match full.daemon.try_start_again() {
            Ok(()) => {
                let refusal = submit_until_refused(&full.daemon, "again", &mut full.parked);
                assert_eq!(refusal["code"], "no_space", "{refusal}");
                full.disk.make_room();
            }
            Err(status) => {
                let log = full.daemon.site.log();
                assert_eq!(status.code(), Some(6), "{log}");
                let words = log.lines().last().expect("it says why");
                assert!(words.contains("no space left") && words.contains("start again"), "{words}");
                full.disk.make_room();
                full.daemon.start_again();
            }
        }
        full.assert_all_end();
    });
}

#[test]
#[ignore = "needs root"]
fn a_first_start_on_a_full_disk_says_so() {
    with_own_mounts(|| {
        let site = Site::new("");
        let disk = Disk::mount(&site.state(), 4 << 20);
        disk.fill(0);
        let (status, words) = refused(site.command());
        assert_eq!(status, 6, "{words}");
        assert!(words.contains("o space left") && !words.contains("panicked"), "{words}");
        disk.make_room();
        let mut daemon = Daemon::start_at(site);
        assert_eq!(daemon.run(json!("echo fine"))["result"]["stdout"], "fine\n");
        daemon.stop();
        // Else the directory below could not be removed.
        drop(disk);
    });
}

/// A file system that promises more than it has: what it took it cannot keep, and it says so only to an fsync.
#[test]
#[ignore = "needs root"]
fn a_disk_that_breaks_its_word_loses_nothing_acknowledged() {
    with_own_mounts(|| {
        let site = Site::new(&pool("default", "echo", "workers = 0"));
        let below = Disk::mount(&site.path().join("below"), 12 << 20);
        let image = below.place.join("image");
        File::create(&image).and_then(|file| file.set_len(100 << 20)).expect("it is sparse");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let thin = mount_image(&image, site.state());
        std::fs::remove_dir(thin.place.join("lost+found")).expect("it is empty");
        std::fs::set_permissions(&thin.place, Permissions::from_mode(0o700)).expect("it is ours");

        let mut daemon = Daemon::start_at(site);
        let job = json!({"data": "x".repeat(SUBMIT_BYTES / 10)});
        let mut acknowledged = Vec::new();
        let refusal = loop {
            let reply = daemon.ask_any(&json!({"op": "submit", "jobs": vec![&job; 10]}));
            if reply["ok"] != true {
                break reply["error"].clone();
            }
            acknowledged.extend(ids(&reply));
        };
        assert!(refusal["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{refusal}");
        assert_eq!(daemon.ask(&json!({"op": "status"}))["jobs"]["queued"], acknowledged.len());
        daemon.kill();

        // The next machine has the room that was promised.
        drop(thin);
        mount(&below.place, libc::MS_REMOUNT, "size=200m");
        let thin = mount_image(&image, daemon.site.state());
        daemon.site.configure(&pool("default", "echo", "workers = 2"));
        daemon.start_again();
        let records = daemon.results("all");
        for id in acknowledged {
            assert_eq!(records[&id]["state"], "succeeded");
        }
        daemon.assert_audit();
        daemon.stop();
        drop((thin, below));
    });
}

pub fn mount_image(image: &Path, place: PathBuf) -> Disk {
    std::fs::create_dir_all(&place).expect("it is ours");
    run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&place));
    Disk { place }
}

pub fn run(command: &mut Command) {
    let output = command.output().expect("it can be executed");
    assert!(output.status.success(), "{command:?}: {output:?}");
}
