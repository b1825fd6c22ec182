-- The event log. Names and columns are documented and stay: people query them with psql.
-- The schema is there already; it belongs to the role that prepares the log.

CREATE TABLE retell.events (
    position    bigint      PRIMARY KEY,        -- place in the whole log, from 1, gapless
    stream      text        COLLATE "C" NOT NULL CHECK (octet_length(stream) BETWEEN 1 AND 512),
    revision    bigint      NOT NULL CHECK (revision > 0),  -- place in its stream, from 1
    id          text        COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 512),
    type        text        COLLATE "C" NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 512),
    occurred_at timestamptz,                    -- the writer's time
    recorded_at timestamptz NOT NULL,           -- the log's time, never decreasing
    subject     text        COLLATE "C",        -- reserved for erasure, like key_id
    key_id      text        COLLATE "C",
    salt        bytea,                          -- 16 random bytes; goes when the payload goes
    hash        bytea       NOT NULL CHECK (octet_length(hash) = 32),
    metadata    json,
    payload     json        -- not jsonb, which costs three times as much to read and loses the text
);

CREATE UNIQUE INDEX events_id ON retell.events (id);
CREATE UNIQUE INDEX events_stream ON retell.events (stream, revision);
CREATE INDEX events_type ON retell.events (type, position);

-- One row, whose lock is the right to append. It moves with the last event of each statement.
CREATE TABLE retell.log_head (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    log_id      text        NOT NULL,           -- a UUID: which log this is
    format      smallint    NOT NULL,           -- of the hash chain
    position    bigint      NOT NULL,
    hash        bytea       NOT NULL CHECK (octet_length(hash) = 32),
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- What interrupted imports have left: how much of an input is in the log.
CREATE TABLE retell.imports (
    digest     bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),  -- SHA-256 of the consumed part
    bytes      bigint      NOT NULL,
    lines      bigint      NOT NULL,
    updated_at timestamptz NOT NULL
);

-- For applications that must write in their own transaction. Rows move into the log by themselves, in
-- the order of their ids among those that are committed, each exactly once.
CREATE TABLE retell.inbox (
    id                bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream            text        NOT NULL,
    type              text        NOT NULL,
    data              json        NOT NULL,
    event_id          text,                     -- the event's own id; one is made where there is none
    metadata          json,
    occurred_at       timestamptz,
    expected_revision bigint
);

-- What could not be moved, and why.
CREATE TABLE retell.inbox_rejected (
    id                bigint      PRIMARY KEY,
    stream            text        NOT NULL,
    type              text        NOT NULL,
    data              json        NOT NULL,
    event_id          text,
    metadata          json,
    occurred_at       timestamptz,
    expected_revision bigint,
    reason            text        NOT NULL,
    rejected_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Takes the log for this transaction, and says where it ends. Whoever holds it and does nothing is
-- cut off, and what it commits is durable: followers must not see what a crash takes back.
CREATE FUNCTION retell.lock_head()
RETURNS TABLE (log_id text, "position" bigint, hash bytea, recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    patience text := current_setting('lock_timeout');
    idle interval := current_setting('idle_in_transaction_session_timeout')::interval;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'events can''t be appended in a transaction that is %',
            current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'append in a READ COMMITTED transaction, or insert into retell.inbox';
    END IF;
    IF patience = '0' OR patience::interval > interval '30 s' THEN
        PERFORM set_config('lock_timeout', '30s', true);
    END IF;
    -- A queue for those who wait. Without it each of them would wait for one version of the row after
    -- the other, and many of them would hardly get on.
    PERFORM pg_advisory_xact_lock(1919251564, 1);
    RETURN QUERY
        SELECT h.log_id, h.position, h.hash, h.recorded_at FROM retell.log_head h FOR UPDATE;
    PERFORM set_config('lock_timeout', patience, true);
    IF idle = interval '0' OR idle > interval '10 s' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);
END $$;

-- Append-only, whatever tool comes. The statement that adds events also moves the head, so that no
-- event is ever without it.

CREATE FUNCTION retell.events_added() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head retell.log_head;
    first bigint;
    last bigint;
    added_rows bigint;
BEGIN
    SELECT min(a.position), max(a.position), count(*) INTO first, last, added_rows FROM added a;
    IF added_rows = 0 THEN
        RETURN NULL;
    END IF;
    SELECT * INTO head FROM retell.log_head FOR UPDATE;
    IF first <> head.position + 1 OR last <> head.position + added_rows THEN
        RAISE EXCEPTION 'the event log is append-only: the next position is the head plus 1'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (
        SELECT 1
        FROM (SELECT a.stream, min(a.revision) AS first, max(a.revision) AS last, count(*) AS rows
              FROM added a GROUP BY a.stream) s
        -- A subquery and no join, which might be planned as a scan of the whole log.
        WHERE s.last - s.first + 1 <> s.rows OR s.first > 1 AND (
            SELECT e.revision FROM retell.events e
            WHERE e.stream = s.stream AND e.revision = s.first - 1) IS NULL
    ) THEN
        RAISE EXCEPTION 'the event log is append-only: the next revision is the stream''s last plus 1'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    UPDATE retell.log_head h SET position = a.position, hash = a.hash, recorded_at = a.recorded_at
    FROM added a WHERE a.position = last;
    RETURN NULL;
END $$;

CREATE TRIGGER events_added AFTER INSERT ON retell.events
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION retell.events_added();

CREATE FUNCTION retell.refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER events_update BEFORE UPDATE ON retell.events FOR EACH ROW
EXECUTE FUNCTION retell.refuse('the event log is append-only: events are never changed');
CREATE TRIGGER events_delete BEFORE DELETE ON retell.events FOR EACH ROW
EXECUTE FUNCTION retell.refuse('the event log is append-only: events are never deleted');
CREATE TRIGGER events_truncate BEFORE TRUNCATE ON retell.events FOR EACH STATEMENT
EXECUTE FUNCTION retell.refuse('the event log is append-only: events are never deleted');

CREATE FUNCTION retell.log_head_moved() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.log_id <> OLD.log_id OR NEW.format < OLD.format
        OR NEW.position <= OLD.position OR NEW.recorded_at < OLD.recorded_at
        OR NOT EXISTS (SELECT 1 FROM retell.events e
                       WHERE e.position = NEW.position AND e.hash = NEW.hash)
        -- Not as the existence of a later one, which might be looked for from the beginning.
        OR (SELECT max(e.position) FROM retell.events e) <> NEW.position
    THEN
        RAISE EXCEPTION 'the head of the event log names its last event and never goes back'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- Equal notifications of one transaction become one.
    NOTIFY retell_log;
    RETURN NEW;
END $$;

CREATE TRIGGER log_head_update BEFORE UPDATE ON retell.log_head FOR EACH ROW
EXECUTE FUNCTION retell.log_head_moved();
CREATE TRIGGER log_head_delete BEFORE DELETE ON retell.log_head FOR EACH ROW
EXECUTE FUNCTION retell.refuse('the head of the event log is never deleted');
CREATE TRIGGER log_head_truncate BEFORE TRUNCATE ON retell.log_head FOR EACH STATEMENT
EXECUTE FUNCTION retell.refuse('the head of the event log is never deleted');

-- Also for who replays another server's changes into this one.
ALTER TABLE retell.events ENABLE ALWAYS TRIGGER events_update;
ALTER TABLE retell.events ENABLE ALWAYS TRIGGER events_delete;
ALTER TABLE retell.events ENABLE ALWAYS TRIGGER events_truncate;
ALTER TABLE retell.log_head ENABLE ALWAYS TRIGGER log_head_delete;
ALTER TABLE retell.log_head ENABLE ALWAYS TRIGGER log_head_truncate;

CREATE FUNCTION retell.inbox_filled() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY retell_inbox;
    RETURN NULL;
END $$;

CREATE TRIGGER inbox_filled AFTER INSERT ON retell.inbox FOR EACH STATEMENT
EXECUTE FUNCTION retell.inbox_filled();

-- The hash chain, format 1, as the documentation of the log writes it down.

CREATE FUNCTION retell.hash_part(part bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN part IS NULL THEN '\xffffffff'::bytea
                ELSE pg_catalog.int4send(pg_catalog.octet_length(part)) || part END
$$;

CREATE FUNCTION retell.unix_microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT (extract(epoch FROM at) * 1000000)::bigint
$$;

-- The digest through which a payload or metadata enters the chain.
CREATE FUNCTION retell.content_digest(salt bytea, content text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.sha256(salt || pg_catalog.convert_to(coalesce(content, ''), 'UTF8'))
$$;

CREATE FUNCTION retell.event_hash(
    previous bytea, "position" bigint, stream text, revision bigint, id text, type text,
    occurred_at timestamptz, recorded_at timestamptz, subject text, key_id text,
    payload_digest bytea, metadata_digest bytea
) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.sha256(
        '\x01'::bytea
        || previous
        || retell.hash_part(pg_catalog.int8send("position"))
        || retell.hash_part(pg_catalog.convert_to(stream, 'UTF8'))
        || retell.hash_part(pg_catalog.int8send(revision))
        || retell.hash_part(pg_catalog.convert_to(id, 'UTF8'))
        || retell.hash_part(pg_catalog.convert_to(type, 'UTF8'))
        || retell.hash_part(pg_catalog.int8send(retell.unix_microseconds(occurred_at)))
        || retell.hash_part(pg_catalog.int8send(retell.unix_microseconds(recorded_at)))
        || retell.hash_part(pg_catalog.convert_to(subject, 'UTF8'))
        || retell.hash_part(pg_catalog.convert_to(key_id, 'UTF8'))
        || payload_digest
        || metadata_digest)
$$;

-- JSON without the white space between its parts.
CREATE FUNCTION retell.compact(content json) RETURNS json
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT pg_catalog.regexp_replace(
        content::text, '("(?:[^"\\]|\\.)*")|[ \t\n\r]+', '\1', 'g')::json
$$;

-- A UUIDv7: ids that grow with time sit together at the end of their index.
CREATE FUNCTION retell.new_id() RETURNS text
LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.substr(h, 1, 8) || '-' || pg_catalog.substr(h, 9, 4) || '-7'
        || pg_catalog.substr(r, 2, 3) || '-' || pg_catalog.substr(r, 17, 4) || '-'
        || pg_catalog.substr(r, 21, 12)
    FROM (SELECT pg_catalog.lpad(pg_catalog.to_hex(
                     retell.unix_microseconds(pg_catalog.clock_timestamp()) / 1000), 12, '0') AS h,
                 pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', '') AS r) AS made
$$;

-- Appends one event in the caller's transaction, and returns its position. Call it last: until the
-- transaction ends, nobody else can append. An event whose id is in the log already, with the same
-- content, is not appended again.
--
-- SQLSTATE RT001: the id is taken by another event. RT002: the stream is not at the revision that was
-- expected. RT003: something is wrong with the event itself.
CREATE FUNCTION retell.append(
    stream text,
    type text,
    data json,
    id text DEFAULT NULL,
    metadata json DEFAULT NULL,
    occurred_at timestamptz DEFAULT NULL,
    expected_revision bigint DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    new_stream ALIAS FOR $1;
    new_type ALIAS FOR $2;
    new_data json;
    new_id text := $4;
    new_metadata json;
    new_time ALIAS FOR $6;
    expected ALIAS FOR $7;
    head record;
    known retell.events;
    difference text;
    last bigint;
    now_at timestamptz;
    new_salt bytea;
BEGIN
    IF new_stream IS NULL OR octet_length(new_stream) NOT BETWEEN 1 AND 512
        OR new_type IS NULL OR octet_length(new_type) NOT BETWEEN 1 AND 512
        OR octet_length(new_id) NOT BETWEEN 1 AND 512
    THEN
        RAISE EXCEPTION 'stream, type and id of an event take 1 to 512 bytes'
            USING ERRCODE = 'RT003';
    END IF;
    IF $3 IS NULL THEN
        RAISE EXCEPTION 'the event has no data' USING ERRCODE = 'RT003',
            HINT = 'an event without content has the data ''null''::json';
    END IF;
    -- White space does not count, but is not looked for in what is far too large.
    IF octet_length($3::text) + coalesce(octet_length($5::text), 0) <= 16777216 THEN
        new_data := retell.compact($3);
        new_metadata := retell.compact($5);
    ELSE
        new_data := $3;
        new_metadata := $5;
    END IF;
    IF octet_length(new_data::text) + coalesce(octet_length(new_metadata::text), 0) > 1048576 THEN
        RAISE EXCEPTION 'the event''s data and metadata take % bytes, an event may take 1048576',
            octet_length(new_data::text) + coalesce(octet_length(new_metadata::text), 0)
            USING ERRCODE = 'RT003';
    END IF;
    IF new_time < '0001-01-01 00:00:00+00' OR new_time > '9999-12-31 23:59:59.999999+00' THEN
        RAISE EXCEPTION 'the event''s time lies outside the years 1 to 9999'
            USING ERRCODE = 'RT003';
    END IF;

    SELECT * INTO head FROM retell.lock_head();
    IF new_id IS NOT NULL THEN
        SELECT * INTO known FROM retell.events e WHERE e.id = new_id;
        IF FOUND THEN
            difference := CASE
                WHEN known.stream <> new_stream THEN 'stream'
                WHEN known.type <> new_type THEN 'type'
                -- An erased payload is null and can't be compared.
                WHEN known.payload::text <> new_data::text THEN 'data'
                WHEN known.payload IS NOT NULL
                    AND known.metadata::text IS DISTINCT FROM new_metadata::text THEN 'metadata'
                WHEN known.occurred_at IS DISTINCT FROM new_time THEN 'occurred_at'
            END;
            IF difference IS NULL THEN
                RETURN known.position;
            END IF;
            RAISE EXCEPTION 'the id "%" is already in the log, at position %, with another %',
                new_id, known.position, difference
                USING ERRCODE = 'RT001', HINT = 'an id names one event for ever';
        END IF;
    END IF;
    SELECT coalesce(max(e.revision), 0) INTO last FROM retell.events e WHERE e.stream = new_stream;
    IF last <> expected THEN
        RAISE EXCEPTION 'stream "%" is at revision %, not at % as expected',
            new_stream, last, expected USING ERRCODE = 'RT002';
    END IF;

    new_id := coalesce(new_id, retell.new_id());
    new_salt := decode(replace(gen_random_uuid()::text, '-', ''), 'hex');
    now_at := greatest(clock_timestamp(), head.recorded_at);
    INSERT INTO retell.events (position, stream, revision, id, type, occurred_at, recorded_at, salt,
                               hash, metadata, payload)
    VALUES (
        head.position + 1, new_stream, last + 1, new_id, new_type, new_time, now_at, new_salt,
        retell.event_hash(head.hash, head.position + 1, new_stream, last + 1, new_id, new_type,
                          new_time, now_at, NULL, NULL,
                          retell.content_digest(new_salt, new_data::text),
                          retell.content_digest(new_salt, new_metadata::text)),
        new_metadata, new_data);
    RETURN head.position + 1;
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA retell FROM PUBLIC;
