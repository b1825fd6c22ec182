//! Which keys are certainly not in a table. A version that replays from nothing knows it of every
//! key that it never wrote, without asking the database: exactly as long as the cache has forgotten
//! nothing, and from then on through a filter over the keys that were forgotten.

/// Bits a filter spends on a key: one key in some fifty is taken for a known one then.
const BITS_PER_KEY: usize = 10;
/// Keys that the first filter has room for; each further one has room for twice as many.
const FIRST_KEYS: usize = 1 << 16;
/// Bits that a key sets, all in one block of 64 bytes.
const PROBES: u32 = 6;

const BLOCK_WORDS: usize = 8;

/// See the module's documentation. Keys come as hashes.
#[derive(Debug)]
pub(super) struct Absence {
    /// Whether anything is known at all.
    from_nothing: bool,
    layers: Vec<Layer>,
}

/// A Bloom filter of a fixed size.
#[derive(Debug)]
struct Layer {
    blocks: Vec<[u64; BLOCK_WORDS]>,
    room: usize,
}

impl Absence {
    /// `from_nothing`: the table is empty now, and nobody else writes it.
    pub(super) fn new(from_nothing: bool) -> Self {
        Self {
            from_nothing,
            layers: Vec::new(),
        }
    }

    /// Whether every key that the cache does not know is absent.
    pub(super) fn is_total(&self) -> bool {
        self.from_nothing && self.layers.is_empty()
    }

    /// Whether this key, which the cache does not know, is absent for certain.
    pub(super) fn is_certain(&self, hash: u64) -> bool {
        self.from_nothing && !self.layers.iter().any(|layer| layer.may_have(hash))
    }

    /// The cache forgets a row that the table has.
    pub(super) fn add(&mut self, hash: u64) {
        if !self.from_nothing {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.room == 0) {
            let keys = FIRST_KEYS << self.layers.len();
            self.layers.push(Layer::new(keys));
        }
        let layer = self.layers.last_mut().expect("pushed just above");
        layer.add(hash);
    }
}

impl Layer {
    fn new(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_WORDS * 64);
        Self {
            blocks: vec![[0; BLOCK_WORDS]; blocks],
            room: keys,
        }
    }

    fn add(&mut self, hash: u64) {
        let block = self.block_of(hash);
        for (word, bit) in places(hash) {
            self.blocks[block][word] |= bit;
        }
        self.room -= 1;
    }

    fn may_have(&self, hash: u64) -> bool {
        let block = &self.blocks[self.block_of(hash)];
        places(hash).all(|(word, bit)| block[word] & bit != 0)
    }

    fn block_of(&self, hash: u64) -> usize {
        let scaled = (u128::from(hash) * self.blocks.len() as u128) >> 64;
        usize::try_from(scaled).expect("less than the number of blocks")
    }
}

/// The bits of a key in its block: word and mask. The block was chosen by the hash's high bits, these
/// are chosen by its low ones.
fn places(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let place = hash.rotate_right(probe * 9) & 511;
        let word = usize::try_from(place >> 6).expect("below 8");
        (word, 1 << (place & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn a_forgotten_key_is_never_taken_for_absent_and_few_others_are_taken_for_known() {
        let mut absence = Absence::new(true);
        assert!(absence.is_total() && absence.is_certain(hash(7)));
        let keys = 300_000;
        (0..keys).for_each(|n| absence.add(hash(n)));
        assert!(!absence.is_total());
        assert!((0..keys).all(|n| !absence.is_certain(hash(n))));
        let mistaken = (keys..2 * keys).filter(|&n| !absence.is_certain(hash(n)));
        let mistaken = mistaken.count();
        assert!(mistaken < 30_000, "{mistaken} of {keys}");
    }

    #[test]
    fn without_a_start_from_nothing_no_key_is_absent_for_certain() {
        let mut absence = Absence::new(false);
        absence.add(hash(1));
        assert!(!absence.is_total() && !absence.is_certain(hash(2)));
    }
}
