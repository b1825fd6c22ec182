//! From events as the log holds them to the columns that a module declared. Stateless but for
//! buffers: what one event becomes depends on that event alone.

use std::ops::Range;

use retell_contract::manifest::{Envelope, Manifest};
use retell_contract::{Blocks, Column, FieldError, Fitter, Located, TextColumn, Values};

use crate::log::EventChunk;
use crate::wasm::EventBatch;

/// Makes batches for one module.
#[derive(Debug)]
pub(super) struct Parser {
    fitter: Fitter,
    located: Located,
    blocks: Blocks,
    envelope: Envelope,
}

/// A batch, and where it ends early because an event does not fit.
pub(super) struct Parsed {
    pub(super) batch: EventBatch,
    /// Index in the chunk of each event in the batch.
    pub(super) sources: Vec<usize>,
    /// The first event that does not fit what the module declared. The batch ends before it.
    pub(super) misfit: Option<Misfit>,
}

/// An event that fits none of its type's shapes.
pub(super) struct Misfit {
    /// Index in the chunk.
    pub(super) at: usize,
    pub(super) error: FieldError,
}

impl Parser {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            fitter: Fitter::new(&[&manifest.shapes]),
            located: Located::default(),
            blocks: Blocks::new(&manifest.shapes),
            envelope: manifest.envelope,
        }
    }

    /// Parses a range of the chunk. Events that the module did not subscribe to are left out.
    pub(super) fn parse(&mut self, chunk: &EventChunk, range: Range<usize>) -> Parsed {
        self.blocks.clear();
        let mut sources = Vec::with_capacity(range.len());
        let mut shapes = Vec::with_capacity(range.len());
        let mut misfit = None;
        for at in range {
            let Some(plan) = self.fitter.plan(chunk.type_name(at)) else {
                continue;
            };
            let payload = text(&chunk.payloads, at);
            self.fitter.locate(plan, payload, &mut self.located);
            match self
                .fitter
                .fit(plan, 0, payload, &self.located, &mut self.blocks)
            {
                Ok(Some(shape)) => {
                    sources.push(at);
                    shapes.push(shape);
                }
                Ok(None) => {}
                Err(error) => {
                    misfit = Some(Misfit { at, error });
                    break;
                }
            }
        }
        let batch = self.batch(chunk, &sources, shapes);
        Parsed {
            batch,
            sources,
            misfit,
        }
    }

    fn batch(&mut self, chunk: &EventChunk, sources: &[usize], shapes: Vec<u16>) -> EventBatch {
        let asked = self.envelope;
        let texts = |column: &TextColumn| pick(sources, |at| text(column, at));
        let metadata = || {
            pick(sources, |at| match text(&chunk.metadata, at) {
                b"" => b"null",
                text => text,
            })
        };
        let type_names = || pick(sources, |at| chunk.type_name(at).as_bytes());
        let time = |at: &usize| chunk.occurred_at[*at].unwrap_or(chunk.recorded_at[*at]);
        let blocks = self.blocks.take();
        EventBatch {
            positions: sources.iter().map(|&at| chunk.positions[at]).collect(),
            shapes,
            blocks: blocks
                .into_iter()
                .map(|block| block.into_iter().map(Into::into).collect())
                .collect(),
            revisions: asked
                .revision
                .then(|| sources.iter().map(|&at| chunk.revisions[at]).collect()),
            times: asked.time.then(|| sources.iter().map(time).collect()),
            recorded_at: asked
                .recorded_at
                .then(|| sources.iter().map(|&at| chunk.recorded_at[at]).collect()),
            occurred_at: asked
                .occurred_at
                .then(|| occurred_at(chunk, sources).into()),
            streams: asked.stream.then(|| texts(&chunk.streams).into()),
            ids: asked.id.then(|| texts(&chunk.ids).into()),
            metadata: asked.metadata.then(|| metadata().into()),
            type_names: asked.type_name.then(|| type_names().into()),
        }
    }
}

/// The writers' times, with a bitmap where some gave none.
fn occurred_at(chunk: &EventChunk, sources: &[usize]) -> Column {
    let mut present = vec![0_u8; sources.len().div_ceil(8)];
    let mut times = Vec::with_capacity(sources.len());
    for (row, &at) in sources.iter().enumerate() {
        if chunk.occurred_at[at].is_some() {
            present[row / 8] |= 1 << (row % 8);
        }
        times.push(chunk.occurred_at[at].unwrap_or_default());
    }
    let all = sources.iter().all(|&at| chunk.occurred_at[at].is_some());
    Column {
        values: Values::Integers(times),
        present: (!all).then_some(present),
        null: None,
    }
}

/// One text of a column, as the bytes the log holds.
fn text(column: &TextColumn, row: usize) -> &[u8] {
    let end = |row: usize| usize::try_from(column.ends[row]).expect("a usize holds a u32 here");
    let start = if row == 0 { 0 } else { end(row - 1) };
    &column.bytes[start..end(row)]
}

/// A column of one text for each event of the batch.
fn pick<'a>(sources: &[usize], text_of: impl Fn(usize) -> &'a [u8]) -> TextColumn {
    let mut picked = TextColumn::default();
    for &at in sources {
        picked.bytes.extend_from_slice(text_of(at));
        picked
            .ends
            .push(u32::try_from(picked.bytes.len()).expect("a batch is limited to far less"));
    }
    picked
}
