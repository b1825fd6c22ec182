//! What the way into a module and out of it costs: events with four fields, and a module that does
//! nothing with them. The columns are there already, as the parsers make them.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::ensure;
use retell::limits::BATCH_EVENTS_MAX;
use retell::log::TextColumn;
use retell::wasm::{
    ChangeSet, EventBatch, Instance, Limits, Module, PackedRows, RowSource, RowSourceError,
};
use retell_contract::columns::{Column, Values};
use rusqlite::Connection;

use crate::baselines::open_log;
use crate::host;
use crate::run::{Bench, Times};

/// Events of one call: what the engine hands over at once.
pub(crate) const BATCH: usize = BATCH_EVENTS_MAX;

/// Batches as the engine hands them over, made of the log's bids.
fn batches(log: &Connection, limit: usize) -> anyhow::Result<Vec<EventBatch>> {
    let mut statement = log.prepare(
        "SELECT position, payload ->> '$.auction', payload ->> '$.bidder', payload ->> '$.price',
             payload ->> '$.channel'
         FROM events NOT INDEXED WHERE type = 'Bid' ORDER BY position LIMIT ?1",
    )?;
    let rows = statement.query_map([limit * BATCH], |row| {
        let numbers: [i64; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
        Ok((row.get::<_, u64>(0)?, numbers, row.get::<_, String>(4)?))
    })?;
    let events: Vec<_> = rows.collect::<Result<_, _>>()?;
    let column = |values| Column {
        values,
        present: None,
        null: None,
    };
    let batch = |events: &[(u64, [i64; 3], String)]| {
        let integers =
            |field: usize| Values::Integers(events.iter().map(|it| it.1[field]).collect());
        let mut channels = TextColumn::default();
        for (_, _, channel) in events {
            channels.push(channel);
        }
        let columns = [
            integers(0),
            integers(1),
            integers(2),
            Values::Texts(channels),
        ];
        EventBatch {
            positions: events.iter().map(|it| it.0).collect(),
            shapes: vec![0; events.len()],
            blocks: vec![columns.map(|values| column(values).into()).into()],
            revisions: None,
            times: None,
            recorded_at: None,
            occurred_at: None,
            streams: None,
            ids: None,
            metadata: None,
            type_names: None,
        }
    };
    Ok(events.chunks_exact(BATCH).map(batch).collect())
}

/// Time for one event, measured over `rounds` rounds of `batches` batches.
pub(crate) fn per_event(bench: &Bench, limit: usize, rounds: usize) -> anyhow::Result<Times> {
    let module = Module::load(&bench.engine, &host::module(&bench.engine, "boundary")?)?;
    let mut instance = Instance::new(&module, Arc::new(Mutex::new(NoRows)), Limits::default())?;
    let batches = batches(&open_log(bench.log.path())?, limit)?;
    ensure!(!batches.is_empty(), "the log has too few bids");
    let mut times = Times::new("per event");
    for round in 0..=rounds {
        let began = Instant::now();
        for batch in &batches {
            let changes = instance.apply(batch)?;
            ensure!(changes.events.is_empty(), "it was to do nothing");
        }
        let took = began.elapsed();
        // The first round warms up.
        if round > 0 {
            times.add_share(took, (BATCH * batches.len()) as u64);
        }
    }
    Ok(times)
}

/// A module that asks for nothing needs no rows.
struct NoRows;

impl RowSource for NoRows {
    fn get_many(&mut self, _: u16, _: &[u8], _: &[u32]) -> Result<PackedRows, RowSourceError> {
        Err(unasked())
    }

    fn scan(
        &mut self,
        _: u16,
        _: u16,
        _: &[u8],
        _: Option<&[u8]>,
        _: u32,
    ) -> Result<PackedRows, RowSourceError> {
        Err(unasked())
    }

    fn stage(&mut self, _: ChangeSet) -> Result<(), RowSourceError> {
        Err(unasked())
    }
}

fn unasked() -> RowSourceError {
    RowSourceError::Contract {
        message: "it was to do nothing".to_owned(),
    }
}
