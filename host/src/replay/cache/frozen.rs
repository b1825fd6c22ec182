//! Changed rows of one table in the writer's hands: sorted by key there, and handed out in that order.

use std::cmp::Ordering;
use std::sync::Arc;

use super::chunks::{Chunks, Place};
use crate::key_prefix;

/// So many bytes of rows are copied: a share in the chunks where they lie would keep the cache from
/// writing over its hottest rows. Tests have few rows and both ways.
const BYTES_COPIED_MAX: usize = if cfg!(test) { 500 } else { 64 << 10 };
/// Fewer rows are sorted without the help of another thread.
const ROWS_SORTED_ALONE: usize = 32_768;
/// Rows that are looked at ahead together.
const ROWS_AHEAD: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::replay) struct FrozenRows {
    rows: Vec<FrozenRow>,
    bytes: Bytes,
}

/// Keys and rows.
#[derive(Debug)]
enum Bytes {
    Copied(Vec<u8>),
    /// The cache's chunks, by their numbers; those that are needed.
    Shared(Vec<Option<Arc<Vec<u8>>>>),
}

#[derive(Debug)]
struct FrozenRow {
    /// The beginning of its key, at hand while rows are sorted.
    key_prefix: u128,
    row: Freezing,
}

/// One changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replay) struct FrozenChange<'a> {
    pub(in crate::replay) key: &'a [u8],
    /// The whole row, or none to delete it.
    pub(in crate::replay) row: Option<&'a [u8]>,
    /// The table has no row under this key.
    pub(in crate::replay) fresh: bool,
}

/// What a cache knows of a row that it freezes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freezing {
    pub(super) place: Place,
    /// Of key and row.
    pub(super) length: u32,
    pub(super) key_bytes: u16,
    pub(super) has_row: bool,
    pub(super) fresh: bool,
}

impl FrozenRows {
    /// Room for so many rows, and about so many bytes.
    pub(super) fn new(rows: usize, bytes: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            bytes: if bytes <= BYTES_COPIED_MAX {
                Bytes::Copied(Vec::with_capacity(bytes))
            } else {
                Bytes::Shared(Vec::new())
            },
        }
    }

    pub(super) fn push(&mut self, chunks: &mut Chunks, mut row: Freezing) {
        let bytes = chunks.get(row.place, row.length as usize);
        let key_prefix = key_prefix::of(&bytes[..usize::from(row.key_bytes)]);
        match &mut self.bytes {
            Bytes::Copied(all) => {
                row.place.start = u32::try_from(all.len()).expect("it is little");
                all.extend_from_slice(bytes);
            }
            Bytes::Shared(all) => {
                let chunk = row.place.chunk as usize;
                if all.len() <= chunk {
                    all.resize(chunks.count(), None);
                }
                all[chunk].get_or_insert_with(|| chunks.share(row.place.chunk));
            }
        }
        self.rows.push(FrozenRow { key_prefix, row });
    }

    pub(in crate::replay) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(in crate::replay) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Of all keys and rows.
    pub(in crate::replay) fn bytes(&self) -> usize {
        self.rows.iter().map(|it| it.row.length as usize).sum()
    }

    /// Sorts each half of the rows by key, the one beside the other where there are many.
    pub(in crate::replay) fn sort(&mut self) {
        let half = self.rows.len() / 2;
        let is_large = self.rows.len() >= ROWS_SORTED_ALONE;
        let (some, others) = self.rows.split_at_mut(half);
        let bytes = &self.bytes;
        let sort = |rows: &mut [FrozenRow]| rows.sort_unstable_by(|a, b| bytes.order(a, b));
        let is_helped = std::thread::scope(|scope| {
            let thread = is_large.then(|| {
                let sort = || sort(others);
                std::thread::Builder::new().spawn_scoped(scope, sort)
            });
            sort(some);
            thread.is_some_and(|it| it.is_ok())
        });
        if !is_helped {
            sort(others);
        }
    }

    /// All of them, once they are sorted, in the order of their keys.
    pub(in crate::replay) fn iter(&self) -> impl Iterator<Item = FrozenChange<'_>> {
        let (some, others) = self.rows.split_at(self.rows.len() / 2);
        let ahead = |rows| {
            let bytes = &self.bytes;
            let looked_at = 0;
            LookingAhead {
                rows,
                bytes,
                looked_at,
            }
        };
        let (mut some, mut others) = (ahead(some).peekable(), ahead(others).peekable());
        let in_order = std::iter::from_fn(move || match (some.peek(), others.peek()) {
            (Some(one), Some(other)) if self.bytes.order(other, one).is_lt() => others.next(),
            (None, _) => others.next(),
            _ => some.next(),
        });
        in_order.map(|FrozenRow { row, .. }| {
            let (key, rest) = self.bytes.of(row).split_at(usize::from(row.key_bytes));
            FrozenChange {
                key,
                row: row.has_row.then_some(rest),
                fresh: row.fresh,
            }
        })
    }
}

impl Bytes {
    /// Key and row.
    fn of(&self, row: &Freezing) -> &[u8] {
        let bytes = match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(chunks) => {
                let chunk = chunks[row.place.chunk as usize].as_ref();
                chunk.expect("a row has a share in its chunk")
            }
        };
        &bytes[row.place.start as usize..][..row.length as usize]
    }

    fn key_of(&self, row: &Freezing) -> &[u8] {
        &self.of(row)[..usize::from(row.key_bytes)]
    }

    fn order(&self, one: &FrozenRow, other: &FrozenRow) -> Ordering {
        let by_key = || self.key_of(&one.row).cmp(self.key_of(&other.row));
        one.key_prefix.cmp(&other.key_prefix).then_with(by_key)
    }
}

/// Hands out rows that it looked at some time before. Sorted, they lie far apart, and the processor
/// waits for many of them at once then, instead of for one after the other.
struct LookingAhead<'a> {
    rows: &'a [FrozenRow],
    bytes: &'a Bytes,
    /// How many of them it looked at.
    looked_at: usize,
}

impl<'a> Iterator for LookingAhead<'a> {
    type Item = &'a FrozenRow;

    fn next(&mut self) -> Option<&'a FrozenRow> {
        if self.looked_at == 0 {
            let next = self.rows.iter().take(ROWS_AHEAD);
            let ends = next.filter_map(|it| {
                let bytes = self.bytes.of(&it.row);
                Some(bytes.first()? ^ bytes.last()?)
            });
            std::hint::black_box(ends.fold(0, |seen, ends| seen ^ ends));
            self.looked_at = ROWS_AHEAD;
        }
        self.looked_at -= 1;
        self.rows.split_off_first()
    }
}

#[cfg(test)]
mod tests {
    use super::super::TableCache;
    use super::*;
    use crate::replay::absence::Absence;

    #[test]
    fn rows_are_sorted_by_their_whole_keys() {
        let mut cache = TableCache::new(Absence::new(true));
        let long = |last: u8| [[7; 20].as_slice(), &[last]].concat();
        let mut keys = vec![
            long(2),
            vec![],
            vec![7; 20],
            vec![7; 16],
            vec![0],
            long(1),
            vec![0, 0],
            vec![255],
        ];
        for key in &keys {
            cache.change(key, Some(b"row"));
        }
        let mut rows = cache.freeze(1);
        rows.sort();
        keys.sort();
        let sorted: Vec<&[u8]> = rows.iter().map(|row| row.key).collect();
        assert_eq!(sorted, keys);
    }

    #[test]
    fn many_rows_are_sorted_by_two() {
        let count = 3 * ROWS_SORTED_ALONE;
        let mut cache = TableCache::new(Absence::new(true));
        for number in 0..count {
            let key = (number * 7_919 % count).to_be_bytes();
            cache.change(&key, Some(b"row"));
        }
        let mut rows = cache.freeze(1);
        rows.sort();
        assert_eq!(rows.iter().count(), count);
        let mut numbered = rows.iter().zip(0..count);
        assert!(numbered.all(|(row, n)| row.key == n.to_be_bytes()));
    }
}
