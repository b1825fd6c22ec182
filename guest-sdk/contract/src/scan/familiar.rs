//! The keys of an object as they came last time. Events of one type nearly always have the same
//! keys in the same order, so that most keys are known by comparing bytes with the next of these.
//! A guess that is wrong costs time and changes nothing.

/// How many keys are remembered of a node, and of how many bytes.
const KEYS_MAX: usize = 32;
const KEY_BYTES_MAX: usize = 64;
const HEAD_BYTES: usize = size_of::<u128>();
/// How many keys may be left out of an object before its next one has to be looked up.
const LOOK_AHEAD: usize = 8;

#[derive(Debug, Clone, Default)]
pub(crate) struct Familiar {
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    /// The first bytes of the text, and which of them are its own: most keys are compared at one
    /// stroke.
    head: u128,
    mask: u128,
    /// With its quotes, and up to its colon. In place, so that keys that never come again, such as
    /// ids, cost no memory each.
    text: [u8; KEY_BYTES_MAX],
    len: usize,
    /// The node that it leads to.
    child: Option<usize>,
}

impl Familiar {
    /// What the text starts with, if it is the key at this place or one of the next: the child,
    /// and the length of the key. The place moves behind it.
    #[inline]
    pub(super) fn next(&self, place: &mut usize, text: &[u8]) -> Option<(Option<usize>, usize)> {
        match self.keys.get(*place) {
            Some(key) if key.begins(text) => {
                *place += 1;
                Some((key.child, key.len))
            }
            _ => self.look_ahead(place, text),
        }
    }

    #[inline(never)]
    fn look_ahead(&self, place: &mut usize, text: &[u8]) -> Option<(Option<usize>, usize)> {
        let nexts = self.keys.get(*place..).unwrap_or_default();
        for (ahead, key) in nexts.iter().enumerate().take(LOOK_AHEAD).skip(1) {
            if key.begins(text) {
                *place += ahead + 1;
                return Some((key.child, key.len));
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
            self.keys.insert(*place, Key::new(text, child));
        } else if let Some(key) = self.keys.get_mut(*place) {
            *key = Key::new(text, child);
        } else {
            return;
        }
        *place += 1;
    }
}

impl Key {
    /// The text must not be longer than [`KEY_BYTES_MAX`].
    fn new(text: &[u8], child: Option<usize>) -> Self {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        let mut mask = [0; HEAD_BYTES];
        mask[..text.len().min(HEAD_BYTES)].fill(u8::MAX);
        let (head, _) = bytes
            .split_first_chunk()
            .expect("a key has room for a head");
        Self {
            head: u128::from_ne_bytes(*head),
            mask: u128::from_ne_bytes(mask),
            text: bytes,
            len: text.len(),
            child,
        }
    }

    #[inline]
    fn begins(&self, text: &[u8]) -> bool {
        match text.first_chunk() {
            Some(head) if u128::from_ne_bytes(*head) & self.mask != self.head => false,
            Some(_) if self.len <= HEAD_BYTES => true,
            _ => text.starts_with(&self.text[..self.len]),
        }
    }
}
