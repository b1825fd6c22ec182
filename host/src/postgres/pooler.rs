//! Noticing a pooler that gives each transaction another session of the server. What the host sets
//! on its sessions, its LISTEN, and its prepared statements would end up with somebody else.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::ServerUrl;
use super::session::connect;

/// Whether two connections to the URL share sessions. While the second is inside a transaction, it
/// either has the session that the first one marked, or the first one gets another.
pub(crate) async fn shares_sessions(url: &ServerUrl) -> Result<bool, sqlx::Error> {
    let mark = format!("{:032x}", rand::random::<u128>());
    let (mut first, mut second) = (connect(url).await?, connect(url).await?);
    let set = format!("SELECT set_config('retell.mark', '{mark}', false)");
    sqlx::raw_sql(AssertSqlSafe(set))
        .execute(&mut first)
        .await?;
    sqlx::raw_sql("BEGIN").execute(&mut second).await?;
    let of_second = mark_of(&mut second).await?;
    let of_first = mark_of(&mut first).await?;
    // What can't be closed is gone already.
    let _ = second.close().await;
    let _ = first.close().await;
    Ok(of_second.as_ref() == Some(&mark) || of_first.as_ref() != Some(&mark))
}

async fn mark_of(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::raw_sql("SELECT current_setting('retell.mark', true)")
        .fetch_one(connection)
        .await?
        .try_get(0)
}
