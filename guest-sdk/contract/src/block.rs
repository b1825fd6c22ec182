//! Looks at many bytes at a stroke. The answer is a bit for each byte, the lowest one for the first.

pub(crate) const BLOCK_BYTES: usize = 64;
pub(crate) const QUARTER_BYTES: usize = 16;

/// Which bytes are one or the other.
#[inline]
pub(crate) fn either(block: &[u8; BLOCK_BYTES], one: u8, other: u8) -> u64 {
    let (quarters, _) = block.as_chunks();
    let marks = |at: usize| u64::from(quarter::either(&quarters[at], one, other));
    // In pairs, so that none waits for all others.
    let low = marks(0) | marks(1) << QUARTER_BYTES;
    let high = marks(2) | marks(3) << QUARTER_BYTES;
    low | high << (2 * QUARTER_BYTES)
}

/// Which bytes are digits.
#[inline]
pub(crate) fn digits(bytes: &[u8; QUARTER_BYTES]) -> u16 {
    quarter::digits(bytes)
}

#[cfg(not(target_arch = "x86_64"))]
use one_by_one as quarter;
#[cfg(target_arch = "x86_64")]
use sse2 as quarter;

/// With instructions that every processor of this kind has.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use core::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::QUARTER_BYTES;

    #[inline]
    #[allow(unsafe_code, reason = "x86-64 has SSE2, and no pointer is involved")]
    pub(super) fn either(bytes: &[u8; QUARTER_BYTES], one: u8, other: u8) -> u16 {
        unsafe {
            let bytes = load(bytes);
            let one = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(one.cast_signed()));
            let other = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(other.cast_signed()));
            marks(_mm_or_si128(one, other))
        }
    }

    #[inline]
    #[allow(unsafe_code, reason = "x86-64 has SSE2, and no pointer is involved")]
    pub(super) fn digits(bytes: &[u8; QUARTER_BYTES]) -> u16 {
        unsafe {
            let values = _mm_sub_epi8(load(bytes), _mm_set1_epi8(b'0'.cast_signed()));
            let capped = _mm_min_epu8(values, _mm_set1_epi8(9));
            marks(_mm_cmpeq_epi8(values, capped))
        }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; QUARTER_BYTES]) -> __m128i {
        let (halves, _) = bytes.as_chunks();
        let [low, high] = [0, 1].map(|at| i64::from_le_bytes(halves[at]));
        _mm_set_epi64x(high, low)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn marks(lanes: __m128i) -> u16 {
        u16::try_from(_mm_movemask_epi8(lanes)).expect("there are sixteen lanes")
    }
}

/// On any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod one_by_one {
    use super::QUARTER_BYTES;

    pub(super) fn either(bytes: &[u8; QUARTER_BYTES], one: u8, other: u8) -> u16 {
        marks(bytes, |byte| byte == one || byte == other)
    }

    pub(super) fn digits(bytes: &[u8; QUARTER_BYTES]) -> u16 {
        marks(bytes, |byte| byte.is_ascii_digit())
    }

    fn marks(bytes: &[u8; QUARTER_BYTES], is_it: impl Fn(u8) -> bool) -> u16 {
        let last_first = bytes.iter().rev();
        last_first.fold(0, |marks, &byte| marks << 1 | u16::from(is_it(byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes at the limits are likelier here.
    fn byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), prop::sample::select(b"\"\\/0:9".as_slice())]
    }

    proptest! {
        #[test]
        fn every_byte_has_its_bit(bytes in prop::array::uniform(byte()), one in byte(), other in byte()) {
            let block: [u8; BLOCK_BYTES] = bytes;
            let marks = either(&block, one, other);
            for (at, byte) in block.into_iter().enumerate() {
                prop_assert_eq!(marks >> at & 1 == 1, byte == one || byte == other, "byte {}", at);
            }
            for quarter in block.as_chunks().0 {
                let marks = digits(quarter);
                for (at, byte) in quarter.iter().enumerate() {
                    prop_assert_eq!(marks >> at & 1 == 1, byte.is_ascii_digit(), "byte {}", at);
                }
                prop_assert_eq!(one_by_one::digits(quarter), marks);
                prop_assert_eq!(one_by_one::either(quarter, one, other), quarter::either(quarter, one, other));
            }
        }
    }
}
