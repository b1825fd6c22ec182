//! Events: what the derive writes, and the types that fields can have.

use retell_contract::manifest::{Field, Shape, Wanted};
use serde::Deserialize;

use crate::__private::same;
use crate::batch::{Cells, Row};
use crate::error::{Error, Result};
use crate::types::{Json, Timestamp, Uuid};

/// The events a projection takes: an enum with a variant for each type of event, or one struct.
/// Derive it with [`#[derive(Event)]`](crate::Event).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event type",
    label = "derive it: `#[derive(Event)]`"
)]
pub trait Event<'a>: Sized {
    /// Adds the shapes of the events, in the order in which they are tried.
    fn shapes(out: &mut Shapes);

    /// Takes one event out of the batch.
    fn decode(row: Row<'a>) -> Result<Self>;
}

/// The fields of one shape of event: what `#[derive(Event)]` on a struct also writes. It is what a
/// newtype variant holds, and what `#[event(from = Old)]` names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a struct of event fields",
    label = "derive it on a struct: `#[derive(Event)]`"
)]
pub trait Fields<'a>: Sized {
    /// The event types that the struct itself names; none if whoever uses it names them.
    const NAMES: &'static [&'static str];

    /// Older event types, which it takes beside those that whoever uses it names.
    const WAS: &'static [&'static str];

    /// Whether the struct itself names older forms. Only the event that is of that struct alone takes them.
    const HAS_OLDER: bool;

    fn fields() -> Vec<DeclaredField>;

    fn decode(row: Row<'a>) -> Result<Self>;
}

/// A field of the manifest, and what it is called in Rust.
#[derive(Debug, Clone)]
pub struct DeclaredField {
    name: &'static str,
    field: Field,
}

/// Whether no two variants take one event type. Each has several lists of those that it takes, and
/// one may stand in two of them: an older form of the variant takes some of its types again.
pub const fn are_distinct(variants: &[&[&[&str]]]) -> bool {
    let mut variant = 0;
    while variant < variants.len() {
        let mut other = variant + 1;
        while other < variants.len() {
            if have_common(variants[variant], variants[other]) {
                return false;
            }
            other += 1;
        }
        variant += 1;
    }
    true
}

const fn have_common(lists: &[&[&str]], others: &[&[&str]]) -> bool {
    let mut list = 0;
    while list < lists.len() {
        let mut name = 0;
        while name < lists[list].len() {
            if has(others, lists[list][name]) {
                return true;
            }
            name += 1;
        }
        list += 1;
    }
    false
}

const fn has(lists: &[&[&str]], name: &str) -> bool {
    let mut list = 0;
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            if same(lists[list][at], name) {
                return true;
            }
            at += 1;
        }
        list += 1;
    }
    false
}

/// The shapes of an event type in the making. Each remembers its arm: the number by which the
/// derived code knows how to decode it.
#[derive(Debug, Default)]
pub struct Shapes {
    declared: Vec<Shape>,
    arms: Vec<u16>,
    /// For each shape, what its fields are called in Rust.
    field_names: Vec<Vec<&'static str>>,
}

impl Shapes {
    pub fn of<'a, E: Event<'a>>() -> Self {
        let mut shapes = Self::default();
        E::shapes(&mut shapes);
        shapes
    }

    /// Adds a shape under each of the names in the lists, once.
    pub fn add(&mut self, arm: u16, names: &[&[&str]], fields: &[DeclaredField]) {
        let before = self.declared.len();
        for &name in names.iter().copied().flatten() {
            let mut added = self.declared[before..].iter();
            if added.any(|shape| shape.event_type == name) {
                continue;
            }
            self.arms.push(arm);
            self.field_names
                .push(fields.iter().map(|it| it.name).collect());
            self.declared.push(Shape {
                event_type: name.to_owned(),
                fields: fields.iter().map(|it| it.field.clone()).collect(),
            });
        }
    }

    /// Adds the shape of a struct, under its own names if it has any, and under its older ones.
    pub fn add_fields<'a, F: Fields<'a>>(&mut self, arm: u16, names: &[&[&str]]) {
        let own = [F::NAMES];
        let names = if F::NAMES.is_empty() { names } else { &own };
        self.add(arm, &[names, &[F::WAS]].concat(), &F::fields());
    }

    /// The fields of this name in Rust: the number of the shape, that of the field, and the field.
    pub(crate) fn fields_named(&self, name: &str) -> impl Iterator<Item = (u16, u16, &Field)> {
        let shapes = (0u16..).zip(self.declared.iter().zip(&self.field_names));
        shapes.flat_map(move |(number, (shape, names))| {
            let fields = (0u16..).zip(&shape.fields).zip(names);
            let named = fields.filter(move |(_, it)| **it == name);
            named.map(move |((field, it), _)| (number, field, it))
        })
    }

    pub fn arms(self) -> Vec<u16> {
        self.arms
    }

    pub fn into_shapes(self) -> Vec<Shape> {
        self.declared
    }
}

/// A type that an event field can have without a detour over JSON. Fields of other types arrive as
/// JSON and are read by serde.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a type of event fields")]
pub trait EventField<'a>: Sized {
    const WANTS: Wanted;

    fn take(cells: &'a Cells, row: usize) -> Result<Self>;
}

impl EventField<'_> for bool {
    const WANTS: Wanted = Wanted::Boolean;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Ok(cells.boolean(row))
    }
}

impl EventField<'_> for i64 {
    const WANTS: Wanted = Wanted::Integer;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Ok(cells.integer(row))
    }
}

macro_rules! checked_integers {
    ($($ty:ty)*) => {$(
        impl EventField<'_> for $ty {
            const WANTS: Wanted = Wanted::Integer;

            fn take(cells: &Cells, row: usize) -> Result<Self> {
                let value = cells.integer(row);
                <$ty>::try_from(value).map_err(|_| {
                    Error::new(format!(
                        "expected an integer from {} to {}, found {value}",
                        <$ty>::MIN,
                        <$ty>::MAX
                    ))
                })
            }
        }
    )*};
}

checked_integers!(i8 i16 i32 u8 u16 u32 u64);

impl EventField<'_> for f64 {
    const WANTS: Wanted = Wanted::Real;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Ok(cells.real(row))
    }
}

impl EventField<'_> for String {
    const WANTS: Wanted = Wanted::Text;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Ok(cells.text(row).to_owned())
    }
}

impl<'a> EventField<'a> for &'a str {
    const WANTS: Wanted = Wanted::Text;

    fn take(cells: &'a Cells, row: usize) -> Result<Self> {
        Ok(cells.text(row))
    }
}

impl EventField<'_> for Timestamp {
    const WANTS: Wanted = Wanted::Timestamp;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Ok(Self::from_contract(cells.integer(row)))
    }
}

impl EventField<'_> for Uuid {
    const WANTS: Wanted = Wanted::Uuid;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        cells.text(row).parse()
    }
}

impl EventField<'_> for Json {
    const WANTS: Wanted = Wanted::Json;

    fn take(cells: &Cells, row: usize) -> Result<Self> {
        Self::from_text(cells.text(row))
    }
}

/// A field of any other type: its JSON, read by serde.
pub fn take_json<'a, T: Deserialize<'a>>(cells: &'a Cells, row: usize) -> Result<T> {
    Ok(serde_json::from_str(cells.text(row))?)
}

/// How the value of one field is taken.
type Take<'a, T> = fn(&'a Cells, usize) -> Result<T>;

/// A field that must be there. `name` is for messages.
#[inline]
pub fn required<'a, T>(row: Row<'a>, field: usize, name: &str, take: Take<'a, T>) -> Result<T> {
    take(&row.block[field], row.row).map_err(|error| in_field(error, name))
}

/// A field that may be missing, and then has a default.
#[inline]
pub fn defaulted<'a, T>(
    row: Row<'a>,
    field: usize,
    name: &str,
    take: Take<'a, T>,
    default: impl FnOnce() -> T,
) -> Result<T> {
    if row.block[field].missing(row.row) {
        return Ok(default());
    }
    required(row, field, name, take)
}

/// A field that may be missing or null.
#[inline]
pub fn optional<'a, T>(
    row: Row<'a>,
    field: usize,
    name: &str,
    take: Take<'a, T>,
) -> Result<Option<T>> {
    let cells = &row.block[field];
    if cells.missing(row.row) || cells.null(row.row) {
        return Ok(None);
    }
    required(row, field, name, take).map(Some)
}

/// A field that tells missing (`None`) from null (`Some(None)`).
#[inline]
pub fn patched<'a, T>(
    row: Row<'a>,
    field: usize,
    name: &str,
    take: Take<'a, T>,
) -> Result<Option<Option<T>>> {
    if row.block[field].missing(row.row) {
        return Ok(None);
    }
    optional(row, field, name, take).map(Some)
}

#[cold]
fn in_field(error: Error, name: &str) -> Error {
    error.context(format_args!("field `{name}`"))
}

/// The arm that decodes an event.
pub fn arm(row: Row<'_>) -> u16 {
    row.arm
}

/// Declares a field of the manifest. `name` is what it is called in Rust.
pub fn field(
    name: &'static str,
    paths: &[&str],
    wants: Wanted,
    optional: bool,
    nullable: bool,
) -> DeclaredField {
    let field = Field {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        wants,
        optional,
        nullable,
    };
    DeclaredField { name, field }
}
