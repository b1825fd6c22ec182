//! Which pages a transaction finds in the WAL, and not in the database file.

use std::collections::HashSet;

use rusqlite::Connection;

use super::file::{OpenFile, SHARED_INDEX_BYTES};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The header of the index, and where in it are the number of frames and the salts.
const INDEX_HEADER_BYTES: usize = SHARED_INDEX_BYTES / 2;
const INDEX_FRAMES: usize = 16;
const INDEX_SALTS: usize = 32;

type Header = [u8; HEADER_BYTES];
type FrameHeader = [u8; FRAME_HEADER_BYTES];
/// What the frames of a header have of it.
type Salts = [u8; 8];

/// At least the pages that the WAL has for the transaction in which they were looked at. What was
/// learned is kept from one transaction to the next.
///
/// A WAL is a header and frames, a page each. It begins anew with other salts in its header, and its
/// frames have those of the header they were written under. Frames that nobody has committed may be
/// written over under the same salts, also such that look committed: a process can die between the last
/// of its frames and the note in the shared index that makes them count. So only what that index counts
/// is learned for good.
#[derive(Debug, Default)]
pub(super) struct WalPages {
    header: Option<Header>,
    /// Of the frames that are committed.
    settled: HashSet<u32>,
    settled_frames: u64,
    /// Of the frames behind them.
    others: HashSet<u32>,
}

impl WalPages {
    /// Looks at what is new, in a transaction of the connection.
    ///
    /// Frames that are written later are none of this transaction's, and it keeps the WAL from
    /// beginning anew, unless all that it has is in the file already, which then does not change.
    pub(super) fn look(
        &mut self,
        connection: &Connection,
        page_bytes: usize,
    ) -> rusqlite::Result<()> {
        let wal = OpenFile::journal(connection);
        let mut header = [0; HEADER_BYTES];
        if !wal.read(0, &mut header)? {
            *self = Self::default();
            return Ok(());
        }
        if self.header != Some(header) {
            *self = Self::default();
            self.header = Some(header);
        }
        self.others.clear();
        let salts = &header[16..24];
        let committed = match WalIndex::of(connection) {
            Some(index) if index.salts == *salts => index.frames,
            _ => 0,
        };
        let frame_bytes = (FRAME_HEADER_BYTES + page_bytes) as u64;
        for frame in self.settled_frames.. {
            let mut found: FrameHeader = [0; FRAME_HEADER_BYTES];
            let is_there = wal.read(HEADER_BYTES as u64 + frame * frame_bytes, &mut found)?;
            if !is_there || found[8..16] != *salts {
                break;
            }
            let page = number(&found);
            if frame < committed {
                self.settled.insert(page);
                self.settled_frames = frame + 1;
            } else {
                self.others.insert(page);
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, page: u32) -> bool {
        self.settled.contains(&page) || self.others.contains(&page)
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// What the index that all connections to a WAL share says of it.
#[derive(Debug, PartialEq, Eq)]
struct WalIndex {
    salts: Salts,
    /// That are committed.
    frames: u64,
}

impl WalIndex {
    /// None where it can't be read, or is being changed at this moment.
    fn of(connection: &Connection) -> Option<Self> {
        let bytes = OpenFile::database(connection).shared_index()?;
        // It is there twice, and counts while both are alike.
        let (one, other) = bytes.split_at(INDEX_HEADER_BYTES);
        let mut salts = Salts::default();
        salts.copy_from_slice(&one[INDEX_SALTS..INDEX_SALTS + 8]);
        let frames = one[INDEX_FRAMES..].first_chunk().copied()?;
        let frames = u32::from_ne_bytes(frames).into();
        (one == other).then_some(Self { salts, frames })
    }
}
