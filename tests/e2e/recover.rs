//! A store that cannot be used: the daemon says so and touches nothing, and `--recover` moves it aside.

use crate::harness::Daemon;
use crate::site::{PLAIN, Site};
use crate::starting::refused;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// A daemon that has done three jobs and is gone.
fn used(is_killed: bool) -> Daemon {
    let mut daemon = Daemon::start(PLAIN);
    daemon.submit(&json!(["true", "true", "true"]));
    daemon.wait("all");
    if is_killed {
        daemon.kill();
    } else {
        daemon.stop();
    }
    daemon
}

/// The files of the store with their times; what readers share is no part of it.
fn files(site: &Site) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(site.state()).expect("it is there").map(|entry| entry.expect("readable"));
    let kept = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().expect("plain names");
        let is_ours = name.starts_with("jobs.db") && !name.ends_with("-shm");
        let changed = entry.metadata().expect("it is there").modified().expect("a time");
        is_ours.then(|| (name, (fs::read(entry.path()).unwrap_or_default(), changed)))
    });
    kept.collect()
}

/// Writes these bytes at a place in a file.
fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(path).expect("it is there");
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).expect("it is ours");
}

/// How a store can be damaged, with what is said about it and whether the daemon before was killed.
type Damage = (&'static str, bool, fn(&Path));

const DAMAGES: [Damage; 8] = [
    ("newer version", false, |file| overwrite(file, 60, &[0, 0, 0, 99])),
    ("another program", false, |file| overwrite(file, 68, &[1, 2, 3, 4])),
    ("damaged", false, |file| fs::write(file, b"not a database").expect("it is ours")),
    ("damaged", false, |file| {
        let content = fs::read(file).expect("it is there");
        fs::write(file, &content[..content.len() / 2]).expect("it is ours");
    }),
    ("damaged", false, |file| overwrite(file, 16_384, &[0xAA; 65_536])),
    ("not a file", false, |file| {
        fs::remove_file(file).expect("it is ours");
        fs::create_dir(file).expect("it is ours");
    }),
    ("jobs.db-wal, is damaged", true, |file| overwrite(&file.with_extension("db-wal"), 12, &[7])),
    ("the file is gone", true, |file| fs::remove_file(file).expect("it is ours")),
];

#[test]
fn a_store_that_cannot_be_used_is_left_as_it_is_and_moved_aside_when_asked() {
    for (words, is_killed, damage) in DAMAGES {
        let mut daemon = used(is_killed);
        damage(&daemon.site.state().join("jobs.db"));
        let before = files(&daemon.site);
        let (status, said) = refused(daemon.site.command());
        assert_eq!(status, 6, "{said}");
        assert!(said.contains(words) && said.contains("pushpulld --recover"), "{words}: {said}");
        assert_eq!(files(&daemon.site), before, "{words}: it was touched");

        daemon.site.set_arguments(&["--recover"]);
        daemon.start_again();
        let status = daemon.ask(&json!({"op": "status"}));
        assert_eq!(status["jobs"]["succeeded"], 0, "{words}: {status}");
        assert_eq!(daemon.run(json!("echo anew"))["result"]["stdout"], "anew\n");
        assert!(daemon.site.log().contains("moved aside to"), "{}", daemon.site.log());
        let after = files(&daemon.site);
        for (name, (content, _)) in &before {
            let moved = after.iter().find(|(moved, (found, _))| {
                let part = name.strip_prefix("jobs.db").expect("its name");
                moved.starts_with("jobs.db.corrupt-") && moved.ends_with(part) && found == content
            });
            assert!(moved.is_some(), "{words}: {name} is nowhere: {:?}", after.keys());
        }
        daemon.stop();
    }
}

#[test]
fn a_good_store_stays_where_it_is_although_asked() {
    for is_killed in [false, true] {
        let mut daemon = used(is_killed);
        daemon.site.set_arguments(&["--recover"]);
        daemon.start_again();
        let status = daemon.ask(&json!({"op": "status"}));
        assert_eq!(status["jobs"]["succeeded"], 3, "{status}");
        assert!(daemon.site.log().contains("--recover was not needed"), "{}", daemon.site.log());
        assert!(!files(&daemon.site).keys().any(|name| name.contains("corrupt")), "it was moved");
        daemon.assert_audit();
        daemon.stop();
    }
}
