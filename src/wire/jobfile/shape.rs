//! What kind of job file it is, found by looking ahead.
//!
//! An object may be a whole file (`{"name":...,"defaults":...,"jobs":[...]}`) or the first of many jobs; it is a
//! file if it has `jobs`. Its other fields may stand behind `jobs`, but are needed before the first job. So the
//! object is read ahead, up to [`LOOKAHEAD_BYTES_MAX`], and then again from its start. An error met on the way is
//! left for that second reading, which knows better where it is.

use super::extent::{Extent, read_value, skip_value};
use super::source::Source;
use super::{Format, LOOKAHEAD_BYTES_MAX};
use std::io::{self, BufRead};

/// How the jobs of a file are held together.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing but white space. Of lines it is found out on the way.
    Empty,
    /// A line each.
    Lines,
    /// JSON values one after another.
    Values,
    /// One JSON array.
    Array,
    /// One JSON object with `jobs`.
    Object(Ahead),
}

/// What was seen of an object in advance.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The raw values, with the line in which they begin.
    pub(super) name: Option<(String, u64)>,
    pub(super) defaults: Option<(String, u64)>,
    has_jobs: bool,
}

/// Looks at the beginning of a file and leaves the source at its first byte that counts.
pub(super) fn find<R: BufRead>(source: &mut Source<R>, format: Format) -> io::Result<Shape> {
    skip_mark(source)?;
    if format == Format::Lines {
        return Ok(Shape::Lines);
    }
    source.skip_blank()?;
    match (format, source.peek()?) {
        (_, None) => Ok(Shape::Empty),
        (Format::Json, Some(b'[')) => Ok(Shape::Array),
        (Format::Raw, Some(b'[')) => array_or_values(source),
        (Format::Json, Some(b'{')) => object_or_values(source),
        (Format::Json | Format::Raw | Format::Lines, Some(_)) => Ok(Shape::Values),
    }
}

/// Goes on behind the byte order mark that some editors put in front.
fn skip_mark<R: BufRead>(source: &mut Source<R>) -> io::Result<()> {
    source.mark();
    for byte in *b"\xef\xbb\xbf" {
        if !source.eat(byte)? {
            source.rewind();
            return Ok(());
        }
    }
    source.forget();
    Ok(())
}

/// Raw values may be arrays themselves: it is one array of them only if nothing follows it.
fn array_or_values<R: BufRead>(source: &mut Source<R>) -> io::Result<Shape> {
    source.mark();
    let extent = skip_value(source, LOOKAHEAD_BYTES_MAX)?;
    source.skip_blank()?;
    let is_followed = extent == Extent::Whole && source.peek()?.is_some();
    source.rewind();
    Ok(if is_followed { Shape::Values } else { Shape::Array })
}

fn object_or_values<R: BufRead>(source: &mut Source<R>) -> io::Result<Shape> {
    source.mark();
    let mut ahead = Ahead::default();
    source.advance(1)?;
    while look_at_member(source, &mut ahead)? {}
    source.rewind();
    Ok(if ahead.has_jobs { Shape::Object(ahead) } else { Shape::Values })
}

/// Looks at the next member of an object; false if there is no more to be seen.
fn look_at_member<R: BufRead>(source: &mut Source<R>, ahead: &mut Ahead) -> io::Result<bool> {
    source.skip_blank()?;
    let mut name = Vec::new();
    if read_value(source, &mut name, LOOKAHEAD_BYTES_MAX)? != Extent::Whole {
        return Ok(false);
    }
    let Ok(name) = serde_json::from_slice::<String>(&name) else {
        return Ok(false);
    };
    source.skip_blank()?;
    if !source.eat(b':')? {
        return Ok(false);
    }
    source.skip_blank()?;
    let line = source.place().line;
    let extent = match name.as_str() {
        "name" => keep_value(source, &mut ahead.name, line)?,
        "defaults" => keep_value(source, &mut ahead.defaults, line)?,
        other => {
            ahead.has_jobs |= other == "jobs";
            if ahead.has_jobs && ahead.name.is_some() && ahead.defaults.is_some() {
                return Ok(false);
            }
            skip_value(source, LOOKAHEAD_BYTES_MAX)?
        }
    };
    source.skip_blank()?;
    Ok(extent == Extent::Whole && source.recorded() < LOOKAHEAD_BYTES_MAX && source.eat(b',')?)
}

fn keep_value<R: BufRead>(
    source: &mut Source<R>,
    kept: &mut Option<(String, u64)>,
    line: u64,
) -> io::Result<Extent> {
    let mut value = Vec::new();
    let extent = read_value(source, &mut value, LOOKAHEAD_BYTES_MAX)?;
    *kept = String::from_utf8(value).ok().map(|text| (text, line));
    Ok(extent)
}
