//! Laying out B-trees from entries that come in order. Pages are filled one after the other, and so
//! are those above them, so that a file is written from front to back.

use super::page::{PageBuilder, PageKind, local_bytes_of_entry, local_bytes_of_row};
use super::varint;

/// Where finished pages go.
pub(crate) trait PageSink {
    type Error;

    /// Bytes of a page, all of which hold content.
    fn page_bytes(&self) -> usize;

    /// Puts a page at the end and gives its number.
    fn append(&mut self, page: &[u8]) -> Result<u32, Self::Error>;

    /// Puts a page in the place of one that is there.
    fn replace(&mut self, number: u32, page: &[u8]) -> Result<(), Self::Error>;
}

/// A table with rowids, being laid out.
#[derive(Debug)]
pub(crate) struct TableWriter {
    leaf: PageBuilder,
    above: Levels,
    last_rowid: i64,
    cell: Vec<u8>,
}

/// An index, or a table without rowids, being laid out.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    levels: Levels,
    cell: Vec<u8>,
}

impl TableWriter {
    pub(crate) fn new(page_bytes: usize) -> Self {
        Self {
            leaf: PageBuilder::new(PageKind::TableLeaf, page_bytes),
            above: Levels::new(PageKind::TableInterior, PageKind::TableInterior),
            last_rowid: 0,
            cell: Vec::new(),
        }
    }

    /// Adds a row; each rowid is larger than the one before.
    pub(crate) fn push<S: PageSink>(
        &mut self,
        sink: &mut S,
        rowid: i64,
        record: &[u8],
    ) -> Result<(), S::Error> {
        self.cell.clear();
        varint::push(&mut self.cell, record.len() as u64);
        varint::push(&mut self.cell, rowid.cast_unsigned());
        let local = local_bytes_of_row(record.len(), sink.page_bytes());
        push_record(sink, &mut self.cell, record, local)?;
        if !self.leaf.fits(self.cell.len()) {
            let child = sink.append(self.leaf.finish(None))?;
            self.leaf.clear();
            let mut separator = Vec::new();
            varint::push(&mut separator, self.last_rowid.cast_unsigned());
            self.above.push(sink, 0, Some(child), &separator)?;
        }
        self.leaf.push(None, &self.cell);
        self.last_rowid = rowid;
        Ok(())
    }

    /// Puts the root into its place; the tree is complete.
    pub(crate) fn finish<S: PageSink>(mut self, sink: &mut S, root: u32) -> Result<(), S::Error> {
        if self.above.is_empty() {
            return sink.replace(root, self.leaf.finish(None));
        }
        let last = sink.append(self.leaf.finish(None))?;
        self.above.finish(sink, root, Some(last))
    }
}

impl IndexWriter {
    pub(crate) fn new(page_bytes: usize) -> Self {
        let mut levels = Levels::new(PageKind::IndexLeaf, PageKind::IndexInterior);
        levels.add_level(page_bytes);
        Self {
            levels,
            cell: Vec::new(),
        }
    }

    /// Adds a record that comes after the ones before.
    pub(crate) fn push<S: PageSink>(
        &mut self,
        sink: &mut S,
        record: &[u8],
    ) -> Result<(), S::Error> {
        self.cell.clear();
        varint::push(&mut self.cell, record.len() as u64);
        let local = local_bytes_of_entry(record.len(), sink.page_bytes());
        push_record(sink, &mut self.cell, record, local)?;
        self.levels.push(sink, 0, None, &self.cell)
    }

    /// Puts the root into its place; the tree is complete.
    pub(crate) fn finish<S: PageSink>(self, sink: &mut S, root: u32) -> Result<(), S::Error> {
        self.levels.finish(sink, root, None)
    }
}

/// Appends what of a record the cell itself keeps, and the number of the page with the rest.
fn push_record<S: PageSink>(
    sink: &mut S,
    cell: &mut Vec<u8>,
    record: &[u8],
    local: usize,
) -> Result<(), S::Error> {
    let (kept, spilled) = record.split_at(local);
    cell.extend_from_slice(kept);
    if spilled.is_empty() {
        return Ok(());
    }
    // Each page names the next one, so the last one is written first.
    let mut next = 0_u32;
    let mut page = vec![0; sink.page_bytes()];
    for content in spilled.chunks(page.len() - 4).rev() {
        page[..4].copy_from_slice(&next.to_be_bytes());
        page[4..4 + content.len()].copy_from_slice(content);
        page[4 + content.len()..].fill(0);
        next = sink.append(&page)?;
    }
    cell.extend_from_slice(&next.to_be_bytes());
    Ok(())
}

/// The levels of a tree whose pages take no part in what they are told apart by: of two pages that
/// lie side by side, the page above has the entry that is between them.
#[derive(Debug)]
struct Levels {
    lowest: PageKind,
    others: PageKind,
    all: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// Being filled.
    page: PageBuilder,
    /// The page before, until there is a cell behind it: no page may be without cells.
    full: Option<Full>,
}

#[derive(Debug)]
struct Full {
    page: PageBuilder,
    /// Its last child, if it has children.
    right: Option<u32>,
    /// What stands between it and the next page.
    separator: Vec<u8>,
}

impl Levels {
    fn new(lowest: PageKind, others: PageKind) -> Self {
        Self {
            lowest,
            others,
            all: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn add_level(&mut self, page_bytes: usize) {
        let kind = if self.all.is_empty() {
            self.lowest
        } else {
            self.others
        };
        self.all.push(Level {
            page: PageBuilder::new(kind, page_bytes),
            full: None,
        });
    }

    /// Adds an entry, with the child that holds what comes before it.
    fn push<S: PageSink>(
        &mut self,
        sink: &mut S,
        level: usize,
        child: Option<u32>,
        entry: &[u8],
    ) -> Result<(), S::Error> {
        if level == self.all.len() {
            self.add_level(sink.page_bytes());
        }
        let Level { page, full } = &mut self.all[level];
        let bytes = entry.len() + child.map_or(0, |_| 4);
        if !page.is_empty() && !page.fits(bytes) {
            let next = page.another();
            *full = Some(Full {
                page: std::mem::replace(page, next),
                right: child,
                separator: entry.to_vec(),
            });
            return Ok(());
        }
        page.push(child, entry);
        match full.take() {
            Some(full) => self.put_away(sink, level, full),
            None => Ok(()),
        }
    }

    /// Writes a page that has a page with cells behind it.
    fn put_away<S: PageSink>(
        &mut self,
        sink: &mut S,
        level: usize,
        mut full: Full,
    ) -> Result<(), S::Error> {
        let number = sink.append(full.page.finish(full.right))?;
        self.push(sink, level + 1, Some(number), &full.separator)
    }

    /// `right`: what comes after everything that was pushed to the lowest level.
    fn finish<S: PageSink>(
        mut self,
        sink: &mut S,
        root: u32,
        mut right: Option<u32>,
    ) -> Result<(), S::Error> {
        let mut level = 0;
        loop {
            if let Some(mut full) = self.all[level].full.take() {
                // Nothing came behind it: its last entry separates it from the one after that.
                let (child, entry) = full.page.pop();
                let page = &mut self.all[level].page;
                page.push(full.right, &full.separator);
                full.right = child;
                full.separator = entry;
                self.put_away(sink, level, full)?;
            }
            let is_top = level + 1 == self.all.len();
            let page = self.all[level].page.finish(right);
            if is_top {
                return sink.replace(root, page);
            }
            right = Some(sink.append(page)?);
            level += 1;
        }
    }
}
