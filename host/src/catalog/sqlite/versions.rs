//! Projections, their versions, and the modules behind them.

use sqlx::{Row, Sqlite, Transaction};

use super::builds::{build_of, insert_build};
use super::status::{change_status, set_promote, set_rules, status_of};
use super::{Result, SqliteCatalog, doing};
use crate::catalog::stored::{damaged, parse_rules, parse_version};
use crate::catalog::{CatalogError, ModuleRecord, NewVersion, Registered, Stage, VersionRecord};
use crate::lifecycle::state::{Change, State};

pub(super) async fn projections(catalog: &SqliteCatalog) -> Result<Vec<String>> {
    sqlx::query_scalar("SELECT name FROM projections ORDER BY name")
        .fetch_all(&catalog.pool)
        .await
        .map_err(doing("list projections"))
}

pub(super) async fn versions(
    catalog: &SqliteCatalog,
    projection: &str,
) -> Result<Vec<VersionRecord>> {
    // One snapshot for both reads: a swap in between would show a version without a build.
    let mut snapshot = catalog.pool.begin().await.map_err(doing("list versions"))?;
    let rows = sqlx::query("SELECT * FROM versions WHERE projection = ?")
        .bind(projection)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(doing("list versions"))?;
    let builds = sqlx::query("SELECT * FROM builds WHERE projection = ? ORDER BY id")
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
    let latest = |version: &str| {
        let mut newest_first = builds.iter().rev();
        let found = newest_first.find(|row| row.get::<String, _>("version") == version);
        found.map(|row| row.get("location"))
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
            rules: parse_rules(
                row.get("on_error"),
                row.get("dead_letters_max"),
                row.get("limits"),
                row.get("verify"),
            )?,
            current: build(&text, "current"),
            successor: build(&text, "successor"),
            latest_location: latest(&text),
        });
    }
    versions.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(versions)
}

pub(super) async fn module(catalog: &SqliteCatalog, digest: &str) -> Result<Option<ModuleRecord>> {
    let row = sqlx::query("SELECT digest, manifest, contract, sdk FROM modules WHERE digest = ?")
        .bind(digest)
        .fetch_optional(&catalog.pool)
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

pub(super) async fn module_bytes(catalog: &SqliteCatalog, digest: &str) -> Result<Option<Vec<u8>>> {
    sqlx::query_scalar("SELECT bytes FROM modules WHERE digest = ?")
        .bind(digest)
        .fetch_optional(&catalog.pool)
        .await
        .map_err(doing("read a module's bytes"))
}

pub(super) async fn register(catalog: &SqliteCatalog, new: NewVersion<'_>) -> Result<Registered> {
    let (projection, version) = (&new.module.manifest.name, &new.module.manifest.version);
    let mut transaction = catalog.begin().await?;
    let there: Option<(String, String, bool, bool)> = sqlx::query_as(
        "SELECT digest, state, verify, role = 'live' FROM versions
         WHERE projection = ? AND version = ?",
    )
    .bind(projection)
    .bind(version)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(doing("look for the version"))?;
    let is_live = there.as_ref().is_some_and(|it| it.3);
    let registered = match there {
        Some((digest, ..)) if digest != new.module.digest => {
            return Err(CatalogError::OtherModule {
                projection: projection.clone(),
                version: version.clone(),
                digest,
            });
        }
        Some((_, state, false, _))
            if state == State::Ready.word() && new.rules.verify == Some(true) =>
        {
            return Err(CatalogError::Unverified {
                projection: projection.clone(),
                version: version.clone(),
            });
        }
        Some((_, state, ..)) if state != State::Retired.word() => Registered::AlreadyThere,
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
    set_rules(&mut transaction, projection, version, &new.rules).await?;
    // What is live already is not to be made live later, when somebody may have gone back from it.
    if new.promote_when_ready && !is_live {
        set_promote(&mut transaction, projection, version, true).await?;
    }
    transaction
        .commit()
        .await
        .map_err(doing("register a version"))?;
    Ok(registered)
}

pub(super) async fn insert_version(
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
