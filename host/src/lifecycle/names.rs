//! What users call things: `articles`, `articles@2`, `articles@2.1.0`.

use std::fmt;
use std::str::FromStr;

use crate::catalog::{Catalog, CatalogError, VersionRecord};
use crate::lifecycle::state::{Role, State};

/// A name as given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub projection: String,
    pub which: Which,
}

/// Which of a projection's versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Live,
    Major(u64),
    Exact(semver::Version),
}

/// A name that can't be one.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{given}` is not a name: write articles (the live version), articles@2 (its major 2) or articles@2.1.0 (one version)"
)]
pub struct BadName {
    given: String,
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(given: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            given: given.to_owned(),
        };
        let (projection, which) = match given.split_once('@') {
            None => (given, Which::Live),
            Some((projection, version)) => {
                let which = match version.parse::<u64>() {
                    Ok(major) => Which::Major(major),
                    Err(_) => Which::Exact(semver::Version::parse(version).map_err(|_| bad())?),
                };
                (projection, which)
            }
        };
        retell_contract::names::check_projection_name(projection).map_err(|_| bad())?;
        Ok(Self {
            projection: projection.to_owned(),
            which,
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Live => write!(f, "{}", self.projection),
            Which::Major(major) => write!(f, "{}@{major}", self.projection),
            Which::Exact(version) => write!(f, "{}@{version}", self.projection),
        }
    }
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    #[error("there is no projection `{projection}`{}", listed(.known))]
    NoProjection {
        projection: String,
        known: Vec<String>,
    },
    #[error("`{projection}` has no live version yet")]
    NoLive {
        projection: String,
        versions: Vec<String>,
    },
    #[error("`{projection}` has no version {wanted}; it has {}", .versions.join(", "))]
    NoVersion {
        projection: String,
        wanted: String,
        versions: Vec<String>,
    },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "; none is deployed".into()
    } else {
        format!("; there are {}", names.join(", "))
    }
}

impl Unresolved {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProjection { known, .. } if known.is_empty() => {
                Some("deploy one: `retell deploy FILE.wasm`".into())
            }
            Self::NoProjection { .. } => Some("`retell status` lists all projections".into()),
            Self::NoLive {
                projection,
                versions,
            } => versions
                .last()
                .map(|version| format!("make one live: `retell promote {projection}@{version}`")),
            Self::NoVersion { projection, .. } => {
                Some(format!("`retell status {projection}` lists its versions"))
            }
            Self::Catalog(_) => None,
        }
    }
}

/// For reading: the live version, the holder of a major's lasting name, or the one version.
pub async fn resolve(catalog: &dyn Catalog, name: &Name) -> Result<VersionRecord, Unresolved> {
    let versions = versions_of(catalog, name).await?;
    match &name.which {
        Which::Live => {
            let listed = texts(&versions);
            let live = versions.into_iter().find(|it| it.status.role == Role::Live);
            live.ok_or_else(|| Unresolved::NoLive {
                projection: name.projection.clone(),
                versions: listed,
            })
        }
        Which::Major(major) => {
            let majors = catalog.majors(&name.projection).await?;
            let holder = majors.into_iter().find(|it| it.0 == *major).map(|it| it.1);
            pick(name, versions, |it| Some(&it.version) == holder.as_ref())
        }
        Which::Exact(version) => pick(name, versions, |it| it.version == *version),
    }
}

/// For acting on one version: of a major the newest that is not retired (or the newest of all).
pub async fn resolve_one(catalog: &dyn Catalog, name: &Name) -> Result<VersionRecord, Unresolved> {
    let Which::Major(major) = name.which else {
        return resolve(catalog, name).await;
    };
    let versions = versions_of(catalog, name).await?;
    let newest = versions
        .iter()
        .filter(|it| it.version.major == major)
        .max_by_key(|it| (it.status.state != State::Retired, it.version.clone()))
        .map(|it| it.version.clone());
    pick(name, versions, |it| Some(&it.version) == newest.as_ref())
}

async fn versions_of(catalog: &dyn Catalog, name: &Name) -> Result<Vec<VersionRecord>, Unresolved> {
    let versions = catalog.versions(&name.projection).await?;
    if versions.is_empty() {
        let known = catalog.projections().await?;
        return Err(Unresolved::NoProjection {
            projection: name.projection.clone(),
            known,
        });
    }
    Ok(versions)
}

fn pick(
    name: &Name,
    versions: Vec<VersionRecord>,
    wanted: impl Fn(&VersionRecord) -> bool,
) -> Result<VersionRecord, Unresolved> {
    let listed = texts(&versions);
    versions
        .into_iter()
        .find(wanted)
        .ok_or_else(|| Unresolved::NoVersion {
            projection: name.projection.clone(),
            wanted: name
                .to_string()
                .split_once('@')
                .map_or(String::new(), |it| it.1.to_owned()),
            versions: listed,
        })
}

fn texts(versions: &[VersionRecord]) -> Vec<String> {
    versions.iter().map(|it| it.version.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_written() {
        for text in ["articles", "articles@2", "articles@2.1.0", "a@1.0.0-beta.1"] {
            assert_eq!(text.parse::<Name>().expect("a name").to_string(), text);
        }
        for text in [
            "",
            "Articles",
            "articles@",
            "articles@two",
            "articles@1.2",
            "a@b@c",
            "x; drop",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
