-- The catalog: which modules there are, which versions of which projections, and where their builds are.

-- Modules by content. The bytes are kept, so that any host can rebuild any version at any time.
CREATE TABLE modules (
    digest   TEXT    NOT NULL PRIMARY KEY,      -- SHA-256 of the bytes, lower-case hex
    bytes    BLOB    NOT NULL,
    manifest TEXT    NOT NULL,                  -- JSON
    contract TEXT    NOT NULL,
    sdk      TEXT    NOT NULL,
    added_at INTEGER NOT NULL                   -- microseconds since the Unix epoch, UTC
) STRICT;

CREATE TABLE projections (
    name  TEXT    NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL DEFAULT 0            -- grows with each taking of the lease
) STRICT;

CREATE TABLE versions (
    projection         TEXT    NOT NULL REFERENCES projections (name),
    version            TEXT    NOT NULL,
    digest             TEXT    NOT NULL REFERENCES modules (digest),
    state              TEXT    NOT NULL CHECK (state IN ('created', 'replaying', 'ready', 'retired')),
    role               TEXT    NOT NULL CHECK (role IN ('none', 'live', 'previous')),
    halt               TEXT    NOT NULL CHECK (halt IN ('none', 'paused', 'failed')),
    halt_reason        TEXT,
    promote_when_ready INTEGER NOT NULL DEFAULT 0 CHECK (promote_when_ready IN (0, 1)),
    created_at         INTEGER NOT NULL,
    PRIMARY KEY (projection, version)
) STRICT;
CREATE UNIQUE INDEX versions_one_live ON versions (projection) WHERE role = 'live';
CREATE UNIQUE INDEX versions_one_previous ON versions (projection) WHERE role = 'previous';

-- A version has one current build. A successor is built beside it and takes its place when it is
-- ready; a discarded build still has files to remove, a dropped one is history.
CREATE TABLE builds (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    projection TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    stage      TEXT    NOT NULL CHECK (stage IN ('current', 'successor', 'discarded', 'dropped')),
    location   TEXT    NOT NULL,
    until      INTEGER,                         -- stops at this position; NULL follows the head for ever
    trouble    TEXT,                            -- why the host can't go on with it for now, if so
    created_at INTEGER NOT NULL,
    FOREIGN KEY (projection, version) REFERENCES versions (projection, version)
) STRICT;
CREATE UNIQUE INDEX builds_one_current ON builds (projection, version) WHERE stage = 'current';
CREATE UNIQUE INDEX builds_one_successor ON builds (projection, version) WHERE stage = 'successor';

-- The lasting name of each major: `articles@2`.
CREATE TABLE majors (
    projection TEXT    NOT NULL REFERENCES projections (name),
    major      INTEGER NOT NULL,
    version    TEXT    NOT NULL,
    PRIMARY KEY (projection, major)
) STRICT;

-- Every switch of the live version, for the record.
CREATE TABLE switches (
    number         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    projection     TEXT    NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('promote', 'rollback')),
    from_version   TEXT,
    to_version     TEXT    NOT NULL,
    position       INTEGER NOT NULL,
    accepted_older INTEGER NOT NULL CHECK (accepted_older IN (0, 1)),
    switched_at    INTEGER NOT NULL
) STRICT;

-- Work that a command hands to the process that holds the projection's lease.
CREATE TABLE requests (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    projection   TEXT    NOT NULL,
    request      TEXT    NOT NULL,              -- JSON
    requested_at INTEGER NOT NULL,
    outcome      TEXT                           -- JSON, once there is one
) STRICT;
