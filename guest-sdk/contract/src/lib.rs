//! What a retell host and its guests agree on, beside the WIT in `wit/projection.wit`.
//!
//! Both sides compile this crate, so that a row, a key or a rule about values can never mean two
//! things. It owns encodings and checks and does no input or output; it knows neither SQL nor
//! WebAssembly.
//!
//! | module | what it fixes |
//! |---|---|
//! | [`value`] | the column types and the rules every stored value keeps |
//! | [`key`] | order-preserving bytes of keys and index entries |
//! | [`row`] | CBOR arrays of a row's columns |
//! | [`json`] | canonical and compact JSON texts |
//! | [`time`], [`uuid`] | timestamps and UUIDs as text |
//! | [`names`] | what projections, tables and columns may be called |
//! | [`manifest`] | what a module says of itself, and the check of it |
//! | [`columns`], [`fit`] | events as typed columns, and how payloads become them |
//!
//! # Digest of a read model
//!
//! The digest is a SHA-256 over the tables ordered by name, and in each the rows ordered by key:
//! for each table the length of its name as a big-endian `u64` and the name, then for each row the
//! length of its encoding ([`row`]) as a big-endian `u64` and the encoding, then a `u64` of all
//! ones, which no length can be. Indexes, and whatever the SQL after the replay made, are left out.

mod block;
pub mod columns;
pub mod fit;
pub mod json;
pub mod key;
pub mod manifest;
pub mod names;
mod path;
pub mod row;
mod scan;
pub mod time;
pub mod uuid;
pub mod value;

#[cfg(test)]
mod samples;

pub use columns::{Blocks, Column, TextColumn, Values, bit};
pub use fit::{FieldError, FitTo, Fitter, Located, PlanId};
pub use key::{KEY_BYTES_MAX, KeyError, decode_key, encode_key, push_key};
pub use manifest::{Manifest, ManifestError};
pub use names::NameError;
pub use row::{
    RowError, RowReader, RowWriter, check_row, decode_row, encode_row, key_of_row, walk_row,
};
pub use value::{ColumnType, Value, ValueError, ValueRef};

/// The version of the contract that this crate describes: the version of the WIT package.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// The custom section in which a module carries its stamp, the JSON text
/// `{"contract":"0.1.0","sdk":"0.1.0"}`: readable before anything of the module is compiled.
pub const STAMP_SECTION: &str = "retell:contract";
