//! The same on PostgreSQL: log and read models in one database of a throwaway server with syncing on,
//! beside what others would do on that server.

mod appends;
mod baselines;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use retell::log::postgres::PgLog;
use retell::log::{EventLog as _, OpenMode};
use retell::postgres::ServerUrl;
use retell::read_model::{ReadModelPlace, ReadModels};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};

use crate::cluster::Cluster;
use crate::events;
use crate::host::{self, Instance};
use crate::run::{Bench, Times};

pub(crate) use appends::appends;

/// What a server of this size would be set to.
const SETTINGS: [&str; 4] = [
    "fsync = on",
    "shared_buffers = 512MB",
    "max_wal_size = 4GB",
    "checkpoint_timeout = 30min",
];

/// A server with the bench's log.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    pub(crate) url: ServerUrl,
    pub(crate) log: Arc<PgLog>,
}

/// A fold by hand on the server, into the table `theirs` or several.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    pub(crate) target: f64,
    /// It takes minutes, so it is done once.
    pub(crate) is_slow: bool,
    fold: for<'c> fn(&'c mut PgConnection) -> baselines::Folding<'c>,
}

/// A fold by retell and by hand.
pub(crate) struct Fold {
    pub(crate) name: &'static str,
    pub(crate) guest: &'static str,
    /// Tables of the projection, with the same name in the schema `theirs`.
    tables: &'static [&'static str],
    pub(crate) baselines: &'static [Baseline],
}

pub(crate) const FOLDS: [Fold; 3] = [
    Fold {
        name: "pg-hot",
        guest: "hot",
        tables: &["auction_bids"],
        baselines: &[
            Baseline {
                name: "naive native, UNNEST by 1,000",
                target: 1.0,
                is_slow: false,
                fold: baselines::hot_naive,
            },
            Baseline {
                name: "CREATE TABLE AS … GROUP BY",
                target: 0.8,
                is_slow: false,
                fold: baselines::hot_sql,
            },
        ],
    },
    Fold {
        name: "pg-wide",
        guest: "wide",
        tables: &["latest_bid"],
        baselines: &[
            Baseline {
                name: "upserts, 1,000 a transaction",
                target: 0.3,
                is_slow: true,
                fold: baselines::wide_naive,
            },
            Baseline {
                name: "COPY out and COPY in",
                target: 1.3,
                is_slow: false,
                fold: baselines::wide_copy,
            },
        ],
    },
    Fold {
        name: "pg-join",
        guest: "join",
        tables: &["person", "auction"],
        baselines: &[Baseline {
            name: "naive native",
            target: 0.3,
            is_slow: true,
            fold: baselines::join_naive,
        }],
    },
];

impl Server {
    /// Starts a server, and puts so many of NEXMark's events into its log.
    pub(crate) fn start(bench: &Bench, events: u64) -> anyhow::Result<Self> {
        let cluster = Cluster::with_settings(&SETTINGS);
        let url: ServerUrl = cluster.new_database().parse()?;
        let opened = PgLog::open(&url, OpenMode::CreateIfMissing);
        let log = Arc::new(bench.runtime.block_on(opened)?);
        events::import(&*log, events::events(events))?;
        let server = Self { cluster, url, log };
        server.psql("VACUUM ANALYZE retell.events; CHECKPOINT");
        Ok(server)
    }

    /// Finds the rows that a COPY of wide's rows moves, which costs it nothing.
    pub(crate) fn find_latest_bids(&self) {
        self.psql(
            "CREATE TABLE public.latest_bids_found AS
             SELECT DISTINCT ON (1, 2) (payload->>'auction')::bigint AS auction,
                    (payload->>'bidder')::bigint AS bidder, (payload->>'price')::bigint AS price,
                    (payload->>'date_time')::bigint AS date_time
             FROM retell.events WHERE type = 'Bid' ORDER BY 1, 2, position DESC",
        );
    }

    /// retell and the baselines of a fold in turns, with their rows compared. retell's times come
    /// first.
    pub(crate) fn fold(&self, bench: &Bench, fold: &Fold) -> anyhow::Result<Vec<Times>> {
        let mut all = vec![Times::new("retell")];
        all.extend(fold.baselines.iter().map(|it| Times::new(it.name)));
        for turn in 0..bench.repetitions {
            let (took, _instance, place) = self.deploy(bench, fold.guest)?;
            all[0].add(took);
            for (baseline, times) in fold.baselines.iter().zip(&mut all[1..]) {
                if baseline.is_slow && turn > 0 {
                    continue;
                }
                self.psql("DROP SCHEMA IF EXISTS theirs CASCADE; CREATE SCHEMA theirs");
                let took = bench.runtime.block_on(self.run(baseline))?;
                times.add(took);
                if turn == 0 {
                    self.check_same(&place, fold)?;
                }
            }
            // Its readers' name would go with a switch.
            self.psql(&format!("DROP SCHEMA bench_{}_v1 CASCADE", fold.guest));
            place.drop_read_model(self.log.log_id())?;
        }
        Ok(all)
    }

    async fn run(&self, baseline: &Baseline) -> anyhow::Result<Duration> {
        let mut connection = self.connect().await?;
        let began = Instant::now();
        // As retell's writer does: nothing waits for the disk but the last commit, and with it is there
        // what came before, since the server writes its journal in order.
        execute(&mut connection, "SET synchronous_commit = off").await?;
        (baseline.fold)(&mut connection).await?;
        execute(&mut connection, "SET synchronous_commit = on").await?;
        execute(&mut connection, "COMMENT ON SCHEMA theirs IS 'ready'").await?;
        Ok(began.elapsed())
    }

    /// One deploy of a fresh version: the time to `ready`, and the read model.
    fn deploy(
        &self,
        bench: &Bench,
        guest: &str,
    ) -> anyhow::Result<(Duration, Instance, ReadModelPlace)> {
        let bytes = host::module(&bench.engine, guest)?;
        let read_models = ReadModels::Server {
            url: self.url.clone(),
            log_id: self.log.log_id().to_owned(),
        };
        let deployed = bench.runtime.block_on(async {
            let log = self.log.clone();
            let instance = Instance::with(&bench.folder, &bench.engine, log, read_models).await?;
            let began = Instant::now();
            let mut deployed = instance.deploy(&bytes).await?;
            let took = began.elapsed();
            deployed.access.close().await;
            anyhow::Ok((took, instance, deployed.place))
        });
        let (took, instance, place) = deployed?;
        let head = bench.runtime.block_on(self.log.head())?.position;
        host::check_complete(&place, head)?;
        Ok((took, instance, place))
    }

    fn check_same(&self, place: &ReadModelPlace, fold: &Fold) -> anyhow::Result<()> {
        let place = place.to_string();
        let (_, schema) = place.split_once('#').expect("a schema on the server");
        for table in fold.tables {
            let differing = self.psql(&format!(
                "SELECT (SELECT count(*) FROM
                            (SELECT * FROM \"{schema}\".{table} EXCEPT SELECT * FROM theirs.{table}) x)
                      + (SELECT count(*) FROM
                            (SELECT * FROM theirs.{table} EXCEPT SELECT * FROM \"{schema}\".{table}) x)"
            ));
            ensure!(differing == "0", "{differing} rows of {table} differ");
            let rows = self.psql(&format!("SELECT count(*) > 0 FROM theirs.{table}"));
            ensure!(rows == "t", "{table} is empty");
        }
        Ok(())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options: sqlx::postgres::PgConnectOptions = self.url.to_string().parse()?;
        Ok(options.connect().await?)
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        let url = self.url.to_string();
        let path = url.rsplit_once('?').map_or(url.as_str(), |(path, _)| path);
        let database = path.rsplit_once('/').map_or(path, |(_, name)| name);
        let mut said = String::new();
        // One by one: some can't be in a transaction with others.
        for statement in sql.split(';').filter(|it| !it.trim().is_empty()) {
            said = self.cluster.psql(database, statement);
        }
        said
    }
}

/// Runs SQL that has no parameters.
async fn execute(connection: &mut PgConnection, sql: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}
