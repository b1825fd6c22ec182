//! Write projections for retell: events in, rows out.
//!
//! A projection is a function that folds the events of a log into tables. Declare the events it
//! takes, the tables it fills, and the function between them; `retell build` makes a WebAssembly
//! component of it.
//!
//! ```
//! use retell_sdk::prelude::*;
//!
//! #[derive(Event)]
//! enum Cms {
//!     ArticleCreated { id: String, title: String, author: String },
//!     ArticleTitleChanged { id: String, title: String },
//!     #[event(name = "ArticleDeleted")]
//!     Deleted { id: String },
//! }
//!
//! #[derive(Table)]
//! struct Article {
//!     #[key] id: String,
//!     title: String,
//!     #[index] author: String,
//!     revisions: i64,
//! }
//!
//! #[projection(name = "articles", version = "1.0.0", tables(Article))]
//! fn project(event: Cms, meta: &Meta, db: &mut Db) -> Result<()> {
//!     match event {
//!         Cms::ArticleCreated { id, title, author } => {
//!             db.put(Article { id, title, author, revisions: 1 })?;
//!         }
//!         Cms::ArticleTitleChanged { id, title } => {
//!             let found = db.update::<Article>(&id, |article| {
//!                 article.title = title;
//!                 article.revisions += 1;
//!             })?;
//!             ensure!(found, "article `{id}` does not exist at position {}", meta.position());
//!         }
//!         Cms::Deleted { id } => db.delete::<Article>(&id)?,
//!     }
//!     Ok(())
//! }
//! # fn main() {
//!
//! // In a test, the same function runs natively, with every way to cut its batches.
//! use retell_sdk::testing::{event, given};
//! use serde_json::json;
//!
//! let model = given::<Projection>([
//!     event("ArticleCreated", json!({"id": "a", "title": "One", "author": "x"})),
//!     event("ArticleTitleChanged", json!({"id": "a", "title": "Two"})),
//! ]);
//! assert_eq!(model.get::<Article>("a").unwrap().title, "Two");
//! # }
//! ```
//!
//! # What makes it reliable
//!
//! A projection is a pure function of the log. It has no clock (use the times of the event), no
//! randomness, no network and no files, and it must not keep anything between events but in its
//! tables: how the log is cut into batches, and when an instance is thrown away, must not matter.
//! [`testing`] tries the cuts. Where the order of a hash map reaches a row, use [`HashMap`].
//!
//! An event that cannot be applied is an `Err`: the host then says which event, of which type, and
//! the message. A panic stops the version and reaches the user with its message and place.

extern crate self as retell_sdk;

mod batch;
mod cache;
mod changes;
mod column;
mod db;
mod error;
mod event;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod export;
mod fetch;
mod hash;
pub mod prelude;
mod projection;
mod slots;
mod table;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod types;

pub use column::{Column, IndexColumn, KeyColumn, Part, Required, kind};
pub use db::{Db, Level};
pub use error::{Error, Result};
pub use event::{Event, EventField, Fields};
pub use hash::{FixedHasher, HashMap, HashSet};
pub use projection::Projection;
pub use retell_derive::{Event, Table, projection};
pub use table::{Index, Prefix, Table};
pub use types::{Json, Timestamp, Uuid};

/// For the code that the macros write.
#[doc(hidden)]
pub mod __private {
    pub use crate::batch::{Batch, Cells, Envelope, Row};
    pub use crate::changes::{ChangeSet, Failure, PackedRows};
    pub use crate::db::{Host, Tables};
    pub use crate::event::{
        DeclaredField, Shapes, are_distinct, arm, defaulted, field, optional, patched, required,
        take_json,
    };
    pub use crate::fetch::{Fetch, hints};
    pub use crate::projection::run;
    pub use crate::table::check_key_bytes;
    pub use retell_contract::manifest::{
        AfterReplay, Dialect, Envelope as EnvelopeParts, Manifest, Table, TableColumn, TableIndex,
        Wanted,
    };
    pub use retell_contract::names;
    pub use retell_contract::value::ValueError;
    pub use retell_contract::{RowError, RowReader, RowWriter};

    /// Whether two texts are equal, for checks at compile time.
    pub const fn same(a: &str, b: &str) -> bool {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        if a.len() != b.len() {
            return false;
        }
        let mut at = 0;
        while at < a.len() {
            if a[at] != b[at] {
                return false;
            }
            at += 1;
        }
        true
    }
}

/// The README's projection compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
