//! Tests of projections, without a host and without WebAssembly.
//!
//! The function runs natively over events that are fitted to its shapes by the host's own code,
//! into a read model in memory that keeps every rule of the contract: typed rows, keys, unique
//! indexes, staged changes. The batches are cut in every way (in many ways, if there are more than
//! ten events), and a projection whose rows depend on the cut fails the test.
//!
//! ```
//! # use retell_sdk::prelude::*;
//! # #[derive(Event)]
//! # enum Likes { ArticleLiked { article: String } }
//! # #[derive(Table, Debug, PartialEq)]
//! # struct LikeCount { #[key] article: String, likes: i64 }
//! # #[projection(name = "likes", version = "1.0.0", tables(LikeCount))]
//! # fn project(event: Likes, _: &Meta, db: &mut Db) -> Result<()> {
//! #     let Likes::ArticleLiked { article } = event;
//! #     db.update_or_insert::<LikeCount>(&article,
//! #         || LikeCount { article: article.clone(), likes: 0 }, |row| row.likes += 1)
//! # }
//! # fn main() {
//! use retell_sdk::testing::{event, given};
//! use serde_json::json;
//!
//! let model = given::<Projection>([
//!     event("ArticleLiked", json!({"article": "a"})).stream("a").at("2026-01-31T12:00:00Z"),
//!     event("ArticleLiked", json!({"article": "a"})).stream("a"),
//! ]);
//! assert_eq!(model.rows::<LikeCount>(), [LikeCount { article: "a".into(), likes: 2 }]);
//! # }
//! ```

mod cuts;
mod events;
mod model;

pub use events::{Event, event};
pub use model::ReadModel;

use std::fmt;

use retell_contract::manifest;

use crate::projection::Projection;
use cuts::Cut;
use events::Log;

/// Why an event could not be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The position of the event: 1 for the first.
    pub position: u64,
    pub event_type: String,
    pub message: String,
}

/// As a host reports it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            position,
            event_type,
            message,
        } = self;
        write!(f, "event {position}, `{event_type}`: {message}")
    }
}

/// Applies the events, in the order given, to an empty read model.
///
/// # Panics
/// When an event cannot be applied, when the rows depend on how batches are cut, or when the
/// manifest makes no sense.
#[track_caller]
pub fn given<P: Projection>(events: impl IntoIterator<Item = Event>) -> ReadModel {
    match try_given::<P>(events) {
        Ok(model) => model,
        Err(failure) => panic!("{failure}"),
    }
}

/// [`given`], for events of which one cannot be applied.
///
/// # Panics
/// When the outcome depends on how batches are cut, or when the manifest makes no sense.
#[track_caller]
pub fn try_given<P: Projection>(
    events: impl IntoIterator<Item = Event>,
) -> Result<ReadModel, Failure> {
    let manifest = P::manifest();
    if let Err(error) = manifest::check(&manifest) {
        panic!("the manifest makes no sense: {error}");
    }
    let log = Log::new(events.into_iter().collect());
    let outcome = apply::<P>(&manifest, &log, &Cut::none(log.len()));
    for cut in cuts::of(log.len()) {
        let other = apply::<P>(&manifest, &log, &cut);
        if let Some(difference) = difference(&outcome, &other) {
            panic!(
                "the rows depend on how the events are cut into batches, so something is kept \
                 between events that is in no table\n  in one batch, and {cut}:\n  {difference}"
            );
        }
    }
    outcome
}

/// Applies the log with its batches cut in one way.
fn apply<P: Projection>(
    manifest: &manifest::Manifest,
    log: &Log,
    cut: &Cut,
) -> Result<ReadModel, Failure> {
    let mut model = ReadModel::new(manifest);
    for range in cut.batches() {
        let (batch, misfit) = log.batch(manifest, range);
        model.begin();
        let changes = P::apply(&batch, &mut model);
        let result = changes.map_err(|failure| (failure.event, failure.message));
        let result = result.and_then(|changes| model.commit(changes));
        if let Err((event, message)) = result {
            let position = batch.positions[event as usize];
            return Err(log.failure(position, message));
        }
        // A payload that fits no shape is reported once the events before it are applied.
        if let Some(failure) = misfit {
            return Err(failure);
        }
    }
    Ok(model)
}

fn difference(
    one: &Result<ReadModel, Failure>,
    other: &Result<ReadModel, Failure>,
) -> Option<String> {
    match (one, other) {
        (Ok(one), Ok(other)) => one.difference(other),
        (Err(one), Err(other)) if one == other => None,
        (Err(one), Err(other)) => Some(format!("{one}\n  {other}")),
        (Ok(_), Err(failure)) => Some(format!("no failure\n  {failure}")),
        (Err(failure), Ok(_)) => Some(format!("{failure}\n  no failure")),
    }
}
