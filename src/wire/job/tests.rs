//! Tests of the reader of jobs.

use super::*;
use crate::model::JobId;

#[track_caller]
fn job(text: &str) -> Draft {
    let draft = parse(text, &Defaults::default()).expect(text);
    assert_eq!(parse(&draft.to_json(), &Defaults::default()), Ok(draft.clone()), "{}", draft.to_json());
    draft
}

#[track_caller]
fn refused(text: &str) -> JobError {
    parse(text, &Defaults::default()).expect_err(text)
}

/// The error's field, and that its message has `part`.
#[track_caller]
fn assert_refused(text: &str, field: &str, part: &str) {
    let error = refused(text);
    assert_eq!(error.field.as_deref(), Some(field), "{error:?}");
    assert!(error.message.contains(part), "{error:?}");
    assert!(error.message.contains(field), "{error:?}");
    assert!(error.message.len() < 500, "{error:?}");
}

#[test]
fn a_string_is_short_for_run() {
    assert_eq!(job(r#""echo hi""#), job(r#"{"run":"echo hi"}"#));
    assert_eq!(job(" \"echo hi\"\r\n").work, Work::Run(r#""echo hi""#.into()));
}

#[test]
fn every_field_is_read() {
    let draft = job(
        r#"{"run":["a","b c"],"pool":"gpu","name":"N","priority":-1000,"delay":"1m","timeout":"1h30m","retries":3,
            "backoff":0.5,"key":"K","after":[17,"k"],"output_dir":"out","env":{"A":"1"},"cwd":"/tmp","stdin":"x\u0000",
            "index":12}"#,
    );
    let expected = Draft {
        pool: PoolName::new("gpu"),
        work: Work::Run(r#"["a","b c"]"#.into()),
        name: Some("N".into()),
        key: Some("K".into()),
        priority: Some(-1000),
        policy: Policy {
            timeout: Some(Duration::from_secs(5400)),
            retries: Some(3),
            backoff: Some(Duration::from_millis(500)),
            delay: Some(Duration::from_secs(60)),
            output_dir: Some("out".into()),
            env: Some(r#"{"A":"1"}"#.into()),
            cwd: Some("/tmp".into()),
            stdin: Some("x\0".into()),
        },
        after: vec![After::Id(JobId(17)), After::Label("k".into())],
        index: Some(12),
    };
    assert_eq!(draft, expected);
}

#[test]
fn data_is_kept_byte_for_byte() {
    for data in
        ["null", "1", "1e999", "-0.0", r#""\u0041\ud800""#, "[ 1,\n 2 ]", r#"{"a" : {"a":1,"a":2}}"#, "true"]
    {
        let draft = job(&format!(r#"{{"data" : {data} }}"#));
        assert_eq!(draft.work, Work::Data(data.into()));
        assert!(draft.to_json().contains(data));
    }
}

#[test]
fn commands_are_kept_as_they_stand() {
    assert_eq!(job(r#"{"run":"\u0065cho"}"#).work, Work::Run(r#""\u0065cho""#.into()));
    assert_eq!(job(r#"{"run":[ "a" , "" ]}"#).work, Work::Run(r#"[ "a" , "" ]"#.into()));
}

#[test]
fn null_stands_for_a_missing_field() {
    assert_eq!(job(r#"{"run":"a","timeout":null,"env":null,"name":null}"#), job(r#""a""#));
    assert_eq!(job(r#"{"run":null,"data":1}"#).work, Work::Data("1".into()));
    assert_eq!(job(r#"{"data":null}"#).work, Work::Data("null".into()));
    assert_refused(r#"{"run":null}"#, "run", "is missing");
}

#[test]
fn a_job_has_one_of_run_and_data() {
    assert_refused("{}", "run", "is missing");
    assert_refused(r#"{"run":"a","data":1}"#, "data", "one of the two");
    assert_refused(r#"{"run":"a","data":null}"#, "data", "one of the two");
}

#[test]
fn unknown_fields_are_named_with_the_nearest_known() {
    let error = refused(r#"{"run":"a","retires":3}"#);
    assert_eq!(error.field.as_deref(), Some("retires"));
    assert_eq!(error.message, r#"unknown field "retires""#);
    assert_eq!(error.hint.as_deref(), Some(r#"Did you mean "retries"?"#));
    let error = refused(r#"{"run":"a","zzz":3}"#);
    assert!(error.hint.expect("a hint").contains("output_dir"));
    let long = refused(&format!(r#"{{"{}":3}}"#, "x".repeat(1_000_000)));
    assert!(long.message.len() < 200 && long.field.expect("a field").len() == 64);
}

#[test]
fn fields_that_stand_twice_are_named() {
    assert_refused(r#"{"run":"a","name":"x","name":"x"}"#, "name", "stands twice");
    assert_refused(r#"{"run":null,"r\u0075n":"a"}"#, "run", "stands twice");
    assert_refused(r#"{"run":"a","env":{"A":"1","A":"1"}}"#, "env", "\"A\" twice");
}

#[test]
fn what_is_neither_object_nor_string_is_no_job() {
    for (text, kind) in
        [("5", "a number"), ("[\"a\"]", "an array"), ("null", "null"), ("true", "true"), ("", "nothing")]
    {
        let error = refused(text);
        assert!(error.message.ends_with(kind), "{error:?}");
        assert!(error.hint.is_some());
    }
}

#[test]
fn broken_json_is_an_error() {
    for text in [
        r#"{"run":"a""#,
        r#"{"run":"a",}"#,
        r#"{"run":"a"} x"#,
        r#"{run:"a"}"#,
        "\"a",
        r#""\x""#,
        "{\"run\":\"a\nb\"}",
    ] {
        let error = refused(text);
        assert!(error.message.contains("is not valid JSON"), "{error:?}");
        assert!(!error.message.contains(" line "), "{error:?}");
    }
}

#[test]
fn commands_are_checked() {
    assert_refused(r#"{"run":[]}"#, "run", "empty array");
    assert_refused(r#"{"run":["a",5]}"#, "run", "element 1 must be a string, not a number");
    assert_refused(r#"{"run":["a",null]}"#, "run", "not null");
    assert_refused(r#"{"run":5}"#, "run", "a string or an array of strings");
    assert_refused(r#"{"run":{}}"#, "run", "not an object");
    assert_refused(r#"{"run":"a\u0000b"}"#, "run", "NUL");
    assert_refused(r#"{"run":["a","\u0000"]}"#, "run", "NUL");
    assert_refused(r#""a\u0000b""#, "run", "NUL");
    assert_refused(r#"{"run":"\ud800"}"#, "run", "not valid JSON");
}

#[test]
fn numbers_have_bounds() {
    for (field, good, bad) in [
        ("priority", ["-1000", "1000"], ["-1001", "1001"]),
        ("retries", ["0", "1000000"], ["-1", "1000001"]),
        ("index", ["0", "9223372036854775807"], ["-1", "9223372036854775808"]),
    ] {
        for number in good {
            job(&format!(r#"{{"run":"a","{field}":{number}}}"#));
        }
        for number in bad.into_iter().chain(["1.0", "1e2", "1.5", "\"1\"", "[]", "true"]) {
            assert_refused(&format!(r#"{{"run":"a","{field}":{number}}}"#), field, "must be a whole number");
        }
    }
}

#[test]
fn durations_are_checked() {
    for field in ["delay", "timeout", "backoff"] {
        assert_refused(&format!(r#"{{"run":"a","{field}":"5x"}}"#), field, "\"5x\" is not a duration");
        assert_refused(&format!(r#"{{"run":"a","{field}":-1}}"#), field, "is negative");
        assert_refused(&format!(r#"{{"run":"a","{field}":1e99}}"#), field, "too long");
        assert_refused(&format!(r#"{{"run":"a","{field}":true}}"#), field, "not a duration");
    }
    assert_refused(r#"{"run":"a","timeout":0}"#, "timeout", "more than 0");
    assert_eq!(job(r#"{"run":"a","delay":0}"#).policy.delay, Some(Duration::ZERO));
}

#[test]
fn texts_and_paths_are_checked() {
    for field in ["pool", "name", "key", "output_dir", "cwd", "stdin"] {
        assert_refused(&format!(r#"{{"run":"a","{field}":5}}"#), field, "must be a string, not a number");
    }
    for field in ["output_dir", "cwd", "key"] {
        assert_refused(&format!(r#"{{"run":"a","{field}":""}}"#), field, "must not be empty");
    }
    for field in ["output_dir", "cwd"] {
        assert_refused(&format!(r#"{{"run":"a","{field}":"\u0000"}}"#), field, "NUL");
    }
    assert_refused(r#"{"run":"a","pool":"GPU"}"#, "pool", "\"GPU\" is not a pool's name");
}

#[test]
fn key_bytes_max_and_name_bytes_max_are_limits() {
    for (field, limit, max) in
        [("key", "key_bytes_max", KEY_BYTES_MAX), ("name", "name_bytes_max", NAME_BYTES_MAX)]
    {
        job(&format!(r#"{{"run":"a","{field}":"{}"}}"#, "x".repeat(max)));
        let long = format!(r#"{{"run":"a","{field}":"{}"}}"#, "x".repeat(max + 1));
        assert_refused(&long, field, &format!("{limit} is {max}"));
    }
    let long = format!(r#"{{"run":"a","after":"{}"}}"#, "x".repeat(NAME_BYTES_MAX + 1));
    assert_refused(&long, "after", "name_bytes_max");
}

#[test]
fn variables_are_strings_with_proper_names() {
    assert_eq!(job(r#"{"run":"a","env":{}}"#).policy.env, Some("{}".into()));
    for (env, part) in [
        ("[]", "object of strings, not an array"),
        ("\"A=1\"", "not a string"),
        (r#"{"":"1"}"#, "name of a variable"),
        (r#"{"A=B":"1"}"#, "\"A=B\" cannot be the name"),
        (r#"{"A\u0000":"1"}"#, "cannot be the name"),
        (r#"{"A":1}"#, "variable \"A\" must be a string, not a number"),
        (r#"{"A":null}"#, "not null"),
        (r#"{"A":"\u0000"}"#, "NUL"),
    ] {
        assert_refused(&format!(r#"{{"run":"a","env":{env}}}"#), "env", part);
    }
}

#[test]
fn after_is_an_id_a_label_or_several() {
    let after = |text: &str| job(&format!(r#"{{"run":"a","after":{text}}}"#)).after;
    assert_eq!(after("17"), [After::Id(JobId(17))]);
    assert_eq!(after("\"17\""), [After::Label("17".into())]);
    assert_eq!(after("[]"), []);
    assert_eq!(after("[1,\"x\",18446744073709551615]").len(), 3);
    for (bad, part) in [
        ("-1", "must be a job's id, not -1"),
        ("1.5", "must be a job's id"),
        ("18446744073709551616", "must be a job's id"),
        ("\"\"", "must not be empty"),
        ("{}", "not an object"),
        ("[[1]]", "element 0 must be"),
        ("[1,true]", "element 1 must be"),
    ] {
        assert_refused(&format!(r#"{{"run":"a","after":{bad}}}"#), "after", part);
    }
}

#[test]
fn data_depth_max_is_a_limit_and_no_depth_overflows_the_stack() {
    let nested = |depth: usize| format!(r#"{{"data":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    job(&nested(DATA_DEPTH_MAX));
    assert_refused(&nested(DATA_DEPTH_MAX + 1), "data", "data_depth_max is 128");
    assert_refused(&nested(100_000), "data", "data_depth_max");
    let objects = format!(r#"{{"data":{}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_refused(&objects, "data", "data_depth_max");
    let deep = "[".repeat(100_000);
    for field in ["run", "after", "env", "name", "timeout", "priority", "zzz"] {
        refused(&format!(r#"{{"{field}":{deep}{}}}"#, "]".repeat(100_000)));
    }
    refused(&deep);
    refused(&format!(r#"{{"data":{deep}"#));
    let wide = format!(r#"{{"data":[{}0]}}"#, r#"["]","[\"["],"#.repeat(1_000));
    job(&wide);
}

#[test]
fn what_is_for_commands_is_refused_beside_data() {
    for field in ["output_dir", "cwd", "stdin"] {
        assert_refused(&format!(r#"{{"data":1,"{field}":"x"}}"#), field, "for jobs with \"run\"");
    }
    assert_refused(r#"{"data":1,"env":{}}"#, "env", "for jobs with \"run\"");
    let defaults = Defaults::parse(r#"{"env":{"A":"1"},"cwd":"/","stdin":"","output_dir":"o","retries":2}"#);
    let draft = parse(r#"{"data":1}"#, &defaults.expect("good defaults")).expect("a job");
    assert_eq!(draft.policy, Policy { retries: Some(2), ..Policy::default() });
}

#[test]
fn the_job_goes_before_the_defaults() {
    let defaults = Defaults::parse(
        r#"{"pool":"p","name":"n","priority":5,"delay":1,"timeout":2,"retries":3,"backoff":4,"after":[9],"output_dir":"o",
            "cwd":"c","stdin":"s","env":{"A":"1","B":"2"}}"#,
    )
    .expect("good defaults");
    let filled = parse(r#"{"run":"x"}"#, &defaults).expect("a job");
    assert_eq!(filled.to_json(), format!(r#"{{"run":"x",{}"#, &defaults.to_json()[1..]));
    let own = r#"{"run":"x","pool":"q","name":"m","priority":0,"delay":0,"timeout":1,"backoff":0,"retries":0,"after":[],
        "output_dir":"O","cwd":"C","stdin":"","env":{"B":"3","C":"4"}}"#;
    let mixed = parse(own, &defaults).expect("a job");
    let mut expected = parse(own, &Defaults::default()).expect("a job");
    expected.policy.env = Some(r#"{"A":"1","B":"3","C":"4"}"#.into());
    assert_eq!(mixed, expected);
}

#[test]
fn a_plain_string_takes_the_defaults_too() {
    let defaults = Defaults::parse(r#"{"pool":"p","after":"k"}"#).expect("good defaults");
    assert_eq!(parse("\"x\"", &defaults), parse(r#"{"run":"x"}"#, &defaults));
    assert_eq!(parse("\"x\"", &defaults).expect("a job").after, [After::Label("k".into())]);
}

#[test]
fn defaults_hold_policy_alone() {
    for field in ["run", "data", "key", "index"] {
        let error = Defaults::parse(&format!(r#"{{"{field}":"1"}}"#)).expect_err(field);
        assert_eq!(error.field.as_deref(), Some(field));
        assert!(error.message.contains("defaults cannot hold"), "{error:?}");
    }
    let error = Defaults::parse(r#"{"timout":1}"#).expect_err("a slip");
    assert_eq!(error.hint.as_deref(), Some("Did you mean \"timeout\"?"));
    assert!(Defaults::parse("[]").is_err());
    assert!(Defaults::parse("{").is_err());
    assert_eq!(Defaults::parse(" {} "), Ok(Defaults::default()));
}

#[test]
fn stronger_defaults_stand_over_weaker_ones() {
    let strong = Defaults::parse(r#"{"retries":1,"env":{"A":"1"}}"#).expect("good defaults");
    let weak = Defaults::parse(r#"{"retries":2,"timeout":3,"env":{"A":"2","B":"2"},"after":5}"#)
        .expect("good defaults");
    let merged = strong.over(&weak);
    assert_eq!(merged.to_json(), r#"{"timeout":3,"retries":1,"after":[5],"env":{"B":"2","A":"1"}}"#);
    assert_eq!(Defaults::parse(&merged.to_json()), Ok(merged));
}

#[test]
fn many_variables_are_merged_in_good_time() {
    let env = |prefix: &str| {
        let each: Vec<String> = (0..50_000).map(|n| format!(r#""{prefix}{n}":"""#)).collect();
        format!(r#"{{"env":{{{}}}}}"#, each.join(","))
    };
    let merged = Defaults::parse(&env("A")).expect("good").over(&Defaults::parse(&env("B")).expect("good"));
    assert_eq!(merged.policy.env.expect("variables").matches(':').count(), 100_000);
}
