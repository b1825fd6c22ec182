//! Timestamps: microseconds since the Unix epoch, UTC, within the years 1 to 9999.

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;

/// 0001-01-01T00:00:00Z.
pub const TIMESTAMP_MIN: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z.
pub const TIMESTAMP_MAX: i64 = 253_402_300_799_999_999;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A text that is not a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("not an RFC 3339 timestamp such as 2026-01-31T12:00:00Z: {reason}")]
    Format { reason: String },
    #[error("timestamps must lie in the years 1 to 9999")]
    Range,
}

/// Reads an RFC 3339 timestamp with any offset; what is finer than a microsecond is cut off
/// towards the past.
pub fn parse_rfc3339(text: &str) -> Result<i64, TimeError> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| TimeError::Format {
        reason: error.to_string(),
    })?;
    let seconds = moment.unix_timestamp();
    let micros = seconds * MICROS_PER_SECOND + i64::from(moment.microsecond());
    if (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&micros) {
        Ok(micros)
    } else {
        Err(TimeError::Range)
    }
}

/// Writes a timestamp in UTC, with as many digits of the second as it needs. What lies outside
/// the range is written as the nearest timestamp that there is.
#[allow(
    clippy::missing_panics_doc,
    reason = "every timestamp in the range can be written"
)]
pub fn format_rfc3339(micros: i64) -> String {
    let micros = micros.clamp(TIMESTAMP_MIN, TIMESTAMP_MAX);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .expect("every timestamp in the years 1 to 9999 can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_timestamps() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("1969-12-31T23:59:59.9999991Z", -1),
            ("2026-01-31T12:00:00.5+02:00", 1_769_853_600_500_000),
            ("0001-01-01T00:00:00Z", TIMESTAMP_MIN),
            ("9999-12-31T23:59:59.999999Z", TIMESTAMP_MAX),
        ] {
            assert_eq!(parse_rfc3339(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "yesterday",
            "2026-02-30T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
        ] {
            assert!(
                matches!(parse_rfc3339(text), Err(TimeError::Format { .. })),
                "{text}"
            );
        }
        assert_eq!(parse_rfc3339("0000-06-01T00:00:00Z"), Err(TimeError::Range));
        assert_eq!(
            parse_rfc3339("9999-12-31T23:59:59-01:00"),
            Err(TimeError::Range)
        );
    }

    proptest! {
        #[test]
        fn round_trip(micros in TIMESTAMP_MIN..=TIMESTAMP_MAX) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(micros)), Ok(micros));
        }
    }
}
