//! What can stop a replay, and whose fault it is.

use super::bisect::Blame;
use crate::event::Position;
use crate::log::LogError;
use crate::read_model::ReadModelError;

/// Why a replay stopped. Faults of the log, the catalog and the read model pass; the module's and
/// the log's history do not.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the log can't be read")]
    Log(#[from] LogError),
    #[error("the read model can't be used")]
    ReadModel(#[from] ReadModelError),
    /// Rows could not be read while the module ran.
    #[error("the read model can't be used")]
    Rows {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It could not be read from the catalog; what it is, is not known yet.
    #[error("the module can't be fetched")]
    Fetch {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It could not be told whether the module is a pure function of its events.
    #[error("it can't be verified")]
    Verify {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the module can't be loaded")]
    Load {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The module's own doing: the version fails, and the reason says where and why.
    #[error("{0}")]
    Module(Box<Blame>),
    #[error(
        "the log is not the one this read model was built from: at position {position} its hash \
         differs; it was restored to an older state and went another way, or is another log"
    )]
    LogChanged { position: Position },
    /// The system has no thread to spare.
    #[error("no thread can be started")]
    Thread { source: std::io::Error },
    #[error("a flush failed, and what it held is lost: open the build again")]
    Spent,
}
