//! Events as typed columns: the blocks of an event batch, and how they are filled.

use crate::manifest::{Field, Shape, Wanted};

/// The values of a column, one per row; a row that is missing or null holds a placeholder.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 0 or 1.
    Booleans(Vec<u8>),
    /// Also timestamps: microseconds since the Unix epoch.
    Integers(Vec<i64>),
    Reals(Vec<f64>),
    /// Also UUIDs: hyphenated, lower case.
    Texts(TextColumn),
    Json(TextColumn),
}

/// Texts end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextColumn {
    /// Where each text ends in `bytes`; the first starts at 0.
    pub ends: Vec<u32>,
    /// UTF-8; where texts come from a log, only as far as somebody has looked.
    pub bytes: Vec<u8>,
}

/// A column of a block. Bit i of a bitmap, least significant first, speaks of row i.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub values: Values,
    /// Which rows have a value or a null; left out when all have.
    pub present: Option<Vec<u8>>,
    /// Which rows are null; left out when none is.
    pub null: Option<Vec<u8>>,
}

/// Bit `row` of a bitmap.
pub fn bit(bitmap: &[u8], row: usize) -> bool {
    bitmap
        .get(row / 8)
        .is_some_and(|byte| byte & (1 << (row % 8)) != 0)
}

impl TextColumn {
    /// # Panics
    /// When the texts take more than 4 GiB: cut batches by bytes.
    pub fn push(&mut self, text: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(text.as_ref());
        self.ends
            .push(u32::try_from(self.bytes.len()).expect("a batch is cut below 4 GiB"));
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        let end = *self.ends.get(row)? as usize;
        let start = row
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        std::str::from_utf8(self.bytes.get(start..end)?).ok()
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets the texts and keeps the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|row| self.get(row))
    }

    fn pop(&mut self) {
        self.ends.pop();
        self.bytes
            .truncate(self.ends.last().map_or(0, |&end| end as usize));
    }
}

/// The blocks of a batch under construction: for each shape its columns, for each event that was
/// fitted a row in the block of its shape.
#[derive(Debug)]
pub struct Blocks {
    shapes: Vec<Vec<ColumnBuilder>>,
}

impl Blocks {
    pub fn new(shapes: &[Shape]) -> Self {
        let columns = |shape: &Shape| shape.fields.iter().map(ColumnBuilder::new).collect();
        Self {
            shapes: shapes.iter().map(columns).collect(),
        }
    }

    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        self.columns().for_each(ColumnBuilder::clear);
    }

    /// The finished blocks, by shape; what is left is empty.
    pub fn take(&mut self) -> Vec<Vec<Column>> {
        self.shapes
            .iter_mut()
            .map(|shape| shape.iter_mut().map(ColumnBuilder::take).collect())
            .collect()
    }

    /// Bytes that the values take, so that a batch can be cut by size.
    pub fn bytes(&self) -> usize {
        self.shapes.iter().flatten().map(ColumnBuilder::bytes).sum()
    }

    pub(crate) fn shape(&mut self, shape: u16) -> &mut [ColumnBuilder] {
        &mut self.shapes[usize::from(shape)]
    }

    fn columns(&mut self) -> impl Iterator<Item = &mut ColumnBuilder> {
        self.shapes.iter_mut().flatten()
    }
}

/// A column under construction. Rows that have a value cost the bitmaps nothing.
#[derive(Debug, Clone)]
pub(crate) struct ColumnBuilder {
    values: Values,
    rows: usize,
    missing: Marks,
    null: Marks,
}

/// A value that fits its field.
#[derive(Debug, PartialEq)]
pub(crate) enum Fitted<'a> {
    Missing,
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(&'a str),
}

impl ColumnBuilder {
    fn new(field: &Field) -> Self {
        let values = match field.wants {
            Wanted::Boolean => Values::Booleans(Vec::new()),
            Wanted::Integer | Wanted::Timestamp => Values::Integers(Vec::new()),
            Wanted::Real => Values::Reals(Vec::new()),
            Wanted::Text | Wanted::Uuid => Values::Texts(TextColumn::default()),
            Wanted::Json => Values::Json(TextColumn::default()),
        };
        Self {
            values,
            rows: 0,
            missing: Marks::default(),
            null: Marks::default(),
        }
    }

    /// `push` of an integer, without a detour where the column has them.
    #[inline]
    pub(crate) fn push_integer(&mut self, value: i64) {
        match &mut self.values {
            Values::Integers(values) => {
                values.push(value);
                self.rows += 1;
            }
            _ => self.push(&Fitted::Integer(value)),
        }
    }

    pub(crate) fn push(&mut self, value: &Fitted<'_>) {
        match value {
            Fitted::Missing => self.missing.set(self.rows),
            Fitted::Null => self.null.set(self.rows),
            _ => {}
        }
        self.rows += 1;
        match (&mut self.values, value) {
            (Values::Booleans(values), Fitted::Boolean(value)) => values.push(u8::from(*value)),
            (Values::Booleans(values), _) => values.push(0),
            (Values::Integers(values), Fitted::Integer(value)) => values.push(*value),
            (Values::Integers(values), _) => values.push(0),
            (Values::Reals(values), Fitted::Real(value)) => values.push(*value),
            (Values::Reals(values), _) => values.push(0.0),
            (Values::Texts(texts) | Values::Json(texts), Fitted::Text(text)) => texts.push(text),
            (Values::Texts(texts) | Values::Json(texts), _) => texts.push(""),
        }
    }

    /// Takes the last row back.
    pub(crate) fn pop(&mut self) {
        let Some(last) = self.rows.checked_sub(1) else {
            return;
        };
        self.rows = last;
        self.missing.unset(last);
        self.null.unset(last);
        match &mut self.values {
            Values::Booleans(values) => drop(values.pop()),
            Values::Integers(values) => drop(values.pop()),
            Values::Reals(values) => drop(values.pop()),
            Values::Texts(texts) | Values::Json(texts) => texts.pop(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.values {
            Values::Booleans(values) => values.len(),
            Values::Integers(values) => values.len() * 8,
            Values::Reals(values) => values.len() * 8,
            Values::Texts(texts) | Values::Json(texts) => texts.bytes.len() + texts.len() * 4,
        }
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.missing.0.clear();
        self.null.0.clear();
        match &mut self.values {
            Values::Booleans(values) => values.clear(),
            Values::Integers(values) => values.clear(),
            Values::Reals(values) => values.clear(),
            Values::Texts(texts) | Values::Json(texts) => texts.clear(),
        }
    }

    fn take(&mut self) -> Column {
        let empty = match &self.values {
            Values::Booleans(_) => Values::Booleans(Vec::new()),
            Values::Integers(_) => Values::Integers(Vec::new()),
            Values::Reals(_) => Values::Reals(Vec::new()),
            Values::Texts(_) => Values::Texts(TextColumn::default()),
            Values::Json(_) => Values::Json(TextColumn::default()),
        };
        let column = Column {
            values: std::mem::replace(&mut self.values, empty),
            present: self.missing.take(self.rows).map(|missing| {
                let mut present: Vec<u8> = missing.iter().map(|bits| !bits).collect();
                without_rest(&mut present, self.rows);
                present
            }),
            null: self.null.take(self.rows),
        };
        self.clear();
        column
    }
}

/// A bitmap that is as long as its last mark needs.
#[derive(Debug, Clone, Default)]
struct Marks(Vec<u8>);

impl Marks {
    /// Marks the last row.
    fn set(&mut self, row: usize) {
        self.0.resize(row / 8 + 1, 0);
        self.0[row / 8] |= 1 << (row % 8);
    }

    /// Takes back the mark of the last row, if it has one.
    fn unset(&mut self, row: usize) {
        if let Some(byte) = self.0.get_mut(row / 8) {
            *byte &= !(1 << (row % 8));
        }
    }

    /// The bitmap of so many rows, if any is marked.
    fn take(&mut self, rows: usize) -> Option<Vec<u8>> {
        let mut bits = std::mem::take(&mut self.0);
        bits.resize(rows.div_ceil(8), 0);
        bits.iter().any(|&byte| byte != 0).then_some(bits)
    }
}

/// Clears the bits behind the last row.
fn without_rest(bits: &mut [u8], rows: usize) {
    if let Some(last) = bits.last_mut()
        && !rows.is_multiple_of(8)
    {
        *last &= (1 << (rows % 8)) - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(wants: Wanted) -> ColumnBuilder {
        ColumnBuilder::new(&Field {
            paths: vec![],
            wants,
            optional: true,
            nullable: true,
        })
    }

    #[test]
    fn bitmaps_appear_only_when_they_say_something() {
        let mut builder = column(Wanted::Text);
        for row in 0..9 {
            builder.push(&Fitted::Text(&row.to_string()));
        }
        let full = builder.take();
        assert_eq!((full.present, full.null), (None, None));

        for row in 0..9 {
            builder.push(if row == 8 {
                &Fitted::Missing
            } else {
                &Fitted::Null
            });
        }
        let column = builder.take();
        assert_eq!(column.present, Some(vec![0xff, 0]));
        assert_eq!(column.null, Some(vec![0xff, 0]));
    }

    #[test]
    fn a_popped_row_leaves_no_trace() {
        let mut builder = column(Wanted::Text);
        for row in 0..20 {
            builder.push(&Fitted::Text(&row.to_string()));
            for value in [Fitted::Missing, Fitted::Null, Fitted::Text("x")] {
                builder.push(&value);
                builder.pop();
            }
        }
        let Column {
            values: Values::Texts(texts),
            present: None,
            null: None,
        } = builder.take()
        else {
            panic!("a column of texts without bitmaps");
        };
        assert!(
            texts
                .iter()
                .eq((0..20).map(|row| row.to_string()).collect::<Vec<_>>())
        );
        assert_eq!(texts.get(20), None);
    }

    #[test]
    fn bits_beyond_the_bitmap_are_not_set() {
        assert!(bit(&[2], 1));
        assert!(!bit(&[2], 0));
        assert!(!bit(&[255], 8));
    }
}
