//! The conformance suite bound to PostgreSQL, and what only PostgreSQL can get wrong.

use retell_contract::manifest::Manifest;

use super::{PgReadModel, SchemaPlace};
use crate::read_model::conformance::{Place, conformance_tests};
use crate::read_model::{Provenance, ReadModel, ReadModelError, ReadModelStatus};
use crate::test_cluster::cluster;

pub(super) struct Schema(SchemaPlace);

impl Schema {
    fn new() -> Self {
        let url = cluster().new_database();
        // Roles are the whole cluster's, so their names must differ between the tests' databases.
        let number = url
            .split("test_")
            .nth(1)
            .and_then(|it| it.split('?').next());
        let schema = format!("retell_t{}", number.expect("databases are numbered"));
        Self(format!("{url}#{schema}").parse().expect("a place"))
    }
}

impl Place for Schema {
    fn create(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        let created = PgReadModel::create(&self.0, manifest, provenance, epoch)?;
        Ok(Box::new(created))
    }

    fn open(
        &self,
        manifest: &Manifest,
        provenance: &Provenance,
        epoch: u64,
    ) -> Result<Box<dyn ReadModel>, ReadModelError> {
        let opened = PgReadModel::open(&self.0, manifest, provenance, epoch)?;
        Ok(Box::new(opened))
    }

    fn status(&self) -> Result<ReadModelStatus, ReadModelError> {
        PgReadModel::status(&self.0)
    }
}

conformance_tests!(Schema::new());
