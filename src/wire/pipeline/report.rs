//! What a worker says: parsed without trust, written by the built-in worker.
//!
//! A message is read as a flat list of fields whose values stay raw text; only the fields that its type needs are
//! looked into. So nothing in a message recurses, and the size of a result costs one scan and one copy.

use super::{DEPTH_MAX, Style, is_shallow, put};
use crate::model::{Cause, JobId, Json};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Longest text kept of an `error`, a `detail` or a `note`, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest complaint about a message, in bytes.
const COMPLAINT_BYTES_MAX: usize = 256;

/// A message from a worker. An answer without `id` is for the oldest job that the worker holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    Ready,
    Result {
        id: Option<JobId>,
        data: Json,
    },
    Error {
        id: Option<JobId>,
        error: Box<str>,
        detail: Option<Box<str>>,
        /// Whether another attempt makes sense.
        retry: bool,
        /// Of the built-in worker; nobody else's is to be believed.
        cause: Option<Cause>,
        /// Of the built-in worker: the outcome of the command.
        data: Option<Json>,
    },
    Progress {
        id: Option<JobId>,
        percent: Option<f64>,
        note: Option<Box<str>>,
    },
    Heartbeat,
}

/// Reads a frame that came from a worker.
///
/// # Errors
///
/// A short text for the log when the frame is not a message of the protocol: not UTF-8, not one JSON object, a
/// field twice, a field of the wrong type, an unknown `type`, or deeper than [`DEPTH_MAX`].
pub fn parse_report(frame: &[u8], style: Style) -> Result<Report, String> {
    // A parser's complaint may repeat a text of any length that it did not expect.
    parse(frame, style).map_err(|what| clipped(&what, COMPLAINT_BYTES_MAX).to_owned())
}

fn parse(frame: &[u8], style: Style) -> Result<Report, String> {
    let text = std::str::from_utf8(frame).map_err(|error| format!("not UTF-8: {error}"))?;
    let fields: Fields = serde_json::from_str(text).map_err(|error| format!("not a message: {error}"))?;
    let kind: Cow<str> = match fields.kind {
        Some(raw) => string(raw, "type")?,
        None => return Err("a message without `type`".to_owned()),
    };
    let id = match style {
        Style::Envelope => fields.id.map_or(Ok(None), job_id)?,
        Style::Bare => None,
    };
    match &*kind {
        "ready" => Ok(Report::Ready),
        "heartbeat" => Ok(Report::Heartbeat),
        "result" => {
            let data = match fields.data {
                Some(raw) => carried(raw)?,
                None => other_fields(text)?,
            };
            Ok(Report::Result { id, data })
        }
        "error" => Ok(Report::Error {
            id,
            error: fields.error.map_or_else(|| "the worker gave no reason".into(), any_text),
            detail: fields.detail.map(any_text),
            retry: fields.retry.map_or(Ok(true), |raw| flag(raw, "retry"))?,
            cause: fields.cause.and_then(|raw| Cause::from_word(raw.get().trim_matches('"'))),
            data: fields.data.map(carried).transpose()?,
        }),
        "progress" => Ok(Report::Progress {
            id,
            percent: fields.percent.map_or(Ok(None), |raw| number(raw, "percent"))?,
            note: fields.note.map(any_text),
        }),
        unknown => Err(format!("unknown type {:?}", clipped(unknown, 64))),
    }
}

/// Writes `report` into `out`, which is cleared first.
pub fn encode_report(report: &Report, out: &mut Vec<u8>) {
    out.clear();
    match report {
        Report::Ready => out.extend_from_slice(br#"{"type":"ready""#),
        Report::Heartbeat => out.extend_from_slice(br#"{"type":"heartbeat""#),
        Report::Result { id, data } => {
            out.extend_from_slice(br#"{"type":"result""#);
            put_field(out, "id", id.map(|id| id.0).as_ref());
            put_raw(out, "data", Some(data));
        }
        Report::Error { id, error, detail, retry, cause, data } => {
            out.extend_from_slice(br#"{"type":"error""#);
            put_field(out, "id", id.map(|id| id.0).as_ref());
            put_field(out, "error", Some(&**error));
            put_field(out, "detail", detail.as_deref());
            put_field(out, "retry", (!retry).then_some(&false));
            put_field(out, "cause", cause.map(Cause::as_str));
            put_raw(out, "data", data.as_ref());
        }
        Report::Progress { id, percent, note } => {
            out.extend_from_slice(br#"{"type":"progress""#);
            put_field(out, "id", id.map(|id| id.0).as_ref());
            put_field(out, "percent", percent.as_ref());
            put_field(out, "note", note.as_deref());
        }
    }
    out.push(b'}');
}

/// The fields of a message that mean something to us, as they stand in it.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    detail: Option<&'a RawValue>,
    retry: Option<&'a RawValue>,
    percent: Option<&'a RawValue>,
    note: Option<&'a RawValue>,
    cause: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Type,
    Id,
    Data,
    Error,
    Detail,
    Retry,
    Percent,
    Note,
    Cause,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            let place = match key {
                Key::Type => &mut fields.kind,
                Key::Id => &mut fields.id,
                Key::Data => &mut fields.data,
                Key::Error => &mut fields.error,
                Key::Detail => &mut fields.detail,
                Key::Retry => &mut fields.retry,
                Key::Percent => &mut fields.percent,
                Key::Note => &mut fields.note,
                Key::Cause => &mut fields.cause,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if place.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("a field stands twice"));
            }
        }
        Ok(fields)
    }
}

/// All fields of a message but its `type`, as an object of its own.
struct OtherFields(Vec<u8>);

impl<'de> Deserialize<'de> for OtherFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OtherFields, D::Error> {
        deserializer.deserialize_map(OtherFieldsVisitor)
    }
}

struct OtherFieldsVisitor;

impl<'de> Visitor<'de> for OtherFieldsVisitor {
    type Value = OtherFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OtherFields, A::Error> {
        let mut out = vec![b'{'];
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let value: &RawValue = map.next_value()?;
            if key == "type" {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            put(&mut out, &key);
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
            if !seen.insert(key) {
                return Err(A::Error::custom("a field stands twice"));
            }
        }
        out.push(b'}');
        Ok(OtherFields(out))
    }
}

fn other_fields(text: &str) -> Result<Json, String> {
    let OtherFields(bytes) = serde_json::from_str(text).map_err(|error| format!("not a message: {error}"))?;
    let object = String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    shallow(&object)?;
    Ok(Json::from(object))
}

fn carried(raw: &RawValue) -> Result<Json, String> {
    shallow(raw.get())?;
    Ok(Json::from(raw.get()))
}

fn shallow(json: &str) -> Result<(), String> {
    if is_shallow(json) { Ok(()) } else { Err(format!("nested deeper than {DEPTH_MAX}")) }
}

fn job_id(raw: &RawValue) -> Result<Option<JobId>, String> {
    match raw.get() {
        "null" => Ok(None),
        digits => match digits.parse() {
            Ok(id) => Ok(Some(JobId(id))),
            Err(_) => Err(format!("`id` is not a job's id: {}", clipped(digits, 64).escape_debug())),
        },
    }
}

fn string<'a>(raw: &'a RawValue, name: &str) -> Result<Cow<'a, str>, String> {
    // A `Cow` that borrows spares the copy of every `type` without escapes.
    #[derive(Deserialize)]
    struct Borrowing<'a>(#[serde(borrow)] Cow<'a, str>);
    match serde_json::from_str(raw.get()) {
        Ok(Borrowing(text)) => Ok(text),
        Err(error) => Err(format!("`{name}` is not a text: {error}")),
    }
}

fn flag(raw: &RawValue, name: &str) -> Result<bool, String> {
    match raw.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{name}` is neither true nor false")),
    }
}

fn number(raw: &RawValue, name: &str) -> Result<Option<f64>, String> {
    serde_json::from_str(raw.get()).map_err(|error| format!("`{name}` is not a number: {error}"))
}

/// A text for people. What is not a string is kept as its JSON: an odd complaint is better than a lost one.
fn any_text(raw: &RawValue) -> Box<str> {
    match string(raw, "text") {
        Ok(text) => clipped(&text, TEXT_BYTES_MAX).into(),
        Err(_) => clipped(raw.get(), TEXT_BYTES_MAX).into(),
    }
}

/// The beginning of `text`, at most `bytes_max` long and never half a character.
fn clipped(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_field<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: Option<&T>) {
    if let Some(value) = value {
        put_name(out, name);
        put(out, value);
    }
}

fn put_raw(out: &mut Vec<u8>, name: &str, value: Option<&Json>) {
    if let Some(json) = value {
        put_name(out, name);
        out.extend_from_slice(json.as_bytes());
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests;
