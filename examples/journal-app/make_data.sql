-- Fills the tables: psql "$DATABASE_URL" -v entries=10000 -f make_data.sql
-- So many entries; a user for each 20 of them, 5 tags and 4 reminders for each user, two tags on each entry.
\if :{?entries}
\else
    \set entries 10000
\endif
SELECT greatest(:entries / 20, 1) AS users \gset

BEGIN;
-- the same ids each time, so that a load can name them: md5 of a word and a number, written as a UUID
CREATE FUNCTION pg_temp.id_of(what text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT md5(what || n)::uuid::text $$;

INSERT INTO users (id, email, hashed_password, is_active, created_at, updated_at)
SELECT pg_temp.id_of('user', n), 'user' || n || '@example.org', '$2b$12$' || md5('secret' || n), n % 17 <> 0,
       '2023-01-01 UTC'::timestamptz + n * interval '1 minute', '2023-06-01 UTC'::timestamptz + n * interval '1 minute'
FROM generate_series(1, :users) AS n;

INSERT INTO tags (id, user_id, name, color, created_at)
SELECT pg_temp.id_of('tag', n), pg_temp.id_of('user', (n - 1) / 5 + 1),
       (ARRAY['Work', 'Garten', 'café', '読書', 'sleep'])[(n - 1) % 5 + 1], '#' || substr(md5(n::text), 1, 6),
       '2023-02-01 UTC'::timestamptz + n * interval '1 second'
FROM generate_series(1, :users * 5) AS n;

INSERT INTO journal_entries (id, user_id, parent_id, title, body, mood, facts, deleted_at, created_at, updated_at)
SELECT pg_temp.id_of('entry', n), pg_temp.id_of('user', (n - 1) % :users + 1),
       CASE WHEN n % 10 = 0 THEN pg_temp.id_of('entry', n / 2) END,
       'Day ' || n, repeat('It was a day like no other. ', (n % 12)::int), nullif(n % 6, 0),
       jsonb_build_object('words', n % 12 * 6, 'at', n % 24), CASE WHEN n % 50 = 0 THEN '2024-06-01 UTC'::timestamptz END,
       '2023-03-01 UTC'::timestamptz + n * interval '1 minute', '2023-03-02 UTC'::timestamptz + n * interval '1 minute'
FROM generate_series(1, :entries) AS n;

INSERT INTO entry_tags (entry_id, tag_id)
SELECT pg_temp.id_of('entry', n), pg_temp.id_of('tag', (n - 1) % :users * 5 + (n + k) % 5 + 1)
FROM generate_series(1, :entries) AS n, generate_series(0, 1) AS k;

INSERT INTO reminders (id, user_id, entry_id, due_at, repeats, done)
SELECT pg_temp.id_of('reminder', n), pg_temp.id_of('user', (n - 1) % :users + 1),
       CASE WHEN n % 3 <> 0 THEN pg_temp.id_of('entry', (n - 1) % :entries + 1) END,
       '2025-01-01 UTC'::timestamptz + n * interval '1 hour', CASE WHEN n % 5 = 0 THEN interval '1 month' END, n % 4 = 0
FROM generate_series(1, :users * 4) AS n;
COMMIT;
ANALYZE users, journal_entries, tags, entry_tags, reminders;
