//! The switch of the live version.

use super::majors::name_major_after_switch;
use super::status::{change_status, set_promote, status};
use super::{Result, SqliteCatalog, doing};
use crate::catalog::{CatalogError, Switch};
use crate::crash_point::{self, CrashPoint};
use crate::lifecycle::state::{Change, Role};

pub(super) async fn switch(catalog: &SqliteCatalog, switch: Switch<'_>) -> Result<()> {
    let projection = switch.projection;
    let mut transaction = catalog.begin().await?;
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
        set_promote(&mut transaction, projection, live, false).await?;
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
    crash_point::reach(CrashPoint::SwitchWritten);
    transaction.commit().await.map_err(doing("switch"))
}
