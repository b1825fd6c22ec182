//! Read models that no version uses: what a catalog does not know that was restored to an earlier day.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{LifecycleError, Places};
use crate::catalog::Catalog;
use crate::postgres::ServerUrl;
use crate::read_model::postgres::schemas_of;
use crate::read_model::sqlite::files_of_builds;
use crate::read_model::{ReadModelError, ReadModelPlace, ReadModels};

/// Where builds of this log are that the catalog knows nothing of: in the folders and on the servers
/// where others are, or where new ones go. Sorted.
pub async fn orphans(
    catalog: &dyn Catalog,
    places: &Places,
    log_id: &str,
) -> Result<Vec<ReadModelPlace>, LifecycleError> {
    let (mut folders, mut servers) = (BTreeSet::new(), Vec::new());
    match &places.read_models {
        ReadModels::Folder(folder) => drop(folders.insert(places.home.join(folder))),
        ReadModels::Server { url, .. } => servers.push(url.clone()),
    }
    let mut known = BTreeSet::new();
    for projection in catalog.projections().await? {
        let versions = catalog.versions(&projection).await?;
        let used = versions
            .into_iter()
            .flat_map(|it| [it.current, it.successor]);
        let discarded = catalog.discarded(&projection).await?;
        for build in used.flatten().chain(discarded) {
            let place = places.of_build(&build)?;
            match &place {
                ReadModelPlace::File(path) => {
                    folders.extend(path.parent().and_then(Path::parent).map(Path::to_owned));
                }
                ReadModelPlace::Schema(place) => servers.push(place.server().clone()),
            }
            known.insert(identity(&place));
        }
    }
    let log_id = log_id.to_owned();
    let found = tokio::task::spawn_blocking(move || found(folders, servers, &log_id)).await;
    let mut found = found.expect("looking for read models does not panic")?;
    found.retain(|place| !known.contains(&identity(place)));
    found.sort_by_key(ToString::to_string);
    Ok(found)
}

fn found(
    folders: BTreeSet<PathBuf>,
    mut servers: Vec<ServerUrl>,
    log_id: &str,
) -> Result<Vec<ReadModelPlace>, ReadModelError> {
    let mut found = Vec::new();
    for folder in folders {
        let files = files_of_builds(&folder)?;
        // Others may keep theirs in the same folder.
        let places = files.into_iter().map(ReadModelPlace::File);
        found.extend(places.filter(|it| it.status_of(log_id).is_ok()));
    }
    servers.sort_by_key(ToString::to_string);
    servers.dedup_by(|a, b| a.is_same(b));
    for server in servers {
        let schemas = schemas_of(&server, log_id)?;
        found.extend(schemas.into_iter().map(ReadModelPlace::Schema));
    }
    Ok(found)
}

/// The same for the same place, however it is written.
fn identity(place: &ReadModelPlace) -> String {
    match place {
        ReadModelPlace::File(path) => {
            let whole = path.canonicalize();
            whole.unwrap_or_else(|_| path.clone()).display().to_string()
        }
        // A schema's name says of which log and build it is.
        ReadModelPlace::Schema(place) => place.schema().to_owned(),
    }
}
