//! Sorted runs: flushes of a build from nothing that wait beside its file until many of them are laid
//! out together.
//!
//! Laying out anew costs as much as everything that is there, so doing it for each flush would make a
//! large build's cost grow with its square. A run is written front to back and read in the same
//! order, and single rows are found through the first keys of its blocks. It has no name: it goes with
//! its writer, whatever happens to that, and the stored checkpoint knows nothing of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::{Doing, io_fault};
use crate::key_prefix;
use crate::read_model::{Changes, ReadModelError, RowChange};

/// A row is looked for in so many bytes, or in one entry that is longer.
const BLOCK_BYTES: u64 = 8 << 10;
/// Runs are read and written in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Before each entry: the lengths of its key and its row, and its flags.
const HEAD_BYTES: usize = 9;
const HAS_ROW: u8 = 1;
const FRESH: u8 = 2;

/// One flush.
#[derive(Debug)]
pub(super) struct Run {
    /// Of the read model, for errors.
    path: PathBuf,
    file: File,
    tables: HashMap<u16, TableRun>,
}

/// Where a table's entries are.
#[derive(Debug)]
struct TableRun {
    blocks: Vec<Block>,
    end: u64,
}

#[derive(Debug)]
struct Block {
    first_key: Box<[u8]>,
    start: u64,
}

/// An entry in a buffer.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: usize,
    row: usize,
    end: usize,
    flags: u8,
}

impl Run {
    /// Writes all changes of a flush, for the read model at `path`, on the same disk.
    pub(super) fn write(
        path: &Path,
        tables: Vec<(u16, Changes<'_>)>,
    ) -> Result<Self, ReadModelError> {
        let fault = |error| io_fault(path, Doing::Write, error);
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(folder).map_err(fault)?;
        let mut out = BufWriter::with_capacity(PIECE_BYTES, &file);
        let mut at = 0;
        let mut written = HashMap::new();
        for (number, changes) in tables {
            let table = write_table(&mut out, &mut at, changes).map_err(fault)?;
            written.insert(number, table);
        }
        out.flush().map_err(fault)?;
        drop(out);
        Ok(Self {
            path: path.to_owned(),
            file,
            tables: written,
        })
    }

    /// What became of the row under a key. `None`: nothing here; `Some(None)`: it was deleted.
    pub(super) fn get(
        &self,
        table: u16,
        key: &[u8],
    ) -> Result<Option<Option<Vec<u8>>>, ReadModelError> {
        let Some(table) = self.tables.get(&table) else {
            return Ok(None);
        };
        let behind = table.blocks.partition_point(|it| &*it.first_key <= key);
        let Some(block) = behind.checked_sub(1) else {
            return Ok(None);
        };
        let end = table.blocks.get(behind).map_or(table.end, |it| it.start);
        let bytes = self.read(table.blocks[block].start..end)?;
        let mut at = 0;
        while let Some(entry) = Entry::read(&bytes, at) {
            if bytes[entry.key..entry.row] == *key {
                return Ok(Some(entry.row_in(&bytes).map(<[u8]>::to_vec)));
            }
            at = entry.end;
        }
        Ok(None)
    }

    fn read(&self, part: Range<u64>) -> Result<Vec<u8>, ReadModelError> {
        let length = usize::try_from(part.end - part.start).expect("a block is small");
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, part.start)
            .map_err(|error| io_fault(&self.path, Doing::Read, error))?;
        Ok(bytes)
    }
}

fn write_table(out: &mut impl Write, at: &mut u64, changes: Changes<'_>) -> io::Result<TableRun> {
    let mut blocks: Vec<Block> = Vec::new();
    for change in changes {
        if blocks.last().is_none_or(|it| *at - it.start >= BLOCK_BYTES) {
            blocks.push(Block {
                first_key: change.key.into(),
                start: *at,
            });
        }
        let row = change.row.unwrap_or_default();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let flags = if change.row.is_some() { HAS_ROW } else { 0 };
        let flags = if change.fresh { flags | FRESH } else { flags };
        out.write_all(&length(change.key)?.to_le_bytes())?;
        out.write_all(&length(row)?.to_le_bytes())?;
        out.write_all(&[flags])?;
        out.write_all(change.key)?;
        out.write_all(row)?;
        *at += (HEAD_BYTES + change.key.len() + row.len()) as u64;
    }
    Ok(TableRun { blocks, end: *at })
}

impl Entry {
    /// The entry at a place of the buffer, if all of it is there.
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        let head = bytes.get(at..)?.first_chunk::<HEAD_BYTES>()?;
        let length = |from: usize| {
            let bytes = [head[from], head[from + 1], head[from + 2], head[from + 3]];
            usize::try_from(u32::from_le_bytes(bytes)).ok()
        };
        let key = at + HEAD_BYTES;
        let row = key + length(0)?;
        let end = row + length(4)?;
        let flags = head[HEAD_BYTES - 1];
        (end <= bytes.len()).then_some(Self {
            key,
            row,
            end,
            flags,
        })
    }

    fn row_in(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.flags & HAS_ROW != 0).then(|| &bytes[self.row..self.end])
    }
}

/// Changes of one table in the order of their keys, each key once: those of a flush and those of the
/// runs before it, of which the newest counts.
pub(super) struct SortedChanges<'a> {
    table: u16,
    flush: Changes<'a>,
    /// What comes next of the flush.
    next: Option<(u128, RowChange<'a>)>,
    /// Newest first.
    runs: Vec<RunCursor>,
    /// Older changes of the key that comes next.
    outdated: Vec<usize>,
    /// The source whose change was handed out last: the flush, or a run.
    taken: Option<Source>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Flush,
    Run(usize),
}

impl<'a> SortedChanges<'a> {
    /// `runs`: oldest first.
    pub(super) fn new(
        table: u16,
        flush: Option<Changes<'a>>,
        runs: &[Arc<Run>],
    ) -> Result<Self, ReadModelError> {
        let mut flush = flush.unwrap_or_else(|| Box::new(std::iter::empty()));
        let runs = runs.iter().rev();
        let runs = runs.filter_map(|run| RunCursor::open(run, table).transpose());
        Ok(Self {
            table,
            next: flush.next().map(with_prefix),
            flush,
            runs: runs.collect::<Result<_, _>>()?,
            outdated: Vec::new(),
            taken: None,
        })
    }

    /// The next change, with its key's prefix.
    pub(super) fn next(&mut self) -> Result<Option<(u128, RowChange<'_>)>, ReadModelError> {
        match self.taken {
            Some(Source::Flush) => self.next = self.flush.next().map(with_prefix),
            Some(Source::Run(number)) => self.runs[number].advance()?,
            None => {}
        }
        let mut first = self
            .next
            .as_ref()
            .map(|(prefix, change)| (*prefix, change.key, Source::Flush));
        self.outdated.clear();
        for (number, run) in self.runs.iter().enumerate() {
            let Some(key) = run.key() else { continue };
            let order = first.map_or(std::cmp::Ordering::Less, |(prefix, first, _)| {
                run.key_prefix.cmp(&prefix).then_with(|| key.cmp(first))
            });
            match order {
                std::cmp::Ordering::Less => {
                    first = Some((run.key_prefix, key, Source::Run(number)));
                    self.outdated.clear();
                }
                std::cmp::Ordering::Equal => self.outdated.push(number),
                std::cmp::Ordering::Greater => {}
            }
        }
        self.taken = first.map(|(_, _, source)| source);
        for number in &self.outdated {
            self.runs[*number].advance()?;
        }
        // Whether the file has the key is known of the oldest change.
        let is_only = self.outdated.is_empty();
        let change = match self.taken {
            None => return Ok(None),
            Some(Source::Flush) => self.next,
            Some(Source::Run(number)) => self.runs[number].change(self.table),
        };
        Ok(change.map(|(prefix, change)| {
            let fresh = change.fresh && is_only;
            (prefix, RowChange { fresh, ..change })
        }))
    }
}

fn with_prefix(change: RowChange<'_>) -> (u128, RowChange<'_>) {
    (key_prefix::of(change.key), change)
}

/// Goes over a table's entries in one run.
struct RunCursor {
    run: Arc<Run>,
    /// What is not in the buffer yet.
    rest: Range<u64>,
    buffer: Vec<u8>,
    /// The entry it stands at; none at the end.
    entry: Option<Entry>,
    key_prefix: u128,
}

impl RunCursor {
    fn open(run: &Arc<Run>, table: u16) -> Result<Option<Self>, ReadModelError> {
        let found = run.tables.get(&table);
        let Some((table, first)) = found.and_then(|it| Some((it, it.blocks.first()?))) else {
            return Ok(None);
        };
        let mut cursor = Self {
            run: run.clone(),
            rest: first.start..table.end,
            buffer: Vec::new(),
            entry: None,
            key_prefix: 0,
        };
        cursor.go_to(0)?;
        Ok(Some(cursor))
    }

    fn advance(&mut self) -> Result<(), ReadModelError> {
        match self.entry {
            Some(entry) => self.go_to(entry.end),
            None => Ok(()),
        }
    }

    /// Stands at the entry at a place of the buffer, which is filled if need be.
    fn go_to(&mut self, mut at: usize) -> Result<(), ReadModelError> {
        loop {
            self.entry = Entry::read(&self.buffer, at);
            if let Some(entry) = self.entry {
                self.key_prefix = key_prefix::of(&self.buffer[entry.key..entry.row]);
                return Ok(());
            }
            if self.rest.is_empty() {
                return Ok(());
            }
            self.buffer.drain(..at);
            at = 0;
            let had = self.buffer.len();
            // An entry that is longer than a piece takes several.
            let piece = (self.rest.end - self.rest.start).min(PIECE_BYTES.max(had) as u64);
            let piece = usize::try_from(piece).expect("it is no more than fits");
            self.buffer.resize(had + piece, 0);
            self.run
                .file
                .read_exact_at(&mut self.buffer[had..], self.rest.start)
                .map_err(|error| io_fault(&self.run.path, Doing::Read, error))?;
            self.rest.start += piece as u64;
        }
    }

    fn key(&self) -> Option<&[u8]> {
        self.entry.map(|entry| &self.buffer[entry.key..entry.row])
    }

    fn change(&self, table: u16) -> Option<(u128, RowChange<'_>)> {
        let entry = self.entry?;
        let change = RowChange {
            table,
            key: &self.buffer[entry.key..entry.row],
            row: entry.row_in(&self.buffer),
            fresh: entry.flags & FRESH != 0,
        };
        Some((self.key_prefix, change))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Rows by key; none was deleted.
    type Flushed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn flushed() -> impl Strategy<Value = Flushed> {
        // Some keys begin alike for longer than a prefix, and some rows are longer than a piece.
        let key = prop_oneof![
            prop::collection::vec(0..3u8, 0..5),
            prop::collection::vec(0..2u8, 0..3).prop_map(|end| [vec![7; 16], end].concat()),
        ];
        let row = prop_oneof![
            20 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (0..2 * PIECE_BYTES).prop_map(|length| vec![9; length]),
            2 => (0..9_000_usize).prop_map(|length| vec![8; length]),
        ];
        prop::collection::btree_map(key, prop::option::weighted(0.8, row), 0..30)
    }

    fn changes(flushed: &Flushed, fresh: bool) -> Changes<'_> {
        Box::new(flushed.iter().map(move |(key, row)| RowChange {
            table: 3,
            key,
            row: row.as_deref(),
            fresh,
        }))
    }

    proptest! {
        #[test]
        fn the_newest_change_of_each_key_counts(
            runs in prop::collection::vec(flushed(), 0..5),
            last in prop::option::of(flushed()),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.db");
            let write = |flushed| Run::write(&path, vec![(3, changes(flushed, false))]);
            let written: Vec<_> = runs.iter().map(|run| Arc::new(write(run).unwrap())).collect();
            let mut expected = Flushed::new();
            for (run, written) in runs.iter().zip(&written) {
                for key in expected.keys().chain(run.keys()) {
                    prop_assert_eq!(written.get(3, key).unwrap(), run.get(key).cloned());
                }
                prop_assert_eq!(written.get(2, b"").unwrap(), None);
                expected.extend(run.clone());
            }
            expected.extend(last.clone().unwrap_or_default());
            let last = last.as_ref().map(|it| changes(it, false));
            let mut merged = SortedChanges::new(3, last, &written).unwrap();
            for (key, row) in &expected {
                let (prefix, change) = merged.next().unwrap().expect("one more");
                prop_assert_eq!((change.table, change.key), (3, &**key));
                prop_assert_eq!(change.row, row.as_deref());
                prop_assert_eq!(prefix, key_prefix::of(key));
            }
            prop_assert!(merged.next().unwrap().is_none());
        }
    }

    #[test]
    fn only_a_change_without_older_ones_is_known_to_be_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.db");
        let of = |keys: &[&[u8]]| -> Flushed {
            keys.iter()
                .map(|key| (key.to_vec(), Some(vec![1])))
                .collect()
        };
        let (old, new) = (of(&[b"a", b"b"]), of(&[b"b", b"c"]));
        let run = Run::write(&path, vec![(3, changes(&old, true))]).unwrap();
        let runs = [Arc::new(run)];
        let mut merged = SortedChanges::new(3, Some(changes(&new, true)), &runs).unwrap();
        for expected in [(b"a", true), (b"b", false), (b"c", true)] {
            let (_, change) = merged.next().unwrap().unwrap();
            assert_eq!(
                (change.key, change.fresh),
                (expected.0.as_slice(), expected.1)
            );
        }
    }
}
