-- Full-text search over titles and bodies. `article` has no row numbers and FTS5 needs some, hence
-- the numbering; triggers keep both up to date from here on.
CREATE TABLE article_search_key (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE article_search USING fts5 (id UNINDEXED, title, body);

INSERT INTO article_search_key (id) SELECT id FROM article;
INSERT INTO article_search (rowid, id, title, body)
SELECT k.number, a.id, a.title, a.body FROM article_search_key k JOIN article a ON a.id = k.id;

CREATE TRIGGER article_search_insert AFTER INSERT ON article BEGIN
    INSERT INTO article_search_key (id) VALUES (new.id);
    INSERT INTO article_search (rowid, id, title, body)
    SELECT number, new.id, new.title, new.body FROM article_search_key WHERE id = new.id;
END;

-- Most updates are likes, which the index does not care about.
CREATE TRIGGER article_search_update AFTER UPDATE ON article
WHEN old.title IS NOT new.title OR old.body IS NOT new.body BEGIN
    UPDATE article_search SET title = new.title, body = new.body
    WHERE rowid = (SELECT number FROM article_search_key WHERE id = new.id);
END;

CREATE TRIGGER article_search_delete AFTER DELETE ON article BEGIN
    DELETE FROM article_search
    WHERE rowid = (SELECT number FROM article_search_key WHERE id = old.id);
    DELETE FROM article_search_key WHERE id = old.id;
END;
