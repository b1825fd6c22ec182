//! The lease: the right to work on a projection, all its versions, promote and rollback included.
//! One process holds it at a time; how, and how it is noticed that a holder is gone, is the
//! backend's.

use async_trait::async_trait;

/// The lease of one projection, held until released or dropped.
#[derive(Debug)]
pub struct Lease {
    projection: String,
    epoch: u64,
    hold: Box<dyn Hold>,
}

/// What keeps others from having it.
#[async_trait]
pub(super) trait Hold: std::fmt::Debug + Send + Sync {
    /// Whether somebody else may have it by now.
    fn is_lost(&self) -> bool;
    /// Gives it up, so that the next one need not wait.
    async fn release(self: Box<Self>);
}

impl Lease {
    pub(super) fn new(projection: &str, epoch: i64, hold: impl Hold + 'static) -> Self {
        Self {
            projection: projection.to_owned(),
            epoch: epoch.cast_unsigned(),
            hold: Box::new(hold),
        }
    }

    pub fn projection(&self) -> &str {
        &self.projection
    }

    /// Grows with each taking of the lease; only the newest may write.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether somebody else may have it by now. What is written then is refused by the read models,
    /// which know the epoch of the newest holder.
    pub fn is_lost(&self) -> bool {
        self.hold.is_lost()
    }

    /// Gives it up, so that the next one need not wait.
    pub async fn release(self) {
        self.hold.release().await;
    }
}
