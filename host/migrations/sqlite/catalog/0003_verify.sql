-- Folded once more with other cuts, and compared, before it is ready.
ALTER TABLE versions ADD COLUMN verify INTEGER NOT NULL DEFAULT 0 CHECK (verify IN (0, 1));
