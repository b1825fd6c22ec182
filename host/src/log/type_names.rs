//! Numbers for event types, so that a chunk holds a number and not a text for each event.

use std::collections::HashMap;
use std::str::Utf8Error;

use crate::log::EventChunk;

/// Which types are wanted, and the numbers they have in the chunks.
pub(super) struct TypeNames {
    /// Number by name; `None`: not wanted. Unknown names are wanted unless there is a filter.
    codes: HashMap<Box<str>, Option<u16>>,
    names: Vec<String>,
    filtered: bool,
    /// Types come in runs: the last one met.
    last: Vec<u8>,
    last_code: Option<u16>,
    overflowed: bool,
}

impl TypeNames {
    pub(super) fn new(wanted: Option<&[String]>) -> Self {
        let mut known = Self {
            codes: HashMap::new(),
            names: Vec::new(),
            filtered: wanted.is_some(),
            last: Vec::new(),
            last_code: None,
            overflowed: false,
        };
        for name in wanted.unwrap_or_default() {
            known.add(name);
        }
        known
    }

    /// Whether a type came that no number was left for.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn add(&mut self, name: &str) -> Option<u16> {
        let Ok(code) = u16::try_from(self.names.len()) else {
            self.overflowed = true;
            return None;
        };
        self.names.push(name.to_owned());
        self.codes.insert(name.into(), Some(code));
        Some(code)
    }

    /// Chunks keep the numbers they have given out; a chunk that another reader filled brings its
    /// own.
    pub(super) fn agree_with(&mut self, chunk: &mut EventChunk) {
        if chunk.type_names.len() <= self.names.len() && self.names.starts_with(&chunk.type_names) {
            chunk
                .type_names
                .extend_from_slice(&self.names[chunk.type_names.len()..]);
            return;
        }
        let before = std::mem::take(&mut self.names);
        self.last.clear();
        for name in &chunk.type_names {
            if !self.filtered || self.codes.get(name.as_str()).is_some_and(Option::is_some) {
                self.add(name);
            } else {
                self.names.push(name.clone());
            }
        }
        for name in before {
            if !self.names.contains(&name) {
                self.add(&name);
            }
        }
        chunk.type_names.clone_from(&self.names);
    }

    /// The number of a type in the chunk, or `None` if it is not wanted. The name comes as the bytes
    /// that the database holds.
    #[inline]
    pub(super) fn code(
        &mut self,
        name: &[u8],
        chunk: &mut EventChunk,
    ) -> Result<Option<u16>, Utf8Error> {
        if self.last != name {
            self.last_code = self.look_up(std::str::from_utf8(name)?, chunk);
            self.last.clear();
            self.last.extend_from_slice(name);
        }
        Ok(self.last_code)
    }

    #[inline(never)]
    fn look_up(&mut self, name: &str, chunk: &mut EventChunk) -> Option<u16> {
        match self.codes.get(name) {
            Some(code) => *code,
            None if self.filtered => {
                // Remembered, so that the next one is found at once.
                self.codes.insert(name.into(), None);
                None
            }
            None => {
                let code = self.add(name);
                if code.is_some() {
                    chunk.type_names.push(name.to_owned());
                }
                code
            }
        }
    }
}
