//! The names by which programs open SQLite read models: `live.db`, and `v2.db` for major 2.
//!
//! They are symbolic links, replaced by an atomic rename, so an opener finds the old read model or
//! the new one and never neither. SQLite resolves the link and keeps its WAL under the real name.
//! The catalog is the truth; these links follow it, and [`Links::repair`] makes them do so again
//! after a crash came between.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new link is made under such a name first.
const TEMPORARY_PREFIX: &str = ".retell-link-";

/// A link that can't be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("`{link}` is a file or folder that retell did not make, where its link should be")]
    NotALink { link: PathBuf },
    #[error("could not {doing} the link `{link}`")]
    Io {
        link: PathBuf,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl PublishError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotALink { link } => Some(format!(
                "move it away, for example with `mv {0} {0}.mine`, and run the command again",
                link.display()
            )),
            Self::Io { .. } => None,
        }
    }
}

/// What a link stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    Live,
    Major(u64),
}

impl LinkName {
    pub fn file_name(self) -> String {
        match self {
            Self::Live => "live.db".to_owned(),
            Self::Major(major) => format!("v{major}.db"),
        }
    }

    fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(".db")?;
        let name = match stem.strip_prefix('v') {
            Some(major) => Self::Major(major.parse().ok()?),
            None => Self::Live,
        };
        (name.file_name() == file_name).then_some(name)
    }
}

/// The links of one projection.
#[derive(Debug, Clone)]
pub struct Links {
    /// The folder of all read models.
    root: PathBuf,
    folder: PathBuf,
}

impl Links {
    /// The links `ROOT/PROJECTION/live.db` and so on.
    pub fn new(root: &Path, projection: &str) -> Self {
        Self {
            root: root.to_owned(),
            folder: root.join(projection),
        }
    }

    pub fn path(&self, name: LinkName) -> PathBuf {
        self.folder.join(name.file_name())
    }

    /// Where the link leads, if there is one.
    pub fn target(&self, name: LinkName) -> Option<PathBuf> {
        let target = fs::read_link(self.path(name)).ok()?;
        Some(self.folder.join(target))
    }

    /// Makes the link lead to `file`, in one step and for good. Says whether anything changed.
    pub fn publish(&self, name: LinkName, file: &Path) -> Result<bool, PublishError> {
        let link = self.path(name);
        let io = |doing| {
            let link = link.clone();
            move |source| PublishError::Io {
                link,
                doing,
                source,
            }
        };
        fs::create_dir_all(&self.folder).map_err(io("make the folder of"))?;
        let target = self.target_text(file).map_err(io("find the target of"))?;
        match fs::symlink_metadata(&link) {
            Ok(found) if !found.is_symlink() => return Err(PublishError::NotALink { link }),
            Ok(_) if fs::read_link(&link).is_ok_and(|now| now == target) => return Ok(false),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("read")(error)),
            _ => {}
        }
        let temporary = self.folder.join(temporary_name());
        symlink(&target, &temporary).map_err(io("make"))?;
        if let Err(error) = fs::rename(&temporary, &link) {
            let _ = fs::remove_file(&temporary);
            return Err(io("replace")(error));
        }
        self.sync().map_err(io("sync"))?;
        Ok(true)
    }

    /// Takes the link away. Says whether there was one.
    pub fn unpublish(&self, name: LinkName) -> Result<bool, PublishError> {
        let link = self.path(name);
        match fs::symlink_metadata(&link) {
            Ok(found) if !found.is_symlink() => Err(PublishError::NotALink { link }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            _ => match fs::remove_file(&link).and_then(|()| self.sync()) {
                Ok(()) => Ok(true),
                Err(source) => Err(PublishError::Io {
                    link,
                    doing: "remove",
                    source,
                }),
            },
        }
    }

    /// Makes the links exactly those wanted, and sweeps up what a crash left. Says which changed.
    /// Files that retell did not make stay.
    pub fn repair(&self, wanted: &[(LinkName, PathBuf)]) -> Result<Vec<LinkName>, PublishError> {
        let mut changed = Vec::new();
        for (name, file) in wanted {
            if self.publish(*name, file)? {
                changed.push(*name);
            }
        }
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(changed),
            Err(source) => return Err(self.folder_error(source)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| self.folder_error(source))?;
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            if !entry.path().is_symlink() {
                continue;
            }
            if file_name.starts_with(TEMPORARY_PREFIX) {
                let _ = fs::remove_file(entry.path());
            }
            if let Some(name) = LinkName::parse(&file_name)
                && !wanted.iter().any(|(kept, _)| *kept == name)
                && self.unpublish(name)?
            {
                changed.push(name);
            }
        }
        Ok(changed)
    }

    fn folder_error(&self, source: io::Error) -> PublishError {
        PublishError::Io {
            link: self.folder.clone(),
            doing: "look for links beside",
            source,
        }
    }

    /// Relative within the folder of all read models, so that it can be moved as a whole; absolute
    /// to anywhere else.
    fn target_text(&self, file: &Path) -> io::Result<PathBuf> {
        let file = std::path::absolute(file)?;
        let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else {
            return Ok(file);
        };
        let parent = parent.canonicalize()?;
        let folder = self.folder.canonicalize()?;
        let root = self.root.canonicalize()?;
        if parent == folder {
            return Ok(PathBuf::from(name));
        }
        match (parent.strip_prefix(&root), folder.strip_prefix(&root)) {
            (Ok(below), Ok(from)) => {
                let up: PathBuf = from.components().map(|_| "..").collect();
                Ok(up.join(below).join(name))
            }
            _ => Ok(parent.join(name)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

fn temporary_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for path in ["articles/a.db", "articles/b.db", "other/c.db"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("makes it");
            fs::write(&path, path.file_stem().expect("has one").as_encoded_bytes())
                .expect("writes");
        }
        root
    }

    fn read(links: &Links, name: LinkName) -> String {
        fs::read_to_string(links.path(name)).expect("reads")
    }

    #[test]
    fn a_link_is_switched_and_leads_on_after_its_folder_moved() {
        let root = root();
        let at = |path: &str| root.path().join(path);
        let links = Links::new(root.path(), "articles");
        assert!(
            links
                .publish(LinkName::Live, &at("articles/a.db"))
                .expect("publishes")
        );
        assert!(
            !links
                .publish(LinkName::Live, &at("articles/a.db"))
                .expect("publishes")
        );
        assert_eq!(read(&links, LinkName::Live), "a");
        assert!(
            links
                .publish(LinkName::Live, &at("articles/b.db"))
                .expect("publishes")
        );
        links
            .publish(LinkName::Major(2), &at("other/c.db"))
            .expect("publishes");
        assert_eq!(links.target(LinkName::Live), Some(at("articles/b.db")));

        let moved = root.path().with_extension("moved");
        fs::rename(root.path(), &moved).expect("moves");
        let links = Links::new(&moved, "articles");
        let found = (
            read(&links, LinkName::Live),
            read(&links, LinkName::Major(2)),
        );
        fs::rename(&moved, root.path()).expect("moves back");
        assert_eq!(found, ("b".to_owned(), "c".to_owned()));
    }

    #[test]
    fn a_link_out_of_the_root_is_absolute() {
        let (root, elsewhere) = (root(), root());
        let links = Links::new(root.path(), "articles");
        let file = elsewhere.path().join("articles/a.db");
        links.publish(LinkName::Live, &file).expect("publishes");
        let target = fs::read_link(links.path(LinkName::Live)).expect("is a link");
        assert_eq!(target, file.canonicalize().expect("exists"));
    }

    #[test]
    fn an_opener_never_finds_nothing() {
        let root = root();
        let links = Links::new(root.path(), "articles");
        let files = ["a", "b"].map(|name| root.path().join(format!("articles/{name}.db")));
        links.publish(LinkName::Live, &files[0]).expect("publishes");
        let (stop, path) = (std::sync::Barrier::new(2), links.path(LinkName::Live));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0..500 {
                    links
                        .publish(LinkName::Live, &files[turn % 2])
                        .expect("publishes");
                }
                stop.wait();
            });
            for _ in 0..500 {
                let found = fs::read_to_string(&path).expect("is always there");
                assert!(found == "a" || found == "b");
            }
            stop.wait();
        });
    }

    #[test]
    fn repair_makes_the_links_what_the_catalog_says() {
        let root = root();
        let file = root.path().join("articles/a.db");
        let links = Links::new(root.path(), "articles");
        links.publish(LinkName::Major(1), &file).expect("publishes");
        links.publish(LinkName::Major(2), &file).expect("publishes");
        let crashed = links.folder.join(format!("{TEMPORARY_PREFIX}1-1"));
        symlink("a.db", &crashed).expect("makes it");
        symlink("a.db", links.folder.join("mine.db")).expect("makes it");
        let wanted = [(LinkName::Live, file.clone()), (LinkName::Major(2), file)];
        let changed = links.repair(&wanted).expect("repairs");
        assert_eq!(changed, [LinkName::Live, LinkName::Major(1)]);
        assert_eq!(links.repair(&wanted).expect("repairs"), []);
        let mut names: Vec<_> = fs::read_dir(&links.folder)
            .expect("reads")
            .map(|entry| entry.expect("reads").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a.db", "b.db", "live.db", "mine.db", "v2.db"]);
        assert!(links.unpublish(LinkName::Live).expect("removes"));
        assert!(!links.unpublish(LinkName::Live).expect("is gone"));
    }

    #[test]
    fn what_somebody_else_put_there_stays() {
        let root = root();
        let links = Links::new(root.path(), "articles");
        fs::write(links.path(LinkName::Live), "mine").expect("writes");
        let file = root.path().join("articles/a.db");
        for error in [
            links.publish(LinkName::Live, &file).err(),
            links.unpublish(LinkName::Live).err(),
        ] {
            let error = error.expect("is refused");
            assert!(error.to_string().contains("live.db") && error.hint().is_some());
        }
        assert_eq!(read(&links, LinkName::Live), "mine");
    }
}
