//! The catalog in the log's SQLite database, through sqlx.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};

use super::{
    Build, Catalog, CatalogError, ModuleRecord, NewVersion, Registered, RequestRecord, Stage,
    Switch, VersionRecord, build_location,
};
use crate::event::Position;
use crate::lifecycle::state::{Change, Halt, Refusal, Role, State, Status};
use crate::limits;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("host/migrations/sqlite/catalog");
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
});
const MIGRATIONS_TABLE: &str = "retell_catalog_migrations";
/// How often a migration is tried that another process may be running, too …
const MIGRATION_TRIES: usize = 20;
/// … and how long it waits in between.
const MIGRATION_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The catalog beside the events, in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    pool: SqlitePool,
}

type Result<T> = std::result::Result<T, CatalogError>;

/// Says what was being done when the database refused.
fn doing(what: &'static str) -> impl Fn(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Storage { what, source }
}

fn damaged(what: impl std::fmt::Display) -> CatalogError {
    CatalogError::Damaged {
        what: what.to_string(),
    }
}

impl SqliteCatalog {
    /// Opens the catalog in an existing log. Changes no schema.
    pub async fn open(path: &Path) -> Result<Self> {
        let catalog = Self::connect(path).await?;
        let known = MIGRATOR.iter().map(|it| it.version).max().unwrap_or(0);
        let made: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = ?")
            .bind(MIGRATIONS_TABLE)
            .fetch_one(&catalog.pool)
            .await
            .map_err(doing("look for its tables"))?;
        if made == 0 {
            return Err(CatalogError::Missing);
        }
        let found: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM retell_catalog_migrations")
                .fetch_one(&catalog.pool)
                .await
                .map_err(doing("read its migrations"))?;
        match found {
            Some(found) if found > known => Err(CatalogError::Newer { found }),
            Some(found) if found == known => Ok(catalog),
            // Its making was cut off before the first migration.
            None => Err(CatalogError::Missing),
            Some(_) => Err(CatalogError::Older),
        }
    }

    /// Opens the catalog, or makes it where there is none. An older one is left alone and refused.
    /// Returns whether it was made.
    pub async fn open_or_create(path: &Path) -> Result<(Self, bool)> {
        match Self::open(path).await {
            Err(CatalogError::Missing) => Self::migrate(path).await,
            opened => opened.map(|catalog| (catalog, false)),
        }
    }

    /// Brings the catalog up to date, or makes it, in an existing log. Several processes may do so
    /// at once: one wins, and the others find it done. Returns whether anything was to be done.
    pub async fn migrate(path: &Path) -> Result<(Self, bool)> {
        let mut tries_left = MIGRATION_TRIES;
        let mut tried = false;
        loop {
            match Self::open(path).await {
                Err(CatalogError::Older | CatalogError::Missing) => {}
                opened => return opened.map(|catalog| (catalog, tried)),
            }
            let catalog = Self::connect(path).await?;
            tried = true;
            match MIGRATOR.run(&catalog.pool).await {
                Ok(()) => return Ok((catalog, true)),
                Err(sqlx::migrate::MigrateError::VersionMissing(found)) => {
                    return Err(CatalogError::Newer { found });
                }
                Err(source) if tries_left == 0 => return Err(CatalogError::Migration { source }),
                Err(_) => tries_left -= 1,
            }
            tokio::time::sleep(MIGRATION_RETRY_INTERVAL).await;
        }
    }

    async fn connect(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(limits::LOG_BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_with(options)
            .await
            .map_err(doing("open"))?;
        Ok(Self { pool })
    }

    /// A writing transaction; it holds the write lock from its start, so nothing it read can change.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(doing("begin a change"))
    }
}

/// The status in the catalog, inside a transaction.
async fn status(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
) -> Result<Status> {
    let row = sqlx::query(
        "SELECT state, role, halt, halt_reason FROM versions WHERE projection = ? AND version = ?",
    )
    .bind(projection)
    .bind(version)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(doing("read a version"))?;
    let row = row.ok_or_else(|| CatalogError::NoVersion {
        projection: projection.to_owned(),
        version: version.to_owned(),
    })?;
    status_of(&row)
}

fn status_of(row: &sqlx::sqlite::SqliteRow) -> Result<Status> {
    let (state, role, halt): (String, String, String) =
        (row.get("state"), row.get("role"), row.get("halt"));
    let parsed = (|| {
        Some(Status {
            state: State::from_word(&state)?,
            role: Role::parse(&role)?,
            halt: Halt::from_words(&halt, row.get("halt_reason"))?,
        })
    })();
    parsed.ok_or_else(|| damaged(format!("the status {state}/{role}/{halt} makes no sense")))
}

/// Applies the pure machine to what is stored.
async fn change_status(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    change: &Change,
) -> Result<Status> {
    let before = status(transaction, projection, version).await?;
    let after = before
        .after(change)
        .map_err(|source| CatalogError::Refused {
            projection: projection.to_owned(),
            version: version.to_owned(),
            source,
        })?;
    sqlx::query(
        "UPDATE versions SET state = ?, role = ?, halt = ?, halt_reason = ?
         WHERE projection = ? AND version = ?",
    )
    .bind(after.state.word())
    .bind(after.role.as_str())
    .bind(after.halt.word())
    .bind(after.halt.reason())
    .bind(projection)
    .bind(version)
    .execute(&mut **transaction)
    .await
    .map_err(doing("change a version's status"))?;
    Ok(after)
}

async fn set_major(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &semver::Version,
    replace: bool,
) -> Result<()> {
    let sql = if replace {
        "INSERT INTO majors (projection, major, version) VALUES (?, ?, ?)
         ON CONFLICT (projection, major) DO UPDATE SET version = excluded.version"
    } else {
        "INSERT INTO majors (projection, major, version) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    };
    sqlx::query(sql)
        .bind(projection)
        .bind(major_of(version))
        .bind(version.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(doing("name a major"))?;
    Ok(())
}

/// Semver majors beyond i64 are refused by the manifest check's length limit long before.
fn major_of(version: &semver::Version) -> i64 {
    i64::try_from(version.major).unwrap_or(i64::MAX)
}

/// The version that a retired one's lasting name goes to: the newest promoted one of its major
/// that is ready, else the first that is ready, else none.
async fn pass_on_major(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    retired: &semver::Version,
) -> Result<()> {
    let major = major_of(retired);
    let held: Option<String> =
        sqlx::query_scalar("SELECT version FROM majors WHERE projection = ? AND major = ?")
            .bind(projection)
            .bind(major)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(doing("read a major"))?;
    if held != Some(retired.to_string()) {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT version,
                (SELECT count(*) FROM switches s
                 WHERE s.projection = v.projection AND s.to_version = v.version) > 0 AS promoted
         FROM versions v WHERE projection = ? AND state = 'ready' ORDER BY created_at",
    )
    .bind(projection)
    .fetch_all(&mut **transaction)
    .await
    .map_err(doing("read versions"))?;
    let mut first_ready = None;
    let mut newest_promoted: Option<semver::Version> = None;
    for row in rows {
        let version = parse_version(&row.get::<String, _>("version"))?;
        if major_of(&version) != major {
            continue;
        }
        if row.get::<bool, _>("promoted") && newest_promoted.as_ref().is_none_or(|it| *it < version)
        {
            newest_promoted = Some(version.clone());
        }
        first_ready.get_or_insert(version);
    }
    match newest_promoted.or(first_ready) {
        Some(heir) => set_major(transaction, projection, &heir, true).await,
        None => {
            sqlx::query("DELETE FROM majors WHERE projection = ? AND major = ?")
                .bind(projection)
                .bind(major)
                .execute(&mut **transaction)
                .await
                .map_err(doing("give up a major"))?;
            Ok(())
        }
    }
}

fn parse_version(text: &str) -> Result<semver::Version> {
    semver::Version::parse(text).map_err(|error| damaged(format!("version `{text}`: {error}")))
}

/// Adds a build and gives it its place.
async fn insert_build(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    stage: Stage,
    read_models: &Path,
    until: Option<Position>,
    now_us: i64,
) -> Result<Build> {
    let stage = match stage {
        Stage::Current => "current",
        Stage::Successor => "successor",
    };
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO builds (projection, version, stage, location, until, created_at)
         VALUES (?, ?, ?, '', ?, ?) RETURNING id",
    )
    .bind(projection)
    .bind(version)
    .bind(stage)
    .bind(until.map(u64::cast_signed))
    .bind(now_us)
    .fetch_one(&mut **transaction)
    .await
    .map_err(doing("add a build"))?;
    let location = build_location(read_models, projection, version, id);
    sqlx::query("UPDATE builds SET location = ? WHERE id = ?")
        .bind(&location)
        .bind(id)
        .execute(&mut **transaction)
        .await
        .map_err(doing("add a build"))?;
    Ok(Build {
        id,
        projection: projection.to_owned(),
        version: version.to_owned(),
        location,
        until,
    })
}

fn build_of(row: &sqlx::sqlite::SqliteRow) -> Build {
    Build {
        id: row.get("id"),
        projection: row.get("projection"),
        version: row.get("version"),
        location: row.get("location"),
        until: row.get::<Option<i64>, _>("until").map(i64::cast_unsigned),
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn projections(&self) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT name FROM projections ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(doing("list projections"))
    }

    async fn versions(&self, projection: &str) -> Result<Vec<VersionRecord>> {
        // One snapshot for both reads: a swap in between would show a version without a build.
        let mut snapshot = self.pool.begin().await.map_err(doing("list versions"))?;
        let rows = sqlx::query("SELECT * FROM versions WHERE projection = ?")
            .bind(projection)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(doing("list versions"))?;
        let builds = sqlx::query(
            "SELECT * FROM builds WHERE projection = ? AND stage IN ('current', 'successor')",
        )
        .bind(projection)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(doing("list builds"))?;
        drop(snapshot);
        let build = |version: &str, stage: &str| {
            let found = builds.iter().find(|row| {
                row.get::<String, _>("version") == version && row.get::<String, _>("stage") == stage
            });
            found.map(build_of)
        };
        let mut versions = Vec::with_capacity(rows.len());
        for row in &rows {
            let text: String = row.get("version");
            versions.push(VersionRecord {
                projection: projection.to_owned(),
                version: parse_version(&text)?,
                digest: row.get("digest"),
                status: status_of(row)?,
                promote_when_ready: row.get("promote_when_ready"),
                current: build(&text, "current"),
                successor: build(&text, "successor"),
            });
        }
        versions.sort_by(|a, b| a.version.cmp(&b.version));
        Ok(versions)
    }

    async fn majors(&self, projection: &str) -> Result<Vec<(u64, semver::Version)>> {
        let rows =
            sqlx::query("SELECT major, version FROM majors WHERE projection = ? ORDER BY major")
                .bind(projection)
                .fetch_all(&self.pool)
                .await
                .map_err(doing("list majors"))?;
        rows.iter()
            .map(|row| {
                let version = parse_version(&row.get::<String, _>("version"))?;
                Ok((row.get::<i64, _>("major").cast_unsigned(), version))
            })
            .collect()
    }

    async fn module(&self, digest: &str) -> Result<Option<ModuleRecord>> {
        let row =
            sqlx::query("SELECT digest, manifest, contract, sdk FROM modules WHERE digest = ?")
                .bind(digest)
                .fetch_optional(&self.pool)
                .await
                .map_err(doing("read a module"))?;
        row.map(|row| {
            let manifest = serde_json::from_str(&row.get::<String, _>("manifest"))
                .map_err(|error| damaged(format!("manifest of module {digest}: {error}")))?;
            Ok(ModuleRecord {
                digest: row.get("digest"),
                manifest,
                contract: row.get("contract"),
                sdk: row.get("sdk"),
            })
        })
        .transpose()
    }

    async fn module_bytes(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        sqlx::query_scalar("SELECT bytes FROM modules WHERE digest = ?")
            .bind(digest)
            .fetch_optional(&self.pool)
            .await
            .map_err(doing("read a module's bytes"))
    }

    async fn register(&self, new: NewVersion<'_>) -> Result<Registered> {
        let (projection, version) = (&new.module.manifest.name, &new.module.manifest.version);
        let mut transaction = self.begin().await?;
        let there: Option<(String, String)> = sqlx::query_as(
            "SELECT digest, state FROM versions WHERE projection = ? AND version = ?",
        )
        .bind(projection)
        .bind(version)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(doing("look for the version"))?;
        let registered = match there {
            Some((digest, _)) if digest != new.module.digest => {
                return Err(CatalogError::OtherModule {
                    projection: projection.clone(),
                    version: version.clone(),
                    digest,
                });
            }
            Some((_, state)) if state != State::Retired.word() => Registered::AlreadyThere,
            Some(_) => {
                change_status(&mut transaction, projection, version, &Change::Revive).await?;
                Registered::Revived
            }
            None => {
                insert_version(&mut transaction, &new).await?;
                Registered::New
            }
        };
        if registered != Registered::AlreadyThere {
            insert_build(
                &mut transaction,
                projection,
                version,
                Stage::Current,
                new.read_models,
                new.until,
                new.now_us,
            )
            .await?;
        }
        if new.promote_when_ready {
            set_promote(&mut transaction, projection, version, true).await?;
        }
        transaction
            .commit()
            .await
            .map_err(doing("register a version"))?;
        Ok(registered)
    }

    async fn change(
        &self,
        projection: &str,
        version: &semver::Version,
        change: Change,
    ) -> Result<Status> {
        let text = version.to_string();
        let mut transaction = self.begin().await?;
        let after = change_status(&mut transaction, projection, &text, &change).await?;
        match change {
            Change::BecomeReady => set_major(&mut transaction, projection, version, false).await?,
            Change::Retire => {
                pass_on_major(&mut transaction, projection, version).await?;
                set_promote(&mut transaction, projection, &text, false).await?;
                sqlx::query(
                    "UPDATE builds SET stage = 'discarded'
                     WHERE projection = ? AND version = ? AND stage IN ('current', 'successor')",
                )
                .bind(projection)
                .bind(&text)
                .execute(&mut *transaction)
                .await
                .map_err(doing("give up builds"))?;
            }
            _ => {}
        }
        transaction
            .commit()
            .await
            .map_err(doing("change a version"))?;
        Ok(after)
    }

    async fn set_promote_when_ready(
        &self,
        projection: &str,
        version: &semver::Version,
        promote: bool,
    ) -> Result<()> {
        let mut transaction = self.begin().await?;
        set_promote(&mut transaction, projection, &version.to_string(), promote).await?;
        transaction
            .commit()
            .await
            .map_err(doing("note a promotion"))
    }

    async fn switch(&self, switch: Switch<'_>) -> Result<()> {
        let projection = switch.projection;
        let mut transaction = self.begin().await?;
        let holder = |role: Role| {
            sqlx::query_scalar::<_, String>(
                "SELECT version FROM versions WHERE projection = ? AND role = ?",
            )
            .bind(projection)
            .bind(role.as_str())
        };
        let live = holder(Role::Live)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(doing("read the live version"))?;
        let previous = holder(Role::Previous)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(doing("read the previous version"))?;
        let to = switch.to.to_string();
        // The target's status is judged first, so that a refusal names it and not its neighbours.
        let target = status(&mut transaction, projection, &to).await?;
        let go_live = Change::GoLive {
            even_halted: switch.accept_older,
        };
        target
            .after(&go_live)
            .map_err(|source| CatalogError::Refused {
                projection: projection.to_owned(),
                version: to.clone(),
                source,
            })?;
        // In this order no two versions hold one role at any time.
        if let Some(previous) = previous.filter(|it| *it != to) {
            change_status(
                &mut transaction,
                projection,
                &previous,
                &Change::BecomePlain,
            )
            .await?;
        }
        if target.role == Role::Previous {
            change_status(&mut transaction, projection, &to, &Change::BecomePlain).await?;
        }
        if let Some(live) = &live {
            change_status(&mut transaction, projection, live, &Change::BeDisplaced).await?;
        }
        change_status(&mut transaction, projection, &to, &go_live).await?;
        set_promote(&mut transaction, projection, &to, false).await?;
        name_major_after_switch(&mut transaction, projection, switch.to).await?;
        sqlx::query(
            "INSERT INTO switches
                 (projection, kind, from_version, to_version, position, accepted_older, switched_at)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(projection)
        .bind(switch.kind.word())
        .bind(&live)
        .bind(&to)
        .bind(switch.position.cast_signed())
        .bind(switch.accept_older)
        .bind(switch.now_us)
        .execute(&mut *transaction)
        .await
        .map_err(doing("record the switch"))?;
        transaction.commit().await.map_err(doing("switch"))
    }

    async fn add_successor(
        &self,
        projection: &str,
        version: &semver::Version,
        read_models: &Path,
        until: Option<Position>,
        now_us: i64,
    ) -> Result<Build> {
        let text = version.to_string();
        let mut transaction = self.begin().await?;
        let there: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM builds
             WHERE projection = ? AND version = ? AND stage = 'successor'",
        )
        .bind(projection)
        .bind(&text)
        .fetch_one(&mut *transaction)
        .await
        .map_err(doing("look for a successor"))?;
        if there > 0 {
            return Err(CatalogError::SuccessorExists {
                projection: projection.to_owned(),
                version: text,
            });
        }
        let build = insert_build(
            &mut transaction,
            projection,
            &text,
            Stage::Successor,
            read_models,
            until,
            now_us,
        )
        .await?;
        transaction.commit().await.map_err(doing("plan a build"))?;
        Ok(build)
    }

    async fn swap_in_successor(&self, projection: &str, version: &semver::Version) -> Result<()> {
        let text = version.to_string();
        let mut transaction = self.begin().await?;
        let before = status(&mut transaction, projection, &text).await?;
        if before.state == State::Retired {
            return Err(CatalogError::Refused {
                projection: projection.to_owned(),
                version: text,
                source: Refusal::Retired,
            });
        }
        for (from, to) in [("current", "discarded"), ("successor", "current")] {
            sqlx::query(
                "UPDATE builds SET stage = ? WHERE projection = ? AND version = ? AND stage = ?",
            )
            .bind(to)
            .bind(projection)
            .bind(&text)
            .bind(from)
            .execute(&mut *transaction)
            .await
            .map_err(doing("swap builds"))?;
        }
        sqlx::query(
            "UPDATE versions SET state = 'ready', halt = 'none', halt_reason = NULL
             WHERE projection = ? AND version = ?",
        )
        .bind(projection)
        .bind(&text)
        .execute(&mut *transaction)
        .await
        .map_err(doing("swap builds"))?;
        set_major(&mut transaction, projection, version, false).await?;
        transaction.commit().await.map_err(doing("swap builds"))
    }

    async fn discard_build(&self, build: i64) -> Result<()> {
        sqlx::query("UPDATE builds SET stage = 'discarded' WHERE id = ? AND stage = 'successor'")
            .bind(build)
            .execute(&self.pool)
            .await
            .map_err(doing("give up a build"))?;
        Ok(())
    }

    async fn discarded(&self, projection: &str) -> Result<Vec<Build>> {
        let rows = sqlx::query("SELECT * FROM builds WHERE projection = ? AND stage = 'discarded'")
            .bind(projection)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("list discarded builds"))?;
        Ok(rows.iter().map(build_of).collect())
    }

    async fn mark_dropped(&self, build: i64) -> Result<()> {
        sqlx::query("UPDATE builds SET stage = 'dropped' WHERE id = ? AND stage = 'discarded'")
            .bind(build)
            .execute(&self.pool)
            .await
            .map_err(doing("mark a build as dropped"))?;
        Ok(())
    }

    async fn next_epoch(&self, projection: &str) -> Result<i64> {
        sqlx::query_scalar(
            "UPDATE projections SET epoch = epoch + 1 WHERE name = ? RETURNING epoch",
        )
        .bind(projection)
        .fetch_one(&self.pool)
        .await
        .map_err(doing("count the lease"))
    }

    async fn add_request(&self, projection: &str, request: &str, now_us: i64) -> Result<i64> {
        sqlx::query_scalar(
            "INSERT INTO requests (projection, request, requested_at) VALUES (?, ?, ?) RETURNING id",
        )
        .bind(projection)
        .bind(request)
        .bind(now_us)
        .fetch_one(&self.pool)
        .await
        .map_err(doing("leave a request"))
    }

    async fn open_requests(&self, projection: &str) -> Result<Vec<RequestRecord>> {
        let rows = sqlx::query(
            "SELECT id, request FROM requests WHERE projection = ? AND outcome IS NULL ORDER BY id",
        )
        .bind(projection)
        .fetch_all(&self.pool)
        .await
        .map_err(doing("read requests"))?;
        let record = |row: &sqlx::sqlite::SqliteRow| RequestRecord {
            id: row.get("id"),
            request: row.get("request"),
        };
        Ok(rows.iter().map(record).collect())
    }

    async fn answer_request(&self, id: i64, outcome: &str) -> Result<()> {
        sqlx::query("UPDATE requests SET outcome = ? WHERE id = ? AND outcome IS NULL")
            .bind(outcome)
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(doing("answer a request"))?;
        Ok(())
    }

    async fn outcome(&self, id: i64) -> Result<Option<String>> {
        let outcome: Option<Option<String>> =
            sqlx::query_scalar("SELECT outcome FROM requests WHERE id = ?")
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .map_err(doing("read an outcome"))?;
        Ok(outcome.flatten())
    }

    async fn remove_request(&self, id: i64) -> Result<bool> {
        let done = sqlx::query("DELETE FROM requests WHERE id = ?")
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(doing("take a request back"))?;
        Ok(done.rows_affected() == 1)
    }
}

async fn insert_version(
    transaction: &mut Transaction<'static, Sqlite>,
    new: &NewVersion<'_>,
) -> Result<()> {
    let module = new.module;
    let manifest = serde_json::to_string(&module.manifest)
        .map_err(|error| damaged(format!("the manifest has no JSON form: {error}")))?;
    sqlx::query("INSERT INTO projections (name) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(&module.manifest.name)
        .execute(&mut **transaction)
        .await
        .map_err(doing("register a projection"))?;
    sqlx::query(
        "INSERT INTO modules (digest, bytes, manifest, contract, sdk, added_at)
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&module.digest)
    .bind(new.bytes)
    .bind(&manifest)
    .bind(&module.contract)
    .bind(&module.sdk)
    .bind(new.now_us)
    .execute(&mut **transaction)
    .await
    .map_err(doing("store a module"))?;
    sqlx::query(
        "INSERT INTO versions (projection, version, digest, state, role, halt, created_at)
         VALUES (?, ?, ?, 'created', 'none', 'none', ?)",
    )
    .bind(&module.manifest.name)
    .bind(&module.manifest.version)
    .bind(&module.digest)
    .bind(new.now_us)
    .execute(&mut **transaction)
    .await
    .map_err(doing("register a version"))?;
    Ok(())
}

async fn set_promote(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    version: &str,
    promote: bool,
) -> Result<()> {
    sqlx::query("UPDATE versions SET promote_when_ready = ? WHERE projection = ? AND version = ?")
        .bind(promote)
        .bind(projection)
        .bind(version)
        .execute(&mut **transaction)
        .await
        .map_err(doing("note a promotion"))?;
    Ok(())
}

/// A promoted version takes its major's name, unless a newer promoted one of that major has it.
async fn name_major_after_switch(
    transaction: &mut Transaction<'static, Sqlite>,
    projection: &str,
    to: &semver::Version,
) -> Result<()> {
    let held: Option<String> =
        sqlx::query_scalar("SELECT version FROM majors WHERE projection = ? AND major = ?")
            .bind(projection)
            .bind(major_of(to))
            .fetch_optional(&mut **transaction)
            .await
            .map_err(doing("read a major"))?;
    if let Some(held) = held {
        let promoted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM switches WHERE projection = ? AND to_version = ?",
        )
        .bind(projection)
        .bind(&held)
        .fetch_one(&mut **transaction)
        .await
        .map_err(doing("read switches"))?;
        if promoted > 0 && parse_version(&held)? > *to {
            return Ok(());
        }
    }
    set_major(transaction, projection, to, true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty database that outlives the catalog on it.
    async fn make(folder: &Path) -> SqliteCatalog {
        let path = folder.join(format!("{}.db", uuid::Uuid::now_v7()));
        std::fs::File::create(&path).expect("a file");
        SqliteCatalog::migrate(&path).await.expect("a catalog").0
    }

    #[tokio::test]
    async fn conforms() {
        let folder = tempfile::tempdir().expect("a folder");
        crate::catalog::conformance::run(|| make(folder.path())).await;
    }

    #[tokio::test]
    async fn an_older_or_newer_catalog_is_named_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.db");
        std::fs::File::create(&path).expect("a file");
        assert!(matches!(
            SqliteCatalog::open(&path).await,
            Err(CatalogError::Missing)
        ));
        let catalog = SqliteCatalog::migrate(&path).await.expect("a catalog").0;
        SqliteCatalog::open(&path).await.expect("up to date");
        sqlx::query(
            "INSERT INTO retell_catalog_migrations
                 (version, description, success, checksum, execution_time)
             VALUES (99, 'of the future', 1, x'', 0)",
        )
        .execute(&catalog.pool)
        .await
        .expect("written");
        let opened = SqliteCatalog::open(&path).await;
        assert!(matches!(opened, Err(CatalogError::Newer { found: 99 })));
        let migrated = SqliteCatalog::migrate(&path).await;
        assert!(matches!(migrated, Err(CatalogError::Newer { found: 99 })));
    }
}
