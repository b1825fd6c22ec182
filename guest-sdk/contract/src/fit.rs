//! Fitting payloads to shapes: JSON in, rows of typed columns out.
//!
//! Of the shapes that name an event's type, the first that its payload fits wins. Several modules
//! may read together: a payload is walked once for all of them, and what becomes of it for one
//! depends on the payload and that module's shapes alone.
//!
//! Two steps with a seam between them: [`Fitter::locate`] finds where the wanted values are in the
//! text, and [`Fitter::fit`] makes a row of them for one module. What several modules want alike
//! can be made once: [`FitTo::OwnColumns`] leaves it out, and [`Fitter::copy_twins`] puts it in.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::columns::{Blocks, ColumnBuilder, Fitted};
use crate::manifest::{Field, Shape, Wanted};
use crate::path::{Path, PathTree};
use crate::scan::familiar::Familiar;
use crate::scan::{self, Flaw, Spot};
use twins::Twin;

mod twins;
mod value;

/// The event type of shapes that take every type which no other shape of their module names.
pub const ANY_TYPE: &str = "*";

/// Why a payload fits none of the shapes of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("the payload is not valid JSON: {reason}")]
    Payload { reason: String },
    #[error("field `{field}`: expected {wanted}, but it is missing")]
    Missing { field: String, wanted: &'static str },
    #[error("field `{field}`: expected {wanted}, found {found}")]
    Mismatch {
        field: String,
        wanted: &'static str,
        found: &'static str,
    },
    #[error("field `{field}`: {reason}")]
    Value { field: String, reason: String },
}

impl From<Flaw> for FieldError {
    fn from(flaw: Flaw) -> Self {
        let reason = flaw.to_string();
        Self::Payload { reason }
    }
}

/// Knows the shapes of modules that read together, by event type. A module is known by its index.
#[derive(Debug)]
pub struct Fitter {
    by_type: HashMap<String, PlanId>,
    any: Option<PlanId>,
    plans: Arc<[TypePlan]>,
    twins: Vec<Twin>,
}

/// What is to be taken out of the events of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanId(usize);

/// Which columns of a module an event is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitTo {
    AllColumns,
    /// Not to those that an earlier module has alike.
    OwnColumns,
}

/// Where the wanted values of a payload are, and what was learned on the way. Any fitter may fill
/// it, and it serves best with always the same.
#[derive(Debug, Default)]
pub struct Located {
    /// The keys are of these plans, by plan and node.
    plans: Option<Arc<[TypePlan]>>,
    familiar: Vec<Vec<Familiar>>,
    /// By node.
    spots: Vec<Spot>,
    flaw: Option<Flaw>,
}

/// The union of the paths that modules want of one event type, and each one's shapes.
#[derive(Debug)]
struct TypePlan {
    tree: PathTree,
    /// By module, in the order of its manifest; none if it does not take the type.
    modules: Vec<Vec<ShapePlan>>,
}

#[derive(Debug)]
struct ShapePlan {
    index: u16,
    fields: Vec<FieldPlan>,
    /// Some field has no twin.
    has_own: bool,
}

#[derive(Debug)]
struct FieldPlan {
    /// Where the value may be, best place first: the node in the tree, and the path for messages.
    places: Vec<(Option<usize>, String)>,
    wants: Wanted,
    optional: bool,
    nullable: bool,
    /// Its column is the same as one of an earlier module, and can be copied.
    has_twin: bool,
}

impl Fitter {
    /// The shapes must have passed [`manifest::check`](crate::manifest::check); a path that is
    /// malformed is never found. A type that a module names is not taken by its own `*`, and still
    /// by that of another.
    pub fn new(modules: &[&[Shape]]) -> Self {
        let shapes = modules.iter().copied().flatten();
        let types: BTreeSet<&str> = shapes.map(|shape| shape.event_type.as_str()).collect();
        let mut twins = Vec::new();
        let plans = types.iter().map(|name| {
            let mut plan = TypePlan::new(name, modules);
            twins.extend(twins::find(name, &mut plan, modules));
            plan
        });
        let plans = plans.collect();
        let ids = types.iter().copied().zip((0..).map(PlanId));
        let mut by_type: HashMap<_, _> = ids.map(|(name, id)| (name.to_owned(), id)).collect();
        Self {
            any: by_type.remove(ANY_TYPE),
            by_type,
            plans,
            twins,
        }
    }

    /// What is to be taken out of events of this type; none if no module takes it. Look it up once
    /// per type, not per event.
    pub fn plan(&self, event_type: &str) -> Option<PlanId> {
        self.by_type.get(event_type).copied().or(self.any)
    }

    /// Walks a payload for all modules.
    pub fn locate(&self, plan: PlanId, payload: &[u8], located: &mut Located) {
        located.become_of(&self.plans);
        let tree = &self.plans[plan.0].tree;
        let familiar = &mut located.familiar[plan.0];
        if familiar.is_empty() {
            familiar.resize_with(tree.nodes.len(), Familiar::default);
        }
        located.flaw = scan::locate(payload, tree, familiar, &mut located.spots).err();
    }

    /// Appends one event to the blocks of a module. `Ok(None)`: the module takes no events of the
    /// type, and nothing was appended. An error is that of the first shape of the type, which is the
    /// newest form of its events, and leaves the blocks as they were. `located` must have been filled
    /// for this plan and payload, and `blocks` made of the module's shapes.
    pub fn fit(
        &self,
        plan: PlanId,
        module: usize,
        payload: &[u8],
        located: &Located,
        blocks: &mut Blocks,
        to: FitTo,
    ) -> Result<Option<u16>, FieldError> {
        let Some((first, others)) = self.plans[plan.0].modules[module].split_first() else {
            return Ok(None);
        };
        if let Some(flaw) = located.flaw {
            return Err(flaw.into());
        }
        if to == FitTo::OwnColumns && !first.has_own {
            return Ok(Some(first.index));
        }
        let Err(error) = first.fit(payload, &located.spots, blocks, to) else {
            return Ok(Some(first.index));
        };
        for shape in others {
            let fitted = shape.fit(payload, &located.spots, blocks, to);
            if fitted.is_ok() {
                return Ok(Some(shape.index));
            }
        }
        Err(error)
    }

    /// Whether any two modules have a column alike.
    pub fn has_twins(&self) -> bool {
        !self.twins.is_empty()
    }

    /// Fills what [`FitTo::OwnColumns`] left out, after each event of a batch was fitted for each
    /// module and none was refused. `blocks`: of each module, in their order.
    pub fn copy_twins(&self, blocks: &mut [Blocks]) {
        for twin in &self.twins {
            twin.copy(blocks);
        }
    }
}

impl Located {
    /// Forgets what was learned of other plans.
    fn become_of(&mut self, plans: &Arc<[TypePlan]>) {
        if !matches!(&self.plans, Some(known) if Arc::ptr_eq(known, plans)) {
            self.plans = Some(Arc::clone(plans));
            self.familiar.clear();
            self.familiar.resize_with(plans.len(), Vec::new);
        }
    }
}

impl TypePlan {
    fn new(event_type: &str, modules: &[&[Shape]]) -> Self {
        let taken = modules.iter().map(|shapes| shapes_of(event_type, shapes));
        let taken: Vec<_> = taken.collect();
        let fields = taken.iter().flatten().flat_map(|(_, shape)| &shape.fields);
        let paths = fields.flat_map(|field| &field.paths);
        let paths: Vec<_> = paths.filter_map(|path| Path::parse(path).ok()).collect();
        let tree = PathTree::new(&paths);
        let plans = |shapes: &Vec<(u16, &Shape)>| {
            let plan = |&(index, shape): &(u16, &Shape)| ShapePlan {
                index,
                fields: shape
                    .fields
                    .iter()
                    .map(|field| FieldPlan::new(field, &tree))
                    .collect(),
                has_own: true,
            };
            shapes.iter().map(plan).collect()
        };
        let modules = taken.iter().map(plans).collect();
        Self { tree, modules }
    }
}

/// The shapes of a module that take a type, and their indexes.
fn shapes_of<'s>(event_type: &str, shapes: &'s [Shape]) -> Vec<(u16, &'s Shape)> {
    let of = |name: &str| -> Vec<_> {
        let shapes = (0..).zip(shapes);
        shapes
            .filter(|(_, shape)| shape.event_type == name)
            .collect()
    };
    let named = of(event_type);
    if named.is_empty() {
        of(ANY_TYPE)
    } else {
        named
    }
}

impl ShapePlan {
    /// Appends a row to these columns of the block of this shape, or nothing.
    fn fit(
        &self,
        payload: &[u8],
        spots: &[Spot],
        blocks: &mut Blocks,
        to: FitTo,
    ) -> Result<(), FieldError> {
        let is_wanted = |field: &FieldPlan| to == FitTo::AllColumns || !field.has_twin;
        let builders = blocks.shape(self.index);
        for (at, field) in self.fields.iter().enumerate() {
            if !is_wanted(field) {
                continue;
            }
            if let Err(error) = field.fit(payload, spots, &mut builders[at]) {
                let before = self.fields[..at].iter().zip(builders);
                let fitted = before.filter(|(field, _)| is_wanted(field));
                fitted.for_each(|(_, builder)| builder.pop());
                return Err(error);
            }
        }
        Ok(())
    }
}

impl FieldPlan {
    fn new(field: &Field, tree: &PathTree) -> Self {
        let node = |path: &String| tree.node(&Path::parse(path).ok()?);
        let places = field.paths.iter().map(|path| (node(path), path.clone()));
        Self {
            places: places.collect(),
            wants: field.wants,
            optional: field.optional,
            nullable: field.nullable,
            has_twin: false,
        }
    }

    /// Appends the value of the payload, or nothing.
    fn fit(
        &self,
        payload: &[u8],
        spots: &[Spot],
        column: &mut ColumnBuilder,
    ) -> Result<(), FieldError> {
        for (node, path) in &self.places {
            match node.map_or(Spot::Missing, |node| spots[node]) {
                Spot::Missing => {}
                Spot::Found { start, end } => {
                    let raw = &payload[start..end];
                    if self.nullable && raw == b"null" {
                        column.push(&Fitted::Null);
                        return Ok(());
                    }
                    return value::fit(payload, start..end, self.wants, column)
                        .map_err(|misfit| misfit.of_field(path, self.wants, raw));
                }
                Spot::Broken(flaw) => return Err(flaw.into()),
            }
        }
        if self.optional {
            column.push(&Fitted::Missing);
            return Ok(());
        }
        let first = self.places.first();
        Err(FieldError::Missing {
            field: first.map_or_else(String::new, |(_, path)| path.clone()),
            wanted: self.wants.noun(),
        })
    }
}

#[cfg(test)]
mod tests;
