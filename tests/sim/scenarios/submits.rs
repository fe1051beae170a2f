//! How jobs enter: repetitions, conflicts, lost replies.

use super::{Scene, chunk, is_refused};
use pushpull::model::StoreError;
use pushpull::wire::control::Code;
use pushpull::wire::reply::Reply;
use pushpull::wire::request::Request;

#[test]
fn who_waits_for_a_chunk_is_answered_when_the_submit_begins_again() {
    let mut scene = Scene::new(|_| {});
    scene.ask(chunk("a", 0, false, &[r#"{"data":1}"#]));
    scene.commit();
    let waiting = scene.ask(chunk("a", 1, true, &[r#"{"data":2}"#]));
    let again = scene.ask(chunk("a", 0, false, &[r#"{"data":1}"#]));
    scene.commit();
    assert!(is_refused(&scene.replies_to(waiting), Code::ChunkExpected), "{:?}", scene.replies);
    assert_eq!(scene.replies_to(again).len(), 1);
}

#[test]
fn another_submit_under_a_key_that_is_being_written_is_a_conflict() {
    let mut scene = Scene::new(|_| {});
    let first = scene.submit("a", &[r#"{"data":1}"#]);
    let same = scene.submit("a", &[r#"{"data":1}"#]);
    let other = scene.submit("a", &[r#"{"data":2}"#]);
    scene.commit();
    for client in [first, same] {
        assert!(matches!(scene.replies_to(client)[..], [Reply::Submitted(_)]), "{:?}", scene.replies);
    }
    assert!(is_refused(&scene.replies_to(other), Code::KeyConflict), "its jobs were not taken");
}

#[test]
fn a_lost_reply_is_told_again_whatever_speaks_against_a_new_submit() {
    let mut scene = Scene::new(|config| config.daemon.jobs_max = 2);
    scene.submit("full", &[r#"{"data":1}"#, r#"{"data":2}"#]);
    scene.commit();
    let accepted = scene.replies.last().expect("a reply").1.clone();
    let again = |scene: &mut Scene| {
        let client = scene.submit("full", &[r#"{"data":1}"#, r#"{"data":2}"#]);
        scene.commit();
        assert_eq!(scene.replies_to(client), [&accepted]);
    };
    again(&mut scene);
    scene.ask(Request::Drain);
    again(&mut scene);
    scene.ask(chunk("full", 0, false, &[r#"{"data":1}"#]));
    scene.commit();
    let client = scene.ask(chunk("full", 1, true, &[r#"{"data":2}"#]));
    scene.commit();
    assert_eq!(scene.replies_to(client), [&accepted], "however it is cut");
    scene.disk.broken = Some(StoreError::NoSpace);
    again(&mut scene);
    let other = scene.submit("full", &[r#"{"data":1}"#, r#"{"data":3}"#]);
    scene.commit();
    assert!(is_refused(&scene.replies_to(other), Code::KeyConflict), "{:?}", scene.replies);
    let new = scene.submit("new", &[r#"{"data":1}"#]);
    scene.commit();
    assert!(is_refused(&scene.replies_to(new), Code::Draining), "{:?}", scene.replies);
}
