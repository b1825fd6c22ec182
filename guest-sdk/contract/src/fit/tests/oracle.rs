//! What must become of a payload, told by serde_json, slowly.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;

/// A value as a column has it, without its placeholders.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Missing,
    Null,
    Boolean(bool),
    Integer(i64),
    /// As bits, so that zeros are told apart.
    Real(u64),
    Text(String),
}

/// The shape that a payload fits and its row, or what is wrong with a field.
pub(super) type Outcome = Result<Option<(u16, Vec<Cell>)>, FieldError>;

/// The payload must be JSON, with keys of valid escapes.
pub(super) fn expected(shapes: &[Shape], event_type: &str, payload: &str) -> Outcome {
    let named = shapes.iter().any(|shape| shape.event_type == event_type);
    let name = if named { event_type } else { ANY_TYPE };
    let mut outcome = Ok(None);
    for (index, shape) in (0..).zip(shapes) {
        if shape.event_type == name {
            let cells = shape.fields.iter().map(|field| cell(field, payload));
            match cells.collect() {
                Ok(row) => return Ok(Some((index, row))),
                Err(error) if outcome.is_ok() => outcome = Err(error),
                Err(_) => {}
            }
        }
    }
    outcome
}

fn cell(field: &Field, payload: &str) -> Result<Cell, FieldError> {
    let find = |path: &String| Some((find(payload, path)?, path.clone()));
    let wanted = field.wants.noun();
    let Some((raw, path)) = field.paths.iter().find_map(find) else {
        if field.optional {
            return Ok(Cell::Missing);
        }
        let field = field.paths[0].clone();
        return Err(FieldError::Missing { field, wanted });
    };
    if raw == "null" && field.nullable {
        return Ok(Cell::Null);
    }
    let found = match raw.as_bytes()[0] {
        b'n' => "null",
        b't' | b'f' => "boolean",
        b'"' => "text",
        b'[' => "list",
        b'{' => "object",
        _ => "number",
    };
    let integral = found == "number" && !raw.contains(['.', 'e', 'E']);
    let mismatch = FieldError::Mismatch {
        field: path.clone(),
        wanted,
        found,
    };
    let fits = match field.wants {
        Wanted::Json => true,
        Wanted::Boolean => found == "boolean",
        Wanted::Integer => integral,
        Wanted::Real => found == "number",
        Wanted::Text | Wanted::Uuid => found == "text",
        Wanted::Timestamp => found == "text" || integral,
    };
    if !fits {
        return Err(mismatch);
    }
    // The reasons are not told twice: that there is one is what counts.
    value(field.wants, &raw).ok_or(FieldError::Value {
        field: path,
        reason: String::new(),
    })
}

/// The value of a piece that is of the right kind.
fn value(wants: Wanted, raw: &str) -> Option<Cell> {
    let value: Value = serde_json::from_str(raw).ok()?;
    let text = || value.as_str().filter(|text| !text.contains('\0'));
    let integer = || if raw == "-0" { Some(0) } else { value.as_i64() };
    Some(match wants {
        Wanted::Json => Cell::Text(raw.to_owned()),
        Wanted::Boolean => Cell::Boolean(value.as_bool()?),
        Wanted::Integer => Cell::Integer(integer()?),
        Wanted::Real => Cell::Real((value.as_f64()? + 0.0).to_bits()),
        Wanted::Text => Cell::Text(text()?.to_owned()),
        Wanted::Uuid => {
            let uuid = crate::uuid::parse_uuid(text()?)?;
            Cell::Text(crate::uuid::format_uuid(&uuid))
        }
        Wanted::Timestamp if value.is_string() => {
            Cell::Integer(crate::time::parse_rfc3339(text()?).ok()?)
        }
        Wanted::Timestamp => {
            Cell::Integer(integer().filter(|at| {
                (crate::time::TIMESTAMP_MIN..=crate::time::TIMESTAMP_MAX).contains(at)
            })?)
        }
    })
}

fn find(payload: &str, path: &str) -> Option<String> {
    let mut raw = payload.trim_matches([' ', '\t', '\n', '\r']).to_owned();
    if path != "$" {
        for key in path[1..].split('/') {
            let key = key.replace("~1", "/").replace("~0", "~");
            if !raw.starts_with(['{', '[']) {
                return None;
            }
            let Members(members) = serde_json::from_str(&raw).expect("JSON");
            raw = members.into_iter().rfind(|(name, _)| *name == key)?.1;
        }
    }
    Some(raw)
}

/// The members of an object, or of a list by their indexes.
struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object or a list")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((key, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((key, raw.get().to_owned()));
                }
                Ok(Members(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(raw) = seq.next_element::<Box<RawValue>>()? {
                    members.push((members.len().to_string(), raw.get().to_owned()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_any(Collect)
    }
}

/// The row that is all there is in the blocks.
pub(super) fn only_row(blocks: &mut Blocks, shape: u16) -> Vec<Cell> {
    let mut taken = blocks.take();
    let row = taken.swap_remove(usize::from(shape));
    row.iter().map(first).collect()
}

fn first(column: &Column) -> Cell {
    if column.present.is_some() {
        return Cell::Missing;
    }
    if column.null.is_some() {
        return Cell::Null;
    }
    match &column.values {
        Values::Booleans(values) => Cell::Boolean(values[0] == 1),
        Values::Integers(values) => Cell::Integer(values[0]),
        Values::Reals(values) => Cell::Real(values[0].to_bits()),
        Values::Texts(texts) | Values::Json(texts) => {
            Cell::Text(texts.get(0).expect("a row of UTF-8").to_owned())
        }
    }
}
