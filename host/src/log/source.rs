//! Where the lines of an import come from: a file that can be read again, or a stream that can't
//! and may pause.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::ImportProgress;
use crate::limits::IMPORT_LINE_BYTES_MAX;

const BUFFER_BYTES: usize = 256 << 10;
/// Pieces of a stream that wait to be parsed.
const PIECES_MAX: usize = 16;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is imported.
pub enum Input {
    /// A regular file: an interrupted import of it can go on.
    File(File),
    /// Anything else: a pipe, a terminal, a socket.
    Stream(Box<dyn Read + Send>),
}

/// Lines with what was consumed so far.
pub(super) struct Lines {
    reader: Reader,
    /// Only of files.
    digest: Option<Sha256>,
    bytes: u64,
    /// Lines read.
    count: u64,
    /// How much of a file was compared with interrupted imports, and its digest.
    looked_at: (u64, Sha256),
}

enum Reader {
    File(BufReader<File>),
    Stream(Pieces),
}

/// What came instead of a line.
#[derive(Debug)]
pub(super) enum LineError {
    TooLong,
    Read(io::Error),
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        let (reader, digest) = match input {
            Input::File(file) => (
                Reader::File(BufReader::with_capacity(BUFFER_BYTES, file)),
                Some(Sha256::new()),
            ),
            Input::Stream(stream) => (Reader::Stream(Pieces::of(stream)), None),
        };
        Self {
            reader,
            digest,
            bytes: 0,
            count: 0,
            looked_at: (0, Sha256::new()),
        }
    }

    /// Skips what an interrupted import of the same file has left in the log: the longest of the
    /// candidates (which come by length) whose digest the file's beginning has.
    pub(super) fn skip_imported(
        &mut self,
        candidates: Vec<ImportProgress>,
    ) -> io::Result<Option<ImportProgress>> {
        let Reader::File(reader) = &mut self.reader else {
            return Ok(None);
        };
        let mut digest = Sha256::new();
        let mut read = 0;
        let mut found = None;
        for candidate in candidates {
            let want = candidate.bytes - read;
            let hashed = hash_exactly(reader, want, &mut digest)?;
            read += hashed;
            if hashed < want {
                break;
            }
            if *digest.clone().finalize() == candidate.digest {
                found = Some((candidate, digest.clone()));
            }
        }
        self.looked_at = (read, digest);
        let start = found.as_ref().map_or(0, |(progress, _)| progress.bytes);
        reader.seek(SeekFrom::Start(start))?;
        Ok(found.map(|(progress, digest)| {
            self.digest = Some(digest);
            self.bytes = progress.bytes;
            self.count = progress.lines;
            progress
        }))
    }

    /// Looks at the beginning of a file again, later; it goes on from what was compared with interrupted imports. A
    /// stream has none.
    pub(super) fn beginning(&self) -> io::Result<Option<Beginning>> {
        let Reader::File(reader) = &self.reader else {
            return Ok(None);
        };
        let (hashed, digest) = self.looked_at.clone();
        let file = reader.get_ref().try_clone()?;
        Ok(Some(Beginning {
            file,
            hashed,
            digest,
        }))
    }

    /// Reads the next line into `line`, with its end; empty at the end of the input.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> Result<(), LineError> {
        line.clear();
        // One byte more than allowed is enough to know; the rest of a monster is never read.
        let limit = IMPORT_LINE_BYTES_MAX as u64 + 1;
        match &mut self.reader {
            Reader::File(reader) => reader.take(limit).read_until(b'\n', line),
            Reader::Stream(pieces) => pieces.take(limit).read_until(b'\n', line),
        }
        .map_err(LineError::Read)?;
        if line.is_empty() {
            return Ok(());
        }
        self.count += 1;
        if line.len() > IMPORT_LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            return Err(LineError::TooLong);
        }
        if let Some(digest) = &mut self.digest {
            digest.update(&line);
        }
        let first = self.bytes == 0;
        self.bytes += line.len() as u64;
        if first && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
            if line.is_empty() {
                line.push(b'\n');
            }
        }
        Ok(())
    }

    /// Number of the line read last, from 1.
    pub(super) fn line(&self) -> u64 {
        self.count
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What to recognise the consumed part by.
    pub(super) fn progress(&self) -> Option<ImportProgress> {
        self.digest.as_ref().map(|digest| ImportProgress {
            digest: digest.clone().finalize().into(),
            bytes: self.bytes,
            lines: self.count,
        })
    }

    /// Whether a file has nothing more. (A stream can't say without waiting.)
    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        match &mut self.reader {
            Reader::File(reader) => Ok(reader.fill_buf()?.is_empty()),
            Reader::Stream(_) => Ok(false),
        }
    }

    /// Whether no further line came within `patience`: then what there is should be appended.
    pub(super) fn pauses(&mut self, patience: Duration) -> bool {
        match &mut self.reader {
            Reader::File(_) => false,
            Reader::Stream(pieces) => pieces.pauses(patience),
        }
    }
}

/// A second look at the beginning of a file, which moves nobody's place in it.
pub(super) struct Beginning {
    file: File,
    /// How much of it was hashed, and how far the hash is.
    hashed: u64,
    digest: Sha256,
}

impl Beginning {
    /// Whether that much of some import's input is how the file begins. Reads on from where the look
    /// before it ended, if it can.
    pub(super) fn is_of(&mut self, progress: &ImportProgress) -> io::Result<bool> {
        if progress.bytes < self.hashed {
            (self.hashed, self.digest) = (0, Sha256::new());
        }
        let rest = FromPlace {
            file: &self.file,
            at: self.hashed,
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, rest);
        let want = progress.bytes - self.hashed;
        self.hashed += hash_exactly(&mut reader, want, &mut self.digest)?;
        let is_whole = self.hashed == progress.bytes;
        Ok(is_whole && *self.digest.clone().finalize() == progress.digest)
    }
}

struct FromPlace<'f> {
    file: &'f File,
    at: u64,
}

impl Read for FromPlace<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Feeds `count` bytes to the digest; gives how many there were.
fn hash_exactly(reader: &mut impl BufRead, count: u64, digest: &mut Sha256) -> io::Result<u64> {
    let mut left = count;
    while left > 0 {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let take = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        digest.update(&buffer[..take]);
        reader.consume(take);
        left -= take as u64;
    }
    Ok(count - left)
}

/// A stream read on a thread of its own, because a read of a pipe can't be given up.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    /// What the stream ended with, behind the piece.
    failed: Option<io::Error>,
}

impl Pieces {
    fn of(mut stream: Box<dyn Read + Send>) -> Self {
        let (sender, receiver) = sync_channel(PIECES_MAX);
        // The thread ends with the stream or, when nobody listens any more, with its next piece.
        std::thread::spawn(move || {
            loop {
                let mut piece = vec![0; BUFFER_BYTES];
                let read = match stream.read(&mut piece) {
                    Ok(0) => return,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(length) => {
                        piece.truncate(length);
                        Ok(piece)
                    }
                    Err(error) => Err(error),
                };
                let over = read.is_err();
                if sender.send(read).is_err() || over {
                    return;
                }
            }
        });
        Self {
            receiver,
            piece: Vec::new(),
            at: 0,
            failed: None,
        }
    }

    fn pauses(&mut self, patience: Duration) -> bool {
        while !self.piece[self.at..].contains(&b'\n') {
            match self.receiver.recv_timeout(patience) {
                Err(RecvTimeoutError::Timeout) => return true,
                // The next read meets the end, or the error.
                Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Err(error)) => {
                    self.failed = Some(error);
                    return false;
                }
                Ok(Ok(more)) => {
                    self.piece.drain(..self.at);
                    self.at = 0;
                    self.piece.extend_from_slice(&more);
                    if self.piece.len() > IMPORT_LINE_BYTES_MAX {
                        return false;
                    }
                }
            }
        }
        false
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            self.at = 0;
            self.piece.clear();
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            // A closed channel is the end of the stream.
            if let Ok(next) = self.receiver.recv() {
                self.piece = next?;
            }
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a whole line, and then fails.
    struct Breaking(bool);

    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("the cable was cut"));
            }
            buffer[..2].copy_from_slice(b"1\n");
            Ok(2)
        }
    }

    #[test]
    fn a_stream_that_fails_while_somebody_waits_for_more_does_not_just_end() {
        let mut pieces = Pieces::of(Box::new(Breaking(false)));
        let mut line = Vec::new();
        pieces.read_until(b'\n', &mut line).expect("reads a line");
        assert_eq!(line, b"1\n");
        assert!(!pieces.pauses(Duration::from_secs(10)));
        let error = pieces.read_until(b'\n', &mut line).expect_err("fails");
        assert_eq!(error.to_string(), "the cable was cut");
    }
}
