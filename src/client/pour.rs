//! Reads a job file and hands its jobs on, in an order that a daemon takes.

use super::order::{Cycle, Order};
use crate::wire::job::{Defaults, JobError};
use crate::wire::jobfile::{Element, FileError, JobFile};
use crate::wire::nearest::quote;
use std::io::BufRead;

/// A job that must wait until the file is read, and whether it says itself which place it has.
type Kept = (Element, bool);

/// Gives each job of a file, JSON text, to `push`, those that wait for others of it last. How many there were.
///
/// # Errors
/// When the file is wrong, its jobs wait for each other, or `push` fails.
pub fn pour<R: BufRead, E: From<FileError>>(
    file: &mut JobFile<R>,
    defaults: &Defaults,
    mut push: impl FnMut(&str) -> Result<(), E>,
) -> Result<u64, E> {
    let mut order: Order<Kept> = Order::new();
    let mut has_held = false;
    let mut jobs = 0;
    while let Some((element, draft)) = file.next_job(defaults)? {
        jobs += 1;
        let has_index = draft.index.is_some();
        if Order::<Kept>::must_hold(&draft) {
            has_held = true;
            order.hold(draft, (element, has_index));
            continue;
        }
        order.pass(&draft);
        if has_held && !has_index {
            push(&with_index(&element))?;
        } else {
            push(&element.json)?;
        }
    }
    match order.sorted() {
        Ok(sorted) => {
            for (element, has_index) in &sorted {
                if *has_index {
                    push(&element.json)?;
                } else {
                    push(&with_index(element))?;
                }
            }
            Ok(jobs)
        }
        Err(cycle) => Err(refuse_cycle(file, &cycle).into()),
    }
}

/// The job with the place that it has in the file.
fn with_index(element: &Element) -> String {
    let Element { json, index, line: _ } = element;
    match json.trim_start().strip_prefix('{') {
        Some(fields) => format!("{{\"index\":{index},{fields}"),
        None => format!("{{\"index\":{index},\"run\":{json}}}"),
    }
}

fn refuse_cycle<R: BufRead>(file: &JobFile<R>, cycle: &Cycle<Kept>) -> FileError {
    let steps: Vec<String> = cycle
        .iter()
        .take(10)
        .map(|((element, _), label)| format!("line {} waits for {}", element.line, quote(label)))
        .collect();
    let more = if cycle.len() > steps.len() { ", and so on" } else { "" };
    let problem = format!("goes in a circle: {}{more}", steps.join(", "));
    let ((first, _), _) = cycle.first().expect("a circle has jobs");
    file.refuse(first, JobError::at("after", problem))
}
