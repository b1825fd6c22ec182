//! Makes a value of a piece of JSON, as the scanner cut it out.
//!
//! Coercion is narrow, so that a projection never sees a number that the writer did not mean: 1
//! fits a real, 1.0 does not fit an integer, and nothing else is converted.

use std::borrow::Cow;
use std::ops::Range;

use super::FieldError;
use crate::block::{self, QUARTER_BYTES};
use crate::columns::{ColumnBuilder, Fitted};
use crate::json;
use crate::manifest::Wanted;
use crate::time::{TIMESTAMP_MAX, TIMESTAMP_MIN, parse_rfc3339};
use crate::uuid::{format_uuid, parse_uuid};
use crate::value::normal_real;

/// Any number of so many digits lies within 64 bits.
const DIGITS_OF_ANY: usize = 18;

/// Why a piece of JSON does not fit.
pub(super) enum Misfit {
    Type,
    Value(String),
}

impl Misfit {
    pub(super) fn of_field(self, path: &str, wants: Wanted, raw: &[u8]) -> FieldError {
        let field = path.to_owned();
        match self {
            Self::Type => FieldError::Mismatch {
                field,
                wanted: wants.noun(),
                found: kind_of(raw),
            },
            Self::Value(reason) => FieldError::Value { field, reason },
        }
    }
}

/// Appends the value at this place of the payload to a column. It is a number or a word of JSON, or
/// anything at all between quotes or brackets.
#[inline]
pub(super) fn fit(
    payload: &[u8],
    place: Range<usize>,
    wants: Wanted,
    column: &mut ColumnBuilder,
) -> Result<(), Misfit> {
    if let Wanted::Integer | Wanted::Timestamp = wants
        && let Some(number) = plain_integer(payload, &place)
    {
        column.push_integer(number);
        return Ok(());
    }
    fit_any(&payload[place], wants, column)
}

fn fit_any(raw: &[u8], wants: Wanted, column: &mut ColumnBuilder) -> Result<(), Misfit> {
    match wants {
        Wanted::Boolean => match raw {
            b"true" => column.push(&Fitted::Boolean(true)),
            b"false" => column.push(&Fitted::Boolean(false)),
            _ => return Err(Misfit::Type),
        },
        Wanted::Integer => column.push_integer(integer(raw)?),
        Wanted::Real => column.push(&Fitted::Real(real(raw)?)),
        Wanted::Text => column.push(&Fitted::Text(&text(raw)?)),
        Wanted::Timestamp => column.push_integer(timestamp(raw)?),
        Wanted::Uuid => {
            let text = text(raw)?;
            let uuid = parse_uuid(&text).ok_or_else(|| {
                Misfit::Value("not a UUID of 32 hexadecimal digits with hyphens".to_owned())
            })?;
            column.push(&Fitted::Text(&format_uuid(&uuid)));
        }
        Wanted::Json => {
            let raw = utf8(raw)?;
            json::check(raw).map_err(|error| Misfit::Value(error.to_string()))?;
            column.push(&Fitted::Text(raw));
        }
    }
    Ok(())
}

/// The number at this place, if it is nothing but digits, and so few that it is a timestamp, too.
#[inline]
fn plain_integer(payload: &[u8], place: &Range<usize>) -> Option<i64> {
    let before = QUARTER_BYTES.checked_sub(place.len())?;
    let last: &[u8; QUARTER_BYTES] = payload.get(..place.end)?.last_chunk()?;
    let others = (1 << before) - 1;
    if block::digits(last) | others != u16::MAX || place.is_empty() {
        return None;
    }
    // What lies before the number counts as zeros.
    let (halves, _) = last.as_chunks();
    let [mut high, mut low] = [0, 1].map(|at| u64::from_le_bytes(halves[at]) & VALUES);
    if let Some(before) = before.checked_sub(8) {
        high = 0;
        low &= u64::MAX << (8 * before);
    } else {
        high &= u64::MAX << (8 * before);
    }
    Some((eight_digits(high) * 100_000_000 + eight_digits(low)).cast_signed())
}

/// The bits of a digit that are its value.
const VALUES: u64 = 0x0f0f_0f0f_0f0f_0f0f;

/// Of eight values of a digit each, the first one lowest, the number that they spell.
#[inline]
fn eight_digits(values: u64) -> u64 {
    let pairs = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

fn integer(raw: &[u8]) -> Result<i64, Misfit> {
    if !is_number(raw) {
        return Err(Misfit::Type);
    }
    let digits = raw.strip_prefix(b"-").unwrap_or(raw);
    let mut number = 0_i64;
    for byte in digits {
        // Before a number is too large, it is no integer.
        if !byte.is_ascii_digit() {
            return Err(Misfit::Type);
        }
        number = number.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
    }
    if digits.len() > DIGITS_OF_ANY {
        let number = utf8(raw)?.parse();
        return number.map_err(|_| Misfit::Value("the number is outside 64 bits".to_owned()));
    }
    Ok(if digits.len() < raw.len() {
        -number
    } else {
        number
    })
}

fn real(raw: &[u8]) -> Result<f64, Misfit> {
    if !is_number(raw) {
        return Err(Misfit::Type);
    }
    match utf8(raw)?.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(normal_real(value)),
        _ => Err(Misfit::Value(
            "the number is too large for a real".to_owned(),
        )),
    }
}

fn text(raw: &[u8]) -> Result<Cow<'_, str>, Misfit> {
    let content = raw
        .strip_prefix(b"\"")
        .and_then(|raw| raw.strip_suffix(b"\""));
    let content = content.ok_or(Misfit::Type)?;
    // Without a branch for each byte, so that many are looked at together.
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'\\';
    if content
        .iter()
        .fold(true, |plain, byte| plain & is_plain(byte))
    {
        return utf8(content).map(Cow::Borrowed);
    }
    let text: String = serde_json::from_str(utf8(raw)?)
        .map_err(|error| Misfit::Value(format!("not valid JSON: {error}")))?;
    if text.contains('\0') {
        return Err(Misfit::Value("text must not hold U+0000".to_owned()));
    }
    Ok(Cow::Owned(text))
}

fn timestamp(raw: &[u8]) -> Result<i64, Misfit> {
    if !raw.starts_with(b"\"") {
        let micros = integer(raw)?;
        if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&micros) {
            return Ok(micros);
        }
        return Err(Misfit::Value(format!(
            "timestamps must lie in the years 1 to 9999, found {micros} µs"
        )));
    }
    parse_rfc3339(&text(raw)?).map_err(|error| Misfit::Value(error.to_string()))
}

fn utf8(raw: &[u8]) -> Result<&str, Misfit> {
    std::str::from_utf8(raw).map_err(|error| Misfit::Value(format!("not UTF-8: {error}")))
}

fn is_number(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'-' | b'0'..=b'9'))
}

/// What a piece of JSON is, for messages.
fn kind_of(raw: &[u8]) -> &'static str {
    match raw.first() {
        Some(b'"') => "text",
        Some(b'{') => "object",
        Some(b'[') => "list",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}
