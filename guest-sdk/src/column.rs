//! The types that columns can have, and how their values are checked, written and read.

use retell_contract::value::{ValueError, check_real, check_text};
use retell_contract::{ColumnType, RowError, RowReader, RowWriter, key};

use crate::types::{Json, Timestamp, Uuid};

/// A type that a table's column can have: `bool`, integers up to 64 bits, `f64`, `String`,
/// `Vec<u8>`, [`Timestamp`], [`Uuid`], [`Json`], and `Option` of each.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a column type",
    label = "not a column type",
    note = "columns are bool, i64 (also i8, i16, i32, u8, u16, u32), f64, String, Vec<u8>, \
            Timestamp, Uuid, Json, or an Option of one of these; keep anything else as Json"
)]
pub trait Column: Sized {
    const TYPE: ColumnType;
    const NULLABLE: bool = false;

    /// Checks the rules of stored values. `column` is the column's name, for the message.
    fn check(&self, _column: &str) -> Result<(), ValueError> {
        Ok(())
    }

    /// Makes the value what it would be after a trip through the read model.
    fn normalize(&mut self) {}

    fn write(&self, writer: &mut RowWriter<'_>);

    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError>;
}

/// A column type that is no `Option`.
#[diagnostic::on_unimplemented(message = "`{Self}` cannot stand in an `Option` as a column")]
pub trait Required: Column {}

/// A column type that has an order, so that an index can have it: all but [`Json`].
#[diagnostic::on_unimplemented(
    message = "a column of type `{Self}` cannot be part of an index",
    label = "cannot be part of an index",
    note = "JSON has no order that every database shares; give what you look up by a column of \
            its own"
)]
pub trait IndexColumn: Column {
    /// What prefixes of a scan must be made of: see [`Part`].
    type Kind;

    /// Appends the value to a key. The value was checked.
    fn push_key(&self, out: &mut Vec<u8>);

    /// No less than the bytes that [`push_key`](Self::push_key) appends.
    fn key_bytes_most(&self) -> usize {
        17
    }
}

/// A column type that a key can have: all but [`Json`] and `Option`.
#[diagnostic::on_unimplemented(
    message = "a column of type `{Self}` cannot be part of the key",
    label = "cannot be part of the key",
    note = "a key needs a value with an order: no Option, no Json"
)]
pub trait KeyColumn: IndexColumn + Required {
    /// How a key is given to `get` and its like: `&str` for a `String`, numbers by value.
    type Key<'k>: Copy;

    /// Whether the value is this key.
    fn is(&self, key: Self::Key<'_>) -> bool;

    /// Appends a key that came from outside; it is checked.
    fn push(key: Self::Key<'_>, column: &str, out: &mut Vec<u8>) -> Result<(), ValueError>;
}

/// The kinds of index columns. Whatever is of one kind can be compared.
pub mod kind {
    #[derive(Debug)]
    pub enum Boolean {}
    #[derive(Debug)]
    pub enum Integer {}
    #[derive(Debug)]
    pub enum Real {}
    #[derive(Debug)]
    pub enum Text {}
    #[derive(Debug)]
    pub enum Bytes {}
    #[derive(Debug)]
    pub enum Timestamp {}
    #[derive(Debug)]
    pub enum Uuid {}
}

/// A value that a scan can look for in an index column of its kind.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be looked for in an index",
    label = "not the value of an index column",
    note = "give the values of the first columns of the index: one value, or a tuple of them, or \
            `()` for every row"
)]
pub trait Part: Copy {
    type Kind;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError>;
}

macro_rules! plain_columns {
    ($($ty:ty, $ty_name:ident, $kind:ty, $write:ident, $read:ident, $push:path;)*) => {$(
        impl Column for $ty {
            const TYPE: ColumnType = ColumnType::$ty_name;

            fn write(&self, writer: &mut RowWriter<'_>) {
                writer.$write(*self);
            }
            fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
                reader.$read()
            }
        }
        impl Required for $ty {}
        plain_keys!($ty, $kind, |out, value| $push(out, value));
    )*};
}

macro_rules! plain_keys {
    ($ty:ty, $kind:ty, |$out:ident, $value:ident| $push:expr) => {
        impl IndexColumn for $ty {
            type Kind = $kind;

            fn push_key(&self, $out: &mut Vec<u8>) {
                let $value = *self;
                $push;
            }
        }
        impl KeyColumn for $ty {
            type Key<'k> = $ty;

            #[allow(clippy::float_cmp, reason = "a key is the very same number")]
            fn is(&self, key: $ty) -> bool {
                *self == key
            }
            fn push(key: $ty, column: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
                key.check(column)?;
                key.push_key(out);
                Ok(())
            }
        }
        impl Part for $ty {
            type Kind = $kind;

            fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
                <$ty as KeyColumn>::push(self, PREFIX, out)
            }
        }
    };
}

/// What messages call a value that a scan looks for.
const PREFIX: &str = "the prefix of a scan";

plain_columns! {
    bool, Boolean, kind::Boolean, boolean, boolean, key::push_bool;
    i64, Integer, kind::Integer, integer, integer, key::push_i64;
}

macro_rules! small_integers {
    ($($ty:ty)*) => {$(
        impl Column for $ty {
            const TYPE: ColumnType = ColumnType::Integer;

            fn write(&self, writer: &mut RowWriter<'_>) {
                writer.integer(i64::from(*self));
            }
            fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
                let column = reader.column();
                Self::try_from(reader.integer()?).map_err(|_| RowError::Malformed {
                    column,
                    reason: concat!("the integer does not fit ", stringify!($ty)),
                })
            }
        }
        impl Required for $ty {}
        plain_keys!($ty, kind::Integer, |out, value| key::push_i64(out, i64::from(value)));
    )*};
}

small_integers!(i8 i16 i32 u8 u16 u32);

impl Column for f64 {
    const TYPE: ColumnType = ColumnType::Real;

    fn check(&self, column: &str) -> Result<(), ValueError> {
        check_real(column, *self)
    }
    /// Negative zero is stored as zero.
    fn normalize(&mut self) {
        *self += 0.0;
    }
    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.real(*self);
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.real()
    }
}
impl Required for f64 {}
plain_keys!(f64, kind::Real, |out, value| key::push_f64(out, value));

impl Column for Timestamp {
    const TYPE: ColumnType = ColumnType::Timestamp;

    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.timestamp(self.micros());
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.timestamp().map(Self::from_contract)
    }
}
impl Required for Timestamp {}
plain_keys!(Timestamp, kind::Timestamp, |out, value| {
    key::push_timestamp(out, value.micros());
});

impl Column for Uuid {
    const TYPE: ColumnType = ColumnType::Uuid;

    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.uuid(self.as_bytes());
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.uuid().copied().map(Self::from_bytes)
    }
}
impl Required for Uuid {}
plain_keys!(Uuid, kind::Uuid, |out, value| key::push_uuid(
    out,
    value.as_bytes()
));

impl Column for String {
    const TYPE: ColumnType = ColumnType::Text;

    fn check(&self, column: &str) -> Result<(), ValueError> {
        check_text(column, self)
    }
    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.text(self);
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.text().map(str::to_owned)
    }
}
impl Required for String {}

impl IndexColumn for String {
    type Kind = kind::Text;

    fn push_key(&self, out: &mut Vec<u8>) {
        key::push_text(out, self);
    }
    fn key_bytes_most(&self) -> usize {
        self.len() + 2
    }
}

impl KeyColumn for String {
    type Key<'k> = &'k str;

    fn is(&self, key: &str) -> bool {
        self == key
    }
    fn push(key: &str, column: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
        check_text(column, key)?;
        key::push_text(out, key);
        Ok(())
    }
}

impl Part for &str {
    type Kind = kind::Text;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        <String as KeyColumn>::push(self, PREFIX, out)
    }
}

impl Part for &String {
    type Kind = kind::Text;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        <String as KeyColumn>::push(self, PREFIX, out)
    }
}

impl Column for Vec<u8> {
    const TYPE: ColumnType = ColumnType::Bytes;

    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.bytes(self);
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.bytes().map(<[u8]>::to_vec)
    }
}
impl Required for Vec<u8> {}

impl IndexColumn for Vec<u8> {
    type Kind = kind::Bytes;

    fn push_key(&self, out: &mut Vec<u8>) {
        key::push_bytes(out, self);
    }
    fn key_bytes_most(&self) -> usize {
        self.len() * 2 + 2
    }
}

impl KeyColumn for Vec<u8> {
    type Key<'k> = &'k [u8];

    fn is(&self, key: &[u8]) -> bool {
        self == key
    }
    fn push(key: &[u8], _: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
        key::push_bytes(out, key);
        Ok(())
    }
}

impl Part for &[u8] {
    type Kind = kind::Bytes;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        key::push_bytes(out, self);
        Ok(())
    }
}

impl Part for &Vec<u8> {
    type Kind = kind::Bytes;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        key::push_bytes(out, self);
        Ok(())
    }
}

impl Column for Json {
    const TYPE: ColumnType = ColumnType::Json;

    fn write(&self, writer: &mut RowWriter<'_>) {
        writer.json(self.as_str());
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        reader.json().map(Self::from_canonical)
    }
}
impl Required for Json {}

impl<C: Required> Column for Option<C> {
    const TYPE: ColumnType = C::TYPE;
    const NULLABLE: bool = true;

    fn check(&self, column: &str) -> Result<(), ValueError> {
        self.as_ref().map_or(Ok(()), |value| value.check(column))
    }
    fn normalize(&mut self) {
        if let Some(value) = self {
            value.normalize();
        }
    }
    fn write(&self, writer: &mut RowWriter<'_>) {
        match self {
            None => writer.null(),
            Some(value) => value.write(writer),
        }
    }
    fn read(reader: &mut RowReader<'_>) -> Result<Self, RowError> {
        if reader.null() {
            return Ok(None);
        }
        C::read(reader).map(Some)
    }
}

impl<C: IndexColumn + Required> IndexColumn for Option<C> {
    type Kind = C::Kind;

    fn push_key(&self, out: &mut Vec<u8>) {
        match self {
            None => key::push_null(out),
            Some(value) => value.push_key(out),
        }
    }
    fn key_bytes_most(&self) -> usize {
        self.as_ref().map_or(1, C::key_bytes_most)
    }
}

/// `None` looks for rows where the column is null.
impl<P: Part> Part for Option<P> {
    type Kind = P::Kind;

    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self {
            None => key::push_null(out),
            Some(value) => value.push(out)?,
        }
        Ok(())
    }
}
