//! The values of a job's fields: raw JSON text in, checked values out. Errors are sentences for people that leave
//! the field's name to the caller.

use super::Problem;
use super::fields::{Members, Text};
use crate::model::{After, JobId, Json, PoolName};
use crate::wire::nearest::quote;
use crate::wire::object::push_string;
use crate::wire::select::NAME_BYTES_MAX;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// How deep arrays and objects in `data` may stand in each other. Common JSON libraries stop there, and a worker
/// must be able to read what it gets.
pub const DATA_DEPTH_MAX: usize = 128;

/// A string.
pub(super) fn text(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.starts_with('"') {
        return Err(format!("must be a string, not {}", kind(raw)));
    }
    let Text(text) = serde_json::from_str(raw).map_err(|error| syntax(&error))?;
    Ok(text)
}

/// A string of at most `max` bytes; `limit` is the limit's name.
pub(super) fn bounded_text(raw: &str, limit: &'static str, max: usize) -> Result<Box<str>, Problem> {
    let text = text(raw)?;
    if text.len() > max {
        let text = format!("is too long with {} bytes: {limit} is {max}", text.len());
        return Err(Problem { text, limit: Some((limit, max as u64)) });
    }
    Ok(text.into())
}

/// A string that the kernel takes: a path, an argument.
pub(super) fn kernel_text(raw: &str) -> Result<Cow<'_, str>, String> {
    let text = text(raw)?;
    if text.contains('\0') {
        return Err("must not contain a NUL character".to_owned());
    }
    Ok(text)
}

/// A path.
pub(super) fn path(raw: &str) -> Result<Box<str>, String> {
    let path = kernel_text(raw)?;
    if path.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(path.into())
}

/// A whole number.
pub(super) fn whole(raw: &str, range: RangeInclusive<i64>) -> Result<i64, String> {
    match raw.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        Ok(_) | Err(_) => {
            let got = if is_number(raw) { quote(raw).replace('"', "") } else { kind(raw).to_owned() };
            Err(format!("must be a whole number from {} to {}, not {got}", range.start(), range.end()))
        }
    }
}

/// A pool's name.
pub(super) fn pool(raw: &str) -> Result<PoolName, String> {
    let name = text(raw)?;
    PoolName::new(&name).ok_or_else(|| {
        format!(
            "{} is not a pool's name: up to 32 of a-z, 0-9, _ and -, a letter or digit first",
            quote(&name)
        )
    })
}

/// A command: a string for the shell, or an array of a program and its arguments. Kept as it stands.
pub(super) fn command(raw: &str) -> Result<Json, String> {
    if raw.starts_with('[') {
        let words: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| syntax(&error))?;
        if words.is_empty() {
            return Err("must not be an empty array: the program is its first element".to_owned());
        }
        for (place, word) in words.iter().enumerate() {
            kernel_text(word.get()).map_err(|problem| format!("element {place} {problem}"))?;
        }
    } else if raw.starts_with('"') {
        kernel_text(raw)?;
    } else {
        return Err(format!("must be a string or an array of strings, not {}", kind(raw)));
    }
    Ok(Json::from(raw))
}

/// Any JSON that is not too deep. Kept as it stands.
pub(super) fn data(raw: &str) -> Result<Json, Problem> {
    if is_deeper(raw, DATA_DEPTH_MAX) {
        let text = format!("is nested too deep: data_depth_max is {DATA_DEPTH_MAX}");
        return Err(Problem { text, limit: Some(("data_depth_max", DATA_DEPTH_MAX as u64)) });
    }
    Ok(Json::from(raw))
}

/// An object of environment variables. Kept as it stands.
pub(super) fn env(raw: &str) -> Result<Json, String> {
    variables(raw)?;
    Ok(Json::from(raw))
}

/// Both objects of variables in one; a variable of `stronger` hides that of `weaker`. Both have been checked by
/// [`env`].
pub(super) fn merge_env(stronger: &str, weaker: &str) -> Json {
    let mine = variables(stronger).expect("checked when it was read");
    let theirs = variables(weaker).expect("checked when it was read");
    let names: BTreeSet<&str> = mine.iter().map(|(name, _)| name.as_ref()).collect();
    let kept = theirs.iter().filter(|(name, _)| !names.contains(name.as_ref()));
    let mut merged = String::with_capacity(stronger.len() + weaker.len());
    for (name, value) in kept.chain(&mine) {
        merged.push(if merged.is_empty() { '{' } else { ',' });
        push_string(&mut merged, name);
        merged.push(':');
        push_string(&mut merged, value);
    }
    merged.push_str(if merged.is_empty() { "{}" } else { "}" });
    Json::from(merged)
}

/// What a job waits for: an id, a label, or an array of these.
pub(super) fn after(raw: &str) -> Result<Vec<After>, Problem> {
    if !raw.starts_with('[') {
        return Ok(vec![one_after(raw)?]);
    }
    let each: Vec<&RawValue> = serde_json::from_str(raw).map_err(|error| syntax(&error))?;
    each.iter()
        .enumerate()
        .map(|(place, raw)| {
            one_after(raw.get())
                .map_err(|problem| Problem { text: format!("element {place} {}", problem.text), ..problem })
        })
        .collect()
}

/// What kind of JSON value a text is, going by its first character.
pub(super) fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't') => "true",
        Some(b'f') => "false",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// What is wrong with a text that is not JSON, without the place: that is counted from the text's own start.
pub(in crate::wire) fn json_problem(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let what = full.rsplit_once(" at line ").map_or(full.as_str(), |(what, _)| what);
    match what {
        "EOF while parsing a string" => "a string is not closed on its line",
        "key must be a string" => "there should be a field's name in quotes",
        "EOF while parsing a value" | "expected ident" => "expected value",
        other => other,
    }
    .to_owned()
}

pub(super) fn syntax(error: &serde_json::Error) -> String {
    format!("is not valid JSON: {}", json_problem(error))
}

fn one_after(raw: &str) -> Result<After, Problem> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let label = bounded_text(raw, "name_bytes_max", NAME_BYTES_MAX)?;
            if label.is_empty() {
                Err("must not be empty".to_owned().into())
            } else {
                Ok(After::Label(label))
            }
        }
        Some(b'-' | b'0'..=b'9') => match raw.parse() {
            Ok(id) => Ok(After::Id(JobId(id))),
            Err(_) => Err(format!("must be a job's id, not {}", quote(raw).replace('"', "")).into()),
        },
        Some(_) | None => Err(format!("must be a job's id, a key or a name, not {}", kind(raw)).into()),
    }
}

/// Environment variables with their values.
type Variables<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn variables(raw: &str) -> Result<Variables<'_>, String> {
    if !raw.starts_with('{') {
        return Err(format!("must be an object of strings, not {}", kind(raw)));
    }
    let Members(members) = serde_json::from_str(raw).map_err(|error| syntax(&error))?;
    let mut names = BTreeSet::new();
    for (name, _) in &members {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{} cannot be the name of a variable", quote(name)));
        }
        if !names.insert(name.as_ref()) {
            return Err(format!("has the variable {} twice", quote(name)));
        }
    }
    drop(names);
    members
        .into_iter()
        .map(|(name, value)| match kernel_text(value) {
            Ok(value) => Ok((name, value)),
            Err(problem) => Err(format!("variable {} {problem}", quote(&name))),
        })
        .collect()
}

fn is_number(raw: &str) -> bool {
    matches!(raw.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
}

/// Whether arrays and objects stand more than `max` deep in each other. Counts brackets outside of strings, so
/// that no depth can exhaust the stack.
fn is_deeper(raw: &str, max: usize) -> bool {
    let mut depth: usize = 0;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}
