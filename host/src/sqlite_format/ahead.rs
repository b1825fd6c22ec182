//! Reading pages from the database file before they are asked for, many at once. SQLite reads them one
//! by one, and what that costs beside the copying is more than what is done with most pages.

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

/// Pages of a database in WAL mode, as one transaction finds them in the file. What was read is good for
/// that transaction; the memory is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    wal: WalPages,
    page_bytes: usize,
    /// Pages in the file.
    file_pages: u32,
    block: Vec<u8>,
    /// The number of the block's first page, and how many it has.
    first: u32,
    pages: u32,
    /// The page that was asked for last.
    last: u32,
}

impl ReadAhead {
    /// Begins with the connection's transaction. Only where it has read something is its moment fixed,
    /// and only where it has changed nothing do all its pages lie in files.
    pub(super) fn begin(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        (self.first, self.pages, self.last, self.file_pages) = (0, 0, 0, 0);
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
        self.file_pages = u32::try_from(size / self.page_bytes as u64).unwrap_or_default();
        Ok(())
    }

    /// A page, if it is in the file for this transaction, and worth to be read with those behind it.
    pub(super) fn page(
        &mut self,
        connection: &Connection,
        number: u32,
    ) -> rusqlite::Result<Option<&[u8]>> {
        let is_next = (1..=GAP_PAGES).contains(&number.wrapping_sub(self.last));
        self.last = number;
        if number == 0 || number > self.file_pages || self.wal.has(number) {
            return Ok(None);
        }
        if !self.is_in_block(number) {
            if !is_next {
                return Ok(None);
            }
            self.read(connection, number)?;
            if !self.is_in_block(number) {
                return Ok(None);
            }
        }
        let at = (number - self.first) as usize * self.page_bytes;
        Ok(Some(&self.block[at..at + self.page_bytes]))
    }

    fn is_in_block(&self, number: u32) -> bool {
        (self.first..self.first + self.pages).contains(&number)
    }

    /// Reads a block that begins with this page; none where the file has become shorter.
    fn read(&mut self, connection: &Connection, first: u32) -> rusqlite::Result<()> {
        let pages = PAGES_AT_ONCE.min(self.file_pages - first + 1);
        self.pages = 0;
        self.block.resize(pages as usize * self.page_bytes, 0);
        let at = u64::from(first - 1) * self.page_bytes as u64;
        if OpenFile::database(connection).read(at, &mut self.block)? {
            (self.first, self.pages) = (first, pages);
        }
        Ok(())
    }
}
