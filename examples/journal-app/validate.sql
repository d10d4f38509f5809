-- Is every row where it has to be, and of which type? The same before the migration, after it, and after its rollback:
-- psql "$DATABASE_URL" -f validate.sql
\pset footer off
-- types of the ids: character varying before and after a rollback, uuid in between
SELECT table_name, column_name, data_type
FROM information_schema.columns
WHERE table_name IN ('users', 'journal_entries', 'tags', 'reminders')
    AND table_schema = 'public' AND column_name IN ('id', 'user_id')
ORDER BY table_name, column_name;

-- how many rows
SELECT 'users' AS table_name, COUNT(*) AS record_count FROM users
UNION ALL
SELECT 'journal_entries' AS table_name, COUNT(*) AS record_count FROM journal_entries
UNION ALL
SELECT 'tags' AS table_name, COUNT(*) AS record_count FROM tags
UNION ALL
SELECT 'reminders' AS table_name, COUNT(*) AS record_count FROM reminders;

-- each of these has to be 0
SELECT COUNT(*) AS orphaned_entries FROM journal_entries WHERE user_id NOT IN (SELECT id FROM users);
SELECT COUNT(*) AS orphaned_tags FROM tags WHERE user_id NOT IN (SELECT id FROM users);
SELECT COUNT(*) AS orphaned_reminders FROM reminders WHERE user_id NOT IN (SELECT id FROM users);

-- constraints and indexes, by the names that they always had
SELECT tc.table_name, tc.constraint_type, tc.constraint_name
FROM information_schema.table_constraints tc
WHERE tc.table_name IN ('users', 'journal_entries', 'tags', 'reminders')
    AND tc.table_schema = 'public' AND tc.constraint_type <> 'CHECK'
ORDER BY 1, 2, 3;
SELECT indexname, indexdef
FROM pg_indexes
WHERE tablename IN ('users', 'journal_entries', 'tags', 'reminders') AND schemaname = 'public'
ORDER BY indexname;
