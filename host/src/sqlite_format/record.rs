//! Records: the columns of one row.

use rusqlite::types::ValueRef;

use super::varint;

/// Where the columns of one record are. Its buffer is kept from one record to the next.
#[derive(Debug, Default)]
pub(crate) struct RecordLayout {
    /// More than the record has, perhaps.
    columns: Vec<Place>,
    count: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    serial: u64,
    start: usize,
    end: usize,
}

impl RecordLayout {
    /// Looks at a record's first columns, at most so many. None: the bytes are no record.
    pub(crate) fn of(&mut self, record: &[u8], columns: usize) -> Option<()> {
        self.count = 0;
        if self.columns.len() < columns {
            self.columns.resize(columns, Place::default());
        }
        let (header, mut at) = varint::read(record)?;
        let header = usize::try_from(header).ok()?;
        let head = record.get(..header)?;
        let mut start = header;
        let mut count = 0;
        for place in &mut self.columns[..columns] {
            let Some(&first) = head.get(at) else { break };
            let serial;
            let mut end = start;
            // Nearly all types take one byte.
            if first < 0x80 {
                at += 1;
                serial = u64::from(first);
                end += usize::from(SHORT_WIDTHS[usize::from(first)]);
            } else {
                let (long, bytes) = varint::read(&head[at..])?;
                at += bytes;
                serial = long;
                end = end.checked_add(usize::try_from(long.checked_sub(12)? / 2).ok()?)?;
            }
            *place = Place { serial, start, end };
            start = end;
            count += 1;
        }
        self.count = count;
        (start <= record.len()).then_some(())
    }

    /// A column of the record that was looked at. One that the record does not have is null: it was
    /// added to the table later.
    pub(crate) fn field<'a>(&self, record: &'a [u8], column: usize) -> Option<ValueRef<'a>> {
        let Some(&Place { serial, start, end }) = self.columns[..self.count].get(column) else {
            return Some(ValueRef::Null);
        };
        let bytes = record.get(start..end)?;
        Some(match serial {
            0 => ValueRef::Null,
            1..=6 => ValueRef::Integer(integer(bytes)),
            7 => ValueRef::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
            8 => ValueRef::Integer(0),
            9 => ValueRef::Integer(1),
            10 | 11 => return None,
            _ if serial % 2 == 0 => ValueRef::Blob(bytes),
            _ => ValueRef::Text(bytes),
        })
    }
}

/// Two texts of a record of `columns` columns: that of an early column, and the last one. It looks at
/// what it needs and no more, and gives up (none) where any type but the last takes more than a byte,
/// or where one of the two is no text.
#[inline(always)]
pub(crate) fn early_and_last_text(
    record: &[u8],
    columns: usize,
    early: usize,
) -> Option<(&[u8], &[u8])> {
    let header = usize::from(*record.first().filter(|first| **first < 0x80)?);
    let types = record.get(1..header)?;
    let (short, last) = types.split_at_checked(columns - 1)?;
    if short.iter().fold(0, |all, byte| all | byte) >= 0x80 {
        return None;
    }
    let width = |serial: &u8| usize::from(SHORT_WIDTHS[usize::from(*serial)]);
    let text_bytes = |serial: u64| {
        let is_text = serial >= 13 && serial % 2 == 1;
        is_text.then(|| serial / 2 - 6)
    };
    let start = header + short[..early].iter().map(width).sum::<usize>();
    let early_bytes = usize::try_from(text_bytes(short[early].into())?).ok()?;
    let early = record.get(start..start.checked_add(early_bytes)?)?;
    let (serial, bytes) = varint::read(last)?;
    let last_bytes = usize::try_from(text_bytes(serial)?).ok()?;
    if bytes != last.len() {
        return None;
    }
    let last = record.get(record.len().checked_sub(last_bytes)?..)?;
    Some((early, last))
}

/// Bytes that a value takes, by serial type, of those below 128. Of the two that there are not, it
/// takes none, and is refused when it is asked for.
const SHORT_WIDTHS: [u8; 128] = {
    let mut widths = [0; 128];
    let mut serial: u8 = 1;
    while serial < 128 {
        widths[serial as usize] = match serial {
            8..=11 => 0,
            1..=4 => serial,
            5 => 6,
            6 | 7 => 8,
            _ => (serial - 12) / 2,
        };
        serial += 1;
    }
    widths
};

/// Puts a record together, column by column.
#[derive(Debug, Default)]
pub(crate) struct RecordWriter {
    /// Serial types.
    types: Vec<u8>,
    values: Vec<u8>,
    record: Vec<u8>,
}

impl RecordWriter {
    pub(crate) fn clear(&mut self) {
        self.types.clear();
        self.values.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.types.push(0),
            ValueRef::Integer(0) => self.types.push(8),
            ValueRef::Integer(1) => self.types.push(9),
            ValueRef::Integer(value) => self.push_integer(value),
            ValueRef::Real(value) => {
                self.types.push(7);
                self.values.extend_from_slice(&value.to_be_bytes());
            }
            ValueRef::Text(bytes) => {
                varint::push(&mut self.types, 13 + 2 * bytes.len() as u64);
                self.values.extend_from_slice(bytes);
            }
            ValueRef::Blob(bytes) => {
                varint::push(&mut self.types, 12 + 2 * bytes.len() as u64);
                self.values.extend_from_slice(bytes);
            }
        }
    }

    /// Types and values of the columns that were pushed, for [`begin_like`](Self::begin_like).
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        (&self.types, &self.values)
    }

    /// Begins with the columns of another one.
    pub(crate) fn begin_like(&mut self, types: &[u8], values: &[u8]) {
        self.clear();
        self.types.extend_from_slice(types);
        self.values.extend_from_slice(values);
    }

    /// The record of the columns that were pushed.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.record.clear();
        // The header's length counts itself: one byte up to 127, two up to 16,383, …
        let types = self.types.len() as u64;
        let own = match types {
            0..=126 => 1,
            127..=16_381 => 2,
            _ => 3,
        };
        varint::push(&mut self.record, types + own);
        self.record.extend_from_slice(&self.types);
        self.record.extend_from_slice(&self.values);
        &self.record
    }

    fn push_integer(&mut self, value: i64) {
        let bits = 65 - (value ^ (value >> 63)).leading_zeros();
        let (serial, bytes) = match bits {
            0..=8 => (1, 1),
            9..=16 => (2, 2),
            17..=24 => (3, 3),
            25..=32 => (4, 4),
            33..=48 => (5, 6),
            _ => (6, 8),
        };
        self.types.push(serial);
        self.values
            .extend_from_slice(&value.to_be_bytes()[8 - bytes..]);
    }
}

fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let mut padded = if negative { [0xff; 8] } else { [0; 8] };
    padded[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_be_bytes(padded)
}
