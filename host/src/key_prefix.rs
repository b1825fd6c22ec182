//! The beginning of an encoded key as one number. Most keys differ early, so comparing two of these
//! mostly decides, without a look at where the keys themselves lie.

/// The first 16 bytes, zeros behind a shorter key. Where two differ, the keys are in the same order;
/// where they are equal, the keys need not be.
pub(crate) fn of(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut bytes = [0; 16];
    bytes[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(bytes)
}
