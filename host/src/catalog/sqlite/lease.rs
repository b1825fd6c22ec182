//! A lease is a lock of the operating system on a file beside the log. It needs no heartbeat, and
//! ends with the process that holds it, however that process ends.

use std::fs::{File, OpenOptions, TryLockError};

use async_trait::async_trait;

use super::{Result, SqliteCatalog, doing};
use crate::catalog::CatalogError;
use crate::catalog::lease::{Hold, Lease};

/// The lock is the open file's.
#[derive(Debug)]
struct Locked {
    _file: File,
}

#[async_trait]
impl Hold for Locked {
    fn is_lost(&self) -> bool {
        false
    }

    async fn release(self: Box<Self>) {}
}

pub(super) async fn take(catalog: &SqliteCatalog, projection: &str) -> Result<Option<Lease>> {
    let Some(locked) = lock(catalog, projection)? else {
        return Ok(None);
    };
    let epoch = sqlx::query_scalar(
        "UPDATE projections SET epoch = epoch + 1 WHERE name = ? RETURNING epoch",
    )
    .bind(projection)
    .fetch_one(&catalog.pool)
    .await
    .map_err(doing("count the lease"))?;
    Ok(Some(Lease::new(projection, epoch, locked)))
}

/// None while another process, or another part of this one, holds it.
fn lock(catalog: &SqliteCatalog, projection: &str) -> Result<Option<Locked>> {
    let folder = catalog.leases.join(projection);
    let path = folder.join("lease.lock");
    let failed = |source| CatalogError::Lease {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
