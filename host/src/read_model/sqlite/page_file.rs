//! A database file that is written front to back, page by page. Nobody has it open meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::fault::{Doing, io_fault};
use crate::read_model::ReadModelError;
use crate::sqlite_format::PageSink;

/// Pages are written in pieces of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// SQLite keeps its locks on this byte: its page is never used.
const LOCKED_BYTE: u64 = 1 << 30;
/// Where the file's header has the number of pages.
const PAGE_COUNT_OFFSET: u64 = 28;

/// See the module's documentation.
pub(super) struct PageFile {
    path: PathBuf,
    file: File,
    page_bytes: usize,
    /// Pages on the file and in the piece.
    pages: u32,
    piece: Vec<u8>,
}

impl PageFile {
    /// Goes on behind the pages that are there.
    pub(super) fn open(path: &Path, page_bytes: usize) -> Result<Self, ReadModelError> {
        let fault = |error| io_fault(path, Doing::Write, error);
        let file = OpenOptions::new().write(true).open(path).map_err(fault)?;
        let bytes = file.metadata().map_err(fault)?.len();
        let pages = u32::try_from(bytes / page_bytes as u64).map_err(|_| fault(too_large()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            page_bytes,
            pages,
            piece: Vec::with_capacity(PIECE_BYTES),
        })
    }

    /// Writes what is left, and how many pages there are.
    pub(super) fn finish(mut self) -> Result<(), ReadModelError> {
        self.write_piece()?;
        let count = self.pages.to_be_bytes();
        self.file
            .write_all_at(&count, PAGE_COUNT_OFFSET)
            .map_err(|error| self.fault(error))
    }

    fn write_piece(&mut self) -> Result<(), ReadModelError> {
        let end = u64::from(self.pages) * self.page_bytes as u64;
        let start = end - self.piece.len() as u64;
        self.file
            .write_all_at(&self.piece, start)
            .map_err(|error| self.fault(error))?;
        self.piece.clear();
        Ok(())
    }

    fn push(&mut self, page: &[u8]) -> Result<u32, ReadModelError> {
        if self.piece.len() + page.len() > PIECE_BYTES {
            self.write_piece()?;
        }
        self.piece.extend_from_slice(page);
        let next = self.pages.checked_add(1);
        self.pages = next.ok_or_else(|| self.fault(too_large()))?;
        Ok(self.pages)
    }

    fn fault(&self, error: io::Error) -> ReadModelError {
        io_fault(&self.path, Doing::Write, error)
    }
}

impl PageSink for PageFile {
    type Error = ReadModelError;

    fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn append(&mut self, page: &[u8]) -> Result<u32, ReadModelError> {
        let start = u64::from(self.pages) * self.page_bytes as u64;
        if start == LOCKED_BYTE {
            self.push(&vec![0; self.page_bytes])?;
        }
        self.push(page)
    }

    /// Only of pages that were there at the beginning.
    fn replace(&mut self, number: u32, page: &[u8]) -> Result<(), ReadModelError> {
        let start = u64::from(number - 1) * self.page_bytes as u64;
        self.file
            .write_all_at(page, start)
            .map_err(|error| self.fault(error))
    }
}

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "it has more pages than SQLite can number",
    )
}
