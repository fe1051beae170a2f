//! Copies of the state directory, taken while all of the daemon's threads stand still at a random moment.
//!
//! A copy is what a kill at that moment would have left. Each is given to a daemon of its own, which must know every
//! job that was acknowledged and every outcome that was told before the copy, and work the rest off.

use crate::dice::Dice;
use crate::harness::{Daemon, ids};
use crate::site::Site;
use crate::worker::pool;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;

/// What the world knew when a copy was taken.
struct Copy {
    site: Site,
    acknowledged: BTreeMap<u64, Value>,
    told: BTreeMap<u64, Value>,
    /// The jobs of the submit that was under way.
    unsure: Vec<u64>,
}

#[test]
fn copies_taken_under_load_know_all_that_was_acknowledged() {
    run(1, 5);
}

#[test]
#[ignore = "takes long"]
fn many_copies_taken_under_load_know_all_that_was_acknowledged() {
    run(2, 60);
}

fn config() -> String {
    format!("[pools.default]\nworkers = 1\n{}", pool("fast", "echo", "workers = 2"))
}

fn submit(number: usize, dice: &mut Dice) -> Value {
    let mut jobs: Vec<Value> =
        (0..=dice.below(800)).map(|n| json!({"pool": "fast", "data": [number, n]})).collect();
    jobs.extend((0..dice.below(4)).map(|n| json!({"run": format!("echo {number} {n}")})));
    json!({"op": "submit", "key": format!("key {number}"), "jobs": jobs})
}

fn run(seed: u64, copies: usize) {
    let mut dice = Dice::new(seed);
    let mut daemon = Daemon::start(&config());
    let (mut acknowledged, mut told, mut cursor) = (BTreeMap::new(), BTreeMap::new(), Value::Null);
    let mut taken: Vec<Copy> = Vec::new();
    let mut number = 0;
    while taken.len() < copies {
        for _ in 0..dice.below(3) {
            number += 1;
            let request = submit(number, &mut dice);
            note(&mut acknowledged, &request, &daemon.ask(&request));
        }
        number += 1;
        let request = submit(number, &mut dice);
        let socket = daemon.begin(&request);
        if dice.below(2) == 0 {
            let mut page = json!({"op": "results", "select": "all", "limit": 1 + dice.below(500)});
            if !cursor.is_null() {
                page["after"] = cursor.clone();
            }
            let page = daemon.ask(&page);
            for record in page["records"].as_array().expect("records") {
                told.insert(record["id"].as_u64().expect("an id"), record.clone());
            }
            cursor = page["next"].clone();
        }
        for _ in 0..dice.below(300_000) {
            std::hint::spin_loop();
        }
        daemon.freeze();
        let site = copy(&daemon, dice.below(2) == 0);
        daemon.thaw();
        let (acknowledged_then, told_then) = (acknowledged.clone(), told.clone());
        let reply = daemon.finish(&socket);
        note(&mut acknowledged, &request, &reply);
        taken.push(Copy { site, acknowledged: acknowledged_then, told: told_then, unsure: ids(&reply) });
    }
    assert_eq!(daemon.results("all").len(), acknowledged.len());
    daemon.stop();
    let unfinished = taken.into_iter().filter_map(|copy| judge(copy, &acknowledged).then_some(())).count();
    assert!(unfinished > copies / 4, "only {unfinished} copies had work left: they prove little");
}

fn note(acknowledged: &mut BTreeMap<u64, Value>, request: &Value, reply: &Value) {
    assert_eq!(reply["ok"], true, "{reply}");
    let jobs = request["jobs"].as_array().expect("a submit has jobs");
    acknowledged.extend(ids(reply).into_iter().zip(jobs.iter().cloned()));
}

/// A site with a copy of the store. Its shared memory is worth nothing to the next one, with it or without.
fn copy(daemon: &Daemon, shared_memory: bool) -> Site {
    let site = Site::new(&config());
    fs::DirBuilder::new().mode(0o700).create(site.state()).expect("it is ours");
    let names = ["jobs.db", "jobs.db-wal", "jobs.db-shm"];
    for name in &names[..if shared_memory { 3 } else { 2 }] {
        fs::copy(daemon.site.state().join(name), site.state().join(name)).expect("it is there");
    }
    site
}

/// Whether there was work left in this copy.
fn judge(copy: Copy, jobs: &BTreeMap<u64, Value>) -> bool {
    let mut daemon = Daemon::start_at(copy.site);
    let records = daemon.results("all");
    for id in copy.acknowledged.keys() {
        assert!(records.contains_key(id), "job {id} was acknowledged");
    }
    for (id, record) in &copy.told {
        assert_eq!(records[id], *record, "an outcome was told");
    }
    let unsure = copy.unsure.iter().filter(|id| records.contains_key(id)).count();
    assert!(unsure == 0 || unsure == copy.unsure.len(), "{unsure} jobs of {}", copy.unsure.len());
    assert_eq!(records.len(), copy.acknowledged.len() + unsure, "jobs that nobody has submitted");
    for (id, record) in &records {
        assert_eq!(record["state"], "succeeded", "{record}");
        let job = &jobs[id];
        if let Some(line) = job["run"].as_str() {
            let word = line.strip_prefix("echo ").expect("all of them echo");
            assert_eq!(record["result"]["stdout"], format!("{word}\n"), "{record}");
        } else {
            assert_eq!(record["result"], job["data"], "{record}");
        }
    }
    let audit = daemon.site.ctl(&["audit"]);
    assert_eq!(audit.status.code(), Some(0), "{audit:?}");
    daemon.stop();
    daemon.site.log().contains("wait from before")
}
