//! The bindings to contract 0.1, made from its WIT. Each contract minor gets bindings of its own.

mod contract_0_1 {
    #![allow(clippy::pedantic, unreachable_pub, reason = "generated code")]
    wasmtime::component::bindgen!({
        path: "guest-sdk/contract/wit",
        world: "projection",
        imports: { default: trappable },
    });
}

use retell_contract::columns;
use retell_contract::manifest as checked;

pub use contract_0_1::retell::projection::types::{ChangeSet, EventBatch, PackedRows};
pub(super) use contract_0_1::retell::projection::{read_model, types};
pub(super) use contract_0_1::{Projection, ProjectionPre};

impl From<columns::TextColumn> for types::TextColumn {
    fn from(texts: columns::TextColumn) -> Self {
        Self {
            ends: texts.ends,
            bytes: texts.bytes,
        }
    }
}

impl From<columns::Column> for types::Column {
    fn from(column: columns::Column) -> Self {
        let values = match column.values {
            columns::Values::Booleans(it) => types::Values::Booleans(it),
            columns::Values::Integers(it) => types::Values::Integers(it),
            columns::Values::Reals(it) => types::Values::Reals(it),
            columns::Values::Texts(it) => types::Values::Texts(it.into()),
            columns::Values::Json(it) => types::Values::Json(it.into()),
        };
        Self {
            values,
            present: column.present,
            null: column.null,
        }
    }
}

impl From<types::Manifest> for checked::Manifest {
    fn from(it: types::Manifest) -> Self {
        use types::Envelope;
        let asks = |part: Envelope| it.envelope.contains(part);
        let envelope = checked::Envelope {
            revision: asks(Envelope::REVISION),
            time: asks(Envelope::TIME),
            recorded_at: asks(Envelope::RECORDED_AT),
            occurred_at: asks(Envelope::OCCURRED_AT),
            stream: asks(Envelope::STREAM),
            id: asks(Envelope::ID),
            metadata: asks(Envelope::METADATA),
            type_name: asks(Envelope::TYPE_NAME),
        };
        Self {
            name: it.name,
            version: it.version,
            shapes: it.shapes.into_iter().map(Into::into).collect(),
            tables: it.tables.into_iter().map(Into::into).collect(),
            envelope,
            hints: it
                .hints
                .into_iter()
                .map(|hint| checked::Hint {
                    shape: hint.shape,
                    fields: hint.fields,
                    table: hint.table,
                })
                .collect(),
            after_replay: it
                .after_replay
                .into_iter()
                .map(|it| checked::AfterReplay {
                    dialect: match it.dialect {
                        types::Dialect::Sqlite => checked::Dialect::Sqlite,
                        types::Dialect::Postgres => checked::Dialect::Postgres,
                    },
                    sql: it.sql,
                })
                .collect(),
        }
    }
}

impl From<types::Shape> for checked::Shape {
    fn from(shape: types::Shape) -> Self {
        let field = |it: types::Field| checked::Field {
            paths: it.paths,
            wants: match it.wants {
                types::Wanted::Boolean => checked::Wanted::Boolean,
                types::Wanted::Integer => checked::Wanted::Integer,
                types::Wanted::Real => checked::Wanted::Real,
                types::Wanted::Text => checked::Wanted::Text,
                types::Wanted::Timestamp => checked::Wanted::Timestamp,
                types::Wanted::Uuid => checked::Wanted::Uuid,
                types::Wanted::Json => checked::Wanted::Json,
            },
            optional: it.optional,
            nullable: it.nullable,
        };
        Self {
            event_type: shape.event_type,
            fields: shape.fields.into_iter().map(field).collect(),
        }
    }
}

impl From<types::Table> for checked::Table {
    fn from(table: types::Table) -> Self {
        use retell_contract::value::ColumnType;
        let column = |it: types::TableColumn| checked::TableColumn {
            name: it.name,
            kind: match it.kind {
                types::ColumnType::Boolean => ColumnType::Boolean,
                types::ColumnType::Integer => ColumnType::Integer,
                types::ColumnType::Real => ColumnType::Real,
                types::ColumnType::Text => ColumnType::Text,
                types::ColumnType::Bytes => ColumnType::Bytes,
                types::ColumnType::Timestamp => ColumnType::Timestamp,
                types::ColumnType::Uuid => ColumnType::Uuid,
                types::ColumnType::Json => ColumnType::Json,
            },
            nullable: it.nullable,
        };
        let index = |it: types::TableIndex| checked::TableIndex {
            name: it.name,
            columns: it.columns,
            unique: it.unique,
        };
        Self {
            name: table.name,
            columns: table.columns.into_iter().map(column).collect(),
            key: table.key,
            indexes: table.indexes.into_iter().map(index).collect(),
        }
    }
}
