//! The switch of the live version.

use super::lease;
use super::majors::name_major_after_switch;
use super::status::{change_status, set_promote, status};
use super::{PgCatalog, Result, doing};
use crate::catalog::{CatalogError, Switch};
use crate::clock::Stopwatch;
use crate::crash_point::{self, CrashPoint};
use crate::lifecycle::state::{Change, Role};
use crate::postgres::{Failure, Timestamp, failure};
use crate::read_model::postgres::{LOCK_PATIENCE, LOCK_PAUSE};

/// Tried again while readers hold the locks that the views need: whoever waits for a lock makes others
/// wait.
pub(super) async fn switch(catalog: &PgCatalog, switch: Switch<'_>) -> Result<()> {
    let began = Stopwatch::start();
    loop {
        match switch_once(catalog, &switch).await {
            Err(CatalogError::Storage { source, .. })
                if failure(&source) == Failure::Busy && began.elapsed() < LOCK_PATIENCE =>
            {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            switched => return switched,
        }
    }
}

async fn switch_once(catalog: &PgCatalog, switch: &Switch<'_>) -> Result<()> {
    let projection = switch.projection;
    let mut transaction = catalog.begin().await?;
    lease::check(&mut transaction, projection, switch.epoch).await?;
    let holder = |role: Role| {
        sqlx::query_scalar::<_, String>(
            "SELECT version FROM retell.versions WHERE projection = $1 AND role = $2",
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
        set_promote(&mut transaction, projection, live, false).await?;
    }
    change_status(&mut transaction, projection, &to, &go_live).await?;
    set_promote(&mut transaction, projection, &to, false).await?;
    name_major_after_switch(&mut transaction, projection, switch.to).await?;
    sqlx::query(
        "INSERT INTO retell.switches
             (projection, kind, from_version, to_version, position, accepted_older, switched_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(projection)
    .bind(switch.kind.word())
    .bind(&live)
    .bind(&to)
    .bind(switch.position.cast_signed())
    .bind(switch.accept_older)
    .bind(Timestamp(switch.now_us))
    .execute(&mut *transaction)
    .await
    .map_err(doing("record the switch"))?;
    for on_server in switch.views {
        if on_server.server().is_same(&catalog.url) {
            let followed = on_server.follow_within(&mut transaction).await;
            let followed = followed.map_err(doing("replace views"))?;
            followed.map_err(|source| CatalogError::Views {
                projection: projection.to_owned(),
                source,
            })?;
        }
    }
    crash_point::reach(CrashPoint::SwitchWritten);
    transaction.commit().await.map_err(doing("switch"))
}
