//! A reader thread: claims windows, reads and parses them, and delivers them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use super::members::Claim;
use super::plan::Plan;
use super::{Read, Shared, Window};
use crate::log::{EventChunk, LogError, LogReader};
use crate::replay::parsers::{Parsed, Parser, parts_of, types_of};

/// Groups whose readers one thread keeps.
const DESKS_MAX: usize = 4;

/// What reading for one group needs.
struct Desk {
    plan: u64,
    reader: Box<dyn LogReader>,
    parser: Parser,
}

/// The thread's whole life.
pub(super) fn run(shared: &Shared) {
    let mut chunk = EventChunk::new(
        shared.settings.batch_events_max,
        shared.settings.batch_bytes_max,
    );
    let mut desks = VecDeque::new();
    while let Some(claim) = wait_for_claim(shared) {
        shared.priority.give_way();
        // A member that is told to read for itself meets the error, or the panic, itself.
        let read = catch_unwind(AssertUnwindSafe(|| {
            read(shared, &claim, &mut desks, &mut chunk)
        }));
        let mut windows = match read {
            Ok(Ok(windows)) => windows.into_iter(),
            // Who met it may be of no more use: the next claim gets another one.
            Ok(Err(_)) | Err(_) => {
                desks.clear();
                Vec::new().into_iter()
            }
        };
        let mut members = shared.members();
        members.end_claim();
        for &member in &claim.plan.members {
            let read = windows.next().flatten();
            let end = claim.end;
            members.deliver(member, Window { end, read });
        }
    }
}

fn wait_for_claim(shared: &Shared) -> Option<Claim> {
    let mut members = shared.members();
    loop {
        if members.is_closing() {
            return None;
        }
        if let Some(claim) = members.claim(&shared.settings) {
            return Some(claim);
        }
        members = shared
            .work
            .wait(members)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// What each member of the claim's group gets.
fn read(
    shared: &Shared,
    claim: &Claim,
    desks: &mut VecDeque<Desk>,
    chunk: &mut EventChunk,
) -> Result<Vec<Option<Box<Read>>>, LogError> {
    let desk = desk_for(shared, &claim.plan, desks)?;
    desk.reader.read(claim.after, claim.end, chunk)?;
    claim.plan.learn(chunk, chunk.reached - claim.after);
    let parsed = desk.parser.parse(chunk, 0..chunk.len());
    let read = |parsed: Parsed| {
        let read = Read {
            bytes: parsed.bytes,
            batch: parsed.batch,
            reached: chunk.reached,
            reached_hash: chunk.reached_hash,
            joined_hash: chunk.joined_hash,
        };
        parsed.misfit.is_none().then(|| Box::new(read))
    };
    Ok(parsed.into_iter().map(read).collect())
}

fn desk_for<'d>(
    shared: &Shared,
    plan: &Arc<Plan>,
    desks: &'d mut VecDeque<Desk>,
) -> Result<&'d mut Desk, LogError> {
    match desks.iter().position(|desk| desk.plan == plan.id) {
        Some(place) => desks.swap(0, place),
        None => {
            desks.truncate(DESKS_MAX - 1);
            desks.push_front(Desk {
                plan: plan.id,
                reader: shared
                    .log
                    .reader(types_of(&plan.asks), parts_of(&plan.asks))?,
                parser: Parser::new(&plan.asks),
            });
        }
    }
    Ok(desks.front_mut().expect("it was just put there"))
}
