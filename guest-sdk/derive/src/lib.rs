//! The macros of `retell-sdk`: see `retell_sdk::{Event, Table, projection}`.
//!
//! They write what could be written by hand against the traits of the SDK, and point at the field
//! or attribute that is wrong. What the compiler can check better (whether a type is a column,
//! whether two tables have one name) is left to it, by code that does not compile.

use proc_macro::TokenStream;

mod attributes;
mod event;
mod event_fields;
mod projection;
mod table;

/// Declares events: an enum with a variant for each type of event, or a struct for one type.
///
/// A variant with named fields takes the event type of its name and those fields of its payload.
/// A variant around a struct that derives `Event` takes the fields of that struct, and a unit
/// variant none. Events of other types are not even read.
///
/// # Fields
///
/// `bool`, `i64`, `f64`, `String`, `&'a str` (without a copy), `Timestamp`, `Uuid`, `Json`, smaller
/// integers and `u64`. Anything else (a struct, a list, a map, `serde_json::Value`) is read from
/// the field's JSON by serde. `Option<T>` is `None` when the field is missing or null;
/// `Option<Option<T>>` tells missing (`None`) from null (`Some(None)`).
///
/// What is read by serde owns its texts, or holds them as `Cow<'a, str>`: a text with an escape in it
/// cannot be borrowed from JSON. So a type with a reference in it does not compile there, unless it is
/// to serde_json's `RawValue`. Nested structs and aliases must do likewise, though nobody checks them:
/// a `&'a str` in one fails when such a text comes.
///
/// # Attributes
///
/// On a variant (or a struct):
/// - `#[event(name = "ArticleDeleted")]`: the event type, if it is not the name of the variant. That
///   of a variant counts instead of the `name` and `was` of a struct that gives a name itself.
/// - `#[event(was("article_deleted"))]`: also accepts events of these types. It never stands for the
///   name: on a struct without one it adds to the types of whoever uses the struct.
/// - `#[event(from = OldShape)]`: an older form of the payload, a struct that derives `Event`, and
///   made into the enum (or struct) by its `From<OldShape>`. Tried when the newer form does not
///   fit; can be repeated.
/// - `#[event(any)]`: takes every type that no other variant names.
///
/// On a field:
/// - `#[field(path = "author.name")]`: where the value is: a dotted path, a JSON pointer, or `$` for
///   the whole payload. It has at most 127 keys and 4,096 bytes.
/// - `#[field(was("headline"))]`: other paths, tried when the first is missing.
/// - `#[field(default)]`, `#[field(default = "…")]`: the value when the field is missing.
///
/// ```
/// # use retell_sdk::prelude::*;
/// #[derive(Event)]
/// enum Cms<'a> {
///     #[event(was("article_created"), from = ArticleV1)]
///     ArticleCreated {
///         id: &'a str,
///         #[field(was("headline"), default = "untitled")]
///         title: String,
///         #[field(path = "author.name")]
///         author: Option<String>,
///         tags: Vec<String>,
///     },
///     #[event(name = "ArticleDeleted")]
///     Deleted { id: &'a str },
///     #[event(any)]
///     Other { #[field(path = "$")] payload: Json },
/// }
///
/// #[derive(Event)]
/// struct ArticleV1<'a> { id: &'a str, author: String, tags: String }
///
/// impl<'a> From<ArticleV1<'a>> for Cms<'a> {
///     fn from(old: ArticleV1<'a>) -> Self {
///         let tags = old.tags.split(',').map(str::to_owned).collect();
///         let title = "untitled".to_owned();
///         Self::ArticleCreated { id: old.id, title, author: Some(old.author), tags }
///     }
/// }
/// ```
#[proc_macro_derive(Event, attributes(event, field))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    expand(event::derive(input.into()))
}

/// Declares a table: a struct with named fields is a row, and its fields are the columns.
///
/// # Columns
///
/// `bool`, `i64` (also smaller integers), `f64`, `String`, `Vec<u8>`, `Timestamp`, `Uuid`, `Json`,
/// and `Option` of each.
///
/// # Attributes
///
/// On a field: `#[key]` (one or more: a key of several columns is in the order of the fields),
/// `#[index]`, `#[unique]`, `#[column(name = "other")]`. On the struct:
/// `#[table(name = "other", key(a, b), index(a, b), unique(a, b), index(a, b, name = "c"))]`; the
/// name of the table is otherwise that of the struct in snake case.
///
/// A table has at most 256 columns and 16 indexes. A key has at most 32 columns, and so has an index
/// together with those of the key that it lacks, which stand behind its own unless it is unique.
///
/// Clippy takes a column that two indexes have in common for a mistake
/// (`duplicated_attributes`); allow that lint there.
///
/// Each index gets a constant to scan by, and the key has `BY_KEY`:
///
/// ```
/// # use retell_sdk::prelude::*;
/// #[derive(Table)]
/// #[table(index(article, posted_at))]
/// struct Comment {
///     #[key] id: Uuid,
///     article: String,
///     #[index] author: Option<String>,
///     posted_at: Timestamp,
///     text: String,
/// }
///
/// # fn example(db: &mut Db) -> Result<()> {
/// let by_one = db.scan(Comment::BY_AUTHOR, "ann")?;
/// let on_article = db.scan(Comment::BY_ARTICLE_AND_POSTED_AT, ("a",))?;
/// let all = db.scan(Comment::BY_KEY, ())?;
/// # Ok(())
/// # }
/// ```
#[proc_macro_derive(Table, attributes(table, key, index, unique, column))]
pub fn derive_table(input: TokenStream) -> TokenStream {
    expand(table::derive(input.into()))
}

/// Makes a module of a function: `fn project(event: Events, meta: &Meta, db: &mut Db) -> Result<()>`.
///
/// # Arguments
///
/// - `name = "articles"`: the projection.
/// - `version = "1.0.0"`: its semantic version, of at most 64 bytes; the crate's own if left out.
/// - `tables(Article, Comment)`: the tables it fills, each with `#[derive(Table)]`.
/// - `meta(stream, time)`: the parts of an event's envelope that the function wants, of `revision`,
///   `stream`, `id`, `time`, `occurred_at`, `recorded_at`, `metadata`, `event_type`. `position` is
///   always there. What nobody asks for is not copied.
/// - `keys(author = Author)`: a field of events, by its name in Rust, that is the key of a table. The
///   rows that a batch names are then fetched at once, and not one by one when the function first asks
///   for each. It is worth it where most events read the row that such a field names; it changes no
///   result.
/// - `after_replay(sqlite = "CREATE VIEW …", postgres = include_str!("after.sql"))`: SQL to run
///   once after the replay, such as views and full-text indexes.
///
/// Beside the function, the macro writes the struct `Meta` with the parts that were asked for, and
/// the struct `Projection`, which tests name.
#[proc_macro_attribute]
pub fn projection(arguments: TokenStream, function: TokenStream) -> TokenStream {
    expand(projection::expand(arguments.into(), function.into()))
}

fn expand(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
