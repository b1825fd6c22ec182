-- Full-text search over titles and the beginnings of bodies, as PostgreSQL has room for:
-- where to_tsvector('simple', left(title || ' ' || body, 100000)) @@ plainto_tsquery('simple', 'engine')
CREATE INDEX article_search ON article
USING gin (to_tsvector('simple', left(title || ' ' || body, 100000)));
