//! Tests of job files, case by case.

use super::*;
use std::io::{BufReader, Read};

/// Reads all of a file, in pieces of `capacity` bytes.
fn read_in_pieces(text: &[u8], format: Format, capacity: usize) -> Result<(Header, Vec<Element>)> {
    let mut file = JobFile::open(BufReader::with_capacity(capacity, text), "jobs.json", format)?;
    let mut elements = Vec::new();
    while let Some(element) = file.next_element()? {
        elements.push(element);
    }
    assert_eq!(file.next_element(), Ok(None), "the end lasts");
    Ok((file.header().clone(), elements))
}

fn read(text: impl AsRef<[u8]>, format: Format) -> Result<(Header, Vec<Element>)> {
    let text = text.as_ref();
    let whole = read_in_pieces(text, format, 1 << 16);
    if text.len() < 1 << 20 {
        assert_eq!(read_in_pieces(text, format, 1), whole, "the same however it comes in");
        assert_eq!(read_in_pieces(text, format, 5), whole, "the same however it comes in");
    }
    whole
}

#[track_caller]
fn jobs(text: &str, format: Format) -> Vec<String> {
    let (_, elements) = read(text, format).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    for (index, element) in elements.iter().enumerate() {
        assert_eq!(element.index, index as u64);
    }
    elements.into_iter().map(|element| element.json).collect()
}

#[track_caller]
fn refused(text: impl AsRef<[u8]>, format: Format) -> String {
    let error = read(text, format).expect_err("a bad file");
    error.to_string()
}

#[track_caller]
fn refused_json(text: &str) -> String {
    refused(text, Format::Json)
}

#[test]
fn an_array_is_read() {
    assert_eq!(jobs(r#"["a", {"run":"b"} ,"c"]"#, Format::Json), [r#""a""#, r#"{"run":"b"}"#, r#""c""#]);
    assert_eq!(jobs(" \r\n[\n]\n", Format::Json), [""; 0]);
}

#[test]
fn jobs_one_after_another_are_read() {
    let two = [r#"{"run":"a"}"#, r#""b""#];
    for text in [
        "{\"run\":\"a\"}\n\"b\"\n",
        "{\"run\":\"a\"}\r\n\r\n\"b\"",
        "{\"run\":\"a\"}\"b\"",
        " {\"run\":\"a\"} \"b\" ",
    ] {
        assert_eq!(jobs(text, Format::Json), two);
    }
    assert_eq!(jobs("{\n \"run\" : \"a\"\n}\n", Format::Json), ["{\n \"run\" : \"a\"\n}"]);
}

#[test]
fn an_object_with_jobs_is_read_whatever_the_order_of_its_fields() {
    for text in [
        r#"{"name":"n","defaults":{"retries":2},"jobs":["a","b"]}"#,
        r#"{"jobs":["a","b"],"defaults":{"retries":2},"name":"n"}"#,
        r#"{ "defaults" : {"retries":2} , "jobs" : [ "a" , "b" ] , "name" : "n" } "#,
        "\u{feff}{\r\n\"name\":\"n\",\r\n\"jobs\":[\r\n\"a\",\r\n\"b\"\r\n],\r\n\"defaults\":{\"retries\":2}\r\n}\r\n",
    ] {
        let (header, elements) = read(text, Format::Json).expect("a good file");
        assert_eq!(header.name.as_deref(), Some("n"));
        assert_eq!(header.defaults.as_deref(), Some(r#"{"retries":2}"#));
        assert_eq!(elements.len(), 2);
    }
    let (header, elements) = read(r#"{"name":null,"jobs":[]}"#, Format::Json).expect("a good file");
    assert_eq!((header, elements), (Header::default(), vec![]));
}

#[test]
fn places_are_counted() {
    let text = "\n[\n\"a\",\n\n {\n\"run\":\"b\"}, \"c\"]";
    let (_, elements) = read(text, Format::Json).expect("a good file");
    let lines: Vec<u64> = elements.iter().map(|element| element.line).collect();
    assert_eq!(lines, [3, 5, 6]);
    let (_, elements) = read("a\n\nb\n", Format::Lines).expect("a good file");
    let lines: Vec<u64> = elements.iter().map(|element| element.line).collect();
    assert_eq!(lines, [1, 3]);
}

#[test]
fn payloads_come_through_byte_for_byte() {
    let data = "{ \"b\" :\t[1e999 , -0.0],\n\"a\":\"\\u0041\\/\", \"a\":1 }";
    let job = format!("{{\"data\":{data}}}");
    for text in [job.clone(), format!("[{job}]"), format!("{{\"jobs\":[{job}]}}"), format!("{job}\n{job}")] {
        assert_eq!(jobs(&text, Format::Json)[0], job);
    }
    for text in [data.to_owned(), format!("[ {data} ]"), format!("{data}\n5")] {
        assert_eq!(jobs(&text, Format::Raw)[0], job);
    }
}

#[test]
fn lines_are_commands_as_they_stand() {
    let text = "echo hi\n\n  two  spaces \r\n \t \n\"quoted\" \\ ü\nlast";
    let expected = [r#""echo hi""#, r#""  two  spaces ""#, r#""\"quoted\" \\ ü""#, r#""last""#];
    assert_eq!(jobs(text, Format::Lines), expected);
    assert_eq!(jobs("\u{feff}[1]", Format::Lines), [r#""[1]""#]);
}

#[test]
fn raw_takes_one_array_or_values_one_after_another() {
    let one = r#"{"data":1}"#;
    assert_eq!(jobs("[1]", Format::Raw), [one]);
    assert_eq!(jobs("1", Format::Raw), [one]);
    assert_eq!(jobs("1\n[2]\n\"x\" null", Format::Raw).len(), 4);
    assert_eq!(jobs("[1,2]\n[3]\n", Format::Raw), [r#"{"data":[1,2]}"#, r#"{"data":[3]}"#]);
    assert_eq!(jobs("[[1,2],[3]]\n", Format::Raw), [r#"{"data":[1,2]}"#, r#"{"data":[3]}"#]);
    assert_eq!(jobs(r#"{"jobs":[1]}"#, Format::Raw), [r#"{"data":{"jobs":[1]}}"#]);
}

#[test]
fn empty_files_say_so() {
    for format in [Format::Json, Format::Lines, Format::Raw] {
        for text in ["", "\n", " \t\r\n\n", "\u{feff}"] {
            assert_eq!(refused(text, format), "jobs.json is empty: nothing to submit");
        }
    }
}

#[test]
fn what_is_not_json_gets_the_hint() {
    let hint = "jobs.json:1 is not JSON. One shell command per line? Add --lines.";
    for text in
        ["echo hi\n", "7z x y", "tar xf a", "find .", "./run", "# comment", "-x", "\u{1}", "ü", ", x", "]"]
    {
        assert_eq!(refused_json(text), hint, "{text}");
    }
    assert_eq!(refused_json("\n\n\"a\"\necho hi"), hint.replace(":1", ":4"));
    assert!(refused_json("[ -f x ] && y").ends_with("Add --lines."));
    assert!(refused_json("{ a; }").ends_with("Add --lines."));
    assert!(refused("abc", Format::Raw).starts_with("jobs.json:1 is not JSON. With --raw"));
}

#[test]
fn broken_arrays_say_where_and_what_to_do() {
    for (text, message) in [
        ("[\"a\",\n]", ":2: there is a comma that no job follows: remove it"),
        ("[\"a\",\n,\"b\"]", ":2: there is a comma that no job follows: remove it"),
        ("[,\"a\"]", ":1: there is a comma before the first job: remove it"),
        ("[\"a\"\n\"b\"]", ":2: there should be a comma or ] behind the job before this"),
        ("[\"a\"\n", ":2: the file ends inside the array of jobs: its ] is missing"),
        ("[\"a\",\n", ":2: the file ends behind a comma inside the array of jobs"),
        ("[", ":1: the file ends inside the array of jobs: its ] is missing"),
        ("[\"a\"]\n]", ":2: something follows behind the end of the jobs"),
        ("[\"a\"]\n[\"b\"]", ":2: something follows behind the end of the jobs"),
        ("[\"a\"\n:1]", ":2: there should be a comma or ] behind the job before this"),
        ("[:1]", ":1: there should be a job here"),
        (
            "[\"a\",\n{\"run\":\"b\"",
            ":2: element 1: the file ends inside this job: a bracket or quote is not closed",
        ),
        (
            "{\"run\":\"a\"},\n\"b\"",
            ":1: there is a comma between two jobs. Remove it, or put all jobs in [ ]",
        ),
    ] {
        let error = refused_json(text);
        assert!(error.starts_with(&format!("jobs.json{message}")), "{text}: {error}");
    }
}

#[test]
fn broken_jobs_are_placed_exactly() {
    for (text, message) in [
        ("[\"a\",\n {\"run\":\"b\",\n  \"x\" 1}]", ":3: element 1: expected `:`, column 7"),
        ("[\"a\",\n {\"run\":\"b\",}]", ":2: element 1: there should be a field's name in quotes, column 13"),
        ("[\"a\",\n  \"b\n\",\"c\"]", ":2: element 1: a string is not closed on its line, column 4"),
        ("[\"a\",\n{\"run\":\"b\n\"}]", ":2: element 1: a string is not closed on its line"),
        ("[\"a\",\n{\"run\":b}]", ":2: element 1: expected value, column 8"),
        ("\"a\"\n{\"run\":\"b\"]\n", ":2: element 1: expected `,` or `}`, column 11"),
        ("\"a\"\n{\"run\" \"b\"", ":2: element 1: expected `:`"),
        ("[\"a\",\ntru]", ":2: element 1: expected value, column 3"),
        ("\"a\"\n\"\\x\"", ":2: element 1: invalid escape"),
        ("\"a\"\n\"\t\"", ":2: element 1: control character"),
    ] {
        let error = refused_json(text);
        assert!(error.starts_with(&format!("jobs.json{message}")), "{text}: {error}");
    }
    assert!(
        refused("[1,\n  [1 2]]", Format::Raw)
            .starts_with("jobs.json:2: element 1: expected `,` or `]`, column 6")
    );
}

#[test]
fn broken_objects_say_where_and_what_to_do() {
    for (text, message) in [
        ("{\"jobs\":[],\n\"jbos\":1}", ":2: unknown field \"jbos\". Did you mean \"jobs\"?"),
        ("{\"timeout\":1,\"jobs\":[]}", ":1: unknown field \"timeout\". Beside"),
        ("{\"jobs\":[],\n\"jobs\":[]}", ":2: \"jobs\" stands twice"),
        ("{\"name\":\"a\",\n\"name\":\"a\",\"jobs\":[]}", ":2: \"name\" stands twice"),
        ("{\"jobs\":\n{}}", ":2: \"jobs\" must be an array"),
        ("{\"jobs\"}", ":1: element 0: expected `:`"),
        ("{\"jobs\":[\"a\"]", ":1: the file ends inside its object: its } is missing"),
        ("{\"jobs\":[\"a\"],\n}", ":2: there should be a field's name in quotes"),
        (
            "{\"jobs\":[\"a\"]\n\"name\":\"x\"}",
            ":2: there should be a comma or } behind the field before this",
        ),
        ("{\"name\":\"x\"\n\"jobs\":[\"a\"]}", ":2: element 0: expected `,` or `}`, column 1"),
        ("{\"jobs\":[\"a\"]}\n\"b\"", ":2: something follows behind the end of the jobs"),
        ("{\"name\":5,\"jobs\":[]}", ":1: \"name\" must be a string"),
        ("{\"jobs\":[],\n\"name\":\"last\"}", ":2: a batch cannot be called \"last\""),
        (
            "{\"jobs\":[],\n\"defaults\":{\"retires\":1}}",
            ":2: in \"defaults\": unknown field \"retires\". Did you mean",
        ),
        ("{\"defaults\":[],\"jobs\":[]}", ":1: in \"defaults\": \"defaults\" must be an object"),
        ("{\"jobs\":[\"a\"],\"name\" \"x\"}", ":1: \"name\" is not followed by a colon"),
        (
            "{\"jobs\":[\"a\"],\"defaults\":",
            ":1: in \"defaults\": \"defaults\" must be an object, not nothing",
        ),
    ] {
        let error = refused_json(text);
        assert!(error.starts_with(&format!("jobs.json{message}")), "{text}: {error}");
    }
    let error = read("{\"jobs\":[],\"jbos\":1}", Format::Json).expect_err("a slip");
    assert_eq!((error.field.as_deref(), error.index), (Some("jbos"), None));
}

#[test]
fn bytes_that_are_not_utf8_are_placed() {
    let error = refused(b"[\"a\",\n{\"run\":\n\"\xff\"}]", Format::Json);
    assert_eq!(error, "jobs.json:3: element 1: there are bytes that are not UTF-8");
    let error = refused(b"a\nb\xc3\n", Format::Lines);
    assert_eq!(error, "jobs.json:2: element 1: there are bytes that are not UTF-8");
    assert!(refused(b"\xff\xfe[\0", Format::Json).starts_with("jobs.json:1"));
    assert!(refused(b"{\"jobs\":[],\"name\":\"\xff\"}", Format::Json).contains("not UTF-8"));
}

#[test]
fn job_bytes_max_is_a_limit() {
    let message = "jobs.json:2: element 1: the job is too long: job_bytes_max is 10";
    for (good, bad, format) in [
        ("[\"a\",\n\"12345678\"]", "[\"a\",\n\"123456789\"]", Format::Json),
        ("\"a\"\n\"12345678\"", "\"a\"\n\"123456789\"", Format::Json),
        ("a\n12345678\n", "a\n123456789\n", Format::Lines),
        ("a\n\"\"\"\"", "a\n\"\"\"\"\"", Format::Lines),
        ("1\n1", "1\n12", Format::Raw),
    ] {
        let read = |text: &str| {
            let mut file = JobFile::open(text.as_bytes(), "jobs.json", format).expect("it opens");
            file = file.with_job_bytes_max(10);
            while file.next_element()?.is_some() {}
            Ok(())
        };
        assert_eq!(read(good), Ok(()));
        assert_eq!(read(bad).map_err(|error: FileError| error.to_string()), Err(message.to_owned()));
    }
}

#[test]
fn a_quote_that_is_not_closed_is_found_before_the_end_of_the_file() {
    let text = format!("[\"a\",\n[\"b,\n{}", "\"c\",\n".repeat(1_000_000));
    assert!(refused(&text, Format::Json).starts_with("jobs.json:2: element 1: a string is not closed"));
    let unclosed = format!("{{\"run\":\"a\"\n{}", "{\"run\":\"b\"}\n".repeat(1_000_000));
    assert!(refused(&unclosed, Format::Json).starts_with("jobs.json:2: element 0: expected `,` or `}`"));
}

#[test]
fn no_depth_overflows_the_stack() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in
        [format!("[{deep}]"), format!("{{\"data\":{deep}}}"), format!("{{\"jobs\":[{{\"data\":{deep}}}]}}")]
    {
        let mut file = JobFile::open(text.as_bytes(), "f", Format::Json).expect("it opens");
        let error = file.next_job(&Defaults::default()).expect_err("too deep");
        assert_eq!((error.line, error.index), (1, Some(0)));
        assert_eq!(file.next_job(&Defaults::default()), Ok(None));
    }
    assert_eq!(jobs(&format!("{deep}\n1"), Format::Raw).len(), 2);
    assert!(refused_json(&"[".repeat(2_000_000)).contains("the job is too long"));
    assert!(refused_json(&"{\"a\":".repeat(100_000)).contains("the file ends inside this job"));
}

#[test]
fn bad_jobs_are_named_with_line_index_and_field() {
    let text = "{\"name\":\"n\",\n\"jobs\":[\"a\",\n{\"run\":\"b\",\n\"retires\":3}]}";
    let mut file = JobFile::open(text.as_bytes(), "jobs.json", Format::Json).expect("it opens");
    let (element, draft) = file.next_job(&Defaults::default()).expect("a good job").expect("there is one");
    assert_eq!((element.line, draft.to_json().as_str()), (2, r#"{"run":"a"}"#));
    let error = file.next_job(&Defaults::default()).expect_err("a slip");
    assert_eq!((error.line, error.index, error.field.as_deref()), (3, Some(1), Some("retires")));
    assert_eq!(
        error.to_string(),
        r#"jobs.json:3: element 1: unknown field "retires". Did you mean "retries"?"#
    );
}

#[test]
fn syntax_is_placed_the_same_by_next_job() {
    for text in ["[\"a\",\n {\"run\":\"b\",\n  \"x\" 1}]", "echo hi", "\"a\"\n\"b", "[{\"run\":[1,}]"] {
        let mut file = JobFile::open(text.as_bytes(), "jobs.json", Format::Json).expect("it opens");
        let error = loop {
            if let Err(error) = file.next_job(&Defaults::default()) {
                break error;
            }
        };
        assert_eq!(error.to_string(), refused_json(text));
    }
}

#[test]
fn late_fields_are_found_behind_many_jobs_but_not_behind_all_too_many() {
    let many = |bytes: usize| vec!["\"0123456789\""; bytes / 13].join(",");
    let file = |bytes| format!("{{\"jobs\":[{}],\n\"name\":\"late\"}}", many(bytes));
    let (header, elements) = read(file(1 << 20), Format::Json).expect("a good file");
    assert_eq!((header.name.as_deref(), elements.len()), (Some("late"), (1 << 20) / 13));
    let error = refused_json(&file(LOOKAHEAD_BYTES_MAX + (1 << 20)));
    assert_eq!(error, "jobs.json:2: \"name\" stands behind more than 8 MiB of jobs. Put it before \"jobs\"");
    let without = format!("{{\"jobs\":[{}]}}", many(LOOKAHEAD_BYTES_MAX * 2));
    assert_eq!(read(&without, Format::Json).expect("a good file").1.len(), LOOKAHEAD_BYTES_MAX * 2 / 13);
}

/// Gives the same piece again and again, then ends.
struct Repeat {
    piece: &'static [u8],
    left: usize,
    at: usize,
}

impl Read for Repeat {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            self.at = 0;
            self.left = self.left.saturating_sub(1);
        }
        if self.left == 0 {
            return Ok(0);
        }
        let count = (&self.piece[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[test]
fn a_large_file_is_kept_in_pieces() {
    let reader = Repeat {
        piece: b"{\"data\":[1,2,3,\"0123456789012345678901234567890123456789\"]}\n",
        left: 500_000,
        at: 0,
    };
    let mut file = JobFile::open(BufReader::new(reader), "-", Format::Json).expect("it opens");
    let mut count = 0;
    while let Some(element) = file.next_element().expect("a good file") {
        count += 1;
        assert_eq!(element.line, count);
        assert!(file.source.kept() <= LOOKAHEAD_BYTES_MAX);
    }
    assert_eq!(count, 500_000);
}

#[test]
fn a_reader_that_fails_is_an_error_with_its_reason() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let readers: [&[u8]; 4] = [b"", b"[\"a\",", b"{\"jobs\":[\"a\"", b"{\"run\":"];
    for start in readers {
        let reader = BufReader::new(start.chain(Broken));
        let mut opened = JobFile::open(reader, "jobs.json", Format::Json);
        let error = loop {
            match opened.as_mut().map(JobFile::next_element) {
                Err(error) => break error.clone(),
                Ok(Err(error)) => break error,
                Ok(Ok(element)) => assert!(element.is_some(), "the end was not reached"),
            }
        };
        assert_eq!(error.to_string(), "jobs.json cannot be read: the disk is gone");
    }
}
