//! Who reads along, how far each one is, and which window is to be read next. Pure bookkeeping: no
//! thread, no log.
//!
//! Threads that outnumber the cores must not wait for each other, now for an empty queue and now for a
//! full one, while a core is idle (measured: a fifth of a replay). So queues are long, for more
//! windows than a thread reads before the system lets another one run; one that was full is filled
//! again only once half of it is gone; and for members that have plenty only one thread reads, which
//! leaves the other cores to those who fold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar};

use super::plan::Plan;
use super::{FeedSettings, Window};
use crate::event::Position;
use crate::limits;
use crate::replay::parsers::Asks;

/// Two members at most this many positions apart are brought together: the hindmost is served first
/// until it has caught up.
const MEETING_DISTANCE: u64 = 65_536;
/// With so many windows in its queue a member has plenty.
const PLENTY: usize = limits::FEED_QUEUE_WINDOWS_MAX / 4;

/// See the module's documentation.
pub(super) struct Members {
    all: BTreeMap<u64, Member>,
    last_id: u64,
    /// Windows that are being read.
    reading: usize,
    plans: Vec<Arc<Plan>>,
    last_plan: u64,
    closing: bool,
}

struct Member {
    asks: Arc<Asks>,
    urgent: bool,
    /// Everything up to here is claimed.
    claimed: Position,
    limit: Position,
    queue: VecDeque<Queued>,
    /// Memory of the windows that wait to be fetched, in bytes.
    bytes: usize,
    /// Its queue was full and is still more than half full.
    is_sated: bool,
    ready: Arc<Condvar>,
}

struct Queued {
    end: Position,
    /// None: still being read.
    window: Option<Window>,
}

/// What a member gets when it asks for the next window.
pub(super) enum Next {
    Window(Window),
    Wait,
    /// Everything up to its limit was delivered.
    Nothing,
}

/// A window to be read.
pub(super) struct Claim {
    pub(super) plan: Arc<Plan>,
    pub(super) after: Position,
    pub(super) end: Position,
}

impl Members {
    pub(super) fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            last_id: 0,
            reading: 0,
            plans: Vec::new(),
            last_plan: 0,
            closing: false,
        }
    }

    pub(super) fn join(
        &mut self,
        asks: Arc<Asks>,
        after: Position,
        urgent: bool,
        ready: Arc<Condvar>,
    ) -> u64 {
        self.last_id += 1;
        let member = Member {
            asks,
            urgent,
            claimed: after,
            limit: after,
            queue: VecDeque::new(),
            bytes: 0,
            is_sated: false,
            ready,
        };
        self.all.insert(self.last_id, member);
        self.last_id
    }

    pub(super) fn leave(&mut self, member: u64) {
        self.all.remove(&member);
        self.plans.retain(|plan| !plan.members.contains(&member));
    }

    /// No more windows are claimed.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// The first window of a member's queue.
    pub(super) fn next(&mut self, member: u64, up_to: Position) -> Next {
        let member = self.all.get_mut(&member).expect("it has not left");
        member.limit = member.limit.max(up_to);
        if member.queue.is_empty() {
            return if member.claimed >= up_to {
                Next::Nothing
            } else {
                Next::Wait
            };
        }
        match member.queue.pop_front_if(|queued| queued.window.is_some()) {
            Some(Queued { window, .. }) => {
                let window = window.expect("looked at just above");
                member.bytes -= window.bytes();
                member.is_sated &= !member.is_half_empty();
                Next::Window(window)
            }
            None => Next::Wait,
        }
    }

    /// Whether a reader that waits is needed. One that is at work goes on for longer.
    pub(super) fn needs_reader(&self) -> bool {
        self.hungriest(PLENTY / 2).is_some()
    }

    /// Claims the next window for the member that needs one most, and for all that are at the same
    /// place. Call [`end_claim`](Self::end_claim) when it was read.
    pub(super) fn claim(&mut self, settings: &FeedSettings) -> Option<Claim> {
        let first = self.hungriest(PLENTY)?;
        let after = self.all[&first].claimed;
        let together: Vec<u64> = self
            .all
            .iter()
            .filter(|(_, member)| member.claimed == after && member.has_room())
            .filter(|(_, member)| member.limit > after)
            .map(|(id, _)| *id)
            .collect();
        let limit = together.iter().map(|id| self.all[id].limit).min()?;
        let plan = self.plan_for(&together);
        let width = plan.width(settings.batch_events_max, settings.batch_bytes_max);
        let end = limit.min(after.saturating_add(width));
        for id in together {
            let member = self.all.get_mut(&id).expect("listed just above");
            member.claimed = end;
            member.queue.push_back(Queued { end, window: None });
            member.is_sated |= member.is_full();
        }
        self.reading += 1;
        Some(Claim { plan, after, end })
    }

    /// A reader is done with a window that it claimed.
    pub(super) fn end_claim(&mut self) {
        self.reading -= 1;
    }

    /// Puts a window that was read into a member's queue, unless the member has left.
    pub(super) fn deliver(&mut self, member: u64, window: Window) {
        let Some(member) = self.all.get_mut(&member) else {
            return;
        };
        let place = member
            .queue
            .partition_point(|queued| queued.end < window.end);
        member.bytes += window.bytes();
        member.is_sated |= member.is_full();
        member.queue[place].window = Some(window);
        if place == 0 {
            member.ready.notify_one();
        }
    }

    /// Who gets the next window: urgent ones first; of several that are close to each other only the
    /// hindmost, so that they meet; of what is left the one with the least to go on with. Nobody
    /// with plenty while another window is being read.
    fn hungriest(&self, plenty: usize) -> Option<u64> {
        let windows_max = if self.reading == 0 {
            usize::MAX
        } else {
            plenty
        };
        let mut hungry: Vec<(u64, &Member)> = self
            .all
            .iter()
            .filter(|(_, member)| member.claimed < member.limit && !member.is_sated)
            .filter(|(_, member)| member.queue.len() < windows_max)
            .map(|(id, member)| (*id, member))
            .collect();
        hungry.sort_by_key(|(_, member)| member.claimed);
        let mut before = None;
        hungry.retain(|(_, member)| {
            let is_close = before.is_some_and(|before| member.claimed - before <= MEETING_DISTANCE);
            before = Some(member.claimed);
            !is_close
        });
        let need = |(_, member): &&(u64, &Member)| (!member.urgent, member.queue.len());
        hungry.iter().min_by_key(need).map(|(id, _)| *id)
    }

    fn plan_for(&mut self, together: &[u64]) -> Arc<Plan> {
        let known = self.plans.iter().find(|plan| plan.members == together);
        if let Some(plan) = known {
            return plan.clone();
        }
        self.last_plan += 1;
        let asks = together.iter().map(|id| self.all[id].asks.clone());
        let plan = Plan::new(self.last_plan, together.to_vec(), asks.collect());
        let plan = Arc::new(plan);
        self.plans.push(plan.clone());
        plan
    }
}

impl Member {
    fn has_room(&self) -> bool {
        self.bytes < limits::FEED_QUEUE_BYTES_MAX
    }

    fn is_full(&self) -> bool {
        !self.has_room() || self.queue.len() >= limits::FEED_QUEUE_WINDOWS_MAX
    }

    fn is_half_empty(&self) -> bool {
        self.bytes <= limits::FEED_QUEUE_BYTES_MAX / 2
            && self.queue.len() <= limits::FEED_QUEUE_WINDOWS_MAX / 2
    }
}

#[cfg(test)]
mod tests;
