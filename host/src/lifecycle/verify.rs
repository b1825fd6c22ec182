//! Verifying a version: its read model beside a copy that is folded from the same log, under the same
//! journal, but with other cuts into batches, other instances and hardly any memory. A module that is
//! a pure function of its events comes to the same rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::diff::{Comparison, Difference};
use super::{Host, LifecycleError};
use crate::catalog::Rules;
use crate::event::Position;
use crate::limits;
use crate::read_model::journal::{ErrorPolicy, JournalEntry};
use crate::read_model::sqlite::SqliteReadModel;
use crate::read_model::{Provenance, ReadModel, ReadModelError, ReadModelPlace, RowReader};
use crate::replay::{Blame, Feed, FeedSettings, Replay, ReplayError, Settings};
use crate::wasm::Module;

/// Memory for the rows of a copy.
const COPY_CACHE_BYTES: usize = 1 << 20;
/// Changed rows of a copy that are written at once.
const COPY_FLUSH_BYTES: usize = 128 << 10;
/// A copy's instances serve so many batches at most.
const COPY_BATCHES_PER_INSTANCE: u32 = 4;
/// How often a read model is looked at whose journal moves meanwhile.
const LOOKS_MAX: usize = 20;

/// What verifying found.
#[derive(Debug)]
pub struct Verification {
    /// Where the read model stood.
    pub position: Position,
    /// Of its content.
    pub digest: String,
    /// Of the random cuts; the same one cuts in the same places.
    pub seed: u64,
    pub verdict: Verdict,
}

/// Whether a version is what it should be.
#[derive(Debug)]
pub enum Verdict {
    Same,
    /// Other cuts into batches come to other rows: the module is no pure function of its events.
    DependsOnCuts {
        /// The first position at which the two part.
        position: Position,
        /// The first row that differs there: with large batches, and with the random ones.
        difference: Option<Difference>,
    },
    /// With other cuts an event can't be applied.
    Fails {
        blame: Box<Blame>,
    },
    /// The module comes to the same rows each time, and the read model has others.
    ReadModelDiffers {
        /// The first row that differs: in the read model, and in the copy. None where the read model
        /// has moved on meanwhile.
        difference: Option<Difference>,
    },
}

impl Verification {
    /// What is wrong with `name`, and what to do about it. None where it is the same.
    pub fn complaint(&self, name: &str) -> Option<(String, String)> {
        let (position, seed) = (self.position, self.seed);
        Some(match &self.verdict {
            Verdict::Same => return None,
            Verdict::DependsOnCuts {
                position,
                difference,
            } => (
                format!(
                    "{name} depends on how events are cut into batches: at position {position} the \
                     folds part{}",
                    described(
                        difference.as_ref(),
                        "with large batches",
                        "with random ones"
                    )
                ),
                format!(
                    "keep nothing in the module from one call to the next but what can be told from \
                     the tables; look again: `retell verify {name} --seed {seed}`"
                ),
            ),
            Verdict::Fails { blame } => (
                format!("{name} can't apply with other cuts what it applied before: {blame}"),
                format!(
                    "keep nothing in the module from one call to the next; look again: `retell verify \
                     {name} --seed {seed}`"
                ),
            ),
            Verdict::ReadModelDiffers { difference } => (
                format!(
                    "the read model of {name} is not what its module makes of the log up to position \
                     {position}{}",
                    described(difference.as_ref(), "in the read model", "from the log")
                ),
                format!(
                    "somebody else changed it, or it is damaged; build it anew: `retell replay {name}`"
                ),
            ),
        })
    }
}

fn described(difference: Option<&Difference>, one: &str, other: &str) -> String {
    let Some(it) = difference else {
        return String::new();
    };
    let row = |row: &Option<String>| row.clone().unwrap_or_else(|| "no row".to_owned());
    let width = one.len().max(other.len()) + 1;
    format!(
        "\n    table {}, {}\n    {:width$} {}\n    {:width$} {}",
        it.table,
        it.key,
        format!("{one}:"),
        row(&it.one),
        format!("{other}:"),
        row(&it.other)
    )
}

/// What verifying needs of the version.
pub struct Verify {
    pub host: Arc<Host>,
    pub module: Module,
    pub place: ReadModelPlace,
    pub provenance: Provenance,
    pub rules: Rules,
    pub seed: u64,
    pub progress: VerifyProgress,
}

/// Told how far it is: what is being done, the position, and the one to be reached. False ends it.
pub type VerifyProgress = Box<dyn Fn(&str, Position, Position) -> bool + Send>;

/// How a copy is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cuts {
    Usual,
    Random { seed: u64 },
}

/// The read model as it was at one moment.
struct Original {
    position: Position,
    digest: String,
    journal: Vec<JournalEntry>,
}

impl Verify {
    /// Blocking; reads the whole log once, or many times where something differs.
    pub fn run(&self, runtime: &tokio::runtime::Handle) -> Result<Verification, LifecycleError> {
        let folder = tempfile::Builder::new()
            .prefix("retell-verify-")
            .tempdir()
            .map_err(|source| LifecycleError::Scratch { source })?;
        let original = self.look()?;
        let verdict = self.judge(runtime, folder.path(), &original)?;
        Ok(Verification {
            position: original.position,
            digest: original.digest,
            seed: self.seed,
            verdict,
        })
    }

    fn judge(
        &self,
        runtime: &tokio::runtime::Handle,
        folder: &Path,
        original: &Original,
    ) -> Result<Verdict, LifecycleError> {
        let copier = Copier {
            verify: self,
            runtime,
            folder,
            journal: &original.journal,
        };
        let random = Cuts::Random { seed: self.seed };
        let end = original.position;
        let cut = match copier.copy("replaying with other cuts", random, end)? {
            Ok(cut) => cut,
            Err(blame) => return Ok(Verdict::Fails { blame }),
        };
        if cut.digest == original.digest {
            return Ok(Verdict::Same);
        }
        let usual = match copier.copy("replaying as usual", Cuts::Usual, end)? {
            Ok(usual) => usual,
            Err(blame) => return Ok(Verdict::Fails { blame }),
        };
        if usual.digest == cut.digest {
            let difference = self.changed_row(&copier, &usual, end)?;
            return Ok(Verdict::ReadModelDiffers { difference });
        }
        // Equal up to `same`, different at `other`.
        let (mut same, mut other) = (0, end);
        let mut difference = copier.difference(&usual, &cut)?;
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            let what = format!("looking between {same} and {other}");
            let (Ok(usual), Ok(cut)) = (
                copier.copy(&what, Cuts::Usual, middle)?,
                copier.copy(&what, random, middle)?,
            ) else {
                break;
            };
            if usual.digest == cut.digest {
                same = middle;
            } else {
                other = middle;
                difference = copier.difference(&usual, &cut)?;
            }
        }
        Ok(Verdict::DependsOnCuts {
            position: other,
            difference,
        })
    }

    /// The first row that the read model has otherwise than a copy at `end`, if it is still there.
    fn changed_row(
        &self,
        copier: &Copier<'_>,
        copy: &Copy,
        end: Position,
    ) -> Result<Option<Difference>, LifecycleError> {
        let manifest = self.module.manifest();
        let mut comparison = Comparison::with(copier.reader(copy)?, manifest);
        if self.place.content(manifest, &mut comparison)? != end {
            return Ok(None);
        }
        Ok(comparison.finish()?)
    }

    /// Position, digest and journal of one moment, also of a read model that moves.
    fn look(&self) -> Result<Original, LifecycleError> {
        let mut journal = self.place.journal()?;
        for _ in 0..LOOKS_MAX {
            let content = self.place.digest(self.module.manifest())?;
            let after = self.place.journal()?;
            if journal == after {
                journal.retain(|it| it.position <= content.position);
                return Ok(Original {
                    position: content.position,
                    digest: content.digest,
                    journal,
                });
            }
            journal = after;
        }
        Err(LifecycleError::Refused {
            message: "its journal changes all the time".to_owned(),
            hint: "pause the version first".to_owned(),
        })
    }
}

/// A finished copy.
struct Copy {
    path: PathBuf,
    digest: String,
}

struct Copier<'a> {
    verify: &'a Verify,
    runtime: &'a tokio::runtime::Handle,
    folder: &'a Path,
    journal: &'a [JournalEntry],
}

impl Copier<'_> {
    /// Folds the log up to `end`, or says which event could not be applied.
    fn copy(
        &self,
        what: &str,
        cuts: Cuts,
        end: Position,
    ) -> Result<Result<Copy, Box<Blame>>, LifecycleError> {
        let Verify {
            host,
            module,
            provenance,
            progress,
            ..
        } = self.verify;
        let path = self.folder.join(match cuts {
            Cuts::Usual => "usual.db",
            Cuts::Random { .. } => "cut.db",
        });
        if path.exists() {
            SqliteReadModel::drop_read_model(&path, &provenance.log_id)?;
        }
        let manifest = module.manifest();
        let model = SqliteReadModel::create(&path, manifest, provenance, 1)?;
        let settings = Settings {
            errors: ErrorPolicy::default(),
            ..host.settings_of(&self.verify.rules)
        };
        let (feed, settings, mut random) = match cuts {
            Cuts::Usual => (host.feed.clone(), settings, None),
            Cuts::Random { seed } => {
                let alone = FeedSettings {
                    threads: 0,
                    ..FeedSettings::default()
                };
                let settings = Settings {
                    cache_bytes_max: COPY_CACHE_BYTES,
                    flush_bytes: COPY_FLUSH_BYTES,
                    batches_per_instance_max: COPY_BATCHES_PER_INSTANCE,
                    ..settings
                };
                let feed = Feed::new(host.log.clone(), alone);
                (feed, settings, Some(StdRng::seed_from_u64(seed)))
            }
        };
        let runtime = self.runtime.clone();
        let mut replay = Replay::open(feed, runtime, module, Box::new(model), settings)
            .map_err(|error| self.trouble(error))?;
        replay.follow_journal(self.journal);
        let advanced = loop {
            let applied = replay.applied();
            if let Err(error) = replay.advance(match &mut random {
                Some(random) => end.min(applied + cut(random)),
                None => end,
            }) {
                break Err(error);
            }
            if !progress(what, replay.applied(), end) {
                return Err(LifecycleError::Interrupted);
            }
            // The last call applies what was retried at the very end.
            if applied >= end {
                break replay.flush();
            }
        };
        match advanced.and_then(|()| replay.close()) {
            Ok(()) => {}
            Err(ReplayError::Module(blame)) => return Ok(Err(blame)),
            Err(error) => return Err(self.trouble(error)),
        }
        let digest = SqliteReadModel::digest(&path, manifest)?.digest;
        Ok(Ok(Copy { path, digest }))
    }

    /// The first row that two copies do not agree on.
    fn difference(&self, usual: &Copy, cut: &Copy) -> Result<Option<Difference>, LifecycleError> {
        let manifest = self.verify.module.manifest();
        let mut comparison = Comparison::with(self.reader(cut)?, manifest);
        SqliteReadModel::content(&usual.path, manifest, &mut comparison)?;
        Ok(comparison.finish()?)
    }

    fn reader(&self, copy: &Copy) -> Result<Box<dyn RowReader>, ReadModelError> {
        let manifest = self.verify.module.manifest();
        SqliteReadModel::open(&copy.path, manifest, &self.verify.provenance, 2)?.reader()
    }

    fn trouble(&self, error: ReplayError) -> LifecycleError {
        let Provenance {
            projection,
            version,
            ..
        } = &self.verify.provenance;
        LifecycleError::Trouble {
            name: format!("{projection}@{version}"),
            source: Arc::new(error),
        }
    }
}

/// How many positions the next batch looks at: few, some, or many.
fn cut(random: &mut StdRng) -> u64 {
    let most = match random.random_range(0..10_u32) {
        0 => 3,
        1..=4 => 100,
        _ => limits::BATCH_EVENTS_MAX as u64,
    };
    random.random_range(1..=most)
}
