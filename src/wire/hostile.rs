//! Every decoder against texts that are almost right: none panics, and what one accepts it can write down again.
//!
//! A decoder is a function from bytes to whether they were accepted; it checks by itself what it accepts. Each is fed a
//! corpus, which it must accept, and mutations of it. `PUSHPULL_CASES` says how many, 20,000 if it is not set.

use super::control::Code;
use super::job::{self, Defaults};
use super::request::{self, OPERATIONS};
use super::seeded::{Seeded, cases};
use super::{duration, pipeline, select, timestamp};
use crate::model::Wall;
use std::collections::BTreeSet;

const PIECES: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "1e999",
    "-1",
    "null",
    "18446744073709551616",
    "\u{e9}",
    "\"run\":",
    "\n",
];

fn mutate(bytes: &mut Vec<u8>, seeded: &mut Seeded) {
    let at = seeded.below(bytes.len() + 1);
    let end = (at + seeded.below(6)).min(bytes.len());
    match seeded.below(5) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => drop(bytes.splice(at..end, PIECES[seeded.below(PIECES.len())].bytes())),
        3 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << seeded.below(8);
            }
        }
    }
}

/// Feeds a decoder. The mutations must leave something good and break something.
fn feed(corpus: &[&str], decode: impl Fn(&[u8]) -> bool) {
    for text in corpus {
        assert!(decode(text.as_bytes()), "{text} is good");
    }
    let (mut accepted, mut refused) = (0_u32, 0_u32);
    for seed in 0..cases() {
        let mut seeded = Seeded(u64::from(seed));
        let mut bytes = corpus[seeded.below(corpus.len())].as_bytes().to_vec();
        for _ in 0..=seeded.below(3) {
            mutate(&mut bytes, &mut seeded);
        }
        if decode(&bytes) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    assert!(accepted > cases() / 100 && refused > cases() / 20, "{accepted} accepted, {refused} refused");
}

/// At least one request of each operation.
const REQUESTS: [&str; 28] = [
    r#"{"v":1,"op":"ping"}"#,
    r#"{"v":1,"op":"version"}"#,
    r#"{"v":1,"op":"submit","jobs":["true",{"data":[1,{"a":null}]}]}"#,
    r#"{"v":1,"op":"submit","key":"k","chunk":0,"last":false,"name":"n","defaults":{"retries":2},"environment":{"A":"1"},"directory":"/","jobs":[]}"#,
    r#"{"v":1,"op":"submit","key":"k","chunk":3,"last":true,"jobs":["a"]}"#,
    r#"{"v":1,"op":"submit","key":"k","abort":true}"#,
    r#"{"v":1,"op":"submit","into":"n","jobs":["a"]}"#,
    r#"{"v":1,"op":"status"}"#,
    r#"{"v":1,"op":"metrics"}"#,
    r#"{"v":1,"op":"audit","timeout_ms":10}"#,
    r#"{"v":1,"op":"list","select":["3-9","@3"],"state":"failed","pool":["a","b"],"after":7,"limit":10}"#,
    r#"{"v":1,"op":"results","select":"@last","after":"12.3","timeout_ms":1000}"#,
    r#"{"v":1,"op":"show","id":17}"#,
    r#"{"v":1,"op":"explain","worker":"default.0"}"#,
    r#"{"v":1,"op":"batches","after":3,"limit":5}"#,
    r#"{"v":1,"op":"workers"}"#,
    r#"{"v":1,"op":"logs","worker":"default.0","timeout_ms":10}"#,
    r#"{"v":1,"op":"wait","select":"all","timeout_ms":5}"#,
    r#"{"v":1,"op":"cancel","select":"1,3-5","reason":"late"}"#,
    r#"{"v":1,"op":"retry","state":["failed","cancelled"]}"#,
    r#"{"v":1,"op":"remove","select":"@nightly"}"#,
    r#"{"v":1,"op":"pause","pool":"default"}"#,
    r#"{"v":1,"op":"resume"}"#,
    r#"{"v":1,"op":"scale","pool":"default","workers":4}"#,
    r#"{"v":1,"op":"restart","pool":"default","now":true}"#,
    r#"{"v":1,"op":"reload"}"#,
    r#"{"v":1,"op":"drain"}"#,
    r#"{"v":1,"op":"shutdown","now":false}"#,
];

#[test]
fn requests() {
    let named: BTreeSet<&str> = OPERATIONS
        .into_iter()
        .filter(|op| REQUESTS.iter().any(|text| text.contains(&format!("{op:?}"))))
        .collect();
    assert_eq!(named, BTreeSet::from(OPERATIONS), "an operation has no sample");
    feed(&REQUESTS, |bytes| match request::parse(bytes) {
        Ok(_) => true,
        Err(refusal) => {
            let codes = [
                Code::BadRequest,
                Code::UnknownOp,
                Code::Version,
                Code::BadJob,
                Code::Limit,
                // A word that can be no worker's.
                Code::NotFound,
            ];
            let is_ours = codes.contains(&refusal.code);
            assert!(is_ours && !refusal.message.is_empty(), "{refusal:?}");
            false
        }
    });
}

#[test]
fn jobs() {
    let corpus = [
        "\"make all\"",
        r#"{"run":["a","b c"],"timeout":"1h30m","retries":3,"backoff":0.5,"delay":"10s","priority":-7}"#,
        r#"{"data":{"deep":[[[1]]],"text":"\u00e9"},"pool":"gpu_0","name":"n","key":"k","index":4}"#,
        r#"{"run":"x","env":{"A":"1","B":""},"cwd":"/tmp","stdin":"in\n","output_dir":"out","after":[1,"k"]}"#,
    ];
    feed(&corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(draft) = job::parse(text, &Defaults::default()) else { return false };
        assert!(draft.key.as_ref().is_none_or(|key| (1..=job::KEY_BYTES_MAX).contains(&key.len())));
        let again = job::parse(&draft.to_json(), &Defaults::default()).expect("what was accepted is a job");
        assert_eq!(again, draft);
        true
    });
}

#[test]
fn defaults() {
    let corpus = [
        "{}",
        r#"{"pool":"a","name":"n","priority":3,"timeout":60,"retries":1,"after":7}"#,
        r#"{"env":{"A":"1"},"cwd":"/","output_dir":"o","backoff":"1m","delay":1}"#,
    ];
    feed(&corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(defaults) = Defaults::parse(text) else { return false };
        assert_eq!(Defaults::parse(&defaults.to_json()).expect("what was accepted is good"), defaults);
        true
    });
}

#[test]
fn orders_to_the_built_in_worker() {
    let corpus = [
        r#"{"type":"cancel","id":17}"#,
        r#"{"type":"job","id":1,"attempt":1,"data":{"run":"echo hi"}}"#,
        r#"{"type":"job","id":18446744073709551615,"attempt":4,"data":{"run":["a","b"],"env":{"A":"1"},"cwd":"/","stdin":"x","timeout_s":1.5}}"#,
    ];
    feed(&corpus, |bytes| pipeline::parse_order(bytes).is_ok());
}

#[test]
fn selections() {
    let corpus = ["17", "3-9", "3,5,9-12", "@3", "@nightly run", "@last", "all"];
    feed(&corpus, |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| select::parse(&[text.to_owned()]).is_ok())
    });
}

#[test]
fn durations() {
    let corpus = ["90", "0.25", "90s", "1h30m", "2d", "300ms", "\"1h\"", "1.5"];
    feed(&corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let parsed = if text.starts_with('"') { duration::from_json(text) } else { duration::parse(text) };
        let Ok(span) = parsed else { return false };
        let again =
            duration::from_json(&duration::seconds_json(span)).expect("what was accepted is a duration");
        assert_eq!(again, span);
        true
    });
}

#[test]
fn timestamps() {
    let corpus = ["2026-01-31T09:30:00.123Z", "2026-01-31T09:30:00+02:00", "1999-12-31T23:59:59Z"];
    feed(&corpus, |bytes| {
        let Some(at) = std::str::from_utf8(bytes).ok().and_then(timestamp::parse) else { return false };
        let again: Option<Wall> = timestamp::parse(&timestamp::render(at));
        assert_eq!(again, Some(at));
        true
    });
}
