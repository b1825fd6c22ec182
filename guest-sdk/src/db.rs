//! The read model as a projection sees it.

use crate::cache::{AnyCache, At, Cache, Place};
use crate::changes::{ChangeSet, PackedRows, end};
use crate::error::{Error, Result};
use crate::slots::Slots;
use crate::table::{Index, Prefix, Table, check_key_length};

/// Rows that a scan asks the host for at a time.
const SCAN_ROWS_MAX: u32 = 256;

/// What a module may ask of its host: the imports of the contract. The host of a test is another
/// one than that of a module.
pub trait Host {
    fn get_many(&mut self, table: u16, keys: &[u8], key_ends: &[u32]) -> PackedRows;

    fn scan(
        &mut self,
        table: u16,
        index: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> PackedRows;

    fn stage(&mut self, changes: ChangeSet);

    fn log(&mut self, level: u8, message: &str);
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

/// The projection's own tables, as of the events before this one.
///
/// What was written is read back at once, also by a scan. Rows that a batch touches stay decoded
/// in a cache, so reading and changing a hot row costs about as much as a look into a hash map.
///
/// ```
/// # use retell_sdk::prelude::*;
/// # #[derive(Table)]
/// # struct Article { #[key] id: String, title: String, #[index] author: String, revisions: i64 }
/// # fn example(db: &mut Db) -> Result<()> {
/// db.put(Article { id: "a".into(), title: "One".into(), author: "x".into(), revisions: 1 })?;
/// db.update::<Article>("a", |article| article.revisions += 1)?;
/// let title = db.get::<Article>("a")?.map(|article| article.title.clone());
/// for article in db.scan(Article::BY_AUTHOR, "x")? {
///     db.delete::<Article>(&article.id)?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Db<'h> {
    host: &'h mut dyn Host,
    tables: Slots,
    /// The event that is being applied.
    at: At,
    /// The key at hand; kept for its memory.
    key: Vec<u8>,
    /// Why a row that was changed in place is none: the event fails, even if the function went on.
    spoiled: Option<Error>,
}

impl Db<'_> {
    /// The row with this key.
    pub fn get<T: Table>(&mut self, key: T::Key<'_>) -> Result<Option<&T>> {
        let at = self.at;
        let (cache, mut rest) = self.cache::<T>()?;
        let place = rest.load(cache, at, key)?;
        Ok(cache.row(place))
    }

    /// Whether there is a row with this key.
    pub fn exists<T: Table>(&mut self, key: T::Key<'_>) -> Result<bool> {
        Ok(self.get::<T>(key)?.is_some())
    }

    /// Inserts the row, or replaces the one with its key. Nothing is read.
    pub fn put<T: Table>(&mut self, mut row: T) -> Result<()> {
        row.normalize();
        row.check()?;
        let at = self.at;
        let (cache, rest) = self.cache::<T>()?;
        rest.key.clear();
        row.push_own_key(rest.key);
        let place = cache.find_or_insert(rest.key, || None);
        cache.set(place, Some(row));
        cache.changed(place, at.event);
        Ok(())
    }

    /// Changes the row with this key; `false` if there is none. Its key must stay the same.
    pub fn update<T: Table>(
        &mut self,
        key: T::Key<'_>,
        change: impl FnOnce(&mut T),
    ) -> Result<bool> {
        self.try_update(key, |row| {
            change(row);
            Ok(())
        })
    }

    /// [`update`](Self::update) with a change that may fail, and then the event does.
    pub fn try_update<T: Table>(
        &mut self,
        key: T::Key<'_>,
        change: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<bool> {
        let at = self.at;
        let (cache, mut rest) = self.cache::<T>()?;
        let place = rest.load(cache, at, key)?;
        let Some(row) = cache.row_mut(place) else {
            return Ok(false);
        };
        let changed = change(row).and_then(|()| check_changed(row, key));
        if changed.is_ok() {
            cache.changed(place, at.event);
        }
        self.unless_spoiled(changed)?;
        Ok(true)
    }

    /// Changes the row with this key, or the one that `insert` makes if there is none: the way to
    /// count things.
    ///
    /// ```
    /// # use retell_sdk::prelude::*;
    /// # #[derive(Table)]
    /// # struct Likes { #[key] article: String, count: i64 }
    /// # fn example(db: &mut Db, article: &str) -> Result<()> {
    /// db.update_or_insert::<Likes>(
    ///     article,
    ///     || Likes { article: article.to_owned(), count: 0 },
    ///     |likes| likes.count += 1,
    /// )
    /// # }
    /// ```
    pub fn update_or_insert<T: Table>(
        &mut self,
        key: T::Key<'_>,
        insert: impl FnOnce() -> T,
        change: impl FnOnce(&mut T),
    ) -> Result<()> {
        let at = self.at;
        let (cache, mut rest) = self.cache::<T>()?;
        let place = rest.load(cache, at, key)?;
        let row = cache.row_mut(place).get_or_insert_with(insert);
        change(row);
        let changed = check_changed(row, key);
        if changed.is_ok() {
            cache.changed(place, at.event);
        }
        self.unless_spoiled(changed)
    }

    /// Deletes the row with this key, if there is one. Nothing is read.
    pub fn delete<T: Table>(&mut self, key: T::Key<'_>) -> Result<()> {
        let at = self.at;
        let (cache, mut rest) = self.cache::<T>()?;
        rest.encode::<T>(key)?;
        let place = cache.find_or_insert(rest.key, || None);
        cache.set(place, None);
        cache.changed(place, at.event);
        Ok(())
    }

    /// The rows whose columns of the index begin with the prefix, in the order of the index and
    /// then of the key, as they are now: what is changed later does not change the answer.
    ///
    /// The prefix is the value of the index's first column, a tuple of values for its first
    /// columns, or `()` for every row.
    pub fn scan<T: Table, C>(
        &mut self,
        index: Index<T, C>,
        prefix: impl Prefix<C>,
    ) -> Result<Vec<T>> {
        self.scan_first(index, prefix, usize::MAX)
    }

    /// The first rows of a [`scan`](Self::scan), at most `limit`.
    #[allow(clippy::missing_panics_doc, reason = "a full chunk has a last row")]
    pub fn scan_first<T: Table, C>(
        &mut self,
        index: Index<T, C>,
        prefix: impl Prefix<C>,
        limit: usize,
    ) -> Result<Vec<T>> {
        let mut prefix_bytes = Vec::new();
        prefix.push(&mut prefix_bytes).map_err(in_table::<T>)?;
        let (cache, rest) = self.cache::<T>()?;
        let mut pending = ChangeSet::default();
        cache.hand_over(&mut pending);
        if !pending.is_empty() {
            rest.host.stage(pending);
        }

        let mut rows: Vec<T> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        while rows.len() < limit {
            let wanted = u32::try_from(limit - rows.len())
                .unwrap_or(u32::MAX)
                .min(SCAN_ROWS_MAX);
            let number = index.number();
            let packed =
                rest.host
                    .scan(cache.table, number, &prefix_bytes, after.as_deref(), wanted);
            rows.extend(packed.iter().map(read_row::<T>));
            if packed.row_ends.len() < wanted as usize {
                break;
            }
            let place = after.get_or_insert_default();
            place.clear();
            index.push_place(rows.last().expect("the chunk was full"), place);
        }
        Ok(rows)
    }

    /// Changes every row that a [`scan`](Self::scan) finds; says how many there were. Their keys
    /// must stay the same.
    pub fn update_all<T: Table, C>(
        &mut self,
        index: Index<T, C>,
        prefix: impl Prefix<C>,
        mut change: impl FnMut(&mut T),
    ) -> Result<usize> {
        let rows = self.scan(index, prefix)?;
        let count = rows.len();
        let at = self.at;
        let (cache, rest) = self.cache::<T>()?;
        let mut key_after = Vec::new();
        for mut row in rows {
            rest.key.clear();
            row.push_own_key(rest.key);
            change(&mut row);
            row.normalize();
            row.check()?;
            key_after.clear();
            row.push_own_key(&mut key_after);
            if key_after != *rest.key {
                return Err(key_changed::<T>());
            }
            let place = cache.find_or_insert(rest.key, || None);
            cache.set(place, Some(row));
            cache.changed(place, at.event);
        }
        Ok(count)
    }

    /// Writes a line to the host's log. Replays write it again, so it is for finding faults.
    pub fn log(&mut self, level: Level, message: &str) {
        self.host.log(level as u8, message);
    }

    /// Remembers a failure that left a row in the cache as it must not be.
    fn unless_spoiled(&mut self, changed: Result<()>) -> Result<()> {
        if let Err(error) = &changed {
            self.spoiled.get_or_insert_with(|| error.clone());
        }
        changed
    }

    fn cache<T: Table>(&mut self) -> Result<(&mut Cache<T>, Rest<'_>)> {
        let rest = Rest {
            host: &mut *self.host,
            key: &mut self.key,
        };
        match self.tables.of::<T>() {
            Some(cache) => Ok((cache, rest)),
            None => Err(not_a_table::<T>()),
        }
    }
}

/// What of a [`Db`] is used together with a cache.
struct Rest<'a> {
    host: &'a mut dyn Host,
    key: &'a mut Vec<u8>,
}

impl Rest<'_> {
    /// Fetches the row unless the batch has touched it already.
    #[inline]
    fn load<T: Table>(&mut self, cache: &mut Cache<T>, at: At, key: T::Key<'_>) -> Result<Place> {
        match cache.hinted(at, key) {
            Some(place) => Ok(place),
            None => self.find_or_fetch(cache, key),
        }
    }

    #[inline(never)]
    fn find_or_fetch<T: Table>(&mut self, cache: &mut Cache<T>, key: T::Key<'_>) -> Result<Place> {
        self.encode::<T>(key)?;
        let (table, host) = (cache.table, &mut *self.host);
        let key = &*self.key;
        Ok(cache.find_or_insert(key, || {
            let packed = host.get_many(table, key, &[end(key)]);
            let row = packed.iter().next().filter(|row| !row.is_empty());
            row.map(read_row::<T>)
        }))
    }

    /// Makes `key` the encoded key.
    fn encode<T: Table>(&mut self, key: T::Key<'_>) -> Result<()> {
        self.key.clear();
        T::push_key(key, self.key).map_err(in_table::<T>)?;
        check_key_length(format_args!("table `{}`: the key", T::NAME), self.key.len())
    }
}

/// Checks a row that was changed in place.
fn check_changed<T: Table>(row: &mut T, key: T::Key<'_>) -> Result<()> {
    row.normalize();
    row.check()?;
    if row.has_key(key) {
        Ok(())
    } else {
        Err(key_changed::<T>())
    }
}

#[cold]
fn key_changed<T: Table>() -> Error {
    Error::new(format!(
        "table `{}`: an update changed the key of a row; delete the row and put another",
        T::NAME
    ))
}

#[cold]
fn not_a_table<T: Table>() -> Error {
    Error::new(format!(
        "table `{}` is not one of this projection: add it to `tables(...)`",
        T::NAME
    ))
}

fn in_table<T: Table>(error: retell_contract::ValueError) -> Error {
    Error::from(error).context(format_args!("table `{}`", T::NAME))
}

/// A row that the host cannot read back is no fault of an event, so it ends the call.
pub(crate) fn read_row<T: Table>(bytes: &[u8]) -> T {
    match T::read(bytes) {
        Ok(row) => row,
        Err(error) => panic!(
            "the host gave a row of table `{}` that is none: {error}",
            T::NAME
        ),
    }
}

/// The tables of a projection, in the order of its manifest.
pub struct Tables<'d> {
    slots: &'d mut Slots,
    /// How many events the batch has.
    events: usize,
}

impl Tables<'_> {
    pub fn add<T: Table>(&mut self) {
        self.slots.add::<T>(self.events);
    }
}

impl<'h> Db<'h> {
    /// For a batch of so many events.
    pub(crate) fn new(
        host: &'h mut dyn Host,
        register: fn(&mut Tables<'_>),
        events: usize,
    ) -> Self {
        let mut slots = Slots::default();
        register(&mut Tables {
            slots: &mut slots,
            events,
        });
        Self {
            host,
            tables: slots,
            at: At::default(),
            key: Vec::new(),
            spoiled: None,
        }
    }

    /// Notes that the row under this encoded key will be asked for, and names its entry.
    pub(crate) fn want(&mut self, table: usize, key: &[u8]) -> u32 {
        self.tables.nth(table).want(key)
    }

    /// Fetches what was noted. `hints`: by table, shape and row, the entry that the event probably
    /// asks for.
    pub(crate) fn fetch_wanted(&mut self, hints: Vec<Vec<Vec<u32>>>) {
        for (cache, hints) in self.tables.iter_mut().zip(hints) {
            cache.fetch_wanted(self.host);
            cache.hint(hints);
        }
    }

    pub(crate) fn table_count(&self) -> usize {
        self.tables.len()
    }

    pub(crate) fn begin_event(&mut self, at: At) {
        self.at = at;
    }

    /// Fails if the event left a row as it must not be.
    pub(crate) fn end_event(&mut self) -> Result<()> {
        self.spoiled.take().map_or(Ok(()), Err)
    }

    /// The changes that were not handed over yet.
    pub(crate) fn finish(mut self) -> ChangeSet {
        let mut changes = ChangeSet::default();
        for cache in self.tables.iter_mut() {
            cache.hand_over(&mut changes);
        }
        changes
    }
}
