//! The names by which readers come to read models, following the catalog: links to files, and schemas
//! of views on servers.

use std::collections::{BTreeMap, BTreeSet};
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

/// Names that do not follow the catalog. What they lead to has to stay.
#[derive(Default)]
pub(super) struct Unpublished {
    links: bool,
    servers: BTreeSet<String>,
    /// Why the first of them do not.
    error: Option<LifecycleError>,
}

impl Supervisor {
    /// Makes the names follow the catalog, wherever they can.
    pub(super) async fn publish(&self) -> Result<Unpublished, LifecycleError> {
        let versions = self.host.catalog.versions(self.projection()).await?;
        let live = versions.iter().find(|it| it.status.role == Role::Live);
        let names = self.names(&versions, live, None).await?;
        let files: Vec<_> = names.files().collect();
        let mut unpublished = Unpublished::default();
        let links = Links::new(&self.host.places.links, self.projection());
        if let Err(error) = links.repair(&files) {
            unpublished.links = true;
            unpublished.error = Some(error.into());
        }
        for server in self.on_servers(&versions, &names).await? {
            let name = server.server().to_string();
            let followed = tokio::task::spawn_blocking(move || server.follow()).await;
            if let Err(error) = followed.expect("replacing views does not panic") {
                unpublished.servers.insert(name);
                unpublished.error.get_or_insert(error.into());
            }
        }
        Ok(unpublished)
    }

    /// The views that are to follow a switch to a version. Refused where they can't, because others
    /// use them. A server that is not to show this version is no obstacle: it follows when it can be
    /// reached.
    pub(super) async fn views_after(
        &self,
        to: &VersionRecord,
    ) -> Result<Vec<ServerViews>, LifecycleError> {
        let versions = self.host.catalog.versions(self.projection()).await?;
        let names = self.names(&versions, Some(to), Some(to)).await?;
        let servers = self.on_servers(&versions, &names).await?;
        let own = to.current.as_ref();
        let own = own.map(|it| self.host.places.of_build(it)).transpose()?;
        let own = own.map(|it| it.to_string());
        let mut follow = Vec::new();
        for server in servers {
            let mut wanted = server.wanted.iter();
            let is_to_show_it = wanted.any(|(_, place)| Some(place.to_string()) == own);
            let looked_at = server.clone();
            let checked = tokio::task::spawn_blocking(move || looked_at.check()).await;
            match checked.expect("looking at views does not panic") {
                Ok(()) => follow.push(server),
                Err(error @ ReadModelError::InUse { .. }) => {
                    return Err(LifecycleError::Refused {
                        hint: error.hint().unwrap_or_default(),
                        message: format!("{} can't be made live: {error}", to.name()),
                    });
                }
                Err(error) if !is_to_show_it => {
                    tracing::warn!(
                        "{}: names on {} stay as they are for now: {}",
                        to.name(),
                        server.server(),
                        crate::error_chain(&error)
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(follow)
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

impl Unpublished {
    /// Whether a name may still lead there.
    pub(super) fn may_lead_to(&self, place: &ReadModelPlace) -> bool {
        match place {
            ReadModelPlace::File(_) => self.links,
            ReadModelPlace::Schema(place) => self.servers.contains(&place.server().to_string()),
        }
    }

    pub(super) fn into_result(self) -> Result<(), LifecycleError> {
        self.error.map_or(Ok(()), Err)
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
