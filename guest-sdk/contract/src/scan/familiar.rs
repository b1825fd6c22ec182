//! The keys of an object as they came last time. Events of one type nearly always have the same
//! keys in the same order, so that most keys are known by comparing bytes with the next of these.
//! A guess that is wrong costs time and changes nothing.

/// How many keys are remembered of a node, and of how many bytes.
const KEYS_MAX: usize = 32;
const KEY_BYTES_MAX: usize = 64;
/// How many keys may be left out of an object before its next one has to be looked up.
const LOOK_AHEAD: usize = 8;

#[derive(Debug, Clone, Default)]
pub(crate) struct Familiar {
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    /// With its quotes, and up to its colon.
    text: Vec<u8>,
    /// The node that it leads to.
    child: Option<usize>,
}

impl Familiar {
    /// What the text starts with, if it is the key at this place or one of the next: the child,
    /// and the length of the key. The place moves behind it.
    #[inline]
    pub(super) fn next(&self, place: &mut usize, text: &[u8]) -> Option<(Option<usize>, usize)> {
        let nexts = self.keys.iter().skip(*place).take(LOOK_AHEAD);
        for (ahead, key) in nexts.enumerate() {
            if text.starts_with(&key.text) {
                *place += ahead + 1;
                return Some((key.child, key.text.len()));
            }
        }
        None
    }

    /// Puts a key at this place. The place moves behind it.
    pub(super) fn remember(&mut self, place: &mut usize, text: &[u8], child: Option<usize>) {
        if text.len() > KEY_BYTES_MAX {
            return;
        }
        if self.keys.len() < KEYS_MAX {
            let text = text.to_vec();
            self.keys.insert(*place, Key { text, child });
        } else if let Some(key) = self.keys.get_mut(*place) {
            key.text.clear();
            key.text.extend_from_slice(text);
            key.child = child;
        } else {
            return;
        }
        *place += 1;
    }
}
