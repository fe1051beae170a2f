//! What a worker should not do, for jobs whose data asks for it by "do".
//!
//! After each of them it answers as if nothing had happened, but after `huge`, which asks to be ended.

use serde_json::{Value, json};

/// Sends what the job asks for; `None` if that is no misdeed known here. What it returns is the job's result.
pub fn commit(deed: &str, id: u64, wishes: &Value, results: &zmq::Socket) -> Option<Value> {
    let send = |message: &[u8]| results.send(message, 0).expect("the daemon takes it");
    let say = |message: &Value| send(message.to_string().as_bytes());
    let count = wishes["count"].as_u64().unwrap_or(1);
    let bytes = wishes["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    match deed {
        "junk" => junk().iter().for_each(|junk| send(junk)),
        "flood" => {
            let message = format!("nothing of use{}", " ".repeat(bytes));
            (0..count).for_each(|_| send(message.as_bytes()));
        }
        "stranger" => {
            for other in [0, id + 1_000_000, u64::MAX] {
                (0..count).for_each(|_| say(&json!({"type": "result", "id": other, "data": "not mine"})));
            }
        }
        "spam" => (0..count).for_each(|n| {
            say(&json!({"type": "progress", "id": id, "percent": n, "note": "x".repeat(1_000)}));
            say(&json!({"type": "heartbeat"}));
        }),
        "ready" => (0..count).for_each(|_| say(&json!({"type": "ready"}))),
        "frames" => {
            let answer = json!({"type": "result", "id": id, "data": "of several frames"}).to_string();
            results.send_multipart([&*answer, &answer, ""], 0).expect("the daemon takes it");
            results.send_multipart(vec!["x"; 1_000], 0).expect("the daemon takes it");
        }
        "spaces" => {
            send(" ".repeat(bytes).as_bytes());
            send(format!("\"{}\"", "s".repeat(bytes)).as_bytes());
        }
        "deep" => {
            let (open, close) = ("[".repeat(bytes), "]".repeat(bytes));
            send(format!("{{\"type\":\"result\",\"id\":{id},\"data\":{open}{close}}}").as_bytes());
        }
        "number" => {
            let digits = "9".repeat(bytes);
            send(format!("{{\"type\":\"result\",\"id\":{digits},\"data\":1}}").as_bytes());
            send(format!("{{\"type\":\"progress\",\"id\":{id},\"percent\":1e{digits}}}").as_bytes());
        }
        "huge" => {
            let text = "x".repeat(bytes);
            send(format!("{{\"type\":\"result\",\"id\":{id},\"data\":\"{text}\"}}").as_bytes());
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        "connect" => {
            // Another pair of hands: what they say is said by this worker.
            let context = zmq::Context::new();
            let second = context.socket(zmq::PUSH).expect("a socket can be made");
            let endpoint = std::env::var("PUSHPULL_RESULTS").expect("the daemon sets it");
            second.connect(&endpoint).expect("the daemon has bound it");
            let answer = json!({"type": "result", "id": id, "data": format!("after {deed}")});
            second.send(answer.to_string().as_bytes(), 0).expect("the daemon takes it");
        }
        "grow" => {
            // Until there is no more.
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 16 << 20]);
            }
        }
        _ => return None,
    }
    Some(json!(format!("after {deed}")))
}

/// Messages that are no answers.
fn junk() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "no json",
        "[]",
        "17",
        r#"{"type":"result""#,
        r#"{"no":"type"}"#,
        r#"{"type":"nonsense"}"#,
        r#"{"type":"result","id":18446744073709551615,"data":0}"#,
        r#"{"type":"result","id":"one","data":0}"#,
        r#"{"type":"error","id":-1,"error":7}"#,
        r#"{"type":"result","type":"result","data":1}"#,
        r#"{"type":"result","data":1,"data":2}"#,
    ];
    let mut junk: Vec<Vec<u8>> = texts.map(Vec::from).into();
    junk.push(b"\x00\xff\xfe".to_vec());
    junk.push(vec![b'['; 100_000]);
    junk.push(b"{\"type\":\"result\",\"data\":\"\xff\"}".to_vec());
    junk
}
