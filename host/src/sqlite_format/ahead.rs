//! Reading pages straight from the database file, and where they are wanted one after the other many at
//! once, before they are asked for. What it costs to have SQLite read them one by one, beside the
//! copying, is more than what is done with most pages.

use rusqlite::{Connection, TransactionState};

use super::file::OpenFile;
use super::wal::WalPages;

/// Pages that are read at once, at most.
const PAGES_AT_ONCE: u32 = 16;
/// Pages that may be left out between two that are asked for one after the other: those of other trees.
const GAP_PAGES: u32 = 8;

/// Where the file's header says how large its pages are, and whether it has a WAL.
const HEADER_BYTES: usize = 20;
const PAGE_BYTES: usize = 16;
const WRITE_VERSION: usize = 18;
const READ_VERSION: usize = 19;
const VERSION_WITH_WAL: u8 = 2;

/// Which pages of a database in WAL mode a transaction finds in the file. What was learned of the WAL is
/// kept for the next transaction.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    wal: WalPages,
    order: PageOrder,
    page_bytes: usize,
    /// Pages in the file; 0 where none may be taken from it.
    pages: u32,
}

/// How the pages will be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PageOrder {
    /// Almost all of them, as they lie: many are read at once.
    #[default]
    Sequential,
    /// Few of them: each is read by itself.
    Scattered,
}

/// Pages that follow each other, one of which is the page at hand.
#[derive(Debug, Default)]
pub(crate) struct PageRun {
    bytes: Vec<u8>,
    page_bytes: usize,
    first: u32,
    pages: u32,
    /// 0: none.
    at_hand: u32,
}

impl ReadAhead {
    /// Begins with the connection's transaction. Only where it has read something is its moment fixed,
    /// and only where it has changed nothing do all its pages lie in files.
    pub(super) fn begin(
        &mut self,
        connection: &Connection,
        order: PageOrder,
    ) -> rusqlite::Result<()> {
        self.pages = 0;
        self.order = order;
        if connection.transaction_state(Some(c"main"))? != TransactionState::Read {
            return Ok(());
        }
        let file = OpenFile::database(connection);
        let size = file.size()?;
        let mut header = [0; HEADER_BYTES];
        if !file.read(0, &mut header)? {
            return Ok(());
        }
        if [header[WRITE_VERSION], header[READ_VERSION]] != [VERSION_WITH_WAL; 2] {
            return Ok(());
        }
        self.page_bytes = match u16::from_be_bytes([header[PAGE_BYTES], header[PAGE_BYTES + 1]]) {
            1 => 65_536,
            bytes => usize::from(bytes),
        };
        if !self.page_bytes.is_power_of_two() {
            return Ok(());
        }
        self.wal.look(connection, self.page_bytes)?;
        self.pages = u32::try_from(size / self.page_bytes as u64).unwrap_or_default();
        Ok(())
    }

    /// Turns a run to a page, which it has or is about to need; `false` where SQLite has to be asked.
    pub(super) fn turn(
        &self,
        connection: &Connection,
        number: u32,
        run: &mut PageRun,
    ) -> rusqlite::Result<bool> {
        if number == 0 || number > self.pages || self.wal.has(number) {
            return Ok(false);
        }
        if !run.has(number) {
            let gap = number.wrapping_sub(run.at_hand);
            let is_next = run.at_hand > 0 && (1..=GAP_PAGES).contains(&gap);
            let pages = match self.order {
                PageOrder::Sequential if is_next => PAGES_AT_ONCE,
                _ => 1,
            };
            if !self.read(connection, number, pages, run)? {
                return Ok(false);
            }
        }
        run.at_hand = number;
        Ok(true)
    }

    /// Reads a run of so many pages that begins with this one; `false` where the file has become shorter.
    fn read(
        &self,
        connection: &Connection,
        first: u32,
        pages: u32,
        run: &mut PageRun,
    ) -> rusqlite::Result<bool> {
        let pages = pages.min(self.pages - first + 1);
        let bytes = pages as usize * self.page_bytes;
        run.pages = 0;
        if run.bytes.len() < bytes {
            run.bytes.resize(bytes, 0);
        }
        let at = u64::from(first - 1) * self.page_bytes as u64;
        if !OpenFile::database(connection).read(at, &mut run.bytes[..bytes])? {
            return Ok(false);
        }
        (run.first, run.pages, run.page_bytes) = (first, pages, self.page_bytes);
        Ok(true)
    }
}

impl PageRun {
    /// What was read belongs to a transaction that is over.
    pub(super) fn forget(&mut self) {
        (self.first, self.pages, self.at_hand) = (0, 0, 0);
    }

    /// Makes it one page, which is at hand; an empty one where there is no such page.
    pub(super) fn set(&mut self, number: u32, page: &[u8]) {
        // The rest stays: to clear all that a run may have, again and again, would cost more.
        if self.bytes.len() < page.len() {
            self.bytes.resize(page.len(), 0);
        }
        self.bytes[..page.len()].copy_from_slice(page);
        (self.first, self.pages, self.at_hand) = (number, 1, number);
        self.page_bytes = page.len();
    }

    /// The page at hand.
    #[inline]
    pub(super) fn page(&self) -> &[u8] {
        let at = (self.at_hand - self.first) as usize * self.page_bytes;
        self.bytes.get(at..at + self.page_bytes).unwrap_or_default()
    }

    fn has(&self, number: u32) -> bool {
        (self.first..self.first + self.pages).contains(&number)
    }
}
