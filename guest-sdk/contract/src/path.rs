//! Paths of fields in a payload, and the tree they make together.

/// A path as written in a manifest, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Path {
    /// `$`: the whole payload.
    Whole,
    /// The keys from the top; in an array, a key is an index.
    Keys(Vec<String>),
}

impl Path {
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

/// All paths that the shapes of one event type ask for, merged, so that a payload is walked once.
#[derive(Debug, Default)]
pub(crate) struct PathTree {
    pub(crate) root: Node,
    /// How many different paths there are: the slots are `0..slots`.
    pub(crate) slots: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Where to put the value found here, if a path ends here.
    pub(crate) slot: Option<usize>,
    pub(crate) children: Vec<(String, Node)>,
}

impl PathTree {
    /// The slot in which the value at the path will be found.
    pub(crate) fn add(&mut self, path: &Path) -> usize {
        let mut node = &mut self.root;
        if let Path::Keys(keys) = path {
            for key in keys {
                node = node.child_or_insert(key);
            }
        }
        let slots = &mut self.slots;
        *node.slot.get_or_insert_with(|| {
            *slots += 1;
            *slots - 1
        })
    }
}

impl Node {
    pub(crate) fn child(&self, key: &str) -> Option<usize> {
        self.children.iter().position(|(name, _)| name == key)
    }

    fn child_or_insert(&mut self, key: &str) -> &mut Node {
        let at = self.child(key).unwrap_or_else(|| {
            self.children.push((key.to_owned(), Node::default()));
            self.children.len() - 1
        });
        &mut self.children[at].1
    }
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
    fn equal_paths_share_a_slot() {
        let mut tree = PathTree::default();
        let slots: Vec<_> = ["a", "a.b", "$", "/a/b", "c"]
            .iter()
            .map(|path| tree.add(&Path::parse(path).expect(path)))
            .collect();
        assert_eq!(slots, [0, 1, 2, 1, 3]);
        assert_eq!(tree.slots, 4);
    }
}
