//! A batch of events as it came from the host, with its texts checked once.

use retell_contract::{Column, TextColumn, Values, bit};

use crate::types::Timestamp;

/// A batch of events; see the record `event-batch` of the contract.
#[derive(Debug, Default)]
pub struct Batch {
    pub positions: Vec<u64>,
    pub shapes: Vec<u16>,
    pub blocks: Vec<Vec<Cells>>,
    pub revisions: Option<Vec<u64>>,
    pub times: Option<Vec<i64>>,
    pub recorded_at: Option<Vec<i64>>,
    pub occurred_at: Option<Cells>,
    pub streams: Option<Texts>,
    pub ids: Option<Texts>,
    pub metadata: Option<Texts>,
    pub type_names: Option<Texts>,
}

/// A column of texts. That it is UTF-8 is checked once for the column, not for each text.
#[derive(Debug)]
pub struct Texts {
    ends: Vec<u32>,
    text: String,
}

impl Texts {
    pub(crate) fn get(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[row] as usize]
    }
}

impl From<TextColumn> for Texts {
    fn from(column: TextColumn) -> Self {
        let text = String::from_utf8(column.bytes).expect("the host gives UTF-8");
        Self {
            ends: column.ends,
            text,
        }
    }
}

/// A column of a block: the values of one field.
#[derive(Debug)]
pub struct Cells {
    values: CellValues,
    present: Option<Vec<u8>>,
    null: Option<Vec<u8>>,
}

#[derive(Debug)]
enum CellValues {
    Booleans(Vec<u8>),
    Integers(Vec<i64>),
    Reals(Vec<f64>),
    Texts(Texts),
}

impl From<Column> for Cells {
    fn from(column: Column) -> Self {
        let values = match column.values {
            Values::Booleans(values) => CellValues::Booleans(values),
            Values::Integers(values) => CellValues::Integers(values),
            Values::Reals(values) => CellValues::Reals(values),
            Values::Texts(texts) | Values::Json(texts) => CellValues::Texts(texts.into()),
        };
        Self {
            values,
            present: column.present,
            null: column.null,
        }
    }
}

/// The manifest says what each column holds; a host that sends something else broke the contract,
/// and that is no fault of an event.
const OTHER_TYPE: &str = "the host sends the types that the manifest asks for";

impl Cells {
    /// How many events there are of the shape.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            CellValues::Booleans(values) => values.len(),
            CellValues::Integers(values) => values.len(),
            CellValues::Reals(values) => values.len(),
            CellValues::Texts(texts) => texts.ends.len(),
        }
    }

    pub(crate) fn missing(&self, row: usize) -> bool {
        self.present.as_ref().is_some_and(|bits| !bit(bits, row))
    }

    pub(crate) fn null(&self, row: usize) -> bool {
        self.null.as_ref().is_some_and(|bits| bit(bits, row))
    }

    pub(crate) fn boolean(&self, row: usize) -> bool {
        let CellValues::Booleans(values) = &self.values else {
            panic!("{OTHER_TYPE}")
        };
        values[row] != 0
    }

    pub(crate) fn integers(&self) -> &[i64] {
        let CellValues::Integers(values) = &self.values else {
            panic!("{OTHER_TYPE}")
        };
        values
    }

    pub(crate) fn integer(&self, row: usize) -> i64 {
        self.integers()[row]
    }

    pub(crate) fn real(&self, row: usize) -> f64 {
        let CellValues::Reals(values) = &self.values else {
            panic!("{OTHER_TYPE}")
        };
        values[row]
    }

    /// A text, or JSON.
    pub(crate) fn text(&self, row: usize) -> &str {
        let CellValues::Texts(texts) = &self.values else {
            panic!("{OTHER_TYPE}")
        };
        texts.get(row)
    }
}

/// One event of a batch, as the generated code sees it.
#[allow(clippy::struct_field_names, reason = "the row of a block is called so")]
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub(crate) batch: &'a Batch,
    /// Which event of the batch.
    pub(crate) event: usize,
    /// The block of its shape, and the row in it.
    pub(crate) block: &'a [Cells],
    pub(crate) row: usize,
    /// Which arm of the event type decodes it.
    pub(crate) arm: u16,
}

/// The envelope of an event; the generated `Meta` hands out the parts that were asked for. These are
/// no methods, or the compiler would suggest them for a part that was not.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    batch: &'a Batch,
    event: usize,
}

const NOT_ASKED: &str = "the host gives the parts of the envelope that the manifest asks for";

#[allow(
    clippy::missing_panics_doc,
    reason = "only a host that breaks the contract"
)]
impl<'a> Envelope<'a> {
    pub fn new(row: Row<'a>) -> Self {
        Self {
            batch: row.batch,
            event: row.event,
        }
    }

    pub fn position(this: Self) -> u64 {
        this.batch.positions[this.event]
    }

    pub fn revision(this: Self) -> u64 {
        this.batch.revisions.as_ref().expect(NOT_ASKED)[this.event]
    }

    pub fn time(this: Self) -> Timestamp {
        Timestamp::from_contract(this.batch.times.as_ref().expect(NOT_ASKED)[this.event])
    }

    pub fn recorded_at(this: Self) -> Timestamp {
        Timestamp::from_contract(this.batch.recorded_at.as_ref().expect(NOT_ASKED)[this.event])
    }

    pub fn occurred_at(this: Self) -> Option<Timestamp> {
        let cells = this.batch.occurred_at.as_ref().expect(NOT_ASKED);
        let known = !cells.missing(this.event) && !cells.null(this.event);
        known.then(|| Timestamp::from_contract(cells.integer(this.event)))
    }

    pub fn stream(this: Self) -> &'a str {
        this.text(this.batch.streams.as_ref())
    }

    pub fn id(this: Self) -> &'a str {
        this.text(this.batch.ids.as_ref())
    }

    pub fn metadata(this: Self) -> &'a str {
        this.text(this.batch.metadata.as_ref())
    }

    pub fn event_type(this: Self) -> &'a str {
        this.text(this.batch.type_names.as_ref())
    }

    fn text(self, texts: Option<&'a Texts>) -> &'a str {
        texts.expect(NOT_ASKED).get(self.event)
    }
}
