//! Finds the wanted values in a JSON text and passes over the rest.
//!
//! What the scanner answers is what serde_json would, for every text that serde_json accepts. Of
//! other texts it looks closely only at the top level and at the members of those objects and
//! lists that a wanted path leads into; of what lies between it counts brackets and skips strings,
//! so that what nobody asked for may be broken. Several modules share a walk, and none may notice
//! what the others want. Therefore:
//!
//! - The top level is walked the same way for everybody, and a flaw of it is everybody's.
//! - A flaw in a nested value that is walked is known to what is wanted of its inside, and to
//!   nothing else. Its extent is what counting brackets says, walked or not.
//! - An escaped quote or a bracket means the same to the walk and to the counting, so that a walk
//!   that fails goes on counting from where it is, and no byte is walked twice.
//!
//! Nothing here looks at encodings: a piece that becomes a value is checked by whoever makes it.

use memchr::memchr;

use crate::path::PathTree;
use familiar::Familiar;

pub(crate) mod familiar;
mod plain;

/// Where the value of a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    Missing,
    /// From the first to behind the last of its bytes.
    Found {
        start: usize,
        end: usize,
    },
    /// A value on the way there is no JSON.
    Broken(Flaw),
}

/// Why a text, or a piece of it, is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}")]
pub(crate) struct Flaw {
    /// Outside of strings, and within the brackets of the value that is flawed.
    at: usize,
    expected: &'static str,
}

/// What a text expects that ends too early. Whoever counts brackets sees it as well, so that it is
/// a flaw of the top level however deep it is.
const MORE: &str = "more";

/// Finds the values of all nodes: `spots` are theirs afterwards. What it returns is a flaw of the
/// top level, and then the spots say nothing. `familiar` is by node, and only of this tree.
pub(crate) fn locate(
    payload: &[u8],
    tree: &PathTree,
    familiar: &mut [Familiar],
    spots: &mut Vec<Spot>,
) -> Result<(), Flaw> {
    spots.clear();
    spots.resize(tree.nodes.len(), Spot::Missing);
    let mut walk = Walk {
        payload,
        tree,
        familiar,
        spots,
    };
    let start = walk.token(0);
    let end = match walk.byte(start) {
        Some(b'{') => walk.object(0, start)?,
        Some(b'[') => walk.list(0, start)?,
        _ => walk.skip_value(start)?,
    };
    walk.spots[0] = Spot::Found { start, end };
    match walk.token(end) {
        rest if rest == payload.len() => Ok(()),
        rest => Err(Flaw {
            at: rest,
            expected: "nothing more",
        }),
    }
}

struct Walk<'a> {
    payload: &'a [u8],
    tree: &'a PathTree,
    familiar: &'a mut [Familiar],
    spots: &'a mut [Spot],
}

/// All take where something starts and return where it ends.
impl Walk<'_> {
    /// Walks the object of a node.
    fn object(&mut self, node: usize, start: usize) -> Result<usize, Flaw> {
        let mut at = self.token(start + 1);
        if self.byte(at) == Some(b'}') {
            return Ok(at + 1);
        }
        let mut place = 0;
        loop {
            let (child, value) = self.key(node, at, &mut place)?;
            let end = match plain::end(self.payload, value) {
                Some(end) if child.is_none_or(|child| self.note(child, value, end)) => end,
                _ => self.value(child, value)?,
            };
            at = self.token(end);
            match self.byte(at) {
                Some(b',') => at = self.token(at + 1),
                Some(b'}') => return Ok(at + 1),
                _ => return Err(self.flaw(at, "`,` or `}`")),
            }
        }
    }

    /// Walks the list of a node.
    fn list(&mut self, node: usize, start: usize) -> Result<usize, Flaw> {
        let mut at = self.token(start + 1);
        if self.byte(at) == Some(b']') {
            return Ok(at + 1);
        }
        let tree = self.tree;
        let mut wanted = tree.nodes[node].elements().peekable();
        for index in 0_usize.. {
            let end = match wanted.next_if(|&(next, _)| next == index) {
                Some((_, child)) => self.enter(child, at)?,
                None => self.skip_value(at)?,
            };
            at = self.token(end);
            match self.byte(at) {
                Some(b',') => at = self.token(at + 1),
                Some(b']') => return Ok(at + 1),
                _ => break,
            }
        }
        Err(self.flaw(at, "`,` or `]`"))
    }

    /// A value, wherever it belongs.
    #[inline(never)]
    fn value(&mut self, node: Option<usize>, start: usize) -> Result<usize, Flaw> {
        match node {
            Some(node) => self.enter(node, start),
            None => self.skip_value(start),
        }
    }

    /// Notes a value with nothing in it, unless there was one before.
    #[inline]
    fn note(&mut self, node: usize, start: usize, end: usize) -> bool {
        let is_first = self.spots[node] == Spot::Missing;
        if is_first {
            self.spots[node] = Spot::Found { start, end };
        }
        is_first
    }

    /// Notes the value of a node, and what is in it.
    fn enter(&mut self, node: usize, start: usize) -> Result<usize, Flaw> {
        let below = node + 1..self.tree.nodes[node].end;
        if self.spots[node] != Spot::Missing {
            // The key was there before. The last one counts, with all that is in it.
            self.spots[below.clone()].fill(Spot::Missing);
        }
        let walked = match self.byte(start) {
            Some(b'{') if !below.is_empty() => self.object(node, start),
            Some(b'[') if !below.is_empty() => self.list(node, start),
            _ => Ok(self.skip_value(start)?),
        };
        let end = match walked {
            Err(flaw) if flaw.expected != MORE => {
                self.spots[below].fill(Spot::Broken(flaw));
                self.close(flaw.at)?
            }
            walked => walked?,
        };
        self.spots[node] = Spot::Found { start, end };
        Ok(end)
    }

    /// Reads a key and its colon. Returns whose child of the node's it names, and where the value
    /// starts.
    #[inline]
    fn key(
        &mut self,
        node: usize,
        start: usize,
        place: &mut usize,
    ) -> Result<(Option<usize>, usize), Flaw> {
        let rest = self.payload.get(start..).unwrap_or_default();
        match self.familiar[node].next(place, rest) {
            Some((child, len)) => Ok((child, self.token(start + len))),
            None => self.unfamiliar_key(node, start, place),
        }
    }

    #[inline(never)]
    fn unfamiliar_key(
        &mut self,
        node: usize,
        start: usize,
        place: &mut usize,
    ) -> Result<(Option<usize>, usize), Flaw> {
        if self.byte(start) != Some(b'"') {
            return Err(self.flaw(start, "a key"));
        }
        let end = self.skip_string(start)?;
        let child = self.child(node, &self.payload[start..end]);
        let child = child.map_err(|expected| self.flaw(start, expected))?;
        let colon = self.token(end);
        if self.byte(colon) != Some(b':') {
            return Err(self.flaw(colon, "`:`"));
        }
        self.familiar[node].remember(place, &self.payload[start..=colon], child);
        Ok((child, self.token(colon + 1)))
    }

    /// The child of a node that a key, given with its quotes, names.
    fn child(&self, node: usize, key: &[u8]) -> Result<Option<usize>, &'static str> {
        let node = &self.tree.nodes[node];
        let content = &key[1..key.len() - 1];
        if !content.contains(&b'\\') {
            return Ok(node.child(content));
        }
        let key: String = serde_json::from_slice(key).map_err(|_| "a key of valid escapes")?;
        Ok(node.child(key.as_bytes()))
    }

    /// A value that is not looked into.
    fn skip_value(&self, start: usize) -> Result<usize, Flaw> {
        match self.byte(start) {
            Some(b'"') => self.skip_string(start),
            Some(b'-' | b'0'..=b'9') => self.skip_number(start),
            Some(b'{' | b'[') => self.close(start + 1),
            Some(b't') => self.skip_word(start, b"true"),
            Some(b'f') => self.skip_word(start, b"false"),
            Some(b'n') => self.skip_word(start, b"null"),
            _ => Err(self.flaw(start, "a value")),
        }
    }

    fn skip_word(&self, start: usize, word: &[u8]) -> Result<usize, Flaw> {
        if self.payload[start..].starts_with(word) {
            Ok(start + word.len())
        } else {
            Err(self.flaw(start, "a value"))
        }
    }

    fn skip_number(&self, start: usize) -> Result<usize, Flaw> {
        let digits = start + usize::from(self.byte(start) == Some(b'-'));
        let mut at = self.skip_digits(digits);
        let mut valid = at > digits && (self.byte(digits) != Some(b'0') || at == digits + 1);
        if self.byte(at) == Some(b'.') {
            let fraction = at + 1;
            at = self.skip_digits(fraction);
            valid &= at > fraction;
        }
        if let Some(b'e' | b'E') = self.byte(at) {
            at += 1;
            let exponent = at + usize::from(matches!(self.byte(at), Some(b'+' | b'-')));
            at = self.skip_digits(exponent);
            valid &= at > exponent;
        }
        if valid {
            Ok(at)
        } else {
            Err(self.flaw(start, "a number"))
        }
    }

    fn skip_digits(&self, start: usize) -> usize {
        let mut at = start;
        while let Some(eight) = self.payload.get(at..).and_then(<[u8]>::first_chunk) {
            let digits = leading_digits(*eight);
            at += digits;
            if digits < eight.len() {
                return at;
            }
        }
        while self.byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
            at += 1;
        }
        at
    }

    /// From a string's opening quote to behind its closing one.
    fn skip_string(&self, start: usize) -> Result<usize, Flaw> {
        let mut from = start + 1;
        loop {
            let rest = self.payload.get(from..).unwrap_or_default();
            let Some(quote) = memchr(b'"', rest) else {
                return Err(self.end());
            };
            let before = rest[..quote].iter().rev();
            let escapes = before.take_while(|&&byte| byte == b'\\').count();
            from += quote + 1;
            if escapes % 2 == 0 {
                return Ok(from);
            }
        }
    }

    /// From within brackets to behind the one that closes them, whatever its kind.
    fn close(&self, start: usize) -> Result<usize, Flaw> {
        let mut at = start;
        let mut open = 1_usize;
        while let Some(byte) = self.byte(at) {
            at += 1;
            match byte {
                b'"' => at = self.skip_string(at - 1)?,
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            if open == 0 {
                return Ok(at);
            }
        }
        Err(self.end())
    }

    /// Where the next byte is that is no white space. Mostly it is right here.
    #[inline]
    fn token(&self, at: usize) -> usize {
        match self.byte(at) {
            Some(byte) if byte > b' ' => at,
            _ => self.skip_space(at),
        }
    }

    /// Far from what comes next, so that the processor guesses that there is none, and goes on.
    #[cold]
    #[inline(never)]
    fn skip_space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte(at) {
            at += 1;
        }
        at
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.payload.get(at).copied()
    }

    #[cold]
    fn flaw(&self, at: usize, expected: &'static str) -> Flaw {
        if at < self.payload.len() {
            Flaw { at, expected }
        } else {
            self.end()
        }
    }

    #[cold]
    fn end(&self) -> Flaw {
        Flaw {
            at: self.payload.len(),
            expected: MORE,
        }
    }
}

/// How many of eight bytes are digits before the first that is none.
fn leading_digits(bytes: [u8; 8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    // What was a digit is below 10 now. Adding what takes 10 to 128 leaves a high bit in each byte
    // that was none; what it carries over only reaches the bytes behind.
    let values = u64::from_le_bytes(bytes) ^ (EACH * 0x30);
    let others = (values.wrapping_add(EACH * 0x76) | values) & (EACH * 0x80);
    others.trailing_zeros() as usize / 8
}
