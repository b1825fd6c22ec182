//! The workloads that fold the log into tables, and what each must reach. A target is a ratio of
//! times in the same run.

use crate::baselines::{Ends, hot, join, scatter, sparse, wide};

/// A projection of `projections/`, and the same fold by hand.
pub(crate) struct Fold {
    pub(crate) name: &'static str,
    pub(crate) guest: &'static str,
    pub(crate) about: &'static str,
    pub(crate) tables: &'static str,
    /// Built at the end.
    pub(crate) indexes: &'static str,
    pub(crate) baselines: &'static [Baseline],
}

/// One way to do a fold by hand.
pub(crate) struct Baseline {
    pub(crate) name: &'static str,
    /// The ratio of times that retell must not exceed; none: shown, and compared row by row.
    pub(crate) target: Option<f64>,
    pub(crate) fold: fn(&Ends) -> anyhow::Result<()>,
}

const BEST: &str = "best native";
const NAIVE: &str = "naive native";

pub(crate) const FOLDS: [Fold; 6] = [HOT, WIDE, SCATTER, JOIN, FAN_OUT, SPARSE];

pub(crate) const HOT: Fold = Fold {
    name: "hot",
    guest: "hot",
    about: "per auction: count of bids, highest price, last bidder",
    tables: hot::TABLES,
    indexes: "",
    baselines: &[
        Baseline {
            name: BEST,
            target: Some(0.6),
            fold: hot::best,
        },
        Baseline {
            name: "SQL alone",
            target: Some(0.3),
            fold: hot::sql,
        },
        Baseline {
            name: NAIVE,
            target: Some(0.4),
            fold: hot::naive,
        },
    ],
};

const WIDE: Fold = Fold {
    name: "wide",
    guest: "wide",
    about: "the latest bid of every auction and bidder, with a secondary index",
    tables: wide::TABLES,
    indexes: wide::INDEXES,
    baselines: &[
        Baseline {
            name: BEST,
            target: Some(0.8),
            fold: wide::best,
        },
        Baseline {
            name: NAIVE,
            target: Some(0.4),
            fold: wide::naive,
        },
    ],
};

pub(crate) const SCATTER: Fold = Fold {
    name: "scatter",
    guest: "scatter",
    about: "one row for each bid, under a key that is a hash",
    tables: scatter::TABLES,
    indexes: "",
    baselines: &[
        Baseline {
            name: BEST,
            target: Some(0.9),
            fold: scatter::best,
        },
        Baseline {
            name: NAIVE,
            target: Some(0.1),
            fold: scatter::naive,
        },
    ],
};

pub(crate) const JOIN: Fold = Fold {
    name: "join",
    guest: "join",
    about: "auctions with their seller's name and their highest bid: reads other rows",
    tables: join::TABLES,
    indexes: "",
    baselines: &[Baseline {
        name: NAIVE,
        target: Some(0.4),
        fold: join::naive,
    }],
};

const FAN_OUT: Fold = Fold {
    name: "fan-out",
    guest: "fan_out",
    about: "the same, and a person's rename updates all their auctions through an index",
    tables: join::FAN_OUT_TABLES,
    indexes: "",
    baselines: &[Baseline {
        name: NAIVE,
        target: Some(0.5),
        fold: join::naive_fan_out,
    }],
};

/// What it must reach is a share of the hot run's time.
const SPARSE: Fold = Fold {
    name: "sparse",
    guest: "sparse",
    about: "persons only, one event in fifty",
    tables: sparse::TABLES,
    indexes: "",
    baselines: &[Baseline {
        name: NAIVE,
        target: None,
        fold: sparse::naive,
    }],
};

/// Of the hot run's time.
pub(crate) const SPARSE_TARGET: f64 = 0.25;
