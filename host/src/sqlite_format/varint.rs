//! SQLite's integers of variable length: 7 bits a byte, the most significant first; a ninth byte
//! gives all of its 8 bits.

/// The integer at the beginning of the bytes, and how many bytes it takes.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let seven = |byte: u8| u64::from(byte & 0x7f);
    match *bytes {
        [first, ..] if first < 0x80 => Some((seven(first), 1)),
        [first, second, ..] if second < 0x80 => Some((seven(first) << 7 | seven(second), 2)),
        // Rowids of a table with a million rows.
        [first, second, third, ..] if third < 0x80 => {
            Some((seven(first) << 14 | seven(second) << 7 | seven(third), 3))
        }
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &[u8]) -> Option<(u64, usize)> {
    let &first = bytes.first()?;
    let mut value = u64::from(first & 0x7f);
    for (at, &byte) in bytes.iter().enumerate().take(9).skip(1) {
        if at == 8 {
            return Some((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Appends an integer.
pub(super) fn push(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value.to_le_bytes()[0]);
        return;
    }
    if value > u64::MAX >> 8 {
        for at in 0..8 {
            out.push(0x80 | seven_bits(value >> (57 - 7 * at)));
        }
        out.push(value.to_le_bytes()[0]);
        return;
    }
    let bits = 64 - value.leading_zeros();
    for at in (1..bits.div_ceil(7)).rev() {
        out.push(0x80 | seven_bits(value >> (7 * at)));
    }
    out.push(seven_bits(value));
}

/// The lowest seven bits.
fn seven_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_are_read() {
        assert_eq!(read(&[0]), Some((0, 1)));
        assert_eq!(read(&[0x7f, 9]), Some((127, 1)));
        assert_eq!(read(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(read(&[0x82, 0x80, 0x01]), Some((32_769, 3)));
        assert_eq!(read(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0x81]), None);
        assert_eq!(read(&[0xff; 8]), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let mut bytes = Vec::new();
                push(&mut bytes, value);
                assert_eq!(read(&bytes), Some((value, bytes.len())), "{value:#x}");
            }
        }
        let mut bytes = Vec::new();
        push(&mut bytes, u64::MAX);
        assert_eq!(bytes, [0xff; 9]);
    }
}
