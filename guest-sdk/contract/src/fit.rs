//! Fitting payloads to shapes: JSON in, rows of typed columns out.
//!
//! Of the shapes that name an event's type, the first that its payload fits wins. Coercion is
//! narrow, so that a projection never sees a number that the writer did not mean: 1 fits a real,
//! 1.0 does not fit an integer, and nothing else is converted.
//!
//! Two steps with a seam between them: `locate` finds where the wanted values are in the text, and
//! `fit_value` makes a value of such a piece. A faster way to find them replaces the first alone.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::columns::{Blocks, Fitted};
use crate::json;
use crate::manifest::{Field, Shape, Wanted};
use crate::path::{Node, Path, PathTree};
use crate::time::{TIMESTAMP_MAX, TIMESTAMP_MIN, parse_rfc3339};
use crate::uuid::{format_uuid, parse_uuid};
use crate::value::normal_real;

/// The event type of shapes that take every type which no other shape names.
pub const ANY_TYPE: &str = "*";

/// Why a payload fits none of the shapes of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("the payload is not valid JSON: {reason}")]
    Payload { reason: String },
    #[error("field `{field}`: expected {wanted}, but it is missing")]
    Missing { field: String, wanted: &'static str },
    #[error("field `{field}`: expected {wanted}, found {found}")]
    Mismatch {
        field: String,
        wanted: &'static str,
        found: &'static str,
    },
    #[error("field `{field}`: {reason}")]
    Value { field: String, reason: String },
}

/// Knows the shapes of a manifest by event type.
#[derive(Debug)]
pub struct Fitter {
    by_type: HashMap<String, TypePlan>,
    any: Option<TypePlan>,
}

/// The shapes of one event type, in the order of the manifest, and the union of their paths.
#[derive(Debug, Default)]
struct TypePlan {
    tree: PathTree,
    shapes: Vec<ShapePlan>,
}

#[derive(Debug)]
struct ShapePlan {
    index: u16,
    fields: Vec<FieldPlan>,
}

#[derive(Debug)]
struct FieldPlan {
    /// Where the value may be, best place first: the slot in the tree, and the path for messages.
    places: Vec<(usize, String)>,
    wants: Wanted,
    optional: bool,
    nullable: bool,
}

impl Fitter {
    /// The shapes must have passed [`manifest::check`](crate::manifest::check); a path that is
    /// malformed is never found.
    pub fn new(shapes: &[Shape]) -> Self {
        let mut by_type: HashMap<String, TypePlan> = HashMap::new();
        for (index, shape) in (0..).zip(shapes) {
            by_type
                .entry(shape.event_type.clone())
                .or_default()
                .add(index, shape);
        }
        let any = by_type.remove(ANY_TYPE);
        Self { by_type, any }
    }

    /// Appends one event to the blocks. `Ok(None)`: no shape takes this type, and nothing was
    /// appended. An error is that of the last shape of the type, and leaves the blocks as they
    /// were. `blocks` must have been made of the same shapes.
    pub fn fit(
        &self,
        event_type: &str,
        payload: &[u8],
        blocks: &mut Blocks,
    ) -> Result<Option<u16>, FieldError> {
        let Some(plan) = self.by_type.get(event_type).or(self.any.as_ref()) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(payload).map_err(|error| FieldError::Payload {
            reason: format!("not UTF-8: {error}"),
        })?;
        let mut spans = std::mem::take(&mut blocks.spans);
        spans.clear();
        spans.resize(plan.tree.slots, None);
        let result = locate(text, &plan.tree, &mut spans)
            .and_then(|()| plan.fit_first(text, &spans, blocks));
        blocks.spans = spans;
        result.map(Some)
    }
}

impl TypePlan {
    fn add(&mut self, index: u16, shape: &Shape) {
        let fields = shape
            .fields
            .iter()
            .map(|field| FieldPlan::new(field, &mut self.tree));
        let fields = fields.collect();
        self.shapes.push(ShapePlan { index, fields });
    }

    fn fit_first(
        &self,
        text: &str,
        spans: &[Option<(usize, usize)>],
        blocks: &mut Blocks,
    ) -> Result<u16, FieldError> {
        let mut last = FieldError::Payload {
            reason: String::new(),
        };
        for shape in &self.shapes {
            match shape.fit(text, spans, blocks) {
                Ok(()) => return Ok(shape.index),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl ShapePlan {
    /// Appends a row to the block of this shape, or nothing.
    fn fit(
        &self,
        text: &str,
        spans: &[Option<(usize, usize)>],
        blocks: &mut Blocks,
    ) -> Result<(), FieldError> {
        let columns = blocks.shape(self.index);
        for (at, field) in self.fields.iter().enumerate() {
            if let Err(error) = field.fit(text, spans, |value| columns[at].push(&value)) {
                columns[..at]
                    .iter_mut()
                    .for_each(crate::columns::ColumnBuilder::pop);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl FieldPlan {
    fn new(field: &Field, tree: &mut PathTree) -> Self {
        let parsed = |path: &String| Path::parse(path).ok().map(|p| (p, path.clone()));
        let places = field.paths.iter().filter_map(parsed);
        Self {
            places: places.map(|(path, text)| (tree.add(&path), text)).collect(),
            wants: field.wants,
            optional: field.optional,
            nullable: field.nullable,
        }
    }

    fn fit(
        &self,
        text: &str,
        spans: &[Option<(usize, usize)>],
        push: impl FnOnce(Fitted<'_>),
    ) -> Result<(), FieldError> {
        let found = self
            .places
            .iter()
            .find_map(|(slot, path)| Some((spans[*slot]?, path)));
        let Some(((start, end), path)) = found else {
            if self.optional {
                push(Fitted::Missing);
                return Ok(());
            }
            let field = self
                .places
                .first()
                .map_or_else(String::new, |(_, path)| path.clone());
            return Err(FieldError::Missing {
                field,
                wanted: self.wants.noun(),
            });
        };
        let raw = &text[start..end];
        if raw == "null" && self.nullable {
            push(Fitted::Null);
            return Ok(());
        }
        fit_value(raw, self.wants, push).map_err(|misfit| misfit.of_field(path, self.wants, raw))
    }
}

/// Why a piece of JSON does not fit.
enum Misfit {
    Type,
    Value(String),
}

impl Misfit {
    fn of_field(self, path: &str, wants: Wanted, raw: &str) -> FieldError {
        let field = path.to_owned();
        match self {
            Self::Type => FieldError::Mismatch {
                field,
                wanted: wants.noun(),
                found: kind_of(raw),
            },
            Self::Value(reason) => FieldError::Value { field, reason },
        }
    }
}

fn fit_value(raw: &str, wants: Wanted, push: impl FnOnce(Fitted<'_>)) -> Result<(), Misfit> {
    match wants {
        Wanted::Boolean => match raw {
            "true" => push(Fitted::Boolean(true)),
            "false" => push(Fitted::Boolean(false)),
            _ => return Err(Misfit::Type),
        },
        Wanted::Integer => push(Fitted::Integer(integer(raw)?)),
        Wanted::Real => push(Fitted::Real(real(raw)?)),
        Wanted::Text => push(Fitted::Text(&text(raw)?)),
        Wanted::Timestamp => push(Fitted::Integer(timestamp(raw)?)),
        Wanted::Uuid => {
            let text = text(raw)?;
            let uuid = parse_uuid(&text).ok_or_else(|| {
                Misfit::Value("not a UUID of 32 hexadecimal digits with hyphens".to_owned())
            })?;
            push(Fitted::Text(&format_uuid(&uuid)));
        }
        Wanted::Json => {
            json::check(raw).map_err(|error| Misfit::Value(error.to_string()))?;
            push(Fitted::Text(raw));
        }
    }
    Ok(())
}

fn integer(raw: &str) -> Result<i64, Misfit> {
    if !is_number(raw) || raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Err(Misfit::Type);
    }
    raw.parse()
        .map_err(|_| Misfit::Value("the number is outside 64 bits".to_owned()))
}

fn real(raw: &str) -> Result<f64, Misfit> {
    if !is_number(raw) {
        return Err(Misfit::Type);
    }
    match raw.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(normal_real(value)),
        _ => Err(Misfit::Value(
            "the number is too large for a real".to_owned(),
        )),
    }
}

fn text(raw: &str) -> Result<Cow<'_, str>, Misfit> {
    let content = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let content = content.ok_or(Misfit::Type)?;
    if !content.contains('\\') {
        return Ok(Cow::Borrowed(content));
    }
    let text: String = serde_json::from_str(raw)
        .map_err(|error| Misfit::Value(format!("not valid JSON: {error}")))?;
    if text.contains('\0') {
        return Err(Misfit::Value("text must not hold U+0000".to_owned()));
    }
    Ok(Cow::Owned(text))
}

fn timestamp(raw: &str) -> Result<i64, Misfit> {
    if !raw.starts_with('"') {
        let micros = integer(raw)?;
        if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&micros) {
            return Ok(micros);
        }
        return Err(Misfit::Value(format!(
            "timestamps must lie in the years 1 to 9999, found {micros} µs"
        )));
    }
    parse_rfc3339(&text(raw)?).map_err(|error| Misfit::Value(error.to_string()))
}

fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// What a piece of valid JSON is, for messages.
fn kind_of(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "object",
        Some(b'[') => "list",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// Finds the values at the paths of the tree. Spans are byte ranges of the payload, without
/// surrounding white space; of duplicate keys the last one counts, with all that is in it.
fn locate(
    payload: &str,
    tree: &PathTree,
    spans: &mut [Option<(usize, usize)>],
) -> Result<(), FieldError> {
    let unreadable = |error: serde_json::Error| FieldError::Payload {
        reason: error.to_string(),
    };
    let text = payload.trim_matches([' ', '\t', '\n', '\r']);
    let mut walk = Walk {
        base: payload.as_ptr().addr(),
        spans,
    };
    walk.found(&tree.root, text);
    walk.descend(&tree.root, text).map_err(unreadable)
}

struct Walk<'s> {
    /// Where the payload starts in memory, to turn pieces of it into ranges.
    base: usize,
    spans: &'s mut [Option<(usize, usize)>],
}

impl Walk<'_> {
    /// Notes the value of a node.
    fn found(&mut self, node: &Node, text: &str) {
        if let Some(slot) = node.slot {
            let start = text.as_ptr().addr() - self.base;
            self.spans[slot] = Some((start, start + text.len()));
        }
    }

    /// Reads the text, which must be one JSON value, for the children of a node.
    fn descend(&mut self, node: &Node, text: &str) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        if node.children.is_empty() || !text.starts_with(['{', '[']) {
            deserializer.deserialize_ignored_any(IgnoredAny)?;
        } else {
            deserializer.deserialize_any(Children { walk: self, node })?;
        }
        deserializer.end()
    }

    /// Notes the value of a child, which is valid JSON, and what is in it.
    fn enter(&mut self, child: &Node, raw: &RawValue) -> Result<(), serde_json::Error> {
        self.found(child, raw.get());
        if child.children.is_empty() {
            return Ok(());
        }
        self.descend(child, raw.get())
    }

    fn forget(&mut self, node: &Node) {
        if let Some(slot) = node.slot {
            self.spans[slot] = None;
        }
        for (_, child) in &node.children {
            self.forget(child);
        }
    }
}

/// Visits an object or a list for the children of a node.
struct Children<'w, 's, 'n> {
    walk: &'w mut Walk<'s>,
    node: &'n Node,
}

impl<'de> Visitor<'de> for Children<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(child) = map.next_key_seed(ChildNamed(self.node))? {
            let Some(child) = child else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let raw: &RawValue = map.next_value()?;
            self.walk.forget(child);
            let entered = self.walk.enter(child, raw);
            entered.map_err(serde::de::Error::custom)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0usize;
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            if let Some(child) = self.node.child(&index.to_string()) {
                let entered = self.walk.enter(&self.node.children[child].1, raw);
                entered.map_err(serde::de::Error::custom)?;
            }
            index += 1;
        }
        Ok(())
    }
}

/// Reads a key and answers with the child of that name.
struct ChildNamed<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for ChildNamed<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for ChildNamed<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(key).map(|child| &self.0.children[child].1))
    }
}

#[cfg(test)]
mod tests;
