-- What the service has before the migration: sqlite3 media.db < schema.sql
PRAGMA journal_mode = WAL;
BEGIN;

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE images (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id),
    image_url TEXT NOT NULL UNIQUE,
    title TEXT,
    width INTEGER NOT NULL CHECK (width > 0),
    height INTEGER NOT NULL CHECK (height > 0),
    uploaded_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX images_by_user ON images (user_id, uploaded_at);
CREATE TABLE docs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id),
    doc_url TEXT NOT NULL UNIQUE,
    title TEXT,
    pages INTEGER CHECK (pages > 0),
    uploaded_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX docs_by_user ON docs (user_id, uploaded_at);
CREATE TABLE captions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    image_id INTEGER NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    language TEXT NOT NULL DEFAULT 'en',
    words TEXT NOT NULL,
    UNIQUE (image_id, language)
);

INSERT INTO users (name) VALUES ('ada'), ('ben'), ('chloé');

WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
INSERT INTO images (user_id, image_url, title, width, height, uploaded_at)
SELECT n % 3 + 1, 'https://media.example.org/i/' || n || '.png', CASE WHEN n % 7 THEN 'Image № ' || n END,
       640 + n % 1280, 480 + n % 600, datetime('2024-01-01', '+' || n || ' hours')
FROM n;

WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
INSERT INTO docs (user_id, doc_url, title, pages, uploaded_at)
SELECT n % 3 + 1, 'https://media.example.org/d/' || n || '.pdf', 'Document ' || n, nullif(n % 40, 0),
       datetime('2024-01-01', '+' || (n * 3) || ' hours')
FROM n;
-- numbers that were given once and are free now
DELETE FROM docs WHERE id > 990;

INSERT INTO captions (image_id, words) SELECT id, 'What ' || title || ' shows' FROM images WHERE title IS NOT NULL;
INSERT INTO captions (image_id, language, words) SELECT id, 'fr', 'Voilà : ' || title FROM images WHERE id % 5 = 0 AND title IS NOT NULL;

COMMIT;
