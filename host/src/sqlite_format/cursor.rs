//! Going over the rows of a table by their rowids, and over the entries of an index, or of a table
//! without rowids, in their order.

use super::Malformed;
use super::ahead::PageRun;
use super::database::{DatabasePages, PageError};
use super::page::{Cell, Page, PageHead, usable_bytes};

type Result<T> = std::result::Result<T, PageError>;

/// A B-tree of the smallest pages is less deep than this, whatever it holds.
const DEPTH_MAX: usize = 24;

/// A place in the B-tree of a table with rowids. Buffers are kept from one search to the next.
#[derive(Debug, Default)]
pub(crate) struct TableCursor {
    /// From the root down to the leaf, as far as `depth`.
    path: Vec<Level>,
    depth: usize,
    records: Records,
}

/// A place in the B-tree of an index.
#[derive(Debug, Default)]
pub(crate) struct IndexCursor {
    path: Vec<Level>,
    depth: usize,
    records: Records,
}

#[derive(Debug, Default)]
struct Level {
    head: PageHead,
    run: PageRun,
    /// Of a leaf the next cell, of others the child that was descended into.
    at: usize,
    /// Of an index's other pages: the entry before the child was visited, and the child not yet.
    is_between: bool,
}

impl Level {
    fn page(&self) -> Page<'_> {
        Page {
            head: self.head,
            bytes: self.run.page(),
        }
    }
}

impl TableCursor {
    /// Goes to the first row, or to the first one behind a rowid, in a transaction that just began.
    pub(crate) fn seek(
        &mut self,
        pages: &mut DatabasePages<'_>,
        root: u32,
        after: Option<i64>,
    ) -> Result<()> {
        begin(&mut self.path, &mut self.records, pages)?;
        self.seek_again(pages, root, after)
    }

    /// Like [`seek`](Self::seek), once it was called in this transaction: pages at hand are not read
    /// again.
    pub(crate) fn seek_again(
        &mut self,
        pages: &mut DatabasePages<'_>,
        root: u32,
        after: Option<i64>,
    ) -> Result<()> {
        self.depth = 0;
        self.descend(pages, root, after)
    }

    /// The next row: its rowid and its record. None at the end of the table.
    #[inline(always)]
    pub(crate) fn next(&mut self, pages: &mut DatabasePages<'_>) -> Result<Option<(i64, &[u8])>> {
        if !self.find_row(pages)? {
            return Ok(None);
        }
        let level = &mut self.path[self.depth - 1];
        let page = Page {
            head: level.head,
            bytes: level.run.page(),
        };
        let cell = page.row(level.at, self.records.usable)?;
        level.at += 1;
        let record = self.records.whole(pages, &cell)?;
        Ok(Some((cell.rowid, record)))
    }

    /// Goes on to the next leaf where this one has no more rows; `false` at the end of the table.
    #[inline(always)]
    fn find_row(&mut self, pages: &mut DatabasePages<'_>) -> Result<bool> {
        match self.path[..self.depth].last() {
            Some(leaf) if leaf.at < leaf.head.cells && leaf.head.is_leaf() => Ok(true),
            _ => self.find_leaf(pages),
        }
    }

    #[inline(never)]
    fn find_leaf(&mut self, pages: &mut DatabasePages<'_>) -> Result<bool> {
        while self.depth > 0 {
            let level = &mut self.path[self.depth - 1];
            let head = level.head;
            if level.at == head.cells {
                self.depth -= 1;
            } else if head.is_leaf() {
                return Ok(true);
            } else {
                level.at += 1;
                let child = level.page().child(level.at)?;
                self.descend(pages, child, None)?;
            }
        }
        Ok(false)
    }

    /// Goes down from a page to the leaf with the first row behind `after`, or the very first one.
    fn descend(
        &mut self,
        pages: &mut DatabasePages<'_>,
        from: u32,
        after: Option<i64>,
    ) -> Result<()> {
        let mut number = from;
        loop {
            let level = enter(&mut self.path, self.depth, pages, number)?;
            if !level.head.is_of_a_table() {
                return Err(level.head.malformed("it is none of a table's").into());
            }
            if let Some(after) = after {
                level.at = first_behind(&level.page(), after)?;
            }
            self.depth += 1;
            if level.head.is_leaf() {
                return Ok(());
            }
            number = level.page().child(level.at)?;
        }
    }
}

impl IndexCursor {
    /// Goes to the first entry.
    pub(crate) fn seek(&mut self, pages: &mut DatabasePages<'_>, root: u32) -> Result<()> {
        begin(&mut self.path, &mut self.records, pages)?;
        self.depth = 0;
        self.descend(pages, root)
    }

    /// The next entry's record. None at the end.
    pub(crate) fn next(&mut self, pages: &mut DatabasePages<'_>) -> Result<Option<&[u8]>> {
        if !self.find_entry(pages)? {
            return Ok(None);
        }
        let level = &mut self.path[self.depth - 1];
        let page = Page {
            head: level.head,
            bytes: level.run.page(),
        };
        let cell = page.entry(level.at, self.records.usable)?;
        level.at += 1;
        level.is_between = !level.head.is_leaf();
        self.records.whole(pages, &cell).map(Some)
    }

    /// Goes on to the page with the next entry; `false` at the end.
    fn find_entry(&mut self, pages: &mut DatabasePages<'_>) -> Result<bool> {
        while self.depth > 0 {
            let level = &mut self.path[self.depth - 1];
            if std::mem::take(&mut level.is_between) {
                let child = level.page().child(level.at)?;
                self.descend(pages, child)?;
            } else if level.at == level.head.cells {
                self.depth -= 1;
            } else {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Goes down from a page to its first leaf.
    fn descend(&mut self, pages: &mut DatabasePages<'_>, from: u32) -> Result<()> {
        let mut number = from;
        loop {
            let level = enter(&mut self.path, self.depth, pages, number)?;
            if level.head.is_of_a_table() {
                return Err(level.head.malformed("it is none of an index's").into());
            }
            self.depth += 1;
            if level.head.is_leaf() {
                return Ok(());
            }
            number = level.page().child(0)?;
        }
    }
}

/// Begins in a transaction.
fn begin(path: &mut [Level], records: &mut Records, pages: &mut DatabasePages<'_>) -> Result<()> {
    for level in path {
        level.run.forget();
    }
    records.begin(pages)
}

/// The level below `depth` others, with a page.
fn enter<'p>(
    path: &'p mut Vec<Level>,
    depth: usize,
    pages: &mut DatabasePages<'_>,
    number: u32,
) -> Result<&'p mut Level> {
    if depth == DEPTH_MAX {
        let reason = "it lies deeper than a tree can be";
        return Err(Malformed {
            page: number,
            reason,
        }
        .into());
    }
    if path.len() == depth {
        path.push(Level::default());
    }
    let level = &mut path[depth];
    pages.read(number, &mut level.run)?;
    level.head = PageHead::of(number, level.run.page())?;
    level.at = 0;
    level.is_between = false;
    Ok(level)
}

/// The first cell of a table's page that has rows behind `after`, or the number of cells.
fn first_behind(page: &Page<'_>, after: i64) -> std::result::Result<usize, Malformed> {
    let (mut low, mut high) = (0, page.head.cells);
    while low < high {
        let middle = usize::midpoint(low, high);
        if page.last_rowid(middle)? > after {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

/// Puts records together that do not fit on one page.
#[derive(Debug, Default)]
struct Records {
    /// Bytes of a page that hold content.
    usable: usize,
    record: Vec<u8>,
    run: PageRun,
}

impl Records {
    fn begin(&mut self, pages: &mut DatabasePages<'_>) -> Result<()> {
        self.run.forget();
        pages.read(1, &mut self.run)?;
        self.usable = usable_bytes(self.run.page())?;
        Ok(())
    }

    #[inline(always)]
    fn whole<'a>(&'a mut self, pages: &mut DatabasePages<'_>, cell: &Cell<'a>) -> Result<&'a [u8]> {
        match cell.overflow {
            None => Ok(cell.local),
            Some(first) => self.put_together(pages, cell, first),
        }
    }

    #[inline(never)]
    fn put_together(
        &mut self,
        pages: &mut DatabasePages<'_>,
        cell: &Cell<'_>,
        first: u32,
    ) -> Result<&[u8]> {
        let mut number = first;
        self.record.clear();
        self.record.extend_from_slice(cell.local);
        while self.record.len() < cell.record_bytes {
            pages.read(number, &mut self.run)?;
            let page = self.run.page();
            let wanted = (cell.record_bytes - self.record.len()).min(self.usable - 4);
            let content = page.get(4..4 + wanted);
            let (Some(next), Some(content)) = (page.first_chunk(), content) else {
                let reason = "it is too short";
                return Err(Malformed {
                    page: number,
                    reason,
                }
                .into());
            };
            self.record.extend_from_slice(content);
            number = u32::from_be_bytes(*next);
        }
        Ok(&self.record)
    }
}
