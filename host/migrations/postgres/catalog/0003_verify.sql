-- Folded once more with other cuts, and compared, before it is ready.
ALTER TABLE retell.versions ADD COLUMN verify boolean NOT NULL DEFAULT false;
