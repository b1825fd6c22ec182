//! What a module may use, and the names by which a deployer changes that.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// One limit of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Linear memory of an instance.
    Memory,
    /// Elements of its tables, all together.
    TableElements,
    /// Its own time for one batch.
    BatchTime,
    /// What one call between it and the host may carry.
    CallBytes,
    /// Rows that it changes in one batch.
    ChangeRows,
    /// Keys and rows that it changes in one batch.
    ChangeBytes,
    /// One row.
    RowBytes,
    /// Log lines in one batch; what is more is dropped and is no error.
    LogLines,
    /// The module's file.
    ModuleSize,
    /// Making machine code of it.
    CompileTime,
}

/// In what a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Milliseconds,
    Pieces,
}

impl Limit {
    pub const ALL: [Self; 10] = [
        Self::Memory,
        Self::TableElements,
        Self::BatchTime,
        Self::CallBytes,
        Self::ChangeRows,
        Self::ChangeBytes,
        Self::RowBytes,
        Self::LogLines,
        Self::ModuleSize,
        Self::CompileTime,
    ];

    /// As it is written behind `--limit`, and kept in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TableElements => "table-elements",
            Self::BatchTime => "batch-time",
            Self::CallBytes => "call-bytes",
            Self::ChangeRows => "change-rows",
            Self::ChangeBytes => "change-bytes",
            Self::RowBytes => "row-bytes",
            Self::LogLines => "log-lines",
            Self::ModuleSize => "module-size",
            Self::CompileTime => "compile-time",
        }
    }

    /// As it is called in messages.
    fn words(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TableElements => "table elements",
            Self::BatchTime => "time for one batch",
            Self::CallBytes => "bytes of one call",
            Self::ChangeRows => "rows changed in one batch",
            Self::ChangeBytes => "bytes changed in one batch",
            Self::RowBytes => "bytes of one row",
            Self::LogLines => "log lines in one batch",
            Self::ModuleSize => "bytes of the module",
            Self::CompileTime => "time to compile it",
        }
    }

    fn unit(self) -> Unit {
        match self {
            Self::TableElements | Self::ChangeRows | Self::LogLines => Unit::Pieces,
            Self::BatchTime | Self::CompileTime => Unit::Milliseconds,
            Self::Memory
            | Self::CallBytes
            | Self::ChangeBytes
            | Self::RowBytes
            | Self::ModuleSize => Unit::Bytes,
        }
    }

    fn default_value(self) -> u64 {
        let size = |bytes: usize| bytes as u64;
        let time = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Memory => size(limits::GUEST_MEMORY_BYTES_MAX),
            Self::TableElements => size(limits::GUEST_TABLE_ELEMENTS_MAX),
            Self::BatchTime => time(limits::GUEST_BATCH_TIME_MAX),
            Self::CallBytes => size(limits::GUEST_CALL_BYTES_MAX),
            Self::ChangeRows => size(limits::GUEST_CHANGE_ROWS_MAX),
            Self::ChangeBytes => size(limits::GUEST_CHANGE_BYTES_MAX),
            Self::RowBytes => size(limits::GUEST_ROW_BYTES_MAX),
            Self::LogLines => size(limits::GUEST_LOG_LINES_MAX),
            Self::ModuleSize => size(limits::MODULE_BYTES_MAX),
            Self::CompileTime => time(limits::COMPILE_TIME_MAX),
        }
    }

    /// A value as people write it.
    pub(super) fn shown(self, value: u64) -> String {
        match self.unit() {
            Unit::Pieces => value.to_string(),
            Unit::Milliseconds if value.is_multiple_of(1_000) => format!("{} s", value / 1_000),
            Unit::Milliseconds => format!("{value} ms"),
            Unit::Bytes if value >= 1 << 20 && value.is_multiple_of(1 << 20) => {
                format!("{} MiB", value >> 20)
            }
            Unit::Bytes if value >= 1 << 10 && value.is_multiple_of(1 << 10) => {
                format!("{} KiB", value >> 10)
            }
            Unit::Bytes => format!("{value} bytes"),
        }
    }

    fn parse(self, text: &str) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor = match (self.unit(), unit.trim_start()) {
            (Unit::Pieces, "") | (Unit::Bytes, "" | "B") | (Unit::Milliseconds, "ms") => 1,
            (Unit::Bytes, "KiB") => 1 << 10,
            (Unit::Bytes, "MiB") => 1 << 20,
            (Unit::Bytes, "GiB") => 1 << 30,
            (Unit::Milliseconds, "s") => 1_000,
            (Unit::Milliseconds, "min") => 60_000,
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        number.checked_mul(factor).filter(|&value| value > 0)
    }

    fn example(self) -> &'static str {
        match self.unit() {
            Unit::Pieces => "1000",
            Unit::Milliseconds => "500ms, 10s or 2min",
            Unit::Bytes => "4096, 64KiB, 512MiB or 1GiB",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What a module may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits([u64; Limit::ALL.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(Limit::ALL.map(Limit::default_value))
    }
}

impl Limits {
    /// Bytes, milliseconds or pieces.
    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// The same with another value of one.
    #[must_use]
    pub fn with(mut self, limit: Limit, value: u64) -> Self {
        self.0[limit as usize] = value;
        self
    }

    pub(crate) fn size(&self, limit: Limit) -> usize {
        usize::try_from(self.get(limit)).unwrap_or(usize::MAX)
    }

    pub(super) fn time(&self, limit: Limit) -> Duration {
        Duration::from_millis(self.get(limit))
    }
}

/// What a deployer changed, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangedLimits(BTreeMap<String, u64>);

/// A limit that can't be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadLimit {
    #[error("`{text}` is not NAME=VALUE")]
    Form { text: String },
    #[error(
        "there is no limit `{name}`; there are {}",
        Limit::ALL.map(Limit::name).join(", ")
    )]
    Unknown { name: String },
    #[error("`{value}` is no value of `{name}`; write {example}")]
    Value {
        name: &'static str,
        value: String,
        example: &'static str,
    },
}

impl ChangedLimits {
    /// Takes one in, written as in `memory=512MiB`.
    pub fn change(&mut self, text: &str) -> Result<(), BadLimit> {
        let (name, value) = text.split_once('=').ok_or_else(|| BadLimit::Form {
            text: text.to_owned(),
        })?;
        let limit = Limit::ALL.into_iter().find(|it| it.name() == name);
        let limit = limit.ok_or_else(|| BadLimit::Unknown {
            name: name.to_owned(),
        })?;
        let parsed = limit.parse(value).ok_or_else(|| BadLimit::Value {
            name: limit.name(),
            value: value.to_owned(),
            example: limit.example(),
        })?;
        self.0.insert(limit.name().to_owned(), parsed);
        Ok(())
    }

    /// These in the place of those. Names that are unknown here, from a newer retell, change nothing.
    pub fn over(&self, limits: Limits) -> Limits {
        Limit::ALL
            .into_iter()
            .filter_map(|limit| Some((limit, *self.0.get(limit.name())?)))
            .fold(limits, |limits, (limit, value)| limits.with(limit, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_people_write_them() {
        let mut changed = ChangedLimits::default();
        for text in [
            "memory=512MiB",
            "batch-time=500ms",
            "compile-time=2min",
            "log-lines=7",
            "row-bytes=4096",
        ] {
            changed.change(text).expect("it makes sense");
        }
        let limits = changed.over(Limits::default());
        assert_eq!(limits.get(Limit::Memory), 512 << 20);
        assert_eq!(limits.get(Limit::BatchTime), 500);
        assert_eq!(limits.get(Limit::CompileTime), 120_000);
        assert_eq!(limits.get(Limit::LogLines), 7);
        assert_eq!(limits.get(Limit::RowBytes), 4096);
        assert_eq!(
            limits.get(Limit::ChangeRows),
            Limits::default().get(Limit::ChangeRows)
        );
        assert_eq!(Limit::Memory.shown(512 << 20), "512 MiB");
        assert_eq!(Limit::BatchTime.shown(5_000), "5 s");
        assert_eq!(Limit::RowBytes.shown(1_000), "1000 bytes");
        let stored = serde_json::to_string(&changed).expect("it has a JSON form");
        let read: ChangedLimits = serde_json::from_str(&stored).expect("and back");
        assert_eq!(read, changed);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let bad = |text: &str| {
            let error = ChangedLimits::default().change(text);
            error.expect_err("it makes no sense").to_string()
        };
        assert!(bad("memory").contains("NAME=VALUE"));
        assert!(bad("money=1").contains("memory, table-elements"));
        for text in [
            "memory=0",
            "memory=-1",
            "memory=1s",
            "batch-time=5",
            "log-lines=1MiB",
            "memory=99999999999GiB",
        ] {
            assert!(bad(text).contains("is no value"), "{text}");
        }
    }
}
