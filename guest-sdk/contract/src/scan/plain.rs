//! The ends of the plainest values, which most are: strings without escapes, and short integers.

use crate::block::{self, BLOCK_BYTES};

/// Where the value ends that starts here. None: it has to be looked at closely.
#[inline]
pub(super) fn end(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => end_of_string(text, start + 1),
        b'0'..=b'9' => end_of_integer(text, start),
        _ => None,
    }
}

/// From behind the opening quote to behind the closing one.
#[inline]
fn end_of_string(text: &[u8], start: usize) -> Option<usize> {
    let mut from = start;
    while let Some(block) = text.get(from..).and_then(<[u8]>::first_chunk) {
        let marks = block::either(block, b'"', b'\\');
        if marks != 0 {
            return end_at_mark(text, from, marks);
        }
        from += BLOCK_BYTES;
    }
    // The last block begins earlier, with bytes that were looked at, or that lie before the string.
    let last = text.len().checked_sub(BLOCK_BYTES)?;
    let block = text.get(last..)?.first_chunk()?;
    let behind = u32::try_from(from.checked_sub(last)?).ok()?;
    let marks = block::either(block, b'"', b'\\').checked_shr(behind)?;
    end_at_mark(text, from, marks)
}

/// Behind the first of the marked bytes, if it is the closing quote and no escape.
#[inline]
fn end_at_mark(text: &[u8], from: usize, marks: u64) -> Option<usize> {
    let mark = from + marks.trailing_zeros() as usize;
    (text.get(mark) == Some(&b'"')).then_some(mark + 1)
}

#[inline]
fn end_of_integer(text: &[u8], start: usize) -> Option<usize> {
    let block = text.get(start..)?.first_chunk()?;
    let end = start + block::digits(block).trailing_ones() as usize;
    // An end of sixteen digits may lie within the number, and no number begins with a zero.
    let is_whole = !matches!(text.get(end)?, b'0'..=b'9' | b'.' | b'e' | b'E');
    (is_whole && (end == start + 1 || block[0] != b'0')).then_some(end)
}
