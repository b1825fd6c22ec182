//! A projection as the host of it sees it: a manifest, and a fold over batches.

use retell_contract::Manifest;

use crate::batch::{Batch, Row};
use crate::cache::At;
use crate::changes::{ChangeSet, Failure};
use crate::db::{Db, Host, Tables};
use crate::error::Result;
use crate::fetch::Fetch;

/// What `#[projection]` makes of a function. The unit struct `Projection` that it writes beside
/// the function implements this.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a projection",
    note = "`#[projection(...)]` writes a struct `Projection` next to the function; name that"
)]
pub trait Projection: 'static {
    fn manifest() -> Manifest;

    /// Folds one batch of events. On a failure nothing of the batch counts.
    fn apply(batch: &Batch, host: &mut dyn Host) -> Result<ChangeSet, Failure>;
}

/// Applies a function to the events of a batch in order, and gathers the changes.
#[inline(never)]
pub fn run(
    batch: &Batch,
    host: &mut dyn Host,
    register: fn(&mut Tables<'_>),
    arms: &[u16],
    fetches: &[Fetch],
    mut project: impl FnMut(Row<'_>, &mut Db<'_>) -> Result<()>,
) -> Result<ChangeSet, Failure> {
    let mut db = Db::new(host, register, batch.shapes.len());
    Fetch::run(fetches, batch, &mut db);
    // The n-th event of a shape is row n of its block.
    let mut next_rows = vec![0; arms.len()];
    for (number, (event, &shape)) in (0u32..).zip(batch.shapes.iter().enumerate()) {
        let shape = usize::from(shape);
        let row = Row {
            batch,
            event,
            block: &batch.blocks[shape],
            row: next_rows[shape],
            arm: arms[shape],
        };
        next_rows[shape] += 1;
        db.begin_event(At {
            event: number,
            shape,
            row: row.row,
        });
        let applied = project(row, &mut db).and_then(|()| db.end_event());
        applied.map_err(|error| Failure {
            event: number,
            message: error.message().to_owned(),
        })?;
    }
    Ok(db.finish())
}
