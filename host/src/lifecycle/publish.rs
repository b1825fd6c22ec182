//! The names by which readers come to read models, following the catalog: links to files, and schemas
//! of views on servers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::state::{Role, State};
use super::supervisor::Supervisor;
use super::{Host, LifecycleError};
use crate::catalog::{Build, VersionRecord};
use crate::postgres::ServerUrl;
use crate::read_model::postgres::{SchemaPlace, ServerViews, Views, shown_build};
use crate::read_model::publish::{LinkName, Links};
use crate::read_model::{ReadModelError, ReadModelPlace};

/// What each name leads to: that of the live version, and those of majors.
#[derive(Default)]
struct Names(Vec<(Option<u64>, ReadModelPlace)>);

impl Supervisor {
    /// Makes the names follow the catalog.
    pub(super) async fn publish(&self) -> Result<(), LifecycleError> {
        let versions = self.host.catalog.versions(self.projection()).await?;
        let live = versions.iter().find(|it| it.status.role == Role::Live);
        let names = self.names(&versions, live, None).await?;
        let files: Vec<_> = names.files().collect();
        Links::new(&self.host.places.links, self.projection()).repair(&files)?;
        for server in self.on_servers(&versions, &names).await? {
            let followed = tokio::task::spawn_blocking(move || server.follow()).await;
            followed.expect("replacing views does not panic")?;
        }
        Ok(())
    }

    /// The views that are to follow a switch to a version. Refused where they can't, because others
    /// use them.
    pub(super) async fn views_after(
        &self,
        to: &VersionRecord,
    ) -> Result<Vec<ServerViews>, LifecycleError> {
        let versions = self.host.catalog.versions(self.projection()).await?;
        let names = self.names(&versions, Some(to), Some(to)).await?;
        let servers = self.on_servers(&versions, &names).await?;
        for server in servers.clone() {
            let checked = tokio::task::spawn_blocking(move || server.check()).await;
            match checked.expect("looking at views does not panic") {
                Err(error @ ReadModelError::InUse { .. }) => {
                    return Err(LifecycleError::Refused {
                        hint: error.hint().unwrap_or_default(),
                        message: format!("{} can't be made live: {error}", to.name()),
                    });
                }
                checked => checked?,
            }
        }
        Ok(servers)
    }

    /// The names as they are to be while `live` is live. A version that is to be `promoted` takes its
    /// major's name from older ones.
    async fn names(
        &self,
        versions: &[VersionRecord],
        live: Option<&VersionRecord>,
        promoted: Option<&VersionRecord>,
    ) -> Result<Names, LifecycleError> {
        let mut names = Names::default();
        let mut majors: BTreeMap<u64, semver::Version> = {
            let majors = self.host.catalog.majors(self.projection()).await?;
            majors.into_iter().collect()
        };
        if let Some(promoted) = promoted.map(|it| &it.version) {
            let holder = majors.entry(promoted.major).or_insert(promoted.clone());
            if *holder < *promoted {
                *holder = promoted.clone();
            }
        }
        let mut add = |major: Option<u64>, version: &VersionRecord| {
            if let Some(build) = &version.current {
                names.0.push((major, self.host.places.of_build(build)?));
            }
            Ok::<(), LifecycleError>(())
        };
        if let Some(live) = live {
            add(None, live)?;
        }
        for (major, holder) in majors {
            let holder = versions.iter().find(|it| it.version == holder);
            if let Some(holder) = holder.filter(|it| it.status.state == State::Ready) {
                add(Some(major), holder)?;
            }
        }
        Ok(names)
    }

    /// The servers on which there are names, or were until now.
    async fn on_servers(
        &self,
        versions: &[VersionRecord],
        names: &Names,
    ) -> Result<Vec<ServerViews>, LifecycleError> {
        let projection = self.projection();
        let discarded = self.host.catalog.discarded(projection).await?;
        let current = versions.iter().filter_map(|it| it.current.as_ref());
        let mut servers: BTreeMap<String, (ServerUrl, Vec<(String, SchemaPlace)>)> =
            BTreeMap::new();
        for build in current.chain(&discarded) {
            if let ReadModelPlace::Schema(place) = self.host.places.of_build(build)? {
                let server = place.server();
                servers
                    .entry(server.to_string())
                    .or_insert_with(|| (server.clone(), Vec::new()));
            }
        }
        for (major, place) in &names.0 {
            if let ReadModelPlace::Schema(place) = place
                && let Some((_, wanted)) = servers.get_mut(&place.server().to_string())
            {
                wanted.push((Views::schema(projection, *major), place.clone()));
            }
        }
        let log_id = self.host.log.log_id();
        let on_server = |(server, wanted): (ServerUrl, _)| ServerViews {
            views: Views::new(&server, projection, log_id),
            wanted,
        };
        Ok(servers.into_values().map(on_server).collect())
    }
}

impl Host {
    /// Whether a name leads readers to this build, or still to another one. `major`: none for the
    /// name of the live version.
    pub async fn is_published(
        &self,
        build: &Build,
        major: Option<u64>,
    ) -> Result<bool, LifecycleError> {
        let place = self.places.of_build(build)?;
        let (projection, id) = (build.projection.clone(), build.id);
        let links = Links::new(&self.places.links, &projection);
        let look = move || match place {
            ReadModelPlace::File(path) => {
                let name = major.map_or(LinkName::Live, LinkName::Major);
                let whole = |path: &Path| path.canonicalize().ok();
                let leads_to = links.target(name).and_then(|target| whole(&target));
                Ok(leads_to.is_some() && leads_to == whole(&path))
            }
            ReadModelPlace::Schema(place) => {
                let schema = Views::schema(&projection, major);
                Ok(shown_build(place.server(), &schema)? == Some(id))
            }
        };
        let looked = tokio::task::spawn_blocking(look).await;
        looked.expect("looking at names does not panic")
    }
}

impl Names {
    /// Those that lead to files.
    fn files(&self) -> impl Iterator<Item = (LinkName, PathBuf)> {
        self.0.iter().filter_map(|(major, place)| {
            let ReadModelPlace::File(path) = place else {
                return None;
            };
            let name = major.map_or(LinkName::Live, LinkName::Major);
            Some((name, path.clone()))
        })
    }
}
