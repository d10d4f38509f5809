-- The application's writes, all by key: an entry with a tag and a reminder, an edit, one that goes.
-- The rows of each are told from those of make_data.sql by the title.
\set user random(1, :users)
BEGIN;
INSERT INTO journal_entries (user_id, title, body, mood)
    SELECT id, 'written by ' || :client_id, 'under load', 3 FROM users WHERE email = 'user' || :user || '@example.org'
    RETURNING id AS entry, user_id AS owner \gset
INSERT INTO entry_tags (entry_id, tag_id) SELECT ':entry', id FROM tags WHERE user_id = ':owner' AND lower(name) = 'work';
INSERT INTO reminders (user_id, entry_id, due_at) VALUES (':owner', ':entry', now() + interval '1 day');
END;
UPDATE journal_entries SET body = 'under load, and mended', mood = 4 WHERE id = ':entry';
UPDATE users SET is_active = true WHERE id = ':owner';
UPDATE reminders SET done = true WHERE entry_id = ':entry';
