//! Paths of fields in a payload, and the tree they make together.

use std::collections::BTreeMap;

use crate::json;

/// A path as written in a manifest, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    /// `$`: the whole payload.
    Whole,
    /// The keys from the top; in an array, a key is an index.
    Keys(Vec<String>),
}

impl Path {
    pub(crate) fn keys(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::Keys(keys) => keys,
        }
    }

    /// `$`, a JSON pointer that starts with `/`, or keys joined by dots.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "$" {
            return Ok(Self::Whole);
        }
        if let Some(pointer) = text.strip_prefix('/') {
            return pointer
                .split('/')
                .map(unescape)
                .collect::<Result<_, _>>()
                .map(Self::Keys);
        }
        if text.split('.').any(str::is_empty) {
            return Err("a key is empty; write a JSON pointer such as `/a//b` if it is meant");
        }
        Ok(Self::Keys(text.split('.').map(str::to_owned).collect()))
    }
}

fn unescape(key: &str) -> Result<String, &'static str> {
    let mut pieces = key.split('~');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match (piece.strip_prefix('0'), piece.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err("`~` in a JSON pointer is written `~0`"),
        };
        out.push(escaped);
        out.push_str(rest);
    }
    Ok(out)
}

/// How many keys may lead to a value: a longer path leads deeper than JSON goes.
pub(crate) const KEYS_MAX: usize = json::DEPTH_MAX;

/// All paths that are wanted of one event type, merged, so that a payload is walked once. A node
/// comes right before all that is below it, and the first is the whole payload.
#[derive(Debug)]
pub(crate) struct PathTree {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// The children by key, in the order of the keys' bytes.
    children: Vec<(String, usize)>,
    /// Those of them that may be elements of a list, by index.
    elements: Vec<(usize, usize)>,
    /// Where the nodes below this one end; they start right behind it.
    pub(crate) end: usize,
}

/// A node while paths are added.
#[derive(Default)]
struct Branch(BTreeMap<String, Branch>);

impl PathTree {
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut root = Branch::default();
        for path in paths {
            if path.keys().len() <= KEYS_MAX {
                let mut branch = &mut root;
                for key in path.keys() {
                    branch = branch.0.entry(key.clone()).or_default();
                }
            }
        }
        let mut tree = Self { nodes: Vec::new() };
        tree.push(root);
        tree
    }

    /// The node at a path, if it was among those that the tree was made of.
    pub(crate) fn node(&self, path: &Path) -> Option<usize> {
        let step = |node: usize, key: &String| self.nodes[node].child(key.as_bytes());
        path.keys().iter().try_fold(0, step)
    }

    /// Calls itself no deeper than [`KEYS_MAX`].
    fn push(&mut self, branch: Branch) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node {
            children: Vec::new(),
            elements: Vec::new(),
            end: 0,
        });
        let children = branch.0.into_iter();
        let children: Vec<_> = children
            .map(|(key, branch)| (key, self.push(branch)))
            .collect();
        let element = |(key, child): &(String, usize)| Some((index(key)?, *child));
        let mut elements: Vec<_> = children.iter().filter_map(element).collect();
        elements.sort_unstable();
        self.nodes[node] = Node {
            children,
            elements,
            end: self.nodes.len(),
        };
        node
    }
}

impl Node {
    pub(crate) fn child(&self, key: &[u8]) -> Option<usize> {
        let by_key = |(name, _): &(String, usize)| name.as_bytes().cmp(key);
        let at = self.children.binary_search_by(by_key).ok()?;
        Some(self.children[at].1)
    }

    /// The wanted elements of a list, as their indexes in rising order and the nodes.
    pub(crate) fn elements(&self) -> impl Iterator<Item = (usize, usize)> {
        self.elements.iter().copied()
    }
}

/// The index of a list's element, in the only way to write it.
fn index(key: &str) -> Option<usize> {
    let index: usize = key.parse().ok()?;
    (index.to_string() == key).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Path {
        Path::Keys(keys.iter().map(|&key| key.to_owned()).collect())
    }

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(Path::parse("$"), Ok(Path::Whole));
        assert_eq!(Path::parse("a"), Ok(keys(&["a"])));
        assert_eq!(Path::parse("a.b c"), Ok(keys(&["a", "b c"])));
        assert_eq!(
            Path::parse("/a.b/c~1d~0e/0"),
            Ok(keys(&["a.b", "c/d~e", "0"]))
        );
        assert_eq!(Path::parse("/"), Ok(keys(&[""])));
        for wrong in ["", ".", "a.", "a..b", "/a~2", "/~"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_paths_share_a_node_and_what_is_below_follows() {
        let paths = ["c", "a", "a.b", "$", "/a/b", "a.a.x"];
        let paths = paths.map(|path| Path::parse(path).expect(path));
        let tree = PathTree::new(&paths);
        let nodes: Vec<_> = paths.iter().map(|path| tree.node(path)).collect();
        assert_eq!(nodes, [5, 1, 4, 0, 4, 3].map(Some));
        let ends: Vec<_> = tree.nodes.iter().map(|node| node.end).collect();
        assert_eq!(ends, [6, 5, 4, 4, 5, 6]);
        assert_eq!(tree.node(&keys(&["a", "c"])), None);
    }

    #[test]
    fn elements_are_known_by_the_only_way_to_write_their_index() {
        let paths = ["10", "9", "01", "+1", "-1", "1.0", "x"].map(|key| keys(&[key]));
        let tree = PathTree::new(&paths);
        let indexes: Vec<_> = tree.nodes[0].elements().map(|(index, _)| index).collect();
        assert_eq!(indexes, [9, 10]);
    }

    #[test]
    fn paths_that_no_json_is_deep_enough_for_lead_nowhere() {
        let deep = |count: usize| Path::Keys(vec!["a".to_owned(); count]);
        let paths = [deep(KEYS_MAX), deep(100_000)];
        let tree = PathTree::new(&paths);
        assert_eq!(tree.node(&paths[0]), Some(KEYS_MAX));
        assert_eq!(tree.node(&paths[1]), None);
    }
}
