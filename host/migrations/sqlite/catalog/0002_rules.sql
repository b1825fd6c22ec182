-- What a version does with events that it can't apply.
ALTER TABLE versions ADD COLUMN on_error TEXT NOT NULL DEFAULT 'pause'
    CHECK (on_error IN ('pause', 'skip', 'park-stream'));
-- So many are skipped or parked for their own sake; before one more it stops.
ALTER TABLE versions ADD COLUMN dead_letters_max INTEGER NOT NULL DEFAULT 1000;
-- What its module may use, where that is not the default: JSON, by the names of `--limit`.
ALTER TABLE versions ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
