//! The conformance suite bound to PostgreSQL, and what only PostgreSQL can get wrong.

mod after_replay;

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

#[test]
fn a_role_that_is_not_let_in_is_told_apart_from_one_that_lacks_a_right() {
    let place = Schema::new();
    let stranger = place.0.to_string().replacen("postgres@", "stranger@", 1);
    let stranger: SchemaPlace = stranger.parse().expect("a place");
    let error = PgReadModel::status(&stranger).expect_err("is refused");
    assert!(
        matches!(error, ReadModelError::Unreachable { .. }),
        "{error:?}"
    );
}
