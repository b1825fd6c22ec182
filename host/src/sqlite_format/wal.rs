//! Which pages a transaction finds in the WAL, and not in the database file.

use std::collections::HashSet;

use rusqlite::Connection;

use super::file::OpenFile;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

type Header = [u8; HEADER_BYTES];
type FrameHeader = [u8; FRAME_HEADER_BYTES];

/// At least the pages that the WAL has for the transaction in which they were looked at. What was
/// learned is kept from one transaction to the next.
///
/// A WAL is a header and frames, a page each. It begins anew with other salts in its header, and its
/// frames have those of the header they were written under. Frames behind the last commit may be
/// written over under the same salts; then their checksums differ, which go over all frames before.
#[derive(Debug, Default)]
pub(super) struct WalPages {
    header: Option<Header>,
    /// Of the frames up to a commit.
    settled: HashSet<u32>,
    settled_frames: u64,
    /// The last of these frames.
    commit: Option<FrameHeader>,
    /// Of the frames behind it.
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
        let read_frame = |frame: u64| -> rusqlite::Result<Option<FrameHeader>> {
            let frame_bytes = (FRAME_HEADER_BYTES + page_bytes) as u64;
            let mut found = [0; FRAME_HEADER_BYTES];
            let is_there = wal.read(HEADER_BYTES as u64 + frame * frame_bytes, &mut found)?;
            Ok(is_there.then_some(found))
        };
        self.others.clear();
        let is_as_it_was = self.header == Some(header)
            && match self.settled_frames.checked_sub(1) {
                None => true,
                Some(last) => read_frame(last)? == self.commit,
            };
        if !is_as_it_was {
            *self = Self::default();
            self.header = Some(header);
        }
        for frame in self.settled_frames.. {
            let Some(found) = read_frame(frame)? else {
                break;
            };
            let [page, after_commit] = [0, 4].map(|at| number(&found[at..]));
            if found[8..16] != header[16..24] {
                break;
            }
            self.others.insert(page);
            if after_commit != 0 {
                self.settled.extend(self.others.drain());
                self.settled_frames = frame + 1;
                self.commit = Some(found);
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
