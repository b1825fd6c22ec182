//! UUIDs as text: 32 hexadecimal digits in groups of 8-4-4-4-12.

const TEXT_BYTES: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Reads a hyphenated UUID, in either case.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; TEXT_BYTES] = text.as_bytes().try_into().ok()?;
    let mut uuid = [0; 16];
    let mut at = 0;
    for byte in &mut uuid {
        if HYPHENS.contains(&at) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(uuid)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Writes a UUID, hyphenated and in lower case.
pub fn format_uuid(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    for byte in uuid {
        if HYPHENS.contains(&text.len()) {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_hyphenated_uuids_are_read() {
        let text = "0190f3a0-7c1e-7def-8a9b-0123456789ab";
        let uuid = parse_uuid(text).expect("a UUID");
        assert_eq!(format_uuid(&uuid), text);
        assert_eq!(parse_uuid(&text.to_uppercase()), Some(uuid));
        for wrong in [
            "",
            "0190f3a07c1e7def8a9b0123456789ab",
            "0190f3a0-7c1e-7def-8a9b-0123456789a",
            "0190f3a0-7c1e-7def-8a9b-0123456789ag",
            "0190f3a0-7c1e-7def-8a9b00123456789ab",
            "{190f3a0-7c1e-7def-8a9b-0123456789a}",
        ] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(uuid: [u8; 16]) {
            prop_assert_eq!(parse_uuid(&format_uuid(&uuid)), Some(uuid));
        }
    }
}
