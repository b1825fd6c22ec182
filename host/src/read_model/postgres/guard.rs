//! What a module's after-replay SQL must leave as it is: the tables and indexes of the manifest,
//! retell's own, who may use them, and the schema.

use sqlx::{Executor as _, PgConnection, Row};

use super::place::SchemaPlace;
use super::schema::{TableSql, literal};

/// One side of what is guarded.
#[derive(Debug, PartialEq, Eq)]
struct Aspect {
    /// What a script did if it is not as it was.
    offence: String,
    state: String,
}

/// What is guarded, as a transaction sees it.
pub(super) struct Guarded(Vec<Aspect>);

impl Guarded {
    /// Looks at a read model before or after a script. Changes where names are looked for: in a table
    /// that the script made for the session last.
    pub(super) async fn look(
        connection: &mut PgConnection,
        place: &SchemaPlace,
        tables: &[TableSql],
    ) -> Result<Self, sqlx::Error> {
        connection
            .execute("SET LOCAL search_path = pg_catalog, pg_temp")
            .await?;
        let mut aspects = names(connection, place).await?;
        let all = tables.iter().map(|it| (it.name.as_str(), &it.qualified));
        let own = [
            ("retell_read_model", &place.own_table()),
            ("retell_journal", &place.journal_table()),
        ];
        for (name, qualified) in all.chain(own) {
            aspects.extend(table(connection, name, qualified).await?);
        }
        for of_table in tables {
            for it in &of_table.indexes {
                let offence = format!(
                    "changed the index `{}` of table `{}`",
                    it.name, of_table.name
                );
                aspects.extend(index(connection, offence, &it.sql_name).await?);
            }
        }
        aspects.extend(schema(connection, place).await?);
        Ok(Self(aspects))
    }

    /// What a script did that it must not do, by a look after it.
    pub(super) fn offence<'a>(&'a self, after: &'a Self) -> Option<&'a str> {
        let changed = self.0.iter().find(|it| !after.0.contains(it));
        let made = || after.0.iter().find(|it| !self.0.contains(it));
        changed.or_else(made).map(|it| it.offence.as_str())
    }
}

/// The settings of the session, as SQL that makes all of them what they are now.
pub(super) async fn settings(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let set: Vec<(String, String)> =
        sqlx::query_as("SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'")
            .fetch_all(connection)
            .await?;
    let set = set.iter().map(|(name, setting)| {
        format!(
            "; SELECT pg_catalog.set_config({}, {}, false)",
            literal(name),
            literal(setting)
        )
    });
    Ok(format!("RESET ALL{}", set.collect::<String>()))
}

/// The names that are retell's. A type takes the name of a table that is not there yet.
async fn names(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<Vec<Aspect>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class
         WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relname LIKE 'retell\\_%'
         UNION SELECT typname::text FROM pg_type
         WHERE typnamespace = to_regnamespace(quote_ident($1)) AND typname LIKE 'retell\\_%'
         ORDER BY 1",
    )
    .bind(place.schema())
    .fetch_all(connection)
    .await?;
    let aspect = |name| Aspect {
        offence: format!("made or dropped `{name}`: such names are retell's"),
        state: String::new(),
    };
    Ok(names.into_iter().map(aspect).collect())
}

/// Everything about a table that a script must not touch; nothing if it is not there.
async fn table(
    connection: &mut PgConnection,
    name: &str,
    qualified: &str,
) -> Result<Vec<Aspect>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT concat_ws('|', c.oid, c.relname, c.relkind, c.relowner, c.relpersistence,
                c.relrowsecurity, c.relforcerowsecurity,
                (SELECT string_agg(concat_ws(':', a.attname, a.atttypid, a.atttypmod, a.attnotnull,
                                             a.attcollation, a.attisdropped, a.atthasdef, a.attidentity),
                                   ',' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
                (SELECT string_agg(pg_get_constraintdef(k.oid), ',' ORDER BY k.oid)
                 FROM pg_constraint k WHERE k.conrelid = c.oid),
                (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique),
                (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = c.oid),
                (SELECT count(*) FROM pg_rewrite r WHERE r.ev_class = c.oid)),
             concat_ws('|', pg_relation_filenode(c.oid), s.n_tup_ins, s.n_tup_upd, s.n_tup_del),
             (SELECT coalesce(string_agg(concat_ws(':', h.inhrelid, h.inhparent), ','
                                         ORDER BY h.inhrelid, h.inhparent), '')
              FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)),
             concat_ws('|', c.relacl,
                (SELECT string_agg(concat_ws(':', a.attname, a.attacl), ',' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL))
         FROM pg_class c LEFT JOIN pg_stat_xact_all_tables s ON s.relid = c.oid
         WHERE c.oid = to_regclass($1)",
    )
    .bind(qualified);
    let row = connection.fetch_optional(query).await?;
    let offences = [
        format!("changed the table `{name}`"),
        format!("changed rows of the table `{name}`"),
        format!("made a table that inherits from `{name}`, or from which it does"),
        format!("changed who may use the table `{name}`"),
    ];
    row.map_or(Ok(Vec::new()), |row| {
        let sides = offences.into_iter().enumerate();
        sides
            .map(|(column, offence)| {
                let state = row.try_get(column)?;
                Ok(Aspect { offence, state })
            })
            .collect()
    })
}

/// An index of the manifest.
async fn index(
    connection: &mut PgConnection,
    offence: String,
    sql_name: &str,
) -> Result<Option<Aspect>, sqlx::Error> {
    let state: Option<String> = sqlx::query_scalar(
        "SELECT concat_ws('|', indexrelid, indisvalid, pg_get_indexdef(indexrelid)) FROM pg_index
         WHERE indexrelid = to_regclass($1)",
    )
    .bind(sql_name)
    .fetch_optional(connection)
    .await?;
    Ok(state.map(|state| Aspect { offence, state }))
}

/// The schema itself, and its functions: replacing one changes its row, making one anew its number.
async fn schema(
    connection: &mut PgConnection,
    place: &SchemaPlace,
) -> Result<Vec<Aspect>, sqlx::Error> {
    let query = sqlx::query(
        "SELECT (SELECT coalesce(string_agg(p.oid || ' ' || p.xmin, ',' ORDER BY p.oid), '')
                 FROM pg_proc p WHERE p.pronamespace = n.oid),
                coalesce(obj_description(n.oid, 'pg_namespace'), ''),
                concat_ws('|', n.nspowner, n.nspacl,
                    (SELECT string_agg(concat_ws(':', d.defaclnamespace, d.defaclobjtype, d.defaclacl),
                                       ',' ORDER BY d.oid)
                     FROM pg_default_acl d
                     WHERE d.defaclrole = n.nspowner AND d.defaclnamespace IN (0, n.oid)))
         FROM pg_namespace n WHERE n.nspname = $1",
    )
    .bind(place.schema());
    let row = connection.fetch_optional(query).await?;
    let offences = [
        "changed or made a function",
        "changed the comment on the schema, by which retell knows it",
        "changed who may use the schema, or what will be in it",
    ];
    row.map_or(Ok(Vec::new()), |row| {
        let sides = offences.into_iter().enumerate();
        sides
            .map(|(column, offence)| {
                Ok(Aspect {
                    offence: offence.to_owned(),
                    state: row.try_get(column)?,
                })
            })
            .collect()
    })
}
