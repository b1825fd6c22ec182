//! Running contenders in turns, so that what slows the machine down for a while slows all of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use retell::log::EventLog;
use retell::log::sqlite::SqliteLog;
use retell::wasm::Engine;
use tokio::runtime::Runtime;

use crate::host::{self, Instance};
use crate::workloads::{Fold, HOT, JOIN};
use crate::{baselines, compare};

/// What all workloads share.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) engine: Engine,
    pub(crate) log: Arc<SqliteLog>,
    /// Where each run makes a folder of its own, and removes it.
    pub(crate) folder: PathBuf,
    pub(crate) repetitions: usize,
}

/// How long one contender took, each time.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) contender: String,
    seconds: Vec<f64>,
}

impl Times {
    pub(crate) fn new(contender: &str) -> Self {
        Self {
            contender: contender.to_owned(),
            seconds: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.add_share(time, 1);
    }

    /// The time for one of so many events.
    pub(crate) fn add_share(&mut self, time: Duration, events: u64) {
        self.seconds.push(time.as_secs_f64() / events as f64);
        self.seconds.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.seconds.len() / 2;
        if self.seconds.len() % 2 == 1 {
            self.seconds[middle]
        } else {
            f64::midpoint(self.seconds[middle - 1], self.seconds[middle])
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.seconds[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.seconds[self.seconds.len() - 1]
    }
}

impl Bench {
    /// One deploy of a fresh version in a fresh instance: the time to `ready`, and the read model.
    fn deploy(&self, guest: &str) -> anyhow::Result<(Duration, Instance, PathBuf)> {
        let bytes = host::module(&self.engine, guest)?;
        self.runtime.block_on(async {
            let instance = Instance::new(&self.folder, &self.engine, self.log.clone()).await?;
            let began = Instant::now();
            let mut deployed = instance.deploy(&bytes).await?;
            let took = began.elapsed();
            deployed.access.close().await;
            host::check_complete(&deployed.place, self.log.head().await?.position)?;
            Ok((took, instance, deployed.file()))
        })
    }

    /// retell and the baselines of a fold in turns; after the first turn their rows are compared.
    /// retell's times come first. Also says how many rows there were.
    pub(crate) fn fold(&self, fold: &Fold) -> anyhow::Result<(Vec<Times>, u64)> {
        let mut all = vec![Times::new("retell")];
        all.extend(fold.baselines.iter().map(|it| Times::new(it.name)));
        let mut rows = 0;
        for turn in 0..self.repetitions {
            let (took, _instance, ours) = self.deploy(fold.guest)?;
            all[0].add(took);
            for (baseline, times) in fold.baselines.iter().zip(&mut all[1..]) {
                let folder = tempfile::tempdir_in(&self.folder)?;
                let theirs = folder.path().join("model.db");
                let began = Instant::now();
                baselines::run(self.log.path(), &theirs, fold, baseline)
                    .with_context(|| format!("{} of {}", baseline.name, fold.name))?;
                times.add(began.elapsed());
                if turn == 0 {
                    rows = compare::same(&ours, &theirs)
                        .with_context(|| format!("{} of {}", baseline.name, fold.name))?;
                }
            }
        }
        Ok((all, rows))
    }

    /// A fold by retell alone, against which another is measured.
    pub(crate) fn fold_in_turns(&self, folds: [&Fold; 2]) -> anyhow::Result<[Times; 2]> {
        let mut times = folds.map(|fold| Times::new(fold.name));
        for _ in 0..self.repetitions {
            for (fold, times) in folds.iter().zip(&mut times) {
                times.add(self.deploy(fold.guest)?.0);
            }
        }
        Ok(times)
    }

    /// Two versions deployed at once and one after the other, and their read models compared.
    pub(crate) fn together(&self) -> anyhow::Result<[Times; 2]> {
        let mut times = [
            Times::new("both at once"),
            Times::new("one after the other"),
        ];
        for turn in 0..self.repetitions {
            let (at_once, _kept, together) = self.deploy_two(true)?;
            let (in_turn, _kept_too, apart) = self.deploy_two(false)?;
            times[0].add(at_once);
            times[1].add(in_turn);
            if turn == 0 {
                for (one, other) in together.iter().zip(&apart) {
                    compare::same(one, other)?;
                }
            }
        }
        Ok(times)
    }

    fn deploy_two(&self, at_once: bool) -> anyhow::Result<(Duration, Instance, [PathBuf; 2])> {
        let hot = host::module(&self.engine, HOT.guest)?;
        let join = host::module(&self.engine, JOIN.guest)?;
        self.runtime.block_on(async {
            let instance = Instance::new(&self.folder, &self.engine, self.log.clone()).await?;
            let began = Instant::now();
            let (mut hot, mut join) = if at_once {
                tokio::try_join!(instance.deploy(&hot), instance.deploy(&join))?
            } else {
                (instance.deploy(&hot).await?, instance.deploy(&join).await?)
            };
            let took = began.elapsed();
            hot.access.close().await;
            join.access.close().await;
            Ok((took, instance, [hot.file(), join.file()]))
        })
    }
}

/// Reads a log once, so that nobody pays for the disk who comes first.
pub(crate) fn warm_up(log: &Path) -> anyhow::Result<()> {
    std::io::copy(&mut std::fs::File::open(log)?, &mut std::io::sink())?;
    Ok(())
}
