//! The only code that knows WebAssembly: the exports and imports of a module, by wit-bindgen.
//!
//! Texts and numbers are moved into the SDK's own types and out of them, never copied.

use std::marker::PhantomData;
use std::sync::Once;

use retell_contract::{Column, TextColumn, Values, manifest as plain};

use crate::batch::{Batch, Cells};
use crate::changes;
use crate::db::{Host, Level};
use crate::projection::Projection;

/// What `wit-bindgen` writes. Its code calls across the boundary by raw pointers.
#[allow(
    unsafe_code,
    unreachable_pub,
    missing_docs,
    clippy::all,
    clippy::pedantic
)]
pub mod bindings {
    // SAFETY: the code is wit-bindgen's; it passes pointers to memory that it owns, as the
    // canonical ABI of the component model prescribes.
    wit_bindgen::generate!({
        path: "contract/wit",
        world: "projection",
        pub_export_macro: true,
        default_bindings_module: "retell_sdk::export::bindings",
        runtime_path: "::retell_sdk::export::wit_bindgen::rt",
    });
}

#[doc(hidden)]
pub use wit_bindgen;

use bindings::retell::projection::{read_model, types as wit};

/// The stamp of the module: which contract and which SDK it was built with.
pub const STAMP: &str = concat!(
    r#"{"contract":"0.1.0","sdk":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

// The text above is put together before constants have values, so the version stands there twice.
const _: () = assert!(crate::__private::same(
    retell_contract::CONTRACT_VERSION,
    "0.1.0"
));

/// The bytes of [`STAMP`], as a static needs them.
pub const fn stamp_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(STAMP.as_bytes());
    bytes
}

/// Exports a projection from its crate. In that crate, because the linker keeps the sections of
/// the crate that it links, and may leave out those of a library.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($projection:ty) => {
        // SAFETY: `export!` makes functions under the names that the canonical ABI prescribes, and
        // nothing else in a module has those; the section of the stamp is read by no program.
        #[allow(unsafe_code, unreachable_pub)]
        const _: () = {
            type Module = $crate::export::Module<$projection>;
            $crate::export::bindings::export!(
                Module with_types_in $crate::export::bindings
            );

            #[used]
            #[unsafe(link_section = "retell:contract")]
            static STAMP: [u8; $crate::export::STAMP.len()] = $crate::export::stamp_bytes();
        };
    };
}

/// The exports for a projection.
#[derive(Debug)]
pub struct Module<P>(PhantomData<P>);

impl<P: Projection> bindings::Guest for Module<P> {
    fn describe() -> wit::Manifest {
        report_panics();
        P::manifest().into()
    }

    fn apply(events: wit::EventBatch) -> Result<wit::ChangeSet, wit::Failure> {
        report_panics();
        let changes = P::apply(&events.into(), &mut Imports);
        changes.map(Into::into).map_err(|failure| wit::Failure {
            event: failure.event,
            message: failure.message,
        })
    }
}

/// Has a panic's message and place written to the host's log before the trap, which carries
/// neither.
fn report_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic.payload_as_str().unwrap_or("no message");
            let place = panic
                .location()
                .map_or_else(String::new, |place| format!(" at {place}"));
            Imports.log(Level::Error as u8, &format!("panicked{place}: {message}"));
        }));
    });
}

/// The host that runs the module.
struct Imports;

impl Host for Imports {
    fn get_many(&mut self, table: u16, keys: &[u8], key_ends: &[u32]) -> changes::PackedRows {
        read_model::get_many(table, keys, key_ends).into()
    }

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> changes::PackedRows {
        read_model::scan(table, index, prefix, after, limit).into()
    }

    fn stage(&mut self, changes: changes::ChangeSet) {
        read_model::stage(&changes.into());
    }

    fn log(&mut self, level: u8, message: &str) {
        read_model::log(level, message);
    }
}

impl From<wit::PackedRows> for changes::PackedRows {
    fn from(packed: wit::PackedRows) -> Self {
        Self {
            row_ends: packed.row_ends,
            rows: packed.rows,
        }
    }
}

impl From<changes::ChangeSet> for wit::ChangeSet {
    fn from(changes: changes::ChangeSet) -> Self {
        Self {
            events: changes.events,
            tables: changes.tables,
            kinds: changes.kinds,
            key_ends: changes.key_ends,
            keys: changes.keys,
            row_ends: changes.row_ends,
            rows: changes.rows,
        }
    }
}

impl From<wit::EventBatch> for Batch {
    fn from(events: wit::EventBatch) -> Self {
        let texts = |column: Option<wit::TextColumn>| column.map(|c| TextColumn::from(c).into());
        let cells = |column: wit::Column| Cells::from(Column::from(column));
        let block = |columns: Vec<wit::Column>| columns.into_iter().map(cells).collect();
        Self {
            positions: events.positions,
            shapes: events.shapes,
            blocks: events.blocks.into_iter().map(block).collect(),
            revisions: events.revisions,
            times: events.times,
            recorded_at: events.recorded_at,
            occurred_at: events.occurred_at.map(cells),
            streams: texts(events.streams),
            ids: texts(events.ids),
            metadata: texts(events.metadata),
            type_names: texts(events.type_names),
        }
    }
}

impl From<wit::TextColumn> for TextColumn {
    fn from(column: wit::TextColumn) -> Self {
        Self {
            ends: column.ends,
            bytes: column.bytes,
        }
    }
}

impl From<wit::Column> for Column {
    fn from(column: wit::Column) -> Self {
        Self {
            values: match column.values {
                wit::Values::Booleans(values) => Values::Booleans(values),
                wit::Values::Integers(values) => Values::Integers(values),
                wit::Values::Reals(values) => Values::Reals(values),
                wit::Values::Texts(texts) => Values::Texts(texts.into()),
                wit::Values::Json(texts) => Values::Json(texts.into()),
            },
            present: column.present,
            null: column.null,
        }
    }
}

impl From<plain::Manifest> for wit::Manifest {
    fn from(manifest: plain::Manifest) -> Self {
        Self {
            name: manifest.name,
            version: manifest.version,
            shapes: manifest.shapes.into_iter().map(Into::into).collect(),
            tables: manifest.tables.into_iter().map(Into::into).collect(),
            envelope: envelope(manifest.envelope),
            hints: manifest.hints.into_iter().map(Into::into).collect(),
            after_replay: manifest.after_replay.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<plain::Shape> for wit::Shape {
    fn from(shape: plain::Shape) -> Self {
        Self {
            event_type: shape.event_type,
            fields: shape.fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<plain::Field> for wit::Field {
    fn from(field: plain::Field) -> Self {
        Self {
            paths: field.paths,
            wants: match field.wants {
                plain::Wanted::Boolean => wit::Wanted::Boolean,
                plain::Wanted::Integer => wit::Wanted::Integer,
                plain::Wanted::Real => wit::Wanted::Real,
                plain::Wanted::Text => wit::Wanted::Text,
                plain::Wanted::Timestamp => wit::Wanted::Timestamp,
                plain::Wanted::Uuid => wit::Wanted::Uuid,
                plain::Wanted::Json => wit::Wanted::Json,
            },
            optional: field.optional,
            nullable: field.nullable,
        }
    }
}

impl From<plain::Table> for wit::Table {
    fn from(table: plain::Table) -> Self {
        let column = |column: plain::TableColumn| wit::TableColumn {
            name: column.name,
            kind: column_type(column.kind),
            nullable: column.nullable,
        };
        let index = |index: plain::TableIndex| wit::TableIndex {
            name: index.name,
            columns: index.columns,
            unique: index.unique,
        };
        Self {
            name: table.name,
            columns: table.columns.into_iter().map(column).collect(),
            key: table.key,
            indexes: table.indexes.into_iter().map(index).collect(),
        }
    }
}

impl From<plain::Hint> for wit::Hint {
    fn from(hint: plain::Hint) -> Self {
        Self {
            shape: hint.shape,
            fields: hint.fields,
            table: hint.table,
        }
    }
}

impl From<plain::AfterReplay> for wit::AfterReplay {
    fn from(after_replay: plain::AfterReplay) -> Self {
        Self {
            dialect: match after_replay.dialect {
                plain::Dialect::Sqlite => wit::Dialect::Sqlite,
                plain::Dialect::Postgres => wit::Dialect::Postgres,
            },
            sql: after_replay.sql,
        }
    }
}

fn column_type(kind: retell_contract::ColumnType) -> wit::ColumnType {
    use retell_contract::ColumnType;
    match kind {
        ColumnType::Boolean => wit::ColumnType::Boolean,
        ColumnType::Integer => wit::ColumnType::Integer,
        ColumnType::Real => wit::ColumnType::Real,
        ColumnType::Text => wit::ColumnType::Text,
        ColumnType::Bytes => wit::ColumnType::Bytes,
        ColumnType::Timestamp => wit::ColumnType::Timestamp,
        ColumnType::Uuid => wit::ColumnType::Uuid,
        ColumnType::Json => wit::ColumnType::Json,
    }
}

fn envelope(parts: plain::Envelope) -> wit::Envelope {
    let flags = [
        (parts.revision, wit::Envelope::REVISION),
        (parts.time, wit::Envelope::TIME),
        (parts.recorded_at, wit::Envelope::RECORDED_AT),
        (parts.occurred_at, wit::Envelope::OCCURRED_AT),
        (parts.stream, wit::Envelope::STREAM),
        (parts.id, wit::Envelope::ID),
        (parts.metadata, wit::Envelope::METADATA),
        (parts.type_name, wit::Envelope::TYPE_NAME),
    ];
    let asked = flags.into_iter().filter(|(asked, _)| *asked);
    asked.fold(wit::Envelope::empty(), |all, (_, flag)| all | flag)
}
