//! Which keys are certainly not in a table. A version that replays from nothing knows it of every
//! key that it never wrote, without asking the database: exactly as long as the cache has forgotten
//! nothing, and from then on through a filter over the keys that were forgotten.

/// Keys that the first filter has room for: so many for each row that the cache has room for, and at
/// least so many. Each further filter has room for twice as many as the one before. There are to be few
/// of them: to ask one more is to wait for memory once more.
const FIRST_KEYS_PER_ROW: usize = 4;
const FIRST_KEYS_MIN: usize = 1 << 16;
/// Bits that a filter spends on a key: one other key in some eighty is taken for a known one then.
const BITS_PER_KEY: usize = 10;

/// Of each word of its block a key has one bit.
const BLOCK_WORDS: usize = 8;
type Block = [u32; BLOCK_WORDS];
/// Odd numbers without a pattern, which choose a key's bit of each word.
const SALTS: Block = [
    0x9e37_79b1,
    0x85eb_ca77,
    0xc2b2_ae3d,
    0x27d4_eb2f,
    0x1656_67b1,
    0xd3a2_646d,
    0xfd70_46c5,
    0xb55a_4f09,
];

/// See the module's documentation. Keys come as hashes.
#[derive(Debug)]
pub(super) struct Absence {
    /// Whether anything is known at all.
    from_nothing: bool,
    layers: Vec<Layer>,
}

/// A split block Bloom filter of a fixed size: all of a key is in one block, and asked for at once.
#[derive(Debug)]
struct Layer {
    blocks: Vec<Block>,
    /// How many it was made for.
    keys: usize,
    /// How many more it takes.
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
        if !self.from_nothing || self.is_total() {
            return self.from_nothing;
        }
        let bits = bits_of(hash);
        !self.layers.iter().any(|layer| layer.may_have(hash, &bits))
    }

    /// What is in memory where [`is_certain`](Self::is_certain) will look.
    pub(super) fn look(&self, hash: u64) -> u32 {
        let layers = self.layers.iter();
        layers.fold(0, |seen, layer| seen ^ layer.look(hash))
    }

    /// What is in memory where [`add`](Self::add) will write, unless a new layer is due.
    pub(super) fn look_to_add(&self, hash: u64) -> u32 {
        self.layers.last().map_or(0, |layer| layer.look(hash))
    }

    /// How many filters there are.
    #[cfg(test)]
    pub(super) fn filters(&self) -> usize {
        self.layers.len()
    }

    /// The cache forgets a row that the table has. `cached`: how many rows it has room for, roughly.
    pub(super) fn add(&mut self, hash: u64, cached: usize) {
        if !self.from_nothing {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.room == 0) {
            let first = FIRST_KEYS_MIN.max(FIRST_KEYS_PER_ROW * cached);
            let last = self.layers.last();
            let keys = last.map_or(first, |last| 2 * last.keys);
            self.layers.push(Layer::new(keys));
        }
        let layer = self.layers.last_mut().expect("pushed just above");
        layer.add(hash);
    }
}

impl Layer {
    fn new(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_WORDS * 32);
        Self {
            blocks: vec![[0; BLOCK_WORDS]; blocks],
            keys,
            room: keys,
        }
    }

    fn add(&mut self, hash: u64) {
        let block = self.block_of(hash);
        for (word, bit) in self.blocks[block].iter_mut().zip(bits_of(hash)) {
            *word |= bit;
        }
        self.room -= 1;
    }

    fn may_have(&self, hash: u64, bits: &Block) -> bool {
        let words = self.blocks[self.block_of(hash)].iter().zip(bits);
        words.fold(0, |missing, (word, bit)| missing | (bit & !word)) == 0
    }

    fn look(&self, hash: u64) -> u32 {
        self.blocks[self.block_of(hash)][0]
    }

    fn block_of(&self, hash: u64) -> usize {
        let scaled = (u128::from(hash) * self.blocks.len() as u128) >> 64;
        usize::try_from(scaled).expect("less than the number of blocks")
    }
}

/// The bits of a key in its block. The block is chosen by the hash's high bits, these by its low ones.
fn bits_of(hash: u64) -> Block {
    let [low @ .., _, _, _, _] = hash.to_le_bytes();
    let low = u32::from_le_bytes(low);
    SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
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
        (0..keys).for_each(|n| absence.add(hash(n), 1_000));
        assert!(!absence.is_total());
        assert!((0..keys).all(|n| !absence.is_certain(hash(n))));
        let mistaken = (keys..2 * keys).filter(|&n| !absence.is_certain(hash(n)));
        let mistaken = mistaken.count();
        assert!(mistaken < 10_000, "{mistaken} of {keys}");
    }

    #[test]
    fn without_a_start_from_nothing_no_key_is_absent_for_certain() {
        let mut absence = Absence::new(false);
        absence.add(hash(1), 1);
        assert!(!absence.is_total() && !absence.is_certain(hash(2)));
    }
}
