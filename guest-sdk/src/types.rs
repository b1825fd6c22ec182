//! Types of fields and columns that Rust itself lacks: [`Timestamp`], [`Uuid`], [`Json`].

use std::fmt;
use std::str::FromStr;

use retell_contract::{json, time, uuid};
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A moment in UTC, to the microsecond, in the years 1 to 9999.
///
/// ```
/// # use retell_sdk::Timestamp;
/// let noon: Timestamp = "2026-01-31T14:00:00+02:00".parse()?;
/// assert_eq!(noon.to_string(), "2026-01-31T12:00:00Z");
/// assert_eq!(noon.date(), "2026-01-31");
/// # Ok::<_, retell_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const UNIX_EPOCH: Self = Self(0);

    /// From microseconds since the Unix epoch.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if (time::TIMESTAMP_MIN..=time::TIMESTAMP_MAX).contains(&micros) {
            return Ok(Self(micros));
        }
        Err(Error::new(format!(
            "timestamps must lie in the years 1 to 9999, found {micros} µs"
        )))
    }

    /// For values that the host or a row promises to be in range; another is a broken contract.
    pub(crate) fn from_contract(micros: i64) -> Self {
        Self::from_micros(micros).expect("the host gives timestamps in the years 1 to 9999")
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded towards the past.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The day in UTC, as `2026-01-31`.
    pub fn date(self) -> String {
        let mut text = self.to_string();
        text.truncate("2026-01-31".len());
        text
    }
}

/// RFC 3339, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&time::format_rfc3339(self.0))
    }
}

/// Reads RFC 3339 with any offset.
impl FromStr for Timestamp {
    type Err = time::TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        time::parse_rfc3339(text).map(Self)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As an event field: RFC 3339 text, or integer microseconds.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMicros;

        impl Visitor<'_> for TextOrMicros {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 timestamp or integer microseconds")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, micros: i64) -> Result<Timestamp, E> {
                Timestamp::from_micros(micros).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, micros: u64) -> Result<Timestamp, E> {
                let micros = i64::try_from(micros).map_err(E::custom)?;
                self.visit_i64(micros)
            }
        }

        deserializer.deserialize_any(TextOrMicros)
    }
}

/// A UUID: sixteen bytes, as text hyphenated and in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid::format_uuid(&self.0))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// Reads hyphenated UUIDs, in either case.
impl FromStr for Uuid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        uuid::parse_uuid(text)
            .map(Self)
            .ok_or_else(|| Error::new(format!("`{text}` is not a hyphenated UUID")))
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A JSON value, kept as its canonical text: keys sorted, no white space, one text per number.
/// Equal values are equal texts.
///
/// ```
/// # use retell_sdk::Json;
/// let json = Json::from_text(r#"{"b": 1.0, "a": [2]}"#)?;
/// assert_eq!(json.as_str(), r#"{"a":[2],"b":1}"#);
/// # Ok::<_, retell_sdk::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

impl Json {
    /// Any JSON text. Refuses U+0000 in strings, which not every database can store.
    pub fn from_text(text: &str) -> Result<Self> {
        Ok(Self(json::canonical(text)?))
    }

    /// What a value serialises to. Refuses U+0000 in strings, and more than 127 lists and objects
    /// inside one another, which could not be read back.
    pub fn from_value(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        Ok(Self(json::canonical_value(&serde_json::to_value(value)?)?))
    }

    /// For texts that are known to be canonical, as in rows that this SDK wrote.
    pub(crate) fn from_canonical(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the value as a type of your own.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

/// `null`.
impl Default for Json {
    fn default() -> Self {
        Self("null".to_owned())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({})", self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Self::from_value(&value).map_err(D::Error::custom)
    }
}
