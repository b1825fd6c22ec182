//! Hash maps whose order is the same in every run: a projection must not depend on chance.

use std::hash::{BuildHasherDefault, Hasher};

/// A hash map with a constant seed. Prefer it to `std`'s wherever the order of iteration could
/// reach the read model.
pub type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;

/// A hash set with a constant seed; see [`HashMap`].
pub type HashSet<T> = std::collections::HashSet<T, BuildHasherDefault<FixedHasher>>;

/// The hasher of rustc's own maps, with a last step that spreads the bits. The keys come from
/// events that were accepted, so there is no defence against keys made to collide.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedHasher {
    state: u64,
}

const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

impl FixedHasher {
    fn add(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The length is part of it, or zeros at the end would not count.
        self.add(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if rest.is_empty() {
            return;
        }
        // Pieces of fixed size that overlap: copying a few bytes would take a call.
        self.add(if let Some(last) = bytes.last_chunk::<8>() {
            u64::from_le_bytes(*last)
        } else if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>())
        {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        } else {
            rest.iter()
                .fold(0, |word, &byte| word << 8 | u64::from(byte))
        });
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        // Multiplying carries upwards only; tables take their slot from the lower bits.
        (self.state ^ self.state >> 32)
            .wrapping_mul(FACTOR)
            .rotate_left(32)
    }
}

/// The hash of a key's bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = FixedHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

/// Whether two keys are the same. They are short, and a call to compare memory looks at each byte.
pub(crate) fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    if one.len() != other.len() || words != other_words {
        return false;
    }
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(last), Some(other_last)) => last == other_last,
        _ => rest.iter().eq(other_rest),
    }
}

/// The hash of a number.
pub(crate) fn hash_u64(value: u64) -> u64 {
    let mut hasher = FixedHasher::default();
    hasher.write_u64(value);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_the_low_bits() {
        let slot = |i: u64| hash_bytes(format!("auction-{i:06}").as_bytes()) & 0xffff;
        let slots: HashSet<u64> = (0..10_000).map(slot).collect();
        // Ten thousand balls thrown into 65,536 bins hit about 9,270 of them.
        assert!(slots.len() > 9_000, "{} slots", slots.len());
    }

    #[test]
    fn keys_are_the_same_or_differ_in_any_byte() {
        for length in 0..30 {
            let key: Vec<u8> = (0..length).collect();
            assert!(same_bytes(&key, &key.clone()));
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 1;
                assert!(!same_bytes(&key, &other), "byte {at} of {length}");
            }
            assert!(!same_bytes(&key, &[key.as_slice(), &[0]].concat()));
        }
    }

    #[test]
    fn zeros_count() {
        assert_ne!(hash_bytes(&[1]), hash_bytes(&[1, 0]));
        assert_ne!(hash_bytes(&[]), hash_bytes(&[0; 8]));
    }
}
