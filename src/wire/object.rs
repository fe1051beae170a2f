//! Writes JSON objects field by field, so that payloads go through byte for byte.
//!
//! A serializer would have to look at every payload again to trust it; here whoever has a
//! [`Json`](crate::model::Json) has checked it before.

use std::fmt::{Display, Write as _};

/// A JSON object being written. Names are our own and need no escaping.
#[derive(Debug)]
pub struct Object {
    text: String,
}

impl Object {
    /// An empty object with room for about `bytes` of text.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Object {
        let mut text = String::with_capacity(bytes);
        text.push('{');
        Object { text }
    }

    /// A field whose value is JSON text already.
    pub fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.text.push_str(json);
    }

    /// The same, or null.
    pub fn raw_or_null(&mut self, name: &str, json: Option<&str>) {
        self.raw(name, json.unwrap_or("null"));
    }

    /// A field with a string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        push_string(&mut self.text, value);
    }

    /// The same, or null.
    pub fn text_or_null(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.raw(name, "null"),
        }
    }

    /// A field with a number, or whatever else prints itself as JSON.
    pub fn number(&mut self, name: &str, value: impl Display) {
        self.name(name);
        write!(self.text, "{value}").expect("a String takes every write");
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The object's text.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push('"');
        self.text.push_str(name);
        self.text.push_str("\":");
    }
}

/// Appends `value` as a JSON string.
pub fn push_string(out: &mut String, value: &str) {
    out.push('"');
    let mut rest = value;
    // What must be escaped is ASCII, so that cutting there keeps whole characters.
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => write!(out, "\\u{byte:04x}").expect("a String takes every write"),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// A JSON string of `value`.
#[must_use]
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    push_string(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_in_the_order_in_which_they_were_written() {
        let mut object = Object::with_capacity(0);
        object.number("b", -7);
        object.raw("a", "[1,  2]");
        object.raw_or_null("c", None);
        object.text("d", "x\"y");
        object.text_or_null("e", None);
        assert_eq!(object.finish(), r#"{"b":-7,"a":[1,  2],"c":null,"d":"x\"y","e":null}"#);
        assert_eq!(Object::with_capacity(9).finish(), "{}");
    }

    #[test]
    fn every_character_survives_a_string() {
        let all: String =
            (0..0x3000).filter_map(char::from_u32).chain("😀\u{2028}\u{10ffff}".chars()).collect();
        assert_eq!(serde_json::from_str::<String>(&string(&all)).ok(), Some(all));
    }
}
