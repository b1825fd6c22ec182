//! All rows of a read model in one snapshot, and what is made of them.

use std::ops::ControlFlow;

use super::ReadModelError;
use crate::digest::{ContentDigest, Digester};
use crate::event::Position;

/// Takes the rows of a read model: tables by name, the rows of each by key.
pub trait ContentSink: Send {
    fn table(&mut self, name: &str);
    /// A row in the contract's row encoding. `Break`: no more of them.
    fn row(&mut self, row: &[u8]) -> ControlFlow<()>;
    fn end_table(&mut self);
}

impl ContentSink for Digester {
    fn table(&mut self, name: &str) {
        Self::table(self, name);
    }

    fn row(&mut self, row: &[u8]) -> ControlFlow<()> {
        Self::row(self, row);
        ControlFlow::Continue(())
    }

    fn end_table(&mut self) {
        Self::end_table(self);
    }
}

/// The digest of what `read` hands over, and the position that it returns.
pub(super) fn digest(
    read: impl FnOnce(&mut dyn ContentSink) -> Result<Position, ReadModelError>,
) -> Result<ContentDigest, ReadModelError> {
    let mut digester = Digester::default();
    let position = read(&mut digester)?;
    Ok(ContentDigest {
        position,
        digest: digester.finish(),
    })
}
