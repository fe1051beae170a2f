//! Reads replies without touching what they carry: the fields keep their order and every byte of their values.

use crate::failure::{Failure, Refused};
use pushpull::wire::object::push_string;
use pushpull::wire::record::one_line;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// A reply that says `ok`.
#[derive(Debug)]
pub struct Reply {
    /// All but `ok`.
    fields: Fields,
}

impl Reply {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is a refusal, or nothing that a daemon says.
    pub fn read(frame: &[u8]) -> Result<Reply, Failure> {
        let broken = |why: String| Failure::Answer(format!("the daemon's answer makes no sense: {why}"));
        let mut fields: Fields = serde_json::from_slice(frame).map_err(|error| broken(error.to_string()))?;
        let ok = fields.take("ok").map(|raw| raw.get().to_owned());
        match ok.as_deref() {
            Some("true") => Ok(Reply { fields }),
            Some("false") => {
                let error =
                    fields.take("error").ok_or_else(|| broken("a refusal without an error".into()))?;
                let refused: Refused =
                    serde_json::from_str(error.get()).map_err(|error| broken(error.to_string()))?;
                Err(Failure::Refused(Box::new(refused)))
            }
            Some(_) | None => Err(broken("it does not say ok".into())),
        }
    }

    /// The fields but `ok`, as one line of JSON.
    pub fn document(&self) -> String {
        self.document_with(&[])
    }

    /// The same with more fields at the end, names and JSON texts.
    pub fn document_with(&self, more: &[(&str, &str)]) -> String {
        let mut text = String::from("{");
        let own = self.fields.0.iter().map(|(name, raw)| (name.as_str(), raw.get()));
        for (name, json) in own.chain(more.iter().copied()) {
            if text.len() > 1 {
                text.push(',');
            }
            push_string(&mut text, name);
            text.push(':');
            text.push_str(&one_line(json));
        }
        text.push('}');
        text
    }

    /// The fields but `ok`, as a type of the protocol.
    pub fn as_type<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.document()).map_err(|error| {
            Failure::Answer(format!("the daemon's answer is not what was asked for: {error}"))
        })
    }

    /// The whole numbers among the fields, in the order of the reply.
    pub fn numbers(&self) -> Vec<(&str, u64)> {
        self.fields
            .0
            .iter()
            .filter_map(|(name, raw)| raw.get().parse().ok().map(|number| (name.as_str(), number)))
            .collect()
    }
}

/// The fields of a JSON object, in order.
#[derive(Debug)]
struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(field, _)| field == name)?;
        Some(self.0.remove(at).1)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_reply_without_ok_byte_for_byte_on_one_line() {
        let reply = Reply::read(b"{\"z\":1.50,\"ok\":true,\"a\":{\"x\":\n[1e3 ]}}").expect("a reply");
        assert_eq!(reply.document(), r#"{"z":1.50,"a":{"x": [1e3 ]}}"#);
        assert_eq!(reply.document_with(&[("done", "true")]), r#"{"z":1.50,"a":{"x": [1e3 ]},"done":true}"#);
    }

    #[test]
    fn a_refusal_is_a_failure() {
        let failure = Reply::read(br#"{"ok":false,"error":{"code":"not_found","message":"no job 17"}}"#)
            .expect_err("a refusal");
        assert_eq!(failure.exit_status(), 4);
    }

    #[test]
    fn nonsense_is_a_failure_of_its_own() {
        for frame in [&b""[..], b"[]", b"{}", b"\xff", br#"{"ok":1}"#, br#"{"ok":false}"#] {
            let failure = Reply::read(frame).expect_err("nonsense");
            assert!(matches!(failure, Failure::Answer(_)), "{failure:?}");
        }
    }

    #[test]
    fn fates_are_the_whole_numbers() {
        let reply =
            Reply::read(br#"{"ok":true,"cancelled":3,"note":"x","already_finished":2}"#).expect("a reply");
        assert_eq!(reply.numbers(), [("cancelled", 3), ("already_finished", 2)]);
    }
}
