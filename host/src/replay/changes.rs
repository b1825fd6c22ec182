//! The change-set of a call: whether its packing makes sense, and its changes one by one.

use crate::read_model::ReadModelError;
use crate::wasm::ChangeSet;

/// Kind of a change: insert or replace a row.
const PUT: u8 = 0;
/// Kind of a change: delete a row.
const DELETE: u8 = 1;

/// Why a change-set was not taken; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// Two rows would share a unique value; this event's change is the second.
    #[error("{message}")]
    Duplicate { event: u32, message: String },
    #[error("{message}")]
    Contract { message: String },
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
}

/// Cuts texts that were packed end to end; none where the ends make no sense.
pub(crate) fn unpack<'a>(bytes: &'a [u8], ends: &[u32]) -> Option<Vec<&'a [u8]>> {
    let mut start = 0_usize;
    let mut pieces = Vec::with_capacity(ends.len());
    for &end in ends {
        let end = usize::try_from(end).ok()?;
        pieces.push(bytes.get(start..end)?);
        start = end;
    }
    (start == bytes.len()).then_some(pieces)
}

/// One change of a change-set.
pub(crate) struct Change<'a> {
    pub(crate) event: u32,
    pub(crate) table: u16,
    pub(crate) key: &'a [u8],
    pub(crate) row: Option<&'a [u8]>,
}

/// A change-set whose packing makes sense.
pub(crate) struct Changes<'a> {
    set: &'a ChangeSet,
    keys: Vec<&'a [u8]>,
    rows: Vec<&'a [u8]>,
}

impl<'a> Changes<'a> {
    pub(crate) fn check(
        set: &'a ChangeSet,
        tables: usize,
        events: usize,
    ) -> Result<Self, MergeError> {
        let contract = |message: &str| MergeError::Contract {
            message: message.to_owned(),
        };
        let count = set.events.len();
        let lengths = [
            set.tables.len(),
            set.kinds.len(),
            set.key_ends.len(),
            set.row_ends.len(),
        ];
        if lengths.iter().any(|&length| length != count) {
            return Err(contract("the lists of a change-set differ in length"));
        }
        let keys = unpack(&set.keys, &set.key_ends)
            .ok_or_else(|| contract("the ends of a change-set's keys make no sense"))?;
        let rows = unpack(&set.rows, &set.row_ends)
            .ok_or_else(|| contract("the ends of a change-set's rows make no sense"))?;
        let sound = |change: usize| {
            usize::try_from(set.events[change]).is_ok_and(|event| event < events)
                && usize::from(set.tables[change]) < tables
                && match set.kinds[change] {
                    PUT => !rows[change].is_empty(),
                    DELETE => rows[change].is_empty(),
                    _ => false,
                }
        };
        match (0..count).find(|&change| !sound(change)) {
            None => Ok(Self { set, keys, rows }),
            Some(change) => Err(MergeError::Contract {
                message: format!(
                    "change {change} names an event, a table or a kind that does not exist, or has \
                     a row where none belongs"
                ),
            }),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Change<'a>> {
        (0..self.keys.len()).map(|change| Change {
            event: self.set.events[change],
            table: self.set.tables[change],
            key: self.keys[change],
            row: (self.set.kinds[change] == PUT).then_some(self.rows[change]),
        })
    }
}
