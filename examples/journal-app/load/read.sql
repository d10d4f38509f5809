-- The application's reads: a person's newest entries through the view, and one entry by its key, with its tags.
\set user random(1, :users)
SELECT id AS owner FROM users WHERE email = 'user' || :user || '@example.org' \gset
SELECT id, title FROM active_entries WHERE user_id = ':owner' ORDER BY created_at DESC LIMIT 10;
SELECT e.title, t.name FROM journal_entries e JOIN entry_tags x ON x.entry_id = e.id JOIN tags t ON t.id = x.tag_id
    WHERE e.id = (SELECT entry_id FROM reminders WHERE user_id = ':owner' AND entry_id IS NOT NULL LIMIT 1);
