//! What workers may say, and what they say instead.

use super::*;

fn envelope(frame: &str) -> Result<Report, String> {
    parse_report(frame.as_bytes(), Style::Envelope)
}

fn bare(frame: &str) -> Result<Report, String> {
    parse_report(frame.as_bytes(), Style::Bare)
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what the parser returns")]
fn result(id: Option<u64>, data: &str) -> Result<Report, String> {
    Ok(Report::Result { id: id.map(JobId), data: data.into() })
}

#[test]
fn data_is_carried_byte_for_byte() {
    for data in
        ["null", "0.10", "1e999", r#"{ "a" : [ 1,2 ] }"#, r#""\u00e4\ud800""#, "12345678901234567890123"]
    {
        assert_eq!(
            envelope(&format!(r#"{{"type":"result","id":17,"data": {data} }}"#)),
            result(Some(17), data)
        );
    }
}

#[test]
fn without_data_the_other_fields_are_the_result() {
    let ancestor = r#"{"type":"result","workerId":7,"jobId":1,"createdAt":1.50,"respondedAt":2}"#;
    let others = r#"{"workerId":7,"jobId":1,"createdAt":1.50,"respondedAt":2}"#;
    assert_eq!(bare(ancestor), result(None, others));
    assert_eq!(envelope(ancestor), result(None, others));
    assert_eq!(bare(r#"{"id":"mine","type":"result"}"#), result(None, r#"{"id":"mine"}"#));
    assert_eq!(envelope(r#"{"type":"result"}"#), result(None, "{}"));
}

#[test]
fn an_id_that_is_missing_or_null_is_none() {
    assert_eq!(envelope(r#"{"type":"result","data":1}"#), result(None, "1"));
    assert_eq!(envelope(r#"{"type":"result","id":null,"data":1}"#), result(None, "1"));
}

#[test]
fn an_error_needs_nothing_but_its_type() {
    let plain = |error: &str| Report::Error {
        id: None,
        error: error.into(),
        detail: None,
        retry: true,
        cause: None,
        data: None,
    };
    assert_eq!(envelope(r#"{"type":"error"}"#), Ok(plain("the worker gave no reason")));
    assert_eq!(envelope(r#"{"type":"error","error":{"code":3},"cause":7}"#), Ok(plain(r#"{"code":3}"#)));
    let long = format!(r#"{{"type":"error","error":"{}"}}"#, "ä".repeat(TEXT_BYTES_MAX));
    assert_eq!(envelope(&long), Ok(plain(&"ä".repeat(TEXT_BYTES_MAX / 2))));
}

#[test]
fn ready_welcomes_other_fields() {
    assert_eq!(envelope(r#"{"type":"ready","worker":4242,"deep":[[[]]]}"#), Ok(Report::Ready));
    assert_eq!(bare(r#" {"type":"\u0072eady"} "#), Ok(Report::Ready));
}

#[test]
fn reports_survive_being_written_and_read() {
    for report in samples() {
        let mut frame = Vec::new();
        encode_report(&report, &mut frame);
        assert_eq!(parse_report(&frame, Style::Envelope), Ok(report));
    }
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    let deep = format!(r#"{{"type":"result","data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"type":"result","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (frame, reason) in [
        ("", "EOF"),
        ("[]", "expected an object"),
        ("{}", "without `type`"),
        (r#"{"type":null}"#, "`type` is not a text"),
        (r#"{"type":"jump"}"#, "unknown type \"jump\""),
        (r#"{"type":"ready"}{}"#, "trailing"),
        (r#"{"type":"ready","type":"ready"}"#, "twice"),
        (r#"{"type":"result","a":1,"\u0061":2}"#, "twice"),
        (r#"{"type":"result","id":1e999}"#, "`id`"),
        (r#"{"type":"result","id":-1}"#, "`id`"),
        (r#"{"type":"result","id":"17"}"#, "`id`"),
        (r#"{"type":"result","id":18446744073709551616}"#, "`id`"),
        (r#"{"type":"result","data":1 2}"#, "expected"),
        (r#"{"type":"error","retry":1}"#, "`retry`"),
        (r#"{"type":"progress","percent":1e999}"#, "`percent`"),
        (&deep, "nested"),
        (&deep_field, "nested"),
    ] {
        let error = envelope(frame).expect_err(reason);
        assert!(error.contains(reason), "{error} does not say {reason}");
    }
    let not_text = parse_report(b"{\"type\":\"\xff\"}", Style::Envelope).expect_err("not UTF-8");
    assert!(not_text.contains("UTF-8"), "{not_text}");
}

#[test]
fn mutated_messages_never_panic_and_stay_valid_json() {
    let seeds: Vec<Vec<u8>> = samples()
        .iter()
        .map(|report| {
            let mut frame = Vec::new();
            encode_report(report, &mut frame);
            frame
        })
        .collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).expect("below fits")
    };
    let splices: [&[u8]; 8] = [b"{", b"]", b"\"", b"\\u", b"\xff", b"1e999", b",\"id\":", b"null"];
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut frame = seeds[next(seeds.len())].clone();
        for _ in 0..=next(3) {
            let at = next(frame.len());
            match next(3) {
                0 => frame[at] = u8::try_from(next(256)).expect("a byte"),
                1 => frame.truncate(at + 1),
                _ => drop(frame.splice(at..at, splices[next(splices.len())].iter().copied())),
            }
        }
        for style in [Style::Envelope, Style::Bare] {
            if let Ok(Report::Result { data, .. }) = parse_report(&frame, style) {
                serde_json::from_str::<IgnoredAny>(&data).expect("a result is one JSON value");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 100, "the mutations must leave something to accept, not {accepted}");
}

fn samples() -> Vec<Report> {
    let id = Some(JobId(u64::MAX));
    vec![
        Report::Ready,
        Report::Heartbeat,
        Report::Result { id, data: r#"{"a":[1,2.50,"x\"y"]}"#.into() },
        Report::Result { id: None, data: "null".into() },
        Report::Error {
            id,
            error: "exit status 3".into(),
            detail: Some("line 1\nline 2 \"ä\"".into()),
            retry: false,
            cause: Some(Cause::Exit),
            data: Some("[]".into()),
        },
        Report::Error { id: None, error: "x".into(), detail: None, retry: true, cause: None, data: None },
        Report::Progress { id, percent: Some(40.5), note: Some("half way".into()) },
        Report::Progress { id: None, percent: None, note: None },
    ]
}

#[test]
fn a_complaint_is_short_however_long_the_message_is() {
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    let what = envelope(&long).expect_err("a text is no message");
    assert!(what.len() <= COMPLAINT_BYTES_MAX, "{} bytes", what.len());
}
