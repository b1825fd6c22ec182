//! The change-set of a call: whether its packing makes sense, and its changes one by one.

use std::ops::Range;

use retell_contract::KEY_BYTES_MAX;

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

/// Texts that lie end to end.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    bytes: &'a [u8],
    ends: &'a [u32],
}

impl<'a> Packed<'a> {
    /// None where the ends make no sense.
    pub(crate) fn check(bytes: &'a [u8], ends: &'a [u32]) -> Option<Self> {
        let last = ends.last().map_or(0, |&end| end as usize);
        (ends.is_sorted() && last == bytes.len()).then_some(Self { bytes, ends })
    }

    /// As keys, which must not be too long.
    pub(crate) fn as_keys(self) -> Result<Self, String> {
        let lengths = (0..self.len()).map(|number| self.get(number).len());
        match lengths.max() {
            Some(longest) if longest > KEY_BYTES_MAX => Err(format!(
                "a key takes {longest} bytes, and at most {KEY_BYTES_MAX} are allowed"
            )),
            _ => Ok(self),
        }
    }

    pub(crate) fn len(self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(self, number: usize) -> &'a [u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[number] as usize]
    }
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
    keys: Packed<'a>,
    rows: Packed<'a>,
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
        let keys = Packed::check(&set.keys, &set.key_ends)
            .ok_or_else(|| contract("the ends of a change-set's keys make no sense"))?
            .as_keys()
            .map_err(|message| MergeError::Contract { message })?;
        let rows = Packed::check(&set.rows, &set.row_ends)
            .ok_or_else(|| contract("the ends of a change-set's rows make no sense"))?;
        let sound = |change: usize| {
            usize::try_from(set.events[change]).is_ok_and(|event| event < events)
                && usize::from(set.tables[change]) < tables
                && match set.kinds[change] {
                    PUT => !rows.get(change).is_empty(),
                    DELETE => rows.get(change).is_empty(),
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

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The change and those behind it that are of the same table, at most so many.
    pub(crate) fn same_table(&self, first: usize, count_max: usize) -> Range<usize> {
        let rest = &self.set.tables[first..];
        let same = rest.iter().take_while(|&table| *table == rest[0]);
        first..first + same.take(count_max).count()
    }

    #[inline]
    pub(crate) fn get(&self, change: usize) -> Change<'a> {
        Change {
            event: self.set.events[change],
            table: self.set.tables[change],
            key: self.keys.get(change),
            row: (self.set.kinds[change] == PUT).then(|| self.rows.get(change)),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Change<'a>> {
        (0..self.len()).map(|change| self.get(change))
    }
}
