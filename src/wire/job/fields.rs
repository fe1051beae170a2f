//! The fields of a job, found in its text but not yet read.

use super::values::{kind, syntax};
use super::{JobError, Problem};
use crate::wire::nearest::{nearest, quote};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Run,
    Data,
    Pool,
    Name,
    Priority,
    Delay,
    Timeout,
    Retries,
    Backoff,
    Key,
    After,
    OutputDir,
    Env,
    Cwd,
    Stdin,
    Index,
}

impl Field {
    pub(super) const ALL: [Field; 16] = [
        Field::Run,
        Field::Data,
        Field::Pool,
        Field::Name,
        Field::Priority,
        Field::Delay,
        Field::Timeout,
        Field::Retries,
        Field::Backoff,
        Field::Key,
        Field::After,
        Field::OutputDir,
        Field::Env,
        Field::Cwd,
        Field::Stdin,
        Field::Index,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Field::Run => "run",
            Field::Data => "data",
            Field::Pool => "pool",
            Field::Name => "name",
            Field::Priority => "priority",
            Field::Delay => "delay",
            Field::Timeout => "timeout",
            Field::Retries => "retries",
            Field::Backoff => "backoff",
            Field::Key => "key",
            Field::After => "after",
            Field::OutputDir => "output_dir",
            Field::Env => "env",
            Field::Cwd => "cwd",
            Field::Stdin => "stdin",
            Field::Index => "index",
        }
    }

    /// Whether a file's `defaults` may hold it: what makes a job itself may not be the same for all.
    fn is_policy(self) -> bool {
        !matches!(self, Field::Run | Field::Data | Field::Key | Field::Index)
    }
}

/// Whose fields they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Job,
    Defaults,
}

impl Owner {
    fn may_have(self, field: Field) -> bool {
        match self {
            Owner::Job => true,
            Owner::Defaults => field.is_policy(),
        }
    }
}

/// The raw values of an object's fields, by field.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>([Option<&'a str>; Field::ALL.len()]);

impl<'a> Fields<'a> {
    /// Finds the fields in the text of a JSON object.
    pub(super) fn parse(text: &'a str, owner: Owner) -> Result<Fields<'a>, JobError> {
        let Members(members) = serde_json::from_str(text).map_err(|error| JobError::new(syntax(&error)))?;
        let mut fields = Fields::default();
        for (name, value) in members {
            let field = Field::ALL.into_iter().find(|field| field.as_str() == name);
            let Some(field) = field.filter(|field| owner.may_have(*field)) else {
                return Err(unknown(&name, field, owner));
            };
            if fields.0[field as usize].replace(value).is_some() {
                return Err(JobError::at(field.as_str(), "stands twice"));
            }
        }
        Ok(fields)
    }

    /// The value of `field`. Null stands for a field that is not there, but for `data`, where it is a value.
    pub(super) fn get(&self, field: Field) -> Option<&'a str> {
        self.0[field as usize].filter(|raw| *raw != "null" || field == Field::Data)
    }

    /// Reads the value of `field`, if it is there.
    pub(super) fn read<T, E: Into<Problem>>(
        &self,
        field: Field,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<Option<T>, JobError> {
        let Some(raw) = self.get(field) else {
            return Ok(None);
        };
        read(raw).map(Some).map_err(|problem| {
            let Problem { text, limit } = problem.into();
            JobError { limit, ..JobError::at(field.as_str(), text) }
        })
    }
}

fn unknown(name: &str, field: Option<Field>, owner: Owner) -> JobError {
    let known = || Field::ALL.into_iter().filter(|field| owner.may_have(*field)).map(Field::as_str);
    let hint = match nearest(name, known()) {
        Some(meant) => format!("Did you mean {meant:?}?"),
        None => format!("Known fields are {}", known().collect::<Vec<_>>().join(", ")),
    };
    let message = match field {
        Some(field) => format!("defaults cannot hold {:?}: it belongs to one job", field.as_str()),
        None => format!("unknown field {}", quote(name)),
    };
    JobError { field: Some(name.chars().take(64).collect()), message, hint: Some(hint), limit: None }
}

/// An object's members as they stand, repetitions included; the values are not looked into.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(4);
                while let Some(Text(name)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    members.push((name, value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// A string that is copied only if it has escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// What a job's text is instead of an object or a string.
pub(super) fn not_a_job(text: &str) -> JobError {
    let message = format!("a job is an object, or a string with a shell command, not {}", kind(text));
    JobError {
        hint: Some("Data for a worker stands in {\"data\": ...}, or add --raw".to_owned()),
        ..JobError::new(message)
    }
}
