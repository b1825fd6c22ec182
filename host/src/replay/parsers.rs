//! From events as the log holds them to the columns that modules declared. Stateless but for
//! buffers: what one event becomes depends on that event alone, and what it becomes for one module
//! does not depend on who else reads along.

use std::ops::Range;
use std::sync::Arc;

use retell_contract::fit::{ANY_TYPE, PlanId};
use retell_contract::manifest::{Envelope, Manifest, Shape};
use retell_contract::{Blocks, Column, FieldError, FitTo, Fitter, Located, TextColumn, Values};

use crate::event::Position;
use crate::log::{EnvelopeParts, EventChunk, TypeFilter};
use crate::wasm::EventBatch;

/// What one module asks of the log.
#[derive(Debug)]
pub(super) struct Asks {
    shapes: Vec<Shape>,
    envelope: Envelope,
}

impl Asks {
    pub(super) fn new(manifest: &Manifest) -> Arc<Self> {
        Arc::new(Self {
            shapes: manifest.shapes.clone(),
            envelope: manifest.envelope,
        })
    }
}

/// The events that any of these modules asks for.
pub(super) fn types_of(all: &[Arc<Asks>]) -> TypeFilter {
    let shapes = || all.iter().flat_map(|asks| &asks.shapes);
    if shapes().any(|shape| shape.event_type == ANY_TYPE) {
        return TypeFilter::All;
    }
    let mut types: Vec<String> = shapes().map(|shape| shape.event_type.clone()).collect();
    types.sort();
    types.dedup();
    TypeFilter::Only(types)
}

/// The parts of the envelope that any of these modules asks for.
pub(super) fn parts_of(all: &[Arc<Asks>]) -> EnvelopeParts {
    let any = |asked: fn(&Envelope) -> bool| all.iter().any(|asks| asked(&asks.envelope));
    EnvelopeParts {
        revision: any(|it| it.revision),
        // `time` is the one where there is one, else the other.
        occurred_at: any(|it| it.occurred_at || it.time),
        recorded_at: any(|it| it.recorded_at || it.time),
        stream: any(|it| it.stream),
        id: any(|it| it.id),
        metadata: any(|it| it.metadata),
    }
}

/// Makes batches for modules that read the log together.
#[derive(Debug)]
pub(super) struct Parser {
    fitter: Fitter,
    located: Located,
    /// By the chunk's number of the type; filled as types are met.
    plans: Vec<Option<PlanId>>,
    modules: Vec<ModuleParser>,
    /// By module.
    blocks: Vec<Blocks>,
}

#[derive(Debug)]
struct ModuleParser {
    asks: Arc<Asks>,
    sources: Vec<usize>,
    shapes: Vec<u16>,
    misfit: Option<Misfit>,
}

/// One module's batch, and where it ends early because an event does not fit.
pub(super) struct Parsed {
    pub(super) batch: EventBatch,
    /// Index in the chunk of each event in the batch.
    pub(super) sources: Vec<usize>,
    /// The first event that does not fit what the module declared. The batch ends before it.
    pub(super) misfit: Option<Misfit>,
    /// Memory that the batch takes, roughly.
    pub(super) bytes: usize,
}

/// An event that fits none of its type's shapes.
#[derive(Debug)]
pub(super) struct Misfit {
    /// Index in the chunk.
    pub(super) at: usize,
    pub(super) error: FieldError,
}

impl Parser {
    pub(super) fn new(all: &[Arc<Asks>]) -> Self {
        let shapes: Vec<&[Shape]> = all.iter().map(|asks| asks.shapes.as_slice()).collect();
        let module = |asks: &Arc<Asks>| ModuleParser {
            asks: asks.clone(),
            sources: Vec::new(),
            shapes: Vec::new(),
            misfit: None,
        };
        Self {
            fitter: Fitter::new(&shapes),
            located: Located::default(),
            plans: Vec::new(),
            modules: all.iter().map(module).collect(),
            blocks: all.iter().map(|asks| Blocks::new(&asks.shapes)).collect(),
        }
    }

    /// Parses a range of the chunk: one batch for each module, without the events that it did not
    /// ask for. Always called with the same chunk.
    pub(super) fn parse(&mut self, chunk: &EventChunk, range: Range<usize>) -> Vec<Parsed> {
        for name in &chunk.type_names[self.plans.len()..] {
            self.plans.push(self.fitter.plan(name));
        }
        let has_twins = self.fitter.has_twins();
        if has_twins && self.fit(chunk, range.clone(), FitTo::OwnColumns) {
            self.fitter.copy_twins(&mut self.blocks);
        } else {
            self.fit(chunk, range, FitTo::AllColumns);
        }
        let modules = self.modules.iter_mut().zip(&mut self.blocks);
        modules
            .map(|(module, blocks)| module.finish(chunk, blocks))
            .collect()
    }

    /// Fits the events of a range for each module, up to the first that does not fit for it. To own
    /// columns it ends at the first that does not fit for any, and what was done is void. Says
    /// whether all fit.
    fn fit(&mut self, chunk: &EventChunk, range: Range<usize>, to: FitTo) -> bool {
        for (module, blocks) in self.modules.iter_mut().zip(&mut self.blocks) {
            module.begin(range.len());
            blocks.clear();
        }
        let mut all_fit = true;
        for at in range {
            let Some(plan) = self.plans[usize::from(chunk.types[at])] else {
                continue;
            };
            let payload = text(&chunk.payloads, at);
            self.fitter.locate(plan, payload, &mut self.located);
            let modules = self.modules.iter_mut().zip(&mut self.blocks);
            for (number, (module, blocks)) in modules.enumerate() {
                if module.misfit.is_some() {
                    continue;
                }
                let located = &self.located;
                match self.fitter.fit(plan, number, payload, located, blocks, to) {
                    Ok(Some(shape)) => {
                        module.sources.push(at);
                        module.shapes.push(shape);
                    }
                    Ok(None) => {}
                    Err(_) if to == FitTo::OwnColumns => return false,
                    Err(error) => {
                        module.misfit = Some(Misfit { at, error });
                        all_fit = false;
                    }
                }
            }
        }
        all_fit
    }
}

impl ModuleParser {
    fn begin(&mut self, events: usize) {
        self.sources = Vec::with_capacity(events);
        self.shapes = Vec::with_capacity(events);
        self.misfit = None;
    }

    fn finish(&mut self, chunk: &EventChunk, blocks: &mut Blocks) -> Parsed {
        let sources = std::mem::take(&mut self.sources);
        let shapes = std::mem::take(&mut self.shapes);
        let asked = self.asks.envelope;
        let texts = [
            (asked.stream, &chunk.streams),
            (asked.id, &chunk.ids),
            (asked.metadata, &chunk.metadata),
        ];
        let texts = texts.iter().filter(|(asked, _)| *asked);
        let texts: usize = texts.map(|(_, texts)| texts.bytes.len()).sum();
        Parsed {
            bytes: blocks.bytes() + texts + sources.len() * event_bytes(asked),
            batch: self.batch(chunk, blocks.take(), &sources, shapes),
            sources,
            misfit: self.misfit.take(),
        }
    }

    fn batch(
        &self,
        chunk: &EventChunk,
        blocks: Vec<Vec<Column>>,
        sources: &[usize],
        shapes: Vec<u16>,
    ) -> EventBatch {
        let asked = self.asks.envelope;
        let texts = |column: &TextColumn| pick(sources, |at| text(column, at));
        let metadata = || {
            pick(sources, |at| match text(&chunk.metadata, at) {
                b"" => b"null",
                text => text,
            })
        };
        let type_names = || pick(sources, |at| chunk.type_name(at).as_bytes());
        let time = |at: &usize| chunk.occurred_at[*at].unwrap_or(chunk.recorded_at[*at]);
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

/// What an event takes in a batch besides its fields and the envelope's texts.
fn event_bytes(asked: Envelope) -> usize {
    let times = [asked.time, asked.recorded_at, asked.occurred_at];
    let numbers = times.iter().filter(|asked| **asked).count() + usize::from(asked.revision);
    let texts = [asked.stream, asked.id, asked.metadata, asked.type_name];
    let texts = texts.iter().filter(|asked| **asked).count();
    let always = size_of::<Position>() + size_of::<u16>();
    always + numbers * size_of::<i64>() + texts * size_of::<u32>()
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
pub(super) fn text(column: &TextColumn, row: usize) -> &[u8] {
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
