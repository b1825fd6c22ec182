//! Tables: what the derive writes, and the indexes by which they are scanned.

use std::fmt;
use std::marker::PhantomData;

use retell_contract::manifest::{self, KEY_INDEX};
use retell_contract::value::ValueError;
use retell_contract::{KEY_BYTES_MAX, RowError};

use crate::column::{IndexColumn, Part};
use crate::error::{Error, Result};

/// A table of the read model: a struct is a row. Derive it with
/// [`#[derive(Table)]`](crate::Table).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a table",
    label = "derive it: `#[derive(Table)]`"
)]
pub trait Table: Sized + 'static {
    /// How a key is given: the type of the key column (`&str` for a `String`), or a tuple of them.
    type Key<'k>: Copy;

    const NAME: &'static str;

    /// Whether an index is unique: then every change is handed over, in order.
    const UNIQUE: bool;

    fn definition() -> manifest::Table;

    /// Whether this is the row of the key.
    fn has_key(&self, key: Self::Key<'_>) -> bool;

    /// Appends a key to the bytes, after checking it.
    fn push_key(key: Self::Key<'_>, out: &mut Vec<u8>) -> Result<(), ValueError>;

    /// Appends the row's own key, which was checked.
    fn push_own_key(&self, out: &mut Vec<u8>);

    /// Appends the row's columns of an index, which were checked.
    fn push_index(&self, index: u16, out: &mut Vec<u8>);

    /// Makes the row what it would be after a trip through the read model: whether an event sees it before
    /// or after that trip must not matter.
    fn normalize(&mut self);

    /// Checks the rules of stored values, and that no key or index entry is too long.
    fn check(&self) -> Result<()>;

    /// Appends the encoded row.
    fn write(&self, out: &mut Vec<u8>);

    fn read(bytes: &[u8]) -> Result<Self, RowError>;
}

/// An index of the table `T` over columns of the types `C`. The derive makes a constant for each:
/// `Article::BY_AUTHOR`, and `Article::BY_KEY` for the key itself.
pub struct Index<T, C> {
    number: u16,
    of: PhantomData<fn() -> (T, C)>,
}

impl<T, C> Index<T, C> {
    #[doc(hidden)]
    pub const fn new(number: u16) -> Self {
        Self {
            number,
            of: PhantomData,
        }
    }

    #[doc(hidden)]
    pub const fn key() -> Self {
        Self::new(KEY_INDEX)
    }

    pub(crate) fn number(self) -> u16 {
        self.number
    }
}

impl<T, C> Clone for Index<T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Index<T, C> {}

impl<T: Table, C> fmt::Debug for Index<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of table {}", self.number, T::NAME)
    }
}

impl<T: Table, C> Index<T, C> {
    /// Appends the place of a row in the index, after which a scan goes on.
    pub(crate) fn push_place(self, row: &T, out: &mut Vec<u8>) {
        if self.number != KEY_INDEX {
            row.push_index(self.number, out);
        }
        row.push_own_key(out);
    }
}

/// The first columns of an index with the types `C`: one value, or a tuple of values, or `()` for
/// every row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a prefix of an index over the columns `{C}`",
    note = "give the values of its first columns: one value, or a tuple of them, or `()` for \
            every row"
)]
pub trait Prefix<C> {
    fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError>;
}

/// The prefixes of indexes over one column, two columns, and so on: each line names the columns,
/// and pairs the first of them with the values that are given.
macro_rules! prefixes {
    ($($columns:tt: $first:ident, [$($given:tt)*];)*) => {$(
        prefixes!(@none $columns);
        prefixes!(@bare $columns $first);
        $(prefixes!(@tuple $columns $given);)*
    )*};
    (@none ($($column:ident)*)) => {
        impl<$($column),*> Prefix<($($column,)*)> for () {
            fn push(self, _: &mut Vec<u8>) -> Result<(), ValueError> {
                Ok(())
            }
        }
    };
    (@bare ($($column:ident)*) $first:ident) => {
        impl<$($column,)* Value> Prefix<($($column,)*)> for Value
        where
            $first: IndexColumn,
            Value: Part<Kind = $first::Kind>,
        {
            fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
                Part::push(self, out)
            }
        }
    };
    (@tuple ($($column:ident)*) ($($given:ident $value:ident),*)) => {
        impl<$($column,)* $($value),*> Prefix<($($column,)*)> for ($($value,)*)
        where
            $($given: IndexColumn, $value: Part<Kind = $given::Kind>),*
        {
            fn push(self, out: &mut Vec<u8>) -> Result<(), ValueError> {
                #[allow(non_snake_case, reason = "the values are named as their types")]
                let ($($value,)*) = self;
                $(Part::push($value, out)?;)*
                Ok(())
            }
        }
    };
}

prefixes! {
    (A): A, [(A P)];
    (A B): A, [(A P) (A P, B Q)];
    (A B C): A, [(A P) (A P, B Q) (A P, B Q, C R)];
    (A B C D): A, [(A P) (A P, B Q) (A P, B Q, C R) (A P, B Q, C R, D S)];
    (A B C D E): A, [
        (A P) (A P, B Q) (A P, B Q, C R) (A P, B Q, C R, D S) (A P, B Q, C R, D S, E T)
    ];
    (A B C D E F): A, [
        (A P) (A P, B Q) (A P, B Q, C R) (A P, B Q, C R, D S) (A P, B Q, C R, D S, E T)
        (A P, B Q, C R, D S, E T, F U)
    ];
}

/// Refuses a key or index entry that is too long. `most` is an upper bound that is cheap to know;
/// only beyond the limit is the entry made.
pub fn check_key_bytes(
    what: fmt::Arguments<'_>,
    most: usize,
    push: impl FnOnce(&mut Vec<u8>),
) -> Result<()> {
    if most <= KEY_BYTES_MAX {
        return Ok(());
    }
    let mut key = Vec::new();
    push(&mut key);
    check_key_length(what, key.len())
}

pub(crate) fn check_key_length(what: fmt::Arguments<'_>, length: usize) -> Result<()> {
    if length <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(format!(
        "{what} takes {length} bytes, and at most {KEY_BYTES_MAX} are allowed"
    )))
}
