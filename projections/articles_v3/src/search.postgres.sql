-- Full-text search over titles and bodies:
-- where to_tsvector('simple', title || ' ' || body) @@ plainto_tsquery('simple', 'engine')
CREATE INDEX article_search ON article USING gin (to_tsvector('simple', title || ' ' || body));
