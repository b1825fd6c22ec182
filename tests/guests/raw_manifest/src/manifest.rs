//! The contract crate's manifest, as the WIT has it.

use retell_contract::manifest as plain;
use retell_contract::value::ColumnType;

use crate::bindings::retell::projection::types as wit;

impl From<plain::Manifest> for wit::Manifest {
    fn from(it: plain::Manifest) -> Self {
        let asked = it.envelope;
        let flags = [
            (asked.revision, wit::Envelope::REVISION),
            (asked.time, wit::Envelope::TIME),
            (asked.recorded_at, wit::Envelope::RECORDED_AT),
            (asked.occurred_at, wit::Envelope::OCCURRED_AT),
            (asked.stream, wit::Envelope::STREAM),
            (asked.id, wit::Envelope::ID),
            (asked.metadata, wit::Envelope::METADATA),
            (asked.type_name, wit::Envelope::TYPE_NAME),
        ];
        Self {
            name: it.name,
            version: it.version,
            shapes: it.shapes.into_iter().map(shape).collect(),
            tables: it.tables.into_iter().map(table).collect(),
            envelope: flags
                .into_iter()
                .filter(|flag| flag.0)
                .fold(wit::Envelope::empty(), |all, flag| all | flag.1),
            hints: it
                .hints
                .into_iter()
                .map(|hint| wit::Hint {
                    shape: hint.shape,
                    fields: hint.fields,
                    table: hint.table,
                })
                .collect(),
            after_replay: it
                .after_replay
                .into_iter()
                .map(|script| wit::AfterReplay {
                    dialect: match script.dialect {
                        plain::Dialect::Sqlite => wit::Dialect::Sqlite,
                        plain::Dialect::Postgres => wit::Dialect::Postgres,
                    },
                    sql: script.sql,
                })
                .collect(),
        }
    }
}

fn shape(it: plain::Shape) -> wit::Shape {
    let field = |field: plain::Field| wit::Field {
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
    };
    wit::Shape {
        event_type: it.event_type,
        fields: it.fields.into_iter().map(field).collect(),
    }
}

fn table(it: plain::Table) -> wit::Table {
    let column = |column: plain::TableColumn| wit::TableColumn {
        name: column.name,
        kind: match column.kind {
            ColumnType::Boolean => wit::ColumnType::Boolean,
            ColumnType::Integer => wit::ColumnType::Integer,
            ColumnType::Real => wit::ColumnType::Real,
            ColumnType::Text => wit::ColumnType::Text,
            ColumnType::Bytes => wit::ColumnType::Bytes,
            ColumnType::Timestamp => wit::ColumnType::Timestamp,
            ColumnType::Uuid => wit::ColumnType::Uuid,
            ColumnType::Json => wit::ColumnType::Json,
        },
        nullable: column.nullable,
    };
    let index = |index: plain::TableIndex| wit::TableIndex {
        name: index.name,
        columns: index.columns,
        unique: index.unique,
    };
    wit::Table {
        name: it.name,
        columns: it.columns.into_iter().map(column).collect(),
        key: it.key,
        indexes: it.indexes.into_iter().map(index).collect(),
    }
}
