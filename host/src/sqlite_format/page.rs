//! Pages of B-trees: reading those of tables, and filling those of tables and indexes.

use super::{Malformed, varint};

const TABLE_INTERIOR: u8 = 0x05;
const TABLE_LEAF: u8 = 0x0d;
const INDEX_INTERIOR: u8 = 0x02;
const INDEX_LEAF: u8 = 0x0a;
/// The database's own header, at the beginning of page 1.
const FILE_HEADER_BYTES: usize = 100;
const LEAF_HEADER_BYTES: usize = 8;
const INTERIOR_HEADER_BYTES: usize = 12;

/// Where the file's header says how much of each page is left to others.
const RESERVED: usize = 20;
/// Of the smallest page with the largest reserve.
const USABLE_BYTES_MIN: usize = 480;

/// Bytes of a page that hold content, from the database's first page.
pub(super) fn usable_bytes(first: &[u8]) -> Result<usize, Malformed> {
    let reserved = first.get(RESERVED).map(|bytes| usize::from(*bytes));
    reserved
        .and_then(|reserved| first.len().checked_sub(reserved))
        .filter(|usable| *usable >= USABLE_BYTES_MIN)
        .ok_or(Malformed {
            page: 1,
            reason: "it is no header",
        })
}

/// What a page's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageHead {
    number: u32,
    kind: PageKind,
    /// Where the places of the cells begin.
    pointers: usize,
    pub(super) cells: usize,
}

impl Default for PageHead {
    /// Of no page.
    fn default() -> Self {
        Self {
            number: 0,
            kind: PageKind::TableLeaf,
            pointers: 0,
            cells: 0,
        }
    }
}

impl PageHead {
    pub(super) fn of(number: u32, bytes: &[u8]) -> Result<Self, Malformed> {
        let header = if number == 1 { FILE_HEADER_BYTES } else { 0 };
        let malformed = |reason| Malformed {
            page: number,
            reason,
        };
        let head = bytes.get(header..header + INTERIOR_HEADER_BYTES);
        let head = head.ok_or(malformed("it is too short"))?;
        let kind = PageKind::of(head[0]).ok_or(malformed("it is of no B-tree"))?;
        Ok(Self {
            number,
            kind,
            pointers: header + kind.header_bytes(),
            cells: usize::from(u16::from_be_bytes([head[3], head[4]])),
        })
    }

    #[inline]
    pub(super) fn is_leaf(self) -> bool {
        matches!(self.kind, PageKind::TableLeaf | PageKind::IndexLeaf)
    }

    pub(super) fn is_of_a_table(self) -> bool {
        matches!(self.kind, PageKind::TableLeaf | PageKind::TableInterior)
    }

    pub(super) fn malformed(self, reason: &'static str) -> Malformed {
        Malformed {
            page: self.number,
            reason,
        }
    }
}

/// A page whose header was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) head: PageHead,
    pub(super) bytes: &'a [u8],
}

/// What a cell holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a> {
    /// 0 where there is none.
    pub(super) rowid: i64,
    /// The whole record's length.
    pub(super) record_bytes: usize,
    /// Its beginning, or all of it.
    pub(super) local: &'a [u8],
    /// The page with the rest.
    pub(super) overflow: Option<u32>,
}

impl<'a> Page<'a> {
    /// The child before a cell, or, for the number of cells, the one behind all of them.
    pub(super) fn child(&self, at: usize) -> Result<u32, Malformed> {
        let bytes = if at == self.head.cells {
            // The last four bytes of the header.
            self.bytes.get(self.head.pointers - 4..)
        } else {
            Some(self.cell(at)?)
        };
        self.number_at(bytes)
    }

    /// Of a table: the rowid of a row, or the last one that the child before a cell may have.
    pub(super) fn last_rowid(&self, at: usize) -> Result<i64, Malformed> {
        let cell = self.cell(at)?;
        let before = if self.head.is_leaf() {
            self.varint(cell)?.1
        } else {
            4
        };
        let rowid = cell.get(before..).unwrap_or_default();
        Ok(self.varint(rowid)?.0.cast_signed())
    }

    /// A row of a table's leaf. `usable`: bytes of a page that hold content.
    #[inline(always)]
    pub(super) fn row(&self, at: usize, usable: usize) -> Result<Cell<'a>, Malformed> {
        let cell = self.cell(at)?;
        let (record_bytes, first) = self.varint(cell)?;
        let (rowid, second) = self.varint(&cell[first..])?;
        let content = &cell[first + second..];
        let record_bytes = self.record_bytes(record_bytes)?;
        let local = local_bytes_of_row(record_bytes, usable);
        self.with_content(rowid.cast_signed(), record_bytes, local, content)
    }

    /// An entry of an index.
    pub(super) fn entry(&self, at: usize, usable: usize) -> Result<Cell<'a>, Malformed> {
        let cell = self.cell(at)?;
        let child = if self.head.is_leaf() { 0 } else { 4 };
        let entry = cell.get(child..).unwrap_or_default();
        let (record_bytes, first) = self.varint(entry)?;
        let record_bytes = self.record_bytes(record_bytes)?;
        let local = local_bytes_of_entry(record_bytes, usable);
        self.with_content(0, record_bytes, local, &entry[first..])
    }

    #[inline]
    fn with_content(
        &self,
        rowid: i64,
        record_bytes: usize,
        local_bytes: usize,
        content: &'a [u8],
    ) -> Result<Cell<'a>, Malformed> {
        let (local, rest) = content
            .split_at_checked(local_bytes)
            .ok_or_else(|| self.malformed("a record is cut off"))?;
        let overflow = (local_bytes < record_bytes).then(|| self.number_at(Some(rest)));
        Ok(Cell {
            rowid,
            record_bytes,
            local,
            overflow: overflow.transpose()?,
        })
    }

    #[inline]
    fn varint(&self, bytes: &[u8]) -> Result<(u64, usize), Malformed> {
        varint::read(bytes).ok_or_else(|| self.malformed("a cell is cut off"))
    }

    #[cold]
    fn malformed(&self, reason: &'static str) -> Malformed {
        self.head.malformed(reason)
    }

    #[inline]
    fn record_bytes(&self, bytes: u64) -> Result<usize, Malformed> {
        let bytes = usize::try_from(bytes).ok();
        bytes
            .filter(|bytes| *bytes <= RECORD_BYTES_MAX)
            .ok_or_else(|| self.malformed("a record is longer than can be"))
    }

    /// From a cell's beginning to the end of the page.
    #[inline]
    fn cell(&self, at: usize) -> Result<&'a [u8], Malformed> {
        let pointer = self.head.pointers + 2 * at;
        let pointer = self.bytes.get(pointer..pointer + 2);
        let start = pointer.map(|it| usize::from(u16::from_be_bytes([it[0], it[1]])));
        start
            .filter(|_| at < self.head.cells)
            .and_then(|start| self.bytes.get(start..))
            .ok_or_else(|| self.malformed("a cell lies outside of it"))
    }

    #[inline]
    fn number_at(&self, bytes: Option<&[u8]>) -> Result<u32, Malformed> {
        let number = bytes.and_then(<[u8]>::first_chunk).copied();
        number
            .map(u32::from_be_bytes)
            .ok_or_else(|| self.malformed("a cell is cut off"))
    }
}

/// SQLite's own limit on a row.
const RECORD_BYTES_MAX: usize = 1_000_000_000;

/// How much of a record a table's leaf keeps on the page itself.
#[inline]
pub(super) fn local_bytes_of_row(record_bytes: usize, usable: usize) -> usize {
    local_bytes(record_bytes, usable, usable - 35)
}

/// How much of a record an index's page keeps on the page itself: each has room for four.
pub(super) fn local_bytes_of_entry(record_bytes: usize, usable: usize) -> usize {
    local_bytes(record_bytes, usable, (usable - 12) * 64 / 255 - 23)
}

#[inline]
fn local_bytes(record_bytes: usize, usable: usize, most: usize) -> usize {
    if record_bytes <= most {
        return record_bytes;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let kept = least + (record_bytes - least) % (usable - 4);
    if kept <= most { kept } else { least }
}

/// What a page is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    TableLeaf,
    TableInterior,
    IndexLeaf,
    IndexInterior,
}

impl PageKind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::TableLeaf,
            Self::TableInterior,
            Self::IndexLeaf,
            Self::IndexInterior,
        ]
        .into_iter()
        .find(|kind| kind.byte() == byte)
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::TableLeaf | Self::IndexLeaf => LEAF_HEADER_BYTES,
            Self::TableInterior | Self::IndexInterior => INTERIOR_HEADER_BYTES,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::TableLeaf => TABLE_LEAF,
            Self::TableInterior => TABLE_INTERIOR,
            Self::IndexLeaf => INDEX_LEAF,
            Self::IndexInterior => INDEX_INTERIOR,
        }
    }
}

/// SQLite gives no cell less room.
const CELL_BYTES_MIN: usize = 4;

/// A page that is being filled: cells from its end downwards, and where each begins from its header
/// upwards.
#[derive(Debug)]
pub(super) struct PageBuilder {
    kind: PageKind,
    bytes: Vec<u8>,
    cells: usize,
    /// Where the last cell begins.
    content: usize,
    /// Of the last cell, padding left out.
    last_bytes: usize,
}

impl PageBuilder {
    pub(super) fn new(kind: PageKind, page_bytes: usize) -> Self {
        Self {
            kind,
            bytes: vec![0; page_bytes],
            cells: 0,
            content: page_bytes,
            last_bytes: 0,
        }
    }

    /// An empty page like this one.
    pub(super) fn another(&self) -> Self {
        Self::new(self.kind, self.bytes.len())
    }

    pub(super) fn clear(&mut self) {
        self.cells = 0;
        self.content = self.bytes.len();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells == 0
    }

    /// Whether there is room for a cell of so many bytes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.pointers_end() + 2 + bytes.max(CELL_BYTES_MIN) <= self.content
    }

    /// Adds a cell behind the others: the child before it, if the page has children, and its entry.
    pub(super) fn push(&mut self, child: Option<u32>, entry: &[u8]) {
        let child = child.map(u32::to_be_bytes);
        let child = child.as_ref().map_or([].as_slice(), |child| child);
        let bytes = child.len() + entry.len();
        let start = self.content - bytes.max(CELL_BYTES_MIN);
        let cell = &mut self.bytes[start..self.content];
        cell[..child.len()].copy_from_slice(child);
        cell[child.len()..bytes].copy_from_slice(entry);
        cell[bytes..].fill(0);
        let pointer = self.pointers_end();
        self.bytes[pointer..pointer + 2].copy_from_slice(&page_offset(start));
        self.cells += 1;
        self.content = start;
        self.last_bytes = bytes;
    }

    /// Takes the last cell off again: its child and its entry. Once, right after it was pushed.
    pub(super) fn pop(&mut self) -> (Option<u32>, Vec<u8>) {
        let cell = &self.bytes[self.content..self.content + self.last_bytes];
        let taken = match (self.kind, cell.split_first_chunk()) {
            (PageKind::TableInterior | PageKind::IndexInterior, Some((child, entry))) => {
                (Some(u32::from_be_bytes(*child)), entry.to_vec())
            }
            _ => (None, cell.to_vec()),
        };
        self.content += self.last_bytes.max(CELL_BYTES_MIN);
        self.cells -= 1;
        taken
    }

    /// The page as the file shall have it. `right`: the child behind all cells.
    pub(super) fn finish(&mut self, right: Option<u32>) -> &[u8] {
        let header = self.kind.header_bytes();
        let (cells, content) = (page_offset(self.cells), page_offset(self.content));
        self.bytes[..header].fill(0);
        self.bytes[0] = self.kind.byte();
        self.bytes[3..5].copy_from_slice(&cells);
        self.bytes[5..7].copy_from_slice(&content);
        if let Some(right) = right {
            self.bytes[8..12].copy_from_slice(&right.to_be_bytes());
        }
        let free = self.pointers_end()..self.content;
        self.bytes[free].fill(0);
        &self.bytes
    }

    fn pointers_end(&self) -> usize {
        self.kind.header_bytes() + 2 * self.cells
    }
}

/// A place on a page, or a count of what is on it. SQLite writes 65,536 as 0.
fn page_offset(place: usize) -> [u8; 2] {
    let [.., high, low] = place.to_be_bytes();
    [high, low]
}
