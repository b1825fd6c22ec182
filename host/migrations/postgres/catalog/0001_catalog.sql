-- The catalog: which modules there are, which versions of which projections, and where their builds are.

-- Modules by content. The bytes are kept, so that any host can rebuild any version at any time.
CREATE TABLE retell.modules (
    digest   text        COLLATE "C" PRIMARY KEY,   -- SHA-256 of the bytes, lower-case hex
    bytes    bytea       NOT NULL,
    manifest text        NOT NULL,                  -- JSON
    contract text        NOT NULL,
    sdk      text        NOT NULL,
    added_at timestamptz NOT NULL
);
-- WebAssembly compiles to something small only once: it is stored as it is.
ALTER TABLE retell.modules ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE retell.projections (
    name text COLLATE "C" PRIMARY KEY
);

CREATE TABLE retell.versions (
    projection         text        COLLATE "C" NOT NULL REFERENCES retell.projections (name),
    version            text        COLLATE "C" NOT NULL,
    digest             text        COLLATE "C" NOT NULL REFERENCES retell.modules (digest),
    state              text        NOT NULL CHECK (state IN ('created', 'replaying', 'ready', 'retired')),
    role               text        NOT NULL CHECK (role IN ('none', 'live', 'previous')),
    halt               text        NOT NULL CHECK (halt IN ('none', 'paused', 'failed')),
    halt_reason        text,
    promote_when_ready boolean     NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL,
    PRIMARY KEY (projection, version)
);
CREATE UNIQUE INDEX versions_one_live ON retell.versions (projection) WHERE role = 'live';
CREATE UNIQUE INDEX versions_one_previous ON retell.versions (projection) WHERE role = 'previous';

-- A version has one current build. A successor is built beside it and takes its place when it is
-- ready; a discarded build still has files to remove, a dropped one is history.
CREATE TABLE retell.builds (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection text        COLLATE "C" NOT NULL,
    version    text        COLLATE "C" NOT NULL,
    stage      text        NOT NULL CHECK (stage IN ('current', 'successor', 'discarded', 'dropped')),
    location   text        NOT NULL,
    until      bigint,                              -- stops at this position; NULL follows the head for ever
    trouble    text,                                -- why the host can't go on with it for now, if so
    created_at timestamptz NOT NULL,
    FOREIGN KEY (projection, version) REFERENCES retell.versions (projection, version)
);
CREATE UNIQUE INDEX builds_one_current ON retell.builds (projection, version) WHERE stage = 'current';
CREATE UNIQUE INDEX builds_one_successor ON retell.builds (projection, version) WHERE stage = 'successor';

-- The lasting name of each major: `articles@2`.
CREATE TABLE retell.majors (
    projection text   COLLATE "C" NOT NULL REFERENCES retell.projections (name),
    major      bigint NOT NULL,
    version    text   NOT NULL,
    PRIMARY KEY (projection, major)
);

-- Every switch of the live version, for the record.
CREATE TABLE retell.switches (
    number         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection     text        COLLATE "C" NOT NULL,
    kind           text        NOT NULL CHECK (kind IN ('promote', 'rollback')),
    from_version   text,
    to_version     text        NOT NULL,
    position       bigint      NOT NULL,
    accepted_older boolean     NOT NULL,
    switched_at    timestamptz NOT NULL
);

-- Work that a command hands to the process that holds the projection's lease.
CREATE TABLE retell.requests (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection   text        COLLATE "C" NOT NULL,
    request      text        NOT NULL,              -- JSON
    requested_at timestamptz NOT NULL,
    outcome      text                               -- JSON, once there is one
);
CREATE INDEX requests_open ON retell.requests (projection) WHERE outcome IS NULL;

-- Who may work on a projection: the last who took it, until the time is over. A session that ends
-- gives up what it marked as its own at once.
CREATE TABLE retell.leases (
    projection text        COLLATE "C" PRIMARY KEY,
    epoch      bigint      NOT NULL,                -- grows with each taking
    holder     text        NOT NULL,                -- for people: program, host and process
    has_lock   boolean     NOT NULL,                -- the holder's session has the advisory lock, too
    expires_at timestamptz NOT NULL
);
