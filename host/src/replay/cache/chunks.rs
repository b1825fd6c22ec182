//! Where a table's keys and rows lie: end to end in chunks, so that a new row costs a copy and no
//! allocation, and forgetting all of them costs next to nothing.
//!
//! Bytes that nobody needs any more stay until more than half of their chunk is such; then what is left
//! of it moves. So chunks take at most twice what is in them, and no more is moved than was given up.
//! A chunk that the writer has a share in is not written any more until the writer is done with it.

use std::sync::Arc;

use super::SlotId;

/// The first chunk of a table, and the largest ones but for single rows that are larger.
const CHUNK_BYTES_MIN: usize = 1 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Before each entry: whose it is, and how long.
const HEAD_BYTES: usize = 8;

/// Where an entry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) chunk: u32,
    pub(super) start: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    all: Vec<Chunk>,
    /// Those that are empty, for new ones.
    free: Vec<u32>,
    /// The one that is being filled.
    open: Option<u32>,
    /// Those that may be less than half in use.
    sparse: Vec<u32>,
    /// Of all entries that are in use.
    live_bytes: usize,
}

/// A chunk that was taken out.
#[derive(Debug)]
pub(super) struct Sparse {
    number: u32,
    content: Content,
}

#[derive(Debug, Default)]
struct Chunk {
    content: Content,
    /// Of its entries that are in use, heads included.
    live_bytes: usize,
}

#[derive(Debug)]
enum Content {
    Own(Vec<u8>),
    /// The writer had a share in it, and may have it still.
    Shared(Arc<Vec<u8>>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Content {
    fn bytes(&self) -> &Vec<u8> {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Own(bytes) => Some(bytes),
            Self::Shared(bytes) => Arc::get_mut(bytes),
        }
    }
}

impl Chunks {
    pub(super) fn get(&self, place: Place, length: usize) -> &[u8] {
        let bytes = self.all[place.chunk as usize].content.bytes();
        &bytes[place.start as usize..][..length]
    }

    /// An entry to write over, unless the writer has a share in it.
    pub(super) fn get_mut(&mut self, place: Place, length: usize) -> Option<&mut [u8]> {
        let bytes = self.all[place.chunk as usize].content.bytes_mut()?;
        Some(&mut bytes[place.start as usize..][..length])
    }

    /// Adds an entry of some parts.
    pub(super) fn add(&mut self, slot: SlotId, parts: [&[u8]; 2]) -> Place {
        let length = parts[0].len() + parts[1].len();
        let number = self.open_with_room(HEAD_BYTES + length);
        let chunk = &mut self.all[number as usize];
        chunk.live_bytes += HEAD_BYTES + length;
        self.live_bytes += HEAD_BYTES + length;
        let Some(bytes) = chunk.content.bytes_mut() else {
            unreachable!("the writer gets no share in a chunk that is being filled")
        };
        let length = u32::try_from(length).expect("rows are limited to far less");
        bytes.extend_from_slice(&slot.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        let start = u32::try_from(bytes.len()).expect("chunks are limited to far less");
        bytes.extend_from_slice(parts[0]);
        bytes.extend_from_slice(parts[1]);
        Place {
            chunk: number,
            start,
        }
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, place: Place, length: usize) {
        let was_sparse = self.is_sparse(place.chunk);
        let chunk = &mut self.all[place.chunk as usize];
        chunk.live_bytes -= HEAD_BYTES + length;
        self.live_bytes -= HEAD_BYTES + length;
        if !was_sparse {
            self.note_if_sparse(place.chunk);
        }
    }

    /// Takes out a chunk that is less than half in use, if there is one. What is in use of it is to be
    /// added anew, and then it is to be [dropped](Self::drop).
    #[inline]
    pub(super) fn take_sparse(&mut self) -> Option<Sparse> {
        while let Some(number) = self.sparse.pop() {
            // It may have been listed twice.
            if self.is_sparse(number) {
                let chunk = std::mem::take(&mut self.all[number as usize]);
                if chunk.live_bytes == 0 {
                    self.free.push(number);
                    continue;
                }
                self.live_bytes -= chunk.live_bytes;
                return Some(Sparse {
                    number,
                    content: chunk.content,
                });
            }
        }
        None
    }

    /// Nothing is at a place in this chunk any more.
    pub(super) fn drop(&mut self, chunk: Sparse) {
        let Sparse { number, content } = chunk;
        drop(content);
        self.free.push(number);
    }

    /// A share in the chunk for the writer.
    pub(super) fn share(&mut self, chunk: u32) -> Arc<Vec<u8>> {
        if self.open == Some(chunk) {
            self.close();
        }
        let content = &mut self.all[chunk as usize].content;
        if let Content::Own(bytes) = content {
            bytes.shrink_to_fit();
            *content = Content::Shared(Arc::new(std::mem::take(bytes)));
        }
        match content {
            Content::Shared(bytes) => bytes.clone(),
            Content::Own(_) => unreachable!("it was made a shared one just above"),
        }
    }

    /// How many there are, empty ones included.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The chunk to fill, with room for so many bytes.
    fn open_with_room(&mut self, needed: usize) -> u32 {
        if let Some(open) = self.open {
            let bytes = self.all[open as usize].content.bytes();
            if bytes.capacity() - bytes.len() >= needed {
                return open;
            }
        }
        self.close();
        // A table's chunks grow with it.
        let usual = self.live_bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        let chunk = Chunk {
            content: Content::Own(Vec::with_capacity(usual.max(needed))),
            live_bytes: 0,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.all[number as usize] = chunk;
                number
            }
            None => {
                self.all.push(chunk);
                u32::try_from(self.all.len() - 1).expect("there is not so much memory")
            }
        };
        self.open = Some(number);
        number
    }

    fn close(&mut self) {
        if let Some(chunk) = self.open.take() {
            self.note_if_sparse(chunk);
        }
    }

    fn note_if_sparse(&mut self, chunk: u32) {
        if self.is_sparse(chunk) {
            self.sparse.push(chunk);
        }
    }

    /// Whether less than half of it is in use, and no more comes.
    fn is_sparse(&self, number: u32) -> bool {
        let chunk = &self.all[number as usize];
        self.open != Some(number) && chunk.live_bytes * 2 < chunk.content.bytes().len()
    }
}

impl Sparse {
    /// All entries that were added to it: whose, where, and the bytes.
    pub(super) fn entries(&self) -> impl Iterator<Item = (SlotId, Place, &[u8])> {
        let all = self.content.bytes();
        let mut at = 0;
        std::iter::from_fn(move || {
            let (slot, rest) = all[at..].split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let entry = &rest[..u32::from_le_bytes(*length) as usize];
            let place = Place {
                chunk: self.number,
                start: u32::try_from(at + HEAD_BYTES).expect("it was one before"),
            };
            at += HEAD_BYTES + entry.len();
            Some((SlotId::from_le_bytes(*slot), place, entry))
        })
    }
}
