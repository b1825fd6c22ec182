//! The types a column can have, and the rules that every stored value keeps.
//!
//! The rules are the intersection of what SQLite and PostgreSQL store faithfully, so that a read
//! model has the same content on both: reals are finite and have no negative zero, text has no
//! U+0000, timestamps lie in the years 1 to 9999, JSON is canonical.

use std::fmt;

use memchr::memchr;
use serde::{Deserialize, Serialize};

use crate::{json, time};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Boolean,
    Integer,
    Real,
    Text,
    Bytes,
    Timestamp,
    Uuid,
    Json,
}

impl ColumnType {
    /// The lower-case name, as it stands in messages and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Uuid => "uuid",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of a column, owned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Microseconds since the Unix epoch, UTC.
    Timestamp(i64),
    Uuid([u8; 16]),
    /// Canonical JSON text ([`json::canonical`]).
    Json(String),
}

/// A value of a column, borrowed from an encoded row or from a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Timestamp(i64),
    Uuid(&'a [u8; 16]),
    Json(&'a str),
}

/// A value that its column cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("column `{column}` cannot be null")]
    Null { column: String },
    #[error("column `{column}`: expected {expected}, found {found}")]
    Type {
        column: String,
        expected: ColumnType,
        found: &'static str,
    },
    #[error("column `{column}`: reals must be finite, found {found}")]
    NotFinite { column: String, found: String },
    #[error("column `{column}`: text must not hold U+0000 (found at byte {at})")]
    Nul { column: String, at: usize },
    #[error("column `{column}`: timestamps must lie in the years 1 to 9999, found {micros} µs")]
    Timestamp { column: String, micros: i64 },
    #[error("column `{column}`: {reason}")]
    Json { column: String, reason: String },
}

impl Value {
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Boolean(v) => ValueRef::Boolean(*v),
            Self::Integer(v) => ValueRef::Integer(*v),
            Self::Real(v) => ValueRef::Real(*v),
            Self::Text(v) => ValueRef::Text(v),
            Self::Bytes(v) => ValueRef::Bytes(v),
            Self::Timestamp(v) => ValueRef::Timestamp(*v),
            Self::Uuid(v) => ValueRef::Uuid(v),
            Self::Json(v) => ValueRef::Json(v),
        }
    }

    /// Whether a column of this type can hold the value; `column` is its name, for the message.
    pub fn check(&self, column: &str, ty: ColumnType, nullable: bool) -> Result<(), ValueError> {
        self.as_ref().check(column, ty, nullable)
    }

    /// The name of the value's type; `null` for a null.
    pub fn type_name(&self) -> &'static str {
        self.as_ref().type_name()
    }
}

impl ValueRef<'_> {
    /// The type of column that the value belongs in; none for a null.
    pub fn column_type(&self) -> Option<ColumnType> {
        Some(match self {
            Self::Null => return None,
            Self::Boolean(_) => ColumnType::Boolean,
            Self::Integer(_) => ColumnType::Integer,
            Self::Real(_) => ColumnType::Real,
            Self::Text(_) => ColumnType::Text,
            Self::Bytes(_) => ColumnType::Bytes,
            Self::Timestamp(_) => ColumnType::Timestamp,
            Self::Uuid(_) => ColumnType::Uuid,
            Self::Json(_) => ColumnType::Json,
        })
    }

    pub fn type_name(&self) -> &'static str {
        self.column_type().map_or("null", ColumnType::name)
    }

    pub fn to_value(&self) -> Value {
        match *self {
            Self::Null => Value::Null,
            Self::Boolean(v) => Value::Boolean(v),
            Self::Integer(v) => Value::Integer(v),
            Self::Real(v) => Value::Real(v),
            Self::Text(v) => Value::Text(v.to_owned()),
            Self::Bytes(v) => Value::Bytes(v.to_vec()),
            Self::Timestamp(v) => Value::Timestamp(v),
            Self::Uuid(v) => Value::Uuid(*v),
            Self::Json(v) => Value::Json(v.to_owned()),
        }
    }

    /// See [`Value::check`].
    pub fn check(&self, column: &str, ty: ColumnType, nullable: bool) -> Result<(), ValueError> {
        let Some(found) = self.column_type() else {
            return if nullable {
                Ok(())
            } else {
                Err(ValueError::Null {
                    column: column.to_owned(),
                })
            };
        };
        if found != ty {
            let column = column.to_owned();
            return Err(ValueError::Type {
                column,
                expected: ty,
                found: found.name(),
            });
        }
        match *self {
            Self::Real(v) => check_real(column, v),
            Self::Text(v) => check_text(column, v),
            Self::Timestamp(v) => check_timestamp(column, v),
            Self::Json(v) => check_json(column, v),
            _ => Ok(()),
        }
    }
}

/// Refuses NaN and the infinities.
pub fn check_real(column: &str, value: f64) -> Result<(), ValueError> {
    if value.is_finite() {
        return Ok(());
    }
    Err(ValueError::NotFinite {
        column: column.to_owned(),
        found: value.to_string(),
    })
}

/// Refuses U+0000, which PostgreSQL cannot store.
pub fn check_text(column: &str, value: &str) -> Result<(), ValueError> {
    match first_nul(value.as_bytes()) {
        None => Ok(()),
        Some(at) => Err(ValueError::Nul {
            column: column.to_owned(),
            at,
        }),
    }
}

/// Most texts are short, and a module has no wide registers in which to search them.
fn first_nul(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::MAX / 0xff;
    const HIGH: u64 = LOW << 7;
    // Only bytes that are zero borrow from, or through, their highest bit.
    let has_nul = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(LOW) & !word & HIGH != 0
    };
    let has_none = match bytes.last_chunk() {
        Some(last) if bytes.len() <= 32 => {
            !has_nul(last) && !bytes.as_chunks().0.iter().any(has_nul)
        }
        _ => false,
    };
    if has_none { None } else { memchr(0, bytes) }
}

/// Refuses what lies outside the years 1 to 9999.
pub fn check_timestamp(column: &str, micros: i64) -> Result<(), ValueError> {
    if (time::TIMESTAMP_MIN..=time::TIMESTAMP_MAX).contains(&micros) {
        return Ok(());
    }
    Err(ValueError::Timestamp {
        column: column.to_owned(),
        micros,
    })
}

fn check_json(column: &str, text: &str) -> Result<(), ValueError> {
    let reason = match json::canonical(text) {
        Ok(canonical) if canonical == text => return Ok(()),
        Ok(_) => "the JSON text is not canonical".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ValueError::Json {
        column: column.to_owned(),
        reason,
    })
}

/// The real as it is stored: negative zero becomes zero.
pub fn normal_real(value: f64) -> f64 {
    // -0.0 + 0.0 is 0.0, and every other number is itself.
    value + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(value: &Value, ty: ColumnType, nullable: bool) -> String {
        value
            .check("c", ty, nullable)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn values_that_no_column_holds_are_refused() {
        use ColumnType::{Integer, Json, Real, Text, Timestamp};
        assert_eq!(
            refused(&Value::Null, Text, false),
            "column `c` cannot be null"
        );
        assert_eq!(
            refused(&Value::Integer(1), Text, true),
            "column `c`: expected text, found integer"
        );
        assert_eq!(
            refused(&Value::Real(f64::NAN), Real, false),
            "column `c`: reals must be finite, found NaN"
        );
        assert!(refused(&Value::Real(f64::INFINITY), Real, false).ends_with("found inf"));
        assert_eq!(
            refused(&Value::Text("a\0".into()), Text, false),
            "column `c`: text must not hold U+0000 (found at byte 1)"
        );
        assert!(refused(&Value::Timestamp(i64::MAX), Timestamp, false).contains("years 1 to 9999"));
        assert!(refused(&Value::Json("{ }".into()), Json, false).contains("not canonical"));
        assert!(refused(&Value::Json("{".into()), Json, false).contains("JSON"));
        assert!(refused(&Value::Boolean(true), Integer, false).contains("found boolean"));
    }

    #[test]
    fn a_nul_is_found_wherever_it_is() {
        for length in 0..40 {
            // Bytes around zero, and those with the highest bit, must not be taken for it.
            let text: Vec<u8> = [1, 0x7f, 0x80, 0xff].repeat(10)[..length].to_vec();
            assert_eq!(first_nul(&text), None, "{length} bytes");
            for at in 0..length {
                let mut with_nul = text.clone();
                with_nul[at] = 0;
                assert_eq!(first_nul(&with_nul), Some(at), "{length} bytes");
            }
        }
    }

    #[test]
    fn null_fits_where_it_may() {
        Value::Null
            .check("c", ColumnType::Json, true)
            .expect("nullable");
    }

    #[test]
    fn negative_zero_is_normal_zero() {
        assert!(normal_real(-0.0).is_sign_positive());
        assert!(normal_real(-1.5).is_sign_negative());
    }
}
