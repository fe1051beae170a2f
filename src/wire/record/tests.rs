//! Tests of records.

use super::*;
use crate::model::{After, BatchId, Generation, Job, JobId, Policy, PoolName, Running, WorkerName};
use std::sync::Arc;
use std::time::Duration;

fn place(generation: u64) -> AttemptPlace {
    let worker = WorkerName { pool: PoolName::default(), slot: 3, generation: Generation(generation) };
    AttemptPlace { worker, started: Wall(1_769_851_801_000) }
}

fn row(work: Work) -> Row {
    let job = Job {
        id: JobId(101),
        batch: BatchId(3),
        index: 0,
        pool: PoolName::default(),
        priority: 0,
        name: None,
        key: None,
        work,
        policy: None,
        context: None,
        after: Vec::new(),
        submitted: Wall(1_769_851_800_123),
    };
    Row {
        job: Arc::new(job),
        state: State::Queued,
        standing: Standing::default(),
        due: None,
        running: None,
        outcome: None,
    }
}

fn echo() -> Row {
    row(Work::Run(r#""echo hi""#.into()))
}

fn ended(mut row: Row, state: State, cause: Option<Cause>, result: Option<&str>) -> Row {
    let standing = Standing { attempts: 1, ..Standing::default() };
    row.state = state;
    row.outcome = Some(Outcome {
        id: row.job.id,
        batch: row.job.batch,
        pool: row.job.pool.clone(),
        state,
        cause,
        standing,
        last: Some(place(17)),
        finished: Wall(1_769_851_802_000),
        error: None,
        result: result.map(Into::into),
        evidence: None,
    });
    row
}

fn read(text: &str) -> Record {
    serde_json::from_str(text).expect(text)
}

#[test]
fn a_finished_job_has_the_fields_of_the_manual_in_its_order() {
    let row = ended(echo(), State::Succeeded, None, Some(r#"{"exit": 0}"#));
    let expected = concat!(
        r#"{"id":101,"batch":3,"index":0,"name":null,"key":null,"pool":"default","run":"echo hi","state":"succeeded","#,
        r#""attempts":1,"crashes":0,"cause":null,"error":null,"result":{"exit": 0},"worker":"default.3.17","#,
        r#""submitted":"2026-01-31T09:30:00.123Z","started":"2026-01-31T09:30:01.000Z","#,
        r#""finished":"2026-01-31T09:30:02.000Z","priority":0}"#,
    );
    assert_eq!(render(&row, Parts::Result), expected);
    assert_eq!(render(&row, Parts::Brief), expected.replace(r#""result":{"exit": 0},"#, ""));
}

#[test]
fn a_waiting_job_has_nulls() {
    let expected = concat!(
        r#"{"id":101,"batch":3,"index":0,"name":null,"key":null,"pool":"default","run":null,"state":"queued","#,
        r#""attempts":0,"crashes":0,"cause":null,"error":null,"result":null,"worker":null,"#,
        r#""submitted":"2026-01-31T09:30:00.123Z","started":null,"finished":null,"priority":0}"#,
    );
    assert_eq!(render(&row(Work::Data("[1]".into())), Parts::Result), expected);
}

#[test]
fn a_running_job_names_its_worker() {
    let mut row = echo();
    row.state = State::Running;
    let AttemptPlace { worker, started } = place(5);
    row.running = Some(Running { worker, started: Some(started) });
    row.standing.attempts = 2;
    let record = read(&render(&row, Parts::Brief));
    assert_eq!(record.state(), Some(State::Running));
    assert_eq!(record.worker.as_deref(), Some("default.3.5"));
    assert_eq!(record.started.as_deref(), Some("2026-01-31T09:30:01.000Z"));
    assert_eq!((record.attempts, record.finished), (2, None));
    row.running.as_mut().expect("it was just set").started = None;
    assert_eq!(read(&render(&row, Parts::Brief)).started, None, "it comes behind others");
}

#[test]
fn an_outcome_of_an_earlier_round_is_not_told() {
    let mut row = ended(echo(), State::Failed, Some(Cause::Exit), Some(r#"{"exit":1}"#));
    row.state = State::Queued;
    let record = read(&render(&row, Parts::All(&[])));
    assert_eq!((record.attempts, record.cause(), record.worker, record.finished), (0, None, None, None));
    assert!(record.result.is_none() && record.history.is_empty());
}

#[test]
fn the_error_names_status_or_signal() {
    let error = |cause, result: Option<&str>, evidence: Option<&str>, given: Option<&str>| {
        let mut row = ended(echo(), State::Failed, Some(cause), result);
        let outcome = row.outcome.as_mut().expect("it has ended");
        outcome.evidence = evidence.map(Into::into);
        outcome.error = given.map(Into::into);
        read(&render(&row, Parts::Result)).error
    };
    let exit = Some(r#"{"exit":3,"signal":null}"#);
    let signal = Some(r#"{"exit":null,"signal":11}"#);
    assert_eq!(error(Cause::Exit, exit, None, None).as_deref(), Some("exit status 3"));
    assert_eq!(error(Cause::Signal, signal, None, None).as_deref(), Some("killed by signal 11 (SEGV)"));
    assert_eq!(error(Cause::Crash, None, signal, None).as_deref(), Some("killed by signal 11 (SEGV)"));
    assert_eq!(error(Cause::Crash, None, exit, Some("mine")).as_deref(), Some("mine"));
    assert_eq!(error(Cause::Timeout, signal, None, None), None);
    assert_eq!(error(Cause::Exit, Some("[1]"), None, None), None);
    assert_eq!(error(Cause::Exit, None, None, None), None);
}

#[test]
fn show_adds_data_policy_due_after_and_history() {
    let mut row = ended(row(Work::Data("{\n \"a\" : 1e999 }".into())), State::Succeeded, None, Some("[ 1 ]"));
    let job = Arc::get_mut(&mut row.job).expect("nobody else has it");
    job.after = vec![After::Id(JobId(7)), After::Label("k\"".into())];
    job.policy = Some(Box::new(Policy {
        timeout: Some(Duration::from_millis(1_500)),
        retries: Some(2),
        backoff: Some(Duration::from_secs(1)),
        delay: None,
        output_dir: Some("o".into()),
        env: Some(r#"{ "A":"1" }"#.into()),
        cwd: Some("/".into()),
        stdin: Some(String::new().into()),
    }));
    row.due = Some(Wall(0));
    row.outcome.as_mut().expect("it has ended").standing.attempts = 2;
    let attempt = Attempt {
        place: place(16),
        finished: Wall(1_769_851_801_500),
        cause: Cause::Crash,
        error: None,
        result: None,
        evidence: Some(r#"{"signal":9}"#.into()),
    };
    let text = render(&row, Parts::All(&[(Standing { attempts: 1, ..Standing::default() }, attempt)]));
    let shown = concat!(
        ",\"data\":{\n \"a\" : 1e999 },",
        r#""timeout_s":1.5,"retries":2,"backoff_s":1,"delay_s":null,"output_dir":"o","env":{ "A":"1" },"cwd":"/","#,
        r#""stdin":"","due":"1970-01-01T00:00:00.000Z","after":[7,"k\""],"history":["#,
        r#"{"round":0,"attempt":1,"worker":"default.3.16","started":"2026-01-31T09:30:01.000Z","#,
        r#""finished":"2026-01-31T09:30:01.500Z","cause":"crash","error":"killed by signal 9 (KILL)","#,
        r#""evidence":{"signal":9},"result":null},"#,
        r#"{"round":0,"attempt":2,"worker":"default.3.17","started":"2026-01-31T09:30:01.000Z","#,
        r#""finished":"2026-01-31T09:30:02.000Z","cause":null,"error":null,"evidence":null,"result":[ 1 ]}]}"#,
    );
    assert_eq!(text, render(&row, Parts::Result).trim_end_matches('}').to_owned() + shown);
    let record = read(&text);
    assert_eq!(record.timeout_s, Some(1.5));
    assert_eq!(record.history.len(), 2);
    assert_eq!(record.data.expect("data").get(), "{\n \"a\" : 1e999 }");
}

#[test]
fn labels_are_escaped() {
    let mut row = echo();
    let job = Arc::get_mut(&mut row.job).expect("nobody else has it");
    job.name = Some("a\"\n\u{1}b".into());
    job.key = Some("\\".into());
    let record = read(&render(&row, Parts::Brief));
    assert_eq!(record.name.as_deref(), Some("a\"\n\u{1}b"));
    assert_eq!(record.key.as_deref(), Some("\\"));
}

#[test]
fn every_state_and_cause_is_read_back() {
    for cause in Cause::ALL {
        let record = read(&render(&ended(echo(), State::Failed, Some(cause), None), Parts::Brief));
        assert_eq!((record.cause(), record.state()), (Some(cause), Some(State::Failed)));
    }
}

#[test]
fn one_line_replaces_line_breaks_alone() {
    assert_eq!(one_line("{\"a\": \"\\n\",\r\n\"b\":1}"), "{\"a\": \"\\n\",  \"b\":1}");
    assert!(matches!(one_line("{\"a\": \"\\n\"}"), Cow::Borrowed(_)));
}
