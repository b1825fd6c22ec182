//! What a module's SQL may do to its read model: an authorizer on the writer's connection.
//!
//! The after-replay SQL may make tables, views, indexes, triggers and full-text tables of its own
//! and fill them. It may not touch the tables of the manifest, whose rows are the fold of the log,
//! nor retell's own; its triggers may not either, for as long as the read model lives.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::query::RAW_PAGES;
use super::schema::TableSql;

/// Modules of virtual tables that keep their data in the database and have no side effects.
const VIRTUAL_TABLES: [&str; 4] = ["fts5", "fts5vocab", "fts4", "rtree"];

/// Whose SQL is being prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// retell's; only the triggers and views that it sets off are watched.
    Retell,
    /// The module's after-replay SQL.
    Module,
}

/// The authorizer's state, shared with the connection that asks it.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    speaker: Speaker,
    /// Tables of the manifest, in lower case as SQLite compares names.
    tables: HashSet<String>,
    denied: Option<String>,
}

impl Guard {
    /// Puts a guard before the connection; retell speaks.
    pub(super) fn install(connection: &Connection, tables: &[TableSql]) -> rusqlite::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            speaker: Speaker::Retell,
            tables: tables.iter().map(|table| table.name.clone()).collect(),
            denied: None,
        }));
        let asked = Arc::clone(&state);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = asked.lock().unwrap_or_else(PoisonError::into_inner);
            match state.judge(&context) {
                Ok(()) => Authorization::Allow,
                Err(reason) => {
                    state.denied.get_or_insert(reason);
                    Authorization::Deny
                }
            }
        }))?;
        Ok(Self { state })
    }

    /// Says who speaks from now on, and forgets earlier denials.
    pub(super) fn set_speaker(&self, speaker: Speaker) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.speaker = speaker;
        state.denied = None;
    }

    /// Why something was denied since the last `set_speaker`.
    pub(super) fn take_denial(&self) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.denied.take()
    }
}

impl State {
    fn judge(&self, context: &AuthContext<'_>) -> Result<(), String> {
        if let AuthAction::Read { table_name, .. } = context.action
            && table_name.eq_ignore_ascii_case(RAW_PAGES)
            && (self.speaker == Speaker::Module || context.accessor.is_some())
        {
            return Err(format!("it reads `{table_name}`"));
        }
        match self.speaker {
            Speaker::Retell => self.judge_trigger(context),
            Speaker::Module => self.judge_module(context),
        }
    }

    fn judge_trigger(&self, context: &AuthContext<'_>) -> Result<(), String> {
        match (written_table(&context.action), context.accessor) {
            (Some((verb, table)), Some(trigger)) if self.is_protected(table) => Err(format!(
                "the trigger `{trigger}` would {verb} the table `{table}`"
            )),
            _ => Ok(()),
        }
    }

    fn judge_module(&self, context: &AuthContext<'_>) -> Result<(), String> {
        if let Some((verb, table)) = written_table(&context.action) {
            return self.unprotected(verb, table);
        }
        match context.action {
            AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Recursive
            | AuthAction::Reindex { .. }
            | AuthAction::Analyze { .. }
            | AuthAction::DropTrigger { .. }
            | AuthAction::DropView { .. }
            // fts5 asks whether its tables were changed by another connection.
            | AuthAction::Pragma { pragma_name: "data_version", pragma_value: None } => Ok(()),
            AuthAction::Function { function_name } => {
                if function_name.eq_ignore_ascii_case("load_extension") {
                    return Err("extensions can't be loaded".to_owned());
                }
                Ok(())
            }
            AuthAction::CreateTable { table_name } => self.unprotected("create", table_name),
            AuthAction::CreateView { view_name } => self.unprotected("create", view_name),
            AuthAction::CreateTrigger { trigger_name, table_name } => {
                not_reserved(trigger_name)?;
                not_reserved(table_name)
            }
            AuthAction::CreateIndex { index_name, table_name } => {
                not_reserved(index_name)?;
                not_reserved(table_name)
            }
            AuthAction::DropTable { table_name }
            | AuthAction::DropVtable { table_name, .. } => self.unprotected("drop", table_name),
            AuthAction::DropIndex { index_name, table_name } => {
                // Indexes of the manifest have a dot in their names.
                if self.is_protected(table_name) && index_name.contains('.') {
                    return Err(format!("it would drop the index `{index_name}`"));
                }
                Ok(())
            }
            AuthAction::AlterTable { table_name, .. } => self.unprotected("alter", table_name),
            AuthAction::CreateVtable { table_name, module_name } => {
                self.judge_virtual_table(table_name, module_name)
            }
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Err(
                "it runs in a transaction that is not its own, and can't begin or end one"
                    .to_owned(),
            ),
            AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
                Err("it can't attach or detach databases".to_owned())
            }
            AuthAction::Pragma { pragma_name, .. } => {
                Err(format!("it can't use `PRAGMA {pragma_name}`"))
            }
            AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. } => Err(
                "temporary things would be gone before anybody could use them".to_owned(),
            ),
            other => Err(format!("it can't do this: {other:?}")),
        }
    }

    fn judge_virtual_table(&self, table: &str, module: &str) -> Result<(), String> {
        self.unprotected("create", table)?;
        if !VIRTUAL_TABLES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(module))
        {
            return Err(format!(
                "virtual tables of the kind `{module}` are not allowed, only {}",
                VIRTUAL_TABLES.join(", ")
            ));
        }
        // A virtual table keeps its data in tables named after it, and writes them by itself.
        let shadow = format!("{}_", table.to_lowercase());
        match self.tables.iter().find(|name| name.starts_with(&shadow)) {
            Some(name) => Err(format!(
                "the virtual table `{table}` might use the table `{name}` as its own; name it otherwise"
            )),
            None => Ok(()),
        }
    }

    fn unprotected(&self, verb: &str, table: &str) -> Result<(), String> {
        if self.is_protected(table) {
            Err(format!("it would {verb} the table `{table}`"))
        } else {
            Ok(())
        }
    }

    fn is_protected(&self, table: &str) -> bool {
        is_reserved(table) || self.tables.contains(&table.to_lowercase())
    }
}

fn not_reserved(name: &str) -> Result<(), String> {
    if is_reserved(name) {
        Err(format!(
            "names that begin with `retell_`, like `{name}`, are reserved"
        ))
    } else {
        Ok(())
    }
}

fn is_reserved(name: &str) -> bool {
    name.to_lowercase().starts_with("retell_")
}

fn written_table<'a>(action: &AuthAction<'a>) -> Option<(&'static str, &'a str)> {
    match *action {
        AuthAction::Insert { table_name } => Some(("insert into", table_name)),
        AuthAction::Update { table_name, .. } => Some(("update", table_name)),
        AuthAction::Delete { table_name } => Some(("delete from", table_name)),
        _ => None,
    }
}
