//! Pages of logs in real files.

use super::*;
use serde_json::Value;
use std::fmt::Write as _;

/// A line of a pool, said in a second of one day.
fn line(second: u32, worker: &str, text: &str) -> String {
    format!("2026-01-31T09:{:02}:{:02}.000Z {worker} stdout {text}\n", second / 60, second % 60)
}

fn own(second: u32, text: &str) -> String {
    format!("2026-01-31T09:{:02}:{:02}.000Z {text}\n", second / 60, second % 60)
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    fs::create_dir(home.path().join(FOLDER)).expect("it is ours");
    home
}

fn write(home: &tempfile::TempDir, name: &str, text: &str) {
    fs::write(home.path().join(name), text).expect("it is ours");
}

fn texts(page: &Page) -> Vec<String> {
    let pieces = page.pieces.iter().map(|piece| serde_json::from_str::<Value>(piece).expect("JSON"));
    pieces.map(|piece| piece["text"].as_str().expect("a text").to_owned()).collect()
}

/// All pages from a place on: their texts, and whether one had a gap.
fn read_all(home: &Path, worker: Option<&str>, from: &Cursor) -> (Vec<String>, bool, Cursor) {
    let word = worker.map(|worker| WorkerWord::parse(worker).expect("a worker"));
    let (mut all, mut gap, mut from) = (Vec::new(), false, from.clone());
    loop {
        let page = read(home, word.as_ref(), &from).expect("readable");
        assert!(page.pieces.len() <= PAGE_ROWS_MAX);
        all.extend(texts(&page));
        gap |= page.gap;
        // As it travels.
        from = Cursor::parse(&page.next.to_string()).expect("our own");
        if page.done {
            return (all, gap, from);
        }
    }
}

#[test]
fn series_are_merged_by_time_and_volumes_by_number() {
    let home = home();
    write(&home, "pushpulld.log", &(own(1, "ready") + &own(6, "bye")));
    write(&home, "logs/a.log.2", &line(2, "a.0.1", "one"));
    write(&home, "logs/a.log.10", &line(4, "a.0.1", "three"));
    write(&home, "logs/a.log", &line(5, "a.0.3", "four"));
    write(&home, "logs/b.log", &line(3, "b.0.2", "two"));
    let (all, gap, _) = read_all(home.path(), None, &Cursor::default());
    assert_eq!(all, ["ready", "one", "two", "three", "four", "bye"]);
    assert!(!gap);
    assert_eq!(read_all(home.path(), Some("a.0"), &Cursor::default()).0, ["one", "three", "four"]);
    assert_eq!(read_all(home.path(), Some("a.0.3"), &Cursor::default()).0, ["four"]);
    let (none, _, next) = read_all(home.path(), Some("a.1"), &Cursor::default());
    assert!(none.is_empty() && !next.found);
}

#[test]
fn whoever_comes_back_goes_on_also_after_a_rotation_and_is_told_of_a_gap() {
    let home = home();
    let at = |name: &str| home.path().join("logs").join(name);
    write(&home, "logs/a.log", &line(1, "a.0.1", "one"));
    let (_, _, cursor) = read_all(home.path(), None, &Cursor::default());
    fs::rename(at("a.log"), at("a.log.1")).expect("it is ours");
    let old = fs::read_to_string(at("a.log.1")).expect("text");
    write(&home, "logs/a.log.1", &(old + &line(2, "a.0.1", "two")));
    write(&home, "logs/a.log", &line(3, "a.0.1", "three"));
    let (new, gap, _) = read_all(home.path(), None, &cursor);
    assert_eq!((new, gap), (vec!["two".to_owned(), "three".to_owned()], false));

    fs::rename(at("a.log"), at("a.log.2")).expect("it is ours");
    fs::remove_file(at("a.log.1")).expect("it is ours");
    let (new, gap, cursor) = read_all(home.path(), None, &cursor);
    assert_eq!((new, gap), (vec!["three".to_owned()], true));

    // Somebody has deleted everything.
    fs::remove_file(at("a.log.2")).expect("it is ours");
    write(&home, "logs/a.log", &line(9, "a.0.9", "new"));
    let (new, gap, _) = read_all(home.path(), None, &cursor);
    assert_eq!((new, gap), (vec!["new".to_owned()], true));
}

#[test]
fn a_page_is_bounded_and_a_search_leads_on_through_empty_ones() {
    let home = home();
    let mut text = String::new();
    for number in 0..100_000 {
        text.push_str(&line(1, "a.0.1", &number.to_string()));
    }
    write!(text, "{}", line(2, "a.1.2", "needle")).expect("a String takes every write");
    assert!(text.len() > READ_BYTES_MAX);
    write(&home, "logs/a.log", &text);
    let first = read(home.path(), None, &Cursor::default()).expect("readable");
    assert_eq!((first.pieces.len(), first.done), (PAGE_ROWS_MAX, false));
    let word = WorkerWord::parse("a.1").expect("a slot");
    let page = read(home.path(), Some(&word), &Cursor::default()).expect("readable");
    assert_eq!((page.pieces.len(), page.done), (0, false), "the haystack is larger than one look");
    assert_eq!(read_all(home.path(), Some("a.1"), &Cursor::default()).0, ["needle"]);
    let (all, gap, _) = read_all(home.path(), None, &Cursor::default());
    assert_eq!((all.len(), gap), (100_001, false));

    let long = "x".repeat(7_000);
    write(&home, "logs/a.log", &line(1, "a.0.1", &long).repeat(500));
    let page = read(home.path(), None, &Cursor::default()).expect("readable");
    assert!(page.pieces.len() < 200, "{} lines of 7,000 bytes", page.pieces.len());
    assert_eq!(read_all(home.path(), None, &Cursor::default()).0.len(), 500);
}

#[test]
fn foreign_bytes_are_lines_too_and_an_unfinished_line_is_none_yet() {
    let home = home();
    write(&home, "pushpulld.log", &format!("{}thread 'main' panicked\n\n{}", own(1, "a"), own(2, "b")));
    let begun = line(3, "a.0.1", "begun");
    write(&home, "logs/a.log", begun.trim_end());
    let page = read(home.path(), None, &Cursor::default()).expect("readable");
    assert_eq!(texts(&page), ["a", "thread 'main' panicked", "b"]);
    assert!(
        page.pieces[1].contains("09:00:01.000Z"),
        "it has the time of the line before: {}",
        page.pieces[1]
    );
    write(&home, "logs/a.log", &begun);
    assert_eq!(read_all(home.path(), None, &page.next).0, ["begun"]);

    // A line that goes on for ever, and one that is no text.
    let mut junk = vec![b'x'; 3 * CHUNK_BYTES];
    junk.extend_from_slice(b"\n2026-01-31T09:00:09.000Z a.0.1 stderr \xff\n");
    fs::write(home.path().join("logs/a.log"), junk).expect("it is ours");
    let page = read(home.path(), None, &Cursor::default()).expect("readable");
    assert!(page.done);
    assert!(page.pieces.iter().any(|piece| piece.contains(r#""stream":"stderr","base64":"/w==""#)));
}

#[test]
fn an_invented_place_is_moved_to_a_line() {
    let home = home();
    write(&home, "logs/a.log", &(line(1, "a.0.1", "one") + &line(2, "a.0.1", "two")));
    let at =
        |volume: u64, offset: u64| Cursor::parse(&format!("0/a:{volume}.{offset}")).expect("well formed");
    for (cursor, expected, has_gap) in [
        (at(1, 5), &["two"][..], false),
        (at(1, 1 << 60), &["one", "two"], true),
        (at(0, 0), &["one", "two"], true),
        (at(u64::MAX, u64::MAX), &["one", "two"], true),
    ] {
        let (all, gap, _) = read_all(home.path(), None, &cursor);
        assert_eq!((all.iter().map(String::as_str).collect::<Vec<_>>(), gap), (expected.to_vec(), has_gap));
    }
}
