-- What a version does with events that it can't apply.
ALTER TABLE retell.versions ADD COLUMN on_error text NOT NULL DEFAULT 'pause'
    CHECK (on_error IN ('pause', 'skip', 'park-stream'));
-- So many are skipped or parked for their own sake; before one more it stops.
ALTER TABLE retell.versions ADD COLUMN dead_letters_max bigint NOT NULL DEFAULT 1000;
-- What its module may use, where that is not the default: JSON, by the names of `--limit`.
ALTER TABLE retell.versions ADD COLUMN limits text NOT NULL DEFAULT '{}';
