//! A lease is a row with an epoch and a time until which it holds, which its holder moves on again
//! and again. The holder's session also has an advisory lock: the server gives that up as soon as the
//! session ends, so that nobody waits for the time of a holder that is known to be gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{PgCatalog, Result, doing};
use crate::catalog::CatalogError;
use crate::catalog::lease::{Hold, Lease};
use crate::clock::Stopwatch;
use crate::limits::{LEASE_RENEWAL_INTERVAL, LEASE_TIME};
use crate::postgres::{ServerUrl, connect};

/// The first half of the key of each advisory lock, "lease" in the alphabet.
const LOCK_CLASS: i32 = 0x006c_6561;

/// What the row says, as this process knows it.
#[derive(Debug)]
struct Known {
    /// Since the last renewal was asked for that succeeded.
    renewed: Stopwatch,
    is_lost: bool,
}

#[derive(Debug)]
struct Row {
    known: Arc<Mutex<Known>>,
    /// Dropping it has the lease released.
    stop: Option<oneshot::Sender<()>>,
    renewing: Option<JoinHandle<()>>,
}

#[async_trait]
impl Hold for Row {
    fn is_lost(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_lost || known.renewed.elapsed() >= LEASE_TIME
    }

    async fn release(mut self: Box<Self>) {
        self.stop = None;
        if let Some(renewing) = self.renewing.take() {
            // Whatever became of it, the lease ends by itself.
            let _ = renewing.await;
        }
    }
}

/// What renewing needs.
struct Holder {
    url: ServerUrl,
    projection: String,
    epoch: i64,
    connection: Option<PgConnection>,
    known: Arc<Mutex<Known>>,
}

pub(super) async fn take(catalog: &PgCatalog, projection: &str) -> Result<Option<Lease>> {
    // Commands ask again and again while another process works: that must be cheap.
    let is_held: bool = sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT 1 FROM retell.leases
             WHERE projection = $1 AND expires_at > clock_timestamp() AND (NOT has_lock OR EXISTS (
                 SELECT 1 FROM pg_locks l
                 WHERE l.locktype = 'advisory' AND l.granted AND l.classid = $2::oid
                     AND l.objid = (hashtext($1)::bigint & 4294967295)::oid AND l.objsubid = 2
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
             )))",
    )
    .bind(projection)
    .bind(LOCK_CLASS)
    .fetch_one(&catalog.pool)
    .await
    .map_err(doing("look for a lease"))?;
    if is_held {
        return Ok(None);
    }
    let renewed = Stopwatch::start();
    let mut connection = connect(&catalog.url)
        .await
        .map_err(doing("open a session for a lease"))?;
    let has_lock = try_lock(&mut connection, projection)
        .await
        .map_err(doing("lock a lease"))?;
    let epoch: Option<i64> = sqlx::query_scalar(
        "INSERT INTO retell.leases AS l (projection, epoch, holder, has_lock, expires_at)
         VALUES ($1, 1, coalesce(host(inet_client_addr()), 'local') || ', process ' || $2, $3,
                 clock_timestamp() + make_interval(secs => $4))
         ON CONFLICT (projection) DO UPDATE
         SET epoch = l.epoch + 1, holder = excluded.holder, has_lock = excluded.has_lock,
             expires_at = excluded.expires_at
         WHERE l.expires_at < clock_timestamp() OR (excluded.has_lock AND l.has_lock)
         RETURNING epoch",
    )
    .bind(projection)
    .bind(std::process::id().to_string())
    .bind(has_lock)
    .bind(LEASE_TIME.as_secs_f64())
    .fetch_optional(&mut connection)
    .await
    .map_err(doing("take a lease"))?;
    let Some(epoch) = epoch else {
        return Ok(None);
    };
    let known = Arc::new(Mutex::new(Known {
        renewed,
        is_lost: false,
    }));
    let (stop, stopped) = oneshot::channel();
    let holder = Holder {
        url: catalog.url.clone(),
        projection: projection.to_owned(),
        epoch,
        connection: Some(connection),
        known: Arc::clone(&known),
    };
    let row = Row {
        known,
        stop: Some(stop),
        renewing: Some(tokio::spawn(holder.keep(stopped))),
    };
    Ok(Some(Lease::new(projection, epoch, row)))
}

/// Makes sure that nobody took the lease since that epoch, nor does before the transaction ends.
pub(super) async fn check(
    transaction: &mut Transaction<'static, Postgres>,
    projection: &str,
    epoch: u64,
) -> Result<()> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT epoch FROM retell.leases WHERE projection = $1 FOR SHARE")
            .bind(projection)
            .fetch_optional(&mut **transaction)
            .await
            .map_err(doing("look at a lease"))?;
    if newest.is_none_or(|newest| newest.cast_unsigned() == epoch) {
        return Ok(());
    }
    Err(CatalogError::LeaseLost {
        projection: projection.to_owned(),
    })
}

impl Holder {
    /// Renews the lease until it is told to stop, or somebody else has it.
    async fn keep(mut self, mut stopped: oneshot::Receiver<()>) {
        while tokio::time::timeout(LEASE_RENEWAL_INTERVAL, &mut stopped)
            .await
            .is_err()
        {
            let asked = Stopwatch::start();
            // A server that is away may come back in time.
            let Ok(is_ours) = self.within(LEASE_RENEWAL_INTERVAL, Self::renew).await else {
                self.connection = None;
                continue;
            };
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.is_lost = !is_ours;
            if known.is_lost {
                return;
            }
            known.renewed = asked;
        }
        let _ = self.within(LEASE_RENEWAL_INTERVAL, Self::give_up).await;
        if let Some(connection) = self.connection {
            let _ = connection.close().await;
        }
    }

    async fn within<T>(
        &mut self,
        time: Duration,
        work: impl AsyncFnOnce(&mut Self) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        tokio::time::timeout(time, work(self))
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// False: somebody else has it.
    async fn renew(&mut self) -> sqlx::Result<bool> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.url).await?),
        };
        // A session that has the lock locks it once more, which is no harm: its end unlocks all of
        // it. A new session gets it once the old one is gone.
        let has_lock = try_lock(connection, &self.projection).await?;
        let renewed = sqlx::query(
            "UPDATE retell.leases
             SET expires_at = clock_timestamp() + make_interval(secs => $3), has_lock = $4
             WHERE projection = $1 AND epoch = $2",
        )
        .bind(&self.projection)
        .bind(self.epoch)
        .bind(LEASE_TIME.as_secs_f64())
        .bind(has_lock)
        .execute(connection)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    async fn give_up(&mut self) -> sqlx::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        sqlx::query(
            "UPDATE retell.leases SET expires_at = 'epoch' WHERE projection = $1 AND epoch = $2",
        )
        .bind(&self.projection)
        .bind(self.epoch)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Whether the session has the lock: it had it before, or has it now.
async fn try_lock(connection: &mut PgConnection, projection: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))")
        .bind(LOCK_CLASS)
        .bind(projection)
        .fetch_one(connection)
        .await
}
