//! Columns that come out the same for two modules that read together: fitted once and copied.
//!
//! That is so where both have but one shape of an event's type, which takes nothing else, and a
//! field of both takes the same kind of value from the same places: both blocks then have a row for
//! each event of the type, as long as every event fits for both.

use super::{ANY_TYPE, FieldPlan, TypePlan};
use crate::columns::Blocks;
use crate::manifest::Shape;

/// A column that is the same as that of an earlier module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Twin {
    of: Place,
    at: Place,
}

/// Where a column is.
#[derive(Debug, Clone, Copy)]
struct Place {
    module: usize,
    shape: u16,
    field: usize,
}

impl Twin {
    /// Copies the column.
    pub(super) fn copy(self, blocks: &mut [Blocks]) {
        let (before, after) = blocks.split_at_mut(self.at.module);
        let of = &before[self.of.module].shape(self.of.shape)[self.of.field];
        after[0].shape(self.at.shape)[self.at.field] = of.clone();
    }
}

/// Marks the fields of a type that have a twin in an earlier module, and says which.
pub(super) fn find(event_type: &str, plan: &mut TypePlan, modules: &[&[Shape]]) -> Vec<Twin> {
    let mut twins = Vec::new();
    for module in 1..modules.len() {
        for earlier in 0..module {
            let (before, after) = plan.modules.split_at_mut(module);
            let ([of], [at]) = (before[earlier].as_slice(), after[0].as_mut_slice()) else {
                continue;
            };
            let names = |module: usize, shape: u16| {
                event_type != ANY_TYPE
                    && modules[module][usize::from(shape)].event_type == event_type
            };
            if !names(earlier, of.index) || !names(module, at.index) {
                continue;
            }
            for (field, plan) in at.fields.iter_mut().enumerate() {
                let twin = of.fields.iter().position(|other| is_twin(other, plan));
                let Some(other) = twin.filter(|_| !plan.has_twin) else {
                    continue;
                };
                plan.has_twin = true;
                let place = |module, shape, field| Place {
                    module,
                    shape,
                    field,
                };
                twins.push(Twin {
                    of: place(earlier, of.index, other),
                    at: place(module, at.index, field),
                });
            }
            at.has_own = at.fields.iter().any(|field| !field.has_twin);
        }
    }
    twins
}

/// Whether two fields of the same type of event become the same column.
fn is_twin(one: &FieldPlan, other: &FieldPlan) -> bool {
    let nodes = |(node, _): &(Option<usize>, String)| *node;
    let places = one.places.iter().map(nodes);
    places.eq(other.places.iter().map(nodes))
        && one.wants == other.wants
        && (one.optional, one.nullable) == (other.optional, other.nullable)
}
