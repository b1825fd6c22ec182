//! Every limit of the host, each with its default and its unit. Nothing that grows is without one.

use std::time::Duration;

/// Largest event: payload and metadata together, in bytes.
pub const EVENT_BYTES_MAX: usize = 1 << 20;
/// Longest stream name, event type or event id, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// An import commits after so many lines …
pub const IMPORT_BATCH_LINES: usize = 10_000;
/// … or so many bytes, whichever comes first.
pub const IMPORT_BATCH_BYTES: usize = 16 << 20;
/// Longest line of an import, in bytes: an event of the largest size with everything escaped.
pub const IMPORT_LINE_BYTES_MAX: usize = 8 << 20;
/// Appends that come at the same time share a transaction of so many events …
pub const APPEND_GROUP_EVENTS_MAX: usize = 10_000;
/// … or so many bytes, whichever comes first.
pub const APPEND_GROUP_BYTES_MAX: usize = 4 << 20;
/// Appends that wait for their transaction, in bytes; the rest waits outside.
pub const APPEND_QUEUE_BYTES_MAX: u32 = 64 << 20;
/// An append of more bytes is checked and sealed off the async threads.
pub const APPEND_INLINE_BYTES_MAX: usize = 16 << 10;
/// Pages that the log's WAL gathers before they move into its file …
pub const LOG_WAL_PAGES: i64 = 2_048;
/// … and so many where it grows faster than they move: appends wait for them then.
pub const LOG_WAL_PAGES_MAX: i64 = 4 * LOG_WAL_PAGES;
/// How long a writer waits for another process's transaction on the log.
pub const LOG_BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a lease on a projection holds without being renewed, where it is a row (PostgreSQL) …
pub const LEASE_TIME: Duration = Duration::from_secs(15);
/// … and how often it is renewed.
pub const LEASE_RENEWAL_INTERVAL: Duration = Duration::from_secs(4);
/// How long making a connection to a PostgreSQL server may take …
pub const POSTGRES_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// … and one step of reading or appending on it. Longer than a writer may wait for the log.
pub const POSTGRES_ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// One statement that may take long: a large flush, an index, a digest.
pub const POSTGRES_WORK_TIMEOUT: Duration = Duration::from_hours(1);
/// Between two attempts to find out how a commit ended on a connection that broke.
pub const POSTGRES_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Connections of one process for single questions, to one server.
pub const POSTGRES_POOL_CONNECTIONS_MAX: u32 = 8;

/// Events handed to a module at once … Large batches fold many changes of a row into one, and small ones
/// fit the processor's cache (measured: with 1,000 most folds take a tenth to a fifth longer, with 6,000
/// some take less and some more).
pub const BATCH_EVENTS_MAX: usize = 3_000;
/// … or bytes of payload, whichever comes first.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches that were read for one version and wait for it, in bytes …
pub const FEED_QUEUE_BYTES_MAX: usize = 16 << 20;
/// … and in windows of the log, those that are being read included.
pub const FEED_QUEUE_WINDOWS_MAX: usize = 48;
/// Positions that are looked at for one batch, however few of their events are wanted.
pub const FEED_WINDOW_POSITIONS_MAX: u64 = 65_536;
/// A version that is further behind than so many positions has the feed read ahead for it.
pub const FEED_DISTANCE_MIN: u64 = 4_000;
/// Rows the host keeps in memory for one build, in bytes.
pub const ROW_CACHE_BYTES_MAX: usize = 256 << 20;
/// Changed rows are written once they take so many bytes …
pub const FLUSH_BYTES: usize = 64 << 20;
/// … or so much time has passed, whichever comes first.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(2);

/// Linear memory of one module instance, in bytes.
pub const GUEST_MEMORY_BYTES_MAX: usize = 256 << 20;
/// Core instances, memories and tables of one module instance, each; what `retell build` makes has a handful.
pub const GUEST_PARTS_MAX: usize = 64;
/// Elements of one module instance's tables.
pub const GUEST_TABLE_ELEMENTS_MAX: usize = 100_000;
/// Time a module may take for one batch; time inside host calls does not count.
pub const GUEST_BATCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes that one call from a module to the host, or its result, may carry.
pub const GUEST_CALL_BYTES_MAX: usize = 256 << 20;
/// Rows a module may change in one batch …
pub const GUEST_CHANGE_ROWS_MAX: usize = 1_000_000;
/// … keys and rows of them together, in bytes …
pub const GUEST_CHANGE_BYTES_MAX: usize = 256 << 20;
/// … and one row, in bytes.
pub const GUEST_ROW_BYTES_MAX: usize = 16 << 20;
/// Log lines a module may write for one batch; the rest is counted and dropped.
pub const GUEST_LOG_LINES_MAX: usize = 100;
/// Longest log line of a module, in bytes; the rest is cut.
pub const GUEST_LOG_LINE_BYTES_MAX: usize = 4 << 10;
/// Batches that one instance of a module serves at most; how many, chance says.
pub const BATCHES_PER_INSTANCE_MAX: u32 = 256;
/// Events that a version skips or parks for their own sake before it stops, unless its deployer says
/// otherwise.
pub const DEAD_LETTERS_MAX: u64 = 1_000;
/// Events that are parked only because they stand behind others, for one build.
pub const PARKED_EVENTS_MAX: usize = 1_000_000;
/// What a dead letter keeps of its event's payload, in bytes …
pub const DEAD_LETTER_EXCERPT_BYTES: usize = 1 << 10;
/// … of what the module said, in bytes …
pub const DEAD_LETTER_REASON_BYTES: usize = 4 << 10;
/// … and of the functions that the failure came from.
pub const DEAD_LETTER_FRAMES: usize = 32;

/// Largest module file, in bytes.
pub const MODULE_BYTES_MAX: usize = 32 << 20;
/// How long a module may take to compile.
pub const COMPILE_TIME_MAX: Duration = Duration::from_mins(2);
/// Rows of one `scan` call.
pub const SCAN_ROWS_MAX: u32 = 10_000;

/// A replay pauses when less than this is free on the read model's disk, in bytes.
pub const FREE_DISK_BYTES_MIN: u64 = 1 << 30;
/// How long `query` may run.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(30);

/// Page of a read model's file, in bytes. Rows with texts of some KB make 4 KiB pages spill (measured:
/// half as fast), and larger pages cost more for each small commit while following.
pub const READ_MODEL_PAGE_BYTES: u32 = 8 << 10;
/// A read model that is built from nothing is laid out anew by flushes of at least so many bytes …
pub const REWRITE_BYTES_MIN: usize = 256 << 10;
/// … of which so many at most are laid out at once …
pub const REWRITE_RUNS_MAX: usize = 16;
/// … unless there is more than so many times as much in it already as in so many flushes.
pub const REWRITE_FACTOR_MAX: u64 = 20;
/// How long a connection to a read model waits for another one.
pub const READ_MODEL_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements that a read model's writer keeps.
pub const READ_MODEL_STATEMENTS_MAX: usize = 512;
/// Page cache of a read model's writer while it replays, in bytes …
pub const READ_MODEL_REPLAY_CACHE_BYTES: usize = 64 << 20;
/// … and while it follows.
pub const READ_MODEL_CACHE_BYTES: usize = 8 << 20;
/// … and while it sorts the entries of an index.
pub const READ_MODEL_SORT_BYTES: usize = 2 << 20;
/// Pages that a read model's WAL gathers before they move into the file while it replays …
pub const READ_MODEL_REPLAY_WAL_PAGES: u32 = 8_192;
/// … and while it follows.
pub const READ_MODEL_WAL_PAGES: u32 = 500;
/// A read model's WAL is cut back to this size once it is moved into the file, in bytes.
pub const READ_MODEL_WAL_BYTES_KEPT: i64 = 64 << 20;
/// What a module waits for its host's answers does not count as its own time, up to so many times what it
/// may take itself.
pub const IMPORTS_TIME_FACTOR: u32 = 60;
/// How long one flush may take into a read model with triggers or indexes that after-replay SQL made.
pub const TRIGGERS_TIME_MAX: Duration = Duration::from_mins(10);
/// How long one after-replay SQL script may run.
pub const AFTER_REPLAY_TIME_MAX: Duration = Duration::from_hours(1);
/// Longest SQL of a query, in bytes.
pub const QUERY_SQL_BYTES_MAX: i32 = 1 << 20;
/// Largest value and largest row that a query may make, in bytes.
pub const QUERY_VALUE_BYTES_MAX: usize = 64 << 20;
/// Rows that `query` shows in a table on a terminal.
pub const QUERY_TABLE_ROWS_MAX: usize = 1_000;
