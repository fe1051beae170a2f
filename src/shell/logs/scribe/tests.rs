//! A scribe of its own: what it is told, and what it answers.

use super::*;
use crate::model::{Generation, PoolName, WorkerName};
use crate::wire::logs::WorkerWord;
use std::time::Duration;

const LIMITS: Limits = Limits { file_bytes_max: 1 << 20, backups: 2 };
const PATIENCE: Duration = Duration::from_secs(60);

/// A scribe that leaves the daemon's own words alone, for those belong to the whole process.
fn scribe(home: &Path) -> Scribe {
    std::fs::create_dir(home.join(FOLDER)).expect("it is ours");
    let (orders, order_receiver) = channel();
    let (answer_sender, answers) = channel();
    let unwritten = Arc::new(AtomicUsize::new(0));
    let wakeup = Arc::new(Wakeup::new().expect("a descriptor"));
    let pen = Pen::new(orders.clone(), unwritten.clone());
    let desk = Desk {
        home: home.to_owned(),
        limits: LIMITS,
        is_stderr: false,
        books: BTreeMap::new(),
        unwritten,
        waiters: Vec::new(),
        looked: None,
        look_at: None,
        answers: answer_sender,
        wakeup: wakeup.clone(),
    };
    let thread = Some(std::thread::spawn(move || desk.work(&order_receiver)));
    Scribe { orders, pen, answers, wakeup, thread }
}

fn worker(slot: u32) -> WorkerName {
    WorkerName { pool: PoolName::default(), slot, generation: Generation(7) }
}

fn ask(word: Option<&str>, after: Option<&str>, timeout: Duration) -> LogsAsk {
    let worker = word.map(|word| WorkerWord::parse(word).expect("a worker"));
    LogsAsk { worker, after: after.map(str::to_owned), timeout }
}

fn answer(scribe: &Scribe) -> Reply {
    scribe.answers.recv_timeout(PATIENCE).expect("an answer").1
}

fn code(reply: &Reply) -> Option<Code> {
    if let Reply::Refused(refusal) = reply { Some(refusal.code) } else { None }
}

#[test]
fn a_question_sees_what_was_written_before_it_and_another_waits_for_what_comes() {
    let home = tempfile::tempdir().expect("a directory");
    let mut scribe = scribe(home.path());
    scribe.pen.page(&worker(0), "stdout").line(b"one");
    scribe.ask(Client(1), ask(None, None, PATIENCE), true).expect("it lives");
    let Reply::Logs { pieces, next, gap: false, done: true } = answer(&scribe) else {
        panic!("no page");
    };
    assert_eq!(pieces.len(), 1);
    scribe.ask(Client(2), ask(Some("default.0"), Some(&next), PATIENCE), true).expect("it lives");
    // Another worker's line wakes it, and is not meant for it.
    scribe.pen.page(&worker(1), "stdout").line(b"other");
    scribe.pen.page(&worker(0), "stderr").line(b"two");
    let Reply::Logs { pieces, .. } = answer(&scribe) else {
        panic!("no page");
    };
    assert!(pieces.len() == 1 && pieces[0].contains(r#""stream":"stderr","text":"two""#), "{pieces:?}");
    scribe.finish();
}

#[test]
fn who_waits_in_vain_is_answered_in_the_end() {
    let home = tempfile::tempdir().expect("a directory");
    let mut scribe = scribe(home.path());
    scribe.ask(Client(1), ask(None, None, Duration::from_millis(1)), true).expect("it lives");
    assert!(matches!(answer(&scribe), Reply::Logs { done: true, .. }));
    scribe.ask(Client(2), ask(None, None, PATIENCE), true).expect("it lives");
    scribe.finish();
    assert!(matches!(answer(&scribe), Reply::Logs { done: true, .. }));
}

#[test]
fn nobody_of_whom_there_is_nothing_is_not_found() {
    let home = tempfile::tempdir().expect("a directory");
    let mut scribe = scribe(home.path());
    scribe.pen.page(&worker(0), "stdout").line(b"one");
    for (word, is_known, expected) in [
        ("default.1", false, Some(Code::NotFound)),
        ("default.1", true, None),
        ("default.0.7", false, None),
        ("default.0.8", false, Some(Code::NotFound)),
        ("gone.0", false, Some(Code::NotFound)),
    ] {
        scribe.ask(Client(1), ask(Some(word), None, Duration::ZERO), is_known).expect("it lives");
        assert_eq!(code(&answer(&scribe)), expected, "{word}");
    }
    scribe.ask(Client(1), ask(None, Some("nonsense"), Duration::ZERO), true).expect("it lives");
    assert_eq!(code(&answer(&scribe)), Some(Code::BadRequest));
    scribe.finish();
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_named_afterwards() {
    let home = tempfile::tempdir().expect("a directory");
    let mut scribe = scribe(home.path());
    let logs = home.path().join(FOLDER);
    let settled = |scribe: &Scribe| {
        scribe.ask(Client(1), ask(None, None, Duration::ZERO), true).expect("it lives");
        answer(scribe)
    };
    std::fs::remove_dir(&logs).expect("it is empty");
    for _ in 0..3 {
        scribe.pen.page(&worker(0), "stdout").line(b"lost");
        settled(&scribe);
    }
    std::fs::create_dir(&logs).expect("it is ours");
    scribe.pen.page(&worker(0), "stdout").line(b"kept");
    let Reply::Logs { pieces, .. } = settled(&scribe) else {
        panic!("no page");
    };
    assert_eq!(pieces.len(), 2, "{pieces:?}");
    assert!(pieces[0].contains("3 lines lost"), "{pieces:?}");
    assert!(pieces[1].contains("kept"), "{pieces:?}");
    scribe.finish();
}

#[test]
fn a_flood_beyond_what_may_wait_is_dropped_counted_and_never_waits() {
    let home = tempfile::tempdir().expect("a directory");
    let (orders, receiver) = channel();
    let unwritten = Arc::new(AtomicUsize::new(0));
    let pen = Pen::new(orders, unwritten.clone());
    // Nobody takes anything: the pen must come back all the same.
    let line = vec![b'x'; 8_000];
    for _ in 0..2_000 {
        pen.page(&worker(0), "stdout").line(&line);
    }
    let waiting = unwritten.load(Ordering::Relaxed);
    assert!(waiting <= pen::UNWRITTEN_BYTES_MAX);
    let taken = receiver.try_iter().count();
    unwritten.store(0, Ordering::Relaxed);
    pen.page(&worker(0), "stdout").line(b"again");
    let Ok(Order::Append { text, .. }) = receiver.try_recv() else {
        panic!("no line");
    };
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains(&format!("[{} lines dropped", 2_000 - taken)), "{text}");
    assert!(text.ends_with("again\n"), "{text}");
    drop(home);
}
