//! Tests of job files with generated ones: what is written in any shape is read back the same, and whatever bytes
//! come, the reader ends, with jobs that print back or with an error that has a place.
//!
//! `PUSHPULL_CASES` sets how many files are made, 20,000 unless it says otherwise.

use super::*;
use crate::wire::seeded::{Seeded, cases};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::BufReader;

/// How a file is written: its shape, and what stands between its tokens.
#[derive(Clone, Debug)]
struct Style {
    shape: u8,
    blank: &'static str,
    byte_order_mark: bool,
    capacity: usize,
}

fn styles() -> impl Strategy<Value = Style> {
    let blanks = prop::sample::select(vec!["", " ", "\n", "\r\n", "\n\t\n "]);
    (0..6_u8, blanks, prop::bool::ANY, 1..200_usize).prop_map(|(shape, blank, byte_order_mark, capacity)| {
        Style { shape, blank, byte_order_mark, capacity }
    })
}

/// The text of a JSON value that no serializer would write: spaces, escapes, brackets in strings.
fn values() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "0",
            "-1.50e+9",
            "1e999",
            r#""""#,
            r#""]}\"\\[{""#,
            r#""\u00e4\/""#,
            "\"é😀\""
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        "[a-z,:{}\\[\\] ]{0,8}".prop_map(|text| string(&text)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|each| format!("[ {}]", each.join(",\n"))),
            prop::collection::vec(inner, 0..4).prop_map(|each| {
                let members: Vec<String> = each.iter().map(|value| format!("\"k\" :{value}")).collect();
                format!("{{{} }}", members.join(" ,"))
            }),
        ]
    })
}

fn job_texts() -> impl Strategy<Value = String> {
    let extra = prop::sample::select(vec![
        "",
        r#","retries":3"#,
        r#","timeout":"1h30m","name":"a b""#,
        r#","after":[1,"x"],"priority":-5"#,
        ", \"pool\" : \"gpu\" ,\n\"delay\" : 0.5",
    ]);
    prop_oneof![
        "[ -~]{0,20}".prop_map(|command| string(&command)),
        (values(), extra).prop_map(|(data, extra)| format!("{{ \"data\":{data}{extra}}}")),
        Just(r#"{"run":["a","b c"],"env":{"A":"1"},"index":7,"key":"k"}"#.to_owned()),
    ]
}

fn write_file(jobs: &[String], style: &Style) -> String {
    let blank = style.blank;
    let comma = format!("{blank},{blank}");
    let array = format!("[{blank}{}{blank}]", jobs.join(&comma));
    let name = format!("\"name\"{blank}:{blank}\"n\"");
    let defaults = "\"defaults\":{\"backoff\":2}";
    let body = match style.shape {
        0 => array,
        1 => jobs.join(if blank.is_empty() { "\n" } else { blank }),
        2 => format!("{{{blank}{name}{comma}{defaults}{comma}\"jobs\":{array}{blank}}}"),
        3 => format!("{{{blank}\"jobs\"{blank}:{array}{comma}{defaults}{comma}{name}{blank}}}"),
        4 => format!("{{{defaults}{comma}\"jobs\":{blank}{array}{comma}{name}}}"),
        _ => format!("{{\"jobs\":{array}}}"),
    };
    format!("{}{blank}{body}{blank}", if style.byte_order_mark { "\u{feff}" } else { "" })
}

fn read(text: &[u8], format: Format, capacity: usize) -> Result<(Header, Vec<(Element, Draft)>)> {
    let mut file = JobFile::open(BufReader::with_capacity(capacity, text), "f", format)?;
    let defaults = match &file.header().defaults {
        Some(raw) => Defaults::parse(raw).expect("the header's defaults were checked"),
        None => Defaults::default(),
    };
    let mut jobs = Vec::new();
    while let Some(job) = file.next_job(&defaults)? {
        jobs.push(job);
    }
    Ok((file.header().clone(), jobs))
}

/// What holds of every file: the same result however it comes in; jobs that print back; errors with a place.
fn check_any(text: &[u8], format: Format, capacity: usize) -> bool {
    let lines = 1 + text.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
    let found = read(text, format, capacity);
    assert_eq!(read(text, format, 1 << 16), found, "the same however it comes in");
    match found {
        Ok((_, jobs)) => {
            let printed: Vec<String> = jobs.iter().map(|(_, draft)| draft.to_json()).collect();
            let (_, again) = read(format!("[{}]", printed.join(",")).as_bytes(), Format::Json, 1 << 16)
                .expect("what was accepted is accepted again");
            assert!(jobs.iter().map(|(_, draft)| draft).eq(again.iter().map(|(_, draft)| draft)));
            for (place, (element, _)) in jobs.iter().enumerate() {
                assert_eq!(element.index, place as u64);
                assert!((1..=lines).contains(&element.line));
            }
            true
        }
        Err(error) => {
            assert!(error.line <= lines, "{error}");
            assert!(error.line > 0 || error.message == "is empty: nothing to submit", "{error}");
            assert!(error.to_string().len() < 1_000, "{error}");
            false
        }
    }
}

#[test]
fn every_shape_of_file_gives_the_same_jobs() {
    let files = (prop::collection::vec(job_texts(), 0..5), styles());
    let mut runner =
        TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let result = runner.run(&files, |(jobs, style)| {
        let text = write_file(&jobs, &style);
        if jobs.is_empty() && style.shape == 1 {
            prop_assert!(read(text.as_bytes(), Format::Json, style.capacity).is_err());
            return Ok(());
        }
        let (header, found) = read(text.as_bytes(), Format::Json, style.capacity)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let (name, defaults) = match style.shape {
            2..=4 => (Some("n"), Defaults::parse("{\"backoff\":2}").expect("good defaults")),
            _ => (None, Defaults::default()),
        };
        prop_assert_eq!(header.name.as_deref(), name);
        prop_assert_eq!(found.len(), jobs.len());
        for (text, (element, draft)) in jobs.iter().zip(&found) {
            prop_assert_eq!(text, &element.json);
            prop_assert_eq!(&job::parse(text, &defaults).expect("a good job"), draft);
        }
        prop_assert!(check_any(text.as_bytes(), Format::Json, style.capacity));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Files to begin from. Each is accepted as it is.
const CORPUS: [(&str, Format); 9] = [
    ("[\"a\", {\"run\":[\"b\",\"c d\"],\"timeout\":\"1h30m\",\"retries\":3}]\n", Format::Json),
    (
        "{\"name\":\"n\",\"defaults\":{\"retries\":2,\"env\":{\"A\":\"1\"}},\"jobs\":[\"a\",{\"data\":[1,{\"b\":null}],\"key\":\"k\"}]}",
        Format::Json,
    ),
    (
        "{\"jobs\":[{\"run\":\"a\",\"key\":\"x\"},{\"run\":\"b\",\"after\":[\"x\",3]}],\"name\":\"late\",\"defaults\":{}}",
        Format::Json,
    ),
    (
        "{\"data\":{\"a\":\"\\u0041\\\\\"},\"priority\":-7}\n{\"run\":\"b\",\"env\":{\"B\":\"2\"},\"stdin\":\"x\"}\r\n\"c\"\n",
        Format::Json,
    ),
    ("{\n  \"run\": \"one\",\n  \"delay\": 1.5,\n  \"index\": 4\n}\n", Format::Json),
    ("echo hi\n\n  sleep 1 && true\r\nlast \"one\"", Format::Lines),
    ("[1, [2, {\"a\": \"]\"}], \"x\", null, -1.5e9]", Format::Raw),
    ("{\"jobs\": 1}\n[2]\n\"three\"\n4", Format::Raw),
    ("\u{feff}[\n\"a\"\n]", Format::Json),
];

/// Pieces that mean something to the reader.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"null",
    b"1e999",
    b"\"jobs\":",
    b"\"name\":",
    b"\"defaults\":",
    b"\"run\":",
    b"\"data\":",
    b"\\u0000",
    b"\\ud800",
    b"[[[[[[[[",
    b"-",
];

fn mutate(bytes: &mut Vec<u8>, seeded: &mut Seeded) {
    let at = seeded.below(bytes.len() + 1);
    let end = (at + seeded.below(6)).min(bytes.len());
    match seeded.below(6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => drop(bytes.splice(at..at, PIECES[seeded.below(PIECES.len())].iter().copied())),
        3 => drop(bytes.splice(at..end, PIECES[seeded.below(PIECES.len())].iter().copied())),
        4 => {
            let copy = bytes[at..end].to_vec();
            let to = seeded.below(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << seeded.below(8);
            }
        }
    }
}

#[test]
fn any_bytes_end_in_jobs_or_in_an_error_with_a_place() {
    for (text, format) in CORPUS {
        assert!(check_any(text.as_bytes(), format, 64), "{text}");
    }
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..u64::from(cases()) {
        let mut seeded = Seeded(seed);
        let (text, own_format) = CORPUS[seeded.below(CORPUS.len())];
        let format = [own_format, own_format, Format::Json, Format::Lines, Format::Raw][seeded.below(5)];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=seeded.below(4) {
            mutate(&mut bytes, &mut seeded);
        }
        let capacity = 1 + seeded.below(100);
        if check_any(&bytes, format, capacity) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    // The mutations must neither leave every file good nor break every one.
    assert!(accepted * 20 > cases() && refused * 20 > cases(), "{accepted} accepted, {refused} refused");
}
