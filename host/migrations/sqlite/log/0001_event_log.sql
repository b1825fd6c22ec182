-- The event log. Names and columns are documented and stay: people query them with sqlite3.
-- Times are microseconds since the Unix epoch, UTC.

CREATE TABLE events (
    position    INTEGER PRIMARY KEY,  -- place in the whole log, from 1, gapless
    stream      TEXT    NOT NULL,
    revision    INTEGER NOT NULL,     -- place in its stream, from 1
    id          TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    occurred_at INTEGER,              -- the writer's time
    recorded_at INTEGER NOT NULL,     -- the host's time, never decreasing
    subject     TEXT,                 -- reserved for erasure, like key_id
    key_id      TEXT,
    salt        BLOB,                 -- 16 random bytes; goes when the payload goes
    hash        BLOB    NOT NULL,     -- 32 bytes
    metadata    TEXT,                 -- JSON; after the short columns, because it may be long
    payload     TEXT                  -- JSON
) STRICT;

CREATE UNIQUE INDEX events_id ON events (id);
CREATE UNIQUE INDEX events_stream ON events (stream, revision);
-- Ends with the position, as every index of a rowid table does: one type in log order.
CREATE INDEX events_type ON events (type);

-- One row. It moves with the last event of each transaction.
CREATE TABLE log_head (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    log_id      TEXT    NOT NULL,     -- a UUID: which log this is
    format      INTEGER NOT NULL,     -- of the hash chain
    position    INTEGER NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    recorded_at INTEGER NOT NULL
) STRICT;

-- What interrupted imports have left: how much of an input is in the log.
CREATE TABLE imports (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32),  -- SHA-256 of the consumed part
    bytes      INTEGER NOT NULL,
    lines      INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Append-only, whatever tool comes. INSERT OR REPLACE would overwrite a row without a word to
-- UPDATE and DELETE triggers, so what it could replace is refused before.
--
-- The insert trigger fails the statement and does not abort it, and `events` has no CHECK that
-- calls a function: either would make SQLite copy every page into a statement journal before each
-- insert, which costs more than all the checks. One row is refused either way; of a statement that
-- inserts several, the rows before the refused one stay, each of which was in order.

CREATE TRIGGER events_insert BEFORE INSERT ON events
WHEN NEW.position IS NOT coalesce((SELECT max(position) FROM events), 0) + 1
  OR EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
  OR NEW.revision IS NOT
     coalesce((SELECT max(revision) FROM events WHERE stream = NEW.stream), 0) + 1
BEGIN
    SELECT CASE
        WHEN NEW.position IS NOT coalesce((SELECT max(position) FROM events), 0) + 1
        THEN RAISE(FAIL, 'the event log is append-only: the next position is the head plus 1')
        WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
        THEN RAISE(FAIL, 'the event log is append-only: this id is taken')
        ELSE RAISE(FAIL, 'the event log is append-only: the next revision is the stream''s last plus 1')
    END;
END;

CREATE TRIGGER events_update BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only: events are never changed');
END;

CREATE TRIGGER events_delete BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'the event log is append-only: events are never deleted');
END;

CREATE TRIGGER log_head_insert BEFORE INSERT ON log_head
WHEN EXISTS (SELECT 1 FROM log_head)
BEGIN
    SELECT RAISE(ABORT, 'the event log has one head');
END;

CREATE TRIGGER log_head_update BEFORE UPDATE ON log_head
WHEN NEW.one IS NOT OLD.one
  OR NEW.log_id IS NOT OLD.log_id
  OR NEW.format < OLD.format
  OR NEW.position < OLD.position
  OR NEW.recorded_at < OLD.recorded_at
  OR NOT EXISTS (
      SELECT 1 FROM events
      WHERE position = NEW.position
        AND hash = NEW.hash
        AND position = (SELECT max(position) FROM events)
  )
BEGIN
    SELECT RAISE(ABORT, 'the head of the event log names its last event and never goes back');
END;

CREATE TRIGGER log_head_delete BEFORE DELETE ON log_head
BEGIN
    SELECT RAISE(ABORT, 'the head of the event log is never deleted');
END;
